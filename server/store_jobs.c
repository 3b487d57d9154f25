#include "server/store_internal.h"

#include "api/respond.h"
#include "config/limits.h"
#include "runtime/base/clock.h"

/* Texts of one transaction; a job document with 16 images and its request is below 200 KiB. */
enum { DOCUMENT_BYTES_MAX = 1 << 20 };

/* ---- Rows ------------------------------------------------------------------------------------ */

enum ld_code ld_store_row_get(struct ld_store *store, const char *tenant, const char *id,
                              struct ld_store_row *out, struct ld_error *err)
{
    bool row;
    struct ld_db_query *query = ld_store_use(store, SQL_JOB_STATUS, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, id);
    enum ld_code code = ld_db_step(query, &row, err);
    if (code == LD_OK && (!row || (tenant && strcmp(tenant, ld_db_text(query, 2)) != 0)))
        code = LD_FAIL(err, LD_E_NOT_FOUND, "there is no such job");
    if (code == LD_OK) {
        out->seq = ld_db_int(query, 0);
        out->status = (enum ld_job_status)ld_db_int(query, 1);
        out->tenant = ld_arena_strdup(&store->batch_arena, ld_db_text(query, 2));
        out->token = (uint64_t)ld_db_int(query, 3);
        out->attempt = ld_db_int(query, 4);
        out->keep_partial = ld_db_int(query, 5) != 0;
        out->priority = ld_db_int(query, 6);
        out->cost = ld_db_int(query, 7);
        out->work = ld_db_int(query, 8);
        out->created_us = ld_db_int(query, 9);
        if (!out->tenant)
            code = LD_FAIL(err, LD_E_NOMEM, "out of memory");
    }
    ld_db_done(query);
    return code;
}

enum ld_code ld_store_row_attempt(struct ld_store *store, const char *id, uint64_t token,
                                  struct ld_store_row *row, struct ld_error *err)
{
    const enum ld_code code = ld_store_row_get(store, NULL, id, row, err);
    if (code != LD_OK && code != LD_E_NOT_FOUND)
        return code;
    const bool running =
        code == LD_OK && (row->status == LD_JOB_RUNNING || row->status == LD_JOB_CANCELLING);
    if (!running || row->token != token || token == 0)
        return LD_FAIL(err, LD_E_LEASE_LOST, "the job's lease was lost");
    return LD_OK;
}

/* ---- Events of a change ---------------------------------------------------------------------- */

/* Moves the document into the batch arena. */
static enum ld_code emit_document(struct ld_store *store, int64_t seq,
                                  const struct ld_store_job *job, enum ld_event_kind kind,
                                  const struct ld_buffer *document, struct ld_error *err)
{
    const char *json = document->failed || !document->data
                           ? NULL
                           : ld_arena_strndup(&store->batch_arena, document->data, document->size);
    if (!json)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    return ld_store_emit(store, seq, job->view.id, job->tenant, kind, json, job->view.request_json,
                         err);
}

enum ld_code ld_store_emit_status(struct ld_store *store, const char *job_id, struct ld_error *err)
{
    struct ld_store_job job;
    int64_t seq;
    enum ld_code code = ld_store_load_by_id(store, store->writer, NULL, job_id, &store->batch_arena,
                                            &job, &seq, err);
    if (code != LD_OK)
        return code;
    struct ld_buffer out = ld_buffer_make(DOCUMENT_BYTES_MAX);
    ld_respond_event_status(job_id, job.view.status, job.view.position, &out);
    code = emit_document(store, seq, &job, LD_EVENT_STATUS, &out, err);
    if (code == LD_OK && ld_job_status_is_final(job.view.status)) {
        ld_buffer_clear(&out);
        ld_respond_job(&job.view, &out);
        code = emit_document(store, seq, &job, LD_EVENT_DONE, &out, err);
    }
    ld_buffer_deinit(&out);
    return code;
}

/* ---- Claim and lease ------------------------------------------------------------------------- */

