/*
 * Proves that the normalisations, elementwise maps and small operators of every CPU level are
 * within float32 rounding of a float64 form, also for a tiny variance beside a large mean. Works
 * on random shapes between guards.
 */
#include "cpu_reference.h"

#include <stdlib.h>

static const double TOLERANCE = 3e-7;

static void check(const float *y, const double *expected, size_t count, const char *level,
                  const char *what, double tolerance)
{
    double error = relative_l2(y, expected, count);
    if (error > tolerance)
        print_message("%s on %s: relative error %.3g\n", what, level, error);
    assert_true(error <= tolerance);
    assert_true(guards_intact(y, count));
}

/* ---- GroupNorm ------------------------------------------------------------------------------- */

static void ref_group_norm(const struct ld_group_norm *op, const float *gamma, const float *beta,
                           double *y)
{
    int32_t channels = op->c0 + op->c1;
    int32_t width = channels / op->groups;
    for (int32_t b = 0; b < op->batch; b++)
        for (int32_t g = 0; g < op->groups; g++) {
            double n = (double)width * op->positions;
            double mean = 0.0;
            double variance = 0.0;
            for (int pass = 0; pass < 3; pass++)
                for (int32_t p = 0; p < op->positions; p++)
                    for (int32_t c = g * width; c < (g + 1) * width; c++) {
                        size_t at = (size_t)(b * op->positions + p);
                        double x = ref_input(op->x0, op->x1, op->c0, op->c1, at, c);
                        if (pass == 0)
                            mean += x / n;
                        else if (pass == 1)
                            variance += (x - mean) * (x - mean) / n;
                        else {
                            double v = (x - mean) / sqrt(variance + (double)op->epsilon) *
                                           (double)gamma[c] +
                                       (double)beta[c];
                            y[at * (size_t)channels + (size_t)c] =
                                op->silu ? ref_activate(v, LD_ACT_SILU) : v;
                        }
                    }
        }
}

/* x = mean + spread * normal. */
static void one_group_norm(struct rng *rng, float mean, float spread, double tolerance)
{
    struct ld_group_norm op = {.batch = rng_range(rng, 1, 3),
                               .positions = rng_range(rng, 1, 700),
                               .groups = rng_range(rng, 1, 32),
                               .epsilon = rng_bits(rng) % 2 ? 1e-5f : 1e-6f,
                               .silu = rng_bits(rng) % 2};
    int32_t channels = op.groups * rng_range(rng, 1, 6);
    op.c1 = rng_bits(rng) % 2 && channels > 1 ? rng_range(rng, 1, channels - 1) : 0;
    op.c0 = channels - op.c1;
    size_t pixels = (size_t)(op.batch * op.positions);
    size_t count = pixels * (size_t)channels;
    float *x0 = random_buffer(pixels * (size_t)op.c0, spread, rng);
    float *x1 = random_buffer(pixels * (size_t)op.c1 + 1, spread, rng);
    for (size_t i = 0; i < pixels * (size_t)op.c0; i++)
        x0[i] += mean;
    for (size_t i = 0; i < pixels * (size_t)op.c1; i++)
        x1[i] += mean;
    op.x0 = x0;
    op.x1 = op.c1 > 0 ? x1 : NULL;
    struct test_weight gamma =
        make_weight(LD_WEIGHT_VECTOR, channels, 1, 1, LD_DTYPE_F16, false, rng);
    struct test_weight beta =
        make_weight(LD_WEIGHT_VECTOR, channels, 1, 1, LD_DTYPE_F32, false, rng);
    double *expected = ld_heap_calloc(count, sizeof *expected);
    assert_non_null(expected);
    ref_group_norm(&op, gamma.values, beta.values, expected);
    for (size_t i = 0; i < LEVELS; i++) {
        struct ld_backend *backend = open_level(all_levels[i], 2);
        if (backend == NULL)
            continue;
        struct ld_weight *g = load_weight(backend, &gamma);
        struct ld_weight *b = load_weight(backend, &beta);
        float *y = guarded_alloc(count);
        struct ld_error err = {0};
        op.gamma = g;
        op.beta = b;
        op.y = y;
        assert_int_equal(backend->ops->group_norm(backend, &op, &err), LD_OK);
        check(y, expected, count, backend->description, "group norm", tolerance);
        if (op.x1 == NULL) { /* in place */
            memcpy(y, x0, count * sizeof *y);
            struct ld_group_norm in_place = op;
            in_place.x0 = y;
            assert_int_equal(backend->ops->group_norm(backend, &in_place, &err), LD_OK);
            check(y, expected, count, backend->description, "group norm in place", tolerance);
        }
        guarded_free(y);
        backend->ops->weight_destroy(backend, g);
        backend->ops->weight_destroy(backend, b);
        backend->ops->destroy(backend);
    }
    ld_heap_free(expected);
    guarded_free(x0);
    guarded_free(x1);
    free_weight(&gamma);
    free_weight(&beta);
}

