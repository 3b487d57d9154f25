/*
 * Proves that every sampler keeps the contract of the state machine and ends where the mathematics
 * says, in both profiles. Works on denoisers known exactly: a constant, whose estimate is the
 * answer, and a Gaussian, whose probability flow has a closed form.
 */
#include "runtime/sample/sampler.h"

#include "runtime/sample/lincomb.h"
#include "runtime/sample/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { COUNT = 60, ARENA_BYTES = 16 << 20, CALLS_MAX = 4000 };

/* ---- Noise that depends on draw and element alone
 * -------------------------------------------------- */

struct noise {
    uint32_t draws;
    size_t offset;    /* of the part of the tensor this sampler works on */
    uint32_t fail_at; /* draw that fails, counted from 1; 0: none */
};

static double value_at(uint64_t draw, uint64_t element)
{
    uint64_t h = (draw + 1) * 0x9E3779B97F4A7C15u ^ (element + 1) * 0xC2B2AE3D27D4EB4Fu;
    h = (h ^ h >> 31) * 0xBF58476D1CE4E5B9u;
    h ^= h >> 29;
    return ((double)(h >> 11) / 9007199254740992.0 - 0.5) * sqrt(12);
}

static enum ld_code noise_draw(void *state, enum ld_noise_stream stream, double from, double to,
                               double *out, size_t count, struct ld_error *err)
{
    struct noise *noise = state;
    (void)stream;
    (void)from;
    (void)to;
    noise->draws++;
    if (noise->draws == noise->fail_at)
        return LD_FAIL(err, LD_E_NOMEM, "no noise left");
    for (size_t i = 0; i < count; i++)
        out[i] = value_at(noise->draws, noise->offset + i);
    return LD_OK;
}

/* ---- Denoisers
 * -------------------------------------------------------------------------------------- */

enum model { CONSTANT, GAUSSIAN, CURVED };

/* Standard deviation of the Gaussian data: D = s^2 x / (s^2 + sigma^2). */
static const double data_spread = 0.7;

static void denoise(enum model model, const double *x, double sigma, size_t offset, size_t count,
                    double *d, double *u)
{
    for (size_t i = 0; i < count; i++) {
        const double variance = data_spread * data_spread;
        if (model == CONSTANT)
            d[i] = value_at(0, offset + i);
        else if (model == GAUSSIAN)
            d[i] = variance * x[i] / (variance + sigma * sigma);
        else
            d[i] = tanh(x[i] / (1 + sigma)) + 0.1 * value_at(0, offset + i);
        u[i] = model == CONSTANT ? 2 * d[i] : 0.9 * d[i];
    }
}

/* ---- Running
 * ----------------------------------------------------------------------------------------- */

struct run {
    const char *name;
    const double *sigmas;
    uint32_t sigma_count;
    const int32_t *timesteps;
    struct ld_sampler_options options;
    enum model model;
    size_t offset, count;
    double x[COUNT];
    struct noise noise;
    uint32_t calls, step_max;
    enum ld_code code;
};

static void run_sampler(struct run *run)
{
    struct ld_arena arena;
    struct ld_error err = {0};
    struct ld_sampler *sampler;
    struct ld_sampler_eval eval;
    double d[COUNT];
    double u[COUNT];
    const struct ld_noise_source source = {&run->noise, noise_draw};
    const struct ld_sampler_config config = {.name = run->name,
                                             .sigmas = run->sigmas,
                                             .sigma_count = run->sigma_count,
                                             .timesteps = run->timesteps,
                                             .count = run->count,
                                             .options = run->options};
    ld_arena_init(&arena, "test", ARENA_BYTES);
    run->noise.offset = run->offset;
    run->code = ld_sampler_create(&sampler, &arena, &config, &source, run->x, &err);
    while (run->code == LD_OK && ld_sampler_next(sampler, &eval) == LD_SAMPLER_EVAL) {
        assert_int_equal(eval.call, run->calls);
        assert_true(run->calls++ < CALLS_MAX);
        run->step_max = eval.step > run->step_max ? eval.step : run->step_max;
        denoise(run->model, eval.x, eval.sigma, run->offset, run->count, d, u);
        run->code = ld_sampler_accept(sampler, d, eval.needs_uncond ? u : NULL, &err);
        if (run->code != LD_OK)
            assert_int_equal(ld_sampler_next(sampler, &eval), LD_SAMPLER_FAILED);
    }
    ld_arena_deinit(&arena);
}

static struct run run_of(const char *name, const double *sigmas, uint32_t sigma_count)
{
    struct run run = {.name = name,
                      .sigmas = sigmas,
                      .sigma_count = sigma_count,
                      .options = ld_sampler_options_default(),
                      .model = CURVED,
                      .count = COUNT};
    for (size_t i = 0; i < COUNT; i++)
        run.x[i] = sigmas && sigma_count > 0 ? sigmas[0] * value_at(1000, i) : value_at(1000, i);
    return run;
}

