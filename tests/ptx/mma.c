/*
 * The matrix instructions: ldmatrix and mma.
 *
 * PTX deals an 8x8 matrix of 16-bit elements out to a warp so: lane l has row l / 4, column
 * 2 (l % 4) and the next, in one register, the lower column in the lower half ("Matrix Fragments
 * for mma.m16n8k8, .m16n8k16": groupID = laneid >> 2, threadID_in_group = laneid % 4). A register
 * of all lanes, lane by lane, is therefore that matrix row by row: 64 elements. What is dealt out
 * so:
 *
 *     A, 16 x k   registers 0, 1: rows 0-7 and 8-15 of columns 0-7; 2, 3: the same of columns 8-15
 *     B, k x 8    its transpose (lane / 4 is the column): register 0: k 0-7, 1: k 8-15
 *     C, 16 x 8   f16: registers 0, 1: rows 0-7, 8-15. f32: one register an element, so
 *                 0, 1 are the even and the odd columns of rows 0-7, 2, 3 of rows 8-15
 *
 * A product of two f16 or bf16 is exact in f32; sums are rounded to f32 after every product, k
 * going up. (A GPU's order and rounding of the sum are not promised.) For f16 results the sum is
 * rounded once, at the end.
 */
#include "tests/ptx/mma.h"

#include "tests/ptx/half.h"

#include <string.h>

enum { SIDE = 8, ROWS = 16, COLUMNS = 8, MATRIX = SIDE * SIDE, ROW_BYTES = 16 };

typedef float from(uint16_t h);

/* ---- mma ------------------------------------------------------------------------------------- */

/* A row of 8 elements: compilers that know no such type would not see the loops as meant. */
typedef float row8 __attribute__((vector_size(SIDE * sizeof(float))));

#define INLINE static inline __attribute__((always_inline))

/* Register `k` of the warp, 64 elements, as floats. */
INLINE void read_matrix(const struct ptx_warp *w, const struct ptx_op *op, int k, from *convert,
                        float m[SIDE][SIDE])
{
    const uint16_t *halves = PTX_U16(w, op, k);
    float *flat = &m[0][0];
    for (int i = 0; i < MATRIX; i++)
        flat[i] = convert(halves[i]);
}

/* sum += A B, of `depth` columns of A. Places of A's and B's first registers: a, b. */
INLINE void multiply(const struct ptx_warp *w, const struct ptx_op *op, int a, int b, int depth,
                     from *convert, row8 sum[ROWS])
{
    for (int k0 = 0; k0 < depth; k0 += SIDE) {
        float transposed[COLUMNS][SIDE], left[ROWS][SIDE];
        row8 right[SIDE];
        read_matrix(w, op, b + k0 / SIDE, convert, transposed);
        for (int k = 0; k < SIDE; k++)
            for (int n = 0; n < COLUMNS; n++)
                right[k][n] = transposed[n][k];
        for (int half = 0; half < ROWS / SIDE; half++)
            read_matrix(w, op, a + k0 / SIDE * 2 + half, convert, &left[half * SIDE]);
        for (int k = 0; k < SIDE; k++)
            for (int row = 0; row < ROWS; row++)
                sum[row] += left[row][k] * right[k];
    }
}

/* Registers 2 h, 2 h + 1 are the even and odd columns of rows 8 h and on, lane by lane. */
INLINE void read_f32(const struct ptx_warp *w, const struct ptx_op *op, int at, row8 sum[ROWS])
{
    for (int half = 0; half < ROWS / SIDE; half++) {
        const float *even = PTX_F32(w, op, at + 2 * half), *odd = PTX_F32(w, op, at + 2 * half + 1);
        float rows[MATRIX];
        for (int lane = 0; lane < PTX_LANES; lane++) {
            rows[2 * lane] = even[lane];
            rows[2 * lane + 1] = odd[lane];
        }
        memcpy(&sum[half * SIDE], rows, sizeof rows);
    }
}

INLINE void write_f32(struct ptx_warp *w, const struct ptx_op *op, const row8 sum[ROWS])
{
    for (int half = 0; half < ROWS / SIDE; half++) {
        float *even = PTX_F32(w, op, 2 * half), *odd = PTX_F32(w, op, 2 * half + 1);
        float rows[MATRIX];
        memcpy(rows, &sum[half * SIDE], sizeof rows);
        for (int lane = 0; lane < PTX_LANES; lane++) {
            even[lane] = rows[2 * lane];
            odd[lane] = rows[2 * lane + 1];
        }
    }
    w->block->counts.mma++;
}

/* Operands: 4 results, A, B, C. */
void ptx_mma_k16_f16(struct ptx_warp *w, const struct ptx_op *op)
{
    row8 sum[ROWS];
    read_f32(w, op, 10, sum);
    multiply(w, op, 4, 8, 16, from_half, sum);
    write_f32(w, op, sum);
}

