/*
 * Proves that pointers reach the right value and nothing else. Works on one document with nesting,
 * escapes and equal keys.
 */
#include "runtime/base/json_find.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const char document[] = "{\"a\":{\"b\":[10,{\"c\\u0064\":\"x\\ny\"},-2.5]},\"a\":1,\"n\":"
                               "null,\"big\":18446744073709551615}";

static void pointers_reach_their_value(void **state)
{
    (void)state;
    const struct ld_span text = ld_span_text(document);
    char string[8];
    uint64_t number;
    double real;
    struct ld_span span;
    struct ld_json_token token;
    assert_true(ld_json_find_u64(text, "/a/b/0", &number) && number == 10);
    assert_true(ld_json_find_string(text, "/a/b/1/cd", string, sizeof string));
    assert_string_equal(string, "x\ny");
    assert_true(ld_json_find_double(text, "/a/b/2", &real) && real == -2.5);
    assert_true(ld_json_find_u64(text, "/big", &number) && number == UINT64_MAX);
    assert_true(ld_json_find_span(text, "/a/b/1", &span));
    assert_true(ld_span_is(span, "{\"c\\u0064\":\"x\\ny\"}"));
    assert_true(ld_json_find(text, "/n", &token) && token.kind == LD_JSON_NULL);
}

static void what_is_not_there_is_not_found(void **state)
{
    (void)state;
    const struct ld_span text = ld_span_text(document);
    struct ld_json_token token;
    char string[3];
    static const char *const absent[] = {"/b", "/a/b/3", "/a/b/x", "/a/b/0/0", "/n/a", "a"};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        assert_false(ld_json_find(text, absent[i], &token));
    assert_false(ld_json_find_string(text, "/a/b/1/cd", string, sizeof string));
    assert_false(ld_json_find(ld_span_text("{\"a\":"), "/a", &token));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pointers_reach_their_value),
        cmocka_unit_test(what_is_not_there_is_not_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
