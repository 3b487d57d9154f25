/*
 * Proves that each call asks for the estimates it needs and no others, and that what is combined
 * follows the rule the plan names. It walks plans over sigmas and compares outcomes with formulas.
 */
#include "runtime/sample/guidance.h"
#include "runtime/sample/guidance_area.h"
#include "runtime/sample/guidance_attention.h"
#include "runtime/sample/guidance_freeu.h"
#include "runtime/sample/guidance_threshold.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { C = 4, H = 8, W = 12, COUNT = C * H * W };

static const struct ld_latent_shape shape = {C, H, W};

struct fixture {
    struct ld_arena arena;
    struct ld_request_guidance options;
    struct ld_guidance_config config;
    struct ld_guidance *guidance;
    double x[COUNT], cond[COUNT], uncond[COUNT], empty[COUNT], other[COUNT], out[COUNT];
};

static void fill(double *values, unsigned seed)
{
    for (int i = 0; i < COUNT; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (double)(seed >> 8) / (double)(1u << 23) - 1.0;
    }
}

/* Every option off. */
static void fixture_open(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->options = (struct ld_request_guidance){.skip_above_sigma = (double)NAN,
                                              .skip_below_sigma = (double)NAN,
                                              .uncond_scale = 1,
                                              .epsilon_scale = 1,
                                              .negative_end = 1,
                                              .uncond_zero_scale = 0.75,
                                              .uncond_zero_pre_scale = 1,
                                              .uncond_zero_pre_fix = true,
                                              .sag_blur = 2};
    f->config = (struct ld_guidance_config){.options = &f->options,
                                            .table = ld_sigma_table_default(),
                                            .scale = 7,
                                            .total_calls = 20,
                                            .shape = shape};
    ld_arena_init(&f->arena, "test", 1 << 20);
    fill(f->x, 1);
    fill(f->cond, 2);
    fill(f->uncond, 3);
    fill(f->empty, 4);
    fill(f->other, 5);
}

static void start(struct fixture *f)
{
    assert_int_equal(ld_guidance_create(&f->guidance, &f->arena, &f->config, NULL), LD_OK);
}

static struct ld_guidance_plan combine(struct fixture *f, double sigma, uint32_t call)
{
    const struct ld_guidance_plan plan = ld_guidance_plan(f->guidance, sigma, call, false);
    const struct ld_guidance_rows rows = {
        .x = f->x,
        .cond = f->cond,
        .uncond = (plan.rows & LD_ROW_UNCOND) ? f->uncond : NULL,
        .empty = (plan.rows & LD_ROW_EMPTY) ? f->empty : NULL,
        .perturbed = (plan.rows & LD_ROW_PERTURBED) ? f->other : NULL,
        .sag = (plan.rows & LD_ROW_SAG) ? f->other : NULL,
    };
    ld_guidance_combine(f->guidance, &plan, &rows, f->out);
    return plan;
}

static void close_to(const double *a, const double *b)
{
    for (int i = 0; i < COUNT; i++)
        assert_true(fabs(a[i] - b[i]) < 1e-12);
}

/* ---- Which rows ------------------------------------------------------------------------------ */

static void plain_guidance_needs_two_rows_and_scale_one_needs_one(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    start(&f);
    struct ld_guidance_plan plan = combine(&f, 5, 0);
    assert_int_equal(plan.rows, LD_ROW_COND | LD_ROW_UNCOND);
    double want[COUNT];
    ld_cfg(want, f.cond, f.uncond, 7, COUNT);
    close_to(f.out, want);

    f.config.scale = 1;
    start(&f);
    plan = combine(&f, 5, 0);
    assert_int_equal(plan.rows, LD_ROW_COND);
    close_to(f.out, f.cond);
    /* CFG++ needs U in spite of that. */
    assert_int_equal(ld_guidance_plan(f.guidance, 5, 0, true).rows, LD_ROW_COND | LD_ROW_UNCOND);
    /* So do AND parts. */
    f.config.composed_and = true;
    start(&f);
    assert_int_equal(ld_guidance_plan(f.guidance, 5, 0, false).rows, LD_ROW_COND | LD_ROW_UNCOND);
    ld_arena_deinit(&f.arena);
}

