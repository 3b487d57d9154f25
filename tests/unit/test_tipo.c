/*
 * Proves that TIPO is asked the right questions in the right order, and that of its answers only
 * what is new, wanted and harmless reaches the prompt. The model is a script: it holds each
 * question that must come, byte for byte, and the answer to it.
 */
#include "runtime/tipo/tipo.h"

#include "runtime/text/grammar.h"
#include "runtime/text/parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char list[] = "saber_(fate),4,90,\"artoria\"\nfate_(series),3,80,\nas109,1,7,\n"
                           "absurdres,5,9,\nblue_eyes,0,99,\"sapphire_eyes\"\n";

/* ---- The scripted model ---------------------------------------------------------------------- */

struct line {
    const char *question; /* NULL: not looked at */
    const char *answer;
};

struct script {
    const struct line *lines;
    uint32_t count;
    uint32_t calls;
    uint64_t seed; /* of the first call */
    enum ld_code code;
    bool repeat; /* the last line answers all further calls */
};

static enum ld_code act(void *ctx, struct ld_span prompt, const struct ld_token_choice *choice,
                        const struct ld_cancel *interrupt, struct ld_buffer *out,
                        struct ld_error *err)
{
    struct script *script = ctx;
    (void)interrupt;
    assert_int_equal(choice->seed, script->seed + script->calls);
    assert_int_equal(choice->tokens_max, 512);
    if (script->calls >= script->count && !script->repeat)
        fail_msg("unexpected question: %.*s", (int)prompt.size, (const char *)prompt.data);
    const uint32_t i = script->calls < script->count ? script->calls : script->count - 1;
    const struct line *line = &script->lines[i];
    script->calls++;
    if (line->question && !ld_span_is(prompt, line->question))
        fail_msg("question %u:\n%.*s\nexpected:\n%s", i, (int)prompt.size,
                 (const char *)prompt.data, line->question);
    ld_buffer_text(out, line->answer);
    return script->code == LD_OK ? LD_OK : LD_FAIL(err, script->code, "as scripted");
}

/* A wish that asks for little: six tags, one sentence. */
static struct ld_tipo_wish wish_of(enum ld_syntax syntax, const char *prompt)
{
    return (struct ld_tipo_wish){.prompt = prompt,
                                 .syntax = syntax,
                                 .text = "",
                                 .avoid = "",
                                 .write = LD_TIPO_TAGS,
                                 .length = LD_TIPO_VERY_SHORT,
                                 .choice = ld_tipo_choice(100)};
}

static struct ld_arena arena;
static struct ld_tags *tags;
static struct ld_notes notes;

static int set_up(void **state)
{
    const struct ld_span text = ld_span_text(list);
    (void)state;
    ld_arena_init(&arena, "test", 64 << 20);
    return ld_tags_create(&tags, &text, 1, NULL) == LD_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    ld_tags_destroy(tags);
    ld_arena_deinit(&arena);
    return 0;
}

/* The result, in the arena. */
static const char *extend(struct script *script, const struct ld_tipo_wish *wish)
{
    const struct ld_tipo_writer writer = {act, script, tags};
    struct ld_buffer out = ld_buffer_make(1 << 18);
    struct ld_error err = {0};
    notes = (struct ld_notes){.arena = &arena};
    script->calls = 0;
    script->seed = 100;
    if (ld_tipo_extend(&writer, wish, NULL, &out, &notes, &err) != LD_OK)
        fail_msg("%s: %s", wish->prompt, err.detail);
    assert_int_equal(strlen(out.data ? out.data : ""), out.size);
    const char *copy = ld_arena_strdup(&arena, out.data ? out.data : "");
    ld_buffer_deinit(&out);
    assert_non_null(copy);
    return copy;
}

static void assert_extended(const struct line *lines, uint32_t count,
                            const struct ld_tipo_wish *wish, const char *expected)
{
    struct script script = {.lines = lines, .count = count};
    const char *got = extend(&script, wish);
    assert_string_equal(got, expected);
    assert_int_equal(script.calls, count);
}

#define LINES(lines) lines, sizeof(lines) / sizeof((lines)[0])

/* One answer to whatever is asked, in this syntax; the length is reached. */
static void assert_added(enum ld_syntax syntax, const char *prompt, const char *answer,
                         const char *expected)
{
    const struct line line = {NULL, answer};
    struct script script = {.lines = &line, .count = 1, .repeat = true};
    const struct ld_tipo_wish wish = wish_of(syntax, prompt);
    assert_string_equal(extend(&script, &wish), expected);
}

