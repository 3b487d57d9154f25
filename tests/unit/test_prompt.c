/*
 * Proves chunking, embeddings and the whole way from a prompt to conditionings. Prompts over the
 * small vocabulary are compiled and their token ids, weights and schedules are read back.
 */
#include "runtime/text/prompt.h"
#include "text_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { CAT = 520, DOG = 522, RED = 524, NEG = 526, COMMA = LD_BPE_COMMA_ID };
enum { START = LD_BPE_FIRST_MERGE + FIXTURE_MERGES, END = START + 1 };

static struct ld_arena arena;

static int fresh_arena(void **state)
{
    (void)state;
    ld_arena_deinit(&arena);
    ld_arena_init(&arena, "test", 64 << 20);
    return 0;
}

static int drop_arena(void **state)
{
    (void)state;
    ld_arena_deinit(&arena);
    return 0;
}

static const struct ld_embeddings *embeddings(void)
{
    static const struct ld_embedding_entry entries[] = {
        {"neg", 3}, {"neg cat", 2}, {"full", 75}, {"huge", 80}, {"v1.x", 1}};
    struct ld_embeddings *index = NULL;
    struct ld_error err = {0};
    assert_int_equal(
        ld_embeddings_create(&index, &arena, fixture_bpe(), LD_CLEAN_COMFY, entries, 5, &err),
        LD_OK);
    return index;
}

static struct ld_prompt compile(const struct ld_prompt_options *options, const char *text)
{
    struct ld_prompt prompt;
    struct ld_error err = {0};
    assert_int_equal(ld_prompt_compile(&arena, options, text, &prompt, &err), LD_OK);
    return prompt;
}

static enum ld_code compile_code(const struct ld_prompt_options *options, const char *text)
{
    struct ld_prompt prompt;
    struct ld_error err = {0};
    return ld_prompt_compile(&arena, options, text, &prompt, &err);
}

/* `count` times `word` and a blank. */
static const char *repeat(const char *word, size_t count, const char *tail)
{
    struct ld_buffer out = ld_buffer_make(1 << 20);
    for (size_t i = 0; i < count; i++)
        ld_buffer_format(&out, "%s ", word);
    ld_buffer_text(&out, tail);
    const char *copy = ld_arena_strdup(&arena, out.data);
    ld_buffer_deinit(&out);
    return copy;
}

/* ---- Chunks ---------------------------------------------------------------------------------- */

static void an_empty_prompt_is_one_chunk(void **state)
{
    (void)state;
    for (int syntax = 0; syntax <= LD_SYNTAX_PLAIN; syntax++) {
        const struct ld_prompt_options options =
            ld_prompt_defaults((enum ld_syntax)syntax, fixture_bpe());
        const struct ld_prompt prompt = compile(&options, "");
        struct ld_chunk empty;
        ld_chunk_set_empty(&empty, fixture_bpe());
        assert_int_equal(prompt.texts[0].chunk_count, 1);
        assert_int_equal(prompt.texts[0].token_count, 0);
        assert_false(prompt.texts[0].weighted);
        assert_memory_equal(&prompt.texts[0].chunks[0], &empty, sizeof empty);
    }
}

static void seventy_five_tokens_fill_a_chunk(void **state)
{
    const struct ld_prompt_options options = ld_prompt_defaults(LD_SYNTAX_A1111, fixture_bpe());
    (void)state;
    assert_int_equal(compile(&options, repeat("cat", 75, "")).texts[0].chunk_count, 1);
    const struct ld_prompt prompt = compile(&options, repeat("cat", 76, ""));
    assert_int_equal(prompt.texts[0].chunk_count, 2);
    assert_int_equal(prompt.texts[0].token_count, 76);
    assert_int_equal(prompt.texts[0].chunks[1].ids[1], CAT);
    assert_int_equal(prompt.texts[0].chunks[1].ids[2], END);
}

static void a_full_chunk_goes_back_to_its_last_comma(void **state)
{
    struct ld_prompt_options options = ld_prompt_defaults(LD_SYNTAX_A1111, fixture_bpe());
    (void)state;
    /* 60 cats, a comma, 14 dogs fill the chunk; one dog more moves all 15 to the next. */
    const char *text = repeat("cat", 60, repeat(",", 1, repeat("dog", 15, "")));
    struct ld_prompt prompt = compile(&options, text);
    assert_int_equal(prompt.texts[0].chunks[0].used, 61);
    assert_int_equal(prompt.texts[0].chunks[0].ids[61], COMMA);
    assert_int_equal(prompt.texts[0].chunks[0].ids[62], END);
    assert_int_equal(prompt.texts[0].chunks[1].used, 15);
    assert_int_equal(prompt.texts[0].token_count, 75 + 15);
    options.backtrack = 14; /* the comma is 15 back */
    assert_int_equal(compile(&options, text).texts[0].chunks[0].used, 75);
    options.backtrack = 0;
    prompt = compile(&options, text);
    assert_int_equal(prompt.texts[0].chunks[0].used, 75);
}

