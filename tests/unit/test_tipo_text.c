/*
 * Proves that the texts TIPO continues are those it learnt, byte for byte, that answers are read
 * line by line whatever they hold, and what counts as plain. The expected texts are written out
 * from model.md 6.2.
 */
#include "runtime/tipo/tipo_text.h"

#include "runtime/tipo/plain.h"
#include "runtime/tipo/sentences.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void put(struct ld_tipo_items *items, const char *item)
{
    items->items[items->count++] = item;
}

static void assert_composed(enum ld_tipo_task task, enum ld_tipo_length length,
                            const struct ld_tipo_content *given,
                            const struct ld_tipo_content *found, const char *expected)
{
    struct ld_buffer out = ld_buffer_make(1 << 16);
    ld_tipo_compose(task, length, given, found, &out);
    assert_false(out.failed);
    assert_string_equal(out.data, expected);
    assert_int_equal(out.size, strlen(expected));
    ld_buffer_deinit(&out);
}

static void every_kind_has_its_place(void **state)
{
    (void)state;
    struct ld_tipo_content given = {0};
    struct ld_tipo_content found = {0};
    put(&given.tags[LD_TAG_GENERAL], "red hair");
    put(&given.tags[LD_TAG_SPECIAL], "1girl");
    put(&given.tags[LD_TAG_QUALITY], "masterpiece");
    put(&given.tags[LD_TAG_QUALITY], "newest");
    put(&given.tags[LD_TAG_COPYRIGHT], "fate (series)");
    put(&given.tags[LD_TAG_CHARACTER], "saber (fate)");
    put(&given.tags[LD_TAG_ARTIST], "as109");
    put(&given.tags[LD_TAG_RATING], "safe");
    put(&given.tags[LD_TAG_META], "absurdres");
    put(&found.tags[LD_TAG_GENERAL], "smile");
    put(&found.tags[LD_TAG_SPECIAL], "1boy");
    put(&found.tags[LD_TAG_CHARACTER], "rin");
    put(&given.sentences, "A girl stands.");
    put(&found.sentences, "She smiles.");
#define LINES                                                                                      \
    "meta: absurdres\nrating: safe\nartist: as109\ncharacters: saber (fate), rin\n"                \
    "copyrights: fate (series)\nquality: masterpiece, newest\n"
#define TAGS "tag: 1girl, 1boy, red hair, smile"
    assert_composed(LD_TIPO_EXPAND, LD_TIPO_LONG, &given, &found, LINES "target: <|long|>\n" TAGS);
    assert_composed(LD_TIPO_SHORT_TO_TAG, LD_TIPO_VERY_SHORT, &given, &found,
                    LINES "target: <|very_short|> <|short_to_tag|>\n"
                          "short: A girl stands. She smiles.\n" TAGS);
    assert_composed(LD_TIPO_LONG_TO_TAG, LD_TIPO_SHORT, &given, &found,
                    LINES "target: <|short|> <|long_to_tag|>\n"
                          "long: A girl stands. She smiles.\n" TAGS);
    assert_composed(LD_TIPO_TAG_TO_LONG, LD_TIPO_VERY_LONG, &given, &found,
                    LINES "target: <|very_long|> <|tag_to_long|>\n" TAGS
                          "\nlong: A girl stands. She smiles.");
}

static void a_block_without_content_is_asked_by_its_key(void **state)
{
    (void)state;
    const struct ld_tipo_content none = {0};
    struct ld_tipo_content given = {0};
    assert_composed(LD_TIPO_EXPAND, LD_TIPO_LONG, &none, &none, "target: <|long|>\ntag:");
    assert_composed(LD_TIPO_TAG_TO_LONG, LD_TIPO_LONG, &none, &none,
                    "target: <|long|> <|tag_to_long|>\ntag: \nlong:");
    put(&given.tags[LD_TAG_GENERAL], "sky");
    assert_composed(LD_TIPO_TAG_TO_LONG, LD_TIPO_LONG, &given, &none,
                    "target: <|long|> <|tag_to_long|>\ntag: sky\nlong:");
    put(&given.sentences, "The sky is blue.");
    given.tags[LD_TAG_GENERAL].count = 0;
    assert_composed(LD_TIPO_LONG_TO_TAG, LD_TIPO_LONG, &given, &none,
                    "target: <|long|> <|long_to_tag|>\nlong: The sky is blue.\ntag:");
}

