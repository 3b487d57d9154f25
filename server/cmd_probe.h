/*
 * Whether the device that `worker.backend` insists on is there, asked before anything is started.
 * The question is put in a child process: it loads the driver and makes a context, which would keep
 * some hundred MiB of the GPU for as long as the front lives.
 *
 *     if (ld_probe_backend(settings->backend, resident, &gpus, &err) != LD_OK) ...   // one
 * sentence, what is missing
 */
#ifndef LD_SERVER_CMD_PROBE_H
#define LD_SERVER_CMD_PROBE_H

#include "runtime/base/error.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * "cuda" asks for a device, one that holds all weights if `resident`; other words always find
 * something. `gpus`: how many devices workers can share out, at least 1; with "auto" they are asked
 * for only where the machine has several, and no answer means 1. Must be called before the process
 * has threads.
 * Errors   those of ld_device_judge, LD_E_DEVICE (the driver did not answer in time, or died),
 *          LD_E_IO (no pipe, no process).
 */
enum ld_code ld_probe_backend(const char *backend, bool resident, uint32_t *gpus,
                              struct ld_error *err) LD_MUST_USE;

#endif