struct claim_args {
    const struct ld_fair_worker *worker;
    struct ld_arena *arena;
    struct ld_store_job *job;
    bool *claimed;
};

static enum ld_code run_claim(struct ld_store *store, void *pointer, struct ld_error *err)
{
    const struct claim_args *args = pointer;
    char id[LD_ID_SIZE];
    struct ld_store_row row;
    enum ld_code code = ld_store_choose(store, args->worker, id, args->claimed, err);
    if (code != LD_OK || !*args->claimed)
        return code;
    if ((code = ld_store_row_get(store, NULL, id, &row, err)) != LD_OK ||
        (code = ld_store_share_claimed(store, row.tenant, row.cost, err)) != LD_OK)
        return code;
    struct ld_db_query *query = ld_store_use(store, SQL_JOB_CLAIM, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, id);
    ld_db_bind_int(query, 2, (int64_t)(ld_random_u64() | 1U)); /* 0 means: not running */
    ld_db_bind_int(query, 3, ld_clock_monotonic_us() + store->config.lease_us);
    ld_db_bind_int(query, 4, ld_clock_wall_us());
    int64_t seq;
    if ((code = ld_store_step_once(query, err)) != LD_OK ||
        (code = ld_store_emit_status(store, id, err)) != LD_OK ||
        (code = ld_store_load_by_id(store, store->writer, NULL, id, args->arena, args->job, &seq,
                                    err)) != LD_OK)
        return code;
    return ld_store_cell_changed(store, seq, err);
}

enum ld_code ld_store_job_claim(struct ld_store *store, const struct ld_fair_worker *worker,
                                struct ld_arena *arena, struct ld_store_job *job, bool *claimed,
                                struct ld_error *err)
{
    struct claim_args args = {worker, arena, job, claimed};
    *claimed = false;
    const enum ld_code code = ld_store_run_unflushed(store, LD_STORE_SOON, run_claim, &args, err);
    if (code != LD_OK)
        *claimed = false;
    return code;
}

struct lease_args {
    const uint64_t *tokens;
    uint32_t count;
};

static enum ld_code run_lease(struct ld_store *store, void *pointer, struct ld_error *err)
{
    const struct lease_args *args = pointer;
    const int64_t until_us = ld_clock_monotonic_us() + store->config.lease_us;
    enum ld_code code = LD_OK;
    for (uint32_t i = 0; i < args->count && code == LD_OK; i++) {
        struct ld_db_query *query = ld_store_use(store, SQL_LEASE_EXTEND, err);
        if (!query)
            return err->code;
        ld_db_bind_int(query, 1, (int64_t)args->tokens[i]);
        ld_db_bind_int(query, 2, until_us);
        code = ld_store_step_once(query, err);
    }
    return code;
}

enum ld_code ld_store_lease_extend(struct ld_store *store, const uint64_t *tokens, uint32_t count,
                                   struct ld_error *err)
{
    struct lease_args args = {tokens, count};
    return ld_store_run_unflushed(store, LD_STORE_LATER, run_lease, &args, err);
}

/* ---- Images and the end of an attempt -------------------------------------------------------- */

struct image_args {
    const char *id;
    uint64_t token;
    const struct ld_image_view *image;
};