static void break_closes_a_chunk_in_a1111_only(void **state)
{
    struct ld_prompt_options options = ld_prompt_defaults(LD_SYNTAX_A1111, fixture_bpe());
    (void)state;
    struct ld_prompt prompt = compile(&options, "cat BREAK BREAK dog");
    assert_int_equal(prompt.texts[0].chunk_count, 3);
    assert_int_equal(prompt.texts[0].chunks[1].used, 0);
    options.emphasis = LD_EMPHASIS_NONE;
    assert_int_equal(compile(&options, "cat BREAK dog").texts[0].chunk_count, 1);
    options = ld_prompt_defaults(LD_SYNTAX_NOVELAI, fixture_bpe());
    prompt = compile(&options, "cat BREAK dog");
    assert_int_equal(prompt.texts[0].chunk_count, 1);
    assert_int_equal(prompt.texts[0].chunks[0].ids[2], 531); /* the word "break" */
}

static void a_break_in_weighted_brackets_is_warned_about(void **state)
{
    const struct ld_prompt_options options = ld_prompt_defaults(LD_SYNTAX_A1111, fixture_bpe());
    (void)state;
    const struct ld_prompt prompt = compile(&options, "(cat BREAK dog:1.2)");
    assert_int_equal(prompt.texts[0].chunk_count, 1);
    assert_int_equal(prompt.notes.count, 1);
    assert_non_null(strstr(prompt.notes.items[0], "BREAK"));
}

static void comfy_keeps_short_groups_together_and_cuts_long_ones(void **state)
{
    const struct ld_prompt_options options = ld_prompt_defaults(LD_SYNTAX_COMFY, fixture_bpe());
    (void)state;
    struct ld_prompt prompt = compile(&options, repeat("cat", 70, "(dog dog dog dog dog dog:2)"));
    assert_int_equal(prompt.texts[0].chunks[0].used, 70);
    assert_int_equal(prompt.texts[0].chunks[1].used, 6);
    assert_true(prompt.texts[0].chunks[1].weights[1] == 2.0);
    prompt = compile(&options, repeat("cat", 70, "(dog dog dog dog dog dog dog dog:2)"));
    assert_int_equal(prompt.texts[0].chunks[0].used, 75);
    assert_int_equal(prompt.texts[0].chunks[1].used, 3);
}

static void chunks_are_bounded(void **state)
{
    struct ld_prompt_options options = ld_prompt_defaults(LD_SYNTAX_A1111, fixture_bpe());
    (void)state;
    assert_int_equal(compile_code(&options, repeat("cat", 16 * 75, "")), LD_OK);
    assert_int_equal(compile_code(&options, repeat("cat", 16 * 75 + 1, "")), LD_E_TOO_LARGE);
    assert_int_equal(compile_code(&options, repeat("BREAK", 15, "cat")), LD_OK);
    assert_int_equal(compile_code(&options, repeat("BREAK", 16, "cat")), LD_E_TOO_LARGE);
}

/* ---- Embeddings ------------------------------------------------------------------------------ */

static void bare_names_are_found_by_their_tokens_longest_first(void **state)
{
    struct ld_prompt_options options = ld_prompt_defaults(LD_SYNTAX_A1111, fixture_bpe());
    (void)state;
    options.embeddings = embeddings();
    const struct ld_prompt prompt = compile(&options, "red (Neg:1.5) neg cat dog");
    const struct ld_chunk *chunk = &prompt.texts[0].chunks[0];
    assert_int_equal(chunk->used, 1 + 3 + 2 + 1);
    assert_int_equal(chunk->ids[1], RED);
    for (uint32_t v = 0; v < 3; v++) {
        assert_int_equal(chunk->ids[2 + v], -1);
        assert_int_equal(chunk->embeddings[2 + v], 0);
        assert_int_equal(chunk->vectors[2 + v], v);
        assert_true(chunk->weights[2 + v] == 1.5);
    }
    assert_int_equal(chunk->embeddings[5], 1);
    assert_int_equal(chunk->ids[7], DOG);
}

