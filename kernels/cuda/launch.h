/*
 * The words that device code is written in. This file is the device half, the only place with
 * inline assembly; without nvcc the same words come from kernels/host/launch_host.h, where every
 * CUDA thread is a fiber on the host and every misuse that can be seen is named with its line.
 *
 * Launching       LDK_LAUNCH(kernel, grid, block, smem, stream, args...) -> int: 0 or an error
 * code. Template kernels in parentheses: LDK_LAUNCH((k<128>), ...). grid and block are dim3.
 *                 LDK_SMEM_OPTIN(kernel, bytes) -> int: needed before more than 48 KB of dynamic
 * shared memory. Shared memory   LDK_SHARED(type, name, [dims]) static array (dims may be empty: a
 * scalar, a reference); it has its type's alignment and no more, so 16-byte access needs a 16-byte
 * type or ldk_line. LDK_SHARED_DYN(type, name): pointer to the dynamic block, 1024-aligned.
 * Barriers        __syncthreads(), __syncwarp(mask), ldk_bar_sync(id, n), ldk_bar_arrive(id, n).
 * Warp            __shfl_sync, _xor_, _up_, _down_ (4 or 8 bytes), __ballot_sync, __any_sync,
 *                 __all_sync, __reduce_{add,min,max,and,or,xor}_sync.
 * Copies          ldk_cp_async<4|8|16>(dst, src, src_bytes): shared <- global, zero beyond
 * src_bytes; ldk_cp_async_commit(), ldk_cp_async_wait<N>(): all but the newest N groups landed.
 * Matrices        ldk_ldmatrix_x1|x2|x4[_trans](r, row), ldk_mma_16816<T>, _1688<T>, _16816_h,
 *                 _1688_h.
 * Numbers         half, bf16 (two bytes, no operators), ldk_to_f32(v), ldk_from_f32<T>(f),
 *                 ldk_pack<T>(lo, hi) -> uint32_t, ldk_unpack<T>(u) -> float2;
 *                 ldk_ex2, ldk_lg2, ldk_expf, ldk_rcp (fast forms), rsqrtf and libm's float
 * functions. Memory          ldk_ld<T>(p), ldk_st(p, v): one access of sizeof(T) bytes, p aligned
 * to it. atomicAdd, atomicCAS, atomicMax, atomicExch, __threadfence(). Loops           LDK_UNROLL,
 * LDK_NO_UNROLL before a for.
 *
 * Source: hostbuild.md section 2; PTX ISA 9.0, mma, ldmatrix, cp.async, barrier.
 */
#ifndef LDK_LAUNCH_H
#define LDK_LAUNCH_H

#include "kernels/cuda/kernels.h"

#include <float.h>
#include <math.h>
#include <stdint.h>

/* Two-byte floating point. Plain bits: all arithmetic is done in float32 by ldk_to_f32 and back. */
struct half {
    uint16_t bits;
};
struct bf16 {
    uint16_t bits;
};

/* What T looks like to the C side. */
template <class T> inline constexpr ldk_dtype ldk_dtype_of = LDK_F32;
template <> inline constexpr ldk_dtype ldk_dtype_of<half> = LDK_F16;
template <> inline constexpr ldk_dtype ldk_dtype_of<bf16> = LDK_BF16;

template <class T> struct ldk_identity {
    using type = T;
};

#if !defined(__CUDACC__)
#include "kernels/host/launch_host.h"
#else

#define LDK_UNROLL    _Pragma("unroll")
#define LDK_NO_UNROLL _Pragma("unroll 1")

/* ---- Launching ------------------------------------------------------------------------------- */

/* cudaLaunchKernel's own result, so that an older pending error is not taken for this launch's. */
template <class... P>
static inline int ldk_launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t smem,
                             ldk_stream stream, typename ldk_identity<P>::type... args)
{
    void *pointers[] = {const_cast<void *>(static_cast<const void *>(&args))..., nullptr};
    return static_cast<int>(cudaLaunchKernel(reinterpret_cast<const void *>(kernel), grid, block,
                                             pointers, smem,
                                             reinterpret_cast<cudaStream_t>(stream)));
}

/* Without need it is left out: setting an attribute may wait for copies that are under way
 * (oneapi-src/unified-runtime, pull request 2678). */
