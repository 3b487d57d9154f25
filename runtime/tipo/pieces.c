/* The vocabulary of the tokenizer: read from the file, looked up by text, written out. */
#include "runtime/base/arena.h"
#include "runtime/tipo/pieces_private.h"

#include <math.h>
#include <stdlib.h>

/* ---- Reading --------------------------------------------------------------------------------- */

static enum ld_code check_model(const struct ld_gguf *file, struct ld_error *err)
{
    struct ld_span model;
    const enum ld_code code = ld_gguf_text(file, "tokenizer.ggml.model", true, &model, err);
    if (code == LD_OK && !ld_span_is(model, "llama"))
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "the file's tokenizer is '%s'; only 'llama' (SentencePiece) is read",
                       ld_gguf_show(model).text);
    return code;
}

static enum ld_code same_count(const char *key, uint32_t count, uint32_t tokens,
                               struct ld_error *err)
{
    return count == tokens
               ? LD_OK
               : LD_FAIL(err, LD_E_FORMAT, "%s of the GGUF file has %u elements for %u tokens", key,
                         count, tokens);
}

static enum ld_code read_texts(struct ld_pieces *p, const struct ld_gguf_value *tokens,
                               struct ld_error *err)
{
    p->count = tokens->count;
    p->texts = ld_heap_alloc(tokens->bytes.size + 1); /* with room for the lengths: a little more */
    p->starts = ld_heap_calloc((size_t)p->count + 1, sizeof *p->starts);
    if (!p->texts || !p->starts)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the tokenizer's vocabulary");
    struct ld_span rest = tokens->bytes;
    struct ld_span text;
    for (uint32_t i = 0; i < p->count; i++) {
        if (!ld_gguf_next_string(&rest, &text))
            return LD_FAIL(err, LD_E_FORMAT, "the GGUF file's tokens end early");
        if (text.size > LD_PIECE_BYTES_MAX)
            return LD_FAIL(err, LD_E_FORMAT,
                           "token %u of the GGUF file has %zu bytes; at most %d "
                           "are read",
                           i, text.size, LD_PIECE_BYTES_MAX);
        if (text.size > 0)
            memcpy(p->texts + p->starts[i], text.data, text.size);
        p->starts[i + 1] = p->starts[i] + (uint32_t)text.size;
    }
    return LD_OK;
}

static enum ld_code read_scores(struct ld_pieces *p, const struct ld_gguf_value *scores,
                                struct ld_error *err)
{
    p->scores = ld_heap_calloc((size_t)p->count + 1, sizeof *p->scores);
    if (!p->scores)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the tokenizer's vocabulary");
    for (uint32_t i = 0; i < p->count; i++) {
        p->scores[i] = ld_gguf_element_f32(scores, i);
        if (!isfinite(p->scores[i]))
            return LD_FAIL(err, LD_E_FORMAT, "the score of token %u of the GGUF file is no number",
                           i);
    }
    return LD_OK;
}

static enum ld_code read_kinds(struct ld_pieces *p, const struct ld_gguf_value *kinds,
                               struct ld_error *err)
{
    p->kinds = ld_heap_calloc((size_t)p->count + 1, sizeof *p->kinds);
    if (!p->kinds)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the tokenizer's vocabulary");
    for (uint32_t i = 0; i < p->count; i++) {
        const int32_t kind = ld_gguf_element_i32(kinds, i);
        if (kind < PIECE_NORMAL || kind > PIECE_BYTE)
            return LD_FAIL(err, LD_E_FORMAT,
                           "token %u of the GGUF file is of the kind %d; 1 to 6 are "
                           "known",
                           i, kind);
        p->kinds[i] = (uint8_t)kind;
    }
    return LD_OK;
}

static enum ld_code read_tokens(struct ld_pieces *p, const struct ld_gguf *file,
                                struct ld_error *err)
{
    static const char tokens_key[] = "tokenizer.ggml.tokens";
    static const char scores_key[] = "tokenizer.ggml.scores";
    static const char kinds_key[] = "tokenizer.ggml.token_type";
    const struct ld_gguf_value *tokens = NULL;
    const struct ld_gguf_value *scores = NULL;
    const struct ld_gguf_value *kinds = NULL;
    enum ld_code code = ld_gguf_array(file, tokens_key, LD_GGUF_STRING, &tokens, err);
    if (code == LD_OK)
        code = ld_gguf_array(file, scores_key, LD_GGUF_F32, &scores, err);
    if (code == LD_OK)
        code = ld_gguf_array(file, kinds_key, LD_GGUF_I32, &kinds, err);
    if (code == LD_OK)
        code = same_count(scores_key, scores->count, tokens->count, err);
    if (code == LD_OK)
        code = same_count(kinds_key, kinds->count, tokens->count, err);
    if (code == LD_OK)
        code = read_texts(p, tokens, err);
    if (code == LD_OK)
        code = read_scores(p, scores, err);
    return code == LD_OK ? read_kinds(p, kinds, err) : code;
}

