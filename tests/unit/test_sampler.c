/*
 * Proves that every sampler keeps the contract of the state machine, in both profiles, and that all
 * names lead to it. Works by running each one on denoisers known exactly, and by misusing it.
 */
#include "tests/unit/sampler_run.h"

#include <sys/wait.h>
#include <unistd.h>

/* ---- The contract ---------------------------------------------------------------------------- */

static void one_step_returns_the_estimate(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < ld_sampler_info_count(); k++) {
        const struct ld_sampler_info *info = ld_sampler_info_at(k);
        for (int a1111 = 0; a1111 < 2; a1111++) {
            struct run run;
            run_scheduled(&run, info->name, 1, a1111, CONSTANT);
            assert_int_equal(run.calls, 1);
            /* Those in VP space stop at timestep 0, a sigma of 0.03. */
            const bool exact = !(info->traits & LD_SAMPLER_VP) || strcmp(info->name, "plms") == 0;
            /* A1111's LMS has no special last step: its sum is the estimate up to rounding. */
            const double rounding = strcmp(info->name, "lms") == 0 && a1111 ? 1e-13 : 0;
            const double room = exact ? rounding : 0.1;
            for (size_t i = 0; i < COUNT; i++) {
                if (!(fabs(run.x[i] - value_at(0, i)) <= room))
                    print_message("%s\n", info->name);
                assert_true(fabs(run.x[i] - value_at(0, i)) <= room);
            }
        }
    }
}

static void every_sampler_stays_finite_at_any_step_count(void **state)
{
    (void)state;
    static const uint32_t steps[] = {1, 2, 3, 4, 5, 6, 7, 8, 13, 20, 21, 36, 50};
    for (uint32_t k = 0; k < ld_sampler_info_count(); k++) {
        const struct ld_sampler_info *info = ld_sampler_info_at(k);
        const bool adaptive = strcmp(info->name, "dpm_adaptive") == 0;
        for (size_t n = 0; n < sizeof steps / sizeof steps[0]; n++) {
            for (int a1111 = 0; a1111 < 2; a1111++) {
                struct run run;
                run_scheduled(&run, info->name, steps[n], a1111, CURVED);
                for (size_t i = 0; i < COUNT; i++)
                    assert_true(fabs(run.x[i]) < 50);
                assert_true(run.step_max <= steps[n]);
                /* A1111's grid may have entries more than steps, and PLMS evaluates once more. */
                if (!adaptive)
                    assert_in_range(run.calls, 1, steps[n] * info->evals_per_step + 3);
            }
        }
    }
}

static void results_do_not_depend_on_how_a_tensor_is_cut(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < ld_sampler_info_count(); k++) {
        const struct ld_sampler_info *info = ld_sampler_info_at(k);
        struct ld_arena arena;
        struct ld_schedule schedule;
        if (strcmp(info->name, "dpm_adaptive") == 0) /* its step size is one for the whole tensor */
            continue;
        ld_arena_init(&arena, "schedule", ARENA_BYTES);
        assert_true(schedule_for(&schedule, &arena, info, 22, false));
        struct run whole = run_of(info->name, schedule.sigmas, schedule.sigma_count);
        whole.timesteps = schedule.timesteps;
        struct run part[2] = {whole, whole};
        part[0].count = 23;
        part[1].count = COUNT - 23;
        part[1].offset = 23;
        memmove(part[1].x, part[1].x + 23, (COUNT - 23) * sizeof(double));
        run_sampler(&whole);
        run_sampler(&part[0]);
        run_sampler(&part[1]);
        assert_memory_equal(whole.x, part[0].x, 23 * sizeof(double));
        assert_memory_equal(whole.x + 23, part[1].x, (COUNT - 23) * sizeof(double));
        ld_arena_deinit(&arena);
    }
}

static void the_same_run_gives_the_same_bits(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < ld_sampler_info_count(); k++) {
        struct run a;
        struct run b;
        run_scheduled(&a, ld_sampler_info_at(k)->name, 12, false, CURVED);
        run_scheduled(&b, ld_sampler_info_at(k)->name, 12, false, CURVED);
        assert_memory_equal(a.x, b.x, sizeof a.x);
        assert_int_equal(a.noise.draws, b.noise.draws);
    }
}

