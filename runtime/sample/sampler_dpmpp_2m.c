/*
 * DPM-Solver++ multistep: 2M, its SDE forms of second and third order, and 2M with CFG++. One
 * evaluation a step, earlier estimates give the higher order.
 *
 * Source: Lu et al. 2022, arXiv:2211.01095, algorithm 2; Chung et al. 2024, arXiv:2406.08070;
 * sampling.md 3.2 and 3.4.
 */
#include "runtime/sample/sampler_frame.h"

#include <math.h>

enum { NOISE, PREV1, PREV2, SLOTS };

struct history {
    double h1, h2; /* step sizes in ln sigma of the last step and the one before */
};

/* ---- 2M -------------------------------------------------------------------------------------- */

static enum ld_code dpmpp_2m_step(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    const struct history *state = s->state;
    if (s->sigma_next == 0) {
        ld_sampler_take(s, s->denoised);
        return LD_OK;
    }
    const double h = log(s->sigma / s->sigma_next);
    const double keep = s->sigma_next / s->sigma;
    const double take = -expm1(-h);
    if (s->i == 0) {
        LD_COMBINE(s, s->x, {keep, s->x}, {take, s->denoised});
    } else {
        const double c = 1 / (2 * state->h1 / h);
        LD_COMBINE(s, s->x, {keep, s->x}, {take * (1 + c), s->denoised},
                   {-take * c, s->slot[PREV1]});
    }
    LD_COMBINE(s, s->slot[PREV1], {1, s->denoised});
    ((struct history *)s->state)->h1 = h;
    return LD_OK;
}

static enum ld_code dpmpp_2m_cfg_pp_step(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    struct history *state = s->state;
    if (s->sigma_next == 0) {
        ld_sampler_take(s, s->denoised);
        return LD_OK;
    }
    const double h = log(s->sigma / s->sigma_next);
    const double q = s->sigma_next / s->sigma;
    const double c = s->i == 0 ? 0 : -expm1(-h) / (2 * state->h1 / h);
    LD_COMBINE(s, s->x, {q, s->x}, {1 + c, s->denoised}, {-q, s->uncond}, {-c, s->slot[PREV1]});
    LD_COMBINE(s, s->slot[PREV1], {1, s->uncond});
    state->h1 = h;
    return LD_OK;
}

/* ---- SDE ------------------------------------------------------------------------------------- */

/* x = (sigma'/sigma) e^(-h eta) x - expm1(-g) D, what all SDE forms start with. */
static void sde_base(struct ld_sampler *s, double h)
{
    const double eta = s->options.eta;
    LD_COMBINE(s, s->x, {s->sigma_next / s->sigma * exp(-h * eta), s->x},
               {-expm1(-h * (1 + eta)), s->denoised});
}

static enum ld_code sde_noise(struct ld_sampler *s, double h, struct ld_error *err)
{
    const double eta = s->options.eta;
    if (eta == 0)
        return LD_OK;
    const enum ld_code code =
        ld_sampler_draw(s, LD_NOISE_BROWNIAN, s->sigma, s->sigma_next, s->slot[NOISE], err);
    const double scale = s->sigma_next * sqrt(-expm1(-2 * h * eta)) * s->options.s_noise;
    if (code == LD_OK)
        LD_COMBINE(s, s->x, {1, s->x}, {scale, s->slot[NOISE]});
    return code;
}

/* D joins the history; what was newest becomes the one before. */
static void remember(struct ld_sampler *s, double h)
{
    struct history *state = s->state;
    ld_slot_swap(s, PREV1, PREV2);
    LD_COMBINE(s, s->slot[PREV1], {1, s->denoised});
    state->h2 = state->h1;
    state->h1 = h;
}

static enum ld_code sde_2m(struct ld_sampler *s, bool heun, struct ld_error *err)
{
    const struct history *state = s->state;
    if (s->sigma_next == 0) {
        ld_sampler_take(s, s->denoised);
        return LD_OK;
    }
    const double h = log(s->sigma / s->sigma_next);
    const double g = h * (1 + s->options.eta);
    sde_base(s, h);
    if (s->i > 0) {
        const double r = state->h1 / h;
        const double c = heun ? (expm1(-g) / g + 1) / r : -0.5 * expm1(-g) / r;
        LD_COMBINE(s, s->x, {1, s->x}, {c, s->denoised}, {-c, s->slot[PREV1]});
    }
    remember(s, h);
    return sde_noise(s, h, err);
}

static enum ld_code dpmpp_2m_sde_step(struct ld_sampler *s, struct ld_error *err)
{
    return sde_2m(s, s->options.solver_heun, err);
}

static enum ld_code dpmpp_2m_sde_heun_step(struct ld_sampler *s, struct ld_error *err)
{
    return sde_2m(s, true, err);
}

static enum ld_code dpmpp_3m_sde_step(struct ld_sampler *s, struct ld_error *err)
{
    const struct history *state = s->state;
    if (s->sigma_next == 0) {
        ld_sampler_take(s, s->denoised);
        return LD_OK;
    }
    const double h = log(s->sigma / s->sigma_next);
    const double g = h * (1 + s->options.eta);
    const double phi2 = expm1(-g) / g + 1;
    const double phi3 = phi2 / g - 0.5;
    sde_base(s, h);
    if (s->i == 1) {
        const double c = phi2 / (state->h1 / h);
        LD_COMBINE(s, s->x, {1, s->x}, {c, s->denoised}, {-c, s->slot[PREV1]});
    } else if (s->i > 1) {
        /* phi2 d1 - phi3 d2 with d1 = A + (A - B) r0 / (r0 + r1), d2 = (A - B) / (r0 + r1),
         * A = (D - D1) / r0, B = (D1 - D2) / r1, collected by A and B. */
        const double r0 = state->h1 / h;
        const double r1 = state->h2 / h;
        const double lean = (phi2 * r0 - phi3) / (r0 + r1);
        const double a = (phi2 + lean) / r0;
        const double b = -lean / r1;
        LD_COMBINE(s, s->x, {1, s->x}, {a, s->denoised}, {b - a, s->slot[PREV1]},
                   {-b, s->slot[PREV2]});
    }
    remember(s, h);
    return sde_noise(s, h, err);
}

#define WITH_HISTORY .state_size = sizeof(struct history), .slots = SLOTS

const struct ld_sampler_kind ld_kind_dpmpp_2m = {WITH_HISTORY, .step = dpmpp_2m_step};
const struct ld_sampler_kind ld_kind_dpmpp_2m_cfg_pp = {WITH_HISTORY, .step = dpmpp_2m_cfg_pp_step};
const struct ld_sampler_kind ld_kind_dpmpp_2m_sde = {WITH_HISTORY, .step = dpmpp_2m_sde_step};
const struct ld_sampler_kind ld_kind_dpmpp_2m_sde_heun = {WITH_HISTORY,
                                                          .step = dpmpp_2m_sde_heun_step};
const struct ld_sampler_kind ld_kind_dpmpp_3m_sde = {WITH_HISTORY, .step = dpmpp_3m_sde_step};
