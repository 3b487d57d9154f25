/* NovelAI's image interface. */
#include "api/dialect_novelai.h"
#include "config/limits.h"
#include "runtime/image/zip_write.h"
#include "server/dialect_call.h"
#include "server/dialect_stream.h"
#include "server/handlers.h"

enum { CONFIDENCE_STEPS = 100 };

static void translate(struct ld_exchange *ex, struct ld_translation *t, void *ctx)
{
    (void)ex;
    ld_novelai_translate(t, ctx);
}

/* ---- A ZIP at the end ------------------------------------------------------------------------ */

/* A ZIP has no room for warnings: a header of printable ASCII has. */
static void tell_warnings(struct ld_exchange *ex, const char *warnings_json)
{
    const size_t size = warnings_json ? strlen(warnings_json) : 0;
    char *text =
        size > 2 ? ld_arena_strndup(&ex->arena, warnings_json, size < 2000 ? size : 2000) : NULL;
    for (char *p = text; p && *p; p++)
        *p = *p < 0x20 || *p > 0x7E ? '?' : *p;
    ld_exchange_set_header(ex, "X-Latentd-Warnings", text);
}

static enum ld_handled reply(struct ld_exchange *ex, const struct ld_job_view *job, void *ctx)
{
    const struct ld_novelai_call *call = ctx;
    struct ld_zip_writer zip = {.out = &ex->reply.body};
    struct ld_error err = {0};
    enum ld_code code = LD_OK;
    LD_ASSERT(job->image_count <= LD_ZIP_FILES_MAX);
    for (uint32_t i = 0; i < job->image_count && code == LD_OK; i++) {
        struct ld_buffer png = {0};
        struct ld_buffer made = ld_buffer_make(LD_FRAME_BYTES_MAX);
        char name[LD_ZIP_NAME_SIZE];
        code = ld_dialect_picture(ex->front, &job->images[i], &png, &err);
        if (code == LD_OK)
            code = ld_novelai_sign(call, job, job->images[i].seed, ld_span_of(png.data, png.size),
                                   &made, &err);
        if (code == LD_OK &&
            ld_fmt(name, sizeof name, "image_%u%s", i, ld_picture_kind_ending(job->images[i].kind)))
            ld_zip_add(&zip, name, ld_span_of(made.data, made.size));
        ld_buffer_deinit(&made);
        ld_buffer_deinit(&png);
    }
    if (code != LD_OK)
        return ld_exchange_fail(ex, &err);
    ld_zip_finish(&zip);
    (void)ld_exchange_json(ex, 200);
    if (ex->reply.status == 200) {
        ex->reply.content_type = "application/x-zip-compressed";
        tell_warnings(ex, job->warnings_json);
    }
    return LD_HANDLED;
}

/* ---- Events as they come --------------------------------------------------------------------- */

static void put_preview(void *ctx, const struct ld_dialect_preview *preview, struct ld_buffer *out)
{
    const struct ld_novelai_event event = {
        .sample = preview->image, .step = preview->step, .base64 = preview->base64};
    ld_novelai_write_event(ctx, &event, out);
}

static void put_image(void *ctx, const struct ld_job_view *job, const struct ld_image_view *image,
                      struct ld_span png, struct ld_buffer *out)
{
    const struct ld_novelai_call *call = ctx;
    struct ld_buffer made = ld_buffer_make(LD_FRAME_BYTES_MAX);
    struct ld_error err = {0};
    if (ld_novelai_sign(call, job, image->seed, png, &made, &err) == LD_OK) {
        const struct ld_novelai_event event = {.final = true,
                                               .sample = image->index,
                                               .step = (uint32_t)call->steps,
                                               .file = ld_span_of(made.data, made.size)};
        ld_novelai_write_event(call, &event, out);
    }
    ld_buffer_deinit(&made);
}

static void put_failure(void *ctx, const struct ld_job_view *job, struct ld_buffer *out)
{
    ld_novelai_write_failed(
        ctx, job->status == LD_JOB_FAILED && job->error_detail ? job->error_detail : "cancelled",
        out);
}

static enum ld_handled start_stream(struct ld_exchange *ex, const char *job_id, void *ctx)
{
    static const struct ld_dialect_stream_form sse = {"text/event-stream; charset=utf-8",
                                                      put_preview, put_image, put_failure, true};
    static const struct ld_dialect_stream_form msgpack = {"application/x-msgpack", put_preview,
                                                          put_image, put_failure, false};
    struct ld_novelai_call *call = ctx;
    (void)ld_fmt(call->gen_id, sizeof call->gen_id, "%s", job_id);
    return ld_dialect_stream(ex, job_id, call->stream == LD_NOVELAI_SSE ? &sse : &msgpack, call,
                             ld_heap_free);
}

