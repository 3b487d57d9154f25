/*
 * Runs a sampler on a denoiser known exactly, with noise that depends on draw and element alone:
 * a constant, whose estimate is the answer; a Gaussian, whose probability flow has a closed form;
 * a curved one for everything else.
 */
#ifndef LD_TESTS_SAMPLER_RUN_H
#define LD_TESTS_SAMPLER_RUN_H

#include "runtime/sample/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { COUNT = 60, ARENA_BYTES = 16 << 20, CALLS_MAX = 4000 };

/* ---- Noise that depends on draw and element alone -------------------------------------------- */

struct noise {
    uint32_t draws;
    size_t offset;    /* of the part of the tensor this sampler works on */
    uint32_t fail_at; /* draw that fails, counted from 1; 0: none */
};

static inline double value_at(uint64_t draw, uint64_t element)
{
    uint64_t h = (draw + 1) * 0x9E3779B97F4A7C15u ^ (element + 1) * 0xC2B2AE3D27D4EB4Fu;
    h = (h ^ h >> 31) * 0xBF58476D1CE4E5B9u;
    h ^= h >> 29;
    return ((double)(h >> 11) / 9007199254740992.0 - 0.5) * sqrt(12);
}

static inline enum ld_code noise_draw(void *state, enum ld_noise_stream stream, double from,
                                      double to, double *out, size_t count, struct ld_error *err)
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

/* ---- Denoisers ------------------------------------------------------------------------------- */

enum model { CONSTANT, GAUSSIAN, CURVED };

/* Standard deviation of the Gaussian data: D = s^2 x / (s^2 + sigma^2). */
static const double data_spread = 0.7;

static inline void denoise(enum model model, const double *x, double sigma, size_t offset,
                           size_t count, double *d, double *u)
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

/* ---- Running --------------------------------------------------------------------------------- */

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

static inline void run_sampler(struct run *run)
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

static inline struct run run_of(const char *name, const double *sigmas, uint32_t sigma_count)
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
static inline bool schedule_for(struct ld_schedule *schedule, struct ld_arena *arena,
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

static inline void run_scheduled(struct run *run, const char *name, uint32_t steps, bool a1111,
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

#endif
