/*
 * Attention of wide heads (multiples of 128; the VAE's single head of 512), in chunks of query rows
 * through workspace. Three kernels a chunk:
 *   scores   S = c q k^T by tiles of 64 keys. A tile knows its rows' maxima over its own keys, so
 *            it leaves p = 2^(s - m_tile) in the activation type, m_tile and sum_tile p:
 *            the scores themselves are never rounded and never stored.
 *   factors  per row m = max m_tile, l = sum 2^(m_tile - m) sum_tile; factor 2^(m_tile - m) / l.
 *   values   O = sum over key tiles of factor_tile * (P_tile V_tile): the sum over one tile is an
 *            mma chain of its own, the factor is one FMA per output and 64 keys.
 *
 * Scores   A block owns 128 rows x 128 keys, a warp 32 x 64 of them: all keys of one tile, so that
 *          a row's maximum stays within four lanes. Three stages of 32 columns.
 * Values   A block owns 128 rows x 128 columns, a warp 32 x 64. Two stages of 64 keys, rows of an
 *          odd number of 16-byte chunks.
 * Shared   48, 70 KB. Registers (sm_90): 128, 48 (factors), 180.
 * Bound    At 1024x1024: 0.55 TFLOP, and 1 GB of p written and read; time: not measured.
 * Source   kernels.md 8.6; the split of the softmax as in Milakov & Gimelshein 2018,
 *          arXiv:1805.02867.
 */
#include "kernels/cuda/attention.cuh"

enum {
    TILE = 64,         /* keys whose p share a maximum */
    CHUNK_ROWS = 4096, /* query rows that share the workspace */
    WARP_ROWS = 32     /* of scores and of outputs that a warp owns, 64 columns wide */
};

/* A block of `scores`. */
enum {
    SCORES_ROWS = 128,
    SCORES_KEYS = 128,
    SCORES_K = 32, /* columns of q and k a stage: four swizzled chunks (ld_idx_swizzle) */
    SCORES_THREADS = 256,
    SCORES_STAGES = 3,
    SCORES_STAGE = (SCORES_ROWS + SCORES_KEYS) * SCORES_K,
    SCORES_SHARED = SCORES_STAGES * SCORES_STAGE * 2,
    P_PITCH = TILE + 8 /* elements; odd in chunks, as P goes out and comes in */
};
static_assert(SCORES_SHARED <= 48 * 1024, "no opt-in needed");
static_assert(SCORES_THREADS / 32 * WARP_ROWS * P_PITCH <= SCORES_STAGES * SCORES_STAGE,
              "p is staged where q and k were");

/* A block of `values`: a stage is one tile's p and v. */
enum {
    VALUES_ROWS = 128,
    VALUES_COLUMNS = 128,
    VALUES_THREADS = 256,
    V_PITCH = VALUES_COLUMNS + 8,
    VALUES_STAGE = VALUES_ROWS * P_PITCH + TILE * V_PITCH,
    VALUES_SHARED = 2 * VALUES_STAGE * 2
};
static_assert(VALUES_SHARED <= 99 * 1024, "fits every target");

enum { FACTORS_THREADS = 128 };

/* One chunk of one image and head, as the kernels see it. */
struct wide_chunk {
    const void *q, *k, *v; /* of this head; q at the chunk's first row */
    void *o;
    int q_stride, k_stride, v_stride, o_stride;
    int rows, kv_rows, head_dim;
    const int32_t *kv_len; /* of this image, or NULL */
    float scale;           /* times log2(e) */
    void *p;               /* act [CHUNK_ROWS][tiles * TILE] */
    float *maxima;         /* [CHUNK_ROWS][tiles]; factors once the second kernel has run */
    float *sums;           /* [CHUNK_ROWS][tiles] */
    int tiles;             /* of kv_rows */
};

static __device__ __forceinline__ int chunk_keys(const struct wide_chunk &a)
{
    if (a.kv_len == nullptr)
        return a.kv_rows;
    const int keys = *a.kv_len;
    return keys < 0 ? 0 : ld_idx_min(keys, a.kv_rows);
}

