/*
 * The host half of kernels/cuda/launch.h: CUDA's words over kernels/host/fiber.h, for g++ and
 * clang++ (C++17, no standard library). What a word checks on the host is said in fiber.h and in
 * hostbuild.md section 2; what it does on the device is said in launch.h.
 *
 * Not on the host by intent: a bare __shared__, operators on half, __activemask, atomicAdd of
 * floats.
 */
#ifndef LDK_LAUNCH_HOST_H
#define LDK_LAUNCH_HOST_H

#include "kernels/host/fiber.h"
#include "kernels/host/number.h"

#include <stdlib.h>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

#define LDK_UNROLL
#define LDK_NO_UNROLL

/* ---- Vector types ---------------------------------------------------------------------------- */

#define LDK_VECTORS(scalar, name, two, four)                                                       \
    struct alignas(two) name##2                                                                    \
    {                                                                                              \
        scalar x, y;                                                                               \
    };                                                                                             \
    struct name##3                                                                                 \
    {                                                                                              \
        scalar x, y, z;                                                                            \
    };                                                                                             \
    struct alignas(four) name##4                                                                   \
    {                                                                                              \
        scalar x, y, z, w;                                                                         \
    };                                                                                             \
    static inline name##2 make_##name##2(scalar x, scalar y)                                       \
    {                                                                                              \
        return name##2 {x, y};                                                                     \
    }                                                                                              \
    static inline name##3 make_##name##3(scalar x, scalar y, scalar z)                             \
    {                                                                                              \
        return name##3 {x, y, z};                                                                  \
    }                                                                                              \
    static inline name##4 make_##name##4(scalar x, scalar y, scalar z, scalar w)                   \
    {                                                                                              \
        return name##4 {x, y, z, w};                                                               \
    }
LDK_VECTORS(float, float, 8, 16)
LDK_VECTORS(int, int, 8, 16)
LDK_VECTORS(unsigned, uint, 8, 16)
LDK_VECTORS(unsigned short, ushort, 4, 8)
LDK_VECTORS(unsigned char, uchar, 2, 4)
#undef LDK_VECTORS

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

/* ---- Launching ------------------------------------------------------------------------------- */

#define threadIdx (ldk_host_now.thread)
#define blockIdx  (ldk_host_now.block)
#define blockDim  (ldk_host_now.block_dim)
#define gridDim   (ldk_host_now.grid_dim)
#define warpSize  32

template <class... P>
static inline int ldk_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                             size_t smem, ldk_stream, typename ldk_identity<P>::type... args)
{
    auto body = [&] { kernel(args...); };
    using call = decltype(body);
    return ldk_fiber_launch(
        name, reinterpret_cast<const void *>(kernel), ldk_host_index{grid.x, grid.y, grid.z},
        ldk_host_index{block.x, block.y, block.z}, smem,
        [](void *context) { (*static_cast<call *>(context))(); }, &body);
}

template <class... P> static inline int ldk_smem_optin(void (*kernel)(P...), int bytes)
{
    return ldk_fiber_smem_optin(reinterpret_cast<const void *>(kernel), static_cast<size_t>(bytes));
}

#define LDK_LAUNCH(kernel, grid, block, smem, ...)                                                 \
    ldk_launch(#kernel, kernel, grid, block, smem, __VA_ARGS__)
#define LDK_SMEM_OPTIN(kernel, bytes) ldk_smem_optin(kernel, bytes)

/* ---- Shared memory and barriers -------------------------------------------------------------- */

/* A reference to an array, so that UBSan knows its bounds; the key is one a place and template. */
#define LDK_SHARED(type, name, ...)                                                                \
    using name##_shape = type __VA_ARGS__;                                                         \
    static const char name##_key = 0;                                                              \
    name##_shape &name = *static_cast<name##_shape *>(                                             \
        ldk_fiber_shared(&name##_key, sizeof(name##_shape), alignof(name##_shape), #name))
#define LDK_SHARED_DYN(type, name)                                                                 \
    type *const name = static_cast<type *>(ldk_fiber_shared_dynamic())

#define LDK_HERE                                                                                   \
    ldk_place                                                                                      \
    {                                                                                              \
        __FILE__, __LINE__, __COUNTER__                                                            \
    }
#define __syncthreads() ldk_fiber_syncthreads(LDK_HERE)

/* The caller's place in functions that are called plainly. */
#define LDK_CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define LDK_PLACE                                                                                  \
    ldk_place                                                                                      \
    {                                                                                              \
        file, line, 0                                                                              \
    }

static inline void ldk_bar_sync(int id, int n, LDK_CALLER)
{
    ldk_fiber_named_barrier(id, n, true, LDK_PLACE);
}

static inline void ldk_bar_arrive(int id, int n, LDK_CALLER)
{
    ldk_fiber_named_barrier(id, n, false, LDK_PLACE);
}

static inline void __syncwarp(unsigned mask = 0xffffffffu, LDK_CALLER)
{
    ldk_warp_operand none = {};
    ldk_fiber_warp(LDK_WARP_SYNC, mask, &none, LDK_PLACE);
}

/* ---- Warp ------------------------------------------------------------------------------------ */

template <class T> static inline T ldk_host_shuffle(unsigned mask, T v, int source, ldk_place place)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    ldk_warp_operand lane = {};
    memcpy(&lane.value, &v, sizeof v);
    lane.source = source;
    ldk_fiber_warp(LDK_WARP_SHUFFLE, mask, &lane, place);
    memcpy(&v, &lane.value, sizeof v);
    return v;
}

template <class T>
static inline T __shfl_sync(unsigned mask, T v, int source, int width = 32, LDK_CALLER)
{
    const int lane = static_cast<int>(ldk_fiber_lane());
    return ldk_host_shuffle(mask, v, (lane & ~(width - 1)) | (source & (width - 1)), LDK_PLACE);
}

template <class T>
static inline T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, LDK_CALLER)
{
    const int lane = static_cast<int>(ldk_fiber_lane());
    const int source = lane ^ bits; /* a later segment keeps its own value */
    return ldk_host_shuffle(mask, v, source > (lane | (width - 1)) ? lane : source, LDK_PLACE);
}

