/*
 * Gradient estimation: Euler whose slope is corrected by its own last change, and the CFG++ form.
 *
 * Source: Permenter and Yuan 2023, arXiv:2306.04848; sampling.md 3.2 and 3.4.
 */
#include "runtime/sample/sampler_frame.h"

enum { SLOPE, PREV, SLOTS };

/* x = start + d dt (+ (gamma - 1)(d - d_prev) dt), where `from` is what d points away from. */
static void advance(struct ld_sampler *s, const double *from, const double *start, double reach)
{
    const double dt = s->sigma_next - s->sigma;
    const double c = s->i == 0 ? 0 : (s->options.gamma - 1) * dt;
    LD_COMBINE(s, s->slot[SLOPE], {1 / s->sigma, s->x}, {-1 / s->sigma, from});
    LD_COMBINE(s, s->x, {1, start}, {reach + c, s->slot[SLOPE]}, {-c, s->slot[PREV]});
    ld_slot_swap(s, SLOPE, PREV);
}

static enum ld_code plain_step(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    if (s->sigma_next == 0 && (s->i == 0 || !s->options.extrapolate_last))
        ld_sampler_take(s, s->denoised);
    else
        advance(s, s->denoised, s->x, s->sigma_next - s->sigma);
    return LD_OK;
}

static enum ld_code cfg_pp_step(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    if (s->sigma_next == 0)
        ld_sampler_take(s, s->denoised);
    else
        advance(s, s->uncond, s->denoised, s->sigma_next);
    return LD_OK;
}

const struct ld_sampler_kind ld_kind_gradient_estimation = {.slots = SLOTS, .step = plain_step};
const struct ld_sampler_kind ld_kind_gradient_estimation_cfg_pp = {.slots = SLOTS,
                                                                   .step = cfg_pp_step};