/* The ids with a meaning of their own; absent ones are LLaMA's. */
static enum ld_code read_ids(struct ld_pieces *p, const struct ld_gguf *file, struct ld_error *err)
{
    const struct {
        const char *key;
        uint32_t fallback, *id;
    } ids[] = {{"tokenizer.ggml.unknown_token_id", 0, &p->unknown},
               {"tokenizer.ggml.bos_token_id", 1, &p->begin},
               {"tokenizer.ggml.eos_token_id", 2, &p->end}};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        *ids[i].id = ids[i].fallback;
        const enum ld_code code = ld_gguf_u32(file, ids[i].key, false, ids[i].id, err);
        if (code != LD_OK)
            return code;
        if (*ids[i].id >= p->count)
            return LD_FAIL(err, LD_E_FORMAT, "%s of the GGUF file is %u, but it has %u tokens",
                           ids[i].key, *ids[i].id, p->count);
    }
    p->add_begin = true;
    p->add_prefix = true;
    const enum ld_code code =
        ld_gguf_flag(file, "tokenizer.ggml.add_bos_token", false, &p->add_begin, err);
    return code == LD_OK
               ? ld_gguf_flag(file, "tokenizer.ggml.add_space_prefix", false, &p->add_prefix, err)
               : code;
}

/* ---- By text --------------------------------------------------------------------------------- */

static uint32_t hash_of(struct ld_span text)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < text.size; i++)
        hash = (hash ^ text.data[i]) * 16777619u;
    return hash ^ hash >> 15;
}

uint32_t ld_piece_find(const struct ld_pieces *p, struct ld_span text)
{
    if (text.size == 0 || text.size > p->longest)
        return PIECE_NONE;
    for (uint32_t at = hash_of(text) & p->slot_mask;; at = (at + 1) & p->slot_mask) {
        const uint32_t id = p->slots[at];
        if (id == PIECE_NONE || ld_span_equal(ld_piece_text(p, id), text))
            return id;
    }
}

/* Of pieces with the same text the first counts. */
static void add_normal(struct ld_pieces *p, uint32_t id)
{
    const struct ld_span text = ld_piece_text(p, id);
    if (text.size == 0)
        return;
    if (text.size > p->longest)
        p->longest = (uint32_t)text.size;
    if (ld_piece_find(p, text) != PIECE_NONE)
        return;
    uint32_t at = hash_of(text) & p->slot_mask;
    while (p->slots[at] != PIECE_NONE)
        at = (at + 1) & p->slot_mask;
    p->slots[at] = id;
}

static void add_byte(struct ld_pieces *p, uint32_t id)
{
    const struct ld_span text = ld_piece_text(p, id);
    if (text.size != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>')
        return;
    const int high = ld_hex_digit(text.data[3]);
    const int low = ld_hex_digit(text.data[4]);
    if (high >= 0 && low >= 0 && p->bytes[high * 16 + low] == PIECE_NONE)
        p->bytes[high * 16 + low] = id;
}

struct special {
    struct ld_span text;
    uint32_t id;
};

static int by_text(const void *a, const void *b)
{
    const struct special *x = a;
    const struct special *y = b;
    const size_t shared = x->text.size < y->text.size ? x->text.size : y->text.size;
    const int order = memcmp(x->text.data, y->text.data, shared);
    if (order != 0)
        return order;
    if (x->text.size != y->text.size)
        return x->text.size < y->text.size ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static bool is_special(const struct ld_pieces *p, uint32_t id)
{
    return (p->kinds[id] == PIECE_CONTROL || p->kinds[id] == PIECE_USER_DEFINED) &&
           ld_piece_text(p, id).size > 0;
}

static enum ld_code sort_specials(struct ld_pieces *p, struct ld_error *err)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < p->count; i++)
        total += is_special(p, i) ? 1 : 0;
    struct special *list = ld_heap_calloc((size_t)total + 1, sizeof *list);
    p->specials = ld_heap_calloc((size_t)total + 1, sizeof *p->specials);
    if (!list || !p->specials) {
        ld_heap_free(list);
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the tokenizer's vocabulary");
    }
    for (uint32_t i = 0; i < p->count; i++)
        if (is_special(p, i))
            list[p->special_count++] = (struct special){ld_piece_text(p, i), i};
    qsort(list, total, sizeof *list, by_text);
    for (uint32_t i = 0; i < total; i++) {
        p->specials[i] = list[i].id;
        p->special_first[list[i].text.data[0] + 1]++;
    }
    for (size_t byte = 0; byte < 256; byte++)
        p->special_first[byte + 1] += p->special_first[byte];
    ld_heap_free(list);
    return LD_OK;
}

