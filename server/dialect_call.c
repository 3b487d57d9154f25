#include "server/dialect_call.h"

#include "config/limits.h"
#include "runtime/base/json_find.h"
#include "server/names_list.h"
#include "server/submit.h"

#include <strings.h>

enum { KEY_BYTES_MAX = 255, IDENTITY_BYTES_MAX = LD_JSON_IMAGE_BODY_BYTES_MAX };

/* ---- Bodies ---------------------------------------------------------------------------------- */

bool ld_dialect_body(struct ld_exchange *ex, struct ld_json_tree *tree, uint32_t values_max)
{
    struct ld_error err = {0};
    const struct ld_span body = ex->body.size > 0 ? ex->body : ld_span_text("{}");
    if (ld_json_scan_wide(tree, body, LD_JSON_DEPTH, values_max, &ex->arena, &err) != LD_OK) {
        (void)ld_exchange_fail(ex, &err);
        return false;
    }
    if (ld_json_root(tree)->kind != LD_JSON_OBJECT_BEGIN) {
        (void)ld_exchange_refuse(ex, LD_E_INVALID, 0, "the body must be a JSON object");
        return false;
    }
    return true;
}

/* ---- Results --------------------------------------------------------------------------------- */

enum ld_code ld_dialect_picture(struct ld_front *front, const struct ld_image_view *image,
                                struct ld_buffer *png, struct ld_error *err)
{
    *png = ld_buffer_make(LD_FRAME_BYTES_MAX);
    return ld_blob_read(front->blobs, image->sha256, png, err);
}

enum ld_handled ld_dialect_reply_failed(struct ld_exchange *ex, const struct ld_job_view *job)
{
    struct ld_problem problem;
    ld_problem_init(&problem, &ex->arena);
    if (job->status == LD_JOB_FAILED) {
        (void)ld_problem_add(&problem, LD_E_BUG, "", "%s",
                             job->error_detail && *job->error_detail ? job->error_detail
                                                                     : "the job failed");
        problem.status = ld_job_error_status(job->error_code);
        problem.name = job->error_code;
    } else if (job->status == LD_JOB_EXPIRED) {
        (void)ld_problem_add(&problem, LD_E_NOT_FOUND, "", "the job has expired");
        problem.status = 410;
    } else {
        (void)ld_problem_add(&problem, LD_E_CANCELLED, "", "the job was cancelled");
    }
    return ld_exchange_problem(ex, &problem);
}

const char *ld_dialect_sampler_label(struct ld_arena *arena, const char *name)
{
    uint32_t count;
    const struct ld_sampler_view *views = ld_names_samplers(arena, &count);
    for (uint32_t i = 0; views && i < count; i++)
        if (strcmp(views[i].name, name) == 0)
            return views[i].label;
    return name;
}

/* ---- The call -------------------------------------------------------------------------------- */

struct waiting_call {
    const struct ld_dialect_call *call;
    void *ctx;
    void (*ctx_free)(void *ctx);
};

static void free_call(void *pointer)
{
    struct waiting_call *waiting = pointer;
    if (waiting->ctx_free)
        waiting->ctx_free(waiting->ctx);
    ld_heap_free(waiting);
}

static enum ld_handled reply_ended(struct ld_exchange *ex, const struct ld_job_view *job, void *ctx)
{
    const struct waiting_call *waiting = ctx;
    const bool empty_is_fine = job->status == LD_JOB_CANCELLED && waiting->call->cancelled_is_empty;
    if (job->status == LD_JOB_SUCCEEDED || job->image_count > 0 || empty_is_fine)
        return waiting->call->reply(ex, job, waiting->ctx);
    return ld_dialect_reply_failed(ex, job);
}

static enum ld_handled reply_late(struct ld_exchange *ex, const struct ld_job_view *job, void *ctx)
{
    char sentence[160];
    (void)ctx;
    (void)ld_fmt(sentence, sizeof sentence,
                 "the job took longer than this call may wait; it is still here as /v1/jobs/%s",
                 job->id);
    return ld_exchange_refuse(ex, LD_E_TIMEOUT, ex->stopping ? 503 : 504, sentence);
}

/*
 * What makes two calls the same: their translation and their pictures. Not their bytes, as a form
 * has another boundary each time it is sent.
 */
static void write_identity(const struct ld_exchange *ex, const struct ld_intake *intake,
                           struct ld_span body, struct ld_buffer *out)
{
    ld_buffer_bytes(out, body.data, body.size);
    ld_buffer_format(out, "\n%s\n%s\n%s", ex->path, intake->init_sha256, intake->mask_sha256);
    for (uint32_t i = 0; i < LD_CONTROLS_MAX; i++)
        if (intake->control_sha256[i][0])
            ld_buffer_format(out, "\n%u %s", i, intake->control_sha256[i]);
}

/*
 * The caller's own key, or, of SDKs that send a call again without one but count their tries
 * (X-Stainless-Retry-Count), a key made of what is asked for: so a call whose answer was lost on
 * the way is not painted twice.
 */
static void choose_key(struct ld_exchange *ex, struct ld_intake *intake,
                       const struct ld_buffer *whole, char key[KEY_BYTES_MAX + 1])
{
    const char *own = ld_exchange_header(ex, "Idempotency-Key");
    const char *count = ld_exchange_header(ex, "X-Stainless-Retry-Count");
    char sha256[LD_SHA256_HEX_SIZE];
    int64_t tries;
    if (own && *own && ld_fmt(key, KEY_BYTES_MAX + 1, "%s", own))
        return;
    key[0] = '\0';
    if (!count || !ld_parse_i64(ld_span_text(count), &tries) || whole->failed)
        return;
    ld_sha256_hex(ld_span_of(whole->data, whole->size), sha256);
    if (ld_fmt(key, KEY_BYTES_MAX + 1, "tries of %s", sha256))
        intake->key_use = tries > 0 ? LD_STORE_KEY_RETRY : LD_STORE_KEY_NOTE;
}