void ptx_mma_k16_bf16(struct ptx_warp *w, const struct ptx_op *op)
{
    row8 sum[ROWS];
    read_f32(w, op, 10, sum);
    multiply(w, op, 4, 8, 16, from_bf16, sum);
    write_f32(w, op, sum);
}

void ptx_mma_k8_f16(struct ptx_warp *w, const struct ptx_op *op)
{
    row8 sum[ROWS];
    read_f32(w, op, 7, sum);
    multiply(w, op, 4, 6, 8, from_half, sum);
    write_f32(w, op, sum);
}

void ptx_mma_k8_bf16(struct ptx_warp *w, const struct ptx_op *op)
{
    row8 sum[ROWS];
    read_f32(w, op, 7, sum);
    multiply(w, op, 4, 6, 8, from_bf16, sum);
    write_f32(w, op, sum);
}

/* The same with C and D in halves: 2 results, A, B, C. */
INLINE void multiply_halves(struct ptx_warp *w, const struct ptx_op *op, int b, int c, int depth)
{
    row8 sum[ROWS];
    float rows[ROWS][COLUMNS];
    for (int half = 0; half < ROWS / SIDE; half++)
        read_matrix(w, op, c + half, from_half, &rows[half * SIDE]);
    memcpy(sum, rows, sizeof sum);
    multiply(w, op, 2, b, depth, from_half, sum);
    memcpy(rows, sum, sizeof rows);
    for (int half = 0; half < ROWS / SIDE; half++) {
        uint16_t *halves = PTX_U16(w, op, half);
        const float *flat = rows[half * SIDE];
        for (int i = 0; i < MATRIX; i++)
            halves[i] = to_half(flat[i]);
    }
    w->block->counts.mma++;
}

void ptx_mma_k16_f16_f16(struct ptx_warp *w, const struct ptx_op *op)
{
    multiply_halves(w, op, 6, 8, 16);
}

void ptx_mma_k8_f16_f16(struct ptx_warp *w, const struct ptx_op *op)
{
    multiply_halves(w, op, 4, 5, 8);
}

/* ---- ldmatrix -------------------------------------------------------------------------------- */

/* Lane 8 m + r has the address of row r of matrix m; other lanes' addresses are not looked at. */
static void load_matrices(struct ptx_warp *w, const struct ptx_op *op, int count, bool transpose)
{
    uint64_t address[PTX_LANES];
    uint32_t at[PTX_LANES];
    uint16_t rows[PTX_LANES][SIDE];
    const int used = count * SIDE;
    struct ptx_counts *counts = &w->block->counts;
    ptx_addresses(w, op, count, op->address_wide, op->offset, address);
    w->block->access++;
    for (int i = 0; i < used; i++) {
        memcpy(rows[i], ptx_shared(w, i, address[i], ROW_BYTES, false), ROW_BYTES);
        at[i] = (uint32_t)address[i];
    }
    for (int m = 0; m < count; m++) {
        uint16_t *d = PTX_U16(w, op, m);
        if (!transpose) {
            memcpy(d, rows[m * SIDE], SIDE * sizeof rows[0]);
            continue;
        }
        for (int r = 0; r < SIDE; r++)
            for (int c = 0; c < SIDE; c++)
                d[r * SIDE + c] = rows[m * SIDE + c][r];
    }
    const uint32_t lanes = used == PTX_LANES ? UINT32_MAX : (1u << used) - 1;
    const uint32_t passes = ptx_bank_passes(lanes, at, ROW_BYTES);
    counts->ldmatrix++;
    counts->shared_access++;
    counts->shared_passes += passes;
    ptx_site_passes(w, lanes, ROW_BYTES, passes);
}

void ptx_ldmatrix_1(struct ptx_warp *w, const struct ptx_op *op)
{
    load_matrices(w, op, 1, false);
}

void ptx_ldmatrix_2(struct ptx_warp *w, const struct ptx_op *op)
{
    load_matrices(w, op, 2, false);
}

void ptx_ldmatrix_4(struct ptx_warp *w, const struct ptx_op *op)
{
    load_matrices(w, op, 4, false);
}

void ptx_ldmatrix_1t(struct ptx_warp *w, const struct ptx_op *op)
{
    load_matrices(w, op, 1, true);
}

void ptx_ldmatrix_2t(struct ptx_warp *w, const struct ptx_op *op)
{
    load_matrices(w, op, 2, true);
}

void ptx_ldmatrix_4t(struct ptx_warp *w, const struct ptx_op *op)
{
    load_matrices(w, op, 4, true);
}
