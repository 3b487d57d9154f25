#include "runtime/model/merge_model.h"

#include "runtime/base/buffer.h"
#include "runtime/base/id.h"
#include "runtime/model/arch.h"
#include "runtime/model/keymap.h"
#include "runtime/model/safetensors_write.h"

#include <string.h>

enum { MODELS = 3, COMMON_CHANNELS = 4, NOTES_MAX = 3 };

/* Where a tensor of the new file comes from. */
struct source {
    struct ld_weight_view views[MODELS];
    bool present[MODELS];
    enum ld_merge_part part;
};

struct job {
    const struct ld_merge_request *request;
    const struct ld_weights *models[MODELS];
    struct ld_st_item *items;
    struct source *sources;
    uint32_t count;
};

/* ---- Plan ------------------------------------------------------------------------------------ */

/* The same but for the number of input channels of a convolution. */
static bool same_but_channels(const struct ld_weight_view *a, const struct ld_weight_view *b)
{
    return a->rank == 4 && b->rank == 4 && a->shape[0] == b->shape[0] &&
           a->shape[2] == b->shape[2] && a->shape[3] == b->shape[3];
}

static bool same_shape(const struct ld_weight_view *a, const struct ld_weight_view *b)
{
    return a->rank == b->rank && memcmp(a->shape, b->shape, sizeof a->shape) == 0;
}

static bool is_first_conv(const char *name)
{
    return strcmp(name, LD_PREFIX_UNET "input_blocks.0.0.weight") == 0;
}

static enum ld_merge_part part_of(const struct ld_merge_request *request, const char *name)
{
    if (strncmp(name, LD_PREFIX_VAE, strlen(LD_PREFIX_VAE)) == 0)
        return request->vae;
    if (strncmp(name, LD_PREFIX_TEXT, strlen(LD_PREFIX_TEXT)) == 0)
        return request->text;
    return LD_MERGE_PART_MERGED;
}

/* The model whose shape the result has: the one with the most input channels, else the first. */
static uint32_t widest(const struct source *source)
{
    uint32_t best = MODELS;
    for (uint32_t m = 0; m < MODELS; m++) {
        if (source->present[m] &&
            (best == MODELS || source->views[m].count > source->views[best].count))
            best = m;
    }
    return best;
}

static enum ld_code add_tensor(struct job *job, const char *name, struct ld_error *err)
{
    struct source *source = &job->sources[job->count];
    memset(source, 0, sizeof *source);
    for (uint32_t m = 0; m < MODELS; m++)
        source->present[m] =
            job->models[m] && ld_weights_get(job->models[m], name, &source->views[m]);
    source->part = part_of(job->request, name);
    if (source->part == LD_MERGE_PART_A && source->present[0])
        source->present[1] = source->present[2] = false;
    if (source->part == LD_MERGE_PART_B && source->present[1])
        source->present[0] = source->present[2] = false;
    if (!source->present[0] && !source->present[1])
        return LD_OK;
    const uint32_t shaped = widest(source);
    const struct ld_weight_view *view = &source->views[shaped];
    for (uint32_t m = 0; m < MODELS; m++) {
        if (source->present[m] && !same_shape(&source->views[m], view) &&
            !(is_first_conv(name) && same_but_channels(&source->views[m], view)))
            return LD_FAIL(err, LD_E_SHAPE, "the models disagree on the shape of %s", name);
    }
    struct ld_st_item *item = &job->items[job->count++];
    item->name = view->name;
    item->dtype = job->request->dtype;
    if (item->dtype == LD_DTYPE_OTHER)
        item->dtype = source->views[source->present[0] ? 0 : 1].dtype;
    item->rank = (uint32_t)view->rank;
    for (int32_t i = 0; i < view->rank; i++)
        item->shape[i] = (uint64_t)view->shape[i];
    return LD_OK;
}

static enum ld_code plan(struct job *job, struct ld_error *err)
{
    const struct ld_keymap *map = ld_weights_keymap(job->request->a);
    enum ld_code code = LD_OK;
    job->items = ld_heap_calloc(ld_keymap_count(map), sizeof *job->items);
    job->sources = ld_heap_calloc(ld_keymap_count(map), sizeof *job->sources);
    if (!job->items || !job->sources)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory to merge models");
    for (uint32_t i = 0; code == LD_OK && i < ld_keymap_count(map); i++)
        code = add_tensor(job, ld_keymap_at(map, i)->name, err);
    return code;
}

