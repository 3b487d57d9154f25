/*
 * What a block and a warp of flash attention are and hold, and the two products: scores of 16 keys
 * and o += p v of 16 keys. The walk over the keys is attention_kernel.cuh.
 */
#ifndef LDK_ATTENTION_TILE_CUH
#define LDK_ATTENTION_TILE_CUH

#include "kernels/cuda/attention.cuh"

/* ---- Shape of one instance ---------------------------------------------------------------------- */

template <int D_, int WARPS_, int MB_, int KEYS_> struct tile_shape {
    static constexpr int D = D_;
    static constexpr int WARPS = WARPS_;
    static constexpr int MB = MB_; /* m16 blocks a warp owns */
    static constexpr int KEYS = KEYS_;
    static constexpr int THREADS = WARPS * 32;
    static constexpr int WARP_ROWS = 16 * MB;
    static constexpr int ROWS = WARPS * WARP_ROWS;
    static constexpr int CHUNKS = D / 8; /* 16-byte pieces of a row */
    static constexpr int K16 = D / 16;
    static constexpr bool K8 = D % 16 != 0;
    static constexpr int PITCH = (CHUNKS | 1) * 8; /* elements; odd in chunks */
    static constexpr int BUFFER = KEYS * PITCH;
    static constexpr int SHARED = 4 * BUFFER * 2; /* K and V, two steps, two bytes */
    static constexpr int GROUPS = KEYS / 16;
    static constexpr bool F16_SCORES = false; /* true: f16_scores below */
    /* Rows that one pass of copies covers: even shares where there are such. */
    static constexpr int PASSES = (KEYS * CHUNKS + THREADS - 1) / THREADS;
    static constexpr int COPY_ROWS = KEYS % PASSES == 0 ? KEYS / PASSES : THREADS / CHUNKS;
    /* Blocks an SM should hold; 0 leaves the registers to ptxas. */
    static constexpr int RESIDENT = MB == 1 && D <= 64 ? 4 : 0;
    static_assert(D % 8 == 0 && KEYS % 16 == 0, "whole fragments");
    static_assert(SHARED <= 48 * 1024, "no opt-in needed");
    static_assert(ROWS * PITCH <= 4 * BUFFER, "the output is staged where K and V were");
};

/* The same blocks with q k^T from products whose results are fp16 (attention_scores.cuh). */
template <class S> struct f16_scores : S {
    static constexpr bool F16_SCORES = true;
    /* k16 steps that an fp16 sum goes through; two where a float32 sum for each takes registers
     * that are not there. Equal for all blocks of a width, which give equal bits. */
    static constexpr int CHAIN = S::D == 64 || S::D == 80 ? 2 : 1;
    /* At d = 40 ptxas would spend 20 to 40 registers more on two m16 blocks, and an SM's block. */
    static constexpr int RESIDENT = S::D == 40 && S::MB == 2 ? 384 / S::THREADS : S::RESIDENT;
};

/* Raised maxima are let go by this much (log2) before the accumulators are rescaled. */
static constexpr float RESCALE_LAG = 8.0f;

/* ---- Registers of one warp ---------------------------------------------------------------------- */

template <class S> struct warp_state {
    uint32_t q[S::MB][S::K16][4];
    uint32_t q_tail[S::MB][2];
    float o[S::MB][S::CHUNKS][4];
    float reference[S::MB][2]; /* m of rows g and g + 8, in units of s */
    float sum[S::MB][2];       /* this lane's share of the row sum */
};

/* Two neighbouring elements of query row `row`, zeros beyond the last row. */
template <class T>
static __device__ __forceinline__ uint32_t query_pair(const T *q, int row, int rows, int stride,
                                                      int column)
{
    return row < rows ? ldk_ld<uint32_t>(q + static_cast<int64_t>(row) * stride + column) : 0u;
}

