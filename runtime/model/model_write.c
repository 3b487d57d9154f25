#include "runtime/model/model_write_private.h"

#include "runtime/base/arena.h"

#include <math.h>
#include <string.h>

/* Largest finite values of the storage types. */
#define F16_MAX  65504.0f
#define E4M3_MAX 448.0f

enum { MARKERS_MAX = 2 };

static const char *const storage_names[LD_STORE_COUNT] = {"keep", "fp32", "fp16", "bf16", "fp8"};

const char *ld_model_storage_name(enum ld_model_storage storage)
{
    LD_ASSERT((unsigned)storage < LD_STORE_COUNT);
    return storage_names[storage];
}

bool ld_model_storage_find(const char *word, enum ld_model_storage *storage)
{
    for (unsigned i = 0; i < LD_STORE_COUNT; i++) {
        if (strcmp(word, storage_names[i]) == 0) {
            *storage = (enum ld_model_storage)i;
            return true;
        }
    }
    return false;
}

/* ---- The list of tensors --------------------------------------------------------------------- */

static bool is_scaled(const struct ld_model_write *write, const struct ld_model_item *item)
{
    return write->storage == LD_STORE_FP8 && item->key->part == LD_PART_UNET &&
           (item->key->kind == LD_KEY_LINEAR || item->key->kind == LD_KEY_CONV);
}

/* A type that was kept and needs a scale, or is no float of a modern file, becomes F16. */
static enum ld_dtype stored_as(const struct ld_model_write *write, const struct ld_model_item *item)
{
    switch (write->storage) {
    case LD_STORE_F32:
        return LD_DTYPE_F32;
    case LD_STORE_BF16:
        return LD_DTYPE_BF16;
    case LD_STORE_FP8:
        return is_scaled(write, item) ? LD_DTYPE_F8_E4M3 : LD_DTYPE_F16;
    case LD_STORE_KEEP:
        return item->dtype == LD_DTYPE_F8_E4M3 || item->dtype == LD_DTYPE_F8_E5M2 ? LD_DTYPE_F16
                                                                                  : item->dtype;
    case LD_STORE_F16:
    case LD_STORE_COUNT:
        break;
    }
    return LD_DTYPE_F16;
}

/* diffusers writes the VAE's attention as matrices where the single file has 1x1 convolutions. */
static bool is_flattened(const struct ld_model_item *item, bool diffusers)
{
    return diffusers &&
           (item->key->part == LD_PART_VAE_ENCODER || item->key->part == LD_PART_VAE_DECODER) &&
           item->key->kind == LD_KEY_CONV && strstr(item->key->name, ".attn_1.") &&
           item->shape[2] == 1 && item->shape[3] == 1;
}

static struct ld_st_item *add(struct ld_write_file *file, enum ld_write_role role, uint32_t index,
                              enum ld_dtype dtype)
{
    file->slots[file->count] = (struct ld_write_slot){role, index};
    struct ld_st_item *item = &file->items[file->count];
    item->name = file->names[file->count++];
    item->dtype = dtype;
    return item;
}

static bool add_scale(struct ld_write_file *file, uint32_t index, const char *name)
{
    static const char tail[] = "weight";
    struct ld_st_item *item = add(file, LD_WRITE_SCALE, index, LD_DTYPE_F32);
    item->rank = 1;
    item->shape[0] = 1;
    return ld_fmt(file->names[file->count - 1], LD_WRITE_NAME_SIZE, "%.*sscale_weight",
                  (int)(strlen(name) - strlen(tail)), name);
}

static bool add_value(struct ld_write_file *file, uint32_t index, bool diffusers)
{
    const struct ld_model_item *item = &file->write->items[index];
    const char *name = diffusers ? item->key->diffusers : item->key->name;
    if (is_scaled(file->write, item) && !add_scale(file, index, name))
        return false;
    struct ld_st_item *out = add(file, LD_WRITE_VALUE, index, stored_as(file->write, item));
    out->rank = is_flattened(item, diffusers) ? 2 : (uint32_t)item->rank;
    for (uint32_t i = 0; i < out->rank; i++)
        out->shape[i] = (uint64_t)item->shape[i];
    return ld_fmt(file->names[file->count - 1], LD_WRITE_NAME_SIZE, "%s", name);
}

/* A tensor whose presence says something: readers look at the name alone. */
static bool add_marker(struct ld_write_file *file, const char *name, enum ld_dtype dtype)
{
    struct ld_st_item *item = add(file, LD_WRITE_MARKER, 0, dtype);
    item->rank = 1;
    item->shape[0] = 1;
    return ld_fmt(file->names[file->count - 1], LD_WRITE_NAME_SIZE, "%s", name);
}

enum ld_code ld_write_file_init(struct ld_write_file *file, const struct ld_model_write *write,
                                bool (*takes)(const struct ld_model_item *item), bool diffusers,
                                struct ld_error *err)
{
    const size_t capacity = 2 * (size_t)write->count + MARKERS_MAX;
    bool fits = true;
    bool scaled = false;
    memset(file, 0, sizeof *file);
    file->write = write;
    file->held = -1;
    file->items = ld_heap_calloc(capacity, sizeof *file->items);
    file->slots = ld_heap_calloc(capacity, sizeof *file->slots);
    file->names = ld_heap_calloc(capacity, sizeof *file->names);
    if (!file->items || !file->slots || !file->names)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory to write a model");
    for (uint32_t i = 0; i < write->count; i++) {
        const struct ld_model_item *item = &write->items[i];
        if (takes && !takes(item))
            continue;
        fits = fits && add_value(file, i, diffusers);
        scaled = scaled || is_scaled(write, item);
        file->capacity = item->count > file->capacity ? item->count : file->capacity;
    }
    /* Other programs look for the first before they believe the scales. A folder says the second in
     * its scheduler's configuration. */
    if (scaled && !diffusers)
        fits = fits && add_marker(file, LD_PREFIX_UNET "scaled_fp8", LD_DTYPE_F8_E4M3);
    if (write->arch->zero_terminal_snr && !diffusers)
        fits = fits && add_marker(file, "ztsnr", LD_DTYPE_F16);
    if (!fits)
        return LD_FAIL(err, LD_E_BUG, "a tensor's name does not fit");
    file->values = file->capacity ? ld_block_alloc(file->capacity * sizeof(float)) : NULL;
    return file->values || !file->capacity
               ? LD_OK
               : LD_FAIL(err, LD_E_NOMEM, "not enough memory to write a model");
}

