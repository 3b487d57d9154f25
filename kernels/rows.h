/*
 * The products of a language model's decoder on the CPU: a few rows of float32 against a large
 * float16 matrix that is read once and used where it lies, and the two halves of attention over a
 * float32 cache. Not operators of a backend: they own no threads and no memory, the caller cuts the
 * outputs among its threads.
 *
 *     const struct ld_row_kernels *kernels;
 *     if (ld_row_kernels_choose(&kernels, LD_CPU_AUTO, &err) != LD_OK) ...
 *     kernels->product(&(struct ld_half_product){.x = x, .x_stride = 768, .rows = 1, .w = w, .k =
 * 768, .y = y, .y_stride = 2304, .outputs = 2304});
 *
 * Every value of a result is a function of its own row and column alone: neither how many rows or
 * outputs a call has nor where they are cut changes a bit of it. The order of a sum differs from
 * level to level.
 */
#ifndef LD_KERNELS_ROWS_H
#define LD_KERNELS_ROWS_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y[r][n] = sum_k x[r][k] w[n][k]; strides in values. y aliases neither x nor w. */
struct ld_half_product {
    const float *x;
    size_t x_stride;
    int32_t rows;
    const uint16_t *w; /* [outputs][k] float16, one after another */
    int32_t k;
    float *y;
    size_t y_stride;
    int32_t outputs;
};

struct ld_row_kernels {
    const char *name; /* of the level */
    void (*product)(const struct ld_half_product *op);
    /* y[j] = scale * q . keys[j], for `count` keys of `width` values, one after another. */
    void (*scores)(float *y, const float *q, const float *keys, int32_t count, int32_t width,
                   float scale);
    /* y[d] = sum_j weights[j] values[j][d], for `count` values of `width`, one after another. */
    void (*mix)(float *y, const float *weights, const float *values, int32_t count, int32_t width);
};

/*
 * The kernels of a level; LD_CPU_AUTO: of LATENTD_CPU_LEVEL or the best that this machine has.
 * Errors   LD_E_UNSUPPORTED if the machine lacks the level, LD_E_INVALID (LATENTD_CPU_LEVEL).
 */
enum ld_code ld_row_kernels_choose(const struct ld_row_kernels **out, enum ld_cpu_level level,
                                   struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
