/* The product of two thin matrices, a few rows at a time: all that merging adapters needs. */
#ifndef LD_MODEL_LOWRANK_H
#define LD_MODEL_LOWRANK_H

#include <stddef.h>

enum { LD_LOWRANK_ROWS = 4 }; /* rows of one call that share the passes over `down` */

/*
 * dst[i, j] = sum_a up[i, a] * down[a, j], summed in the order of a.
 *
 * Shapes   up [rows, rank], down [rank, columns], dst [rows, columns], all float32 and contiguous;
 *          rows <= LD_LOWRANK_ROWS.
 * Numerics products and sums are rounded separately, so every machine gives the same bits.
 */
void ld_lowrank_rows(float *dst, const float *up, const float *down, size_t rows, size_t rank,
                     size_t columns);

#endif
