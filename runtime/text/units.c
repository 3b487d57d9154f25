#include "runtime/text/units.h"

#include "runtime/text/unicode.h"

static const char mention_mark[] = "embedding:";
enum { MENTION_SIZE = sizeof mention_mark - 1 };

struct builder {
    const struct ld_unit_options *options;
    struct ld_notes *notes;
    struct ld_units *units;
    struct ld_list ids; /* of the text in work */
    uint32_t group;
    struct ld_error *err;
};

/* ---- Adding ---------------------------------------------------------------------------------- */

static enum ld_code add_unit(struct builder *b, struct ld_unit unit)
{
    struct ld_units *units = b->units;
    if (units->count == units->count_limit)
        return LD_FAIL(b->err, LD_E_TOO_LARGE, "the prompt has more than %u tokens",
                       units->count_limit);
    if (units->count == units->capacity) {
        const uint32_t capacity = units->capacity ? 2 * units->capacity : 128;
        struct ld_unit *items = ld_heap_resize(units->items, capacity * sizeof *items);
        if (!items)
            return LD_FAIL(b->err, LD_E_NOMEM, "out of memory while reading the prompt");
        units->items = items;
        units->capacity = capacity;
    }
    unit.group = b->group;
    units->items[units->count++] = unit;
    return LD_OK;
}

static enum ld_code add_embedding(struct builder *b, int32_t index, double weight)
{
    b->group++;
    const enum ld_code code = add_unit(
        b, (struct ld_unit){.kind = LD_UNIT_EMBEDDING,
                            .value = (uint32_t)index,
                            .vectors = ld_embeddings_vectors(b->options->embeddings, index),
                            .weight = weight});
    b->group++;
    return code;
}

static enum ld_code add_text(struct builder *b, struct ld_span text, double weight)
{
    enum ld_code code = LD_OK;
    b->group++;
    ld_list_clear(&b->ids);
    if (ld_bpe_encode(b->options->bpe, b->options->profile, text, &b->ids, b->err) != LD_OK) {
        if (!b->ids.failed)
            return ld_error_note(b->err, "encoding a part of the prompt");
        return LD_FAIL(b->err, LD_E_TOO_LARGE, "the prompt has more than %u tokens",
                       b->units->count_limit);
    }
    for (size_t i = 0; i < b->ids.count && code == LD_OK;) {
        size_t length = 1;
        const int32_t embedding =
            ld_embeddings_match(b->options->embeddings, b->ids.data + i, b->ids.count - i, &length);
        if (embedding != LD_EMBEDDING_NONE)
            code = add_embedding(b, embedding, weight);
        else
            code = add_unit(b, (struct ld_unit){.kind = LD_UNIT_TOKEN,
                                                .value = b->ids.data[i],
                                                .vectors = 1,
                                                .weight = weight});
        i += length;
    }
    return code;
}

/* ---- Mentions -------------------------------------------------------------------------------- */

/* Position of the next `embedding:` with a name, text.size if there is none. */
static size_t next_mention(struct ld_span text, size_t pos)
{
    while (pos < text.size) {
        const uint8_t *found = memmem(text.data + pos, text.size - pos, mention_mark, MENTION_SIZE);
        if (!found)
            break;
        const size_t at = (size_t)(found - text.data);
        pos = at + MENTION_SIZE;
        const uint32_t next = ld_text_char_at(text, pos);
        if ((at == 0 || text.data[at - 1] == ' ' || text.data[at - 1] == '\n') &&
            next != LD_CHAR_NONE && !ld_char_is_space(next))
            return at;
    }
    return text.size;
}

static size_t name_length(struct ld_span text, size_t pos)
{
    size_t end = pos;
    size_t next = pos;
    while (end < text.size && !ld_char_is_space(ld_utf8_next(text.data, text.size, &next)))
        end = next;
    return end - pos;
}

/* The mention whose name starts at *pos; *pos moves behind what it used. */
static enum ld_code take_mention(struct builder *b, struct ld_span text, size_t *pos, double weight)
{
    struct ld_span name = ld_span_of(text.data + *pos, name_length(text, *pos));
    int32_t index = ld_embeddings_find(b->options->embeddings, name);
    if (index == LD_EMBEDDING_NONE && name.data[name.size - 1] == ',') {
        while (name.size > 0 && name.data[name.size - 1] == ',')
            name.size--;
        index = ld_embeddings_find(b->options->embeddings, name);
    }
    *pos += name.size;
    if (index != LD_EMBEDDING_NONE)
        return add_embedding(b, index, weight);
    const char *reason = ld_embeddings_refusal(b->options->embeddings, name);
    const int shown = name.size > 64 ? 64 : (int)name.size;
    if (reason)
        ld_notes_add(b->notes, "The embedding \"%.*s\" cannot be used and was left out: %.200s",
                     shown, (const char *)name.data, reason);
    else
        ld_notes_add(b->notes, "The embedding \"%.*s\" is not known and was left out.", shown,
                     (const char *)name.data);
    return LD_OK;
}

static enum ld_code add_segment(struct builder *b, const struct ld_segment *segment)
{
    const struct ld_span text = ld_span_of(segment->text, segment->size);
    enum ld_code code = LD_OK;
    if (b->options->breaks && segment->weight == -1.0 && ld_span_is(text, "BREAK"))
        return add_unit(b, (struct ld_unit){.kind = LD_UNIT_BREAK, .weight = 1.0});
    for (size_t pos = 0; pos < text.size && code == LD_OK;) {
        const size_t mention = b->options->embeddings ? next_mention(text, pos) : text.size;
        code = add_text(b, ld_span_of(text.data + pos, mention - pos), segment->weight);
        pos = mention;
        if (code == LD_OK && mention < text.size) {
            pos += MENTION_SIZE;
            code = take_mention(b, text, &pos, segment->weight);
        }
    }
    return code;
}

enum ld_code ld_units_build(const struct ld_segments *segments,
                            const struct ld_unit_options *options, struct ld_notes *notes,
                            struct ld_units *units, struct ld_error *err)
{
    struct ld_error local = {0};
    struct builder b = {.options = options,
                        .notes = notes,
                        .units = units,
                        .ids = ld_list_make(options->token_limit),
                        .err = err ? err : &local};
    enum ld_code code = LD_OK;
    memset(units, 0, sizeof *units);
    units->count_limit = options->token_limit;
    for (uint32_t i = 0; i < segments->count && code == LD_OK; i++)
        code = add_segment(&b, &segments->items[i]);
    ld_list_deinit(&b.ids);
    return code;
}

void ld_units_deinit(struct ld_units *units)
{
    ld_heap_free(units->items);
    memset(units, 0, sizeof *units);
}
