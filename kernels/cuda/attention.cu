/*
 * Flash attention for head widths 40, 64, 80 and 160, at exactly that width:
 *   o[i,:] = sum_j p_ij v[j,:] / sum_j p_ij,   p_ij = 2^(c s_ij - c m_i),   s = q k^T,
 * with c = scale * log2(e) inside the one FMA before the exponential, so q is never rounded again.
 *
 * Work     A block owns 64 to 256 query rows of one head, a warp 16 or 32 of them, with Q fragments
 *          in registers for the whole walk. Keys come in steps of 64 (32 for d = 160), K and V
 *          double-buffered by cp.async, one barrier a step. Scores go from accumulators to the A
 *          operand of P V without leaving registers.
 * Widths   QK^T takes k16 steps and, for d = 40, one k8 step (16 + 16 + 8); P V takes n8 steps.
 *          Shared rows are padded to an odd number of 16-byte chunks: no ldmatrix conflicts.
 * Numerics Reference maximum m_i is raised (and o, l rescaled) only when a row's maximum has grown
 *          by more than 2^8; p <= 256 then fits fp16 and the division at the end makes the result
 *          exact either way. A row's bits depend on nothing but its own q, the keys and the step.
 * Tail     Steps that every row sees whole run without masks; the rest (end of the keys, the
 *          diagonal of a causal call) are peeled and work in groups of 16 keys, so 77 keys cost 80.
 * Shared   20, 36, 44, 42 KB for d = 40, 64, 80, 160. Registers (sm_90): 118, 126, 130, 166 with 64
 *          rows a block, 165, 224, 250, 184 with 128 and more.
 * Bound    d = 40: exponentials (16 a clock and SM) next to 2.5 + 2.5 mma per 16 x 16 scores; time:
 *          not measured.
 * Source   kernels.md 8; Dao 2023, arXiv:2307.08691.
 */
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
    /* Rows that one pass of copies covers: even shares where there are such. */
    static constexpr int PASSES = (KEYS * CHUNKS + THREADS - 1) / THREADS;
    static constexpr int COPY_ROWS = KEYS % PASSES == 0 ? KEYS / PASSES : THREADS / CHUNKS;
    /* Blocks an SM should hold; 0 leaves the registers to ptxas. */
    static constexpr int RESIDENT = MB == 1 && D <= 64 ? 4 : 0;
    static_assert(D % 8 == 0 && KEYS % 16 == 0, "whole fragments");
    static_assert(SHARED <= 48 * 1024, "no opt-in needed");
    static_assert(ROWS * PITCH <= 4 * BUFFER, "the output is staged where K and V were");
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

/* ---- Softmax ------------------------------------------------------------------------------------ */

/* Keys that row `row` may not see lose their scores. */
template <class S, bool CAUSAL>
static __device__ __forceinline__ void mask_scores(float (&s)[S::MB][2 * S::GROUPS][4], int first,
                                                   int keys, int row0, int lane)
{
    LDK_UNROLL
    for (int m = 0; m < S::MB; m++)
        LDK_UNROLL
    for (int h = 0; h < 2; h++) {
        const int row = row0 + m * 16 + h * 8 + lane / 4;
        const int end = CAUSAL ? ld_idx_min(keys, row + 1) : keys;
        LDK_UNROLL
        for (int n = 0; n < 2 * S::GROUPS; n++)
            LDK_UNROLL
        for (int e = 0; e < 2; e++)
            if (first + n * 8 + lane % 4 * 2 + e >= end)
                s[m][n][2 * h + e] = -INFINITY;
    }
}

