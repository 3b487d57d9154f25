#include "server/store_internal.h"

#include "config/limits.h"
#include "runtime/base/log.h"

enum { BATCH_ARENA_BYTES = 64 << 20 };

const char *ld_event_kind_name(enum ld_event_kind kind)
{
    static const char *const names[LD_EVENT_KIND_COUNT] = {"status", "progress", "preview", "image",
                                                           "done"};
    return (unsigned)kind < LD_EVENT_KIND_COUNT ? names[kind] : "status";
}

/* ---- Events of the running transaction ------------------------------------------------------- */

static enum ld_code store_event_row(struct ld_store *store, int64_t seq,
                                    const struct ld_store_event *event, struct ld_error *err)
{
    struct ld_db_query *query = ld_db_use(store->writer, SQL_EVENT_INSERT, err);
    if (!query)
        return err->code;
    ld_db_bind_int(query, 1, (int64_t)event->id);
    ld_db_bind_int(query, 2, seq);
    ld_db_bind_int(query, 3, (int64_t)event->kind);
    ld_db_bind_text(query, 4, event->json);
    const enum ld_code code = ld_store_step_once(query, err);
    /* Trimming at every event would cost more than the few rows too many between two trims. */
    if (code != LD_OK || (event->kind != LD_EVENT_DONE && event->id % 16 != 0))
        return code;
    if (!(query = ld_db_use(store->writer, SQL_EVENT_TRIM, err)))
        return err->code;
    ld_db_bind_int(query, 1, seq);
    ld_db_bind_int(query, 2, LD_EVENTS_KEPT_PER_JOB);
    return ld_store_step_once(query, err);
}

enum ld_code ld_store_emit(struct ld_store *store, int64_t seq, const char *job_id,
                           const char *tenant, enum ld_event_kind kind, const char *json,
                           const char *request, struct ld_error *err)
{
    struct ld_store_pending *pending = ld_arena_alloc(&store->batch_arena, sizeof *pending);
    if (!pending)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    pending->event.id = store->event_next++;
    memcpy(pending->event.job_id, job_id, LD_ID_LENGTH);
    pending->event.tenant = tenant;
    pending->event.kind = kind;
    pending->event.json = json;
    pending->event.request = request;
    if (kind != LD_EVENT_PREVIEW) {
        const enum ld_code code = store_event_row(store, seq, &pending->event, err);
        if (code != LD_OK)
            return code;
    }
    if (store->pending_last)
        store->pending_last->next = pending;
    else
        store->pending_first = pending;
    store->pending_last = pending;
    return LD_OK;
}

static void hand_out_events(struct ld_store *store)
{
    for (struct ld_store_pending *p = store->pending_first; p; p = p->next) {
        atomic_store(&store->event_newest, p->event.id);
        if (store->config.on_event)
            store->config.on_event(store->config.ctx, &p->event);
    }
}

/* ---- The writer thread ----------------------------------------------------------------------- */

static enum ld_code simple(struct ld_store *store, enum ld_store_sql_index statement,
                           struct ld_error *err)
{
    struct ld_db_query *query = ld_db_use(store->writer, (uint32_t)statement, err);
    return query ? ld_store_step_once(query, err) : err->code;
}

/* One operation in its savepoint: a refused one leaves nothing, the others of the batch stay. */
static void run_op(struct ld_store *store, struct ld_store_op *op)
{
    struct ld_store_pending *last = store->pending_last;
    ld_store_ahead_begin(store);
    op->code = simple(store, SQL_SAVE, &op->err);
    if (op->code != LD_OK)
        return;
    (void)ld_db_text_lost(store->writer);
    op->code = op->run ? op->run(store, op->args, &op->err) : LD_OK;
    if (op->code == LD_OK && ld_db_text_lost(store->writer))
        op->code = LD_FAIL(&op->err, LD_E_NOMEM, "out of memory");
    if (op->code == LD_OK) {
        op->code = simple(store, SQL_RELEASE, &op->err);
        return;
    }
    struct ld_error ignored;
    ld_store_ahead_undo(store);
    if (simple(store, SQL_UNSAVE, &ignored) == LD_OK)
        (void)(simple(store, SQL_RELEASE, &ignored) == LD_OK);
    store->pending_last = last;
    if (last)
        last->next = NULL;
    else
        store->pending_first = NULL;
}