/* Start copying `ROWS` rows of `WIDTH` elements; rows from `end` on become zeros. */
template <int ROWS, int WIDTH, int PITCH, class T>
static __device__ __forceinline__ void copy_tile(T *shared, const T *global, int row0, int end,
                                                 int stride, int tid)
{
    constexpr int CHUNKS = WIDTH / 8;
    constexpr int PASS = VALUES_THREADS / CHUNKS;
    static_assert(VALUES_THREADS % CHUNKS == 0 && ROWS % PASS == 0, "whole passes");
    const int column = tid % CHUNKS * 8;
    LDK_UNROLL
    for (int i = 0; i < ROWS; i += PASS) {
        const int row = i + tid / CHUNKS;
        const bool inside = row0 + row < end;
        const int64_t source = static_cast<int64_t>(inside ? row0 + row : 0) * stride + column;
        ldk_cp_async<16>(shared + row * PITCH + column, global + source, inside ? 16 : 0);
    }
}

/* A fragments of 16 rows and 16 columns, row-major in shared memory. */
template <int PITCH, class T>
static __device__ __forceinline__ void load_a(uint32_t *a, const T *tile, int row, int column,
                                              int lane)
{
    ldk_ldmatrix_x4(a, tile + (row + lane % 16) * PITCH + column + lane / 16 * 8);
}

/* ---- Scores ------------------------------------------------------------------------------------- */

/* Where chunk `chunk` of row `row` lies in a stage, keys behind queries. */
static __device__ __forceinline__ int scores_at(int row, int chunk)
{
    return row * SCORES_K + ld_idx_swizzle(row, chunk) * 8;
}

/* This thread's chunks of 128 rows of queries or keys, a chunk a pass: where they come from and go
 * to. Rows from `end` on become zeros. */
struct score_rows {
    static constexpr int CHUNKS = SCORES_K / 8, PASS = SCORES_THREADS / CHUNKS;
    static constexpr int PASSES = SCORES_ROWS / PASS;
    static_assert(SCORES_ROWS == SCORES_KEYS && SCORES_ROWS % PASS == 0, "whole passes");

    int from[PASSES]; /* -1: no such row */
    int to;

    __device__ __forceinline__ score_rows(int at, int row0, int end, int stride, int tid)
    {
        const int row = tid / CHUNKS, chunk = tid % CHUNKS;
        to = scores_at(at + row, chunk);
        LDK_UNROLL
        for (int i = 0; i < PASSES; i++) {
            const int of = row0 + row + i * PASS;
            from[i] = of < end ? of * stride + chunk * 8 : -1;
        }
    }

    template <class T> __device__ __forceinline__ void send(T *stage, const T *columns) const
    {
        LDK_UNROLL
        for (int i = 0; i < PASSES; i++)
            ldk_cp_async<16>(stage + to + i * PASS * SCORES_K,
                             columns + (from[i] < 0 ? 0 : from[i]), from[i] < 0 ? 0 : 16);
    }
};

/* One stage's share of 32 rows and 64 keys. The second k16 step is two chunks on, which the swizzle
 * turns into one flipped bit; it is the same for every eighth row. */
template <class T>
static __device__ __forceinline__ void score_tile(float (&s)[2][8][4], const T *stage, int row,
                                                  int key, int lane)
{
    const int a_at = scores_at(row + lane % 16, lane / 16);
    const int b_at = scores_at(SCORES_ROWS + key + lane / 16 * 8 + lane % 8, lane / 8 % 2);
    LDK_UNROLL
    for (int step = 0; step < SCORES_K; step += 16) {
        uint32_t a[2][4];
        LDK_UNROLL
        for (int m = 0; m < 2; m++)
            ldk_ldmatrix_x4(a[m], stage + (a_at ^ step) + m * 16 * SCORES_K);
        LDK_UNROLL
        for (int n = 0; n < 8; n += 2) { /* 16 keys: two n8 blocks */
            uint32_t b[4];
            ldk_ldmatrix_x4(b, stage + (b_at ^ step) + n * 8 * SCORES_K);
            LDK_UNROLL
            for (int m = 0; m < 2; m++) {
                ldk_mma_16816<T>(s[m][n], a[m], b);
                ldk_mma_16816<T>(s[m][n + 1], a[m], b + 2);
            }
        }
    }
}

