/*
 * Proves the resampling modes on their defining properties: exact samples, kept constants and
 * ramps, means, and kept vector lengths. Works on small maps whose answer is known by hand.
 */
#include "cpu_reference.h"

static void resize(enum ld_resize_mode mode, const float *x, int32_t h, int32_t w, int32_t c,
                   float *y, int32_t out_h, int32_t out_w)
{
    struct ld_backend *backend = open_level(LD_CPU_AUTO, 2);
    struct ld_error err = {0};
    struct ld_resize op = {.x = x,
                           .batch = 1,
                           .in_h = h,
                           .in_w = w,
                           .channels = c,
                           .out_h = out_h,
                           .out_w = out_w,
                           .mode = mode,
                           .y = y};
    assert_int_equal(backend->ops->resize(backend, &op, &err), LD_OK);
    backend->ops->destroy(backend);
}

static void the_same_size_gives_the_same_map(void **state)
{
    (void)state;
    enum { H = 5, W = 7, C = 70, N = H * W * C };
    struct rng rng = {51};
    float *x = random_buffer(N, 1.0f, &rng);
    float *y = guarded_alloc(N);
    for (int mode = LD_RESIZE_NEAREST; mode <= LD_RESIZE_BICUBIC_ANTIALIAS; mode++) {
        resize((enum ld_resize_mode)mode, x, H, W, C, y, H, W);
        for (int i = 0; i < N; i++)
            assert_true(fabs((double)y[i] - (double)x[i]) <= 1e-6);
        assert_true(guards_intact(y, N));
    }
    guarded_free(x);
    guarded_free(y);
}

static void a_constant_stays_itself_at_any_size(void **state)
{
    (void)state;
    enum { C = 3, MOST = 40 };
    float x[11 * 9 * C];
    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++)
        x[i] = 1.5f + (float)(i % C);
    struct rng rng = {52};
    float *y = guarded_alloc(MOST * MOST * C);
    for (int mode = LD_RESIZE_NEAREST; mode <= LD_RESIZE_BICUBIC_ANTIALIAS; mode++)
        for (int i = 0; i < 20; i++) {
            int32_t h = rng_range(&rng, 1, MOST);
            int32_t w = rng_range(&rng, 1, MOST);
            resize((enum ld_resize_mode)mode, x, 11, 9, C, y, h, w);
            for (int32_t p = 0; p < h * w * C; p++)
                assert_true(fabs((double)y[p] - (1.5 + p % C)) <= 4e-6);
        }
    guarded_free(y);
}

static void nearest_modes_pick_the_samples_of_their_formula(void **state)
{
    (void)state;
    enum { N = 13 };
    float x[N];
    float y[64];
    for (int i = 0; i < N; i++)
        x[i] = (float)i;
    for (int32_t m = 1; m <= 64; m++) {
        resize(LD_RESIZE_NEAREST, x, N, 1, 1, y, m, 1);
        for (int32_t i = 0; i < m; i++)
            assert_int_equal((int)y[i], (int)((float)i * ((float)N / (float)m)));
        resize(LD_RESIZE_NEAREST_EXACT, x, 1, N, 1, y, 1, m);
        for (int32_t i = 0; i < m; i++)
            assert_int_equal((int)y[i], (int)(((float)i + 0.5f) * ((float)N / (float)m)));
    }
}

static void linear_modes_follow_a_ramp_between_its_ends(void **state)
{
    (void)state;
    enum { N = 16, M = 48 };
    static const enum ld_resize_mode modes[] = {LD_RESIZE_BILINEAR, LD_RESIZE_BICUBIC,
                                                LD_RESIZE_BILINEAR_ANTIALIAS,
                                                LD_RESIZE_BICUBIC_ANTIALIAS};
    float x[N];
    float y[M];
    for (int i = 0; i < N; i++)
        x[i] = (float)i;
    for (size_t k = 0; k < 4; k++) {
        resize(modes[k], x, 1, N, 1, y, 1, M);
        /* Keys' kernel repeats a straight line only for a = -0.5. */
        double bound = modes[k] == LD_RESIZE_BICUBIC ? 0.06 : 1e-5;
        for (int i = 9; i < M - 9; i++)
            assert_true(fabs((double)y[i] - ((i + 0.5) * N / M - 0.5)) <= bound);
    }
}

static void area_is_the_mean_of_the_covered_cells(void **state)
{
    (void)state;
    enum { H = 7, W = 10, OH = 3, OW = 4 };
    struct rng rng = {53};
    float *x = random_buffer(H * W, 1.0f, &rng);
    float y[OH * OW];
    resize(LD_RESIZE_AREA, x, H, W, 1, y, OH, OW);
    for (int oy = 0; oy < OH; oy++)
        for (int ox = 0; ox < OW; ox++) {
            double sum = 0.0;
            int count = 0;
            for (int iy = oy * H / OH; iy < ((oy + 1) * H + OH - 1) / OH; iy++)
                for (int ix = ox * W / OW; ix < ((ox + 1) * W + OW - 1) / OW; ix++, count++)
                    sum += (double)x[iy * W + ix];
            assert_true(fabs((double)y[oy * OW + ox] - sum / count) <= 1e-6);
        }
    guarded_free(x);
}

static void bislerp_keeps_the_length_of_vectors(void **state)
{
    (void)state;
    enum { H = 6, W = 5, C = 4, OH = 9, OW = 8 };
    struct rng rng = {54};
    float *x = random_buffer(H * W * C, 1.0f, &rng);
    for (int p = 0; p < H * W; p++) { /* all of length 2 */
        double length = 0.0;
        for (int c = 0; c < C; c++)
            length += (double)x[p * C + c] * (double)x[p * C + c];
        for (int c = 0; c < C; c++)
            x[p * C + c] *= (float)(2.0 / sqrt(length));
    }
    float y[OH * OW * C];
    resize(LD_RESIZE_BISLERP, x, H, W, C, y, OH, OW);
    for (int p = 0; p < OH * OW; p++) {
        double length = 0.0;
        for (int c = 0; c < C; c++)
            length += (double)y[p * C + c] * (double)y[p * C + c];
        assert_true(fabs(sqrt(length) - 2.0) <= 1e-4);
    }
    memset(x, 0, H * W * C * sizeof *x); /* no direction at all */
    resize(LD_RESIZE_BISLERP, x, H, W, C, y, OH, OW);
    for (int i = 0; i < OH * OW * C; i++)
        assert_true(y[i] == 0.0f);
    guarded_free(x);
}

static void shrinking_too_far_is_refused(void **state)
{
    (void)state;
    struct ld_backend *backend = open_level(LD_CPU_AUTO, 1);
    float *x = guarded_alloc(400);
    float y;
    struct ld_error err = {0};
    struct ld_resize op = {.x = x,
                           .batch = 1,
                           .in_h = 400,
                           .in_w = 1,
                           .channels = 1,
                           .out_h = 1,
                           .out_w = 1,
                           .mode = LD_RESIZE_AREA,
                           .y = &y};
    assert_int_equal(backend->ops->resize(backend, &op, &err), LD_E_SHAPE);
    guarded_free(x);
    backend->ops->destroy(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_size_gives_the_same_map),
        cmocka_unit_test(a_constant_stays_itself_at_any_size),
        cmocka_unit_test(nearest_modes_pick_the_samples_of_their_formula),
        cmocka_unit_test(linear_modes_follow_a_ramp_between_its_ends),
        cmocka_unit_test(area_is_the_mean_of_the_covered_cells),
        cmocka_unit_test(bislerp_keeps_the_length_of_vectors),
        cmocka_unit_test(shrinking_too_far_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