template <class T>
static inline T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, LDK_CALLER)
{
    const int lane = static_cast<int>(ldk_fiber_lane()), source = lane - static_cast<int>(delta);
    return ldk_host_shuffle(mask, v, source < (lane & ~(width - 1)) ? lane : source, LDK_PLACE);
}

template <class T>
static inline T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, LDK_CALLER)
{
    const int lane = static_cast<int>(ldk_fiber_lane()), source = lane + static_cast<int>(delta);
    return ldk_host_shuffle(mask, v, source > (lane | (width - 1)) ? lane : source, LDK_PLACE);
}

static inline uint32_t ldk_host_reduce(ldk_warp_kind kind, unsigned mask, uint32_t v,
                                       ldk_place place)
{
    ldk_warp_operand lane = {};
    lane.value = v;
    ldk_fiber_warp(kind, mask, &lane, place);
    return static_cast<uint32_t>(lane.value);
}

static inline unsigned __ballot_sync(unsigned mask, int predicate, LDK_CALLER)
{
    return ldk_host_reduce(LDK_WARP_BALLOT, mask, predicate != 0, LDK_PLACE);
}

static inline int __any_sync(unsigned mask, int predicate, LDK_CALLER)
{
    return ldk_host_reduce(LDK_WARP_OR, mask, predicate != 0, LDK_PLACE) != 0;
}

static inline int __all_sync(unsigned mask, int predicate, LDK_CALLER)
{
    return ldk_host_reduce(LDK_WARP_AND, mask, predicate != 0, LDK_PLACE) != 0;
}

#define LDK_REDUCE(name, type, kind)                                                               \
    static inline type __reduce_##name##_sync(unsigned mask, type v, LDK_CALLER)                   \
    {                                                                                              \
        return static_cast<type>(                                                                  \
            ldk_host_reduce(kind, mask, static_cast<uint32_t>(v), LDK_PLACE));                     \
    }
LDK_REDUCE(add, unsigned, LDK_WARP_ADD)
LDK_REDUCE(add, int, LDK_WARP_ADD)
LDK_REDUCE(min, unsigned, LDK_WARP_MIN)
LDK_REDUCE(min, int, LDK_WARP_MIN_SIGNED)
LDK_REDUCE(max, unsigned, LDK_WARP_MAX)
LDK_REDUCE(max, int, LDK_WARP_MAX_SIGNED)
LDK_REDUCE(and, unsigned, LDK_WARP_AND)
LDK_REDUCE(or, unsigned, LDK_WARP_OR)
LDK_REDUCE(xor, unsigned, LDK_WARP_XOR)
#undef LDK_REDUCE

/* ---- Asynchronous copies --------------------------------------------------------------------- */

/* What a copy of N bytes moves at once. Typed accesses and no memcpy: the compiler may expand a
 * memcpy behind the race detector's back. */
template <int N> struct ldk_host_word {
    using type = uint4;
};
template <> struct ldk_host_word<8> {
    using type = uint2;
};
template <> struct ldk_host_word<4> {
    using type = uint32_t;
};

/* Reads the source now, so that a fault names this line; the destination must not be touched until
 * the wait that lands the copy. */
