#include "runtime/model/pickle.h"

#include "runtime/model/pickle_machine.h"
#include "runtime/model/zip_store.h"

/* One inner dictionary may be a member many times, so visits are bounded, not members. */
enum { TENSORS_MAX = 256, VISITS_MAX = 1000 * 1000, ARENA_MAX = 64 << 20 };

struct stored_tensor {
    struct ld_pickle_tensor facts;
    const struct ld_pickle_value *value;
    const uint8_t *data; /* of its storage */
};

struct ld_pickle {
    struct ld_arena arena;
    struct ld_zip zip;
    struct ld_span stem; /* the folder inside the archive */
    struct ld_pickle_value *root;
    struct stored_tensor *tensors;
    uint32_t count;
};

/* ---- The archive ----------------------------------------------------------------------------- */

static bool ends_with(struct ld_span name, const char *tail)
{
    const size_t size = strlen(tail);
    return name.size > size && memcmp(name.data + name.size - size, tail, size) == 0;
}

/* The entry NAME/data.pkl; NAME is kept for the storages beside it. */
static enum ld_code find_pickle(struct ld_pickle *pickle, struct ld_span *out, struct ld_error *err)
{
    static const char tail[] = "/data.pkl";
    uint32_t position = 0;
    struct ld_zip_entry entry;
    bool more;
    enum ld_code code;
    while ((code = ld_zip_next(&pickle->zip, &position, &entry, &more, err)) == LD_OK && more) {
        if (ends_with(entry.name, tail)) {
            *out = entry.data;
            pickle->stem = ld_span_of(entry.name.data, entry.name.size - (sizeof tail - 1));
            return LD_OK;
        }
    }
    if (code != LD_OK)
        return code;
    return LD_FAIL(err, LD_E_UNSUPPORTED, "the zip archive holds no PyTorch pickle");
}

/* The bytes of storage `key`: NAME/data/KEY. */
static enum ld_code find_storage(const struct ld_pickle *pickle, struct ld_span key,
                                 struct ld_span *out, struct ld_error *err)
{
    static const char middle[] = "/data/";
    uint32_t position = 0;
    struct ld_zip_entry entry;
    bool more;
    enum ld_code code;
    while ((code = ld_zip_next(&pickle->zip, &position, &entry, &more, err)) == LD_OK && more) {
        const size_t stem = pickle->stem.size;
        if (entry.name.size == stem + sizeof middle - 1 + key.size &&
            memcmp(entry.name.data, pickle->stem.data, stem) == 0 &&
            memcmp(entry.name.data + stem, middle, sizeof middle - 1) == 0 &&
            (key.size == 0 ||
             memcmp(entry.name.data + stem + sizeof middle - 1, key.data, key.size) == 0)) {
            *out = entry.data;
            return LD_OK;
        }
    }
    return code == LD_OK ? LD_FAIL(err, LD_E_FORMAT, "a storage of the pickle is missing") : code;
}

/* ---- Tensors --------------------------------------------------------------------------------- */

/* Every element lies inside the storage, and the storage inside its entry. */
static bool bounds_hold(const struct ld_pickle_value *value, struct ld_span data, uint64_t *count)
{
    uint64_t last = value->offset;
    uint64_t bytes;
    *count = 1;
    for (uint32_t i = 0; i < value->rank; i++) {
        if (!ld_mul_u64_ok(*count, value->shape[i], count))
            return false;
    }
    for (uint32_t i = 0; i<value->rank && * count> 0; i++) {
        uint64_t reach;
        if (!ld_mul_u64_ok(value->shape[i] - 1, value->strides[i], &reach) ||
            !ld_add_u64_ok(last, reach, &last))
            return false;
    }
    /* Strides of zero repeat elements: the count is bounded by itself. */
    return *count <= LD_PICKLE_BYTES_MAX && (*count == 0 || last < value->storage->elements) &&
           ld_mul_u64_ok(value->storage->elements, ld_dtype_size(value->storage->dtype), &bytes) &&
           bytes <= data.size;
}

static void set_name(struct stored_tensor *tensor, const struct ld_pickle_value *outer,
                     const struct ld_pickle_value *inner)
{
    const struct ld_span a = outer ? outer->text : ld_span_of(NULL, 0);
    const struct ld_span b = inner ? inner->text : ld_span_of(NULL, 0);
    const int a_size = a.size < 64 ? (int)a.size : 64;
    const int b_size = b.size < 64 ? (int)b.size : 64;
    (void)ld_fmt(tensor->facts.name, sizeof tensor->facts.name, "%.*s%s%.*s", a_size,
                 a.size ? (const char *)a.data : "", inner ? "/" : "", b_size,
                 b.size ? (const char *)b.data : "");
}

