/*
 * Proves that element types decode exactly and encode to the nearest value. Every code of the
 * 8- and 16-bit types is compared with the formula of its format, vectors with single values.
 */
#include "kernels/tensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct format {
    enum ld_dtype dtype;
    int exponent_bits, mantissa_bits, bias;
    bool has_infinity; /* else only the code with all ones is NaN */
};

static const struct format formats[] = {
    {LD_DTYPE_F16, 5, 10, 15, true},
    {LD_DTYPE_BF16, 8, 7, 127, true},
    {LD_DTYPE_F8_E5M2, 5, 2, 15, true},
    {LD_DTYPE_F8_E4M3, 4, 3, 7, false},
};
enum { FORMAT_COUNT = sizeof formats / sizeof formats[0] };

static uint32_t code_count(const struct format *format)
{
    return 2u << (format->exponent_bits + format->mantissa_bits);
}

/* The textbook value of a code; independent of the code under test. */
static double value_of(const struct format *format, uint32_t code)
{
    const int m = format->mantissa_bits;
    const uint32_t fraction = code & ((1u << m) - 1);
    const uint32_t exponent = (code >> m) & ((1u << format->exponent_bits) - 1);
    const uint32_t top = (1u << format->exponent_bits) - 1;
    const double sign = code >> (m + format->exponent_bits) ? -1 : 1;
    if (exponent == top && format->has_infinity)
        return fraction ? (double)NAN : sign * (double)INFINITY;
    if (exponent == top && fraction == (1u << m) - 1)
        return (double)NAN;
    if (exponent == 0)
        return sign * ldexp(fraction, 1 - format->bias - m);
    return sign * ldexp(fraction + (double)(1u << m), (int)exponent - format->bias - m);
}

static float decode(const struct format *format, uint32_t code)
{
    float value;
    const uint16_t wide = (uint16_t)code;
    const uint8_t narrow = (uint8_t)code;
    ld_dtype_to_f32(&value, ld_dtype_size(format->dtype) == 2 ? (const void *)&wide : &narrow,
                    format->dtype, 1);
    return value;
}

static uint32_t encode(const struct format *format, float value)
{
    uint16_t wide = 0;
    uint8_t narrow = 0;
    const bool two = ld_dtype_size(format->dtype) == 2;
    ld_dtype_from_f32(two ? (void *)&wide : &narrow, &value, format->dtype, 1);
    return two ? wide : narrow;
}

static void every_code_decodes_to_its_value(void **state)
{
    (void)state;
    for (int f = 0; f < FORMAT_COUNT; f++) {
        for (uint32_t code = 0; code < code_count(&formats[f]); code++) {
            const double expected = value_of(&formats[f], code);
            const float value = decode(&formats[f], code);
            if (isnan(expected)) {
                assert_true(isnan(value));
                continue;
            }
            assert_true((double)value == expected);
            assert_int_equal(signbit(value) != 0, signbit(expected) != 0);
            assert_int_equal(encode(&formats[f], value), code);
        }
    }
}

static void encoding_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (int f = 0; f < FORMAT_COUNT; f++) {
        const uint32_t positive = code_count(&formats[f]) / 2;
        for (uint32_t code = 0; code + 1 < positive; code++) {
            const double low = value_of(&formats[f], code);
            const double high = value_of(&formats[f], code + 1);
            if (!isfinite(high) || high - low < 0x1p-140) /* the middle must exist in float32 */
                continue;
            const float middle = (float)(low + (high - low) / 2);
            assert_int_equal(encode(&formats[f], middle), code + (code & 1));
            assert_int_equal(encode(&formats[f], nextafterf(middle, 0)), code);
            assert_int_equal(encode(&formats[f], nextafterf(middle, INFINITY)), code + 1);
            assert_int_equal(encode(&formats[f], -middle), positive + code + (code & 1));
        }
    }
}

static void encoding_beyond_the_range_ends_at_infinity_or_saturates(void **state)
{
    (void)state;
    assert_int_equal(ld_f16_from_f32(65519.99f), 0x7BFF);
    assert_int_equal(ld_f16_from_f32(65520.0f), 0x7C00);
    assert_int_equal(ld_f16_from_f32(-INFINITY), 0xFC00);
    assert_int_equal(ld_bf16_from_f32(0x1.fffffep127f), 0x7F80);
    assert_int_equal(encode(&formats[2], 1e9f), 0x7C);
    assert_int_equal(encode(&formats[3], 1e9f), 0x7E);
    assert_int_equal(encode(&formats[3], -INFINITY), 0xFE);
    for (int f = 0; f < FORMAT_COUNT; f++)
        assert_true(isnan(decode(&formats[f], encode(&formats[f], NAN))));
}

/* The vector forms must agree with single values bit for bit, at odd addresses and any length. */
static void vectors_equal_single_values(void **state)
{
    (void)state;
    enum { LENGTH = 77 };
    static uint8_t raw[2 * LENGTH + 1];
    static uint8_t back[2 * LENGTH + 1];
    float values[LENGTH];
    for (int f = 0; f < FORMAT_COUNT; f++) {
        const enum ld_dtype dtype = formats[f].dtype;
        const size_t size = ld_dtype_size(dtype);
        for (uint32_t start = 0; start < code_count(&formats[f]); start += 61) {
            const size_t count = start % LENGTH;
            for (size_t i = 0; i < count; i++) {
                const uint16_t code = (uint16_t)(start + i);
                memcpy(raw + 1 + i * size, &code, size);
            }
            ld_dtype_to_f32(values, raw + 1, dtype, count);
            ld_dtype_from_f32(back + 1, values, dtype, count);
            for (size_t i = 0; i < count; i++) {
                const float single = decode(&formats[f], (uint16_t)(start + i));
                assert_memory_equal(&values[i], &single, sizeof single);
                uint16_t code = 0;
                memcpy(&code, back + 1 + i * size, size);
                assert_int_equal(code, encode(&formats[f], single));
            }
        }
    }
}

static void wide_types_convert_by_value(void **state)
{
    (void)state;
    const double doubles[] = {1.0 + 0x1p-24, 1.0 + 0x1p-23 + 0x1p-24, 1e300, -0.0};
    float out[4];
    ld_dtype_to_f32(out, doubles, LD_DTYPE_F64, 4);
    assert_true(out[0] == 1.0f); /* ties go to even */
    assert_true(out[1] == 1.0f + 0x1p-22f);
    assert_true(isinf(out[2]) && signbit(out[3]));
    const int64_t integers[] = {-3, 77, INT64_MIN, (1 << 24) + 1};
    ld_dtype_to_f32(out, integers, LD_DTYPE_I64, 4);
    assert_true(out[0] == -3 && out[1] == 77 && out[2] == -0x1p63f && out[3] == 0x1p24f);
    const uint8_t flags[] = {0, 1, 255, 7};
    ld_dtype_to_f32(out, flags, LD_DTYPE_BOOL, 4);
    assert_true(out[0] == 0 && out[1] == 1 && out[2] == 1 && out[3] == 1);
    ld_dtype_to_f32(out, flags, LD_DTYPE_I8, 4);
    assert_true(out[2] == -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_decodes_to_its_value),
        cmocka_unit_test(encoding_rounds_to_nearest_even),
        cmocka_unit_test(encoding_beyond_the_range_ends_at_infinity_or_saturates),
        cmocka_unit_test(vectors_equal_single_values),
        cmocka_unit_test(wide_types_convert_by_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