/* A schedule as the program would build it for this sampler; false where it has no step. */
static bool schedule_for(struct ld_schedule *schedule, struct ld_arena *arena,
                         const struct ld_sampler_info *info, uint32_t steps, bool a1111)
{
    static struct ld_sigma_table table;
    struct ld_error err = {0};
    struct ld_schedule_options options = ld_schedule_options_default();
    ld_sigma_table_init(&table, &(struct ld_sigma_table_config){
                                    .profile = a1111 ? LD_PROFILE_A1111 : LD_PROFILE_COMFY});
    options.table = &table;
    options.scheduler = "karras";
    options.sampler = info;
    options.steps = steps;
    assert_int_equal(ld_schedule_build(schedule, arena, &options, &err), LD_OK);
    return schedule->sigma_count > 1;
}

static void run_scheduled(struct run *run, const char *name, uint32_t steps, bool a1111,
                          enum model model)
{
    struct ld_arena arena;
    struct ld_schedule schedule;
    ld_arena_init(&arena, "schedule", ARENA_BYTES);
    assert_true(schedule_for(&schedule, &arena, ld_sampler_info_find(name), steps, a1111));
    *run = run_of(name, schedule.sigmas, schedule.sigma_count);
    run->timesteps = schedule.timesteps;
    run->options.a1111 = a1111;
    run->model = model;
    run_sampler(run);
    assert_int_equal(run->code, LD_OK);
    ld_arena_deinit(&arena);
}

/* ---- The contract
 * -------------------------------------------------------------------------------------- */

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

/* ---- Lists of sigmas
 * ----------------------------------------------------------------------------------- */

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

/* ---- Where a run must end
 * ------------------------------------------------------------------------------- */

/* For Gaussian data x / sqrt(s^2 + sigma^2) is constant along the flow. */
static void deterministic_samplers_follow_the_exact_flow(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double room;
    } samplers[] = {
        {"euler", 0.04},         {"heun", 2e-3},
        {"heunpp2", 0.04},       {"dpm_2", 3e-3},
        {"lms", 2e-3},           {"dpmpp_2m", 2e-3},
        {"ipndm", 5e-3},         {"ipndm_v", 5e-3},
        {"deis", 2e-3},          {"res_multistep", 0.04},
        {"uni_pc", 2e-3},        {"uni_pc_bh2", 2e-3},
        {"dpm_fast", 2e-3},      {"gradient_estimation", 0.04},
        {"ddim_trailing", 0.04}, {"plms", 0.04},
    };
    for (size_t k = 0; k < sizeof samplers / sizeof samplers[0]; k++) {
        struct run run;
        run_scheduled(&run, samplers[k].name, 60, false, GAUSSIAN);
        const bool vp = (ld_sampler_info_find(run.name)->traits & LD_SAMPLER_VP) != 0;
        const double sigma_first =
            vp ? (strcmp(run.name, "plms") == 0 ? 14.3776 : 14.6146) : 14.6146;
        const double gain =
            data_spread / sqrt(data_spread * data_spread + sigma_first * sigma_first);
        for (size_t i = 0; i < COUNT; i++) {
            const double exact = sigma_first * value_at(1000, i) * gain;
            if (!(fabs(run.x[i] - exact) <= samplers[k].room))
                print_message("%s: %g instead of %g\n", run.name, run.x[i], exact);
            assert_true(fabs(run.x[i] - exact) <= samplers[k].room);
        }
    }
}

static void dpm_adaptive_gets_closer_with_a_tighter_tolerance(void **state)
{
    (void)state;
    static const double sigmas[] = {14.6, 5, 0.03, 0};
    static const struct {
        double rtol, room;
    } cases[] = {{0.05, 0.05}, {0.005, 0.03}, {0.0005, 0.01}};
    uint32_t calls = 0;
    for (size_t k = 0; k < 3; k++) {
        struct run run = run_of("dpm_adaptive", sigmas, 4);
        run.model = GAUSSIAN;
        run.options.rtol = cases[k].rtol;
        run.options.atol = cases[k].rtol / 10;
        run_sampler(&run);
        assert_int_equal(run.code, LD_OK);
        assert_true(run.calls > calls);
        calls = run.calls;
        const double variance = data_spread * data_spread;
        const double gain = sqrt((variance + 0.03 * 0.03) / (variance + 14.6 * 14.6));
        for (size_t i = 0; i < COUNT; i++)
            assert_true(fabs(run.x[i] / (14.6 * value_at(1000, i) * gain) - 1) < cases[k].room);
    }
}

/* Stochastic samplers must leave data of the right spread. */
static void stochastic_samplers_keep_the_spread(void **state)
{
    (void)state;
    static const char *const samplers[] = {"euler_ancestral",
                                           "dpm_2_ancestral",
                                           "dpmpp_2s_ancestral",
                                           "dpmpp_2m_sde",
                                           "dpmpp_2m_sde_heun",
                                           "dpmpp_3m_sde",
                                           "ddpm",
                                           "res_multistep_ancestral",
                                           "er_sde",
                                           "seeds_2",
                                           "seeds_3",
                                           "sa_solver",
                                           "sa_solver_pece",
                                           "restart"};
    for (size_t k = 0; k < sizeof samplers / sizeof samplers[0]; k++) {
        struct run run;
        run_scheduled(&run, samplers[k], 60, false, GAUSSIAN);
        double sum = 0;
        for (size_t i = 0; i < COUNT; i++)
            sum += run.x[i] * run.x[i];
        const double spread = sqrt(sum / COUNT);
        if (!(fabs(spread / data_spread - 1) < 0.3))
            print_message("%s: spread %g\n", samplers[k], spread);
        assert_true(fabs(spread / data_spread - 1) < 0.3);
    }
}