/* Raise the references whose rows have grown past the lag, and rescale what they belong to. */
template <class S>
static __device__ __forceinline__ void follow_maximum(warp_state<S> &w,
                                                      float (&s)[S::MB][2 * S::GROUPS][4], float c)
{
    float grown[S::MB][2];
    bool any = false;
    LDK_UNROLL
    for (int m = 0; m < S::MB; m++)
        LDK_UNROLL
    for (int h = 0; h < 2; h++) {
        float most = w.reference[m][h];
        LDK_UNROLL
        for (int n = 0; n < 2 * S::GROUPS; n++)
            most = fmaxf(most, fmaxf(s[m][n][2 * h], s[m][n][2 * h + 1]));
        most = fmaxf(most, __shfl_xor_sync(LDK_ALL_LANES, most, 1));
        most = fmaxf(most, __shfl_xor_sync(LDK_ALL_LANES, most, 2));
        grown[m][h] = most;
        any = any || (most - w.reference[m][h]) * c > RESCALE_LAG;
    }
    if (!__any_sync(LDK_ALL_LANES, any))
        return;
    LDK_UNROLL
    for (int m = 0; m < S::MB; m++)
        LDK_UNROLL
    for (int h = 0; h < 2; h++) {
        const float growth = (grown[m][h] - w.reference[m][h]) * c;
        if (!(growth > RESCALE_LAG))
            continue;
        const float factor = ldk_ex2(-growth);
        w.reference[m][h] = grown[m][h];
        w.sum[m][h] *= factor;
        LDK_UNROLL
        for (int n = 0; n < S::CHUNKS; n++) {
            w.o[m][n][2 * h] *= factor;
            w.o[m][n][2 * h + 1] *= factor;
        }
    }
}

/* s becomes p, and the row sums grow by it. */
template <class S>
static __device__ __forceinline__ void exponentiate(warp_state<S> &w,
                                                    float (&s)[S::MB][2 * S::GROUPS][4], float c)
{
    LDK_UNROLL
    for (int m = 0; m < S::MB; m++)
        LDK_UNROLL
    for (int h = 0; h < 2; h++) {
        const float reference = w.reference[m][h] * c;
        LDK_UNROLL
        for (int n = 0; n < 2 * S::GROUPS; n++)
            LDK_UNROLL
        for (int e = 2 * h; e < 2 * h + 2; e++) {
            s[m][n][e] = ldk_ex2(s[m][n][e] * c - reference);
            w.sum[m][h] += s[m][n][e];
        }
    }
}

/* One step over the keys in shared memory. MASKED: some rows do not see all of them. */
template <class S, class T, bool MASKED, bool CAUSAL>
static __device__ __forceinline__ void attend_step(warp_state<S> &w, const T *k, const T *v,
                                                   int first, int keys, int row0, float c, int lane)
{
    float s[S::MB][2 * S::GROUPS][4] = {};
    LDK_UNROLL
    for (int group = 0; group < S::GROUPS; group++)
        if (!MASKED || first + group * 16 < keys)
            score_group<S, T>(w, k, lane, s, group);
    if constexpr (MASKED)
        mask_scores<S, CAUSAL>(s, first, keys, row0, lane);
    follow_maximum<S>(w, s, c);
    exponentiate<S>(w, s, c);
    LDK_UNROLL
    for (int group = 0; group < S::GROUPS; group++) {
        if (MASKED && first + group * 16 >= keys)
            continue;
        uint32_t p[S::MB][4];
        LDK_UNROLL
        for (int m = 0; m < S::MB; m++)
            LDK_UNROLL
        for (int i = 0; i < 4; i++) {
            const float *pair = s[m][2 * group + i / 2] + i % 2 * 2;
            p[m][i] = ldk_pack<T>(pair[0], pair[1]);
        }
        value_group<S, T>(w, p, v, lane, group);
    }
}

/* ---- Output ------------------------------------------------------------------------------------- */

/* o / l through shared memory, so that rows leave in 16-byte pieces. `stage` is the warp's own. */
template <class S, class T>
static __device__ __forceinline__ void store_rows(const warp_state<S> &w, T *stage, T *o, int row0,
                                                  int rows, int stride, int lane)
{
    LDK_UNROLL
    for (int m = 0; m < S::MB; m++)
        LDK_UNROLL
    for (int h = 0; h < 2; h++) {
        float sum = w.sum[m][h];
        sum += __shfl_xor_sync(LDK_ALL_LANES, sum, 1);
        sum += __shfl_xor_sync(LDK_ALL_LANES, sum, 2);
        const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum; /* no keys: zeros */
        T *row = stage + (m * 16 + h * 8 + lane / 4) * S::PITCH + lane % 4 * 2;
        LDK_UNROLL
        for (int c = 0; c < S::CHUNKS; c++)
            ldk_st(row + c * 8,
                   ldk_pack<T>(w.o[m][c][2 * h] * inverse, w.o[m][c][2 * h + 1] * inverse));
    }
    __syncwarp();
    LDK_UNROLL
    for (int i = 0; i < S::WARP_ROWS * S::CHUNKS; i += 32) {
        const int row = (i + lane) / S::CHUNKS;
        const int chunk = (i + lane) % S::CHUNKS;
        if (row < S::WARP_ROWS && row0 + row < rows)
            ldk_st(o + static_cast<int64_t>(row0 + row) * stride + chunk * 8,
                   ldk_ld<uint4>(stage + row * S::PITCH + chunk * 8));
    }
}

