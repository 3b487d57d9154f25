/*
 * One pass over the JSON collects the entries and remembers the gravest class of error it met; only
 * malformed JSON, which outranks the rest, ends it early. Sorting then finds duplicates and checks
 * the layout, so 100,000 tensors cost O(n log n).
 */
#include "runtime/model/safetensors_header.h"

#include "runtime/base/json.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    DEPTH_MAX = 16, /* legal headers need 3; an ignored extra field may nest a little */
    VALUES_MAX = 4 * 1000 * 1000, /* 100,000 tensors of 8 dimensions need 1.8 million */
    EXTRA_FIELDS_MAX = 1024,      /* fields of one tensor object */
    QUOTE_SIZE = 64               /* bytes of a name quoted in a sentence */
};

struct dtype_name {
    const char *name;
    enum ld_dtype dtype;
    uint32_t bits;
};

static const struct dtype_name dtype_names[] = {
    {"F64", LD_DTYPE_F64, 64},
    {"F32", LD_DTYPE_F32, 32},
    {"F16", LD_DTYPE_F16, 16},
    {"BF16", LD_DTYPE_BF16, 16},
    {"F8_E4M3", LD_DTYPE_F8_E4M3, 8},
    {"F8_E5M2", LD_DTYPE_F8_E5M2, 8},
    {"I64", LD_DTYPE_I64, 64},
    {"I32", LD_DTYPE_I32, 32},
    {"I16", LD_DTYPE_I16, 16},
    {"I8", LD_DTYPE_I8, 8},
    {"U8", LD_DTYPE_U8, 8},
    {"BOOL", LD_DTYPE_BOOL, 8},
    {"U16", LD_DTYPE_U16, 16},
    {"U32", LD_DTYPE_U32, 32},
    {"U64", LD_DTYPE_U64, 64},
    {"F8_E8M0", LD_DTYPE_OTHER, 8},
    {"F8_E4M3FNUZ", LD_DTYPE_OTHER, 8},
    {"F8_E5M2FNUZ", LD_DTYPE_OTHER, 8},
    {"F4", LD_DTYPE_OTHER, 4},
    {"F6_E2M3", LD_DTYPE_OTHER, 6},
    {"F6_E3M2", LD_DTYPE_OTHER, 6},
    {"C64", LD_DTYPE_OTHER, 64},
};

/* An entry as written: offsets and shape are checked only when all entries are known. */
struct entry {
    struct ld_st_tensor tensor;
    size_t name_size;
    uint32_t bits; /* per element */
};

struct parser {
    struct ld_json json;
    struct ld_arena *arena;
    struct entry *entries;
    uint32_t entry_count, entry_capacity;
    struct ld_st_pair *pairs;
    uint32_t pair_count, pair_capacity;
    uint32_t metadata_objects;
    enum ld_st_class worst; /* LD_ST_VALID while nothing is wrong */
    char sentence[192];
    struct ld_error *err;
};

/* ---- Noting errors --------------------------------------------------------------------------- */

LD_PRINTF(3, 4)
static void note(struct parser *parser, enum ld_st_class why, const char *format, ...)
{
    if (parser->worst != LD_ST_VALID && parser->worst <= why)
        return;
    parser->worst = why;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(parser->sentence, sizeof parser->sentence, format, args);
    va_end(args);
}

/* A name for a sentence: cut, and without bytes that could confuse a terminal. */
static const char *quoted(const struct ld_st_tensor *tensor, char out[QUOTE_SIZE])
{
    size_t i = 0;
    for (; tensor->name[i] && i + 1 < QUOTE_SIZE; i++) {
        const char c = tensor->name[i];
        out[i] = c >= 0x20 && c < 0x7F ? c : '?';
    }
    out[i] = 0;
    return out;
}

static enum ld_code out_of_memory(struct parser *parser)
{
    return LD_FAIL(parser->err, LD_E_NOMEM, "not enough memory for the header of a model file");
}