/* ---- Questions ------------------------------------------------------------------------------- */

static void tags_alone_are_expanded(void **state)
{
    (void)state;
    const struct line lines[] = {{"rating: safe\ncharacters: saber (fate)\nquality: masterpiece\n"
                                  "target: <|very_short|>\ntag: 1girl, red hair",
                                  ", solo, smile, sky, sea, sun\n"}};
    const struct ld_tipo_wish wish =
        wish_of(LD_SYNTAX_A1111, "1girl, (Red_Hair:1.2), safe, masterpiece, artoria, <lora:x:1>, ");
    assert_extended(LINES(lines), &wish,
                    "1girl, (Red_Hair:1.2), safe, masterpiece, artoria, <lora:x:1>, "
                    "solo, smile, sky, sea, sun");
}

static void nothing_given_is_expanded_too(void **state)
{
    (void)state;
    const struct line lines[] = {
        {"target: <|very_short|>\ntag:", " 1girl, solo, smile, sky, sea, sun, moon"}};
    const struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "");
    assert_extended(LINES(lines), &wish, "1girl, solo, smile, sky, sea, sun, moon");
}

static void text_alone_gives_tags_and_is_continued(void **state)
{
    (void)state;
    const struct line lines[] = {
        {"target: <|very_short|> <|long_to_tag|>\nlong: A girl stands.\ntag:",
         " 1girl, standing, sky, sea, sun, moon\n"},
        {"target: <|very_short|> <|tag_to_long|>\ntag: 1girl, standing, sky, sea, sun, moon\n"
         "long: A girl stands.",
         " The sea is calm. Unfini"}};
    struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "");
    wish.text = "A girl\nstands";
    assert_extended(lines, 1, &wish, "1girl, standing, sky, sea, sun, moon");
    wish.write = LD_TIPO_BOTH;
    assert_extended(LINES(lines), &wish,
                    "1girl, standing, sky, sea, sun, moon, A girl stands. The sea is calm.");
    wish.write = LD_TIPO_TEXT;
    assert_extended(LINES(lines), &wish, "A girl stands. The sea is calm.");
}

static void names_and_quality_are_no_tags_to_start_from(void **state)
{
    (void)state;
    const struct line lines[] = {
        {"artist: as109\nquality: masterpiece\ntarget: <|very_short|> <|long_to_tag|>\n"
         "long: She waits.\ntag:",
         " a, b, c, d, e, f"}};
    struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "masterpiece, as109");
    wish.text = "She waits.";
    assert_extended(LINES(lines), &wish, "masterpiece, as109, a, b, c, d, e, f");
}

static void tags_and_text_are_asked_tags_first(void **state)
{
    (void)state;
    const struct line lines[] = {
        {"target: <|very_short|> <|short_to_tag|>\nshort: She stands.\ntag: 1girl",
         ", standing, sky, sea, sun, moon\nlong: never read."},
        {"target: <|very_short|> <|tag_to_long|>\ntag: 1girl, standing, sky, sea, sun, moon\n"
         "long: She stands.",
         " The sea is calm.\ntag: never read"}};
    struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "1girl");
    wish.text = "She stands.";
    assert_extended(lines, 1, &wish, "1girl, standing, sky, sea, sun, moon");
    wish.write = LD_TIPO_BOTH;
    assert_extended(LINES(lines), &wish,
                    "1girl, standing, sky, sea, sun, moon, She stands. The sea is calm.");
}

static void text_is_written_from_tags(void **state)
{
    (void)state;
    const struct line lines[] = {
        {"artist: as109\ntarget: <|very_short|> <|tag_to_long|>\ntag: 1girl\nlong:",
         " A girl (left) stands. She smiles. Too many here."}};
    struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "1girl, as109");
    wish.write = LD_TIPO_TEXT;
    assert_extended(LINES(lines), &wish, "1girl, as109, A girl \\(left\\) stands. She smiles.");
}

static void a_sentence_that_was_broken_off_is_kept_only_alone(void **state)
{
    (void)state;
    const struct line broken[] = {{NULL, " A girl stands. She smi"}};
    const struct line alone[] = {{NULL, " A girl\n stands"}};
    struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "1girl");
    wish.write = LD_TIPO_TEXT;
    assert_extended(LINES(broken), &wish, "1girl, A girl stands.");
    assert_extended(LINES(alone), &wish, "1girl, A girl stands.");
}

