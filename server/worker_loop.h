/*
 * The worker's side of the socket pair: receives jobs, runs them through a pipeline, reports. The
 * pipeline is the engine, or the scripted one of the tests. One thread runs the pipeline, a second
 * reads the socket and sends a heartbeat every second, so that a long tick does not look like
 * death.
 *
 * Equal jobs that may share (robustness.md P7) are computed once: the first one computes, later
 * ones are told the same until it has shown its first picture, or the folders were scanned again.
 * Each is cancelled for itself; the computation ends with the last of them.
 *
 * A job's memory goes when the front has acknowledged its end. When the front goes away the worker
 * ends at once: what had ended and was not acknowledged is left in the spool, whatever still ran is
 * leased again and gives the same bytes.
 */
#ifndef LD_SERVER_WORKER_LOOP_H
#define LD_SERVER_WORKER_LOOP_H

#include "runtime/engine.h"
#include "server/spool.h"

/* What a worker runs; the functions are those of runtime/engine.h with `ctx` first. */
struct ld_worker_pipeline {
    void *ctx;
    bool obeys_tag; /* a request's tag changes what it does: the scripted one */
    const char *(*inventory)(void *ctx);
    enum ld_code (*submit)(void *ctx, const struct ld_engine_job *job, uint64_t *handle,
                           struct ld_error *err);
    void (*cancel)(void *ctx, uint64_t handle, bool keep_partial);
    bool (*busy)(void *ctx);
    enum ld_code (*tick)(void *ctx, struct ld_error *err);
    enum ld_code (*plan)(void *ctx, const struct ld_request *request, struct ld_buffer *out,
                         struct ld_error *err);
    enum ld_code (*extend)(void *ctx, const struct ld_request *request, ld_engine_answer answer,
                           void *answer_ctx, struct ld_error *err);
    void (*forget_asked)(void *ctx); /* NULL: what is asked is answered at once */
    enum ld_code (*model)(void *ctx, const char *name, bool load, struct ld_buffer *out,
                          struct ld_error *err);
    enum ld_code (*find)(void *ctx, const char *name, struct ld_error *err);
    enum ld_code (*rescan)(void *ctx, struct ld_buffer *out, struct ld_error *err);
    bool (*has_news)(void *ctx); /* the inventory has changed since it was last asked */
    /* One piece of work for a time without jobs, and what is left; NULL: there is none. A failure
     * means the pipeline is lost. */
    enum ld_code (*idle)(void *ctx, enum ld_idle *left, struct ld_error *err);
};

struct ld_worker_options {
    int fd; /* connected to the front */
    uint32_t jobs_max;
    struct ld_spool *spool; /* what the front has not acknowledged when it goes away; may be NULL */
};

/* Returns the exit status: 0 after a shutdown, 1 when the pipeline is lost. */
int ld_worker_run(const struct ld_worker_options *options,
                  const struct ld_worker_pipeline *pipeline);

/* Tell the front why this worker cannot start. */
void ld_worker_report_fault(int fd, const struct ld_error *why);

#endif
