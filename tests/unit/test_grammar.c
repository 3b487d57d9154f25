/*
 * Proves how the four grammars read weights, and that their bounds hold. Each claim is a text and
 * the segments written as "text|weight"; depth and size are tried at, below and above the limits.
 */
#include "runtime/text/grammar.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct expected {
    const char *text;
    double weight;
};

static void assert_segments(enum ld_syntax syntax, const char *text,
                            const struct expected *expected, uint32_t count)
{
    struct ld_arena arena;
    struct ld_segments got;
    struct ld_error err = {0};
    ld_arena_init(&arena, "test", 1 << 20);
    assert_int_equal(ld_grammar_parse(&arena, syntax, ld_span_text(text), &got, &err), LD_OK);
    assert_int_equal(got.count, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_string_equal(got.items[i].text, expected[i].text);
        assert_true(fabs(got.items[i].weight - expected[i].weight) <=
                    1e-12 * fabs(expected[i].weight));
    }
    ld_arena_deinit(&arena);
}

#define ASSERT_SEGMENTS(syntax, text, ...)                                                         \
    do {                                                                                           \
        const struct expected expected[] = {__VA_ARGS__};                                          \
        assert_segments(syntax, text, expected, sizeof expected / sizeof expected[0]);             \
    } while (0)

static enum ld_code parse_code(enum ld_syntax syntax, const char *text)
{
    struct ld_arena arena;
    struct ld_segments got;
    struct ld_error err = {0};
    ld_arena_init(&arena, "test", 8 << 20);
    const enum ld_code code = ld_grammar_parse(&arena, syntax, ld_span_text(text), &got, &err);
    ld_arena_deinit(&arena);
    return code;
}

static void a1111_brackets_multiply(void **state)
{
    (void)state;
    ASSERT_SEGMENTS(LD_SYNTAX_A1111, "a (b:1.2) c", {"a ", 1}, {"b", 1.2}, {" c", 1});
    ASSERT_SEGMENTS(LD_SYNTAX_A1111, "((a)) [[b]]", {"a", 1.21}, {" ", 1}, {"b", 1 / 1.21});
    ASSERT_SEGMENTS(LD_SYNTAX_A1111, "(a [b)c]", {"a ", 1.1}, {"b", 1.0}, {"c", 1 / 1.1});
    ASSERT_SEGMENTS(LD_SYNTAX_A1111, "(x (y:2):3)", {"x ", 3}, {"y", 6});
}

static void a1111_odd_brackets_are_text_or_last_to_the_end(void **state)
{
    (void)state;
    ASSERT_SEGMENTS(LD_SYNTAX_A1111, "a) b] c:2)", {"a) b] c:2)", 1});
    ASSERT_SEGMENTS(LD_SYNTAX_A1111, "(a [b", {"a ", 1.1}, {"b", 1.0});
    ASSERT_SEGMENTS(LD_SYNTAX_A1111, "\\(a\\) \\\\ \\x", {"(a) \\ x", 1});
    ASSERT_SEGMENTS(LD_SYNTAX_A1111, "()", {"", 1});
    ASSERT_SEGMENTS(LD_SYNTAX_A1111, "(a:1.2.3)", {"a:1.2.3", 1.1}); /* no number */
    ASSERT_SEGMENTS(LD_SYNTAX_A1111, "(a: -.5 )", {"a", -0.5});
}

static void a1111_break_stands_alone_and_is_counted_inside_brackets(void **state)
{
    struct ld_arena arena;
    struct ld_segments got;
    struct ld_error err = {0};
    (void)state;
    ASSERT_SEGMENTS(LD_SYNTAX_A1111, "a BREAK b", {"a", 1}, {"BREAK", -1}, {"b", 1});
    ASSERT_SEGMENTS(LD_SYNTAX_A1111, "aBREAK BREAKb _BREAK", {"aBREAK BREAKb _BREAK", 1});
    ld_arena_init(&arena, "test", 1 << 20);
    assert_int_equal(ld_grammar_a1111(&arena, ld_span_text("(a BREAK b:0.5) BREAK"), &got, &err),
                     LD_OK);
    assert_int_equal(got.weighted_breaks, 1);
    assert_true(got.items[1].weight == -0.5);
    ld_arena_deinit(&arena);
}

static void comfy_weights_are_absolute_and_only_round_brackets_count(void **state)
{
    (void)state;
    ASSERT_SEGMENTS(LD_SYNTAX_COMFY, "a (b:1.2) [c]", {"a ", 1}, {"b", 1.2}, {" [c]", 1});
    ASSERT_SEGMENTS(LD_SYNTAX_COMFY, "((a:1.2):3)", {"a", 1.2});
    ASSERT_SEGMENTS(LD_SYNTAX_COMFY, "(a (b):2)", {"a ", 2}, {"b", 2.2});
    ASSERT_SEGMENTS(LD_SYNTAX_COMFY, "(a:1e1)(b:x)", {"a", 10}, {"b:x", 1.1});
    ASSERT_SEGMENTS(LD_SYNTAX_COMFY, ")(a) (b)", {")(a) (b)", 1}); /* the level went below zero */
    ASSERT_SEGMENTS(LD_SYNTAX_COMFY, "\\(a\\) (b\\):2)", {"(a) ", 1}, {"b)", 2});
    ASSERT_SEGMENTS(LD_SYNTAX_COMFY, "(a:inf)(b:1_0)", {"a:inf", 1.1}, {"b:1_0", 1.1});
}

