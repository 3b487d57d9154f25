/*
 * Tiles of the matmul family: how a block of threads shares an M x N tile, and where a thread and a
 * lane find their parts of a stage in shared memory.
 *
 * A stage holds M rows of A and N rows of B, 32 of K each (64 bytes, four 16-byte chunks, swizzled
 * by ld_idx_swizzle so that eight rows of one chunk lie in eight different groups of banks). Warps
 * stand WARPS_M x WARPS_N in the tile.
 *
 *                                                 KB of   bytes an mma
 *             tile     warps  warp tile  stages  shared  shared   L2
 *   grand   256 x 160  8 x 2   32 x 80     3       95     221     42   divides 320, 640, 1280
 *   wide    128 x 160  4 x 2   32 x 80     4       72     237     58   the same, more tiles
 *   tall    256 x 128  4 x 2   64 x 64     4       96     176     48   powers of two
 *   square  128 x 128  2 x 2   64 x 64     3       48     192     64   two blocks an SM
 *   low      64 x 128  2 x 4   32 x 32     4       48     352     96   few rows (deep levels)
 *   narrow   64 x  64  2 x 2   32 x 32     4       32     384    128   few rows and channels
 *
 * Bytes of shared memory: what copies write and fragments read, 128 a clock. Of the L2 cache: what
 * copies read, about 24 a clock and SM on a Hopper (tile_model.c). With an mma every two clocks, as
 * sm_80 starts them, all but grand and tall are predicted to wait for the L2 cache there, low and
 * narrow for shared memory too: they pay only where tiles are few. Not measured.
 */
#ifndef LDK_MATMUL_TILE_CUH
#define LDK_MATMUL_TILE_CUH

#include "kernels/cuda/launch.h"

#include "kernels/cuda/matmul.h"
#include "kernels/idx.h"

template <int M_, int N_, int STAGES_, int WARPS_M_, int WARPS_N_, int BLOCKS_> struct matmul_tile {
    static constexpr int M = M_, N = N_, K = LDK_MATMUL_K, STAGES = STAGES_;
    static constexpr int WARPS_N = WARPS_N_, THREADS = 32 * WARPS_M_ * WARPS_N_;
    static constexpr int BLOCKS = BLOCKS_; /* that should fit one SM; bounds the registers */

    static constexpr int WARP_M = M / WARPS_M_, WARP_N = N / WARPS_N_;
    static constexpr int MMA_M = WARP_M / 16, MMA_N = WARP_N / 8; /* m16n8 blocks of one warp */
    static constexpr int STEPS = K / 16;                          /* k16 steps of one slice */

    /* Sixteen warps leave each thread half of the registers: no second set of fragments. */
    static constexpr bool LEAN = THREADS > 256;
    /* fp16 accumulators and the float32 ones they go to leave room for two sets of fragments. */
    static constexpr bool F16_SUMS = !LEAN && MMA_M * MMA_N * 6 <= 128;
    /* Rows that one record of moments is about: as many for a tall tile as for half of it. */
    static constexpr int MOMENT_ROWS = M < LDK_MOMENT_ROWS ? M : LDK_MOMENT_ROWS;

    static constexpr int CHUNKS = K / 8, ROW_BYTES = 2 * K;
    static constexpr int A_BYTES = M * ROW_BYTES, STAGE_BYTES = (M + N) * ROW_BYTES;
    static constexpr int RING_BYTES = STAGES * STAGE_BYTES;
    /* The finished tile, its columns and what its moments are added from (matmul_finish.cuh). */
    static constexpr int FINISH_BYTES = M * (2 * N + 16) + N * 4 + N / 2 * (MOMENT_ROWS / 16) * 16;
    static constexpr int SHARED_BYTES = RING_BYTES > FINISH_BYTES ? RING_BYTES : FINISH_BYTES;
    /* A thread copies the same chunk of every COPY_ROWS-th row. */
    static constexpr int COPY_ROWS = THREADS / CHUNKS;
    static constexpr int A_COPIES = M / COPY_ROWS, B_COPIES = (N + COPY_ROWS - 1) / COPY_ROWS;

    static_assert(M % (16 * WARPS_M_) == 0 && N % (16 * WARPS_N_) == 0,
                  "whole pairs of MMA blocks");
    static_assert(M % COPY_ROWS == 0 && COPY_ROWS % 8 == 0, "copies keep their swizzle");
    static_assert((N % COPY_ROWS) * CHUNKS % 32 == 0, "the last copy of B is by whole warps");
    static_assert(SHARED_BYTES <= 99 * 1024, "must fit every target");
};

using tile_grand = matmul_tile<256, 160, 3, 8, 2, 1>;
using tile_wide = matmul_tile<128, 160, 4, 4, 2, 1>;
using tile_tall = matmul_tile<256, 128, 4, 4, 2, 1>;
using tile_square = matmul_tile<128, 128, 3, 2, 2, 2>;
using tile_low = matmul_tile<64, 128, 4, 2, 4, 2>;
using tile_narrow = matmul_tile<64, 64, 4, 2, 2, 2>;

/* Which tile of which slab a block owns. */
struct matmul_place {
    int32_t image, phase;
    int32_t index;    /* of all tiles of the launch: where its partial sums lie */
    int32_t row, col; /* the tile's first row in the slab and first weight row */
    int32_t rows;     /* rows of the tile that exist */
};

template <class Tile>
static __device__ __forceinline__ matmul_place matmul_place_of(const ldk_matmul &m, int32_t block)
{
    const ld_idx_tile at =
        ld_idx_tile_at(block, m.images * m.phases * m.m_tiles, m.n_tiles, LDK_MATMUL_BAND);
    const int32_t slab = at.m / m.m_tiles;
    matmul_place place;
    place.image = slab / m.phases;
    place.phase = slab % m.phases;
    place.index = block;
    place.row = at.m % m.m_tiles * Tile::M;
    place.col = at.n * Tile::N;
    place.rows = ld_idx_min(Tile::M, m.positions - place.row);
    return place;
}

/* This thread's warp and lane, and the warp's corner in the tile. */
template <class Tile> struct matmul_lane {
    int lane, row, col;

    __device__ __forceinline__ matmul_lane()
    {
        const int tid = static_cast<int>(threadIdx.x), warp = tid / 32;
        lane = tid % 32;
        row = warp / Tile::WARPS_N * Tile::WARP_M;
        col = warp % Tile::WARPS_N * Tile::WARP_N;
    }
};

/* Byte of chunk `chunk` of row `row` in the A or B part of a stage. */
static __device__ __forceinline__ int matmul_chunk_at(int row, int chunk)
{
    return row * 2 * LDK_MATMUL_K + ld_idx_swizzle(row, chunk) * 16;
}

#endif
