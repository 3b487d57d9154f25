/*
 * Linear layers and kernels of 1: the main loop of matmul_main.cuh over rows of a matrix, with
 * SiLU, quick-GELU or GEGLU, residual and moments in the epilogue, and the entry point of every
 * linear layer.
 *
 * GEGLU: weight rows alternate 8 values, 8 gates (pack.h), so one thread holds value and gate of
 * the same output in neighbouring n8 blocks and the tensor of 8 C channels never exists.
 *
 * Registers (ptxas 13.0, sm_80 .. sm_120, none spilled), plain / GEGLU, fp16 sums in brackets:
 * grand 128 / 126-128, wide 235-236 / 173-174 (234-236 / 205-217), tall 255 / 231-232, square 255 /
 * 231-234, low 108 / 95-96 (112-124 / 114-124), narrow 108 / 106 (120-123 / 124-128). Shared memory
 * of a tile: matmul_tile.cuh.
 *
 * Predicted bound: tensor cores, at C = 320 memory. Time: not measured.
 */
#include "kernels/cuda/matmul_kernel.cuh"

struct walk_the_rows {
    template <class Tile, class T, class Sum>
    static int launch(const ldk_matmul &m, ldk_stream stream)
    {
        if (m.activation == LDK_ACT_GEGLU)
            return matmul_launch<Tile, T, walk_rows<Tile, T>, Sum, true>(m, stream);
        return matmul_launch<Tile, T, walk_rows<Tile, T>, Sum, false>(m, stream);
    }
};

extern "C" int ldk_matmul_launch_rows(const ldk_matmul *m, ldk_matmul_tile tile, ldk_stream stream)
{
    return matmul_launch_tile<walk_the_rows>(*m, tile, stream);
}

extern "C" int ldk_linear(const struct ldk_linear *l, ldk_stream stream)
{
    ldk_matmul m;
    const ldk_matmul_variant *variant;
    const int code = ldk_matmul_plan_linear(l, &m, &variant);
    if (code != LDK_OK)
        return code;
    switch (variant->kind) {
    case LDK_MATMUL_ROWS:
        return ldk_matmul_launch_few_rows(&m, stream);
    case LDK_MATMUL_TILES: {
        const int sums = ldk_matmul_launch_rows(&m, variant->tile, stream);
        return sums != LDK_OK || m.splits == 1 ? sums
                                               : ldk_matmul_launch_join(&m, variant->tile, stream);
    }
    case LDK_MATMUL_PLAIN:
    case LDK_MATMUL_FIRST:
    case LDK_MATMUL_LAST:
        break;
    }
    return ldk_matmul_launch_plain(&m, stream);
}
