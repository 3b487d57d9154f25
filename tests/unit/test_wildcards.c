/*
 * Proves how templates expand, in both modes, and that hostile templates stay within bounds. A
 * small set of lists stands in for the wildcard folder; results are joined with `;`.
 */
#include "runtime/text/wildcards.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static enum ld_code read_list(void *ctx, const char *pattern, struct ld_buffer *out,
                              struct ld_error *err)
{
    static const char *const lists[][2] = {
        {"color", "red\nblue\n\n# nothing\nred\n"}, {"animals/cat", "persian # long hair\n"},
        {"animals/dog", "poodle\n{big|small} dog"}, {"loop", "x __loop__"},
        {"twice", "__twice2__ __twice2__"},         {"twice2", "${none:}__color__"}};
    (void)ctx;
    if (strcmp(pattern, "broken") == 0)
        return LD_FAIL(err, LD_E_IO, "a wildcard list cannot be read");
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if (ld_wildcard_matches(pattern, lists[i][0])) {
            ld_buffer_text(out, lists[i][1]);
            ld_buffer_byte(out, '\n');
        }
    }
    return LD_OK;
}

static const struct ld_wildcard_source source = {NULL, read_list};

static enum ld_code expand(struct ld_wildcard_options options, const char *text, uint32_t count,
                           char *out, size_t out_size, struct ld_notes *notes)
{
    struct ld_arena arena;
    struct ld_wildcard_results results;
    struct ld_error err = {0};
    size_t at = 0;
    ld_arena_init(&arena, "test", 64 << 20);
    options.source = &source;
    if (notes)
        notes->arena = &arena;
    const enum ld_code code =
        ld_wildcards_expand(&arena, ld_span_text(text), &options, count, &results, notes, &err);
    for (uint32_t i = 0; code == LD_OK && out && i < results.count; i++)
        at += (size_t)snprintf(out + at, out_size - at, "%s%s", i ? ";" : "", results.items[i]);
    ld_arena_deinit(&arena);
    return code;
}

static void assert_combinations(enum ld_syntax syntax, const char *text, const char *expected)
{
    char got[2048] = "";
    const struct ld_wildcard_options options = {.mode = LD_WILDCARDS_COMBINATORIAL,
                                                .syntax = syntax};
    assert_int_equal(expand(options, text, 20, got, sizeof got, NULL), LD_OK);
    assert_string_equal(got, expected);
}

static void the_rightmost_choice_varies_fastest(void **state)
{
    (void)state;
    assert_combinations(LD_SYNTAX_A1111, "{a|b}-{c|{d|e}}", "a-c;a-d;a-e;b-c;b-d;b-e");
    assert_combinations(LD_SYNTAX_A1111, "__color__ {x|}", "blue x;blue ;red x;red ");
    assert_combinations(LD_SYNTAX_A1111, "{}[{a}]", "[a]");
}

static void several_options_are_picked_without_repetition(void **state)
{
    (void)state;
    assert_combinations(LD_SYNTAX_A1111, "{2$$ + $$a|b|c}", "a + b;a + c;b + a;b + c;c + a;c + b");
    assert_combinations(LD_SYNTAX_A1111, "{0-1$$a|b}", ";a;b");
    assert_combinations(LD_SYNTAX_A1111, "{2-$$a|b}", "a,b;b,a");
    assert_combinations(LD_SYNTAX_A1111, "{-1$$a|b}", "a;b");
    assert_combinations(LD_SYNTAX_A1111, "{5$$a|b}", "a,b;b,a");
    assert_combinations(LD_SYNTAX_A1111, "{2$$/$$__color__}", "blue/red;red/blue");
}

static void lists_are_trimmed_sorted_and_found_by_globs(void **state)
{
    (void)state;
    assert_combinations(LD_SYNTAX_A1111, "__animals/*__", "persian;poodle;big dog;small dog");
    assert_combinations(LD_SYNTAX_A1111, "__animals/cat__ # comment\n!", "persian \n!");
    assert_combinations(LD_SYNTAX_A1111, "snake_case __ a__b, c__d", "snake_case __ a__b, c__d");
}