static void group_norm_matches_float64(void **state)
{
    (void)state;
    struct rng rng = {21};
    for (int i = 0; i < 25; i++)
        one_group_norm(&rng, 0.3f, 1.0f, TOLERANCE);
}

static void tiny_variance_beside_a_large_mean_survives(void **state)
{
    (void)state;
    struct rng rng = {22};
    for (int i = 0; i < 8; i++)
        one_group_norm(&rng, 1000.0f, 0.5f, TOLERANCE);
    for (int i = 0; i < 8; i++)
        one_group_norm(&rng, 0.25f, 1e-3f, TOLERANCE);
    for (int i = 0; i < 4; i++)
        one_group_norm(&rng, 0.0f, 1e-4f, TOLERANCE);
}

/* ---- LayerNorm ------------------------------------------------------------------------------- */

static void one_layer_norm(struct rng *rng, float mean, float spread)
{
    struct ld_layer_norm op = {
        .rows = rng_range(rng, 1, 90), .channels = rng_range(rng, 1, 400), .epsilon = 1e-5f};
    size_t count = (size_t)(op.rows * op.channels);
    float *x = random_buffer(count, spread, rng);
    for (size_t i = 0; i < count; i++)
        x[i] += mean;
    struct test_weight gamma =
        make_weight(LD_WEIGHT_VECTOR, op.channels, 1, 1, LD_DTYPE_BF16, false, rng);
    struct test_weight beta =
        make_weight(LD_WEIGHT_VECTOR, op.channels, 1, 1, LD_DTYPE_F16, false, rng);
    double *expected = ld_heap_calloc(count, sizeof *expected);
    assert_non_null(expected);
    /* A layer norm is a group norm of one group over one position, row by row. */
    struct ld_group_norm same = {.x0 = x,
                                 .c0 = op.channels,
                                 .batch = op.rows,
                                 .positions = 1,
                                 .groups = 1,
                                 .epsilon = op.epsilon};
    ref_group_norm(&same, gamma.values, beta.values, expected);
    for (size_t i = 0; i < LEVELS; i++) {
        struct ld_backend *backend = open_level(all_levels[i], 2);
        if (backend == NULL)
            continue;
        struct ld_weight *g = load_weight(backend, &gamma);
        struct ld_weight *b = load_weight(backend, &beta);
        float *y = guarded_alloc(count);
        struct ld_error err = {0};
        op.gamma = g;
        op.beta = b;
        op.x = x;
        op.y = y;
        assert_int_equal(backend->ops->layer_norm(backend, &op, &err), LD_OK);
        check(y, expected, count, backend->description, "layer norm", TOLERANCE);
        memcpy(y, x, count * sizeof *y);
        op.x = y;
        assert_int_equal(backend->ops->layer_norm(backend, &op, &err), LD_OK);
        check(y, expected, count, backend->description, "layer norm in place", TOLERANCE);
        guarded_free(y);
        backend->ops->weight_destroy(backend, g);
        backend->ops->weight_destroy(backend, b);
        backend->ops->destroy(backend);
    }
    ld_heap_free(expected);
    guarded_free(x);
    free_weight(&gamma);
    free_weight(&beta);
}

static void layer_norm_matches_float64(void **state)
{
    (void)state;
    struct rng rng = {23};
    for (int i = 0; i < 20; i++)
        one_layer_norm(&rng, i % 4 == 3 ? 500.0f : 0.1f, 1.0f);
}

/* ---- Elementwise ----------------------------------------------------------------------------- */

