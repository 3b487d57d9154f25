#include "runtime/text/segments.h"

#include <math.h>

void ld_segment_builder_init(struct ld_segment_builder *builder, size_t text_limit)
{
    memset(builder, 0, sizeof *builder);
    builder->text = ld_buffer_make(text_limit);
    /* A segment costs its author at least one byte; a BREAK makes two of its five. */
    builder->count_limit = (uint32_t)(text_limit < UINT32_MAX - 8 ? text_limit + 8 : UINT32_MAX);
}

void ld_segment_builder_deinit(struct ld_segment_builder *builder)
{
    ld_buffer_deinit(&builder->text);
    ld_heap_free(builder->items);
    memset(builder, 0, sizeof *builder);
}

void ld_segment_add(struct ld_segment_builder *builder, struct ld_span text, double weight)
{
    if (builder->count == builder->capacity) {
        const uint32_t capacity = builder->capacity ? 2 * builder->capacity : 32;
        struct ld_segment_draft *items =
            builder->count < builder->count_limit
                ? ld_heap_resize(builder->items, capacity * sizeof *items)
                : NULL;
        if (!items) {
            builder->failed = true;
            return;
        }
        builder->items = items;
        builder->capacity = capacity;
    }
    const size_t start = builder->text.size;
    ld_buffer_bytes(&builder->text, text.data, text.size);
    builder->failed = builder->failed || builder->text.failed;
    builder->items[builder->count++] =
        (struct ld_segment_draft){.start = start, .end = builder->text.size, .weight = weight};
}

void ld_segments_scale(struct ld_segment_builder *builder, uint32_t first, double factor)
{
    for (uint32_t i = first; i < builder->count; i++)
        builder->items[i].weight *= factor;
}

/* Merge in place; exact comparison, as the grammars' authors do. */
static void merge_neighbours(struct ld_segment_builder *builder)
{
    uint32_t kept = 0;
    for (uint32_t i = 1; i < builder->count; i++) {
        struct ld_segment_draft *last = &builder->items[kept];
        if (builder->items[i].weight == last->weight)
            last->end = builder->items[i].end;
        else
            builder->items[++kept] = builder->items[i];
    }
    builder->count = builder->count ? kept + 1 : 0;
}

enum ld_code ld_segments_finish(struct ld_segment_builder *builder, bool merge,
                                struct ld_arena *arena, struct ld_segments *out,
                                struct ld_error *err)
{
    memset(out, 0, sizeof *out);
    if (builder->failed)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the prompt");
    for (uint32_t i = 0; i < builder->count; i++) {
        const struct ld_segment_draft *item = &builder->items[i];
        if (!isfinite(item->weight))
            return LD_FAIL(err, LD_E_RANGE, "a weight in the prompt is too large for a number");
        out->weighted_breaks += item->is_break && item->weight != -1.0;
    }
    if (merge)
        merge_neighbours(builder);
    out->items = ld_arena_calloc(arena, builder->count, sizeof *out->items);
    if (!out->items)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the prompt");
    for (uint32_t i = 0; i < builder->count; i++) {
        const struct ld_segment_draft *item = &builder->items[i];
        struct ld_segment *segment = &out->items[i];
        segment->size = item->end - item->start;
        segment->weight = item->weight;
        segment->text = ld_arena_strndup(
            arena, builder->text.data ? builder->text.data + item->start : "", segment->size);
        if (!segment->text)
            return LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the prompt");
    }
    out->count = builder->count;
    return LD_OK;
}
