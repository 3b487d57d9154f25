/*
 * Weighted pieces of a prompt, and the builder all grammars share. The texts of a builder lie one
 * after another in one buffer, so neighbours merge without copying.
 */
#ifndef LD_TEXT_SEGMENTS_H
#define LD_TEXT_SEGMENTS_H

#include "runtime/base/arena.h"
#include "runtime/base/buffer.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ld_segment {
    const char *text; /* UTF-8, NUL-terminated */
    size_t size;
    double weight;
};

struct ld_segments {
    struct ld_segment *items;
    uint32_t count;
    uint32_t weighted_breaks; /* BREAK words inside weighted brackets, which break nothing */
};

/* ---- Builder --------------------------------------------------------------------------------- */

struct ld_segment_draft {
    size_t start, end; /* in the builder's text */
    double weight;
    bool is_break; /* written as BREAK, whatever became of its weight */
};

struct ld_segment_builder {
    struct ld_buffer text;
    struct ld_segment_draft *items;
    uint32_t count, capacity, count_limit;
    bool failed; /* out of memory, or beyond a ceiling */
};

/* Room for `text_limit` bytes and about as many segments. */
void ld_segment_builder_init(struct ld_segment_builder *builder, size_t text_limit);
void ld_segment_builder_deinit(struct ld_segment_builder *builder);

void ld_segment_add(struct ld_segment_builder *builder, struct ld_span text, double weight);

/* Multiply the weight of every segment from index `first` on. */
void ld_segments_scale(struct ld_segment_builder *builder, uint32_t first, double factor);

/*
 * Copy the segments into `arena`; with `merge`, neighbours of equal weight become one.
 * Errors   LD_E_RANGE for a weight that is not finite, LD_E_NOMEM.
 */
enum ld_code ld_segments_finish(struct ld_segment_builder *builder, bool merge,
                                struct ld_arena *arena, struct ld_segments *out,
                                struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