static void a_question_leaves_room_for_its_answer(void **state)
{
    (void)state;
    static const char item[] = "a tag of forty bytes 0123456789 01234567";
    const struct ld_tipo_content none = {0};
    struct ld_tipo_content given = {0};
    struct ld_buffer out = ld_buffer_make(1 << 20);
    for (int kind = 0; kind < LD_TAG_KIND_COUNT; kind++)
        for (int i = 0; i < LD_TIPO_ITEMS_MAX; i++)
            put(&given.tags[kind], item);
    for (int i = 0; i < LD_TIPO_ITEMS_MAX; i++)
        put(&given.sentences, item);
    ld_tipo_compose(LD_TIPO_TAG_TO_LONG, LD_TIPO_LONG, &given, &none, &out);
    const char *tag = strstr(out.data, "\ntag: ");
    const char *text = strstr(out.data, "\nlong: ");
    assert_non_null(tag);
    assert_non_null(text);
    /* whole items, as many as fit: 40 bytes each and two between them, one between sentences */
    assert_int_equal(text - tag - 6, 42 * ((LD_TIPO_TAGS_BYTES_MAX + 2) / 42) - 2);
    assert_int_equal(strlen(text) - 7, 41 * ((LD_TIPO_SENTENCES_BYTES_MAX + 1) / 41) - 1);
    assert_true(strcspn(out.data, "\n") - 6 <= LD_TIPO_LINE_BYTES_MAX);
    ld_buffer_deinit(&out);
}

static void assert_value(const char *text, enum ld_tipo_key key, const char *expected)
{
    struct ld_tipo_answer answer;
    ld_tipo_parse(ld_span_text(text), &answer);
    if (!ld_span_is(answer.values[key], expected))
        fail_msg("%s: \"%.*s\"", text, (int)answer.values[key].size,
                 (const char *)answer.values[key].data);
}

static void a_value_runs_to_the_next_known_key(void **state)
{
    (void)state;
    static const char text[] = "rating: safe\ntarget: <|long|>\ntag: 1girl,\n  solo\nNote: a,b\n"
                               "long: She says:\nhello: world.\n\nlonger: x\nquality: best\n";
    assert_value(text, LD_TIPO_KEY_RATING, "safe");
    assert_value(text, LD_TIPO_KEY_TARGET, "<|long|>");
    assert_value(text, LD_TIPO_KEY_TAG, "1girl,\n  solo\nNote: a,b");
    assert_value(text, LD_TIPO_KEY_LONG, "She says:\nhello: world.\n\nlonger: x");
    assert_value(text, LD_TIPO_KEY_QUALITY, "best");
    assert_value(text, LD_TIPO_KEY_SHORT, "");
    assert_value("tag: a", LD_TIPO_KEY_TAG, "a");
    assert_value(" tag: a", LD_TIPO_KEY_TAG, ""); /* keys start their lines */
    assert_value("Tag: a", LD_TIPO_KEY_TAG, "");
    assert_value("tag : a", LD_TIPO_KEY_TAG, "");
    assert_value("x, tag: a", LD_TIPO_KEY_TAG, "");
}

static void the_first_of_equal_keys_counts(void **state)
{
    (void)state;
    assert_value("tag: a\nlong: b\ntag: c\nd\n", LD_TIPO_KEY_TAG, "a");
    assert_value("tag: a\nlong: b\ntag: c\nd\n", LD_TIPO_KEY_LONG, "b");
    assert_value("tag:\ntag: c", LD_TIPO_KEY_TAG, "");
    assert_value("artist: <|empty|>\ntag: a", LD_TIPO_KEY_ARTIST, "");
    assert_value("tag: a, <|empty|>", LD_TIPO_KEY_TAG, "a, <|empty|>"); /* the merge refuses it */
}

static void bytes_that_are_no_answer_are_read_without_harm(void **state)
{
    (void)state;
    static const struct ld_span texts[] = {{(const uint8_t *)"tag", 3},
                                           {(const uint8_t *)"tag:", 4},
                                           {(const uint8_t *)"\n\n\n", 3},
                                           {(const uint8_t *)"\0tag: a\0\n\xFF", 10},
                                           {(const uint8_t *)"", 0}};
    struct ld_tipo_answer answer;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        ld_tipo_parse(texts[i], &answer);
        for (int key = 0; key < LD_TIPO_KEY_COUNT; key++)
            assert_int_equal(answer.values[key].size, 0);
    }
    ld_tipo_parse(ld_span_of("tag: a\0b\n\xFF\ntag", 14), &answer);
    assert_true(ld_span_equal(answer.values[LD_TIPO_KEY_TAG], ld_span_of("a\0b\n\xFF\ntag", 9)));
}