static void skipped_ranges_leave_the_negative_out(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.options.skip_above_sigma = 9;
    f.options.skip_below_sigma = 1;
    start(&f);
    assert_int_equal(combine(&f, 9.5, 0).rows, LD_ROW_COND);
    close_to(f.out, f.cond);
    assert_int_equal(combine(&f, 9, 1).rows, LD_ROW_COND | LD_ROW_UNCOND);
    assert_int_equal(combine(&f, 1, 2).rows, LD_ROW_COND | LD_ROW_UNCOND);
    assert_int_equal(combine(&f, 0.99, 3).rows, LD_ROW_COND);
    assert_true(combine(&f, 0.99, 3).and_base_is_cond);
    ld_arena_deinit(&f.arena);
}

static void ngms_skips_odd_calls_and_skip_early_the_first(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.options.ngms = 2;
    start(&f);
    assert_int_equal(combine(&f, 3, 1).rule, LD_RULE_FULL);
    assert_int_equal(combine(&f, 1.9, 1).rule, LD_RULE_COND);
    assert_int_equal(combine(&f, 1.9, 2).rule, LD_RULE_FULL);
    f.config.ngms_all_calls = true;
    start(&f);
    assert_int_equal(combine(&f, 1.9, 2).rule, LD_RULE_COND);

    f.options.ngms = 0;
    f.options.skip_early = 0.1;
    start(&f);
    assert_int_equal(combine(&f, 14, 0).rule, LD_RULE_COND);
    assert_int_equal(combine(&f, 9, 2).rule, LD_RULE_COND);
    assert_int_equal(combine(&f, 8, 3).rule, LD_RULE_FULL);
    ld_arena_deinit(&f.arena);
}

static void a_negative_out_of_its_range_is_a_zero_tensor(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.options.negative_end = 0.35; /* sigma 2.739 */
    start(&f);
    assert_int_equal(combine(&f, 2.8, 0).rule, LD_RULE_FULL);
    const struct ld_guidance_plan plan = combine(&f, 2.7, 1);
    assert_int_equal(plan.rows, LD_ROW_COND);
    for (int i = 0; i < COUNT; i++)
        assert_true(fabs(f.out[i] - 7 * f.cond[i]) < 1e-12);
    for (int i = 0; i < COUNT; i++)
        assert_true(ld_guidance_uncond(f.guidance)[i] == 0);
    ld_arena_deinit(&f.arena);
}

static void uncond_zero_costs_one_row_where_the_negative_is_inactive(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.options.uncond_zero = true;
    f.options.negative_end = 0.35;
    start(&f);
    assert_int_equal(combine(&f, 14.6, 0).rows, LD_ROW_COND | LD_ROW_UNCOND);
    assert_int_equal(combine(&f, 2, 1).rows, LD_ROW_COND);
    double length = ld_norm(f.out, COUNT);
    assert_true(length > 0 && fabs(length - ld_norm(f.cond, COUNT)) > 1e-6);
    assert_int_equal(combine(&f, 0.9, 2).rows, LD_ROW_COND);
    close_to(f.out, f.cond);
    f.config.scale = 1;
    start(&f);
    assert_int_equal(combine(&f, 14.6, 0).rows, LD_ROW_COND);
    ld_arena_deinit(&f.arena);
}

static void auto_cfg_boost_skips_below_sigma_one(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.options.auto_cfg = "hard";
    f.options.auto_cfg_boost = true;
    start(&f);
    assert_int_equal(combine(&f, 1.0, 0).rule, LD_RULE_FULL);
    assert_int_equal(combine(&f, 0.9, 1).rule, LD_RULE_COND);
    f.options.auto_cfg = "firm";
    struct ld_error err = {0};
    assert_int_equal(ld_guidance_create(&f.guidance, &f.arena, &f.config, &err), LD_E_INVALID);
    assert_non_null(strstr(err.detail, "auto_cfg"));
    ld_arena_deinit(&f.arena);
}