/* A wrong type or a missing field: the same class as malformed JSON, and as final. */
static enum ld_code malformed(struct parser *parser, const struct ld_json_token *token,
                              const char *what)
{
    uint32_t line;
    uint32_t column;
    ld_json_position(parser->json.input, token->offset, &line, &column);
    note(parser, LD_ST_HEADER_JSON, "the header's JSON is wrong at line %u, column %u: %s", line,
         column, what);
    return LD_E_FORMAT;
}

/* The next token, or the error noted. Nesting or counts beyond the limits are not malformed: what
 * was noted before stands, and only otherwise they count as malformed. */
static enum ld_code next(struct parser *parser, struct ld_json_token *token)
{
    struct ld_error inner = {0};
    const enum ld_code code = ld_json_next(&parser->json, token, &inner);
    if (code == LD_OK)
        return LD_OK;
    if (code == LD_E_FORMAT || parser->worst == LD_ST_VALID)
        note(parser, LD_ST_HEADER_JSON, "the header's JSON is wrong at %s", inner.detail);
    return LD_E_FORMAT;
}

static enum ld_code skip(struct parser *parser, const struct ld_json_token *token)
{
    if (token->kind != LD_JSON_OBJECT_BEGIN && token->kind != LD_JSON_ARRAY_BEGIN)
        return LD_OK;
    struct ld_json_token inner;
    do {
        if (next(parser, &inner) != LD_OK)
            return LD_E_FORMAT;
    } while (parser->json.depth > token->depth);
    return LD_OK;
}

/* ---- Text ------------------------------------------------------------------------------------ */

/* The unescaped text in the arena, NUL-terminated; NULL without memory. */
static char *copy_text(struct parser *parser, const struct ld_json_token *token, size_t *size)
{
    char *text = ld_arena_alloc(parser->arena, token->text.size + 1);
    if (text && !ld_json_unescape(token, text, token->text.size, size))
        return NULL;
    return text;
}

static int compare_spans(struct ld_span a, struct ld_span b)
{
    const size_t shorter = a.size < b.size ? a.size : b.size;
    const int order = shorter ? memcmp(a.data, b.data, shorter) : 0;
    if (order != 0)
        return order;
    return a.size < b.size ? -1 : a.size > b.size;
}

static int by_text(const void *a, const void *b)
{
    return compare_spans(*(const struct ld_span *)a, *(const struct ld_span *)b);
}

/* Double a heap array that is full. */
static bool grow(void **array, uint32_t count, uint32_t *capacity, size_t item_size)
{
    if (count < *capacity)
        return true;
    const uint32_t larger = *capacity ? 2 * *capacity : 64;
    void *moved = ld_heap_resize(*array, larger * item_size);
    if (!moved)
        return false;
    *array = moved;
    *capacity = larger;
    return true;
}

/* ---- One tensor ------------------------------------------------------------------------------ */

static enum ld_code read_u64(struct parser *parser, const struct ld_json_token *token,
                             uint64_t *out)
{
    if (token->kind != LD_JSON_INTEGER || !ld_parse_u64(token->text, out))
        return malformed(parser, token, "expected an unsigned 64-bit integer");
    return LD_OK;
}

static enum ld_code read_dtype(struct parser *parser, const struct ld_json_token *token,
                               struct entry *entry)
{
    if (token->kind != LD_JSON_STRING)
        return malformed(parser, token, "dtype must be a string");
    for (size_t i = 0; i < sizeof dtype_names / sizeof dtype_names[0]; i++) {
        if (ld_json_is(token, dtype_names[i].name)) {
            entry->tensor.dtype = dtype_names[i].dtype;
            entry->tensor.dtype_name = dtype_names[i].name;
            entry->bits = dtype_names[i].bits;
            return LD_OK;
        }
    }
    char name[QUOTE_SIZE];
    note(parser, LD_ST_DTYPE, "tensor %s has an unknown dtype", quoted(&entry->tensor, name));
    return LD_OK;
}

