#include "runtime/text/bpe.h"

#include "runtime/text/bpe_table.h"
#include "runtime/text/pair_heap.h"
#include "runtime/text/unicode.h"

/*
 * Text -> pieces -> symbols -> ids. A piece is cut out by the tokenizer's regular expression, its
 * bytes become symbols, and the pair of neighbours with the earliest merge is joined, everywhere
 * in the piece, until no pair merges. The symbols form a linked list and the pairs wait in a heap,
 * so that a piece of n bytes costs O(n log n) however long it is.
 */

enum { NO_SYMBOL = -1 };

struct symbol {
    uint32_t id;
    int32_t previous, next; /* NO_SYMBOL at the ends */
    bool alive;
};

struct encoder {
    const struct ld_bpe *bpe;
    struct symbol *symbols;   /* capacity bytes of the longest piece */
    struct ld_pair_heap heap; /* in the order of the results' ids, which is that of merging */
    size_t capacity;
};

/* ---- Merging --------------------------------------------------------------------------------- */

static void push_if_merging(struct encoder *e, int32_t left)
{
    if (left == NO_SYMBOL || e->symbols[left].next == NO_SYMBOL)
        return;
    const uint32_t left_id = e->symbols[left].id;
    const uint32_t right_id = e->symbols[e->symbols[left].next].id;
    const uint32_t merged = ld_bpe_merged(e->bpe, left_id, right_id);
    if (merged)
        ld_pair_push(&e->heap, (struct ld_pair){merged, left, {left_id, right_id}});
}

static bool still_there(const struct encoder *e, const struct ld_pair *pair)
{
    const struct symbol *left = &e->symbols[pair->left];
    return left->alive && left->id == pair->was[0] && left->next != NO_SYMBOL &&
           e->symbols[left->next].id == pair->was[1];
}

static void join(struct encoder *e, const struct ld_pair *pair)
{
    struct symbol *left = &e->symbols[pair->left];
    struct symbol *right = &e->symbols[left->next];
    right->alive = false;
    left->id = (uint32_t)pair->order;
    left->next = right->next;
    if (left->next != NO_SYMBOL)
        e->symbols[left->next].previous = pair->left;
    push_if_merging(e, left->previous);
    push_if_merging(e, pair->left);
}

/* A merge only names tokens that earlier lines made, so the pairs that joining creates come later
 * than the pair just joined: all its occurrences leave the heap first, left to right. */
static void merge_all(struct encoder *e)
{
    while (e->heap.count > 0) {
        const struct ld_pair pair = ld_pair_pop(&e->heap);
        if (still_there(e, &pair))
            join(e, &pair);
    }
}

static void encode_piece(struct encoder *e, const uint32_t *chars, size_t count,
                         struct ld_list *ids)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        uint8_t utf8[4];
        const size_t size = ld_utf8_put(chars[i], utf8);
        for (size_t k = 0; k < size; k++, bytes++)
            e->symbols[bytes] = (struct symbol){.id = e->bpe->byte_ids[utf8[k]],
                                                .previous = (int32_t)bytes - 1,
                                                .next = (int32_t)bytes + 1,
                                                .alive = true};
    }
    if (bytes == 0)
        return;
    LD_ASSERT(bytes <= e->capacity);
    e->symbols[bytes - 1].next = NO_SYMBOL;
    e->symbols[bytes - 1].id += 256; /* `</w>`: the end of a word is part of its last symbol */
    e->heap.count = 0;
    for (size_t i = 0; i + 1 < bytes; i++)
        push_if_merging(e, (int32_t)i);
    merge_all(e);
    for (int32_t i = 0; i != NO_SYMBOL; i = e->symbols[i].next)
        ld_list_add(ids, e->symbols[i].id);
}

/* ---- Cutting a cleaned text into pieces ------------------------------------------------------ */

static const char start_text[] = "<|startoftext|>";
static const char end_text[] = "<|endoftext|>";

static bool starts_with(const uint32_t *chars, size_t count, const char *text)
{
    for (size_t i = 0; text[i]; i++)
        if (i >= count || chars[i] != (uint8_t)text[i])
            return false;
    return true;
}

/* Length of 's 't 're 've 'm 'll 'd at chars[0], else 0. U+017F folds to s, except in `fast`. */
static size_t contraction(const uint32_t *chars, size_t count, bool fold)
{
    static const char *const tails[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    if (count < 2 || chars[0] != '\'')
        return 0;
    if (fold && chars[1] == 0x17F)
        return 2;
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++)
        if (starts_with(chars + 1, count - 1, tails[i]))
            return 1 + strlen(tails[i]);
    return 0;
}

