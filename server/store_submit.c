/* Submitting: idempotency keys, quotas, the rows of a job and of its cells. */
#include "server/store_internal.h"

#include "config/limits.h"
#include "runtime/base/clock.h"

struct submit_args {
    const struct ld_store_submit *submit;
    char *id;
    bool *replayed;
};

static bool is_worth_waiting_for(enum ld_job_status status)
{
    return status == LD_JOB_QUEUED || status == LD_JOB_RUNNING || status == LD_JOB_SUCCEEDED;
}

/* `*found` when the key is known; then `id` is its job's. */
static enum ld_code look_up_key(struct ld_store *store, const struct submit_args *args, bool *found,
                                struct ld_error *err)
{
    const struct ld_store_submit *submit = args->submit;
    struct ld_db_query *query = ld_store_use(store, SQL_IDEMPOTENCY_GET, err);
    if (!query)
        return err->code;
    const bool retry = submit->key_use == LD_STORE_KEY_RETRY;
    const int64_t kept_s = retry ? LD_STORE_RETRY_S : (int64_t)LD_STORE_IDEMPOTENCY_HOURS * 3600;
    const int64_t kept_us = kept_s * 1000000;
    ld_db_bind_text(query, 1, submit->tenant);
    ld_db_bind_text(query, 2, submit->idempotency_key);
    ld_db_bind_int(query, 3, ld_clock_wall_us() - kept_us);
    enum ld_code code = ld_db_step(query, found, err);
    if (code == LD_OK && *found) {
        if (strcmp(submit->body_sha256, ld_db_text(query, 0)) != 0)
            code =
                LD_FAIL(err, LD_E_CONFLICT, "this Idempotency-Key came with another body before");
        else
            (void)ld_fmt(args->id, LD_ID_SIZE, "%s", ld_db_text(query, 1));
    }
    ld_db_done(query);
    if (code != LD_OK || !*found)
        return code;
    *args->replayed = true;
    struct ld_store_row row;
    code = ld_store_row_get(store, submit->tenant, args->id, &row, err);
    if (retry && (code == LD_E_NOT_FOUND || (code == LD_OK && !is_worth_waiting_for(row.status)))) {
        *found = *args->replayed = false;
        return LD_OK;
    }
    if (code == LD_E_NOT_FOUND)
        return LD_FAIL(err, code, "the job of this Idempotency-Key was deleted");
    return code;
}

static enum ld_code check_quota(struct ld_store *store, const struct ld_store_submit *submit,
                                struct ld_error *err)
{
    bool row;
    int64_t total;
    if (ld_store_queued(store, store->writer, &total, err) != LD_OK)
        return err->code;
    if (total + submit->cell_count >= submit->queued_max)
        return LD_FAIL(err, LD_E_QUEUE_FULL, "the queue is full (%lld jobs)",
                       (long long)submit->queued_max);
    struct ld_db_query *query = ld_store_use(store, SQL_SHARE_GET, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, submit->tenant);
    const enum ld_code code = ld_db_step(query, &row, err);
    const int64_t queued = code == LD_OK && row ? ld_db_int(query, 2) : 0;
    ld_db_done(query);
    if (code == LD_OK && submit->cell_count > 0 &&
        queued + submit->cell_count >= submit->queued_per_tenant_max)
        return LD_FAIL(err, LD_E_QUEUE_FULL,
                       "a sweep of %u cells does not fit beside %lld of your jobs that are waiting",
                       submit->cell_count, (long long)queued);
    if (code == LD_OK && queued >= submit->queued_per_tenant_max)
        return LD_FAIL(err, LD_E_QUEUE_FULL, "%lld of your jobs are waiting already",
                       (long long)queued);
    return code;
}

