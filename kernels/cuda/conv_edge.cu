/*
 * The network's two ends, where a tensor core has nothing to hold on to.
 *
 * `first` (conv_in: 3, 4, 8 or 9 inputs): a thread keeps all weights of one output channel in
 * registers and slides along a strip of the row; the input patch lies in shared memory as float32
 * and is read by broadcast, each value used for up to three outputs.
 * `last` (conv_out: up to 8 outputs): a warp sums 8 neighbouring positions of four outputs, lanes
 * share the channels by pairs, and one transposing butterfly leaves each lane one finished value.
 *
 * Registers (ptxas 13.0, sm_80 .. sm_120, none spilled): first 79-88, 90-102, 160-168, 158-184 for
 * 3, 4, 8, 9 inputs; last 128. Shared memory: first 408 bytes an input, last none.
 *
 * Predicted bound: first FMA and stores, last FMA. Time: not measured.
 */
#include "kernels/cuda/launch.h"

#include "kernels/cuda/matmul_scalar.cuh"
#include "kernels/idx.h"

/* ---- Few inputs ----------------------------------------------------------------------------------- */

enum {
    FIRST_THREADS = 256,
    FIRST_CHANNELS = 64, /* output channels of a block */
    FIRST_STRIP = 32,    /* positions of a block, along one row */
    FIRST_RUN = 4,       /* positions summed together */
    FIRST_PATCH = FIRST_STRIP + 2
};

/* The strip's three input rows, one column more on each side, zeros outside. */
template <class T, int INPUTS>
static __device__ __forceinline__ void load_patch(const ldk_matmul &m, int32_t image, int32_t y,
                                                  int32_t x, float *patch)
{
    const T *from = static_cast<const T *>(m.x0) + static_cast<size_t>(image) *
                                                       static_cast<size_t>(m.positions) *
                                                       static_cast<size_t>(INPUTS);
    for (int i = static_cast<int>(threadIdx.x); i < 3 * FIRST_PATCH * INPUTS; i += FIRST_THREADS) {
        const int32_t sy = y - 1 + i / (FIRST_PATCH * INPUTS);
        const int32_t sx = x - 1 + i / INPUTS % FIRST_PATCH;
        const bool there = sy >= 0 && sy < m.in_h && sx >= 0 && sx < m.in_w;
        const size_t at = static_cast<size_t>((sy * m.in_w + sx) * INPUTS);
        patch[i] = there ? ldk_to_f32(from[at + static_cast<size_t>(i % INPUTS)]) : 0.0f;
    }
}

template <class T, int INPUTS>
static __global__ void __launch_bounds__(FIRST_THREADS, INPUTS > 4 ? 1 : 2)
    first_kernel(const ldk_matmul m)
{
    constexpr size_t PATCH = static_cast<size_t>(3 * FIRST_PATCH * INPUTS);
    constexpr size_t WEIGHTS = static_cast<size_t>(9 * INPUTS); /* [tap][input] */
    LDK_SHARED(float, patch, [PATCH]);
    const int tid = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
    const int32_t strips = ld_idx_ceil_div(m.in_w, FIRST_STRIP);
    const int32_t x = block % strips * FIRST_STRIP, line = block / strips;
    const int32_t y = line % m.in_h, image = line / m.in_h;
    load_patch<T, INPUTS>(m, image, y, x, patch);
    __syncthreads();

    const int32_t n = static_cast<int32_t>(blockIdx.y) * FIRST_CHANNELS + tid % FIRST_CHANNELS;
    float w[WEIGHTS];
    LDK_UNROLL
    for (int i = 0; i < 9 * INPUTS; i++) {
        const size_t at = static_cast<size_t>(n) * static_cast<size_t>(m.w_stride) +
                          static_cast<size_t>(i / INPUTS * m.k_padded + i % INPUTS);
        w[i] = n < m.w_rows ? ldk_to_f32(static_cast<const T *>(m.w)[at]) : 0.0f;
    }
    constexpr int OF_THREAD = FIRST_STRIP * FIRST_CHANNELS / FIRST_THREADS;
    const int begin = tid / FIRST_CHANNELS * OF_THREAD;
    LDK_NO_UNROLL
    for (int run = begin; run < begin + OF_THREAD; run += FIRST_RUN) {
        float sum[FIRST_RUN] = {};
        LDK_UNROLL
        for (int i = 0; i < 3 * (FIRST_RUN + 2); i++) {
            const int ky = i / (FIRST_RUN + 2), column = i % (FIRST_RUN + 2);
            LDK_UNROLL
            for (int c = 0; c < INPUTS; c++) {
                const float v = patch[(ky * FIRST_PATCH + run + column) * INPUTS + c];
                LDK_UNROLL
                for (int kx = 0; kx < 3; kx++)
                    if (column - kx >= 0 && column - kx < FIRST_RUN)
                        sum[column - kx] += v * w[(3 * ky + kx) * INPUTS + c];
            }
        }
        LDK_UNROLL
        for (int p = 0; p < FIRST_RUN; p++)
            if (n < m.n && x + run + p < m.in_w)
                matmul_put(m, image, y * m.in_w + x + run + p, n,
                           matmul_biased(m, image, n, sum[p]));
    }
}

