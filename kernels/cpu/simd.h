/*
 * One vector of float32 (`vf`, VF lanes) and one of float64 (`vd`, VF / 2 lanes) behind the same
 * names for AVX2, AVX-512 and NEON, so that a formula is written once and compiled for each level.
 * Only files of one level include this. A partial vector of n lanes reads and writes nothing beyond
 * n.
 */
#ifndef LD_KERNELS_CPU_SIMD_H
#define LD_KERNELS_CPU_SIMD_H

#include <stdint.h>
#include <string.h>

#if defined(__aarch64__)
#include <arm_neon.h>
#else
#include <immintrin.h>
#endif

#if defined(__AVX512F__)

enum { VF = 16 };
typedef __m512 vf;
typedef __m512d vd;

static inline __mmask16 vf_mask(int32_t n)
{
    return n >= VF ? (__mmask16)0xFFFF : (__mmask16)((1u << n) - 1u);
}
static inline vf vf_set(float v)
{
    return _mm512_set1_ps(v);
}
static inline vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
/* VF values of float16. */
static inline vf vf_load_half(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline vf vf_load_part(const float *p, int32_t n)
{
    return _mm512_maskz_loadu_ps(vf_mask(n), p);
}
static inline void vf_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}
static inline void vf_store_part(float *p, vf v, int32_t n)
{
    _mm512_mask_storeu_ps(p, vf_mask(n), v);
}
static inline vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
/* a * b + c and c - a * b, rounded once. */
static inline vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf vf_fnma(vf a, vf b, vf c)
{
    return _mm512_fnmadd_ps(a, b, c);
}
/* b where either is NaN: keep the data in the second place and NaN survives. */
static inline vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
static inline vf vf_round(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vf vf_abs(vf a)
{
    return _mm512_abs_ps(a);
}
/* a * 2^n for whole n within the float range, through subnormals and to infinity. */
static inline vf vf_ldexp(vf a, vf n)
{
    return _mm512_scalef_ps(a, n);
}
/* x < 0 (also -0 is not): a, else b. */
static inline vf vf_if_negative(vf x, vf a, vf b)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), b, a);
}
/* The first n lanes of v, `fill` in the others. */
static inline vf vf_keep(vf v, int32_t n, vf fill)
{
    return n <= 0 ? fill : _mm512_mask_mov_ps(fill, vf_mask(n), v);
}
static inline float vf_sum(vf v)
{
    return _mm512_reduce_add_ps(v);
}
static inline float vf_largest(vf v)
{
    return _mm512_reduce_max_ps(v);
}
static inline vd vd_zero(void)
{
    return _mm512_setzero_pd();
}
static inline vd vd_load(const double *p)
{
    return _mm512_loadu_pd(p);
}
static inline void vd_store(double *p, vd v)
{
    _mm512_storeu_pd(p, v);
}
static inline vd vd_low(vf v)
{
    return _mm512_cvtps_pd(_mm512_castps512_ps256(v));
}
static inline vd vd_high(vf v)
{
    return _mm512_cvtps_pd(_mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1)));
}
static inline vd vd_add(vd a, vd b)
{
    return _mm512_add_pd(a, b);
}
static inline vd vd_fma(vd a, vd b, vd c)
{
    return _mm512_fmadd_pd(a, b, c);
}
static inline double vd_sum(vd v)
{
    return _mm512_reduce_add_pd(v);
}

#elif defined(__AVX2__)

enum { VF = 8 };
typedef __m256 vf;
typedef __m256d vd;

static inline __m256i vf_mask(int32_t n)
{
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane);
}
static inline vf vf_set(float v)
{
    return _mm256_set1_ps(v);
}
static inline vf vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
/* VF values of float16. */
static inline vf vf_load_half(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline vf vf_load_part(const float *p, int32_t n)
{
    return _mm256_maskload_ps(p, vf_mask(n));
}
static inline void vf_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}
static inline void vf_store_part(float *p, vf v, int32_t n)
{
    _mm256_maskstore_ps(p, vf_mask(n), v);
}
static inline vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}
/* a * b + c and c - a * b, rounded once. */
static inline vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}
static inline vf vf_fnma(vf a, vf b, vf c)
{
    return _mm256_fnmadd_ps(a, b, c);
}
/* b where either is NaN: keep the data in the second place and NaN survives. */
static inline vf vf_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}
static inline vf vf_round(vf a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vf vf_floor(vf a)
{
    return _mm256_floor_ps(a);
}
static inline vf vf_abs(vf a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
/* 2^n for whole n in the normal range. */
static inline vf vf_exponent(__m256i n)
{
    __m256i biased = _mm256_add_epi32(n, _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}
/* a * 2^n for whole n within the float range, through subnormals and to infinity: two factors,
 * as the single power may lie outside the normal range. */
static inline vf vf_ldexp(vf a, vf n)
{
    __m256i whole = _mm256_cvtps_epi32(n);
    __m256i half = _mm256_srai_epi32(whole, 1);
    vf first = vf_mul(a, vf_exponent(half));
    return vf_mul(first, vf_exponent(_mm256_sub_epi32(whole, half)));
}
/* x < 0 (also -0 is not): a, else b. */
static inline vf vf_if_negative(vf x, vf a, vf b)
{
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ));
}
/* The first n lanes of v, `fill` in the others. */
static inline vf vf_keep(vf v, int32_t n, vf fill)
{
    return _mm256_blendv_ps(fill, v, _mm256_castsi256_ps(vf_mask(n)));
}
static inline float vf_sum(vf v)
{
    __m128 a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}
static inline float vf_largest(vf v)
{
    __m128 a = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}
static inline vd vd_zero(void)
{
    return _mm256_setzero_pd();
}
static inline vd vd_load(const double *p)
{
    return _mm256_loadu_pd(p);
}
static inline void vd_store(double *p, vd v)
{
    _mm256_storeu_pd(p, v);
}
static inline vd vd_low(vf v)
{
    return _mm256_cvtps_pd(_mm256_castps256_ps128(v));
}
static inline vd vd_high(vf v)
{
    return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
}
static inline vd vd_add(vd a, vd b)
{
    return _mm256_add_pd(a, b);
}
static inline vd vd_fma(vd a, vd b, vd c)
{
    return _mm256_fmadd_pd(a, b, c);
}
static inline double vd_sum(vd v)
{
    __m128d a = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(a, _mm_unpackhi_pd(a, a)));
}

