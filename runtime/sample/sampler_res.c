/*
 * Refined exponential solver, second order multistep, with ancestral noise and CFG++ forms.
 *
 * Source: Zhang et al. 2023, arXiv:2308.02157; sampling.md 3.2 and 3.4.
 */
#include "runtime/sample/sampler_frame.h"

#include <math.h>

enum { NOISE, PREV, SLOTS };

struct state {
    double down_prev; /* where the deterministic part of the last step ended */
};

struct weights {
    double keep, newest, prev; /* of x, D and D_prev */
};

static struct weights second_order(const struct ld_sampler *s, double down)
{
    const struct state *state = s->state;
    const double h = log(s->sigma / down);
    const double c2 = log(state->down_prev / s->sigmas[s->i - 1]) / h;
    const double phi1 = expm1(-h) / -h;
    const double phi2 = (phi1 - 1) / -h;
    const double b2 = phi2 / c2;
    const double b1 = phi1 - b2;
    return (struct weights){exp(-h), isnan(b1) ? 0 : h * b1, isnan(b2) ? 0 : h * b2};
}

static enum ld_code finish_step(struct ld_sampler *s, const double *estimate, double down,
                                double up, struct ld_error *err)
{
    LD_COMBINE(s, s->slot[PREV], {1, estimate});
    ((struct state *)s->state)->down_prev = down;
    return s->sigma_next > 0 ? ld_sampler_add_noise(s, up, s->slot[NOISE], err) : LD_OK;
}

static enum ld_code plain_step(struct ld_sampler *s, struct ld_error *err)
{
    double down;
    double up;
    ld_ancestral_split(s->sigma, s->sigma_next, s->options.eta, &down, &up);
    if (down == 0 || s->i == 0) {
        const double w = down / s->sigma;
        LD_COMBINE(s, s->x, {w, s->x}, {1 - w, s->denoised});
    } else {
        const struct weights w = second_order(s, down);
        LD_COMBINE(s, s->x, {w.keep, s->x}, {w.newest, s->denoised}, {w.prev, s->slot[PREV]});
    }
    return finish_step(s, s->denoised, down, up, err);
}

static enum ld_code cfg_pp_step(struct ld_sampler *s, struct ld_error *err)
{
    double down;
    double up;
    ld_ancestral_split(s->sigma, s->sigma_next, s->options.eta, &down, &up);
    if (down == 0 || s->i == 0) {
        const double w = down / s->sigma;
        LD_COMBINE(s, s->x, {1, s->denoised}, {w, s->x}, {-w, s->uncond});
    } else {
        const struct weights w = second_order(s, down);
        LD_COMBINE(s, s->x, {w.keep, s->x}, {w.keep, s->denoised}, {w.newest - w.keep, s->uncond},
                   {w.prev, s->slot[PREV]});
    }
    return finish_step(s, s->uncond, down, up, err);
}

const struct ld_sampler_kind ld_kind_res_multistep = {
    .state_size = sizeof(struct state), .slots = SLOTS, .step = plain_step};
const struct ld_sampler_kind ld_kind_res_multistep_cfg_pp = {
    .state_size = sizeof(struct state), .slots = SLOTS, .step = cfg_pp_step};
