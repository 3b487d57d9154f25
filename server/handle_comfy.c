/* ComfyUI: prompts, the queue and what became of it. */
#include "server/handle_comfy.h"

#include "config/limits.h"
#include "runtime/base/json_find.h"
#include "server/handlers.h"

enum { JOBS_LOOKED_AT = 200, HISTORY_DEFAULT = 64, HISTORY_MAX = 200 };

/* ---- POST /prompt ---------------------------------------------------------------------------- */

static bool image_size(void *ctx, const char *id, int32_t *width, int32_t *height)
{
    const struct ld_exchange *ex = ctx;
    struct ld_store_upload upload;
    struct ld_error err;
    if (ld_store_upload_get(ex->front->store, ex->tenant, id, &upload, &err) != LD_OK)
        return false;
    *width = upload.width;
    *height = upload.height;
    return true;
}

static void translate(struct ld_exchange *ex, struct ld_translation *t, void *ctx)
{
    (void)ex;
    ld_comfy_translate(t, ctx);
}

static void free_call(void *ctx)
{
    struct ld_comfy_call *call = ctx;
    ld_buffer_deinit(&call->node_errors);
    ld_heap_free(call);
}

/* The number is for people: the caller's own waiting jobs, as in GET /queue. */
static enum ld_handled reply_queued(struct ld_exchange *ex, const char *job_id, void *ctx)
{
    struct ld_comfy_call *call = ctx;
    struct ld_store_standing standing = {0};
    struct ld_error err;
    if (ld_store_standing(ex->front->store, ex->tenant, &standing, &err) != LD_OK)
        standing.queued = 0;
    ld_buffer_text(&ex->reply.body, "{\"prompt_id\":");
    ld_buffer_json_string(&ex->reply.body, *call->prompt_id ? call->prompt_id : job_id);
    ld_buffer_format(&ex->reply.body, ",\"number\":%lld,\"node_errors\":{}}",
                     (long long)standing.queued);
    free_call(call);
    return ld_exchange_json(ex, 200);
}

/* A refusal of the graph has a document of its own; others have the common one. */
static bool check_first(struct ld_exchange *ex, struct ld_comfy_call *call)
{
    struct ld_native native;
    struct ld_translation t;
    ld_native_init(&native, &ex->arena);
    ld_translation_init(&t, &native);
    ld_comfy_translate(&t, call);
    const bool good = call->error_type == NULL;
    if (!good) {
        ld_comfy_write_refusal(call, &ex->reply.body);
        (void)ld_exchange_json(ex, 400);
    }
    ld_buffer_deinit(&call->node_errors);
    ld_translation_deinit(&t);
    ld_native_deinit(&native);
    return good;
}

enum ld_handled ld_handle_comfy_prompt(struct ld_exchange *ex)
{
    static const struct ld_dialect_call queues = {
        .translate = translate, .queued = reply_queued, .outlives_caller = true};
    if (ld_front_is_parked(ex))
        return ld_front_again(ex);
    struct ld_comfy_call *call = ld_heap_alloc(sizeof *call);
    if (!call)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    *call = (struct ld_comfy_call){.image_size = image_size, .image_ctx = ex};
    if (!ld_dialect_body(ex, &call->tree, LD_JSON_GRAPH_VALUES)) {
        free_call(call);
        return LD_HANDLED;
    }
    if (!ld_comfy_lists(ex, &call->lists)) {
        free_call(call);
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    }
    if (!check_first(ex, call)) {
        free_call(call);
        return LD_HANDLED;
    }
    return ld_dialect_generate(ex, &queues, call, free_call);
}

/* ---- Finding jobs ---------------------------------------------------------------------------- */

/* The caller's job of that prompt id: a job's own id, or the client's among the newest jobs. */
static bool find_job(struct ld_exchange *ex, const char *prompt_id, struct ld_arena *arena,
                     struct ld_store_job *job)
{
    struct ld_store_job *jobs;
    struct ld_error err;
    uint32_t count;
    char next[LD_STORE_CURSOR_SIZE];
    if (ld_id_valid(ld_span_text(prompt_id)) &&
        ld_store_job_get(ex->front->store, ex->tenant, prompt_id, arena, job, &err) == LD_OK)
        return true;
    const struct ld_store_list query = {ex->tenant, -1, JOBS_LOOKED_AT, ""};
    if (ld_store_job_list(ex->front->store, &query, arena, &jobs, &count, next, &err) != LD_OK)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct ld_comfy_job comfy;
        ld_comfy_job_read(&comfy, &jobs[i].view);
        if (strcmp(comfy.prompt_id, prompt_id) != 0)
            continue;
        *job = jobs[i];
        return true;
    }
    return false;
}

static void open_arena(struct ld_arena *arena)
{
    ld_arena_init(arena, "comfy jobs", 64 << 20);
}

