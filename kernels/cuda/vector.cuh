/*
 * Vectors of activations as float32, and the nonlinearities on single values. Shared by all
 * kernels that do not work on tensor cores.
 */
#ifndef LDK_VECTOR_CUH
#define LDK_VECTOR_CUH

#include "kernels/cuda/launch.h"
#include "kernels/idx.h"

/* V floats in registers. The bound is unsigned for the host compiler's sake. */
template <int V> using floats = float[static_cast<unsigned>(V)];

/* V neighbouring elements as one access takes them: 8 in 16 bytes, 4 in 8, 1 for any offset. A
 * kernel that has several on their way keeps them in this form, half the registers of floats. */
template <class T, int V> struct raw_vector {
    static_assert(V == 1, "vectors of 8, 4 or 1");
    using type = T;
};
template <class T> struct raw_vector<T, 4> {
    using type = uint2;
};
template <class T> struct raw_vector<T, 8> {
    using type = uint4;
};

template <class T>
static __device__ __forceinline__ void unpack_vector(floats<8> &v, const uint4 &raw)
{
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
    LDK_UNROLL
    for (int i = 0; i < 4; i++) {
        const float2 pair = ldk_unpack<T>(words[i]);
        v[2 * i] = pair.x;
        v[2 * i + 1] = pair.y;
    }
}

template <class T>
static __device__ __forceinline__ void unpack_vector(floats<4> &v, const uint2 &raw)
{
    const float2 low = ldk_unpack<T>(raw.x);
    const float2 high = ldk_unpack<T>(raw.y);
    v[0] = low.x;
    v[1] = low.y;
    v[2] = high.x;
    v[3] = high.y;
}

template <class T> static __device__ __forceinline__ void unpack_vector(floats<1> &v, const T &raw)
{
    v[0] = ldk_to_f32(raw);
}

template <unsigned V, class T>
static __device__ __forceinline__ void load_vector(float (&v)[V], const T *p)
{
    unpack_vector<T>(v, ldk_ld<typename raw_vector<T, static_cast<int>(V)>::type>(p));
}

/* Eight floats are two accesses. */
template <> __device__ __forceinline__ void load_vector<8u, float>(float (&v)[8u], const float *p)
{
    LDK_UNROLL
    for (int i = 0; i < 8; i += 4) {
        const float4 four = ldk_ld<float4>(p + i);
        v[i] = four.x;
        v[i + 1] = four.y;
        v[i + 2] = four.z;
        v[i + 3] = four.w;
    }
}

template <unsigned V, class T>
static __device__ __forceinline__ void store_vector(T *p, const float (&v)[V])
{
    if constexpr (V == 8)
        ldk_st(p, make_uint4(ldk_pack<T>(v[0], v[1]), ldk_pack<T>(v[2], v[3]),
                             ldk_pack<T>(v[4], v[5]), ldk_pack<T>(v[6], v[7])));
    else if constexpr (V == 4)
        ldk_st(p, make_uint2(ldk_pack<T>(v[0], v[1]), ldk_pack<T>(v[2], v[3])));
    else
        *p = ldk_from_f32<T>(v[0]);
}

/* v * sigmoid(k v). The exponential of a very negative v is infinite and its reciprocal zero. */
static __device__ __forceinline__ float swish(float v, float k)
{
    return v * ldk_rcp(1.0f + ldk_expf(-k * v));
}

static __device__ __forceinline__ float silu(float v)
{
    return swish(v, 1.0f);
}

static __device__ __forceinline__ float quick_gelu(float v)
{
    return swish(v, 1.702f);
}

static constexpr unsigned LDK_WARP = 0xffffffffu;

/*
 * Sums of two floats: `high` is the rounded value, `low` what rounding took away. Sums and products
 * here are exact (Knuth 1969, Dekker 1971; Ogita, Rump & Oishi 2005), so a chain of them is as good
 * as fp64 where fp64 is slow. No multiply-add may be fused into the additions: there are no
 * products in them.
 */
struct two {
    float high, low;
};

static __device__ __forceinline__ struct two two_sum(float a, float b)
{
    struct two s;
    s.high = a + b;
    const float b_in = s.high - a;
    s.low = (a - (s.high - b_in)) + (b - b_in);
    return s;
}

static __device__ __forceinline__ struct two two_product(float a, float b)
{
    struct two p;
    p.high = __fmul_rn(a, b);
    p.low = __fmaf_rn(a, b, -p.high);
    return p;
}

static __device__ __forceinline__ struct two two_add(struct two a, struct two b)
{
    struct two s = two_sum(a.high, b.high);
    s.low += a.low + b.low;
    return s;
}

/* As warp_sum. */
static __device__ __forceinline__ struct two warp_sum_two(struct two v)
{
    LDK_UNROLL
    for (int step = 16; step > 0; step /= 2) {
        struct two other;
        other.high = __shfl_xor_sync(LDK_WARP, v.high, step);
        other.low = __shfl_xor_sync(LDK_WARP, v.low, step);
        v = two_add(v, other);
    }
    return v;
}

/* The same sum in every lane; the tree is fixed. */
template <class F> static __device__ __forceinline__ F warp_sum(F v)
{
    LDK_UNROLL
    for (int step = 16; step > 0; step /= 2)
        v += __shfl_xor_sync(LDK_WARP, v, step);
    return v;
}

#endif
