/* Pictures that are only enlarged, as the dialects ask for it. Each is a job like any other: it
 * waits for its turn, counts, can be cancelled, and a worker decodes the picture. */
#include "api/dialect_upscale.h"

#include "api/base64.h"
#include "config/limits.h"
#include "runtime/image/picture_header.h"
#include "runtime/image/zip_write.h"
#include "server/dialect_call.h"
#include "server/handle_a1111.h"
#include "server/handlers.h"

static enum ld_handled call_with(struct ld_exchange *ex, const struct ld_dialect_call *call)
{
    if (ld_front_is_parked(ex))
        return ld_front_again(ex);
    struct ld_json_tree *tree = ld_heap_alloc(sizeof *tree);
    if (!tree)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    if (!ld_dialect_body(ex, tree, LD_JSON_VALUES)) {
        ld_heap_free(tree);
        return LD_HANDLED;
    }
    return ld_dialect_generate(ex, call, tree, ld_heap_free);
}

/* ---- A1111 ----------------------------------------------------------------------------------- */

static void translate_extra(struct ld_exchange *ex, struct ld_translation *t, void *ctx)
{
    struct ld_a1111_options options;
    ld_a1111_options_load(ex, &options);
    ld_a1111_translate_extra(t, ctx, &options);
}

/* html_info is what its page shows below a picture: nothing that HTML could be made of. */
static enum ld_handled reply_extra(struct ld_exchange *ex, const struct ld_job_view *job, void *ctx)
{
    struct ld_buffer file;
    struct ld_error err = {0};
    struct ld_buffer *out = &ex->reply.body;
    (void)ctx;
    const enum ld_code code = ld_dialect_picture(ex->front, &job->images[0], &file, &err);
    if (code == LD_OK) {
        ld_buffer_format(out, "{\"html_info\":\"<p>%dx%d</p>\",\"image\":\"", job->images[0].width,
                         job->images[0].height);
        ld_base64_encode(ld_span_of(file.data, file.size), out);
        ld_buffer_text(out, "\",\"warnings\":");
        ld_buffer_text(out, job->warnings_json && *job->warnings_json ? job->warnings_json : "[]");
        ld_buffer_byte(out, '}');
    }
    ld_buffer_deinit(&file);
    return code == LD_OK ? ld_exchange_json(ex, 200) : ld_exchange_fail(ex, &err);
}

enum ld_handled ld_handle_a1111_extra(struct ld_exchange *ex)
{
    static const struct ld_dialect_call call = {.translate = translate_extra, .reply = reply_extra};
    return call_with(ex, &call);
}

/* ---- NovelAI --------------------------------------------------------------------------------- */

/* A client says how large its picture is, and is told where it errs. */
static void translate_novelai(struct ld_exchange *ex, struct ld_translation *t, void *ctx)
{
    struct ld_novelai_upscale said;
    struct ld_picture_header header;
    struct ld_error ignored = {0}; /* a picture that is none is refused where it is stored */
    const struct ld_buffer *bytes = &t->native->init_image;
    (void)ex;
    ld_novelai_translate_upscale(t, ctx, &said);
    if (bytes->size == 0 ||
        ld_picture_check_header(&header, ld_span_of(bytes->data, bytes->size), &ignored) != LD_OK)
        return;
    if ((said.width != 0 && said.width != header.width) ||
        (said.height != 0 && said.height != header.height))
        ld_translation_refuse(t, "/width", "width and height must be the picture's, %dx%d",
                              header.width, header.height);
}

static enum ld_handled reply_novelai(struct ld_exchange *ex, const struct ld_job_view *job,
                                     void *ctx)
{
    struct ld_zip_writer zip = {.out = &ex->reply.body};
    struct ld_buffer png;
    struct ld_error err = {0};
    (void)ctx;
    const enum ld_code code = ld_dialect_picture(ex->front, &job->images[0], &png, &err);
    if (code == LD_OK) {
        ld_zip_add(&zip, "image_0.png", ld_span_of(png.data, png.size));
        ld_zip_finish(&zip);
    }
    ld_buffer_deinit(&png);
    if (code != LD_OK)
        return ld_exchange_fail(ex, &err);
    (void)ld_exchange_json(ex, 200);
    if (ex->reply.status == 200)
        ex->reply.content_type = "application/x-zip-compressed";
    return LD_HANDLED;
}

enum ld_handled ld_handle_novelai_upscale(struct ld_exchange *ex)
{
    static const struct ld_dialect_call call = {.translate = translate_novelai,
                                                .reply = reply_novelai};
    return call_with(ex, &call);
}