static void next_gives_the_same_answer_until_accept(void **state)
{
    (void)state;
    static const double sigmas[] = {14.6, 7, 3, 1, 0.3, 0};
    for (uint32_t k = 0; k < ld_sampler_info_count(); k++) {
        struct ld_arena arena;
        struct ld_error err = {0};
        struct ld_sampler *sampler;
        struct noise noise = {0};
        const struct ld_noise_source source = {&noise, noise_draw};
        struct run run = run_of(ld_sampler_info_at(k)->name, sigmas, 6);
        const struct ld_sampler_config config = {.name = run.name,
                                                 .sigmas = sigmas,
                                                 .sigma_count = 6,
                                                 .count = COUNT,
                                                 .options = run.options};
        struct ld_sampler_eval first = {0};
        struct ld_sampler_eval again = {0};
        double d[COUNT];
        double u[COUNT];
        double seen[COUNT];
        ld_arena_init(&arena, "test", ARENA_BYTES);
        assert_int_equal(ld_sampler_create(&sampler, &arena, &config, &source, run.x, &err), LD_OK);
        while (ld_sampler_next(sampler, &first) == LD_SAMPLER_EVAL) {
            memcpy(seen, first.x, sizeof seen);
            const uint32_t draws = noise.draws;
            assert_int_equal(ld_sampler_next(sampler, &again), LD_SAMPLER_EVAL);
            assert_memory_equal(&first, &again, sizeof first);
            assert_memory_equal(seen, again.x, sizeof seen);
            assert_int_equal(noise.draws, draws);
            denoise(CURVED, first.x, first.sigma, 0, COUNT, d, u);
            assert_int_equal(ld_sampler_accept(sampler, d, u, &err), LD_OK);
        }
        assert_int_equal(ld_sampler_next(sampler, &first), LD_SAMPLER_DONE);
        ld_arena_deinit(&arena);
    }
}

/* Runs `misuse` in a child; true if it aborts. */
static bool aborts(void (*misuse)(void))
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(2);
        misuse();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static struct ld_sampler *started(struct ld_arena *arena, const char *name, double *x)
{
    static const double sigmas[] = {1, 0};
    static struct noise noise;
    struct ld_error err = {0};
    struct ld_sampler *sampler = NULL;
    const struct ld_noise_source source = {&noise, noise_draw};
    const struct ld_sampler_config config = {.name = name,
                                             .sigmas = sigmas,
                                             .sigma_count = 2,
                                             .count = 4,
                                             .options = ld_sampler_options_default()};
    ld_arena_init(arena, "test", ARENA_BYTES);
    if (ld_sampler_create(&sampler, arena, &config, &source, x, &err) != LD_OK)
        _exit(3);
    return sampler;
}

static void accept_after_the_end(void)
{
    struct ld_arena arena;
    struct ld_error err = {0};
    double x[4] = {0};
    const double d[4] = {0};
    struct ld_sampler *sampler = started(&arena, "euler", x);
    if (ld_sampler_accept(sampler, d, NULL, &err) != LD_OK)
        _exit(4);
    if (ld_sampler_accept(sampler, d, NULL, &err) != LD_OK)
        _exit(5);
}

static void accept_without_uncond(void)
{
    struct ld_arena arena;
    struct ld_error err = {0};
    double x[4] = {0};
    const double d[4] = {0};
    struct ld_sampler *sampler = started(&arena, "euler_cfg_pp", x);
    if (ld_sampler_accept(sampler, d, NULL, &err) != LD_OK)
        _exit(4);
}

static void misuse_aborts(void **state)
{
    (void)state;
    assert_true(aborts(accept_after_the_end));
    assert_true(aborts(accept_without_uncond));
}

/* ---- Lists of sigmas ------------------------------------------------------------------------- */

static void an_empty_list_leaves_x_untouched(void **state)
{
    (void)state;
    static const double one[] = {3};
    for (uint32_t k = 0; k < ld_sampler_info_count(); k++) {
        for (uint32_t count = 0; count < 2; count++) {
            struct run run = run_of(ld_sampler_info_at(k)->name, count ? one : NULL, count);
            const struct run before = run;
            run_sampler(&run);
            assert_int_equal(run.code, LD_OK);
            assert_int_equal(run.calls, 0);
            assert_memory_equal(run.x, before.x, sizeof run.x);
        }
    }
}

static void a_step_of_no_length_does_nothing(void **state)
{
    (void)state;
    static const double plain[] = {14.6, 7, 3, 1, 0.3, 0};
    static const double doubled[] = {14.6, 14.6, 7, 3, 3, 3, 1, 0.3, 0.3, 0};
    for (uint32_t k = 0; k < ld_sampler_info_count(); k++) {
        struct run a = run_of(ld_sampler_info_at(k)->name, plain, 6);
        struct run b = run_of(ld_sampler_info_at(k)->name, doubled, 10);
        run_sampler(&a);
        run_sampler(&b);
        assert_memory_equal(a.x, b.x, sizeof a.x);
        assert_int_equal(a.calls, b.calls);
    }
}