/* Where it fails, readers see the standings of before, and the next commit tries again. */
static void show_standings(struct ld_store *store)
{
    struct ld_error err = {0};
    if (ld_store_ahead_show(store, &err) != LD_OK)
        ld_log_error(LD_LOG_WARN, "store", "positions in the queue are those of before", &err);
}

static bool wants_flush(const struct ld_store_op *first, enum ld_store_flush flush)
{
    while (first && first->flush != flush)
        first = first->next;
    return first != NULL;
}

/*
 * Let the commit of a batch wait for the disk where one of its callers needs it, or where a flush
 * is owed to an earlier one. Most operations of a busy server are news of progress: a flush each
 * would make every submit behind them wait for one more.
 */
static enum ld_code choose_flush(struct ld_store *store, const struct ld_store_op *first,
                                 struct ld_error *err)
{
    const bool waits = store->owes_flush || wants_flush(first, LD_STORE_FLUSHED);
    if (waits == store->commit_waits)
        return LD_OK;
    const enum ld_code code = ld_db_commit_waits(store->writer, waits, err);
    if (code == LD_OK)
        store->commit_waits = waits;
    return code;
}

/* What a caller has heard of is brought to the disk; nobody else is there to do it with. */
static void pay_flush(struct ld_store *store)
{
    struct ld_error err = {0};
    store->owes_flush = false;
    if (ld_db_flush(store->writer, &err) == LD_OK)
        return;
    ld_log_error(LD_LOG_ERROR, "store", "a flush failed", &err);
    atomic_store(&store->broken, true);
}

/* All operations of a batch succeed or fail on disk together. */
static void run_batch(struct ld_store *store, struct ld_store_op *first)
{
    struct ld_error err = {0};
    const int64_t changes = ld_db_changes_ever(store->writer);
    enum ld_code code = choose_flush(store, first, &err);
    if (code == LD_OK)
        code = simple(store, SQL_BEGIN, &err);
    if (code == LD_OK) {
        for (struct ld_store_op *op = first; op; op = op->next)
            run_op(store, op);
        code = simple(store, SQL_COMMIT, &err);
    }
    if (code == LD_OK) {
        store->owes_flush = !store->commit_waits && wants_flush(first, LD_STORE_SOON) &&
                            ld_db_changes_ever(store->writer) != changes;
        show_standings(store);
        hand_out_events(store);
    } else {
        struct ld_error ignored;
        ld_store_ahead_forget(store);
        (void)(simple(store, SQL_ROLLBACK, &ignored) == LD_OK);
        for (struct ld_store_op *op = first; op; op = op->next) {
            op->code = code;
            op->err = err;
        }
        ld_log_error(LD_LOG_ERROR, "store", "a transaction was lost", &err);
    }
    if (ld_db_is_broken(store->writer))
        atomic_store(&store->broken, true);
    store->pending_first = store->pending_last = NULL;
    ld_arena_reset(&store->batch_arena);
}

/* With ops_lock held. */
static struct ld_store_op *take_batch(struct ld_store *store)
{
    struct ld_store_op *first = store->ops_first;
    struct ld_store_op *last = first;
    for (uint32_t count = 1; last->next && count < LD_STORE_BATCH_MAX; count++)
        last = last->next;
    store->ops_first = last->next;
    if (!store->ops_first)
        store->ops_last = NULL;
    last->next = NULL;
    return first;
}

static void *writer_main(void *arg)
{
    struct ld_store *store = arg;
    pthread_mutex_lock(&store->ops_lock);
    for (;;) {
        if (!store->ops_first && store->owes_flush) {
            pthread_mutex_unlock(&store->ops_lock);
            pay_flush(store);
            pthread_mutex_lock(&store->ops_lock);
        }
        while (!store->ops_first && !store->closing)
            pthread_cond_wait(&store->ops_ready, &store->ops_lock);
        if (!store->ops_first)
            break;
        struct ld_store_op *first = take_batch(store);
        pthread_mutex_unlock(&store->ops_lock);
        run_batch(store, first);
        pthread_mutex_lock(&store->ops_lock);
        while (first) { /* a waiting caller owns its op: no touching it after `done` */
            struct ld_store_op *next = first->next;
            if (first->posted) {
                store->posted--;
                ld_heap_free(first->args);
                ld_heap_free(first);
            } else {
                first->done = true;
                if (first->told)
                    first->told(first->ctx);
            }
            first = next;
        }
        pthread_cond_broadcast(&store->ops_done);
    }
    pthread_mutex_unlock(&store->ops_lock);
    return NULL;
}

