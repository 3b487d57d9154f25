/*
 * Proves that tags are sorted as TIPO learnt them, that equal tags are known in any spelling, and
 * that patterns keep tags and sentences out. Each claim is a small table.
 */
#include "runtime/tipo/tag_kinds.h"

#include "runtime/tipo/tag_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const char list[] = "saber_(fate),4,90,\"artoria\"\nfate_(series),3,80,\nas109,1,7,\n"
                           "absurdres,5,9,\nblue_eyes,0,99,\"sapphire_eyes\"\nold,1,1,\n"
                           "1girl,0,100,\"sole_female\"\n^_^,0,3,\n";

static void assert_kind(const struct ld_tags *tags, const char *tag, enum ld_tag_kind kind,
                        const char *name)
{
    char got[LD_TIPO_TAG_SIZE];
    const enum ld_tag_kind is = ld_tag_kind_of(tags, ld_span_text(tag), got);
    if (is != kind || strcmp(got, name) != 0)
        fail_msg("%s: kind %d \"%s\"", tag, (int)is, got);
}

static void counts_are_special_and_nothing_else_is(void **state)
{
    (void)state;
    static const char *const special[] = {"1girl",  "2girls",  "5boys",         "6+others",
                                          "1other", "3others", "multiple boys", "male focus"};
    static const char *const general[] = {"1girls", "2girl",  "6girls",    "7+girls", "0girls",
                                          "1",      "6+girl", "12girls",   "girls",   "1cat",
                                          "solo",   "1boy a", "no humans", "1 girl"};
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++)
        assert_kind(NULL, special[i], LD_TAG_SPECIAL, special[i]);
    for (size_t i = 0; i < sizeof general / sizeof general[0]; i++)
        assert_kind(NULL, general[i], LD_TAG_GENERAL, general[i]);
    assert_kind(NULL, "Multiple_Girls", LD_TAG_SPECIAL, "multiple girls");
}

static void quality_rating_and_years_are_known_without_a_list(void **state)
{
    (void)state;
    assert_kind(NULL, "Masterpiece", LD_TAG_QUALITY, "masterpiece");
    assert_kind(NULL, "very_aesthetic", LD_TAG_QUALITY, "very aesthetic");
    assert_kind(NULL, "score 8 up", LD_TAG_QUALITY, "score_8_up");
    assert_kind(NULL, "amazing quality", LD_TAG_QUALITY, "amazing quality");
    assert_kind(NULL, "worst_quality", LD_TAG_QUALITY, "worst quality");
    assert_kind(NULL, "newest", LD_TAG_QUALITY, "newest");
    assert_kind(NULL, "nsfw", LD_TAG_RATING, "nsfw");
    assert_kind(NULL, "rating:general", LD_TAG_RATING, "general");
    assert_kind(NULL, "Rating: Explicit", LD_TAG_RATING, "explicit");
    assert_kind(NULL, "rating:", LD_TAG_GENERAL, "rating:");
    assert_kind(NULL, "rating:none", LD_TAG_GENERAL, "rating:none");
    assert_kind(NULL, "year 2021", LD_TAG_META, "year 2021");
    assert_kind(NULL, "year 20211", LD_TAG_GENERAL, "year 20211");
}

static void a_list_tells_who_is_who_and_what_an_alias_stands_for(void **state)
{
    (void)state;
    const struct ld_span text = ld_span_text(list);
    struct ld_tags *tags;
    assert_int_equal(ld_tags_create(&tags, &text, 1, NULL), LD_OK);
    assert_kind(tags, "Saber (Fate)", LD_TAG_CHARACTER, "saber (fate)");
    assert_kind(tags, "artoria", LD_TAG_CHARACTER, "saber (fate)");
    assert_kind(tags, "fate_(series)", LD_TAG_COPYRIGHT, "fate (series)");
    assert_kind(tags, "as109", LD_TAG_ARTIST, "as109");
    assert_kind(tags, "absurdres", LD_TAG_META, "absurdres");
    assert_kind(tags, "sapphire eyes", LD_TAG_GENERAL, "blue eyes");
    assert_kind(tags, "sole_female", LD_TAG_SPECIAL, "1girl");
    assert_kind(tags, "old", LD_TAG_QUALITY, "old"); /* TIPO's own words go first */
    assert_kind(NULL, "as109", LD_TAG_GENERAL, "as109");
    ld_tags_destroy(tags);
}

static void short_emoticons_keep_their_underscores(void **state)
{
    (void)state;
    assert_kind(NULL, "^_^", LD_TAG_GENERAL, "^_^");
    assert_kind(NULL, "o_o", LD_TAG_GENERAL, "o_o");
    assert_kind(NULL, "\xC3\xB2_\xC3\xB3", LD_TAG_GENERAL, "\xC3\xB2_\xC3\xB3");
    assert_kind(NULL, "x_xx", LD_TAG_GENERAL, "x xx");
    assert_kind(NULL, "a_cat", LD_TAG_GENERAL, "a cat");
    assert_kind(NULL, "Long_Hair", LD_TAG_GENERAL, "long hair");
}