/* Every value on a fine grid, by itself: error in units of the larger of |result| and 1e-30. */
static void activations_are_exact_over_their_whole_range(void **state)
{
    (void)state;
    enum { COUNT = 40001 };
    static const enum ld_activation maps[] = {LD_ACT_NONE, LD_ACT_SILU, LD_ACT_QUICK_GELU};
    float *x = guarded_alloc(COUNT);
    float *y = guarded_alloc(COUNT);
    for (int i = 0; i < COUNT; i++)
        x[i] = (float)(i - COUNT / 2) * 0.0043f; /* -86 .. 86 */
    for (size_t l = 0; l < LEVELS; l++) {
        struct ld_backend *backend = open_level(all_levels[l], 2);
        for (size_t m = 0; backend != NULL && m < sizeof maps / sizeof maps[0]; m++) {
            struct ld_map op = {.x = x, .count = COUNT, .activation = maps[m], .y = y};
            struct ld_error err = {0};
            assert_int_equal(backend->ops->map(backend, &op, &err), LD_OK);
            assert_true(guards_intact(y, COUNT));
            for (int i = 0; i < COUNT; i++) {
                double expected = ref_activate((double)x[i], maps[m]);
                /* exp(-s x) carries the rounding of s x, relative 2^-24 |s x|, and overflows to an
                 * infinity that makes zero of results below 1e-36. */
                double bound = (5e-7 + 1.5e-7 * fabs((double)x[i])) * fabs(expected) + 1e-36;
                if (fabs((double)y[i] - expected) > bound)
                    print_message("%s, map %zu: f(%.9g) = %.9g, not %.9g\n", backend->description,
                                  m, (double)x[i], (double)y[i], expected);
                assert_true(fabs((double)y[i] - expected) <= bound);
            }
        }
        if (backend != NULL)
            backend->ops->destroy(backend);
    }
    guarded_free(x);
    guarded_free(y);
}

/* Through a GEGLU layer with weight rows value = 1 (bias) and gate = x: y = gelu(x). */
static void gelu_is_the_exact_erf_form_over_its_whole_range(void **state)
{
    (void)state;
    enum { COUNT = 20001 };
    float *x = guarded_alloc(COUNT);
    float *y = guarded_alloc(COUNT);
    for (int i = 0; i < COUNT; i++)
        x[i] = (float)(i - COUNT / 2) * 0.0013f; /* -13 .. 13 */
    static const float rows[2] = {0.0f, 1.0f};
    static const float bias[2] = {1.0f, 0.0f};
    struct ld_weight_desc desc = {
        .kind = LD_WEIGHT_GEGLU, .rows = 2, .k = 1, .kernel = 1, .part_count = 1};
    desc.parts[0] = (struct ld_weight_part){.data = rows, .dtype = LD_DTYPE_F32};
    desc.bias[0] = (struct ld_weight_part){.data = bias, .dtype = LD_DTYPE_F32};
    for (size_t l = 0; l < LEVELS; l++) {
        struct ld_backend *backend = open_level(all_levels[l], 2);
        if (backend == NULL)
            continue;
        struct ld_weight *weight;
        struct ld_error err = {0};
        assert_int_equal(backend->ops->weight_create(backend, &desc, &weight, &err), LD_OK);
        struct ld_linear op = {.x0 = x,
                               .c0 = 1,
                               .rows = COUNT,
                               .rows_per_image = COUNT,
                               .weight = weight,
                               .activation = LD_ACT_GEGLU,
                               .y = y};
        assert_int_equal(backend->ops->linear(backend, &op, &err), LD_OK);
        for (int i = 0; i < COUNT; i++) {
            double g = (double)x[i];
            double expected = 0.5 * g * erfc(-g / sqrt(2.0));
            double bound = 2.5e-7 * fabs(expected) + 1.5e-7 * g * g * fabs(expected) + 1e-36;
            assert_true(fabs((double)y[i] - expected) <= (g > 0.0 ? 3e-7 * g : bound + 1e-9));
        }
        backend->ops->weight_destroy(backend, weight);
        backend->ops->destroy(backend);
    }
    guarded_free(x);
    guarded_free(y);
}