/* ---- The calls ------------------------------------------------------------------------------- */

static enum ld_handled generate(struct ld_exchange *ex, enum ld_novelai_stream stream)
{
    static const struct ld_dialect_call waits = {.translate = translate, .reply = reply};
    static const struct ld_dialect_call streams = {.translate = translate, .queued = start_stream};
    if (ld_front_is_parked(ex))
        return ld_front_again(ex);
    struct ld_novelai_call *call = ld_heap_alloc(sizeof *call);
    if (!call)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    *call = (struct ld_novelai_call){.stream = stream};
    if (!ld_dialect_body(ex, &call->tree, LD_JSON_VALUES)) {
        ld_heap_free(call);
        return LD_HANDLED;
    }
    return ld_dialect_generate(ex, stream == LD_NOVELAI_ZIP ? &waits : &streams, call,
                               ld_heap_free);
}

enum ld_handled ld_handle_novelai_generate(struct ld_exchange *ex)
{
    return generate(ex, LD_NOVELAI_ZIP);
}

enum ld_handled ld_handle_novelai_stream(struct ld_exchange *ex)
{
    return generate(ex, LD_NOVELAI_MSGPACK); /* until the body says sse */
}

/* The last word of what is being typed, completed. */
enum ld_handled ld_handle_novelai_tags(struct ld_exchange *ex)
{
    struct ld_tag_match matches[LD_TAG_MATCHES_MAX];
    char text[2 * LD_TAG_NAME_BYTES_MAX + 3];
    const char *prompt = ld_exchange_query(ex, "prompt");
    const char *comma = prompt ? strrchr(prompt, ',') : NULL;
    const char *word = comma ? comma + 1 : prompt ? prompt : "";
    word += strspn(word, " ");
    const bool asks = *word && strlen(word) <= LD_TAG_NAME_BYTES_MAX;
    const uint32_t count =
        asks ? ld_tags_complete(ld_guides_now(ex->front->guides)->tags, word, matches, 10) : 0;
    ld_buffer_text(&ex->reply.body, "{\"tags\":[");
    for (uint32_t i = 0; i < count; i++) {
        const struct ld_tag *tag = matches[i].tag;
        ld_buffer_text(&ex->reply.body, i ? ",{\"tag\":" : "{\"tag\":");
        ld_buffer_json_string(&ex->reply.body,
                              ld_tag_text(tag->name, false, text, sizeof text) ? text : tag->name);
        /* Completion is by frequency: the order is all the confidence there is. */
        ld_buffer_format(&ex->reply.body, ",\"count\":%u,\"confidence\":", tag->count);
        ld_buffer_json_double(&ex->reply.body,
                              (double)(CONFIDENCE_STEPS - (int)i) / CONFIDENCE_STEPS);
        ld_buffer_byte(&ex->reply.body, '}');
    }
    ld_buffer_text(&ex->reply.body, "]}");
    return ld_exchange_json(ex, 200);
}

/* Clients look whether pictures are free: here they always are. */
enum ld_handled ld_handle_novelai_subscription(struct ld_exchange *ex)
{
    ld_buffer_text(&ex->reply.body,
                   "{\"tier\":3,\"active\":true,\"expiresAt\":4102444800,\"perks\":{"
                   "\"maxPriorityActions\":0,\"startPriority\":0,\"moduleTrainingSteps\":0,"
                   "\"unlimitedMaxPriority\":true,\"voiceGeneration\":false,"
                   "\"imageGeneration\":true,\"unlimitedImageGeneration\":true,"
                   "\"unlimitedImageGenerationLimits\":[{\"resolution\":4194304,\"maxPrompts\":0}],"
                   "\"contextTokens\":0},\"paymentProcessorData\":null,\"trainingStepsLeft\":{"
                   "\"fixedTrainingStepsLeft\":0,\"purchasedTrainingSteps\":0},"
                   "\"accountType\":0}");
    return ld_exchange_json(ex, 200);
}

enum ld_handled ld_handle_novelai_lacked(struct ld_exchange *ex)
{
    return ld_exchange_refuse(ex, LD_E_UNSUPPORTED, 0,
                              "latentd has no model for this call (annotate-image, encode-vibe, "
                              "augment-image)");
}
