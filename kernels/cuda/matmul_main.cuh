/*
 * The main loop of every convolution and linear layer on tensor cores, once: slices of K stream
 * through a ring of shared stages (cp.async), fragments come by ldmatrix, mma.sync m16n8k16 adds
 * them up. Fragments are fetched one k16 step ahead, across the barrier between slices, so the
 * tensor pipe has work while the next ones travel. One barrier a slice: it says both that the next
 * slice has landed for all and that the slice before it is no longer read.
 *
 * Order of sums: K ascending by k16 steps into one accumulator, whatever the tile. With fp16
 * accumulators the running sum is added to a float32 one every 128 of K.
 */
#ifndef LDK_MATMUL_MAIN_CUH
#define LDK_MATMUL_MAIN_CUH

#include "kernels/cuda/matmul_walk.cuh"

/* ---- Fragments ------------------------------------------------------------------------------------ */

template <class Tile> struct matmul_fragments {
    uint32_t a[Tile::MMA_M][4];
    uint32_t b[Tile::MMA_N][2];
};

/* Where this lane's rows lie in the A and B parts of a stage, for the first k16 step; the second
 * is two chunks on, which the swizzle turns into one flipped bit. */
template <class Tile> struct matmul_fetch {
    int a, b;

    __device__ __forceinline__ matmul_fetch()
    {
        const matmul_lane<Tile> at;
        a = matmul_chunk_at(at.row + at.lane % 16, at.lane / 16);
        b = Tile::A_BYTES +
            matmul_chunk_at(at.col + at.lane / 16 * 8 + at.lane % 8, at.lane / 8 % 2);
    }

    __device__ __forceinline__ void rows(const unsigned char *stage, int step,
                                         uint32_t (&to)[Tile::MMA_M][4]) const
    {
        LDK_UNROLL
        for (int i = 0; i < Tile::MMA_M; i++)
            ldk_ldmatrix_x4(to[i], stage + (a ^ step * 32) + i * 16 * Tile::ROW_BYTES);
    }

    /* n8 blocks j and j + 1. */
    __device__ __forceinline__ void weights(const unsigned char *stage, int step, int j,
                                            uint32_t *to) const
    {
        ldk_ldmatrix_x4(to, stage + (b ^ step * 32) + j * 8 * Tile::ROW_BYTES);
    }

    __device__ __forceinline__ void operator()(const unsigned char *stage, int step,
                                               matmul_fragments<Tile> &to) const
    {
        rows(stage, step, to.a);
        LDK_UNROLL
        for (int j = 0; j < Tile::MMA_N; j += 2)
            weights(stage, step, j, to.b[j]);
    }
};

/* ---- Accumulators --------------------------------------------------------------------------------- */

/* c[i][j][2h + e]: row 16 i + 8 h + lane / 4, column 8 j + 2 (lane % 4) + e of the warp's tile. */
template <class Tile, class T> struct sum_f32 {
    float c[Tile::MMA_M][Tile::MMA_N][4];

    __device__ __forceinline__ sum_f32()
    {
        LDK_UNROLL
        for (int i = 0; i < Tile::MMA_M * Tile::MMA_N * 4; i++)
            c[i / 4 / Tile::MMA_N][i / 4 % Tile::MMA_N][i % 4] = 0.0f;
    }

    __device__ __forceinline__ void multiply(const matmul_fragments<Tile> &f)
    {
        LDK_UNROLL
        for (int i = 0; i < Tile::MMA_M; i++) {
            LDK_UNROLL
            for (int j = 0; j < Tile::MMA_N; j++)
                ldk_mma_16816<T>(c[i][j], f.a[i], f.b[j]);
        }
    }

    /* n8 blocks j and j + 1. */
    __device__ __forceinline__ void multiply(const uint32_t (&a)[Tile::MMA_M][4],
                                             const uint32_t (&b)[2][2], int j)
    {
        LDK_UNROLL
        for (int i = 0; i < Tile::MMA_M; i++) {
            ldk_mma_16816<T>(c[i][j], a[i], b[0]);
            ldk_mma_16816<T>(c[i][j + 1], a[i], b[1]);
        }
    }

    __device__ __forceinline__ void settle(int32_t)
    {
    }

    __device__ __forceinline__ void finish()
    {
    }
};

/* Twice the rate on GeForce parts: fp16 sums of 128 products each, promoted to float32. */
template <class Tile> struct sum_f16 : sum_f32<Tile, half> {
    static_assert(Tile::F16_SUMS, "two sets of accumulators do not fit");

    uint32_t h[Tile::MMA_M][Tile::MMA_N][2];

    __device__ __forceinline__ sum_f16()
    {
        clear();
    }

    __device__ __forceinline__ void clear()
    {
        LDK_UNROLL
        for (int i = 0; i < Tile::MMA_M * Tile::MMA_N * 2; i++)
            h[i / 2 / Tile::MMA_N][i / 2 % Tile::MMA_N][i % 2] = 0;
    }

    __device__ __forceinline__ void multiply(const matmul_fragments<Tile> &f)
    {
        LDK_UNROLL
        for (int i = 0; i < Tile::MMA_M; i++) {
            LDK_UNROLL
            for (int j = 0; j < Tile::MMA_N; j++)
                ldk_mma_16816_h(h[i][j], f.a[i], f.b[j]);
        }
    }

    __device__ __forceinline__ void finish()
    {
        LDK_UNROLL
        for (int i = 0; i < Tile::MMA_M * Tile::MMA_N * 2; i++) {
            const float2 v = ldk_unpack<half>(h[i / 2 / Tile::MMA_N][i / 2 % Tile::MMA_N][i % 2]);
            float *to = &this->c[i / 2 / Tile::MMA_N][i / 2 % Tile::MMA_N][i % 2 * 2];
            to[0] += v.x;
            to[1] += v.y;
        }
        clear();
    }

    __device__ __forceinline__ void settle(int32_t done)
    {
        if (done % (LDK_MATMUL_PROMOTE / Tile::K) == 0)
            finish();
    }
};

