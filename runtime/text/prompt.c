#include "runtime/text/prompt.h"

#include "runtime/text/grammar.h"

struct compiler {
    struct ld_arena *arena;
    const struct ld_prompt_options *options;
    struct ld_prompt *prompt;
    struct ld_error *err;
};

struct ld_prompt_options ld_prompt_defaults(enum ld_syntax syntax, const struct ld_bpe *bpe)
{
    return (struct ld_prompt_options){.bpe = bpe,
                                      .syntax = syntax,
                                      .emphasis = LD_EMPHASIS_ORIGINAL,
                                      .profile = LD_CLEAN_COMFY,
                                      .chunking = syntax == LD_SYNTAX_COMFY ? LD_CHUNKING_COMFY
                                                                            : LD_CHUNKING_WEBUI,
                                      .steps = 1,
                                      .backtrack = LD_CHUNK_BACKTRACK,
                                      .chunk_limit = LD_PROMPT_CHUNKS_MAX,
                                      .bytes_limit = LD_PROMPT_EXPANSION_BYTES_MAX,
                                      .networks = syntax != LD_SYNTAX_PLAIN,
                                      .composed = syntax == LD_SYNTAX_A1111};
}

static enum ld_code out_of_memory(const struct compiler *c)
{
    return LD_FAIL(c->err, LD_E_NOMEM, "out of memory while reading the prompt");
}

enum ld_code ld_prompt_check(struct ld_span text, size_t bytes_limit, struct ld_error *err)
{
    if (text.size > bytes_limit)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the prompt is longer than %zu bytes", bytes_limit);
    if (!ld_utf8_valid(text))
        return LD_FAIL(err, LD_E_FORMAT, "the prompt is not valid UTF-8");
    for (size_t pos = 0; pos < text.size;) {
        const uint32_t c = ld_utf8_next(text.data, text.size, &pos);
        if ((c < 0x20 && c != '\n' && c != '\r' && c != '\t') || (c >= 0x7F && c <= 0x9F))
            return LD_FAIL(err, LD_E_INVALID,
                           "the prompt holds a control character other than LF, CR and TAB");
    }
    return LD_OK;
}

/* ---- Extra networks -------------------------------------------------------------------------- */

static enum ld_code take_networks(struct compiler *c, struct ld_span *text)
{
    struct ld_networks networks;
    struct ld_prompt *prompt = c->prompt;
    if (!c->options->networks)
        return LD_OK;
    enum ld_code code = ld_networks_extract(c->arena, *text, text, &networks, c->err);
    if (code != LD_OK)
        return code;
    prompt->adapters = ld_arena_calloc(c->arena, networks.count, sizeof *prompt->adapters);
    if (!prompt->adapters)
        return out_of_memory(c);
    for (uint32_t i = 0; i < networks.count; i++) {
        const struct ld_network *network = &networks.items[i];
        if (!ld_network_is_lora(network)) {
            ld_notes_add(&prompt->notes, "<%.32s:%.64s> is of an unknown type and was left out.",
                         network->type, network->positional_count ? network->positional[0] : "...");
            continue;
        }
        code = ld_network_lora(network, &prompt->adapters[prompt->adapter_count++], c->err);
        if (code != LD_OK)
            return code;
    }
    return LD_OK;
}

/* ---- One text: weights, embeddings, tokens, chunks ------------------------------------------- */

static enum ld_code read_segments(struct compiler *c, struct ld_prompt_text *text)
{
    const bool raw =
        c->options->syntax == LD_SYNTAX_A1111 && c->options->emphasis == LD_EMPHASIS_NONE;
    const enum ld_code code = ld_grammar_parse(c->arena, raw ? LD_SYNTAX_PLAIN : c->options->syntax,
                                               text->text, &text->segments, c->err);
    if (code == LD_OK && text->segments.weighted_breaks)
        ld_notes_add(&c->prompt->notes, "A BREAK inside weighted brackets does not start a new "
                                        "chunk; it is read as a word of negative weight.");
    return code;
}

