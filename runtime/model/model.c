#include "runtime/model/model.h"

#include "runtime/base/log.h"
#include "runtime/model/model_state.h"

#include <string.h>

/* Plans hold a prompt's keys and values (31 MB for two rows of 154 tokens at SD1.5's widths) and
 * host rows; 512 MiB keep a dozen shapes. */
static const size_t PLAN_BYTES_MAX = (size_t)512 << 20;

/* ---- Life ------------------------------------------------------------------------------------ */

static enum ld_code create(struct ld_model **out, struct ld_backend *backend,
                           const struct ld_weights *weights, struct ld_weights *owned,
                           struct ld_error *err)
{
    struct ld_model *model = ld_heap_alloc(sizeof *model);
    *out = model;
    if (!model)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the model");
    model->backend = backend;
    model->weights = weights;
    model->owned_weights = owned;
    model->serials = LD_MODEL_SERIAL;
    ld_plan_cache_init(&model->cache, backend, PLAN_BYTES_MAX);
    ld_workspace_init(&model->workspace, backend);
    for (int p = 0; p < LD_PART_COUNT; p++) {
        ld_weight_layout_init(&model->parts[p].layout);
        ld_weight_pack_init(&model->parts[p].pack, backend);
    }
    return LD_OK;
}

enum ld_code ld_model_create(struct ld_model **out, struct ld_backend *backend,
                             const struct ld_weights *weights, struct ld_error *err)
{
    return create(out, backend, weights, NULL, err);
}

enum ld_code ld_model_open(struct ld_model **out, struct ld_backend *backend, const char *path,
                           const struct ld_weights_options *options, struct ld_error *err)
{
    struct ld_weights *weights = NULL;
    *out = NULL;
    enum ld_code code = ld_weights_open(&weights, path, options, err);
    if (code != LD_OK)
        return code;
    code = create(out, backend, weights, weights, err);
    if (code != LD_OK)
        ld_weights_close(weights);
    return code;
}

void ld_model_destroy(struct ld_model *model)
{
    if (!model)
        return;
    ld_plan_cache_deinit(&model->cache);
    ld_workspace_deinit(&model->workspace);
    for (int p = 0; p < LD_PART_COUNT; p++) {
        ld_weight_pack_deinit(&model->parts[p].pack);
        ld_weight_layout_deinit(&model->parts[p].layout);
    }
    ld_weights_close(model->owned_weights);
    ld_heap_free(model);
}

const struct ld_arch *ld_model_arch(const struct ld_model *model)
{
    return ld_weights_arch(model->weights);
}

const struct ld_weights *ld_model_weights(const struct ld_model *model)
{
    return model->weights;
}

void ld_model_stream(struct ld_model *model)
{
    if (!model->backend->ops->ring_plan_bytes)
        return;
    for (int p = 0; p < LD_PART_COUNT; p++) {
        LD_ASSERT(model->parts[p].pack.count == 0);
        model->parts[p].pack.streamed = true;
    }
}

void ld_model_stream_if_short(struct ld_model *model)
{
    model->stream_if_short = model->backend->ops->ring_plan_bytes != NULL;
}

bool ld_model_is_streamed(const struct ld_model *model)
{
    return model->parts[LD_PART_UNET].pack.streamed;
}

size_t ld_model_weight_bytes(const struct ld_model *model)
{
    size_t bytes = 0;
    for (int p = 0; p < LD_PART_COUNT; p++)
        bytes += model->parts[p].pack.bytes;
    return bytes;
}

bool ld_model_trim(struct ld_model *model)
{
    if (model->computing || !model->workspace.scratch)
        return false;
    ld_workspace_trim(&model->workspace);
    return true;
}

void ld_model_set_tap(struct ld_model *model, const struct ld_graph_tap_sink *tap)
{
    model->tap = tap;
}

/* ---- Parts ----------------------------------------------------------------------------------- */

static bool has_part(const struct ld_arch *arch, enum ld_part part)
{
    return (part == LD_PART_UNET && arch->has_unet) || (part == LD_PART_TEXT && arch->has_text) ||
           (part == LD_PART_VAE_DECODER && arch->has_vae_decoder) ||
           (part == LD_PART_VAE_ENCODER && arch->has_vae_encoder) ||
           (part == LD_PART_CONTROL && arch->has_control);
}

