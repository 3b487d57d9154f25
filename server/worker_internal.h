/*
 * What the files of the worker's loop share. Data flows one way: worker_loop.c takes what the front
 * sends and drives the pipeline; worker_jobs.c holds the jobs, joins equal ones and starts, cancels
 * and frees them; worker_answer.c answers questions; worker_report.c tells the front. Nobody else
 * includes this.
 *
 * Everything but sending belongs to the pipeline's thread. A worker that runs out of memory or
 * loses its front ends at once: the store leases its jobs again.
 */
#ifndef LD_SERVER_WORKER_INTERNAL_H
#define LD_SERVER_WORKER_INTERNAL_H

#include "api/dialect_native.h"
#include "config/limits.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/ipc/messages.h"
#include "runtime/ipc/stats.h"
#include "server/worker_loop.h"
#include "server/worker_sheet.h"

#include <pthread.h>
#include <stdatomic.h>

enum { LD_WORKER_SEND_BYTES_MAX = LD_FRAME_BYTES_MAX + 4096 };

/* A message from the front, copied for the pipeline's thread. */
struct ld_worker_inbound {
    struct ld_frame frame;
    struct ld_buffer payload;
    struct ld_worker_inbound *next;
};

struct ld_worker_job {
    struct ld_worker *worker;
    char id[LD_ID_SIZE];
    uint64_t token;
    uint64_t handle;
    struct ld_arena arena;
    struct ld_buffer payload; /* the spans below point into it */
    struct ld_native native;
    struct ld_span init_image, init_mask;
    struct ld_span control_images[LD_CONTROLS_MAX];
    struct ld_worker_sheet *sheet; /* of a sweep; NULL: a job for the pipeline */
    bool done;  /* reported; its memory goes when the front has acknowledged that */
    bool acked; /* the front has */

    /* Equal jobs: one computes and tells all of them. */
    uint8_t fingerprint[LD_SHA256_BYTES]; /* of everything that decides pictures and previews */
    struct ld_worker_job *leader;         /* whose result this job takes; NULL: its own */
    bool computing;                       /* the pipeline has it, maybe for others only */
    bool told_image, leaving;             /* too late to join */
    uint64_t scans;                       /* of the folders, before it came */
    struct ld_worker_job *next;
};

struct ld_worker {
    struct ld_worker_options options;
    const struct ld_worker_pipeline *pipeline;

    pthread_mutex_t send_lock;  /* one frame at a time; taken last */
    pthread_mutex_t stats_lock; /* counts go out in order */

    pthread_mutex_t lock; /* guards the inbound list */
    pthread_cond_t arrived;
    struct ld_worker_inbound *first, *last;

    struct ld_worker_job *jobs; /* the pipeline thread's own */
    uint64_t scans;             /* of the folders, until now */
    bool stopping;

    atomic_uint_least64_t steps; /* ticks and reports */
    atomic_int_least64_t tick_began_us;
    atomic_uint job_count;
};
/* ---- Telling the front (worker_report.c) ------------------------------------------------------- */

/* Any thread; whole frames in the order of the calls. Blocks while the front does not read. Ends
 * the process where the payload failed or does not fit. `job_id` "" and token 0: of no job. */
void ld_worker_send(struct ld_worker *worker, enum ld_frame_type type, const char *job_id,
                    uint64_t token, const struct ld_buffer *payload);

/* Any thread. What was counted, when there is news: with every heartbeat and before a job's end, so
 * that whoever has seen the end sees the counts too. */
void ld_worker_send_stats(struct ld_worker *worker);

/* Models, adapters and how many jobs this worker takes. */
void ld_worker_say_hello(struct ld_worker *worker);

/* The front is gone, and with it the reason to live. What it did not acknowledge is left in the
 * spool; its store leases the other jobs again. Any thread. */
_Noreturn void ld_worker_end_orphaned(struct ld_worker *worker);

/* The pipeline's reports (runtime/engine.h); ctx is the job that computes, told is every job that
 * takes its result. on_done also ends a job that never started, with report NULL. */
void ld_worker_on_progress(void *ctx, const struct ld_engine_progress *progress);
void ld_worker_on_preview(void *ctx, const struct ld_engine_image *image);
void ld_worker_on_image(void *ctx, const struct ld_engine_image *image);
void ld_worker_on_done(void *ctx, const struct ld_engine_report *report,
                       const struct ld_error *err);

/* The end of this one job. Rows that it took from an equal one were saved, not run. */
void ld_worker_tell_done(struct ld_worker_job *job, const struct ld_engine_report *report,
                         const struct ld_error *err);

/* ---- Jobs (worker_jobs.c) ---------------------------------------------------------------------- */

/* The job that the frame names by id and token; NULL when it has gone. */
struct ld_worker_job *ld_worker_find_job(struct ld_worker *worker, const struct ld_frame *frame);

/* The next job after `after` (NULL: the first) that takes this computation's result and still waits
 * for it. */
struct ld_worker_job *ld_worker_next_member(struct ld_worker_job *leader,
                                            struct ld_worker_job *after);

/* Read a request back that was checked when it was accepted. */
enum ld_code ld_worker_read_request(struct ld_native *native, struct ld_span json,
                                    struct ld_error *err);

/* Both take the message's payload. A job that cannot start is told its end. */
void ld_worker_start_job(struct ld_worker *worker, struct ld_worker_inbound *inbound);
void ld_worker_start_sheet(struct ld_worker *worker, struct ld_worker_inbound *inbound);

/* One cell of a sheet; with the last one the sheet is written. */
void ld_worker_take_cell(struct ld_worker *worker, const struct ld_frame *frame);

/* Cancels for this job alone: the computation ends with the last job that takes its result. */
void ld_worker_cancel_job(struct ld_worker *worker, struct ld_worker_job *job, bool keep_partial);

/* The front has acknowledged the job's end. */
void ld_worker_forget_job(struct ld_worker *worker, const struct ld_frame *frame);

/* Free what the front has acknowledged; not what still computes for others. */
void ld_worker_sweep_jobs(struct ld_worker *worker);

/* ---- Questions (worker_answer.c) --------------------------------------------------------------- */

/* What a request would cost. */
void ld_worker_answer_plan(struct ld_worker *worker, const struct ld_frame *frame);

/* How the TIPO model extends its prompt; the answer goes out in a later tick. */
void ld_worker_answer_extend(struct ld_worker *worker, const struct ld_frame *frame);

/* Find, load or unload a model, or scan the folders. Between two ticks: loading holds up the jobs
 * that run, as loading for a job does. */
void ld_worker_answer_model(struct ld_worker *worker, const struct ld_frame *frame);

#endif
