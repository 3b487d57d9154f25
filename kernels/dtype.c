/*
 * Exact conversions between element types. Each has one plain C form; F16, BF16 and the two 8-bit
 * types also have an AVX2 form with the same results, chosen when the program runs; F16 and BF16
 * have one for NEON, which every 64-bit Arm has.
 *
 * Both 8-bit types are cut-down F16: E5M2 is its upper byte, and the bits of E4M3 moved to the F16
 * exponent field give the value times 2^-8, subnormals included (bias 15 against bias 7).
 *
 * Source   IEEE 754-2019 (F16, F32); Micikevicius et al. 2022, arXiv:2209.05433 (8-bit types).
 */
#include "kernels/tensor.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <stdatomic.h>
#define DTYPE_AVX2 __attribute__((target("avx2,f16c")))
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

struct dtype_facts {
    const char *name;
    size_t size;
    bool is_float;
};

static const struct dtype_facts facts[LD_DTYPE_COUNT] = {
    [LD_DTYPE_F32] = {"F32", 4, true},         [LD_DTYPE_F16] = {"F16", 2, true},
    [LD_DTYPE_BF16] = {"BF16", 2, true},       [LD_DTYPE_F64] = {"F64", 8, true},
    [LD_DTYPE_F8_E4M3] = {"F8_E4M3", 1, true}, [LD_DTYPE_F8_E5M2] = {"F8_E5M2", 1, true},
    [LD_DTYPE_I64] = {"I64", 8, false},        [LD_DTYPE_I32] = {"I32", 4, false},
    [LD_DTYPE_I16] = {"I16", 2, false},        [LD_DTYPE_I8] = {"I8", 1, false},
    [LD_DTYPE_U8] = {"U8", 1, false},          [LD_DTYPE_BOOL] = {"BOOL", 1, false},
    [LD_DTYPE_U16] = {"U16", 2, false},        [LD_DTYPE_U32] = {"U32", 4, false},
    [LD_DTYPE_U64] = {"U64", 8, false},        [LD_DTYPE_OTHER] = {"other", 0, false},
};

size_t ld_dtype_size(enum ld_dtype dtype)
{
    LD_ASSERT((unsigned)dtype < LD_DTYPE_COUNT);
    return facts[dtype].size;
}

const char *ld_dtype_name(enum ld_dtype dtype)
{
    LD_ASSERT((unsigned)dtype < LD_DTYPE_COUNT);
    return facts[dtype].name;
}

bool ld_dtype_is_float(enum ld_dtype dtype)
{
    LD_ASSERT((unsigned)dtype < LD_DTYPE_COUNT);
    return facts[dtype].is_float;
}

/* ---- One value ------------------------------------------------------------------------------- */

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

float ld_f16_to_f32(uint16_t bits)
{
    const uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    const uint32_t rest = (uint32_t)(bits & 0x7FFF) << 13;
    if (rest >= 0x7C00u << 13) { /* infinity, or NaN: made quiet as the hardware does */
        const uint32_t quiet = rest & 0x7FFFFF ? 0x400000 : 0;
        return float_of(sign | 0x7F800000 | quiet | (rest & 0x7FFFFF));
    }
    /* Read with the wrong bias, then corrected by a power of two: exact for subnormals as well. */
    const float magnitude = float_of(rest) * 0x1p112f;
    return float_of(sign | bits_of(magnitude));
}

/*
 * Round the magnitude bits of a finite float32 to a format with `mantissa` bits and exponent
 * `bias`, to nearest even. The result may lie beyond the format's largest code.
 */
static uint32_t round_magnitude(uint32_t bits, uint32_t mantissa, uint32_t bias)
{
    const uint32_t exponent = bits >> 23;
    if (exponent + bias > 127) { /* a normal number of the target: a carry moves the exponent */
        const uint32_t shift = 23 - mantissa;
        const uint32_t rebased = bits - ((127 - bias) << 23);
        return (rebased + (1u << (shift - 1)) - 1 + ((rebased >> shift) & 1)) >> shift;
    }
    const uint32_t shift = 151 - bias - mantissa - exponent;
    if (exponent == 0 || shift > 24) /* below half of the smallest subnormal */
        return 0;
    const uint32_t significand = (bits & 0x7FFFFF) | 0x800000;
    return (significand + (1u << (shift - 1)) - 1 + ((significand >> shift) & 1)) >> shift;
}

