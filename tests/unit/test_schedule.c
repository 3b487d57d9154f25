/*
 * Proves that a schedule is a usable list of sigmas for every scheduler, sampler, step count and
 * strength, and that what cannot be built is refused with a reason. Works by building them all and
 * on the special cases the specification lists.
 */
#include "runtime/sample/schedule.h"

#include "runtime/sample/schedule_shape.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct ld_sigma_table comfy;
static struct ld_sigma_table a1111;
static struct ld_arena arena;
static struct ld_error err;

static int setup(void **state)
{
    (void)state;
    ld_sigma_table_init(&comfy, &(struct ld_sigma_table_config){0});
    ld_sigma_table_init(&a1111, &(struct ld_sigma_table_config){.profile = LD_PROFILE_A1111});
    ld_arena_init(&arena, "test", 256 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ld_arena_deinit(&arena);
    return 0;
}

static struct ld_schedule_options options_of(const struct ld_sigma_table *table,
                                             const char *scheduler, const char *sampler,
                                             uint32_t steps)
{
    struct ld_schedule_options options = ld_schedule_options_default();
    options.table = table;
    options.scheduler = scheduler;
    options.sampler = sampler ? ld_sampler_info_find(sampler) : NULL;
    options.steps = steps;
    return options;
}

static struct ld_schedule build(const struct ld_schedule_options *options)
{
    struct ld_schedule schedule;
    const enum ld_code code = ld_schedule_build(&schedule, &arena, options, &err);
    if (code != LD_OK)
        print_message("%s %u: %s\n", options->scheduler, options->steps, err.detail);
    assert_int_equal(code, LD_OK);
    return schedule;
}

static enum ld_code code_of(const struct ld_schedule_options *options)
{
    struct ld_schedule schedule;
    err.detail[0] = '\0';
    const enum ld_code code = ld_schedule_build(&schedule, &arena, options, &err);
    assert_true((code == LD_OK) == (err.detail[0] == '\0'));
    return code;
}

static void assert_usable(const struct ld_schedule *schedule)
{
    /* One value, no step: laplace, which ends at sigma_min and has no zero. */
    assert_true(schedule->sigma_count != 1 || schedule->sigmas[0] > 0);
    for (uint32_t i = 0; i < schedule->sigma_count; i++) {
        const double sigma = schedule->sigmas[i];
        assert_true(isfinite(sigma));
        assert_true(sigma == (double)(float)sigma);
        assert_true(i + 1 == schedule->sigma_count ? sigma >= 0 : sigma > 0);
        assert_true(i == 0 || sigma < schedule->sigmas[i - 1]);
    }
    for (uint32_t i = 0; schedule->timesteps && i + 1 < schedule->sigma_count; i++) {
        assert_in_range(schedule->timesteps[i], 0, 999);
        assert_true(i == 0 || schedule->timesteps[i] < schedule->timesteps[i - 1]);
    }
    if (schedule->sigma_count > 0)
        assert_true(schedule->uncut_sigma_max >= schedule->sigmas[0]);
}

/* ---- All of them ----------------------------------------------------------------------------- */

static void every_schedule_is_usable(void **state)
{
    (void)state;
    static const double strengths[] = {0, 0.05, 0.3, 0.5, 0.75, 0.99, 0.99999, 1};
    static const char *const samplers[] = {
        NULL,   "euler", "dpm_2", "uni_pc",        "dpmpp_3m_sde",
        "ddim", "plms",  "tcd",   "ddim_trailing", "lcm_trailing"};
    for (uint32_t k = 0; k < ld_scheduler_info_count(); k++) {
        const char *name = ld_scheduler_info_at(k)->name;
        for (uint32_t steps = strcmp(name, "gits") == 0 ? 2 : 1; steps <= 60; steps++) {
            for (size_t d = 0; d < sizeof strengths / sizeof strengths[0]; d++) {
                for (size_t s = 0; s < sizeof samplers / sizeof samplers[0]; s++) {
                    struct ld_schedule_options options =
                        options_of(s % 2 ? &a1111 : &comfy, name, samplers[s], steps);
                    options.denoise = strengths[d];
                    options.exact_steps = steps % 2 == 0;
                    const struct ld_schedule schedule = build(&options);
                    assert_usable(&schedule);
                    ld_arena_reset(&arena);
                }
            }
        }
    }
}

static void whole_schedules_run_the_steps_asked_for(void **state)
{
    (void)state;
    static const char *const exact[] = {
        "simple",     "sgm_uniform",     "karras", "exponential", "normal", "linear_quadratic",
        "kl_optimal", "polyexponential", "vp",     "ays",         "gits",   "trailing",
        "uniform"};
    for (size_t k = 0; k < sizeof exact / sizeof exact[0]; k++) {
        for (uint32_t steps = 2; steps <= 40; steps++) {
            const struct ld_schedule_options options = options_of(&comfy, exact[k], NULL, steps);
            const struct ld_schedule schedule = build(&options);
            assert_int_equal(schedule.sigma_count, steps + 1);
            assert_true(schedule.sigmas[steps] == 0);
            assert_int_equal(schedule.warning_count, 0);
        }
    }
}

/* ---- The special cases ----------------------------------------------------------------------- */

static void ddim_uniform_may_run_one_step_more_and_says_so(void **state)
{
    (void)state;
    struct ld_schedule_options options = options_of(&comfy, "ddim_uniform", NULL, 15);
    struct ld_schedule schedule = build(&options);
    assert_int_equal(schedule.sigma_count, 17);
    assert_int_equal(schedule.warning_count, 1);
    assert_string_equal(schedule.warnings[0], "this schedule runs 16 steps instead of 15");
    options.steps = 20;
    schedule = build(&options);
    assert_int_equal(schedule.sigma_count, 21);
    assert_int_equal(schedule.warning_count, 0);
}

static void beta_drops_equal_timesteps(void **state)
{
    (void)state;
    const struct ld_schedule_options options = options_of(&comfy, "beta", NULL, 400);
    assert_int_equal(build(&options).sigma_count, 388);
}

static void laplace_runs_one_step_less_and_says_so(void **state)
{
    (void)state;
    struct ld_schedule_options options = options_of(&comfy, "laplace", NULL, 12);
    options.mu = 0.5;
    options.b = 0.8;
    const struct ld_schedule schedule = build(&options);
    assert_int_equal(schedule.sigma_count, 12);
    assert_true(schedule.sigmas[11] > 0);
    assert_string_equal(schedule.warnings[0], "this schedule runs 11 steps instead of 12");
}

static void kl_optimal_with_one_step_starts_at_the_top(void **state)
{
    (void)state;
    const struct ld_schedule_options options = options_of(&comfy, "kl_optimal", NULL, 1);
    const struct ld_schedule schedule = build(&options);
    assert_int_equal(schedule.sigma_count, 2);
    assert_true(schedule.sigmas[0] == ld_sigma_table_max(&comfy) && schedule.sigmas[1] == 0);
}

static void gits_knows_its_range(void **state)
{
    (void)state;
    struct ld_schedule_options options = options_of(&comfy, "gits", NULL, 8);
    static const double usual[] = {14.61464119, 5.85520077, 2.45070267, 1.36964464, 0.803307,
                                   0.45573691,  0.25053367, 0.09824532, 0};
    struct ld_schedule schedule = build(&options);
    assert_int_equal(schedule.sigma_count, 9);
    for (int i = 0; i < 9; i++)
        assert_true(schedule.sigmas[i] == (double)(float)usual[i]);
    for (int c = 16; c <= 30; c++) {
        options.coefficient = c * 0.05;
        assert_int_equal(code_of(&options), LD_OK);
    }
    static const double bad[] = {0.75, 1.55, 1.21, 0, -1, 1e300, (double)INFINITY};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        options.coefficient = bad[k];
        assert_int_equal(code_of(&options), LD_E_RANGE);
    }
    options.coefficient = (double)NAN;
    options.steps = 1;
    assert_int_equal(code_of(&options), LD_E_RANGE);
    options.steps = 33; /* interpolated beyond the table */
    schedule = build(&options);
    assert_int_equal(schedule.sigma_count, 34);
    assert_usable(&schedule);
}

