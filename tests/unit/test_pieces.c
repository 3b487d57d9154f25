/*
 * Proves that texts become the ids that SentencePiece's rule gives and that ids become texts again:
 * by cases worked out by hand, against a plain form of the rule on random vocabularies, and by the
 * way back. Vocabularies that are no vocabularies are refused.
 */
#include "runtime/tipo/pieces.h"

#include "runtime/base/arena.h"
#include "runtime/base/clock.h"
#include "tests/unit/gguf_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define BLANK "\xE2\x96\x81" /* U+2581 */

enum {
    NORMAL = 1,
    CONTROL = 3,
    USER_DEFINED = 4,
    UNUSED = 5,
    IDS_MAX = 4096,
    BYTE0 = 3 /* the id of <0x00> */
};

struct vocabulary {
    struct ld_buffer bytes;
    struct ld_gguf *file;
    struct ld_pieces *pieces;
};

/* What follows the first 259 pieces in the cases by hand. */
enum { P_BLANK = 259, A, B, C, AB, BC, BLANK_A, ABC, AA, TWO_BLANKS, E_ACUTE, TAG, TAG_X, LONG, U };
static const struct gguf_piece by_hand[] = {{BLANK, -20, NORMAL},
                                            {"a", -21, NORMAL},
                                            {"b", -22, NORMAL},
                                            {"c", -23, NORMAL},
                                            {"ab", -1, NORMAL},
                                            {"bc", -2, NORMAL},
                                            {BLANK "a", -3, NORMAL},
                                            {"abc", -4, NORMAL},
                                            {"aa", -5, NORMAL},
                                            {BLANK BLANK, -6, NORMAL},
                                            {"\xC3\xA9", -24, NORMAL},
                                            {"<|tag|>", 0, CONTROL},
                                            {"<|tag|>x", 0, USER_DEFINED},
                                            {"<|long|>", 0, CONTROL},
                                            {"u", 0, UNUSED},
                                            {"\xC0\x80", -1, NORMAL},
                                            {"b\xFF", -1, NORMAL}};

static enum ld_code try_open(struct vocabulary *v, struct gguf_fixture *f, struct ld_error *err)
{
    *v = (struct vocabulary){.bytes = gguf_finish(f)};
    *err = (struct ld_error){0};
    assert_int_equal(ld_gguf_open_bytes(&v->file, ld_span_of(v->bytes.data, v->bytes.size), err),
                     LD_OK);
    const enum ld_code code = ld_pieces_create(&v->pieces, v->file, err);
    assert_int_equal(code == LD_OK, v->pieces != NULL);
    return code;
}

static void close_vocabulary(struct vocabulary *v)
{
    ld_pieces_destroy(v->pieces);
    ld_gguf_close(v->file);
    ld_buffer_deinit(&v->bytes);
}

/* The first 259 pieces, without the bytes' ones where not wanted, and `more`. */
static struct vocabulary open_vocabulary(const struct gguf_piece *more, uint32_t count,
                                         bool with_bytes, int begin, int prefix)
{
    char names[256][8];
    struct gguf_piece *all = ld_heap_calloc(259 + count, sizeof *all);
    assert_non_null(all);
    gguf_first_pieces(all, names);
    const uint32_t first = with_bytes ? 259 : 3;
    memcpy(all + first, more, count * sizeof *more);
    struct gguf_fixture f = gguf_begin();
    gguf_vocabulary(&f, all, first + count);
    if (begin >= 0)
        gguf_bool(&f, "tokenizer.ggml.add_bos_token", begin != 0);
    if (prefix >= 0)
        gguf_bool(&f, "tokenizer.ggml.add_space_prefix", prefix != 0);
    struct vocabulary v;
    struct ld_error err;
    assert_int_equal(try_open(&v, &f, &err), LD_OK);
    ld_heap_free(all);
    return v;
}

static struct vocabulary open_by_hand(void)
{
    return open_vocabulary(by_hand, sizeof by_hand / sizeof by_hand[0], true, -1, -1);
}

