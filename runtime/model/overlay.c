#include "runtime/model/weights_private.h"

#include <string.h>

/* Below this a tensor's copy comes from the heap; a page mapping of its own would waste most. */
enum { BLOCK_BYTES_MIN = 64 * 1024 };

enum ld_code ld_weights_overlay(struct ld_weights **out, const struct ld_weights *base,
                                struct ld_error *err)
{
    *out = NULL;
    struct ld_weights *overlay = ld_heap_alloc(sizeof *overlay);
    const uint32_t keys = ld_keymap_count(ld_weights_keymap(base));
    if (overlay)
        overlay->edits = ld_heap_calloc(keys, sizeof *overlay->edits);
    if (!overlay || !overlay->edits) {
        ld_heap_free(overlay);
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for a variant of a model");
    }
    overlay->base = base;
    *out = overlay;
    return LD_OK;
}

float *ld_weights_edit(struct ld_weights *overlay, const char *name)
{
    LD_ASSERT(overlay->base);
    struct ld_weight_view view;
    const int32_t key = ld_weights_key(overlay, name);
    if (key < 0)
        return NULL;
    if (overlay->edits[key])
        return overlay->edits[key];
    (void)ld_weights_get(overlay->base, name, &view);
    const size_t bytes = view.count * sizeof(float);
    float *copy = bytes < BLOCK_BYTES_MIN ? ld_heap_alloc(bytes) : ld_block_alloc(bytes);
    if (copy) {
        ld_weight_view_decode(&view, copy);
        /* The copy stands in for the base from here on: do not keep both resident. */
        if (bytes >= BLOCK_BYTES_MIN)
            ld_weights_drop_pages(overlay->base, &view);
    }
    overlay->edits[key] = copy;
    return copy;
}

void ld_weights_free_edits(struct ld_weights *overlay)
{
    const struct ld_weights *root = ld_weights_root(overlay);
    const uint32_t keys = ld_keymap_count(root->detection.map);
    for (uint32_t i = 0; i < keys; i++) {
        const size_t bytes = ld_weights_elements(root, i) * sizeof(float);
        if (bytes < BLOCK_BYTES_MIN)
            ld_heap_free(overlay->edits[i]);
        else
            ld_block_free(overlay->edits[i], bytes);
    }
    ld_heap_free(overlay->edits);
}

enum ld_dtype ld_weights_storage_dtype(const struct ld_weights *weights, const char *name)
{
    const struct ld_weights *root = ld_weights_root(weights);
    const int32_t key = ld_weights_key(weights, name);
    return key < 0 ? LD_DTYPE_OTHER
                   : ld_weights_source(root, root->detection.bindings[key].item)->tensor->dtype;
}

bool ld_weights_is_edited(const struct ld_weights *weights, const char *name)
{
    const int32_t key = ld_weights_key(weights, name);
    return key >= 0 && weights->base && weights->edits[key];
}