/* Counts the job into its day, unless that is more than the key may have. */
static enum ld_code spend(struct ld_store *store, const struct ld_store_submit *submit,
                          struct ld_error *err)
{
    struct ld_store_usage today;
    struct ld_store_usage more = {.jobs = 1, .work = submit->cell_count > 0 ? 0 : submit->work};
    const int64_t now_us = ld_clock_wall_us();
    enum ld_code code =
        ld_store_usage_on(store->writer, submit->tenant, ld_store_day(now_us), &today, err);
    for (uint32_t i = 0; i < submit->cell_count; i++)
        more.work += submit->cells[i].work;
    if (code != LD_OK)
        return code;
    if (submit->day_work_max > 0 && more.work > submit->day_work_max - today.work)
        return LD_FAIL(
            err, LD_E_RATE, "%lld of today's %lld work units are used up; this job takes %lld",
            (long long)today.work, (long long)submit->day_work_max, (long long)more.work);
    return ld_store_usage_add(store, submit->tenant, now_us, &more, err);
}

/* The pictures of its ControlNet units. */
static enum ld_code insert_controls(struct ld_store *store, const struct ld_store_submit *submit,
                                    const char *id, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    for (uint32_t i = 0; code == LD_OK && i < LD_CONTROLS_MAX; i++) {
        const char *sha256 = submit->control_sha256[i];
        if (!sha256 || !*sha256)
            continue;
        struct ld_db_query *query = ld_store_use(store, SQL_CONTROL_INSERT, err);
        if (!query)
            return err->code;
        ld_db_bind_text(query, 1, id);
        ld_db_bind_int(query, 2, i);
        ld_db_bind_text(query, 3, sha256);
        code = ld_store_step_once(query, err);
    }
    return code;
}

/* One row with a new id; a cell's own parts are in `cell`, the rest is the sweep's. */
static enum ld_code insert_row(struct ld_store *store, const struct ld_store_submit *submit,
                               const struct ld_store_cell *cell, char id[LD_ID_SIZE],
                               struct ld_error *err)
{
    struct ld_db_query *query = ld_store_use(store, SQL_JOB_INSERT, err);
    if (!query)
        return err->code;
    ld_id_make(id);
    ld_db_bind_text(query, 1, id);
    ld_db_bind_text(query, 2, submit->tenant);
    ld_db_bind_int(query, 3, submit->priority);
    ld_db_bind_int(query, 4, cell->work);
    ld_db_bind_int(query, 5, ld_clock_wall_us());
    ld_db_bind_text(query, 6, cell->request_json);
    ld_db_bind_text(query, 7, cell->warnings_json);
    ld_db_bind_text(query, 8, submit->init_sha256);
    ld_db_bind_text(query, 9, submit->mask_sha256);
    ld_db_bind_int(query, 10, cell->cost);
    enum ld_code code = ld_store_step_once(query, err);
    if (code == LD_OK)
        code = insert_controls(store, submit, id, err);
    return code == LD_OK ? ld_store_share_join(store, submit->tenant, cell->cost, err) : code;
}

static enum ld_code remember_key(struct ld_store *store, const struct submit_args *args,
                                 struct ld_error *err)
{
    const struct ld_store_submit *submit = args->submit;
    if (!*submit->idempotency_key)
        return LD_OK;
    struct ld_db_query *query = ld_store_use(store, SQL_IDEMPOTENCY_PUT, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, submit->tenant);
    ld_db_bind_text(query, 2, submit->idempotency_key);
    ld_db_bind_text(query, 3, submit->body_sha256);
    ld_db_bind_text(query, 4, args->id);
    ld_db_bind_int(query, 5, ld_clock_wall_us());
    return ld_store_step_once(query, err);
}

/* Cells first: they stand before their sweep in the queue, so its place is behind them. */
static enum ld_code insert_jobs(struct ld_store *store, const struct submit_args *args,
                                struct ld_error *err)
{
    const struct ld_store_submit *submit = args->submit;
    /* A sweep itself is only a sheet: its work is that of its cells. */
    const struct ld_store_cell own = {
        .request_json = submit->request_json,
        .warnings_json = submit->warnings_json,
        .work = submit->cell_count > 0 ? 0 : submit->work,
        .cost = submit->cell_count > 0 ? 0 : submit->cost,
    };
    char cell_ids[LD_SWEEP_CELLS_MAX][LD_ID_SIZE];
    enum ld_code code = LD_OK;
    LD_ASSERT(submit->cell_count <= LD_SWEEP_CELLS_MAX);
    for (uint32_t i = 0; code == LD_OK && i < submit->cell_count; i++)
        code = insert_row(store, submit, &submit->cells[i], cell_ids[i], err);
    if (code == LD_OK)
        code = insert_row(store, submit, &own, args->id, err);
    if (code == LD_OK)
        code = ld_store_cells_bind(store, args->id, cell_ids, submit->cell_count, err);
    for (uint32_t i = 0; code == LD_OK && i < submit->cell_count; i++)
        code = ld_store_emit_status(store, cell_ids[i], err);
    return code == LD_OK ? remember_key(store, args, err) : code;
}