static void expect_bytes(const struct vocabulary *v, struct ld_span text, const uint32_t *expected,
                         uint32_t expected_count)
{
    uint32_t ids[IDS_MAX];
    uint32_t count;
    struct ld_error err = {0};
    assert_int_equal(ld_pieces_encode(v->pieces, text, ids, IDS_MAX, &count, &err), LD_OK);
    const bool same = ld_span_equal(ld_span_of(ids, count * sizeof *ids),
                                    ld_span_of(expected, expected_count * sizeof *ids));
    if (!same) {
        print_message("'%.*s':", (int)text.size, (const char *)text.data);
        for (uint32_t i = 0; i < count; i++)
            print_message(" %u", ids[i]);
        print_message("\n");
    }
    assert_true(same);
}

#define EXPECT(v, text, ...)                                                                       \
    do {                                                                                           \
        static const uint32_t wanted[] = {__VA_ARGS__};                                            \
        expect_bytes((v), ld_span_of((text), sizeof(text) - 1), wanted,                            \
                     sizeof wanted / sizeof wanted[0]);                                            \
    } while (0)

/* ---- Cases by hand --------------------------------------------------------------------------- */

static void neighbours_are_joined_by_score(void **state)
{
    (void)state;
    struct vocabulary v = open_by_hand();
    EXPECT(&v, "", 1);
    EXPECT(&v, "a", 1, BLANK_A);
    EXPECT(&v, "abc", 1, P_BLANK, ABC); /* ab first, so that the blank finds no a */
    EXPECT(&v, "aab", 1, BLANK_A, AB);
    EXPECT(&v, "bca", 1, P_BLANK, BC, A);
    EXPECT(&v, "baaa", 1, P_BLANK, B, AA, A); /* the leftmost of equals */
    EXPECT(&v, "a  a", 1, BLANK_A, P_BLANK, BLANK_A);
    EXPECT(&v, "  b", 1, TWO_BLANKS, P_BLANK, B);
    EXPECT(&v, BLANK "a", 1, P_BLANK, BLANK_A); /* U+2581 itself is a blank like others */
    close_vocabulary(&v);
}

static void unknown_characters_become_bytes(void **state)
{
    (void)state;
    struct vocabulary v = open_by_hand();
    EXPECT(&v, "\xC3\xA9", 1, P_BLANK, E_ACUTE);
    EXPECT(&v, "\xC3\xBC", 1, P_BLANK, BYTE0 + 0xC3, BYTE0 + 0xBC);
    EXPECT(&v, "a\nb", 1, BLANK_A, BYTE0 + '\n', B);
    EXPECT(&v, "a\0b", 1, BLANK_A, BYTE0, B);
    EXPECT(&v, "\xF0\x9F\x98\xBA", 1, P_BLANK, BYTE0 + 0xF0, BYTE0 + 0x9F, BYTE0 + 0x98,
           BYTE0 + 0xBA);
    EXPECT(&v, "u", 1, P_BLANK, BYTE0 + 'u'); /* its piece is unused */
    /* Malformed: alone, cut, overlong, a surrogate; also where the vocabulary has just that. */
    EXPECT(&v,
           "a\xFF"
           "b",
           1, BLANK_A, BYTE0 + 0xFF, B);
    EXPECT(&v, "b\xFF", 1, P_BLANK, B, BYTE0 + 0xFF);
    EXPECT(&v, "\xC3", 1, P_BLANK, BYTE0 + 0xC3);
    EXPECT(&v, "\xC0\x80", 1, P_BLANK, BYTE0 + 0xC0, BYTE0 + 0x80);
    EXPECT(&v, "\xED\xA0\x80", 1, P_BLANK, BYTE0 + 0xED, BYTE0 + 0xA0, BYTE0 + 0x80);
    EXPECT(&v, "\xEF\xBF\xBD", 1, P_BLANK, BYTE0 + 0xEF, BYTE0 + 0xBF, BYTE0 + 0xBD);
    close_vocabulary(&v);
}

