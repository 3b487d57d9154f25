/*
 * The parser of GGUF's header: one pass over the mapped bytes. A count is believed only as far as
 * the bytes that are left could hold it, so that nothing large is allocated for a small file.
 */
#include "runtime/base/arena.h"
#include "runtime/tipo/gguf_private.h"

#include <stdlib.h>

enum {
    VERSION_MIN = 2, /* version 1 counted with 32 bits */
    VERSION_MAX = 3,
    KEY_BYTES_MIN = 8 + 1 + 4 + 1,            /* name's length, name, kind, value */
    TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8, /* name, rank, one dimension, type, offset */
    ALIGNMENT_DEFAULT = 32,
    ALIGNMENT_MIN = 8, /* the format's own rule: a multiple of 8 */
    ALIGNMENT_MAX = 1 << 16
};

struct cursor {
    const uint8_t *data;
    uint64_t size, at;
};

static enum ld_code short_file(const struct cursor *in, const char *what, struct ld_error *err)
{
    return LD_FAIL(err, LD_E_FORMAT, "the GGUF file ends within %s at byte %llu", what,
                   (unsigned long long)in->at);
}

static bool take_u32(struct cursor *in, uint32_t *out)
{
    if (in->size - in->at < 4)
        return false;
    *out = ld_read_u32le(in->data + in->at);
    in->at += 4;
    return true;
}

static bool take_u64(struct cursor *in, uint64_t *out)
{
    if (in->size - in->at < 8)
        return false;
    *out = ld_read_u64le(in->data + in->at);
    in->at += 8;
    return true;
}

/* A string of at most `max` bytes. */
static enum ld_code take_string(struct cursor *in, uint64_t max, const char *what,
                                struct ld_span *out, struct ld_error *err)
{
    const uint64_t start = in->at;
    uint64_t size;
    if (!take_u64(in, &size))
        return short_file(in, what, err);
    if (size > max)
        return LD_FAIL(err, LD_E_TOO_LARGE,
                       "%s at byte %llu of the GGUF file has %llu bytes; at most "
                       "%llu are read",
                       what, (unsigned long long)start, (unsigned long long)size,
                       (unsigned long long)max);
    if (size > in->size - in->at)
        return short_file(in, what, err);
    *out = ld_span_of(in->data + in->at, (size_t)size);
    in->at += size;
    return LD_OK;
}

static enum ld_code take_name(struct cursor *in, const char *what, struct ld_span *out,
                              struct ld_error *err)
{
    const uint64_t start = in->at;
    const enum ld_code code = take_string(in, LD_GGUF_NAME_MAX, what, out, err);
    if (code == LD_OK && out->size == 0)
        return LD_FAIL(err, LD_E_FORMAT, "%s at byte %llu of the GGUF file is empty", what,
                       (unsigned long long)start);
    return code;
}

/* ---- Values ---------------------------------------------------------------------------------- */

/* Bytes of a value; 0 for strings and arrays. */
static uint64_t kind_bytes(enum ld_gguf_kind kind)
{
    switch (kind) {
    case LD_GGUF_U8:
    case LD_GGUF_I8:
    case LD_GGUF_BOOL:
        return 1;
    case LD_GGUF_U16:
    case LD_GGUF_I16:
        return 2;
    case LD_GGUF_U32:
    case LD_GGUF_I32:
    case LD_GGUF_F32:
        return 4;
    case LD_GGUF_U64:
    case LD_GGUF_I64:
    case LD_GGUF_F64:
        return 8;
    case LD_GGUF_STRING:
    case LD_GGUF_ARRAY:
    case LD_GGUF_KINDS:
        break;
    }
    return 0;
}

static enum ld_code take_kind(struct cursor *in, struct ld_span key, enum ld_gguf_kind *out,
                              struct ld_error *err)
{
    uint32_t number;
    if (!take_u32(in, &number))
        return short_file(in, "the kind of a value", err);
    if (number >= LD_GGUF_KINDS)
        return LD_FAIL(err, LD_E_FORMAT,
                       "the value of key '%s' in the GGUF file has the kind %u, which "
                       "is not known",
                       ld_gguf_show(key).text, number);
    *out = (enum ld_gguf_kind)number;
    return LD_OK;
}