#elif defined(__aarch64__)

enum { VF = 4 };
typedef float32x4_t vf;
typedef float64x2_t vd;

static inline uint32x4_t vf_mask(int32_t n)
{
    static const int32_t lanes[VF] = {0, 1, 2, 3};
    return vcltq_s32(vld1q_s32(lanes), vdupq_n_s32(n));
}
static inline vf vf_set(float v)
{
    return vdupq_n_f32(v);
}
static inline vf vf_load(const float *p)
{
    return vld1q_f32(p);
}
/* VF values of float16. */
static inline vf vf_load_half(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
static inline vf vf_load_part(const float *p, int32_t n)
{
    float lanes[VF] = {0.0f};
    if (n >= VF)
        return vld1q_f32(p);
    if (n > 0)
        memcpy(lanes, p, (size_t)n * sizeof *p);
    return vld1q_f32(lanes);
}
static inline void vf_store(float *p, vf v)
{
    vst1q_f32(p, v);
}
static inline void vf_store_part(float *p, vf v, int32_t n)
{
    float lanes[VF];
    if (n >= VF) {
        vst1q_f32(p, v);
    } else if (n > 0) {
        vst1q_f32(lanes, v);
        memcpy(p, lanes, (size_t)n * sizeof *p);
    }
}
static inline vf vf_add(vf a, vf b)
{
    return vaddq_f32(a, b);
}
static inline vf vf_sub(vf a, vf b)
{
    return vsubq_f32(a, b);
}
static inline vf vf_mul(vf a, vf b)
{
    return vmulq_f32(a, b);
}
static inline vf vf_div(vf a, vf b)
{
    return vdivq_f32(a, b);
}
/* a * b + c and c - a * b, rounded once. */
static inline vf vf_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}
static inline vf vf_fnma(vf a, vf b, vf c)
{
    return vfmsq_f32(c, a, b);
}
/* b where either is NaN: keep the data in the second place and NaN survives. */
static inline vf vf_max(vf a, vf b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
static inline vf vf_min(vf a, vf b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
static inline vf vf_round(vf a)
{
    return vrndnq_f32(a);
}
static inline vf vf_floor(vf a)
{
    return vrndmq_f32(a);
}
static inline vf vf_abs(vf a)
{
    return vabsq_f32(a);
}
/* 2^n for whole n in the normal range. */
static inline vf vf_exponent(int32x4_t n)
{
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}
/* a * 2^n for whole n within the float range, through subnormals and to infinity: two factors,
 * as the single power may lie outside the normal range. */
static inline vf vf_ldexp(vf a, vf n)
{
    int32x4_t whole = vcvtq_s32_f32(n);
    int32x4_t half = vshrq_n_s32(whole, 1);
    vf first = vf_mul(a, vf_exponent(half));
    return vf_mul(first, vf_exponent(vsubq_s32(whole, half)));
}
/* x < 0 (also -0 is not): a, else b. */
static inline vf vf_if_negative(vf x, vf a, vf b)
{
    return vbslq_f32(vcltzq_f32(x), a, b);
}
/* The first n lanes of v, `fill` in the others. */
static inline vf vf_keep(vf v, int32_t n, vf fill)
{
    return vbslq_f32(vf_mask(n), v, fill);
}
static inline float vf_sum(vf v)
{
    return vaddvq_f32(v);
}
static inline float vf_largest(vf v)
{
    return vmaxvq_f32(v);
}
static inline vd vd_zero(void)
{
    return vdupq_n_f64(0.0);
}
static inline vd vd_load(const double *p)
{
    return vld1q_f64(p);
}
static inline void vd_store(double *p, vd v)
{
    vst1q_f64(p, v);
}
static inline vd vd_low(vf v)
{
    return vcvt_f64_f32(vget_low_f32(v));
}
static inline vd vd_high(vf v)
{
    return vcvt_high_f64_f32(v);
}
static inline vd vd_add(vd a, vd b)
{
    return vaddq_f64(a, b);
}
static inline vd vd_fma(vd a, vd b, vd c)
{
    return vfmaq_f64(c, a, b);
}
static inline double vd_sum(vd v)
{
    return vaddvq_f64(v);
}

#else
#error "simd.h needs AVX2, AVX-512 or NEON; only the files of such a level include it"
#endif

#endif