/* Turn one row's scores (half h of a fragment) into p, rounded into `to`; store their maximum and
 * sum. */
template <class T>
static __device__ __forceinline__ void finish_row(const struct wide_chunk &a, float (&s)[8][4],
                                                  int h, int row, int tile, int keys, T *to,
                                                  int lane)
{
    float most = -INFINITY;
    LDK_UNROLL
    for (int n = 0; n < 8; n++)
        LDK_UNROLL
    for (int e = 2 * h; e < 2 * h + 2; e++) {
        const int key = tile * TILE + n * 8 + lane % 4 * 2 + e % 2;
        s[n][e] = key < keys ? s[n][e] * a.scale : -INFINITY;
        most = fmaxf(most, s[n][e]);
    }
    most = fmaxf(most, __shfl_xor_sync(LDK_ALL_LANES, most, 1));
    most = fmaxf(most, __shfl_xor_sync(LDK_ALL_LANES, most, 2));
    float sum = 0.0f;
    LDK_UNROLL
    for (int n = 0; n < 8; n++) {
        const float low = ldk_ex2(s[n][2 * h] - most);
        const float high = ldk_ex2(s[n][2 * h + 1] - most);
        sum += low + high;
        ldk_st(to + n * 8 + lane % 4 * 2, ldk_pack<T>(low, high));
    }
    sum += __shfl_xor_sync(LDK_ALL_LANES, sum, 1);
    sum += __shfl_xor_sync(LDK_ALL_LANES, sum, 2);
    if (row < a.rows && lane % 4 == 0) {
        a.maxima[static_cast<int64_t>(row) * a.tiles + tile] = most;
        a.sums[static_cast<int64_t>(row) * a.tiles + tile] = sum;
    }
}

/* A warp's 32 rows of one tile; `stage` is its own. Rows of p leave whole, 128 bytes each. */
template <class T>
static __device__ __forceinline__ void finish_tile(const struct wide_chunk &a, float (&s)[2][8][4],
                                                   int row0, int tile, int keys, T *stage, int lane)
{
    constexpr int CHUNKS = TILE / 8;
    LDK_UNROLL
    for (int i = 0; i < 4; i++) {
        const int row = i * 8 + lane / 4;
        finish_row<T>(a, s[i / 2], i % 2, row0 + row, tile, keys, stage + row * P_PITCH, lane);
    }
    __syncwarp();
    LDK_UNROLL
    for (int i = lane; i < WARP_ROWS * CHUNKS; i += 32) {
        const int row = i / CHUNKS, column = i % CHUNKS * 8;
        T *p = static_cast<T *>(a.p) + (static_cast<int64_t>(row0 + row) * a.tiles + tile) * TILE +
               column;
        if (row0 + row < a.rows)
            ldk_st(p, ldk_ld<uint4>(stage + row * P_PITCH + column));
    }
}

template <class T>
static __global__ void __launch_bounds__(SCORES_THREADS, 2)
    wide_scores_kernel(const struct wide_chunk a)
{
    LDK_SHARED_DYN(T, shared);
    const int tid = static_cast<int>(threadIdx.x);
    const int lane = tid % 32, warp = tid / 32;
    const int key0 = static_cast<int>(blockIdx.x) * SCORES_KEYS;
    const int row0 = static_cast<int>(blockIdx.y) * SCORES_ROWS;
    const int warp_row = warp % 4 * WARP_ROWS, warp_key = warp / 4 * TILE;
    const int keys = chunk_keys(a);
    if (key0 >= keys) /* the whole block: nobody reads these tiles */
        return;
    const score_rows queries(0, row0, a.rows, a.q_stride, tid);
    const score_rows of_keys(SCORES_ROWS, key0, keys, a.k_stride, tid);
    const int steps = a.head_dim / SCORES_K;
    float s[2][8][4] = {};
    for (int step = 1 - SCORES_STAGES; step < steps; step++) {
        const int ahead = step + SCORES_STAGES - 1;
        if (step >= 0) {
            ldk_cp_async_wait<SCORES_STAGES - 2>();
            __syncthreads(); /* this stage has landed, the one before it is free */
        }
        if (ahead < steps) {
            T *const stage = shared + ahead % SCORES_STAGES * SCORES_STAGE;
            queries.send(stage, static_cast<const T *>(a.q) + ahead * SCORES_K);
            of_keys.send(stage, static_cast<const T *>(a.k) + ahead * SCORES_K);
        }
        ldk_cp_async_commit(); /* an empty group keeps the count */
        if (step >= 0)
            score_tile<T>(s, shared + step % SCORES_STAGES * SCORES_STAGE, warp_row, warp_key,
                          lane);
    }
    __syncthreads(); /* q and k are done with: their place takes p */
    if (key0 + warp_key < keys)
        finish_tile<T>(a, s, row0 + warp_row, (key0 + warp_key) / TILE, keys,
                       shared + warp * WARP_ROWS * P_PITCH, lane);
}

