/*
 * Proves that the tokenizer takes exactly RFC 8259 within its limits and returns the right tokens.
 * Works on hand-written documents, one for each rule of the grammar.
 */
#include "runtime/base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static enum ld_code scan(struct ld_span text, uint32_t depth, uint64_t values, struct ld_error *err)
{
    struct ld_json json;
    struct ld_json_token token;
    ld_json_init(&json, text, depth, values);
    enum ld_code code;
    do {
        code = ld_json_next(&json, &token, err);
    } while (code == LD_OK && token.kind != LD_JSON_END);
    return code;
}

static void legal_documents_are_taken(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{}",
        " [ ] ",
        "null",
        "-0",
        "0.5e-3",
        "1E+9",
        "\"\"",
        "[1,[2,{\"a\":[]}],true,false]",
        "\t{\"a\" : 1 ,\r\n\"b\":\"\\u00e9\\ud83d\\ude00\\/\\b\\f\\n\\r\\t\\\\\\\"\"}",
        "\"\x7f\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
        "{\"\":{\"\":[]},\"\":0}",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(scan(ld_span_text(good[i]), 8, 100, NULL), LD_OK);
}

static void malformed_documents_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "[",
        "]",
        "}",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":1 \"b\":2}",
        "[}",
        "{]",
        "1 2",
        "{} x",
        "nul",
        "True",
        "+1",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "\"",
        "\"\\",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800\\ud800\"",
        "\"\n\"",
        "\"\x01\"",
        "\"\x80\"",
        "\"\xc0\x80\"",
        "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\"\xe2\x82\"",
        "\xef\xbb\xbf{}",
        "{\"a\":1}/**/",
        "'a'",
        "[1]]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(scan(ld_span_text(bad[i]), 8, 100, NULL), LD_E_FORMAT);
    assert_int_equal(scan(ld_span_of("[1\0]", 4), 8, 100, NULL), LD_E_FORMAT);
}

/* Every proper prefix of a document whose end is a bracket is malformed. */
static void every_cut_is_noticed(void **state)
{
    (void)state;
    static const char text[] =
        "{\"k\\n\":[1.5e3,\"\\ud83d\\ude00\",true,null,{\"\xe2\x82\xac\":[]}]}";
    for (size_t size = 0; size < sizeof text - 1; size++)
        assert_int_equal(scan(ld_span_of(text, size), 8, 100, NULL), LD_E_FORMAT);
    assert_int_equal(scan(ld_span_text(text), 8, 100, NULL), LD_OK);
}

static void depth_and_count_are_bounded(void **state)
{
    (void)state;
    assert_int_equal(scan(ld_span_text("[[[]]]"), 3, 100, NULL), LD_OK);
    assert_int_equal(scan(ld_span_text("[[[[]]]]"), 3, 100, NULL), LD_E_TOO_LARGE);
    assert_int_equal(scan(ld_span_text("{\"a\":1,\"b\":2}"), 3, 5, NULL), LD_OK);
    assert_int_equal(scan(ld_span_text("{\"a\":1,\"b\":2}"), 3, 4, NULL), LD_E_TOO_LARGE);
    char deep[LD_JSON_DEPTH_MAX * 2];
    memset(deep, '[', LD_JSON_DEPTH_MAX);
    memset(deep + LD_JSON_DEPTH_MAX, ']', LD_JSON_DEPTH_MAX);
    assert_int_equal(scan(ld_span_of(deep, sizeof deep), LD_JSON_DEPTH_MAX, 1000, NULL), LD_OK);
}

static void tokens_come_in_order_with_depth(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":[-1,2.5],\"b\":\"x\"}";
    static const struct {
        enum ld_json_kind kind;
        uint32_t depth;
        const char *text;
    } expected[] = {
        {LD_JSON_OBJECT_BEGIN, 0, ""}, {LD_JSON_KEY, 1, "a"},    {LD_JSON_ARRAY_BEGIN, 1, ""},
        {LD_JSON_INTEGER, 2, "-1"},    {LD_JSON_REAL, 2, "2.5"}, {LD_JSON_ARRAY_END, 1, ""},
        {LD_JSON_KEY, 1, "b"},         {LD_JSON_STRING, 1, "x"}, {LD_JSON_OBJECT_END, 0, ""},
        {LD_JSON_END, 0, ""},          {LD_JSON_END, 0, ""},
    };
    struct ld_json json;
    struct ld_json_token token;
    ld_json_init(&json, ld_span_text(text), 8, 100);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        assert_int_equal(ld_json_next(&json, &token, NULL), LD_OK);
        assert_int_equal(token.kind, expected[i].kind);
        assert_int_equal(token.depth, expected[i].depth);
        assert_true(ld_span_is(token.text, expected[i].text));
    }
}

static void skipping_ends_behind_the_value(void **state)
{
    (void)state;
    struct ld_json json;
    struct ld_json_token token;
    ld_json_init(&json, ld_span_text("[[1,{\"a\":[2]}],7]"), 8, 100);
    assert_int_equal(ld_json_next(&json, &token, NULL), LD_OK);
    assert_int_equal(ld_json_next(&json, &token, NULL), LD_OK);
    assert_int_equal(ld_json_skip(&json, &token, NULL), LD_OK);
    assert_int_equal(ld_json_next(&json, &token, NULL), LD_OK);
    assert_true(token.kind == LD_JSON_INTEGER && ld_span_is(token.text, "7"));
    assert_int_equal(ld_json_skip(&json, &token, NULL), LD_OK);
    assert_int_equal(ld_json_next(&json, &token, NULL), LD_OK);
    assert_int_equal(token.kind, LD_JSON_ARRAY_END);
}

static void escapes_resolve_to_utf8(void **state)
{
    (void)state;
    struct ld_json json;
    struct ld_json_token token;
    ld_json_init(&json, ld_span_text("\"a\\u00e9\\ud83d\\ude00\\n\\/\\u0000\""), 8, 100);
    assert_int_equal(ld_json_next(&json, &token, NULL), LD_OK);
    assert_true(token.escaped);
    char out[16];
    size_t size;
    assert_true(ld_json_unescape(&token, out, 10, &size));
    assert_int_equal(size, 10);
    assert_memory_equal(out, "a\xc3\xa9\xf0\x9f\x98\x80\n/\0", 10);
    for (size_t capacity = 0; capacity < 10; capacity++)
        assert_false(ld_json_unescape(&token, out, capacity, &size));
    ld_json_init(&json, ld_span_text("\"\\u0061b\""), 8, 100);
    assert_int_equal(ld_json_next(&json, &token, NULL), LD_OK);
    assert_true(ld_json_is(&token, "ab"));
    assert_false(ld_json_is(&token, "abc"));
    assert_false(ld_json_is(&token, "a"));
}

static void errors_name_line_and_column(void **state)
{
    (void)state;
    struct ld_error err = {0};
    assert_int_equal(scan(ld_span_text("{\n \"\xc3\xa9\": x}"), 8, 100, &err), LD_E_FORMAT);
    assert_string_equal(err.detail, "line 2, column 7: expected a value");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(legal_documents_are_taken),
        cmocka_unit_test(malformed_documents_are_refused),
        cmocka_unit_test(every_cut_is_noticed),
        cmocka_unit_test(depth_and_count_are_bounded),
        cmocka_unit_test(tokens_come_in_order_with_depth),
        cmocka_unit_test(skipping_ends_behind_the_value),
        cmocka_unit_test(escapes_resolve_to_utf8),
        cmocka_unit_test(errors_name_line_and_column),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