void ld_write_file_deinit(struct ld_write_file *file)
{
    if (file->values)
        ld_block_free(file->values, file->capacity * sizeof(float));
    ld_heap_free(file->items);
    ld_heap_free(file->slots);
    ld_heap_free(file->names);
    memset(file, 0, sizeof *file);
}

static uint64_t bytes_of(const struct ld_st_item *item)
{
    uint64_t bytes = ld_dtype_size(item->dtype);
    for (uint32_t i = 0; i < item->rank; i++)
        bytes *= item->shape[i];
    return bytes;
}

uint64_t ld_write_file_bytes(const struct ld_write_file *file)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < file->count; i++)
        bytes += bytes_of(&file->items[i]);
    return bytes;
}

/* ---- Values ---------------------------------------------------------------------------------- */

static float magnitude_max(const float *values, size_t count)
{
    float max = 0;
    for (size_t i = 0; i < count; i++) {
        const float magnitude = fabsf(values[i]);
        if (!(magnitude <= max))
            max = magnitude; /* NaN stays, so that the caller sees it */
        if (isnan(max))
            break;
    }
    return max;
}

/* 1 for a tensor of zeros. */
static float scale_of(float max)
{
    return max > 0 ? max / E4M3_MAX : 1;
}

static enum ld_code hold(struct ld_write_file *file, uint32_t index, struct ld_error *err)
{
    if (file->held == (int64_t)index)
        return LD_OK;
    file->held = -1;
    const enum ld_code code = file->write->value(file->write->ctx, index, file->values, err);
    if (code == LD_OK)
        file->held = (int64_t)index;
    return code;
}

/* What the type cannot hold would come back as infinity: better said than written. */
static enum ld_code check_range(const struct ld_model_item *item, enum ld_dtype dtype, float max,
                                struct ld_error *err)
{
    if (!isfinite(max))
        return LD_FAIL(err, LD_E_FORMAT, "%s has values that are not finite", item->key->name);
    if (dtype == LD_DTYPE_F16 && max > F16_MAX)
        return LD_FAIL(err, LD_E_RANGE, "%s has values beyond fp16 (%g); use bf16 or fp32",
                       item->key->name, (double)max);
    return LD_OK;
}

static enum ld_code fill(void *ctx, uint32_t slot, void *dst, size_t bytes, struct ld_error *err)
{
    struct ld_write_file *file = ctx;
    const struct ld_model_item *item = &file->write->items[file->slots[slot].index];
    const enum ld_dtype dtype = file->items[slot].dtype;
    enum ld_code code = LD_OK;
    if (file->slots[slot].role == LD_WRITE_MARKER) {
        memset(dst, 0, bytes);
    } else {
        code = hold(file, file->slots[slot].index, err);
        const float max = code == LD_OK ? magnitude_max(file->values, item->count) : 0;
        if (code == LD_OK)
            code = check_range(item, dtype, max, err);
        const float scale = scale_of(max);
        if (code == LD_OK && file->slots[slot].role == LD_WRITE_SCALE) {
            memcpy(dst, &scale, sizeof scale);
        } else if (code == LD_OK) {
            for (size_t i = 0; dtype == LD_DTYPE_F8_E4M3 && i < item->count; i++)
                file->values[i] /= scale;
            ld_dtype_from_f32(dst, file->values, dtype, item->count);
            file->held = -1;
        }
    }
    *file->done += bytes;
    if (code == LD_OK && file->write->progress &&
        !file->write->progress(file->write->progress_ctx, *file->done, file->total))
        code = LD_FAIL(err, LD_E_CANCELLED, "stopped; nothing was written");
    return code;
}

enum ld_code ld_write_file_run(struct ld_write_file *file, int fd, uint64_t *done, uint64_t total,
                               struct ld_error *err)
{
    const struct ld_st_write plan = {
        .items = file->items,
        .count = file->count,
        .metadata = file->write->notes,
        .metadata_count = file->write->note_count,
        .fill = fill,
        .ctx = file,
    };
    file->done = done;
    file->total = total;
    return ld_safetensors_write(fd, &plan, err);
}

/* ---- The single file ------------------------------------------------------------------------- */

enum ld_code ld_model_write_file(const char *path, const struct ld_model_write *write,
                                 struct ld_error *err)
{
    struct ld_write_file file;
    struct ld_out_file out;
    uint64_t done = 0;
    enum ld_code code = ld_write_file_init(&file, write, NULL, false, err);
    if (code == LD_OK)
        code = ld_out_file_open(&out, path, write->replace, err);
    if (code != LD_OK) {
        ld_write_file_deinit(&file);
        return code;
    }
    code = ld_out_file_require(&out, ld_write_file_bytes(&file), err);
    if (code == LD_OK)
        code = ld_write_file_run(&file, out.fd, &done, ld_write_file_bytes(&file), err);
    if (code == LD_OK)
        code = ld_out_file_commit(&out, err);
    else
        ld_out_file_discard(&out);
    ld_write_file_deinit(&file);
    return code;
}
