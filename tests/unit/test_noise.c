/*
 * Proves what the golden draws cannot: that slices, batches, streams and the rules for seeds fit
 * together. It compares draws made in two ways, and looks at the moments of long ones.
 */
#include "runtime/sample/brownian.h"
#include "runtime/sample/mt19937.h"
#include "runtime/sample/noise.h"
#include "runtime/sample/philox.h"
#include "runtime/sample/slerp.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { C = 4, H = 6, W = 8, COUNT = C * H * W };

static struct ld_noise_config config_make(enum ld_profile profile, enum ld_noise_kind kind)
{
    return (struct ld_noise_config){
        .profile = profile,
        .initial = kind,
        .ancestral = kind,
        .brownian = kind,
        .seed = 77,
        .channels = C,
        .height = H,
        .width = W,
        .sigma_low = 0.03,
        .sigma_high = 14.6,
        .batch_count = 1,
    };
}

/* The initial noise followed by `draws` of one stream. */
static void run_stream(const struct ld_noise_config *config, enum ld_noise_stream stream,
                       size_t draws, double *out)
{
    struct ld_arena arena;
    struct ld_noise *noise;
    ld_arena_init(&arena, "test", 1 << 20);
    assert_int_equal(ld_noise_create(&noise, &arena, config, NULL), LD_OK);
    assert_int_equal(ld_noise_initial(noise, out, COUNT, NULL), LD_OK);
    const struct ld_noise_source source = ld_noise_source_of(noise);
    for (size_t d = 0; d < draws; d++)
        assert_int_equal(source.draw(source.state, stream, 14.0 - (double)d, 13.0 - (double)d,
                                     out + (d + 1) * COUNT, COUNT, NULL),
                         LD_OK);
    ld_arena_deinit(&arena);
}

static void expect_f32(const double *have, const float *want)
{
    for (size_t i = 0; i < COUNT; i++)
        assert_true(have[i] == (double)want[i]);
}

/* ---- Generators ------------------------------------------------------------------------------ */

static void a_slice_of_a_draw_equals_the_whole(void **state)
{
    (void)state;
    const size_t totals[] = {5, 16, 17, 31, 48, 200};
    for (size_t t = 0; t < sizeof totals / sizeof totals[0]; t++) {
        const size_t total = totals[t];
        float whole[200], part[200];
        struct ld_mt19937 a, b;
        ld_mt19937_seed(&a, 9);
        ld_mt19937_normal_f32(&a, whole, total, 0, total);
        const uint32_t after = ld_mt19937_u32(&a);
        for (size_t first = 0; first < total; first += 3) {
            ld_mt19937_seed(&b, 9);
            ld_mt19937_normal_f32(&b, part, total, first, (total - first) / 2);
            assert_memory_equal(part, whole + first, (total - first) / 2 * sizeof *part);
            assert_int_equal(ld_mt19937_u32(&b), after);
        }
        struct ld_philox p = {.seed = 9};
        ld_philox_normal(&p, whole, 0, total);
        p.offset = 0;
        ld_philox_normal(&p, part, total / 3, total - total / 3);
        assert_memory_equal(part, whole + total / 3, (total - total / 3) * sizeof *part);
    }
}

static void check_moments(const float *values, size_t count)
{
    double m1 = 0, m2 = 0, m4 = 0;
    for (size_t i = 0; i < count; i++) {
        const double v = (double)values[i];
        assert_true(isfinite(v) && fabs(v) < 7.0);
        m1 += v;
        m2 += v * v;
        m4 += v * v * v * v;
    }
    const double n = (double)count;
    assert_true(fabs(m1 / n) < 5.0 / sqrt(n));
    assert_true(fabs(m2 / n - 1.0) < 5.0 * sqrt(2.0 / n));
    assert_true(fabs(m4 / n - 3.0) < 5.0 * sqrt(96.0 / n));
}