/* ---- The kernel --------------------------------------------------------------------------------- */

template <class S, class T, bool CAUSAL>
static __global__ void __launch_bounds__(S::THREADS, S::RESIDENT)
    attention_kernel(const struct ldk_attention a)
{
    LDK_SHARED_DYN(T, shared);
    const int tid = static_cast<int>(threadIdx.x);
    const int lane = tid % 32;
    const int head = static_cast<int>(blockIdx.y) * S::D;
    const int b = static_cast<int>(blockIdx.z);
    const int block_row = static_cast<int>(blockIdx.x) * S::ROWS;
    const int row0 = block_row + tid / 32 * S::WARP_ROWS;
    const T *q = static_cast<const T *>(a.q) + static_cast<int64_t>(b) * a.q_rows * a.q_stride;
    const T *k = static_cast<const T *>(a.k) + static_cast<int64_t>(b) * a.kv_rows * a.k_stride;
    const T *v = static_cast<const T *>(a.v) + static_cast<int64_t>(b) * a.kv_rows * a.v_stride;
    T *o = static_cast<T *>(a.o) + static_cast<int64_t>(b) * a.q_rows * a.o_stride;
    const float c = a.scale * LDK_LOG2_E;
    const int all = attention_keys(a, b);
    const int keys = CAUSAL ? ld_idx_min(all, block_row + S::ROWS) : all;
    const int steps = ld_idx_ceil_div(keys, S::KEYS);
    const int whole = (CAUSAL ? ld_idx_min(keys, block_row + 1) : keys) / S::KEYS;

    T *const keys_at = shared;
    T *const values_at = shared + 2 * S::BUFFER;
    copy_rows<S, T>(keys_at, k + head, 0, keys, a.k_stride, tid);
    copy_rows<S, T>(values_at, v + head, 0, keys, a.v_stride, tid);
    ldk_cp_async_commit();
    warp_state<S> w;
    load_queries<S, T>(w, q + head, row0, a.q_rows, a.q_stride, lane);

    for (int step = 0; step < steps; step++) {
        const int now = step % 2 * S::BUFFER;
        const int next = S::BUFFER - now;
        ldk_cp_async_wait<0>();
        __syncthreads(); /* this step has landed, and nobody reads the other buffer any more */
        if (step + 1 < steps) {
            const int first = (step + 1) * S::KEYS;
            copy_rows<S, T>(keys_at + next, k + head, first, keys, a.k_stride, tid);
            copy_rows<S, T>(values_at + next, v + head, first, keys, a.v_stride, tid);
            ldk_cp_async_commit();
        }
        if (step < whole)
            attend_step<S, T, false, CAUSAL>(w, keys_at + now, values_at + now, step * S::KEYS,
                                             keys, row0, c, lane);
        else
            attend_step<S, T, true, CAUSAL>(w, keys_at + now, values_at + now, step * S::KEYS, keys,
                                            row0, c, lane);
    }
    ldk_cp_async_wait<0>();
    __syncthreads(); /* K and V are done with: their place takes the output */
    T *stage = shared + tid / 32 * S::WARP_ROWS * S::PITCH;
    store_rows<S, T>(w, stage, o + head, row0, a.q_rows, a.o_stride, lane);
}

/* ---- Plan and launch ---------------------------------------------------------------------------- */

enum { VARIANT_NARROW = LDK_VARIANT_PLAIN + 1, VARIANT_TALL, VARIANT_HIGH, VARIANT_WIDE };

