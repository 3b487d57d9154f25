/* The inside of struct ld_weights, shared by weights.c and overlay.c. */
#ifndef LD_MODEL_WEIGHTS_PRIVATE_H
#define LD_MODEL_WEIGHTS_PRIVATE_H

#include "runtime/base/id.h"
#include "runtime/model/adapter_names.h"
#include "runtime/model/inventory.h"

struct ld_weights {
    const struct ld_weights *base; /* an overlay borrows everything but its edits from here */
    float **edits;                 /* overlay only: by key, NULL where the base's data stands */
    struct ld_weights_changes *changes; /* overlay only: what is made when it is asked for */
    /* The rest belongs to a set of files and is empty in an overlay. */
    struct ld_weight_files files;
    struct ld_file_inventory tensors;
    struct ld_detection detection;
    struct ld_module_names modules; /* what adapters call the tensors */
    float *scales;                  /* by key */
    uint32_t *present;              /* keys that are bound, ascending */
    uint32_t present_count;
    char sha256[LD_SHA256_HEX_SIZE]; /* "" until asked for */
};

/* The set of files under a stack of overlays. */
const struct ld_weights *ld_weights_root(const struct ld_weights *weights);
/* The key of a tensor that is present, -1 otherwise. */
int32_t ld_weights_key(const struct ld_weights *weights, const char *name);
const struct ld_weight_source *ld_weights_source(const struct ld_weights *root, int32_t item);
/* Elements of a key's tensor. */
size_t ld_weights_elements(const struct ld_weights *root, uint32_t key);
void ld_weights_free_edits(struct ld_weights *overlay);
/* Whether a change of this overlay touches the key. */
bool ld_weights_is_deferred(const struct ld_weights *overlay, uint32_t key);
/* Forget a made tensor whose values these are. False if they are none. */
bool ld_weights_unmake(const struct ld_weights *overlay, int32_t key, const void *values);

#endif