static void not_a_number_and_infinity_reach_the_output(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    enum { ROWS = 40, K = 48 };
    struct rng rng = {24};
    struct test_weight w = make_weight(LD_WEIGHT_LINEAR, 33, K, 1, LD_DTYPE_F16, true, &rng);
    struct test_weight c = make_weight(LD_WEIGHT_CONV, 33, K, 3, LD_DTYPE_F16, true, &rng);
    float *x = random_buffer(ROWS * K, 1.0f, &rng);
    float *y = guarded_alloc(ROWS * K);
    for (size_t l = 0; l < LEVELS; l++) {
        struct ld_backend *backend = open_level(all_levels[l], 2);
        if (backend == NULL)
            continue;
        struct ld_weight *weight = load_weight(backend, &w);
        struct ld_weight *conv = load_weight(backend, &c);
        for (size_t i = 0; i < 3; i++) {
            float kept = x[17 * K + 5];
            x[17 * K + 5] = bad[i];
            struct ld_error err = {0};
            struct ld_linear op = {
                .x0 = x, .c0 = K, .rows = ROWS, .rows_per_image = ROWS, .weight = weight, .y = y};
            assert_int_equal(backend->ops->linear(backend, &op, &err), LD_OK);
            for (int j = 0; j < ROWS * 33; j++)
                assert_int_equal(isfinite(y[j]) != 0, j / 33 != 17);
            struct ld_conv2d cv = {.x0 = x,
                                   .c0 = K,
                                   .batch = 1,
                                   .in_h = 5,
                                   .in_w = 8,
                                   .stride = 1,
                                   .pad_before = 1,
                                   .pad_after = 1,
                                   .weight = conv,
                                   .y = y};
            assert_int_equal(backend->ops->conv2d(backend, &cv, &err), LD_OK);
            for (int p = 0; p < ROWS; p++) { /* the 3x3 around position 17 = (2, 1) */
                bool near = abs(p / 8 - 2) <= 1 && abs(p % 8 - 1) <= 1;
                for (int o = 0; o < 33; o++)
                    assert_int_equal(!isfinite(y[p * 33 + o]), near);
            }
            struct ld_map silu = {.x = x, .count = ROWS * K, .activation = LD_ACT_SILU, .y = y};
            assert_int_equal(backend->ops->map(backend, &silu, &err), LD_OK);
            assert_true(!isfinite(y[17 * K + 5]));
            struct ld_attention at = {.q = x,
                                      .k = x,
                                      .v = x,
                                      .o = y,
                                      .batch = 1,
                                      .q_rows = ROWS,
                                      .kv_rows = ROWS,
                                      .q_stride = K,
                                      .k_stride = K,
                                      .v_stride = K,
                                      .o_stride = K,
                                      .heads = 1,
                                      .head_dim = K,
                                      .scale = 0.1f};
            assert_int_equal(backend->ops->attention(backend, &at, &err), LD_OK);
            assert_true(!isfinite(y[3 * K + 5])); /* its value column */
            assert_true(!isfinite(y[17 * K]));    /* its own row: every score is bad */
            x[17 * K + 5] = kept;
        }
        backend->ops->weight_destroy(backend, weight);
        backend->ops->weight_destroy(backend, conv);
        backend->ops->destroy(backend);
    }
    guarded_free(x);
    guarded_free(y);
    free_weight(&w);
    free_weight(&c);
}

/* ---- Small operators ------------------------------------------------------------------------- */

static void timestep_features_are_cosines_then_sines(void **state)
{
    (void)state;
    struct ld_backend *backend = open_level(LD_CPU_AUTO, 1);
    const float t[3] = {0.0f, 601.25f, 999.0f};
    float *y = guarded_alloc(3 * 320);
    struct ld_timestep op = {.t = t, .batch = 3, .dim = 320, .y = y};
    struct ld_error err = {0};
    assert_int_equal(backend->ops->timestep(backend, &op, &err), LD_OK);
    for (int b = 0; b < 3; b++)
        for (int i = 0; i < 160; i++) {
            double angle = (double)t[b] * pow(10000.0, -(double)i / 160.0);
            assert_true(fabs((double)y[b * 320 + i] - cos(angle)) < 1e-7);
            assert_true(fabs((double)y[b * 320 + 160 + i] - sin(angle)) < 1e-7);
        }
    assert_true(guards_intact(y, 3 * 320));
    op.dim = 321;
    assert_int_equal(backend->ops->timestep(backend, &op, &err), LD_E_SHAPE);
    guarded_free(y);
    backend->ops->destroy(backend);
}

