/*
 * The products of kernels/rows.h, compiled for each fast level. What bounds them is the reading of
 * the matrix: ROWS_TOGETHER rows use each vector of it while it is in a register.
 *
 * A sum has two accumulators of VF lanes that take vectors of K in turn; what is left of K below
 * two vectors goes to the first, below one to the second. So the order depends on K alone.
 */
#ifndef LD_KERNELS_CPU_ROWS_SIMD_H
#define LD_KERNELS_CPU_ROWS_SIMD_H

#include "kernels/cpu/simd.h"
#include "kernels/rows.h"

/* Accumulators, two a sum, must fit the registers: 16 of AVX2, 32 elsewhere. */
#if defined(__AVX2__) && !defined(__AVX512F__)
enum { ROWS_TOGETHER = 3 };
#else
enum { ROWS_TOGETHER = 4 };
#endif
enum {
    ROWS_OUTPUTS = 2,        /* with several rows */
    ROWS_OUTPUTS_ALONE = 4,  /* with one: so many streams of the matrix at once */
    ROWS_CHUNK_BYTES = 48000 /* of the matrix, kept close while the rows pass over it */
};

/* The first n < VF values of a float16 row; the other lanes are zero. */
static inline vf rows_half_part(const uint16_t *src, int32_t n)
{
    uint16_t lanes[VF] = {0};
    memcpy(lanes, src, (size_t)n * sizeof *src);
    return vf_load_half(lanes);
}

/* One vector of K for R rows and N outputs, into accumulator `turn` of each sum. */
#define ROWS_STEP(turn, load_x, load_w)                                                            \
    do {                                                                                           \
        vf weight[ROWS_OUTPUTS_ALONE];                                                             \
        _Pragma("GCC unroll 4") for (int32_t n = 0; n < outputs; n++) weight[n] = (load_w);        \
        _Pragma("GCC unroll 4") for (int32_t r = 0; r < rows; r++)                                 \
        {                                                                                          \
            const vf value = (load_x);                                                             \
            _Pragma("GCC unroll 4") for (int32_t n = 0; n < outputs; n++) acc[turn][r][n] =        \
                vf_fma(value, weight[n], acc[turn][r][n]);                                         \
        }                                                                                          \
    } while (0)

/* A row alone runs at the speed of memory, if the matrix rows after these are asked for while these
 * are used: rows are short, and the hardware looks no further. Past the end it asks in vain. */
static inline __attribute__((always_inline)) void rows_ask_ahead(const uint16_t *w, size_t w_stride,
                                                                 int32_t outputs)
{
    for (int32_t n = 0; n < outputs; n++)
        __builtin_prefetch((const void *)((uintptr_t)w + 2 * w_stride * (size_t)(n + outputs)));
}

/* `rows` and `outputs` are constants where this is used, so that the sums are registers. */
static inline __attribute__((always_inline)) void
rows_tile(const float *x, size_t x_stride, const uint16_t *w, int32_t k_count, float *y,
          size_t y_stride, const int32_t rows, const int32_t outputs)
{
    const size_t w_stride = (size_t)k_count;
    vf acc[2][ROWS_TOGETHER][ROWS_OUTPUTS_ALONE];
#pragma GCC unroll 4
    for (int32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int32_t n = 0; n < outputs; n++)
            acc[0][r][n] = acc[1][r][n] = vf_set(0.0f);
    int32_t k = 0;
    for (; k + 2 * VF <= k_count; k += 2 * VF) {
        if (rows == 1)
            rows_ask_ahead(w + k, w_stride, outputs);
        ROWS_STEP(0, vf_load(x + (size_t)r * x_stride + k),
                  vf_load_half(w + (size_t)n * w_stride + k));
        ROWS_STEP(1, vf_load(x + (size_t)r * x_stride + k + VF),
                  vf_load_half(w + (size_t)n * w_stride + k + VF));
    }
    if (k + VF <= k_count) {
        ROWS_STEP(0, vf_load(x + (size_t)r * x_stride + k),
                  vf_load_half(w + (size_t)n * w_stride + k));
        k += VF;
    }
    const int32_t left = k_count - k;
    if (left > 0)
        ROWS_STEP(1, vf_load_part(x + (size_t)r * x_stride + k, left),
                  rows_half_part(w + (size_t)n * w_stride + k, left));
#pragma GCC unroll 4
    for (int32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int32_t n = 0; n < outputs; n++)
            y[(size_t)r * y_stride + (size_t)n] = vf_sum(vf_add(acc[0][r][n], acc[1][r][n]));
}

