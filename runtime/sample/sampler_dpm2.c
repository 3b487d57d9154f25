/*
 * DPM-Solver-2 in the form of Karras et al.: a midpoint step in ln sigma; with and without
 * ancestral noise.
 *
 * Source: Lu et al. 2022, arXiv:2206.00927; Karras et al. 2022, arXiv:2206.00364; sampling.md 3.1.
 */
#include "runtime/sample/sampler_frame.h"

#include <math.h>

enum { NOISE, X2, SLOTS };

static enum ld_code churn_open(struct ld_sampler *s, struct ld_error *err)
{
    return ld_sampler_churn(s, false, s->slot[NOISE], err);
}

/* First evaluation: Euler to the geometric mean of sigma and `target`. */
static void ask_midpoint(struct ld_sampler *s, double target)
{
    const double middle = sqrt(s->sigma * target);
    const double w = middle / s->sigma;
    LD_COMBINE(s, s->slot[X2], {w, s->x}, {1 - w, s->denoised});
    ld_sampler_ask(s, s->slot[X2], middle);
}

/* Second: the slope found there carries x all the way. */
static void go_to(struct ld_sampler *s, double target)
{
    const double w = (target - s->sigma) / sqrt(s->sigma * target);
    LD_COMBINE(s, s->x, {1, s->x}, {w, s->slot[X2]}, {-w, s->denoised});
}

static enum ld_code dpm_2_step(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    if (s->sigma_next == 0)
        ld_sampler_take(s, s->denoised);
    else if (s->phase == 0)
        ask_midpoint(s, s->sigma_next);
    else
        go_to(s, s->sigma_next);
    return LD_OK;
}

static enum ld_code dpm_2_ancestral_step(struct ld_sampler *s, struct ld_error *err)
{
    double down;
    double up;
    ld_ancestral_split(s->sigma, s->sigma_next, s->options.eta, &down, &up);
    if (down == 0) {
        ld_sampler_take(s, s->denoised);
        return LD_OK;
    }
    if (s->phase == 0) {
        ask_midpoint(s, down);
        return LD_OK;
    }
    go_to(s, down);
    return ld_sampler_add_noise(s, up, s->slot[NOISE], err);
}

const struct ld_sampler_kind ld_kind_dpm_2 = {
    .slots = SLOTS, .open = churn_open, .step = dpm_2_step};
const struct ld_sampler_kind ld_kind_dpm_2_ancestral = {.slots = SLOTS,
                                                        .step = dpm_2_ancestral_step};
