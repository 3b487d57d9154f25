#include "runtime/model/weights_private.h"

#include "kernels/ops.h"

#include <string.h>

enum {
    /* Below this a tensor's copy comes from the heap; a page mapping of its own would waste most.
     */
    BLOCK_BYTES_MIN = 64 * 1024,
    /* Made tensors whose memory is used again: what one packed weight consists of at most. */
    PLACES = 2 * LD_WEIGHT_PARTS_MAX,
    CHANGES_MAX = 64
};

/* Memory for tensors that are made, packed and dropped one after the other: fresh pages cost more
 * than the arithmetic. */
struct place {
    float *values;
    size_t bytes;
    int32_t key; /* -1: nobody's now */
};

struct ld_weights_changes {
    struct ld_weights_change list[CHANGES_MAX];
    uint32_t count;
    struct place places[PLACES];
};

static float *tensor_alloc(size_t bytes)
{
    return bytes < BLOCK_BYTES_MIN ? ld_heap_alloc(bytes) : ld_block_alloc(bytes);
}

static void tensor_free(float *values, size_t bytes)
{
    if (bytes < BLOCK_BYTES_MIN)
        ld_heap_free(values);
    else if (values)
        ld_block_free(values, bytes);
}

/* ---- Life ------------------------------------------------------------------------------------ */

enum ld_code ld_weights_overlay(struct ld_weights **out, const struct ld_weights *base,
                                struct ld_error *err)
{
    *out = NULL;
    struct ld_weights *overlay = ld_heap_alloc(sizeof *overlay);
    const uint32_t keys = ld_keymap_count(ld_weights_keymap(base));
    if (overlay)
        overlay->edits = ld_heap_calloc(keys, sizeof *overlay->edits);
    if (overlay)
        overlay->changes = ld_heap_calloc(1, sizeof *overlay->changes);
    if (!overlay || !overlay->edits || !overlay->changes) {
        ld_heap_free(overlay ? overlay->edits : NULL);
        ld_heap_free(overlay ? overlay->changes : NULL);
        ld_heap_free(overlay);
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for a variant of a model");
    }
    for (int p = 0; p < PLACES; p++)
        overlay->changes->places[p].key = -1;
    overlay->base = base;
    *out = overlay;
    return LD_OK;
}

void ld_weights_free_edits(struct ld_weights *overlay)
{
    const struct ld_weights *root = ld_weights_root(overlay);
    const uint32_t keys = ld_keymap_count(root->detection.map);
    struct ld_weights_changes *changes = overlay->changes;
    for (int p = 0; p < PLACES; p++) {
        if (changes->places[p].key >= 0)
            overlay->edits[changes->places[p].key] = NULL;
        tensor_free(changes->places[p].values, changes->places[p].bytes);
    }
    for (uint32_t i = 0; i < keys; i++)
        tensor_free(overlay->edits[i], ld_weights_elements(root, i) * sizeof(float));
    for (uint32_t c = 0; c < changes->count; c++)
        changes->list[c].destroy(changes->list[c].ctx);
    ld_heap_free(changes);
    ld_heap_free(overlay->edits);
}

/* ---- Tensors replaced at once ---------------------------------------------------------------- */

float *ld_weights_edit(struct ld_weights *overlay, const char *name)
{
    LD_ASSERT(overlay->base);
    struct ld_weight_view view;
    const int32_t key = ld_weights_key(overlay, name);
    if (key < 0)
        return NULL;
    LD_ASSERT(!ld_weights_is_deferred(overlay, (uint32_t)key));
    if (overlay->edits[key])
        return overlay->edits[key];
    (void)ld_weights_get(overlay->base, name, &view);
    const size_t bytes = view.count * sizeof(float);
    float *copy = tensor_alloc(bytes);
    if (copy) {
        ld_weight_view_decode(&view, copy);
        /* The copy stands in for the base from here on: do not keep both resident. */
        if (bytes >= BLOCK_BYTES_MIN)
            ld_weights_drop_pages(overlay->base, &view);
    }
    overlay->edits[key] = copy;
    return copy;
}

