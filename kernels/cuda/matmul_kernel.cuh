/*
 * The kernels of the matmul family and their launch. A file of instances names a walker and lets
 * matmul_launch_tile find the instance for a call (conv.cu, gemm.cu), or joins (matmul_join.cu).
 */
#ifndef LDK_MATMUL_KERNEL_CUH
#define LDK_MATMUL_KERNEL_CUH

#include "kernels/cuda/matmul_finish.cuh"

/* One block, one tile (blockIdx.x), one part of K (blockIdx.y). */
template <class Tile, class T, class Walk, class Sum, bool GEGLU>
__global__ void __launch_bounds__(Tile::THREADS, Tile::BLOCKS) matmul_kernel(const ldk_matmul m)
{
    LDK_SHARED_DYN(unsigned char, shared);
    const matmul_place place = matmul_place_of<Tile>(m, static_cast<int32_t>(blockIdx.x));
    const int32_t slices = m.kernel * m.kernel * (m.c0 + m.c1) / Tile::K;
    const int32_t part = static_cast<int32_t>(blockIdx.y);
    Sum sum;
    matmul_main<Tile, T, Walk>(m, place, ld_idx_split(slices, m.splits, part),
                               ld_idx_split(slices, m.splits, part + 1), shared, sum);
    if (m.splits > 1)
        matmul_partial_store<Tile>(sum, matmul_partial<Tile>(m, place.index, part));
    else
        matmul_finish<Tile, T, GEGLU>(m, place, shared).run(sum);
}

/* The other half of a split K: parts are added in order, then the tile is finished as ever. */
template <class Tile, class T, bool GEGLU>
__global__ void __launch_bounds__(Tile::THREADS, Tile::BLOCKS)
    matmul_join_kernel(const ldk_matmul m)
{
    LDK_SHARED_DYN(unsigned char, shared);
    const matmul_place place = matmul_place_of<Tile>(m, static_cast<int32_t>(blockIdx.x));
    sum_f32<Tile, T> sum;
    for (int32_t part = 0; part < m.splits; part++)
        matmul_partial_add<Tile>(sum, matmul_partial<Tile>(m, place.index, part));
    matmul_finish<Tile, T, GEGLU>(m, place, shared).run(sum);
}

template <class Tile> static inline unsigned matmul_blocks(const ldk_matmul &m)
{
    return static_cast<unsigned>(m.images * m.phases * m.m_tiles * m.n_tiles);
}

template <class Tile, class T, class Walk, class Sum, bool GEGLU>
static inline int matmul_launch(const ldk_matmul &m, ldk_stream stream)
{
    const int code = LDK_SMEM_OPTIN((matmul_kernel<Tile, T, Walk, Sum, GEGLU>), Tile::SHARED_BYTES);
    if (code != 0)
        return code;
    return LDK_LAUNCH((matmul_kernel<Tile, T, Walk, Sum, GEGLU>),
                      dim3(matmul_blocks<Tile>(m), static_cast<unsigned>(m.splits)),
                      dim3(Tile::THREADS), Tile::SHARED_BYTES, stream, m);
}

template <class Tile, class T, bool GEGLU>
static inline int matmul_join_launch(const ldk_matmul &m, ldk_stream stream)
{
    const int code = LDK_SMEM_OPTIN((matmul_join_kernel<Tile, T, GEGLU>), Tile::SHARED_BYTES);
    if (code != 0)
        return code;
    return LDK_LAUNCH((matmul_join_kernel<Tile, T, GEGLU>), dim3(matmul_blocks<Tile>(m)),
                      dim3(Tile::THREADS), Tile::SHARED_BYTES, stream, m);
}

/* ---- From run time to compile time -------------------------------------------------------------- */

/*
 * `Family` says what an instance is:
 *     template <class Tile, class T, class Sum> static int launch(const ldk_matmul &, ldk_stream)
 */
template <class Family, class Tile>
static inline int matmul_launch_type(const ldk_matmul &m, ldk_stream stream)
{
    if (m.x_dtype == LDK_BF16)
        return Family::template launch<Tile, bf16, sum_f32<Tile, bf16>>(m, stream);
    if constexpr (Tile::F16_SUMS)
        if (m.fp16_accumulate)
            return Family::template launch<Tile, half, sum_f16<Tile>>(m, stream);
    return Family::template launch<Tile, half, sum_f32<Tile, half>>(m, stream);
}

template <class Family>
static inline int matmul_launch_tile(const ldk_matmul &m, ldk_matmul_tile tile, ldk_stream stream)
{
    switch (tile) {
    case LDK_TILE_GRAND:
        return matmul_launch_type<Family, tile_grand>(m, stream);
    case LDK_TILE_WIDE:
        return matmul_launch_type<Family, tile_wide>(m, stream);
    case LDK_TILE_TALL:
        return matmul_launch_type<Family, tile_tall>(m, stream);
    case LDK_TILE_SQUARE:
        return matmul_launch_type<Family, tile_square>(m, stream);
    case LDK_TILE_LOW:
        return matmul_launch_type<Family, tile_low>(m, stream);
    case LDK_TILE_NARROW:
        return matmul_launch_type<Family, tile_narrow>(m, stream);
    case LDK_TILE_COUNT:
        break;
    }
    return LDK_E_INVALID;
}

#endif
