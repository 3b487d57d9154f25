/*
 * Proves that a slip finds the name that was meant and that strangers find none. Works on hand-made
 * pairs.
 */
#include "config/nearest.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void distances_are_those_of_the_definition(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        uint32_t distance;
    } cases[] = {{"", "", 0},           {"a", "", 1},       {"kitten", "sitting", 3},
                 {"steps", "stpes", 1}, {"ab", "ba", 1},    {"cfg-scale", "CFG_Scale", 0},
                 {"ca", "abc", 3},      {"flaw", "lawn", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct ld_span a = ld_span_text(cases[i].a);
        const struct ld_span b = ld_span_text(cases[i].b);
        assert_int_equal(ld_edit_distance(a, b), cases[i].distance);
        assert_int_equal(ld_edit_distance(b, a), cases[i].distance);
    }
}

static void long_names_are_near_to_nothing(void **state)
{
    (void)state;
    char text[LD_NEAREST_BYTES_MAX + 2];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    assert_int_equal(ld_edit_distance(ld_span_text(text), ld_span_text("a")), UINT32_MAX);
    struct ld_nearest nearest = ld_nearest_to(ld_span_text(text));
    ld_nearest_offer(&nearest, "a");
    assert_null(nearest.best);
}

static void the_nearest_wins_and_strangers_lose(void **state)
{
    (void)state;
    struct ld_nearest nearest = ld_nearest_to(ld_span_text("sampelr"));
    ld_nearest_offer(&nearest, "steps");
    ld_nearest_offer(&nearest, "sampler");
    ld_nearest_offer(&nearest, "scheduler");
    assert_string_equal(nearest.best, "sampler");
    nearest = ld_nearest_to(ld_span_text("banana"));
    ld_nearest_offer(&nearest, "sampler");
    ld_nearest_offer(&nearest, "b");
    assert_null(nearest.best);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distances_are_those_of_the_definition),
        cmocka_unit_test(long_names_are_near_to_nothing),
        cmocka_unit_test(the_nearest_wins_and_strangers_lose),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
