/*
 * Proves how prompt editing and alternation become texts with last steps, where the grammar falls
 * back to the text as written, and that expansion is bounded. Lists are written as "step=text|...".
 */
#include "runtime/text/schedule.h"

#include "runtime/base/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void assert_schedule(const char *text, struct ld_prompt_schedule_options options,
                            const char *expected)
{
    struct ld_arena arena;
    struct ld_prompt_schedule schedule;
    struct ld_error err = {0};
    struct ld_buffer got = ld_buffer_make(1 << 16);
    ld_arena_init(&arena, "test", 1 << 20);
    assert_int_equal(
        ld_prompt_schedule_expand(&arena, ld_span_text(text), &options, &schedule, &err), LD_OK);
    for (uint32_t i = 0; i < schedule.entry_count; i++) {
        const struct ld_span part = schedule.texts[schedule.entries[i].text];
        ld_buffer_format(&got, "%s%u=%.*s", i ? "|" : "", schedule.entries[i].end_step,
                         (int)part.size, (const char *)part.data);
    }
    assert_string_equal(got.data, expected);
    ld_buffer_deinit(&got);
    ld_arena_deinit(&arena);
}

#define STEPS(n)    ((struct ld_prompt_schedule_options){.steps = (n)})
#define HIRES(n, m) ((struct ld_prompt_schedule_options){.steps = (n), .hires_steps = (m)})

static void a_number_is_a_step_and_with_a_dot_a_fraction(void **state)
{
    (void)state;
    assert_schedule("a [b:c:3] d", STEPS(10), "3=a b d|10=a c d");
    assert_schedule("[b:c:0.25]", STEPS(10), "2=b|10=c");
    assert_schedule("[c:.5][d::7]", STEPS(10), "5=d|7=cd|10=c");
    assert_schedule("[b:c:30]", STEPS(10), "10=b");
    assert_schedule("[b:c:0] [b:c:-4]", STEPS(10), "10=c c");
    assert_schedule("[b:c: 1e0 ]", STEPS(4), "1=b|4=c");
}

static void alternation_changes_at_every_step(void **state)
{
    (void)state;
    assert_schedule("[a|b|]x", STEPS(4), "1=ax|2=bx|3=x|4=ax");
    assert_schedule("[a|[b|c]:x:2]", STEPS(2), "2=[a|[b|c]:x:2]"); /* `|` and `:` do not mix */
    assert_schedule("[[a|b]:c:2]", STEPS(4), "1=a|2=b|3=c|4=c");
}

static void groups_nest_and_other_brackets_stay(void **state)
{
    (void)state;
    assert_schedule("[a:[b:c:4]:2] (e:1.2) [f]", STEPS(6),
                    "2=a (e:1.2) [f]|4=b (e:1.2) [f]|6=c (e:1.2) [f]");
    assert_schedule("([a:b:2]:1.3)", STEPS(3), "2=(a:1.3)|3=(b:1.3)");
    assert_schedule("\\[a:b:2\\] [c:2]", STEPS(3), "2=\\[a:b:2\\] |3=\\[a:b:2\\] c");
}

static void stray_brackets_spoil_only_the_groups_around_them(void **state)
{
    (void)state;
    assert_schedule("((a][:b:c [d:3]", STEPS(5), "3=((a][:b:c |5=((a][:b:c d");
    assert_schedule("[a:(b:2]", STEPS(5), "5=[a:(b:2]");
    assert_schedule("[a:b:c:2] [d:2]", STEPS(5), "2=[a:b:c:2] |5=[a:b:c:2] d");
    assert_schedule("[a:b] ) [c:2]", STEPS(5), "2=[a:b] ) |5=[a:b] ) c");
}

static void unreadable_text_is_used_unchanged(void **state)
{
    (void)state;
    assert_schedule("a|b [c:2]", STEPS(5), "5=a|b [c:2]");
    assert_schedule("[c:2] \\", STEPS(5), "5=[c:2] \\");
    assert_schedule("{a|b} [c:2]", STEPS(5), "5={a|b} [c:2]");
}

static void the_second_pass_counts_on_from_the_first(void **state)
{
    (void)state;
    assert_schedule("[a:b:12]", HIRES(10, 6), "2=a|6=b");
    assert_schedule("[a:b:1.5]", HIRES(10, 6), "3=a|6=b");
    assert_schedule("[a:b:0.5]", HIRES(10, 6), "6=b");
}

static void the_old_rule_ignores_the_dot(void **state)
{
    (void)state;
    assert_schedule("[a:b:2.0] [c:.5]",
                    (struct ld_prompt_schedule_options){.steps = 8, .old = true},
                    "2=a |4=b |8=b c");
}

static enum ld_code expand_code(struct ld_span text, uint32_t steps)
{
    struct ld_arena arena;
    struct ld_prompt_schedule schedule;
    struct ld_error err = {0};
    const struct ld_prompt_schedule_options options = {.steps = steps};
    ld_arena_init(&arena, "test", 64 << 20);
    const enum ld_code code = ld_prompt_schedule_expand(&arena, text, &options, &schedule, &err);
    ld_arena_deinit(&arena);
    return code;
}

static void steps_nesting_and_bytes_are_bounded(void **state)
{
    enum { SIZE = 60000 };
    char nested[LD_PROMPT_NESTING_MAX + 2];
    char *wide = ld_heap_alloc(SIZE);
    (void)state;
    assert_int_equal(expand_code(ld_span_text("a"), 0), LD_E_RANGE);
    assert_int_equal(expand_code(ld_span_text("a"), LD_PROMPT_SCHEDULE_STEPS_MAX), LD_OK);
    assert_int_equal(expand_code(ld_span_text("a"), LD_PROMPT_SCHEDULE_STEPS_MAX + 1), LD_E_RANGE);
    memset(nested, '(', sizeof nested);
    assert_int_equal(expand_code(ld_span_of(nested, LD_PROMPT_NESTING_MAX), 5), LD_OK);
    assert_int_equal(expand_code(ld_span_of(nested, LD_PROMPT_NESTING_MAX + 1), 5), LD_E_TOO_LARGE);
    /* 60 kB that are different at each of 150 steps are 9 MB. */
    memset(wide, 'x', SIZE);
    size_t at = 0;
    wide[at++] = '[';
    for (int i = 0; i < 150; i++) {
        at += (size_t)snprintf(wide + at, 16, "%d", i);
        wide[at++] = i < 149 ? '|' : ']';
    }
    assert_int_equal(expand_code(ld_span_of(wide, SIZE), 150), LD_E_TOO_LARGE);
    assert_int_equal(expand_code(ld_span_of(wide, SIZE), 50), LD_OK);
    ld_heap_free(wide);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_number_is_a_step_and_with_a_dot_a_fraction),
        cmocka_unit_test(alternation_changes_at_every_step),
        cmocka_unit_test(groups_nest_and_other_brackets_stay),
        cmocka_unit_test(stray_brackets_spoil_only_the_groups_around_them),
        cmocka_unit_test(unreadable_text_is_used_unchanged),
        cmocka_unit_test(the_second_pass_counts_on_from_the_first),
        cmocka_unit_test(the_old_rule_ignores_the_dot),
        cmocka_unit_test(steps_nesting_and_bytes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
