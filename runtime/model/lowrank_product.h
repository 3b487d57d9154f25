/*
 * The product of lowrank.h for one width of vector. Included once for each width, with
 *     PRODUCT  the name of the function
 *     WIDTH    numbers in a register of the target: wider types would live in memory
 * and without them for the four of every target. `rows` is a constant in each call, so that the
 * sums of two vectors a row stay in registers: enough of them to hide the latency of adding, and no
 * more than the target has.
 */
#include "runtime/model/lowrank.h"

#include <string.h>

#ifndef PRODUCT
#define PRODUCT product_4
#define WIDTH   4
#endif

static inline __attribute__((always_inline)) void PRODUCT(float *dst, const float *up,
                                                          const float *down, const size_t rows,
                                                          size_t rank, size_t columns)
{
    typedef float vector __attribute__((vector_size(WIDTH * sizeof(float))));
    const size_t step = 2 * WIDTH;
    size_t j = 0;
    for (; j + step <= columns; j += step) {
        vector sums[LD_LOWRANK_ROWS][2];
        memset(sums, 0, sizeof sums);
        for (size_t a = 0; a < rank; a++) {
            vector left;
            vector right;
            memcpy(&left, down + a * columns + j, sizeof left);
            memcpy(&right, down + a * columns + j + WIDTH, sizeof right);
            for (size_t i = 0; i < rows; i++) {
                sums[i][0] += up[i * rank + a] * left;
                sums[i][1] += up[i * rank + a] * right;
            }
        }
        for (size_t i = 0; i < rows; i++)
            memcpy(dst + i * columns + j, sums[i], sizeof sums[i]);
    }
    for (; j < columns; j++) {
        for (size_t i = 0; i < rows; i++) {
            float sum = 0;
            for (size_t a = 0; a < rank; a++)
                sum += up[i * rank + a] * down[a * columns + j];
            dst[i * columns + j] = sum;
        }
    }
}

#undef PRODUCT
#undef WIDTH
