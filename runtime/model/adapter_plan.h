/*
 * An adapter matched with a model, applied one tensor at a time, for whoever holds only the tensor
 * that it is packing or writing.
 *
 *     ld_adapter_plan_create(&plan, adapter, model, arch, &options, &report, err);
 *     for each tensor: ld_adapter_plan_apply(plan, key, NULL, values, err);
 *     ld_adapter_plan_destroy(plan);
 */
#ifndef LD_MODEL_ADAPTER_PLAN_H
#define LD_MODEL_ADAPTER_PLAN_H

#include "runtime/model/adapter.h"

/* Owned by one thread. */
struct ld_adapter_plan;

/*
 * Match the adapter's modules with the tensors of `model`, whose parts `arch` tells (a merged model
 * may have more of them than `model` itself). No value is read.
 * Owner    returns owned; ld_adapter_plan_destroy. Borrows adapter and model.
 * Errors   as ld_adapter_apply.
 */
enum ld_code ld_adapter_plan_create(struct ld_adapter_plan **out, const struct ld_adapter *adapter,
                                    const struct ld_weights *model, const struct ld_arch *arch,
                                    const struct ld_adapter_options *options,
                                    struct ld_adapter_report *report,
                                    struct ld_error *err) LD_MUST_USE;
void ld_adapter_plan_destroy(struct ld_adapter_plan *plan);

/* Whether the adapter changes the tensor with this index in the model's keymap. */
bool ld_adapter_plan_touches(const struct ld_adapter_plan *plan, uint32_t key);

/*
 * Change that tensor: `values` holds all of it in float32 or, with `from`, receives it, decoded on
 * the way. Nothing happens to a tensor that the adapter leaves alone. Errors   LD_E_NOMEM.
 */
enum ld_code ld_adapter_plan_apply(struct ld_adapter_plan *plan, uint32_t key,
                                   const struct ld_weight_view *from, float *values,
                                   struct ld_error *err) LD_MUST_USE;

#endif
