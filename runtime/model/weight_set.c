#include "runtime/model/weight_set.h"

#include <stdatomic.h>
#include <string.h>

/* Names of the UNet's 686 tensors are 55 KB; four such networks fit many times over. */
static const size_t NAMES_BYTES_MAX = 1 << 20;

/* ---- Layout ---------------------------------------------------------------------------------- */

void ld_weight_layout_init(struct ld_weight_layout *layout)
{
    memset(layout, 0, sizeof *layout);
    ld_arena_init(&layout->arena, "weight names", NAMES_BYTES_MAX);
}

void ld_weight_layout_deinit(struct ld_weight_layout *layout)
{
    ld_heap_free(layout->slots);
    ld_arena_deinit(&layout->arena);
    memset(layout, 0, sizeof *layout);
}

static bool reserve_slot(struct ld_weight_layout *layout)
{
    if (layout->count < layout->capacity)
        return true;
    const uint32_t capacity = layout->capacity ? 2 * layout->capacity : 64;
    struct ld_weight_slot *slots = ld_heap_resize(layout->slots, capacity * sizeof *slots);
    if (!slots)
        return false;
    layout->slots = slots;
    layout->capacity = capacity;
    return true;
}

/* Parts and their names in the layout's arena; NULL when out of memory. */
static const struct ld_weight_slot_part *copy_parts(struct ld_weight_layout *layout,
                                                    const struct ld_weight_slot *slot)
{
    struct ld_weight_slot_part *parts =
        ld_arena_calloc(&layout->arena, slot->part_count, sizeof *parts);
    for (uint32_t p = 0; parts && p < slot->part_count; p++) {
        const struct ld_weight_slot_part *part = &slot->parts[p];
        parts[p] = (struct ld_weight_slot_part){
            .weight = ld_arena_strdup(&layout->arena, part->weight),
            .bias = part->bias ? ld_arena_strdup(&layout->arena, part->bias) : NULL,
            .rows = part->rows};
        if (!parts[p].weight || (part->bias && !parts[p].bias))
            return NULL;
    }
    return parts;
}

int32_t ld_weight_layout_slot(struct ld_weight_layout *layout, const struct ld_weight_slot *slot)
{
    LD_ASSERT(slot->part_count >= 1 && slot->part_count <= LD_WEIGHT_PARTS_MAX);
    for (uint32_t i = 0; i < layout->count; i++) {
        const struct ld_weight_slot *known = &layout->slots[i];
        if (known->kind == slot->kind && known->part_count == slot->part_count &&
            strcmp(known->parts[0].weight, slot->parts[0].weight) == 0)
            return (int32_t)i;
    }
    if (!reserve_slot(layout))
        return -1;
    struct ld_weight_slot *added = &layout->slots[layout->count];
    *added = *slot;
    added->parts = copy_parts(layout, slot);
    return added->parts ? (int32_t)layout->count++ : -1;
}

struct ld_weight_desc ld_weight_slot_desc(const struct ld_weight_slot *slot)
{
    struct ld_weight_desc desc = {.kind = slot->kind,
                                  .rows = slot->rows,
                                  .k = slot->k,
                                  .kernel = slot->kernel,
                                  .upsampled = slot->upsampled,
                                  .part_count = slot->part_count};
    for (uint32_t p = 0; p < slot->part_count; p++)
        desc.parts[p].rows = slot->parts[p].rows;
    return desc;
}

static uint64_t part_values(const struct ld_weight_slot *slot, uint32_t part)
{
    const uint64_t side = slot->kind == LD_WEIGHT_CONV ? (uint64_t)slot->kernel : 1;
    return (uint64_t)slot->parts[part].rows * (uint64_t)slot->k * side * side;
}

uint64_t ld_weight_layout_values(const struct ld_weight_layout *layout)
{
    uint64_t values = 0;
    for (uint32_t i = 0; i < layout->count; i++) {
        const struct ld_weight_slot *slot = &layout->slots[i];
        for (uint32_t p = 0; p < slot->part_count; p++)
            values +=
                part_values(slot, p) + (slot->parts[p].bias ? (uint64_t)slot->parts[p].rows : 0);
    }
    return values;
}

/* ---- Pack ------------------------------------------------------------------------------------ */

void ld_weight_pack_init(struct ld_weight_pack *pack, struct ld_backend *backend)
{
    static atomic_uint_least64_t serials;
    memset(pack, 0, sizeof *pack);
    pack->serial = 1 + atomic_fetch_add(&serials, 1);
    pack->backend = backend;
}

