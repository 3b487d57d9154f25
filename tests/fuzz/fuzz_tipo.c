/*
 * A prompt extended by a language model that answers anything. The first two bytes choose syntax,
 * kind and length; then come, each ended by a NUL, the prompt, a text, tags to avoid, and last the
 * answer, the same to every question. Besides memory safety it holds that the prompt keeps its
 * bytes, adapters, parts and weights, that what was added means itself in the grammar, opens no
 * syntax and stays below the limit, and that a second run gives the same.
 */
#include "runtime/text/grammar.h"
#include "runtime/text/parts.h"
#include "runtime/text/unicode.h"
#include "runtime/tipo/tipo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOLDS(condition) LD_ASSERT(condition)

static const char list[] = "saber_(fate),4,90,\"artoria\"\nfate_(series),3,80,\nas109,1,7,\n"
                           "absurdres,5,9,\nblue_eyes,0,99,\"sapphire_eyes\"\n<o>_<o>,0,1,\"oo\"\n";

static const struct ld_tags *tags(void)
{
    static struct ld_tags *made;
    const struct ld_span text = ld_span_text(list);
    if (!made)
        HOLDS(ld_tags_create(&made, &text, 1, NULL) == LD_OK);
    return made;
}

static enum ld_code answer(void *ctx, struct ld_span prompt, const struct ld_token_choice *choice,
                           const struct ld_cancel *interrupt, struct ld_buffer *out,
                           struct ld_error *err)
{
    const struct ld_span *text = ctx;
    (void)interrupt;
    (void)err;
    HOLDS(prompt.size > 0 && prompt.size < 8192 && ld_utf8_valid(prompt));
    HOLDS(!memmem(prompt.data, prompt.size, "<|empty|>", 9));
    /* Further answers start elsewhere in the bytes. */
    const size_t skip = text->size ? choice->seed % text->size : 0;
    ld_buffer_bytes(out, text->data + skip, text->size - skip);
    return LD_OK;
}

/* The text of all segments; false where the grammar refuses the prompt. */
static bool spoken(struct ld_arena *arena, enum ld_syntax syntax, struct ld_span prompt,
                   struct ld_buffer *out)
{
    struct ld_segments segments;
    if (ld_grammar_parse(arena, syntax, prompt, &segments, NULL) != LD_OK)
        return false;
    for (uint32_t i = 0; i < segments.count; i++)
        ld_buffer_bytes(out, segments.items[i].text, segments.items[i].size);
    return true;
}

/* In the grammars that read from left to right, a prompt and what follows it are read one after the
 * other; BREAK takes the blank behind it. */
static void check_meaning(struct ld_arena *arena, enum ld_syntax syntax, struct ld_span kept,
                          struct ld_span added)
{
    struct ld_buffer whole = ld_buffer_make(1 << 17);
    struct ld_buffer expected = ld_buffer_make(1 << 17);
    struct ld_buffer got = ld_buffer_make(1 << 17);
    ld_buffer_bytes(&whole, kept.data, kept.size);
    ld_buffer_bytes(&whole, added.data, added.size);
    const bool after_break = kept.size >= 5 && memcmp(kept.data + kept.size - 5, "BREAK", 5) == 0;
    if (syntax != LD_SYNTAX_COMFY && !after_break && spoken(arena, syntax, kept, &expected)) {
        for (size_t i = 0; i < added.size; i++)
            if (added.data[i] != '\\')
                ld_buffer_byte(&expected, (char)added.data[i]);
        HOLDS(spoken(arena, syntax, ld_span_of(whole.data, whole.size), &got));
        HOLDS(ld_span_equal(ld_span_of(got.data, got.size),
                            ld_span_of(expected.data, expected.size)));
    }
    ld_buffer_deinit(&whole);
    ld_buffer_deinit(&expected);
    ld_buffer_deinit(&got);
}

/* Adapters and joined prompts are those of the author, with their weights. */
static void check_structure(struct ld_arena *arena, enum ld_syntax syntax, struct ld_span prompt,
                            struct ld_span result)
{
    struct ld_networks before;
    struct ld_networks after;
    struct ld_and_parts parts;
    struct ld_and_parts more;
    if (syntax == LD_SYNTAX_PLAIN)
        return;
    HOLDS(ld_networks_extract(arena, prompt, &prompt, &before, NULL) == LD_OK);
    HOLDS(ld_networks_extract(arena, result, &result, &after, NULL) == LD_OK);
    HOLDS(before.count == after.count);
    for (uint32_t i = 0; i < before.count; i++)
        HOLDS(ld_span_equal(before.items[i].mention, after.items[i].mention));
    if (syntax != LD_SYNTAX_A1111)
        return;
    HOLDS(ld_and_split(prompt, &parts, NULL) == LD_OK);
    HOLDS(ld_and_split(result, &more, NULL) == LD_OK);
    HOLDS(parts.count == more.count);
    for (uint32_t i = 0; i < parts.count; i++)
        HOLDS(parts.items[i].weight == more.items[i].weight ||
              (parts.count == 1 && more.items[i].weight == 1.0));
}