/*
 * Instances: 64 rows a block; 128 rows where registers allow two m16 blocks a warp; and as many
 * rows an SM in fewer blocks, which read K and V less often and have more threads to copy them:
 *
 *                 rows   blocks an SM   L2 bytes, predicted, 1024 x 1024, two images (ptx-counts)
 *   tall_40       128         3            3.37 GB a layer
 *   high_40       192         2            2.3
 *   tall_80       128         2            0.37
 *   high_80       256         1            0.2; its warps wait for one another at each step
 */
using narrow_40 = tile_shape<40, 4, 1, 64>;
using narrow_64 = tile_shape<64, 4, 1, 64>;
using narrow_80 = tile_shape<80, 4, 1, 64>;
using narrow_160 = tile_shape<160, 4, 1, 32>;
using tall_40 = tile_shape<40, 4, 2, 64>;
using tall_64 = tile_shape<64, 4, 2, 64>;
using tall_80 = tile_shape<80, 4, 2, 64>;
using tall_160 = tile_shape<160, 8, 1, 32>;
using high_40 = tile_shape<40, 6, 2, 64>;
using high_80 = tile_shape<80, 8, 2, 64>;

template <class S, class T, bool CAUSAL>
static int launch(const struct ldk_attention *a, ldk_stream stream)
{
    const dim3 grid(static_cast<unsigned>(ld_idx_ceil_div(a->q_rows, S::ROWS)),
                    static_cast<unsigned>(a->heads), static_cast<unsigned>(a->batch));
    return LDK_LAUNCH((attention_kernel<S, T, CAUSAL>), grid, dim3(S::THREADS), S::SHARED, stream,
                      *a);
}

template <class S> static int launch_type(const struct ldk_attention *a, ldk_stream stream)
{
    if (a->dtype == LDK_F16)
        return launch<S, half, false>(a, stream);
    return launch<S, bf16, false>(a, stream);
}

static int launch_causal(const struct ldk_attention *a, ldk_stream stream)
{
    if (a->dtype == LDK_F16)
        return launch<narrow_64, half, true>(a, stream);
    return launch<narrow_64, bf16, true>(a, stream);
}

/* What is done with the instance of a width and variant: `Use::with<Shape>(...)`. */
template <class Use, class... Arguments>
static auto with_instance(int d, int number, Arguments... arguments)
{
    const bool narrow = number == VARIANT_NARROW, high = number == VARIANT_HIGH;
    if (d == 40)
        return narrow ? Use::template with<narrow_40>(arguments...)
               : high ? Use::template with<high_40>(arguments...)
                      : Use::template with<tall_40>(arguments...);
    if (d == 64)
        return narrow ? Use::template with<narrow_64>(arguments...)
                      : Use::template with<tall_64>(arguments...);
    if (d == 80)
        return narrow ? Use::template with<narrow_80>(arguments...)
               : high ? Use::template with<high_80>(arguments...)
                      : Use::template with<tall_80>(arguments...);
    return narrow ? Use::template with<narrow_160>(arguments...)
                  : Use::template with<tall_160>(arguments...);
}

struct launch_it {
    template <class S> static int with(const struct ldk_attention *a, ldk_stream stream)
    {
        return launch_type<S>(a, stream);
    }
};

static bool sane(const struct ldk_attention *a)
{
    const int64_t widest = static_cast<int64_t>(a->heads) * a->head_dim;
    return a->q != nullptr && a->k != nullptr && a->v != nullptr && a->o != nullptr &&
           a->batch >= 1 && a->batch <= 65535 && a->q_rows >= 1 && a->kv_rows >= 1 &&
           a->heads >= 1 && a->heads <= 65535 && a->head_dim >= 1 && widest <= a->q_stride &&
           widest <= a->k_stride && widest <= a->v_stride && widest <= a->o_stride &&
           a->scale > 0.0f && (a->dtype == LDK_F16 || a->dtype == LDK_BF16);
}

static bool mma_fits(const struct ldk_attention *a)
{
    const int d = a->head_dim;
    const bool width = a->causal ? d == 64 : d == 40 || d == 64 || d == 80 || d == 160;
    const int64_t widest = a->k_stride > a->v_stride ? a->k_stride : a->v_stride;
    return width && ldk_attention_aligned(a) && widest * a->kv_rows <= INT32_MAX;
}

