#include "runtime/sample/guidance_attention.h"

#include "runtime/base/error.h"

#include <math.h>

enum { HALF = LD_SAG_KERNEL / 2 };

static const float attended = 1.0f; /* the mean of a key's summed attention is exactly one */

void ld_sag_grid(int32_t tokens, int32_t latent_height, int32_t latent_width, int32_t *height,
                 int32_t *width)
{
    LD_ASSERT(tokens > 0);
    const double aspect = (double)latent_height / (double)latent_width;
    const int32_t wanted = (int32_t)rint(sqrt(aspect * (double)tokens));
    *height = 1;
    for (int32_t i = 0; i < tokens; i++) {
        if (wanted + i > 0 && wanted + i <= tokens && tokens % (wanted + i) == 0) {
            *height = wanted + i;
            break;
        }
        if (wanted - i > 0 && tokens % (wanted - i) == 0) {
            *height = wanted - i;
            break;
        }
    }
    *width = tokens / *height;
}

bool ld_sag_possible(struct ld_latent_shape shape)
{
    return shape.height > HALF && shape.width > HALF;
}

static void gaussian(double sigma, double kernel[LD_SAG_KERNEL])
{
    double sum = 0;
    for (int i = 0; i < LD_SAG_KERNEL; i++) {
        const double at = (double)(i - HALF) / sigma;
        kernel[i] = exp(-0.5 * at * at);
        sum += kernel[i];
    }
    for (int i = 0; i < LD_SAG_KERNEL; i++)
        kernel[i] /= sum;
}

/* Mirror without repeating the edge: -1 is 1, size is size - 2. */
static int32_t reflect(int32_t at, int32_t size)
{
    if (at < 0)
        return -at;
    return at < size ? at : 2 * (size - 1) - at;
}

static void blur_plane(double *out, const double *in, double *across, const double *kernel,
                       int32_t height, int32_t width)
{
    for (int32_t y = 0; y < height; y++) {
        for (int32_t x = 0; x < width; x++) {
            double sum = 0;
            for (int32_t k = 0; k < LD_SAG_KERNEL; k++)
                sum += kernel[k] * in[y * width + reflect(x + k - HALF, width)];
            across[y * width + x] = sum;
        }
    }
    for (int32_t y = 0; y < height; y++) {
        for (int32_t x = 0; x < width; x++) {
            double sum = 0;
            for (int32_t k = 0; k < LD_SAG_KERNEL; k++)
                sum += kernel[k] * across[reflect(y + k - HALF, height) * width + x];
            out[y * width + x] = sum;
        }
    }
}

void ld_sag_degrade(double *out, const double *uncond, const float *attention, int32_t tokens,
                    double blur_sigma, struct ld_latent_shape shape, double *scratch)
{
    LD_ASSERT(ld_sag_possible(shape));
    const size_t plane = ld_latent_plane(shape);
    const int32_t h = shape.height, w = shape.width;
    int32_t grid_h, grid_w;
    double kernel[LD_SAG_KERNEL];
    ld_sag_grid(tokens, h, w, &grid_h, &grid_w);
    gaussian(blur_sigma > 0 ? blur_sigma : 1e-6, kernel); /* no blur: all weight on the middle */
    for (int32_t c = 0; c < shape.channels; c++) {
        const double *in = uncond + (size_t)c * plane;
        double *blurred = scratch;
        blur_plane(blurred, in, scratch + plane, kernel, h, w);
        for (int32_t y = 0; y < h; y++) {
            const int32_t gy = (int32_t)((int64_t)y * grid_h / h);
            for (int32_t x = 0; x < w; x++) {
                const int32_t gx = (int32_t)((int64_t)x * grid_w / w);
                const bool mask = attention[gy * grid_w + gx] > attended;
                const int32_t i = y * w + x;
                out[(size_t)c * plane + (size_t)i] = mask ? blurred[i] : in[i];
            }
        }
    }
}

void ld_sag_input(double *out, const double *degraded, const double *x, const double *uncond,
                  size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = degraded[i] + x[i] - uncond[i];
}

void ld_guidance_push(double *denoised, const double *kept, const double *lost, double scale,
                      size_t count)
{
    for (size_t i = 0; i < count; i++)
        denoised[i] += scale * (kept[i] - lost[i]);
}
