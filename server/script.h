/*
 * The scripted pipeline: a stand-in for the engine in tests of everything around it. It paints a
 * small pattern that depends on seed and size alone, so equal requests give equal bytes, and it
 * misbehaves on command. Commands are words in a request's `tag`, over those of the worker's own
 * script:
 *
 *   step_ms=N     a step takes so long (default 0)
 *   crash@K       abort at step K          kill@K     SIGKILL itself
 *   exit@K        end with status 3        hang@K     sleep for ever
 *   spin@K        compute for ever         garbage@K  bytes that are no frame
 *   flood@K       frames without end       lie@K      an image of another size than it says
 *   fail@K=CODE   the job fails with that code ("device", "gpu_out_of_memory", ...)
 *   once=FILE     misbehave only if FILE is not there yet, and make it
 *   late_ms=N     wait before the last report
 *   memory_mib=N  its device has so much, and a picture of P latent positions takes 100 + P / 1024
 *                 (the worker's own script alone)
 *   scan_ms=N     a scan of the folders takes so long and finds one adapter more, "scan1", ...; in
 *                 the worker's own script alone
 *   scan_dies     abort when asked for one (the same)
 *   repainted=N   the report says that so many pictures were painted again
 *   tell_inputs   the report's warnings say which pictures came with the job
 */
#ifndef LD_SERVER_SCRIPT_H
#define LD_SERVER_SCRIPT_H

#include "server/worker_loop.h"

/* `fd` is where garbage goes. Errors   LD_E_NOMEM, LD_E_INVALID (unknown word). */
enum ld_code ld_script_open(struct ld_worker_pipeline *pipeline, const char *script, int fd,
                            struct ld_error *err) LD_MUST_USE;

#endif
