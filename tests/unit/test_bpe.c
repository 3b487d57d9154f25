/*
 * Proves the layout of ids, the order of merging, its cost and the refusal of broken vocabularies.
 * A small vocabulary is checked by hand and against the textbook loop on random words.
 */
#include "text_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { START = LD_BPE_FIRST_MERGE + FIXTURE_MERGES, END = START + 1 };

static void assert_ids(enum ld_clean profile, const char *text, const uint32_t *expected,
                       size_t count)
{
    struct ld_list ids = ld_list_make(1000);
    struct ld_error err = {0};
    assert_int_equal(ld_bpe_encode(fixture_bpe(), profile, ld_span_text(text), &ids, &err), LD_OK);
    assert_int_equal(ids.count, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(ids.data[i], expected[i]);
    ld_list_deinit(&ids);
}

#define ASSERT_IDS(profile, text, ...)                                                             \
    do {                                                                                           \
        const uint32_t expected[] = {__VA_ARGS__};                                                 \
        assert_ids(profile, text, expected, sizeof expected / sizeof expected[0]);                 \
    } while (0)

static void ids_follow_the_layout_of_the_file(void **state)
{
    (void)state;
    assert_non_null(fixture_bpe());
    assert_int_equal(ld_bpe_merge_count(fixture_bpe()), FIXTURE_MERGES);
    assert_int_equal(ld_bpe_start_id(fixture_bpe()), START);
    assert_int_equal(ld_bpe_end_id(fixture_bpe()), END);
    ASSERT_IDS(LD_CLEAN_COMFY, "!", 256); /* first of the alphabet, end of word */
    ASSERT_IDS(LD_CLEAN_COMFY, ",", LD_BPE_COMMA_ID);
    ASSERT_IDS(LD_CLEAN_COMFY, "cat dog", 520, 522);
    ASSERT_IDS(LD_CLEAN_COMFY, "z\xC3\xA9", 89, 94 + 33, 256 + 94 + 8); /* bytes C3, A9 */
}

static void pieces_are_words_single_digits_and_runs_of_the_rest(void **state)
{
    (void)state;
    ASSERT_IDS(LD_CLEAN_COMFY, "Red12neg", 524, 256 + 16, 256 + 17, 526);
    ASSERT_IDS(LD_CLEAN_COMFY, "red_neg", 524, 256 + 62, 526);
    ASSERT_IDS(LD_CLEAN_COMFY, "cat's", 520, 527);
    /* U+017F folds to s, but the fast tokenizer compares exactly */
    ASSERT_IDS(LD_CLEAN_COMFY, "red'\xC5\xBF", 524, 6, 129, 256 + 123);
}

static void special_tokens_are_single_ids(void **state)
{
    (void)state;
    ASSERT_IDS(LD_CLEAN_COMFY, "cat<|endoftext|>dog", 520, END, 522);
    ASSERT_IDS(LD_CLEAN_FAST, "<|startoftext|>cat", START, 520);
    ASSERT_IDS(LD_CLEAN_OPENAI, "<|StartOfText|> cat", START, 520); /* found after lower-casing */
}

/* The textbook loop: look for the earliest merge among all pairs, apply it, start again. */
static size_t merge_slowly(uint32_t (*merges)[2], uint32_t *ids, size_t count)
{
    for (;;) {
        uint32_t best = FIXTURE_MERGES;
        for (size_t i = 0; i + 1 < count; i++)
            for (uint32_t m = 0; m < best; m++)
                if (merges[m][0] == ids[i] && merges[m][1] == ids[i + 1])
                    best = m;
        if (best == FIXTURE_MERGES)
            return count;
        size_t kept = 0;
        for (size_t i = 0; i < count; kept++) {
            const bool pair =
                i + 1 < count && merges[best][0] == ids[i] && merges[best][1] == ids[i + 1];
            ids[kept] = pair ? LD_BPE_FIRST_MERGE + best : ids[i];
            i += pair ? 2 : 1;
        }
        count = kept;
    }
}

static void the_heap_merges_as_the_textbook_loop_does(void **state)
{
    /* The merges over the letters a..e: ab, cd, abcd, abcde</w>, aa, aaaa, aa</w>, ca. */
    const uint32_t a = 64, b = 65, c = 66, d = 67, e = 68;
    uint32_t merges[FIXTURE_MERGES][2] = {{a, b}, {c, d},     {512, 513},   {514, e + 256},
                                          {a, a}, {516, 516}, {a, a + 256}, {c, a}};
    uint32_t seed = 1;
    (void)state;
    for (uint32_t m = 8; m < FIXTURE_MERGES; m++)
        merges[m][0] = merges[m][1] = UINT32_MAX;
    for (int round = 0; round < 3000; round++) {
        char word[25];
        uint32_t slow[24];
        const size_t size = 1 + (seed >> 8) % 24;
        for (size_t i = 0; i < size; i++) {
            seed = seed * 1664525 + 1013904223;
            word[i] = (char)('a' + (seed >> 24) % 5);
            slow[i] = (uint32_t)word[i] - 33 + (i + 1 == size ? 256 : 0);
        }
        word[size] = '\0';
        assert_ids(LD_CLEAN_COMFY, word, slow, merge_slowly(merges, slow, size));
    }
}

static void a_huge_word_does_not_cost_quadratic_time(void **state)
{
    enum { SIZE = 1 << 20 };
    char *word = ld_heap_alloc(SIZE);
    struct ld_list ids = ld_list_make(SIZE);
    struct ld_error err = {0};
    (void)state;
    memset(word, 'a', SIZE);
    /* The textbook loop would need some 10^11 steps and run into the test's time limit. */
    assert_int_equal(
        ld_bpe_encode(fixture_bpe(), LD_CLEAN_COMFY, ld_span_of(word, SIZE), &ids, &err), LD_OK);
    assert_int_equal(ids.count, SIZE / 4 + 1); /* aaaa..., and at the end aa aa</w> */
    assert_int_equal(ids.data[0], 517);
    assert_int_equal(ids.data[ids.count - 1], 518);
    ld_list_deinit(&ids);
    ld_heap_free(word);
}

static void too_many_tokens_are_an_error(void **state)
{
    struct ld_list ids = ld_list_make(2);
    struct ld_error err = {0};
    (void)state;
    assert_int_equal(
        ld_bpe_encode(fixture_bpe(), LD_CLEAN_COMFY, ld_span_text("cat cat cat"), &ids, &err),
        LD_E_TOO_LARGE);
    ld_list_deinit(&ids);
}

static enum ld_code create(struct ld_span file, uint32_t merge_count)
{
    struct ld_arena arena;
    struct ld_bpe *bpe;
    struct ld_error err = {0};
    ld_arena_init(&arena, "test", 1 << 20);
    const enum ld_code code = ld_bpe_create(&bpe, &arena, file, merge_count, &err);
    assert_true((code == LD_OK) == (bpe != NULL));
    assert_true(code == LD_OK || err.detail[0]);
    ld_arena_deinit(&arena);
    return code;
}

static void vocabularies_are_checked_line_by_line(void **state)
{
    (void)state;
    assert_int_equal(create(ld_span_text("#version: 0.2\na b\n"), 0), LD_OK);
    assert_int_equal(create(ld_span_text("#version: 0.2\r\na b\r\nab c\r\n"), 2), LD_OK);
    assert_int_equal(create(ld_span_text("a b\nab c"), 2), LD_OK);          /* no version line */
    assert_int_equal(create(ld_span_text("a b\nab c\nx y\n"), 2), LD_OK);   /* the rest unused */
    assert_int_equal(create(ld_span_text("a b\nab c\n"), 3), LD_E_FORMAT);  /* too few */
    assert_int_equal(create(ld_span_text("a b\nabc d\n"), 0), LD_E_FORMAT); /* unknown part */
    assert_int_equal(create(ld_span_text("a b\na b\n"), 0), LD_E_FORMAT);   /* made twice */
    assert_int_equal(create(ld_span_text("a  b\n"), 0), LD_E_FORMAT);
    assert_int_equal(create(ld_span_text("ab\n"), 0), LD_E_FORMAT);
    assert_int_equal(create(ld_span_text("#version: 0.2\n"), 0), LD_E_FORMAT);
    assert_int_equal(create(ld_span_text(""), 0), LD_E_FORMAT);
}

/* The fixture's text as gzip makes it. */
static const uint8_t packed[] = {
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0x2d, 0x8a, 0x41, 0x0a, 0x84,
    0x40, 0x0c, 0x04, 0xef, 0x79, 0x45, 0xc3, 0x1e, 0xbc, 0xe9, 0xe2, 0x51, 0xc4, 0x83, 0x4f,
    0xf0, 0x07, 0x99, 0x24, 0x88, 0x08, 0x33, 0x30, 0x2e, 0xeb, 0xf7, 0xcd, 0x04, 0x2f, 0xdd,
    0xa9, 0xae, 0x7c, 0xfe, 0x56, 0xaf, 0xa3, 0xe4, 0x09, 0xdf, 0x7e, 0x24, 0x46, 0x22, 0x81,
    0x12, 0x27, 0x48, 0x4b, 0x51, 0xd8, 0x3c, 0xdc, 0x8b, 0x0b, 0x26, 0xf6, 0xe0, 0x76, 0xc5,
    0x22, 0xbe, 0x08, 0xe3, 0x17, 0xa0, 0x28, 0xa4, 0x05, 0x7b, 0x40, 0x85, 0x51, 0x35, 0x68,
    0x40, 0x76, 0xc8, 0xf6, 0x9a, 0x0e, 0x57, 0xf4, 0x8a, 0x8d, 0x12, 0xaa, 0x51, 0xf2, 0x3f,
    0x6e, 0xc9, 0x38, 0xc3, 0x3c, 0x4a, 0x51, 0x59, 0x8b, 0x8f, 0x00, 0x00, 0x00};

static void gzipped_vocabularies_are_unpacked_and_checked(void **state)
{
    uint8_t damaged[sizeof packed];
    (void)state;
    assert_int_equal(create(ld_span_of(packed, sizeof packed), FIXTURE_MERGES), LD_OK);
    memcpy(damaged, packed, sizeof packed);
    damaged[40] ^= 1;
    assert_int_equal(create(ld_span_of(damaged, sizeof damaged), 0), LD_E_FORMAT);
    memcpy(damaged, packed, sizeof packed);
    damaged[sizeof damaged - 1] = 0x7F; /* claims 2 GB */
    assert_int_equal(create(ld_span_of(damaged, sizeof damaged), 0), LD_E_TOO_LARGE);
    assert_int_not_equal(create(ld_span_of(packed, 30), 0), LD_OK);
}

static void a_missing_file_says_where_to_get_one(void **state)
{
    struct ld_arena arena;
    struct ld_bpe *bpe;
    struct ld_error err = {0};
    (void)state;
    ld_arena_init(&arena, "test", 1 << 20);
    assert_int_equal(ld_bpe_load(&bpe, &arena, "no/such/folder", 0, &err), LD_E_NOT_FOUND);
    assert_non_null(strstr(err.detail, "get_clip_vocab.sh"));
    ld_arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_follow_the_layout_of_the_file),
        cmocka_unit_test(pieces_are_words_single_digits_and_runs_of_the_rest),
        cmocka_unit_test(special_tokens_are_single_ids),
        cmocka_unit_test(the_heap_merges_as_the_textbook_loop_does),
        cmocka_unit_test(a_huge_word_does_not_cost_quadratic_time),
        cmocka_unit_test(too_many_tokens_are_an_error),
        cmocka_unit_test(vocabularies_are_checked_line_by_line),
        cmocka_unit_test(gzipped_vocabularies_are_unpacked_and_checked),
        cmocka_unit_test(a_missing_file_says_where_to_get_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
