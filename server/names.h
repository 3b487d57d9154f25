/*
 * What api needs to know by name, from the tables that hold it: samplers and schedulers, which are
 * built in, for the front and the command line alike. Models, adapters, VAEs and ControlNets are
 * added by whoever knows an inventory.
 */
#ifndef LD_SERVER_NAMES_H
#define LD_SERVER_NAMES_H

#include "api/names.h"

#include <stdint.h>

/* Sampler and scheduler functions set, everything else NULL (any name is accepted). */
struct ld_api_names ld_names_builtin(void);

/* Calls of the model in one step of a sampler; 1 for an unknown one. */
uint32_t ld_names_evals_per_step(const char *sampler);

/* How many models a merge of this name takes; 0 for an unknown one. */
uint32_t ld_names_merge_models(const char *op);
/* Whether block weights have one of this name: "BASE", "IN00", ... */
bool ld_names_is_merge_block(struct ld_span name);
/* Alpha, beta, lambda and block weights lie between this and its negative. */
int ld_names_merge_weight_max(void);
/* Whether model files can be stored as this: "keep", "fp32", ... */
bool ld_names_is_storage(const char *word);

#endif