static void strength_keeps_the_tail_of_a_denser_schedule(void **state)
{
    (void)state;
    struct ld_schedule_options options = options_of(&comfy, "karras", NULL, 10);
    options.denoise = 0.4; /* int(10 / 0.4) = 25 */
    const struct ld_schedule tail = build(&options);
    options = options_of(&comfy, "karras", NULL, 25);
    const struct ld_schedule whole = build(&options);
    assert_int_equal(tail.sigma_count, 11);
    assert_memory_equal(tail.sigmas, whole.sigmas + 15, 11 * sizeof(double));
    assert_true(tail.uncut_sigma_max == whole.sigmas[0]);
    assert_true(tail.uncut_sigma_min == whole.sigmas[24]);
    options.denoise = 0;
    assert_int_equal(build(&options).sigma_count, 0);
    options = options_of(&comfy, "gits", NULL, 10);
    options.denoise = 0.5; /* cuts its own list: fewer steps */
    assert_int_equal(build(&options).sigma_count, 6);
    options.denoise = 0.04; /* none of them left */
    assert_int_equal(build(&options).sigma_count, 0);
}

static void bad_options_are_refused(void **state)
{
    (void)state;
    struct ld_schedule_options options = options_of(&comfy, "no_such_scheduler", NULL, 10);
    assert_int_equal(code_of(&options), LD_E_NOT_FOUND);
    options = options_of(&comfy, "karras", NULL, 0);
    assert_int_equal(code_of(&options), LD_E_RANGE);
    options.steps = LD_SCHEDULE_STEPS_MAX + 1;
    assert_int_equal(code_of(&options), LD_E_RANGE);
    options.steps = 100;
    static const double strengths[] = {-0.1, 1.1, (double)NAN, 0.0049};
    for (size_t k = 0; k < sizeof strengths / sizeof strengths[0]; k++) {
        options.denoise = strengths[k];
        assert_int_equal(code_of(&options), LD_E_RANGE);
    }
    options.denoise = 1;
    options.sigma_min = 20;
    assert_int_equal(code_of(&options), LD_E_RANGE);
    options.sigma_min = 0;
    assert_int_equal(code_of(&options), LD_E_RANGE);
    options.sigma_min = 0.1;
    options.sigma_max = 10; /* A1111's "old karras sigmas" */
    const struct ld_schedule old = build(&options);
    assert_true(fabs(old.sigmas[0] - 10) < 1e-5 && fabs(old.sigmas[99] - 0.1) < 1e-6);
    options.rho = 0;
    assert_int_equal(code_of(&options), LD_E_RANGE);
    options = options_of(&comfy, "beta", NULL, 10);
    options.alpha = 0;
    assert_int_equal(code_of(&options), LD_E_RANGE);
    options = options_of(&comfy, "laplace", NULL, 10);
    options.mu = 11;
    assert_int_equal(code_of(&options), LD_E_RANGE);
    options.mu = 0;
    options.b = 0;
    assert_int_equal(code_of(&options), LD_E_RANGE);
}