/* Steps over `count` values of one kind. */
static enum ld_code skip_values(struct cursor *in, struct ld_span key, enum ld_gguf_kind kind,
                                uint64_t count, struct ld_error *err)
{
    const uint64_t size = kind_bytes(kind);
    if (size > 0) {
        if (count > (in->size - in->at) / size)
            return LD_FAIL(err, LD_E_FORMAT,
                           "the value of key '%s' leads past the end of the GGUF file",
                           ld_gguf_show(key).text);
        in->at += count * size;
        return LD_OK;
    }
    for (uint64_t i = 0; i < count; i++) {
        struct ld_span ignored;
        const enum ld_code code = take_string(in, LD_GGUF_STRING_MAX, "a string", &ignored, err);
        if (code != LD_OK)
            return ld_error_note(err, "in the value of key '%s'", ld_gguf_show(key).text);
    }
    return LD_OK;
}

static enum ld_code take_array_head(struct cursor *in, struct ld_gguf_value *value,
                                    struct ld_error *err)
{
    uint64_t count;
    const enum ld_code code = take_kind(in, value->key, &value->element, err);
    if (code != LD_OK)
        return code;
    if (value->element == LD_GGUF_ARRAY)
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "the value of key '%s' in the GGUF file is an array of arrays",
                       ld_gguf_show(value->key).text);
    if (!take_u64(in, &count))
        return short_file(in, "the length of an array", err);
    if (count > LD_GGUF_ELEMENTS_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE,
                       "the array of key '%s' in the GGUF file has %llu elements; "
                       "at most %d are read",
                       ld_gguf_show(value->key).text, (unsigned long long)count,
                       LD_GGUF_ELEMENTS_MAX);
    value->count = (uint32_t)count;
    return LD_OK;
}

static enum ld_code take_value(struct cursor *in, struct ld_gguf_value *value, struct ld_error *err)
{
    enum ld_code code = take_name(in, "a key", &value->key, err);
    if (code == LD_OK)
        code = take_kind(in, value->key, &value->kind, err);
    value->element = value->kind;
    value->count = 1;
    if (code == LD_OK && value->kind == LD_GGUF_ARRAY)
        code = take_array_head(in, value, err);
    if (code != LD_OK)
        return code;
    const uint64_t start = in->at;
    code = skip_values(in, value->key, value->element, value->count, err);
    value->bytes = ld_span_of(in->data + start, (size_t)(in->at - start));
    return code;
}

/* ---- Tensors --------------------------------------------------------------------------------- */

