/*
 * Restart: Heun steps, with one or two jumps back up to sigma 2 once sigma 0.1 is reached.
 *
 * Source: Xu et al. 2023, arXiv:2306.14878; sampling.md 3.6.
 */
#include "runtime/sample/sampler_frame.h"

#include <math.h>

enum { NOISE, X2, D1, SLOTS };

struct state {
    double *ends; /* [steps]: where each step leads; the next may start higher */
};

struct plan {
    double *from, *to;
    uint32_t count;
};

/* The sampler keeps to the Karras form whatever the schedule was, as the reference does. */
static double karras(double high, double low, uint32_t n, uint32_t i)
{
    const double rho = 7;
    const double a = pow(high, 1 / rho);
    const double b = pow(low, 1 / rho);
    return n > 1 ? pow(a + (b - a) * i / (n - 1), rho) : high;
}

static uint32_t nearest(const double *sigmas, uint32_t count, double target)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++)
        if (fabs(sigmas[i] - target) < fabs(sigmas[best] - target))
            best = i;
    return best;
}

static void add(struct plan *plan, double from, double to)
{
    plan->from[plan->count] = from;
    plan->to[plan->count++] = to;
}

/* `base` holds count values, the last of them 0. */
static void plan_steps(struct plan *plan, const double *base, uint32_t count, uint32_t extra,
                       uint32_t times)
{
    const uint32_t low = nearest(base, count, 0.1);
    const uint32_t high = nearest(base, count, 2);
    for (uint32_t i = 0; i + 1 < count; i++) {
        add(plan, base[i], base[i + 1]);
        if (i + 1 != low || high >= low)
            continue;
        for (uint32_t k = 0; k < times * extra; k++)
            add(plan, karras(base[high], base[low], extra + 1, k % extra),
                karras(base[high], base[low], extra + 1, k % extra + 1));
    }
}

static enum ld_code restart_begin(struct ld_sampler *s, struct ld_error *err)
{
    struct state *state = s->state;
    const uint32_t n = s->steps;
    const bool plain = n < 20 || s->sigmas[n] > 0; /* a list without a 0 is only partly ours */
    const uint32_t times = plain ? 0 : n >= 36 ? 2 : 1;
    const uint32_t extra = n >= 36 ? n / 4 : 9;
    const uint32_t base_steps = n - times * extra;
    double *base = ld_arena_calloc(s->arena, base_steps + 1, sizeof *base);
    struct plan plan = {
        .from = ld_arena_calloc(s->arena, n + 1, sizeof *plan.from),
        .to = ld_arena_calloc(s->arena, n + 1, sizeof *plan.to),
    };
    if (!base || !plan.from || !plan.to)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the sampler");
    for (uint32_t i = 0; i <= base_steps; i++) {
        if (plain)
            base[i] = s->sigmas[i];
        else
            base[i] = i < base_steps ? karras(s->sigmas[0], s->sigmas[n - 1], base_steps, i) : 0;
    }
    plan_steps(&plan, base, base_steps + 1, extra, times);
    LD_ASSERT(plan.count <= n);
    plan.from[plan.count] = base[base_steps];
    s->sigmas = plan.from;
    s->steps = plan.count;
    state->ends = plan.to;
    return LD_OK;
}

static enum ld_code restart_open(struct ld_sampler *s, struct ld_error *err)
{
    const struct state *state = s->state;
    s->sigma_next = state->ends[s->i];
    if (s->i > 0 && state->ends[s->i - 1] < s->sigma) {
        const double reached = state->ends[s->i - 1];
        const double scale = sqrt(s->sigma * s->sigma - reached * reached) * s->options.s_noise;
        const enum ld_code code = ld_sampler_draw(s, LD_NOISE_CHURN, 0, 0, s->slot[NOISE], err);
        if (code != LD_OK)
            return code;
        LD_COMBINE(s, s->x, {1, s->x}, {scale, s->slot[NOISE]});
    }
    ld_sampler_ask(s, s->x, s->sigma);
    return LD_OK;
}

static enum ld_code restart_step(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    const double dt = s->sigma_next - s->sigma;
    if (s->sigma_next == 0) {
        ld_sampler_take(s, s->denoised);
    } else if (s->phase == 0) {
        LD_COMBINE(s, s->slot[D1], {1 / s->sigma, s->x}, {-1 / s->sigma, s->denoised});
        LD_COMBINE(s, s->slot[X2], {1, s->x}, {dt, s->slot[D1]});
        ld_sampler_ask(s, s->slot[X2], s->sigma_next);
    } else {
        const double w = 0.5 * dt / s->sigma_next;
        LD_COMBINE(s, s->x, {1, s->x}, {0.5 * dt, s->slot[D1]}, {w, s->slot[X2]},
                   {-w, s->denoised});
    }
    return LD_OK;
}

const struct ld_sampler_kind ld_kind_restart = {.state_size = sizeof(struct state),
                                                .slots = SLOTS,
                                                .begin = restart_begin,
                                                .open = restart_open,
                                                .step = restart_step};
