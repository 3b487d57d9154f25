/*
 * Index arithmetic that host and device share: pure functions of integers, no data. Each is tested
 * on the host against a naive loop, whoever uses it.
 */
#ifndef LD_KERNELS_IDX_H
#define LD_KERNELS_IDX_H

#include <stdint.h>

#if defined(__CUDACC__)
#define LD_IDX static inline __host__ __device__
#else
#define LD_IDX static inline
#endif

LD_IDX int32_t ld_idx_ceil_div(int32_t a, int32_t b)
{
    return (a + b - 1) / b;
}

LD_IDX int32_t ld_idx_min(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* Outputs of a convolution along one side of `n` inputs, `pad` zeros in all. */
LD_IDX int32_t ld_idx_conv_out(int32_t n, int32_t pad, int32_t kernel, int32_t stride)
{
    return (n + pad - kernel) / stride + 1;
}

/* Stored row or column behind index `i` of a grid upsampled (nearest) from `n` to `up`; 0: not
 * upsampled. */
LD_IDX int32_t ld_idx_upsample(int32_t i, int32_t n, int32_t up)
{
    return up > 0 ? (int32_t)((int64_t)i * n / up) : i;
}

/* Weight row behind column `n` of a GEGLU panel of `width` columns: width / 2 value rows, then the
 * gate rows of the same outputs. `outputs` is half the number of rows; -1 beyond the last. */
LD_IDX int32_t ld_idx_geglu_row(int32_t panel, int32_t n, int32_t width, int32_t outputs)
{
    int32_t half = width / 2;
    int32_t out = panel * half + n % half;
    if (out >= outputs)
        return -1;
    return n < half ? out : out + outputs;
}

/* ---- Matrix tiles (kernels/cuda/matmul_*.cuh) ------------------------------------------------ */

/* Place of 16-byte chunk `chunk` in a shared row of 4 chunks (64 bytes): any 8 rows in a row then
 * have one chunk in 8 distinct groups of banks, which is what ldmatrix reads at once. */
LD_IDX int32_t ld_idx_swizzle(int32_t row, int32_t chunk)
{
    return chunk ^ (row >> 1 & 3);
}

struct ld_idx_tile {
    int32_t m, n;
};

/* Tile of block `block` of m_tiles * n_tiles: bands of `band` rows of tiles, walked column by
 * column, so that the blocks in flight together share both operands. */
LD_IDX struct ld_idx_tile ld_idx_tile_at(int32_t block, int32_t m_tiles, int32_t n_tiles,
                                         int32_t band)
{
    int32_t first = block / (band * n_tiles) * band;
    int32_t rows = ld_idx_min(band, m_tiles - first);
    int32_t rest = block - first * n_tiles;
    struct ld_idx_tile tile = {first + rest % rows, rest / rows};
    return tile;
}

/* First of the K slices of part `part` of `parts`; part == parts gives the end. Parts differ by one
 * slice at most. */
LD_IDX int32_t ld_idx_split(int32_t slices, int32_t parts, int32_t part)
{
    return (int32_t)((int64_t)slices * part / parts);
}

/*
 * Nearest upsampling by two, then a kernel of 3 with one zero around, as kernels of 2: output
 * 2 i + parity reads the stored inputs i - 1 + parity and i + parity. Which of the two lies behind
 * tap `tap` (0..2) of the kernel of 3.
 */
LD_IDX int32_t ld_idx_phase_tap(int32_t parity, int32_t tap)
{
    return (tap + 1 - parity) / 2;
}

#undef LD_IDX
#endif