/* ggml's names of the types that are not read, for the sentence that says so. */
static const char *refused_name(uint32_t type)
{
    static const char *const names[] = {
        [2] = "Q4_0",    [3] = "Q4_1",     [6] = "Q5_0",    [7] = "Q5_1",     [9] = "Q8_1",
        [10] = "Q2_K",   [11] = "Q3_K",    [12] = "Q4_K",   [13] = "Q5_K",    [14] = "Q6_K",
        [15] = "Q8_K",   [16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S",
        [20] = "IQ4_NL", [21] = "IQ3_S",   [22] = "IQ2_S",  [23] = "IQ4_XS",  [24] = "I8",
        [25] = "I16",    [26] = "I32",     [27] = "I64",    [28] = "F64",     [29] = "IQ1_M",
        [34] = "TQ1_0",  [35] = "TQ2_0",   [39] = "MXFP4"};
    return type < sizeof names / sizeof names[0] ? names[type] : NULL;
}

static enum ld_code check_type(struct ld_gguf_tensor *tensor, uint32_t number, struct ld_error *err)
{
    static const char advice[] = "take the file in F16 or Q8_0";
    if (number == LD_GGUF_TENSOR_F32 || number == LD_GGUF_TENSOR_F16 ||
        number == LD_GGUF_TENSOR_BF16 || number == LD_GGUF_TENSOR_Q8_0) {
        tensor->type = (enum ld_gguf_type)number;
        return LD_OK;
    }
    const char *name = refused_name(number);
    if (name)
        return LD_FAIL(err, LD_E_UNSUPPORTED, "tensor '%s' has the type %s, which is not read: %s",
                       ld_gguf_show(tensor->name).text, name, advice);
    return LD_FAIL(err, LD_E_UNSUPPORTED,
                   "tensor '%s' has the type number %u, which is not read: %s",
                   ld_gguf_show(tensor->name).text, number, advice);
}

/* Elements and bytes, from shape and type. */
static enum ld_code measure(struct ld_gguf_tensor *tensor, struct ld_error *err)
{
    bool fits = true;
    tensor->elements = 1;
    for (uint32_t i = 0; i < LD_GGUF_RANK_MAX; i++)
        fits = fits && tensor->dims[i] > 0 &&
               ld_mul_u64_ok(tensor->elements, tensor->dims[i], &tensor->elements);
    if (!fits || tensor->elements > LD_GGUF_FILE_MAX)
        return LD_FAIL(err, LD_E_FORMAT,
                       "the shape of tensor '%s' has a zero or is larger than a file",
                       ld_gguf_show(tensor->name).text);
    switch (tensor->type) {
    case LD_GGUF_TENSOR_F32:
        tensor->bytes = tensor->elements * 4;
        break;
    case LD_GGUF_TENSOR_F16:
    case LD_GGUF_TENSOR_BF16:
        tensor->bytes = tensor->elements * 2;
        break;
    case LD_GGUF_TENSOR_Q8_0:
        if (tensor->dims[0] % LD_GGUF_Q8_BLOCK != 0)
            return LD_FAIL(err, LD_E_FORMAT,
                           "tensor '%s' is Q8_0, but its rows are no multiple of %d",
                           ld_gguf_show(tensor->name).text, LD_GGUF_Q8_BLOCK);
        tensor->bytes = tensor->elements / LD_GGUF_Q8_BLOCK * LD_GGUF_Q8_BYTES;
        break;
    }
    return LD_OK;
}

static enum ld_code take_tensor(struct cursor *in, struct ld_gguf_tensor *tensor,
                                struct ld_error *err)
{
    enum ld_code code = take_name(in, "a tensor's name", &tensor->name, err);
    if (code != LD_OK)
        return code;
    if (!take_u32(in, &tensor->rank))
        return short_file(in, "a tensor's rank", err);
    if (tensor->rank < 1 || tensor->rank > LD_GGUF_RANK_MAX)
        return LD_FAIL(err, LD_E_FORMAT, "tensor '%s' has %u dimensions; 1 to %d are read",
                       ld_gguf_show(tensor->name).text, tensor->rank, LD_GGUF_RANK_MAX);
    for (uint32_t i = 0; i < LD_GGUF_RANK_MAX; i++) {
        tensor->dims[i] = 1;
        if (i < tensor->rank && !take_u64(in, &tensor->dims[i]))
            return short_file(in, "a tensor's shape", err);
    }
    uint32_t type;
    if (!take_u32(in, &type) || !take_u64(in, &tensor->offset))
        return short_file(in, "a tensor's type and offset", err);
    code = check_type(tensor, type, err);
    return code == LD_OK ? measure(tensor, err) : code;
}

/* Offsets count from the start of the data, which the header's end and the alignment give. */
static enum ld_code place_tensors(struct ld_gguf *file, uint64_t header_end, struct ld_error *err)
{
    uint32_t alignment = ALIGNMENT_DEFAULT;
    const enum ld_code code = ld_gguf_u32(file, "general.alignment", false, &alignment, err);
    if (code != LD_OK)
        return code;
    if (alignment < ALIGNMENT_MIN || alignment > ALIGNMENT_MAX ||
        (alignment & (alignment - 1)) != 0)
        return LD_FAIL(err, LD_E_FORMAT,
                       "general.alignment of the GGUF file is %u; it is a power of 2 "
                       "from %d to %d",
                       alignment, ALIGNMENT_MIN, ALIGNMENT_MAX);
    const uint64_t start = (header_end + alignment - 1) & ~((uint64_t)alignment - 1);
    const uint64_t room = start < file->bytes ? file->bytes - start : 0;
    for (uint32_t i = 0; i < file->tensor_count; i++) {
        struct ld_gguf_tensor *tensor = &file->tensors[i];
        if (tensor->offset % alignment != 0)
            return LD_FAIL(
                err, LD_E_FORMAT, "tensor '%s' starts at %llu, no multiple of the alignment %u",
                ld_gguf_show(tensor->name).text, (unsigned long long)tensor->offset, alignment);
        if (tensor->offset > room || tensor->bytes > room - tensor->offset)
            return LD_FAIL(err, LD_E_FORMAT, "tensor '%s' lies beyond the end of the GGUF file",
                           ld_gguf_show(tensor->name).text);
        tensor->offset += start;
    }
    return LD_OK;
}

/* ---- The header ------------------------------------------------------------------------------ */

static enum ld_code take_start(struct cursor *in, uint64_t *tensors, uint64_t *keys,
                               struct ld_error *err)
{
    uint32_t version;
    if (in->size < 4 || memcmp(in->data, "GGUF", 4) != 0)
        return LD_FAIL(err, LD_E_FORMAT,
                       "the file is no GGUF file: it does not start with \"GGUF\"");
    in->at = 4;
    if (!take_u32(in, &version))
        return short_file(in, "the version", err);
    if (version >= 1u << 24 && (version & 0xFFFFFF) == 0)
        return LD_FAIL(err, LD_E_UNSUPPORTED, "the GGUF file is in big-endian byte order");
    if (version < VERSION_MIN || version > VERSION_MAX)
        return LD_FAIL(err, LD_E_UNSUPPORTED, "the GGUF file has version %u; %d and %d are read",
                       version, VERSION_MIN, VERSION_MAX);
    if (!take_u64(in, tensors) || !take_u64(in, keys))
        return short_file(in, "the counts", err);
    if (*tensors > LD_GGUF_TENSORS_MAX || *keys > LD_GGUF_KEYS_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE,
                       "the GGUF file has %llu tensors and %llu keys; at most %d and %d are read",
                       (unsigned long long)*tensors, (unsigned long long)*keys, LD_GGUF_TENSORS_MAX,
                       LD_GGUF_KEYS_MAX);
    if (*tensors * TENSOR_BYTES_MIN + *keys * KEY_BYTES_MIN > in->size - in->at)
        return LD_FAIL(err, LD_E_FORMAT,
                       "the GGUF file is too short for its %llu tensors and %llu keys",
                       (unsigned long long)*tensors, (unsigned long long)*keys);
    return LD_OK;
}

int ld_gguf_compare(struct ld_span a, struct ld_span b)
{
    const size_t shared = a.size < b.size ? a.size : b.size;
    const int order = shared > 0 ? memcmp(a.data, b.data, shared) : 0;
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int by_key(const void *a, const void *b)
{
    return ld_gguf_compare(((const struct ld_gguf_value *)a)->key,
                           ((const struct ld_gguf_value *)b)->key);
}

static int by_name(const void *a, const void *b)
{
    return ld_gguf_compare(((const struct ld_gguf_tensor *)a)->name,
                           ((const struct ld_gguf_tensor *)b)->name);
}

static enum ld_code sort_values(struct ld_gguf *file, struct ld_error *err)
{
    qsort(file->values, file->value_count, sizeof *file->values, by_key);
    for (uint32_t i = 1; i < file->value_count; i++)
        if (ld_span_equal(file->values[i - 1].key, file->values[i].key))
            return LD_FAIL(err, LD_E_FORMAT, "the GGUF file has the key '%s' twice",
                           ld_gguf_show(file->values[i].key).text);
    return LD_OK;
}

static enum ld_code sort_tensors(struct ld_gguf *file, struct ld_error *err)
{
    qsort(file->tensors, file->tensor_count, sizeof *file->tensors, by_name);
    for (uint32_t i = 1; i < file->tensor_count; i++)
        if (ld_span_equal(file->tensors[i - 1].name, file->tensors[i].name))
            return LD_FAIL(err, LD_E_FORMAT, "the GGUF file has the tensor '%s' twice",
                           ld_gguf_show(file->tensors[i].name).text);
    return LD_OK;
}

enum ld_code ld_gguf_parse(struct ld_gguf *file, struct ld_error *err)
{
    struct cursor in = {.data = file->map, .size = file->bytes};
    uint64_t tensors;
    uint64_t keys;
    enum ld_code code = take_start(&in, &tensors, &keys, err);
    if (code != LD_OK)
        return code;
    file->values = ld_heap_calloc((size_t)keys + 1, sizeof *file->values);
    file->tensors = ld_heap_calloc((size_t)tensors + 1, sizeof *file->tensors);
    if (!file->values || !file->tensors)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the header of a GGUF file");
    while (code == LD_OK && file->value_count < keys)
        code = take_value(&in, &file->values[file->value_count++], err);
    while (code == LD_OK && file->tensor_count < tensors)
        code = take_tensor(&in, &file->tensors[file->tensor_count++], err);
    if (code == LD_OK)
        code = sort_values(file, err);
    if (code == LD_OK)
        code = sort_tensors(file, err);
    return code == LD_OK ? place_tensors(file, in.at, err) : code;
}
