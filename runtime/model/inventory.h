/* The tensors of one or several open files as one sorted inventory, and where each comes from. */
#ifndef LD_MODEL_INVENTORY_H
#define LD_MODEL_INVENTORY_H

#include "runtime/model/detect.h"
#include "runtime/model/weights_files.h"

/* What an inventory item stands for; found by the item's `source`. */
struct ld_weight_source {
    const struct ld_safetensors *file;
    const struct ld_st_tensor *tensor;
};

/* Caller's storage; zeroed is empty. Borrows the files. */
struct ld_file_inventory {
    struct ld_inventory inventory;
    struct ld_inventory_item *items;
    struct ld_weight_source *sources;
};

/* Owner    fills `out`; ld_file_inventory_deinit on success and on failure.
 * Errors   LD_E_FORMAT (two files hold the same tensor), LD_E_NOMEM. */
enum ld_code ld_file_inventory_init(struct ld_file_inventory *out,
                                    struct ld_safetensors *const *files, uint32_t count,
                                    struct ld_error *err) LD_MUST_USE;
void ld_file_inventory_deinit(struct ld_file_inventory *inventory);

#endif
