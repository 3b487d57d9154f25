/* What A1111's clients ask while something runs, and their settings. All of it is about the
 * caller's own jobs. */
#include "server/handle_a1111.h"

#include "api/base64.h"
#include "config/limits.h"
#include "runtime/base/clock.h"
#include "runtime/base/json_find.h"
#include "server/handlers.h"

#include <strings.h>

enum { TASKS_LOOKED_AT = 50 };

/* ---- Progress -------------------------------------------------------------------------------- */

static bool is_yes(const char *text)
{
    return text && (strcasecmp(text, "true") == 0 || strcmp(text, "1") == 0);
}

/* Clients spell it in two ways. */
static bool skips_image(struct ld_exchange *ex)
{
    return is_yes(ld_exchange_query(ex, "skip_current_image")) ||
           is_yes(ld_exchange_query(ex, "skipCurrentImage"));
}

enum ld_handled ld_handle_a1111_progress(struct ld_exchange *ex)
{
    struct ld_store_job *jobs;
    uint32_t count;
    uint32_t waiting = 0;
    char phase[32];
    struct ld_job_view *shown = NULL;
    if (!ld_dialect_jobs(ex, -1, TASKS_LOOKED_AT, &jobs, &count))
        return LD_HANDLED;
    for (uint32_t i = 0; i < count; i++) {
        struct ld_job_view *view = &jobs[i].view;
        if (view->status == LD_JOB_RUNNING || view->status == LD_JOB_CANCELLING)
            shown = view; /* the oldest: the list has the newest first */
        waiting += view->status == LD_JOB_QUEUED;
    }
    for (uint32_t i = 0; i < count && !shown; i++)
        if (jobs[i].view.status == LD_JOB_QUEUED)
            shown = &jobs[i].view;
    if (shown)
        ld_front_enliven(ex->front, shown, phase);
    struct ld_buffer preview = ld_buffer_make(LD_FRAME_BYTES_MAX);
    if (shown && !skips_image(ex))
        (void)ld_supervisor_preview(ex->front->supervisor, shown->id, &preview);
    const struct ld_a1111_progress progress = {
        .job = shown,
        .waiting = waiting,
        .now_us = ld_clock_wall_us(),
        .preview = ld_span_of(preview.data, preview.failed ? 0 : preview.size),
    };
    ld_a1111_write_progress(&progress, &ex->reply.body);
    ld_buffer_deinit(&preview);
    return ld_exchange_json(ex, 200);
}

static bool has_tag(const struct ld_store_job *job, const char *task)
{
    char tag[LD_TAG_BYTES_MAX + 1];
    return ld_json_find_string(ld_span_text(job->view.request_json), "/tag", tag, sizeof tag) &&
           strcmp(tag, task) == 0;
}

/* A newer preview than the one that the client has, as a data URI. */
static void write_live_preview(struct ld_exchange *ex, const struct ld_json_tree *tree,
                               const char *job_id)
{
    const struct ld_json_node *wanted = ld_lenient_member(tree, ld_json_root(tree), "live_preview");
    const struct ld_json_node *known =
        ld_lenient_member(tree, ld_json_root(tree), "id_live_preview");
    struct ld_buffer preview = ld_buffer_make(LD_FRAME_BYTES_MAX);
    bool wants = true;
    int64_t has = -1;
    if (wanted && !ld_lenient_flag(wanted, &wants))
        wants = true;
    if (known && !ld_lenient_whole(known, &has))
        has = -1;
    const uint32_t number =
        job_id && wants ? ld_supervisor_preview(ex->front->supervisor, job_id, &preview) : 0;
    if (number > 0 && number != has) {
        const struct ld_span file = ld_span_of(preview.data, preview.size);
        ld_buffer_format(&ex->reply.body, ",\"live_preview\":\"data:%s;base64,",
                         ld_picture_kind_type(ld_picture_kind_of(file)));
        ld_base64_encode(file, &ex->reply.body);
        ld_buffer_format(&ex->reply.body, "\",\"id_live_preview\":%u", number);
    } else {
        ld_buffer_format(&ex->reply.body, ",\"live_preview\":null,\"id_live_preview\":%lld",
                         (long long)has);
    }
    ld_buffer_deinit(&preview);
}

