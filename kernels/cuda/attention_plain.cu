/*
 * Attention of any width up to 1024 and any element offsets: one warp a query row and head, 32 keys
 * at a time. Each lane scores one key (a plain dot product in float32), the warp raises its
 * maximum, and then each lane sums its columns of V. For the small models and for odd slices; no
 * speed goal.
 *
 * Heads above 128 columns are cut into blocks of 128, each of which scores the keys for itself:
 * with more columns a lane, ptxas spills.
 *
 * Shared   q as float32 and 32 weights for each of 4 warps: 16.5 KB. Time: not measured.
 */
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/vector.cuh"

enum { WARPS = 4, HEAD_DIM_MAX = 1024, PIECES = 4, COLUMNS = PIECES * 32 };

/* q . k over one head, in ascending order of the columns. */
template <class T>
static __device__ __forceinline__ float dot(const float *q, const T *k, int head_dim)
{
    float sum = 0.0f;
    for (int d = 0; d < head_dim; d++)
        sum += q[d] * ldk_to_f32(k[d]);
    return sum;
}

/* A block's columns of V, PIECES a lane: column0 + lane, + 32, ... */
template <class T>
static __global__ void __launch_bounds__(WARPS * 32)
    attention_plain_kernel(const struct ldk_attention a)
{
    LDK_SHARED(float, queries, [WARPS][HEAD_DIM_MAX]);
    LDK_SHARED(float, weights, [WARPS][32]);
    const int tid = static_cast<int>(threadIdx.x);
    const int warp = tid / 32;
    const int lane = tid % 32;
    const int row = static_cast<int>(blockIdx.x) * WARPS + warp;
    const int blocks = ld_idx_ceil_div(a.head_dim, COLUMNS); /* of one head */
    const int head = static_cast<int>(blockIdx.y) / blocks * a.head_dim;
    const int column0 = static_cast<int>(blockIdx.y) % blocks * COLUMNS + lane;
    const int b = static_cast<int>(blockIdx.z);
    if (row >= a.q_rows) /* a whole warp; there is no barrier of the block below */
        return;
    const T *q = static_cast<const T *>(a.q) +
                 (static_cast<int64_t>(b) * a.q_rows + row) * a.q_stride + head;
    const T *k = static_cast<const T *>(a.k) + static_cast<int64_t>(b) * a.kv_rows * a.k_stride;
    const T *v = static_cast<const T *>(a.v) + static_cast<int64_t>(b) * a.kv_rows * a.v_stride;
    T *o = static_cast<T *>(a.o) + (static_cast<int64_t>(b) * a.q_rows + row) * a.o_stride + head;
    const float c = a.scale * LDK_LOG2_E;
    int keys = attention_keys(a, b);
    if (a.causal)
        keys = ld_idx_min(keys, row + 1);

    for (int d = lane; d < a.head_dim; d += 32)
        queries[warp][d] = ldk_to_f32(q[d]);
    __syncwarp();
    floats<PIECES> sums = {};
    float total = 0.0f;
    float largest = -INFINITY;
    for (int first = 0; first < keys; first += 32) {
        const int key = first + lane;
        float score = -INFINITY;
        if (key < keys)
            score = c * dot(queries[warp], k + static_cast<int64_t>(key) * a.k_stride + head,
                            a.head_dim);
        float most = score;
        for (int step = 16; step > 0; step /= 2)
            most = fmaxf(most, __shfl_xor_sync(LDK_ALL_LANES, most, step));
        most = fmaxf(most, largest);
        const float factor = ldk_ex2(largest - most); /* 0 at the first keys */
        largest = most;
        weights[warp][lane] = ldk_ex2(score - most);
        __syncwarp();
        total *= factor;
        LDK_UNROLL
        for (int i = 0; i < PIECES; i++)
            sums[i] *= factor;
        const int count = ld_idx_min(32, keys - first);
        for (int j = 0; j < count; j++) {
            const float p = weights[warp][j];
            const T *value = v + static_cast<int64_t>(first + j) * a.v_stride + head;
            total += p;
            LDK_UNROLL
            for (int i = 0; i < PIECES; i++)
                if (column0 + i * 32 < a.head_dim)
                    sums[i] += p * ldk_to_f32(value[column0 + i * 32]);
        }
        __syncwarp(); /* before the next weights are written */
    }
    const float inverse = total == 0.0f ? 0.0f : 1.0f / total; /* no keys: zeros */
    LDK_UNROLL
    for (int i = 0; i < PIECES; i++)
        if (column0 + i * 32 < a.head_dim)
            o[column0 + i * 32] = ldk_from_f32<T>(sums[i] * inverse);
}

template <class T> static int launch(const struct ldk_attention *a, ldk_stream stream)
{
    const int columns = ld_idx_ceil_div(a->head_dim, COLUMNS);
    const dim3 grid(static_cast<unsigned>(ld_idx_ceil_div(a->q_rows, WARPS)),
                    static_cast<unsigned>(a->heads * columns), static_cast<unsigned>(a->batch));
    return LDK_LAUNCH((attention_plain_kernel<T>), grid, dim3(WARPS * 32), 0, stream, *a);
}

int ldk_attention_plain(const struct ldk_attention *a, ldk_stream stream)
{
    return a->dtype == LDK_F16 ? launch<half>(a, stream) : launch<bf16>(a, stream);
}

struct ldk_variant ldk_attention_plain_variant(int head_dim)
{
    struct ldk_variant v = {};
    v.signature = 0x41020000u;
    v.tile_m = WARPS;
    v.tile_n = head_dim;
    v.tile_k = 32;
    v.stages = 1;
    v.threads = WARPS * 32;
    v.shared_bytes = WARPS * (HEAD_DIM_MAX + 32) * 4;
    v.name = "plain";
    return v;
}