static enum ld_code fill_chunks(struct compiler *c, struct ld_prompt_text *text)
{
    const struct ld_prompt_options *options = c->options;
    const struct ld_unit_options unit_options = {
        .bpe = options->bpe,
        .profile = options->profile,
        .embeddings = options->embeddings,
        .breaks = options->syntax == LD_SYNTAX_A1111 && options->emphasis != LD_EMPHASIS_NONE,
        .token_limit = options->chunk_limit * LD_CHUNK_ROOM};
    const struct ld_chunk_options chunk_options = {.rule = options->chunking,
                                                   .start_id = ld_bpe_start_id(options->bpe),
                                                   .end_id = ld_bpe_end_id(options->bpe),
                                                   .backtrack = options->backtrack,
                                                   .count_limit = options->chunk_limit};
    struct ld_units units = {0};
    struct ld_chunks chunks = {0};
    enum ld_code code =
        ld_units_build(&text->segments, &unit_options, &c->prompt->notes, &units, c->err);
    if (code == LD_OK)
        code = ld_chunks_build(c->arena, &units, &chunk_options, &chunks, c->err);
    ld_units_deinit(&units);
    text->chunks = chunks.items;
    text->chunk_count = chunks.count;
    text->token_count = chunks.token_count;
    return code;
}

static enum ld_code compile_text(struct compiler *c, struct ld_prompt_text *text)
{
    const bool ignore =
        c->options->syntax == LD_SYNTAX_A1111 && c->options->emphasis == LD_EMPHASIS_IGNORE;
    enum ld_code code = read_segments(c, text);
    if (code == LD_OK)
        code = fill_chunks(c, text);
    for (uint32_t i = 0; code == LD_OK && i < text->chunk_count; i++) {
        struct ld_chunk *chunk = &text->chunks[i];
        for (uint32_t t = 0; ignore && t < LD_CHUNK_TOKENS; t++)
            chunk->weights[t] = 1.0;
        text->weighted = text->weighted || ld_chunk_is_weighted(chunk);
    }
    if (text->chunk_count > c->prompt->chunk_count_max)
        c->prompt->chunk_count_max = text->chunk_count;
    return code;
}

/* Index of `text` among the compiled texts; compiled and added if it is new. */
static enum ld_code intern_text(struct compiler *c, struct ld_span text, uint32_t *index)
{
    struct ld_prompt *prompt = c->prompt;
    for (uint32_t i = 0; i < prompt->text_count; i++) {
        if (ld_span_equal(prompt->texts[i].text, text)) {
            *index = i;
            return LD_OK;
        }
    }
    if (prompt->text_count == LD_PROMPT_TEXTS_MAX)
        return LD_FAIL(c->err, LD_E_TOO_LARGE, "the prompt's schedules make more than %d texts",
                       LD_PROMPT_TEXTS_MAX);
    *index = prompt->text_count++;
    prompt->texts[*index].text = text;
    return compile_text(c, &prompt->texts[*index]);
}

/* ---- Parts ----------------------------------------------------------------------------------- */

static enum ld_code compile_part(struct compiler *c, struct ld_span text,
                                 struct ld_prompt_part *part)
{
    const struct ld_prompt_schedule_options options = {.steps = c->options->steps,
                                                       .hires_steps = c->options->hires_steps,
                                                       .old = c->options->old_schedule};
    struct ld_prompt_schedule_entry whole = {.end_step = c->options->steps, .text = 0};
    struct ld_prompt_schedule schedule = {
        .entries = &whole, .entry_count = 1, .texts = &text, .text_count = 1};
    if (c->options->syntax == LD_SYNTAX_A1111) {
        const enum ld_code code =
            ld_prompt_schedule_expand(c->arena, text, &options, &schedule, c->err);
        if (code != LD_OK)
            return code;
    }
    part->entries = ld_arena_calloc(c->arena, schedule.entry_count, sizeof *part->entries);
    if (!part->entries)
        return out_of_memory(c);
    for (uint32_t i = 0; i < schedule.entry_count; i++) {
        struct ld_prompt_schedule_entry *entry = &part->entries[part->entry_count++];
        *entry = schedule.entries[i];
        const enum ld_code code =
            intern_text(c, schedule.texts[schedule.entries[i].text], &entry->text);
        if (code != LD_OK)
            return code;
    }
    return LD_OK;
}

