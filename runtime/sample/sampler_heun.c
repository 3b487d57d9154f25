/*
 * Heun's method (second order, trapezoidal) and its three-evaluation extension heunpp2.
 *
 * Source: Karras et al. 2022, arXiv:2206.00364, algorithm 2; sampling.md 3.1.
 */
#include "runtime/sample/sampler_frame.h"

enum { NOISE, X2, D1, D2, SLOTS };

/* dst = (x - D) / sigma */
static void slope(struct ld_sampler *s, double *dst, const double *x, double sigma)
{
    LD_COMBINE(s, dst, {1 / sigma, x}, {-1 / sigma, s->denoised});
}

/* ---- heun ------------------------------------------------------------------------------------ */

static enum ld_code heun_open(struct ld_sampler *s, struct ld_error *err)
{
    return ld_sampler_churn(s, false, s->slot[NOISE], err);
}

static enum ld_code heun_step(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    const double dt = s->sigma_next - s->sigma;
    if (s->phase == 0) {
        if (s->sigma_next == 0) {
            ld_sampler_take(s, s->denoised);
            return LD_OK;
        }
        slope(s, s->slot[D1], s->x, s->sigma);
        LD_COMBINE(s, s->slot[X2], {1, s->x}, {dt, s->slot[D1]});
        ld_sampler_ask(s, s->slot[X2], s->sigma_next);
        return LD_OK;
    }
    slope(s, s->slot[D2], s->slot[X2], s->sigma_next);
    LD_COMBINE(s, s->x, {1, s->x}, {0.5 * dt, s->slot[D1]}, {0.5 * dt, s->slot[D2]});
    return LD_OK;
}

/* ---- heunpp2 --------------------------------------------------------------------------------- */

/* The reference takes a tensor from the stream on every step, used or not. */
static enum ld_code heunpp2_open(struct ld_sampler *s, struct ld_error *err)
{
    return ld_sampler_churn(s, true, s->slot[NOISE], err);
}

/* Steps left after this one decide the order: 0 Euler, 1 Heun, more the three-slope form. */
static enum ld_code heunpp2_step(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    const uint32_t left = s->steps - 1 - s->i;
    const double dt = s->sigma_next - s->sigma;
    if (s->phase == 0) {
        if (left == 0) {
            const double w = s->sigma_next / s->sigma;
            LD_COMBINE(s, s->x, {w, s->x}, {1 - w, s->denoised});
            return LD_OK;
        }
        slope(s, s->slot[D1], s->x, s->sigma);
        LD_COMBINE(s, s->slot[X2], {1, s->x}, {dt, s->slot[D1]});
        ld_sampler_ask(s, s->slot[X2], s->sigma_next);
        return LD_OK;
    }
    if (s->phase == 1) {
        slope(s, s->slot[D2], s->slot[X2], s->sigma_next);
        if (left == 1) {
            const double w2 = s->sigma_next / (2 * s->sigmas[0]);
            LD_COMBINE(s, s->x, {1, s->x}, {(1 - w2) * dt, s->slot[D1]}, {w2 * dt, s->slot[D2]});
            return LD_OK;
        }
        const double sigma_after = s->sigmas[s->i + 2];
        LD_COMBINE(s, s->slot[X2], {1, s->slot[X2]}, {sigma_after - s->sigma_next, s->slot[D2]});
        ld_sampler_ask(s, s->slot[X2], sigma_after);
        return LD_OK;
    }
    const double sigma_after = s->sigmas[s->i + 2];
    const double w2 = s->sigma_next / (3 * s->sigmas[0]);
    const double w3 = sigma_after / (3 * s->sigmas[0]);
    const double w1 = 1 - w2 - w3;
    double *d3 = s->slot[NOISE];
    slope(s, d3, s->slot[X2], sigma_after);
    LD_COMBINE(s, s->x, {1, s->x}, {w1 * dt, s->slot[D1]}, {w2 * dt, s->slot[D2]}, {w3 * dt, d3});
    return LD_OK;
}

const struct ld_sampler_kind ld_kind_heun = {.slots = SLOTS, .open = heun_open, .step = heun_step};
const struct ld_sampler_kind ld_kind_heunpp2 = {
    .slots = SLOTS, .open = heunpp2_open, .step = heunpp2_step};
