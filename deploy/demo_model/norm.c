/* GroupNorm followed (or not) by SiLU, and its gradient, on bfloat16 maps in one go: the data of a
 * group lie side by side, stay in the cache, and cross memory once. Statistics are fp32.
 * x, y, dy, dx: samples x channels x area, bfloat16; area a multiple of 16.
 * mean, rstd: samples x groups; dweight, dbias: samples x channels (summed by the caller).
 */

#include "vector.h"

#include <math.h>
#include <stdlib.h>

void norm_forward(const unsigned short *x, const float *weight, const float *bias,
                  unsigned short *y, float *mean, float *rstd, int samples, int channels,
                  int groups, int area, float eps, int silu)
{
    const int each = channels / groups;
#pragma omp parallel for
    for (int g = 0; g < samples * groups; g++) {
        const size_t at = (size_t)g * each * area;
        const long count = (long)each * area;
        vec sum = {0}, square = {0};
        for (long i = 0; i < count; i += LANES)
            sum += load_half(x + at + i);
        const float middle = sum_lanes(sum) / (float)count;
        for (long i = 0; i < count; i += LANES) {
            const vec d = load_half(x + at + i) - middle;
            square += d * d;
        }
        const float inverse = 1 / sqrtf(sum_lanes(square) / (float)count + eps);
        mean[g] = middle;
        rstd[g] = inverse;
        for (int c = 0; c < each; c++) {
            const int channel = g % groups * each + c;
            const float scale = weight[channel] * inverse;
            const float shift = bias[channel] - middle * scale;
            for (int i = 0; i < area; i += LANES) {
                vec z = load_half(x + at + (size_t)c * area + i) * scale + shift;
                if (silu)
                    z *= sigmoid(z);
                store_half(y + at + (size_t)c * area + i, z);
            }
        }
    }
}

int norm_backward(const unsigned short *x, const float *weight, const float *bias,
                  const unsigned short *dy, const float *mean, const float *rstd,
                  unsigned short *dx, float *dweight, float *dbias, int samples, int channels,
                  int groups, int area, int silu)
{
    const int each = channels / groups;
    int good = 1;
#pragma omp parallel
    {
        float *scratch = aligned_alloc(64, ((size_t)each * area * sizeof(float) + 63) / 64 * 64);
#pragma omp for
        for (int g = 0; g < samples * groups; g++) {
            const size_t at = (size_t)g * each * area;
            const float count = (float)each * (float)area;
            float sum = 0, slope = 0;
            if (!scratch) {
                good = 0;
                continue;
            }
            for (int c = 0; c < each; c++) {
                const int channel = g % groups * each + c;
                const float w = weight[channel], b = bias[channel];
                vec dz_sum = {0}, dz_x = {0};
                for (int i = 0; i < area; i += LANES) {
                    const size_t j = (size_t)c * area + i;
                    const vec h = (load_half(x + at + j) - mean[g]) * rstd[g];
                    vec dz = load_half(dy + at + j);
                    if (silu) {
                        const vec z = h * w + b;
                        const vec s = sigmoid(z);
                        dz *= s * (1.0f + z * (1.0f - s));
                    }
                    dz_sum += dz;
                    dz_x += dz * h;
                    *(vec *)(scratch + j) = dz * w;
                }
                const size_t out = (size_t)(g / groups) * channels + channel;
                dbias[out] = sum_lanes(dz_sum);
                dweight[out] = sum_lanes(dz_x);
                sum += w * dbias[out];
                slope += w * dweight[out];
            }
            for (long i = 0; i < (long)each * area; i += LANES) {
                const vec h = (load_half(x + at + i) - mean[g]) * rstd[g];
                const vec d = load(scratch + i) - sum / count - h * (slope / count);
                store_half(dx + at + i, d * rstd[g]);
            }
        }
        free(scratch);
    }
    return good;
}
