#include "runtime/sample/lincomb.h"

/* Doubles of a chunk: the sums stay in the first-level cache while the terms stream past. A
 * constant trip count lets the compiler vectorise without a remainder. */
enum { CHUNK = 512 };

static void add_chunk(double *restrict sum, double weight, const double *restrict x, size_t size)
{
    if (size == CHUNK) {
        for (size_t i = 0; i < CHUNK; i++)
            sum[i] += weight * x[i];
    } else {
        for (size_t i = 0; i < size; i++)
            sum[i] += weight * x[i];
    }
}

void ld_lincomb(double *dst, const struct ld_term *terms, uint32_t n, size_t count)
{
    for (size_t start = 0; start < count; start += CHUNK) {
        const size_t size = count - start < CHUNK ? count - start : CHUNK;
        double sum[CHUNK] = {0};
        for (uint32_t t = 0; t < n; t++)
            add_chunk(sum, terms[t].weight, terms[t].x + start, size);
        for (size_t i = 0; i < size; i++)
            dst[start + i] = sum[i];
    }
}