static void mentions_work_in_every_syntax_and_give_commas_back(void **state)
{
    (void)state;
    for (int syntax = 0; syntax <= LD_SYNTAX_PLAIN; syntax++) {
        struct ld_prompt_options options =
            ld_prompt_defaults((enum ld_syntax)syntax, fixture_bpe());
        options.embeddings = embeddings();
        const struct ld_prompt prompt = compile(&options, "cat embedding:v1.x, dog");
        const struct ld_chunk *chunk = &prompt.texts[0].chunks[0];
        const int32_t ids[] = {START, CAT, -1, COMMA, DOG, END};
        assert_memory_equal(chunk->ids, ids, sizeof ids);
        assert_int_equal(chunk->embeddings[2], 4);
        assert_int_equal(prompt.notes.count, 0);
    }
}

static void unknown_mentions_are_left_out_and_told(void **state)
{
    struct ld_prompt_options options = ld_prompt_defaults(LD_SYNTAX_COMFY, fixture_bpe());
    (void)state;
    options.embeddings = embeddings();
    const struct ld_prompt prompt = compile(&options, "cat embedding:nope, dog xembedding:v1.x");
    assert_int_equal(prompt.notes.count, 1);
    assert_non_null(strstr(prompt.notes.items[0], "\"nope\""));
    const int32_t ids[] = {START, CAT, COMMA, DOG};
    assert_memory_equal(prompt.texts[0].chunks[0].ids, ids, sizeof ids);
    assert_true(prompt.texts[0].chunks[0].ids[4] != -1); /* not at a word's start: text */
}

static void an_embedding_stays_in_one_chunk(void **state)
{
    struct ld_prompt_options options = ld_prompt_defaults(LD_SYNTAX_A1111, fixture_bpe());
    (void)state;
    options.embeddings = embeddings();
    const struct ld_prompt prompt = compile(&options, repeat("red", 73, "neg"));
    assert_int_equal(prompt.texts[0].chunks[0].used, 73);
    assert_int_equal(prompt.texts[0].chunks[1].used, 3);
    assert_int_equal(compile(&options, "embedding:full").texts[0].chunk_count, 1);
    assert_int_equal(compile_code(&options, "embedding:huge"), LD_E_TOO_LARGE);
    options.chunking = LD_CHUNKING_COMFY; /* cuts it as any long group */
    assert_int_equal(compile(&options, "embedding:huge").texts[0].chunks[1].used, 5);
}

/* ---- The whole way --------------------------------------------------------------------------- */

static void schedules_and_parts_lead_to_shared_texts(void **state)
{
    struct ld_prompt_options options = ld_prompt_defaults(LD_SYNTAX_A1111, fixture_bpe());
    (void)state;
    options.steps = 6;
    const struct ld_prompt prompt = compile(&options, "[cat:dog:2] AND cat :0.5 AND [dog|cat]");
    assert_int_equal(prompt.part_count, 3);
    assert_true(prompt.parts[0].weight == 1.0 && prompt.parts[1].weight == 0.5);
    /* "cat", "dog", " cat" and " dog": the third part has " cat" in common with the second. */
    assert_int_equal(prompt.text_count, 4);
    assert_int_equal(prompt.parts[2].entry_count, 6);
    /* calls count from 0 and the first text holds while call <= 2: the reference's way */
    assert_int_equal(ld_prompt_text_at(&prompt, 0, 0), ld_prompt_text_at(&prompt, 0, 2));
    assert_true(ld_span_is(prompt.texts[ld_prompt_text_at(&prompt, 0, 2)].text, "cat"));
    assert_true(ld_span_is(prompt.texts[ld_prompt_text_at(&prompt, 0, 3)].text, "dog"));
    assert_true(ld_span_is(prompt.texts[ld_prompt_text_at(&prompt, 0, 99)].text, "dog"));
}

static void a_negative_prompt_knows_no_and(void **state)
{
    struct ld_prompt_options options = ld_prompt_defaults(LD_SYNTAX_A1111, fixture_bpe());
    (void)state;
    options.composed = false;
    const struct ld_prompt prompt = compile(&options, "cat AND dog:3");
    assert_int_equal(prompt.part_count, 1);
    assert_true(prompt.parts[0].weight == 1.0);
    assert_true(ld_span_is(prompt.texts[0].text, "cat AND dog:3"));
}

static void a_weight_for_the_whole_prompt_is_told(void **state)
{
    const struct ld_prompt_options options = ld_prompt_defaults(LD_SYNTAX_A1111, fixture_bpe());
    (void)state;
    const struct ld_prompt prompt = compile(&options, "red 16:9");
    assert_true(prompt.parts[0].weight == 9.0);
    assert_int_equal(prompt.notes.count, 1);
}

