/*
 * DPM-Solver++ SDE: two evaluations a step, noise from a Brownian path. Both draws of a step start
 * at its sigma, so they overlap and are correlated; the noise source sees to that.
 *
 * Source: Lu et al. 2022, arXiv:2211.01095; sampling.md 3.1.
 */
#include "runtime/sample/sampler_frame.h"

#include <math.h>

enum { NOISE, X2, FIRST, SLOTS };

/* dst = (a / sigma) x + (1 - a / sigma) (v D1 + w D2) + noise, ancestral from sigma to `target`. */
static enum ld_code go_to(struct ld_sampler *s, double target, double *dst, double v, double w,
                          struct ld_error *err)
{
    double down;
    double up;
    ld_ancestral_split(s->sigma, target, s->options.eta, &down, &up);
    const double keep = down / s->sigma;
    LD_COMBINE(s, dst, {keep, s->x}, {(1 - keep) * v, s->slot[FIRST]},
               {(1 - keep) * w, s->denoised});
    if (s->options.eta == 0)
        return LD_OK;
    const enum ld_code code =
        ld_sampler_draw(s, LD_NOISE_BROWNIAN, s->sigma, target, s->slot[NOISE], err);
    if (code == LD_OK)
        LD_COMBINE(s, dst, {1, dst}, {up * s->options.s_noise, s->slot[NOISE]});
    return code;
}

static double middle_of(const struct ld_sampler *s)
{
    const double r = s->options.r;
    return exp((1 - r) * log(s->sigma) + r * log(s->sigma_next));
}

static double noise_to(const struct ld_sampler *s)
{
    return s->phase == 0 && s->sigma_next > 0 ? middle_of(s) : s->sigma_next;
}

static enum ld_code dpmpp_sde_step(struct ld_sampler *s, struct ld_error *err)
{
    if (s->sigma_next == 0) {
        ld_sampler_take(s, s->denoised);
        return LD_OK;
    }
    const double r = s->options.r;
    if (s->phase == 0) {
        const double middle = middle_of(s);
        LD_COMBINE(s, s->slot[FIRST], {1, s->denoised});
        const enum ld_code code = go_to(s, middle, s->slot[X2], 0, 1, err);
        ld_sampler_ask(s, s->slot[X2], middle);
        return code;
    }
    const double f = 1 / (2 * r);
    return go_to(s, s->sigma_next, s->x, 1 - f, f, err);
}

const struct ld_sampler_kind ld_kind_dpmpp_sde = {
    .slots = SLOTS, .noise_to = noise_to, .step = dpmpp_sde_step};