uint16_t ld_f16_from_f32(float value)
{
    const uint32_t bits = bits_of(value);
    const uint32_t sign = (bits >> 16) & 0x8000;
    const uint32_t magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000)
        return (uint16_t)(sign | 0x7E00 | ((magnitude >> 13) & 0x3FF));
    if (magnitude == 0x7F800000)
        return (uint16_t)(sign | 0x7C00);
    const uint32_t code = round_magnitude(magnitude, 10, 15);
    return (uint16_t)(sign | (code > 0x7C00 ? 0x7C00 : code));
}

float ld_bf16_to_f32(uint16_t bits)
{
    return float_of((uint32_t)bits << 16);
}

uint16_t ld_bf16_from_f32(float value)
{
    const uint32_t bits = bits_of(value);
    if ((bits & 0x7FFFFFFF) > 0x7F800000)
        return (uint16_t)((bits >> 16) | 0x40);
    return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

static float e5m2_to_f32(uint8_t code)
{
    return ld_f16_to_f32((uint16_t)(code << 8));
}

static float e4m3_to_f32(uint8_t code)
{
    if ((code & 0x7F) == 0x7F)
        return float_of(0x7FC00000 | (uint32_t)(code & 0x80) << 24);
    return 256.0f * ld_f16_to_f32((uint16_t)((code & 0x80) << 8 | (code & 0x7F) << 7));
}

static uint8_t e5m2_from_f32(float value)
{
    const uint32_t bits = bits_of(value);
    const uint32_t sign = (bits >> 24) & 0x80;
    const uint32_t magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000)
        return (uint8_t)(sign | 0x7E);
    const uint32_t code = magnitude == 0x7F800000 ? 0x7C : round_magnitude(magnitude, 2, 15);
    return (uint8_t)(sign | (code > 0x7C ? 0x7C : code));
}

static uint8_t e4m3_from_f32(float value)
{
    const uint32_t bits = bits_of(value);
    const uint32_t sign = (bits >> 24) & 0x80;
    const uint32_t magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000)
        return (uint8_t)(sign | 0x7F);
    const uint32_t code = magnitude == 0x7F800000 ? 0x7E : round_magnitude(magnitude, 3, 7);
    return (uint8_t)(sign | (code > 0x7E ? 0x7E : code));
}

/* ---- Vectors --------------------------------------------------------------------------------- */

/* Each converts the largest multiple of 8 elements and returns that number; plain C does the rest.
 */
#if defined(__x86_64__)

static bool has_avx2(void)
{
    static atomic_int known; /* 0 unknown, 1 no, 2 yes; racing threads find the same */
    int state = atomic_load_explicit(&known, memory_order_relaxed);
    if (state == 0) {
        unsigned a, b, c = 0, d;
        const bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
        state = f16c && __builtin_cpu_supports("avx2") ? 2 : 1;
        atomic_store_explicit(&known, state, memory_order_relaxed);
    }
    return state == 2;
}

DTYPE_AVX2 static size_t f16_to_f32_avx2(float *dst, const uint8_t *src, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m128i codes = _mm_loadu_si128((const __m128i *)(const void *)(src + 2 * i));
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(codes));
    }
    return i;
}

DTYPE_AVX2 static size_t bf16_to_f32_avx2(float *dst, const uint8_t *src, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m128i codes = _mm_loadu_si128((const __m128i *)(const void *)(src + 2 * i));
        const __m256i wide = _mm256_slli_epi32(_mm256_cvtepu16_epi32(codes), 16);
        _mm256_storeu_ps(dst + i, _mm256_castsi256_ps(wide));
    }
    return i;
}

DTYPE_AVX2 static size_t e5m2_to_f32_avx2(float *dst, const uint8_t *src, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m128i codes = _mm_loadl_epi64((const __m128i *)(const void *)(src + i));
        const __m128i halves = _mm_slli_epi16(_mm_cvtepu8_epi16(codes), 8);
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(halves));
    }
    return i;
}

DTYPE_AVX2 static size_t e4m3_to_f32_avx2(float *dst, const uint8_t *src, size_t count)
{
    const __m128i low = _mm_set1_epi16(0x7F);
    const __m128i nan = _mm_set1_epi16(0x7E00);
    const __m256 scale = _mm256_set1_ps(256.0f);
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)(src + i));
        const __m128i codes = _mm_cvtepu8_epi16(bytes);
        const __m128i rest = _mm_and_si128(codes, low);
        const __m128i sign = _mm_slli_epi16(_mm_andnot_si128(low, codes), 8);
        __m128i halves = _mm_slli_epi16(rest, 7);
        halves = _mm_blendv_epi8(halves, nan, _mm_cmpeq_epi16(rest, low));
        halves = _mm_or_si128(halves, sign);
        _mm256_storeu_ps(dst + i, _mm256_mul_ps(_mm256_cvtph_ps(halves), scale));
    }
    return i;
}