static void embedding_adds_positions_and_takes_overrides(void **state)
{
    (void)state;
    enum { VOCAB = 50, TOKENS = 7, C = 70, ROWS = 14 };
    struct rng rng = {25};
    struct test_weight table = make_weight(LD_WEIGHT_TABLE, VOCAB, C, 1, LD_DTYPE_F16, false, &rng);
    struct test_weight place =
        make_weight(LD_WEIGHT_TABLE, TOKENS, C, 1, LD_DTYPE_F32, false, &rng);
    struct ld_backend *backend = open_level(LD_CPU_AUTO, 1);
    struct ld_weight *t = load_weight(backend, &table);
    struct ld_weight *p = load_weight(backend, &place);
    int32_t ids[ROWS];
    const float *override[ROWS] = {0};
    float *vector = random_buffer(C, 1.0f, &rng);
    for (int i = 0; i < ROWS; i++)
        ids[i] = rng_range(&rng, 0, VOCAB - 1);
    override[9] = vector;
    ids[9] = -1;
    float *y = guarded_alloc(ROWS * C);
    struct ld_embed op = {.ids = ids,
                          .override = override,
                          .rows = ROWS,
                          .tokens = TOKENS,
                          .channels = C,
                          .table = t,
                          .positions = p,
                          .y = y};
    struct ld_error err = {0};
    assert_int_equal(backend->ops->embed(backend, &op, &err), LD_OK);
    for (int m = 0; m < ROWS; m++)
        for (int c = 0; c < C; c++) {
            float row = m == 9 ? vector[c] : table.values[ids[m] * C + c];
            assert_true(y[m * C + c] == row + place.values[m % TOKENS * C + c]);
        }
    assert_true(guards_intact(y, ROWS * C));
    op.override = NULL;
    assert_int_equal(backend->ops->embed(backend, &op, &err), LD_E_SHAPE);
    backend->ops->weight_destroy(backend, t);
    backend->ops->weight_destroy(backend, p);
    backend->ops->destroy(backend);
    guarded_free(vector);
    guarded_free(y);
    free_weight(&table);
    free_weight(&place);
}

/* One product and one sum, each rounded. */
static float ref_add_scaled(float x, float scale, float z)
{
    volatile float product = scale * z;
    return x + product;
}

enum { ADD_BATCH = 3 };

/* Every other x takes its product away again: what a fused product and sum leaves is not 0. */
static void fill_add_scaled(float *x, float *z, float *expected, const float *scale, size_t count)
{
    const uint32_t signalling = 0x7F800001;
    for (size_t i = 0; i < ADD_BATCH * count; i++) {
        const float factor = scale[i / count];
        if (i % 2 == 1)
            x[i] = -ref_add_scaled(0.0f, factor, z[i]);
        if (factor == 0.0f && i % count == 0) {
            x[i] = -0.0f;
            z[i] = i % 2 == 0 ? NAN : INFINITY;
        }
        if (factor == 0.0f && i % count == 1)
            memcpy(x + i, &signalling, sizeof signalling); /* its bits come back, too */
        memcpy(expected + i, x + i, sizeof *x);
        if (factor != 0.0f)
            expected[i] = ref_add_scaled(x[i], factor, z[i]);
    }
}

/* y beside its operands, in place of x and in place of z. */
static void add_scaled_on(struct ld_backend *backend, const float *scale, size_t count)
{
    enum { APART, OVER_X, OVER_Z, PLACES };
    const size_t n = ADD_BATCH * count;
    for (int place = APART; place < PLACES; place++) {
        struct rng rng = {27};
        struct ld_error err = {0};
        float *x = random_buffer(n, 1.0f, &rng);
        float *z = random_buffer(n, 3.0f, &rng);
        float *apart = guarded_alloc(n);
        float *expected = guarded_alloc(n);
        fill_add_scaled(x, z, expected, scale, count);
        float *y = place == OVER_X ? x : place == OVER_Z ? z : apart;
        const struct ld_add_scaled op = {
            .x = x, .z = z, .scale = scale, .batch = ADD_BATCH, .count = (int64_t)count, .y = y};
        assert_int_equal(backend->ops->add_scaled(backend, &op, &err), LD_OK);
        assert_memory_equal(y, expected, n * sizeof *y);
        assert_true(guards_intact(x, n) && guards_intact(z, n) && guards_intact(apart, n));
        guarded_free(x);
        guarded_free(z);
        guarded_free(apart);
        guarded_free(expected);
    }
}