template <class S, class T>
static __device__ __forceinline__ void load_queries(warp_state<S> &w, const T *q, int row0,
                                                    int rows, int stride, int lane)
{
    const int g = lane / 4;
    const int t = lane % 4 * 2;
    LDK_UNROLL
    for (int m = 0; m < S::MB; m++) {
        const int low = row0 + m * 16 + g;
        LDK_UNROLL
        for (int k = 0; k < S::K16; k++) {
            w.q[m][k][0] = query_pair(q, low, rows, stride, k * 16 + t);
            w.q[m][k][1] = query_pair(q, low + 8, rows, stride, k * 16 + t);
            w.q[m][k][2] = query_pair(q, low, rows, stride, k * 16 + t + 8);
            w.q[m][k][3] = query_pair(q, low + 8, rows, stride, k * 16 + t + 8);
        }
        if constexpr (S::K8) {
            w.q_tail[m][0] = query_pair(q, low, rows, stride, S::K16 * 16 + t);
            w.q_tail[m][1] = query_pair(q, low + 8, rows, stride, S::K16 * 16 + t);
        }
        LDK_UNROLL
        for (int c = 0; c < S::CHUNKS; c++)
            LDK_UNROLL
        for (int e = 0; e < 4; e++)
            w.o[m][c][e] = 0.0f;
        LDK_UNROLL
        for (int h = 0; h < 2; h++) {
            w.reference[m][h] = -INFINITY;
            w.sum[m][h] = 0.0f;
        }
    }
}

/* ---- Keys and values ---------------------------------------------------------------------------- */

/* Start copying keys [first, first + KEYS) of one head; rows from `keys` on become zeros. A thread
 * keeps its chunk and goes down the rows, so that its addresses are one base and constant steps. */
template <class S, class T>
static __device__ __forceinline__ void copy_rows(T *shared, const T *global, int first, int keys,
                                                 int stride, int tid)
{
    const int chunk = tid % S::CHUNKS * 8;
    const int row0 = tid / S::CHUNKS;
    if (row0 >= S::COPY_ROWS)
        return;
    LDK_UNROLL
    for (int i = 0; i < S::KEYS; i += S::COPY_ROWS) {
        const int row = i + row0;
        if (S::KEYS % S::COPY_ROWS != 0 && row >= S::KEYS)
            continue;
        const bool inside = first + row < keys;
        const int source = (inside ? first + row : 0) * stride + chunk;
        ldk_cp_async<16>(shared + row * S::PITCH + chunk, global + source, inside ? 16 : 0);
    }
}

/* Scores of 16 keys: two n8 blocks for each m16 block. `k` is the first of the keys. */
template <class S, class T>
static __device__ __forceinline__ void score_group(const warp_state<S> &w, const T *k, int lane,
                                                   float (&s)[S::MB][2 * S::GROUPS][4], int group)
{
    const int matrix = lane / 8;
    const T *row = k + (group * 16 + matrix / 2 * 8 + lane % 8) * S::PITCH;
    LDK_UNROLL
    for (int step = 0; step < S::K16; step++) {
        uint32_t b[4];
        ldk_ldmatrix_x4(b, row + (step * 2 + matrix % 2) * 8);
        LDK_UNROLL
        for (int m = 0; m < S::MB; m++) {
            ldk_mma_16816<T>(s[m][2 * group], w.q[m][step], b);
            ldk_mma_16816<T>(s[m][2 * group + 1], w.q[m][step], b + 2);
        }
    }
    if constexpr (S::K8) {
        uint32_t b[2];
        ldk_ldmatrix_x2(b, k + (group * 16 + lane % 16) * S::PITCH + S::K16 * 16);
        LDK_UNROLL
        for (int m = 0; m < S::MB; m++) {
            ldk_mma_1688<T>(s[m][2 * group], w.q_tail[m], b);
            ldk_mma_1688<T>(s[m][2 * group + 1], w.q_tail[m], b + 1);
        }
    }
}

/* o += P V over 16 keys; `p` are the A fragments of these keys. */
template <class S, class T>
static __device__ __forceinline__ void value_group(warp_state<S> &w, const uint32_t (&p)[S::MB][4],
                                                   const T *v, int lane, int group)
{
    const T *row = v + (group * 16 + lane % 16) * S::PITCH;
    LDK_UNROLL
    for (int c = 0; c + 1 < S::CHUNKS; c += 2) {
        uint32_t b[4];
        ldk_ldmatrix_x4_trans(b, row + (c + lane / 16) * 8);
        LDK_UNROLL
        for (int m = 0; m < S::MB; m++) {
            ldk_mma_16816<T>(w.o[m][c], p[m], b);
            ldk_mma_16816<T>(w.o[m][c + 1], p[m], b + 2);
        }
    }
    if constexpr (S::CHUNKS % 2 != 0) {
        uint32_t b[2];
        ldk_ldmatrix_x2_trans(b, row + (S::CHUNKS - 1) * 8);
        LDK_UNROLL
        for (int m = 0; m < S::MB; m++)
            ldk_mma_16816<T>(w.o[m][S::CHUNKS - 1], p[m], b);
    }
}

#endif