template <class... P> static inline int ldk_smem_optin(void (*kernel)(P...), int bytes)
{
    if (bytes <= 48 * 1024)
        return 0;
    return static_cast<int>(cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                                 cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                 bytes));
}

#define LDK_LAUNCH(kernel, grid, block, smem, ...)                                                 \
    ldk_launch(kernel, grid, block, smem, __VA_ARGS__)
#define LDK_SMEM_OPTIN(kernel, bytes) ldk_smem_optin(kernel, bytes)

/* ---- Shared memory and barriers -------------------------------------------------------------- */

#define LDK_SHARED(type, name, ...) __shared__ type name __VA_ARGS__
#define LDK_SHARED_DYN(type, name)                                                                 \
    extern __shared__ __align__(1024) unsigned char ldk_dynamic_shared[];                          \
    type *const name = reinterpret_cast<type *>(ldk_dynamic_shared)

static __device__ __forceinline__ uint32_t ldk_shared_address(const void *pointer)
{
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

/* Named barrier `id` (1..15; 0 is __syncthreads) of `n` threads, n a multiple of 32. */
static __device__ __forceinline__ void ldk_bar_sync(int id, int n)
{
    asm volatile("barrier.sync %0, %1;" ::"r"(id), "r"(n) : "memory");
}

static __device__ __forceinline__ void ldk_bar_arrive(int id, int n)
{
    asm volatile("barrier.arrive %0, %1;" ::"r"(id), "r"(n) : "memory");
}

/* ---- Asynchronous copies --------------------------------------------------------------------- */

/* Copies `src_bytes` (0..N) bytes and writes zeros up to N. With 0 the source is not read, but must
 * be a valid, aligned pointer all the same. */
template <int N>
static __device__ __forceinline__ void ldk_cp_async(void *dst, const void *src, int src_bytes = N)
{
    static_assert(N == 4 || N == 8 || N == 16, "cp.async copies 4, 8 or 16 bytes");
    if constexpr (N == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(ldk_shared_address(dst)),
                     "l"(__cvta_generic_to_global(src)), "r"(src_bytes)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(ldk_shared_address(dst)),
                     "l"(__cvta_generic_to_global(src)), "n"(N), "r"(src_bytes)
                     : "memory");
}

static __device__ __forceinline__ void ldk_cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int N> static __device__ __forceinline__ void ldk_cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* ---- Matrix fragments ------------------------------------------------------------------------ */

/* 8x8 matrices of 2-byte elements from shared memory. Lane 8*i + j names row j of matrix i (16
 * bytes, 16-byte aligned; lanes beyond 8 * count are not used); lane l receives in r[i] the
 * elements (l / 4, 2 * (l % 4)) and the next one; _trans: of the transposed matrix. */
static __device__ __forceinline__ void ldk_ldmatrix_x1(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(ldk_shared_address(row))
                 : "memory");
}

static __device__ __forceinline__ void ldk_ldmatrix_x1_trans(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(ldk_shared_address(row))
                 : "memory");
}

static __device__ __forceinline__ void ldk_ldmatrix_x2(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(ldk_shared_address(row))
                 : "memory");
}

static __device__ __forceinline__ void ldk_ldmatrix_x2_trans(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(ldk_shared_address(row))
                 : "memory");
}

static __device__ __forceinline__ void ldk_ldmatrix_x4(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(ldk_shared_address(row))
                 : "memory");
}

static __device__ __forceinline__ void ldk_ldmatrix_x4_trans(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(ldk_shared_address(row))
                 : "memory");
}

/* d += a * b: a is 16 x 16 by rows (4 registers), b 16 x 8 by columns (2), d 16 x 8 float (4). With
 * g = lane / 4 and t = lane % 4: a[0] = (g, 2t..), a[1] = (g+8, 2t..), a[2] = (g, 2t+8..),
 * a[3] = (g+8, 2t+8..); b[0] = (k 2t.., n g), b[1] = (k 2t+8.., n g); d[0..1] = (g, 2t..),
 * d[2..3] = (g+8, 2t..). T is half or bf16, named as ldk_mma_16816<T>(d, a, b) or by the last
 * argument. */
template <class T>
static __device__ __forceinline__ void ldk_mma_16816(float *d, const uint32_t *a, const uint32_t *b,
                                                     T * = nullptr);