static size_t piece_length(const uint32_t *chars, size_t count, bool fold)
{
    size_t length = contraction(chars, count, fold);
    if (length)
        return length;
    if (ld_char_is_letter(chars[0])) {
        while (length < count && ld_char_is_letter(chars[length]))
            length++;
        return length;
    }
    if (ld_char_is_number(chars[0]))
        return 1;
    while (length < count && !ld_char_is_space(chars[length]) &&
           !ld_char_is_letter(chars[length]) && !ld_char_is_number(chars[length]))
        length++;
    return length;
}

static void encode_cleaned(struct encoder *e, const struct ld_list *chars, enum ld_clean profile,
                           struct ld_list *ids)
{
    /* The slow tokenizers have the two special tokens in their expression as well, so that they
     * are also found where lower-casing or repair made them. */
    const bool slow = profile != LD_CLEAN_FAST;
    for (size_t i = 0; i < chars->count && !ids->failed;) {
        const uint32_t *here = chars->data + i;
        const size_t left = chars->count - i;
        if (ld_char_is_space(here[0])) {
            i++;
        } else if (slow && starts_with(here, left, start_text)) {
            ld_list_add(ids, ld_bpe_start_id(e->bpe));
            i += sizeof start_text - 1;
        } else if (slow && starts_with(here, left, end_text)) {
            ld_list_add(ids, ld_bpe_end_id(e->bpe));
            i += sizeof end_text - 1;
        } else {
            const size_t length = piece_length(here, left, slow);
            encode_piece(e, here, length, ids);
            i += length;
        }
    }
}

/* ---- Entry ----------------------------------------------------------------------------------- */

static bool encoder_reserve(struct encoder *e, size_t bytes)
{
    if (bytes <= e->capacity)
        return true;
    ld_heap_free(e->symbols);
    ld_heap_free(e->heap.pairs);
    e->capacity = bytes;
    e->symbols = ld_heap_calloc(bytes, sizeof *e->symbols);
    e->heap.pairs = ld_heap_calloc(3 * bytes, sizeof *e->heap.pairs);
    return e->symbols && e->heap.pairs;
}

/* Clean and encode text without special tokens in it. */
static bool encode_part(struct encoder *e, enum ld_clean profile, struct ld_span text,
                        struct ld_list *ids)
{
    struct ld_list chars = ld_list_make(8 * text.size + 64);
    ld_clean(profile, text, &chars);
    size_t longest = 0;
    for (size_t i = 0, run = 0; i < chars.count; i++) {
        run = ld_char_is_space(chars.data[i]) ? 0 : run + 1;
        longest = run > longest ? run : longest;
    }
    const bool ok = !chars.failed && encoder_reserve(e, 4 * longest + 4);
    if (ok)
        encode_cleaned(e, &chars, profile, ids);
    ld_list_deinit(&chars);
    return ok;
}

/* Position of the next literal special token at or after `pos`, text.size if there is none. */
static size_t next_special(struct ld_span text, size_t pos, size_t *size, bool *is_start)
{
    while (pos < text.size) {
        const uint8_t *bar = memmem(text.data + pos, text.size - pos, "<|", 2);
        if (!bar)
            break;
        pos = (size_t)(bar - text.data);
        const size_t left = text.size - pos;
        *is_start =
            left >= sizeof start_text - 1 && !memcmp(bar, start_text, sizeof start_text - 1);
        *size = *is_start ? sizeof start_text - 1 : sizeof end_text - 1;
        if (*is_start || (left >= *size && !memcmp(bar, end_text, *size)))
            return pos;
        pos += 2;
    }
    *size = 0;
    return text.size;
}

enum ld_code ld_bpe_encode(const struct ld_bpe *bpe, enum ld_clean profile, struct ld_span text,
                           struct ld_list *ids, struct ld_error *err)
{
    struct encoder e = {.bpe = bpe};
    bool ok = true;
    if (text.size > LD_BPE_FILE_LIMIT)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the text is longer than %d bytes", LD_BPE_FILE_LIMIT);
    for (size_t pos = 0; pos < text.size && ok && !ids->failed;) {
        size_t special_size = 0;
        bool is_start = false;
        /* The original tokenizer looks for special tokens only after cleaning. */
        const size_t special = profile == LD_CLEAN_OPENAI
                                   ? text.size
                                   : next_special(text, pos, &special_size, &is_start);
        ok = encode_part(&e, profile, ld_span_of(text.data + pos, special - pos), ids);
        if (special_size)
            ld_list_add(ids, is_start ? ld_bpe_start_id(bpe) : ld_bpe_end_id(bpe));
        pos = special + special_size;
    }
    ld_heap_free(e.symbols);
    ld_heap_free(e.heap.pairs);
    if (!ok)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the prompt");
    if (ids->failed)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the text has more than %zu tokens", ids->count_limit);
    return LD_OK;
}
