/*
 * DPM-Solver "fast" (a fixed plan of third-order steps) and "adaptive" (step size by error
 * control). Both work in t = -ln sigma with the noise estimate eps = (x - D) / sigma, and stop at
 * the last sigma above 0 instead of at 0.
 *
 * Source: Lu et al. 2022, arXiv:2206.00927, algorithms 1, 2 and appendix C; sampling.md 3.3.
 */
#include "runtime/sample/sampler_frame.h"

#include <math.h>

enum { NOISE, EPS, EPS1, U, LOW, LOW_PREV, SLOTS };

/* A step may be cut down to 0.21 of its size at worst (1 - pi/4), so a run that has not arrived
 * after this many attempts never will. */
enum { ATTEMPTS_MAX = 5000 };

struct state {
    double t_start, t_end;
    double t, t_next; /* the group or attempt at hand */
    double t_down;    /* where its deterministic part ends, t_next without noise */
    double up;        /* sigma of the noise that follows */
    uint32_t order;   /* of the group at hand */
    uint32_t group, groups;
    double h; /* adaptive step size */
    uint32_t attempts;
};

static double sigma_of(double t)
{
    return exp(-t);
}

static enum ld_code dpm_begin(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    struct state *state = s->state;
    const double last = s->sigmas[s->steps] > 0 ? s->sigmas[s->steps] : s->sigmas[s->steps - 1];
    state->t_start = -log(s->sigmas[0]);
    state->t_end = -log(last);
    state->t = state->t_start;
    state->h = s->options.h_init;
    state->groups = s->steps / 3 + 1;
    LD_COMBINE(s, s->slot[LOW_PREV], {1, s->x});
    return LD_OK;
}

/* One sigma above 0 leaves no way to go: one Euler step to the end of the list, D if that is 0. */
static bool has_no_way(const struct ld_sampler *s)
{
    const struct state *state = s->state;
    return state->t_end <= state->t_start;
}

static enum ld_code only_step(struct ld_sampler *s)
{
    const double w = s->sigma_next / s->sigma;
    LD_COMBINE(s, s->x, {w, s->x}, {1 - w, s->denoised});
    ld_sampler_finish(s);
    return LD_OK;
}

/* With eta > 0 the solver goes further down and noise comes back up to t_next. */
static void plan_noise(const struct ld_sampler *s, struct state *state)
{
    state->t_down = state->t_next;
    state->up = 0;
    if (s->options.eta > 0) {
        double down;
        double up;
        const double target = sigma_of(state->t_next);
        ld_ancestral_split(sigma_of(state->t), target, s->options.eta, &down, &up);
        state->t_down = fmin(state->t_end, -log(down));
        const double reached = sigma_of(state->t_down);
        state->up = sqrt(fmax(target * target - reached * reached, 0));
    }
}

static void ask_at(struct ld_sampler *s, const double *x, double t)
{
    ld_sampler_ask(s, x, sigma_of(t));
}

/* dst = (x - D) / sigma at the point just evaluated. */
static void take_eps(struct ld_sampler *s, double *dst, const double *x)
{
    LD_COMBINE(s, dst, {1 / s->ask_sigma, x}, {-1 / s->ask_sigma, s->denoised});
}

/* ---- The solver steps, eps in slot[EPS] and the first inner estimate in slot[EPS1] ----------- */

static void solve_1(struct ld_sampler *s, double *dst)
{
    const struct state *state = s->state;
    const double h = state->t_down - state->t;
    LD_COMBINE(s, dst, {1, s->x}, {-sigma_of(state->t_down) * expm1(h), s->slot[EPS]});
}

/* The inner point at t + r h, from eps alone. */
static void ask_inner(struct ld_sampler *s, double r)
{
    const struct state *state = s->state;
    const double h = state->t_down - state->t;
    const double t = state->t + r * h;
    LD_COMBINE(s, s->slot[U], {1, s->x}, {-sigma_of(t) * expm1(r * h), s->slot[EPS]});
    ask_at(s, s->slot[U], t);
}

