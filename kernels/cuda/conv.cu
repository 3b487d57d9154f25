/*
 * Convolution as an implicit matrix product: the main loop of matmul_main.cuh over a walker that
 * follows the taps (stride, zero padding, nearest upsampling, two sources, phases), and the entry
 * point of every convolution.
 *
 * Registers (ptxas 13.0, sm_80 .. sm_120, none spilled), with float32 sums / with fp16 ones: grand
 * 128 / -, wide 236-240 / 230-232, tall and square 255 / -, low 108-110 / 116-118, narrow 114-122 /
 * 130-135. Shared memory of a tile: matmul_tile.cuh.
 *
 * Predicted bound: tensor cores and shared memory about even; L2 traffic decides the tile
 * (kernels.md 5.2). 320 to 320 channels at 128 x 128, two rows of a batch, are 60 GFLOP in two
 * rounds of grand tiles: 0.15 ms predicted at 400 TFLOP/s. Time: not measured.
 */
#include "kernels/cuda/matmul_kernel.cuh"

struct walk_the_taps {
    template <class Tile, class T, class Sum>
    static int launch(const ldk_matmul &m, ldk_stream stream)
    {
        return matmul_launch<Tile, T, walk_taps<Tile, T>, Sum, false>(m, stream);
    }
};

extern "C" int ldk_matmul_launch_taps(const ldk_matmul *m, ldk_matmul_tile tile, ldk_stream stream)
{
    return matmul_launch_tile<walk_the_taps>(*m, tile, stream);
}

extern "C" int ldk_conv2d(const ldk_conv *c, ldk_stream stream)
{
    ldk_matmul m;
    const ldk_matmul_variant *variant;
    const int code = ldk_matmul_plan_conv(c, &m, &variant);
    if (code != LDK_OK)
        return code;
    switch (variant->kind) {
    case LDK_MATMUL_FIRST:
        return ldk_matmul_launch_first(&m, stream);
    case LDK_MATMUL_LAST:
        return ldk_matmul_launch_last(&m, stream);
    case LDK_MATMUL_TILES: {
        const int sums = ldk_matmul_launch_taps(&m, variant->tile, stream);
        return sums != LDK_OK || m.splits == 1 ? sums
                                               : ldk_matmul_launch_join(&m, variant->tile, stream);
    }
    case LDK_MATMUL_PLAIN:
    case LDK_MATMUL_ROWS:
        break;
    }
    return ldk_matmul_launch_plain(&m, stream);
}
