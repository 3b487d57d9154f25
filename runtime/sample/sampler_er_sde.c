/*
 * Extended reverse-time SDE solver, orders 1 to 3.
 *
 * Source: Cui et al. 2023, arXiv:2309.06169; sampling.md 3.2.
 */
#include "runtime/sample/sampler_frame.h"

#include <math.h>

enum { NOISE, PREV, DIFF, DIFF_PREV, SLOTS };

/* The noise scale function of the paper's ER-SDE 5. */
static double noise_scale(double sigma)
{
    return sigma * (exp(pow(sigma, 0.3)) + 10);
}

/* Riemann sums of 1/f and (p - sigma)/f over the step, with the reference's 200 points. */
static void integrals(double sigma, double sigma_next, double *plain, double *linear)
{
    enum { POINTS = 200 };
    const double width = (sigma - sigma_next) / POINTS;
    *plain = 0;
    *linear = 0;
    for (int k = 0; k < POINTS; k++) {
        const double p = sigma_next + k * width;
        *plain += width / noise_scale(p);
        *linear += width * (p - sigma) / noise_scale(p);
    }
}

static enum ld_code er_sde_step(struct ld_sampler *s, struct ld_error *err)
{
    if (s->sigma_next == 0) {
        ld_sampler_take(s, s->denoised);
        return LD_OK;
    }
    const double f = noise_scale(s->sigma_next);
    const double r = f / noise_scale(s->sigma);
    const double dt = s->sigma_next - s->sigma;
    const uint32_t order_max = (uint32_t)s->options.order;
    const uint32_t order = s->i + 1 < order_max ? s->i + 1 : order_max;
    LD_COMBINE(s, s->x, {r, s->x}, {1 - r, s->denoised});
    if (order >= 2) {
        double plain;
        double linear;
        integrals(s->sigma, s->sigma_next, &plain, &linear);
        const double span = s->sigma - s->sigmas[s->i - 1];
        LD_COMBINE(s, s->slot[DIFF], {1 / span, s->denoised}, {-1 / span, s->slot[PREV]});
        LD_COMBINE(s, s->x, {1, s->x}, {dt + plain * f, s->slot[DIFF]});
        if (order >= 3) {
            const double half = (s->sigma - s->sigmas[s->i - 2]) / 2;
            const double c = (dt * dt / 2 + linear * f) / half;
            LD_COMBINE(s, s->x, {1, s->x}, {c, s->slot[DIFF]}, {-c, s->slot[DIFF_PREV]});
        }
        ld_slot_swap(s, DIFF, DIFF_PREV);
    }
    LD_COMBINE(s, s->slot[PREV], {1, s->denoised});
    const double variance = s->sigma_next * s->sigma_next - s->sigma * s->sigma * r * r;
    return ld_sampler_add_noise(s, sqrt(fmax(variance, 0)), s->slot[NOISE], err);
}

const struct ld_sampler_kind ld_kind_er_sde = {.slots = SLOTS, .step = er_sde_step};
