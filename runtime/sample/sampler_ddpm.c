/*
 * The two samplers that re-noise an estimate of the clean latent: ddpm goes back by one ancestral
 * step of the diffusion process, lcm starts again from D.
 *
 * Source: Ho et al. 2020, arXiv:2006.11239, algorithm 2; Luo et al. 2023, arXiv:2310.04378;
 * sampling.md 3.1.
 */
#include "runtime/sample/sampler_frame.h"

#include <math.h>

static enum ld_code ddpm_step(struct ld_sampler *s, struct ld_error *err)
{
    if (s->sigma_next == 0) { /* the formula's own limit */
        ld_sampler_take(s, s->denoised);
        return LD_OK;
    }
    const double cumulative = 1 / (1 + s->sigma * s->sigma);
    const double cumulative_next = 1 / (1 + s->sigma_next * s->sigma_next);
    const double alpha = cumulative / cumulative_next;
    /* Mean in VP space: (v - (1 - alpha) e / sqrt(1 - cumulative)) / sqrt(alpha), with v =
     * x sqrt(cumulative) and e = (x - D) / sigma; then back to VE space. */
    const double back = sqrt(1 + s->sigma_next * s->sigma_next) / sqrt(alpha);
    const double e = (1 - alpha) / sqrt(1 - cumulative) / s->sigma;
    LD_COMBINE(s, s->x, {back * (sqrt(cumulative) - e), s->x}, {back * e, s->denoised});
    const double variance = (1 - alpha) * (1 - cumulative_next) / (1 - cumulative);
    return ld_sampler_add_noise(s, sqrt(variance) * sqrt(1 + s->sigma_next * s->sigma_next),
                                s->slot[0], err);
}

static enum ld_code lcm_step(struct ld_sampler *s, struct ld_error *err)
{
    ld_sampler_take(s, s->denoised);
    return s->sigma_next > 0 ? ld_sampler_add_noise(s, s->sigma_next, s->slot[0], err) : LD_OK;
}

const struct ld_sampler_kind ld_kind_ddpm = {.slots = 1, .step = ddpm_step};
const struct ld_sampler_kind ld_kind_lcm = {.slots = 1, .step = lcm_step};