static void append_op(struct ld_store *store, struct ld_store_op *op)
{
    if (store->ops_last)
        store->ops_last->next = op;
    else
        store->ops_first = op;
    store->ops_last = op;
    pthread_cond_signal(&store->ops_ready);
}

enum ld_code ld_store_begin(struct ld_store *store, struct ld_store_op *op, struct ld_error *err)
{
    if (atomic_load(&store->broken))
        return LD_FAIL(err, LD_E_IO, "the job store is damaged");
    pthread_mutex_lock(&store->ops_lock);
    append_op(store, op);
    pthread_mutex_unlock(&store->ops_lock);
    return LD_OK;
}

bool ld_store_is_done(struct ld_store *store, const struct ld_store_op *op)
{
    pthread_mutex_lock(&store->ops_lock);
    const bool done = op->done;
    pthread_mutex_unlock(&store->ops_lock);
    return done;
}

enum ld_code ld_store_await(struct ld_store *store, struct ld_store_op *op, struct ld_error *err)
{
    pthread_mutex_lock(&store->ops_lock);
    while (!op->done)
        pthread_cond_wait(&store->ops_done, &store->ops_lock);
    pthread_mutex_unlock(&store->ops_lock);
    if (op->code != LD_OK && err)
        *err = op->err;
    return op->code;
}

enum ld_code ld_store_run(struct ld_store *store,
                          enum ld_code (*run)(struct ld_store *, void *, struct ld_error *),
                          void *args, struct ld_error *err)
{
    return ld_store_run_unflushed(store, LD_STORE_FLUSHED, run, args, err);
}

enum ld_code ld_store_run_unflushed(struct ld_store *store, enum ld_store_flush flush,
                                    enum ld_code (*run)(struct ld_store *, void *,
                                                        struct ld_error *),
                                    void *args, struct ld_error *err)
{
    struct ld_store_op op = {.run = run, .args = args, .flush = flush};
    const enum ld_code code = ld_store_begin(store, &op, err);
    return code == LD_OK ? ld_store_await(store, &op, err) : code;
}

enum ld_code ld_store_flush(struct ld_store *store, struct ld_error *err)
{
    return ld_store_run(store, NULL, NULL, err);
}

/* ---- Posted events --------------------------------------------------------------------------- */

struct posted_event {
    char job_id[LD_ID_SIZE];
    enum ld_event_kind kind;
    char json[];
};

static enum ld_code run_posted(struct ld_store *store, void *args, struct ld_error *err)
{
    const struct posted_event *event = args;
    struct ld_store_row row;
    const enum ld_code code = ld_store_row_get(store, NULL, event->job_id, &row, err);
    if (code != LD_OK)
        return code;
    if (row.status != LD_JOB_RUNNING && row.status != LD_JOB_CANCELLING)
        return LD_FAIL(err, LD_E_LEASE_LOST, "the job no longer runs");
    return ld_store_emit(store, row.seq, event->job_id, row.tenant, event->kind, event->json, NULL,
                         err);
}

void ld_store_event_post(struct ld_store *store, const char *job_id, enum ld_event_kind kind,
                         const char *json)
{
    const size_t size = strlen(json) + 1;
    struct posted_event *event = ld_heap_alloc(sizeof *event + size);
    struct ld_store_op *op = ld_heap_alloc(sizeof *op);
    if (!event || !op || strlen(job_id) != LD_ID_LENGTH) {
        ld_heap_free(event);
        ld_heap_free(op);
        return;
    }
    memcpy(event->job_id, job_id, LD_ID_SIZE);
    event->kind = kind;
    memcpy(event->json, json, size);
    op->run = run_posted;
    op->args = event;
    op->posted = true;
    op->flush = LD_STORE_LATER;
    pthread_mutex_lock(&store->ops_lock);
    const bool room = store->posted < LD_STORE_POSTED_MAX && !store->closing;
    if (room) {
        store->posted++;
        append_op(store, op);
    }
    pthread_mutex_unlock(&store->ops_lock);
    if (!room) {
        ld_heap_free(event);
        ld_heap_free(op);
    }
}

uint64_t ld_store_event_newest(struct ld_store *store)
{
    return atomic_load(&store->event_newest);
}

/* ---- Readers --------------------------------------------------------------------------------- */