static void a_tag_is_known_in_any_spelling(void **state)
{
    (void)state;
    struct ld_arena arena;
    struct ld_tag_set set = {.arena = &arena};
    char tag[32];
    ld_arena_init(&arena, "test", 1 << 20);
    assert_false(ld_tag_set_has(&set, ld_span_text("blue eyes")));
    assert_int_equal(ld_tag_set_add(&set, ld_span_text("Blue_Eyes"), NULL), LD_OK);
    assert_true(ld_tag_set_has(&set, ld_span_text("blue eyes")));
    assert_false(ld_tag_set_has(&set, ld_span_text("blue eye")));
    for (int i = 0; i < 5000; i++) {
        assert_true(ld_fmt(tag, sizeof tag, "tag_%d", i));
        assert_int_equal(ld_tag_set_add(&set, ld_span_text(tag), NULL), LD_OK);
    }
    assert_int_equal(set.count, 5001);
    for (int i = 0; i < 10000; i++) {
        assert_true(ld_fmt(tag, sizeof tag, "TAG %d", i));
        assert_int_equal(ld_tag_set_has(&set, ld_span_text(tag)), i < 5000);
    }
    ld_arena_deinit(&arena);
}

static void a_set_without_memory_says_so(void **state)
{
    (void)state;
    struct ld_arena arena;
    struct ld_tag_set set = {.arena = &arena};
    ld_arena_init(&arena, "test", 64);
    assert_int_equal(ld_tag_set_add(&set, ld_span_text("a"), NULL), LD_E_NOMEM);
    assert_false(ld_tag_set_has(&set, ld_span_text("a")));
    ld_arena_deinit(&arena);
}

static bool avoids(const char *patterns, const char *tag)
{
    struct ld_arena arena;
    struct ld_tag_avoid avoid;
    ld_arena_init(&arena, "test", 1 << 16);
    assert_int_equal(ld_tag_avoid_read(&avoid, &arena, ld_span_text(patterns), NULL), LD_OK);
    const bool result = ld_tag_avoid_tag(&avoid, ld_span_text(tag));
    ld_arena_deinit(&arena);
    return result;
}

static void patterns_are_whole_tags_with_stars(void **state)
{
    (void)state;
    assert_true(avoids("hat, Long_Hair", "HAT"));
    assert_true(avoids("hat,\nLong_Hair\n", "long hair"));
    assert_false(avoids("hat", "witch hat"));
    assert_true(avoids("*hat", "witch hat"));
    assert_false(avoids("*hat", "hats"));
    assert_true(avoids("*hat*", "hats"));
    assert_true(avoids("blue * eyes", "blue_and_red_eyes"));
    assert_false(avoids("", "hat"));
    assert_false(avoids(" , ,\n", ""));
}

static void too_many_or_too_long_patterns_are_refused(void **state)
{
    (void)state;
    struct ld_arena arena;
    struct ld_tag_avoid avoid;
    struct ld_error err = {0};
    char text[2 * LD_TAG_AVOID_MAX + 3] = "";
    ld_arena_init(&arena, "test", 1 << 16);
    for (size_t i = 0; i < LD_TAG_AVOID_MAX; i++)
        memcpy(text + 2 * i, "a,", 3);
    assert_int_equal(ld_tag_avoid_read(&avoid, &arena, ld_span_text(text), &err), LD_OK);
    assert_int_equal(avoid.count, LD_TAG_AVOID_MAX);
    memcpy(text + 2 * LD_TAG_AVOID_MAX, "a,", 3);
    assert_int_equal(ld_tag_avoid_read(&avoid, &arena, ld_span_text(text), &err), LD_E_TOO_LARGE);
    memset(text, 'a', LD_TIPO_TAG_SIZE);
    text[LD_TIPO_TAG_SIZE] = '\0';
    assert_int_equal(ld_tag_avoid_read(&avoid, &arena, ld_span_text(text), &err), LD_E_TOO_LARGE);
    text[LD_TIPO_TAG_SIZE - 1] = '\0';
    assert_int_equal(ld_tag_avoid_read(&avoid, &arena, ld_span_text(text), &err), LD_OK);
    ld_arena_deinit(&arena);
}

static bool avoids_sentence(const char *patterns, const char *sentence)
{
    struct ld_arena arena;
    struct ld_tag_avoid avoid;
    ld_arena_init(&arena, "test", 1 << 16);
    assert_int_equal(ld_tag_avoid_read(&avoid, &arena, ld_span_text(patterns), NULL), LD_OK);
    const bool result = ld_tag_avoid_sentence(&avoid, ld_span_text(sentence));
    ld_arena_deinit(&arena);
    return result;
}

static void a_sentence_is_avoided_for_its_words_not_for_its_letters(void **state)
{
    (void)state;
    assert_true(avoids_sentence("hat", "She wears a Hat."));
    assert_true(avoids_sentence("hat", "Hat, scarf and gloves."));
    assert_false(avoids_sentence("hat", "She says that it rains."));
    assert_false(avoids_sentence("*hat", "She chatters."));
    assert_true(avoids_sentence("witch_hat", "A (witch hat) lies there."));
    assert_true(avoids_sentence("*eyes", "Her two blue eyes shine."));
    assert_true(avoids_sentence("a b c d e", "x a b c d e y"));
    assert_false(avoids_sentence("a b c d e f", "x a b c d e f y")); /* more than five words */
    assert_false(avoids_sentence("", "She wears a hat."));
    assert_false(avoids_sentence("hat", ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_special_and_nothing_else_is),
        cmocka_unit_test(quality_rating_and_years_are_known_without_a_list),
        cmocka_unit_test(a_list_tells_who_is_who_and_what_an_alias_stands_for),
        cmocka_unit_test(short_emoticons_keep_their_underscores),
        cmocka_unit_test(a_tag_is_known_in_any_spelling),
        cmocka_unit_test(a_set_without_memory_says_so),
        cmocka_unit_test(patterns_are_whole_tags_with_stars),
        cmocka_unit_test(too_many_or_too_long_patterns_are_refused),
        cmocka_unit_test(a_sentence_is_avoided_for_its_words_not_for_its_letters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