static bool runs(const struct ldk_attention *a, int variant)
{
    switch (variant) {
    case LDK_VARIANT_PLAIN:
        return a->head_dim <= 1024;
    case VARIANT_NARROW:
        return mma_fits(a);
    case VARIANT_TALL:
        return mma_fits(a) && !a->causal;
    case VARIANT_HIGH:
        return mma_fits(a) && !a->causal && (a->head_dim == 40 || a->head_dim == 80);
    case VARIANT_WIDE:
        return ldk_attention_wide_fits(a);
    default:
        return false;
    }
}

/* Tall blocks read K and V half as often, but want enough of them in one image to fill a GPU. All
 * of them give the same bits, so the choice is free. */
static int choose(const struct ldk_attention *a)
{
    enum { ENOUGH = 256 };
    if (a->variant != LDK_VARIANT_AUTO)
        return a->variant;
    const int64_t slices = static_cast<int64_t>(a->batch) * a->heads;
    if (runs(a, VARIANT_HIGH) && a->head_dim == 40 &&
        slices * ld_idx_ceil_div(a->q_rows, high_40::ROWS) >= ENOUGH)
        return VARIANT_HIGH;
    if (runs(a, VARIANT_TALL) && slices * ld_idx_ceil_div(a->q_rows, tall_40::ROWS) >= ENOUGH)
        return VARIANT_TALL;
    if (runs(a, VARIANT_NARROW))
        return VARIANT_NARROW;
    if (runs(a, VARIANT_WIDE))
        return VARIANT_WIDE;
    return LDK_VARIANT_PLAIN;
}

extern "C" int32_t ldk_attention_number(const struct ldk_attention *a)
{
    const int number = choose(a);
    return runs(a, number) ? number : LDK_VARIANT_AUTO;
}

extern "C" size_t ldk_attention_workspace(const struct ldk_attention *a)
{
    return choose(a) == VARIANT_WIDE ? ldk_attention_wide_workspace(a) : 0;
}

extern "C" int ldk_attention(const struct ldk_attention *a, ldk_stream stream)
{
    if (!sane(a))
        return LDK_E_INVALID;
    const int variant = choose(a);
    if (!runs(a, variant))
        return LDK_E_UNSUPPORTED;
    if (variant == LDK_VARIANT_PLAIN)
        return ldk_attention_plain(a, stream);
    if (variant == VARIANT_WIDE)
        return a->workspace != nullptr ? ldk_attention_wide(a, stream) : LDK_E_INVALID;
    return a->causal ? launch_causal(a, stream)
                     : with_instance<launch_it>(a->head_dim, variant, a, stream);
}

struct describe_it {
    template <class S> static struct ldk_variant with(int number)
    {
        struct ldk_variant v = {};
        v.number = number;
        v.signature = 0x41000000u + S::KEYS; /* the order of a row's sums: steps of KEYS */
        v.tile_m = S::ROWS;
        v.tile_n = S::D;
        v.tile_k = S::KEYS;
        v.stages = 2;
        v.threads = S::THREADS;
        v.shared_bytes = S::SHARED;
        v.name = S::ROWS == 64 ? "mma-64" : S::ROWS == 128 ? "mma-128" : "mma-high";
        return v;
    }
};

static struct ldk_variant describe_any(const struct ldk_attention *a, int number)
{
    if (number == VARIANT_NARROW || number == VARIANT_TALL || number == VARIANT_HIGH)
        return with_instance<describe_it>(a->head_dim, number, number);
    struct ldk_variant v = number == VARIANT_WIDE ? ldk_attention_wide_variant()
                                                  : ldk_attention_plain_variant(a->head_dim);
    v.number = number;
    return v;
}

extern "C" int32_t ldk_attention_variants(const struct ldk_attention *a, struct ldk_variant *out,
                                          int32_t capacity)
{
    int32_t count = 0;
    for (int number = LDK_VARIANT_PLAIN; number <= VARIANT_WIDE; number++) {
        if (!runs(a, number))
            continue;
        if (count < capacity)
            out[count] = describe_any(a, number);
        count++;
    }
    return count;
}
