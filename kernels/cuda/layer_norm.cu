/*
 * LayerNorm over the last axis: y = (x - mean) * rstd * gamma + beta.
 *
 * One warp a token, four tokens a block. The row stays in registers as float32 (1280 channels: five
 * vectors of 8 a lane, 640 five of 4, 320 three of 4), so memory is read and written once and the variance is taken from the
 * distances to the mean. Channel counts that are no multiple of 8, or above 1280, walk the row
 * three times instead.
 *
 * Numerics  (x - mean) rstd gamma and beta may cancel, and what is left is stored with 11 digits of
 *           its own size. So distances are taken from the mean rounded to the activation type,
 * which makes them exact; their sums, the rest of the mean, rstd and the two coefficients of each
 * element are sums of two floats (vector.cuh); the last step is rounded at the size of the result.
 * About 40 PTX instructions an element, counted. Registers (sm_90) 40..78 by channels; no shared
 * memory. Bound: issue slots, predicted twice the time of the bytes (ptx-counts); time: not
 * measured. Source    Ba, Kiros & Hinton 2016, arXiv:1607.06450; corrected two-pass variance as in
 * Chan, Golub & LeVeque 1983.
 */
#include "kernels/cuda/vector.cuh"

enum { WARPS = 4, CHANNELS_MAX = 1280 };

struct layer_args {
    const void *x;
    void *y;
    const float *gamma, *beta;
    int rows, channels;
    float epsilon;
};

/* ---- A row's numbers ---------------------------------------------------------------------------- */

/* Of the distances d = x - base. */
struct row_sums {
    struct two sum, squares;
};

static __device__ __forceinline__ void take(struct row_sums &s, float d)
{
    const struct two sum = two_sum(s.sum.high, d);
    s.sum.high = sum.high;
    s.sum.low += sum.low;
    const struct two squares = two_sum(s.squares.high, __fmul_rn(d, d));
    s.squares.high = squares.high;
    s.squares.low += squares.low;
}

struct row_numbers {
    float rest; /* of the mean beyond base */
    struct two rstd;
};

/* From this lane's sums to the row's mean and 1 / sqrt(variance + epsilon), in every lane. */
static __device__ __forceinline__ struct row_numbers finish_row(const struct row_sums &lane,
                                                                int channels, float epsilon)
{
    const float count = static_cast<float>(channels);
    const struct two sum = warp_sum_two(lane.sum);
    const struct two squares = warp_sum_two(lane.squares);
    struct row_numbers row;
    row.rest = (sum.high + sum.low) / count;
    /* variance = squares / count - rest^2, the quotient with its remainder */
    const float quotient = squares.high / count;
    const float remainder = __fmaf_rn(-quotient, count, squares.high) + squares.low;
    struct two w = two_sum(quotient, epsilon);
    w.low += __fmaf_rn(-row.rest, row.rest, remainder / count);
    const float whole = w.high + w.low;
    w.low = w.low - (whole - w.high);
    w.high = whole;
    /* One Newton step from the rounded root, its residual 1 - w r^2 without loss. */
    const float r = 1.0f / sqrtf(w.high);
    const struct two square = two_product(r, r);
    float residual = __fmaf_rn(-w.high, square.high, 1.0f);
    residual -= __fmaf_rn(w.high, square.low, w.low * square.high);
    row.rstd.high = r;
    row.rstd.low = 0.5f * r * residual;
    return row;
}

/* d rstd gamma + beta, where d = x - base. */
static __device__ __forceinline__ float normalise(float d, const struct row_numbers &row,
                                                  float gamma, float beta)
{
    struct two scale = two_product(row.rstd.high, gamma);
    scale.low = __fmaf_rn(row.rstd.low, gamma, scale.low);
    const struct two moved = two_product(row.rest, scale.high);
    struct two shift = two_sum(beta, -moved.high);
    shift.low -= __fmaf_rn(row.rest, scale.low, moved.low);
    return __fmaf_rn(d, scale.high, shift.high) + __fmaf_rn(d, scale.low, shift.low);
}

/* The mean as the activation type holds it: distances from it are exact in float32. */
template <class T> static __device__ __forceinline__ float base_of(float sum, int channels)
{
    return ldk_to_f32(ldk_from_f32<T>(warp_sum(sum) / static_cast<float>(channels)));
}

/* ---- Kernels ------------------------------------------------------------------------------------ */