static void variables_are_read_anew_at_each_use(void **state)
{
    (void)state;
    assert_combinations(LD_SYNTAX_A1111, "${x={a|b}}${x}${x}", "aa;ab;ba;bb");
    assert_combinations(LD_SYNTAX_A1111, "${x=!{a|b}}${x}${x}", "aa;bb");
    assert_combinations(LD_SYNTAX_A1111, "${y:no {a|b}} ${z} $ ${",
                        "no a ${z} $ ${;no b ${z} $ ${");
}

static void novelai_braces_without_a_choice_stay(void **state)
{
    (void)state;
    assert_combinations(LD_SYNTAX_NOVELAI, "{a} {{b|c}}", "{a} {b};{a} {c}");
    assert_combinations(LD_SYNTAX_A1111, "{a} {{b|c}}", "a b;a c");
}

static void odd_braces_are_text(void **state)
{
    (void)state;
    assert_combinations(LD_SYNTAX_A1111, "a} {b {c|d}", "a} {b c;a} {b d");
}

static void an_unknown_list_stays_as_written_and_is_told(void **state)
{
    char got[256] = "";
    struct ld_notes notes = {.count = 0};
    const struct ld_wildcard_options options = {.mode = LD_WILDCARDS_RANDOM};
    (void)state;
    assert_int_equal(expand(options, "__nope__ __../color__", 1, got, sizeof got, &notes), LD_OK);
    assert_string_equal(got, "__nope__ __../color__");
    assert_int_equal(notes.count, 2);
    assert_combinations(LD_SYNTAX_A1111, "{a|b}", "a;b");
}

static void a_seed_gives_the_same_choices_whatever_the_batch(void **state)
{
    char all[2048] = "";
    char one[256] = "";
    char other[2048] = "";
    struct ld_wildcard_options options = {.mode = LD_WILDCARDS_RANDOM, .seed = 42};
    const char *text = "{a|b|c|d} __color__ {2$$e|f|g}";
    (void)state;
    assert_int_equal(expand(options, text, 16, all, sizeof all, NULL), LD_OK);
    options.first_index = 5;
    assert_int_equal(expand(options, text, 1, one, sizeof one, NULL), LD_OK);
    const char *fifth = all;
    for (int i = 0; i < 5; i++)
        fifth = strchr(fifth, ';') + 1;
    assert_memory_equal(fifth, one, strlen(one));
    options.first_index = 0;
    options.seed = 43;
    assert_int_equal(expand(options, text, 16, other, sizeof other, NULL), LD_OK);
    assert_string_not_equal(all, other);
}

static void weights_steer_random_choices(void **state)
{
    static char got[32768];
    const struct ld_wildcard_options options = {.mode = LD_WILDCARDS_RANDOM, .seed = 1};
    int often = 0;
    (void)state;
    assert_int_equal(expand(options, "{3::a|b|0::c}", 1000, got, sizeof got, NULL), LD_OK);
    for (const char *c = got; *c; c++) {
        often += *c == 'a';
        assert_int_not_equal(*c, 'c');
    }
    assert_in_range(often, 690, 810); /* 750, standard deviation 14 */
}

static void sampler_marks_change_how_one_group_chooses(void **state)
{
    char got[256] = "";
    struct ld_wildcard_options options = {.mode = LD_WILDCARDS_RANDOM, .seed = 3};
    (void)state;
    assert_int_equal(expand(options, "{@a|b|c}", 5, got, sizeof got, NULL), LD_OK);
    assert_string_equal(got, "a;b;c;a;b");
    options.mode = LD_WILDCARDS_COMBINATORIAL;
    assert_int_equal(expand(options, "{~a|b} {c|d}", 9, got, sizeof got, NULL), LD_OK);
    assert_int_equal(strlen(got), 7); /* two results: the random group multiplies nothing */
}

