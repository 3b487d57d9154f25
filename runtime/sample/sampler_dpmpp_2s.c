/*
 * DPM-Solver++(2S) with ancestral noise, and its CFG++ form.
 *
 * Source: Lu et al. 2022, arXiv:2211.01095, algorithm 1; sampling.md 3.1 and 3.4.
 */
#include "runtime/sample/sampler_frame.h"

#include <math.h>

enum { NOISE, X2, SLOTS };

static enum ld_code finish_step(struct ld_sampler *s, double up, struct ld_error *err)
{
    return s->sigma_next > 0 ? ld_sampler_add_noise(s, up, s->slot[NOISE], err) : LD_OK;
}

static enum ld_code ancestral_step(struct ld_sampler *s, struct ld_error *err)
{
    double down;
    double up;
    ld_ancestral_split(s->sigma, s->sigma_next, s->options.eta, &down, &up);
    if (down == 0) {
        ld_sampler_take(s, s->denoised);
        return finish_step(s, up, err);
    }
    if (s->phase == 0) {
        const double middle = sqrt(s->sigma * down);
        const double w = middle / s->sigma;
        LD_COMBINE(s, s->slot[X2], {w, s->x}, {1 - w, s->denoised});
        ld_sampler_ask(s, s->slot[X2], middle);
        return LD_OK;
    }
    const double w = down / s->sigma;
    LD_COMBINE(s, s->x, {w, s->x}, {1 - w, s->denoised});
    return finish_step(s, up, err);
}

/* x is shifted by D - U before the step. The second half shifts by the D of the first evaluation
 * and the U of the second, as the reference does, so the first D is kept. */
static enum ld_code cfg_pp_step(struct ld_sampler *s, struct ld_error *err)
{
    double *first = s->slot[NOISE];
    double down;
    double up;
    ld_ancestral_split(s->sigma, s->sigma_next, s->options.eta, &down, &up);
    if (down == 0) {
        ld_sampler_take(s, s->denoised);
        return finish_step(s, up, err);
    }
    if (s->phase == 0) {
        const double middle = sqrt(s->sigma * down);
        const double w = middle / s->sigma;
        LD_COMBINE(s, s->slot[X2], {w, s->x}, {1, s->denoised}, {-w, s->uncond});
        LD_COMBINE(s, first, {1, s->denoised});
        ld_sampler_ask(s, s->slot[X2], middle);
        return LD_OK;
    }
    const double w = down / s->sigma;
    LD_COMBINE(s, s->x, {w, s->x}, {w, first}, {-w, s->uncond}, {1 - w, s->denoised});
    return finish_step(s, up, err);
}

const struct ld_sampler_kind ld_kind_dpmpp_2s_ancestral = {.slots = SLOTS, .step = ancestral_step};
const struct ld_sampler_kind ld_kind_dpmpp_2s_ancestral_cfg_pp = {.slots = SLOTS,
                                                                  .step = cfg_pp_step};