static void the_penultimate_sigma_goes_where_the_profile_says(void **state)
{
    (void)state;
    static const struct {
        const struct ld_sigma_table *table;
        const char *sampler, *scheduler;
        bool discards;
    } cases[] = {
        {&comfy, "dpm_2", "karras", true},   {&comfy, "uni_pc", "karras", true},
        {&comfy, "euler", "karras", false},  {&comfy, "dpmpp_3m_sde", "karras", false},
        {&comfy, "dpm_2", "gits", false},    {&comfy, "dpm_2", "ays", false},
        {&a1111, "dpm_2", "karras", true},   {&a1111, "dpm_2_ancestral", "karras", true},
        {&a1111, "uni_pc", "karras", false}, {&a1111, "dpmpp_3m_sde", "karras", true},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct ld_schedule_options options =
            options_of(cases[k].table, cases[k].scheduler, cases[k].sampler, 10);
        const struct ld_schedule schedule = build(&options);
        options.discard_penultimate = cases[k].discards ? LD_FALSE : LD_TRUE;
        const struct ld_schedule opposite = build(&options);
        options = options_of(cases[k].table, cases[k].scheduler, NULL, 11);
        const struct ld_schedule longer = build(&options);
        assert_int_equal(schedule.sigma_count, 11);
        assert_int_equal(opposite.sigma_count, 11);
        const struct ld_schedule *cut = cases[k].discards ? &schedule : &opposite;
        const struct ld_schedule *plain = cases[k].discards ? &opposite : &schedule;
        assert_memory_equal(cut->sigmas, longer.sigmas, 10 * sizeof(double));
        assert_true(cut->sigmas[10] == 0);
        assert_true(plain->sigmas[9] != cut->sigmas[9]);
    }
}