void ld_weight_pack_deinit(struct ld_weight_pack *pack)
{
    for (uint32_t i = 0; i < pack->count; i++)
        if (pack->owned[i])
            pack->backend->ops->weight_destroy(pack->backend, pack->weights[i]);
    ld_heap_free(pack->weights);
    ld_heap_free(pack->owned);
    memset(pack, 0, sizeof *pack);
}

static enum ld_code reserve(struct ld_weight_pack *pack, uint32_t count, struct ld_error *err)
{
    if (count <= pack->capacity)
        return LD_OK;
    struct ld_weight **weights = ld_heap_resize(pack->weights, count * sizeof *weights);
    if (weights)
        pack->weights = weights;
    bool *owned = ld_heap_resize(pack->owned, count * sizeof *owned);
    if (owned)
        pack->owned = owned;
    if (!weights || !owned)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the model's weights");
    pack->capacity = count;
    return LD_OK;
}

static enum ld_code take_part(const struct ld_weights *weights, const char *name, uint64_t values,
                              struct ld_weight_view *view, struct ld_weight_part *part,
                              struct ld_error *err)
{
    const enum ld_code code = ld_weights_make(weights, name, err);
    if (code != LD_OK)
        return code;
    if (!ld_weights_get(weights, name, view))
        return LD_FAIL(err, LD_E_NOT_FOUND, "the model lacks the tensor %s", name);
    if (view->count != values)
        return LD_FAIL(err, LD_E_SHAPE, "the tensor %s has %zu values instead of %llu", name,
                       view->count, (unsigned long long)values);
    if (!ld_dtype_is_float(view->dtype))
        return LD_FAIL(err, LD_E_UNSUPPORTED, "the tensor %s is of type %s, which no weight can be",
                       name, ld_dtype_name(view->dtype));
    part->data = view->data;
    part->dtype = view->dtype;
    part->scale = view->scale;
    return LD_OK;
}

static enum ld_code pack_slot(struct ld_weight_pack *pack, const struct ld_weight_slot *slot,
                              const struct ld_weights *weights, struct ld_weight **out,
                              struct ld_error *err)
{
    struct ld_weight_view views[2 * LD_WEIGHT_PARTS_MAX];
    uint32_t view_count = 0;
    struct ld_weight_desc desc = ld_weight_slot_desc(slot);
    desc.streamed = pack->streamed;
    enum ld_code code = LD_OK;
    for (uint32_t p = 0; code == LD_OK && p < slot->part_count; p++) {
        const struct ld_weight_slot_part *part = &slot->parts[p];
        code = take_part(weights, part->weight, part_values(slot, p), &views[view_count],
                         &desc.parts[p], err);
        view_count += code == LD_OK;
        if (code == LD_OK && part->bias) {
            code = take_part(weights, part->bias, (uint64_t)part->rows, &views[view_count],
                             &desc.bias[p], err);
            view_count += code == LD_OK;
        }
    }
    if (code == LD_OK)
        code = pack->backend->ops->weight_create(pack->backend, &desc, out, err);
    for (uint32_t v = 0; v < view_count; v++)
        ld_weights_drop_pages(weights, &views[v]);
    return code;
}

static bool is_edited(const struct ld_weights *weights, const struct ld_weight_slot *slot)
{
    for (uint32_t p = 0; p < slot->part_count; p++)
        if (ld_weights_is_edited(weights, slot->parts[p].weight) ||
            (slot->parts[p].bias && ld_weights_is_edited(weights, slot->parts[p].bias)))
            return true;
    return false;
}

enum ld_code ld_weight_pack_fill(struct ld_weight_pack *pack, const struct ld_weight_layout *layout,
                                 const struct ld_weights *weights,
                                 const struct ld_weight_pack *base, struct ld_error *err)
{
    LD_ASSERT(!base || base->count >= layout->count);
    enum ld_code code = reserve(pack, layout->count, err);
    while (code == LD_OK && pack->count < layout->count) {
        const uint32_t i = pack->count;
        const bool shared = base && !is_edited(weights, &layout->slots[i]);
        if (shared)
            pack->weights[i] = base->weights[i];
        else
            code = pack_slot(pack, &layout->slots[i], weights, &pack->weights[i], err);
        if (code != LD_OK)
            break;
        pack->owned[i] = !shared;
        if (!shared)
            pack->bytes += pack->backend->ops->weight_bytes(pack->weights[i]);
        pack->count++;
    }
    return code;
}
