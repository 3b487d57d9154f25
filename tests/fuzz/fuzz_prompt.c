/*
 * Everything a prompt passes through: grammars, schedules, AND, extra networks, wildcards,
 * embeddings, tokens and chunks, with a small built-in vocabulary. The first byte of the input
 * chooses the path and its options, the rest is the text. Besides memory safety it holds that
 * bounds are kept, results are well formed, and the a1111 grammar reads back what it printed.
 */
#include "runtime/text/grammar.h"
#include "runtime/text/prompt.h"
#include "runtime/text/wildcards.h"
#include "tests/unit/text_fixture.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOLDS(condition) LD_ASSERT(condition)

static const struct ld_embedding_entry entries[] = {{"neg", 3},   {"red cat", 2}, {"red", 1},
                                                    {"full", 75}, {"huge", 80},   {"none", 0}};

static const struct ld_embeddings *embeddings(void)
{
    static struct ld_arena arena;
    static struct ld_embeddings *index;
    struct ld_error err = {0};
    if (!index) {
        ld_arena_init(&arena, "embeddings", 1 << 20);
        HOLDS(ld_embeddings_create(&index, &arena, fixture_bpe(), LD_CLEAN_COMFY, entries,
                                   sizeof entries / sizeof entries[0], &err) == LD_OK);
    }
    return index;
}

/* ---- Tokens ---------------------------------------------------------------------------------- */

static void fuzz_tokens(struct ld_span text)
{
    for (int profile = 0; profile < LD_CLEAN_COUNT; profile++) {
        struct ld_list ids = ld_list_make(64 * text.size + 64);
        struct ld_error err = {0};
        HOLDS(ld_bpe_encode(fixture_bpe(), (enum ld_clean)profile, text, &ids, &err) == LD_OK);
        for (size_t i = 0; i < ids.count; i++)
            HOLDS(ids.data[i] < LD_BPE_FIRST_MERGE + FIXTURE_MERGES + 2);
        ld_list_deinit(&ids);
    }
}

/* ---- Grammars -------------------------------------------------------------------------------- */

/* Segments in the a1111 grammar. False where they cannot be written: empty texts, BREAK, weights
 * whose decimals a double does not survive. */
static bool print_segments(const struct ld_segments *segments, struct ld_buffer *out)
{
    for (uint32_t i = 0; i < segments->count; i++) {
        const struct ld_segment *segment = &segments->items[i];
        const double size = fabs(segment->weight);
        if (segment->size == 0 || strstr(segment->text, "BREAK") || size < 1e-3 || size > 1e3)
            return false;
        const bool bare = segment->weight == 1.0;
        if (!bare)
            ld_buffer_byte(out, '(');
        for (size_t k = 0; k < segment->size; k++) {
            if (strchr("\\()[]", segment->text[k]))
                ld_buffer_byte(out, '\\');
            ld_buffer_byte(out, segment->text[k]);
        }
        if (!bare)
            ld_buffer_format(out, ":%.22f)", segment->weight);
    }
    return segments->count > 0;
}

static void check_round_trip(struct ld_arena *arena, const struct ld_segments *segments)
{
    struct ld_buffer printed = ld_buffer_make(1 << 20);
    struct ld_segments again;
    struct ld_error err = {0};
    if (print_segments(segments, &printed) && !printed.failed) {
        HOLDS(ld_grammar_a1111(arena, ld_span_of(printed.data, printed.size), &again, &err) ==
              LD_OK);
        HOLDS(again.count == segments->count);
        for (uint32_t i = 0; i < again.count; i++) {
            HOLDS(again.items[i].weight == segments->items[i].weight);
            HOLDS(again.items[i].size == segments->items[i].size);
            HOLDS(memcmp(again.items[i].text, segments->items[i].text, again.items[i].size) == 0);
        }
    }
    ld_buffer_deinit(&printed);
}

