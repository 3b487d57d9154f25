#include "runtime/model/lowrank.h"

#include "runtime/base/error.h"
#include "runtime/model/lowrank_product.h"

#define PRODUCT product_8
#define WIDTH   8
#include "runtime/model/lowrank_product.h"
#define PRODUCT product_16
#define WIDTH   16
#include "runtime/model/lowrank_product.h"

/* All rows at once where there are as many as the constant says, else one by one. */
#define BY_ROWS(product)                                                                           \
    do {                                                                                           \
        if (rows == LD_LOWRANK_ROWS) {                                                             \
            product(dst, up, down, LD_LOWRANK_ROWS, rank, columns);                                \
            return;                                                                                \
        }                                                                                          \
        for (size_t i = 0; i < rows; i++)                                                          \
            product(dst + i * columns, up + i * rank, down, 1, rank, columns);                     \
    } while (0)

#if defined(__x86_64__)

__attribute__((target("avx512f"))) static void rows_avx512(float *dst, const float *up,
                                                           const float *down, size_t rows,
                                                           size_t rank, size_t columns)
{
    BY_ROWS(product_16);
}

__attribute__((target("avx2"))) static void
rows_avx2(float *dst, const float *up, const float *down, size_t rows, size_t rank, size_t columns)
{
    BY_ROWS(product_8);
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
    BY_ROWS(product_4);
}
