/*
 * The family without assumptions. `plain`: one thread an output, any width, type, stride, padding,
 * upsampling; the tiny and odd-sized layers. `rows`: one warp an output of a linear layer, four
 * rows at a time, float32 allowed; the timestep path, whose cost is reading the weights once.
 *
 * Registers (ptxas 13.0, sm_80 .. sm_120, none spilled): plain 39-40, rows 42-48.
 * Sums run in float32, K ascending (plain) or by lanes and a fixed tree (rows).
 * Predicted bound: plain none worth naming; rows memory, n * k weights: blocks of the same outputs
 * and other rows follow each other, so that they find the weights in the L2. Time: not measured.
 */
#include "kernels/cuda/matmul_scalar.cuh"
#include "kernels/idx.h"

/* ---- Plain ---------------------------------------------------------------------------------------- */

enum { PLAIN_THREADS = 128 };

/* Sum of weight row `row` over one stored position, `w` at the tap's first channel. */
static __device__ float position_sum(const ldk_matmul &m, size_t at, size_t w)
{
    float sum = 0.0f;
    for (int32_t c = 0; c < m.c0; c++)
        sum +=
            matmul_load(m.x0, at * static_cast<size_t>(m.c0) + static_cast<size_t>(c), m.x_dtype) *
            matmul_load(m.w, w + static_cast<size_t>(c), m.w_dtype);
    for (int32_t c = 0; c < m.c1; c++)
        sum +=
            matmul_load(m.x1, at * static_cast<size_t>(m.c1) + static_cast<size_t>(c), m.x_dtype) *
            matmul_load(m.w, w + static_cast<size_t>(m.c0 + c), m.w_dtype);
    return sum;
}

/* The whole sum of one output position and weight row. */
static __device__ float window_sum(const ldk_matmul &m, int32_t image, int32_t position,
                                   int32_t row)
{
    const int32_t h = m.up_h > 0 ? m.up_h : m.in_h, width = m.up_w > 0 ? m.up_w : m.in_w;
    const int32_t y0 = position / m.grid_w * m.stride - m.pad;
    const int32_t x0 = position % m.grid_w * m.stride - m.pad;
    float sum = 0.0f;
    for (int32_t tap = 0; tap < m.kernel * m.kernel; tap++) {
        const int32_t y = y0 + tap / m.kernel, x = x0 + tap % m.kernel;
        if (y < 0 || y >= h || x < 0 || x >= width)
            continue;
        const size_t at = (static_cast<size_t>(image) * static_cast<size_t>(m.in_h) +
                           static_cast<size_t>(ld_idx_upsample(y, m.in_h, m.up_h))) *
                              static_cast<size_t>(m.in_w) +
                          static_cast<size_t>(ld_idx_upsample(x, m.in_w, m.up_w));
        sum += position_sum(m, at,
                            static_cast<size_t>(row) * static_cast<size_t>(m.w_stride) +
                                static_cast<size_t>(tap) * static_cast<size_t>(m.k_padded));
    }
    return sum;
}

static __global__ void __launch_bounds__(PLAIN_THREADS) plain_kernel(const ldk_matmul m)
{
    const int64_t i = static_cast<int64_t>(blockIdx.x) * PLAIN_THREADS + threadIdx.x;
    if (i >= static_cast<int64_t>(m.images) * m.positions * m.out_n)
        return;
    const int32_t n = static_cast<int32_t>(i % m.out_n);
    const int32_t position = static_cast<int32_t>(i / m.out_n % m.positions);
    const int32_t image = static_cast<int32_t>(i / m.out_n / m.positions);
    const bool geglu = m.activation == LDK_ACT_GEGLU;
    const int32_t row = geglu ? n / 8 * 16 + n % 8 : n;
    float v = matmul_biased(m, image, row, window_sum(m, image, position, row));
    if (geglu)
        v *= ldk_gelu(matmul_biased(m, image, row + 8, window_sum(m, image, position, row + 8)));
    else
        v = ldk_activate(v, m.activation);
    matmul_put(m, image, position, n, v);
}