static void tags_that_only_help_the_text_are_asked_for_once(void **state)
{
    (void)state;
    const struct line lines[] = {
        {"target: <|very_short|>\ntag:", " sea"},
        {"target: <|very_short|> <|tag_to_long|>\ntag: sea\nlong:", " The sea is calm."}};
    struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "");
    wish.write = LD_TIPO_TEXT;
    assert_extended(LINES(lines), &wish, "The sea is calm.");
    assert_int_equal(notes.count, 0);
}

static void sentences_of_the_prompt_are_no_tags_and_are_not_said_again(void **state)
{
    (void)state;
    const struct line lines[] = {
        {"target: <|very_short|> <|short_to_tag|>\nshort: She smiles at us.\ntag: 1girl",
         ", a, b, c, d, e"},
        {"target: <|very_short|> <|tag_to_long|>\ntag: 1girl, a, b, c, d, e\n"
         "long: She smiles at us.",
         " SHE SMILES AT US. It rains."}};
    struct ld_tipo_wish wish = wish_of(LD_SYNTAX_NOVELAI, "1girl, {She smiles at us.}");
    wish.write = LD_TIPO_BOTH;
    assert_extended(LINES(lines), &wish, "1girl, {She smiles at us.}, a, b, c, d, e, It rains.");
}

static void too_few_are_asked_for_again_with_what_there_is(void **state)
{
    (void)state;
    const struct line lines[] = {
        {"target: <|very_short|>\ntag: sky", ", 1girl, sea"},
        {"target: <|very_short|>\ntag: 1girl, sky, sea", ", sun, SEA, 1girl"},
        {"target: <|very_short|>\ntag: 1girl, sky, sea, sun", ", moon, star"},
        {"target: <|very_short|> <|tag_to_long|>\ntag: 1girl, sky, sea, sun, moon, star\nlong:",
         ""},
        {"target: <|very_short|> <|tag_to_long|>\ntag: 1girl, sky, sea, sun, moon, star\nlong:",
         " It is night."}};
    struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "sky");
    wish.write = LD_TIPO_BOTH;
    assert_extended(LINES(lines), &wish, "sky, 1girl, sea, sun, moon, star, It is night.");
    assert_int_equal(notes.count, 0);
}

static void retries_end_after_five_equal_answers_or_eleven_tries(void **state)
{
    (void)state;
    const struct line stubborn = {NULL, ""};
    static const struct line slow[] = {{NULL, ", a<"}, {NULL, ", b<"}, {NULL, ", c<"},
                                       {NULL, ", d<"}, {NULL, ", e<"}, {NULL, ", f<"},
                                       {NULL, ", g<"}, {NULL, ", h<"}, {NULL, ", i<"},
                                       {NULL, ", j<"}, {NULL, ", k<"}};
    struct script script = {.lines = &stubborn, .count = 1, .repeat = true};
    struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "sky, ");
    assert_string_equal(extend(&script, &wish), "sky, ");
    assert_int_equal(script.calls, 1 + LD_TIPO_EQUAL_ANSWERS_MAX);
    assert_int_equal(notes.count, 1);
    assert_string_equal(notes.items[0], "The language model found no more tags: the prompt has 1, "
                                        "the length asks for 6.");
    script = (struct script){.lines = slow, .count = 11};
    assert_string_equal(extend(&script, &wish), "sky, ");
    assert_int_equal(script.calls, 11);
    script = (struct script){.lines = &stubborn, .count = 1, .repeat = true};
    wish.choice.temperature = 0; /* the second answer equals the first, so will all others */
    (void)extend(&script, &wish);
    assert_int_equal(script.calls, 2);
}

/* One that has much to say and nothing of use, each time something else. */
static void retries_end_when_the_model_has_said_enough(void **state)
{
    enum { LONG = 3000, ANSWERS = 4 };
    static char texts[ANSWERS][LONG + 1];
    struct line lines[ANSWERS];
    (void)state;
    for (int i = 0; i < ANSWERS; i++) {
        memset(texts[i], 'a' + i, LONG);
        lines[i] = (struct line){NULL, texts[i]};
    }
    struct script script = {.lines = lines, .count = ANSWERS};
    const struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "sky");
    assert_string_equal(extend(&script, &wish), "sky");
    assert_int_equal(script.calls, 3); /* 9,000 bytes, the first number beyond 8 KiB */
    assert_int_equal(notes.count, 1);
}

