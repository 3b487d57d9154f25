#include "server/store_internal.h"

#include "runtime/base/clock.h"

/* ---- Hashes that lost a reference ------------------------------------------------------------ */

static enum ld_code add_freed(struct ld_store_freed *freed, const char *sha256,
                              struct ld_arena *arena, struct ld_error *err)
{
    enum { STEP = 64 };
    if (!*sha256)
        return LD_OK;
    const char **list = NULL;
    if (freed->count % STEP == 0) {
        list = ld_arena_calloc(arena, (size_t)freed->count + STEP, sizeof *list);
        if (list && freed->count)
            memcpy(list, freed->sha256, freed->count * sizeof *list);
        freed->sha256 = list;
    } else {
        /* The array is ours, made here; the public type only promises not to change it. */
        memcpy(&list, &freed->sha256, sizeof list);
    }
    const char *copy = ld_arena_strdup(arena, sha256);
    if (!list || !copy) {
        freed->count = 0;
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    }
    list[freed->count++] = copy;
    return LD_OK;
}

/* The rows of a job in one table; `list` tells their hashes in column 1. */
static enum ld_code drop_rows(struct ld_store *store, int64_t seq, enum ld_store_sql_index list,
                              enum ld_store_sql_index all, struct ld_arena *arena,
                              struct ld_store_freed *freed, struct ld_error *err)
{
    bool row;
    enum ld_code code;
    struct ld_db_query *query = ld_store_use(store, list, err);
    if (!query)
        return err->code;
    ld_db_bind_int(query, 1, seq);
    while ((code = ld_db_step(query, &row, err)) == LD_OK && row) {
        if ((code = add_freed(freed, ld_db_text(query, 1), arena, err)) != LD_OK)
            break;
    }
    ld_db_done(query);
    if (code != LD_OK)
        return code;
    if (!(query = ld_store_use(store, all, err)))
        return err->code;
    ld_db_bind_int(query, 1, seq);
    return ld_store_step_once(query, err);
}

enum ld_code ld_store_images_drop(struct ld_store *store, int64_t seq, struct ld_arena *arena,
                                  struct ld_store_freed *freed, struct ld_error *err)
{
    return drop_rows(store, seq, SQL_IMAGES_OF_JOB, SQL_IMAGES_DELETE, arena, freed, err);
}

/* The pictures of its ControlNet units. */
static enum ld_code controls_drop(struct ld_store *store, int64_t seq, struct ld_arena *arena,
                                  struct ld_store_freed *freed, struct ld_error *err)
{
    return drop_rows(store, seq, SQL_CONTROLS_OF_JOB, SQL_CONTROLS_DELETE, arena, freed, err);
}

/* ---- Cancel and delete ----------------------------------------------------------------------- */

struct cancel_args {
    const char *tenant, *id;
    bool keep_partial;
    enum ld_job_status *status;
};

/* One job; `waits` says that some of its cells still run, so that it must wait for them. */
static enum ld_code cancel_one(struct ld_store *store, const struct cancel_args *args, bool waits,
                               struct ld_error *err)
{
    struct ld_store_row row;
    enum ld_code code = ld_store_row_get(store, args->tenant, args->id, &row, err);
    if (code != LD_OK)
        return code;
    *args->status = row.status;
    if (row.status != LD_JOB_QUEUED && row.status != LD_JOB_RUNNING)
        return LD_OK;
    const bool queued = row.status == LD_JOB_QUEUED;
    const bool ends = queued && !waits;
    struct ld_store_freed freed = {0}; /* of an attempt before: the next start sweeps them away */
    if (ends && !args->keep_partial &&
        (code = ld_store_images_drop(store, row.seq, &store->batch_arena, &freed, err)) != LD_OK)
        return code;
    struct ld_db_query *query = ld_store_use(store, SQL_JOB_CANCEL, err);
    if (!query)
        return err->code;
    *args->status = ends ? LD_JOB_CANCELLED : LD_JOB_CANCELLING;
    ld_db_bind_text(query, 1, args->id);
    ld_db_bind_int(query, 2, (int64_t)*args->status);
    ld_db_bind_int(query, 3, ends ? ld_clock_wall_us() : 0);
    ld_db_bind_int(query, 4, args->keep_partial ? 1 : 0);
    if ((code = ld_store_step_once(query, err)) != LD_OK ||
        (code = ld_store_emit_status(store, args->id, err)) != LD_OK ||
        (queued && (code = ld_store_share_unqueue(store, &row, err)) != LD_OK))
        return code;
    return ends ? ld_store_cell_changed(store, row.seq, err) : LD_OK;
}