template <class T, int INPUTS> static int launch_first(const ldk_matmul &m, ldk_stream stream)
{
    const int64_t blocks =
        static_cast<int64_t>(m.images) * m.in_h * ld_idx_ceil_div(m.in_w, FIRST_STRIP);
    if (blocks > INT32_MAX)
        return LDK_E_INVALID;
    return LDK_LAUNCH((first_kernel<T, INPUTS>),
                      dim3(static_cast<unsigned>(blocks),
                           static_cast<unsigned>(ld_idx_ceil_div(m.n, FIRST_CHANNELS))),
                      dim3(FIRST_THREADS), 0, stream, m);
}

template <class T> static int launch_inputs(const ldk_matmul &m, ldk_stream stream)
{
    switch (m.c0) {
    case 3:
        return launch_first<T, 3>(m, stream);
    case 4:
        return launch_first<T, 4>(m, stream);
    case 8:
        return launch_first<T, 8>(m, stream);
    case 9:
        return launch_first<T, 9>(m, stream);
    default:
        return LDK_E_UNSUPPORTED;
    }
}

extern "C" int ldk_matmul_launch_first(const ldk_matmul *m, ldk_stream stream)
{
    return m->x_dtype == LDK_BF16 ? launch_inputs<bf16>(*m, stream)
                                  : launch_inputs<half>(*m, stream);
}

/* ---- Few outputs ---------------------------------------------------------------------------------- */

enum { LAST_WARPS = 4, LAST_THREADS = 32 * LAST_WARPS, LAST_RUN = 8, LAST_OUTPUTS = 4 };

/* Adds one row of taps: sum[position * 4 + output] over channels c and c + 1. `x` is the row's
 * first pixel, `first` the run's first column, `w` the row's first tap of the first output. */
template <class T>
static __device__ __forceinline__ void add_row(const ldk_matmul &m, const T *x, int32_t first,
                                               const T *w, int32_t c, float *sum)
{
    float2 v[LAST_RUN + 2];
    LDK_UNROLL
    for (int i = 0; i < LAST_RUN + 2; i++) {
        const int32_t at = first - 1 + i;
        v[i] = make_float2(0.0f, 0.0f);
        if (at >= 0 && at < m.in_w)
            v[i] = ldk_unpack<T>(
                ldk_ld<uint32_t>(x + static_cast<size_t>(at) * static_cast<size_t>(m.c0) + c));
    }
    LDK_UNROLL
    for (int i = 0; i < 3 * LAST_OUTPUTS; i++) {
        const int kx = i / LAST_OUTPUTS, o = i % LAST_OUTPUTS;
        const float2 b = ldk_unpack<T>(ldk_ld<uint32_t>(w + o * m.w_stride + kx * m.k_padded + c));
        LDK_UNROLL
        for (int p = 0; p < LAST_RUN; p++)
            sum[p * LAST_OUTPUTS + o] += v[p + kx].x * b.x + v[p + kx].y * b.y;
    }
}