static enum ld_code run_image(struct ld_store *store, void *pointer, struct ld_error *err)
{
    const struct image_args *args = pointer;
    const struct ld_image_view *image = args->image;
    struct ld_store_row row;
    enum ld_code code = ld_store_row_attempt(store, args->id, args->token, &row, err);
    if (code != LD_OK)
        return code;
    struct ld_db_query *query = ld_store_use(store, SQL_IMAGE_PUT, err);
    if (!query)
        return err->code;
    ld_db_bind_int(query, 1, row.seq);
    ld_db_bind_int(query, 2, image->index);
    ld_db_bind_text(query, 3, image->sha256);
    ld_db_bind_int(query, 4, (int64_t)image->bytes);
    ld_db_bind_int(query, 5, image->width);
    ld_db_bind_int(query, 6, image->height);
    ld_db_bind_int(query, 7, (int64_t)image->seed);
    ld_db_bind_int(query, 8, image->partial ? 1 : 0);
    ld_db_bind_text(query, 9, ld_picture_kind_name(image->kind));
    struct ld_store_job job;
    int64_t seq;
    if ((code = ld_store_step_once(query, err)) != LD_OK ||
        (code = ld_store_load_by_id(store, store->writer, NULL, args->id, &store->batch_arena, &job,
                                    &seq, err)) != LD_OK)
        return code;
    struct ld_buffer out = ld_buffer_make(4096);
    ld_respond_event_image(args->id, image, &out);
    code = emit_document(store, seq, &job, LD_EVENT_IMAGE, &out, err);
    ld_buffer_deinit(&out);
    return code;
}

enum ld_code ld_store_image_add(struct ld_store *store, const char *id, uint64_t token,
                                const struct ld_image_view *image, struct ld_error *err)
{
    struct image_args args = {id, token, image};
    return ld_store_run_unflushed(store, LD_STORE_LATER, run_image, &args, err);
}

static int64_t microseconds(double milliseconds)
{
    return milliseconds < 0 ? -1 : (int64_t)(milliseconds * 1000.0 + 0.5);
}

/* A sweep whose sheet is there ends as its worst cell. */
static enum ld_code judge_sweep(struct ld_store *store, struct ld_store_finish *finish,
                                struct ld_error *err)
{
    struct ld_store_job job;
    struct ld_store_verdict verdict;
    int64_t seq;
    enum ld_code code = ld_store_load_by_id(store, store->writer, NULL, finish->id,
                                            &store->batch_arena, &job, &seq, err);
    if (code != LD_OK || job.view.cell_count == 0)
        return code;
    if ((code = ld_store_cells_judge(store, &job.view, &verdict, err)) != LD_OK)
        return code;
    finish->status = verdict.status;
    finish->error_code = verdict.error_code;
    finish->error_detail = verdict.error_detail;
    return LD_OK;
}

static void bind_finish(struct ld_db_query *query, const struct ld_store_finish *finish)
{
    const enum ld_job_status status = finish->status;
    const bool failed = status == LD_JOB_FAILED;
    ld_db_bind_text(query, 1, finish->id);
    ld_db_bind_int(query, 2, (int64_t)status);
    ld_db_bind_int(query, 3, ld_clock_wall_us());
    ld_db_bind_text(query, 4, failed ? finish->error_code : "");
    ld_db_bind_text(query, 5, failed ? finish->error_detail : "");
    ld_db_bind_int(query, 6, microseconds(finish->timings.text_ms));
    ld_db_bind_int(query, 7, microseconds(finish->timings.sample_ms));
    ld_db_bind_int(query, 8, microseconds(finish->timings.decode_ms));
    ld_db_bind_int(query, 9, microseconds(finish->timings.encode_ms));
    ld_db_bind_int(query, 10, (int64_t)finish->unet_rows);
    ld_db_bind_int(query, 11, (int64_t)finish->unet_rows_saved);
    ld_db_bind_text(query, 12, finish->adapters_json);
    ld_db_bind_text(query, 13, finish->warnings_json);
    ld_db_bind_text(query, 14, finish->resolved_json);
    ld_db_bind_text(query, 15, finish->numerics_json);
    ld_db_bind_int(query, 16, (int64_t)finish->repainted);
}

struct finish_args {
    const struct ld_store_finish *finish;
    struct ld_arena *arena;
    struct ld_store_freed *freed;
};

static int64_t compute_us(const struct ld_timings_view *timings)
{
    const double parts[] = {timings->text_ms, timings->sample_ms, timings->decode_ms,
                            timings->encode_ms};
    double sum = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        sum += parts[i] > 0 ? parts[i] : 0;
    return (int64_t)(sum * 1000.0);
}