static void hostile_templates_stay_within_bounds(void **state)
{
    const struct ld_wildcard_options options = {.mode = LD_WILDCARDS_RANDOM};
    static char text[70000];
    (void)state;
    assert_int_equal(expand(options, "__loop__", 1, NULL, 0, NULL), LD_E_TOO_LARGE);
    assert_int_equal(expand(options, "${x=${x}}${x}", 1, NULL, 0, NULL), LD_E_TOO_LARGE);
    /* every variable doubles the one before: 2^20 empty texts */
    assert_int_equal(expand(options,
                            "${a=${b}${b}}${b=${c}${c}}${c=${d}${d}}${d=${e}${e}}${e=${f}${f}}"
                            "${f=${g}${g}${g}${g}${g}${g}${g}${g}}${g=${h}${h}${h}${h}${h}${h}}"
                            "${h=${i}${i}${i}${i}${i}${i}${i}${i}${i}${i}${i}${i}${i}${i}${i}}"
                            "${i=${j}${j}${j}${j}${j}${j}${j}${j}${j}${j}${j}${j}${j}${j}${j}}"
                            "${j=${k:}${k:}${k:}${k:}${k:}${k:}${k:}${k:}}${a}",
                            1, NULL, 0, NULL),
                     LD_E_TOO_LARGE);
    memset(text, '{', 60000); /* each looks for its end in vain */
    assert_int_equal(expand(options, text, 1, NULL, 0, NULL), LD_E_TOO_LARGE);
    memset(text, 'x', 66000);
    assert_int_equal(expand(options, text, 1, NULL, 0, NULL), LD_E_TOO_LARGE);
    text[LD_PROMPT_EXPANSION_BYTES_MAX] = '\0';
    assert_int_equal(expand(options, text, 1, NULL, 0, NULL), LD_OK);
    assert_int_equal(expand(options, "__broken__", 1, NULL, 0, NULL), LD_E_IO);
    assert_int_equal(expand(options, "a", LD_WILDCARD_RESULTS_MAX + 1, NULL, 0, NULL),
                     LD_E_TOO_LARGE);
}

static void nesting_is_allowed_to_its_limit(void **state)
{
    const struct ld_wildcard_options options = {.mode = LD_WILDCARDS_RANDOM};
    char text[4 * LD_WILDCARD_DEPTH + 16];
    (void)state;
    for (size_t depth = LD_WILDCARD_DEPTH; depth <= LD_WILDCARD_DEPTH + 1; depth++) {
        memset(text, '{', depth);
        text[depth] = 'x';
        memset(text + depth + 1, '}', depth);
        text[2 * depth + 1] = '\0';
        assert_int_equal(expand(options, text, 1, NULL, 0, NULL),
                         depth == LD_WILDCARD_DEPTH ? LD_OK : LD_E_TOO_LARGE);
    }
}

static void globs_match_any_run_of_characters(void **state)
{
    (void)state;
    assert_true(ld_wildcard_matches("a*c", "abc"));
    assert_true(ld_wildcard_matches("*", "a/b"));
    assert_true(ld_wildcard_matches("a*b*c", "aXbXbc"));
    assert_false(ld_wildcard_matches("a*c", "abd"));
    assert_false(ld_wildcard_matches("ab", "abc"));
    assert_true(ld_wildcard_matches("ab**", "ab"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rightmost_choice_varies_fastest),
        cmocka_unit_test(several_options_are_picked_without_repetition),
        cmocka_unit_test(lists_are_trimmed_sorted_and_found_by_globs),
        cmocka_unit_test(variables_are_read_anew_at_each_use),
        cmocka_unit_test(novelai_braces_without_a_choice_stay),
        cmocka_unit_test(odd_braces_are_text),
        cmocka_unit_test(an_unknown_list_stays_as_written_and_is_told),
        cmocka_unit_test(a_seed_gives_the_same_choices_whatever_the_batch),
        cmocka_unit_test(weights_steer_random_choices),
        cmocka_unit_test(sampler_marks_change_how_one_group_chooses),
        cmocka_unit_test(hostile_templates_stay_within_bounds),
        cmocka_unit_test(nesting_is_allowed_to_its_limit),
        cmocka_unit_test(globs_match_any_run_of_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