static void control_pieces_are_found_in_the_text(void **state)
{
    (void)state;
    struct vocabulary v = open_by_hand();
    EXPECT(&v, "<|tag|>ab", 1, TAG, P_BLANK, AB);
    EXPECT(&v, "a<|tag|>a", 1, BLANK_A, TAG, BLANK_A);
    EXPECT(&v, "<|tag|>xa", 1, TAG_X, BLANK_A); /* the longest */
    EXPECT(&v, "<|tag|><|long|>", 1, TAG, LONG);
    EXPECT(&v, "<|long|> a", 1, LONG, P_BLANK, BLANK_A);
    EXPECT(&v, "<|tag|> ", 1, TAG, TWO_BLANKS);
    EXPECT(&v, "<s>a</s>", 1, 1, BLANK_A, 2);
    EXPECT(&v, "<|tag|", 1, P_BLANK, BYTE0 + '<', BYTE0 + '|', BYTE0 + 't', A, BYTE0 + 'g',
           BYTE0 + '|');
    EXPECT(&v, "<|t<|tag|>", 1, P_BLANK, BYTE0 + '<', BYTE0 + '|', BYTE0 + 't', TAG);
    EXPECT(&v, "<0x41>", 1, P_BLANK, BYTE0 + '<', BYTE0 + '0', BYTE0 + 'x', BYTE0 + '4',
           BYTE0 + '1', BYTE0 + '>'); /* a byte's piece is no control piece */
    close_vocabulary(&v);
}

static void the_files_wishes_are_heard(void **state)
{
    (void)state;
    const uint32_t count = sizeof by_hand / sizeof by_hand[0];
    struct vocabulary v = open_vocabulary(by_hand, count, true, 0, 0);
    EXPECT(&v, "ab a", AB, BLANK_A);
    EXPECT(&v, "<|tag|>ab", TAG, AB);
    expect_bytes(&v, ld_span_text(""), NULL, 0);
    close_vocabulary(&v);
    v = open_vocabulary(by_hand, count, false, 1, 1);
    EXPECT(&v, "aub", 1, BLANK_A - 256, 0, B - 256); /* no bytes' pieces: the unknown one */
    close_vocabulary(&v);
}

static void more_ids_than_room_are_counted(void **state)
{
    (void)state;
    struct vocabulary v = open_by_hand();
    uint32_t ids[3] = {7, 7, 7};
    uint32_t count;
    struct ld_error err = {0};
    assert_int_equal(ld_pieces_encode(v.pieces, ld_span_text("bca"), ids, 2, &count, &err), LD_OK);
    assert_int_equal(count, 4);
    assert_true(ids[0] == 1 && ids[1] == P_BLANK && ids[2] == 7);
    close_vocabulary(&v);
}

static void expect_text(const struct vocabulary *v, uint32_t id, const char *expected)
{
    struct ld_buffer out = ld_buffer_make(64);
    ld_pieces_write(v->pieces, id, &out);
    assert_true(ld_span_is(ld_span_of(out.data, out.size), expected));
    ld_buffer_deinit(&out);
}

static void pieces_are_written_out(void **state)
{
    (void)state;
    struct vocabulary v = open_by_hand();
    expect_text(&v, AB, "ab");
    expect_text(&v, BLANK_A, " a");
    expect_text(&v, TWO_BLANKS, "  ");
    expect_text(&v, BYTE0 + 0xC3, "\xC3");
    expect_text(&v, TAG, "<|tag|>");
    expect_text(&v, 0, "");
    expect_text(&v, 1, "");
    expect_text(&v, 2, "");
    close_vocabulary(&v);
}

/* ---- Against the rule itself ----------------------------------------------------------------- */

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

enum { RANDOM_PIECES = 60, RANDOM_TEXT = 40 };

struct random_vocabulary {
    char texts[RANDOM_PIECES][16];
    struct gguf_piece pieces[RANDOM_PIECES];
    uint32_t count;
};

/* Distinct strings of one to five of the letters a, b, c and U+2581; scores of few values, so that
 * equal ones are common. The four letters come first. */
static void make_random(struct random_vocabulary *r, uint32_t *seed)
{
    static const char *const letters[4] = {"a", "b", "c", BLANK};
    r->count = 0;
    while (r->count < RANDOM_PIECES) {
        struct ld_buffer text = ld_buffer_make(16);
        const uint32_t length = r->count < 4 ? 1 : 1 + next_random(seed) % 5;
        for (uint32_t i = 0; i < length; i++)
            ld_buffer_text(&text, letters[r->count < 4 ? r->count : next_random(seed) % 4]);
        bool known = text.failed;
        for (uint32_t i = 0; i < r->count; i++)
            known = known || strcmp(r->texts[i], text.data) == 0;
        if (!known) {
            memcpy(r->texts[r->count], text.data, text.size + 1);
            r->pieces[r->count] =
                (struct gguf_piece){r->texts[r->count], -(float)(next_random(seed) % 9), NORMAL};
            r->count++;
        }
        ld_buffer_deinit(&text);
    }
}