static void comfy_may_give_nothing(void **state)
{
    struct ld_arena arena;
    struct ld_segments got;
    struct ld_error err = {0};
    (void)state;
    ld_arena_init(&arena, "test", 1 << 20);
    assert_int_equal(ld_grammar_comfy(&arena, ld_span_text("(())"), &got, &err), LD_OK);
    assert_int_equal(got.count, 0);
    ld_arena_deinit(&arena);
}

static void novelai_braces_and_numeric_runs_multiply(void **state)
{
    (void)state;
    ASSERT_SEGMENTS(LD_SYNTAX_NOVELAI, "{a} [b] (c:2)", {"a", 1.05}, {" ", 1}, {"b", 1 / 1.05},
                    {" (c:2)", 1});
    ASSERT_SEGMENTS(LD_SYNTAX_NOVELAI, "1.2::a 0.8::b::c", {"a ", 1.2}, {"b", 0.8}, {"c", 1});
    ASSERT_SEGMENTS(LD_SYNTAX_NOVELAI, "{-.5::a}b::", {"a", -0.525}, {"b", -0.5});
    ASSERT_SEGMENTS(LD_SYNTAX_NOVELAI, "{[a}]b", {"ab", 1}); /* closers find their own kind */
    ASSERT_SEGMENTS(LD_SYNTAX_NOVELAI, "a:: b\\: \\{c\\}", {"a:: b: {c}", 1});
    ASSERT_SEGMENTS(LD_SYNTAX_NOVELAI, "1.2.3::a", {"1.", 1}, {"a", 2.3});
}

static void plain_takes_every_character_as_text(void **state)
{
    (void)state;
    ASSERT_SEGMENTS(LD_SYNTAX_PLAIN, "(a:2) {b} BREAK \\", {"(a:2) {b} BREAK \\", 1});
}

/* `count` openers, "x", and as many closers. */
static void nest(char *out, char opener, char closer, size_t count)
{
    memset(out, opener, count);
    out[count] = 'x';
    memset(out + count + 1, closer, count);
    out[2 * count + 1] = '\0';
}

static void nesting_is_bounded_in_every_grammar(void **state)
{
    static const struct {
        enum ld_syntax syntax;
        char opener, closer;
    } rows[] = {{LD_SYNTAX_A1111, '(', ')'},
                {LD_SYNTAX_A1111, '[', ']'},
                {LD_SYNTAX_COMFY, '(', ')'},
                {LD_SYNTAX_NOVELAI, '{', '}'},
                {LD_SYNTAX_NOVELAI, '[', ']'}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[2 * LD_PROMPT_NESTING_MAX + 8];
        nest(text, rows[i].opener, rows[i].closer, LD_PROMPT_NESTING_MAX);
        assert_int_equal(parse_code(rows[i].syntax, text), LD_OK);
        nest(text, rows[i].opener, rows[i].closer, LD_PROMPT_NESTING_MAX + 1);
        assert_int_equal(parse_code(rows[i].syntax, text), LD_E_TOO_LARGE);
    }
}

static void weights_that_are_not_finite_are_errors(void **state)
{
    char text[420];
    (void)state;
    memset(text, '9', sizeof text);
    memcpy(text, "(a:", 3);
    memcpy(text + sizeof text - 2, ")", 2);
    assert_int_equal(parse_code(LD_SYNTAX_A1111, text), LD_E_RANGE);
    memcpy(text + sizeof text - 3, "::", 3);
    assert_int_equal(parse_code(LD_SYNTAX_NOVELAI, text + 3), LD_E_RANGE);
    assert_int_equal(parse_code(LD_SYNTAX_COMFY, "((a):1.7e308)"), LD_E_RANGE);
}

static void a_long_prompt_costs_linear_time(void **state)
{
    enum { SIZE = 1 << 20 };
    static const char *const patterns[] = {"(a:1.1)", ":1.1", "[b]",  "BREAK ",
                                           "1::",     "\\(",  "((a)", ") ("};
    char *text = ld_heap_alloc(SIZE + 16);
    (void)state;
    for (size_t p = 0; p < sizeof patterns / sizeof patterns[0]; p++) {
        const size_t size = strlen(patterns[p]);
        for (size_t i = 0; i + size < SIZE / 16; i += size)
            memcpy(text + i, patterns[p], size + 1);
        for (int syntax = 0; syntax <= LD_SYNTAX_PLAIN; syntax++) {
            const enum ld_code code = parse_code((enum ld_syntax)syntax, text);
            assert_true(code == LD_OK || code == LD_E_TOO_LARGE);
        }
    }
    ld_heap_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a1111_brackets_multiply),
        cmocka_unit_test(a1111_odd_brackets_are_text_or_last_to_the_end),
        cmocka_unit_test(a1111_break_stands_alone_and_is_counted_inside_brackets),
        cmocka_unit_test(comfy_weights_are_absolute_and_only_round_brackets_count),
        cmocka_unit_test(comfy_may_give_nothing),
        cmocka_unit_test(novelai_braces_and_numeric_runs_multiply),
        cmocka_unit_test(plain_takes_every_character_as_text),
        cmocka_unit_test(nesting_is_bounded_in_every_grammar),
        cmocka_unit_test(weights_that_are_not_finite_are_errors),
        cmocka_unit_test(a_long_prompt_costs_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
