/*
 * The products of kernels/rows.h in plain C, for processors without a fast level. Eight partial
 * sums a value keep the float32 error of a long sum down.
 */
#include "kernels/cpu/cpu.h"

enum { LANES = 8, STRETCH = 512 /* values of a matrix row decoded at once */ };

static float lane_sum(const float lane[LANES])
{
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static void add_products(float lane[LANES], const float *a, const float *b, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        lane[i % LANES] += a[i] * b[i];
}

/* Each stretch of K is decoded once for all rows, and its sum added to y. */
static void plain_product(const struct ld_half_product *op)
{
    float w[STRETCH];
    for (int32_t n = 0; n < op->outputs; n++) {
        const uint16_t *row = op->w + (size_t)n * (size_t)op->k;
        for (int32_t first = 0; first < op->k; first += STRETCH) {
            const int32_t count = op->k - first < STRETCH ? op->k - first : STRETCH;
            ld_dtype_to_f32(w, row + first, LD_DTYPE_F16, (size_t)count);
            for (int32_t r = 0; r < op->rows; r++) {
                float lane[LANES] = {0.0f};
                float *y = op->y + (size_t)r * op->y_stride + n;
                add_products(lane, op->x + (size_t)r * op->x_stride + first, w, count);
                *y = lane_sum(lane) + (first > 0 ? *y : 0.0f);
            }
        }
    }
}

static void plain_scores(float *y, const float *q, const float *keys, int32_t count, int32_t width,
                         float scale)
{
    for (int32_t j = 0; j < count; j++, keys += width) {
        float lane[LANES] = {0.0f};
        add_products(lane, q, keys, width);
        y[j] = scale * lane_sum(lane);
    }
}

static void plain_mix(float *y, const float *weights, const float *values, int32_t count,
                      int32_t width)
{
    for (int32_t d = 0; d < width; d++)
        y[d] = 0.0f;
    for (int32_t j = 0; j < count; j++, values += width)
        for (int32_t d = 0; d < width; d++)
            y[d] += weights[j] * values[d];
}

const struct ld_row_kernels ld_plain_rows = {
    .name = "plain C", .product = plain_product, .scores = plain_scores, .mix = plain_mix};
