/*
 * From a text to ids. The characters of a stretch form a linked list and the pairs that are pieces
 * wait in a heap, so that a stretch of n characters costs O(n log n) however it is made.
 */
#include "runtime/base/arena.h"
#include "runtime/text/pair_heap.h"
#include "runtime/tipo/pieces_private.h"

enum { NO_SYMBOL = -1 };

struct symbol {
    uint32_t start, size; /* in `chars`; size 0: joined to the one before */
    int32_t previous, next;
    bool malformed; /* a byte that is no UTF-8: joined with nothing */
};

struct encoder {
    const struct ld_pieces *pieces;
    uint8_t *chars; /* of one stretch, blanks replaced */
    struct symbol *symbols;
    struct ld_pair_heap heap; /* pairs that were a piece when they were pushed, highest score first;
                                 `was`: the size of both */
    uint32_t *ids;
    uint32_t ids_max, count;
};

static void emit(struct encoder *e, uint32_t id)
{
    if (e->count < e->ids_max)
        e->ids[e->count] = id;
    e->count++; /* at most 3 for each byte of the text */
}

/* ---- Joining --------------------------------------------------------------------------------- */

static void push_if_piece(struct encoder *e, int32_t left)
{
    if (left == NO_SYMBOL || e->symbols[left].next == NO_SYMBOL)
        return;
    const struct symbol *a = &e->symbols[left];
    const struct symbol *b = &e->symbols[a->next];
    if (a->malformed || b->malformed)
        return;
    const uint32_t size = a->size + b->size;
    const uint32_t id = ld_piece_find(e->pieces, ld_span_of(e->chars + a->start, size));
    if (id != PIECE_NONE)
        ld_pair_push(&e->heap, (struct ld_pair){-(double)e->pieces->scores[id], left, {size, 0}});
}

/* A symbol only grows to the right, and only by what is next to it: where both sizes still add up
 * to the pair's, it is the pair that was pushed. */
static bool still_there(const struct encoder *e, const struct ld_pair *pair)
{
    const struct symbol *a = &e->symbols[pair->left];
    return a->size > 0 && a->next != NO_SYMBOL &&
           a->size + e->symbols[a->next].size == pair->was[0];
}

static void join(struct encoder *e, int32_t left)
{
    struct symbol *a = &e->symbols[left];
    struct symbol *b = &e->symbols[a->next];
    a->size += b->size;
    b->size = 0;
    a->next = b->next;
    if (a->next != NO_SYMBOL)
        e->symbols[a->next].previous = left;
    push_if_piece(e, a->previous);
    push_if_piece(e, left);
}

static void emit_symbol(struct encoder *e, const struct symbol *symbol)
{
    const struct ld_pieces *p = e->pieces;
    const struct ld_span text = ld_span_of(e->chars + symbol->start, symbol->size);
    const uint32_t id = symbol->malformed ? PIECE_NONE : ld_piece_find(p, text);
    if (id != PIECE_NONE) {
        emit(e, id);
        return;
    }
    for (size_t i = 0; i < text.size; i++) {
        if (p->bytes[text.data[i]] == PIECE_NONE) {
            emit(e, p->unknown);
            return;
        }
    }
    for (size_t i = 0; i < text.size; i++)
        emit(e, p->bytes[text.data[i]]);
}

/* ---- One stretch ----------------------------------------------------------------------------- */

/* A character of `size` bytes from `bytes`; returns where the next one starts in `chars`. */
static uint32_t add_symbol(struct encoder *e, int32_t index, uint32_t start, const uint8_t *bytes,
                           uint32_t size, bool malformed)
{
    if (size == 1 && bytes[0] == ' ') {
        bytes = (const uint8_t *)PIECE_BLANK;
        size = PIECE_BLANK_SIZE;
    }
    memcpy(e->chars + start, bytes, size);
    e->symbols[index] = (struct symbol){.start = start,
                                        .size = size,
                                        .previous = index - 1,
                                        .next = index + 1,
                                        .malformed = malformed};
    return start + size;
}

