/*
 * Starts the workers, gives them jobs, takes their results, and replaces them when they die. One
 * thread owns all of it.
 *
 * Blame. A worker carries many jobs, so a death does not name the culprit: all its jobs return to
 * the queue as suspects, and a suspect runs alone. A suspect that kills a worker while alone fails
 * as worker_crash; the others lose their mark by succeeding. A SIGKILL that neither the watchdog
 * nor the cgroup's memory limit explains blames nobody. Five explained deaths within ten minutes
 * open the breaker: that worker stays down until the oldest of them is ten minutes old.
 */
#ifndef LD_SERVER_SUPERVISOR_H
#define LD_SERVER_SUPERVISOR_H

#include "runtime/ipc/messages.h"
#include "server/blob.h"
#include "server/metrics.h"
#include "server/store.h"

#include <sys/types.h>

enum { LD_WORKERS_MAX = 16 };

struct ld_supervisor;

struct ld_supervisor_config {
    struct ld_store *store;
    struct ld_blobs *blobs;
    struct ld_metrics *metrics; /* may be NULL */
    bool share_across_tenants;  /* texts and results of equal jobs (robustness.md P7) */
    char *const *worker_argv;   /* of this very program; NULL-terminated, borrowed */
    uint32_t workers;
    uint32_t jobs_per_worker;
    int64_t hang_us;    /* no activity for so long: replaced */
    int64_t lease_us;   /* not heard for so long: replaced */
    int64_t storage_us; /* how long a result waits for a full disk */
    /* Worker `index` said what it has; on the supervisor's thread. May be NULL. */
    void (*on_inventory)(void *ctx, uint32_t index, const char *inventory_json);
    void *ctx;
};

/* Before the start, with a config as `ctx`: one frame of a result that a worker of an earlier front
 * left (server/spool.h). What is not the running attempt's is dropped. */
void ld_supervisor_take_left(void *ctx, const struct ld_frame *frame);

enum ld_code ld_supervisor_start(struct ld_supervisor **supervisor,
                                 const struct ld_supervisor_config *config,
                                 struct ld_error *err) LD_MUST_USE;

/* Whether several keys share the workers; then one place is kept free (fair.h). Any thread. */
void ld_supervisor_set_shared(struct ld_supervisor *supervisor, bool shared);

/* There may be a job to claim. Any thread. */
void ld_supervisor_wake(struct ld_supervisor *supervisor);

/* The job is being cancelled (or was deleted): tell its worker. Any thread. */
void ld_supervisor_cancel(struct ld_supervisor *supervisor, const char *job_id, bool keep_partial);

/* The latest preview of a running job, a picture file, appended to `out`, and how many there were;
 * 0: none. Whose job it is has been asked before. */
uint32_t ld_supervisor_preview(struct ld_supervisor *supervisor, const char *job_id,
                               struct ld_buffer *out);

/* What a running job has reached; false if no worker has it. `phase` points into `buffer`. */
bool ld_supervisor_progress(struct ld_supervisor *supervisor, const char *job_id,
                            struct ld_progress_view *progress, char buffer[32], int64_t *eta_ms);

/*
 * Ask a worker what a request would cost. `answer` runs once on the supervisor's thread: with
 * LD_OK and the JSON object, or an error (LD_E_TIMEOUT, LD_E_UNSUPPORTED: no worker can say).
 */
typedef void (*ld_plan_answer)(void *ctx, enum ld_code code, const char *detail, const char *json);
void ld_supervisor_plan(struct ld_supervisor *supervisor, const char *request_json,
                        ld_plan_answer answer, void *ctx);
/* Ask a worker to extend a request's prompt. `answer` as above; LD_E_RATE at once where the tenant
 * has several on their way, those counted that nobody waits for any more. */
void ld_supervisor_extend(struct ld_supervisor *supervisor, const char *tenant,
                          const char *request_json, ld_plan_answer answer, void *ctx);
/* Ask every worker that is ready to load a model now, to let it go, or to find its new file.
 * `answer` as above: the last one's JSON object, or the first error. */
void ld_supervisor_model(struct ld_supervisor *supervisor, const char *name,
                         enum ld_model_order order, ld_plan_answer answer, void *ctx);
/* Ask every worker that is ready to scan its folders again; `answer` as above, after the inventory
 * of each has been taken. One scan at a time: who asks while one runs waits for the next, and all
 * who wait take its answer. Where no worker is ready those that failed are started anew. */
void ld_supervisor_rescan(struct ld_supervisor *supervisor, ld_plan_answer answer, void *ctx);
/* Nobody waits any more: `answer` will not run after this returned. */
void ld_supervisor_plan_drop(struct ld_supervisor *supervisor, void *ctx);

struct ld_supervisor_status {
    uint32_t workers, ready, disabled;
    uint32_t jobs_running;
    bool drained; /* no job will be added to these */
    uint64_t restarts;
    pid_t pids[LD_WORKERS_MAX]; /* 0: not running */
    char reason[256];           /* why none is ready, as far as it is known */
};
void ld_supervisor_status_get(struct ld_supervisor *supervisor,
                              struct ld_supervisor_status *status);

/* Claim nothing more; running jobs go on. Any thread. */
void ld_supervisor_drain(struct ld_supervisor *supervisor);
/* After ld_supervisor_drain: the last job has ended. */
bool ld_supervisor_is_idle(struct ld_supervisor *supervisor);

/* Ask the workers to stop at their next step boundary, give what they still run back to the queue,
 * and end. */
void ld_supervisor_stop(struct ld_supervisor *supervisor);

#endif
