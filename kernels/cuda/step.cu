/*
 * The fused sampler step: one linear update of every k-diffusion sampler for all images at once.
 *   D  = c_skip x + c_out output              per row; CFG: U + s (C - U)
 *   D  = a x - share (a x - D)                rescale, share = phi std(a x - C) / std(a x - D) + 1
 * - phi, a = 1 / (sigma^2 + 1), std over the image, unbiased x' = a x + b D + c noise + sum_h e_h
 * history_h;  history[push] = D;  next = c_in x'
 *
 * Kernels  rescale_kernel, one block an image, finds `share` (workspace[4 i]) and leaves at once
 * where nothing is to be rescaled; step_kernel, one thread a position, does the rest. Coefficients
 *          are read from device memory, so one captured graph serves every step.
 * Numerics float32. Terms with a zero coefficient are not read: history that was never written and
 *          noise that was never given do no harm. Sums of the rescale: float32 a thread, then fp64
 * in a fixed order. An image's bits do not depend on who shares the launch. Noise    NULL: drawn
 * here from (seed, draw, element index), noise.cuh. Registers (sm_90) at most 64; shared 512 bytes.
 * Bound: launch (0.3 MB an image at 1024x1024); time: not measured. Source   kernels.md 9;
 * sampling.md 1.3, 5.1, 5.2 (Lin et al. 2023, arXiv:2305.08891).
 */
#include "kernels/cuda/noise.cuh"
#include "kernels/cuda/vector.cuh"

enum { THREADS = 256, RESCALE_THREADS = 512, RESCALE_WARPS = RESCALE_THREADS / 32 };

/* ---- Denoised estimates ------------------------------------------------------------------------- */

/* V channels of the positive row's estimate and of the guided one, at position p. */
template <class T, int V>
static __device__ __forceinline__ void
estimate(const struct ldk_step &s, const struct ldk_step_image &image, int p, int c,
         const floats<V> &x, floats<V> &positive, floats<V> &guided)
{
    const int64_t positions = static_cast<int64_t>(s.height) * s.width;
    const T *output =
        static_cast<const T *>(s.output) + (image.first_row * positions + p) * s.channels + c;
    load_vector(positive, output);
    LDK_UNROLL
    for (int i = 0; i < V; i++) {
        positive[i] = image.c_skip * x[i] + image.c_out * positive[i];
        guided[i] = positive[i];
    }
    if (image.rows < 2 || image.cfg_scale == 1.0f)
        return;
    floats<V> negative;
    load_vector(negative, output + positions * s.channels);
    LDK_UNROLL
    for (int i = 0; i < V; i++) {
        negative[i] = image.c_skip * x[i] + image.c_out * negative[i];
        guided[i] = negative[i] + image.cfg_scale * (positive[i] - negative[i]);
    }
}

static __device__ __forceinline__ bool rescales(const struct ldk_step_image &image)
{
    return image.rescale != 0.0f && image.rows >= 2 && image.cfg_scale != 1.0f;
}

static __device__ __forceinline__ float shrink(const struct ldk_step_image &image)
{
    return 1.0f / (image.sigma * image.sigma + 1.0f);
}

/* V channels of x at position p; planes are `positions` apart. */
template <int V>
static __device__ __forceinline__ void load_planes(floats<V> &v, const float *plane,
                                                   int64_t positions)
{
    LDK_UNROLL
    for (int i = 0; i < V; i++)
        v[i] = plane[i * positions];
}

/* ---- Rescale ------------------------------------------------------------------------------------ */

/* Of `count` values around a shift, from sum d and sum d^2. */
static __device__ double deviation(double sum, double squares, double count)
{
    const double variance = count < 2.0 ? 0.0 : (squares - sum * sum / count) / (count - 1.0);
    return variance > 0.0 ? sqrt(variance) : 0.0;
}

template <class T, int V>
static __global__ void __launch_bounds__(RESCALE_THREADS) rescale_kernel(const struct ldk_step s)
{
    LDK_SHARED(double, partial, [4][RESCALE_WARPS]);
    const int tid = static_cast<int>(threadIdx.x);
    const int64_t index = blockIdx.x;
    const struct ldk_step_image &image = s.images[index];
    if (!rescales(image)) /* the whole block */
        return;
    const int positions = s.height * s.width;
    const float *x = s.x + index * s.channels * positions;
    const float a = shrink(image);
    float sums[4] = {}; /* of a x - C and a x - D: sum, sum of squares */
    for (int p = tid; p < positions; p += RESCALE_THREADS)
        for (int c = 0; c < s.channels; c += V) {
            floats<V> at;
            floats<V> positive;
            floats<V> guided;
            load_planes<V>(at, x + static_cast<int64_t>(c) * positions + p, positions);
            estimate<T, V>(s, image, p, c, at, positive, guided);
            LDK_UNROLL
            for (int i = 0; i < V; i++) {
                const float of_positive = a * at[i] - positive[i];
                const float of_guided = a * at[i] - guided[i];
                sums[0] += of_positive;
                sums[1] += of_positive * of_positive;
                sums[2] += of_guided;
                sums[3] += of_guided * of_guided;
            }
        }
    LDK_UNROLL
    for (int i = 0; i < 4; i++) {
        const double sum = warp_sum(static_cast<double>(sums[i]));
        if (tid % 32 == 0)
            partial[i][tid / 32] = sum;
    }
    __syncthreads();
    if (tid != 0)
        return;
    double total[4] = {};
    LDK_UNROLL
    for (int i = 0; i < 4; i++)
        for (int w = 0; w < RESCALE_WARPS; w++)
            total[i] += partial[i][w];
    const double count = static_cast<double>(s.channels) * static_cast<double>(positions);
    const double of_positive = deviation(total[0], total[1], count);
    const double of_guided = deviation(total[2], total[3], count);
    const double ratio = of_guided > 0.0 ? of_positive / of_guided : 1.0;
    const double phi = static_cast<double>(image.rescale);
    s.workspace[index * 4] = static_cast<float>(phi * ratio + (1.0 - phi));
}