template <>
__device__ __forceinline__ void ldk_mma_16816<half>(float *d, const uint32_t *a, const uint32_t *b,
                                                    half *)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ __forceinline__ void ldk_mma_16816<bf16>(float *d, const uint32_t *a, const uint32_t *b,
                                                    bf16 *)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* The same with 8 of K: a[0] = (g, 2t..), a[1] = (g+8, 2t..); b[0] = (k 2t.., n g). */
template <class T>
static __device__ __forceinline__ void ldk_mma_1688(float *d, const uint32_t *a, const uint32_t *b,
                                                    T * = nullptr);
template <>
__device__ __forceinline__ void ldk_mma_1688<half>(float *d, const uint32_t *a, const uint32_t *b,
                                                   half *)
{
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}
template <>
__device__ __forceinline__ void ldk_mma_1688<bf16>(float *d, const uint32_t *a, const uint32_t *b,
                                                   bf16 *)
{
    asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}

/* fp16 accumulators, packed in pairs: d[0] = (g, 2t..), d[1] = (g+8, 2t..). */
static __device__ __forceinline__ void ldk_mma_16816_h(uint32_t *d, const uint32_t *a,
                                                       const uint32_t *b)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, "
        "{%0, %1};"
        : "+r"(d[0]), "+r"(d[1])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* The same with 8 of K. */
static __device__ __forceinline__ void ldk_mma_1688_h(uint32_t *d, const uint32_t *a,
                                                      const uint32_t *b)
{
    asm("mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3}, {%4}, {%0, %1};"
        : "+r"(d[0]), "+r"(d[1])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}

/* ---- Numbers --------------------------------------------------------------------------------- */

static __device__ __forceinline__ float ldk_to_f32(half v)
{
    float out;
    asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(v.bits));
    return out;
}

static __device__ __forceinline__ float ldk_to_f32(bf16 v)
{
    return __uint_as_float(static_cast<uint32_t>(v.bits) << 16);
}

static __device__ __forceinline__ float ldk_to_f32(float v)
{
    return v;
}

/* Rounds to nearest even; beyond the range of half becomes infinity. */
template <class T> static __device__ __forceinline__ T ldk_from_f32(float v);
template <> __device__ __forceinline__ half ldk_from_f32<half>(float v)
{
    half out;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(v));
    return out;
}
template <> __device__ __forceinline__ bf16 ldk_from_f32<bf16>(float v)
{
    bf16 out;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(v));
    return out;
}
template <> __device__ __forceinline__ float ldk_from_f32<float>(float v)
{
    return v;
}

/* Two values in one register, `lo` in the low half (the lower address). */
template <class T> static __device__ __forceinline__ uint32_t ldk_pack(float lo, float hi);
template <> __device__ __forceinline__ uint32_t ldk_pack<half>(float lo, float hi)
{
    uint32_t out;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(hi), "f"(lo));
    return out;
}
template <> __device__ __forceinline__ uint32_t ldk_pack<bf16>(float lo, float hi)
{
    uint32_t out;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(hi), "f"(lo));
    return out;
}

template <class T> static __device__ __forceinline__ float2 ldk_unpack(uint32_t v)
{
    T lo, hi;
    lo.bits = static_cast<uint16_t>(v & 0xffffu);
    hi.bits = static_cast<uint16_t>(v >> 16);
    return make_float2(ldk_to_f32(lo), ldk_to_f32(hi));
}

/* 2^x, log2(x), e^x, 1/x by the special function unit: relative error about 2^-22. */
static __device__ __forceinline__ float ldk_ex2(float x)
{
    float out;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
    return out;
}

static __device__ __forceinline__ float ldk_lg2(float x)
{
    float out;
    asm("lg2.approx.f32 %0, %1;" : "=f"(out) : "f"(x));
    return out;
}

static __device__ __forceinline__ float ldk_rcp(float x)
{
    float out;
    asm("rcp.approx.f32 %0, %1;" : "=f"(out) : "f"(x));
    return out;
}

static __device__ __forceinline__ float ldk_expf(float x)
{
    return ldk_ex2(x * 1.4426950408889634f);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

template <class T> static __device__ __forceinline__ T ldk_ld(const void *p)
{
    return *static_cast<const T *>(p);
}

template <class T> static __device__ __forceinline__ void ldk_st(void *p, const T &v)
{
    *static_cast<T *>(p) = v;
}

#endif
#endif