static void check(struct ld_arena *arena, const struct ld_tipo_wish *wish, struct ld_span result)
{
    const struct ld_span prompt = ld_span_text(wish->prompt);
    struct ld_tipo_reading *reading = ld_arena_alloc(arena, sizeof *reading);
    if (ld_span_equal(result, prompt))
        return;
    HOLDS(result.size <= LD_PROMPT_BYTES_MAX && ld_utf8_valid(result));
    HOLDS(reading &&
          ld_tipo_read(reading, arena, tags(), wish->syntax, wish->prompt, NULL) == LD_OK);
    const size_t behind = prompt.size - reading->tail;
    HOLDS(reading->head + behind < result.size);
    const struct ld_span kept = ld_span_of(result.data, reading->head);
    const struct ld_span added =
        ld_span_of(result.data + kept.size, result.size - behind - kept.size);
    HOLDS(memcmp(kept.data, prompt.data, kept.size) == 0);
    HOLDS(memcmp(result.data + result.size - behind, prompt.data + reading->tail, behind) == 0);
    for (size_t pos = reading->head; pos < reading->tail; pos++)
        HOLDS(strchr(", \t\r\n", prompt.data[pos]));
    for (size_t pos = 0; pos < added.size;) {
        HOLDS(!strchr("<>{}|$#", added.data[pos]));
        HOLDS(!ld_char_is_other(ld_utf8_next(added.data, added.size, &pos)));
    }
    HOLDS(!memmem(added.data, added.size, "__", 2));
    HOLDS(!memmem(added.data, added.size, "embedding:", 10));
    check_meaning(arena, wish->syntax, kept, added);
    check_structure(arena, wish->syntax, prompt, result);
}

/* The bytes up to the next NUL, as a string. */
static const char *take(struct ld_arena *arena, struct ld_span *rest)
{
    const uint8_t *end = rest->size ? memchr(rest->data, 0, rest->size) : NULL;
    const size_t size = end ? (size_t)(end - rest->data) : rest->size;
    const char *text = ld_arena_strndup(arena, (const char *)rest->data, size);
    const size_t used = end ? size + 1 : size;
    *rest = ld_span_of(rest->data + used, rest->size - used);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ld_arena arena;
    if (size < 2)
        return 0;
    ld_arena_init(&arena, "fuzz", 256 << 20);
    struct ld_span rest = ld_span_of(data + 2, size - 2);
    struct ld_tipo_wish wish = {.syntax = (enum ld_syntax)(data[0] & 3),
                                .write = (enum ld_tipo_write)((data[0] >> 2) % 3),
                                .length = (enum ld_tipo_length)(data[1] & 3),
                                .choice = ld_tipo_choice(0)};
    wish.prompt = take(&arena, &rest);
    wish.text = take(&arena, &rest);
    wish.avoid = take(&arena, &rest);
    const struct ld_tipo_writer writer = {answer, &rest, data[1] & 4 ? tags() : NULL};
    struct ld_notes notes = {.arena = &arena};
    struct ld_buffer out = ld_buffer_make(1 << 17);
    struct ld_buffer again = ld_buffer_make(1 << 17);
    struct ld_error err = {0};
    HOLDS(wish.prompt && wish.text && wish.avoid);
    const enum ld_code code = ld_tipo_extend(&writer, &wish, NULL, &out, &notes, &err);
    HOLDS(ld_tipo_extend(&writer, &wish, NULL, &again, NULL, NULL) == code);
    HOLDS(ld_span_equal(ld_span_of(out.data, out.size), ld_span_of(again.data, again.size)));
    if (code == LD_OK)
        check(&arena, &wish, ld_span_of(out.data, out.size));
    else
        HOLDS(err.detail[0] != '\0' && out.size == 0);
    ld_buffer_deinit(&out);
    ld_buffer_deinit(&again);
    ld_arena_deinit(&arena);
    return 0;
}
