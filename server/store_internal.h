/*
 * What the files of the job store share: the store itself, operations of the writer thread, and
 * loading a job through whatever connection is at hand. Nobody else includes this.
 */
#ifndef LD_SERVER_STORE_INTERNAL_H
#define LD_SERVER_STORE_INTERNAL_H

#include "server/store.h"
#include "server/store_schema.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    LD_STORE_READERS = 4,
    LD_STORE_BATCH_MAX = 64,   /* operations of one transaction */
    LD_STORE_POSTED_MAX = 1024 /* events waiting; beyond, news are dropped */
};

/* When an operation is on the disk, for its caller. */
enum ld_store_flush {
    LD_STORE_FLUSHED, /* when it hears: what it says then outlives a power failure */
    LD_STORE_SOON,    /* at once after it hears: work can begin meanwhile */
    LD_STORE_LATER /* with the next flush: a power failure may take it back, and it is made anew */
};

/* One piece of work for the writer thread, inside a savepoint of its own. */
struct ld_store_op {
    enum ld_code (*run)(struct ld_store *store, void *args, struct ld_error *err);
    void *args;
    enum ld_code code;
    struct ld_error err;
    enum ld_store_flush flush;
    bool done;
    bool posted;             /* nobody waits: the writer frees it, and its event text with it */
    void (*told)(void *ctx); /* instead of waiting; with ops_lock held, so that it is over before
                                the owner can free anything */
    void *ctx;
    struct ld_store_op *next;
};

/* How the keys with waiting jobs stand (store_ahead.c). */
struct ld_store_ahead;

/* An event of the running transaction; handed out after its commit. */
struct ld_store_pending {
    struct ld_store_event event;
    struct ld_store_pending *next;
};

struct ld_store {
    struct ld_store_config config;

    /* Owned by the writer thread (before it starts: by ld_store_open). */
    struct ld_db *writer;
    struct ld_arena batch_arena; /* lives for one transaction */
    struct ld_store_pending *pending_first, *pending_last;
    struct ld_store_ahead *ahead;   /* readers see a part of it, under its own lock */
    double rate_busy_us, rate_cost; /* of the jobs that ended lately */
    int64_t rate_at_us;             /* the last end, monotonic */
    uint64_t event_next;
    bool machine_died; /* since the last start: it took what ran then along */
    bool commit_waits; /* for the disk */
    bool owes_flush;   /* a caller of LD_STORE_SOON has heard */

    pthread_t thread;
    bool thread_started;

    pthread_mutex_t ops_lock;
    pthread_cond_t ops_ready; /* the writer waits */
    pthread_cond_t ops_done;  /* callers wait */
    struct ld_store_op *ops_first, *ops_last;
    uint32_t posted;
    bool closing;

    pthread_mutex_t readers_lock; /* taken alone, never with ops_lock */
    pthread_cond_t reader_free;
    struct ld_db *readers[LD_STORE_READERS];
    bool reader_taken[LD_STORE_READERS];

    atomic_uint_least64_t event_newest; /* committed and handed out */
    atomic_int_least64_t fair_now;      /* virtual time of the last start; the writer sets it */
    atomic_int_least64_t rate_milli;    /* cost a second, in thousandths; 0: not known */
    atomic_bool broken;
};

/* ---- Writer ---------------------------------------------------------------------------------- */

/* Run on the writer thread and wait for the commit. Errors of `run` or of the commit. */
enum ld_code ld_store_run(struct ld_store *store,
                          enum ld_code (*run)(struct ld_store *, void *, struct ld_error *),
                          void *args, struct ld_error *err) LD_MUST_USE;

/* The same, for one whose caller need not wait for the disk. */
enum ld_code ld_store_run_unflushed(struct ld_store *store, enum ld_store_flush flush,
                                    enum ld_code (*run)(struct ld_store *, void *,
                                                        struct ld_error *),
                                    void *args, struct ld_error *err) LD_MUST_USE;

/* The same in two halves: the owner does something else meanwhile. An operation that was begun must
 * be awaited before it is freed. Errors   LD_E_IO (damaged store): nothing was begun. */
enum ld_code ld_store_begin(struct ld_store *store, struct ld_store_op *op,
                            struct ld_error *err) LD_MUST_USE;
bool ld_store_is_done(struct ld_store *store, const struct ld_store_op *op);
enum ld_code ld_store_await(struct ld_store *store, struct ld_store_op *op,
                            struct ld_error *err) LD_MUST_USE;

