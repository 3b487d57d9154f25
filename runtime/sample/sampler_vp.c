/*
 * Samplers that walk integer timesteps in variance preserving scale: DDIM (trailing, and A1111's
 * grid), PLMS, TCD and LCM. x is kept in VP scale here; the denoiser is asked in sigma space, where
 * x_sigma = x / sqrt(a) and eps = (x_sigma - D) / sigma with a = alphas_cumprod[t].
 *
 * Source: Song et al. 2020, arXiv:2010.02502 (DDIM); Liu et al. 2022, arXiv:2202.09778 (PLMS);
 * Zheng et al. 2024, arXiv:2402.19159 (TCD); Luo et al. 2023, arXiv:2310.04378 (LCM);
 * sampling.md 3.5.
 */
#include "runtime/sample/sampler_frame.h"

#include <math.h>

enum {
    NOISE,
    ASKED, /* x in sigma space */
    EPS,   /* slots EPS .. EPS + 3: noise estimates, newest first (PLMS) */
    EPS_COUNT = 4,
    SLOTS = EPS + EPS_COUNT
};

struct state {
    const int32_t *list; /* decreasing; s->steps of them are evaluated */
    bool lone;           /* a grid of one entry, which would evaluate nothing */
    int32_t stride;      /* ddim_trailing: timesteps a step goes down; 0: to the next entry */
};

/* ---- Frame ----------------------------------------------------------------------------------- */

static double alpha_at(const struct ld_sampler *s, int32_t timestep)
{
    return s->table->alphas_cumprod[timestep < 0 ? 0 : timestep];
}

static double sigma_at(double alpha)
{
    return sqrt((1 - alpha) / alpha);
}

/* Callers that have sigmas only get the nearest timesteps. */
static enum ld_code take_timesteps(struct ld_sampler *s, struct ld_error *err)
{
    struct state *state = s->state;
    state->list = s->timesteps;
    if (s->timesteps)
        return LD_OK;
    int32_t *list = ld_arena_calloc(s->arena, s->steps, sizeof *list);
    if (!list)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the sampler");
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->steps; i++) {
        const double t = rint(ld_sigma_to_timestep(s->table, s->sigmas[i]));
        const int32_t timestep = (int32_t)t;
        if (count == 0 || timestep < list[count - 1])
            list[count++] = timestep;
    }
    state->list = list;
    s->steps = count;
    return LD_OK;
}

static enum ld_code begin_all(struct ld_sampler *s, struct ld_error *err)
{
    struct state *state = s->state;
    const enum ld_code code = take_timesteps(s, err);
    if (code != LD_OK)
        return code;
    for (uint32_t i = 1; i < s->steps; i++)
        if (state->list[i] >= state->list[i - 1])
            return LD_FAIL(err, LD_E_RANGE, "timesteps must be decreasing");
    LD_COMBINE(s, s->x, {sqrt(alpha_at(s, state->list[0])), s->x});
    return LD_OK;
}

/* A1111's grid: from entry to entry, the lowest one is never evaluated. With one entry alone
 * nothing would run; its estimate is taken as the result instead. */
static enum ld_code begin_grid(struct ld_sampler *s, struct ld_error *err)
{
    struct state *state = s->state;
    const enum ld_code code = begin_all(s, err);
    state->lone = s->steps == 1;
    if (code == LD_OK && !state->lone)
        s->steps--;
    return code;
}

/* Diffusers' DDIM goes down by 1000 div n whatever the next entry is (they differ where n does not
 * divide 1000); a list that is not the trailing spacing is walked from entry to entry. */
static enum ld_code begin_trailing(struct ld_sampler *s, struct ld_error *err)
{
    struct state *state = s->state;
    const enum ld_code code = begin_all(s, err);
    if (code != LD_OK || s->timestep_total < s->steps || s->timestep_total > LD_TIMESTEPS)
        return code;
    state->stride = (int32_t)(LD_TIMESTEPS / s->timestep_total);
    for (uint32_t i = 0; i < s->steps; i++) {
        const double left = (double)(s->steps - i) * LD_TIMESTEPS / s->timestep_total;
        if (state->list[i] != (int32_t)rint(left) - 1)
            state->stride = 0;
    }
    return code;
}

