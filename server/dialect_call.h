/*
 * The way of a dialect's generating call, the same for all of them: read the body, translate,
 * check, store the pictures, queue, wait for the end, answer in the dialect's form. The client's
 * leaving cancels the job: none of these clients could find it again.
 *
 *     static const struct ld_dialect_call call = {translate, reply};
 *     if (ld_front_is_parked(ex))
 *         return ld_front_again(ex);
 *     return ld_dialect_generate(ex, &call, state, ld_heap_free);
 */
#ifndef LD_SERVER_DIALECT_CALL_H
#define LD_SERVER_DIALECT_CALL_H

#include "api/dialect.h"
#include "server/submit.h"

struct ld_dialect_call {
    /* Fills fields, warnings and problems of `t`. `ctx` is the call's own. */
    void (*translate)(struct ld_exchange *ex, struct ld_translation *t, void *ctx);
    /* The job has succeeded, or was cancelled and left its last prediction. */
    ld_wait_reply reply;
    bool cancelled_is_empty; /* a cancelled job without pictures is replied to as well */
    bool outlives_caller;    /* the job stays although the client left before it was told of it */
    /* In place of waiting (streams, queues): replies at once, and `ctx` is then its own to release.
     * NULL: waits. */
    enum ld_handled (*queued)(struct ld_exchange *ex, const char *job_id, void *ctx);
};

/* `ctx` is released with ctx_free, at once or with the exchange. */
enum ld_handled ld_dialect_generate(struct ld_exchange *ex, const struct ld_dialect_call *call,
                                    void *ctx, void (*ctx_free)(void *ctx));

/* ---- Bodies ---------------------------------------------------------------------------------- */

/* The body as a JSON object in ex->arena; an absent body is an empty object where the route allows
 * one. False after a refusal. */
bool ld_dialect_body(struct ld_exchange *ex, struct ld_json_tree *tree, uint32_t values_max);

/* ---- Results --------------------------------------------------------------------------------- */

/* The bytes of a job's picture. Errors as ld_blob_read. */
enum ld_code ld_dialect_picture(struct ld_front *front, const struct ld_image_view *image,
                                struct ld_buffer *png, struct ld_error *err) LD_MUST_USE;

/* A failed, cancelled or expired job as a problem. */
enum ld_handled ld_dialect_reply_failed(struct ld_exchange *ex, const struct ld_job_view *job);

/* The label of a sampler or scheduler by its canonical name; the name where there is none. */
const char *ld_dialect_sampler_label(struct ld_arena *arena, const char *name);

/* ---- The caller's jobs ----------------------------------------------------------------------- */

/* The newest jobs, at most `limit`, with live progress; false after a refusal. Texts in ex->arena.
 */
bool ld_dialect_jobs(struct ld_exchange *ex, int status, uint32_t limit, struct ld_store_job **jobs,
                     uint32_t *count);

/* Cancel all of the caller's running jobs (or queued ones), keeping what they have painted.
 * Returns how many. */
uint32_t ld_dialect_cancel_all(struct ld_exchange *ex, bool queued_too, bool keep_partial);

#endif
