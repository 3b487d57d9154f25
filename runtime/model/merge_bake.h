/*
 * Adapters on top of merged tensors, while these are written one after the other. Private to
 * merge_model.c.
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
    const struct ld_keymap *map; /* of the first model */
    const struct ld_model_item *items;
    ld_merge_value_fn value;
    void *ctx;
};

/* `report` is told what each adapter changes. */
enum ld_code ld_merge_bake_init(struct ld_merge_bake *bake, const struct ld_merge_request *request,
                                const struct ld_arch *arch, const struct ld_model_item *items,
                                uint32_t count, ld_merge_value_fn value, void *ctx,
                                struct ld_merge_report *report, struct ld_error *err) LD_MUST_USE;

enum ld_code ld_merge_bake_value(struct ld_merge_bake *bake, uint32_t index, float *dst,
                                 struct ld_error *err) LD_MUST_USE;

void ld_merge_bake_deinit(struct ld_merge_bake *bake);

#endif