/* ---- Factors ------------------------------------------------------------------------------------ */

/* One warp a row; the order of a row's sum is lanes of tiles t, t + 32, ..., then a tree. */
static __global__ void __launch_bounds__(FACTORS_THREADS)
    wide_factors_kernel(const struct wide_chunk a)
{
    const int tid = static_cast<int>(threadIdx.x);
    const int lane = tid % 32;
    const int row = static_cast<int>(blockIdx.x) * (FACTORS_THREADS / 32) + tid / 32;
    if (row >= a.rows)
        return;
    const int tiles = ld_idx_ceil_div(chunk_keys(a), TILE);
    float *maxima = a.maxima + static_cast<int64_t>(row) * a.tiles;
    const float *sums = a.sums + static_cast<int64_t>(row) * a.tiles;
    float most = -INFINITY;
    for (int t = lane; t < tiles; t += 32)
        most = fmaxf(most, maxima[t]);
    for (int step = 16; step > 0; step /= 2)
        most = fmaxf(most, __shfl_xor_sync(LDK_ALL_LANES, most, step));
    float total = 0.0f;
    for (int t = lane; t < tiles; t += 32)
        total += ldk_ex2(maxima[t] - most) * sums[t];
    for (int step = 16; step > 0; step /= 2)
        total += __shfl_xor_sync(LDK_ALL_LANES, total, step);
    const float inverse = 1.0f / total;
    for (int t = lane; t < tiles; t += 32)
        maxima[t] = ldk_ex2(maxima[t] - most) * inverse;
}

/* ---- Values ------------------------------------------------------------------------------------- */

/* sum over 64 keys: 32 rows x 64 columns a warp. */
template <class T>
static __device__ __forceinline__ void value_tile(float (&sum)[2][8][4], const T *p, const T *v,
                                                  int row, int column, int lane)
{
    LDK_UNROLL
    for (int step = 0; step < TILE; step += 16) {
        uint32_t a[2][4];
        load_a<P_PITCH>(a[0], p, row, step, lane);
        load_a<P_PITCH>(a[1], p, row + 16, step, lane);
        LDK_UNROLL
        for (int n = 0; n < 8; n += 2) {
            uint32_t b[4];
            ldk_ldmatrix_x4_trans(b, v + (step + lane % 16) * V_PITCH + column + n * 8 +
                                         lane / 16 * 8);
            LDK_UNROLL
            for (int m = 0; m < 2; m++) {
                ldk_mma_16816<T>(sum[m][n], a[m], b);
                ldk_mma_16816<T>(sum[m][n + 1], a[m], b + 2);
            }
        }
    }
}

