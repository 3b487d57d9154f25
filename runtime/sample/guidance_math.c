#include "runtime/sample/guidance_math.h"

#include "runtime/base/error.h"

#include <math.h>

void ld_cfg(double *out, const double *cond, const double *uncond, double scale, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = uncond[i] + scale * (cond[i] - uncond[i]);
}

double ld_dot(const double *a, const double *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

double ld_norm(const double *values, size_t count)
{
    return sqrt(ld_dot(values, values, count));
}

double ld_deviation(const double *values, size_t count)
{
    if (count < 2)
        return 0.0;
    double mean = 0;
    for (size_t i = 0; i < count; i++)
        mean += values[i];
    mean /= (double)count;
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (values[i] - mean) * (values[i] - mean);
    return sqrt(sum / (double)(count - 1));
}

/* ---- RescaleCFG ------------------------------------------------------------------------------ */

/* std of a x - b, without a tensor for it. */
static double deviation_of_difference(const double *x, double a, const double *b, size_t count)
{
    if (count < 2)
        return 0.0;
    double mean = 0;
    for (size_t i = 0; i < count; i++)
        mean += a * x[i] - b[i];
    mean /= (double)count;
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        const double d = a * x[i] - b[i] - mean;
        sum += d * d;
    }
    return sqrt(sum / (double)(count - 1));
}

void ld_cfg_rescale(double *denoised, const double *cond, const double *x, double sigma, double phi,
                    size_t count)
{
    LD_ASSERT(denoised != cond);
    const double a = 1.0 / (sigma * sigma + 1.0);
    /* The factor k scales both deviations and both ends of the way to v space, so it cancels. */
    const double of_cond = deviation_of_difference(x, a, cond, count);
    const double of_result = deviation_of_difference(x, a, denoised, count);
    const double ratio = of_result > 0 ? of_cond / of_result : 1.0;
    const double share = phi * ratio + (1.0 - phi);
    for (size_t i = 0; i < count; i++)
        denoised[i] = a * x[i] - share * (a * x[i] - denoised[i]);
}

/* ---- Projections ----------------------------------------------------------------------------- */

void ld_perp_neg(double *out, const double *cond, const double *negative, const double *empty,
                 double scale, double weight, size_t count)
{
    double np = 0, pp = 0;
    for (size_t i = 0; i < count; i++) {
        const double p = cond[i] - empty[i];
        np += (negative[i] - empty[i]) * p;
        pp += p * p;
    }
    const double along = pp > 0 ? np / pp : 0.0;
    for (size_t i = 0; i < count; i++) {
        const double p = cond[i] - empty[i];
        const double n = negative[i] - empty[i];
        out[i] = empty[i] + scale * (p - weight * (n - along * p));
    }
}

void ld_apg_fold(struct ld_apg *apg, double *cond, const double *uncond, double scale, size_t count)
{
    LD_ASSERT(scale != 0.0);
    const bool momentum = apg->momentum != 0.0 && apg->running;
    double gg = 0, gc = 0, cc = 0;
    for (size_t i = 0; i < count; i++) {
        double g = cond[i] - uncond[i];
        if (momentum) {
            g += apg->momentum * apg->running[i];
            apg->running[i] = g;
        }
        gg += g * g;
        gc += g * cond[i];
        cc += cond[i] * cond[i];
    }
    const double length = sqrt(gg);
    const double bound =
        apg->threshold > 0 && length > apg->threshold ? apg->threshold / length : 1.0;
    const double along = cc > 0 ? bound * gc / cc : 0.0;
    for (size_t i = 0; i < count; i++) {
        const double plain = cond[i] - uncond[i];
        const double g = bound * (momentum ? apg->running[i] : plain);
        const double parallel = along * cond[i];
        cond[i] = uncond[i] + (g - parallel) + apg->eta * parallel + plain / scale;
    }
}

/* ---- Smaller ones ---------------------------------------------------------------------------- */

void ld_negative_strength(double *uncond, const double *cond, double q, size_t count)
{
    const double before = ld_norm(uncond, count);
    for (size_t i = 0; i < count; i++)
        uncond[i] = (1.0 - q) * cond[i] + q * uncond[i];
    const double after = ld_norm(uncond, count);
    const double back = after > 0 ? before / after : 1.0;
    for (size_t i = 0; i < count; i++)
        uncond[i] *= back;
}

void ld_epsilon_scale(double *denoised, const double *x, double k, size_t count)
{
    for (size_t i = 0; i < count; i++)
        denoised[i] = x[i] - (x[i] - denoised[i]) / k;
}
