#include "runtime/model/weights.h"

#include "runtime/model/hash.h"
#include "runtime/model/weights_private.h"

#include <math.h>
#include <stdlib.h>

/* ---- Understanding the files ----------------------------------------------------------------- */

const struct ld_weight_source *ld_weights_source(const struct ld_weights *weights, int32_t item)
{
    return &weights->tensors.sources[weights->tensors.items[item].source];
}

static enum ld_code detect(struct ld_weights *weights, const struct ld_weights_options *options,
                           struct ld_error *err)
{
    const struct ld_detect_options wanted = {
        .use_ema = options && options->use_ema,
        .prediction = options ? options->prediction : -1,
    };
    enum ld_code code = ld_detect(&weights->detection, &weights->tensors.inventory, &wanted, err);
    const bool control = weights->detection.kind == LD_FILE_CONTROLNET;
    if (code == LD_OK && control && !(options && options->control))
        code = LD_FAIL(err, LD_E_UNSUPPORTED,
                       "the file is not a checkpoint but of the kind: controlnet");
    if (code == LD_OK)
        code = ld_detection_error(&weights->detection, err);
    if (code == LD_OK && !control && options && options->control)
        code = LD_FAIL(err, LD_E_UNSUPPORTED, "the file is not a ControlNet but of the kind: %s",
                       ld_detection_name(&weights->detection));
    if (code != LD_OK)
        return code;
    struct ld_arch *arch = &weights->detection.arch;
    if (weights->files.v_prediction && wanted.prediction < 0)
        arch->prediction = LD_PREDICT_V;
    arch->zero_terminal_snr |= weights->files.zero_terminal_snr;
    if (weights->files.beta_start > 0)
        arch->beta_start = weights->files.beta_start;
    if (weights->files.beta_end > 0)
        arch->beta_end = weights->files.beta_end;
    return LD_OK;
}

/* The bound keys and their fp8 scales. */
static enum ld_code index_keys(struct ld_weights *weights, struct ld_error *err)
{
    const uint32_t count = ld_keymap_count(weights->detection.map);
    weights->scales = ld_heap_calloc(count, sizeof *weights->scales);
    weights->present = ld_heap_calloc(count, sizeof *weights->present);
    if (!weights->scales || !weights->present)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the names of a model");
    for (uint32_t i = 0; i < count; i++) {
        const struct ld_binding *binding = &weights->detection.bindings[i];
        weights->scales[i] = 1;
        if (binding->item < 0)
            continue;
        weights->present[weights->present_count++] = i;
        if (binding->scale_item < 0)
            continue;
        const struct ld_weight_source *scale = ld_weights_source(weights, binding->scale_item);
        ld_safetensors_decode(scale->file, scale->tensor, &weights->scales[i], 1);
        if (!isfinite(weights->scales[i]))
            return LD_FAIL(err, LD_E_FORMAT, "the scale of a weight is not finite");
    }
    return LD_OK;
}

/* ---- Opening --------------------------------------------------------------------------------- */

enum ld_code ld_weights_open(struct ld_weights **out, const char *path,
                             const struct ld_weights_options *options, struct ld_error *err)
{
    *out = NULL;
    struct ld_weights *weights = ld_heap_alloc(sizeof *weights);
    if (!weights)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for a model");
    enum ld_code code = ld_weight_files_open(&weights->files, path, err);
    if (code == LD_OK)
        code = ld_file_inventory_init(&weights->tensors, weights->files.files, weights->files.count,
                                      err);
    if (code == LD_OK)
        code = detect(weights, options, err);
    if (code == LD_OK)
        code = index_keys(weights, err);
    if (code == LD_OK)
        code = ld_module_names_init(&weights->modules, weights->detection.map, err);
    if (code == LD_OK && options && options->refuse_nonfinite) {
        const char *first;
        const uint64_t bad = ld_weights_count_nonfinite(weights, &first);
        if (bad > 0)
            code = LD_FAIL(err, LD_E_FORMAT, "%llu weights are not finite, the first in %s",
                           (unsigned long long)bad, first);
    }
    if (code == LD_OK)
        *out = weights;
    else
        ld_weights_close(weights);
    return code;
}

void ld_weights_close(struct ld_weights *weights)
{
    if (!weights)
        return;
    if (weights->base) {
        ld_weights_free_edits(weights);
    } else {
        ld_module_names_deinit(&weights->modules);
        ld_detection_deinit(&weights->detection);
        ld_weight_files_close(&weights->files);
    }
    ld_file_inventory_deinit(&weights->tensors);
    ld_heap_free(weights->scales);
    ld_heap_free(weights->present);
    ld_heap_free(weights);
}

/* ---- Reading --------------------------------------------------------------------------------- */

const struct ld_weights *ld_weights_root(const struct ld_weights *weights)
{
    while (weights->base)
        weights = weights->base;
    return weights;
}