static void automatic_is_the_samplers_usual_schedule(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"dpmpp_2m", "karras"},
                                           {"dpmpp_sde", "karras"},
                                           {"dpmpp_2s_ancestral", "karras"},
                                           {"dpm_2", "karras"},
                                           {"restart", "karras"},
                                           {"dpmpp_2m_sde", "exponential"},
                                           {"dpmpp_2m_sde_heun", "exponential"},
                                           {"dpmpp_3m_sde", "exponential"},
                                           {"euler", "uniform"},
                                           {"euler_ancestral", "uniform"},
                                           {"lms", "uniform"}};
    for (size_t k = 0; k < sizeof pairs / sizeof pairs[0]; k++) {
        static const char *const names[] = {"Automatic", "", NULL};
        for (size_t n = 0; n < 3; n++) {
            const struct ld_schedule_options options =
                options_of(&a1111, names[n], pairs[k][0], 10);
            assert_string_equal(build(&options).scheduler->name, pairs[k][1]);
        }
    }
}

/* ---- Timesteps ------------------------------------------------------------------------------- */

static void vp_samplers_get_their_own_timesteps(void **state)
{
    (void)state;
    static const int32_t trailing[] = {999, 874, 749, 624, 499, 374, 249, 124};
    struct ld_schedule_options options = options_of(&comfy, "automatic", "ddim_trailing", 8);
    struct ld_schedule schedule = build(&options);
    assert_int_equal(schedule.sigma_count, 9);
    assert_memory_equal(schedule.timesteps, trailing, sizeof trailing);
    assert_int_equal(schedule.timestep_total, 8);
    for (int i = 0; i < 8; i++)
        assert_true(schedule.sigmas[i] == (double)comfy.sigmas[trailing[i]]);
    assert_int_equal(schedule.warning_count, 0);
    options.scheduler = "karras";
    schedule = build(&options);
    assert_memory_equal(schedule.timesteps, trailing, sizeof trailing);
    assert_int_equal(schedule.warning_count, 1);
    options.scheduler = "trailing";
    options.denoise = 0.5; /* 16 timesteps, the last 8 of them */
    schedule = build(&options);
    assert_int_equal(schedule.sigma_count, 9);
    assert_int_equal(schedule.timestep_total, 16);
    assert_int_equal(schedule.timesteps[0], 499);
    options = options_of(&comfy, "trailing", "euler", 8); /* a spacing as a plain schedule */
    schedule = build(&options);
    assert_null(schedule.timesteps);
    assert_true(schedule.sigmas[1] == (double)comfy.sigmas[874]);
}

static void ddim_walks_timesteps_in_one_profile_only(void **state)
{
    (void)state;
    const struct ld_sampler_info *ddim = ld_sampler_info_find("ddim");
    assert_false(ld_sampler_walks_timesteps(ddim, LD_PROFILE_COMFY));
    assert_true(ld_sampler_walks_timesteps(ddim, LD_PROFILE_A1111));
    assert_true(ld_sampler_walks_timesteps(ld_sampler_info_find("plms"), LD_PROFILE_COMFY));
    assert_false(ld_sampler_walks_timesteps(NULL, LD_PROFILE_A1111));
    struct ld_schedule_options options = options_of(&a1111, "automatic", "ddim", 20);
    assert_int_equal(build(&options).timesteps[0], 951);
    options.steps = 1; /* the grid would be {1}: fall back to the top */
    const struct ld_schedule schedule = build(&options);
    assert_int_equal(schedule.timesteps[0], 999);
    assert_int_equal(schedule.warning_count, 1);
}

/* ---- Explicit lists -------------------------------------------------------------------------- */

static void explicit_lists_are_taken_or_refused(void **state)
{
    (void)state;
    struct ld_schedule schedule;
    struct ld_schedule_options options = options_of(&comfy, "", "euler", 3);
    static const double good[] = {14.6, 3, 0.5, 0};
    static const double partial[] = {14.6, 3, 0.5};
    static const double rising[] = {3, 14, 0};
    static const double equal[] = {3, 3, 0};
    static const double nearly_equal[] = {3.00000000001, 3, 0}; /* one float32 value */
    static const double negative[] = {3, -1};
    static const double zeros[] = {3, 0, 0};
    static const double not_a_number[] = {3, (double)NAN, 0};
    assert_int_equal(ld_schedule_from_list(&schedule, &arena, &options, good, 4, &err), LD_OK);
    assert_int_equal(schedule.sigma_count, 4);
    assert_usable(&schedule);
    assert_null(schedule.timesteps);
    assert_int_equal(ld_schedule_from_list(&schedule, &arena, &options, partial, 3, &err), LD_OK);
    assert_int_equal(schedule.sigma_count, 3);
    static const struct {
        const double *list;
        uint32_t count;
    } bad[] = {{rising, 3}, {equal, 3},        {nearly_equal, 3}, {negative, 2},
               {zeros, 3},  {not_a_number, 3}, {good, 1},         {good, 0}};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++)
        assert_int_equal(
            ld_schedule_from_list(&schedule, &arena, &options, bad[k].list, bad[k].count, &err),
            LD_E_RANGE);
    options.sampler = ld_sampler_info_find("tcd");
    assert_int_equal(ld_schedule_from_list(&schedule, &arena, &options, good, 4, &err), LD_OK);
    assert_int_equal(schedule.sigma_count, 4);
    assert_int_equal(schedule.timesteps[0], 999);
    assert_true(schedule.timesteps[1] == (int32_t)ld_sigma_to_timestep(&comfy, 3));
}