static const char *part_name(enum ld_part part)
{
    static const char *const names[LD_PART_COUNT] = {[LD_PART_UNET] = "UNet",
                                                     [LD_PART_VAE_ENCODER] = "VAE encoder",
                                                     [LD_PART_VAE_DECODER] = "VAE decoder",
                                                     [LD_PART_TEXT] = "text encoder",
                                                     [LD_PART_CONTROL] = "ControlNet"};
    return names[part];
}

/* The backend knows how much of one piece is missing; people want to know what for. */
static enum ld_code name_part(const struct ld_model *model, enum ld_part part, struct ld_error *err)
{
    char why[LD_ERROR_DETAIL_SIZE];
    const uint64_t bytes = ld_weight_layout_values(&model->parts[part].layout) *
                           ld_dtype_size(model->backend->act_dtype);
    if (!err)
        return LD_E_GPU_NOMEM;
    (void)ld_fmt(why, sizeof why, "%s", err->detail);
    if (model->parts[part].pack.streamed)
        (void)ld_fmt(err->detail, sizeof err->detail,
                     "the model's %s has no room on the GPU to be streamed through: %.300s",
                     part_name(part), why);
    else
        (void)ld_fmt(err->detail, sizeof err->detail,
                     "the model's %s takes %u MiB on the GPU: %.300s", part_name(part),
                     (unsigned)((bytes + ((1U << 20) - 1)) >> 20), why);
    return err->code;
}

/* Pack what `pack` lacks of a part. What has no room on the GPU, after all that nobody needs has
 * been let go of, is packed anew to be streamed: no run has used it so far. */
static enum ld_code fill(const struct ld_model *model, enum ld_part part,
                         struct ld_weight_pack *pack, const struct ld_weights *weights,
                         const struct ld_weight_pack *base, struct ld_error *err)
{
    const struct ld_weight_layout *layout = &model->parts[part].layout;
    const enum ld_code code = ld_weight_pack_fill(pack, layout, weights, base, err);
    if (code != LD_E_GPU_NOMEM || pack->streamed || !model->stream_if_short)
        return code;
    LD_LOG(LD_LOG_WARN, "model", "weights have no room on the GPU and are streamed",
           ld_log_text("part", part_name(part)));
    ld_weight_pack_deinit(pack);
    ld_weight_pack_init(pack, model->backend);
    pack->streamed = true;
    return ld_weight_pack_fill(pack, layout, weights, base, err);
}

/* The slots of a part, its own or, of ControlNets, those that any of them would have beside it. */
static enum ld_code list_part(struct ld_model *model, enum ld_part part, struct ld_error *err)
{
    struct ld_model_part *state = &model->parts[part];
    enum ld_code code = LD_OK;
    if (!state->listed)
        code = ld_plan_list_slots(&state->layout, ld_model_arch(model), model->backend->act_dtype,
                                  part, err);
    state->listed = state->listed || code == LD_OK;
    return code;
}

enum ld_code ld_model_load(struct ld_model *model, enum ld_part part, struct ld_error *err)
{
    struct ld_model_part *state = &model->parts[part];
    if (!has_part(ld_model_arch(model), part))
        return LD_FAIL(err, LD_E_NOT_FOUND, "the model has no %s", part_name(part));
    enum ld_code code = list_part(model, part, err);
    if (code == LD_OK)
        code = fill(model, part, &state->pack, model->weights, NULL, err);
    return code == LD_E_GPU_NOMEM ? name_part(model, part, err) : code;
}

enum ld_code ld_model_pack(struct ld_model *model, struct ld_variant *variant, enum ld_part part,
                           const struct ld_weight_pack **out, struct ld_error *err)
{
    const struct ld_model_part *state = &model->parts[part];
    enum ld_code code = ld_model_load(model, part, err);
    *out = &state->pack;
    if (code != LD_OK || !variant)
        return code;
    LD_ASSERT(variant->model == model);
    *out = &variant->packs[part];
    if (!variant->overlay)
        return LD_OK;
    if (state->pack.streamed) /* also where it has come to that since the variant was made */
        variant->packs[part].streamed = true;
    return fill(model, part, &variant->packs[part], variant->overlay, &state->pack, err);
}

/* ---- Variants -------------------------------------------------------------------------------- */