static enum ld_handled reply_nothing(struct ld_exchange *ex)
{
    ld_buffer_text(&ex->reply.body, "{}");
    return ld_exchange_json(ex, 200);
}

/* ---- The queue ------------------------------------------------------------------------------- */

/* A job that is being cancelled still runs. */
static const enum ld_job_status at_work[] = {LD_JOB_CANCELLING, LD_JOB_RUNNING};
static const enum ld_job_status in_wait[] = {LD_JOB_QUEUED};

/* The caller's jobs of these statuses as entries of /queue, or only their number with a NULL
 * `out`. False after a refusal. */
static bool list_queue(struct ld_exchange *ex, const enum ld_job_status *statuses, size_t kinds,
                       uint32_t *total, struct ld_buffer *out)
{
    *total = 0;
    for (size_t k = 0; k < kinds; k++) {
        struct ld_store_job *jobs;
        uint32_t count;
        struct ld_arena arena;
        struct ld_error err = {0};
        char next[LD_STORE_CURSOR_SIZE];
        const struct ld_store_list query = {ex->tenant, (int)statuses[k], JOBS_LOOKED_AT, ""};
        open_arena(&arena);
        const bool read =
            ld_store_job_list(ex->front->store, &query, &arena, &jobs, &count, next, &err) == LD_OK;
        for (uint32_t i = 0; read && out && i < count; i++) { /* the next one first */
            ld_buffer_text(out, *total + i > 0 ? "," : "");
            ld_comfy_write_queued(&jobs[count - 1 - i].view, *total + i, out);
        }
        *total += read ? count : 0;
        ld_arena_deinit(&arena);
        if (!read) {
            (void)ld_exchange_fail(ex, &err);
            return false;
        }
    }
    return true;
}

enum ld_handled ld_handle_comfy_prompt_get(struct ld_exchange *ex)
{
    uint32_t working, waiting;
    if (!list_queue(ex, at_work, 2, &working, NULL) || !list_queue(ex, in_wait, 1, &waiting, NULL))
        return LD_HANDLED;
    ld_buffer_format(&ex->reply.body, "{\"exec_info\":{\"queue_remaining\":%u}}",
                     working + waiting);
    return ld_exchange_json(ex, 200);
}

enum ld_handled ld_handle_comfy_queue(struct ld_exchange *ex)
{
    uint32_t count;
    ld_buffer_text(&ex->reply.body, "{\"queue_running\":[");
    if (!list_queue(ex, at_work, 2, &count, &ex->reply.body))
        return LD_HANDLED;
    ld_buffer_text(&ex->reply.body, "],\"queue_pending\":[");
    if (!list_queue(ex, in_wait, 1, &count, &ex->reply.body))
        return LD_HANDLED;
    ld_buffer_text(&ex->reply.body, "]}");
    return ld_exchange_json(ex, 200);
}

/* Each id of "delete": cancelled, or forgotten where it is over. */
static void delete_listed(struct ld_exchange *ex, const struct ld_json_tree *tree, bool history)
{
    const struct ld_json_node *list = ld_lenient_member(tree, ld_json_root(tree), "delete");
    for (const struct ld_json_node *item =
             list && list->kind == LD_JSON_ARRAY_BEGIN ? ld_json_first(tree, list) : NULL;
         item; item = ld_json_after(tree, item)) {
        struct ld_arena arena;
        struct ld_store_job job;
        struct ld_error err;
        enum ld_job_status status;
        struct ld_store_freed freed;
        const char *id = ld_lenient_text(item, &ex->arena);
        open_arena(&arena);
        if (id && find_job(ex, id, &arena, &job)) {
            const bool over = ld_job_status_is_final(job.view.status);
            if (!history && job.view.status == LD_JOB_QUEUED)
                (void)(ld_front_cancel(ex->front, ex->tenant, job.view.id, false, &status, &err) ==
                       LD_OK);
            else if (history && over &&
                     ld_store_job_delete(ex->front->store, ex->tenant, job.view.id, &arena, &freed,
                                         &err) == LD_OK)
                ld_front_drop_blobs(ex->front, &freed);
        }
        ld_arena_deinit(&arena);
    }
}

static bool asks_to_clear(const struct ld_json_tree *tree)
{
    bool clear = false;
    const struct ld_json_node *node = ld_lenient_member(tree, ld_json_root(tree), "clear");
    return node && ld_lenient_flag(node, &clear) && clear;
}

/* Cancel everything of the caller that waits. */
static void clear_queue(struct ld_exchange *ex)
{
    struct ld_arena arena;
    struct ld_store_job *jobs;
    uint32_t count;
    struct ld_error err;
    char next[LD_STORE_CURSOR_SIZE];
    const struct ld_store_list query = {ex->tenant, LD_JOB_QUEUED, JOBS_LOOKED_AT, ""};
    open_arena(&arena);
    if (ld_store_job_list(ex->front->store, &query, &arena, &jobs, &count, next, &err) == LD_OK) {
        for (uint32_t i = 0; i < count; i++) {
            enum ld_job_status status;
            (void)(ld_front_cancel(ex->front, ex->tenant, jobs[i].view.id, false, &status, &err) ==
                   LD_OK);
        }
    }
    ld_arena_deinit(&arena);
}