static enum ld_code index_texts(struct ld_pieces *p, struct ld_error *err)
{
    uint32_t slots = 64;
    while (slots < 2 * p->count) /* at most a million tokens: 2^21 slots */
        slots *= 2;
    p->slots = ld_heap_calloc(slots, sizeof *p->slots);
    if (!p->slots)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the tokenizer's vocabulary");
    memset(p->slots, 0xFF, slots * sizeof *p->slots);
    memset(p->bytes, 0xFF, sizeof p->bytes);
    p->slot_mask = slots - 1;
    for (uint32_t i = 0; i < p->count; i++) {
        if (p->kinds[i] == PIECE_NORMAL)
            add_normal(p, i);
        else if (p->kinds[i] == PIECE_BYTE)
            add_byte(p, i);
    }
    return sort_specials(p, err);
}

enum ld_code ld_pieces_create(struct ld_pieces **out, const struct ld_gguf *file,
                              struct ld_error *err)
{
    LD_ASSERT(out != NULL && file != NULL);
    *out = NULL;
    struct ld_pieces *p = ld_heap_alloc(sizeof *p);
    if (!p)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the tokenizer's vocabulary");
    enum ld_code code = check_model(file, err);
    if (code == LD_OK)
        code = read_tokens(p, file, err);
    if (code == LD_OK)
        code = read_ids(p, file, err);
    if (code == LD_OK)
        code = index_texts(p, err);
    if (code == LD_OK)
        *out = p;
    else
        ld_pieces_destroy(p);
    return code;
}

void ld_pieces_destroy(struct ld_pieces *p)
{
    if (!p)
        return;
    ld_heap_free(p->texts);
    ld_heap_free(p->starts);
    ld_heap_free(p->scores);
    ld_heap_free(p->kinds);
    ld_heap_free(p->slots);
    ld_heap_free(p->specials);
    ld_heap_free(p);
}

/* ---- What is asked --------------------------------------------------------------------------- */

uint32_t ld_pieces_count(const struct ld_pieces *p)
{
    return p->count;
}

uint32_t ld_pieces_begin(const struct ld_pieces *p)
{
    return p->begin;
}

uint32_t ld_pieces_end(const struct ld_pieces *p)
{
    return p->end;
}

uint32_t ld_pieces_unknown(const struct ld_pieces *p)
{
    return p->unknown;
}

static void write_byte(const struct ld_pieces *p, uint32_t id, struct ld_buffer *out)
{
    for (size_t byte = 0; byte < 256; byte++)
        if (p->bytes[byte] == id)
            ld_buffer_byte(out, (char)(unsigned char)byte);
}

void ld_pieces_write(const struct ld_pieces *p, uint32_t id, struct ld_buffer *out)
{
    LD_ASSERT(id < p->count);
    if (id == p->begin || id == p->end || id == p->unknown)
        return;
    if (p->kinds[id] == PIECE_BYTE) {
        write_byte(p, id, out);
        return;
    }
    const struct ld_span text = ld_piece_text(p, id);
    for (size_t i = 0; i < text.size;) {
        if (text.size - i >= PIECE_BLANK_SIZE &&
            memcmp(text.data + i, PIECE_BLANK, PIECE_BLANK_SIZE) == 0) {
            ld_buffer_byte(out, ' ');
            i += PIECE_BLANK_SIZE;
        } else {
            ld_buffer_byte(out, (char)text.data[i++]);
        }
    }
}