static void ask_at(struct ld_sampler *s, const double *x, int32_t timestep)
{
    const double alpha = alpha_at(s, timestep);
    LD_COMBINE(s, s->slot[ASKED], {1 / sqrt(alpha), x});
    ld_sampler_ask(s, s->slot[ASKED], sigma_at(alpha));
}

static enum ld_code vp_open(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    const struct state *state = s->state;
    ask_at(s, s->x, state->list[s->i]);
    return LD_OK;
}

static void take_eps(struct ld_sampler *s, double *dst)
{
    LD_COMBINE(s, dst, {1 / s->ask_sigma, s->slot[ASKED]}, {-1 / s->ask_sigma, s->denoised});
}

static enum ld_code draw(struct ld_sampler *s, struct ld_error *err)
{
    return ld_sampler_draw(s, LD_NOISE_ANCESTRAL, s->sigma, s->sigma_next, s->slot[NOISE], err);
}

/* ---- DDIM ------------------------------------------------------------------------------------ */

static enum ld_code ddim_to(struct ld_sampler *s, double alpha, double alpha_prev, bool always_draw,
                            struct ld_error *err)
{
    const double spread =
        s->options.eta * sqrt((1 - alpha_prev) / (1 - alpha) * (1 - alpha / alpha_prev));
    const double direction = sqrt(fmax(1 - alpha_prev - spread * spread, 0));
    take_eps(s, s->slot[EPS]);
    LD_COMBINE(s, s->x, {sqrt(alpha_prev), s->denoised}, {direction, s->slot[EPS]});
    if (s->options.eta == 0 && !always_draw)
        return LD_OK;
    const enum ld_code code = draw(s, err);
    if (code == LD_OK)
        LD_COMBINE(s, s->x, {1, s->x}, {spread * s->options.s_noise, s->slot[NOISE]});
    return code;
}

static enum ld_code ddim_trailing_step(struct ld_sampler *s, struct ld_error *err)
{
    const struct state *state = s->state;
    const int32_t t = state->list[s->i];
    const int32_t next = s->i + 1 < s->steps ? state->list[s->i + 1] : -1; /* -1: as 0 */
    const int32_t previous = state->stride > 0 ? t - state->stride : next;
    return ddim_to(s, alpha_at(s, t), alpha_at(s, previous), false, err);
}

static enum ld_code ddim_step(struct ld_sampler *s, struct ld_error *err)
{
    const struct state *state = s->state;
    if (state->lone) {
        ld_sampler_take(s, s->denoised);
        return LD_OK;
    }
    return ddim_to(s, alpha_at(s, state->list[s->i]), alpha_at(s, state->list[s->i + 1]), true,
                   err);
}

/* ---- PLMS ------------------------------------------------------------------------------------ */

/* x_prev for a noise estimate given as a sum: sqrt(a') x0 + sqrt(1 - a') e, x0 from x and e. */
static void plms_move(struct ld_sampler *s, double *dst, const struct ld_term *eps, uint32_t n)
{
    const struct state *state = s->state;
    const double alpha = alpha_at(s, state->list[s->i]);
    const double alpha_prev = alpha_at(s, state->list[s->i + 1]);
    const double ratio = sqrt(alpha_prev / alpha);
    const double weight = sqrt(1 - alpha_prev) - ratio * sqrt(1 - alpha);
    struct ld_term terms[EPS_COUNT + 1] = {{ratio, s->x}};
    for (uint32_t j = 0; j < n; j++)
        terms[j + 1] = (struct ld_term){weight * eps[j].weight, eps[j].x};
    ld_lincomb(dst, terms, n + 1, s->count);
}

static void push_eps(struct ld_sampler *s)
{
    double *oldest = s->slot[EPS + EPS_COUNT - 1];
    for (uint32_t j = EPS_COUNT - 1; j > 0; j--)
        s->slot[EPS + j] = s->slot[EPS + j - 1];
    s->slot[EPS] = oldest;
    take_eps(s, s->slot[EPS]);
}

/* The first step averages the slopes of both its ends, later ones extrapolate from earlier
 * estimates. */