static void long_draws_have_normal_moments(void **state)
{
    (void)state;
    const size_t count = 1u << 18;
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    struct ld_mt19937 mt;
    ld_mt19937_seed(&mt, 1);
    ld_mt19937_normal_f32(&mt, values, count, 0, count);
    check_moments(values, count);
    struct ld_philox philox = {.seed = 1};
    ld_philox_normal(&philox, values, 0, count);
    check_moments(values, count);
    free(values);
}

static void the_cpu_generator_uses_the_low_half_of_the_seed_and_philox_all_of_it(void **state)
{
    (void)state;
    struct ld_mt19937 a, b;
    ld_mt19937_seed(&a, 5);
    ld_mt19937_seed(&b, UINT64_C(0x700000005));
    assert_int_equal(ld_mt19937_u32(&a), ld_mt19937_u32(&b));
    uint32_t p[4], q[4];
    ld_philox_words(5, 0, 0, p);
    ld_philox_words(UINT64_C(0x700000005), 0, 0, q);
    assert_int_not_equal(p[0], q[0]);
}

/* ---- Streams of an image --------------------------------------------------------------------- */

static void comfy_draws_ancestral_noise_from_philox_at_zero(void **state)
{
    (void)state;
    struct ld_noise_config config = config_make(LD_PROFILE_COMFY, LD_NOISE_CPU);
    config.ancestral = LD_NOISE_PHILOX;
    double have[3 * COUNT];
    float want[COUNT];
    run_stream(&config, LD_NOISE_ANCESTRAL, 2, have);
    struct ld_mt19937 mt;
    ld_mt19937_seed(&mt, 77);
    ld_mt19937_normal_f32(&mt, want, COUNT, 0, COUNT);
    expect_f32(have, want);
    struct ld_philox philox = {.seed = 77};
    ld_philox_normal(&philox, want, 0, COUNT);
    expect_f32(have + COUNT, want);
    ld_philox_normal(&philox, want, 0, COUNT);
    expect_f32(have + 2 * COUNT, want);
}

static void comfy_on_the_cpu_draws_ancestral_noise_from_the_next_seed(void **state)
{
    (void)state;
    const struct ld_noise_config config = config_make(LD_PROFILE_COMFY, LD_NOISE_CPU);
    double have[2 * COUNT];
    float want[COUNT];
    run_stream(&config, LD_NOISE_ANCESTRAL, 1, have);
    struct ld_mt19937 mt;
    ld_mt19937_seed(&mt, 78);
    ld_mt19937_normal_f32(&mt, want, COUNT, 0, COUNT);
    expect_f32(have + COUNT, want);
}

static void the_initial_noise_is_never_drawn_again_by_a_sampler(void **state)
{
    (void)state;
    const enum ld_profile profiles[] = {LD_PROFILE_COMFY, LD_PROFILE_A1111};
    const enum ld_noise_kind kinds[] = {LD_NOISE_CPU, LD_NOISE_PHILOX};
    double have[3 * COUNT];
    for (size_t p = 0; p < 2; p++) {
        for (size_t k = 0; k < 2; k++) {
            const struct ld_noise_config config = config_make(profiles[p], kinds[k]);
            run_stream(&config, LD_NOISE_ANCESTRAL, 2, have);
            assert_true(memcmp(have, have + COUNT, COUNT * sizeof *have) != 0);
            assert_true(memcmp(have, have + 2 * COUNT, COUNT * sizeof *have) != 0);
        }
    }
}

static void churn_has_its_own_stream_in_comfy_only(void **state)
{
    (void)state;
    double ancestral[2 * COUNT], churn[2 * COUNT];
    struct ld_noise_config config = config_make(LD_PROFILE_A1111, LD_NOISE_PHILOX);
    run_stream(&config, LD_NOISE_ANCESTRAL, 1, ancestral);
    run_stream(&config, LD_NOISE_CHURN, 1, churn);
    assert_memory_equal(ancestral, churn, sizeof churn);
    config = config_make(LD_PROFILE_COMFY, LD_NOISE_CPU);
    run_stream(&config, LD_NOISE_ANCESTRAL, 1, ancestral);
    run_stream(&config, LD_NOISE_CHURN, 1, churn);
    assert_true(memcmp(ancestral + COUNT, churn + COUNT, COUNT * sizeof *churn) != 0);
}

