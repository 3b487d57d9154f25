/*
 * An adapter applied one weight at a time, for whoever makes a new model file and holds only the
 * tensor that it is writing. ld_adapter_apply does the same to a whole overlay.
 *
 *     ld_adapter_plan_create(&plan, adapter, model, arch, &options, &report, err);
 *     for each weight: ld_adapter_plan_apply(plan, name, edit, ctx, err);
 *     ld_adapter_plan_destroy(plan);
 */
#ifndef LD_MODEL_ADAPTER_PLAN_H
#define LD_MODEL_ADAPTER_PLAN_H

#include "runtime/model/adapter.h"

/* The float32 values of the tensor `name`, to be changed in place; NULL: no memory. A weight and
 * the bias beside it are asked for together. */
typedef float *(*ld_adapter_edit_fn)(void *ctx, const char *name);

/* Owned by one thread. */
struct ld_adapter_plan;

/*
 * Match the adapter's modules with the weights of `model`, whose parts `arch` tells (a merged model
 * may have more of them than `model` itself). No value is read. `report` gets all but
 * tensors_applied.
 * Owner    returns owned; ld_adapter_plan_destroy. Borrows adapter and model.
 * Errors   as ld_adapter_apply.
 */
enum ld_code ld_adapter_plan_create(struct ld_adapter_plan **out, const struct ld_adapter *adapter,
                                    const struct ld_weights *model, const struct ld_arch *arch,
                                    const struct ld_adapter_options *options,
                                    struct ld_adapter_report *report,
                                    struct ld_error *err) LD_MUST_USE;
void ld_adapter_plan_destroy(struct ld_adapter_plan *plan);

/*
 * Change the weight of that canonical name, and its bias where the adapter changes that too.
 * Nothing happens for a weight that the adapter leaves alone. Errors   LD_E_NOMEM.
 */
enum ld_code ld_adapter_plan_apply(struct ld_adapter_plan *plan, const char *weight,
                                   ld_adapter_edit_fn edit, void *ctx,
                                   struct ld_error *err) LD_MUST_USE;

/* Tensors changed so far. */
uint32_t ld_adapter_plan_tensors(const struct ld_adapter_plan *plan);

#endif
