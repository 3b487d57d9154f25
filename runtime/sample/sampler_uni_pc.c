/*
 * UniPC, variants bh1 and bh2, in VP scale with data prediction. The model is evaluated at the
 * predicted points only; the corrected point is what the next step starts from.
 *
 * Source: Zhao et al. 2023, arXiv:2302.04867; sampling.md 3.2.
 */
#include "runtime/sample/sampler_frame.h"
#include "runtime/sample/small_solve.h"

#include <math.h>

enum {
    ORDER_MAX = 3,
    PREDICTED = ORDER_MAX, /* slots 0..2: estimates, newest first */
    ASKED,                 /* the predicted point in VE scale */
    SLOTS
};

/* x is kept in VP scale: x / alpha is what the denoiser sees. */
struct state {
    uint32_t order_max;
    uint32_t history;
    double sigma[ORDER_MAX]; /* of the estimates, newest first */
};

static double alpha_of(double sigma)
{
    return 1 / sqrt(1 + sigma * sigma);
}

static enum ld_code uni_pc_begin(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    struct state *state = s->state;
    if (s->steps == 1) /* order 0, which the reference answers with its input: an Euler step here */
        return LD_OK;
    if (s->sigmas[s->steps] == 0) {
        /* ln 0 is out of reach; the reference ends here. A list that ends lower still keeps going
         * down. */
        const double stop = 0.001;
        s->sigmas[s->steps] = fmin(stop, 0.5 * s->sigmas[s->steps - 1]);
    }
    state->order_max = s->steps - 1 < ORDER_MAX ? s->steps - 1 : ORDER_MAX;
    LD_COMBINE(s, s->slot[ASKED], {1, s->x});
    LD_COMBINE(s, s->x, {alpha_of(s->sigmas[0]), s->x});
    return LD_OK;
}

static enum ld_code uni_pc_open(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    ld_sampler_ask(s, s->steps == 1 ? s->x : s->slot[ASKED], s->sigma);
    return LD_OK;
}

/* What predictor and corrector of one grid point share. */
struct update {
    uint32_t order;
    double keep, take; /* base = keep x + take m0 */
    double scale;      /* alpha B: both add -scale * sum rho_j Delta_j */
    double r[LD_SOLVE_MAX];
    double matrix[LD_SOLVE_MAX][LD_SOLVE_MAX];
    double b[LD_SOLVE_MAX];
};

/* Towards `sigma`, from the newest estimate of the history, with `order` points. */
static void prepare(const struct state *state, double sigma, uint32_t order, bool bh2,
                    struct update *update)
{
    const double newest = state->sigma[0];
    const double h = log(newest / sigma);
    const double u = -h;
    const double bh = bh2 ? expm1(u) : u;
    const double alpha = alpha_of(sigma);
    *update = (struct update){
        .order = order,
        .keep = sigma * alpha / (newest * alpha_of(newest)),
        .take = -alpha * expm1(u),
        .scale = alpha * bh,
    };
    for (uint32_t j = 0; j + 1 < order; j++)
        update->r[j] = log(newest / state->sigma[j + 1]) / h;
    update->r[order - 1] = 1;
    double phi = expm1(u) / u - 1;
    double factorial = 1;
    for (uint32_t q = 0; q < order; q++) {
        for (uint32_t j = 0; j < order; j++)
            update->matrix[q][j] = q == 0 ? 1 : update->matrix[q - 1][j] * update->r[j];
        update->b[q] = phi * factorial / bh;
        factorial *= q + 2;
        phi = phi / u - 1 / factorial;
    }
}

/*
 * dst = base - scale (sum over n unknowns rho_j Delta_j); unknown order - 1 is the corrector's, on
 * `estimate` - m0, the others are on older estimates.
 */
static void apply(struct ld_sampler *s, double *dst, const struct update *update, uint32_t n,
                  const double *estimate)
{
    double matrix[LD_SOLVE_MAX][LD_SOLVE_MAX];
    double rho[LD_SOLVE_MAX];
    for (uint32_t q = 0; q < LD_SOLVE_MAX; q++) {
        rho[q] = update->b[q];
        for (uint32_t j = 0; j < LD_SOLVE_MAX; j++)
            matrix[q][j] = update->matrix[q][j];
    }
    if (n == 1)
        rho[0] = 0.5; /* fixed there by the authors, for both predictor and corrector */
    else
        ld_solve(matrix, rho, n);
    struct ld_term terms[LD_SOLVE_MAX + 2] = {{update->keep, s->x}, {update->take, s->slot[0]}};
    uint32_t count = 2;
    for (uint32_t j = 0; j < n; j++) {
        const double weight = -update->scale * rho[j] / update->r[j];
        const bool corrects = estimate && j + 1 == update->order;
        terms[count++] = (struct ld_term){weight, corrects ? estimate : s->slot[j + 1]};
        terms[1].weight -= weight;
    }
    ld_lincomb(dst, terms, count, s->count);
}

static uint32_t order_at(const struct ld_sampler *s, uint32_t point)
{
    const struct state *state = s->state;
    if (point < state->order_max)
        return point;
    const uint32_t left = s->steps + 1 - point;
    return left < state->order_max ? left : state->order_max;
}

static void push_estimate(struct ld_sampler *s)
{
    struct state *state = s->state;
    double *oldest = s->slot[ORDER_MAX - 1];
    for (uint32_t j = ORDER_MAX - 1; j > 0; j--) {
        s->slot[j] = s->slot[j - 1];
        state->sigma[j] = state->sigma[j - 1];
    }
    s->slot[0] = oldest;
    state->sigma[0] = s->sigma;
    LD_COMBINE(s, s->slot[0], {1, s->denoised});
}

/* The estimate at point i has arrived: correct x there, then predict point i + 1. */
static enum ld_code uni_pc_step(struct ld_sampler *s, bool bh2)
{
    const struct state *state = s->state;
    struct update update;
    if (s->steps == 1) {
        const double w = s->sigma_next / s->sigma;
        LD_COMBINE(s, s->x, {w, s->x}, {1 - w, s->denoised});
        return LD_OK;
    }
    if (s->i > 0) {
        prepare(state, s->sigma, order_at(s, s->i), bh2, &update);
        apply(s, s->x, &update, update.order, s->denoised);
    }
    push_estimate(s);
    prepare(state, s->sigma_next, order_at(s, s->i + 1), bh2, &update);
    apply(s, s->slot[PREDICTED], &update, update.order - 1, NULL);
    const double back = 1 / alpha_of(s->sigma_next);
    double *dst = s->i + 1 == s->steps ? s->x : s->slot[ASKED];
    LD_COMBINE(s, dst, {back, s->slot[PREDICTED]});
    return LD_OK;
}

static enum ld_code bh1_step(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    return uni_pc_step(s, false);
}

static enum ld_code bh2_step(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    return uni_pc_step(s, true);
}

#define UNI_PC                                                                                     \
    .state_size = sizeof(struct state), .slots = SLOTS, .begin = uni_pc_begin, .open = uni_pc_open

const struct ld_sampler_kind ld_kind_uni_pc = {UNI_PC, .step = bh1_step};
const struct ld_sampler_kind ld_kind_uni_pc_bh2 = {UNI_PC, .step = bh2_step};