/* ---- Tensors made when they are asked for ---------------------------------------------------- */

enum ld_code ld_weights_defer(struct ld_weights *overlay, const struct ld_weights_change *change,
                              struct ld_error *err)
{
    LD_ASSERT(overlay->base);
    struct ld_weights_changes *changes = overlay->changes;
    if (changes->count == CHANGES_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "at most %d adapters can change a model", CHANGES_MAX);
    changes->list[changes->count++] = *change;
    return LD_OK;
}

bool ld_weights_is_deferred(const struct ld_weights *overlay, uint32_t key)
{
    const struct ld_weights_changes *changes = overlay->changes;
    for (uint32_t c = 0; changes && c < changes->count; c++)
        if (changes->list[c].touches(changes->list[c].ctx, key))
            return true;
    return false;
}

/* A place with room: the smallest that fits, else an empty one, else the smallest grows. NULL if
 * all are taken or there is no memory. */
static struct place *take_place(struct ld_weights_changes *changes, size_t bytes)
{
    struct place *best = NULL;
    for (int p = 0; p < PLACES; p++) {
        struct place *place = &changes->places[p];
        if (place->key >= 0)
            continue;
        const bool fits = place->bytes >= bytes;
        const bool best_fits = best && best->bytes >= bytes;
        if (!best || (fits && !best_fits) || (fits == best_fits && place->bytes < best->bytes))
            best = place;
    }
    if (best && best->bytes < bytes) {
        tensor_free(best->values, best->bytes);
        best->values = tensor_alloc(bytes);
        best->bytes = best->values ? bytes : 0;
    }
    return best && best->values ? best : NULL;
}

static enum ld_code apply_all(const struct ld_weights *overlay, int32_t key,
                              const struct ld_weight_view *below, float *values,
                              struct ld_error *err)
{
    const struct ld_weights_changes *changes = overlay->changes;
    enum ld_code code = LD_OK;
    for (uint32_t c = 0; code == LD_OK && c < changes->count; c++) {
        const struct ld_weights_change *change = &changes->list[c];
        if (!change->touches(change->ctx, (uint32_t)key))
            continue;
        code = change->apply(change->ctx, (uint32_t)key, below, values, err);
        below = NULL;
    }
    return code;
}

enum ld_code ld_weights_make(const struct ld_weights *overlay, const char *name,
                             struct ld_error *err)
{
    const int32_t key = ld_weights_key(overlay, name);
    struct ld_weight_view below;
    if (key < 0 || !overlay->base || overlay->edits[key] ||
        !ld_weights_is_deferred(overlay, (uint32_t)key))
        return LD_OK;
    LD_ASSERT(!ld_weights_is_deferred(overlay->base, (uint32_t)key));
    (void)ld_weights_get(overlay->base, name, &below);
    const size_t bytes = below.count * sizeof(float);
    struct place *place = take_place(overlay->changes, bytes);
    float *values = place ? place->values : tensor_alloc(bytes);
    if (!values)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for an adapter");
    const enum ld_code code = apply_all(overlay, key, &below, values, err);
    if (code == LD_OK) {
        overlay->edits[key] = values;
        if (place)
            place->key = key;
        if (bytes >= BLOCK_BYTES_MIN)
            ld_weights_drop_pages(overlay->base, &below);
    } else if (!place) {
        tensor_free(values, bytes);
    }
    return code;
}

bool ld_weights_unmake(const struct ld_weights *overlay, int32_t key, const void *values)
{
    struct ld_weights_changes *changes = overlay->changes;
    for (int p = 0; changes && p < PLACES; p++) {
        if (changes->places[p].key != key || changes->places[p].values != values)
            continue;
        overlay->edits[key] = NULL;
        changes->places[p].key = -1;
        return true;
    }
    return false;
}

/* ---- Facts ----------------------------------------------------------------------------------- */

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
    return key >= 0 && weights->base &&
           (weights->edits[key] || ld_weights_is_deferred(weights, (uint32_t)key));
}