static void solve_2(struct ld_sampler *s, double *dst, double r)
{
    const struct state *state = s->state;
    const double h = state->t_down - state->t;
    const double reach = sigma_of(state->t_down) * expm1(h);
    LD_COMBINE(s, dst, {1, s->x}, {-reach + reach / (2 * r), s->slot[EPS]},
               {-reach / (2 * r), s->slot[EPS1]});
}

static const double third = 1.0 / 3;
static const double two_thirds = 2.0 / 3;

static void ask_second_inner(struct ld_sampler *s)
{
    const struct state *state = s->state;
    const double h = state->t_down - state->t;
    const double t = state->t + two_thirds * h;
    const double reach = sigma_of(t) * expm1(two_thirds * h);
    const double bend =
        sigma_of(t) * (two_thirds / third) * (expm1(two_thirds * h) / (two_thirds * h) - 1);
    LD_COMBINE(s, s->slot[U], {1, s->x}, {-reach + bend, s->slot[EPS]}, {-bend, s->slot[EPS1]});
    ask_at(s, s->slot[U], t);
}

/* `eps2` is the estimate at the second inner point. */
static void solve_3(struct ld_sampler *s, double *dst, const double *eps2)
{
    const struct state *state = s->state;
    const double h = state->t_down - state->t;
    const double reach = sigma_of(state->t_down) * expm1(h);
    const double bend = sigma_of(state->t_down) / two_thirds * (expm1(h) / h - 1);
    LD_COMBINE(s, dst, {1, s->x}, {-reach + bend, s->slot[EPS]}, {-bend, eps2});
}

/* The noise of a group or accepted attempt; it is drawn even where it is multiplied by zero. */
static enum ld_code add_noise(struct ld_sampler *s, struct ld_error *err)
{
    const struct state *state = s->state;
    const enum ld_code code = ld_sampler_draw(s, LD_NOISE_ANCESTRAL, sigma_of(state->t),
                                              sigma_of(state->t_next), s->slot[NOISE], err);
    if (code == LD_OK)
        LD_COMBINE(s, s->x, {1, s->x}, {state->up * s->options.s_noise, s->slot[NOISE]});
    return code;
}

/* ---- fast ------------------------------------------------------------------------------------ */

/* Orders 3, 3, ... 3, 2, 1 where 3 divides the step count, else 3, ... 3 and the remainder, so that
 * the evaluations are exactly as many as the steps. */
static uint32_t order_of_group(const struct ld_sampler *s, uint32_t group, uint32_t groups)
{
    const uint32_t rest = s->steps % 3;
    if (rest == 0 && group + 2 >= groups)
        return groups - group;
    return group + 1 == groups ? rest : 3;
}

static void open_group(struct ld_sampler *s)
{
    struct state *state = s->state;
    const double span = state->t_end - state->t_start;
    state->t = state->t_start + span * state->group / state->groups;
    state->t_next = state->t_start + span * (state->group + 1) / state->groups;
    state->order = order_of_group(s, state->group, state->groups);
    plan_noise(s, state);
    ask_at(s, s->x, state->t);
    s->reopened = true;
}

static enum ld_code fast_open(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    if (has_no_way(s))
        ld_sampler_ask(s, s->x, s->sigma);
    else
        open_group(s);
    return LD_OK;
}

static enum ld_code fast_step(struct ld_sampler *s, struct ld_error *err)
{
    struct state *state = s->state;
    if (has_no_way(s))
        return only_step(s);
    const uint32_t phase = s->phase;
    s->ask_step = s->call < s->steps ? s->call : s->steps - 1;
    if (phase == 0)
        take_eps(s, s->slot[EPS], s->x);
    else
        take_eps(s, s->slot[phase == 1 ? EPS1 : NOISE], s->slot[U]);
    if (phase + 1 < state->order) {
        if (phase == 0)
            ask_inner(s, state->order == 2 ? 0.5 : third);
        else
            ask_second_inner(s);
        return LD_OK;
    }
    if (state->order == 1)
        solve_1(s, s->x);
    else if (state->order == 2)
        solve_2(s, s->x, 0.5);
    else
        solve_3(s, s->x, s->slot[NOISE]);
    const enum ld_code code = add_noise(s, err);
    if (code != LD_OK)
        return code;
    if (++state->group == state->groups) {
        ld_sampler_finish(s);
        return LD_OK;
    }
    open_group(s);
    return LD_OK;
}