static enum ld_code read_shape(struct parser *parser, const struct ld_json_token *token,
                               struct entry *entry)
{
    if (token->kind != LD_JSON_ARRAY_BEGIN)
        return malformed(parser, token, "shape must be an array");
    uint32_t rank = 0;
    for (;;) {
        struct ld_json_token item;
        uint64_t dim;
        if (next(parser, &item) != LD_OK)
            return LD_E_FORMAT;
        if (item.kind == LD_JSON_ARRAY_END)
            break;
        if (read_u64(parser, &item, &dim) != LD_OK)
            return LD_E_FORMAT;
        if (rank < LD_ST_RANK_MAX)
            entry->tensor.shape[rank] = dim;
        rank++;
    }
    entry->tensor.rank = rank;
    char name[QUOTE_SIZE];
    if (rank > LD_ST_RANK_MAX)
        note(parser, LD_ST_RANK, "tensor %s has %u dimensions, at most %d are taken",
             quoted(&entry->tensor, name), rank, LD_ST_RANK_MAX);
    return LD_OK;
}

static enum ld_code read_offsets(struct parser *parser, const struct ld_json_token *token,
                                 struct entry *entry)
{
    struct ld_json_token begin;
    struct ld_json_token end;
    struct ld_json_token close;
    if (token->kind != LD_JSON_ARRAY_BEGIN)
        return malformed(parser, token, "data_offsets must be an array");
    if (next(parser, &begin) != LD_OK || read_u64(parser, &begin, &entry->tensor.begin) != LD_OK ||
        next(parser, &end) != LD_OK || read_u64(parser, &end, &entry->tensor.end) != LD_OK ||
        next(parser, &close) != LD_OK)
        return LD_E_FORMAT;
    if (close.kind != LD_JSON_ARRAY_END)
        return malformed(parser, &close, "data_offsets must hold two numbers");
    return LD_OK;
}

enum { HAS_DTYPE = 1, HAS_SHAPE = 2, HAS_OFFSETS = 4, HAS_ALL = 7 };

static enum ld_code read_field(struct parser *parser, const struct ld_json_token *key,
                               struct entry *entry, unsigned *seen)
{
    struct ld_json_token value;
    if (next(parser, &value) != LD_OK)
        return LD_E_FORMAT;
    const unsigned bit = ld_json_is(key, "dtype")          ? HAS_DTYPE
                         : ld_json_is(key, "shape")        ? HAS_SHAPE
                         : ld_json_is(key, "data_offsets") ? HAS_OFFSETS
                                                           : 0;
    *seen |= bit;
    if (bit == HAS_DTYPE)
        return read_dtype(parser, &value, entry);
    if (bit == HAS_SHAPE)
        return read_shape(parser, &value, entry);
    if (bit == HAS_OFFSETS)
        return read_offsets(parser, &value, entry);
    return skip(parser, &value);
}

/* Notes a field name that comes twice. The names live in the arena; there are at most
 * EXTRA_FIELDS_MAX of them. */
static void check_fields(struct parser *parser, struct ld_span *fields, uint32_t count,
                         const struct entry *entry)
{
    char name[QUOTE_SIZE];
    qsort(fields, count, sizeof *fields, by_text);
    for (uint32_t i = 1; i < count; i++) {
        if (ld_span_equal(fields[i - 1], fields[i]))
            note(parser, LD_ST_DUPLICATE, "tensor %s has a field twice",
                 quoted(&entry->tensor, name));
    }
}