/* ---- Options and profiles
 * --------------------------------------------------------------------------------- */

static void churn_draws_as_the_profile_does(void **state)
{
    (void)state;
    static const double sigmas[] = {14.6, 7, 3, 1, 0.3, 0};
    struct run run = run_of("euler", sigmas, 6);
    run_sampler(&run);
    assert_int_equal(run.noise.draws, 0);
    run = run_of("euler", sigmas, 6);
    run.options.a1111 = true; /* draws and discards on every step */
    run_sampler(&run);
    assert_int_equal(run.noise.draws, 5);
    run = run_of("euler", sigmas, 6);
    run.options.s_churn = 2;
    run.options.s_tmin = 0.5;
    run.options.s_tmax = 10;
    run_sampler(&run);
    assert_int_equal(run.noise.draws, 3); /* sigmas 7, 3, 1 */
}

static void restart_jumps_back_once_or_twice(void **state)
{
    (void)state;
    static const struct {
        uint32_t steps, jumps;
    } cases[] = {{19, 0}, {20, 1}, {35, 1}, {36, 2}, {60, 2}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct run run;
        run_scheduled(&run, "restart", cases[k].steps, true, GAUSSIAN);
        assert_int_equal(run.noise.draws, cases[k].jumps);
        assert_int_equal(run.calls, 2 * cases[k].steps - 1);
    }
}

static void extrapolating_the_last_step_is_an_option(void **state)
{
    (void)state;
    static const double sigmas[] = {14.6, 7, 3, 1, 0.3, 0};
    static const char *const samplers[] = {"gradient_estimation", "lms", "ipndm", "ipndm_v"};
    for (size_t k = 0; k < 4; k++) {
        struct run plain = run_of(samplers[k], sigmas, 6);
        struct run old = plain;
        old.options.extrapolate_last = true;
        run_sampler(&plain);
        run_sampler(&old);
        assert_memory_not_equal(plain.x, old.x, sizeof plain.x);
    }
    /* gradient_estimation: x += (g d + (1 - g) d_prev)(0 - sigma), on a constant estimate. */
    struct run run = run_of("gradient_estimation", (const double[]){2, 1, 0}, 3);
    const double start = run.x[0];
    run.model = CONSTANT;
    run.options.extrapolate_last = true;
    run_sampler(&run);
    const double d0 = (start - value_at(0, 0)) / 2;
    const double middle = start - d0;
    const double d1 = middle - value_at(0, 0);
    assert_true(fabs(run.x[0] - (middle - (2 * d1 - d0))) < 1e-12);
}

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

/* ---- Arithmetic
 * -------------------------------------------------------------------------------------------- */

static void lincomb_sums_in_order_and_in_place(void **state)
{
    (void)state;
    enum { SIZE = 1300 }; /* two chunks and a rest */
    static double a[SIZE];
    static double b[SIZE];
    static double whole[SIZE];
    static double cut[SIZE];
    for (size_t i = 0; i < SIZE; i++) {
        a[i] = value_at(1, i);
        b[i] = value_at(2, i);
    }
    const struct ld_term terms[] = {{0.3, a}, {-1.7, b}, {2.5, a}};
    ld_lincomb(whole, terms, 3, SIZE);
    for (size_t i = 0; i < SIZE; i++)
        assert_true(whole[i] == 0.3 * a[i] + -1.7 * b[i] + 2.5 * a[i]);
    for (size_t start = 0; start < SIZE;) {
        const size_t size = SIZE - start < 77 ? SIZE - start : 77;
        const struct ld_term part[] = {{0.3, a + start}, {-1.7, b + start}, {2.5, a + start}};
        ld_lincomb(cut + start, part, 3, size);
        start += size;
    }
    assert_memory_equal(whole, cut, sizeof whole);
    ld_lincomb(a, terms, 3, SIZE);
    assert_memory_equal(whole, a, sizeof whole);
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
        cmocka_unit_test(deterministic_samplers_follow_the_exact_flow),
        cmocka_unit_test(dpm_adaptive_gets_closer_with_a_tighter_tolerance),
        cmocka_unit_test(stochastic_samplers_keep_the_spread),
        cmocka_unit_test(churn_draws_as_the_profile_does),
        cmocka_unit_test(restart_jumps_back_once_or_twice),
        cmocka_unit_test(extrapolating_the_last_step_is_an_option),
        cmocka_unit_test(names_of_every_dialect_are_known),
        cmocka_unit_test(every_name_label_and_alias_leads_to_its_own_sampler),
        cmocka_unit_test(lincomb_sums_in_order_and_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