static void a_map_is_added_with_equal_bits_at_every_level(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 2, 77, 1 << 14, 40001};
    static const float scales[][ADD_BATCH] = {{0.7f, 0.0f, -1.3f}, {-0.0f, 1.0f, 0.0f}};
    for (size_t l = 0; l < LEVELS; l++)
        for (uint32_t threads = 1; threads <= 3; threads += 2) {
            struct ld_backend *backend = open_level(all_levels[l], threads);
            for (size_t i = 0; backend != NULL && i < sizeof counts / sizeof counts[0]; i++) {
                add_scaled_on(backend, scales[0], counts[i]);
                add_scaled_on(backend, scales[1], counts[i]);
            }
            if (backend != NULL)
                backend->ops->destroy(backend);
        }
}

static void a_map_is_not_added_without_operands_or_beyond_bounds(void **state)
{
    (void)state;
    float x[2] = {1.0f, 2.0f};
    const float scale[2] = {1.0f, 1.0f};
    const struct ld_add_scaled good = {
        .x = x, .z = x, .scale = scale, .batch = 2, .count = 1, .y = x};
    struct ld_backend *backend = open_level(LD_CPU_AUTO, 1);
    struct ld_add_scaled bad[7];
    for (size_t i = 0; i < 7; i++)
        bad[i] = good;
    bad[0].x = NULL;
    bad[1].z = NULL;
    bad[2].scale = NULL;
    bad[3].y = NULL;
    bad[4].batch = 0;
    bad[5].count = 0;
    bad[6].count = (INT64_C(1) << 37) + 1;
    for (size_t i = 0; i < 7; i++) {
        struct ld_error err = {0};
        assert_int_equal(backend->ops->add_scaled(backend, &bad[i], &err), LD_E_SHAPE);
        assert_non_null(strstr(err.detail, i < 4 ? "two inputs" : "out of range"));
    }
    assert_true(x[0] == 1.0f && x[1] == 2.0f);
    backend->ops->destroy(backend);
}

static void planes_turn_into_activations_and_back(void **state)
{
    (void)state;
    enum { B = 2, C = 5, H = 3, W = 7, N = B * C * H * W };
    struct rng rng = {26};
    struct ld_backend *backend = open_level(LD_CPU_AUTO, 1);
    float *planes = random_buffer(N, 1.0f, &rng);
    float *x = guarded_alloc(N);
    float *back = guarded_alloc(N);
    const float scale[B] = {0.5f, 2.0f};
    struct ld_planes_in in = {.planes = planes,
                              .batch = B,
                              .channels = C,
                              .height = H,
                              .width = W,
                              .scale = scale,
                              .y = x};
    struct ld_planes_out out = {
        .x = x, .batch = B, .channels = C, .height = H, .width = W, .planes = back};
    struct ld_error err = {0};
    assert_int_equal(backend->ops->planes_in(backend, &in, &err), LD_OK);
    assert_true(x[C] == planes[1] * 0.5f); /* position 1, channel 0 */
    assert_int_equal(backend->ops->planes_out(backend, &out, &err), LD_OK);
    for (int i = 0; i < N; i++)
        assert_true(back[i] == planes[i] * scale[i / (C * H * W)]);
    assert_true(guards_intact(x, N) && guards_intact(back, N));
    guarded_free(planes);
    guarded_free(x);
    guarded_free(back);
    backend->ops->destroy(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(group_norm_matches_float64),
        cmocka_unit_test(tiny_variance_beside_a_large_mean_survives),
        cmocka_unit_test(layer_norm_matches_float64),
        cmocka_unit_test(activations_are_exact_over_their_whole_range),
        cmocka_unit_test(gelu_is_the_exact_erf_form_over_its_whole_range),
        cmocka_unit_test(not_a_number_and_infinity_reach_the_output),
        cmocka_unit_test(timestep_features_are_cosines_then_sines),
        cmocka_unit_test(embedding_adds_positions_and_takes_overrides),
        cmocka_unit_test(a_map_is_added_with_equal_bits_at_every_level),
        cmocka_unit_test(a_map_is_not_added_without_operands_or_beyond_bounds),
        cmocka_unit_test(planes_turn_into_activations_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
