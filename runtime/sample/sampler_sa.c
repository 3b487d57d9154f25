/*
 * SA-Solver: a stochastic Adams predictor and corrector; noise is injected in the middle of the
 * schedule only. `pece` evaluates again after the correction.
 *
 * Source: Xue et al. 2023, arXiv:2309.05019; sampling.md 3.2.
 */
#include "runtime/sample/sampler_frame.h"
#include "runtime/sample/small_solve.h"

#include <math.h>

enum {
    PREDICTOR_ORDER = 3,
    CORRECTOR_ORDER = 4,
    PREDICTED = CORRECTOR_ORDER, /* slots 0..3: estimates, newest first */
    NOISE,
    SLOTS
};

struct state {
    double start, end;              /* sigmas between which noise is injected */
    double tau;                     /* of the last predictor step */
    bool noisy;                     /* slot[NOISE] holds what that step added */
    uint32_t history;               /* estimates kept, at most CORRECTOR_ORDER */
    double lambda[CORRECTOR_ORDER]; /* -ln sigma of the estimates, newest first */
};

static enum ld_code sa_begin(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    struct state *state = s->state;
    state->start = ld_percent_to_sigma(s->table, 0.2);
    state->end = ld_percent_to_sigma(s->table, 0.8);
    return LD_OK;
}

/*
 * Weights of the `order` newest estimates for the step from lambda `from` to `to`: the integral of
 * the interpolating polynomial against c e^(c (l - to)), c = 1 + tau^2, so that sum w l^p equals
 * I_p, I_0 = 1 - e^(-c (to - from)), I_p = to^p - from^p e^(-c (to - from)) - p/c I_(p-1).
 */
static void weights_over(const struct state *state, double from, double to, double tau,
                         uint32_t order, double *weights)
{
    double matrix[LD_SOLVE_MAX][LD_SOLVE_MAX] = {{0}};
    const double c = 1 + tau * tau;
    const double decay = exp(-c * (to - from));
    double power_from = 1;
    double power_to = 1;
    for (uint32_t p = 0; p < order; p++) {
        weights[p] = p == 0 ? -expm1(-c * (to - from))
                            : power_to - power_from * decay - p / c * weights[p - 1];
        power_from *= from;
        power_to *= to;
        for (uint32_t j = 0; j < order; j++)
            matrix[p][j] = p == 0 ? 1 : matrix[p - 1][j] * state->lambda[j];
    }
    ld_solve(matrix, weights, order);
}

/* dst = (b/a) e^(-tau^2 h) x + sum w D (+ noise), from sigma a to b. */
static void advance(struct ld_sampler *s, double *dst, double a, double b, double tau,
                    uint32_t order)
{
    const struct state *state = s->state;
    double w[LD_SOLVE_MAX];
    const double h = log(a / b);
    weights_over(state, -log(a), -log(b), tau, order, w);
    struct ld_term terms[CORRECTOR_ORDER + 2] = {{b / a * exp(-tau * tau * h), s->x}};
    uint32_t n = 1;
    for (uint32_t j = 0; j < order; j++)
        terms[n++] = (struct ld_term){w[j], s->slot[j]};
    if (state->noisy)
        terms[n++] = (struct ld_term){1, s->slot[NOISE]};
    ld_lincomb(dst, terms, n, s->count);
}

static void push_estimate(struct ld_sampler *s)
{
    struct state *state = s->state;
    double *oldest = s->slot[CORRECTOR_ORDER - 1];
    for (uint32_t j = CORRECTOR_ORDER - 1; j > 0; j--) {
        s->slot[j] = s->slot[j - 1];
        state->lambda[j] = state->lambda[j - 1];
    }
    s->slot[0] = oldest;
    state->lambda[0] = -log(s->sigma);
    if (state->history < CORRECTOR_ORDER)
        state->history++;
    LD_COMBINE(s, s->slot[0], {1, s->denoised});
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The order drops towards an end at sigma 0, where lambda is infinite. */
static uint32_t corrector_order(const struct ld_sampler *s, bool pece)
{
    const struct state *state = s->state;
    if (s->i == 0 || (s->sigma_next == 0 && !pece))
        return 0;
    const uint32_t order = least(CORRECTOR_ORDER, state->history);
    return s->sigmas[s->steps] == 0 ? least(order, s->steps - s->i) : order;
}

static uint32_t predictor_order(const struct ld_sampler *s)
{
    const struct state *state = s->state;
    const uint32_t order = least(PREDICTOR_ORDER, state->history);
    return s->sigmas[s->steps] == 0 ? least(order, s->steps - 1 - s->i) : order;
}

static enum ld_code sa_open(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    ld_sampler_ask(s, s->i == 0 ? s->x : s->slot[PREDICTED], s->sigma);
    return LD_OK;
}

static enum ld_code predict(struct ld_sampler *s, struct ld_error *err)
{
    struct state *state = s->state;
    if (s->sigma_next == 0) {
        ld_sampler_take(s, s->slot[0]);
        return LD_OK;
    }
    const bool inside = s->sigma_next <= state->start && s->sigma_next >= state->end;
    state->tau = inside ? s->options.eta : 0;
    state->noisy = false;
    if (state->tau > 0 && s->options.s_noise > 0) {
        const double h = log(s->sigma / s->sigma_next);
        const double scale = s->sigma_next * sqrt(-expm1(-2 * state->tau * state->tau * h));
        const enum ld_code code =
            ld_sampler_draw(s, LD_NOISE_ANCESTRAL, s->sigma, s->sigma_next, s->slot[NOISE], err);
        if (code != LD_OK)
            return code;
        LD_COMBINE(s, s->slot[NOISE], {scale * s->options.s_noise, s->slot[NOISE]});
        state->noisy = true;
    }
    advance(s, s->slot[PREDICTED], s->sigma, s->sigma_next, state->tau, predictor_order(s));
    if (s->i + 1 == s->steps)
        ld_sampler_take(s, s->slot[PREDICTED]);
    return LD_OK;
}

static enum ld_code sa_step(struct ld_sampler *s, bool pece, struct ld_error *err)
{
    struct state *state = s->state;
    if (s->phase == 1) { /* the second E of PECE replaces the newest estimate */
        LD_COMBINE(s, s->slot[0], {1, s->denoised});
        return predict(s, err);
    }
    push_estimate(s);
    const uint32_t order = corrector_order(s, pece);
    if (order == 0) {
        if (s->i > 0)
            ld_sampler_take(s, s->slot[PREDICTED]);
        return predict(s, err);
    }
    advance(s, s->x, s->sigmas[s->i - 1], s->sigma, state->tau, order);
    if (!pece)
        return predict(s, err);
    ld_sampler_ask(s, s->x, s->sigma);
    return LD_OK;
}

static enum ld_code sa_solver_step(struct ld_sampler *s, struct ld_error *err)
{
    return sa_step(s, false, err);
}

static enum ld_code sa_solver_pece_step(struct ld_sampler *s, struct ld_error *err)
{
    return sa_step(s, true, err);
}

#define SA_SOLVER                                                                                  \
    .state_size = sizeof(struct state), .slots = SLOTS, .begin = sa_begin, .open = sa_open

const struct ld_sampler_kind ld_kind_sa_solver = {SA_SOLVER, .step = sa_solver_step};
const struct ld_sampler_kind ld_kind_sa_solver_pece = {SA_SOLVER, .step = sa_solver_pece_step};
