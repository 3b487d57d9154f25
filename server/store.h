/*
 * The job store: what was acknowledged is in here, on disk, before anyone is told. One writer
 * thread owns every write; calls from any thread hand it an operation and wait, and all operations
 * that wait together share one transaction and one flush. Reads run on connections of their own.
 *
 *   submit -> queued -claim(lease)-> running -finish(token)-> succeeded | failed -> expired
 *               |  ^                    |
 *        cancel |  +------ requeue -----+-> cancelling -> cancelled
 *
 * Execution is at least once, effect exactly once: finish is conditional on the claim's token.
 *
 * A sweep is a job with cells, which are jobs like any other. It cannot be claimed while one of
 * them is open; then a worker makes the sheet. It ends as the worst of them.
 *
 * Every change of a job is also an event. Events get their ids in commit order and are handed to
 * `on_event` after the commit, so whatever a subscriber has seen survives a restart. The power of
 * the machine is another matter: what was promised (a submit, an end) waits for the disk, news of
 * progress and pictures on the way do not; a job whose machine fails is made again, to the same
 * bytes. What runs while the machine goes down runs alone after it, and then counts as an attempt
 * if it goes down again.
 */
#ifndef LD_SERVER_STORE_H
#define LD_SERVER_STORE_H

#include "api/job_view.h"
#include "config/limits.h"
#include "runtime/base/arena.h"
#include "runtime/base/id.h"
#include "server/fair.h"

struct ld_store;

enum {
    LD_STORE_CURSOR_SIZE = 24,
    LD_STORE_TENANT_BYTES_MAX = 64,
    LD_STORE_IDEMPOTENCY_HOURS = 24,
    LD_STORE_USAGE_DAYS = 400
};

enum ld_event_kind {
    LD_EVENT_STATUS,
    LD_EVENT_PROGRESS,
    LD_EVENT_PREVIEW, /* never stored: the next one replaces it */
    LD_EVENT_IMAGE,
    LD_EVENT_DONE, /* the job document; always a job's last */
    LD_EVENT_KIND_COUNT
};
const char *ld_event_kind_name(enum ld_event_kind kind);

/* `json` is one line. */
struct ld_store_event {
    uint64_t id; /* grows over all jobs and over restarts */
    char job_id[LD_ID_SIZE];
    const char *tenant;
    enum ld_event_kind kind;
    const char *json;
    const char *request; /* the job's, canonical; NULL with progress and previews */
};

enum { LD_STORE_MACHINE_BYTES = 64 };

struct ld_store_config {
    const char *path;
    int64_t lease_us;
    bool keep_running; /* what ran when the last server ended still runs, for results that were left
                          (server/spool.h), until ld_store_requeue_running */
    uint32_t attempts_max;
    /* Differs after each start of the machine (at most LD_STORE_MACHINE_BYTES - 1 bytes); lent to
     * ld_store_open. NULL or "": not known, and no job is blamed for the machine's end. */
    const char *machine_start;
    /* After each commit, on the writer thread, in order; must not call the store. May be NULL. */
    void (*on_event)(void *ctx, const struct ld_store_event *event);
    void *ctx;
    /* What a tenant is due in the fair queue; any thread, must not call the store. May be NULL:
     * everybody is due the same. */
    void (*share)(void *ctx, const char *tenant, struct ld_fair_share *share);
    void *share_ctx;
};

/*
 * Opens or creates; jobs that ran when the last owner died are queued again (cancelled if they were
 * being cancelled). One owner at a time: the caller holds the state folder's lock.
 * Errors   LD_E_UNSUPPORTED (a newer version wrote it), LD_E_FORMAT, LD_E_IO, LD_E_NOSPACE,
 *          LD_E_NOMEM.
 */
enum ld_code ld_store_open(struct ld_store **store, const struct ld_store_config *config,
                           struct ld_error *err) LD_MUST_USE;
/* Finishes what was handed in, then closes. No other call may be in progress. */
void ld_store_close(struct ld_store *store);

/* The disk or file can no longer be trusted: stop accepting and exit, the next start reopens. */
bool ld_store_is_broken(const struct ld_store *store);

/* Waits until everything handed in before has been committed. Errors of a commit. */
enum ld_code ld_store_flush(struct ld_store *store, struct ld_error *err) LD_MUST_USE;

/* ---- A job's way ----------------------------------------------------------------------------- */

/* One cell of a sweep; the rest of its job is the sweep's. */
struct ld_store_cell {
    const char *request_json, *warnings_json;
    int64_t work, cost;
};

