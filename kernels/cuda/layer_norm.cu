/*
 * LayerNorm over the last axis: y = (x - mean) * rstd * gamma + beta.
 *
 * One warp a token, four tokens a block. The row stays in registers as float32 (1280 channels: five
 * 16-byte vectors a lane), so memory is read and written once and the variance is taken from the
 * distances to the mean. Channel counts that are no multiple of 8, or above 1280, walk the row
 * three times instead.
 *
 * Registers (sm_90) 31..70 by channels; no shared memory. Bound: bytes; time: not measured.
 * Source   Ba, Kiros & Hinton 2016, arXiv:1607.06450.
 */
#include "kernels/cuda/vector.cuh"

enum { WARPS = 4, VECTORS_MAX = 5 };

struct layer_args {
    const void *x;
    void *y;
    const float *gamma, *beta;
    int rows, channels;
    float epsilon;
};

/* NV vectors of 8 a lane: vector n of lane l holds channels (n * 32 + l) * 8 .. + 7. */
template <class T, int NV>
static __global__ void __launch_bounds__(WARPS * 32) layer_norm_kernel(const struct layer_args a)
{
    const int tid = static_cast<int>(threadIdx.x);
    const int lane = tid % 32;
    const int row = static_cast<int>(blockIdx.x) * WARPS + tid / 32;
    if (row >= a.rows) /* a whole warp */
        return;
    const T *x = static_cast<const T *>(a.x) + static_cast<int64_t>(row) * a.channels;
    T *y = static_cast<T *>(a.y) + static_cast<int64_t>(row) * a.channels;
    const float inverse = 1.0f / static_cast<float>(a.channels);
    float v[static_cast<unsigned>(NV)][8];
    float sum = 0.0f;
    LDK_UNROLL
    for (int n = 0; n < NV; n++) {
        const int c = (n * 32 + lane) * 8;
        if (c >= a.channels)
            continue;
        load_vector(v[n], x + c);
        LDK_UNROLL
        for (int i = 0; i < 8; i++)
            sum += v[n][i];
    }
    const float mean = warp_sum(sum) * inverse;
    float squares = 0.0f;
    LDK_UNROLL
    for (int n = 0; n < NV; n++) {
        if ((n * 32 + lane) * 8 >= a.channels)
            continue;
        LDK_UNROLL
        for (int i = 0; i < 8; i++) {
            v[n][i] -= mean;
            squares += v[n][i] * v[n][i];
        }
    }
    const float rstd = 1.0f / sqrtf(warp_sum(squares) * inverse + a.epsilon);
    LDK_UNROLL
    for (int n = 0; n < NV; n++) {
        const int c = (n * 32 + lane) * 8;
        if (c >= a.channels)
            continue;
        LDK_UNROLL
        for (int i = 0; i < 8; i += 4) {
            const float4 gamma = ldk_ld<float4>(a.gamma + c + i);
            const float4 beta = ldk_ld<float4>(a.beta + c + i);
            v[n][i] = v[n][i] * rstd * gamma.x + beta.x;
            v[n][i + 1] = v[n][i + 1] * rstd * gamma.y + beta.y;
            v[n][i + 2] = v[n][i + 2] * rstd * gamma.z + beta.z;
            v[n][i + 3] = v[n][i + 3] * rstd * gamma.w + beta.w;
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
    const float inverse = 1.0f / static_cast<float>(a.channels);
    float sum = 0.0f;
    for (int c = lane; c < a.channels; c += 32)
        sum += ldk_to_f32(x[c]);
    const float mean = warp_sum(sum) * inverse;
    float squares = 0.0f;
    for (int c = lane; c < a.channels; c += 32) {
        const float d = ldk_to_f32(x[c]) - mean;
        squares += d * d;
    }
    const float rstd = 1.0f / sqrtf(warp_sum(squares) * inverse + a.epsilon);
    for (int c = lane; c < a.channels; c += 32) /* each element is read and written by one lane */
        y[c] = ldk_from_f32<T>((ldk_to_f32(x[c]) - mean) * rstd * a.gamma[c] + a.beta[c]);
}

/* ---- Launch ------------------------------------------------------------------------------------- */

template <class T> static int launch(const struct layer_args &a, ldk_stream stream)
{
    const dim3 grid(static_cast<unsigned>(ld_idx_ceil_div(a.rows, WARPS)));
    const dim3 block(WARPS * 32);
    const uintptr_t floats =
        reinterpret_cast<uintptr_t>(a.gamma) | reinterpret_cast<uintptr_t>(a.beta);
    const int vectors = ld_idx_ceil_div(a.channels, 256);
    if (a.channels % 8 != 0 || floats % 16 != 0 || vectors > VECTORS_MAX)
        return LDK_LAUNCH((layer_norm_plain_kernel<T>), grid, block, 0, stream, a);
    if (vectors == 1)
        return LDK_LAUNCH((layer_norm_kernel<T, 1>), grid, block, 0, stream, a);
    if (vectors == 2)
        return LDK_LAUNCH((layer_norm_kernel<T, 2>), grid, block, 0, stream, a);
    if (vectors == 3)
        return LDK_LAUNCH((layer_norm_kernel<T, 3>), grid, block, 0, stream, a);
    return LDK_LAUNCH((layer_norm_kernel<T, VECTORS_MAX>), grid, block, 0, stream, a);
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