/* ---- Tensors --------------------------------------------------------------------------------- */

/* `count` values of the first `channels` input channels of a convolution, one row after another. */
static void take_channels(float *dst, const float *src, const struct ld_weight_view *view,
                          size_t channels)
{
    const size_t kernel = (size_t)(view->shape[2] * view->shape[3]);
    const size_t stride = (size_t)view->shape[1] * kernel;
    for (size_t o = 0; o < (size_t)view->shape[0]; o++)
        memmove(dst + o * channels * kernel, src + o * stride, channels * kernel * sizeof *dst);
}

static void put_channels(float *dst, const float *src, const struct ld_weight_view *view,
                         size_t channels)
{
    const size_t kernel = (size_t)(view->shape[2] * view->shape[3]);
    const size_t stride = (size_t)view->shape[1] * kernel;
    for (size_t o = 0; o < (size_t)view->shape[0]; o++)
        memcpy(dst + o * stride, src + o * channels * kernel, channels * kernel * sizeof *dst);
}

static bool shapes_differ(const struct source *source, uint32_t models, uint32_t shaped)
{
    for (uint32_t m = 0; m < models; m++) {
        if (!same_shape(&source->views[m], &source->views[shaped]))
            return true;
    }
    return false;
}

/* Merge all present models into values[MODELS]; each buffer holds the largest tensor. */
static enum ld_code merge_present(const struct job *job, const struct source *source,
                                  float *values[MODELS + 1], struct ld_error *err)
{
    const struct ld_merge_recipe *recipe = job->request->recipe;
    const uint32_t models = ld_merge_models(recipe->op);
    const uint32_t shaped = widest(source);
    const struct ld_weight_view *view = &source->views[shaped];
    const bool narrow = shapes_differ(source, models, shaped);
    size_t count = view->count;
    for (uint32_t m = 0; m < models; m++)
        ld_weight_view_decode(&source->views[m], values[m]);
    memcpy(values[MODELS], values[shaped], view->count * sizeof(float));
    if (narrow) {
        count = view->count / (size_t)view->shape[1] * COMMON_CHANNELS;
        for (uint32_t m = 0; m < models; m++)
            take_channels(values[m], values[m], &source->views[m], COMMON_CHANNELS);
    }
    const enum ld_code code = ld_merge_tensor(values[0], recipe, view->name, values[0], values[1],
                                              models == 3 ? values[2] : NULL, count, err);
    if (narrow)
        put_channels(values[MODELS], values[0], view, COMMON_CHANNELS);
    else
        memcpy(values[MODELS], values[0], view->count * sizeof(float));
    return code;
}

static bool all_present(const struct job *job, const struct source *source)
{
    for (uint32_t m = 0; m < ld_merge_models(job->request->recipe->op); m++) {
        if (!source->present[m])
            return false;
    }
    return true;
}

static enum ld_code fill(void *ctx, uint32_t index, void *dst, size_t bytes, struct ld_error *err)
{
    (void)bytes;
    const struct job *job = ctx;
    const struct source *source = &job->sources[index];
    const struct ld_weight_view *view = &source->views[widest(source)];
    const size_t size = view->count * sizeof(float);
    float *values[MODELS + 1] = {NULL};
    bool ready = true;
    enum ld_code code = LD_OK;
    for (uint32_t m = 0; m <= MODELS; m++)
        ready = ready && (values[m] = ld_block_alloc(size)) != NULL;
    if (!ready)
        code = LD_FAIL(err, LD_E_NOMEM, "not enough memory to merge models");
    else if (all_present(job, source))
        code = merge_present(job, source, values, err);
    else
        ld_weight_view_decode(&source->views[source->present[0] ? 0 : 1], values[MODELS]);
    if (code == LD_OK)
        ld_dtype_from_f32(dst, values[MODELS], job->items[index].dtype, view->count);
    for (uint32_t m = 0; m <= MODELS; m++)
        ld_block_free(values[m], size);
    for (uint32_t m = 0; m < MODELS; m++) {
        if (source->present[m])
            ld_weights_drop_pages(job->models[m], &source->views[m]);
    }
    return code;
}

/* ---- Metadata -------------------------------------------------------------------------------- */

