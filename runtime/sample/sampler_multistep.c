/*
 * Linear multistep methods: x moves along a weighted sum of the last slopes d = (x - D) / sigma.
 * They differ in the weights alone: lms integrates the polynomial through the slopes over sigma,
 * ipndm takes Adams-Bashforth's constants, ipndm_v their form for uneven steps, deis integrates in
 * the time of a VP process.
 *
 * Source: Zhang and Chen 2022, arXiv:2204.13902 (deis, ipndm); sampling.md 3.2.
 */
#include "runtime/sample/sampler_frame.h"

#include <math.h>

enum { ORDER_MAX = 4 };

/* The weights of the `order` newest slopes, newest first, for the step at hand. */
typedef void (*weights_fn)(const struct ld_sampler *s, uint32_t order, double *weights);

/* slot[0] holds the newest slope, slot[1] the one before, ... */
static void push_slope(struct ld_sampler *s)
{
    double *oldest = s->slot[ORDER_MAX - 1];
    for (uint32_t j = ORDER_MAX - 1; j > 0; j--)
        s->slot[j] = s->slot[j - 1];
    s->slot[0] = oldest;
    LD_COMBINE(s, s->slot[0], {1 / s->sigma, s->x}, {-1 / s->sigma, s->denoised});
}

static enum ld_code multistep(struct ld_sampler *s, bool denoise_last, weights_fn weights)
{
    if (s->sigma_next == 0 && denoise_last) {
        ld_sampler_take(s, s->denoised);
        return LD_OK;
    }
    const uint32_t order_max = (uint32_t)s->options.order;
    const uint32_t order = s->i + 1 < order_max ? s->i + 1 : order_max;
    double w[ORDER_MAX];
    push_slope(s);
    weights(s, order, w);
    struct ld_term terms[ORDER_MAX + 1] = {{1, s->x}};
    for (uint32_t j = 0; j < order; j++)
        terms[j + 1] = (struct ld_term){w[j], s->slot[j]};
    ld_lincomb(s->x, terms, order + 1, s->count);
    return LD_OK;
}

/* Basis polynomial j of Lagrange on `order` nodes, at t. */
static double lagrange(const double *nodes, uint32_t order, uint32_t j, double t)
{
    double product = 1;
    for (uint32_t k = 0; k < order; k++)
        if (k != j)
            product *= (t - nodes[k]) / (nodes[j] - nodes[k]);
    return product;
}

/* ---- lms ------------------------------------------------------------------------------------- */

/* Integrals of the basis over the step. Gauss-Legendre with two points is exact up to degree 3. */
static void lms_weights(const struct ld_sampler *s, uint32_t order, double *weights)
{
    double nodes[ORDER_MAX];
    for (uint32_t j = 0; j < order; j++)
        nodes[j] = s->sigmas[s->i - j];
    const double middle = 0.5 * (s->sigma + s->sigma_next);
    const double half = 0.5 * (s->sigma_next - s->sigma);
    const double offset = half / sqrt(3);
    for (uint32_t j = 0; j < order; j++)
        weights[j] = half * (lagrange(nodes, order, j, middle - offset) +
                             lagrange(nodes, order, j, middle + offset));
}

static enum ld_code lms_step(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    return multistep(s, !s->options.a1111 && !s->options.extrapolate_last, lms_weights);
}

/* ---- ipndm ----------------------------------------------------------------------------------- */

static void ipndm_weights(const struct ld_sampler *s, uint32_t order, double *weights)
{
    static const double adams_bashforth[ORDER_MAX][ORDER_MAX] = {
        {1},
        {3.0 / 2, -1.0 / 2},
        {23.0 / 12, -16.0 / 12, 5.0 / 12},
        {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24},
    };
    for (uint32_t j = 0; j < order; j++)
        weights[j] = adams_bashforth[order - 1][j] * (s->sigma_next - s->sigma);
}

