/*
 * Second half of the split-K variants: the deep levels have too few tiles to fill a GPU, so several
 * blocks share the K of a tile and leave float32 fragments, which one block a tile adds in the
 * parts' order. A fixed order, no atomics: equal bits on every run.
 *
 * Registers (ptxas 13.0, sm_80 .. sm_120, none spilled): grand 128; wide 240-246, GEGLU 172-174; low
 * 113-117, GEGLU 108-110.
 *
 * Predicted bound: L2, splits * M * N * 4 bytes read. Time: not measured.
 */
#include "kernels/cuda/matmul_kernel.cuh"

template <class Tile, class T> static int launch_type(const ldk_matmul &m, ldk_stream stream)
{
    if (m.activation == LDK_ACT_GEGLU)
        return matmul_join_launch<Tile, T, true>(m, stream);
    return matmul_join_launch<Tile, T, false>(m, stream);
}

template <class Tile> static int launch_tile(const ldk_matmul &m, ldk_stream stream)
{
    if (m.x_dtype == LDK_BF16)
        return launch_type<Tile, bf16>(m, stream);
    return launch_type<Tile, half>(m, stream);
}

extern "C" int ldk_matmul_launch_join(const ldk_matmul *m, ldk_matmul_tile tile, ldk_stream stream)
{
    switch (tile) {
    case LDK_TILE_GRAND:
        return launch_tile<tile_grand>(*m, stream);
    case LDK_TILE_WIDE:
        return launch_tile<tile_wide>(*m, stream);
    case LDK_TILE_LOW:
        return launch_tile<tile_low>(*m, stream);
    case LDK_TILE_TALL:
    case LDK_TILE_SQUARE:
    case LDK_TILE_NARROW:
    case LDK_TILE_COUNT:
        break;
    }
    return LDK_E_INVALID; /* no variant of the list splits these */
}
