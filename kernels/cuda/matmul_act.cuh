/*
 * Activations of the matmul epilogues, float32 in and out.
 *
 * The error function is formula 7.1.26 of Abramowitz and Stegun, Handbook of Mathematical Functions
 * (1964), absolute error below 1.5e-7; taken as its complement, so that gelu of a negative number
 * loses nothing to 1 - erf.
 */
#ifndef LDK_MATMUL_ACT_CUH
#define LDK_MATMUL_ACT_CUH

#include "kernels/cuda/vector.cuh"

/* erfc(z) for z >= 0. */
static __device__ __forceinline__ float ldk_erfc(float z)
{
    const float t = ldk_rcp(1.0f + 0.3275911f * z);
    float p = 1.061405429f;
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    return p * t * ldk_expf(-z * z);
}

/* v * Phi(v), Phi the normal distribution. */
static __device__ __forceinline__ float ldk_gelu(float v)
{
    const float tail = 0.5f * ldk_erfc(fabsf(v) * 0.70710678f);
    return v * (v < 0.0f ? tail : 1.0f - tail);
}

/* swish with slope 1 is SiLU, with 1.702 quick GELU. */
static __device__ __forceinline__ float ldk_gate_slope(ldk_activation activation)
{
    return activation == LDK_ACT_QUICK_GELU ? 1.702f : 1.0f;
}

static __device__ __forceinline__ float ldk_activate(float v, ldk_activation activation)
{
    if (activation == LDK_ACT_SILU || activation == LDK_ACT_QUICK_GELU)
        return swish(v, ldk_gate_slope(activation));
    return v;
}

#endif
