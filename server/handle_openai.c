/* OpenAI's images interface. */
#include "api/dialect_openai.h"
#include "config/limits.h"
#include "runtime/base/clock.h"
#include "server/dialect_call.h"
#include "server/dialect_stream.h"
#include "server/handlers.h"

static void translate(struct ld_exchange *ex, struct ld_translation *t, void *ctx)
{
    (void)ex;
    ld_openai_translate(t, ctx);
}

/* ---- The answer at the end ------------------------------------------------------------------- */

/* Where this client found the server; other servers of this interface give such addresses too. */
static const char *url_of(struct ld_exchange *ex, const struct ld_job_view *job, uint32_t index)
{
    const char *host = ld_exchange_header(ex, "Host");
    const char *scheme = ex->front->settings->behind_proxy ? "https" : "http";
    struct ld_buffer url = ld_buffer_make(1024);
    ld_buffer_format(&url, "%s://%s/v1/jobs/%s/images/%u", scheme, host ? host : "localhost",
                     job->id, index);
    const char *kept = url.failed ? NULL : ld_arena_strdup(&ex->arena, url.data);
    ld_buffer_deinit(&url);
    return kept ? kept : "";
}

static enum ld_handled reply(struct ld_exchange *ex, const struct ld_job_view *job, void *ctx)
{
    const struct ld_openai_call *call = ctx;
    struct ld_openai_picture pictures[LD_IMAGES_MAX] = {0};
    struct ld_buffer bytes[LD_IMAGES_MAX] = {0};
    struct ld_error err = {0};
    enum ld_code code = LD_OK;
    LD_ASSERT(job->image_count <= LD_IMAGES_MAX);
    for (uint32_t i = 0; i < job->image_count && code == LD_OK; i++) {
        pictures[i].url = call->wants_url ? url_of(ex, job, job->images[i].index) : "";
        if (!call->wants_url)
            code = ld_dialect_picture(ex->front, &job->images[i], &bytes[i], &err);
        pictures[i].file = ld_span_of(bytes[i].data, bytes[i].size);
    }
    if (code == LD_OK)
        ld_openai_write_result(call, job, pictures, &ex->reply.body);
    for (uint32_t i = 0; i < job->image_count; i++)
        ld_buffer_deinit(&bytes[i]);
    return code == LD_OK ? ld_exchange_json(ex, 200) : ld_exchange_fail(ex, &err);
}

/* ---- The answer as it comes ------------------------------------------------------------------ */

static void put_preview(void *ctx, const struct ld_dialect_preview *preview, struct ld_buffer *out)
{
    const struct ld_openai_call *call = ctx;
    if (preview->number < (uint64_t)call->partial_images)
        ld_openai_write_partial(call, ld_clock_wall_us() / 1000000, preview->number, preview->kind,
                                preview->base64, out);
}

static void put_image(void *ctx, const struct ld_job_view *job, const struct ld_image_view *image,
                      struct ld_span png, struct ld_buffer *out)
{
    ld_openai_write_completed(ctx, image, job->created_us / 1000000, png, out);
}

static void put_failure(void *ctx, const struct ld_job_view *job, struct ld_buffer *out)
{
    (void)ctx;
    if (job->status == LD_JOB_FAILED)
        ld_openai_write_failed(job->error_code, job->error_detail ? job->error_detail : "", out);
    else
        ld_openai_write_failed("cancelled", "the job was cancelled", out);
}

static enum ld_handled start_stream(struct ld_exchange *ex, const char *job_id, void *ctx)
{
    static const struct ld_dialect_stream_form form = {"text/event-stream; charset=utf-8",
                                                       put_preview, put_image, put_failure, true};
    return ld_dialect_stream(ex, job_id, &form, ctx, ld_heap_free);
}

/* ---- The calls ------------------------------------------------------------------------------- */

static int32_t default_steps(const struct ld_front *front)
{
    int64_t steps = 28;
    const struct ld_inventory *inventory = ld_inventory_acquire(front->inventory);
    const struct ld_model_view *model = ld_inventory_model(inventory, "");
    const struct ld_manifest *manifest =
        ld_manifests_for(&ld_guides_now(front->guides)->manifests, model ? model->name : "");
    for (uint32_t i = 0; manifest && i < manifest->default_count; i++)
        if (strcmp(manifest->defaults[i].field, "steps") == 0 &&
            !ld_parse_i64(ld_span_text(manifest->defaults[i].value), &steps))
            steps = 28;
    ld_inventory_release(front->inventory, inventory);
    return (int32_t)steps;
}

static bool read_body(struct ld_exchange *ex, struct ld_openai_call *call)
{
    struct ld_error err = {0};
    if (call->kind == LD_OPENAI_GENERATE)
        return ld_dialect_body(ex, &call->tree, LD_JSON_VALUES);
    /* A call without a body comes this far without a type. */
    const char *type = ld_exchange_header(ex, "Content-Type");
    if (ld_openai_read_form(call, type ? type : "", ex->body, &ex->arena, &err) == LD_OK)
        return true;
    (void)ld_exchange_fail(ex, &err);
    return false;
}

static enum ld_handled generate(struct ld_exchange *ex, enum ld_openai_kind kind)
{
    static const struct ld_dialect_call waits = {.translate = translate, .reply = reply};
    static const struct ld_dialect_call streams = {.translate = translate, .queued = start_stream};
    bool stream = false;
    if (ld_front_is_parked(ex))
        return ld_front_again(ex);
    struct ld_openai_call *call = ld_heap_alloc(sizeof *call);
    if (!call)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    *call = (struct ld_openai_call){.kind = kind, .default_steps = default_steps(ex->front)};
    if (!read_body(ex, call)) {
        ld_heap_free(call);
        return LD_HANDLED;
    }
    const struct ld_json_node *wanted =
        ld_lenient_member(&call->tree, ld_json_root(&call->tree), "stream");
    if (wanted && !ld_lenient_flag(wanted, &stream))
        stream = false; /* refused by the translation */
    return ld_dialect_generate(ex, stream ? &streams : &waits, call, ld_heap_free);
}

enum ld_handled ld_handle_openai_generate(struct ld_exchange *ex)
{
    return generate(ex, LD_OPENAI_GENERATE);
}

enum ld_handled ld_handle_openai_edit(struct ld_exchange *ex)
{
    return generate(ex, LD_OPENAI_EDIT);
}

enum ld_handled ld_handle_openai_vary(struct ld_exchange *ex)
{
    return generate(ex, LD_OPENAI_VARY);
}

enum ld_handled ld_handle_openai_model(struct ld_exchange *ex)
{
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    const struct ld_model_view *model = ld_inventory_model(inventory, ex->params[0]);
    if (model) {
        ld_buffer_text(&ex->reply.body, "{\"id\":");
        ld_buffer_json_string(&ex->reply.body, model->name);
        ld_buffer_format(&ex->reply.body,
                         ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"latentd\"}",
                         (long long)(model->created_us / 1000000));
    }
    ld_inventory_release(ex->front->inventory, inventory);
    if (model)
        return ld_exchange_json(ex, 200);
    struct ld_problem problem;
    ld_problem_init(&problem, &ex->arena);
    (void)ld_problem_add(&problem, LD_E_NOT_FOUND, "/model", "there is no such model");
    return ld_exchange_problem(ex, &problem);
}