/* It is in the queue. */
static enum ld_handled follow(struct ld_exchange *ex, const char *id, bool replayed, void *ctx)
{
    struct waiting_call *waiting = ctx;
    (void)replayed;
    if (waiting->call->queued) {
        const struct waiting_call taken = *waiting;
        ld_heap_free(waiting);
        return taken.call->queued(ex, id, taken.ctx);
    }
    const struct ld_wait_options options = {
        .job_id = id,
        .seconds = LD_DIALECT_WAIT_S_MAX,
        .cancel_on_leave = true,
        .ended = reply_ended,
        .timed_out = reply_late,
        .ctx = waiting,
        .ctx_free = free_call,
    };
    return ld_front_wait(ex, &options);
}

/* Takes both, as ld_front_submit. */
static enum ld_handled submit(struct ld_exchange *ex, struct ld_intake *intake,
                              struct waiting_call *waiting, struct ld_span body)
{
    char key[KEY_BYTES_MAX + 1] = "";
    struct ld_buffer whole = ld_buffer_make(IDENTITY_BYTES_MAX);
    write_identity(ex, intake, body, &whole);
    choose_key(ex, intake, &whole, key);
    const struct ld_submit_options options = {
        .intake = intake,
        .key = key,
        .body = ld_span_of(whole.data, whole.size),
        .stays = waiting->call->outlives_caller,
        .queued = follow,
        .ctx = waiting,
        .ctx_free = free_call,
    };
    const enum ld_handled handled = ld_front_submit(ex, &options);
    ld_buffer_deinit(&whole);
    return handled;
}

/* Translate, check, store the pictures, queue. */
static enum ld_handled translate(struct ld_exchange *ex, struct ld_intake *intake,
                                 struct waiting_call *waiting)
{
    struct ld_translation t;
    struct ld_recipe recipe = {0};
    enum ld_handled handled;
    ld_translation_init(&t, &intake->native);
    waiting->call->translate(ex, &t, waiting->ctx);
    const bool read = ld_translation_finish(&t, &recipe);
    const struct ld_span body = ld_span_of(recipe.request.data, recipe.request.size);
    if (read && ld_front_accept(ex, intake, body)) {
        handled = submit(ex, intake, waiting, body);
    } else {
        handled = ld_exchange_problem(ex, &intake->native.problem);
        ld_intake_close(intake);
        free_call(waiting);
    }
    ld_recipe_deinit(&recipe);
    ld_translation_deinit(&t);
    return handled;
}

enum ld_handled ld_dialect_generate(struct ld_exchange *ex, const struct ld_dialect_call *call,
                                    void *ctx, void (*ctx_free)(void *ctx))
{
    struct waiting_call *waiting = ld_heap_alloc(sizeof *waiting);
    struct ld_intake *intake = waiting ? ld_intake_open(ex) : NULL;
    if (waiting)
        *waiting = (struct waiting_call){.call = call, .ctx = ctx, .ctx_free = ctx_free};
    const bool draining = atomic_load(&ex->front->draining);
    if (intake && !draining)
        return translate(ex, intake, waiting);
    ld_intake_close(intake);
    if (waiting)
        free_call(waiting);
    else if (ctx_free)
        ctx_free(ctx);
    return draining ? ld_exchange_refuse(ex, LD_E_DRAINING, 0, "the server is shutting down")
                    : ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
}

/* ---- The caller's jobs ----------------------------------------------------------------------- */

bool ld_dialect_jobs(struct ld_exchange *ex, int status, uint32_t limit, struct ld_store_job **jobs,
                     uint32_t *count)
{
    struct ld_error err = {0};
    char next[LD_STORE_CURSOR_SIZE];
    const struct ld_store_list query = {ex->tenant, status, limit, ""};
    if (ld_store_job_list(ex->front->store, &query, &ex->arena, jobs, count, next, &err) == LD_OK)
        return true;
    (void)ld_exchange_fail(ex, &err);
    return false;
}

uint32_t ld_dialect_cancel_all(struct ld_exchange *ex, bool queued_too, bool keep_partial)
{
    static const enum ld_job_status kinds[] = {LD_JOB_RUNNING, LD_JOB_QUEUED};
    uint32_t cancelled = 0;
    for (int k = 0; k < (queued_too ? 2 : 1); k++) {
        struct ld_store_job *jobs;
        uint32_t count;
        struct ld_error err;
        char next[LD_STORE_CURSOR_SIZE];
        struct ld_arena arena;
        const struct ld_store_list query = {ex->tenant, (int)kinds[k], LD_QUEUED_PER_KEY_MAX, ""};
        ld_arena_init(&arena, "jobs to cancel", 64 << 20);
        if (ld_store_job_list(ex->front->store, &query, &arena, &jobs, &count, next, &err) ==
            LD_OK) {
            for (uint32_t i = 0; i < count; i++) {
                enum ld_job_status status;
                if (ld_front_cancel(ex->front, ex->tenant, jobs[i].view.id, keep_partial, &status,
                                    &err) == LD_OK)
                    cancelled++;
            }
        }
        ld_arena_deinit(&arena);
    }
    return cancelled;
}