template <class T>
static __global__ void __launch_bounds__(VALUES_THREADS)
    wide_values_kernel(const struct wide_chunk a)
{
    LDK_SHARED_DYN(T, shared);
    const int tid = static_cast<int>(threadIdx.x);
    const int lane = tid % 32;
    const int row0 = static_cast<int>(blockIdx.x) * VALUES_ROWS;
    const int column0 = static_cast<int>(blockIdx.y) * VALUES_COLUMNS;
    const int warp_row = tid / 64 * WARP_ROWS;
    const int warp_column = tid / 32 % 2 * 64;
    const int keys = chunk_keys(a);
    const int tiles = ld_idx_ceil_div(keys, TILE);
    const T *p = static_cast<const T *>(a.p);
    const T *v = static_cast<const T *>(a.v) + column0;
    const int p_stride = a.tiles * TILE;
    T *const values_at = shared + VALUES_ROWS * P_PITCH;
    copy_tile<VALUES_ROWS, TILE, P_PITCH>(shared, p, row0, a.rows, p_stride, tid);
    copy_tile<TILE, VALUES_COLUMNS, V_PITCH>(values_at, v, 0, keys, a.v_stride, tid);
    ldk_cp_async_commit();
    float o[2][8][4] = {};
    for (int tile = 0; tile < tiles; tile++) {
        const int now = tile % 2 * VALUES_STAGE;
        float factor[2][2];
        LDK_UNROLL
        for (int i = 0; i < 4; i++) {
            const int row = row0 + warp_row + i * 8 + lane / 4;
            factor[i / 2][i % 2] =
                row < a.rows ? a.maxima[static_cast<int64_t>(row) * a.tiles + tile] : 0.0f;
        }
        ldk_cp_async_wait<0>();
        __syncthreads(); /* this stage has landed, the other one is free */
        if (tile + 1 < tiles) {
            const int first = (tile + 1) * TILE, next = VALUES_STAGE - now;
            copy_tile<VALUES_ROWS, TILE, P_PITCH>(shared + next, p + first, row0, a.rows, p_stride,
                                                  tid);
            copy_tile<TILE, VALUES_COLUMNS, V_PITCH>(values_at + next, v, first, keys, a.v_stride,
                                                     tid);
            ldk_cp_async_commit();
        }
        float sum[2][8][4] = {};
        value_tile<T>(sum, shared + now, values_at + now, warp_row, warp_column, lane);
        LDK_UNROLL
        for (int i = 0; i < 64; i++)
            o[i / 32][i / 4 % 8][i % 4] +=
                factor[i / 32][i % 4 / 2] * sum[i / 32][i / 4 % 8][i % 4];
    }
    ldk_cp_async_wait<0>(); /* with no keys at all, the first copies are still on their way */
    T *out = static_cast<T *>(a.o) + column0 + warp_column + lane % 4 * 2;
    LDK_UNROLL
    for (int i = 0; i < 4; i++) {
        const int row = row0 + warp_row + i * 8 + lane / 4;
        LDK_UNROLL
        for (int n = 0; n < 8; n++)
            if (row < a.rows)
                ldk_st(out + static_cast<int64_t>(row) * a.o_stride + n * 8,
                       ldk_pack<T>(o[i / 2][n][i % 2 * 2], o[i / 2][n][i % 2 * 2 + 1]));
    }
}

/* ---- Plan and launch ---------------------------------------------------------------------------- */

bool ldk_attention_wide_fits(const struct ldk_attention *a)
{
    const int64_t last = static_cast<int64_t>(a->kv_rows) + SCORES_KEYS;
    return a->head_dim > 160 && a->head_dim % VALUES_COLUMNS == 0 && !a->causal &&
           ldk_attention_aligned(a) && last * a->k_stride <= INT32_MAX &&
           static_cast<int64_t>(CHUNK_ROWS) * a->q_stride <= INT32_MAX;
}

static int chunk_rows(const struct ldk_attention *a)
{
    return ld_idx_min(a->q_rows, CHUNK_ROWS);
}

/* Bytes of p, rounded up so that the floats behind it are aligned. */
static size_t weight_bytes(const struct ldk_attention *a)
{
    const size_t tiles = static_cast<size_t>(ld_idx_ceil_div(a->kv_rows, TILE));
    return (static_cast<size_t>(chunk_rows(a)) * tiles * TILE * 2 + 255) / 256 * 256;
}

size_t ldk_attention_wide_workspace(const struct ldk_attention *a)
{
    const size_t tiles = static_cast<size_t>(ld_idx_ceil_div(a->kv_rows, TILE));
    return weight_bytes(a) + static_cast<size_t>(chunk_rows(a)) * tiles * 2 * sizeof(float);
}