/* ---- adaptive -------------------------------------------------------------------------------- */

static void open_attempt(struct ld_sampler *s)
{
    struct state *state = s->state;
    const double done = (state->t - state->t_start) / (state->t_end - state->t_start);
    state->t_next = fmin(state->t_end, state->t + state->h);
    state->attempts++;
    plan_noise(s, state);
    s->ask_step = (uint32_t)fmin(done * s->steps, s->steps - 1.0);
    ask_at(s, s->x, state->t);
    s->reopened = true;
}

static enum ld_code adaptive_open(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    if (has_no_way(s))
        ld_sampler_ask(s, s->x, s->sigma);
    else
        open_attempt(s);
    return LD_OK;
}

/* Root mean square of the difference of both solutions, in units of the tolerance. */
static double scaled_error(const struct ld_sampler *s, const double *high)
{
    const double *low = s->slot[LOW];
    const double *low_prev = s->slot[LOW_PREV];
    double sum = 0;
    for (size_t i = 0; i < s->count; i++) {
        const double size = fmax(fabs(low[i]), fabs(low_prev[i]));
        const double delta = fmax(s->options.atol, s->options.rtol * size);
        const double error = (low[i] - high[i]) / delta;
        sum += error * error;
    }
    return sqrt(sum / (double)s->count);
}

/* Both solutions stand: judge the step, take it or not, and plan the next. */
static enum ld_code end_attempt(struct ld_sampler *s, struct ld_error *err)
{
    struct state *state = s->state;
    double *high = s->slot[U];
    const double order = s->options.eta > 0 ? 1.5 : 3;
    const double inverse = 1 / (scaled_error(s, high) + 1e-8);
    const double factor = 1 + atan(pow(inverse, 1 / order) - 1);
    if (factor >= 0.81) {
        ld_slot_swap(s, LOW, LOW_PREV);
        ld_sampler_take(s, high);
        const enum ld_code code = add_noise(s, err);
        if (code != LD_OK)
            return code;
        state->t = state->t_next;
    }
    state->h *= factor;
    if (!(state->t < state->t_end - 1e-5)) {
        ld_sampler_finish(s);
        return LD_OK;
    }
    if (!isfinite(factor) || state->attempts >= ATTEMPTS_MAX)
        return LD_FAIL(err, LD_E_RANGE,
                       "dpm_adaptive does not reach the tolerance rtol and atol ask for");
    open_attempt(s);
    return LD_OK;
}

static enum ld_code adaptive_step(struct ld_sampler *s, struct ld_error *err)
{
    if (has_no_way(s))
        return only_step(s);
    if (s->phase == 0) {
        take_eps(s, s->slot[EPS], s->x);
        ask_inner(s, third);
        return LD_OK;
    }
    if (s->phase == 1) {
        take_eps(s, s->slot[EPS1], s->slot[U]);
        ask_second_inner(s);
        return LD_OK;
    }
    take_eps(s, s->slot[NOISE], s->slot[U]);
    solve_2(s, s->slot[LOW], third);
    solve_3(s, s->slot[U], s->slot[NOISE]);
    return end_attempt(s, err);
}

#define DPM_SOLVER .state_size = sizeof(struct state), .slots = SLOTS, .begin = dpm_begin

const struct ld_sampler_kind ld_kind_dpm_fast = {DPM_SOLVER, .open = fast_open, .step = fast_step};
const struct ld_sampler_kind ld_kind_dpm_adaptive = {DPM_SOLVER, .open = adaptive_open,
                                                     .step = adaptive_step};
