/*
 * Floating point instructions of PTX, and conversions from and to floating point.
 *
 * What PTX rounds by IEEE 754 the host rounds likewise: to nearest in vector loops, in the other
 * directions with the host's rounding mode set around a plain loop. A NaN result of 32 bits is
 * 0x7fffffff, as on the GPU, so no payload depends on the host. Where PTX allows an approximation
 * (.approx, .full) the result here is the exact one rounded, but for ex2, which is hot: a
 * polynomial, within one unit in the last place. Nothing is contracted: a * b + c is only an fma
 * where fma is called (the C standard's mode of the compiler keeps to that).
 *
 * Sources: PTX ISA 9.0, sections 9.7.3, 9.7.6, 9.7.9; CUDA programming guide, floating-point
 * standard.
 */
#include "tests/ptx/half.h"
#include "tests/ptx/lanes.h"

#include <fenv.h>
#include <math.h>
#include <string.h>

static inline uint64_t bits_of_64(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline double double_of(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---- What is done to operands and results ---------------------------------------------------- */

/* .ftz: a subnormal number becomes a zero of its sign. */
static inline float flushed(float x)
{
    uint32_t bits = bits_of(x);
    return float_of(bits & 0x7f800000u ? bits : bits & 0x80000000u);
}

/* .sat: into [0, 1]; NaN and -0 give +0. */
static inline float saturated(float x)
{
    float least = x > 0.0f ? x : 0.0f;
    return least < 1.0f ? least : 1.0f;
}

static inline double saturated_64(double x)
{
    double least = x > 0.0 ? x : 0.0;
    return least < 1.0 ? least : 1.0;
}

#define KEEP(x)           (x)
#define FLUSH(x)          flushed(x)
#define RESULT(x)         one_nan(x)
#define RESULT_FTZ(x)     flushed(one_nan(x))
#define RESULT_SAT(x)     saturated(x)
#define RESULT_FTZ_SAT(x) flushed(saturated(x))

/* ---- Add, multiply, divide, square root ------------------------------------------------------ */

/* x, y, z out of one, two or three source registers. */
#define ARRAYS_1(T) const T *a = PTX_PLACE(T, 1)
#define ARRAYS_2(T)                                                                                \
    ARRAYS_1(T);                                                                                   \
    const T *b = PTX_PLACE(T, 2)
#define ARRAYS_3(T)                                                                                \
    ARRAYS_2(T);                                                                                   \
    const T *c = PTX_PLACE(T, 3)
#define LANE_1(kept, T, IN) kept T x = IN(a[i])
#define LANE_2(kept, T, IN)                                                                        \
    LANE_1(kept, T, IN);                                                                           \
    kept T y = IN(b[i])
#define LANE_3(kept, T, IN)                                                                        \
    LANE_2(kept, T, IN);                                                                           \
    kept T z = IN(c[i])

/*
 * The loop with the host's rounding mode set. What the compiler must not move out of it or know
 * beforehand is volatile: `lane` makes volatile operands of what is in memory, the result is stored
 * as one.
 */
#define DIRECTED(name, D, OUT, mode, arrays, lane, expression)                                     \
    PTX_OP(name)                                                                                   \
    {                                                                                              \
        arrays;                                                                                    \
        D spare[PTX_LANES];                                                                        \
        fesetround(mode);                                                                          \
        for (int i = 0; i < PTX_LANES; i++) {                                                      \
            lane;                                                                                  \
            volatile D rounded = (D)(expression);                                                  \
            spare[i] = rounded;                                                                    \
        }                                                                                          \
        fesetround(FE_TONEAREST);                                                                  \
        PTX_EACH spare[i] = OUT(spare[i]);                                                         \
        ptx_blend(PTX_PLACE(D, 0), spare, sizeof(D), w->active);                                   \
    }

/* name_rn, name_rz, name_rm, name_rp with n operands of type T. */
#define ROUNDINGS(name, n, T, IN, OUT, expression)                                                 \
    PTX_LANEWISE(name##_rn, T, ARRAYS_##n(T), LANE_##n(const, T, IN), OUT(expression))             \
    DIRECTED(name##_rz, T, OUT, FE_TOWARDZERO, ARRAYS_##n(T), LANE_##n(volatile, T, IN),           \
             expression)                                                                           \
    DIRECTED(name##_rm, T, OUT, FE_DOWNWARD, ARRAYS_##n(T), LANE_##n(volatile, T, IN), expression) \
    DIRECTED(name##_rp, T, OUT, FE_UPWARD, ARRAYS_##n(T), LANE_##n(volatile, T, IN), expression)

#define ARITHMETIC(name, n, expression_32, expression_64)                                          \
    ROUNDINGS(name##_f32, n, float, KEEP, RESULT, expression_32)                                   \
    ROUNDINGS(name##_ftz_f32, n, float, FLUSH, RESULT_FTZ, expression_32)                          \
    ROUNDINGS(name##_f64, n, double, KEEP, KEEP, expression_64)
#define ARITHMETIC_SAT(name, n, expression)                                                        \
    ROUNDINGS(name##_sat_f32, n, float, KEEP, RESULT_SAT, expression)                              \
    ROUNDINGS(name##_ftz_sat_f32, n, float, FLUSH, RESULT_FTZ_SAT, expression)

ARITHMETIC(add, 2, x + y, x + y)
ARITHMETIC(sub, 2, x - y, x - y)
ARITHMETIC(mul, 2, (x * y), (x * y))
ARITHMETIC(fma, 3, fmaf(x, y, z), fma(x, y, z))
ARITHMETIC(div, 2, x / y, x / y)
ARITHMETIC(rcp, 1, 1.0f / x, 1.0 / x)
ARITHMETIC(sqrt, 1, sqrtf(x), sqrt(x))
ARITHMETIC_SAT(add, 2, x + y)
ARITHMETIC_SAT(sub, 2, x - y)
ARITHMETIC_SAT(mul, 2, (x * y))
ARITHMETIC_SAT(fma, 3, fmaf(x, y, z))

/* ---- Sign, order, tests ---------------------------------------------------------------------- */

#define SIGN_32 0x80000000u
#define SIGN_64 0x8000000000000000u

PTX_UNARY(neg_f32, uint32_t, uint32_t, x ^ SIGN_32)
PTX_UNARY(abs_f32, uint32_t, uint32_t, x & ~SIGN_32)
PTX_UNARY(neg_ftz_f32, float, float, -flushed(x))
PTX_UNARY(abs_ftz_f32, float, float, fabsf(flushed(x)))
PTX_UNARY(neg_f64, uint64_t, uint64_t, x ^ SIGN_64)
PTX_UNARY(abs_f64, uint64_t, uint64_t, x & ~SIGN_64)
/* The sign of the first operand, the value of the second. */
PTX_BINARY(copysign_f32, uint32_t, uint32_t, uint32_t, (x & SIGN_32) | (y & ~SIGN_32))
PTX_BINARY(copysign_f64, uint64_t, uint64_t, uint64_t, (x & SIGN_64) | (y & ~SIGN_64))

/* -0 is less than +0, which bits tell and values do not. Of NaN and a number, the number. */
static inline float min_of(float x, float y)
{
    float least = x < y ? x : x > y ? y : float_of(bits_of(x) | bits_of(y));
    return x != x ? one_nan(y) : y != y ? x : least;
}
static inline float max_of(float x, float y)
{
    float most = x > y ? x : x < y ? y : float_of(bits_of(x) & bits_of(y));
    return x != x ? one_nan(y) : y != y ? x : most;
}
static inline double min_of_64(double x, double y)
{
    double least = x < y ? x : x > y ? y : double_of(bits_of_64(x) | bits_of_64(y));
    return x != x ? y : y != y ? x : least;
}
static inline double max_of_64(double x, double y)
{
    double most = x > y ? x : x < y ? y : double_of(bits_of_64(x) & bits_of_64(y));
    return x != x ? y : y != y ? x : most;
}
PTX_BINARY(min_f32, float, float, float, min_of(x, y))
PTX_BINARY(max_f32, float, float, float, max_of(x, y))
PTX_BINARY(min_ftz_f32, float, float, float, min_of(flushed(x), flushed(y)))
PTX_BINARY(max_ftz_f32, float, float, float, max_of(flushed(x), flushed(y)))
PTX_BINARY(min_nan_f32, float, float, float, x == x && y == y ? min_of(x, y) : float_of(NAN_32))
PTX_BINARY(max_nan_f32, float, float, float, x == x && y == y ? max_of(x, y) : float_of(NAN_32))
PTX_BINARY(min_f64, double, double, double, min_of_64(x, y))
PTX_BINARY(max_f64, double, double, double, max_of_64(x, y))

/* eq, ne, lt.. are false of NaN; equ, neu, ltu.. are true of it. */
#define COMPARISONS(suffix, T, IN)                                                                 \
    PTX_COMPARE(setp_eq_##suffix, T, IN(x) == IN(y))                                               \
    PTX_COMPARE(setp_ne_##suffix, T, (IN(x) < IN(y)) + (IN(x) > IN(y)))                            \
    PTX_COMPARE(setp_lt_##suffix, T, IN(x) < IN(y))                                                \
    PTX_COMPARE(setp_le_##suffix, T, IN(x) <= IN(y))                                               \
    PTX_COMPARE(setp_gt_##suffix, T, IN(x) > IN(y))                                                \
    PTX_COMPARE(setp_ge_##suffix, T, IN(x) >= IN(y))                                               \
    PTX_COMPARE(setp_equ_##suffix, T, !((IN(x) < IN(y)) + (IN(x) > IN(y))))                        \
    PTX_COMPARE(setp_neu_##suffix, T, !(IN(x) == IN(y)))                                           \
    PTX_COMPARE(setp_ltu_##suffix, T, !(IN(x) >= IN(y)))                                           \
    PTX_COMPARE(setp_leu_##suffix, T, !(IN(x) > IN(y)))                                            \
    PTX_COMPARE(setp_gtu_##suffix, T, !(IN(x) <= IN(y)))                                           \
    PTX_COMPARE(setp_geu_##suffix, T, !(IN(x) < IN(y)))                                            \
    PTX_COMPARE(setp_num_##suffix, T, (x == x) * (y == y))                                         \
    PTX_COMPARE(setp_nan_##suffix, T, 1 - (x == x) * (y == y))
COMPARISONS(f32, float, KEEP)
COMPARISONS(ftz_f32, float, FLUSH)
COMPARISONS(f64, double, KEEP)

#define TESTP(name, T, expression)                                                                 \
    PTX_OP(name)                                                                                   \
    {                                                                                              \
        const T *a = PTX_PLACE(T, 1);                                                              \
        uint32_t bits = 0;                                                                         \
        for (int i = 0; i < PTX_LANES; i++) {                                                      \
            const T x = a[i];                                                                      \
            bits |= (uint32_t)((expression) != 0) << i;                                            \
        }                                                                                          \
        ptx_set_predicate(PTX_PLACE(uint32_t, 0), bits, w->active);                                \
    }
#define TESTPS(suffix, T)                                                                          \
    TESTP(testp_finite_##suffix, T, isfinite(x))                                                   \
    TESTP(testp_infinite_##suffix, T, isinf(x))                                                    \
    TESTP(testp_number_##suffix, T, !isnan(x))                                                     \
    TESTP(testp_notanumber_##suffix, T, isnan(x))                                                  \
    TESTP(testp_normal_##suffix, T, isnormal(x))                                                   \
    TESTP(testp_subnormal_##suffix, T, fpclassify(x) == FP_SUBNORMAL)
TESTPS(f32, float)
TESTPS(f64, double)

/* ---- Approximations -------------------------------------------------------------------------- */

/*
 * 2^x = 2^n 2^f with n the integer next to x, which adding 1.5 2^23 leaves in the low bits. 2^f is
 * the polynomial through its values at the seven Chebyshev nodes of [-1/2, 1/2] (off by 2e-9). 2^n
 * is multiplied in halves, so that a subnormal result is rounded once and no factor overflows.
 */
static inline float exp2_of(float x)
{
    const float shift = 0x1.8p23f;
    float held = x < -152.0f ? -152.0f : x > 129.0f ? 129.0f : x;
    float shifted = held + shift, f = held - (shifted - shift);
    uint32_t n = bits_of(shifted) - bits_of(shift);
    uint32_t half = (uint32_t)((int32_t)n >> 1);
    float p = 0x1.4440p-13f;
    p = fmaf(p, f, 0x1.5f48c0p-10f);
    p = fmaf(p, f, 0x1.3b2a1cp-7f);
    p = fmaf(p, f, 0x1.c6aeccp-5f);
    p = fmaf(p, f, 0x1.ebfbe0p-3f);
    p = fmaf(p, f, 0x1.62e430p-1f);
    p = fmaf(p, f, 1.0f);
    return p * float_of((half + 127) << 23) * float_of((n - half + 127) << 23);
}

/* The upper 32 bits are all that is read and written. */
static inline double upper(double x)
{
    uint64_t bits = bits_of_64(x) & 0xffffffff00000000u;
    return double_of(bits >> 52 & 2047 ? bits : bits & SIGN_64);
}
static inline double upper_result(double x)
{
    return x != x ? double_of(0x7fffffff00000000u) : upper(double_of(bits_of_64(x) + 0x80000000u));
}
PTX_UNARY(rcp_upper_f64, double, double, upper_result(1.0 / upper(x)))
PTX_UNARY(rsqrt_upper_f64, double, double, upper_result(1.0 / sqrt(upper(x))))
PTX_UNARY(rsqrt_f64, double, double, 1.0 / sqrt(x))

#define APPROXIMATION(name, expression)                                                            \
    PTX_LANEWISE(name##_f32, float, ARRAYS_1(float), LANE_1(const, float, KEEP),                   \
                 RESULT((float)(expression)))                                                      \
    PTX_LANEWISE(name##_ftz_f32, float, ARRAYS_1(float), LANE_1(const, float, FLUSH),              \
                 RESULT_FTZ((float)(expression)))
APPROXIMATION(ex2, exp2_of(x))
APPROXIMATION(lg2, log2((double)x))
APPROXIMATION(sin, sin((double)x))
APPROXIMATION(cos, cos((double)x))
APPROXIMATION(rsqrt, 1.0 / sqrt((double)x))
PTX_UNARY(tanh_f32, float, float, one_nan((float)tanh((double)x)))

/* ---- Narrow types ---------------------------------------------------------------------------- */

/*
 * x rounded in any direction to a type of 16 bits with `fraction` bits of fraction and least normal
 * exponent `least`. Too large is infinity, or the largest number if the direction is towards zero.
 */
static uint16_t narrowed(double x, int direction, int fraction, int least)
{
    if (isnan(x))
        return NAN_16;
    const bool negative = signbit(x);
    const uint32_t infinity = 0x7fffu >> fraction << fraction, sign = negative ? 0x8000u : 0;
    const bool away = direction == (negative ? FE_DOWNWARD : FE_UPWARD);
    x = fabs(x);
    if (isinf(x) || x == 0.0)
        return (uint16_t)(sign | (x == 0.0 ? 0 : infinity));
    int exponent = ilogb(x) > least ? ilogb(x) : least;
    double units = ldexp(x, fraction - exponent);
    units = direction == FE_TONEAREST ? rint(units) : away ? ceil(units) : floor(units);
    int64_t bits = ((int64_t)(exponent - least) << fraction) + (int64_t)units;
    if (bits >= infinity)
        bits = direction == FE_TONEAREST || away ? infinity : infinity - 1;
    return (uint16_t)(sign | (uint32_t)bits);
}
#define HALF(x, direction) narrowed((double)(x), direction, 10, -14)
#define BF16(x, direction) narrowed((double)(x), direction, 7, -126)

/* .relu: negative numbers become +0, NaN stays. */
static inline uint16_t positive(uint16_t x)
{
    return x >> 15 ? 0 : x;
}
/* .sat of a half. */
static inline uint16_t saturated_half(uint16_t x)
{
    return to_half(saturated(from_half(x)));
}

/* x: of type T, IN of the element of type A. */
#define NARROW(name, A, T, IN, expression)                                                         \
    PTX_LANEWISE(name, uint16_t, ARRAYS_1(A), const T x = IN(a[i]), expression)
#define NARROWINGS(name, A, T, IN, post, nearest)                                                  \
    NARROW(name##_rn, A, T, IN, post(nearest))                                                     \
    NARROW(name##_rz, A, T, IN, post(HALF(x, FE_TOWARDZERO)))                                      \
    NARROW(name##_rm, A, T, IN, post(HALF(x, FE_DOWNWARD)))                                        \
    NARROW(name##_rp, A, T, IN, post(HALF(x, FE_UPWARD)))
NARROWINGS(half_f32, float, float, KEEP, KEEP, to_half(x))
NARROWINGS(half_ftz_f32, float, float, FLUSH, KEEP, to_half(x))
NARROWINGS(half_sat_f32, float, float, KEEP, saturated_half, to_half(x))
NARROWINGS(half_ftz_sat_f32, float, float, FLUSH, saturated_half, to_half(x))
NARROWINGS(half_relu_f32, float, float, KEEP, positive, to_half(x))
NARROWINGS(half_f64, double, double, KEEP, KEEP, HALF(x, FE_TONEAREST))
NARROWINGS(half_sat_f64, double, double, KEEP, saturated_half, HALF(x, FE_TONEAREST))
NARROW(bf16_f32_rn, float, float, KEEP, to_bf16(x))
NARROW(bf16_f32_rz, float, float, KEEP, BF16(x, FE_TOWARDZERO))
NARROW(bf16_relu_f32_rn, float, float, KEEP, positive(to_bf16(x)))
NARROW(bf16_relu_f32_rz, float, float, KEEP, positive(BF16(x, FE_TOWARDZERO)))

/* The first operand becomes the upper half. */
#define NARROW_2(name, post, narrow)                                                               \
    PTX_BINARY(name, uint32_t, float, float, (uint32_t)post(narrow(x)) << 16 | post(narrow(y)))
#define TO_HALF_RZ(x) HALF(x, FE_TOWARDZERO)
#define TO_BF16_RZ(x) BF16(x, FE_TOWARDZERO)
NARROW_2(half_2_rn, KEEP, to_half)
NARROW_2(half_2_rz, KEEP, TO_HALF_RZ)
NARROW_2(half_2_relu_rn, positive, to_half)
NARROW_2(half_2_relu_rz, positive, TO_HALF_RZ)
NARROW_2(bf16_2_rn, KEEP, to_bf16)
NARROW_2(bf16_2_rz, KEEP, TO_BF16_RZ)
NARROW_2(bf16_2_relu_rn, positive, to_bf16)
NARROW_2(bf16_2_relu_rz, positive, TO_BF16_RZ)

PTX_UNARY(f32_half, float, uint16_t, from_half(x))
PTX_UNARY(f32_sat_half, float, uint16_t, saturated(from_half(x)))
PTX_UNARY(f64_half, double, uint16_t, (double)from_half(x))
PTX_UNARY(f64_sat_half, double, uint16_t, (double)saturated(from_half(x)))
PTX_UNARY(f32_bf16, float, uint16_t, from_bf16(x))

/* ---- Among 32 and 64 bits -------------------------------------------------------------------- */

PTX_UNARY(f64_f32, double, float, (double)x)
PTX_UNARY(f64_ftz_f32, double, float, (double)flushed(x))
PTX_UNARY(f64_sat_f32, double, float, (double)saturated(x))
PTX_UNARY(f64_ftz_sat_f32, double, float, (double)saturated(flushed(x)))
PTX_UNARY(sat_f32, float, float, saturated(x))
PTX_UNARY(ftz_f32, float, float, RESULT_FTZ(x))
PTX_UNARY(ftz_sat_f32, float, float, saturated(flushed(x)))
PTX_UNARY(sat_f64, double, double, saturated_64(x))

/* Conversions that round: one operand of type S in lanes of type A, result D. */
#define CONVERSIONS(name, D, A, S, OUT)                                                            \
    PTX_LANEWISE(name##_rn, D, ARRAYS_1(A), const S x = (S)a[i], OUT((D)x))                        \
    DIRECTED(name##_rz, D, OUT, FE_TOWARDZERO, ARRAYS_1(A), volatile S x = (S)a[i], x)             \
    DIRECTED(name##_rm, D, OUT, FE_DOWNWARD, ARRAYS_1(A), volatile S x = (S)a[i], x)               \
    DIRECTED(name##_rp, D, OUT, FE_UPWARD, ARRAYS_1(A), volatile S x = (S)a[i], x)
CONVERSIONS(f32_f64, float, double, double, RESULT)
CONVERSIONS(f32_ftz_f64, float, double, double, RESULT_FTZ)
CONVERSIONS(f32_sat_f64, float, double, double, RESULT_SAT)
CONVERSIONS(f32_ftz_sat_f64, float, double, double, RESULT_FTZ_SAT)

#define INTEGRAL(name, round)                                                                      \
    PTX_UNARY(name##_f32, float, float, one_nan(round##f(x)))                                      \
    PTX_UNARY(name##_ftz_f32, float, float, one_nan(round##f(flushed(x))))                         \
    PTX_UNARY(name##_sat_f32, float, float, saturated(round##f(x)))                                \
    PTX_UNARY(name##_ftz_sat_f32, float, float, saturated(round##f(flushed(x))))                   \
    PTX_UNARY(name##_f64, double, double, round(x))                                                \
    PTX_UNARY(name##_sat_f64, double, double, saturated_64(round(x)))                              \
    PTX_UNARY(name##_f16, uint16_t, uint16_t, to_half(round##f(from_half(x))))
INTEGRAL(rni, rint)
INTEGRAL(rzi, trunc)
INTEGRAL(rmi, floor)
INTEGRAL(rpi, ceil)

/* ---- To and from integers -------------------------------------------------------------------- */

/*
 * An integral x as an integer of so many bits, the nearest there is. NaN is zero where neither side
 * has 64 bits, else the number with only the highest bit set.
 */
static inline int64_t as_signed(double x, unsigned bits, bool wide)
{
    const uint64_t top = (uint64_t)1 << (bits - 1);
    const int64_t most = (int64_t)(top - 1), least = -most - 1;
    if (x != x)
        return wide || bits == 64 ? least : 0;
    return x >= (double)top ? most : x < -(double)top ? least : (int64_t)x;
}
static inline uint64_t as_unsigned(double x, unsigned bits, bool wide)
{
    const uint64_t top = (uint64_t)1 << (bits - 1);
    if (x != x)
        return wide || bits == 64 ? top : 0;
    return x >= 2.0 * (double)top ? top | (top - 1) : x <= 0.0 ? 0 : (uint64_t)x;
}
#define AS_s8(x, wide)  as_signed(x, 8, wide)
#define AS_s16(x, wide) as_signed(x, 16, wide)
#define AS_s32(x, wide) as_signed(x, 32, wide)
#define AS_s64(x, wide) as_signed(x, 64, wide)
#define AS_u8(x, wide)  as_unsigned(x, 8, wide)
#define AS_u16(x, wide) as_unsigned(x, 16, wide)
#define AS_u32(x, wide) as_unsigned(x, 32, wide)
#define AS_u64(x, wide) as_unsigned(x, 64, wide)

#define TO_INTEGER(mode, round, name, A, IN, wide, to, T, tl, TL)                                  \
    PTX_LANEWISE(mode##_##to##tl##_##name, TL, ARRAYS_1(A),                                        \
                 const double x = round((double)IN(a[i])), AS_##to(x, wide))
#define TO_INTEGERS(name, A, IN, wide)                                                             \
    PTX_TYPES(TO_INTEGER, rni, rint, name, A, IN, wide)                                            \
    PTX_TYPES(TO_INTEGER, rzi, trunc, name, A, IN, wide)                                           \
    PTX_TYPES(TO_INTEGER, rmi, floor, name, A, IN, wide)                                           \
    PTX_TYPES(TO_INTEGER, rpi, ceil, name, A, IN, wide)
TO_INTEGERS(f16, uint16_t, from_half, false)
TO_INTEGERS(f32, float, KEEP, false)
TO_INTEGERS(ftz_f32, float, FLUSH, false)
TO_INTEGERS(f64, double, KEEP, true)

/* Halves go through double: what that cannot hold is past their largest number anyhow. */
#define FROM_INTEGER(name, from, F, fl, FL)                                                        \
    CONVERSIONS(name##_f32_##from##fl, float, FL, F, KEEP)                                         \
    CONVERSIONS(name##_f64_##from##fl, double, FL, F, KEEP)                                        \
    NARROWINGS(name##_f16_##from##fl, FL, double, (double)(F), KEEP, HALF(x, FE_TONEAREST))
PTX_TYPES(FROM_INTEGER, cvt)

/* ---- The table ------------------------------------------------------------------------------- */

#define MODES(opcode, act, rest, operands)                                                         \
    PTX_RULE(opcode ".rn" rest, act##_rn, operands),                                               \
        PTX_RULE(opcode ".rz" rest, act##_rz, operands),                                           \
        PTX_RULE(opcode ".rm" rest, act##_rm, operands),                                           \
        PTX_RULE(opcode ".rp" rest, act##_rp, operands)
/* Without a rounding mode: to nearest. */
#define NEAREST_TOO(opcode, act, rest, operands)                                                   \
    PTX_RULE(opcode rest, act##_rn, operands), MODES(opcode, act, rest, operands)
#define SUM(opcode, name)                                                                          \
    NEAREST_TOO(opcode, name##_f32, ".f32", "w=ww"),                                               \
        NEAREST_TOO(opcode, name##_ftz_f32, ".ftz.f32", "w=ww"),                                   \
        NEAREST_TOO(opcode, name##_sat_f32, ".sat.f32", "w=ww"),                                   \
        NEAREST_TOO(opcode, name##_ftz_sat_f32, ".ftz.sat.f32", "w=ww"),                           \
        NEAREST_TOO(opcode, name##_f64, ".f64", "d=dd")
#define EXACT(opcode, name, w, d)                                                                  \
    MODES(opcode, name##_f32, ".f32", w), MODES(opcode, name##_ftz_f32, ".ftz.f32", w),            \
        MODES(opcode, name##_f64, ".f64", d)

#define SETP(compare)                                                                              \
    SETP_OF(#compare, "f32", setp_##compare##_f32, "ww"),                                          \
        SETP_OF(#compare, "ftz.f32", setp_##compare##_ftz_f32, "ww"),                              \
        SETP_OF(#compare, "f64", setp_##compare##_f64, "dd")
#define SETP_OF(compare, type, act, two)                                                           \
    PTX_RULE("setp." compare "." type, act, "pP=" two),                                            \
        PTX_RULE("setp." compare ".and." type, act, "pP=" two "p"),                                \
        PTX_RULE("setp." compare ".or." type, act, "pP=" two "p"),                                 \
        PTX_RULE("setp." compare ".xor." type, act, "pP=" two "p")
#define TESTP_RULES(property)                                                                      \
    PTX_RULE("testp." #property ".f32", testp_##property##_f32, "p=w"),                            \
        PTX_RULE("testp." #property ".f64", testp_##property##_f64, "p=d")

/* Operands of types f32 only, with and without .ftz. */
#define FTZ_TOO(opcode, name, operands)                                                            \
    PTX_RULE(opcode ".f32", name##_f32, operands),                                                 \
        PTX_RULE(opcode ".ftz.f32", name##_ftz_f32, operands)

#define INTEGRAL_RULES(mode)                                                                       \
    PTX_RULE("cvt." #mode ".f32.f32", mode##_f32, "w=w"),                                          \
        PTX_RULE("cvt." #mode ".ftz.f32.f32", mode##_ftz_f32, "w=w"),                              \
        PTX_RULE("cvt." #mode ".sat.f32.f32", mode##_sat_f32, "w=w"),                              \
        PTX_RULE("cvt." #mode ".ftz.sat.f32.f32", mode##_ftz_sat_f32, "w=w"),                      \
        PTX_RULE("cvt." #mode ".f64.f64", mode##_f64, "d=d"),                                      \
        PTX_RULE("cvt." #mode ".sat.f64.f64", mode##_sat_f64, "d=d"),                              \
        PTX_RULE("cvt." #mode ".f16.f16", mode##_f16, "h=h")

/* .sat changes nothing: the integer is the nearest as it is. */
#define TO_INTEGER_RULE(mode, to, T, tl, TL)                                                       \
    PTX_RULE("cvt." #mode "." #to ".f16", mode##_##to##tl##_f16, #tl "=h"),                        \
        PTX_RULE("cvt." #mode "." #to ".f32", mode##_##to##tl##_f32, #tl "=w"),                    \
        PTX_RULE("cvt." #mode ".ftz." #to ".f32", mode##_##to##tl##_ftz_f32, #tl "=w"),            \
        PTX_RULE("cvt." #mode ".sat." #to ".f32", mode##_##to##tl##_f32, #tl "=w"),                \
        PTX_RULE("cvt." #mode "." #to ".f64", mode##_##to##tl##_f64, #tl "=d"),
#define FROM_INTEGER_RULE(name, from, F, fl, FL)                                                   \
    MODES("cvt", name##_f16_##from##fl, ".f16." #from, "h=" #fl),                                  \
        MODES("cvt", name##_f32_##from##fl, ".f32." #from, "w=" #fl),                              \
        MODES("cvt", name##_f64_##from##fl, ".f64." #from, "d=" #fl),

const struct ptx_rule ptx_rules_float[] = {
    SUM("add", add),
    SUM("sub", sub),
    SUM("mul", mul),
    EXACT("fma", fma, "w=www", "d=ddd"),
    MODES("fma", fma_sat_f32, ".sat.f32", "w=www"),
    MODES("fma", fma_ftz_sat_f32, ".ftz.sat.f32", "w=www"),
    EXACT("div", div, "w=ww", "d=dd"),
    EXACT("rcp", rcp, "w=w", "d=d"),
    EXACT("sqrt", sqrt, "w=w", "d=d"),

    FTZ_TOO("neg", neg, "w=w"),
    FTZ_TOO("abs", abs, "w=w"),
    FTZ_TOO("min", min, "w=ww"),
    FTZ_TOO("max", max, "w=ww"),
    PTX_RULE("neg.f64", neg_f64, "d=d"),
    PTX_RULE("abs.f64", abs_f64, "d=d"),
    PTX_RULE("min.f64", min_f64, "d=dd"),
    PTX_RULE("max.f64", max_f64, "d=dd"),
    PTX_RULE("min.NaN.f32", min_nan_f32, "w=ww"),
    PTX_RULE("max.NaN.f32", max_nan_f32, "w=ww"),
    PTX_RULE("copysign.f32", copysign_f32, "w=ww"),
    PTX_RULE("copysign.f64", copysign_f64, "d=dd"),

    SETP(eq),
    SETP(ne),
    SETP(lt),
    SETP(le),
    SETP(gt),
    SETP(ge),
    SETP(equ),
    SETP(neu),
    SETP(ltu),
    SETP(leu),
    SETP(gtu),
    SETP(geu),
    SETP(num),
    SETP(nan),
    TESTP_RULES(finite),
    TESTP_RULES(infinite),
    TESTP_RULES(number),
    TESTP_RULES(notanumber),
    TESTP_RULES(normal),
    TESTP_RULES(subnormal),

    PTX_RULE("div.approx.f32", div_f32_rn, "w=ww"),
    PTX_RULE("div.approx.ftz.f32", div_ftz_f32_rn, "w=ww"),
    PTX_RULE("div.full.f32", div_f32_rn, "w=ww"),
    PTX_RULE("div.full.ftz.f32", div_ftz_f32_rn, "w=ww"),
    PTX_RULE("rcp.approx.f32", rcp_f32_rn, "w=w"),
    PTX_RULE("rcp.approx.ftz.f32", rcp_ftz_f32_rn, "w=w"),
    PTX_RULE("rcp.approx.ftz.f64", rcp_upper_f64, "d=d"),
    PTX_RULE("sqrt.approx.f32", sqrt_f32_rn, "w=w"),
    PTX_RULE("sqrt.approx.ftz.f32", sqrt_ftz_f32_rn, "w=w"),
    FTZ_TOO("rsqrt.approx", rsqrt, "w=w"),
    PTX_RULE("rsqrt.approx.f64", rsqrt_f64, "d=d"),
    PTX_RULE("rsqrt.approx.ftz.f64", rsqrt_upper_f64, "d=d"),
    FTZ_TOO("ex2.approx", ex2, "w=w"),
    FTZ_TOO("lg2.approx", lg2, "w=w"),
    FTZ_TOO("sin.approx", sin, "w=w"),
    FTZ_TOO("cos.approx", cos, "w=w"),
    PTX_RULE("tanh.approx.f32", tanh_f32, "w=w"),

    MODES("cvt", half_f32, ".f16.f32", "h=w"),
    MODES("cvt", half_ftz_f32, ".ftz.f16.f32", "h=w"),
    MODES("cvt", half_sat_f32, ".sat.f16.f32", "h=w"),
    MODES("cvt", half_ftz_sat_f32, ".ftz.sat.f16.f32", "h=w"),
    MODES("cvt", half_relu_f32, ".relu.f16.f32", "h=w"),
    MODES("cvt", half_f64, ".f16.f64", "h=d"),
    MODES("cvt", half_sat_f64, ".sat.f16.f64", "h=d"),
    PTX_RULE("cvt.rn.bf16.f32", bf16_f32_rn, "h=w"),
    PTX_RULE("cvt.rz.bf16.f32", bf16_f32_rz, "h=w"),
    PTX_RULE("cvt.rn.relu.bf16.f32", bf16_relu_f32_rn, "h=w"),
    PTX_RULE("cvt.rz.relu.bf16.f32", bf16_relu_f32_rz, "h=w"),
    PTX_RULE("cvt.rn.f16x2.f32", half_2_rn, "w=ww"),
    PTX_RULE("cvt.rz.f16x2.f32", half_2_rz, "w=ww"),
    PTX_RULE("cvt.rn.relu.f16x2.f32", half_2_relu_rn, "w=ww"),
    PTX_RULE("cvt.rz.relu.f16x2.f32", half_2_relu_rz, "w=ww"),
    PTX_RULE("cvt.rn.bf16x2.f32", bf16_2_rn, "w=ww"),
    PTX_RULE("cvt.rz.bf16x2.f32", bf16_2_rz, "w=ww"),
    PTX_RULE("cvt.rn.relu.bf16x2.f32", bf16_2_relu_rn, "w=ww"),
    PTX_RULE("cvt.rz.relu.bf16x2.f32", bf16_2_relu_rz, "w=ww"),
    PTX_RULE("cvt.f32.f16", f32_half, "w=h"),
    PTX_RULE("cvt.ftz.f32.f16", f32_half, "w=h"),
    PTX_RULE("cvt.sat.f32.f16", f32_sat_half, "w=h"),
    PTX_RULE("cvt.ftz.sat.f32.f16", f32_sat_half, "w=h"),
    PTX_RULE("cvt.f64.f16", f64_half, "d=h"),
    PTX_RULE("cvt.sat.f64.f16", f64_sat_half, "d=h"),
    PTX_RULE("cvt.f32.bf16", f32_bf16, "w=h"),

    PTX_RULE("cvt.f64.f32", f64_f32, "d=w"),
    PTX_RULE("cvt.ftz.f64.f32", f64_ftz_f32, "d=w"),
    PTX_RULE("cvt.sat.f64.f32", f64_sat_f32, "d=w"),
    PTX_RULE("cvt.ftz.sat.f64.f32", f64_ftz_sat_f32, "d=w"),
    PTX_RULE("cvt.sat.f32.f32", sat_f32, "w=w"),
    PTX_RULE("cvt.ftz.f32.f32", ftz_f32, "w=w"),
    PTX_RULE("cvt.ftz.sat.f32.f32", ftz_sat_f32, "w=w"),
    PTX_RULE("cvt.sat.f64.f64", sat_f64, "d=d"),
    MODES("cvt", f32_f64, ".f32.f64", "w=d"),
    MODES("cvt", f32_ftz_f64, ".ftz.f32.f64", "w=d"),
    MODES("cvt", f32_sat_f64, ".sat.f32.f64", "w=d"),
    MODES("cvt", f32_ftz_sat_f64, ".ftz.sat.f32.f64", "w=d"),
    INTEGRAL_RULES(rni),
    INTEGRAL_RULES(rzi),
    INTEGRAL_RULES(rmi),
    INTEGRAL_RULES(rpi),
    PTX_TYPES(TO_INTEGER_RULE, rni) PTX_TYPES(TO_INTEGER_RULE, rzi) PTX_TYPES(TO_INTEGER_RULE, rmi)
        PTX_TYPES(TO_INTEGER_RULE, rpi)
            PTX_TYPES(FROM_INTEGER_RULE, cvt){NULL, NULL, NULL, PTX_PLAIN, 0},
};