static void a_run_may_stop_above_zero(void **state)
{
    (void)state;
    static const double partial[] = {14.6, 9, 5, 3, 2, 1.5, 1.1};
    static const double whole[] = {14.6, 9, 5, 3, 2, 1.5, 1.1, 0.5, 0.1, 0};
    for (uint32_t k = 0; k < ld_sampler_info_count(); k++) {
        const struct ld_sampler_info *info = ld_sampler_info_at(k);
        struct run run = run_of(info->name, partial, 7);
        run_sampler(&run);
        assert_int_equal(run.code, LD_OK);
        for (size_t i = 0; i < COUNT; i++)
            assert_true(fabs(run.x[i]) < 50);
    }
    static const char *const memoryless[] = {"euler", "heun", "dpm_2"};
    for (size_t k = 0; k < 3; k++) { /* two halves are the whole */
        struct run all = run_of(memoryless[k], whole, 10);
        struct run first = run_of(memoryless[k], whole, 7);
        struct run second = run_of(memoryless[k], whole + 6, 4);
        run_sampler(&all);
        run_sampler(&first);
        memcpy(second.x, first.x, sizeof first.x);
        run_sampler(&second);
        assert_memory_equal(all.x, second.x, sizeof all.x);
    }
}

static void bad_lists_and_options_are_refused(void **state)
{
    (void)state;
    static const double rising[] = {1, 2, 0};
    static const double zero_inside[] = {1, 0, 0};
    static const double negative[] = {1, -1};
    static const double infinite[] = {(double)INFINITY, 1, 0};
    static const double not_a_number[] = {1, (double)NAN, 0};
    static const double good[] = {2, 1, 0};
    static const struct {
        const double *sigmas;
        uint32_t count;
    } lists[] = {{rising, 3}, {zero_inside, 3}, {negative, 2}, {infinite, 3}, {not_a_number, 3}};
    for (size_t k = 0; k < sizeof lists / sizeof lists[0]; k++) {
        struct run run = run_of("euler", lists[k].sigmas, lists[k].count);
        run_sampler(&run);
        assert_int_equal(run.code, LD_E_RANGE);
    }
    struct run run = run_of("no_such_sampler", good, 3);
    run_sampler(&run);
    assert_int_equal(run.code, LD_E_NOT_FOUND);
    double *const options[] = {&run.options.eta,   &run.options.s_noise, &run.options.s_churn,
                               &run.options.gamma, &run.options.r,       &run.options.rtol,
                               &run.options.atol,  &run.options.h_init};
    for (size_t k = 0; k < sizeof options / sizeof options[0]; k++) {
        run.name = "euler";
        run.options = ld_sampler_options_default();
        *options[k] = -1000;
        run_sampler(&run);
        assert_int_equal(run.code, LD_E_RANGE);
        *options[k] = (double)NAN; /* not given: the default */
        run.calls = 0;
        run_sampler(&run);
        assert_int_equal(run.code, LD_OK);
    }
    run.name = "lms";
    run.options = ld_sampler_options_default();
    run.options.order = 5;
    run_sampler(&run);
    assert_int_equal(run.code, LD_E_RANGE);
}

static void a_failing_noise_source_stops_the_run(void **state)
{
    (void)state;
    static const double sigmas[] = {14.6, 7, 3, 1, 0.3, 0};
    for (uint32_t fail_at = 1; fail_at < 4; fail_at++) {
        struct run run = run_of("euler_ancestral", sigmas, 6);
        run.noise.fail_at = fail_at;
        run_sampler(&run);
        assert_int_equal(run.code, LD_E_NOMEM);
        assert_int_equal(run.calls, fail_at);
    }
    struct run run = run_of("heunpp2", sigmas, 6); /* draws before its first evaluation */
    run.noise.fail_at = 1;
    run_sampler(&run);
    assert_int_equal(run.code, LD_E_NOMEM);
    assert_int_equal(run.calls, 0);
}

static void running_out_of_memory_is_an_error(void **state)
{
    (void)state;
    static const double sigmas[] = {14.6, 7, 3, 1, 0.3, 0};
    for (uint32_t k = 0; k < ld_sampler_info_count(); k++) {
        const struct ld_noise_source source = {NULL, noise_draw};
        struct run run = run_of(ld_sampler_info_at(k)->name, sigmas, 6);
        const struct ld_sampler_config config = {.name = run.name,
                                                 .sigmas = sigmas,
                                                 .sigma_count = 6,
                                                 .count = 1 << 20,
                                                 .options = run.options};
        struct ld_arena arena;
        struct ld_error err = {0};
        struct ld_sampler *sampler;
        ld_arena_init(&arena, "test", 1 << 16);
        assert_int_equal(ld_sampler_create(&sampler, &arena, &config, &source, run.x, &err),
                         LD_E_NOMEM);
        assert_null(sampler);
        ld_arena_deinit(&arena);
    }
}

/* ---- Names ----------------------------------------------------------------------------------- */

