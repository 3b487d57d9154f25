#include "runtime/image/gaussian.h"

#include "runtime/base/arena.h"

#include <math.h>
#include <string.h>

/* ---- Taps ------------------------------------------------------------------------------------ */

int32_t ld_gaussian_radius(double sigma)
{
    const double taps = rint(8.0 * sigma + 1.0);
    const int32_t radius =
        taps < 2.0 * LD_GAUSSIAN_RADIUS_MAX ? (int32_t)taps / 2 : LD_GAUSSIAN_RADIUS_MAX;
    return radius > 0 ? radius : 0;
}

void ld_gaussian_weights(float *weight, int32_t radius, double sigma)
{
    double value[LD_GAUSSIAN_RADIUS_MAX + 1] = {1};
    double total = 1;
    for (int32_t k = 1; k <= radius; k++) {
        value[k] = exp(-0.5 * (double)k * (double)k / (sigma * sigma));
        total += 2 * value[k];
    }
    for (int32_t k = 0; k <= radius; k++)
        weight[k] = (float)(value[k] / total);
}

/* ---- Rows ------------------------------------------------------------------------------------ */

struct blur {
    float weight[LD_GAUSSIAN_RADIUS_MAX + 1];
    int32_t radius, width;
    int32_t kept;  /* rows in the ring: as many as one output row looks at */
    float *ring;   /* [kept, 3, width]: row y of the picture, blurred across, at y % kept */
    float *padded; /* [width + 2 radius] */
    float *sum;    /* [3, width] */
};

/* Every loop below runs along the row and never over the taps, so that the compiler may take
 * several pixels at once without another order of a sum. */
static void add_pair(float *sum, const float *a, const float *b, size_t count, float weight)
{
    for (size_t x = 0; x < count; x++)
        sum[x] += weight * (a[x] + b[x]);
}

static void scale(float *sum, const float *a, size_t count, float weight)
{
    for (size_t x = 0; x < count; x++)
        sum[x] = weight * a[x];
}

/* One row of one colour, blurred across. */
static void blur_across(const struct blur *blur, float *out, const uint8_t *row)
{
    const int32_t radius = blur->radius;
    float *middle = blur->padded + radius;
    for (int32_t x = 0; x < blur->width; x++)
        middle[x] = (float)row[3 * x];
    for (int32_t k = 1; k <= radius; k++) {
        middle[-k] = middle[ld_mirrored(-k, blur->width)];
        middle[blur->width - 1 + k] = middle[ld_mirrored(blur->width - 1 + k, blur->width)];
    }
    scale(out, middle, (size_t)blur->width, blur->weight[0]);
    for (int32_t k = 1; k <= radius; k++)
        add_pair(out, middle - k, middle + k, (size_t)blur->width, blur->weight[k]);
}

/* Row `y` of all colours, blurred down from rows that the ring holds. */
static void blur_down(const struct blur *blur, int32_t y, int32_t height)
{
    const size_t row = 3 * (size_t)blur->width;
    scale(blur->sum, blur->ring + (size_t)(y % blur->kept) * row, row, blur->weight[0]);
    for (int32_t k = 1; k <= blur->radius; k++) {
        const int32_t above = ld_mirrored(y - k, height) % blur->kept;
        const int32_t below = ld_mirrored(y + k, height) % blur->kept;
        add_pair(blur->sum, blur->ring + (size_t)above * row, blur->ring + (size_t)below * row, row,
                 blur->weight[k]);
    }
}

/* ---- Picture --------------------------------------------------------------------------------- */

enum ld_code ld_gaussian_blur(float *planes, const uint8_t *rgb, int32_t height, int32_t width,
                              double sigma, struct ld_error *err)
{
    struct blur blur = {.radius = ld_gaussian_radius(sigma), .width = width};
    const size_t row = 3 * (size_t)width;
    /* What row y looks at, mirrored rows too, lies within `radius` of it. */
    blur.kept = height < 2 * blur.radius + 1 ? height : 2 * blur.radius + 1;
    const size_t ring = (size_t)blur.kept * row;
    const size_t bytes = (ring + row + (size_t)width + 2 * (size_t)blur.radius) * sizeof(float);
    blur.ring = ld_block_alloc(bytes);
    if (!blur.ring)
        return LD_FAIL(err, LD_E_NOMEM, "no memory to blur the image");
    blur.sum = blur.ring + ring;
    blur.padded = blur.sum + row;
    ld_gaussian_weights(blur.weight, blur.radius, sigma);
    int32_t ready = 0; /* rows that have been blurred across */
    for (int32_t y = 0; y < height; y++) {
        for (; ready < height && ready <= y + blur.radius; ready++)
            for (size_t c = 0; c < 3; c++)
                blur_across(&blur,
                            blur.ring + (size_t)(ready % blur.kept) * row + c * (size_t)width,
                            rgb + (size_t)ready * row + c);
        blur_down(&blur, y, height);
        for (size_t c = 0; c < 3; c++)
            memcpy(planes + (c * (size_t)height + (size_t)y) * (size_t)width,
                   blur.sum + c * (size_t)width, (size_t)width * sizeof(float));
    }
    ld_block_free(blur.ring, bytes);
    return LD_OK;
}
