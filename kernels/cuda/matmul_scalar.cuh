/*
 * What the direct kernels share: elements whose type is known at run time only, and the epilogue of
 * one value (the tiles' form is matmul_finish.cuh; the order of additions is the same).
 */
#ifndef LDK_MATMUL_SCALAR_CUH
#define LDK_MATMUL_SCALAR_CUH

#include "kernels/cuda/matmul_act.cuh"

#include "kernels/cuda/matmul.h"

static __device__ __forceinline__ float matmul_load(const void *from, size_t at, ldk_dtype dtype)
{
    if (dtype == LDK_F16)
        return ldk_to_f32(static_cast<const half *>(from)[at]);
    if (dtype == LDK_BF16)
        return ldk_to_f32(static_cast<const bf16 *>(from)[at]);
    return static_cast<const float *>(from)[at];
}

static __device__ __forceinline__ void matmul_store(void *to, size_t at, ldk_dtype dtype, float v)
{
    if (dtype == LDK_F16)
        static_cast<half *>(to)[at] = ldk_from_f32<half>(v);
    else if (dtype == LDK_BF16)
        static_cast<bf16 *>(to)[at] = ldk_from_f32<bf16>(v);
    else
        static_cast<float *>(to)[at] = v;
}

/* `sum` of weight row `row` with its bias and the image's row_add. */
static __device__ __forceinline__ float matmul_biased(const ldk_matmul &m, int32_t image,
                                                      int32_t row, float sum)
{
    sum += m.bias[row];
    if (m.row_add == nullptr)
        return sum;
    const size_t at = static_cast<size_t>(image) * static_cast<size_t>(m.row_add_stride) +
                      static_cast<size_t>(row);
    return sum + matmul_load(m.row_add, at, m.row_add_f32 ? LDK_F32 : m.x_dtype);
}

/* Output `n` of a position receives `v`, after the activation, plus the residual. */
static __device__ __forceinline__ void matmul_put(const ldk_matmul &m, int32_t image,
                                                  int32_t position, int32_t n, float v)
{
    const size_t row = static_cast<size_t>(image) * static_cast<size_t>(m.positions) +
                       static_cast<size_t>(position);
    const size_t at = row * static_cast<size_t>(m.out_n) + static_cast<size_t>(n);
    if (m.residual != nullptr)
        v += matmul_load(m.residual, at, m.y_dtype);
    matmul_store(m.y, at, m.y_dtype, v);
}

#endif
