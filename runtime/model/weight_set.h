/*
 * From named tensors to packed weights. A network states once which tensors it wants and how they
 * are stacked (its *layout*: a list of slots); a *pack* holds the backend's handle for every slot.
 * A pack over an overlay shares the handles of what the overlay did not replace.
 *
 *     slot = ld_weight_layout_slot(&layout, &(struct ld_weight_slot){.kind = LD_WEIGHT_CONV, ...});
 *     ld_weight_pack_fill(&pack, &layout, weights, NULL, &err);
 *     backend->ops->conv2d(... pack.weights[slot] ...);
 */
#ifndef LD_MODEL_WEIGHT_SET_H
#define LD_MODEL_WEIGHT_SET_H

#include "kernels/ops.h"
#include "runtime/model/weights.h"

/* ---- Layout ---------------------------------------------------------------------------------- */

/* Canonical single-file names. */
struct ld_weight_slot_part {
    const char *weight, *bias; /* bias NULL: none */
    int32_t rows;
};

/* Names and parts are borrowed from the layout's arena. */
struct ld_weight_slot {
    enum ld_weight_kind kind;
    int32_t rows, k, kernel; /* as in struct ld_weight_desc; rows of all parts together */
    bool upsampled;          /* likewise */
    uint32_t part_count;
    const struct ld_weight_slot_part *parts;
};

/* Owned by one thread. Slots keep their index for the layout's life. */
struct ld_weight_layout {
    struct ld_arena arena;
    struct ld_weight_slot *slots;
    uint32_t count, capacity;
};

void ld_weight_layout_init(struct ld_weight_layout *layout);
void ld_weight_layout_deinit(struct ld_weight_layout *layout);

/*
 * The index of the slot with the same first tensor, kind and number of parts; a new one if there is
 * none. Parts and names are copied. -1 when out of memory.
 */
int32_t ld_weight_layout_slot(struct ld_weight_layout *layout, const struct ld_weight_slot *slot);

/* What the backend is told of a slot, all but the data. */
struct ld_weight_desc ld_weight_slot_desc(const struct ld_weight_slot *slot);

/* Values in all slots, biases included. */
uint64_t ld_weight_layout_values(const struct ld_weight_layout *layout);

/* ---- Pack ------------------------------------------------------------------------------------ */

/* Handles by slot index. Owned by one thread; the backend outlives it. */
struct ld_weight_pack {
    uint64_t serial; /* of this pack alone in this process, given by ld_weight_pack_init */
    struct ld_backend *backend;
    struct ld_weight **weights;
    bool *owned; /* false: shared with the base pack */
    uint32_t count, capacity;
    size_t bytes;  /* of the owned ones */
    bool streamed; /* struct ld_weight_desc says what that is; set before anything is packed */
};

void ld_weight_pack_init(struct ld_weight_pack *pack, struct ld_backend *backend);
/* Packs that share handles with this one go first. */
void ld_weight_pack_deinit(struct ld_weight_pack *pack);

/*
 * Pack every slot of `layout` that `pack` lacks. With `base` (filled from the overlay's base, and
 * outliving `pack`) slots that the overlay did not edit share its handles. The mapping's pages of
 * a packed tensor are dropped at once, so loading never holds a second copy of the model.
 *
 * Errors   LD_E_NOT_FOUND (a tensor is missing), LD_E_SHAPE, LD_E_NOMEM, what weight_create
 *          returns. What was packed before the failure stays valid.
 */
enum ld_code ld_weight_pack_fill(struct ld_weight_pack *pack, const struct ld_weight_layout *layout,
                                 const struct ld_weights *weights,
                                 const struct ld_weight_pack *base,
                                 struct ld_error *err) LD_MUST_USE;

#endif