static void a_full_length_asks_nothing(void **state)
{
    (void)state;
    struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,safe");
    assert_extended(NULL, 0, &wish, wish.prompt); /* 18 tags are the most of very_short */
    assert_int_equal(notes.count, 0);
}

/* ---- What is kept ---------------------------------------------------------------------------- */

static void the_maximum_counts_the_authors_tags(void **state)
{
    (void)state;
    assert_added(LD_SYNTAX_A1111, "1girl, a, b, masterpiece",
                 ", c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t",
                 "1girl, a, b, masterpiece, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q");
    /* 3 of the author's, 15 new ones */
}

static void tags_are_added_by_kind_and_each_once(void **state)
{
    (void)state;
    assert_added(LD_SYNTAX_PLAIN, "Red_Hair, [sky]",
                 ", a, red hair, as109, fate (series), A, 1girl, artoria, SABER_(fate), b, c, d,"
                 " sapphire eyes, blue eyes, sapphire_eyes",
                 "Red_Hair, [sky], 1girl, saber (fate), fate (series), as109, a, b, c, d, "
                 "blue eyes");
}

static void names_on_their_own_lines_are_kept_but_few(void **state)
{
    (void)state;
    assert_added(LD_SYNTAX_PLAIN, "sky",
                 ", a, b, c, d, e\nartist: x1, x2, x3, x4, x5, x6, x7, x8, x9\n"
                 "characters: rin\ncopyrights: kanon\nquality: best quality\nrating: nsfw",
                 "sky, rin, kanon, x1, x2, x3, x4, x5, x6, x7, x8, a, b, c, d, e");
}

static void quality_meta_and_rating_are_never_added(void **state)
{
    (void)state;
    assert_added(LD_SYNTAX_PLAIN, "sky",
                 ", a, masterpiece, score_9, absurdres, b, nsfw, rating:explicit, year 2019, c, "
                 "newest, d, e, general\nmeta: highres",
                 "sky, a, b, c, d, e");
}

static void avoided_tags_and_sentences_stay_out(void **state)
{
    (void)state;
    const struct line lines[] = {{NULL, ", witch hat, a, AS109, saber (fate), b, blue eyes, c, d, "
                                        "e, hats"},
                                 {NULL, " She wears a hat. She waves."}};
    struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "1girl");
    wish.avoid = "*hat, as109,\nartoria*, sapphire eyes, blue_eyes, hat";
    wish.write = LD_TIPO_BOTH;
    assert_extended(LINES(lines), &wish,
                    "1girl, saber \\(fate\\), a, b, c, d, e, hats, She waves.");
}

static void an_avoided_alias_keeps_its_tag_out(void **state)
{
    (void)state;
    const struct line lines[] = {{NULL, ", sapphire eyes, artoria, a, b, c, d, e"}};
    struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "1girl");
    wish.avoid = "sapphire*, saber (fate)";
    assert_extended(LINES(lines), &wish, "1girl, a, b, c, d, e");
}

/* ---- Syntax ---------------------------------------------------------------------------------- */

static void additions_mean_themselves_in_every_syntax(void **state)
{
    (void)state;
    static const char answer[] = ", saber (fate), [x], a::b, d, e, f, g";
    assert_added(LD_SYNTAX_A1111, "sky", answer,
                 "sky, saber \\(fate\\), \\[x\\], a::b, d, e, f, g");
    assert_added(LD_SYNTAX_COMFY, "sky", answer, "sky, saber \\(fate\\), [x], a::b, d, e, f, g");
    assert_added(LD_SYNTAX_NOVELAI, "sky", answer,
                 "sky, saber (fate), \\[x\\], a\\:\\:b, d, e, f, g");
    assert_added(LD_SYNTAX_PLAIN, "sky", answer, "sky, saber (fate), [x], a::b, d, e, f, g");
}