/* What its key has used, and has not. */
static enum ld_code settle(struct ld_store *store, const struct ld_store_finish *finish,
                           const struct ld_store_row *row, struct ld_error *err)
{
    bool found;
    struct ld_store_usage more = {.compute_us = compute_us(&finish->timings)};
    const double done = finish->status != LD_JOB_CANCELLED       ? 1
                        : finish->done >= 0 && finish->done <= 1 ? finish->done
                                                                 : 1;
    enum ld_code code = ld_store_share_ended(store, row->tenant, row->cost, 1 - done, err);
    if (code != LD_OK)
        return code;
    struct ld_db_query *query = ld_store_use(store, SQL_IMAGES_OF_JOB, err);
    if (!query)
        return err->code;
    ld_db_bind_int(query, 1, row->seq);
    while ((code = ld_db_step(query, &found, err)) == LD_OK && found)
        more.images++;
    ld_db_done(query);
    if (finish->status != LD_JOB_FAILED)
        ld_store_rate_note(store, finish->claimed_us, (int64_t)((double)row->cost * done));
    return code == LD_OK ? ld_store_usage_add(store, row->tenant, row->created_us, &more, err)
                         : code;
}

static enum ld_code run_finish(struct ld_store *store, void *pointer, struct ld_error *err)
{
    const struct finish_args *args = pointer;
    const struct ld_store_finish *finish = args->finish;
    struct ld_store_row row;
    enum ld_code code = ld_store_row_attempt(store, finish->id, finish->token, &row, err);
    if (code != LD_OK)
        return code;
    const enum ld_job_status status =
        row.status == LD_JOB_CANCELLING ? LD_JOB_CANCELLED : finish->status;
    struct ld_store_finish judged = *finish;
    judged.status = status;
    if (status == LD_JOB_SUCCEEDED && (code = judge_sweep(store, &judged, err)) != LD_OK)
        return code;
    if (status == LD_JOB_CANCELLED && !row.keep_partial &&
        (code = ld_store_images_drop(store, row.seq, args->arena, args->freed, err)) != LD_OK)
        return code;
    struct ld_db_query *query = ld_store_use(store, SQL_JOB_FINISH, err);
    if (!query)
        return err->code;
    bind_finish(query, &judged);
    if ((code = ld_store_step_once(query, err)) != LD_OK ||
        (code = settle(store, &judged, &row, err)) != LD_OK ||
        (code = ld_store_emit_status(store, finish->id, err)) != LD_OK)
        return code;
    return ld_store_cell_changed(store, row.seq, err);
}

enum ld_code ld_store_job_finish(struct ld_store *store, const struct ld_store_finish *finish,
                                 struct ld_arena *arena, struct ld_store_freed *freed,
                                 struct ld_error *err)
{
    struct finish_args args = {finish, arena, freed};
    memset(freed, 0, sizeof *freed);
    return ld_store_run(store, run_finish, &args, err);
}

/* ---- Requeue and cancel ---------------------------------------------------------------------- */

struct requeue_args {
    const char *id;
    uint64_t token;
    bool suspect; /* it runs alone from now on */
    bool counts;  /* as an attempt */
};

static enum ld_code requeue(struct ld_store *store, const char *id, const struct ld_store_row *row,
                            const struct requeue_args *how, struct ld_error *err)
{
    if (row->status == LD_JOB_CANCELLING ||
        (how->counts && row->attempt >= (int64_t)store->config.attempts_max)) {
        const struct ld_store_finish finish = {
            .id = id,
            .token = row->token,
            .status = row->status == LD_JOB_CANCELLING ? LD_JOB_CANCELLED : LD_JOB_FAILED,
            .error_code = "attempts_exhausted",
            .error_detail = "the job was started too often without an end",
            .timings = {-1, -1, -1, -1, -1, -1},
            .adapters_json = "",
            .warnings_json = "",
            .resolved_json = "",
            .numerics_json = "",
        };
        struct ld_store_freed freed = {0};
        struct finish_args args = {&finish, &store->batch_arena, &freed};
        return run_finish(store, &args, err);
    }
    struct ld_db_query *query = ld_store_use(store, SQL_JOB_REQUEUE, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, id);
    ld_db_bind_int(query, 2, how->counts ? row->attempt : row->attempt - 1);
    ld_db_bind_int(query, 3, how->suspect ? 1 : 0);
    enum ld_code code = ld_store_step_once(query, err);
    if (code == LD_OK)
        code = ld_store_share_ended(store, row->tenant, row->cost, 1, err);
    if (code == LD_OK)
        code = ld_store_share_join(store, row->tenant, row->cost, err);
    return code == LD_OK ? ld_store_emit_status(store, id, err) : code;
}