/* A sweep goes first, then its cells: the last one to end finds it waiting for that. */
static enum ld_code run_cancel(struct ld_store *store, void *pointer, struct ld_error *err)
{
    const struct cancel_args *args = pointer;
    struct ld_store_job job;
    int64_t seq;
    bool waits = false;
    enum ld_code code = ld_store_load_by_id(store, store->writer, args->tenant, args->id,
                                            &store->batch_arena, &job, &seq, err);
    for (uint32_t i = 0; code == LD_OK && i < job.view.cell_count; i++)
        waits =
            waits || (job.view.cells[i].id[0] && !ld_job_status_is_final(job.view.cells[i].status));
    if (code == LD_OK)
        code = cancel_one(store, args, waits, err);
    for (uint32_t i = 0; code == LD_OK && i < job.view.cell_count; i++) {
        enum ld_job_status ignored;
        const struct cancel_args cell = {NULL, job.view.cells[i].id, args->keep_partial, &ignored};
        if (cell.id[0])
            code = cancel_one(store, &cell, false, err);
    }
    if (code != LD_OK || job.view.cell_count == 0)
        return code;
    struct ld_store_row row;
    code = ld_store_row_get(store, NULL, args->id, &row, err);
    *args->status = code == LD_OK ? row.status : *args->status;
    return code;
}

enum ld_code ld_store_job_cancel(struct ld_store *store, const char *tenant, const char *id,
                                 bool keep_partial, enum ld_job_status *status,
                                 struct ld_error *err)
{
    struct cancel_args args = {tenant, id, keep_partial, status};
    return ld_store_run(store, run_cancel, &args, err);
}

struct delete_args {
    const char *tenant, *id;
    struct ld_arena *arena;
    struct ld_store_freed *freed;
};

static enum ld_code delete_one(struct ld_store *store, const struct delete_args *args,
                               struct ld_error *err)
{
    struct ld_store_row row;
    struct ld_store_job job;
    int64_t seq;
    enum ld_code code = ld_store_row_get(store, args->tenant, args->id, &row, err);
    /* Those who follow the job must hear of its end: a cancelled document is the last event. */
    if (code == LD_OK && !ld_job_status_is_final(row.status)) {
        struct ld_db_query *cancel = ld_store_use(store, SQL_JOB_CANCEL, err);
        if (!cancel)
            return err->code;
        ld_db_bind_text(cancel, 1, args->id);
        ld_db_bind_int(cancel, 2, LD_JOB_CANCELLED);
        ld_db_bind_int(cancel, 3, ld_clock_wall_us());
        ld_db_bind_int(cancel, 4, 0);
        if ((code = ld_store_step_once(cancel, err)) == LD_OK)
            code = ld_store_emit_status(store, args->id, err);
    }
    if (code != LD_OK ||
        (code = ld_store_load_by_id(store, store->writer, NULL, args->id, &store->batch_arena, &job,
                                    &seq, err)) != LD_OK ||
        (code = add_freed(args->freed, job.init_sha256, args->arena, err)) != LD_OK ||
        (code = add_freed(args->freed, job.mask_sha256, args->arena, err)) != LD_OK ||
        (code = controls_drop(store, row.seq, args->arena, args->freed, err)) != LD_OK ||
        (code = ld_store_images_drop(store, row.seq, args->arena, args->freed, err)) != LD_OK)
        return code;
    struct ld_db_query *query = ld_store_use(store, SQL_JOB_DELETE, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, args->id);
    const bool runs = row.token != 0 && !ld_job_status_is_final(row.status);
    if ((code = ld_store_step_once(query, err)) != LD_OK ||
        (row.status == LD_JOB_QUEUED &&
         (code = ld_store_share_unqueue(store, &row, err)) != LD_OK) ||
        (runs && /* half of it is done, on average */
         (code = ld_store_share_ended(store, row.tenant, row.cost, 0.5, err)) != LD_OK))
        return code;
    return ld_job_status_is_final(row.status) ? LD_OK : ld_store_cell_changed(store, row.seq, err);
}