static enum ld_code plms_step(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    static const double adams_bashforth[EPS_COUNT][EPS_COUNT] = {
        {1},
        {3.0 / 2, -1.0 / 2},
        {23.0 / 12, -16.0 / 12, 5.0 / 12},
        {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24},
    };
    const struct state *state = s->state;
    double *const *eps = &s->slot[EPS];
    if (state->lone) {
        ld_sampler_take(s, s->denoised);
        return LD_OK;
    }
    if (s->phase == 1) {
        take_eps(s, s->slot[NOISE]);
        const struct ld_term mean[] = {{0.5, eps[0]}, {0.5, s->slot[NOISE]}};
        plms_move(s, s->x, mean, 2);
        return LD_OK;
    }
    push_eps(s);
    if (s->i == 0) {
        plms_move(s, s->slot[NOISE], &(struct ld_term){1, eps[0]}, 1);
        ask_at(s, s->slot[NOISE], state->list[1]);
        return LD_OK;
    }
    const uint32_t order = s->i < EPS_COUNT ? s->i + 1 : EPS_COUNT;
    struct ld_term terms[EPS_COUNT];
    for (uint32_t j = 0; j < order; j++)
        terms[j] = (struct ld_term){adams_bashforth[order - 1][j], eps[j]};
    plms_move(s, s->x, terms, order);
    return LD_OK;
}

/* ---- TCD and LCM ----------------------------------------------------------------------------- */

static enum ld_code tcd_step(struct ld_sampler *s, struct ld_error *err)
{
    const struct state *state = s->state;
    const bool last = s->i + 1 == s->steps;
    const double gamma = s->options.eta;
    const int32_t previous = last ? 0 : state->list[s->i + 1];
    /* Jump below the next timestep, then noise back up to it. */
    const double alpha_below = alpha_at(s, (int32_t)floor((1 - gamma) * previous));
    take_eps(s, s->slot[EPS]);
    LD_COMBINE(s, s->x, {sqrt(alpha_below), s->denoised}, {sqrt(1 - alpha_below), s->slot[EPS]});
    if (gamma == 0 || last)
        return LD_OK;
    const enum ld_code code = draw(s, err);
    const double ratio = alpha_at(s, previous) / alpha_below;
    if (code == LD_OK)
        LD_COMBINE(s, s->x, {sqrt(ratio), s->x},
                   {sqrt(fmax(1 - ratio, 0)) * s->options.s_noise, s->slot[NOISE]});
    return code;
}

/* The boundary condition of consistency models, sigma_data^2 = 1/4 and timestep scaling 10. */
static enum ld_code lcm_trailing_step(struct ld_sampler *s, struct ld_error *err)
{
    const struct state *state = s->state;
    const double scaled = 10.0 * state->list[s->i];
    const double c_skip = 0.25 / (scaled * scaled + 0.25);
    const double c_out = scaled / sqrt(scaled * scaled + 0.25);
    LD_COMBINE(s, s->x, {c_skip, s->x}, {c_out, s->denoised});
    if (s->i + 1 == s->steps)
        return LD_OK;
    const double alpha = alpha_at(s, state->list[s->i + 1]);
    const enum ld_code code = draw(s, err);
    if (code == LD_OK)
        LD_COMBINE(s, s->x, {sqrt(alpha), s->x},
                   {sqrt(1 - alpha) * s->options.s_noise, s->slot[NOISE]});
    return code;
}

#define VP_SPACE .state_size = sizeof(struct state), .slots = SLOTS, .open = vp_open

const struct ld_sampler_kind ld_kind_ddim = {VP_SPACE, .begin = begin_grid, .step = ddim_step};
const struct ld_sampler_kind ld_kind_plms = {VP_SPACE, .begin = begin_grid, .step = plms_step};
const struct ld_sampler_kind ld_kind_ddim_trailing = {VP_SPACE, .begin = begin_trailing,
                                                      .step = ddim_trailing_step};
const struct ld_sampler_kind ld_kind_tcd = {VP_SPACE, .begin = begin_all, .step = tcd_step};
const struct ld_sampler_kind ld_kind_lcm_trailing = {VP_SPACE, .begin = begin_all,
                                                     .step = lcm_trailing_step};