DTYPE_AVX2 static size_t f16_from_f32_avx2(uint8_t *dst, const float *src, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m256 values = _mm256_loadu_ps(src + i);
        const __m128i codes = _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((__m128i *)(void *)(dst + 2 * i), codes);
    }
    return i;
}

DTYPE_AVX2 static size_t bf16_from_f32_avx2(uint8_t *dst, const float *src, size_t count)
{
    const __m256i half = _mm256_set1_epi32(0x7FFF);
    const __m256i one = _mm256_set1_epi32(1);
    const __m256i quiet = _mm256_set1_epi32(0x40);
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m256 values = _mm256_loadu_ps(src + i);
        const __m256i bits = _mm256_castps_si256(values);
        const __m256i upper = _mm256_srli_epi32(bits, 16);
        const __m256i odd = _mm256_and_si256(upper, one);
        __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, half), odd);
        rounded = _mm256_srli_epi32(rounded, 16);
        const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(values, values, _CMP_UNORD_Q));
        rounded = _mm256_blendv_epi8(rounded, _mm256_or_si256(upper, quiet), is_nan);
        const __m128i low = _mm256_castsi256_si128(rounded);
        const __m128i high = _mm256_extracti128_si256(rounded, 1);
        _mm_storeu_si128((__m128i *)(void *)(dst + 2 * i), _mm_packus_epi32(low, high));
    }
    return i;
}

static size_t vector_to_f32(float *dst, const uint8_t *src, enum ld_dtype dtype, size_t count)
{
    if (count < 8 || !has_avx2())
        return 0;
    if (dtype == LD_DTYPE_F16)
        return f16_to_f32_avx2(dst, src, count);
    if (dtype == LD_DTYPE_BF16)
        return bf16_to_f32_avx2(dst, src, count);
    if (dtype == LD_DTYPE_F8_E4M3)
        return e4m3_to_f32_avx2(dst, src, count);
    if (dtype == LD_DTYPE_F8_E5M2)
        return e5m2_to_f32_avx2(dst, src, count);
    return 0;
}

static size_t vector_from_f32(uint8_t *dst, const float *src, enum ld_dtype dtype, size_t count)
{
    if (count < 8 || !has_avx2())
        return 0;
    if (dtype == LD_DTYPE_F16)
        return f16_from_f32_avx2(dst, src, count);
    if (dtype == LD_DTYPE_BF16)
        return bf16_from_f32_avx2(dst, src, count);
    return 0;
}

#elif defined(__aarch64__)

static size_t f16_to_f32_neon(float *dst, const uint8_t *src, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const float16x8_t halves = vreinterpretq_f16_u8(vld1q_u8(src + 2 * i));
        vst1q_f32(dst + i, vcvt_f32_f16(vget_low_f16(halves)));
        vst1q_f32(dst + i + 4, vcvt_high_f32_f16(halves));
    }
    return i;
}

static size_t bf16_to_f32_neon(float *dst, const uint8_t *src, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const uint16x8_t codes = vreinterpretq_u16_u8(vld1q_u8(src + 2 * i));
        vst1q_f32(dst + i, vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(codes), 16)));
        vst1q_f32(dst + i + 4, vreinterpretq_f32_u32(vshll_high_n_u16(codes, 16)));
    }
    return i;
}

static size_t f16_from_f32_neon(uint8_t *dst, const float *src, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const float16x4_t low = vcvt_f16_f32(vld1q_f32(src + i));
        const float16x8_t halves = vcvt_high_f16_f32(low, vld1q_f32(src + i + 4));
        vst1q_u8(dst + 2 * i, vreinterpretq_u8_f16(halves));
    }
    return i;
}

static size_t vector_to_f32(float *dst, const uint8_t *src, enum ld_dtype dtype, size_t count)
{
    if (dtype == LD_DTYPE_F16)
        return f16_to_f32_neon(dst, src, count);
    if (dtype == LD_DTYPE_BF16)
        return bf16_to_f32_neon(dst, src, count);
    return 0;
}

static size_t vector_from_f32(uint8_t *dst, const float *src, enum ld_dtype dtype, size_t count)
{
    return dtype == LD_DTYPE_F16 ? f16_from_f32_neon(dst, src, count) : 0;
}

