#include "runtime/model/embedding.h"

#include "runtime/base/arena.h"
#include "runtime/base/fsx.h"
#include "runtime/model/magic.h"
#include "runtime/model/pickle.h"
#include "runtime/model/safetensors.h"

#include <math.h>

/* Take [n, width] or [width] as the shape of the result and make room for it. */
static enum ld_code make_room(struct ld_embedding *out, uint32_t rank, const uint64_t *shape,
                              int32_t width, struct ld_error *err)
{
    const uint64_t vectors = rank == 2 ? shape[0] : 1;
    const uint64_t columns = rank == 2 ? shape[1] : rank == 1 ? shape[0] : 0;
    if (columns == 0 || vectors == 0)
        return LD_FAIL(err, LD_E_SHAPE, "an embedding must be a matrix or a vector");
    if (vectors > LD_EMBEDDING_VECTORS_MAX || columns > LD_EMBEDDING_WIDTH_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "an embedding may have %d vectors of width %d at most",
                       LD_EMBEDDING_VECTORS_MAX, LD_EMBEDDING_WIDTH_MAX);
    if (width > 0 && columns != (uint64_t)width)
        return LD_FAIL(err, LD_E_SHAPE,
                       "the embedding has width %d, the text encoder of this model %d",
                       (int)columns, width);
    out->vectors = (int32_t)vectors;
    out->width = (int32_t)columns;
    out->values = ld_heap_calloc((size_t)(vectors * columns), sizeof *out->values);
    return out->values ? LD_OK : LD_FAIL(err, LD_E_NOMEM, "not enough memory for an embedding");
}

static enum ld_code check_finite(const struct ld_embedding *embedding, struct ld_error *err)
{
    const size_t count = (size_t)embedding->vectors * (size_t)embedding->width;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(embedding->values[i]))
            return LD_FAIL(err, LD_E_FORMAT, "the embedding holds values that are not finite");
    }
    return LD_OK;
}

/* ---- safetensors ----------------------------------------------------------------------------- */

static const struct ld_st_tensor *pick_tensor(const struct ld_safetensors *file, const char **form)
{
    static const char *const names[] = {"emb_params", "clip_l"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const struct ld_st_tensor *tensor = ld_safetensors_find(file, names[i]);
        *form = names[i];
        if (tensor)
            return tensor;
    }
    *form = "lone tensor";
    return ld_safetensors_count(file) == 1 ? ld_safetensors_at(file, 0) : NULL;
}

static enum ld_code from_safetensors(struct ld_embedding *out, const struct ld_safetensors *file,
                                     int32_t width, struct ld_error *err)
{
    const struct ld_st_tensor *tensor = pick_tensor(file, &out->form);
    const char *name = ld_safetensors_metadata(file, "name");
    if (!tensor || !ld_dtype_is_float(tensor->dtype))
        return LD_FAIL(err, LD_E_FORMAT, "the file holds no embedding");
    const enum ld_code code = make_room(out, tensor->rank, tensor->shape, width, err);
    if (code != LD_OK)
        return code;
    ld_safetensors_decode(file, tensor, out->values, (size_t)out->vectors * (size_t)out->width);
    (void)ld_fmt(out->name, sizeof out->name, "%s", name ? name : "");
    return check_finite(out, err);
}

/* ---- Pickles --------------------------------------------------------------------------------- */

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* webui's string_to_param, else the file's only tensor. */
static int64_t pick_pickled(const struct ld_pickle *pickle, const char **form)
{
    for (uint32_t i = 0; i < ld_pickle_count(pickle); i++) {
        *form = "string_to_param";
        if (starts_with(ld_pickle_at(pickle, i)->name, "string_to_param/"))
            return i;
    }
    *form = "concept";
    return ld_pickle_count(pickle) == 1 ? 0 : -1;
}

static enum ld_code from_pickle(struct ld_embedding *out, struct ld_span bytes, int32_t width,
                                struct ld_error *err)
{
    struct ld_pickle *pickle;
    enum ld_code code = ld_pickle_open(&pickle, bytes, err);
    if (code != LD_OK)
        return code;
    struct ld_span name;
    const int64_t index = pick_pickled(pickle, &out->form);
    const struct ld_pickle_tensor *tensor =
        index >= 0 ? ld_pickle_at(pickle, (uint32_t)index) : NULL;
    if (!tensor || !ld_dtype_is_float(tensor->dtype))
        code = LD_FAIL(err, LD_E_FORMAT, "the file holds no embedding");
    else
        code = make_room(out, tensor->rank, tensor->shape, width, err);
    if (code == LD_OK) {
        ld_pickle_decode(pickle, (uint32_t)index, out->values);
        if (ld_pickle_text(pickle, "name", &name) && name.size < sizeof out->name &&
            ld_utf8_valid(name) && name.size)
            memcpy(out->name, name.data, name.size);
        else if (strcmp(out->form, "concept") == 0)
            (void)ld_fmt(out->name, sizeof out->name, "%s", tensor->name);
        if (!ld_pickle_integer(pickle, "step", &out->step))
            out->step = -1;
        code = check_finite(out, err);
    }
    ld_pickle_close(pickle);
    return code;
}

/* ---- Opening --------------------------------------------------------------------------------- */

enum ld_code ld_embedding_open_bytes(struct ld_embedding *out, struct ld_span bytes, int32_t width,
                                     struct ld_error *err)
{
    memset(out, 0, sizeof *out);
    out->step = -1;
    const size_t head = bytes.size < LD_MAGIC_BYTES ? bytes.size : LD_MAGIC_BYTES;
    const enum ld_magic magic = ld_magic_of(ld_span_of(bytes.data, head));
    if (magic == LD_MAGIC_TORCH_ZIP || magic == LD_MAGIC_ZIP)
        return from_pickle(out, bytes, width, err);
    if (magic != LD_MAGIC_SAFETENSORS && magic != LD_MAGIC_UNKNOWN)
        return LD_FAIL(err, LD_E_UNSUPPORTED, "the embedding file is %s", ld_magic_words(magic));
    struct ld_safetensors *file;
    enum ld_code code = ld_safetensors_open_bytes(&file, bytes, NULL, err);
    if (code == LD_OK)
        code = from_safetensors(out, file, width, err);
    ld_safetensors_close(file);
    return code;
}

enum ld_code ld_embedding_open(struct ld_embedding *out, const char *path, int32_t width,
                               struct ld_error *err)
{
    memset(out, 0, sizeof *out);
    struct ld_buffer bytes = ld_buffer_make(LD_PICKLE_BYTES_MAX);
    enum ld_code code = ld_fsx_read_file(path, &bytes, err);
    if (code == LD_OK)
        code = ld_embedding_open_bytes(out, ld_span_of(bytes.data, bytes.size), width, err);
    ld_buffer_deinit(&bytes);
    return code;
}

void ld_embedding_deinit(struct ld_embedding *embedding)
{
    ld_heap_free(embedding->values);
    memset(embedding, 0, sizeof *embedding);
}