static void a_grammar_reads_additions_as_they_were_written(void **state)
{
    (void)state;
    for (int syntax = 0; syntax <= LD_SYNTAX_PLAIN; syntax++) {
        const struct line line = {NULL, ", saber (fate), [x]), (y, a::b, 1.5::, :3, d:0.5)"};
        struct script script = {.lines = &line, .count = 1, .repeat = true};
        struct ld_tipo_wish wish = wish_of((enum ld_syntax)syntax, "sky");
        const char *result = extend(&script, &wish);
        struct ld_segments segments;
        assert_int_equal(
            ld_grammar_parse(&arena, wish.syntax, ld_span_text(result), &segments, NULL), LD_OK);
        assert_int_equal(segments.count, 1);
        assert_true(segments.items[0].weight == 1.0);
        assert_string_equal(segments.items[0].text,
                            "sky, saber (fate), [x]), (y, a::b, 1.5::, :3, d:0.5)");
    }
}

static void additions_go_where_the_prompt_has_room_for_them(void **state)
{
    (void)state;
    static const char answer[] = ", a, b, c, d, e, f";
    assert_added(LD_SYNTAX_A1111, "cat AND dog:0.5", answer, "cat, a, b, c, d, e, f AND dog:0.5");
    assert_added(LD_SYNTAX_A1111, "cat:1.2 AND dog", answer, "cat, a, b, c, d, e, f:1.2 AND dog");
    assert_added(LD_SYNTAX_A1111, "AND dog", answer, "a, b, c, d, e, f AND dog");
    assert_added(LD_SYNTAX_A1111, "cat BREAK dog\n", answer, "cat BREAK dog, a, b, c, d, e, f");
    assert_added(LD_SYNTAX_A1111, "cat BREAK", answer, "cat BREAK a, b, c, d, e, f");
    assert_added(LD_SYNTAX_A1111, "cat, (dog", answer, "cat, (dog, a, b, c, d, e, f");
    assert_added(LD_SYNTAX_COMFY, "cat BREAK", answer, "cat BREAK, a, b, c, d, e, f");
    assert_added(LD_SYNTAX_A1111, "TEABREAK", answer, "TEABREAK, a, b, c, d, e, f");
}

static void a_number_at_the_end_is_no_weight(void **state)
{
    (void)state;
    struct ld_and_parts parts;
    assert_added(LD_SYNTAX_A1111, "cat", ", a, b, c, d, :3", "cat, a, b, c, d, :3,");
    assert_added(LD_SYNTAX_A1111, "cat AND dog", ", a, b, c, d, 16:9",
                 "cat, a, b, c, d, 16:9, AND dog");
    assert_added(LD_SYNTAX_COMFY, "cat", ", a, b, c, d, :3", "cat, a, b, c, d, :3");
    assert_int_equal(ld_and_split(ld_span_text("cat, a, b, c, d, :3,"), &parts, NULL), LD_OK);
    assert_false(parts.items[0].weighted);
}

/* ---- Hostile answers ------------------------------------------------------------------------- */

static void nothing_that_opens_syntax_gets_in(void **state)
{
    (void)state;
    assert_added(LD_SYNTAX_A1111, "sky",
                 ", <lora:evil:1>, a, embedding:evil, >_<, {x|y}, b, __colors__, ${v}, AND, BREAK,"
                 " c AND d, e\\, saber \\(fate\\), f, a:|, \x01g, h\x7F, i\xFF, <|empty|>, j, k",
                 "sky, saber \\(fate\\), a, b, f, j, k");
}

static void a_tag_without_end_is_no_tag(void **state)
{
    (void)state;
    char answer[400] = ", ";
    char expected[400] = "sky, ";
    memset(answer + 2, 'x', 128);
    memset(expected + 5, 'x', 128);
    (void)ld_fmt(answer + 130, sizeof answer - 130, ", a, b, c, d");
    (void)ld_fmt(expected + 133, sizeof expected - 133, ", a, b, c, d");
    assert_added(LD_SYNTAX_A1111, "sky", answer, expected);
    memset(answer + 2, 'x', 129);
    (void)ld_fmt(answer + 131, sizeof answer - 131, ", a, b, c, d, e");
    assert_added(LD_SYNTAX_A1111, "sky", answer, "sky, a, b, c, d, e");
}

static enum ld_code flood(void *ctx, struct ld_span prompt, const struct ld_token_choice *choice,
                          const struct ld_cancel *interrupt, struct ld_buffer *out,
                          struct ld_error *err)
{
    const char *pattern = ctx;
    (void)prompt;
    (void)choice;
    (void)interrupt;
    while (!out->failed)
        ld_buffer_text(out, pattern);
    return LD_FAIL(err, LD_E_TOO_LARGE, "the answer is too long");
}

