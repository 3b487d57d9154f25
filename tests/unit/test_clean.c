/*
 * Proves what the four cleaning profiles make of a text, and that normalising stays linear.
 * Each claim is a small text and its cleaned form; the forms follow model.md 3.2.
 */
#include "runtime/text/clean.h"
#include "runtime/text/entities.h"
#include "runtime/text/unicode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_clean(enum ld_clean profile, const char *text, const char *expected)
{
    struct ld_list got = ld_list_make(1000);
    struct ld_list want = ld_list_make(1000);
    ld_clean(profile, ld_span_text(text), &got);
    ld_list_add_utf8(&want, ld_span_text(expected));
    assert_false(got.failed);
    assert_true(ld_list_equal(&got, &want));
    ld_list_deinit(&got);
    ld_list_deinit(&want);
}

static void comfy_drops_what_is_invisible_and_spaces_ideographs(void **state)
{
    (void)state;
    assert_clean(LD_CLEAN_COMFY, "  A\tB\n\nC ", "a b c");
    assert_clean(LD_CLEAN_COMFY,
                 "a\xE2\x80\x8B"
                 "b\xEF\xBF\xBD",
                 "ab"); /* U+200B, U+FFFD */
    assert_clean(LD_CLEAN_COMFY, "\xE6\x9D\xB1\xE4\xBA\xACX", "\xE6\x9D\xB1 \xE4\xBA\xAC x");
    assert_clean(LD_CLEAN_COMFY, "\xE3\x81\x82\xE3\x81\x84", "\xE3\x81\x82\xE3\x81\x84"); /* kana */
    assert_clean(LD_CLEAN_COMFY, "&amp;", "&amp;");
}

static void fast_keeps_outer_blanks_and_never_uses_the_final_sigma(void **state)
{
    (void)state;
    assert_clean(LD_CLEAN_FAST, "  A \n B", " a b");
    assert_clean(LD_CLEAN_FAST, "\xCE\x91\xCE\xA3", "\xCE\xB1\xCF\x83");
    assert_clean(LD_CLEAN_COMFY, "\xCE\x91\xCE\xA3", "\xCE\xB1\xCF\x82");
    assert_clean(LD_CLEAN_COMFY, "\xCE\x91\xCE\xA3\xCE\x91", "\xCE\xB1\xCF\x83\xCE\xB1");
    assert_clean(LD_CLEAN_COMFY, "\xCE\xA3", "\xCF\x83");    /* nothing before it: not final */
    assert_clean(LD_CLEAN_COMFY, "\xC4\xB0x", "i\xCC\x87x"); /* U+0130 becomes two characters */
}

static void webui_repairs_quotes_widths_ligatures_and_references(void **state)
{
    (void)state;
    assert_clean(LD_CLEAN_WEBUI, "\xE2\x80\x9CQ\xE2\x80\x9D it\xE2\x80\x99s", "\"q\" it's");
    assert_clean(LD_CLEAN_WEBUI, "\xEF\xBC\xA1\xEF\xBC\x91\xE3\x80\x80x", "a1 x"); /* full width */
    assert_clean(LD_CLEAN_WEBUI, "\xEF\xAC\x81re", "fire");
    assert_clean(LD_CLEAN_WEBUI,
                 "a\r\nb\rc\xE2\x80\xA8"
                 "d",
                 "a b c d");
    assert_clean(LD_CLEAN_WEBUI, "\xEF\xBB\xBFx\x01", "x");
    assert_clean(LD_CLEAN_WEBUI, "x &amp; &eacute;&#65; &nosuch;",
                 "x & \xC3\xA9"
                 "a &nosuch;");
    assert_clean(LD_CLEAN_WEBUI, "&amp;amp; <", "&amp;amp; <"); /* text with `<` is left alone */
    assert_clean(LD_CLEAN_WEBUI, "&amp;amp;", "&");             /* repeated until stable */
    assert_clean(LD_CLEAN_WEBUI, "&lt", "&lt");
}

