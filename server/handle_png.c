#include "server/handlers.h"

#include "api/respond.h"
#include "config/limits.h"
#include "runtime/base/json_find.h"
#include "runtime/image/picture_texts.h"
#include "server/submit.h"

/* Up to 1 MiB of text, three times that where it is not UTF-8, and the recipe made of it. */
enum { TEXT_ARENA_BYTES = 8 << 20 };

/* By its first bytes; a kind that this build cannot decode may still say how it was made. */
static bool is_picture(struct ld_span file)
{
    struct ld_png_header header;
    return ld_picture_kind_of(file) != LD_PICTURE_PNG ||
           ld_png_check_header(&header, file, true, NULL) != LD_E_FORMAT;
}

/* Texts and recipe of the picture in the body; false after a refusal. */
static bool read_recipe(struct ld_exchange *ex, struct ld_span *file, struct ld_arena *arena,
                        struct ld_png_texts *texts, struct ld_recipe *recipe)
{
    struct ld_error err = {0};
    enum ld_code code = ld_front_body_picture(ex, file, &err);
    if (code == LD_OK && !is_picture(*file)) {
        (void)ld_exchange_refuse(ex, LD_E_UNSUPPORTED, 415,
                                 "the picture is not a PNG, JPEG or WebP file");
        return false;
    }
    if (code == LD_OK)
        code = ld_picture_texts_read(texts, arena, *file, false, &err);
    if (code == LD_OK)
        code = ld_recipe_read(recipe, texts, &err);
    if (code != LD_OK)
        (void)ld_exchange_fail(ex, &err);
    return code == LD_OK;
}

enum ld_handled ld_handle_png_info(struct ld_exchange *ex)
{
    struct ld_png_texts texts = {0};
    struct ld_recipe recipe = {0};
    struct ld_arena arena;
    struct ld_span file;
    enum ld_handled handled = LD_HANDLED;
    ld_arena_init(&arena, "picture texts", TEXT_ARENA_BYTES);
    if (read_recipe(ex, &file, &arena, &texts, &recipe)) {
        ld_recipe_write_json(&recipe, &texts, &ex->reply.body);
        handled = ld_exchange_json(ex, 200);
    }
    ld_recipe_deinit(&recipe);
    ld_arena_deinit(&arena);
    return handled;
}

/* ---- Replay ---------------------------------------------------------------------------------- */

/* What is known of the old picture when the new one is there. */
struct replay {
    char sha256[LD_SHA256_HEX_SIZE];
    char bare_sha256[LD_SHA256_HEX_SIZE]; /* without what it says about itself */
    struct ld_buffer notes;               /* JSON strings, comma-separated */
};

static void free_replay(void *ctx)
{
    struct replay *replay = ctx;
    ld_buffer_deinit(&replay->notes);
    ld_heap_free(replay);
}

static void add_note(struct ld_buffer *notes, const char *sentence)
{
    if (notes->size > 0)
        ld_buffer_byte(notes, ',');
    ld_buffer_json_string(notes, sentence);
}

/* Of the file without its texts: equal ones are equal pictures. */
static bool hash_bare(struct ld_span file, char sha256[LD_SHA256_HEX_SIZE])
{
    struct ld_error err = {0};
    struct ld_buffer bare = ld_buffer_make(LD_FRAME_BYTES_MAX);
    const bool whole = ld_picture_strip(&bare, file, &err) == LD_OK;
    if (whole)
        ld_sha256_hex(ld_span_of(bare.data, bare.size), sha256);
    ld_buffer_deinit(&bare);
    return whole;
}

static void compare(struct ld_exchange *ex, const struct ld_image_view *image,
                    struct replay *replay, bool *identical)
{
    struct ld_error err = {0};
    char bare_sha256[LD_SHA256_HEX_SIZE];
    *identical = strcmp(image->sha256, replay->sha256) == 0;
    if (*identical)
        return;
    struct ld_buffer file = ld_buffer_make(LD_FRAME_BYTES_MAX);
    const bool read = ld_blob_read(ex->front->blobs, image->sha256, &file, &err) == LD_OK &&
                      hash_bare(ld_span_of(file.data, file.size), bare_sha256);
    ld_buffer_deinit(&file);
    if (read && strcmp(bare_sha256, replay->bare_sha256) == 0)
        add_note(&replay->notes, "the pixels are the same, the metadata differs");
    else
        add_note(&replay->notes, "the pixels differ");
}

static enum ld_handled reply_replay(struct ld_exchange *ex, const struct ld_job_view *job,
                                    void *ctx)
{
    struct replay *replay = ctx;
    bool identical = false;
    if (job->image_count > 0)
        compare(ex, &job->images[0], replay, &identical);
    else
        add_note(&replay->notes, "the job made no picture");
    struct ld_buffer *out = &ex->reply.body;
    ld_buffer_format(out, "{\"identical\":%s,\"job\":", identical ? "true" : "false");
    ld_respond_job(job, out);
    ld_buffer_text(out, ",\"differences\":[");
    if (replay->notes.size > 0)
        ld_buffer_text(out, replay->notes.data);
    ld_buffer_text(out, "]}");
    return ld_exchange_json(ex, 200);
}

static enum ld_handled reply_later(struct ld_exchange *ex, const struct ld_job_view *job, void *ctx)
{
    (void)ctx;
    ld_respond_job(job, &ex->reply.body);
    return ld_exchange_json(ex, 202);
}