/* ---- The loop ------------------------------------------------------------------------------------- */

/* The stage after this one in the ring. */
template <class Tile> static __device__ __forceinline__ int matmul_next(int stage)
{
    return stage + 1 == Tile::STAGES ? 0 : stage + 1;
}

/* Sends slice after slice of both operands on their way, a stage and a group of copies each. */
template <class Tile, class T, class Walk> struct matmul_supply {
    Walk a;
    walk_weights<Tile, T> b;
    unsigned char *shared;
    int32_t slice, end;
    int stage;

    __device__ __forceinline__ matmul_supply(const ldk_matmul &m, const matmul_place &place,
                                             int32_t first, int32_t last, unsigned char *memory)
        : a(m, place, first), b(m, place, first), shared(memory), slice(first), end(last), stage(0)
    {
    }

    /* Beyond the end the group is empty, which keeps the count of groups for the wait. */
    __device__ __forceinline__ void send(const ldk_matmul &m, const matmul_place &place)
    {
        if (slice < end) {
            unsigned char *to = shared + stage * Tile::STAGE_BYTES;
            a.copy(m, to);
            b.copy(m, to);
            a.next(m, place);
            b.next();
        }
        slice++;
        stage = matmul_next<Tile>(stage);
        ldk_cp_async_commit();
    }
};

/* All but the newest PENDING slices are there for every thread. */
template <int PENDING> static __device__ __forceinline__ void matmul_landed()
{
    ldk_cp_async_wait<PENDING>();
    __syncthreads();
}

/* Fragments of the next k16 step travel while this one's are multiplied: for tiles whose SM holds
 * eight warps. */
template <class Tile, class T, class Walk, class Sum>
static __device__ __forceinline__ void
matmul_loop_ahead(const ldk_matmul &m, const matmul_place &place,
                  matmul_supply<Tile, T, Walk> &supply, int32_t slices, Sum &sum)
{
    static_assert(Tile::STEPS == 2, "the loop body is written for two k16 steps");
    constexpr int PENDING = Tile::STAGES - 2;
    const unsigned char *shared = supply.shared;
    const matmul_fetch<Tile> fetch;
    matmul_fragments<Tile> even, odd;
    int stage = 0;
    matmul_landed<PENDING>();
    fetch(shared, 0, even);
    LDK_NO_UNROLL
    for (int32_t done = 0; done < slices;) {
        supply.send(m, place);
        const unsigned char *now = shared + stage * Tile::STAGE_BYTES;
        stage = matmul_next<Tile>(stage);
        fetch(now, 1, odd);
        sum.multiply(even);
        matmul_landed<PENDING>();
        /* After the last slice this fetches what nobody uses: cheaper than a branch here. */
        fetch(shared + stage * Tile::STAGE_BYTES, 0, even);
        sum.multiply(odd);
        sum.settle(++done);
    }
}

/* Sixteen warps hide one another's fetches and have half as many registers each, so two weight
 * blocks at a time is all of B that a warp holds. The ring turns once a slice: behind `send` its
 * stage is the one to read. */
template <class Tile, class T, class Walk, class Sum>
static __device__ __forceinline__ void
matmul_loop_lean(const ldk_matmul &m, const matmul_place &place,
                 matmul_supply<Tile, T, Walk> &supply, Sum &sum)
{
    constexpr int AHEAD = Tile::STAGES - 1;
    const matmul_fetch<Tile> fetch;
    LDK_NO_UNROLL
    while (supply.slice < supply.end + AHEAD) {
        matmul_landed<AHEAD - 1>();
        supply.send(m, place);
        const unsigned char *now = supply.shared + supply.stage * Tile::STAGE_BYTES;
        LDK_UNROLL
        for (int step = 0; step < Tile::STEPS; step++) {
            uint32_t a[Tile::MMA_M][4];
            fetch.rows(now, step, a);
            LDK_UNROLL
            for (int j = 0; j < Tile::MMA_N; j += 2) {
                uint32_t b[2][2];
                fetch.weights(now, step, j, b[0]);
                sum.multiply(a, b, j);
            }
        }
    }
}

/* Adds slices [first, end) of K to `sum`. On return every copy has landed and no thread reads
 * `shared` any more. */
template <class Tile, class T, class Walk, class Sum>
static __device__ __forceinline__ void matmul_main(const ldk_matmul &m, const matmul_place &place,
                                                   int32_t first, int32_t end,
                                                   unsigned char *shared, Sum &sum)
{
    matmul_supply<Tile, T, Walk> supply(m, place, first, end, shared);
    LDK_UNROLL
    for (int s = 0; s < Tile::STAGES - 1; s++)
        supply.send(m, place);
    if constexpr (Tile::LEAN)
        matmul_loop_lean<Tile, T, Walk>(m, place, supply, sum);
    else
        matmul_loop_ahead<Tile, T, Walk>(m, place, supply, end - first, sum);
    sum.finish();
    matmul_landed<0>();
}

#endif