#else

static size_t vector_to_f32(float *dst, const uint8_t *src, enum ld_dtype dtype, size_t count)
{
    (void)dst, (void)src, (void)dtype, (void)count;
    return 0;
}

static size_t vector_from_f32(uint8_t *dst, const float *src, enum ld_dtype dtype, size_t count)
{
    (void)dst, (void)src, (void)dtype, (void)count;
    return 0;
}

#endif

/* ---- Arrays ---------------------------------------------------------------------------------- */

/* `CONVERT` sees `item`, one element read from its possibly unaligned place. */
#define DECODE_LOOP(type, CONVERT)                                                                 \
    for (size_t i = 0; i < count; i++) {                                                           \
        type item;                                                                                 \
        memcpy(&item, bytes + i * sizeof item, sizeof item);                                       \
        dst[i] = (CONVERT);                                                                        \
    }                                                                                              \
    break

void ld_dtype_to_f32(float *dst, const void *src, enum ld_dtype dtype, size_t count)
{
    LD_ASSERT((unsigned)dtype < LD_DTYPE_OTHER);
    const uint8_t *bytes = src;
    const size_t done = vector_to_f32(dst, bytes, dtype, count);
    dst += done;
    count -= done;
    if (count == 0)
        return;
    bytes += done * facts[dtype].size;
    switch (dtype) {
    case LD_DTYPE_F32:
        memcpy(dst, bytes, count * sizeof *dst);
        break;
    case LD_DTYPE_F16:
        DECODE_LOOP(uint16_t, ld_f16_to_f32(item));
    case LD_DTYPE_BF16:
        DECODE_LOOP(uint16_t, ld_bf16_to_f32(item));
    case LD_DTYPE_F64:
        DECODE_LOOP(double, (float)item);
    case LD_DTYPE_F8_E4M3:
        DECODE_LOOP(uint8_t, e4m3_to_f32(item));
    case LD_DTYPE_F8_E5M2:
        DECODE_LOOP(uint8_t, e5m2_to_f32(item));
    case LD_DTYPE_I64:
        DECODE_LOOP(int64_t, (float)item);
    case LD_DTYPE_I32:
        DECODE_LOOP(int32_t, (float)item);
    case LD_DTYPE_I16:
        DECODE_LOOP(int16_t, (float)item);
    case LD_DTYPE_I8:
        DECODE_LOOP(int8_t, (float)item);
    case LD_DTYPE_U8:
        DECODE_LOOP(uint8_t, (float)item);
    case LD_DTYPE_BOOL:
        DECODE_LOOP(uint8_t, item ? 1.0f : 0.0f);
    case LD_DTYPE_U16:
        DECODE_LOOP(uint16_t, (float)item);
    case LD_DTYPE_U32:
        DECODE_LOOP(uint32_t, (float)item);
    case LD_DTYPE_U64:
        DECODE_LOOP(uint64_t, (float)item);
    case LD_DTYPE_OTHER:
    case LD_DTYPE_COUNT:
        break;
    }
}

#define ENCODE_LOOP(type, CONVERT)                                                                 \
    for (size_t i = 0; i < count; i++) {                                                           \
        const type item = (CONVERT);                                                               \
        memcpy(bytes + i * sizeof item, &item, sizeof item);                                       \
    }                                                                                              \
    return

void ld_dtype_from_f32(void *dst, const float *src, enum ld_dtype dtype, size_t count)
{
    LD_ASSERT(ld_dtype_is_float(dtype));
    uint8_t *bytes = dst;
    const size_t done = vector_from_f32(bytes, src, dtype, count);
    src += done;
    count -= done;
    if (count == 0)
        return;
    bytes += done * facts[dtype].size;
    if (dtype == LD_DTYPE_F32) {
        memcpy(bytes, src, count * sizeof *src);
        return;
    }
    if (dtype == LD_DTYPE_F16) {
        ENCODE_LOOP(uint16_t, ld_f16_from_f32(src[i]));
    }
    if (dtype == LD_DTYPE_BF16) {
        ENCODE_LOOP(uint16_t, ld_bf16_from_f32(src[i]));
    }
    if (dtype == LD_DTYPE_F64) {
        ENCODE_LOOP(double, (double)src[i]);
    }
    if (dtype == LD_DTYPE_F8_E4M3) {
        ENCODE_LOOP(uint8_t, e4m3_from_f32(src[i]));
    }
    ENCODE_LOOP(uint8_t, e5m2_from_f32(src[i]));
}
