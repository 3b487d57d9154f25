/*
 * Index arithmetic that host and device share: pure functions of integers, no data. Each is tested
 * on the host against a naive loop, whoever uses it.
 */
#ifndef LD_KERNELS_IDX_H
#define LD_KERNELS_IDX_H

#include <stdint.h>

#if defined(__CUDACC__)
#define LD_IDX static inline __host__ __device__
#else
#define LD_IDX static inline
#endif

LD_IDX int32_t ld_idx_ceil_div(int32_t a, int32_t b)
{
    return (a + b - 1) / b;
}

LD_IDX int32_t ld_idx_min(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* Outputs of a convolution along one side of `n` inputs, `pad` zeros in all. */
LD_IDX int32_t ld_idx_conv_out(int32_t n, int32_t pad, int32_t kernel, int32_t stride)
{
    return (n + pad - kernel) / stride + 1;
}

/* Stored row or column behind index `i` of a grid upsampled (nearest) from `n` to `up`; 0: not
 * upsampled. */
LD_IDX int32_t ld_idx_upsample(int32_t i, int32_t n, int32_t up)
{
    return up > 0 ? (int32_t)((int64_t)i * n / up) : i;
}

/* Weight row behind column `n` of a GEGLU panel of `width` columns: width / 2 value rows, then the
 * gate rows of the same outputs. `outputs` is half the number of rows; -1 beyond the last. */
LD_IDX int32_t ld_idx_geglu_row(int32_t panel, int32_t n, int32_t width, int32_t outputs)
{
    int32_t half = width / 2;
    int32_t out = panel * half + n % half;
    if (out >= outputs)
        return -1;
    return n < half ? out : out + outputs;
}

#undef LD_IDX
#endif