enum ld_code ld_variant_create(struct ld_variant **out, struct ld_model *model,
                               const struct ld_weights *overlay, struct ld_error *err)
{
    struct ld_variant *variant = ld_heap_alloc(sizeof *variant);
    *out = variant;
    if (!variant)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the model's variant");
    variant->model = model;
    variant->overlay = overlay;
    variant->serial = ++model->serials;
    for (int p = 0; p < LD_PART_COUNT; p++) {
        ld_weight_pack_init(&variant->packs[p], model->backend);
        variant->packs[p].streamed = model->parts[p].pack.streamed;
    }
    return LD_OK;
}

void ld_variant_destroy(struct ld_variant *variant)
{
    if (!variant)
        return;
    for (int p = 0; p < LD_PART_COUNT; p++)
        ld_weight_pack_deinit(&variant->packs[p]);
    ld_heap_free(variant);
}

enum ld_code ld_variant_load(struct ld_variant *variant, struct ld_error *err)
{
    const struct ld_weight_pack *pack;
    enum ld_code code = LD_OK;
    for (int p = 0; code == LD_OK && p < LD_PART_COUNT; p++)
        if (has_part(ld_model_arch(variant->model), (enum ld_part)p))
            code = ld_model_pack(variant->model, variant, (enum ld_part)p, &pack, err);
    if (code == LD_OK)
        variant->overlay = NULL;
    return code;
}

size_t ld_variant_bytes(const struct ld_variant *variant)
{
    size_t bytes = 0;
    for (int p = 0; p < LD_PART_COUNT; p++)
        bytes += variant->packs[p].bytes;
    return bytes;
}

/* ---- What decides bits ----------------------------------------------------------------------- */

const struct ld_backend *ld_model_backend(const struct ld_model *model)
{
    return model->backend;
}

enum ld_code ld_model_signature(struct ld_model *model, enum ld_part part, int32_t height,
                                int32_t width, uint64_t *out, struct ld_error *err)
{
    /* A tuner decides a layer's signature at this batch; a context is cut into chunks anyway. */
    enum { BATCH = 2, CHUNK = 77 };
    const struct ld_plan_key key = {.part = part,
                                    .unet = {BATCH, height, width, CHUNK},
                                    .vae = {.batch = 1, .height = height, .width = width},
                                    .clip = {.chunks = 1, .skip = 1}};
    struct ld_graph graph;
    *out = 0;
    if (!model->backend->ops->signature)
        return LD_OK;
    enum ld_code code = ld_model_load(model, part, err);
    if (code != LD_OK)
        return code;
    ld_graph_init(&graph, model->backend->act_dtype, &model->parts[part].layout);
    ld_plan_build(&graph, ld_model_arch(model), &key);
    code = ld_graph_finish(&graph, err);
    if (code == LD_OK)
        *out = ld_graph_signature(&graph, model->backend, &model->parts[part].pack);
    ld_graph_deinit(&graph);
    return code;
}

/* ---- Running --------------------------------------------------------------------------------- */

enum ld_code ld_model_prepare(struct ld_model *model, struct ld_variant *variant,
                              const struct ld_plan_key *key, size_t host_bytes,
                              struct ld_plan **plan, struct ld_graph_run *run, struct ld_error *err)
{
    const struct ld_weight_pack *pack;
    memset(run, 0, sizeof *run);
    model->computing = true; /* what is allocated from here on must not take the workspace away */
    enum ld_code code = ld_model_pack(model, variant, key->part, &pack, err);
    if (code == LD_OK && key->options.controls > 0)
        code = list_part(model, LD_PART_CONTROL, err);
    if (code == LD_OK)
        code =
            ld_plan_cache_get(&model->cache, ld_model_arch(model), &model->parts[key->part].layout,
                              &model->parts[LD_PART_CONTROL].layout, key, host_bytes, plan, err);
    if (code == LD_OK)
        code = ld_workspace_fit(&model->workspace, &(*plan)->graph, err);
    model->computing = code == LD_OK;
    if (code != LD_OK)
        return code;
    LD_ASSERT(pack->count == model->parts[key->part].layout.count);
    *run = (struct ld_graph_run){.backend = model->backend,
                                 .scratch = model->workspace.scratch,
                                 .persistent = (*plan)->persistent,
                                 .staging = model->workspace.staging,
                                 .weights = pack,
                                 .tap = model->tap};
    return LD_OK;
}

enum ld_code ld_model_run(struct ld_model *model, const struct ld_plan *plan,
                          const struct ld_graph_run *run, struct ld_error *err)
{
    const enum ld_code code = ld_graph_run(&plan->graph, run, err);
    model->computing = false;
    return code;
}
