#include "runtime/sample/slerp.h"

#include <math.h>
#include <stddef.h>

static const double parallel_cosine = 0.9995; /* the reference's threshold */

/* Cosine of the angle between two columns; zero columns count as orthogonal. */
static double column_cosine(const float *a, const float *b, int32_t height, int32_t width)
{
    double dot = 0, aa = 0, bb = 0;
    for (int32_t y = 0; y < height; y++) {
        const double p = (double)a[(size_t)y * (size_t)width];
        const double q = (double)b[(size_t)y * (size_t)width];
        dot += p * q;
        aa += p * p;
        bb += q * q;
    }
    const double size = sqrt(aa) * sqrt(bb);
    return size > 0 ? dot / size : 0.0;
}

static void column_blend(float *a, const float *b, double wa, double wb, int32_t height,
                         int32_t width)
{
    for (int32_t y = 0; y < height; y++) {
        const size_t i = (size_t)y * (size_t)width;
        a[i] = (float)(wa * (double)a[i] + wb * (double)b[i]);
    }
}

void ld_slerp(float *noise, const float *other, double strength, int32_t channels, int32_t height,
              int32_t width)
{
    const size_t plane = (size_t)height * (size_t)width;
    double mean = 0;
    for (int32_t c = 0; c < channels; c++)
        for (int32_t x = 0; x < width; x++) {
            const size_t at = (size_t)c * plane + (size_t)x;
            mean += column_cosine(noise + at, other + at, height, width);
        }
    mean /= (double)channels * (double)width;

    for (int32_t c = 0; c < channels; c++) {
        for (int32_t x = 0; x < width; x++) {
            const size_t at = (size_t)c * plane + (size_t)x;
            double wa = strength, wb = 1.0 - strength;
            if (!(mean > parallel_cosine)) {
                const double cosine = column_cosine(noise + at, other + at, height, width);
                const double omega = acos(fmax(-1.0, fmin(1.0, cosine)));
                const double so = sin(omega);
                /* Exactly (anti)parallel columns have no plane to turn in: blend them straight. */
                wa = so > 0 ? sin((1.0 - strength) * omega) / so : 1.0 - strength;
                wb = so > 0 ? sin(strength * omega) / so : strength;
            }
            column_blend(noise + at, other + at, wa, wb, height, width);
        }
    }
}
