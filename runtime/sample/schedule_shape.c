#include "runtime/sample/schedule_shape.h"

#include "runtime/sample/float32.h"
#include "runtime/sample/gits_table.h"

#include <math.h>

/* ---- Pieces ---------------------------------------------------------------------------------- */

/* Element i of n equally spaced float32 values from a to b. The second half is counted back from
 * the end, as the reference's tensor library does. */
static float spaced(double a, double b, uint32_t n, uint32_t i)
{
    if (n <= 1)
        return (float)a;
    const float step = ((float)b - (float)a) / (float)(n - 1);
    return i < n / 2 ? (float)a + step * (float)i : (float)b - step * (float)(n - 1 - i);
}

static void push(struct ld_shape_list *list, double sigma)
{
    list->values[list->count++] = ld_float32(sigma);
}

static double option_or(double value, double fallback)
{
    return isnan(value) ? fallback : value;
}

static bool is_a1111(const struct ld_shape *shape)
{
    return shape->table->config.profile == LD_PROFILE_A1111;
}

/* Timesteps of the two ends of the table: 0 and 999, or 19 and 999 for LCM. */
static double timestep_first(const struct ld_sigma_table *table)
{
    return (double)(table->stride - 1);
}

static double timestep_last(const struct ld_sigma_table *table)
{
    return (double)(table->count * table->stride - 1);
}

/*
 * m values from the n of a decreasing list, interpolated linearly in the logarithm: both lists are
 * equally spaced over the same interval. m = 1 gives the smallest value, as the reference does.
 */
static void push_log_linear(struct ld_shape_list *list, const double *knots, uint32_t n, uint32_t m)
{
    for (uint32_t i = 0; i < m; i++) {
        const double place = m > 1 ? (double)i * (n - 1) / (m - 1) : (double)(n - 1);
        uint32_t below = (uint32_t)place;
        if (below > n - 2)
            below = n - 2;
        const double weight = place - below;
        push(list, exp((1 - weight) * log(knots[below]) + weight * log(knots[below + 1])));
    }
}

/* ---- From the table -------------------------------------------------------------------------- */

enum ld_code ld_shape_simple(const struct ld_shape *shape, struct ld_shape_list *list,
                             struct ld_error *err)
{
    (void)err;
    const struct ld_sigma_table *table = shape->table;
    const double stride = (double)table->count / shape->n;
    for (uint32_t j = 0; j < shape->n; j++)
        push(list, (double)table->sigmas[table->count - 1 - (uint32_t)(j * stride)]);
    push(list, 0);
    return LD_OK;
}

enum ld_code ld_shape_normal(const struct ld_shape *shape, struct ld_shape_list *list,
                             struct ld_error *err)
{
    (void)err;
    const double first = timestep_first(shape->table);
    const double last = timestep_last(shape->table);
    /* Where the table itself ends at (almost) zero, that end is the list's zero. */
    const bool ends_at_zero = ld_timestep_to_sigma(shape->table, first) < 1e-5;
    const uint32_t points = ends_at_zero ? shape->n + 1 : shape->n;
    for (uint32_t j = 0; j < points; j++)
        push(list, ld_timestep_to_sigma(shape->table, (double)spaced(last, first, points, j)));
    if (!ends_at_zero)
        push(list, 0);
    return LD_OK;
}

enum ld_code ld_shape_sgm_uniform(const struct ld_shape *shape, struct ld_shape_list *list,
                                  struct ld_error *err)
{
    (void)err;
    const double first = timestep_first(shape->table);
    const double last = timestep_last(shape->table);
    for (uint32_t j = 0; j < shape->n; j++)
        push(list,
             ld_timestep_to_sigma(shape->table, (double)spaced(last, first, shape->n + 1, j)));
    push(list, 0);
    return LD_OK;
}

enum ld_code ld_shape_ddim_uniform(const struct ld_shape *shape, struct ld_shape_list *list,
                                   struct ld_error *err)
{
    (void)err;
    const struct ld_sigma_table *table = shape->table;
    const uint32_t stride = table->count / shape->n > 1 ? table->count / shape->n : 1;
    const uint32_t steps = (table->count - 2) / stride + 1; /* entries 1, 1 + stride, ... */
    for (uint32_t j = steps; j-- > 0;)
        push(list, (double)table->sigmas[1 + j * stride]);
    push(list, 0);
    return LD_OK;
}

