/*
 * exp, sigmoid forms and the exact (erf) GELU on vectors, to about one unit in the last place of
 * the result or of the larger operand. NaN gives NaN.
 */
#ifndef LD_KERNELS_CPU_SIMD_MATH_H
#define LD_KERNELS_CPU_SIMD_MATH_H

#include "kernels/cpu/simd.h"

#include "kernels/ops.h"

/*
 * exp(x) = 2^n exp(r) with r = x - n ln 2, |r| <= ln(2) / 2; the Taylor polynomial of degree 7 is
 * within 6e-9 there. ln 2 is split so that n * hi is exact (Cody and Waite). Beyond the clamps the
 * result is 0 or infinity anyway.
 */
static inline vf vf_exp(vf x)
{
    x = vf_max(vf_set(-104.5f), vf_min(vf_set(89.0f), x));
    vf n = vf_round(vf_mul(x, vf_set(0x1.715476p+0f))); /* log2(e) */
    vf r = vf_fnma(n, vf_set(0x1.62e400p-1f), x);       /* ln 2, upper 17 bits */
    r = vf_fnma(n, vf_set(0x1.7f7d1cp-20f), r);         /* ln 2, the rest */
    vf p = vf_set(0x1.a01a02p-13f);                     /* 1/7! */
    p = vf_fma(p, r, vf_set(0x1.6c16c2p-10f));          /* 1/6! */
    p = vf_fma(p, r, vf_set(0x1.111112p-7f));           /* 1/5! */
    p = vf_fma(p, r, vf_set(0x1.555556p-5f));           /* 1/4! */
    p = vf_fma(p, r, vf_set(0x1.555556p-3f));           /* 1/3! */
    p = vf_fma(p, r, vf_set(0.5f));
    p = vf_fma(p, r, vf_set(1.0f));
    p = vf_fma(p, r, vf_set(1.0f));
    return vf_ldexp(p, n);
}

/*
 * 2^x for x <= 0; NaN gives NaN, -infinity gives 0. With r = x - floor(x) in [0, 1], 2^r =
 * 1 + r q(r), q of degree 5, within 1.4e-8. Coefficients: our own fit of the relative error,
 * reweighted least squares on Chebyshev nodes.
 */
static inline vf vf_exp2_negative(vf x)
{
#if defined(__AVX512F__)
    vf r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#else
    x = vf_max(vf_set(-151.0f), x);
    vf whole = vf_floor(x);
    vf r = vf_sub(x, whole);
#endif
    vf p = vf_set(0x1.c54178p-13f);
    p = vf_fma(p, r, vf_set(0x1.46d64cp-10f));
    p = vf_fma(p, r, vf_set(0x1.3d0b92p-7f));
    p = vf_fma(p, r, vf_set(0x1.c68912p-5f));
    p = vf_fma(p, r, vf_set(0x1.ebfd58p-3f));
    p = vf_fma(p, r, vf_set(0x1.62e42cp-1f));
    p = vf_fma(p, r, vf_set(1.0f));
#if defined(__AVX512F__)
    return _mm512_scalef_ps(p, x); /* p * 2^floor(x) */
#else
    return vf_ldexp(p, whole);
#endif
}

/* x / (1 + exp(-slope x)): SiLU for slope 1, quick GELU for 1.702. */
static inline vf vf_gated(vf x, float slope)
{
    vf e = vf_exp(vf_mul(x, vf_set(-slope)));
    return vf_div(x, vf_add(vf_set(1.0f), e));
}

/*
 * gelu(x) = x/2 (1 + erf(x / sqrt 2)) through erfcx(z) = exp(z^2) erfc(z), z = |x| / sqrt 2 >= 0:
 * (z + 2) erfcx(z) is a polynomial of degree 10 in u = (z - 2) / (z + 2), within 5e-8.
 * Coefficients: Chebyshev interpolation of (z + 2) erfcx(z) at 400 nodes of u, our own fit.
 */
static inline vf vf_gelu(vf x)
{
    vf z = vf_mul(vf_abs(x), vf_set(0x1.6a09e6p-1f));
    vf below = vf_add(z, vf_set(2.0f));
    vf inverse = vf_div(vf_set(1.0f), below);
    vf u = vf_mul(vf_sub(z, vf_set(2.0f)), inverse);
    vf p = vf_set(7.67906529e-05f);
    p = vf_fma(p, u, vf_set(6.94373037e-05f));
    p = vf_fma(p, u, vf_set(-0.000581819555f));
    p = vf_fma(p, u, vf_set(-0.00085380832f));
    p = vf_fma(p, u, vf_set(0.00304513463f));
    p = vf_fma(p, u, vf_set(0.00648196069f));
    p = vf_fma(p, u, vf_set(-0.0214991339f));
    p = vf_fma(p, u, vf_set(-0.036442162f));
    p = vf_fma(p, u, vf_set(0.279471026f));
    p = vf_fma(p, u, vf_set(-0.687160711f));
    p = vf_fma(p, u, vf_set(1.02158272f));
    vf tail = vf_mul(vf_mul(p, inverse), vf_exp(vf_mul(z, vf_sub(vf_set(0.0f), z))));
    vf twice = vf_if_negative(x, tail, vf_sub(vf_set(2.0f), tail)); /* 1 + erf(x / sqrt 2) */
    return vf_mul(vf_mul(x, vf_set(0.5f)), twice);
}

/* dst = src * scale, rounded once: the scale in two floats. */
static inline void vf_scaled_row(float *dst, const float *src, int32_t n, double scale)
{
    vf high = vf_set((float)scale);
    vf low = vf_set((float)(scale - (double)(float)scale));
    for (int32_t i = 0; i < n; i += VF) {
        vf v = vf_load_part(src + i, n - i);
        vf_store_part(dst + i, vf_fma(v, high, vf_mul(v, low)), n - i);
    }
}

static inline vf vf_activate(vf x, enum ld_activation activation)
{
    if (activation == LD_ACT_SILU)
        return vf_gated(x, 1.0f);
    if (activation == LD_ACT_QUICK_GELU)
        return vf_gated(x, 1.702f);
    if (activation == LD_ACT_RELU)
        return vf_max(x, vf_set(0.0f));
    return x;
}

#endif