/* An upload that jobs use stays as long as they do. */
static enum ld_code touch_upload(struct ld_store *store, const char *tenant, const char *sha256,
                                 struct ld_error *err)
{
    if (!sha256 || !*sha256)
        return LD_OK;
    struct ld_db_query *query = ld_store_use(store, SQL_UPLOAD_TOUCH, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, tenant);
    ld_db_bind_text(query, 2, sha256);
    ld_db_bind_int(query, 3, ld_clock_wall_us());
    return ld_store_step_once(query, err);
}

static enum ld_code run_submit(struct ld_store *store, void *pointer, struct ld_error *err)
{
    const struct submit_args *args = pointer;
    enum ld_code code = LD_OK;
    bool found = false;
    *args->replayed = false;
    if (*args->submit->idempotency_key && args->submit->key_use != LD_STORE_KEY_NOTE)
        code = look_up_key(store, args, &found, err);
    if (code != LD_OK || found)
        return code;
    const struct ld_store_submit *submit = args->submit;
    if ((code = check_quota(store, submit, err)) != LD_OK ||
        (code = spend(store, submit, err)) != LD_OK ||
        (code = insert_jobs(store, args, err)) != LD_OK ||
        (code = touch_upload(store, submit->tenant, submit->init_sha256, err)) != LD_OK ||
        (code = touch_upload(store, submit->tenant, submit->mask_sha256, err)) != LD_OK)
        return code;
    for (uint32_t i = 0; code == LD_OK && i < LD_CONTROLS_MAX; i++)
        code = touch_upload(store, submit->tenant, submit->control_sha256[i], err);
    if (code != LD_OK)
        return code;
    return ld_store_emit_status(store, args->id, err);
}

struct ld_store_submission {
    struct ld_store *store;
    struct ld_store_op op;
    struct submit_args args;
    char id[LD_ID_SIZE];
    bool replayed;
};

enum ld_code ld_store_submit_begin(struct ld_store_submission **out, struct ld_store *store,
                                   const struct ld_store_submit *submit, void (*told)(void *ctx),
                                   void *ctx, struct ld_error *err)
{
    LD_ASSERT(submit->priority >= 0 && submit->priority < 10);
    struct ld_store_submission *made = ld_heap_alloc(sizeof *made);
    *out = NULL;
    if (!made)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    made->store = store;
    made->args = (struct submit_args){submit, made->id, &made->replayed};
    made->op =
        (struct ld_store_op){.run = run_submit, .args = &made->args, .told = told, .ctx = ctx};
    const enum ld_code code = ld_store_begin(store, &made->op, err);
    if (code == LD_OK)
        *out = made;
    else
        ld_heap_free(made);
    return code;
}

bool ld_store_submit_is_known(const struct ld_store_submission *submission)
{
    return ld_store_is_done(submission->store, &submission->op);
}

enum ld_code ld_store_submit_end(struct ld_store_submission *submission, char id[LD_ID_SIZE],
                                 bool *replayed, struct ld_error *err)
{
    const enum ld_code code = ld_store_await(submission->store, &submission->op, err);
    memcpy(id, submission->id, LD_ID_SIZE);
    *replayed = submission->replayed;
    ld_heap_free(submission);
    return code;
}

enum ld_code ld_store_submit(struct ld_store *store, const struct ld_store_submit *submit,
                             char id[LD_ID_SIZE], bool *replayed, struct ld_error *err)
{
    struct ld_store_submission *submission;
    const enum ld_code code = ld_store_submit_begin(&submission, store, submit, NULL, NULL, err);
    return code == LD_OK ? ld_store_submit_end(submission, id, replayed, err) : code;
}