static void ipndm_v_weights(const struct ld_sampler *s, uint32_t order, double *weights)
{
    const double h0 = s->sigma_next - s->sigma;
    double h[ORDER_MAX] = {h0, 0, 0, 0}; /* this step and those before, all negative */
    double w[ORDER_MAX] = {1, 0, 0, 0};
    for (uint32_t j = 1; j < order; j++)
        h[j] = s->sigmas[s->i - j + 1] - s->sigmas[s->i - j];
    const double h1 = h[1];
    const double h2 = h[2];
    const double h3 = h[3];
    if (order >= 2) {
        w[0] = 1 + h0 / h1 / 2;
        w[1] = -h0 / h1 / 2;
    }
    if (order >= 3) {
        const double t = 0.5 * (1 - h0 / (3 * (h0 + h1)) * h0 * (h0 + h1) / (h1 * (h1 + h2)));
        w[0] += t;
        w[1] -= (1 + h1 / h2) * t;
        w[2] += t * h1 / h2;
    }
    if (order >= 4) {
        const double t = (0.5 * (1 - h0 / (3 * (h0 + h1))) +
                          (1 - h0 / (2 * (h0 + h1))) * h0 / (6 * (h0 + h1 + h2))) *
                         (h0 * (h0 + h1) * (h0 + h1 + h2) / (h1 * (h1 + h2) * (h1 + h2 + h3)));
        const double g = h1 * (h1 + h2) / (h2 * (h2 + h3));
        w[0] += t;
        w[1] -= (1 + h1 / h2 + g) * t;
        w[2] += (h1 / h2 + g * (1 + h2 / h3)) * t;
        w[3] -= t * g * h1 / h2;
    }
    for (uint32_t j = 0; j < order; j++)
        weights[j] = h0 * w[j];
}

static enum ld_code ipndm_step(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    return multistep(s, !s->options.extrapolate_last, ipndm_weights);
}

static enum ld_code ipndm_v_step(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    return multistep(s, !s->options.extrapolate_last, ipndm_v_weights);
}

/* ---- deis ------------------------------------------------------------------------------------ */

/* The linear VP process whose time sigma is mapped to: it runs from sigma 0.002 at time 1e-3 to
 * sigma 80 at time 1, the range of EDM. */
struct vp_process {
    double slope, offset; /* ln(sigma^2 + 1) = slope t^2 / 2 + offset t */
};

static struct vp_process vp_process(void)
{
    const double epsilon = 1e-3;
    const double low = log(0.002 * 0.002 + 1);
    const double high = log(80.0 * 80.0 + 1);
    struct vp_process process;
    process.slope = 2 * (low / epsilon - high) / (epsilon - 1);
    process.offset = high - process.slope / 2;
    return process;
}

static double vp_time(const struct vp_process *process, double sigma)
{
    const double b = process->offset;
    return (sqrt(b * b + 2 * process->slope * log(sigma * sigma + 1)) - b) / process->slope;
}

/* The reference's quadrature: the mean over equally spaced points, both ends included. */
static void deis_weights(const struct ld_sampler *s, uint32_t order, double *weights)
{
    enum { POINTS = 10000 };
    if (order == 1) {
        weights[0] = s->sigma_next - s->sigma;
        return;
    }
    const struct vp_process process = vp_process();
    double nodes[ORDER_MAX];
    double sum[ORDER_MAX] = {0};
    for (uint32_t j = 0; j < order; j++)
        nodes[j] = vp_time(&process, s->sigmas[s->i - j]);
    const double start = nodes[0];
    const double end = vp_time(&process, s->sigma_next);
    for (uint32_t p = 0; p < POINTS; p++) {
        const double t = start + (end - start) * p / (POINTS - 1);
        const double a = exp(-0.5 * t * t * process.slope - t * process.offset);
        const double integrand = 0.5 * (t * process.slope + process.offset) / sqrt(a * (1 - a));
        for (uint32_t j = 0; j < order; j++)
            sum[j] += integrand * lagrange(nodes, order, j, t);
    }
    for (uint32_t j = 0; j < order; j++)
        weights[j] = (end - start) / POINTS * sum[j];
}

static enum ld_code deis_step(struct ld_sampler *s, struct ld_error *err)
{
    (void)err;
    return multistep(s, true, deis_weights);
}

const struct ld_sampler_kind ld_kind_lms = {.slots = ORDER_MAX, .step = lms_step};
const struct ld_sampler_kind ld_kind_ipndm = {.slots = ORDER_MAX, .step = ipndm_step};
const struct ld_sampler_kind ld_kind_ipndm_v = {.slots = ORDER_MAX, .step = ipndm_v_step};
const struct ld_sampler_kind ld_kind_deis = {.slots = ORDER_MAX, .step = deis_step};