static void a_slice_is_a_part_of_the_run(void **state)
{
    (void)state;
    const struct ld_schedule_options options = options_of(&comfy, "karras", NULL, 10);
    const struct ld_schedule whole = build(&options);
    struct ld_schedule part = build(&options);
    ld_schedule_slice(&part, 2, 6, true);
    assert_int_equal(part.sigma_count, 5);
    assert_memory_equal(part.sigmas, whole.sigmas + 2, 5 * sizeof(double));
    part = build(&options);
    ld_schedule_slice(&part, 0, 6, false);
    assert_int_equal(part.sigma_count, 7);
    assert_true(part.sigmas[6] == 0 && part.sigmas[5] == whole.sigmas[5]);
    part = build(&options);
    ld_schedule_slice(&part, 0, 10000, true);
    assert_int_equal(part.sigma_count, 11);
    ld_schedule_slice(&part, 10, 10000, true);
    assert_int_equal(part.sigma_count, 0);
    ld_schedule_slice(&part, 0, 5, false);
    assert_int_equal(part.sigma_count, 0);
}

/* ---- Tables and functions -------------------------------------------------------------------- */

static void sigma_and_timestep_are_inverse(void **state)
{
    (void)state;
    static struct ld_sigma_table lcm;
    ld_sigma_table_init(&lcm, &(struct ld_sigma_table_config){.lcm = true});
    const struct ld_sigma_table *const tables[] = {&comfy, &a1111, &lcm};
    for (int k = 0; k < 3; k++) {
        const struct ld_sigma_table *table = tables[k];
        for (uint32_t i = 0; i < table->count; i++) {
            const double t = i * table->stride + table->stride - 1;
            const double sigma = (double)table->sigmas[i];
            assert_true(fabs(ld_sigma_to_timestep(table, sigma) - t) < 1e-3);
            assert_true(fabs(ld_timestep_to_sigma(table, t) / sigma - 1) < 1e-6);
        }
        assert_true(ld_sigma_to_timestep(table, 0) == table->stride - 1);
        assert_true(ld_sigma_to_timestep(table, -1) == table->stride - 1);
        assert_true(ld_sigma_to_timestep(table, 1e9) == 999);
        assert_true(fabs(ld_timestep_to_sigma(table, -5) / ld_sigma_table_min(table) - 1) < 1e-6);
        assert_true(fabs(ld_timestep_to_sigma(table, 1e6) / ld_sigma_table_max(table) - 1) < 1e-6);
    }
}

static void percent_marks_the_range_of_the_process(void **state)
{
    (void)state;
    assert_true(ld_percent_to_sigma(&comfy, 0) > 1e8);
    assert_true(ld_percent_to_sigma(&comfy, 1) == 0);
    assert_true(fabs(ld_percent_to_sigma(&comfy, 0.35) - 2.7390828) < 1e-6);
    assert_true(fabs(ld_percent_to_sigma(&comfy, 0.2) - 5.0924082) < 1e-6);
    assert_true(fabs(ld_percent_to_sigma(&comfy, 0.8) - 0.5711889) < 1e-6);
}

static void initial_noise_has_the_scale_of_its_profile(void **state)
{
    (void)state;
    const double max = ld_sigma_table_max(&comfy);
    assert_true(ld_initial_noise_scale(&comfy, max, false) == sqrt(1 + max * max));
    assert_true(ld_initial_noise_scale(&comfy, max * (1 - 9e-6), false) > max);
    assert_true(ld_initial_noise_scale(&comfy, max * (1 - 2e-5), false) < max);
    assert_true(ld_initial_noise_scale(&comfy, 2, false) == 2);
    assert_true(ld_initial_noise_scale(&a1111, max, false) == max);
    assert_true(ld_initial_noise_scale(&a1111, 2, true) == sqrt(5));
}

