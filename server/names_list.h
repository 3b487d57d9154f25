/*
 * The built-in samplers and schedulers as lists for people. Beside names.h, since these two files
 * are where the server's front looks into the tables of the sampling code.
 */
#ifndef LD_SERVER_NAMES_LIST_H
#define LD_SERVER_NAMES_LIST_H

#include "api/job_view.h"
#include "runtime/base/arena.h"

/* In the arena; NULL without memory. */
const struct ld_sampler_view *ld_names_samplers(struct ld_arena *arena, uint32_t *count);
const struct ld_scheduler_view *ld_names_schedulers(struct ld_arena *arena, uint32_t *count);

#endif
