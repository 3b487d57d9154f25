/*
 * Proves that numbers and UTF-8 from outside are taken exactly or refused. Works on hand-picked
 * edges and a walk over every code point.
 */
#include "runtime/base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void integers_are_exact_or_refused(void **state)
{
    (void)state;
    int64_t i;
    uint64_t u;
    assert_true(ld_parse_i64(ld_span_text("-9223372036854775808"), &i) && i == INT64_MIN);
    assert_true(ld_parse_i64(ld_span_text("9223372036854775807"), &i) && i == INT64_MAX);
    assert_false(ld_parse_i64(ld_span_text("9223372036854775808"), &i));
    assert_true(ld_parse_u64(ld_span_text("18446744073709551615"), &u) && u == UINT64_MAX);
    assert_false(ld_parse_u64(ld_span_text("18446744073709551616"), &u));
    static const char *const bad[] = {"", "-", "+1", " 1", "1 ", "0x1", "1.0", "--1"};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++)
        assert_false(ld_parse_i64(ld_span_text(bad[k]), &i));
}

static void decimals_are_exact_or_refused(void **state)
{
    (void)state;
    double d;
    assert_true(ld_parse_double(ld_span_text("-0.5e-3"), &d) && d == -0.0005);
    assert_true(ld_parse_double(ld_span_text(".5"), &d) && d == 0.5);
    assert_true(ld_parse_double(ld_span_text("1."), &d) && d == 1.0);
    static const char *const bad[] = {"", ".", "inf", "nan", "1e999", "0x1p3", "1e", " 1", "1,5"};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++)
        assert_false(ld_parse_double(ld_span_text(bad[k]), &d));
}

static void hexadecimal_digits_are_those_sixteen(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        const char *digits = "0123456789abcdef";
        const int lower = c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c;
        const char *place = c ? strchr(digits, lower) : NULL;
        assert_int_equal(ld_hex_digit(c), place ? (int)(place - digits) : -1);
    }
}

static void blanks_go_from_both_ends_only(void **state)
{
    (void)state;
    assert_true(ld_span_is(ld_span_trimmed(ld_span_text(" \t a b\t")), "a b"));
    assert_true(ld_span_is(ld_span_trimmed(ld_span_text("a\n ")), "a\n"));
    assert_int_equal(ld_span_trimmed(ld_span_text(" \t ")).size, 0);
    assert_int_equal(ld_span_trimmed(ld_span_of(NULL, 0)).size, 0);
}

static void utf8_round_trips_for_every_code_point(void **state)
{
    (void)state;
    uint8_t bytes[4];
    for (uint32_t c = 0; c <= 0x110000; c++) {
        const size_t size = ld_utf8_put(c, bytes);
        const bool legal = c <= 0x10FFFF && !(c >= 0xD800 && c <= 0xDFFF);
        assert_true((size > 0) == legal);
        if (!legal)
            continue;
        size_t pos = 0;
        assert_int_equal(ld_utf8_next(bytes, size, &pos), c);
        assert_int_equal(pos, size);
        assert_true(ld_utf8_valid(ld_span_of(bytes, size)));
    }
    static const char *const bad[] = {"\x80", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                                      "\xE2\x82", "\xFF"};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++)
        assert_false(ld_utf8_valid(ld_span_text(bad[k])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_exact_or_refused),
        cmocka_unit_test(decimals_are_exact_or_refused),
        cmocka_unit_test(hexadecimal_digits_are_those_sixteen),
        cmocka_unit_test(blanks_go_from_both_ends_only),
        cmocka_unit_test(utf8_round_trips_for_every_code_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