struct ld_db *ld_store_reader_take(struct ld_store *store)
{
    pthread_mutex_lock(&store->readers_lock);
    for (;;) {
        for (uint32_t i = 0; i < LD_STORE_READERS; i++) {
            if (store->reader_taken[i])
                continue;
            store->reader_taken[i] = true;
            pthread_mutex_unlock(&store->readers_lock);
            return store->readers[i];
        }
        pthread_cond_wait(&store->reader_free, &store->readers_lock);
    }
}

void ld_store_reader_give(struct ld_store *store, struct ld_db *reader)
{
    if (ld_db_is_broken(reader))
        atomic_store(&store->broken, true);
    pthread_mutex_lock(&store->readers_lock);
    for (uint32_t i = 0; i < LD_STORE_READERS; i++) {
        if (store->readers[i] == reader)
            store->reader_taken[i] = false;
    }
    pthread_cond_signal(&store->reader_free);
    pthread_mutex_unlock(&store->readers_lock);
}

enum ld_code ld_store_step_once(struct ld_db_query *query, struct ld_error *err)
{
    bool row;
    const enum ld_code code = ld_db_step(query, &row, err);
    ld_db_done(query);
    return code;
}

/* ---- Opening and closing --------------------------------------------------------------------- */

static enum ld_code start(struct ld_store *store, struct ld_error *err)
{
    enum ld_code code = ld_store_migrate(store->writer, err);
    if (code == LD_OK)
        code = ld_store_boot(store, err);
    store->config.machine_start = NULL; /* it was lent */
    if (code == LD_OK)
        code = store->config.keep_running ? LD_OK : ld_store_recover(store, err);
    if (code == LD_OK)
        code = ld_store_ahead_show(store, err);
    if (code != LD_OK)
        return code;
    for (uint32_t i = 0; i < LD_STORE_READERS; i++) {
        code =
            ld_db_open(&store->readers[i], store->config.path, true, ld_store_sql, SQL_COUNT, err);
        if (code != LD_OK)
            return code;
    }
    const int failed = pthread_create(&store->thread, NULL, writer_main, store);
    if (failed)
        return LD_FAIL_OS(err, LD_E_NOMEM, failed, "no thread for the job store");
    store->thread_started = true;
    return LD_OK;
}

enum ld_code ld_store_open(struct ld_store **out, const struct ld_store_config *config,
                           struct ld_error *err)
{
    struct ld_store *store = ld_heap_alloc(sizeof *store);
    *out = NULL;
    if (!store)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    store->config = *config;
    store->commit_waits = true; /* as a connection begins */
    ld_arena_init(&store->batch_arena, "store batch", BATCH_ARENA_BYTES);
    (void)pthread_mutex_init(&store->ops_lock, NULL);
    (void)pthread_cond_init(&store->ops_ready, NULL);
    (void)pthread_cond_init(&store->ops_done, NULL);
    (void)pthread_mutex_init(&store->readers_lock, NULL);
    (void)pthread_cond_init(&store->reader_free, NULL);
    enum ld_code code =
        ld_db_open(&store->writer, config->path, false, ld_store_sql, SQL_COUNT, err);
    if (code == LD_OK)
        code = ld_store_ahead_create(store, err);
    if (code == LD_OK)
        code = start(store, err);
    if (code != LD_OK) {
        ld_store_close(store);
        return code;
    }
    ld_db_serve(store->writer);
    for (uint32_t i = 0; i < LD_STORE_READERS; i++)
        ld_db_serve(store->readers[i]);
    *out = store;
    return LD_OK;
}

void ld_store_close(struct ld_store *store)
{
    if (!store)
        return;
    if (store->thread_started) {
        pthread_mutex_lock(&store->ops_lock);
        store->closing = true;
        pthread_cond_signal(&store->ops_ready);
        pthread_mutex_unlock(&store->ops_lock);
        (void)pthread_join(store->thread, NULL);
    }
    for (uint32_t i = 0; i < LD_STORE_READERS; i++)
        ld_db_close(store->readers[i]);
    ld_db_close(store->writer);
    ld_store_ahead_destroy(store);
    ld_arena_deinit(&store->batch_arena);
    (void)pthread_cond_destroy(&store->reader_free);
    (void)pthread_mutex_destroy(&store->readers_lock);
    (void)pthread_cond_destroy(&store->ops_done);
    (void)pthread_cond_destroy(&store->ops_ready);
    (void)pthread_mutex_destroy(&store->ops_lock);
    ld_heap_free(store);
}

bool ld_store_is_broken(const struct ld_store *store)
{
    return atomic_load(&store->broken);
}