static enum ld_code run_requeue(struct ld_store *store, void *pointer, struct ld_error *err)
{
    const struct requeue_args *args = pointer;
    struct ld_store_row row;
    const enum ld_code code = ld_store_row_attempt(store, args->id, args->token, &row, err);
    return code == LD_OK ? requeue(store, args->id, &row, args, err) : code;
}

enum ld_code ld_store_job_requeue(struct ld_store *store, const char *id, uint64_t token,
                                  bool suspect, bool counts, struct ld_error *err)
{
    struct requeue_args args = {id, token, suspect, counts};
    return ld_store_run(store, run_requeue, &args, err);
}

static enum ld_code list_running(struct ld_store *store, struct requeue_args **jobs,
                                 uint32_t *count, struct ld_error *err)
{
    enum { RUNNING_MAX = 4096 }; /* far above workers times jobs of a worker */
    bool row;
    enum ld_code code;
    struct ld_db_query *query = ld_store_use(store, SQL_RECOVER_LIST, err);
    *count = 0;
    *jobs = ld_arena_calloc(&store->batch_arena, RUNNING_MAX, sizeof **jobs);
    if (!query)
        return err->code;
    if (!*jobs)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    while ((code = ld_db_step(query, &row, err)) == LD_OK && row && *count < RUNNING_MAX) {
        struct requeue_args *job = &(*jobs)[(*count)++];
        job->id = ld_arena_strdup(&store->batch_arena, ld_db_text(query, 0));
        job->token = (uint64_t)ld_db_int(query, 1);
        /* The end of a server is nobody's fault. That of its machine may be: of one that was
         * suspect, and so alone, it counts. */
        const bool suspect = ld_db_int(query, 2) != 0;
        job->suspect = suspect || store->machine_died;
        job->counts = suspect && store->machine_died;
        if (!job->id) {
            code = LD_FAIL(err, LD_E_NOMEM, "out of memory");
            break;
        }
    }
    ld_db_done(query);
    return code;
}

static enum ld_code run_recover(struct ld_store *store, void *pointer, struct ld_error *err)
{
    struct requeue_args *jobs;
    uint32_t count;
    struct ld_store_pending *last = store->pending_last;
    (void)pointer;
    enum ld_code code = list_running(store, &jobs, &count, err);
    for (uint32_t i = 0; i < count && code == LD_OK; i++)
        code = run_requeue(store, &jobs[i], err);
    if (code == LD_OK)
        code = ld_store_shares_recount(store, err);
    if (last) /* nobody listens yet */
        last->next = NULL;
    else
        store->pending_first = NULL;
    store->pending_last = last;
    return code;
}

enum ld_code ld_store_recover(struct ld_store *store, struct ld_error *err)
{
    enum ld_code code = ld_db_exec(store->writer, "BEGIN IMMEDIATE", err);
    if (code == LD_OK)
        code = run_recover(store, NULL, err);
    if (code == LD_OK)
        code = ld_db_exec(store->writer, "COMMIT", err);
    ld_arena_reset(&store->batch_arena);
    return code;
}

enum ld_code ld_store_requeue_running(struct ld_store *store, struct ld_error *err)
{
    return ld_store_run(store, run_recover, NULL, err);
}