static void perp_neg_needs_three_rows(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.options.perp_neg = 1;
    f.options.negative_end = 0.5;
    start(&f);
    double want[COUNT];
    assert_int_equal(combine(&f, 14, 0).rows, LD_ROW_COND | LD_ROW_UNCOND | LD_ROW_EMPTY);
    ld_perp_neg(want, f.cond, f.uncond, f.empty, 7, 1, COUNT);
    close_to(f.out, want);
    assert_int_equal(combine(&f, 0.5, 1).rows, LD_ROW_COND | LD_ROW_EMPTY);
    ld_cfg(want, f.cond, f.empty, 7, COUNT);
    close_to(f.out, want);
    ld_arena_deinit(&f.arena);
}

/* ---- What comes out -------------------------------------------------------------------------- */

static void pag_and_sag_push_away_from_the_degraded_estimates(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.options.pag = 3;
    start(&f);
    assert_int_equal(combine(&f, 5, 0).rows, LD_ROW_COND | LD_ROW_UNCOND | LD_ROW_PERTURBED);
    double want[COUNT];
    ld_cfg(want, f.cond, f.uncond, 7, COUNT);
    ld_guidance_push(want, f.cond, f.other, 3, COUNT);
    close_to(f.out, want);

    f.options.pag = 0;
    f.options.sag = 0.5;
    start(&f);
    float attention[24];
    for (int i = 0; i < 24; i++)
        attention[i] = i % 2 ? 2.0f : 0.5f;
    assert_true(ld_guidance_plan(f.guidance, 5, 0, false).keep_attention);
    ld_guidance_sag(f.guidance, f.x, f.uncond, attention, 24);
    combine(&f, 5, 0);
    double degraded[COUNT], scratch[2 * H * W];
    ld_sag_degrade(degraded, f.uncond, attention, 24, 2, shape, scratch);
    ld_cfg(want, f.cond, f.uncond, 7, COUNT);
    ld_guidance_push(want, degraded, f.other, 0.5, COUNT);
    close_to(f.out, want);
    for (int i = 0; i < COUNT; i++)
        assert_true(fabs(ld_guidance_sag_x(f.guidance)[i] - (degraded[i] + f.x[i] - f.uncond[i])) <
                    1e-12);
    f.config.shape.height = 4; /* too small for the blur */
    start(&f);
    assert_false(ld_guidance_plan(f.guidance, 5, 0, false).keep_attention);
    ld_arena_deinit(&f.arena);
}

static void neutral_factors_change_nothing(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    double want[COUNT];
    ld_cfg(want, f.cond, f.uncond, 7, COUNT);
    memcpy(f.out, want, sizeof want);
    ld_cfg_rescale(f.out, f.cond, f.x, 3, 0, COUNT);
    close_to(f.out, want);
    ld_epsilon_scale(f.out, f.x, 1, COUNT);
    close_to(f.out, want);
    memcpy(f.out, f.uncond, sizeof f.out);
    ld_negative_strength(f.out, f.cond, 1, COUNT);
    close_to(f.out, f.uncond);
    ld_negative_strength(f.out, f.cond, 0.3, COUNT);
    assert_true(fabs(ld_norm(f.out, COUNT) - ld_norm(f.uncond, COUNT)) < 1e-9);
    ld_arena_deinit(&f.arena);
}

static void and_composition_equals_the_weighted_sum_of_pushes(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    const double *const parts[] = {f.cond, f.other};
    const double weights[] = {1.0, 0.6};
    double composed[COUNT], want[COUNT], have[COUNT];
    ld_compose_and(composed, parts, weights, 2, f.uncond, COUNT);
    ld_cfg(have, composed, f.uncond, 7, COUNT);
    for (int i = 0; i < COUNT; i++)
        want[i] =
            f.uncond[i] + 7 * (f.cond[i] - f.uncond[i]) + 0.6 * 7 * (f.other[i] - f.uncond[i]);
    close_to(have, want);
    ld_compose_and(composed, parts, weights, 1, f.cond, COUNT);
    close_to(composed, f.cond);
    ld_arena_deinit(&f.arena);
}