/* A sweep takes its cells with it. It goes first, so that no end of theirs changes it. */
static enum ld_code run_delete(struct ld_store *store, void *pointer, struct ld_error *err)
{
    const struct delete_args *args = pointer;
    struct ld_store_job job;
    int64_t seq;
    enum ld_code code = ld_store_load_by_id(store, store->writer, args->tenant, args->id,
                                            &store->batch_arena, &job, &seq, err);
    if (code == LD_OK)
        code = delete_one(store, args, err);
    for (uint32_t i = 0; code == LD_OK && i < job.view.cell_count; i++) {
        const struct delete_args cell = {NULL, job.view.cells[i].id, args->arena, args->freed};
        if (cell.id[0])
            code = delete_one(store, &cell, err);
    }
    return code;
}

enum ld_code ld_store_job_delete(struct ld_store *store, const char *tenant, const char *id,
                                 struct ld_arena *arena, struct ld_store_freed *freed,
                                 struct ld_error *err)
{
    struct delete_args args = {tenant, id, arena, freed};
    memset(freed, 0, sizeof *freed);
    return ld_store_run(store, run_delete, &args, err);
}

/* ---- Retention ------------------------------------------------------------------------------- */

struct expire_args {
    const struct ld_store_retention *retention;
    struct ld_arena *arena;
    struct ld_store_freed *freed;
    bool *more;
};

struct old_job {
    int64_t seq;
    const char *init_sha256, *mask_sha256;
    int64_t bytes;
};

/* Prompt, images and events go together; the row stays as a tombstone for 410. */
static enum ld_code expire_job(struct ld_store *store, const struct old_job *job,
                               const struct expire_args *args, struct ld_error *err)
{
    enum ld_code code = add_freed(args->freed, job->init_sha256, args->arena, err);
    if (code == LD_OK)
        code = add_freed(args->freed, job->mask_sha256, args->arena, err);
    if (code == LD_OK)
        code = controls_drop(store, job->seq, args->arena, args->freed, err);
    if (code == LD_OK)
        code = ld_store_images_drop(store, job->seq, args->arena, args->freed, err);
    static const enum ld_store_sql_index steps[] = {SQL_EVENTS_DELETE, SQL_EXPIRE_JOB};
    for (size_t i = 0; i < 2 && code == LD_OK; i++) {
        struct ld_db_query *query = ld_store_use(store, steps[i], err);
        if (!query)
            return err->code;
        ld_db_bind_int(query, 1, job->seq);
        code = ld_store_step_once(query, err);
    }
    return code;
}

/* Rows of `query` (bound, ended here) into the batch arena. */
static enum ld_code collect_old(struct ld_store *store, struct ld_db_query *query, uint32_t max,
                                bool with_bytes, struct old_job **jobs, uint32_t *count,
                                struct ld_error *err)
{
    bool row;
    enum ld_code code;
    *count = 0;
    *jobs = ld_arena_calloc(&store->batch_arena, max ? max : 1, sizeof **jobs);
    if (!*jobs) {
        ld_db_done(query);
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    }
    while ((code = ld_db_step(query, &row, err)) == LD_OK && row && *count < max) {
        struct old_job *job = &(*jobs)[(*count)++];
        job->seq = ld_db_int(query, 0);
        job->init_sha256 = ld_arena_strdup(&store->batch_arena, ld_db_text(query, 1));
        job->mask_sha256 = ld_arena_strdup(&store->batch_arena, ld_db_text(query, 2));
        job->bytes = with_bytes ? ld_db_int(query, 3) : 0;
        if (!job->init_sha256 || !job->mask_sha256) {
            code = LD_FAIL(err, LD_E_NOMEM, "out of memory");
            break;
        }
    }
    ld_db_done(query);
    return code;
}