static void image_i_of_a_job_equals_the_single_image_of_its_seed(void **state)
{
    (void)state;
    const enum ld_noise_stream streams[] = {LD_NOISE_ANCESTRAL, LD_NOISE_BROWNIAN, LD_NOISE_CHURN};
    struct ld_request job = {.seed = 100, .noise = LD_NOISE_CPU, .profile = LD_PROFILE_COMFY};
    struct ld_request single = job;
    single.seed = 103;
    for (size_t s = 0; s < 3; s++) {
        double a[3 * COUNT], b[3 * COUNT];
        struct ld_noise_config in_job = ld_noise_config_of(&job, 3, C, H, W);
        struct ld_noise_config alone = ld_noise_config_of(&single, 0, C, H, W);
        in_job.sigma_low = alone.sigma_low = 0.03;
        in_job.sigma_high = alone.sigma_high = 14.6;
        run_stream(&in_job, streams[s], 2, a);
        run_stream(&alone, streams[s], 2, b);
        assert_memory_equal(a, b, sizeof a);
    }
    assert_int_equal(ld_noise_seed_of(&job, 3), 103);
}

static void row_0_of_a_batch_equals_the_single_image_and_the_others_follow(void **state)
{
    (void)state;
    const enum ld_noise_stream streams[] = {LD_NOISE_ANCESTRAL, LD_NOISE_BROWNIAN, LD_NOISE_CHURN};
    const struct ld_request single = {
        .seed = 100, .images = 1, .noise = LD_NOISE_CPU, .profile = LD_PROFILE_COMFY};
    struct ld_request batch = single;
    batch.images = batch.batch_size = 3;
    struct ld_request part = batch; /* rows 1 and 2 alone */
    part.images = 2;
    part.batch_index = 1;
    for (size_t s = 0; s < 3; s++) {
        double rows[3][2 * COUNT], other[2 * COUNT];
        for (uint32_t i = 0; i < 3; i++) {
            struct ld_noise_config config = ld_noise_config_of(&batch, i, C, H, W);
            config.sigma_low = 0.03;
            config.sigma_high = 14.6;
            run_stream(&config, streams[s], 1, rows[i]);
        }
        struct ld_noise_config config = ld_noise_config_of(&single, 0, C, H, W);
        config.sigma_low = 0.03;
        config.sigma_high = 14.6;
        run_stream(&config, streams[s], 1, other);
        assert_memory_equal(rows[0], other, sizeof other / 2);
        config = ld_noise_config_of(&part, 1, C, H, W);
        config.sigma_low = 0.03;
        config.sigma_high = 14.6;
        run_stream(&config, streams[s], 1, other);
        assert_memory_equal(rows[2], other, sizeof other / 2);
        assert_memory_not_equal(rows[0], rows[1], sizeof other / 2);
    }
    assert_int_equal(ld_noise_seed_of(&batch, 2), 100);
}

static void a1111_steps_the_variation_seed_and_keeps_the_main_one(void **state)
{
    (void)state;
    struct ld_request request = {.seed = 100,
                                 .profile = LD_PROFILE_A1111,
                                 .noise = LD_NOISE_PHILOX,
                                 .variation_seed = 900,
                                 .variation_strength = 0.3};
    struct ld_noise_config config = ld_noise_config_of(&request, 2, C, H, W);
    assert_int_equal(config.seed, 100);
    assert_int_equal(config.variation_seed, 902);
    request.profile = LD_PROFILE_COMFY;
    config = ld_noise_config_of(&request, 2, C, H, W);
    assert_int_equal(config.seed, 102);
    assert_int_equal(config.variation_seed, 900);
}