enum ld_code ld_shape_beta(const struct ld_shape *shape, struct ld_shape_list *list,
                           struct ld_error *err)
{
    const double alpha = option_or(shape->alpha, 0.6);
    const double beta = option_or(shape->beta, 0.6);
    if (!(alpha >= 0.01 && alpha <= 100 && beta >= 0.01 && beta <= 100))
        return LD_FAIL(err, LD_E_RANGE, "alpha and beta must be between 0.01 and 100");
    const struct ld_sigma_table *table = shape->table;
    int64_t previous = -1;
    for (uint32_t j = 0; j < shape->n; j++) {
        if (is_a1111(shape)) { /* continuous there, and down to sigma_min */
            const double p = shape->n > 1 ? 1 - (double)j / (shape->n - 1) : 1;
            const double x = ld_beta_quantile(p, alpha, beta);
            push(list, shape->sigma_min + x * (shape->sigma_max - shape->sigma_min));
            continue;
        }
        const double x = ld_beta_quantile(1 - (double)j / shape->n, alpha, beta);
        const int64_t entry = (int64_t)rint(x * (table->count - 1));
        if (entry != previous)
            push(list, (double)table->sigmas[entry]);
        previous = entry;
    }
    push(list, 0);
    return LD_OK;
}

/* ---- From sigma_min and sigma_max ------------------------------------------------------------ */

/* Karras et al. 2022, arXiv:2206.00364, eq. 5. */
enum ld_code ld_shape_karras(const struct ld_shape *shape, struct ld_shape_list *list,
                             struct ld_error *err)
{
    (void)err;
    const double rho = option_or(shape->rho, 7);
    const double low = pow(shape->sigma_min, 1 / rho);
    const double high = pow(shape->sigma_max, 1 / rho);
    for (uint32_t j = 0; j < shape->n; j++) {
        const float root = (float)high + spaced(0, 1, shape->n, j) * (float)(low - high);
        push(list, (double)powf(root, (float)rho));
    }
    push(list, 0);
    return LD_OK;
}

enum ld_code ld_shape_exponential(const struct ld_shape *shape, struct ld_shape_list *list,
                                  struct ld_error *err)
{
    (void)err;
    for (uint32_t j = 0; j < shape->n; j++)
        push(list, (double)expf(spaced(log(shape->sigma_max), log(shape->sigma_min), shape->n, j)));
    push(list, 0);
    return LD_OK;
}

enum ld_code ld_shape_polyexponential(const struct ld_shape *shape, struct ld_shape_list *list,
                                      struct ld_error *err)
{
    (void)err;
    const float rho = (float)option_or(shape->rho, 1);
    const float span = (float)(log(shape->sigma_max) - log(shape->sigma_min));
    const float low = (float)log(shape->sigma_min);
    for (uint32_t j = 0; j < shape->n; j++)
        push(list, (double)expf(powf(spaced(1, 0, shape->n, j), rho) * span + low));
    push(list, 0);
    return LD_OK;
}

/* Slow near the noisy end, quadratic after half the steps (Genmo's Mochi schedule). */
enum ld_code ld_shape_linear_quadratic(const struct ld_shape *shape, struct ld_shape_list *list,
                                       struct ld_error *err)
{
    (void)err;
    const double threshold = 0.025;
    const double n = shape->n;
    const double linear = shape->n / 2;
    const double quadratic = n - linear;
    const double rest = linear - threshold * n;
    const float max = (float)shape->sigma_max;
    push(list, (double)max);
    for (uint32_t j = 1; j < shape->n; j++) {
        const double a = rest / (linear * quadratic * quadratic);
        const double b = threshold / linear - 2 * rest / (quadratic * quadratic);
        const double c = a * linear * linear;
        const double u = j < linear ? j * threshold / linear : a * j * j + b * j + c;
        push(list, (double)((float)(1 - u) * max));
    }
    push(list, 0);
    return LD_OK;
}

/* Sabour et al. 2024, arXiv:2404.14507, eq. for the KL-optimal schedule of a Gaussian. */
enum ld_code ld_shape_kl_optimal(const struct ld_shape *shape, struct ld_shape_list *list,
                                 struct ld_error *err)
{
    (void)err;
    const float low = (float)atan(shape->sigma_min);
    const float high = (float)atan(shape->sigma_max);
    /* a1111 has one point more, ends at sigma_min and appends no zero. */
    const uint32_t points = is_a1111(shape) ? shape->n + 1 : shape->n;
    for (uint32_t j = 0; j < points; j++) {
        const float r = points > 1 ? (float)j / (float)(points - 1) : 0.0F;
        push(list, (double)tanf(r * low + (1.0F - r) * high));
    }
    if (!is_a1111(shape)) {
        if (shape->n == 1) /* 0/0 in the reference */
            list->values[0] = shape->sigma_max;
        push(list, 0);
    }
    return LD_OK;
}