/* ---- Sentences ------------------------------------------------------------------------------- */

static void assert_sentences(const char *text, const char *expected)
{
    struct ld_buffer out = ld_buffer_make(1 << 12);
    struct ld_span rest = ld_span_text(text);
    struct ld_span sentence;
    while (ld_sentence_next(&rest, &sentence)) {
        ld_buffer_byte(&out, ld_sentence_is_finished(sentence) ? '<' : '(');
        ld_sentence_write(sentence, &out);
        ld_buffer_byte(&out, '>');
    }
    assert_string_equal(out.data ? out.data : "", expected);
    ld_buffer_deinit(&out);
}

static void sentences_end_where_readers_end_them(void **state)
{
    (void)state;
    assert_sentences("A girl. She  smiles!\nWhy? ", "<A girl.><She smiles!><Why?>");
    assert_sentences("It is 1.5 m high. \"Oh.\" (Yes.) No",
                     "<It is 1.5 m high.><\"Oh.\"><(Yes.)>(No.>");
    assert_sentences("A girl (left) waits", "(A girl (left) waits.>");
    assert_sentences("Wait... what?!  ", "<Wait...><what?!>");
    assert_sentences(" \n\t ", "");
    assert_sentences("", "");
    assert_int_equal(ld_sentence_words(ld_span_text("  one two\nthree ")), 3);
    assert_int_equal(ld_sentence_words(ld_span_text("")), 0);
}

/* ---- Plain texts ----------------------------------------------------------------------------- */

static void what_opens_syntax_is_not_plain(void **state)
{
    (void)state;
    static const char *const plain[] = {
        "",      "red hair",       "saber (fate)", "[x]",          ":3",   "re:zero",
        "AND1",  "LAND BREAKFAST", "and",          "_ _",          "^_^",  "embedding",
        "a & b", "100%",           "caf\xC3\xA9",  "\xE7\x8C\xAB", "k-on!"};
    static const char *const not_plain[] = {"<lora:x:1>",
                                            ">_<",
                                            "a\\b",
                                            "{a}",
                                            "a}",
                                            "a|b",
                                            "$x",
                                            "#compass",
                                            "__x",
                                            "a__",
                                            "embedding:x",
                                            "an EMBEDDING:x",
                                            "AND",
                                            "a AND b",
                                            "(BREAK)",
                                            "BREAK.",
                                            "a\nb",
                                            "a\tb",
                                            "\x7F",
                                            "\x01",
                                            "\xFF",
                                            "\xC3",
                                            "\xE2\x80\xAE" /* right to left */,
                                            "\xC2\x85",
                                            "<|empty|>"};
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (!ld_tipo_is_plain(ld_span_text(plain[i])))
            fail_msg("plain: %s", plain[i]);
    for (size_t i = 0; i < sizeof not_plain / sizeof not_plain[0]; i++)
        if (ld_tipo_is_plain(ld_span_text(not_plain[i])))
            fail_msg("not plain: %s", not_plain[i]);
    assert_false(ld_tipo_is_plain(ld_span_of("a\0b", 3)));
}

static void assert_escaped(enum ld_syntax syntax, const char *expected)
{
    struct ld_buffer out = ld_buffer_make(256);
    ld_tipo_escape(syntax, ld_span_text("a (b) [c] :d e::f :::"), &out);
    assert_string_equal(out.data, expected);
    ld_buffer_deinit(&out);
}

static void brackets_are_escaped_where_the_syntax_has_them(void **state)
{
    (void)state;
    assert_escaped(LD_SYNTAX_A1111, "a \\(b\\) \\[c\\] :d e::f :::");
    assert_escaped(LD_SYNTAX_COMFY, "a \\(b\\) [c] :d e::f :::");
    assert_escaped(LD_SYNTAX_NOVELAI, "a (b) \\[c\\] :d e\\:\\:f \\:\\:\\:");
    assert_escaped(LD_SYNTAX_PLAIN, "a (b) [c] :d e::f :::");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_has_its_place),
        cmocka_unit_test(a_block_without_content_is_asked_by_its_key),
        cmocka_unit_test(a_question_leaves_room_for_its_answer),
        cmocka_unit_test(a_value_runs_to_the_next_known_key),
        cmocka_unit_test(the_first_of_equal_keys_counts),
        cmocka_unit_test(bytes_that_are_no_answer_are_read_without_harm),
        cmocka_unit_test(sentences_end_where_readers_end_them),
        cmocka_unit_test(what_opens_syntax_is_not_plain),
        cmocka_unit_test(brackets_are_escaped_where_the_syntax_has_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