static void options_name_the_generators(void **state)
{
    (void)state;
    struct ld_request request = {.profile = LD_PROFILE_COMFY, .noise = LD_NOISE_CPU};
    struct ld_noise_config config = ld_noise_config_of(&request, 0, C, H, W);
    assert_int_equal(config.ancestral, LD_NOISE_PHILOX);
    assert_int_equal(config.brownian, LD_NOISE_CPU);
    request.sampler_options.ancestral_rng = "cpu";
    request.sampler_options.brownian_rng = "philox";
    config = ld_noise_config_of(&request, 0, C, H, W);
    assert_int_equal(config.ancestral, LD_NOISE_CPU);
    assert_int_equal(config.brownian, LD_NOISE_PHILOX);
}

static void an_element_of_a_batch_is_a_slice_of_the_whole_stream(void **state)
{
    (void)state;
    const enum ld_noise_kind kinds[] = {LD_NOISE_CPU, LD_NOISE_PHILOX};
    float whole[3 * COUNT];
    for (size_t k = 0; k < 2; k++) {
        struct ld_noise_config config = config_make(LD_PROFILE_COMFY, kinds[k]);
        config.batch_count = 3;
        for (uint32_t i = 0; i < 3; i++) {
            double have[2 * COUNT];
            config.batch_index = i;
            run_stream(&config, LD_NOISE_BROWNIAN, 1, have);
            if (kinds[k] == LD_NOISE_CPU) {
                assert_int_equal(ld_noise_batch(77, 3, NULL, COUNT, whole, NULL), LD_OK);
                expect_f32(have, whole + i * COUNT);
            }
            struct ld_arena arena;
            struct ld_brownian *tree;
            ld_arena_init(&arena, "test", 1 << 20);
            const struct ld_brownian_config all = {.seed = 77,
                                                   .sigma_low = 0.03,
                                                   .sigma_high = 14.6,
                                                   .generator = kinds[k],
                                                   .total = 3 * COUNT,
                                                   .count = 3 * COUNT};
            assert_int_equal(ld_brownian_create(&tree, &arena, &all, NULL), LD_OK);
            assert_int_equal(ld_brownian_draw(tree, 14.0, 13.0, whole, NULL), LD_OK);
            expect_f32(have + COUNT, whole + i * COUNT);
            ld_arena_deinit(&arena);
        }
    }
}

/* ---- Variation and resize -------------------------------------------------------------------- */

static void a_variation_of_strength_one_is_the_other_noise(void **state)
{
    (void)state;
    float a[COUNT], b[COUNT], blend[COUNT];
    struct ld_philox p = {.seed = 1}, q = {.seed = 2};
    ld_philox_normal(&p, a, 0, COUNT);
    ld_philox_normal(&q, b, 0, COUNT);
    memcpy(blend, a, sizeof a);
    ld_slerp(blend, b, 1.0, C, H, W);
    for (size_t i = 0; i < COUNT; i++)
        assert_true(fabsf(blend[i] - b[i]) < 1e-5f);
    memcpy(blend, a, sizeof a);
    ld_slerp(blend, b, 0.0, C, H, W);
    for (size_t i = 0; i < COUNT; i++)
        assert_true(fabsf(blend[i] - a[i]) < 1e-5f);
    memcpy(blend, a, sizeof a);
    ld_slerp(blend, a, 0.4, C, H, W); /* parallel: the straight blend of a tensor with itself */
    for (size_t i = 0; i < COUNT; i++)
        assert_true(fabsf(blend[i] - a[i]) < 1e-5f);
}

static void seed_resize_keeps_the_small_noise_in_the_middle(void **state)
{
    (void)state;
    struct ld_noise_config config = config_make(LD_PROFILE_A1111, LD_NOISE_CPU);
    config.resize_from_height = 4;
    config.resize_from_width = 10;
    double have[COUNT];
    float small[C * 4 * 10], large[COUNT];
    struct ld_mt19937 mt;
    run_stream(&config, LD_NOISE_ANCESTRAL, 0, have);
    ld_mt19937_seed(&mt, 77);
    ld_mt19937_normal_f32(&mt, small, C * 4 * 10, 0, C * 4 * 10);
    ld_mt19937_seed(&mt, 77);
    ld_mt19937_normal_f32(&mt, large, COUNT, 0, COUNT);
    for (int c = 0; c < C; c++)
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++) {
                const bool inside = y >= 1 && y < 5;
                const float want =
                    inside ? small[(c * 4 + y - 1) * 10 + x + 1] : large[(c * H + y) * W + x];
                assert_true(have[(c * H + y) * W + x] == (double)want);
            }
}