enum ld_handled ld_handle_comfy_queue_post(struct ld_exchange *ex)
{
    struct ld_json_tree tree;
    if (!ld_dialect_body(ex, &tree, LD_JSON_VALUES))
        return LD_HANDLED;
    if (asks_to_clear(&tree))
        clear_queue(ex);
    delete_listed(ex, &tree, false);
    return reply_nothing(ex);
}

enum ld_handled ld_handle_comfy_interrupt(struct ld_exchange *ex)
{
    struct ld_json_tree tree;
    struct ld_arena arena;
    struct ld_store_job job;
    struct ld_error err;
    enum ld_job_status status;
    if (!ld_dialect_body(ex, &tree, LD_JSON_VALUES))
        return LD_HANDLED;
    const struct ld_json_node *node = ld_lenient_member(&tree, ld_json_root(&tree), "prompt_id");
    const char *id = node ? ld_lenient_text(node, &ex->arena) : NULL;
    if (!id) {
        (void)ld_dialect_cancel_all(ex, false, false);
        return reply_nothing(ex);
    }
    open_arena(&arena);
    if (find_job(ex, id, &arena, &job) && job.view.status == LD_JOB_RUNNING)
        (void)(ld_front_cancel(ex->front, ex->tenant, job.view.id, false, &status, &err) == LD_OK);
    ld_arena_deinit(&arena);
    return reply_nothing(ex);
}

/* Which models stay in memory is the server's to decide. */
enum ld_handled ld_handle_comfy_free(struct ld_exchange *ex)
{
    return reply_nothing(ex);
}

/* ---- History --------------------------------------------------------------------------------- */

/* A status that history shows: it is over, and there is something to say. */
static bool is_told(const struct ld_job_view *view)
{
    return ld_job_status_is_final(view->status) && view->status != LD_JOB_EXPIRED;
}

enum ld_handled ld_handle_comfy_history(struct ld_exchange *ex)
{
    struct ld_store_job *jobs;
    uint32_t count, told = 0, skipped = 0;
    struct ld_arena arena;
    struct ld_error err = {0};
    char next[LD_STORE_CURSOR_SIZE];
    int64_t most = HISTORY_DEFAULT, offset = 0;
    const char *wanted = ld_exchange_query(ex, "max_items");
    const char *from = ld_exchange_query(ex, "offset");
    if ((wanted && !ld_parse_i64(ld_span_text(wanted), &most)) || most < 0 || most > HISTORY_MAX)
        most = HISTORY_MAX;
    if (from && (!ld_parse_i64(ld_span_text(from), &offset) || offset < 0))
        offset = 0;
    const struct ld_store_list query = {ex->tenant, -1, JOBS_LOOKED_AT, ""};
    open_arena(&arena);
    if (ld_store_job_list(ex->front->store, &query, &arena, &jobs, &count, next, &err) != LD_OK) {
        ld_arena_deinit(&arena);
        return ld_exchange_fail(ex, &err);
    }
    ld_buffer_byte(&ex->reply.body, '{');
    for (uint32_t i = 0; i < count && told < (uint32_t)most; i++) {
        if (!is_told(&jobs[i].view) || skipped++ < (uint64_t)offset)
            continue;
        ld_buffer_text(&ex->reply.body, told++ ? "," : "");
        ld_comfy_write_history(&jobs[i].view, &ex->reply.body);
    }
    ld_buffer_byte(&ex->reply.body, '}');
    ld_arena_deinit(&arena);
    return ld_exchange_json(ex, 200);
}

enum ld_handled ld_handle_comfy_history_one(struct ld_exchange *ex)
{
    struct ld_arena arena;
    struct ld_store_job job;
    open_arena(&arena);
    ld_buffer_byte(&ex->reply.body, '{');
    if (find_job(ex, ex->params[0], &arena, &job) && is_told(&job.view))
        ld_comfy_write_history(&job.view, &ex->reply.body);
    ld_buffer_byte(&ex->reply.body, '}');
    ld_arena_deinit(&arena);
    return ld_exchange_json(ex, 200);
}

enum ld_handled ld_handle_comfy_history_post(struct ld_exchange *ex)
{
    struct ld_json_tree tree;
    if (!ld_dialect_body(ex, &tree, LD_JSON_VALUES))
        return LD_HANDLED;
    if (asks_to_clear(&tree))
        return ld_exchange_refuse(ex, LD_E_UNSUPPORTED, 0,
                                  "history is kept with the jobs; delete names those to forget");
    delete_listed(ex, &tree, true);
    return reply_nothing(ex);
}
