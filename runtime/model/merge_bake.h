/*
 * Adapters on top of merged tensors, while these are written one after the other. A weight and the
 * bias beside it are held together, because an adapter may change both. Private to merge_model.c.
 */
#ifndef LD_MODEL_MERGE_BAKE_H
#define LD_MODEL_MERGE_BAKE_H

#include "runtime/model/adapter_plan.h"
#include "runtime/model/merge_model.h"

/* Values of one tensor after merging. */
typedef enum ld_code (*ld_merge_value_fn)(void *ctx, uint32_t index, float *dst,
                                          struct ld_error *err);

/* Caller's storage; zeroed is empty. Borrows all that init was given. */
struct ld_merge_bake {
    struct ld_adapter_plan *plans[LD_MERGE_ADAPTERS_MAX];
    uint32_t plan_count;
    const struct ld_model_item *items; /* sorted by canonical name */
    uint32_t count;
    ld_merge_value_fn value;
    void *ctx;
    struct ld_merge_held {
        int64_t index; /* -1: free */
        float *values;
        size_t bytes;
    } held[2];
    char module[256];      /* whose tensors are held, all adapters applied */
    struct ld_error error; /* of a value that an adapter asked for */
};

enum ld_code ld_merge_bake_init(struct ld_merge_bake *bake, const struct ld_merge_request *request,
                                const struct ld_arch *arch, const struct ld_model_item *items,
                                uint32_t count, ld_merge_value_fn value, void *ctx,
                                struct ld_merge_report *report, struct ld_error *err) LD_MUST_USE;

enum ld_code ld_merge_bake_value(struct ld_merge_bake *bake, uint32_t index, float *dst,
                                 struct ld_error *err) LD_MUST_USE;

/* Tell what was changed and let go of everything. */
void ld_merge_bake_finish(struct ld_merge_bake *bake, struct ld_merge_report *report);

#endif