static void openai_reads_references_as_browsers_do(void **state)
{
    (void)state;
    assert_clean(LD_CLEAN_OPENAI, "< &lt &copy2 &#x80; &notit; &#0;",
                 "< < \xC2\xA9"
                 "2 \xE2\x82\xAC \xC2\xACit; \xEF\xBF\xBD");
    assert_clean(LD_CLEAN_OPENAI, "<&amp;lt;", "<<"); /* twice */
    assert_clean(LD_CLEAN_OPENAI, "<&#1114112;&#99999999999;", "<\xEF\xBF\xBD\xEF\xBF\xBD");
}

static void nested_references_stop_after_a_bounded_number_of_rounds(void **state)
{
    char text[1 + 4 * 200 + 1] = "&";
    struct ld_list got = ld_list_make(10000);
    (void)state;
    for (int i = 0; i < 200; i++)
        memcpy(text + 1 + 4 * i, "amp;", 5);
    ld_clean(LD_CLEAN_WEBUI, ld_span_text(text), &got);
    assert_int_equal(got.count, 1 + 4 * (200 - 32)); /* one level a round, 32 rounds */
    ld_list_deinit(&got);
}

static void composing_orders_marks_and_joins_syllables(void **state)
{
    /* e, dot below (220), acute (230) written in the wrong order; conjoining Hangul. */
    const uint32_t decomposed[] = {'e', 0x301, 0x323, 0x1100, 0x1161, 0x11A8};
    const uint32_t composed[] = {0x1EB9, 0x301, 0xAC01};
    struct ld_list text = ld_list_make(100);
    (void)state;
    ld_list_add_all(&text, decomposed, 6);
    ld_chars_compose(&text);
    assert_int_equal(text.count, 3);
    assert_memory_equal(text.data, composed, sizeof composed);
    ld_list_deinit(&text);
}

static void a_long_run_of_marks_does_not_cost_quadratic_time(void **state)
{
    enum { COUNT = 1 << 20 };
    struct ld_list text = ld_list_make(2 * COUNT);
    (void)state;
    ld_list_add(&text, 'x');
    for (uint32_t i = 0; i < COUNT; i++)
        ld_list_add(&text, i % 2 ? 0x323 : 0x315); /* classes 220 and 232 in turn */
    ld_chars_compose(&text);
    assert_false(text.failed);
    assert_int_equal(text.count, COUNT + 1);
    assert_int_equal(text.data[1], 0x323); /* the lower class first, stably */
    assert_int_equal(text.data[COUNT], 0x315);
    ld_list_deinit(&text);
}

static void digits_of_every_script_have_their_value(void **state)
{
    double value = 0;
    (void)state;
    assert_int_equal(ld_char_digit('7'), 7);
    assert_int_equal(ld_char_digit(0xFF12), 2);  /* full width */
    assert_int_equal(ld_char_digit(0x0969), 3);  /* Devanagari */
    assert_int_equal(ld_char_digit(0x1D7D9), 1); /* five runs of mathematical digits in a row */
    assert_int_equal(ld_char_digit(0xBD), -1);   /* one half is a number, not a digit */
    assert_int_equal(ld_char_digit('a'), -1);
    assert_true(ld_text_parse_double(ld_span_text(" \xEF\xBC\x91.5\t"), &value));
    assert_true(value == 1.5);
    assert_false(ld_text_parse_double(ld_span_text("inf"), &value));
    assert_false(ld_text_parse_double(ld_span_text("1_0"), &value));
    assert_false(ld_text_parse_double(ld_span_text(" "), &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comfy_drops_what_is_invisible_and_spaces_ideographs),
        cmocka_unit_test(fast_keeps_outer_blanks_and_never_uses_the_final_sigma),
        cmocka_unit_test(webui_repairs_quotes_widths_ligatures_and_references),
        cmocka_unit_test(openai_reads_references_as_browsers_do),
        cmocka_unit_test(nested_references_stop_after_a_bounded_number_of_rounds),
        cmocka_unit_test(composing_orders_marks_and_joins_syllables),
        cmocka_unit_test(a_long_run_of_marks_does_not_cost_quadratic_time),
        cmocka_unit_test(digits_of_every_script_have_their_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
