/*
 * Proves that the plan's table of tiles says what the kernels are built with. The plan is plain C
 * and cannot see the templates; this file sees both.
 */
#include "hostcuda.h"
#include "kernels/cuda/matmul_tile.cuh"

template <class Tile> static void same(const char *name, ldk_matmul_tile tile)
{
    const ldk_matmul_shape &shape = ldk_matmul_shapes[tile];
    hc_case("%s", name);
    hc_expect(shape.m == Tile::M && shape.n == Tile::N, "sides");
    hc_expect(shape.stages == Tile::STAGES && shape.threads == Tile::THREADS, "stages and threads");
    hc_expect(shape.moment_rows == Tile::MOMENT_ROWS, "rows of a record of moments");
    hc_expect(shape.shared_bytes == Tile::SHARED_BYTES, "shared memory");
    hc_expect(shape.blocks >= Tile::BLOCKS, "blocks of an SM");
    hc_expect(shape.blocks * (shape.shared_bytes + 1024) <= 100 * 1024, "they fit 100 KB");
}

int main(void)
{
    same<tile_grand>("grand", LDK_TILE_GRAND);
    same<tile_wide>("wide", LDK_TILE_WIDE);
    same<tile_tall>("tall", LDK_TILE_TALL);
    same<tile_square>("square", LDK_TILE_SQUARE);
    same<tile_low>("low", LDK_TILE_LOW);
    same<tile_narrow>("narrow", LDK_TILE_NARROW);
    return hc_report();
}