/* Returns how many symbols there are. */
static int32_t split(struct encoder *e, struct ld_span text)
{
    int32_t count = 0;
    uint32_t end = 0;
    if (e->pieces->add_prefix)
        end = add_symbol(e, count++, end, (const uint8_t *)" ", 1, false);
    for (size_t pos = 0; pos < text.size;) {
        const size_t start = pos;
        const uint32_t code_point = ld_utf8_next(text.data, text.size, &pos);
        const bool malformed = code_point == 0xFFFD && pos - start == 1;
        end = add_symbol(e, count++, end, text.data + start, (uint32_t)(pos - start), malformed);
    }
    e->symbols[count - 1].next = NO_SYMBOL;
    return count;
}

static void encode_stretch(struct encoder *e, struct ld_span text)
{
    if (text.size == 0)
        return;
    const int32_t count = split(e, text);
    e->heap.count = 0;
    for (int32_t i = 0; i + 1 < count; i++)
        push_if_piece(e, i);
    while (e->heap.count > 0) {
        const struct ld_pair pair = ld_pair_pop(&e->heap);
        if (still_there(e, &pair))
            join(e, pair.left);
    }
    for (int32_t i = 0; i != NO_SYMBOL; i = e->symbols[i].next)
        emit_symbol(e, &e->symbols[i]);
}

/* ---- Control pieces in the text -------------------------------------------------------------- */

/* The first of specials[low..high), all equal before byte `depth`, whose byte there is at least
 * `byte`; one that has no such byte comes before them all. */
static uint32_t first_from(const struct ld_pieces *p, uint32_t low, uint32_t high, size_t depth,
                           unsigned byte)
{
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const struct ld_span text = ld_piece_text(p, p->specials[middle]);
        if (text.size <= depth || text.data[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest special piece that `text` starts with, or PIECE_NONE. */
static uint32_t special_at(const struct ld_pieces *p, struct ld_span text)
{
    uint32_t found = PIECE_NONE;
    uint32_t low = p->special_first[text.data[0]];
    uint32_t high = p->special_first[text.data[0] + 1];
    for (size_t depth = 1; low < high; depth++) {
        if (ld_piece_text(p, p->specials[low]).size == depth)
            found = p->specials[low];
        if (depth == text.size)
            break;
        const unsigned byte = text.data[depth];
        const uint32_t from = first_from(p, low, high, depth, byte);
        high = first_from(p, from, high, depth, byte + 1);
        low = from;
    }
    return found;
}

static void encode_text(struct encoder *e, struct ld_span text)
{
    size_t start = 0;
    for (size_t pos = 0; pos < text.size;) {
        const uint32_t id = special_at(e->pieces, ld_span_of(text.data + pos, text.size - pos));
        if (id == PIECE_NONE) {
            pos++;
            continue;
        }
        encode_stretch(e, ld_span_of(text.data + start, pos - start));
        emit(e, id);
        pos += ld_piece_text(e->pieces, id).size;
        start = pos;
    }
    encode_stretch(e, ld_span_of(text.data + start, text.size - start));
}

enum ld_code ld_pieces_encode(const struct ld_pieces *pieces, struct ld_span text, uint32_t *ids,
                              uint32_t ids_max, uint32_t *count, struct ld_error *err)
{
    LD_ASSERT(pieces != NULL && count != NULL && (ids != NULL || ids_max == 0));
    *count = 0;
    if (text.size > LD_PIECES_TEXT_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the text has %zu bytes; at most %d are read",
                       text.size, LD_PIECES_TEXT_MAX);
    const size_t symbols = text.size + 1; /* with the blank in front */
    struct encoder e = {.pieces = pieces, .ids = ids, .ids_max = ids_max};
    e.chars = ld_heap_calloc(symbols, 3);
    e.symbols = ld_heap_calloc(symbols, sizeof *e.symbols);
    e.heap.pairs = ld_heap_calloc(symbols, 3 * sizeof *e.heap.pairs);
    enum ld_code code = LD_OK;
    if (!e.chars || !e.symbols || !e.heap.pairs) {
        code = LD_FAIL(err, LD_E_NOMEM, "not enough memory to read a text");
    } else {
        if (pieces->add_begin)
            emit(&e, pieces->begin);
        if (text.size > 0)
            encode_text(&e, text);
        *count = e.count;
    }
    ld_heap_free(e.chars);
    ld_heap_free(e.symbols);
    ld_heap_free(e.heap.pairs);
    return code;
}
