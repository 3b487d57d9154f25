/*
 * Proves that times are written as RFC 3339 and that the seam replaces both sources. Compares with
 * dates worked out by hand around leap days and the ends of the range.
 */
#include "runtime/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void dates_are_right_around_leap_days(void **state)
{
    (void)state;
    static const struct {
        int64_t seconds;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000000Z"},          {951782399, "2000-02-28T23:59:59.000000Z"},
        {951782400, "2000-02-29T00:00:00.000000Z"},  {951868800, "2000-03-01T00:00:00.000000Z"},
        {1709164800, "2024-02-29T00:00:00.000000Z"}, {1735689599, "2024-12-31T23:59:59.000000Z"},
        {4107542400, "2100-03-01T00:00:00.000000Z"}, {253402300799, "9999-12-31T23:59:59.000000Z"},
    };
    char text[LD_CLOCK_TEXT_SIZE];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ld_clock_format(cases[i].seconds * 1000000, text);
        assert_string_equal(text, cases[i].text);
    }
    ld_clock_format(1123456, text);
    assert_string_equal(text, "1970-01-01T00:00:01.123456Z");
    ld_clock_format(-5, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000000Z");
    ld_clock_format(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999999Z");
}

static int64_t fixed_monotonic(void)
{
    return 42;
}

static int64_t fixed_wall(void)
{
    return 43;
}

static void the_seam_replaces_both_sources(void **state)
{
    (void)state;
    ld_clock_override(fixed_monotonic, fixed_wall);
    assert_int_equal(ld_clock_monotonic_us(), 42);
    assert_int_equal(ld_clock_wall_us(), 43);
    ld_clock_override(NULL, NULL);
    const int64_t before = ld_clock_monotonic_us();
    ld_clock_sleep_us(2000);
    assert_true(ld_clock_monotonic_us() - before >= 2000);
    assert_true(ld_clock_wall_us() > 1600000000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dates_are_right_around_leap_days),
        cmocka_unit_test(the_seam_replaces_both_sources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
