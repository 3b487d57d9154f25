#include "runtime/text/chunks.h"

/* One position of a chunk. */
struct slot {
    int32_t id, embedding;
    uint32_t vector;
    double weight;
};

struct filler {
    const struct ld_chunk_options *options;
    struct ld_chunks *chunks;
    struct slot slots[LD_CHUNK_ROOM]; /* of the chunk in work */
    uint32_t count;
    int32_t last_comma; /* its position in the chunk in work, -1 if none */
    struct ld_error *err;
};

static void set_slot(struct ld_chunk *chunk, uint32_t at, struct slot slot)
{
    chunk->ids[at] = slot.id;
    chunk->embeddings[at] = slot.embedding;
    chunk->vectors[at] = slot.vector;
    chunk->weights[at] = slot.weight;
}

static enum ld_code close_chunk(struct filler *f)
{
    if (f->chunks->count == f->options->count_limit)
        return LD_FAIL(f->err, LD_E_TOO_LARGE, "the prompt is longer than %u chunks of %d tokens",
                       f->options->count_limit, LD_CHUNK_ROOM);
    struct ld_chunk *chunk = &f->chunks->items[f->chunks->count++];
    const struct slot start = {(int32_t)f->options->start_id, LD_EMBEDDING_NONE, 0, 1.0};
    const struct slot end = {(int32_t)f->options->end_id, LD_EMBEDDING_NONE, 0, 1.0};
    set_slot(chunk, 0, start);
    for (uint32_t i = 0; i < LD_CHUNK_TOKENS - 1; i++)
        set_slot(chunk, i + 1, i < f->count ? f->slots[i] : end);
    chunk->used = f->count;
    f->count = 0;
    f->last_comma = -1;
    return LD_OK;
}

static struct slot slot_of(const struct ld_unit *unit, uint32_t vector)
{
    const bool embedded = unit->kind == LD_UNIT_EMBEDDING;
    return (struct slot){.id = embedded ? -1 : (int32_t)unit->value,
                         .embedding = embedded ? (int32_t)unit->value : LD_EMBEDDING_NONE,
                         .vector = vector,
                         .weight = unit->weight};
}

/* ---- webui ----------------------------------------------------------------------------------- */

/* A full chunk with a comma near its end: what follows the comma moves to the next chunk. */
static enum ld_code move_tail(struct filler *f)
{
    struct slot tail[LD_CHUNK_ROOM];
    const uint32_t kept = (uint32_t)f->last_comma + 1;
    const uint32_t moved = f->count - kept;
    memcpy(tail, f->slots + kept, moved * sizeof *tail);
    f->count = kept;
    const enum ld_code code = close_chunk(f);
    memcpy(f->slots, tail, moved * sizeof *tail);
    f->count = moved;
    return code;
}

static enum ld_code add_unit(struct filler *f, const struct ld_unit *unit)
{
    enum ld_code code = LD_OK;
    if (unit->kind == LD_UNIT_BREAK)
        return close_chunk(f);
    if (unit->vectors > LD_CHUNK_ROOM)
        return LD_FAIL(f->err, LD_E_TOO_LARGE,
                       "an embedding in the prompt has %u vectors, at most %d fit a chunk",
                       unit->vectors, LD_CHUNK_ROOM);
    if (unit->kind == LD_UNIT_TOKEN && unit->value == LD_BPE_COMMA_ID)
        f->last_comma = (int32_t)f->count;
    else if (f->count == LD_CHUNK_ROOM && f->last_comma >= 0 &&
             (uint32_t)(LD_CHUNK_ROOM - f->last_comma) <= f->options->backtrack)
        code = move_tail(f);
    if (code == LD_OK && f->count + unit->vectors > LD_CHUNK_ROOM)
        code = close_chunk(f);
    for (uint32_t v = 0; code == LD_OK && v < unit->vectors; v++)
        f->slots[f->count++] = slot_of(unit, v);
    return code;
}

static enum ld_code fill_webui(struct filler *f, const struct ld_units *units)
{
    enum ld_code code = LD_OK;
    for (uint32_t i = 0; i < units->count && code == LD_OK; i++)
        code = add_unit(f, &units->items[i]);
    return code;
}

/* ---- comfy ----------------------------------------------------------------------------------- */

/* Units first..end are one group of `slots` positions. */
static enum ld_code add_group(struct filler *f, const struct ld_unit *first,
                              const struct ld_unit *end, uint64_t slots)
{
    enum ld_code code = LD_OK;
    if (slots <= LD_CHUNK_WHOLE_GROUP_MAX && f->count + slots > LD_CHUNK_ROOM)
        code = close_chunk(f);
    for (const struct ld_unit *unit = first; unit < end; unit++) {
        for (uint32_t v = 0; v < unit->vectors; v++) {
            if (f->count == LD_CHUNK_ROOM)
                code = close_chunk(f);
            if (code != LD_OK)
                return code;
            f->slots[f->count++] = slot_of(unit, v);
        }
    }
    return code;
}

static enum ld_code fill_comfy(struct filler *f, const struct ld_units *units)
{
    enum ld_code code = LD_OK;
    for (uint32_t i = 0; i < units->count && code == LD_OK;) {
        uint32_t end = i;
        uint64_t slots = 0;
        for (; end < units->count && units->items[end].group == units->items[i].group; end++)
            slots += units->items[end].vectors;
        code = add_group(f, units->items + i, units->items + end, slots);
        i = end;
    }
    return code;
}

/* ---- Entry ----------------------------------------------------------------------------------- */

enum ld_code ld_chunks_build(struct ld_arena *arena, const struct ld_units *units,
                             const struct ld_chunk_options *options, struct ld_chunks *out,
                             struct ld_error *err)
{
    struct filler f = {.options = options, .chunks = out, .last_comma = -1, .err = err};
    memset(out, 0, sizeof *out);
    struct ld_chunks built = {0};
    built.items = ld_heap_calloc(options->count_limit, sizeof *built.items);
    if (!built.items)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the prompt");
    f.chunks = &built;
    enum ld_code code =
        options->rule == LD_CHUNKING_WEBUI ? fill_webui(&f, units) : fill_comfy(&f, units);
    if (code == LD_OK && (f.count > 0 || built.count == 0)) {
        built.token_count = LD_CHUNK_ROOM * built.count + f.count;
        code = close_chunk(&f);
    } else {
        built.token_count = LD_CHUNK_ROOM * built.count;
    }
    if (code == LD_OK) {
        out->items = ld_arena_calloc(arena, built.count, sizeof *out->items);
        if (!out->items) {
            code = LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the prompt");
        } else {
            memcpy(out->items, built.items, built.count * sizeof *out->items);
            out->count = built.count;
            out->token_count = built.token_count;
        }
    }
    ld_heap_free(built.items);
    return code;
}

bool ld_chunk_is_weighted(const struct ld_chunk *chunk)
{
    for (uint32_t i = 0; i < LD_CHUNK_TOKENS; i++)
        if (chunk->weights[i] != 1.0)
            return true;
    return false;
}