/* ---- Drawing ahead --------------------------------------------------------------------------- */

enum { AHEAD_DRAWS = 12 };

/* A mixed run of all three streams; `ahead`: what comes next is drawn before it is asked for, with
 * the right guess of the tree's next point or a wrong one. */
static void run_mixed(const struct ld_noise_config *config, bool ahead, double *out)
{
    static const enum ld_noise_stream streams[] = {LD_NOISE_ANCESTRAL, LD_NOISE_BROWNIAN,
                                                   LD_NOISE_CHURN, LD_NOISE_ANCESTRAL};
    struct ld_arena arena;
    struct ld_noise *noise;
    ld_arena_init(&arena, "test", 1 << 20);
    assert_int_equal(ld_noise_create(&noise, &arena, config, NULL), LD_OK);
    const struct ld_noise_source source = ld_noise_source_of(noise);
    for (size_t d = 0; d < AHEAD_DRAWS; d++) {
        const double from = 14.0 - (double)d;
        const double to = 13.0 - (double)d;
        for (size_t times = 0; ahead && times < 1 + d % 2; times++)
            ld_noise_ahead(noise, d % 3 == 0 ? 0 : d % 3 == 1 ? to : to + 0.25);
        assert_int_equal(
            source.draw(source.state, streams[d % 4], from, to, out + d * COUNT, COUNT, NULL),
            LD_OK);
    }
    ld_arena_deinit(&arena);
}

static void drawing_ahead_changes_no_draw(void **state)
{
    (void)state;
    static const enum ld_profile profiles[] = {LD_PROFILE_COMFY, LD_PROFILE_A1111};
    static const enum ld_noise_kind kinds[] = {LD_NOISE_PHILOX, LD_NOISE_CPU};
    static double plain[AHEAD_DRAWS * COUNT];
    static double ahead[AHEAD_DRAWS * COUNT];
    for (size_t k = 0; k < 8; k++) {
        struct ld_noise_config config = config_make(profiles[k % 2], kinds[k / 2 % 2]);
        config.batch_count = k / 4 ? 3 : 1;
        config.batch_index = k / 4 ? 2 : 0;
        run_mixed(&config, false, plain);
        run_mixed(&config, true, ahead);
        assert_memory_equal(plain, ahead, sizeof plain);
    }
}

/* Memory tells: each stream that draws ahead keeps one tensor, the tree its nodes. */
static void only_what_somebody_draws_is_drawn_ahead(void **state)
{
    (void)state;
    double out[COUNT];
    struct ld_arena arena;
    struct ld_noise *noise;
    const struct ld_noise_config config = config_make(LD_PROFILE_COMFY, LD_NOISE_CPU);
    ld_arena_init(&arena, "test", 1 << 20);
    assert_int_equal(ld_noise_create(&noise, &arena, &config, NULL), LD_OK);
    const struct ld_noise_source source = ld_noise_source_of(noise);
    const void *const mark = ld_arena_alloc(&arena, 16);
    ld_noise_ahead(noise, 7.0);
    const char *const after = ld_arena_alloc(&arena, 16);
    assert_ptr_equal(after, (const char *)mark + 16);
    assert_int_equal(source.draw(source.state, LD_NOISE_ANCESTRAL, 14.0, 13.0, out, COUNT, NULL),
                     LD_OK);
    ld_noise_ahead(noise, 7.0);
    const char *const later = ld_arena_alloc(&arena, 16);
    assert_ptr_equal(later, after + 16 + COUNT * sizeof(float));
    ld_arena_deinit(&arena);
}

/* ---- Brownian tree --------------------------------------------------------------------------- */