static void fuzz_grammars(struct ld_arena *arena, struct ld_span text)
{
    for (int syntax = 0; syntax <= LD_SYNTAX_PLAIN; syntax++) {
        struct ld_segments segments;
        struct ld_error err = {0};
        size_t total = 0;
        if (ld_grammar_parse(arena, (enum ld_syntax)syntax, text, &segments, &err) != LD_OK)
            continue;
        for (uint32_t i = 0; i < segments.count; i++) {
            HOLDS(isfinite(segments.items[i].weight));
            total += segments.items[i].size;
        }
        HOLDS(total <= text.size);
        if (syntax == LD_SYNTAX_A1111 && !memchr(text.data, 0, text.size))
            check_round_trip(arena, &segments);
    }
}

/* ---- Schedules, AND, extra networks ---------------------------------------------------------- */

static void fuzz_schedule(struct ld_arena *arena, uint8_t options_byte, struct ld_span text)
{
    const struct ld_prompt_schedule_options options = {.steps = 1 + (options_byte & 31),
                                                       .hires_steps = options_byte & 32 ? 7 : 0,
                                                       .old = options_byte & 64};
    const uint32_t steps = options.hires_steps && !options.old ? 7 : options.steps;
    struct ld_prompt_schedule schedule;
    struct ld_error err = {0};
    if (ld_prompt_schedule_expand(arena, text, &options, &schedule, &err) != LD_OK)
        return;
    HOLDS(schedule.entry_count > 0 && schedule.text_count <= schedule.entry_count);
    HOLDS(schedule.entries[schedule.entry_count - 1].end_step == steps);
    for (uint32_t i = 0; i < schedule.entry_count; i++) {
        HOLDS(i == 0 || schedule.entries[i - 1].end_step < schedule.entries[i].end_step);
        HOLDS(schedule.entries[i].text < schedule.text_count);
        HOLDS(schedule.texts[schedule.entries[i].text].size <= text.size);
    }
}

static void fuzz_parts(struct ld_arena *arena, struct ld_span text)
{
    struct ld_and_parts parts;
    struct ld_networks networks;
    struct ld_span rest;
    struct ld_error err = {0};
    if (ld_and_split(text, &parts, &err) == LD_OK) {
        for (uint32_t i = 0; i < parts.count; i++) {
            HOLDS(isfinite(parts.items[i].weight));
            HOLDS(parts.items[i].text.size <= text.size);
        }
    }
    if (ld_networks_extract(arena, text, &rest, &networks, &err) == LD_OK) {
        HOLDS(rest.size <= text.size);
        for (uint32_t i = 0; i < networks.count; i++) {
            struct ld_lora_mention mention;
            if (ld_network_lora(&networks.items[i], &mention, &err) == LD_OK)
                HOLDS(isfinite(mention.text_weight) && isfinite(mention.unet_weight) &&
                      !strstr(mention.name, "/../"));
        }
    }
}

/* ---- Wildcards ------------------------------------------------------------------------------- */

static enum ld_code read_list(void *ctx, const char *pattern, struct ld_buffer *out,
                              struct ld_error *err)
{
    static const char *const lists[][2] = {{"color", "red\nblue # sky\n\n"},
                                           {"self", "a __self__\nend"},
                                           {"deep/x", "{a|b} __color__\n${v:c}"},
                                           {"wide", "__deep/*__ __deep/*__ __color__"}};
    (void)ctx;
    (void)err;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if (ld_wildcard_matches(pattern, lists[i][0])) {
            ld_buffer_text(out, lists[i][1]);
            ld_buffer_byte(out, '\n');
        }
    }
    return LD_OK;
}

static void fuzz_wildcards(struct ld_arena *arena, uint8_t options_byte, struct ld_span text)
{
    const struct ld_wildcard_source source = {NULL, read_list};
    const struct ld_wildcard_options options = {
        .mode = options_byte & 1 ? LD_WILDCARDS_COMBINATORIAL : LD_WILDCARDS_RANDOM,
        .seed = options_byte,
        .syntax = options_byte & 2 ? LD_SYNTAX_NOVELAI : LD_SYNTAX_A1111,
        .source = &source};
    struct ld_wildcard_results first;
    struct ld_wildcard_results second;
    struct ld_notes notes = {.arena = arena};
    struct ld_error err = {0};
    const enum ld_code code = ld_wildcards_expand(arena, text, &options, 4, &first, &notes, &err);
    HOLDS(ld_wildcards_expand(arena, text, &options, 4, &second, NULL, &err) == code);
    if (code != LD_OK)
        return;
    HOLDS(first.count == second.count && first.count <= 4);
    HOLDS(options.mode == LD_WILDCARDS_COMBINATORIAL || first.count == 4);
    for (uint32_t i = 0; i < first.count; i++) {
        HOLDS(strlen(first.items[i]) <= LD_PROMPT_EXPANSION_BYTES_MAX);
        HOLDS(strcmp(first.items[i], second.items[i]) == 0);
    }
}

