/*
 * SEEDS-2 and SEEDS-3: exponential integrators for the reverse SDE, whose noise is correlated over
 * the stages of a step.
 *
 * Source: Gonzalez et al. 2023, arXiv:2305.14267; sampling.md 3.1.
 */
#include "runtime/sample/sampler_frame.h"

#include <math.h>

enum { NOISE, PATH, X2, FIRST, SLOTS };

/* The noise path, in units of sigma: PATH = decay * PATH + sqrt(1 - decay^2) * z. */
static enum ld_code advance_path(struct ld_sampler *s, double log_decay, double from, double to,
                                 struct ld_error *err)
{
    if (s->options.eta == 0) /* no noise at all; the path stays zero */
        return LD_OK;
    const enum ld_code code = ld_sampler_draw(s, LD_NOISE_ANCESTRAL, from, to, s->slot[NOISE], err);
    const double fresh = sqrt(-expm1(2 * log_decay));
    if (code == LD_OK && s->phase == 0)
        LD_COMBINE(s, s->slot[PATH], {fresh, s->slot[NOISE]});
    else if (code == LD_OK)
        LD_COMBINE(s, s->slot[PATH], {exp(log_decay), s->slot[PATH]}, {fresh, s->slot[NOISE]});
    return code;
}

/* The first stage is the same for both: to m = sigma e^(-r h). */
static enum ld_code first_stage(struct ld_sampler *s, double r, struct ld_error *err)
{
    const double h = log(s->sigma / s->sigma_next);
    const double eta = s->options.eta;
    const double m = s->sigma * exp(-r * h);
    LD_COMBINE(s, s->slot[FIRST], {1, s->denoised});
    const enum ld_code code = advance_path(s, -r * h * eta, s->sigma, m, err);
    LD_COMBINE(s, s->slot[X2], {m / s->sigma * exp(-r * h * eta), s->x},
               {-expm1(-r * h * (1 + eta)), s->denoised}, {m * s->options.s_noise, s->slot[PATH]});
    ld_sampler_ask(s, s->slot[X2], m);
    return code;
}

static enum ld_code seeds_2_step(struct ld_sampler *s, struct ld_error *err)
{
    if (s->sigma_next == 0) {
        ld_sampler_take(s, s->denoised);
        return LD_OK;
    }
    const double r = s->options.r;
    if (s->phase == 0)
        return first_stage(s, r, err);
    const double h = log(s->sigma / s->sigma_next);
    const double eta = s->options.eta;
    const double f = 1 / (2 * r);
    const double g = -expm1(-h * (1 + eta));
    const enum ld_code code =
        advance_path(s, (r - 1) * h * eta, s->sigma * exp(-r * h), s->sigma_next, err);
    LD_COMBINE(s, s->x, {s->sigma_next / s->sigma * exp(-h * eta), s->x},
               {g * (1 - f), s->slot[FIRST]}, {g * f, s->denoised},
               {s->sigma_next * s->options.s_noise, s->slot[PATH]});
    return code;
}

static double phi(double a)
{
    return (expm1(a) - a) / a;
}

static enum ld_code seeds_3_step(struct ld_sampler *s, struct ld_error *err)
{
    if (s->sigma_next == 0) {
        ld_sampler_take(s, s->denoised);
        return LD_OK;
    }
    const double r1 = 1.0 / 3;
    const double r2 = 2.0 / 3;
    if (s->phase == 0)
        return first_stage(s, r1, err);
    const double h = log(s->sigma / s->sigma_next);
    const double eta = s->options.eta;
    const double g = h * (1 + eta);
    const double m1 = s->sigma * exp(-r1 * h);
    const double m2 = s->sigma * exp(-r2 * h);
    if (s->phase == 1) {
        const double a2 = r2 / r1 * phi(-r2 * g);
        const double a1 = expm1(-r2 * g) - a2;
        const enum ld_code code = advance_path(s, (r1 - r2) * h * eta, m1, m2, err);
        LD_COMBINE(s, s->slot[X2], {m2 / s->sigma * exp(-r2 * h * eta), s->x},
                   {-a1, s->slot[FIRST]}, {-a2, s->denoised},
                   {m2 * s->options.s_noise, s->slot[PATH]});
        ld_sampler_ask(s, s->slot[X2], m2);
        return code;
    }
    const double b3 = phi(-g) / r2;
    const double b1 = expm1(-g) - b3;
    const enum ld_code code = advance_path(s, (r2 - 1) * h * eta, m2, s->sigma_next, err);
    LD_COMBINE(s, s->x, {s->sigma_next / s->sigma * exp(-h * eta), s->x}, {-b1, s->slot[FIRST]},
               {-b3, s->denoised}, {s->sigma_next * s->options.s_noise, s->slot[PATH]});
    return code;
}

const struct ld_sampler_kind ld_kind_seeds_2 = {.slots = SLOTS, .step = seeds_2_step};
const struct ld_sampler_kind ld_kind_seeds_3 = {.slots = SLOTS, .step = seeds_3_step};