static enum ld_code split_parts(struct compiler *c, struct ld_span text, struct ld_and_parts *parts)
{
    if (c->options->syntax != LD_SYNTAX_A1111 || !c->options->composed) {
        parts->count = 1;
        parts->items[0] = (struct ld_and_part){.text = text, .weight = 1.0};
        return LD_OK;
    }
    const enum ld_code code = ld_and_split(text, parts, c->err);
    if (code == LD_OK && parts->count == 1 && parts->items[0].weighted)
        ld_notes_add(&c->prompt->notes,
                     "The number after the last colon is read as the weight of the whole prompt "
                     "(%g).",
                     parts->items[0].weight);
    return code;
}

enum ld_code ld_prompt_compile(struct ld_arena *arena, const struct ld_prompt_options *options,
                               const char *text, struct ld_prompt *out, struct ld_error *err)
{
    struct compiler c = {.arena = arena, .options = options, .prompt = out, .err = err};
    struct ld_span rest = ld_span_text(text);
    struct ld_and_parts parts;
    memset(out, 0, sizeof *out);
    out->notes.arena = arena;
    if (options->steps < 1 || options->steps > LD_PROMPT_SCHEDULE_STEPS_MAX)
        return LD_FAIL(err, LD_E_RANGE, "a prompt schedule needs 1 to %d steps",
                       LD_PROMPT_SCHEDULE_STEPS_MAX);
    enum ld_code code = ld_prompt_check(rest, options->bytes_limit, err);
    if (code == LD_OK)
        code = take_networks(&c, &rest);
    if (code == LD_OK)
        code = split_parts(&c, rest, &parts);
    if (code != LD_OK)
        return code;
    out->texts = ld_arena_calloc(arena, LD_PROMPT_TEXTS_MAX, sizeof *out->texts);
    out->parts = ld_arena_calloc(arena, parts.count, sizeof *out->parts);
    if (!out->texts || !out->parts)
        return out_of_memory(&c);
    for (uint32_t i = 0; i < parts.count && code == LD_OK; i++) {
        struct ld_prompt_part *part = &out->parts[out->part_count++];
        part->weight = parts.items[i].weight;
        code = compile_part(&c, parts.items[i].text, part);
    }
    return code;
}

/* ---- Reading --------------------------------------------------------------------------------- */

uint32_t ld_prompt_text_at(const struct ld_prompt *prompt, uint32_t part, uint32_t call)
{
    LD_ASSERT(part < prompt->part_count && prompt->parts[part].entry_count > 0);
    const struct ld_prompt_part *p = &prompt->parts[part];
    for (uint32_t i = 0; i < p->entry_count; i++)
        if (call <= p->entries[i].end_step)
            return p->entries[i].text;
    return p->entries[p->entry_count - 1].text;
}

void ld_chunk_set_empty(struct ld_chunk *chunk, const struct ld_bpe *bpe)
{
    memset(chunk, 0, sizeof *chunk);
    for (uint32_t i = 0; i < LD_CHUNK_TOKENS; i++) {
        chunk->ids[i] = (int32_t)(i == 0 ? ld_bpe_start_id(bpe) : ld_bpe_end_id(bpe));
        chunk->embeddings[i] = LD_EMBEDDING_NONE;
        chunk->weights[i] = 1.0;
    }
}