#undef ROWS_STEP

static void rows_one(const struct ld_half_product *op, int32_t r, int32_t first, int32_t end)
{
    const float *x = op->x + (size_t)r * op->x_stride;
    float *y = op->y + (size_t)r * op->y_stride;
    int32_t n = first;
    for (; n + ROWS_OUTPUTS_ALONE <= end; n += ROWS_OUTPUTS_ALONE)
        rows_tile(x, 0, op->w + (size_t)n * (size_t)op->k, op->k, y + n, 0, 1, ROWS_OUTPUTS_ALONE);
    for (; n < end; n++)
        rows_tile(x, 0, op->w + (size_t)n * (size_t)op->k, op->k, y + n, 0, 1, 1);
}

static void rows_together(const struct ld_half_product *op, int32_t r, int32_t first, int32_t end)
{
    const float *x = op->x + (size_t)r * op->x_stride;
    float *y = op->y + (size_t)r * op->y_stride;
    int32_t n = first;
    for (; n + ROWS_OUTPUTS <= end; n += ROWS_OUTPUTS)
        rows_tile(x, op->x_stride, op->w + (size_t)n * (size_t)op->k, op->k, y + n, op->y_stride,
                  ROWS_TOGETHER, ROWS_OUTPUTS);
    for (; n < end; n++)
        rows_tile(x, op->x_stride, op->w + (size_t)n * (size_t)op->k, op->k, y + n, op->y_stride,
                  ROWS_TOGETHER, 1);
}

static void rows_product(const struct ld_half_product *op)
{
    const int32_t fitting = ROWS_CHUNK_BYTES / (2 * op->k) / ROWS_OUTPUTS_ALONE;
    const int32_t chunk = (fitting > 1 ? fitting : 1) * ROWS_OUTPUTS_ALONE;
    for (int32_t first = 0; first < op->outputs; first += chunk) {
        const int32_t end = op->outputs - first < chunk ? op->outputs : first + chunk;
        int32_t r = 0;
        for (; r + ROWS_TOGETHER <= op->rows; r += ROWS_TOGETHER)
            rows_together(op, r, first, end);
        for (; r < op->rows; r++)
            rows_one(op, r, first, end);
    }
}

/* ---- Attention ------------------------------------------------------------------------------- */

static void rows_scores(float *y, const float *q, const float *keys, int32_t count, int32_t width,
                        float scale)
{
    for (int32_t j = 0; j < count; j++, keys += width) {
        vf acc[2] = {vf_set(0.0f), vf_set(0.0f)};
        int32_t d = 0;
        for (; d + 2 * VF <= width; d += 2 * VF) {
            acc[0] = vf_fma(vf_load(q + d), vf_load(keys + d), acc[0]);
            acc[1] = vf_fma(vf_load(q + d + VF), vf_load(keys + d + VF), acc[1]);
        }
        for (; d < width; d += VF) {
            const int32_t n = width - d;
            acc[0] = vf_fma(vf_load_part(q + d, n), vf_load_part(keys + d, n), acc[0]);
        }
        y[j] = scale * vf_sum(vf_add(acc[0], acc[1]));
    }
}

static void rows_mix(float *y, const float *weights, const float *values, int32_t count,
                     int32_t width)
{
    int32_t d = 0;
    for (; d + 4 * VF <= width; d += 4 * VF) {
        vf acc[4] = {vf_set(0.0f), vf_set(0.0f), vf_set(0.0f), vf_set(0.0f)};
        const float *at = values + d;
        for (int32_t j = 0; j < count; j++, at += width) {
            const vf weight = vf_set(weights[j]);
#pragma GCC unroll 4
            for (int32_t v = 0; v < 4; v++)
                acc[v] = vf_fma(weight, vf_load(at + v * VF), acc[v]);
        }
#pragma GCC unroll 4
        for (int32_t v = 0; v < 4; v++)
            vf_store(y + d + v * VF, acc[v]);
    }
    for (; d < width; d += VF) {
        const int32_t n = width - d;
        vf acc = vf_set(0.0f);
        const float *at = values + d;
        for (int32_t j = 0; j < count; j++, at += width)
            acc = vf_fma(vf_set(weights[j]), vf_load_part(at, n), acc);
        vf_store_part(y + d, acc, n);
    }
}

#endif