extern "C" int ldk_matmul_launch_plain(const ldk_matmul *m, ldk_stream stream)
{
    const int64_t count = static_cast<int64_t>(m->images) * m->positions * m->out_n;
    const int64_t blocks = (count + PLAIN_THREADS - 1) / PLAIN_THREADS;
    if (blocks > INT32_MAX)
        return LDK_E_INVALID;
    return LDK_LAUNCH(plain_kernel, dim3(static_cast<unsigned>(blocks)), dim3(PLAIN_THREADS), 0,
                      stream, *m);
}

/* ---- Few rows ------------------------------------------------------------------------------------- */

enum { ROW_WARPS = 8, ROW_THREADS = 32 * ROW_WARPS, ROWS_AT_ONCE = 4 };

template <class X, class W>
static __global__ void __launch_bounds__(ROW_THREADS) rows_kernel(const ldk_matmul m)
{
    const int tid = static_cast<int>(threadIdx.x), lane = tid % 32;
    const int32_t n = static_cast<int32_t>(blockIdx.y) * ROW_WARPS + tid / 32;
    if (n >= m.n)
        return;
    const int64_t rows = static_cast<int64_t>(m.images) * m.positions;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * ROWS_AT_ONCE;
    const X *x = static_cast<const X *>(m.x0);
    const W *w =
        static_cast<const W *>(m.w) + static_cast<size_t>(n) * static_cast<size_t>(m.w_stride);
    float sum[ROWS_AT_ONCE] = {};
    for (int32_t k = lane * 8; k < m.c0; k += 256) {
        floats<8> b;
        load_vector(b, w + k);
        LDK_UNROLL
        for (int r = 0; r < ROWS_AT_ONCE; r++) {
            floats<8> a;
            const int64_t row = first + r < rows ? first + r : rows - 1;
            load_vector(a, x + static_cast<size_t>(row) * static_cast<size_t>(m.c0) + k);
            LDK_UNROLL
            for (int i = 0; i < 8; i++)
                sum[r] += a[i] * b[i];
        }
    }
    LDK_UNROLL
    for (int r = 0; r < ROWS_AT_ONCE; r++) {
        const float v = warp_sum(sum[r]);
        if (lane != r || first + r >= rows)
            continue;
        const int32_t image = static_cast<int32_t>((first + r) / m.positions);
        matmul_put(m, image, static_cast<int32_t>((first + r) % m.positions), n,
                   ldk_activate(matmul_biased(m, image, n, v), m.activation));
    }
}

template <class X, class W> static int launch_rows(const ldk_matmul &m, ldk_stream stream)
{
    const int64_t rows = static_cast<int64_t>(m.images) * m.positions;
    const int64_t groups = (rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
    const int32_t outputs = ld_idx_ceil_div(m.n, ROW_WARPS);
    if (groups > INT32_MAX || outputs > UINT16_MAX)
        return LDK_E_UNSUPPORTED;
    return LDK_LAUNCH((rows_kernel<X, W>),
                      dim3(static_cast<unsigned>(groups), static_cast<unsigned>(outputs)),
                      dim3(ROW_THREADS), 0, stream, m);
}

template <class X> static int launch_x(const ldk_matmul &m, ldk_stream stream)
{
    if (m.w_dtype == LDK_F16)
        return launch_rows<X, half>(m, stream);
    if (m.w_dtype == LDK_BF16)
        return launch_rows<X, bf16>(m, stream);
    return launch_rows<X, float>(m, stream);
}

extern "C" int ldk_matmul_launch_few_rows(const ldk_matmul *m, ldk_stream stream)
{
    if (m->x_dtype == LDK_F16)
        return launch_x<half>(*m, stream);
    if (m->x_dtype == LDK_BF16)
        return launch_x<bf16>(*m, stream);
    return launch_x<float>(*m, stream);
}