/* The page's own way to ask: by the id that force_task_id gave. */
enum ld_handled ld_handle_a1111_task_progress(struct ld_exchange *ex)
{
    struct ld_json_tree tree;
    struct ld_store_job *jobs;
    uint32_t count;
    char phase[32];
    const struct ld_store_job *found = NULL;
    if (!ld_dialect_body(ex, &tree, LD_JSON_VALUES))
        return LD_HANDLED;
    const struct ld_json_node *id = ld_lenient_member(&tree, ld_json_root(&tree), "id_task");
    const char *task = id ? ld_lenient_text(id, &ex->arena) : NULL;
    if (!task)
        return ld_exchange_refuse(ex, LD_E_INVALID, 0, "id_task is required");
    if (!ld_dialect_jobs(ex, -1, TASKS_LOOKED_AT, &jobs, &count))
        return LD_HANDLED;
    for (uint32_t i = 0; i < count && !found; i++)
        found = has_tag(&jobs[i], task) ? &jobs[i] : NULL;
    struct ld_job_view view = {0};
    view.status = LD_JOB_EXPIRED;
    if (found) {
        view = found->view;
        ld_front_enliven(ex->front, &view, phase);
    }
    const bool active = view.status == LD_JOB_RUNNING || view.status == LD_JOB_CANCELLING;
    ld_buffer_format(&ex->reply.body,
                     "{\"active\":%s,\"queued\":%s,\"paused\":false,\"completed\":%s,\"progress\":",
                     active ? "true" : "false", view.status == LD_JOB_QUEUED ? "true" : "false",
                     found && ld_job_status_is_final(view.status) ? "true" : "false");
    if (active)
        ld_buffer_json_double(&ex->reply.body, view.progress.fraction);
    else
        ld_buffer_text(&ex->reply.body, "null");
    ld_buffer_text(&ex->reply.body, ",\"eta\":");
    if (active && view.eta_ms >= 0)
        ld_buffer_json_double(&ex->reply.body, (double)view.eta_ms / 1000);
    else
        ld_buffer_text(&ex->reply.body, "null");
    write_live_preview(ex, &tree, active ? view.id : NULL);
    ld_buffer_text(&ex->reply.body, ",\"textinfo\":null}");
    return ld_exchange_json(ex, 200);
}

enum ld_handled ld_handle_a1111_tasks(struct ld_exchange *ex)
{
    struct ld_store_job *jobs;
    uint32_t count;
    char tag[LD_TAG_BYTES_MAX + 1];
    if (!ld_dialect_jobs(ex, LD_JOB_QUEUED, TASKS_LOOKED_AT, &jobs, &count))
        return LD_HANDLED;
    ld_buffer_format(&ex->reply.body, "{\"size\":%u,\"tasks\":[", count);
    for (uint32_t i = 0; i < count; i++) {
        const struct ld_job_view *view = &jobs[i].view;
        const bool tagged =
            ld_json_find_string(ld_span_text(view->request_json), "/tag", tag, sizeof tag) && *tag;
        ld_buffer_text(&ex->reply.body, i ? "," : "");
        ld_buffer_json_string(&ex->reply.body, tagged ? tag : view->id);
    }
    ld_buffer_text(&ex->reply.body, "]}");
    return ld_exchange_json(ex, 200);
}

enum ld_handled ld_handle_a1111_ping(struct ld_exchange *ex)
{
    ld_buffer_text(&ex->reply.body, "{}");
    return ld_exchange_json(ex, 200);
}

/* ---- Stopping -------------------------------------------------------------------------------- */

/* What runs stops after this step and answers with what there is. */
enum ld_handled ld_handle_a1111_interrupt(struct ld_exchange *ex)
{
    (void)ld_dialect_cancel_all(ex, false, true);
    ld_buffer_text(&ex->reply.body, "{}");
    return ld_exchange_json(ex, 200);
}

enum ld_handled ld_handle_a1111_skip(struct ld_exchange *ex)
{
    (void)ld_dialect_cancel_all(ex, false, true);
    ld_buffer_text(&ex->reply.body, "null");
    return ld_exchange_json(ex, 200);
}

/* ---- Options --------------------------------------------------------------------------------- */

static void note_name(const struct ld_exchange *ex, char *out, size_t size)
{
    const bool fits = ld_fmt(out, size, "a1111.options.%s", ex->tenant);
    LD_ASSERT(fits);
}

void ld_a1111_options_load(struct ld_exchange *ex, struct ld_a1111_options *options)
{
    char name[LD_STORE_TENANT_BYTES_MAX + 32];
    const char *text;
    struct ld_json_tree tree;
    struct ld_error err;
    memset(options, 0, sizeof *options);
    note_name(ex, name, sizeof name);
    if (ld_store_note_get(ex->front->store, name, &ex->arena, &text, &err) == LD_OK && *text &&
        ld_json_scan(&tree, ld_span_text(text), 4, 64, &ex->arena, &err) == LD_OK)
        ld_a1111_options_read(options, &tree, ld_json_root(&tree), &ex->arena);
}