/* Beside the picture's own request: what is missing or other here. */
static void note_differences(const struct ld_intake *intake, const struct ld_recipe *recipe,
                             struct replay *replay)
{
    const struct ld_model_view *model =
        ld_inventory_model(intake->inventory, intake->native.request.model);
    const size_t known = strlen(recipe->model_hash);
    if (recipe->source != LD_RECIPE_LATENTD)
        add_note(&replay->notes, "the picture was made by another program");
    if (known > 0 && model && model->sha256[0] &&
        strncmp(model->sha256, recipe->model_hash, known) != 0)
        add_note(&replay->notes, "the model here is another one than the picture's");
    if (recipe->notes.size > 2) { /* "[...]": its items as they are */
        if (replay->notes.size > 0)
            ld_buffer_byte(&replay->notes, ',');
        ld_buffer_bytes(&replay->notes, recipe->notes.data + 1, recipe->notes.size - 2);
    }
}

static enum ld_handled wait_for_replay(struct ld_exchange *ex, const char *id, bool replayed,
                                       void *ctx)
{
    (void)replayed;
    const struct ld_wait_options options = {
        .job_id = id,
        .seconds = ld_front_wait_seconds(ex, ex->front->settings->wait_s),
        .cancel_on_leave = true,
        .ended = reply_replay,
        .timed_out = reply_later,
        .ctx = ctx,
        .ctx_free = free_replay,
    };
    return ld_front_wait(ex, &options);
}

/* Other programs name a model as its file is called there. One that is not here is not asked for:
 * the default model paints, and the answer says so. Our own pictures mean what they say. */
static struct ld_span replayed_request(struct ld_exchange *ex, const struct ld_intake *intake,
                                       const struct ld_recipe *recipe, struct replay *replay)
{
    const struct ld_span whole = ld_span_of(recipe->request.data, recipe->request.size);
    const struct ld_model_view *model = ld_inventory_model(intake->inventory, "");
    char name[LD_NAME_BYTES_MAX + 1];
    char note[LD_NAME_BYTES_MAX + 100];
    struct ld_span value;
    if (recipe->source == LD_RECIPE_LATENTD || !model ||
        !ld_json_find_string(whole, "/model", name, sizeof name) ||
        ld_inventory_model(intake->inventory, name) || !ld_json_find_span(whole, "/model", &value))
        return whole;
    struct ld_buffer text = ld_buffer_make(whole.size + 6 * LD_NAME_BYTES_MAX + 3);
    ld_buffer_bytes(&text, whole.data, (size_t)(value.data - whole.data));
    ld_buffer_json_string(&text, model->name);
    ld_buffer_bytes(&text, value.data + value.size,
                    (size_t)(whole.data + whole.size - value.data) - value.size);
    const char *kept = text.failed ? NULL : ld_arena_strndup(&ex->arena, text.data, text.size);
    const struct ld_span request = kept ? ld_span_of(kept, text.size) : whole;
    ld_buffer_deinit(&text);
    if (kept && ld_fmt(note, sizeof note, "the picture's model is called %s; it is not here", name))
        add_note(&replay->notes, note);
    return request;
}

/* Takes both, as ld_front_submit. */
static enum ld_handled submit_replay(struct ld_exchange *ex, struct ld_intake *intake,
                                     struct replay *replay, const struct ld_recipe *recipe)
{
    const struct ld_span request = replayed_request(ex, intake, recipe, replay);
    if (!ld_front_accept(ex, intake, request)) {
        const enum ld_handled handled = ld_exchange_problem(ex, &intake->native.problem);
        free_replay(replay);
        ld_intake_close(intake);
        return handled;
    }
    note_differences(intake, recipe, replay);
    const struct ld_submit_options options = {.intake = intake,
                                              .key = "",
                                              .body = request,
                                              .queued = wait_for_replay,
                                              .ctx = replay,
                                              .ctx_free = free_replay};
    return ld_front_submit(ex, &options);
}

static enum ld_handled begin_replay(struct ld_exchange *ex, const struct ld_recipe *recipe,
                                    struct ld_span file)
{
    struct replay *replay = ld_heap_alloc(sizeof *replay);
    struct ld_intake *intake = replay ? ld_intake_open(ex) : NULL;
    if (!intake) {
        ld_heap_free(replay);
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    }
    replay->notes = ld_buffer_make(1 << 20);
    ld_sha256_hex(file, replay->sha256);
    if (hash_bare(file, replay->bare_sha256))
        return submit_replay(ex, intake, replay, recipe);
    free_replay(replay);
    ld_intake_close(intake);
    return ld_exchange_refuse(ex, LD_E_FORMAT, 0, "the picture is cut short");
}

enum ld_handled ld_handle_replay(struct ld_exchange *ex)
{
    struct ld_png_texts texts = {0};
    struct ld_recipe recipe = {0};
    struct ld_arena arena;
    struct ld_span file;
    enum ld_handled handled = LD_HANDLED;
    if (ld_front_is_parked(ex))
        return ld_front_again(ex);
    if (atomic_load(&ex->front->draining))
        return ld_exchange_refuse(ex, LD_E_DRAINING, 0, "the server is shutting down");
    if (ld_front_wait_seconds(ex, 0) < 0)
        return ld_exchange_refuse(ex, LD_E_INVALID, 0, "wait must be a number of seconds");
    ld_arena_init(&arena, "picture texts", TEXT_ARENA_BYTES);
    if (read_recipe(ex, &file, &arena, &texts, &recipe)) {
        if (recipe.source == LD_RECIPE_NONE) {
            handled =
                ld_exchange_refuse(ex, LD_E_INVALID, 0, "the picture does not say how it was made");
        } else {
            handled = begin_replay(ex, &recipe, file);
        }
    }
    ld_recipe_deinit(&recipe);
    ld_arena_deinit(&arena);
    return handled;
}
