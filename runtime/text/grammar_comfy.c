#include "runtime/text/grammar.h"

#include "runtime/text/unicode.h"

/*
 * Weights of ComfyUI (model.md 4.4). Its parser cuts a text into pieces at the outermost round
 * brackets and does the same inside each bracketed piece; here the nesting is a stack of frames,
 * each resuming where it stood. A text is read once per level, so the cost is at most 32 n.
 */

/* Stand-ins for `\(` and `\)` while brackets are matched: bytes that UTF-8 never holds. */
enum { LITERAL_OPEN = 0xFE, LITERAL_CLOSE = 0xFF };

static const double group_factor = 1.1;

/* A text that is being cut into pieces. */
struct frame {
    struct ld_span text;
    double weight;
    size_t pos;        /* next byte to look at */
    size_t item_start; /* first byte of the piece that is growing */
    int64_t level;     /* open minus closed brackets; goes below zero */
};

/* `\(` and `\)` become their stand-ins; the result has at most text.size bytes. */
static size_t mask_escapes(struct ld_span text, uint8_t *out)
{
    size_t size = 0;
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t next = text.data[i] == '\\' && i + 1 < text.size ? text.data[i + 1] : 0;
        if (next == '(' || next == ')') {
            out[size++] = next == '(' ? LITERAL_OPEN : LITERAL_CLOSE;
            i++;
        } else {
            out[size++] = text.data[i];
        }
    }
    return size;
}

static void add_piece(struct ld_segment_builder *builder, struct ld_span piece, double weight)
{
    ld_segment_add(builder, piece, weight);
    if (builder->failed)
        return;
    const struct ld_segment_draft *item = &builder->items[builder->count - 1];
    for (size_t i = item->start; i < item->end; i++) {
        const uint8_t c = (uint8_t)builder->text.data[i];
        if (c == LITERAL_OPEN || c == LITERAL_CLOSE)
            builder->text.data[i] = c == LITERAL_OPEN ? '(' : ')';
    }
}

/* The next piece of a frame; false at its end. */
static bool next_piece(struct frame *frame, struct ld_span *piece)
{
    const uint8_t *data = frame->text.data;
    while (frame->pos < frame->text.size) {
        const size_t at = frame->pos++;
        if (data[at] == '(') {
            const size_t start = frame->item_start;
            if (frame->level++ != 0)
                continue;
            frame->item_start = at;
            if (at > start) {
                *piece = ld_span_of(data + start, at - start);
                return true;
            }
        } else if (data[at] == ')' && --frame->level == 0) {
            *piece = ld_span_of(data + frame->item_start, at + 1 - frame->item_start);
            frame->item_start = at + 1;
            return true;
        }
    }
    *piece = ld_span_of(data + frame->item_start, frame->text.size - frame->item_start);
    frame->item_start = frame->text.size;
    return piece->size > 0;
}

static bool is_group(struct ld_span piece)
{
    return piece.size >= 2 && piece.data[0] == '(' && piece.data[piece.size - 1] == ')';
}

/* The inside of a group with its weight: absolute after the last colon, else 1.1 times the outer.
 */
static struct frame enter_group(struct ld_span group, double outer)
{
    struct ld_span inside = ld_span_of(group.data + 1, group.size - 2);
    double weight = outer * group_factor;
    const uint8_t *colon = inside.size ? memrchr(inside.data, ':', inside.size) : NULL;
    if (colon && colon > inside.data) {
        const size_t head = (size_t)(colon - inside.data);
        double number;
        if (ld_text_parse_double(ld_span_of(colon + 1, inside.size - head - 1), &number)) {
            weight = number;
            inside.size = head;
        }
    }
    return (struct frame){.text = inside, .weight = weight};
}

static enum ld_code walk(struct ld_segment_builder *builder, struct ld_span text,
                         struct ld_error *err)
{
    struct frame stack[LD_PROMPT_NESTING_MAX + 1];
    uint32_t depth = 0;
    stack[0] = (struct frame){.text = text, .weight = 1.0};
    for (;;) {
        struct frame *frame = &stack[depth];
        struct ld_span piece;
        if (!next_piece(frame, &piece)) {
            if (depth-- == 0)
                return LD_OK;
        } else if (!is_group(piece)) {
            add_piece(builder, piece, frame->weight);
        } else if (depth == LD_PROMPT_NESTING_MAX) {
            return LD_FAIL(err, LD_E_TOO_LARGE, "brackets in the prompt nest deeper than %d",
                           LD_PROMPT_NESTING_MAX);
        } else {
            stack[++depth] = enter_group(piece, frame->weight);
        }
    }
}

enum ld_code ld_grammar_comfy(struct ld_arena *arena, struct ld_span text, struct ld_segments *out,
                              struct ld_error *err)
{
    struct ld_segment_builder builder;
    memset(out, 0, sizeof *out);
    ld_segment_builder_init(&builder, text.size);
    uint8_t *masked = ld_heap_alloc(text.size);
    enum ld_code code;
    if (!masked) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the prompt");
        goto done;
    }
    code = walk(&builder, ld_span_of(masked, mask_escapes(text, masked)), err);
    if (code == LD_OK)
        code = ld_segments_finish(&builder, false, arena, out, err);
done:
    ld_heap_free(masked);
    ld_segment_builder_deinit(&builder);
    return code;
}