static void adapters_are_taken_out_first(void **state)
{
    struct ld_prompt_options options = ld_prompt_defaults(LD_SYNTAX_A1111, fixture_bpe());
    (void)state;
    struct ld_prompt prompt = compile(&options, "cat<lora:x:0.5> <hypernet:y> AND dog<lora:x>");
    assert_int_equal(prompt.adapter_count, 2);
    assert_true(prompt.adapters[0].unet_weight == 0.5 && prompt.adapters[1].unet_weight == 1.0);
    assert_int_equal(prompt.notes.count, 1); /* hypernet */
    assert_true(ld_span_is(prompt.texts[0].text, "cat"));
    options = ld_prompt_defaults(LD_SYNTAX_PLAIN, fixture_bpe());
    prompt = compile(&options, "<lora:x>");
    assert_int_equal(prompt.adapter_count, 0);
    assert_true(prompt.texts[0].token_count > 1);
}

static void ignore_reads_weights_and_none_does_not(void **state)
{
    struct ld_prompt_options options = ld_prompt_defaults(LD_SYNTAX_A1111, fixture_bpe());
    (void)state;
    assert_true(compile(&options, "(cat:1.2)").texts[0].weighted);
    options.emphasis = LD_EMPHASIS_IGNORE;
    struct ld_prompt prompt = compile(&options, "(cat:1.2)");
    assert_false(prompt.texts[0].weighted);
    assert_int_equal(prompt.texts[0].token_count, 1);
    options.emphasis = LD_EMPHASIS_NONE;
    prompt = compile(&options, "(cat:1.2)");
    assert_false(prompt.texts[0].weighted);
    assert_int_equal(prompt.texts[0].token_count, 7); /* ( cat : 1 . 2 ) */
}

static void texts_that_are_no_prompt_are_refused(void **state)
{
    struct ld_prompt_options options = ld_prompt_defaults(LD_SYNTAX_A1111, fixture_bpe());
    (void)state;
    assert_int_equal(compile_code(&options, "cat\xFF"), LD_E_FORMAT);
    assert_int_equal(compile_code(&options, "cat\x07"), LD_E_INVALID);
    assert_int_equal(compile_code(&options, "cat\x7F"), LD_E_INVALID);
    assert_int_equal(compile_code(&options, "cat\xC2\x85"), LD_E_INVALID);
    assert_int_equal(compile_code(&options, "cat\r\n\tdog"), LD_OK);
    assert_int_equal(compile_code(&options, "<lora:../x>"), LD_E_INVALID);
    options.bytes_limit = 3;
    assert_int_equal(compile_code(&options, "cat"), LD_OK);
    assert_int_equal(compile_code(&options, "cats"), LD_E_TOO_LARGE);
    options.steps = 0;
    assert_int_equal(compile_code(&options, "cat"), LD_E_RANGE);
}

static void running_out_of_memory_is_an_ordinary_error(void **state)
{
    struct ld_prompt_options options = ld_prompt_defaults(LD_SYNTAX_A1111, fixture_bpe());
    bool succeeded = false;
    (void)state;
    options.embeddings = embeddings();
    options.steps = 4;
    for (size_t limit = 0; limit < 400000 && !succeeded; limit += 997) {
        struct ld_arena small;
        struct ld_prompt prompt;
        struct ld_error err = {0};
        ld_arena_init(&small, "small", limit);
        const enum ld_code code = ld_prompt_compile(
            &small, &options, "(cat:1.2) [red|neg] AND dog <lora:x:1>", &prompt, &err);
        assert_true(code == LD_OK || code == LD_E_NOMEM);
        succeeded = code == LD_OK;
        ld_arena_deinit(&small);
    }
    assert_true(succeeded);
}

#define TEST(claim) cmocka_unit_test_setup_teardown(claim, fresh_arena, drop_arena)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_prompt_is_one_chunk),
        TEST(seventy_five_tokens_fill_a_chunk),
        TEST(a_full_chunk_goes_back_to_its_last_comma),
        TEST(break_closes_a_chunk_in_a1111_only),
        TEST(a_break_in_weighted_brackets_is_warned_about),
        TEST(comfy_keeps_short_groups_together_and_cuts_long_ones),
        TEST(chunks_are_bounded),
        TEST(bare_names_are_found_by_their_tokens_longest_first),
        TEST(mentions_work_in_every_syntax_and_give_commas_back),
        TEST(unknown_mentions_are_left_out_and_told),
        TEST(an_embedding_stays_in_one_chunk),
        TEST(schedules_and_parts_lead_to_shared_texts),
        TEST(a_negative_prompt_knows_no_and),
        TEST(a_weight_for_the_whole_prompt_is_told),
        TEST(adapters_are_taken_out_first),
        TEST(ignore_reads_weights_and_none_does_not),
        TEST(texts_that_are_no_prompt_are_refused),
        TEST(running_out_of_memory_is_an_ordinary_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