template <int N>
static inline void ldk_cp_async(void *dst, const void *src, int src_bytes = N, LDK_CALLER)
{
    static_assert(N == 4 || N == 8 || N == 16, "cp.async copies 4, 8 or 16 bytes");
    using word = typename ldk_host_word<N>::type;
    ldk_host_copy *copy = ldk_fiber_copy_issue(dst, src, N, src_bytes, LDK_PLACE);
    if (src_bytes == N) {
        const word whole = *static_cast<const word *>(src);
        memcpy(copy->data, &whole, N);
    } else {
        unsigned char bytes[16] = {};
        for (int i = 0; i < src_bytes; i++)
            bytes[i] = static_cast<const unsigned char *>(src)[i];
        memcpy(copy->data, bytes, N);
    }
    word unset;
    memset(&unset, 0xFF, N);
    *static_cast<word *>(dst) = unset;
    ldk_fiber_poison(dst, N);
}

static inline void ldk_cp_async_commit()
{
    ldk_fiber_copy_commit();
}

template <class T> static inline void ldk_host_land(const ldk_host_copy *copy)
{
    T word;
    memcpy(&word, copy->data, sizeof word);
    *static_cast<T *>(copy->dst) = word;
}

template <int N> static inline void ldk_cp_async_wait()
{
    while (const ldk_host_copy *copy = ldk_fiber_copy_land(N)) {
        ldk_fiber_unpoison(copy->dst, static_cast<size_t>(copy->bytes));
        if (copy->bytes == 16)
            ldk_host_land<uint4>(copy);
        else if (copy->bytes == 8)
            ldk_host_land<uint2>(copy);
        else
            ldk_host_land<uint32_t>(copy);
    }
}

/* ---- Matrix fragments ------------------------------------------------------------------------ */

static inline void ldk_host_ldmatrix(ldk_warp_kind kind, uint32_t lanes, uint32_t *r,
                                     const void *row, ldk_place place)
{
    ldk_warp_operand lane = {};
    lane.out = r;
    lane.from = row;
    if (ldk_fiber_lane() < lanes) {
        ldk_fiber_check_aligned(row, 16, place);
        ldk_fiber_check_shared(row, 16, place);
        const uint4 words = *static_cast<const uint4 *>(row);
        memcpy(lane.row, &words, 16);
    }
    ldk_fiber_warp(kind, 0xffffffffu, &lane, place);
}

#define LDK_LDMATRIX(count)                                                                        \
    static inline void ldk_ldmatrix_x##count(uint32_t *r, const void *row, LDK_CALLER)             \
    {                                                                                              \
        ldk_host_ldmatrix(LDK_WARP_LDMATRIX_##count, 8 * count, r, row, LDK_PLACE);                \
    }                                                                                              \
    static inline void ldk_ldmatrix_x##count##_trans(uint32_t *r, const void *row, LDK_CALLER)     \
    {                                                                                              \
        ldk_host_ldmatrix(LDK_WARP_LDMATRIX_##count##_TRANS, 8 * count, r, row, LDK_PLACE);        \
    }
LDK_LDMATRIX(1)
LDK_LDMATRIX(2)
LDK_LDMATRIX(4)
#undef LDK_LDMATRIX

template <class T>
static inline void ldk_mma_16816(float *d, const uint32_t *a, const uint32_t *b, T * = nullptr,
                                 LDK_CALLER)
{
    ldk_warp_operand lane = {};
    lane.d = d;
    lane.a = a;
    lane.b = b;
    ldk_fiber_warp(ldk_dtype_of<T> == LDK_BF16 ? LDK_WARP_MMA_BF16 : LDK_WARP_MMA_F16, 0xffffffffu,
                   &lane, LDK_PLACE);
}

template <class T>
static inline void ldk_mma_1688(float *d, const uint32_t *a, const uint32_t *b, T * = nullptr,
                                LDK_CALLER)
{
    ldk_warp_operand lane = {};
    lane.d = d;
    lane.a = a;
    lane.b = b;
    ldk_fiber_warp(ldk_dtype_of<T> == LDK_BF16 ? LDK_WARP_MMA_BF16_K8 : LDK_WARP_MMA_F16_K8,
                   0xffffffffu, &lane, LDK_PLACE);
}

static inline void ldk_mma_16816_h(uint32_t *d, const uint32_t *a, const uint32_t *b, LDK_CALLER)
{
    ldk_warp_operand lane = {};
    lane.d_half = d;
    lane.a = a;
    lane.b = b;
    ldk_fiber_warp(LDK_WARP_MMA_HALF, 0xffffffffu, &lane, LDK_PLACE);
}

static inline void ldk_mma_1688_h(uint32_t *d, const uint32_t *a, const uint32_t *b, LDK_CALLER)
{
    ldk_warp_operand lane = {};
    lane.d_half = d;
    lane.a = a;
    lane.b = b;
    ldk_fiber_warp(LDK_WARP_MMA_HALF_K8, 0xffffffffu, &lane, LDK_PLACE);
}

/* ---- Numbers --------------------------------------------------------------------------------- */

static inline float ldk_to_f32(half v)
{
    return ldk_f16_to_f32(v.bits);
}

static inline float ldk_to_f32(bf16 v)
{
    return ldk_bf16_to_f32(v.bits);
}

static inline float ldk_to_f32(float v)
{
    return v;
}

template <class T> static inline T ldk_from_f32(float v);
template <> inline half ldk_from_f32<half>(float v)
{
    return half{ldk_f32_to_f16(v)};
}
template <> inline bf16 ldk_from_f32<bf16>(float v)
{
    return bf16{ldk_f32_to_bf16(v)};
}
template <> inline float ldk_from_f32<float>(float v)
{
    return v;
}

template <class T> static inline uint32_t ldk_pack(float lo, float hi)
{
    return ldk_from_f32<T>(lo).bits | static_cast<uint32_t>(ldk_from_f32<T>(hi).bits) << 16;
}

template <class T> static inline float2 ldk_unpack(uint32_t v)
{
    return make_float2(ldk_to_f32(T{static_cast<uint16_t>(v & 0xffffu)}),
                       ldk_to_f32(T{static_cast<uint16_t>(v >> 16)}));
}

static inline float ldk_ex2(float x)
{
    return exp2f(x);
}

static inline float ldk_lg2(float x)
{
    return log2f(x);
}

static inline float ldk_rcp(float x)
{
    return 1.0f / x;
}

static inline float ldk_expf(float x)
{
    return expf(x);
}

static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}

static inline void sincospif(float x, float *sine, float *cosine)
{
    const double angle = static_cast<double>(x) * 3.14159265358979323846;
    *sine = static_cast<float>(sin(angle));
    *cosine = static_cast<float>(cos(angle));
}

static inline float __uint_as_float(unsigned bits)
{
    return ldk_number_bits(bits);
}

static inline unsigned __float_as_uint(float v)
{
    return ldk_bits_of(v);
}

static inline float __int_as_float(int bits)
{
    return ldk_number_bits(static_cast<uint32_t>(bits));
}

static inline int __float_as_int(float v)
{
    return static_cast<int>(ldk_bits_of(v));
}

static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}