static enum ld_code read_tensor(struct parser *parser, const struct ld_json_token *begin,
                                struct entry *entry)
{
    if (begin->kind != LD_JSON_OBJECT_BEGIN)
        return malformed(parser, begin, "a tensor must be an object");
    struct ld_span fields[EXTRA_FIELDS_MAX];
    uint32_t field_count = 0;
    unsigned seen = 0;
    for (;;) {
        struct ld_json_token key;
        if (next(parser, &key) != LD_OK)
            return LD_E_FORMAT;
        if (key.kind == LD_JSON_OBJECT_END)
            break;
        if (field_count == EXTRA_FIELDS_MAX)
            return malformed(parser, &key, "a tensor has too many fields");
        fields[field_count] = key.text;
        if (key.escaped) {
            size_t size = 0;
            const char *text = copy_text(parser, &key, &size);
            if (!text)
                return out_of_memory(parser);
            fields[field_count] = ld_span_of(text, size);
        }
        field_count++;
        const enum ld_code code = read_field(parser, &key, entry, &seen);
        if (code != LD_OK)
            return code;
    }
    if (seen != HAS_ALL)
        return malformed(parser, begin, "a tensor lacks dtype, shape or data_offsets");
    check_fields(parser, fields, field_count, entry);
    return LD_OK;
}

static enum ld_code add_tensor(struct parser *parser, const struct ld_json_token *key,
                               const struct ld_json_token *begin)
{
    if (parser->entry_count >= LD_ST_TENSORS_MAX) {
        note(parser, LD_ST_LIMIT, "the file holds more than %d tensors", LD_ST_TENSORS_MAX);
        return skip(parser, begin);
    }
    void *entries = parser->entries;
    const bool grown =
        grow(&entries, parser->entry_count, &parser->entry_capacity, sizeof *parser->entries);
    parser->entries = entries;
    if (!grown)
        return out_of_memory(parser);
    struct entry *entry = &parser->entries[parser->entry_count];
    memset(entry, 0, sizeof *entry);
    entry->tensor.name = copy_text(parser, key, &entry->name_size);
    if (!entry->tensor.name)
        return out_of_memory(parser);
    if (entry->name_size == 0)
        note(parser, LD_ST_NAME, "a tensor has an empty name");
    if (memchr(entry->tensor.name, 0, entry->name_size))
        note(parser, LD_ST_NAME, "a tensor's name holds U+0000");
    parser->entry_count++;
    return read_tensor(parser, begin, entry);
}

/* ---- Metadata -------------------------------------------------------------------------------- */

static enum ld_code read_metadata(struct parser *parser, const struct ld_json_token *begin)
{
    if (parser->metadata_objects++ > 0)
        note(parser, LD_ST_DUPLICATE, "__metadata__ comes twice");
    if (begin->kind != LD_JSON_OBJECT_BEGIN) {
        note(parser, LD_ST_METADATA, "__metadata__ must be an object of strings");
        return skip(parser, begin);
    }
    for (;;) {
        struct ld_json_token key;
        struct ld_json_token value;
        if (next(parser, &key) != LD_OK)
            return LD_E_FORMAT;
        if (key.kind == LD_JSON_OBJECT_END)
            return LD_OK;
        if (next(parser, &value) != LD_OK)
            return LD_E_FORMAT;
        if (value.kind != LD_JSON_STRING) {
            note(parser, LD_ST_METADATA, "__metadata__ must be an object of strings");
            if (skip(parser, &value) != LD_OK)
                return LD_E_FORMAT;
            continue;
        }
        void *pairs = parser->pairs;
        const bool grown =
            grow(&pairs, parser->pair_count, &parser->pair_capacity, sizeof *parser->pairs);
        parser->pairs = pairs;
        if (!grown)
            return out_of_memory(parser);
        struct ld_st_pair *pair = &parser->pairs[parser->pair_count];
        size_t value_size;
        pair->key.data = (const uint8_t *)copy_text(parser, &key, &pair->key.size);
        pair->value = copy_text(parser, &value, &value_size);
        if (!pair->key.data || !pair->value)
            return out_of_memory(parser);
        parser->pair_count++;
    }
}