static enum ld_code add_tensor(struct ld_pickle *pickle, const struct ld_pickle_value *value,
                               const struct ld_pickle_value *outer,
                               const struct ld_pickle_value *inner, struct ld_error *err)
{
    struct ld_span data = {NULL, 0};
    if (pickle->count == TENSORS_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the pickle holds more than %d tensors", TENSORS_MAX);
    const enum ld_code code = find_storage(pickle, value->storage->text, &data, err);
    if (code != LD_OK)
        return code;
    struct stored_tensor *tensor = &pickle->tensors[pickle->count];
    if (!bounds_hold(value, data, &tensor->facts.count))
        return LD_FAIL(err, LD_E_FORMAT, "a tensor of the pickle reaches beyond its storage");
    set_name(tensor, outer, inner);
    tensor->facts.dtype = value->storage->dtype;
    tensor->facts.rank = value->rank;
    memcpy(tensor->facts.shape, value->shape, sizeof value->shape);
    tensor->value = value;
    tensor->data = data.data;
    pickle->count++;
    return LD_OK;
}

static const struct ld_pickle_value *text_or_null(const struct ld_pickle_value *key)
{
    return key->kind == LD_PICKLE_TEXT ? key : NULL;
}

/* Tensors of the outer dictionary and of dictionaries directly in it; nothing deeper counts. */
static enum ld_code gather(struct ld_pickle *pickle, struct ld_error *err)
{
    const struct ld_pickle_value *root = pickle->root;
    enum ld_code code = LD_OK;
    uint32_t visits = 0;
    if (root->kind == LD_PICKLE_TENSOR)
        return add_tensor(pickle, root, NULL, NULL, err);
    if (root->kind != LD_PICKLE_DICT)
        return LD_OK;
    for (struct ld_pickle_cell *key = root->first; key && key->next && code == LD_OK;
         key = key->next->next) {
        const struct ld_pickle_value *value = key->next->value;
        if (value->kind == LD_PICKLE_TENSOR)
            code = add_tensor(pickle, value, text_or_null(key->value), NULL, err);
        if (value->kind != LD_PICKLE_DICT)
            continue;
        for (struct ld_pickle_cell *inner = value->first; inner && inner->next && code == LD_OK;
             inner = inner->next->next) {
            if (++visits > VISITS_MAX)
                return LD_FAIL(err, LD_E_TOO_LARGE, "the pickle has too many members");
            if (inner->next->value->kind == LD_PICKLE_TENSOR)
                code = add_tensor(pickle, inner->next->value, text_or_null(key->value),
                                  text_or_null(inner->value), err);
        }
    }
    return code;
}

/* ---- Opening --------------------------------------------------------------------------------- */

enum ld_code ld_pickle_open(struct ld_pickle **out, struct ld_span bytes, struct ld_error *err)
{
    struct ld_span program;
    *out = NULL;
    if (bytes.size > LD_PICKLE_BYTES_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the pickle file is larger than 64 MiB");
    struct ld_pickle *pickle = ld_heap_alloc(sizeof *pickle);
    if (!pickle)
        return LD_FAIL(err, LD_E_NOMEM, "the pickle needs too much memory");
    ld_arena_init(&pickle->arena, "pickle", ARENA_MAX);
    pickle->tensors = ld_arena_calloc(&pickle->arena, TENSORS_MAX, sizeof *pickle->tensors);
    enum ld_code code = pickle->tensors
                            ? ld_zip_open(&pickle->zip, bytes, err)
                            : LD_FAIL(err, LD_E_NOMEM, "the pickle needs too much memory");
    if (code == LD_OK)
        code = find_pickle(pickle, &program, err);
    if (code == LD_OK)
        code = ld_pickle_run(&pickle->arena, program, &pickle->root, err);
    if (code == LD_OK)
        code = gather(pickle, err);
    if (code == LD_OK)
        *out = pickle;
    else
        ld_pickle_close(pickle);
    return code;
}

void ld_pickle_close(struct ld_pickle *pickle)
{
    if (!pickle)
        return;
    ld_arena_deinit(&pickle->arena);
    ld_heap_free(pickle);
}

/* ---- Reading --------------------------------------------------------------------------------- */

uint32_t ld_pickle_count(const struct ld_pickle *pickle)
{
    return pickle->count;
}

const struct ld_pickle_tensor *ld_pickle_at(const struct ld_pickle *pickle, uint32_t index)
{
    LD_ASSERT(index < pickle->count);
    return &pickle->tensors[index].facts;
}

void ld_pickle_decode(const struct ld_pickle *pickle, uint32_t index, float *dst)
{
    LD_ASSERT(index < pickle->count);
    const struct stored_tensor *tensor = &pickle->tensors[index];
    const struct ld_pickle_value *value = tensor->value;
    const size_t size = ld_dtype_size(tensor->facts.dtype);
    uint64_t position[LD_PICKLE_RANK_MAX] = {0};
    for (uint64_t done = 0; done < tensor->facts.count; done++) {
        uint64_t at = value->offset;
        for (uint32_t i = 0; i < value->rank; i++)
            at += position[i] * value->strides[i];
        ld_dtype_to_f32(dst + done, tensor->data + at * size, tensor->facts.dtype, 1);
        for (uint32_t i = value->rank; i-- > 0 && ++position[i] == value->shape[i];)
            position[i] = 0;
    }
}

static const struct ld_pickle_value *look_up(const struct ld_pickle *pickle, const char *key)
{
    if (pickle->root->kind != LD_PICKLE_DICT)
        return NULL;
    for (struct ld_pickle_cell *cell = pickle->root->first; cell && cell->next;
         cell = cell->next->next) {
        if (cell->value->kind == LD_PICKLE_TEXT && ld_span_is(cell->value->text, key))
            return cell->next->value;
    }
    return NULL;
}

bool ld_pickle_text(const struct ld_pickle *pickle, const char *key, struct ld_span *out)
{
    const struct ld_pickle_value *value = look_up(pickle, key);
    if (!value || value->kind != LD_PICKLE_TEXT)
        return false;
    *out = value->text;
    return true;
}

bool ld_pickle_integer(const struct ld_pickle *pickle, const char *key, int64_t *out)
{
    const struct ld_pickle_value *value = look_up(pickle, key);
    if (!value || value->kind != LD_PICKLE_INTEGER)
        return false;
    *out = value->integer;
    return true;
}