/* What an idempotency key is for. */
enum ld_store_key_use {
    LD_STORE_KEY_ONCE, /* the same key and body are the same job, whatever became of it */
    LD_STORE_KEY_NOTE, /* a first try: a new job, which a second try may find */
    LD_STORE_KEY_RETRY /* a second try: the job of the first, if that is recent (LD_STORE_RETRY_S)
                          and waits, runs or has succeeded; else a new job */
};
enum { LD_STORE_RETRY_S = 600 };

struct ld_store_submit {
    const char *tenant;
    const char *request_json;  /* canonical */
    const char *warnings_json; /* array, or "" */
    int32_t priority;
    int64_t work;                                /* units, counted against the day's */
    int64_t cost;                                /* estimated, in units of one UNet row */
    int64_t day_work_max;                        /* 0: no such limit */
    const char *init_sha256, *mask_sha256;       /* of uploads, "" if none */
    const char *control_sha256[LD_CONTROLS_MAX]; /* of uploads that ControlNet units follow, each at
                                                    its unit's place; NULL or "": none */
    const char *idempotency_key;                 /* "" if none */
    enum ld_store_key_use key_use;
    const char *body_sha256; /* what the key is bound to */
    int64_t queued_per_tenant_max, queued_max;
    const struct ld_store_cell *cells; /* of a sweep: jobs of their own, in the same transaction */
    uint32_t cell_count;
};

/*
 * Quota, idempotency and the job row in one transaction; when this returns LD_OK the job is on
 * disk. `*replayed`: the key was seen with the same body and `id` is the first job's.
 * Errors   LD_E_QUEUE_FULL, LD_E_RATE (the day's work is used up), LD_E_CONFLICT (key with another
 * body), LD_E_NOT_FOUND (the key's job was deleted), LD_E_NOSPACE, LD_E_IO, LD_E_NOMEM.
 */
enum ld_code ld_store_submit(struct ld_store *store, const struct ld_store_submit *submit,
                             char id[LD_ID_SIZE], bool *replayed, struct ld_error *err) LD_MUST_USE;

/*
 * The same in two halves, so that one thread can have many submits in the air and they share a
 * flush. `submit` and its texts are borrowed until the end; `told` is called once, on the writer
 * thread, when the outcome is known, and must not call the store. Every submission is ended; the
 * end waits for the outcome if need be, and frees it.
 * Errors   LD_E_IO, LD_E_NOMEM: nothing was begun.
 */
struct ld_store_submission;
enum ld_code ld_store_submit_begin(struct ld_store_submission **out, struct ld_store *store,
                                   const struct ld_store_submit *submit, void (*told)(void *ctx),
                                   void *ctx, struct ld_error *err) LD_MUST_USE;
bool ld_store_submit_is_known(const struct ld_store_submission *submission);
enum ld_code ld_store_submit_end(struct ld_store_submission *submission, char id[LD_ID_SIZE],
                                 bool *replayed, struct ld_error *err) LD_MUST_USE;

/* A job with what the server needs beside the view. Texts in the arena given to the call. */
struct ld_store_job {
    struct ld_job_view view;
    const char *tenant;
    const char *init_sha256, *mask_sha256;
    const char *control_sha256[LD_CONTROLS_MAX]; /* "": none */
    int32_t priority;
    int64_t work;
    uint32_t attempt;
    uint64_t token; /* of the running attempt */
    bool suspect;   /* may have killed a worker: runs alone */
    bool keep_partial;
};

/*
 * Lease the job whose turn it is (fair.h) to a worker. `*claimed` is false (and LD_OK) when there
 * is none that may start there. Errors   LD_E_NOSPACE, LD_E_IO, LD_E_NOMEM.
 */
enum ld_code ld_store_job_claim(struct ld_store *store, const struct ld_fair_worker *worker,
                                struct ld_arena *arena, struct ld_store_job *job, bool *claimed,
                                struct ld_error *err) LD_MUST_USE;

/* Extend the leases of these attempts; unknown ones are ignored. */
enum ld_code ld_store_lease_extend(struct ld_store *store, const uint64_t *tokens, uint32_t count,
                                   struct ld_error *err) LD_MUST_USE;

/*
 * Register a published image of a running attempt; the same index again replaces it (a repeated
 * attempt makes the same bytes). Waits for the commit.
 * Errors   LD_E_LEASE_LOST, LD_E_NOSPACE, LD_E_IO.
 */
