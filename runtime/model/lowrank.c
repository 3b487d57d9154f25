#include "runtime/model/lowrank.h"

#include "runtime/base/error.h"

#include <string.h>

enum { WIDTH = 16, STEP = 2 * WIDTH };

/* The compiler splits this into whatever the target has; two of them hide the latency of sums. */
typedef float vector __attribute__((vector_size(WIDTH * sizeof(float))));

static inline __attribute__((always_inline)) void product(float *dst, const float *up,
                                                          const float *down, const size_t rows,
                                                          size_t rank, size_t columns)
{
    size_t j = 0;
    for (; j + STEP <= columns; j += STEP) {
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

/* The number of rows is a constant in each call, so that the sums stay in registers. */
static inline __attribute__((always_inline)) void
by_rows(float *dst, const float *up, const float *down, size_t rows, size_t rank, size_t columns)
{
    if (rows == LD_LOWRANK_ROWS) {
        product(dst, up, down, LD_LOWRANK_ROWS, rank, columns);
        return;
    }
    for (size_t i = 0; i < rows; i++)
        product(dst + i * columns, up + i * rank, down, 1, rank, columns);
}

#if defined(__x86_64__)

__attribute__((target("avx512f"))) static void rows_avx512(float *dst, const float *up,
                                                           const float *down, size_t rows,
                                                           size_t rank, size_t columns)
{
    by_rows(dst, up, down, rows, rank, columns);
}

__attribute__((target("avx2"))) static void
rows_avx2(float *dst, const float *up, const float *down, size_t rows, size_t rank, size_t columns)
{
    by_rows(dst, up, down, rows, rank, columns);
}

#endif

void ld_lowrank_rows(float *dst, const float *up, const float *down, size_t rows, size_t rank,
                     size_t columns)
{
    LD_ASSERT(rows <= LD_LOWRANK_ROWS);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
        rows_avx512(dst, up, down, rows, rank, columns);
        return;
    }
    if (__builtin_cpu_supports("avx2")) {
        rows_avx2(dst, up, down, rows, rank, columns);
        return;
    }
#endif
    by_rows(dst, up, down, rows, rank, columns);
}