/* Closed forms: b = 1 gives p^(1/a), a = 1 gives 1 - (1-p)^(1/b), 1/2, 1/2 the arcsine law. */
static void beta_quantile_meets_the_closed_forms(void **state)
{
    (void)state;
    for (int i = 0; i <= 100; i++) {
        const double p = i / 100.0;
        const double shapes[] = {0.05, 0.5, 0.6, 1, 2, 7.5, 50};
        const double pi = acos(-1);
        for (size_t k = 0; k < sizeof shapes / sizeof shapes[0]; k++) {
            const double a = shapes[k];
            assert_true(fabs(ld_beta_quantile(p, a, 1) - pow(p, 1 / a)) < 1e-9);
            assert_true(fabs(ld_beta_quantile(p, 1, a) + expm1(log1p(-p) / a)) < 1e-9);
            assert_true(fabs(ld_beta_quantile(p, a, 0.6) + ld_beta_quantile(1 - p, 0.6, a) - 1) <
                        1e-9);
        }
        const double arc = sin(pi * p / 2);
        assert_true(fabs(ld_beta_quantile(p, 0.5, 0.5) - arc * arc) < 1e-9);
    }
    assert_true(ld_beta_quantile(0.5, 0.6, 0.6) == 0.5);
    assert_true(ld_beta_quantile(1, 0.6, 0.6) == 1);
}

static void every_name_label_and_alias_leads_to_its_own_scheduler(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < ld_scheduler_info_count(); k++) {
        const struct ld_scheduler_info *info = ld_scheduler_info_at(k);
        char aliases[256];
        assert_ptr_equal(ld_scheduler_info_find(info->name), info);
        assert_ptr_equal(ld_scheduler_info_find(info->label), info);
        assert_true(info->hint[0] != '\0');
        assert_true(strlen(info->aliases) < sizeof aliases);
        memcpy(aliases, info->aliases, strlen(info->aliases) + 1);
        for (char *rest = aliases, *alias; (alias = strsep(&rest, ",")) != NULL;)
            if (alias[0])
                assert_ptr_equal(ld_scheduler_info_find(alias), info);
    }
    static const char *const names[][2] = {{"SGM Uniform", "sgm_uniform"},
                                           {"KARRAS", "karras"},
                                           {"native", "normal"},
                                           {"discrete", "normal"},
                                           {"align_your_steps", "ays"},
                                           {"ddim", "ddim_uniform"},
                                           {"align_your_steps_GITS", "gits"},
                                           {"KL Optimal", "kl_optimal"},
                                           {"turbo", "turbo"}};
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
        assert_string_equal(ld_scheduler_info_find(names[k][0])->name, names[k][1]);
    assert_null(ld_scheduler_info_find(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_schedule_is_usable),
        cmocka_unit_test(whole_schedules_run_the_steps_asked_for),
        cmocka_unit_test(ddim_uniform_may_run_one_step_more_and_says_so),
        cmocka_unit_test(beta_drops_equal_timesteps),
        cmocka_unit_test(laplace_runs_one_step_less_and_says_so),
        cmocka_unit_test(kl_optimal_with_one_step_starts_at_the_top),
        cmocka_unit_test(gits_knows_its_range),
        cmocka_unit_test(strength_keeps_the_tail_of_a_denser_schedule),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(the_penultimate_sigma_goes_where_the_profile_says),
        cmocka_unit_test(automatic_is_the_samplers_usual_schedule),
        cmocka_unit_test(vp_samplers_get_their_own_timesteps),
        cmocka_unit_test(ddim_walks_timesteps_in_one_profile_only),
        cmocka_unit_test(explicit_lists_are_taken_or_refused),
        cmocka_unit_test(a_slice_is_a_part_of_the_run),
        cmocka_unit_test(sigma_and_timestep_are_inverse),
        cmocka_unit_test(percent_marks_the_range_of_the_process),
        cmocka_unit_test(initial_noise_has_the_scale_of_its_profile),
        cmocka_unit_test(beta_quantile_meets_the_closed_forms),
        cmocka_unit_test(every_name_label_and_alias_leads_to_its_own_scheduler),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