/* ---- Step --------------------------------------------------------------------------------------- */

template <class T, int V>
static __device__ __forceinline__ void step_vector(const struct ldk_step &s,
                                                   const struct ldk_step_image &image,
                                                   int64_t index, int p, int c)
{
    const int64_t positions = static_cast<int64_t>(s.height) * s.width;
    const int64_t element = c * positions + p; /* of the image's [C, H, W] */
    const int64_t size = s.channels * positions;
    float *x = s.x + index * size + element;
    const int64_t past = index * LDK_STEP_HISTORY_MAX * size + element; /* in s.history */
    floats<V> at;
    floats<V> positive;
    floats<V> d;
    floats<V> out;
    load_planes<V>(at, x, positions);
    estimate<T, V>(s, image, p, c, at, positive, d);
    if (rescales(image)) {
        const float a = shrink(image);
        const float share = s.workspace[index * 4];
        LDK_UNROLL
        for (int i = 0; i < V; i++)
            d[i] = a * at[i] - share * (a * at[i] - d[i]);
    }
    LDK_UNROLL
    for (int i = 0; i < V; i++) {
        out[i] = image.a * at[i] + image.b * d[i];
        if (image.c != 0.0f)
            out[i] +=
                image.c * (s.noise != nullptr
                               ? s.noise[index * size + element + i * positions]
                               : philox_normal(image.seed, image.draw,
                                               static_cast<uint32_t>(element + i * positions)));
        LDK_UNROLL
        for (int h = 0; h < LDK_STEP_HISTORY_MAX; h++)
            if (image.e[h] != 0.0f)
                out[i] += image.e[h] * s.history[past + h * size + i * positions];
        if (image.push >= 0)
            s.history[past + image.push * size + i * positions] = d[i];
        x[i * positions] = out[i];
        out[i] *= image.next_c_in;
    }
    if (s.next == nullptr)
        return;
    for (int row = 0; row < image.rows; row++)
        store_vector(static_cast<T *>(s.next) +
                         ((image.first_row + row) * positions + p) * s.channels + c,
                     out);
}

template <class T, int V>
static __global__ void __launch_bounds__(THREADS) step_kernel(const struct ldk_step s)
{
    const int p = static_cast<int>(blockIdx.x) * THREADS + static_cast<int>(threadIdx.x);
    const int64_t index = blockIdx.y;
    if (p >= s.height * s.width)
        return;
    for (int c = 0; c < s.channels; c += V)
        step_vector<T, V>(s, s.images[index], index, p, c);
}

static __global__ void __launch_bounds__(THREADS)
    noise_kernel(uint64_t seed, uint32_t draw, int64_t count, float *out)
{
    const int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i < count)
        out[i] = philox_normal(seed, draw, static_cast<uint32_t>(i));
}

/* ---- Launch ------------------------------------------------------------------------------------- */

template <class T, int V> static int launch(const struct ldk_step *s, ldk_stream stream)
{
    if (s->workspace != nullptr) {
        const int code = LDK_LAUNCH((rescale_kernel<T, V>), dim3(static_cast<unsigned>(s->count)),
                                    dim3(RESCALE_THREADS), 0, stream, *s);
        if (code != LDK_OK)
            return code;
    }
    const dim3 grid(static_cast<unsigned>(ld_idx_ceil_div(s->height * s->width, THREADS)),
                    static_cast<unsigned>(s->count));
    return LDK_LAUNCH((step_kernel<T, V>), grid, dim3(THREADS), 0, stream, *s);
}

extern "C" int ldk_step(const struct ldk_step *s, ldk_stream stream)
{
    if (s->images == nullptr || s->output == nullptr || s->x == nullptr || s->count < 1 ||
        s->count > 65535 || s->channels < 1 || s->height < 1 || s->width < 1 ||
        static_cast<int64_t>(s->height) * s->width * s->channels > INT32_MAX ||
        (s->dtype != LDK_F16 && s->dtype != LDK_BF16))
        return LDK_E_INVALID;
    if (s->channels % 4 == 0)
        return s->dtype == LDK_F16 ? launch<half, 4>(s, stream) : launch<bf16, 4>(s, stream);
    return s->dtype == LDK_F16 ? launch<half, 1>(s, stream) : launch<bf16, 1>(s, stream);
}

extern "C" int ldk_noise_philox(uint64_t seed, uint32_t draw, int64_t count, float *out,
                                ldk_stream stream)
{
    if (out == nullptr || count < 1 || count > INT64_C(0x100000000))
        return LDK_E_INVALID;
    const dim3 grid(static_cast<unsigned>((count + THREADS - 1) / THREADS));
    return LDK_LAUNCH(noise_kernel, grid, dim3(THREADS), 0, stream, seed, draw, count, out);
}