enum ld_code ld_store_image_add(struct ld_store *store, const char *id, uint64_t token,
                                const struct ld_image_view *image,
                                struct ld_error *err) LD_MUST_USE;

/* Blob hashes that lost a reference; the caller asks ld_store_blob_referenced before removing. */
struct ld_store_freed {
    const char *const *sha256;
    uint32_t count;
};

struct ld_store_finish {
    const char *id;
    uint64_t token;
    enum ld_job_status status;             /* SUCCEEDED, FAILED or CANCELLED */
    const char *error_code, *error_detail; /* FAILED only */
    struct ld_timings_view timings;        /* queue_ms is the store's own */
    int64_t claimed_us;                    /* when the attempt began, monotonic; 0: not known */
    double done;                           /* part of the work that was done, for CANCELLED */
    uint64_t unet_rows, unet_rows_saved;
    const char *adapters_json, *warnings_json, *resolved_json; /* "" if absent */
    const char *numerics_json;                                 /* the same (runtime/numerics.h) */
    uint32_t repainted; /* pictures, or their decoding, made again in bf16 */
};

/*
 * End an attempt. A job being cancelled ends as cancelled whatever `status` says; a cancelled job
 * keeps its images only if that was asked for, `freed` lists those it lost.
 * Errors   LD_E_LEASE_LOST (no such running attempt: drop the result), LD_E_NOSPACE, LD_E_IO.
 */
enum ld_code ld_store_job_finish(struct ld_store *store, const struct ld_store_finish *finish,
                                 struct ld_arena *arena, struct ld_store_freed *freed,
                                 struct ld_error *err) LD_MUST_USE;

/*
 * Give an attempt back: queued again, or cancelled if it was being cancelled, or failed
 * `attempts_exhausted`. `counts`: the attempt was used up (otherwise it never happened).
 * Errors   LD_E_LEASE_LOST, LD_E_NOSPACE, LD_E_IO.
 */
enum ld_code ld_store_job_requeue(struct ld_store *store, const char *id, uint64_t token,
                                  bool suspect, bool counts, struct ld_error *err) LD_MUST_USE;

/* With `keep_running`: nothing runs any more of what ran when the store was opened; it waits again,
 * and the attempt does not count. Before any claim. Errors   LD_E_NOSPACE, LD_E_IO, LD_E_NOMEM. */
enum ld_code ld_store_requeue_running(struct ld_store *store, struct ld_error *err) LD_MUST_USE;

/*
 * Idempotent. `tenant` NULL: anyone's. `*status` is the job's after the call; CANCELLING asks the
 * caller to tell the worker.
 * Errors   LD_E_NOT_FOUND, LD_E_NOSPACE, LD_E_IO.
 */
enum ld_code ld_store_job_cancel(struct ld_store *store, const char *tenant, const char *id,
                                 bool keep_partial, enum ld_job_status *status,
                                 struct ld_error *err) LD_MUST_USE;

/* Forget a job whatever its status; a running attempt's finish will find its lease lost.
 * Errors   LD_E_NOT_FOUND, LD_E_NOSPACE, LD_E_IO, LD_E_NOMEM. */
enum ld_code ld_store_job_delete(struct ld_store *store, const char *tenant, const char *id,
                                 struct ld_arena *arena, struct ld_store_freed *freed,
                                 struct ld_error *err) LD_MUST_USE;

struct ld_store_retention {
    int64_t finished_before_us; /* wall time: jobs that ended earlier expire */
    int64_t expired_before_us;  /* tombstones older than this go for good */
    int64_t result_bytes_per_tenant_max;
    uint32_t jobs_max; /* of one call */
};

/* Expire old results: prompt, images and events go, a tombstone stays. `*more` when jobs_max cut
 * the work short. */
enum ld_code ld_store_expire(struct ld_store *store, const struct ld_store_retention *retention,
                             struct ld_arena *arena, struct ld_store_freed *freed, bool *more,
                             struct ld_error *err) LD_MUST_USE;

/* ---- Looking --------------------------------------------------------------------------------- */

/* `tenant` NULL: anyone's. Errors   LD_E_NOT_FOUND, LD_E_IO, LD_E_NOMEM. */
enum ld_code ld_store_job_get(struct ld_store *store, const char *tenant, const char *id,
                              struct ld_arena *arena, struct ld_store_job *job,
                              struct ld_error *err) LD_MUST_USE;

struct ld_store_list {
    const char *tenant;
    int status; /* enum ld_job_status, or -1 for all */
    uint32_t limit;
    const char *cursor; /* "" at first */
};

