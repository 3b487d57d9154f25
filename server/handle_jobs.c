#include "server/handlers.h"

#include "api/respond.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "server/front.h"

enum {
    LIST_DEFAULT = 20,
    LIST_MAX = 100,
    KEY_BYTES_MAX = 255,
    PATIENCE_US = 60 * 1000 * 1000 /* of a parked submit; then it looks and parks again */
};

/* ---- POST /v1/jobs --------------------------------------------------------------------------- */

struct submitted {
    char id[LD_ID_SIZE];
    bool replayed, wants_png;
};

static enum ld_handled reply_queued(struct ld_exchange *ex, const struct ld_job_view *job,
                                    void *ctx)
{
    (void)ctx;
    struct ld_buffer location = ld_buffer_make(128);
    ld_buffer_format(&location, "/v1/jobs/%s", job->id);
    ld_exchange_set_header(ex, "Location",
                           location.data ? ld_arena_strdup(&ex->arena, location.data) : NULL);
    ld_buffer_deinit(&location);
    ld_respond_job(job, &ex->reply.body);
    return ld_exchange_json(ex, 202);
}

static enum ld_handled reply_picture(struct ld_exchange *ex, const struct ld_job_view *job)
{
    if (job->status == LD_JOB_FAILED) {
        ld_problem_write_job_error(job->error_code, job->error_detail, ex->path, &ex->reply.body);
        ex->reply.status = ld_job_error_status(job->error_code);
        ex->reply.content_type = "application/problem+json";
        if (ex->reply.status == 503)
            ld_exchange_set_header(ex, "Retry-After", "10");
        return LD_HANDLED;
    }
    if (job->status == LD_JOB_EXPIRED)
        return ld_exchange_refuse(ex, LD_E_NOT_FOUND, 410, "the job has expired");
    if (job->image_count == 0)
        return ld_exchange_refuse(ex, LD_E_CANCELLED, 0, "the job was cancelled");
    return ld_front_reply_image(ex, job, &job->images[0]);
}

static enum ld_handled reply_ended(struct ld_exchange *ex, const struct ld_job_view *job, void *ctx)
{
    const struct submitted *submitted = ctx;
    if (submitted->wants_png)
        return reply_picture(ex, job);
    if (job->status == LD_JOB_EXPIRED)
        return ld_exchange_refuse(ex, LD_E_NOT_FOUND, 410, "the job has expired");
    ld_respond_job(job, &ex->reply.body);
    return ld_exchange_json(ex, 200);
}

static bool key_is_plausible(const char *key)
{
    const size_t size = strlen(key);
    if (size == 0 || size > KEY_BYTES_MAX)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (key[i] < 0x20 || key[i] > 0x7E)
            return false;
    }
    return true;
}

static enum ld_handled refuse_submit(struct ld_exchange *ex, const struct ld_error *err,
                                     bool replayed)
{
    struct ld_problem problem;
    ld_problem_init(&problem, &ex->arena);
    (void)ld_problem_add_error(&problem, NULL, err);
    problem.retry_after_s = ld_front_retry_after(ex, err->code);
    if (err->code == LD_E_CONFLICT)
        problem.status = 422; /* the key came with another body */
    else if (err->code == LD_E_NOT_FOUND && replayed)
        problem.status = 410;
    return ld_exchange_problem(ex, &problem);
}

/*
 * A submit waits parked for its flush: a thread that waited for it itself would let all its other
 * connections wait too, and a flush would carry no more submits than there are threads.
 */
struct submitting {
    struct ld_exchange *ex;
    struct ld_intake intake;
    struct submitted *submitted;
};

static void free_submitting(struct submitting *s)
{
    ld_intake_deinit(&s->intake);
    ld_heap_free(s->submitted);
    ld_heap_free(s);
}

static bool is_cancelled_by_leaving(const struct ld_request *request, int64_t seconds)
{
    return request->cancel_on_disconnect == LD_UNSET ? seconds > 0
                                                     : request->cancel_on_disconnect == LD_TRUE;
}

static int64_t seconds_to_wait(struct ld_exchange *ex, const struct submitted *submitted)
{
    return ld_front_wait_seconds(ex, submitted->wants_png ? ex->front->settings->wait_s : 0);
}

/* The client left before it could be told: the job is in the queue or it is not. */
static void abandon_submit(void *state)
{
    struct submitting *s = state;
    struct ld_exchange *ex = s->ex;
    struct ld_error err;
    enum ld_job_status status;
    const enum ld_code code =
        ld_intake_submit_end(&s->intake, s->submitted->id, &s->submitted->replayed, &err);
    if (code == LD_OK && !s->submitted->replayed &&
        is_cancelled_by_leaving(&s->intake.native.request, seconds_to_wait(ex, s->submitted)) &&
        ld_front_cancel(ex->front, ex->tenant, s->submitted->id, false, &status, &err) != LD_OK)
        ld_log_error(LD_LOG_WARN, "http", "a job without a caller was not cancelled", &err);
    free_submitting(s);
}