const struct ld_arch *ld_weights_arch(const struct ld_weights *weights)
{
    return &ld_weights_root(weights)->detection.arch;
}

size_t ld_weights_elements(const struct ld_weights *root, uint32_t index)
{
    const struct ld_key *key = ld_keymap_at(root->detection.map, index);
    size_t count = 1;
    for (int32_t i = 0; i < key->rank; i++)
        count *= (size_t)key->shape[i];
    return count;
}

const struct ld_keymap *ld_weights_keymap(const struct ld_weights *weights)
{
    return ld_weights_root(weights)->detection.map;
}

const struct ld_detection *ld_weights_detection(const struct ld_weights *weights)
{
    return &ld_weights_root(weights)->detection;
}

static void fill_view(const struct ld_weights *weights, uint32_t index, struct ld_weight_view *view)
{
    const struct ld_weights *root = ld_weights_root(weights);
    const struct ld_key *key = ld_keymap_at(root->detection.map, index);
    const struct ld_weight_source *source =
        ld_weights_source(root, root->detection.bindings[index].item);
    memset(view, 0, sizeof *view);
    view->name = key->name;
    view->data = ld_safetensors_data(source->file, source->tensor);
    view->dtype = source->tensor->dtype;
    view->rank = key->rank;
    view->count = ld_weights_elements(root, index);
    for (int32_t i = 0; i < key->rank; i++)
        view->shape[i] = key->shape[i];
    view->scale = root->scales[index];
    for (; weights->base; weights = weights->base) {
        if (weights->edits[index]) {
            view->data = weights->edits[index];
            view->dtype = LD_DTYPE_F32;
            view->scale = 1;
            return;
        }
        if (ld_weights_is_deferred(weights, index)) {
            view->data = NULL; /* rather none than the base's */
            view->dtype = LD_DTYPE_F32;
            view->scale = 1;
            return;
        }
    }
}

int32_t ld_weights_key(const struct ld_weights *weights, const char *name)
{
    const struct ld_weights *root = ld_weights_root(weights);
    const int32_t index = ld_keymap_find(root->detection.map, name);
    return index >= 0 && root->detection.bindings[index].item >= 0 ? index : -1;
}

bool ld_weights_get(const struct ld_weights *weights, const char *name, struct ld_weight_view *view)
{
    const int32_t index = ld_weights_key(weights, name);
    if (index >= 0)
        fill_view(weights, (uint32_t)index, view);
    return index >= 0;
}

uint32_t ld_weights_count(const struct ld_weights *weights)
{
    return ld_weights_root(weights)->present_count;
}

void ld_weights_at(const struct ld_weights *weights, uint32_t index, struct ld_weight_view *view)
{
    const struct ld_weights *root = ld_weights_root(weights);
    LD_ASSERT(index < root->present_count);
    fill_view(weights, root->present[index], view);
}

const char *ld_weights_metadata(const struct ld_weights *weights, const char *key)
{
    const struct ld_weights *root = ld_weights_root(weights);
    return root->files.count ? ld_safetensors_metadata(root->files.files[0], key) : NULL;
}

void ld_weights_drop_pages(const struct ld_weights *weights, const struct ld_weight_view *view)
{
    const int32_t index = ld_weights_key(weights, view->name);
    const struct ld_weights *root = ld_weights_root(weights);
    if (index < 0 || ld_weights_unmake(weights, index, view->data))
        return;
    const struct ld_weight_source *source =
        ld_weights_source(root, root->detection.bindings[index].item);
    if (view->data == ld_safetensors_data(source->file, source->tensor))
        ld_safetensors_drop_pages(source->file, view->data,
                                  (size_t)(source->tensor->end - source->tensor->begin));
}

/* ---- Identity -------------------------------------------------------------------------------- */

enum ld_code ld_weights_sha256(struct ld_weights *weights, char out[65], struct ld_error *err)
{
    _Static_assert(LD_SHA256_HEX_SIZE == 65, "the contract names the size");
    LD_ASSERT(!weights->base);
    struct ld_sha256 hash = {0};
    uint8_t digest[LD_SHA256_BYTES];
    enum ld_code code = LD_OK;
    if (!weights->sha256[0]) {
        code = ld_sha256_init(&hash, err);
        for (uint32_t f = 0; code == LD_OK && f < weights->files.count; f++)
            code = ld_hash_add_fd(&hash, ld_safetensors_fd(weights->files.files[f]), 0, err);
        if (code == LD_OK) {
            ld_sha256_finish(&hash, digest);
            ld_hex(ld_span_of(digest, sizeof digest), weights->sha256);
        }
        ld_sha256_deinit(&hash);
    }
    memcpy(out, weights->sha256, sizeof weights->sha256);
    return code;
}