template <class T> static int launch_chunk(const struct wide_chunk *c, ldk_stream stream)
{
    const dim3 scores_grid(static_cast<unsigned>(ld_idx_ceil_div(c->kv_rows, SCORES_KEYS)),
                           static_cast<unsigned>(ld_idx_ceil_div(c->rows, SCORES_ROWS)));
    int code = LDK_LAUNCH((wide_scores_kernel<T>), scores_grid, dim3(SCORES_THREADS), SCORES_SHARED,
                          stream, *c);
    if (code != LDK_OK)
        return code;
    const dim3 factors_grid(static_cast<unsigned>(ld_idx_ceil_div(c->rows, FACTORS_THREADS / 32)));
    code = LDK_LAUNCH(wide_factors_kernel, factors_grid, dim3(FACTORS_THREADS), 0, stream, *c);
    if (code != LDK_OK)
        return code;
    code = LDK_SMEM_OPTIN((wide_values_kernel<T>), VALUES_SHARED);
    if (code != LDK_OK)
        return code;
    const dim3 values_grid(static_cast<unsigned>(ld_idx_ceil_div(c->rows, VALUES_ROWS)),
                           static_cast<unsigned>(c->head_dim / VALUES_COLUMNS));
    return LDK_LAUNCH((wide_values_kernel<T>), values_grid, dim3(VALUES_THREADS), VALUES_SHARED,
                      stream, *c);
}

/* The chunk of query rows from `row` on, of head `head` in image `b`. */
template <class T>
static struct wide_chunk chunk_at(const struct ldk_attention *a, int b, int head, int row)
{
    const int tiles = ld_idx_ceil_div(a->kv_rows, TILE);
    const int64_t q_row = static_cast<int64_t>(b) * a->q_rows + row;
    const int64_t k_row = static_cast<int64_t>(b) * a->kv_rows;
    const int column = head * a->head_dim;
    struct wide_chunk c = {};
    c.q = static_cast<const T *>(a->q) + q_row * a->q_stride + column;
    c.k = static_cast<const T *>(a->k) + k_row * a->k_stride + column;
    c.v = static_cast<const T *>(a->v) + k_row * a->v_stride + column;
    c.o = static_cast<T *>(a->o) + q_row * a->o_stride + column;
    c.q_stride = a->q_stride;
    c.k_stride = a->k_stride;
    c.v_stride = a->v_stride;
    c.o_stride = a->o_stride;
    c.rows = ld_idx_min(a->q_rows - row, CHUNK_ROWS);
    c.kv_rows = a->kv_rows;
    c.head_dim = a->head_dim;
    c.kv_len = a->kv_len != nullptr ? a->kv_len + b : nullptr;
    c.scale = a->scale * LDK_LOG2_E;
    c.p = a->workspace;
    c.maxima =
        reinterpret_cast<float *>(static_cast<unsigned char *>(a->workspace) + weight_bytes(a));
    c.sums = c.maxima + static_cast<size_t>(chunk_rows(a)) * static_cast<size_t>(tiles);
    c.tiles = tiles;
    return c;
}

template <class T> static int launch_all(const struct ldk_attention *a, ldk_stream stream)
{
    for (int b = 0; b < a->batch; b++)
        for (int head = 0; head < a->heads; head++)
            for (int row = 0; row < a->q_rows; row += CHUNK_ROWS) {
                const struct wide_chunk c = chunk_at<T>(a, b, head, row);
                const int code = launch_chunk<T>(&c, stream);
                if (code != LDK_OK)
                    return code;
            }
    return LDK_OK;
}

int ldk_attention_wide(const struct ldk_attention *a, ldk_stream stream)
{
    return a->dtype == LDK_F16 ? launch_all<half>(a, stream) : launch_all<bf16>(a, stream);
}

struct ldk_variant ldk_attention_wide_variant()
{
    struct ldk_variant v = {};
    v.signature = 0x41010000u;
    v.tile_m = VALUES_ROWS;
    v.tile_n = VALUES_COLUMNS;
    v.tile_k = TILE;
    v.stages = 2;
    v.threads = VALUES_THREADS;
    v.shared_bytes = VALUES_SHARED;
    v.name = "wide";
    return v;
}