static void wake(void *ctx)
{
    ld_exchange_wake(ctx);
}

static struct ld_wait_options wait_options(struct ld_exchange *ex, struct submitted *submitted,
                                           const struct ld_request *request)
{
    const int64_t seconds = seconds_to_wait(ex, submitted);
    if (submitted->replayed)
        ld_exchange_set_header(ex, "Idempotent-Replayed", "true");
    if (seconds > 0)
        ld_exchange_set_header(ex, "Preference-Applied", "wait");
    return (struct ld_wait_options){
        .job_id = submitted->id,
        .seconds = seconds,
        .cancel_on_leave = is_cancelled_by_leaving(request, seconds),
        /* Who does not wait is told that his job was taken, however quickly it ended. */
        .ended = seconds > 0 || submitted->replayed ? reply_ended : reply_queued,
        .timed_out = reply_queued,
        .ctx = submitted,
        .ctx_free = ld_heap_free,
    };
}

static enum ld_handled end_submit(struct ld_exchange *ex)
{
    struct ld_error err = {0};
    struct submitting *s = ex->state;
    struct submitted *submitted = s->submitted;
    if (!ex->stopping && !ld_intake_submit_is_known(&s->intake)) {
        ex->park_until_us = ld_clock_monotonic_us() + PATIENCE_US;
        return LD_PARKED;
    }
    ex->state = NULL;
    ex->state_free = NULL;
    const enum ld_code code =
        ld_intake_submit_end(&s->intake, submitted->id, &submitted->replayed, &err);
    s->submitted = NULL; /* the wait's */
    const struct ld_wait_options options =
        code == LD_OK ? wait_options(ex, submitted, &s->intake.native.request)
                      : (struct ld_wait_options){0};
    free_submitting(s);
    if (code == LD_OK)
        return ld_front_wait(ex, &options);
    const bool replayed = submitted->replayed;
    ld_heap_free(submitted);
    return refuse_submit(ex, &err, replayed);
}

static enum ld_handled begin_submit(struct ld_exchange *ex, const char *key)
{
    struct ld_error err = {0};
    struct submitting *s = ld_heap_alloc(sizeof *s);
    struct submitted *submitted = ld_heap_alloc(sizeof *submitted);
    if (!s || !submitted) {
        ld_heap_free(s);
        ld_heap_free(submitted);
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    }
    s->ex = ex;
    s->submitted = submitted;
    submitted->wants_png = ld_exchange_accepts(ex, "image/png", false);
    ld_intake_init(&s->intake, ex);
    if (!ld_intake_accept(&s->intake, ex->tenant, ex->body)) {
        const enum ld_handled handled = ld_exchange_problem(ex, &s->intake.native.problem);
        free_submitting(s);
        return handled;
    }
    if (ld_intake_submit_begin(&s->intake, ex->tenant, key, ex->body, wake, ex, &err) != LD_OK) {
        free_submitting(s);
        return refuse_submit(ex, &err, false);
    }
    ex->state = s;
    ex->state_free = abandon_submit;
    return end_submit(ex);
}

enum ld_handled ld_handle_job_post(struct ld_exchange *ex)
{
    if (ld_front_is_waiting(ex))
        return ld_front_wait_again(ex);
    if (ex->state)
        return end_submit(ex);
    if (atomic_load(&ex->front->draining))
        return ld_exchange_refuse(ex, LD_E_DRAINING, 0, "the server is shutting down");
    const char *key = ld_exchange_header(ex, "Idempotency-Key");
    if (key && !key_is_plausible(key))
        return ld_exchange_refuse(ex, LD_E_INVALID, 400,
                                  "Idempotency-Key must have 1 to 255 printable characters");
    if (ld_front_wait_seconds(ex, 0) < 0)
        return ld_exchange_refuse(ex, LD_E_INVALID, 0, "wait must be a number of seconds");
    return begin_submit(ex, key ? key : "");
}

/* ---- Looking at jobs ------------------------------------------------------------------------- */

/* False after a refusal. */
static bool read_list_query(struct ld_exchange *ex, struct ld_store_list *query)
{
    const char *status = ld_exchange_query(ex, "status");
    const char *limit = ld_exchange_query(ex, "limit");
    const char *cursor = ld_exchange_query(ex, "cursor");
    enum ld_job_status wanted;
    int64_t count = LIST_DEFAULT;
    query->tenant = ex->tenant;
    query->status = -1;
    query->cursor = cursor ? cursor : "";
    if (status && *status) {
        if (!ld_job_status_find(status, &wanted)) {
            (void)ld_exchange_refuse(ex, LD_E_INVALID, 0,
                                     "status must be queued, running, succeeded, failed, "
                                     "cancelling, cancelled or expired");
            return false;
        }
        query->status = (int)wanted;
    }
    if (limit && (!ld_parse_i64(ld_span_text(limit), &count) || count < 1 || count > LIST_MAX)) {
        (void)ld_exchange_refuse(ex, LD_E_RANGE, 0, "limit must be between 1 and 100");
        return false;
    }
    query->limit = (uint32_t)count;
    return true;
}

