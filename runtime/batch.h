/*
 * One UNet pass over rows of many sessions. Rows go together when model, variant, latent size and
 * network options agree; whose they are, and which sampler, step or prompt they belong to, does not
 * matter, and a row's result does not depend on its company. Before and after the network, each
 * session's part of the work is its own and runs beside the others'.
 */
#ifndef LD_RUNTIME_BATCH_H
#define LD_RUNTIME_BATCH_H

#include "runtime/job.h"

enum { LD_BATCH_ROWS_MAX = 64 };

struct ld_batch {
    struct ld_session *sessions[LD_BATCH_ROWS_MAX];
    struct ld_pass_row *rows[LD_BATCH_ROWS_MAX];
    uint32_t count;
    struct ld_pool *pool; /* for what each session does by itself; NULL: the caller's thread */
};

/* Memory that passes share; grows to the largest batch. Owned by one thread. */
struct ld_batch_memory {
    float *data;
    size_t count;
};

void ld_batch_memory_deinit(struct ld_batch_memory *memory);

/* Add the undone rows of `session` that fit the batch (an empty one takes any), up to `rows_max`.
 * The session's call must be open. Returns how many were added. */
uint32_t ld_batch_add(struct ld_batch *batch, struct ld_session *session, uint32_t rows_max);

/*
 * Call `act` once for every session that has rows in the batch, several at a time, and return when
 * all have. An act changes its own session only, and nothing of its job.
 */
typedef void (*ld_batch_act)(void *ctx, struct ld_session *session);
void ld_batch_each(const struct ld_batch *batch, ld_batch_act act, void *ctx);

/* Evaluate all rows and mark them done, but for those of sessions whose output is no number: these
 * sessions are marked `overflowed`. Errors as ld_model_unet, LD_E_NOMEM. */
enum ld_code ld_batch_run(struct ld_batch *batch, struct ld_batch_memory *memory,
                          const struct ld_cancel *interrupt, struct ld_error *err) LD_MUST_USE;

#endif
