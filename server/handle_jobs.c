#include "server/handlers.h"

#include "api/respond.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "server/submit.h"

enum { LIST_DEFAULT = 20, LIST_MAX = 100, KEY_BYTES_MAX = 255 };

/* ---- POST /v1/jobs --------------------------------------------------------------------------- */

struct submitted {
    bool wants_picture, leaves; /* with its client */
    int64_t seconds;            /* of waiting */
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
    if (submitted->wants_picture)
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

static bool is_cancelled_by_leaving(const struct ld_request *request, int64_t seconds)
{
    return request->cancel_on_disconnect == LD_UNSET ? seconds > 0
                                                     : request->cancel_on_disconnect == LD_TRUE;
}

static enum ld_handled wait_or_reply(struct ld_exchange *ex, const char *id, bool replayed,
                                     void *ctx)
{
    const struct submitted *submitted = ctx;
    if (submitted->seconds > 0)
        ld_exchange_set_header(ex, "Preference-Applied", "wait");
    const struct ld_wait_options options = {
        .job_id = id,
        .seconds = submitted->seconds,
        .cancel_on_leave = submitted->leaves,
        /* Who does not wait is told that his job was taken, however quickly it ended. */
        .ended = submitted->seconds > 0 || replayed ? reply_ended : reply_queued,
        .timed_out = reply_queued,
        .ctx = ctx,
        .ctx_free = ld_heap_free,
    };
    return ld_front_wait(ex, &options);
}

/* The format of a picture that the client takes as the answer, of those that are written here;
 * NULL: it takes none, and is told of the job. */
static const char *accepted_format(const struct ld_exchange *ex)
{
    static const enum ld_picture_kind kinds[] = {LD_PICTURE_PNG, LD_PICTURE_WEBP, LD_PICTURE_JPEG};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (ld_picture_kind_built(kinds[i]) &&
            ld_exchange_accepts(ex, ld_picture_kind_type(kinds[i]), false))
            return ld_picture_kind_name(kinds[i]);
    return NULL;
}

static enum ld_handled submit(struct ld_exchange *ex, const char *key)
{
    const char *wanted = accepted_format(ex);
    struct ld_intake *intake = ld_intake_open(ex);
    if (intake)
        intake->format = wanted;
    struct submitted *submitted = ld_heap_alloc(sizeof *submitted);
    enum ld_handled handled = LD_HANDLED;
    if (!intake || !submitted) {
        handled = ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    } else if (!ld_front_accept(ex, intake, ex->body)) {
        handled = ld_exchange_problem(ex, &intake->native.problem);
    } else {
        submitted->wants_picture = wanted != NULL;
        submitted->seconds = ld_front_wait_seconds(ex, wanted ? ex->front->settings->wait_s : 0);
        submitted->leaves = is_cancelled_by_leaving(&intake->native.request, submitted->seconds);
        const struct ld_submit_options options = {
            .intake = intake,
            .key = key,
            .body = ex->body,
            .stays = !submitted->leaves,
            .queued = wait_or_reply,
            .ctx = submitted,
            .ctx_free = ld_heap_free,
        };
        return ld_front_submit(ex, &options);
    }
    ld_heap_free(submitted);
    ld_intake_close(intake);
    return handled;
}

enum ld_handled ld_handle_job_post(struct ld_exchange *ex)
{
    if (ld_front_is_parked(ex))
        return ld_front_again(ex);
    if (atomic_load(&ex->front->draining))
        return ld_exchange_refuse(ex, LD_E_DRAINING, 0, "the server is shutting down");
    const char *key = ld_exchange_header(ex, "Idempotency-Key");
    if (key && !key_is_plausible(key))
        return ld_exchange_refuse(ex, LD_E_INVALID, 400,
                                  "Idempotency-Key must have 1 to 255 printable characters");
    if (ld_front_wait_seconds(ex, 0) < 0)
        return ld_exchange_refuse(ex, LD_E_INVALID, 0, "wait must be a number of seconds");
    return submit(ex, key ? key : "");
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