enum ld_handled ld_handle_job_list(struct ld_exchange *ex)
{
    struct ld_store_list query;
    struct ld_store_job *jobs;
    struct ld_error err = {0};
    uint32_t count;
    char next[LD_STORE_CURSOR_SIZE];
    struct ld_arena arena;
    if (!read_list_query(ex, &query))
        return LD_HANDLED;
    /* 100 jobs with prompts of 16 KiB do not fit a request's own arena. */
    ld_arena_init(&arena, "job list", 32 << 20);
    if (ld_store_job_list(ex->front->store, &query, &arena, &jobs, &count, next, &err) != LD_OK) {
        ld_arena_deinit(&arena);
        return ld_exchange_fail(ex, &err);
    }
    struct ld_job_view *views = ld_arena_calloc(&arena, count ? count : 1, sizeof *views);
    char(*phases)[32] = ld_arena_calloc(&arena, count ? count : 1, sizeof *phases);
    if (!views || !phases) {
        ld_arena_deinit(&arena);
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    }
    for (uint32_t i = 0; i < count; i++) {
        views[i] = jobs[i].view;
        if (!ld_job_status_is_final(views[i].status))
            ld_front_enliven(ex->front, &views[i], phases[i]);
    }
    ld_respond_jobs(views, count, next, &ex->reply.body);
    ld_arena_deinit(&arena);
    ld_exchange_set_header(ex, "Cache-Control", "no-store");
    return ld_exchange_json(ex, 200);
}

enum ld_handled ld_handle_job_get(struct ld_exchange *ex)
{
    return ld_front_reply_job(ex, ex->params[0], 200);
}

/* ---- Ending jobs ----------------------------------------------------------------------------- */

/* {"keep_partial": bool} or nothing. False after a refusal. */
static bool read_cancel(struct ld_exchange *ex, bool *keep_partial)
{
    struct ld_json_tree tree;
    struct ld_error err = {0};
    *keep_partial = false;
    if (ex->body.size == 0)
        return true;
    if (ld_json_scan(&tree, ex->body, LD_JSON_DEPTH, LD_JSON_VALUES, &ex->arena, &err) != LD_OK) {
        (void)ld_exchange_fail(ex, &err);
        return false;
    }
    const struct ld_json_node *root = ld_json_root(&tree);
    const struct ld_json_node *keep =
        root->kind == LD_JSON_OBJECT_BEGIN ? ld_json_member(&tree, root, "keep_partial") : NULL;
    if (root->kind != LD_JSON_OBJECT_BEGIN || root->child_count != (keep ? 1U : 0U)) {
        (void)ld_exchange_refuse(ex, LD_E_INVALID, 0, "the only field here is keep_partial");
        return false;
    }
    if (keep && keep->kind != LD_JSON_TRUE && keep->kind != LD_JSON_FALSE) {
        (void)LD_FAIL(&err, LD_E_INVALID, "keep_partial must be true or false");
        (void)ld_error_at(&err, "/keep_partial");
        (void)ld_exchange_fail(ex, &err);
        return false;
    }
    *keep_partial = keep && keep->kind == LD_JSON_TRUE;
    return true;
}

enum ld_handled ld_handle_job_cancel(struct ld_exchange *ex)
{
    enum ld_job_status status;
    struct ld_error err = {0};
    bool keep_partial;
    if (!read_cancel(ex, &keep_partial))
        return LD_HANDLED;
    if (ld_front_cancel(ex->front, ex->tenant, ex->params[0], keep_partial, &status, &err) != LD_OK)
        return ld_exchange_fail(ex, &err);
    return ld_front_reply_job(ex, ex->params[0], status == LD_JOB_CANCELLING ? 202 : 200);
}

enum ld_handled ld_handle_job_delete(struct ld_exchange *ex)
{
    struct ld_store_freed freed;
    struct ld_error err = {0};
    struct ld_store_job job;
    if (ld_store_job_get(ex->front->store, ex->tenant, ex->params[0], &ex->arena, &job, &err) !=
            LD_OK ||
        ld_store_job_delete(ex->front->store, ex->tenant, ex->params[0], &ex->arena, &freed,
                            &err) != LD_OK)
        return ld_exchange_fail(ex, &err);
    ld_supervisor_cancel(ex->front->supervisor, ex->params[0], false);
    for (uint32_t i = 0; i < job.view.cell_count; i++)
        if (!ld_job_status_is_final(job.view.cells[i].status))
            ld_supervisor_cancel(ex->front->supervisor, job.view.cells[i].id, false);
    ld_supervisor_wake(ex->front->supervisor); /* it may have been a sweep's last cell */
    ld_front_drop_blobs(ex->front, &freed);
    return ld_exchange_empty(ex, 204);
}