/* 2 * COUNT values in each lane: lane l returns the sum over all lanes of value l (COUNT 16). */
template <int COUNT> static __device__ __forceinline__ float transposed_sum(float *v, int lane)
{
    const bool upper = (lane & COUNT) != 0;
    LDK_UNROLL
    for (int i = 0; i < COUNT; i++) {
        const float keep = upper ? v[i + COUNT] : v[i];
        const float give = upper ? v[i] : v[i + COUNT];
        v[i] = keep + __shfl_xor_sync(0xffffffffu, give, COUNT);
    }
    if constexpr (COUNT > 1)
        return transposed_sum<COUNT / 2>(v, lane);
    return v[0];
}

template <class T>
static __global__ void __launch_bounds__(LAST_THREADS) last_kernel(const ldk_matmul m)
{
    static_assert(LAST_RUN * LAST_OUTPUTS == 32, "one value a lane");
    const int tid = static_cast<int>(threadIdx.x), lane = tid % 32;
    const int32_t runs = ld_idx_ceil_div(m.in_w, LAST_RUN);
    const int64_t warp = static_cast<int64_t>(blockIdx.x) * LAST_WARPS + tid / 32;
    if (warp >= static_cast<int64_t>(m.images) * m.in_h * runs)
        return;
    const int32_t x = static_cast<int32_t>(warp % runs) * LAST_RUN;
    const int32_t y = static_cast<int32_t>(warp / runs % m.in_h);
    const int32_t image = static_cast<int32_t>(warp / runs / m.in_h);
    const int32_t output = static_cast<int32_t>(blockIdx.y) * LAST_OUTPUTS;

    float sum[32] = {};
    for (int ky = 0; ky < 3; ky++) {
        const int32_t sy = y + ky - 1;
        if (sy < 0 || sy >= m.in_h)
            continue;
        const size_t line =
            static_cast<size_t>(image) * static_cast<size_t>(m.in_h) + static_cast<size_t>(sy);
        const T *row = static_cast<const T *>(m.x0) +
                       line * static_cast<size_t>(m.in_w) * static_cast<size_t>(m.c0);
        const T *w = static_cast<const T *>(m.w) +
                     static_cast<size_t>(output) * static_cast<size_t>(m.w_stride) +
                     3 * ky * m.k_padded;
        for (int32_t c = 2 * lane; c < m.c0; c += 64)
            add_row(m, row, x, w, c, sum);
    }
    __syncwarp();
    const float v = transposed_sum<16>(sum, lane);
    const int32_t n = output + lane % LAST_OUTPUTS, at = x + lane / LAST_OUTPUTS;
    if (n < m.n && at < m.in_w)
        matmul_put(m, image, y * m.in_w + at, n, matmul_biased(m, image, n, v));
}

template <class T> static int launch_last(const ldk_matmul &m, ldk_stream stream)
{
    const int64_t warps =
        static_cast<int64_t>(m.images) * m.in_h * ld_idx_ceil_div(m.in_w, LAST_RUN);
    const int64_t blocks = (warps + LAST_WARPS - 1) / LAST_WARPS;
    if (blocks > INT32_MAX)
        return LDK_E_INVALID;
    return LDK_LAUNCH((last_kernel<T>),
                      dim3(static_cast<unsigned>(blocks),
                           static_cast<unsigned>(ld_idx_ceil_div(m.n, LAST_OUTPUTS))),
                      dim3(LAST_THREADS), 0, stream, m);
}

extern "C" int ldk_matmul_launch_last(const ldk_matmul *m, ldk_stream stream)
{
    return m->x_dtype == LDK_BF16 ? launch_last<bf16>(*m, stream) : launch_last<half>(*m, stream);
}