static int find_piece(const struct random_vocabulary *r, const char *left, const char *right)
{
    for (uint32_t i = 0; i < r->count; i++) {
        const size_t size = strlen(left);
        if (strncmp(r->texts[i], left, size) == 0 && strcmp(r->texts[i] + size, right) == 0)
            return (int)i;
    }
    return -1;
}

/* Look at all pairs, join the best, again and again. */
static uint32_t plain_rule(const struct random_vocabulary *r, const char *text, uint32_t *ids)
{
    const char *symbols[RANDOM_TEXT + 1];
    uint32_t count = 1;
    symbols[0] = r->texts[3];
    for (const char *c = text; *c; c++)
        symbols[count++] = r->texts[*c == ' ' ? 3 : *c - 'a'];
    for (;;) {
        int best = -1;
        uint32_t at = 0;
        for (uint32_t i = 0; i + 1 < count; i++) {
            const int id = find_piece(r, symbols[i], symbols[i + 1]);
            if (id >= 0 && (best < 0 || r->pieces[id].score > r->pieces[best].score)) {
                best = id;
                at = i;
            }
        }
        if (best < 0)
            break;
        symbols[at] = r->texts[best];
        count--;
        for (uint32_t i = at + 1; i < count; i++)
            symbols[i] = symbols[i + 1];
    }
    ids[0] = 1;
    for (uint32_t i = 0; i < count; i++)
        ids[1 + i] = 259 + (uint32_t)find_piece(r, symbols[i], "");
    return 1 + count;
}

static void random_vocabularies_follow_the_rule(void **state)
{
    (void)state;
    uint32_t seed = 5;
    for (int round = 0; round < 40; round++) {
        struct random_vocabulary r;
        make_random(&r, &seed);
        struct vocabulary v = open_vocabulary(r.pieces, r.count, true, -1, -1);
        for (int i = 0; i < 50; i++) {
            char text[RANDOM_TEXT];
            uint32_t ids[RANDOM_TEXT + 2];
            const uint32_t length = 1 + next_random(&seed) % (RANDOM_TEXT - 1);
            for (uint32_t c = 0; c < length; c++)
                text[c] = "abc "[next_random(&seed) % 4];
            text[length] = '\0';
            const uint32_t count = plain_rule(&r, text, ids);
            expect_bytes(&v, ld_span_text(text), ids, count);
        }
        close_vocabulary(&v);
    }
}

/* Any bytes without a control piece or U+2581 come back, after the blank in front. */
static void the_way_back_gives_the_text(void **state)
{
    (void)state;
    static const char *const parts[] = {
        "a",    "b",    "c",  " ", "\xC3\xA9",         "\xE3\x81\x82",
        "\xFF", "\xE3", "\n", "x", "\xF0\x9F\x98\xBA", "<|"};
    struct vocabulary v = open_by_hand();
    uint32_t seed = 6;
    for (int round = 0; round < 500; round++) {
        struct ld_buffer text = ld_buffer_make(1 << 12);
        struct ld_buffer back = ld_buffer_make(1 << 12);
        const uint32_t length = 1 + next_random(&seed) % 60;
        for (uint32_t i = 0; i < length; i++)
            ld_buffer_text(&text, parts[next_random(&seed) % (sizeof parts / sizeof parts[0])]);
        uint32_t ids[IDS_MAX];
        uint32_t count;
        struct ld_error err = {0};
        assert_int_equal(ld_pieces_encode(v.pieces, ld_span_of(text.data, text.size), ids, IDS_MAX,
                                          &count, &err),
                         LD_OK);
        for (uint32_t i = 0; i < count; i++)
            ld_pieces_write(v.pieces, ids[i], &back);
        assert_int_equal(back.size, text.size + 1);
        assert_int_equal(back.data[0], ' ');
        assert_memory_equal(back.data + 1, text.data, text.size);
        ld_buffer_deinit(&text);
        ld_buffer_deinit(&back);
    }
    close_vocabulary(&v);
}