/* A statement of the writer's connection, ready to be bound; NULL: it cannot be had, err says why.
 */
static inline struct ld_db_query *
ld_store_use(struct ld_store *store, enum ld_store_sql_index statement, struct ld_error *err)
{
    return ld_db_use(store->writer, (uint32_t)statement, err);
}

/*
 * Record an event of the running operation, on the writer thread. `stored` also writes the row.
 * `json`, `request` (may be NULL) and `tenant` must live until the transaction ends (batch arena,
 * or the operation's own).
 */
enum ld_code ld_store_emit(struct ld_store *store, int64_t seq, const char *job_id,
                           const char *tenant, enum ld_event_kind kind, const char *json,
                           const char *request, struct ld_error *err) LD_MUST_USE;

/* Emit the job's status, or for a final status the whole document. */
enum ld_code ld_store_emit_status(struct ld_store *store, const char *job_id,
                                  struct ld_error *err) LD_MUST_USE;

/* ---- Shared reading -------------------------------------------------------------------------- */

/* Column order of the statements that select a whole job; loads its images too, and its position
 * while it is queued. */
enum ld_code ld_store_load_job(struct ld_store *store, struct ld_db *db, struct ld_db_query *row,
                               struct ld_arena *arena, struct ld_store_job *job, int64_t *seq,
                               struct ld_error *err) LD_MUST_USE;
enum ld_code ld_store_load_by_id(struct ld_store *store, struct ld_db *db, const char *tenant,
                                 const char *id, struct ld_arena *arena, struct ld_store_job *job,
                                 int64_t *seq, struct ld_error *err) LD_MUST_USE;

/* What decides about a job's next step. */
struct ld_store_row {
    int64_t seq;
    enum ld_job_status status;
    const char *tenant; /* in the batch arena */
    uint64_t token;
    int64_t attempt;
    bool keep_partial;
    int64_t priority;
    int64_t cost, work;
    int64_t created_us;
};

/* On the writer. `tenant` NULL: anyone's. Errors   LD_E_NOT_FOUND, those of ld_db_step. */
enum ld_code ld_store_row_get(struct ld_store *store, const char *tenant, const char *id,
                              struct ld_store_row *row, struct ld_error *err) LD_MUST_USE;
/* The same for a running attempt. Errors   LD_E_LEASE_LOST too. */
enum ld_code ld_store_row_attempt(struct ld_store *store, const char *id, uint64_t token,
                                  struct ld_store_row *row, struct ld_error *err) LD_MUST_USE;

/* ---- Shares and usage (store_share.c), on the writer unless a connection is given ------------ */

/* A job comes into its key's queue. */
enum ld_code ld_store_share_join(struct ld_store *store, const char *tenant, int64_t cost,
                                 struct ld_error *err) LD_MUST_USE;
/* It leaves the queue to run. */
enum ld_code ld_store_share_claimed(struct ld_store *store, const char *tenant, int64_t cost,
                                    struct ld_error *err) LD_MUST_USE;
/* It leaves the queue for good, and its work is no longer counted into its day: a job that never
 * ran costs its key nothing. */
enum ld_code ld_store_share_unqueue(struct ld_store *store, const struct ld_store_row *row,
                                    struct ld_error *err) LD_MUST_USE;
/* It no longer runs; the part `unused` (0..1) of its cost is given back. */
enum ld_code ld_store_share_ended(struct ld_store *store, const char *tenant, int64_t cost,
                                  double unused, struct ld_error *err) LD_MUST_USE;
/* Count everything anew, for ld_store_open: nothing runs. */
enum ld_code ld_store_shares_recount(struct ld_store *store, struct ld_error *err) LD_MUST_USE;

/* The job whose turn it is, if it may start on this worker. */
enum ld_code ld_store_choose(struct ld_store *store, const struct ld_fair_worker *worker,
                             char id[LD_ID_SIZE], bool *found, struct ld_error *err) LD_MUST_USE;

/* What the operator's settings give a key. */
struct ld_fair_share ld_store_share_of(const struct ld_store *store, const char *tenant);

/* ---- How the keys stand (store_ahead.c) ------------------------------------------------------ */

/* Between the opening of the writer's connection and its end. Errors   LD_E_NOMEM. */
enum ld_code ld_store_ahead_create(struct ld_store *store, struct ld_error *err) LD_MUST_USE;
void ld_store_ahead_destroy(struct ld_store *store);

/* On the writer: a key's row has changed, and with it how many jobs wait and what all running ones
 * cost. */