/* Newest first. `next` is "" after the last. Errors   LD_E_INVALID (cursor), LD_E_IO, LD_E_NOMEM.
 */
enum ld_code ld_store_job_list(struct ld_store *store, const struct ld_store_list *query,
                               struct ld_arena *arena, struct ld_store_job **jobs, uint32_t *count,
                               char next[LD_STORE_CURSOR_SIZE], struct ld_error *err) LD_MUST_USE;

struct ld_store_queue {
    int64_t queued, running;
    int64_t oldest_queued_us; /* wall time of its submit, 0 if none */
};
/* Costs the same however many jobs wait. Errors   LD_E_IO (the store cannot be read), LD_E_NOMEM.
 */
enum ld_code ld_store_queue(struct ld_store *store, struct ld_store_queue *queue,
                            struct ld_error *err) LD_MUST_USE;

/* ---- Shares and usage ------------------------------------------------------------------------ */

struct ld_store_usage {
    int64_t jobs, images;
    int64_t work;       /* units of what was asked for, less what was cancelled before it ran */
    int64_t compute_us; /* its jobs' time in the worker, shared with others or not */
};

struct ld_store_standing {
    int64_t queued, running;
    struct ld_store_usage today, total;
};
enum ld_code ld_store_standing(struct ld_store *store, const char *tenant,
                               struct ld_store_standing *standing,
                               struct ld_error *err) LD_MUST_USE;

/* Cost that is done in a second while there is work, measured over the last minutes; 0: not known.
 */
double ld_store_rate(struct ld_store *store);

/* Cost that lies before a job which the tenant would submit now. */
int64_t ld_store_forecast(struct ld_store *store, const char *tenant);

/* Seconds until a place in the tenant's own queue, and in the whole queue, is likely to be free;
 * negative: nothing is known. */
void ld_store_drain_seconds(struct ld_store *store, const char *tenant, double *own, double *any);

/* ---- Events ---------------------------------------------------------------------------------- */

/* Hand in a progress or preview event of a running job; copies, does not wait. Dropped when
 * too many wait already or the job is gone: they are news, not state. */
void ld_store_event_post(struct ld_store *store, const char *job_id, enum ld_event_kind kind,
                         const char *json);

/* Stored events with an id above `after`, oldest first. `job_id` "": all of the tenant's. */
enum ld_code ld_store_event_list(struct ld_store *store, const char *tenant, const char *job_id,
                                 uint64_t after, uint32_t limit, struct ld_arena *arena,
                                 struct ld_store_event **events, uint32_t *count,
                                 struct ld_error *err) LD_MUST_USE;

/* The newest id given out; a stream that starts now starts behind it. */
uint64_t ld_store_event_newest(struct ld_store *store);

/* ---- Uploads, blobs, notes ------------------------------------------------------------------- */

struct ld_store_upload {
    char id[LD_ID_SIZE];
    char sha256[LD_SHA256_HEX_SIZE];
    uint64_t bytes;
    int32_t width, height;
};

/* Register published bytes; fills `id`, the beginning of their digest: the same bytes have the same
 * id on every server, so a picture made from them is the same file. */
enum ld_code ld_store_upload_add(struct ld_store *store, const char *tenant,
                                 struct ld_store_upload *upload, struct ld_error *err) LD_MUST_USE;
/* Errors   LD_E_NOT_FOUND, LD_E_IO. */
enum ld_code ld_store_upload_get(struct ld_store *store, const char *tenant, const char *id,
                                 struct ld_store_upload *upload, struct ld_error *err) LD_MUST_USE;

/* The tenant's own, newest use first, at most 1000. */
enum ld_code ld_store_upload_list(struct ld_store *store, const char *tenant,
                                  struct ld_arena *arena, struct ld_store_upload **uploads,
                                  uint32_t *count, struct ld_error *err) LD_MUST_USE;

/* Whether an image, an upload or an input of a job that has not expired has this hash. */
enum ld_code ld_store_blob_referenced(struct ld_store *store, const char *sha256, bool *referenced,
                                      struct ld_error *err) LD_MUST_USE;

/* Small texts of the server by name (the workers' inventory). "" if absent. */
enum ld_code ld_store_note_put(struct ld_store *store, const char *name, const char *text,
                               struct ld_error *err) LD_MUST_USE;
enum ld_code ld_store_note_get(struct ld_store *store, const char *name, struct ld_arena *arena,
                               const char **text, struct ld_error *err) LD_MUST_USE;

#endif
