#include "server/worker_engine.h"

#include "server/state.h"

#include <sys/stat.h>

static const char *inventory(void *ctx)
{
    return ld_engine_inventory(ctx);
}

static enum ld_code submit(void *ctx, const struct ld_engine_job *job, uint64_t *handle,
                           struct ld_error *err)
{
    return ld_engine_submit(ctx, job, handle, err);
}

static void cancel(void *ctx, uint64_t handle, bool keep_partial)
{
    ld_engine_cancel(ctx, handle, keep_partial);
}

static bool busy(void *ctx)
{
    return ld_engine_busy(ctx);
}

static enum ld_code tick(void *ctx, struct ld_error *err)
{
    return ld_engine_tick(ctx, err);
}

static enum ld_code plan(void *ctx, const struct ld_request *request, struct ld_buffer *out,
                         struct ld_error *err)
{
    return ld_engine_plan(ctx, request, out, err);
}

static enum ld_code extend(void *ctx, const struct ld_request *request, ld_engine_answer answer,
                           void *answer_ctx, struct ld_error *err)
{
    return ld_engine_extend(ctx, request, answer, answer_ctx, err);
}

static void forget_asked(void *ctx)
{
    ld_engine_forget_asked(ctx);
}

static enum ld_code model(void *ctx, const char *name, bool load, struct ld_buffer *out,
                          struct ld_error *err)
{
    return ld_engine_model(ctx, name, load, out, err);
}

static enum ld_code find(void *ctx, const char *name, struct ld_error *err)
{
    return ld_engine_find(ctx, name, err);
}

static enum ld_code rescan(void *ctx, struct ld_buffer *out, struct ld_error *err)
{
    return ld_engine_rescan(ctx, out, err);
}

static bool has_news(void *ctx)
{
    return ld_engine_has_news(ctx);
}

static enum ld_code idle(void *ctx, enum ld_idle *left, struct ld_error *err)
{
    return ld_engine_idle(ctx, left, err);
}

enum ld_code ld_worker_engine_open(struct ld_worker_pipeline *pipeline,
                                   const struct ld_settings *settings, uint32_t slot,
                                   struct ld_error *err)
{
    struct stat info;
    struct ld_engine *engine = NULL;
    static struct ld_state state; /* large */
    struct ld_error ignored = {0};
    const bool has_state = ld_state_place(&state, settings, &ignored) == LD_OK;
    /* The setting is a name in the folder, or a file or folder of its own. */
    const bool is_path = settings->model[0] && stat(settings->model, &info) == 0;
    const struct ld_engine_config config = {
        .model_dir = settings->model_dir,
        .adapter_dir = settings->adapter_dir,
        .embedding_dir = settings->embedding_dir,
        .wildcard_dir = settings->wildcard_dir,
        .vae_dir = settings->vae_dir,
        .controlnet_dir = settings->controlnet_dir,
        .preview_decoder = settings->preview_decoder,
        .tipo_model = settings->tipo_model,
        .tag_dir = settings->manifest_dir,
        .default_model = is_path ? "" : settings->model,
        .model_path = is_path ? settings->model : "",
        .vocab_path = settings->vocab,
        .digests_path = has_state ? state.digests_path : "",
        .backend = settings->backend,
        .precision = settings->precision,
        .fp16_accumulate = settings->fp16_accumulate,
        .stream_weights = settings->stream_weights,
        .threads = (uint32_t)settings->threads,
        .device_turn = slot,
        .batch_max = (uint32_t)settings->batch_max,
        .model_bytes_max = (size_t)settings->model_memory_mib << 20,
        .variant_bytes_max = (size_t)settings->variant_mib << 20,
        .variants_bounded = true,
        .tune_idle = settings->tune_idle,
    };
    const enum ld_code code = ld_engine_create(&engine, &config, err);
    if (code == LD_OK)
        *pipeline = (struct ld_worker_pipeline){.ctx = engine,
                                                .inventory = inventory,
                                                .submit = submit,
                                                .cancel = cancel,
                                                .busy = busy,
                                                .tick = tick,
                                                .plan = plan,
                                                .extend = extend,
                                                .forget_asked = forget_asked,
                                                .model = model,
                                                .find = find,
                                                .rescan = rescan,
                                                .has_news = has_news,
                                                .idle = idle};
    return code;
}