/* NV vectors of V a lane: vector n of lane l holds channels (n * 32 + l) * V .. + V - 1. */
template <class T, int V, int NV>
static __global__ void __launch_bounds__(WARPS * 32) layer_norm_kernel(const struct layer_args a)
{
    const int tid = static_cast<int>(threadIdx.x);
    const int lane = tid % 32;
    const int row = static_cast<int>(blockIdx.x) * WARPS + tid / 32;
    if (row >= a.rows) /* a whole warp */
        return;
    const T *x = static_cast<const T *>(a.x) + static_cast<int64_t>(row) * a.channels;
    T *y = static_cast<T *>(a.y) + static_cast<int64_t>(row) * a.channels;
    float v[static_cast<unsigned>(NV)][static_cast<unsigned>(V)];
    float sum = 0.0f;
    LDK_UNROLL
    for (int n = 0; n < NV; n++) {
        const int c = (n * 32 + lane) * V;
        if (c >= a.channels)
            continue;
        load_vector(v[n], x + c);
        LDK_UNROLL
        for (int i = 0; i < V; i++)
            sum += v[n][i];
    }
    const float base = base_of<T>(sum, a.channels);
    struct row_sums sums = {};
    LDK_UNROLL
    for (int n = 0; n < NV; n++) {
        if ((n * 32 + lane) * V >= a.channels)
            continue;
        LDK_UNROLL
        for (int i = 0; i < V; i++) {
            v[n][i] -= base;
            take(sums, v[n][i]);
        }
    }
    const struct row_numbers numbers = finish_row(sums, a.channels, a.epsilon);
    LDK_UNROLL
    for (int n = 0; n < NV; n++) {
        const int c = (n * 32 + lane) * V;
        if (c >= a.channels)
            continue;
        LDK_UNROLL
        for (int i = 0; i < V; i += 4) {
            const float4 gamma = ldk_ld<float4>(a.gamma + c + i);
            const float4 beta = ldk_ld<float4>(a.beta + c + i);
            v[n][i] = normalise(v[n][i], numbers, gamma.x, beta.x);
            v[n][i + 1] = normalise(v[n][i + 1], numbers, gamma.y, beta.y);
            v[n][i + 2] = normalise(v[n][i + 2], numbers, gamma.z, beta.z);
            v[n][i + 3] = normalise(v[n][i + 3], numbers, gamma.w, beta.w);
        }
        store_vector(y + c, v[n]);
    }
}

/* Any width: three walks over the row, which stays in the L1 cache. */
template <class T>
static __global__ void __launch_bounds__(WARPS * 32)
    layer_norm_plain_kernel(const struct layer_args a)
{
    const int tid = static_cast<int>(threadIdx.x);
    const int lane = tid % 32;
    const int row = static_cast<int>(blockIdx.x) * WARPS + tid / 32;
    if (row >= a.rows)
        return;
    const T *x = static_cast<const T *>(a.x) + static_cast<int64_t>(row) * a.channels;
    T *y = static_cast<T *>(a.y) + static_cast<int64_t>(row) * a.channels;
    float sum = 0.0f;
    for (int c = lane; c < a.channels; c += 32)
        sum += ldk_to_f32(x[c]);
    const float base = base_of<T>(sum, a.channels);
    struct row_sums sums = {};
    for (int c = lane; c < a.channels; c += 32)
        take(sums, ldk_to_f32(x[c]) - base);
    const struct row_numbers numbers = finish_row(sums, a.channels, a.epsilon);
    for (int c = lane; c < a.channels; c += 32) /* each element is read and written by one lane */
        y[c] = ldk_from_f32<T>(normalise(ldk_to_f32(x[c]) - base, numbers, a.gamma[c], a.beta[c]));
}

/* ---- Launch ------------------------------------------------------------------------------------- */

/* Vectors of 4 where those of 8 would leave lanes idle: 320 channels are 2.5 of 4 a lane, of 8 only
 * 1.25, and a warp takes as long as its busiest lane. */
template <class T>
static int launch_vectors(const struct layer_args &a, dim3 grid, dim3 block, ldk_stream stream)
{
    if (a.channels <= 256)
        return LDK_LAUNCH((layer_norm_kernel<T, 8, 1>), grid, block, 0, stream, a);
    if (a.channels <= 384)
        return LDK_LAUNCH((layer_norm_kernel<T, 4, 3>), grid, block, 0, stream, a);
    if (a.channels <= 512)
        return LDK_LAUNCH((layer_norm_kernel<T, 8, 2>), grid, block, 0, stream, a);
    if (a.channels <= 640)
        return LDK_LAUNCH((layer_norm_kernel<T, 4, 5>), grid, block, 0, stream, a);
    if (a.channels <= 768)
        return LDK_LAUNCH((layer_norm_kernel<T, 8, 3>), grid, block, 0, stream, a);
    return LDK_LAUNCH((layer_norm_kernel<T, 8, 5>), grid, block, 0, stream, a);
}

template <class T> static int launch(const struct layer_args &a, ldk_stream stream)
{
    const dim3 grid(static_cast<unsigned>(ld_idx_ceil_div(a.rows, WARPS)));
    const dim3 block(WARPS * 32);
    const uintptr_t floats =
        reinterpret_cast<uintptr_t>(a.gamma) | reinterpret_cast<uintptr_t>(a.beta);
    if (a.channels % 8 != 0 || floats % 16 != 0 || a.channels > CHANNELS_MAX)
        return LDK_LAUNCH((layer_norm_plain_kernel<T>), grid, block, 0, stream, a);
    return launch_vectors<T>(a, grid, block, stream);
}

extern "C" int ldk_layer_norm(const struct ldk_layer_norm *n, ldk_stream stream)
{
    if (n->x == nullptr || n->y == nullptr || n->gamma == nullptr || n->beta == nullptr ||
        n->rows < 1 || n->channels < 1 || (n->dtype != LDK_F16 && n->dtype != LDK_BF16))
        return LDK_E_INVALID;
    struct layer_args a = {};
    a.x = n->x;
    a.y = n->y;
    a.gamma = n->gamma;
    a.beta = n->beta;
    a.rows = n->rows;
    a.channels = n->channels;
    a.epsilon = n->epsilon;
    return n->dtype == LDK_F16 ? launch<half>(a, stream) : launch<bf16>(a, stream);
}
