/*
 * The engine as a worker's pipeline.
 */
#ifndef LD_SERVER_WORKER_ENGINE_H
#define LD_SERVER_WORKER_ENGINE_H

#include "config/settings.h"
#include "server/worker_loop.h"

/* Load the models that the settings name. `slot` is the worker's number among those of its front:
 * of several GPUs it takes the one whose turn that is. Errors   those of ld_engine_create. */
enum ld_code ld_worker_engine_open(struct ld_worker_pipeline *pipeline,
                                   const struct ld_settings *settings, uint32_t slot,
                                   struct ld_error *err) LD_MUST_USE;

#endif