/* What a caller sets holds for the caller's own calls: nobody switches a model that others use. */
enum ld_handled ld_handle_a1111_options_post(struct ld_exchange *ex)
{
    struct ld_json_tree tree;
    struct ld_a1111_options options;
    struct ld_error err = {0};
    char name[LD_STORE_TENANT_BYTES_MAX + 32];
    char model[LD_RECIPE_NAME_SIZE];
    if (!ld_dialect_body(ex, &tree, LD_JSON_VALUES))
        return LD_HANDLED;
    ld_a1111_options_load(ex, &options);
    ld_a1111_options_read(&options, &tree, ld_json_root(&tree), &ex->arena);
    if (options.model && *options.model) {
        ld_a1111_model_name(options.model, model);
        const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
        const bool known = !inventory || ld_inventory_model(inventory, model);
        const char *reason = ld_inventory_unusable(inventory, "model", model);
        if (!known)
            (void)(reason ? LD_FAIL(&err, LD_E_INVALID,
                                    "sd_model_checkpoint: the model is here but cannot be used: "
                                    "%.300s",
                                    reason)
                          : LD_FAIL(&err, LD_E_INVALID,
                                    "sd_model_checkpoint: there is no such model here"));
        ld_inventory_release(ex->front->inventory, inventory);
        if (!known)
            return ld_exchange_fail(ex, &err);
    }
    struct ld_buffer text = ld_buffer_make(64 * 1024);
    ld_a1111_options_write(&options, &text);
    note_name(ex, name, sizeof name);
    const enum ld_code code = text.failed
                                  ? LD_FAIL(&err, LD_E_TOO_LARGE, "the options are too long")
                                  : ld_store_note_put(ex->front->store, name, text.data, &err);
    ld_buffer_deinit(&text);
    if (code != LD_OK)
        return ld_exchange_fail(ex, &err);
    ld_buffer_text(&ex->reply.body, "null");
    return ld_exchange_json(ex, 200);
}

enum ld_handled ld_handle_a1111_options(struct ld_exchange *ex)
{
    struct ld_a1111_options options;
    struct ld_buffer *out = &ex->reply.body;
    char name[LD_RECIPE_NAME_SIZE] = "";
    ld_a1111_options_load(ex, &options);
    if (options.model)
        ld_a1111_model_name(options.model, name);
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    const struct ld_model_view *model = ld_inventory_model(inventory, name);
    const struct ld_manifest *manifest =
        ld_manifests_for(&ld_guides_now(ex->front->guides)->manifests, model ? model->name : name);
    int64_t clip_skip = options.clip_skip > 0 ? options.clip_skip : 2;
    for (uint32_t i = 0; manifest && i < manifest->default_count && options.clip_skip == 0; i++)
        if (strcmp(manifest->defaults[i].field, "clip_skip") == 0)
            (void)ld_parse_i64(ld_span_text(manifest->defaults[i].value), &clip_skip);
    const char *title = model ? ld_a1111_model_title(&ex->arena, model) : NULL;
    ld_buffer_text(out, "{\"samples_save\":true,\"samples_format\":");
    ld_buffer_json_string(out, options.format ? options.format : "png");
    ld_buffer_format(out, ",\"jpeg_quality\":%lld,\"webp_lossless\":%s,\"sd_model_checkpoint\":",
                     (long long)(options.quality > 0 ? options.quality : LD_A1111_QUALITY_DEFAULT),
                     options.lossless ? "true" : "false");
    ld_buffer_json_string(out, title ? title : "");
    ld_buffer_format(out, ",\"sd_checkpoint_hash\":\"%s\",\"sd_vae\":",
                     model && model->sha256 ? model->sha256 : "");
    ld_buffer_json_string(out, options.vae ? options.vae : "Automatic");
    ld_buffer_format(out,
                     ",\"CLIP_stop_at_last_layers\":%lld,\"eta_noise_seed_delta\":%lld,"
                     "\"randn_source\":\"GPU\",\"enable_pnginfo\":true,\"show_progressbar\":true,"
                     "\"live_previews_enable\":%s,\"show_progress_every_n_steps\":%lld,"
                     "\"live_previews_image_format\":",
                     (long long)clip_skip, (long long)options.ensd,
                     options.previews_off ? "false" : "true",
                     (long long)(options.previews_every ? options.previews_every
                                                        : ld_a1111_previews_every(&options)));
    ld_buffer_json_string(out, options.previews_format ? options.previews_format : "png");
    ld_buffer_text(out, ",\"img2img_fix_steps\":false}");
    ld_inventory_release(ex->front->inventory, inventory);
    return ld_exchange_json(ex, 200);
}