static void names_of_every_dialect_are_known(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"Euler", "euler"},
        {"k_euler", "euler"},
        {"Euler a", "euler_ancestral"},
        {"k_euler_a", "euler_ancestral"},
        {"k_euler_ancestral", "euler_ancestral"},
        {"euler_a", "euler_ancestral"},
        {"EulerA", "euler_ancestral"},
        {"k_heun", "heun"},
        {"DPM2", "dpm_2"},
        {"DPM2 a", "dpm_2_ancestral"},
        {"k_dpm_2", "dpm_2"},
        {"k_dpm_2_ancestral", "dpm_2_ancestral"},
        {"k_dpm_2_a", "dpm_2_ancestral"},
        {"DPM2A", "dpm_2_ancestral"},
        {"LMS", "lms"},
        {"k_lms", "lms"},
        {"DPM++ 2S a", "dpmpp_2s_ancestral"},
        {"k_dpmpp_2s_a", "dpmpp_2s_ancestral"},
        {"k_dpmpp_2s_ancestral", "dpmpp_2s_ancestral"},
        {"dpm++2s_a", "dpmpp_2s_ancestral"},
        {"DPM2SA", "dpmpp_2s_ancestral"},
        {"DPM++ SDE", "dpmpp_sde"},
        {"DPMSDE", "dpmpp_sde"},
        {"dpmpp_sde_gpu", "dpmpp_sde"},
        {"DPM++ 2M", "dpmpp_2m"},
        {"dpm++2m", "dpmpp_2m"},
        {"DPM2M", "dpmpp_2m"},
        {"k_dpmpp_2m", "dpmpp_2m"},
        {"DPM++ 2M SDE", "dpmpp_2m_sde"},
        {"dpmpp_2m_sde_gpu", "dpmpp_2m_sde"},
        {"DPM++ 2M SDE Heun", "dpmpp_2m_sde_heun"},
        {"dpmpp_2m_sde_heun_gpu", "dpmpp_2m_sde_heun"},
        {"DPM++ 3M SDE", "dpmpp_3m_sde"},
        {"dpmpp_3m_sde_gpu", "dpmpp_3m_sde"},
        {"k_dpmpp_3m_sde", "dpmpp_3m_sde"},
        {"DPM fast", "dpm_fast"},
        {"k_dpm_fast", "dpm_fast"},
        {"DPM adaptive", "dpm_adaptive"},
        {"k_dpm_adaptive", "dpm_adaptive"},
        {"euler_ge", "gradient_estimation"},
        {"LCM", "lcm"},
        {"DDIM", "ddim"},
        {"ddim_v3", "ddim"},
        {"UniPC", "uni_pc"},
        {"PLMS", "plms"},
        {"Restart", "restart"},
        {"tcd", "tcd"},
        {"ddim_trailing", "ddim_trailing"},
    };
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        const struct ld_sampler_info *info = ld_sampler_info_find(names[k][0]);
        assert_non_null(info);
        assert_string_equal(info->name, names[k][1]);
    }
    assert_null(ld_sampler_info_find(""));
    assert_null(ld_sampler_info_find("k_euler,k_heun"));
    assert_null(ld_sampler_info_find("eule"));
}

static void every_name_label_and_alias_leads_to_its_own_sampler(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < ld_sampler_info_count(); k++) {
        const struct ld_sampler_info *info = ld_sampler_info_at(k);
        char aliases[256];
        assert_ptr_equal(ld_sampler_info_find(info->name), info);
        assert_ptr_equal(ld_sampler_info_find(info->label), info);
        assert_true(info->hint[0] && info->evals_per_step >= 1);
        assert_true(strlen(info->aliases) < sizeof aliases);
        memcpy(aliases, info->aliases, strlen(info->aliases) + 1);
        for (char *rest = aliases, *alias; (alias = strsep(&rest, ",")) != NULL;)
            if (alias[0])
                assert_ptr_equal(ld_sampler_info_find(alias), info);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_step_returns_the_estimate),
        cmocka_unit_test(every_sampler_stays_finite_at_any_step_count),
        cmocka_unit_test(results_do_not_depend_on_how_a_tensor_is_cut),
        cmocka_unit_test(the_same_run_gives_the_same_bits),
        cmocka_unit_test(next_gives_the_same_answer_until_accept),
        cmocka_unit_test(misuse_aborts),
        cmocka_unit_test(an_empty_list_leaves_x_untouched),
        cmocka_unit_test(a_step_of_no_length_does_nothing),
        cmocka_unit_test(a_run_may_stop_above_zero),
        cmocka_unit_test(bad_lists_and_options_are_refused),
        cmocka_unit_test(a_failing_noise_source_stops_the_run),
        cmocka_unit_test(running_out_of_memory_is_an_error),
        cmocka_unit_test(names_of_every_dialect_are_known),
        cmocka_unit_test(every_name_label_and_alias_leads_to_its_own_sampler),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