static void an_answer_without_end_is_used_as_far_as_it_goes(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *expected;
    } cases[] = {{", a, b", "sky, a, b"},
                 {"x", "sky"},
                 {"\n", "sky"},
                 {"\ntag: a", "sky"},
                 {", a\xFF\n, b", "sky, b"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char pattern[32];
        struct ld_buffer out = ld_buffer_make(1 << 16);
        struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "sky");
        assert_true(ld_fmt(pattern, sizeof pattern, "%s", cases[i].pattern));
        const struct ld_tipo_writer writer = {flood, pattern, tags};
        assert_int_equal(ld_tipo_extend(&writer, &wish, NULL, &out, NULL, NULL), LD_OK);
        assert_string_equal(out.data, cases[i].expected);
        ld_buffer_deinit(&out);
    }
}

static void sentences_with_syntax_are_left_out(void **state)
{
    (void)state;
    const struct line lines[] = {
        {NULL, " Use <lora:x:1> here. This AND that. A {b|c} d. She\nsmiles. __all__ of it."}};
    struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "a, b, c, d, e, f");
    wish.write = LD_TIPO_TEXT;
    assert_extended(LINES(lines), &wish, "a, b, c, d, e, f, She smiles.");
}

/* ---- Limits, errors -------------------------------------------------------------------------- */

/* A prompt of this many bytes without a tag in it, and what is added to it. */
static void assert_cut(size_t size, const char *added, uint32_t note_count, const char *note)
{
    static char prompt[LD_PROMPT_BYTES_MAX + 1];
    const struct line line = {"target: <|very_short|>\ntag:", " cat, dog, sea, sun, sky, bee"};
    struct script script = {.lines = &line, .count = 1};
    const struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, prompt);
    memset(prompt, 'x', size);
    prompt[size] = '\0';
    const char *result = extend(&script, &wish);
    assert_true(strlen(result) <= LD_PROMPT_BYTES_MAX);
    assert_memory_equal(result, prompt, size);
    assert_string_equal(result + size, added);
    assert_int_equal(notes.count, note_count);
    if (note_count)
        assert_non_null(strstr(notes.items[0], note));
}

static void a_result_is_cut_at_a_whole_tag(void **state)
{
    (void)state;
    /* Two bytes are kept free for a comma and a blank, whether they are needed or not. */
    assert_cut(LD_PROMPT_BYTES_MAX - 32, ", cat, dog, sea, sun, sky, bee", 0, NULL);
    assert_cut(LD_PROMPT_BYTES_MAX - 31, ", cat, dog, sea, sun, sky", 1, "was cut");
    assert_cut(LD_PROMPT_BYTES_MAX - 7, ", cat", 1, "was cut");
    assert_cut(LD_PROMPT_BYTES_MAX - 6, "", 1, "was cut");
    assert_cut(LD_PROMPT_BYTES_MAX - 1, "", 1, "was cut");
    assert_cut(LD_PROMPT_BYTES_MAX, "", 1, "no room");
}

static void a_model_without_room_ends_the_passes_with_a_note(void **state)
{
    (void)state;
    const struct line line = {NULL, ""};
    struct script script = {.lines = &line, .count = 1, .repeat = true, .code = LD_E_TOO_LARGE};
    struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "sky");
    wish.write = LD_TIPO_BOTH;
    assert_string_equal(extend(&script, &wish), "sky");
    assert_int_equal(script.calls, 1);
    assert_int_equal(notes.count, 1);
}

