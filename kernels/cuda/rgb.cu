/*
 * Activations [B, H, W, 3] in [-1, 1] to bytes: clamp((v + 1) / 2, 0, 1) * 255, rounded to nearest
 * even; NaN becomes 0. Counts NaN and infinities on the way, so that a picture that left the range
 * of fp16 is noticed without a pass of its own.
 *
 * Eight values a thread: one 16-byte load, one 8-byte store; the last few one by one. The count is
 * an integer, so the order of its atomics does not show. Registers (sm_90) 32. Bound: bytes; time:
 * not measured.
 */
#include "kernels/cuda/vector.cuh"

enum { THREADS = 256, VALUES = 8 };

static __device__ __forceinline__ uint32_t to_byte(float v)
{
    const float level = (v + 1.0f) * 0.5f;
    /* fmaxf(NaN, 0) is 0. */
    return static_cast<uint32_t>(rintf(fminf(fmaxf(level, 0.0f), 1.0f) * 255.0f));
}

/* All ones in the exponent: NaN or infinity. */
static __device__ __forceinline__ unsigned is_broken(float v)
{
    return (__float_as_uint(v) & 0x7f800000u) == 0x7f800000u;
}

template <class T>
static __global__ void __launch_bounds__(THREADS)
    rgb_kernel(const T *x, int64_t count, uint8_t *rgb, uint32_t *nonfinite)
{
    const int64_t first = (static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x) * VALUES;
    unsigned broken = 0;
    if (first + VALUES <= count) {
        float v[VALUES];
        load_vector(v, x + first);
        uint32_t word[2] = {};
        LDK_UNROLL
        for (int i = 0; i < VALUES; i++) {
            word[i / 4] |= to_byte(v[i]) << (i % 4 * 8);
            broken += is_broken(v[i]);
        }
        ldk_st(rgb + first, make_uint2(word[0], word[1]));
    } else {
        for (int64_t i = first; i < count; i++) {
            const float v = ldk_to_f32(x[i]);
            rgb[i] = static_cast<uint8_t>(to_byte(v));
            broken += is_broken(v);
        }
    }
    broken = __reduce_add_sync(LDK_WARP, broken);
    if (nonfinite != nullptr && broken > 0 && threadIdx.x % 32 == 0)
        atomicAdd(nonfinite, broken);
}

template <class T>
static int launch(const void *x, int64_t count, uint8_t *rgb, uint32_t *nonfinite,
                  ldk_stream stream)
{
    const dim3 grid(static_cast<unsigned>((count + THREADS * VALUES - 1) / (THREADS * VALUES)));
    return LDK_LAUNCH((rgb_kernel<T>), grid, dim3(THREADS), 0, stream, static_cast<const T *>(x),
                      count, rgb, nonfinite);
}

extern "C" int ldk_rgb_out(const void *x, int32_t batch, int32_t height, int32_t width,
                           uint8_t *rgb, uint32_t *nonfinite, enum ldk_dtype dtype,
                           ldk_stream stream)
{
    if (x == nullptr || rgb == nullptr || batch < 1 || height < 1 || width < 1 ||
        reinterpret_cast<uintptr_t>(x) % 16 != 0 || reinterpret_cast<uintptr_t>(rgb) % 8 != 0 ||
        (dtype != LDK_F16 && dtype != LDK_BF16))
        return LDK_E_INVALID;
    const int64_t count = static_cast<int64_t>(batch) * height * width * 3;
    if (dtype == LDK_F16)
        return launch<half>(x, count, rgb, nonfinite, stream);
    return launch<bf16>(x, count, rgb, nonfinite, stream);
}