static enum ld_code read_header(struct parser *parser)
{
    struct ld_json_token token;
    if (next(parser, &token) != LD_OK)
        return LD_E_FORMAT;
    if (token.kind != LD_JSON_OBJECT_BEGIN)
        return malformed(parser, &token, "the header must be an object");
    for (;;) {
        struct ld_json_token key;
        if (next(parser, &key) != LD_OK)
            return LD_E_FORMAT;
        if (key.kind == LD_JSON_OBJECT_END)
            break;
        if (next(parser, &token) != LD_OK)
            return LD_E_FORMAT;
        const enum ld_code code = ld_json_is(&key, "__metadata__")
                                      ? read_metadata(parser, &token)
                                      : add_tensor(parser, &key, &token);
        if (code != LD_OK)
            return code;
    }
    return next(parser, &token); /* nothing but blanks may follow */
}

/* ---- Checks over all entries ----------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
    return compare_spans(((const struct ld_st_pair *)a)->key, ((const struct ld_st_pair *)b)->key);
}

static int by_name(const void *a, const void *b)
{
    const struct entry *left = a;
    const struct entry *right = b;
    return compare_spans(ld_span_of(left->tensor.name, left->name_size),
                         ld_span_of(right->tensor.name, right->name_size));
}

static int by_offset(const void *a, const void *b)
{
    const struct ld_st_tensor *left = &(*(const struct entry *const *)a)->tensor;
    const struct ld_st_tensor *right = &(*(const struct entry *const *)b)->tensor;
    if (left->begin != right->begin)
        return left->begin < right->begin ? -1 : 1;
    return left->end < right->end ? -1 : left->end > right->end;
}

static void check_duplicates(struct parser *parser)
{
    char name[QUOTE_SIZE];
    if (parser->pair_count)
        qsort(parser->pairs, parser->pair_count, sizeof *parser->pairs, by_key);
    for (uint32_t i = 1; i < parser->pair_count; i++) {
        if (ld_span_equal(parser->pairs[i - 1].key, parser->pairs[i].key))
            note(parser, LD_ST_DUPLICATE, "a key of __metadata__ comes twice");
    }
    if (parser->entry_count)
        qsort(parser->entries, parser->entry_count, sizeof *parser->entries, by_name);
    for (uint32_t i = 1; i < parser->entry_count; i++) {
        if (by_name(&parser->entries[i - 1], &parser->entries[i]) == 0)
            note(parser, LD_ST_DUPLICATE, "tensor %s comes twice",
                 quoted(&parser->entries[i].tensor, name));
    }
}

/* Bytes of a tensor, multiplied left to right so that a zero cannot hide an overflow before it. */
static bool tensor_bytes(const struct entry *entry, uint64_t *bytes)
{
    uint64_t elements = 1;
    for (uint32_t i = 0; i < entry->tensor.rank && i < LD_ST_RANK_MAX; i++) {
        if (!ld_mul_u64_ok(elements, entry->tensor.shape[i], &elements))
            return false;
    }
    const uint32_t bits = entry->bits;
    if (bits % 8 == 0)
        return ld_mul_u64_ok(elements, bits / 8, bytes);
    uint64_t all_bits;
    if (!ld_mul_u64_ok(elements, bits, &all_bits) || all_bits % 8 != 0)
        return false;
    *bytes = all_bits / 8;
    return true;
}

static void check_sizes(struct parser *parser)
{
    char name[QUOTE_SIZE];
    for (uint32_t i = 0; i < parser->entry_count; i++) {
        const struct ld_st_tensor *tensor = &parser->entries[i].tensor;
        uint64_t bytes;
        if (tensor->begin > tensor->end) {
            parser->worst = LD_ST_VALID; /* outranks a size error noted for an earlier tensor */
            note(parser, LD_ST_LAYOUT, "tensor %s ends before it begins", quoted(tensor, name));
            return;
        }
        if (!tensor_bytes(&parser->entries[i], &bytes) || bytes != tensor->end - tensor->begin)
            note(parser, LD_ST_SIZE, "shape and data_offsets of tensor %s disagree",
                 quoted(tensor, name));
    }
}