static enum ld_code expire_by_age(struct ld_store *store, const struct expire_args *args,
                                  struct ld_error *err)
{
    const struct ld_store_retention *retention = args->retention;
    struct old_job *jobs;
    uint32_t count;
    struct ld_db_query *query = ld_store_use(store, SQL_EXPIRE_LIST, err);
    if (!query)
        return err->code;
    ld_db_bind_int(query, 1, retention->finished_before_us);
    ld_db_bind_int(query, 2, retention->jobs_max);
    enum ld_code code = collect_old(store, query, retention->jobs_max, false, &jobs, &count, err);
    for (uint32_t i = 0; i < count && code == LD_OK; i++)
        code = expire_job(store, &jobs[i], args, err);
    if (count == retention->jobs_max)
        *args->more = true;
    return code;
}

/* One tenant beyond its share a call; the sweep comes again. */
static enum ld_code expire_by_bytes(struct ld_store *store, const struct expire_args *args,
                                    struct ld_error *err)
{
    const struct ld_store_retention *retention = args->retention;
    struct old_job *jobs;
    uint32_t count;
    bool row;
    struct ld_db_query *query = ld_store_use(store, SQL_TENANT_BYTES, err);
    if (!query)
        return err->code;
    ld_db_bind_int(query, 1, retention->result_bytes_per_tenant_max);
    enum ld_code code = ld_db_step(query, &row, err);
    const char *tenant =
        code == LD_OK && row ? ld_arena_strdup(&store->batch_arena, ld_db_text(query, 0)) : NULL;
    int64_t excess =
        code == LD_OK && row ? ld_db_int(query, 1) - retention->result_bytes_per_tenant_max : 0;
    ld_db_done(query);
    if (code != LD_OK || !tenant)
        return code;
    if (!(query = ld_store_use(store, SQL_TENANT_OLDEST, err)))
        return err->code;
    ld_db_bind_text(query, 1, tenant);
    ld_db_bind_int(query, 2, retention->jobs_max);
    code = collect_old(store, query, retention->jobs_max, true, &jobs, &count, err);
    for (uint32_t i = 0; i < count && excess > 0 && code == LD_OK; i++) {
        code = expire_job(store, &jobs[i], args, err);
        excess -= jobs[i].bytes;
    }
    if (excess > 0 && count > 0)
        *args->more = true;
    return code;
}

/* Uploads nobody used for the retention time. A job that refers to one keeps its bytes alive. */
static enum ld_code expire_uploads(struct ld_store *store, const struct expire_args *args,
                                   struct ld_error *err)
{
    enum { UPLOADS_MAX = 256 };
    char ids[UPLOADS_MAX][LD_ID_SIZE];
    uint32_t count = 0;
    bool row;
    enum ld_code code;
    struct ld_db_query *query = ld_store_use(store, SQL_UPLOADS_EXPIRE_LIST, err);
    if (!query)
        return err->code;
    ld_db_bind_int(query, 1, args->retention->finished_before_us);
    ld_db_bind_int(query, 2, UPLOADS_MAX);
    while ((code = ld_db_step(query, &row, err)) == LD_OK && row && count < UPLOADS_MAX) {
        (void)ld_fmt(ids[count++], LD_ID_SIZE, "%s", ld_db_text(query, 0));
        if ((code = add_freed(args->freed, ld_db_text(query, 1), args->arena, err)) != LD_OK)
            break;
    }
    ld_db_done(query);
    for (uint32_t i = 0; i < count && code == LD_OK; i++) {
        if (!(query = ld_store_use(store, SQL_UPLOAD_DELETE, err)))
            return err->code;
        ld_db_bind_text(query, 1, ids[i]);
        ld_db_bind_int(query, 2, args->retention->finished_before_us);
        code = ld_store_step_once(query, err);
    }
    if (count == UPLOADS_MAX)
        *args->more = true;
    return code;
}