static void errors_leave_the_result_alone(void **state)
{
    (void)state;
    const struct line line = {NULL, ", a"};
    struct script script = {
        .lines = &line, .count = 1, .repeat = true, .seed = 100, .code = LD_E_NUMERICAL};
    struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "sky");
    const struct ld_tipo_writer writer = {act, &script, NULL};
    struct ld_cancel cancel;
    struct ld_error err = {0};
    struct ld_buffer out = ld_buffer_make(64);
    ld_buffer_text(&out, "before ");
    assert_int_equal(ld_tipo_extend(&writer, &wish, NULL, &out, NULL, &err), LD_E_NUMERICAL);
    assert_string_equal(err.detail, "as scripted");
    atomic_init(&cancel.requested, true);
    script.calls = 0;
    assert_int_equal(ld_tipo_extend(&writer, &wish, &cancel, &out, NULL, &err), LD_E_CANCELLED);
    assert_int_equal(script.calls, 0);
    wish.prompt = "((((((((((((((((((((((((((((((((((((((((";
    assert_int_equal(ld_tipo_extend(&writer, &wish, NULL, &out, NULL, &err), LD_E_TOO_LARGE);
    wish.prompt = "sky";
    wish.avoid = "\x01";
    assert_int_equal(ld_tipo_extend(&writer, &wish, NULL, &out, NULL, &err), LD_E_INVALID);
    wish.avoid = "";
    wish.text = "\xFF";
    assert_int_equal(ld_tipo_extend(&writer, &wish, NULL, &out, NULL, &err), LD_E_FORMAT);
    assert_int_equal(script.calls, 0);
    assert_string_equal(out.data, "before ");
    ld_buffer_deinit(&out);
}

static void a_text_that_cannot_stand_in_a_prompt_is_told(void **state)
{
    (void)state;
    const struct line lines[] = {
        {"target: <|very_short|> <|short_to_tag|>\nshort: She waits.\ntag: 1girl",
         ", a, b, c, d, e"}};
    struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "1girl");
    wish.text = "She waits. Use <lora:x:1>.";
    assert_extended(LINES(lines), &wish, "1girl, a, b, c, d, e");
    assert_int_equal(notes.count, 1);
    assert_non_null(strstr(notes.items[0], "left out"));
}

static void equal_wishes_give_equal_prompts(void **state)
{
    (void)state;
    const struct line lines[] = {{NULL, ", d, c, b"}, {NULL, ", a, 1girl, e, as109"}};
    struct ld_tipo_wish wish = wish_of(LD_SYNTAX_A1111, "sky");
    for (int i = 0; i < 3; i++)
        assert_extended(LINES(lines), &wish, "sky, 1girl, as109, d, c, b, a, e");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags_alone_are_expanded),
        cmocka_unit_test(nothing_given_is_expanded_too),
        cmocka_unit_test(text_alone_gives_tags_and_is_continued),
        cmocka_unit_test(names_and_quality_are_no_tags_to_start_from),
        cmocka_unit_test(tags_and_text_are_asked_tags_first),
        cmocka_unit_test(text_is_written_from_tags),
        cmocka_unit_test(a_sentence_that_was_broken_off_is_kept_only_alone),
        cmocka_unit_test(tags_that_only_help_the_text_are_asked_for_once),
        cmocka_unit_test(sentences_of_the_prompt_are_no_tags_and_are_not_said_again),
        cmocka_unit_test(too_few_are_asked_for_again_with_what_there_is),
        cmocka_unit_test(retries_end_after_five_equal_answers_or_eleven_tries),
        cmocka_unit_test(retries_end_when_the_model_has_said_enough),
        cmocka_unit_test(a_full_length_asks_nothing),
        cmocka_unit_test(the_maximum_counts_the_authors_tags),
        cmocka_unit_test(tags_are_added_by_kind_and_each_once),
        cmocka_unit_test(names_on_their_own_lines_are_kept_but_few),
        cmocka_unit_test(quality_meta_and_rating_are_never_added),
        cmocka_unit_test(avoided_tags_and_sentences_stay_out),
        cmocka_unit_test(an_avoided_alias_keeps_its_tag_out),
        cmocka_unit_test(additions_mean_themselves_in_every_syntax),
        cmocka_unit_test(a_grammar_reads_additions_as_they_were_written),
        cmocka_unit_test(additions_go_where_the_prompt_has_room_for_them),
        cmocka_unit_test(a_number_at_the_end_is_no_weight),
        cmocka_unit_test(nothing_that_opens_syntax_gets_in),
        cmocka_unit_test(a_tag_without_end_is_no_tag),
        cmocka_unit_test(an_answer_without_end_is_used_as_far_as_it_goes),
        cmocka_unit_test(sentences_with_syntax_are_left_out),
        cmocka_unit_test(a_result_is_cut_at_a_whole_tag),
        cmocka_unit_test(a_model_without_room_ends_the_passes_with_a_note),
        cmocka_unit_test(errors_leave_the_result_alone),
        cmocka_unit_test(a_text_that_cannot_stand_in_a_prompt_is_told),
        cmocka_unit_test(equal_wishes_give_equal_prompts),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