static enum ld_code check_layout(struct parser *parser, uint64_t data_size)
{
    const struct entry **sorted = ld_heap_calloc(parser->entry_count, sizeof *sorted);
    if (!sorted)
        return out_of_memory(parser);
    for (uint32_t i = 0; i < parser->entry_count; i++)
        sorted[i] = &parser->entries[i];
    if (parser->entry_count)
        qsort(sorted, parser->entry_count, sizeof *sorted, by_offset);
    uint64_t position = 0;
    char name[QUOTE_SIZE];
    for (uint32_t i = 0; i < parser->entry_count; i++) {
        const struct ld_st_tensor *tensor = &sorted[i]->tensor;
        if (tensor->begin != position) {
            note(parser, LD_ST_LAYOUT, "there is a hole or an overlap in the data before tensor %s",
                 quoted(tensor, name));
            break;
        }
        position = tensor->end;
    }
    if (position > data_size)
        note(parser, LD_ST_LAYOUT,
             "the file is cut: its tensors need %" PRIu64 " bytes and %" PRIu64
             " are there; fetch it again",
             position, data_size);
    else if (position < data_size)
        note(parser, LD_ST_LAYOUT, "%" PRIu64 " bytes follow the last tensor",
             data_size - position);
    ld_heap_free(sorted);
    return LD_OK;
}

/* The classes from `metadata` on; each group only if nothing graver was found. */
static enum ld_code check_entries(struct parser *parser, uint64_t data_size)
{
    check_duplicates(parser);
    if (parser->worst == LD_ST_VALID)
        check_sizes(parser);
    if (parser->worst == LD_ST_VALID && check_layout(parser, data_size) != LD_OK)
        return LD_E_NOMEM;
    return LD_OK;
}

/* ---- Result ---------------------------------------------------------------------------------- */

static enum ld_code keep(struct parser *parser, struct ld_st_header *out)
{
    out->tensors = ld_arena_calloc(parser->arena, parser->entry_count, sizeof *out->tensors);
    out->pairs = ld_arena_calloc(parser->arena, parser->pair_count, sizeof *out->pairs);
    if (!out->tensors || !out->pairs)
        return out_of_memory(parser);
    for (uint32_t i = 0; i < parser->entry_count; i++)
        out->tensors[i] = parser->entries[i].tensor;
    if (parser->pair_count)
        memcpy(out->pairs, parser->pairs, parser->pair_count * sizeof *out->pairs);
    out->tensor_count = parser->entry_count;
    out->pair_count = parser->pair_count;
    return LD_OK;
}

enum ld_code ld_st_header_parse(struct ld_st_header *out, struct ld_span json, uint64_t data_size,
                                enum ld_st_class *why, struct ld_error *err)
{
    /* Names and values are copied once, entries and pairs once more at the end. */
    ld_arena_init(&out->arena, "safetensors header", 4 * json.size + ((size_t)64 << 20));
    struct parser parser = {.arena = &out->arena, .err = err};
    ld_json_init(&parser.json, json, DEPTH_MAX, VALUES_MAX);
    enum ld_code code = read_header(&parser);
    if (code == LD_OK)
        code = check_entries(&parser, data_size);
    if (code != LD_E_NOMEM && parser.worst != LD_ST_VALID) {
        *why = parser.worst;
        code = LD_FAIL(err, parser.worst == LD_ST_LIMIT ? LD_E_TOO_LARGE : LD_E_FORMAT, "%s",
                       parser.sentence);
    }
    if (code == LD_OK)
        code = keep(&parser, out);
    ld_heap_free(parser.entries);
    ld_heap_free(parser.pairs);
    return code;
}

void ld_st_header_deinit(struct ld_st_header *header)
{
    ld_arena_deinit(&header->arena);
}