static enum ld_code run_expire(struct ld_store *store, void *pointer, struct ld_error *err)
{
    const struct expire_args *args = pointer;
    const int64_t kept_us = (int64_t)LD_STORE_IDEMPOTENCY_HOURS * 3600 * 1000000;
    const int64_t usage_from = ld_store_day(ld_clock_wall_us()) - LD_STORE_USAGE_DAYS;
    enum ld_code code;
    if ((code = expire_by_age(store, args, err)) != LD_OK ||
        (code = expire_by_bytes(store, args, err)) != LD_OK ||
        (code = expire_uploads(store, args, err)) != LD_OK)
        return code;
    const struct {
        enum ld_store_sql_index statement;
        int64_t before_us;
    } sweeps[] = {{SQL_TOMBSTONES_DELETE, args->retention->expired_before_us},
                  {SQL_IDEMPOTENCY_EXPIRE, ld_clock_wall_us() - kept_us},
                  {SQL_USAGE_EXPIRE, usage_from}};
    for (size_t i = 0; i < sizeof sweeps / sizeof sweeps[0] && code == LD_OK; i++) {
        struct ld_db_query *query = ld_store_use(store, sweeps[i].statement, err);
        if (!query)
            return err->code;
        ld_db_bind_int(query, 1, sweeps[i].before_us);
        code = ld_store_step_once(query, err);
    }
    return code;
}

enum ld_code ld_store_expire(struct ld_store *store, const struct ld_store_retention *retention,
                             struct ld_arena *arena, struct ld_store_freed *freed, bool *more,
                             struct ld_error *err)
{
    struct expire_args args = {retention, arena, freed, more};
    memset(freed, 0, sizeof *freed);
    *more = false;
    return ld_store_run(store, run_expire, &args, err);
}

/* ---- Uploads and notes ----------------------------------------------------------------------- */

struct upload_args {
    const char *tenant;
    struct ld_store_upload *upload;
};

static enum ld_code run_upload(struct ld_store *store, void *pointer, struct ld_error *err)
{
    const struct upload_args *args = pointer;
    struct ld_store_upload *upload = args->upload;
    bool row;
    struct ld_db_query *query = ld_store_use(store, SQL_UPLOAD_PUT, err);
    if (!query)
        return err->code;
    (void)ld_fmt(upload->id, sizeof upload->id, "%.*s", LD_ID_LENGTH, upload->sha256);
    ld_db_bind_text(query, 1, upload->id);
    ld_db_bind_text(query, 2, args->tenant);
    ld_db_bind_text(query, 3, upload->sha256);
    ld_db_bind_int(query, 4, (int64_t)upload->bytes);
    ld_db_bind_int(query, 5, upload->width);
    ld_db_bind_int(query, 6, upload->height);
    ld_db_bind_int(query, 7, ld_clock_wall_us());
    enum ld_code code = ld_store_step_once(query, err);
    if (code != LD_OK)
        return code;
    if (!(query = ld_store_use(store, SQL_UPLOAD_BY_SHA, err)))
        return err->code;
    ld_db_bind_text(query, 1, args->tenant);
    ld_db_bind_text(query, 2, upload->sha256);
    code = ld_db_step(query, &row, err);
    if (code == LD_OK && row)
        (void)ld_fmt(upload->id, sizeof upload->id, "%s", ld_db_text(query, 0));
    ld_db_done(query);
    return code;
}

enum ld_code ld_store_upload_add(struct ld_store *store, const char *tenant,
                                 struct ld_store_upload *upload, struct ld_error *err)
{
    struct upload_args args = {tenant, upload};
    return ld_store_run(store, run_upload, &args, err);
}

struct note_args {
    const char *name, *text;
};

static enum ld_code run_note(struct ld_store *store, void *pointer, struct ld_error *err)
{
    const struct note_args *args = pointer;
    struct ld_db_query *query = ld_store_use(store, SQL_NOTE_PUT, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, args->name);
    ld_db_bind_text(query, 2, args->text);
    return ld_store_step_once(query, err);
}

enum ld_code ld_store_note_put(struct ld_store *store, const char *name, const char *text,
                               struct ld_error *err)
{
    struct note_args args = {name, text};
    return ld_store_run(store, run_note, &args, err);
}