/* ---- The whole way --------------------------------------------------------------------------- */

static void check_chunk(const struct ld_chunk *chunk)
{
    const int32_t start = LD_BPE_FIRST_MERGE + FIXTURE_MERGES;
    HOLDS(chunk->used <= LD_CHUNK_ROOM && chunk->ids[0] == start);
    for (uint32_t t = 0; t < LD_CHUNK_TOKENS; t++) {
        const bool embedded = chunk->embeddings[t] != LD_EMBEDDING_NONE;
        HOLDS(embedded == (chunk->ids[t] == -1) && chunk->ids[t] <= start + 1);
        HOLDS(!embedded ||
              chunk->vectors[t] < ld_embeddings_vectors(embeddings(), chunk->embeddings[t]));
        HOLDS(isfinite(chunk->weights[t]));
        if (t > chunk->used)
            HOLDS(chunk->ids[t] == start + 1 && chunk->weights[t] == 1.0);
    }
}

static void fuzz_compile(struct ld_arena *arena, uint8_t options_byte, const char *text)
{
    struct ld_prompt_options options =
        ld_prompt_defaults((enum ld_syntax)(options_byte & 3), fixture_bpe());
    struct ld_prompt prompt;
    struct ld_error err = {0};
    options.steps = 12;
    options.hires_steps = options_byte & 4 ? 5 : 0;
    options.emphasis = (enum ld_emphasis)((options_byte >> 3) & 3);
    options.chunking = options_byte & 32 ? LD_CHUNKING_COMFY : options.chunking;
    options.embeddings = options_byte & 64 ? NULL : embeddings();
    options.chunk_limit = 4;
    if (ld_prompt_compile(arena, &options, text, &prompt, &err) != LD_OK) {
        HOLDS(err.detail[0] != '\0');
        return;
    }
    HOLDS(prompt.part_count > 0 && prompt.text_count > 0);
    for (uint32_t i = 0; i < prompt.text_count; i++) {
        const struct ld_prompt_text *one = &prompt.texts[i];
        HOLDS(one->chunk_count >= 1 && one->chunk_count <= options.chunk_limit);
        HOLDS(one->token_count <= LD_CHUNK_ROOM * one->chunk_count);
        for (uint32_t k = 0; k < one->chunk_count; k++)
            check_chunk(&one->chunks[k]);
    }
    for (uint32_t part = 0; part < prompt.part_count; part++)
        for (uint32_t call = 0; call < 16; call++)
            HOLDS(ld_prompt_text_at(&prompt, part, call) < prompt.text_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ld_arena arena;
    if (size < 2)
        return 0;
    const uint8_t path = data[0] % 8;
    const uint8_t options_byte = data[1];
    const struct ld_span text = ld_span_of(data + 2, size - 2);
    ld_arena_init(&arena, "fuzz", 256 << 20);
    switch (path) {
    case 0:
        fuzz_tokens(text);
        break;
    case 1:
        fuzz_grammars(&arena, text);
        break;
    case 2:
        fuzz_schedule(&arena, options_byte, text);
        break;
    case 3:
        fuzz_parts(&arena, text);
        break;
    case 4:
    case 5:
        fuzz_wildcards(&arena, options_byte, text);
        break;
    default: {
        const char *copy = ld_arena_strndup(&arena, (const char *)text.data, text.size);
        if (copy)
            fuzz_compile(&arena, options_byte, copy);
        break;
    }
    }
    ld_arena_deinit(&arena);
    return 0;
}