static inline int __float2int_rn(float v)
{
    return static_cast<int>(rintf(v));
}

static inline float __fadd_rn(float a, float b)
{
    return a + b;
}

static inline float __fsub_rn(float a, float b)
{
    return a - b;
}

static inline float __fmul_rn(float a, float b)
{
    return a * b;
}

static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}

static inline float __fdividef(float a, float b)
{
    return a / b;
}

static inline int __popc(unsigned v)
{
    return __builtin_popcount(v);
}

static inline int __clz(int v)
{
    return v == 0 ? 32 : __builtin_clz(static_cast<unsigned>(v));
}

static inline int __ffs(int v)
{
    return __builtin_ffs(v);
}

#define LDK_MINMAX(type)                                                                           \
    static inline type min(type a, type b)                                                         \
    {                                                                                              \
        return b < a ? b : a;                                                                      \
    }                                                                                              \
    static inline type max(type a, type b)                                                         \
    {                                                                                              \
        return a < b ? b : a;                                                                      \
    }
LDK_MINMAX(int)
LDK_MINMAX(unsigned)
LDK_MINMAX(long)
LDK_MINMAX(unsigned long)
#undef LDK_MINMAX

static inline float min(float a, float b)
{
    return fminf(a, b);
}

static inline float max(float a, float b)
{
    return fmaxf(a, b);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

template <class T> static inline T ldk_ld(const void *p, LDK_CALLER)
{
    ldk_fiber_check_aligned(p, sizeof(T), LDK_PLACE);
    return *static_cast<const T *>(p);
}

template <class T> static inline void ldk_st(void *p, const T &v, LDK_CALLER)
{
    ldk_fiber_check_aligned(p, sizeof(T), LDK_PLACE);
    *static_cast<T *>(p) = v;
}

template <class T> static inline T __ldg(const T *p)
{
    return *p;
}

template <class T> static inline T atomicAdd(T *p, T v)
{
    static_assert(static_cast<T>(1.5) == static_cast<T>(1), "no atomics on floats: order matters");
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}

template <class T> static inline T atomicExch(T *p, T v)
{
    return __atomic_exchange_n(p, v, __ATOMIC_RELAXED);
}

template <class T> static inline T atomicCAS(T *p, T compare, T v)
{
    __atomic_compare_exchange_n(p, &compare, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return compare;
}

template <class T> static inline T atomicMax(T *p, T v)
{
    T old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (old < v &&
           !__atomic_compare_exchange_n(p, &old, v, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return old;
}

static inline void __threadfence()
{
}

static inline void __threadfence_block()
{
}

#endif