enum ld_code ld_store_ahead_follow(struct ld_store *store, const char *tenant,
                                   int64_t queued_change, int64_t running_cost_change,
                                   struct ld_error *err) LD_MUST_USE;
/* An operation begins; it was undone; more than one key's row may have changed. */
void ld_store_ahead_begin(struct ld_store *store);
void ld_store_ahead_undo(struct ld_store *store);
void ld_store_ahead_forget(struct ld_store *store);
/* A transaction was committed: readers see it from now on. */
enum ld_code ld_store_ahead_show(struct ld_store *store, struct ld_error *err) LD_MUST_USE;

/* A key with waiting jobs. */
struct ld_store_waiting {
    struct ld_fair_key key;
    int64_t turns; /* that it has had */
    char tenant[LD_STORE_TENANT_BYTES_MAX + 1];
};

/* On the writer: all of them, in the order of their names (of very many, those whose turn comes
 * first). Lent until the next change of one. */
enum ld_code ld_store_waiting_keys(struct ld_store *store, const struct ld_store_waiting **keys,
                                   uint32_t *count, struct ld_error *err) LD_MUST_USE;

/* How many jobs wait: for the writer's connection of this very moment, else as of the last commit.
 */
enum ld_code ld_store_queued(struct ld_store *store, struct ld_db *db, int64_t *queued,
                             struct ld_error *err) LD_MUST_USE;

/* Position and what is ahead of a waiting job, into its view. */
enum ld_code ld_store_load_ahead(struct ld_store *store, struct ld_db *db, int64_t seq,
                                 struct ld_store_job *job, struct ld_error *err) LD_MUST_USE;

/* A job that ran since `claimed_us` (monotonic) has ended and did `cost`. */
void ld_store_rate_note(struct ld_store *store, int64_t claimed_us, int64_t cost);

/* Days since 1970. */
int64_t ld_store_day(int64_t wall_us);
enum ld_code ld_store_usage_add(struct ld_store *store, const char *tenant, int64_t at_us,
                                const struct ld_store_usage *more,
                                struct ld_error *err) LD_MUST_USE;
/* `day` negative: all days. */
enum ld_code ld_store_usage_on(struct ld_db *db, const char *tenant, int64_t day,
                               struct ld_store_usage *usage, struct ld_error *err) LD_MUST_USE;

/* A read-only connection of the caller's own until it is given back. */
struct ld_db *ld_store_reader_take(struct ld_store *store);
void ld_store_reader_give(struct ld_store *store, struct ld_db *reader);

/* Drop a job's images; their hashes are added to `freed`. On the writer. */
enum ld_code ld_store_images_drop(struct ld_store *store, int64_t seq, struct ld_arena *arena,
                                  struct ld_store_freed *freed, struct ld_error *err) LD_MUST_USE;

/* Step a statement that answers no row, and end it. */
enum ld_code ld_store_step_once(struct ld_db_query *query, struct ld_error *err) LD_MUST_USE;

/* ---- Sweeps (store_cells.c); on the writer --------------------------------------------------- */

/* Insert the submit's cells and bind them to the job `id`, which is inserted behind them. */
enum ld_code ld_store_cells_bind(struct ld_store *store, const char *id,
                                 char (*cell_ids)[LD_ID_SIZE], uint32_t count,
                                 struct ld_error *err) LD_MUST_USE;

/* A job has begun or ended: if it is a cell, tell its sweep's followers, and end the sweep if
 * nothing is left to do for it. */
enum ld_code ld_store_cell_changed(struct ld_store *store, int64_t child_seq,
                                   struct ld_error *err) LD_MUST_USE;

/* What `view`, a sweep, ends as once its sheet is there: SUCCEEDED, or the worst cell's status with
 * its error. Texts are the view's own or in the batch arena. */
struct ld_store_verdict {
    enum ld_job_status status;
    const char *error_code, *error_detail;
};
enum ld_code ld_store_cells_judge(struct ld_store *store, const struct ld_job_view *view,
                                  struct ld_store_verdict *verdict,
                                  struct ld_error *err) LD_MUST_USE;

/* For ld_store_open, before anything else writes: the range of event ids of this start, and whether
 * the machine has been started anew since the last (store_boot.c). */
enum ld_code ld_store_boot(struct ld_store *store, struct ld_error *err) LD_MUST_USE;

/* On the writer, for ld_store_open. */
enum ld_code ld_store_recover(struct ld_store *store, struct ld_error *err) LD_MUST_USE;

#endif