static void write_numbers(struct ld_buffer *out, const char *key, const double *values, int count)
{
    ld_buffer_format(out, ",\"%s\":[", key);
    for (int i = 0; i < count; i++) {
        if (i > 0)
            ld_buffer_byte(out, ',');
        ld_buffer_json_double(out, values[i]);
    }
    ld_buffer_byte(out, ']');
}

static void write_recipe(struct ld_buffer *out, const struct ld_merge_recipe *recipe)
{
    ld_buffer_format(out, "{\"op\":\"%s\"", ld_merge_op_name(recipe->op));
    if (recipe->op == LD_MERGE_WEIGHTED_SUM || recipe->op == LD_MERGE_ADD_DIFFERENCE)
        write_numbers(out, "alpha", &recipe->alpha, 1);
    if (recipe->op == LD_MERGE_BLOCK_WEIGHTED) {
        write_numbers(out, "base", &recipe->base, 1);
        write_numbers(out, "in", recipe->in, LD_MERGE_BLOCKS);
        write_numbers(out, "middle", &recipe->middle, 1);
        write_numbers(out, "out", recipe->out, LD_MERGE_BLOCKS);
    }
    if (recipe->op == LD_MERGE_TIES)
        write_numbers(out, "density", &recipe->density, 1);
    if (recipe->op == LD_MERGE_DARE)
        write_numbers(out, "drop", &recipe->drop, 1);
    if (recipe->op == LD_MERGE_TIES || recipe->op == LD_MERGE_DARE)
        write_numbers(out, "lambda", &recipe->lambda, 1);
}

static enum ld_code write_history(struct ld_buffer *out, const struct job *job,
                                  struct ld_error *err)
{
    static const char *const parts[] = {"merged", "A", "B"};
    struct ld_weights *const models[MODELS] = {job->request->a, job->request->b, job->request->c};
    write_recipe(out, job->request->recipe);
    ld_buffer_format(out, ",\"vae\":\"%s\",\"text\":\"%s\",\"parents\":[", parts[job->request->vae],
                     parts[job->request->text]);
    for (uint32_t m = 0; m < MODELS && models[m]; m++) {
        char digest[LD_SHA256_HEX_SIZE];
        const enum ld_code code = ld_weights_sha256(models[m], digest, err);
        if (code != LD_OK)
            return code;
        ld_buffer_format(out, "%s\"%s\"", m ? "," : "", digest);
    }
    ld_buffer_text(out, "]}");
    return out->failed ? LD_FAIL(err, LD_E_NOMEM, "not enough memory to merge models") : LD_OK;
}

/* ---- The whole ------------------------------------------------------------------------------- */

static enum ld_code write_model(int fd, struct job *job, const char *history, struct ld_error *err)
{
    struct ld_st_note notes[NOTES_MAX] = {{"latentd.merge", history}};
    const char *config = ld_weights_metadata(job->request->a, LD_TEST_CONFIG_KEY);
    uint32_t count = 1;
    if (config)
        notes[count++] = (struct ld_st_note){LD_TEST_CONFIG_KEY, config};
    if (ld_weights_arch(job->request->a)->prediction == LD_PREDICT_V)
        notes[count++] = (struct ld_st_note){"modelspec.prediction_type", "v"};
    const struct ld_st_write plan_of_file = {
        .items = job->items,
        .count = job->count,
        .metadata = notes,
        .metadata_count = count,
        .fill = fill,
        .ctx = job,
    };
    return ld_safetensors_write(fd, &plan_of_file, err);
}

enum ld_code ld_merge_write(int fd, const struct ld_merge_request *request, struct ld_error *err)
{
    struct job job = {
        .request = request,
        .models = {request->a, request->b, request->c},
    };
    struct ld_buffer history = ld_buffer_make(64 * 1024);
    enum ld_code code = ld_merge_check(request->recipe, err);
    if (code == LD_OK &&
        (!request->a || !request->b || (ld_merge_models(request->recipe->op) == 3 && !request->c)))
        code = LD_FAIL(err, LD_E_INVALID, "this merge needs %u models",
                       ld_merge_models(request->recipe->op));
    if (code == LD_OK)
        code = plan(&job, err);
    if (code == LD_OK)
        code = write_history(&history, &job, err);
    if (code == LD_OK)
        code = write_model(fd, &job, history.data, err);
    ld_buffer_deinit(&history);
    ld_heap_free(job.items);
    ld_heap_free(job.sources);
    return code;
}
