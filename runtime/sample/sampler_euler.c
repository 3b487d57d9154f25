/*
 * Euler's method and its ancestral and CFG++ relatives: one evaluation a step. `ddim` of ComfyUI is
 * `euler` under another name.
 *
 * Source: Karras et al. 2022, arXiv:2206.00364, algorithm 2 (churn); Chung et al. 2024,
 * arXiv:2406.08070 (CFG++); sampling.md 3.1 and 3.4.
 */
#include "runtime/sample/sampler_frame.h"

static enum ld_code churn_open(struct ld_sampler *s, struct ld_error *err)
{
    return ld_sampler_churn(s, false, s->slot[0], err);
}

/* x + d (sigma' - sigma) with d = (x - D) / sigma, written as a mix of x and D: at sigma' = 0 it is
 * D to the bit. */
static enum ld_code euler_step(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    const double w = s->sigma_next / s->sigma;
    LD_COMBINE(s, s->x, {w, s->x}, {1 - w, s->denoised});
    return LD_OK;
}

static enum ld_code ancestral_step(struct ld_sampler *s, struct ld_error *err)
{
    double down;
    double up;
    ld_ancestral_split(s->sigma, s->sigma_next, s->options.eta, &down, &up);
    const double w = down / s->sigma;
    LD_COMBINE(s, s->x, {w, s->x}, {1 - w, s->denoised});
    return down > 0 ? ld_sampler_add_noise(s, up, s->slot[0], err) : LD_OK;
}

/* The direction comes from the unconditional estimate, the place it starts from is D. */
static enum ld_code cfg_pp_step(struct ld_sampler *s, struct ld_error *err)
{
    double down;
    double up;
    if (s->sigma_next == 0) {
        ld_sampler_take(s, s->denoised);
        return LD_OK;
    }
    ld_ancestral_split(s->sigma, s->sigma_next, s->options.eta, &down, &up);
    const double w = down / s->sigma;
    LD_COMBINE(s, s->x, {1, s->denoised}, {w, s->x}, {-w, s->uncond});
    return s->options.eta > 0 ? ld_sampler_add_noise(s, up, s->slot[0], err) : LD_OK;
}

const struct ld_sampler_kind ld_kind_euler = {.slots = 1, .open = churn_open, .step = euler_step};
const struct ld_sampler_kind ld_kind_euler_ancestral = {.slots = 1, .step = ancestral_step};
const struct ld_sampler_kind ld_kind_euler_cfg_pp = {.slots = 1, .step = cfg_pp_step};
