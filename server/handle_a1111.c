/* A1111's generating calls. */
#include "server/handle_a1111.h"

#include "config/limits.h"
#include "runtime/base/json_find.h"
#include "runtime/image/picture_texts.h"
#include "server/handlers.h"

enum { INFOTEXT_ARENA_BYTES = 4 << 20 };

struct generating {
    struct ld_json_tree tree; /* in the exchange's arena, like the body */
    struct ld_a1111_options options;
    bool image_to_image;
};

static void translate(struct ld_exchange *ex, struct ld_translation *t, void *ctx)
{
    const struct generating *g = ctx;
    (void)ex;
    ld_a1111_translate(t, &g->tree, g->image_to_image, &g->options);
}

/* ---- The answer ------------------------------------------------------------------------------ */

const char *ld_a1111_infotext(struct ld_arena *arena, struct ld_span file)
{
    struct ld_png_texts texts;
    struct ld_error err;
    struct ld_arena scratch;
    const char *found = NULL;
    ld_arena_init(&scratch, "infotext", INFOTEXT_ARENA_BYTES);
    if (ld_picture_texts_read(&texts, &scratch, file, true, &err) == LD_OK)
        found = ld_png_text_find(&texts, "parameters");
    const char *kept = found ? ld_arena_strdup(arena, found) : NULL;
    ld_arena_deinit(&scratch);
    return kept ? kept : "";
}

static enum ld_handled write_result(struct ld_exchange *ex, const struct ld_job_view *job,
                                    const struct generating *g,
                                    const struct ld_a1111_picture *pictures)
{
    char model_name[LD_NAME_BYTES_MAX + 1] = "";
    char sampler[64] = "";
    bool send = true;
    const struct ld_span request = ld_span_text(job->request_json);
    const struct ld_json_node *wanted =
        ld_lenient_member(&g->tree, ld_json_root(&g->tree), "send_images");
    if (wanted && !ld_lenient_flag(wanted, &send))
        send = true;
    if (!ld_json_find_string(request, "/sampler", sampler, sizeof sampler))
        sampler[0] = '\0';
    if (!ld_json_find_string(request, "/model", model_name, sizeof model_name))
        model_name[0] = '\0';
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    const struct ld_model_view *model = ld_inventory_model(inventory, model_name);
    const struct ld_a1111_result result = {
        .job = job,
        .pictures = pictures,
        .picture_count = job->image_count,
        .model_name = model ? model->name : model_name,
        .model_sha256 = model && model->sha256 ? model->sha256 : "",
        .sampler_label = ld_dialect_sampler_label(&ex->arena, sampler),
        .tree = &g->tree,
        .send_images = send,
    };
    ld_a1111_write_result(&result, &ex->reply.body);
    ld_inventory_release(ex->front->inventory, inventory);
    return ld_exchange_json(ex, 200);
}

static enum ld_handled reply(struct ld_exchange *ex, const struct ld_job_view *job, void *ctx)
{
    struct ld_a1111_picture pictures[LD_IMAGES_MAX] = {0};
    struct ld_buffer bytes[LD_IMAGES_MAX] = {0};
    struct ld_error err = {0};
    enum ld_code code = LD_OK;
    LD_ASSERT(job->image_count <= LD_IMAGES_MAX);
    for (uint32_t i = 0; i < job->image_count && code == LD_OK; i++) {
        code = ld_dialect_picture(ex->front, &job->images[i], &bytes[i], &err);
        pictures[i].file = ld_span_of(bytes[i].data, bytes[i].size);
        pictures[i].infotext = code == LD_OK ? ld_a1111_infotext(&ex->arena, pictures[i].file) : "";
    }
    const enum ld_handled handled =
        code == LD_OK ? write_result(ex, job, ctx, pictures) : ld_exchange_fail(ex, &err);
    for (uint32_t i = 0; i < job->image_count; i++)
        ld_buffer_deinit(&bytes[i]);
    return handled;
}

/* An interrupted call answers with what there is, as the other program does. */
static const struct ld_dialect_call call = {
    .translate = translate, .reply = reply, .cancelled_is_empty = true};

static enum ld_handled generate(struct ld_exchange *ex, bool image_to_image)
{
    if (ld_front_is_parked(ex))
        return ld_front_again(ex);
    struct generating *g = ld_heap_alloc(sizeof *g);
    if (!g)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    memset(g, 0, sizeof *g);
    g->image_to_image = image_to_image;
    if (!ld_dialect_body(ex, &g->tree, LD_JSON_VALUES)) {
        ld_heap_free(g);
        return LD_HANDLED;
    }
    ld_a1111_options_load(ex, &g->options);
    return ld_dialect_generate(ex, &call, g, ld_heap_free);
}

enum ld_handled ld_handle_a1111_txt2img(struct ld_exchange *ex)
{
    return generate(ex, false);
}

enum ld_handled ld_handle_a1111_img2img(struct ld_exchange *ex)
{
    return generate(ex, true);
}