enum ld_code ld_shape_laplace(const struct ld_shape *shape, struct ld_shape_list *list,
                              struct ld_error *err)
{
    (void)err;
    const float mu = (float)option_or(shape->mu, 0);
    const float b = (float)option_or(shape->b, 0.5);
    for (uint32_t j = 0; j < shape->n; j++) {
        const float offset = 0.5F - spaced(0, 1, shape->n, j);
        const float sign = offset > 0 ? 1.0F : offset < 0 ? -1.0F : 0.0F;
        const float x = mu - b * sign * logf(1.0F - 2.0F * fabsf(offset) + 1e-5F);
        push(list, fmin(fmax((double)expf(x), shape->sigma_min), shape->sigma_max));
    }
    return LD_OK; /* no zero: the list has n values and runs n - 1 steps */
}

/* Variance preserving process of Song et al. 2021, arXiv:2011.13456: beta_d 19.9, beta_min 0.1. */
enum ld_code ld_shape_vp(const struct ld_shape *shape, struct ld_shape_list *list,
                         struct ld_error *err)
{
    (void)err;
    for (uint32_t j = 0; j < shape->n; j++) {
        const float t = spaced(1, 1e-3, shape->n, j);
        push(list, (double)sqrtf(expm1f(19.9F * (t * t) / 2.0F + 0.1F * t)));
    }
    push(list, 0);
    return LD_OK;
}

/* ---- Published lists ------------------------------------------------------------------------- */

enum { AYS_COUNT = 11 };

/* Align Your Steps, arXiv:2404.14507, the values for SD1.5; a1111 has them with three digits. */
static const double ays_levels[AYS_COUNT] = {
    14.6146412293, 6.4745760956, 3.8636745985, 2.694615152,  1.8841921177, 1.3943805092,
    0.9642583904,  0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582};
static const double ays_levels_a1111[AYS_COUNT] = {14.615, 6.475, 3.861, 2.697, 1.886, 1.396,
                                                   0.963,  0.652, 0.399, 0.152, 0.029};

enum ld_code ld_shape_ays(const struct ld_shape *shape, struct ld_shape_list *list,
                          struct ld_error *err)
{
    (void)err;
    if (is_a1111(shape)) {
        push_log_linear(list, ays_levels_a1111, AYS_COUNT, shape->n);
        push(list, 0);
    } else {
        push_log_linear(list, ays_levels, AYS_COUNT, shape->n + 1);
        list->values[list->count - 1] = 0;
    }
    return LD_OK;
}

enum ld_code ld_shape_gits(const struct ld_shape *shape, struct ld_shape_list *list,
                           struct ld_error *err)
{
    const double place = (option_or(shape->coefficient, 1.20) - 0.80) / 0.05;
    const double index = rint(place);
    if (!(fabs(place - index) < 1e-6 && index >= 0 && index < LD_GITS_COEFFICIENTS))
        return LD_FAIL(err, LD_E_RANGE,
                       "the gits coefficient must be a multiple of 0.05 between 0.80 and 1.50");
    if (shape->n < LD_GITS_STEPS_MIN)
        return LD_FAIL(err, LD_E_RANGE, "the gits scheduler needs at least 2 steps");
    double row[LD_GITS_STEPS_MAX + 1];
    const uint32_t published = shape->n < LD_GITS_STEPS_MAX ? shape->n : LD_GITS_STEPS_MAX;
    const uint32_t count = ld_gits_row((uint32_t)index, published, row);
    push_log_linear(list, row, count, shape->n + 1);
    list->values[list->count - 1] = 0;
    return LD_OK;
}

/* SD-Turbo: timesteps 999, 899, ... 99, of which a strength leaves out the first ones. */
enum ld_code ld_shape_turbo(const struct ld_shape *shape, struct ld_shape_list *list,
                            struct ld_error *err)
{
    (void)err;
    const uint32_t skipped = 10 - (uint32_t)(10 * fmin(fmax(shape->denoise, 0), 1));
    for (uint32_t j = skipped; j < 10 && j - skipped < shape->n; j++)
        push(list, ld_timestep_to_sigma(shape->table, 999.0 - 100.0 * j));
    if (list->count > 0)
        push(list, 0);
    return LD_OK;
}