static void areas_average_where_they_overlap(void **state)
{
    (void)state;
    double sum[COUNT] = {0}, weight[H * W] = {0}, weights[H * W], part[COUNT];
    struct ld_area whole = {H, W, 0, 0}, half = {H, W, 0, W / 2};
    assert_true(ld_area_clip(&whole, H, W));
    ld_area_weights(weights, &whole, 1, true, H, W);
    for (int i = 0; i < COUNT; i++)
        part[i] = 1;
    ld_area_add(sum, weight, shape, &whole, weights, part);
    assert_true(ld_area_clip(&half, H, W));
    assert_int_equal(half.width, W / 2);
    ld_area_weights(weights, &half, 3, false, H, W);
    for (int i = 0; i < COUNT; i++)
        part[i] = 2;
    ld_area_add(sum, weight, shape, &half, weights, part);
    ld_area_finish(sum, weight, shape);
    for (int i = 0; i < COUNT; i++)
        assert_true(fabs(sum[i] - (i % W < W / 2 ? 1.0 : 1.75)) < 1e-12);
    struct ld_area outside = {4, 4, H, 0};
    assert_false(ld_area_clip(&outside, H, W));
}

static void scale_courses_start_and_end_where_their_names_say(void **state)
{
    (void)state;
    const struct {
        const char *name;
        double first, last;
    } courses[] = {{"Constant", 10, 10},         {"Linear Down", 10, 4}, {"linear_up", 4, 10},
                   {"cosine-down", 10, 4.0006},  {"Power Up", 4, 10},    {"Power Down", 10, 4},
                   {"Linear Repeating", 10, 10}, {"Sawtooth", 4, 4}};
    for (size_t i = 0; i < sizeof courses / sizeof courses[0]; i++) {
        enum ld_scale_mode mode;
        assert_true(ld_scale_mode_named(courses[i].name, &mode));
        assert_true(fabs(ld_scale_at(10, 4, mode, 0, 2) - courses[i].first) < 1e-3);
        assert_true(fabs(ld_scale_at(10, 4, mode, 1, 2) - courses[i].last) < 1e-3);
    }
    enum ld_scale_mode mode;
    assert_false(ld_scale_mode_named("linear", &mode));
}

static void the_sag_grid_divides_the_tokens(void **state)
{
    (void)state;
    int32_t h, w;
    for (int32_t tokens = 1; tokens < 300; tokens++) {
        ld_sag_grid(tokens, 104, 152, &h, &w);
        assert_int_equal(h * w, tokens);
    }
    ld_sag_grid(13 * 19, 104, 152, &h, &w);
    assert_int_equal(h, 13);
}

static void freeu_takes_the_factors_of_its_version(void **state)
{
    (void)state;
    struct ld_request_guidance options = {.freeu = "v2",
                                          .freeu_b1 = (double)NAN,
                                          .freeu_b2 = (double)NAN,
                                          .freeu_s1 = (double)NAN,
                                          .freeu_s2 = 0.5};
    struct ld_freeu freeu = ld_freeu_of(&options, 320);
    float b, s;
    assert_true(ld_freeu_factors(&freeu, 1280, &b, &s));
    assert_true(b == 1.3f && s == 0.9f);
    assert_true(ld_freeu_factors(&freeu, 640, &b, &s));
    assert_true(b == 1.4f && s == 0.5f);
    assert_false(ld_freeu_factors(&freeu, 320, &b, &s));
    options.freeu = "";
    freeu = ld_freeu_of(&options, 320);
    assert_false(ld_freeu_factors(&freeu, 1280, &b, &s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_guidance_needs_two_rows_and_scale_one_needs_one),
        cmocka_unit_test(skipped_ranges_leave_the_negative_out),
        cmocka_unit_test(ngms_skips_odd_calls_and_skip_early_the_first),
        cmocka_unit_test(a_negative_out_of_its_range_is_a_zero_tensor),
        cmocka_unit_test(uncond_zero_costs_one_row_where_the_negative_is_inactive),
        cmocka_unit_test(auto_cfg_boost_skips_below_sigma_one),
        cmocka_unit_test(perp_neg_needs_three_rows),
        cmocka_unit_test(pag_and_sag_push_away_from_the_degraded_estimates),
        cmocka_unit_test(neutral_factors_change_nothing),
        cmocka_unit_test(and_composition_equals_the_weighted_sum_of_pushes),
        cmocka_unit_test(areas_average_where_they_overlap),
        cmocka_unit_test(scale_courses_start_and_end_where_their_names_say),
        cmocka_unit_test(the_sag_grid_divides_the_tokens),
        cmocka_unit_test(freeu_takes_the_factors_of_its_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