static void the_longest_text_takes_no_time(void **state)
{
    (void)state;
    struct vocabulary v = open_by_hand();
    uint8_t *text = ld_heap_alloc(LD_PIECES_TEXT_MAX + 1);
    assert_non_null(text);
    memset(text, 'a', LD_PIECES_TEXT_MAX + 1);
    uint32_t count;
    struct ld_error err = {0};
    const int64_t start = ld_clock_monotonic_us();
    assert_int_equal(
        ld_pieces_encode(v.pieces, ld_span_of(text, LD_PIECES_TEXT_MAX), NULL, 0, &count, &err),
        LD_OK);
    assert_true(ld_clock_monotonic_us() - start < 3000000); /* 20 ms; a square one takes minutes */
    assert_int_equal(count, 2 + LD_PIECES_TEXT_MAX / 2);    /* begin, " a", pairs, the odd one */
    assert_int_equal(
        ld_pieces_encode(v.pieces, ld_span_of(text, LD_PIECES_TEXT_MAX + 1), NULL, 0, &count, &err),
        LD_E_TOO_LARGE);
    assert_non_null(strstr(err.detail, "65537 bytes"));
    ld_heap_free(text);
    close_vocabulary(&v);
}

/* ---- No vocabularies ------------------------------------------------------------------------- */

static void expect_refused(struct gguf_fixture *f, enum ld_code expected, const char *part)
{
    struct vocabulary v;
    struct ld_error err;
    assert_int_equal(try_open(&v, f, &err), expected);
    if (strstr(err.detail, part) == NULL)
        print_message("got '%s', wanted '%s'\n", err.detail, part);
    assert_non_null(strstr(err.detail, part));
    close_vocabulary(&v);
}

static void put_three(struct gguf_fixture *f, const char *third, float score, int32_t kind)
{
    const struct gguf_piece pieces[] = {{"<unk>", 0, 2}, {"<s>", 0, 3}, {third, score, kind}};
    gguf_vocabulary(f, pieces, 3);
}

static void damaged_vocabularies_are_refused(void **state)
{
    (void)state;
    static const char *const two[] = {"a", "b"};
    static const float scores[] = {0, 0, 0};
    static const int32_t kinds[] = {1, 1, 1};
    struct gguf_fixture f = gguf_begin();
    expect_refused(&f, LD_E_FORMAT, "lacks the key tokenizer.ggml.model");
    f = gguf_begin();
    gguf_text(&f, "tokenizer.ggml.model", "gpt2");
    expect_refused(&f, LD_E_UNSUPPORTED, "tokenizer is 'gpt2'");
    f = gguf_begin();
    put_three(&f, "</s>", 0, 7);
    expect_refused(&f, LD_E_FORMAT, "token 2 of the GGUF file is of the kind 7");
    f = gguf_begin();
    put_three(&f, "x", NAN, 1);
    expect_refused(&f, LD_E_FORMAT, "score of token 2");
    char text[LD_PIECE_BYTES_MAX + 2];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    f = gguf_begin();
    put_three(&f, text, 0, 1);
    expect_refused(&f, LD_E_FORMAT, "token 2 of the GGUF file has 257 bytes");
    f = gguf_begin();
    gguf_text(&f, "tokenizer.ggml.model", "llama");
    gguf_texts(&f, "tokenizer.ggml.tokens", two, 2);
    gguf_f32s(&f, "tokenizer.ggml.scores", scores, 3);
    gguf_i32s(&f, "tokenizer.ggml.token_type", kinds, 3);
    expect_refused(&f, LD_E_FORMAT, "scores of the GGUF file has 3 elements for 2 tokens");
    f = gguf_begin();
    gguf_text(&f, "tokenizer.ggml.model", "llama");
    gguf_texts(&f, "tokenizer.ggml.tokens", two, 2);
    gguf_f32s(&f, "tokenizer.ggml.scores", scores, 2);
    gguf_i32s(&f, "tokenizer.ggml.token_type", kinds, 2);
    expect_refused(&f, LD_E_FORMAT, "eos_token_id of the GGUF file is 2, but it has 2 tokens");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_are_joined_by_score),
        cmocka_unit_test(unknown_characters_become_bytes),
        cmocka_unit_test(control_pieces_are_found_in_the_text),
        cmocka_unit_test(the_files_wishes_are_heard),
        cmocka_unit_test(more_ids_than_room_are_counted),
        cmocka_unit_test(pieces_are_written_out),
        cmocka_unit_test(random_vocabularies_follow_the_rule),
        cmocka_unit_test(the_way_back_gives_the_text),
        cmocka_unit_test(the_longest_text_takes_no_time),
        cmocka_unit_test(damaged_vocabularies_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