static void the_tree_does_not_depend_on_the_order_of_questions(void **state)
{
    (void)state;
    const double points[] = {14.6, 9.25, 9.2500004, 4.0, 0.5, 0.03, 7.315, 0.0300009};
    const struct ld_brownian_config config = {.seed = 3,
                                              .sigma_low = 0.03,
                                              .sigma_high = 14.6,
                                              .generator = LD_NOISE_CPU,
                                              .total = COUNT,
                                              .count = COUNT};
    struct ld_arena kept, fresh;
    struct ld_brownian *tree;
    ld_arena_init(&kept, "test", 1 << 20);
    assert_int_equal(ld_brownian_create(&tree, &kept, &config, NULL), LD_OK);
    for (size_t i = 0; i < 8; i++) {
        for (size_t j = 0; j < 8; j++) {
            float a[COUNT], b[COUNT];
            struct ld_brownian *other;
            ld_arena_init(&fresh, "test", 1 << 20);
            assert_int_equal(ld_brownian_create(&other, &fresh, &config, NULL), LD_OK);
            assert_int_equal(ld_brownian_draw(tree, points[i], points[j], a, NULL), LD_OK);
            assert_int_equal(ld_brownian_draw(other, points[i], points[j], b, NULL), LD_OK);
            assert_memory_equal(a, b, sizeof a);
            ld_arena_deinit(&fresh);
        }
    }
    ld_arena_deinit(&kept);
}

static void failures_are_told_and_nothing_is_drawn(void **state)
{
    (void)state;
    struct ld_arena arena;
    struct ld_noise *noise;
    struct ld_error err = {0};
    double out[COUNT];
    ld_arena_init(&arena, "test", 1 << 20);
    struct ld_noise_config config = config_make(LD_PROFILE_COMFY, LD_NOISE_CPU);
    config.sigma_high = config.sigma_low;
    assert_int_equal(ld_noise_create(&noise, &arena, &config, &err), LD_OK);
    const struct ld_noise_source source = ld_noise_source_of(noise);
    assert_int_equal(source.draw(source.state, LD_NOISE_BROWNIAN, 1.0, 0.5, out, COUNT, &err),
                     LD_E_RANGE);
    assert_int_equal(source.draw(source.state, LD_NOISE_ANCESTRAL, 1.0, 0.5, out, COUNT - 1, &err),
                     LD_E_SHAPE);
    config.batch_index = 1;
    assert_int_equal(ld_noise_create(&noise, &arena, &config, &err), LD_E_RANGE);
    ld_arena_deinit(&arena);
    ld_arena_init(&arena, "test", 4096);
    config.batch_index = 0;
    assert_int_equal(ld_noise_create(&noise, &arena, &config, &err), LD_E_NOMEM);
    ld_arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slice_of_a_draw_equals_the_whole),
        cmocka_unit_test(long_draws_have_normal_moments),
        cmocka_unit_test(the_cpu_generator_uses_the_low_half_of_the_seed_and_philox_all_of_it),
        cmocka_unit_test(comfy_draws_ancestral_noise_from_philox_at_zero),
        cmocka_unit_test(comfy_on_the_cpu_draws_ancestral_noise_from_the_next_seed),
        cmocka_unit_test(the_initial_noise_is_never_drawn_again_by_a_sampler),
        cmocka_unit_test(churn_has_its_own_stream_in_comfy_only),
        cmocka_unit_test(image_i_of_a_job_equals_the_single_image_of_its_seed),
        cmocka_unit_test(row_0_of_a_batch_equals_the_single_image_and_the_others_follow),
        cmocka_unit_test(a1111_steps_the_variation_seed_and_keeps_the_main_one),
        cmocka_unit_test(options_name_the_generators),
        cmocka_unit_test(an_element_of_a_batch_is_a_slice_of_the_whole_stream),
        cmocka_unit_test(a_variation_of_strength_one_is_the_other_noise),
        cmocka_unit_test(seed_resize_keeps_the_small_noise_in_the_middle),
        cmocka_unit_test(drawing_ahead_changes_no_draw),
        cmocka_unit_test(only_what_somebody_draws_is_drawn_ahead),
        cmocka_unit_test(the_tree_does_not_depend_on_the_order_of_questions),
        cmocka_unit_test(failures_are_told_and_nothing_is_drawn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
