#include "runtime/model/merge_model.h"

#include "runtime/base/arena.h"
#include "runtime/base/buffer.h"
#include "runtime/base/id.h"
#include "runtime/model/adapter_plan.h"
#include "runtime/model/arch.h"
#include "runtime/model/merge_bake.h"
#include "runtime/model/model_notes.h"

#include <math.h>
#include <string.h>

enum { MODELS = 3, COMMON_CHANNELS = 4, HISTORY_MAX = 64 * 1024 };

/* Where a tensor of the new file comes from. */
struct source {
    struct ld_weight_view views[MODELS];
    const struct ld_weights *from[MODELS]; /* NULL: not there */
    double similarity;                     /* cosine: over the whole model in 0..1 */
};

struct job {
    const struct ld_merge_request *request;
    const struct ld_weights *models[MODELS];
    const struct ld_keymap *map;
    struct ld_arch arch;
    struct ld_model_item *items;
    struct source *sources;
    uint32_t count;
    struct ld_merge_bake bake;
    struct ld_merge_report *report;
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

/* The model that a part is taken from as it is; NULL where the part is merged. */
static const struct ld_weights *exchanged(const struct ld_merge_request *request, enum ld_part part)
{
    if (part == LD_PART_VAE_ENCODER || part == LD_PART_VAE_DECODER)
        return request->vae.weights;
    return part == LD_PART_TEXT ? request->text.weights : NULL;
}

/* The model whose shape the result has: the one with the most input channels, else the first. */
static uint32_t widest(const struct source *source)
{
    uint32_t best = MODELS;
    for (uint32_t m = 0; m < MODELS; m++) {
        if (source->from[m] &&
            (best == MODELS || source->views[m].count > source->views[best].count))
            best = m;
    }
    return best;
}

static bool all_present(const struct job *job, const struct source *source)
{
    for (uint32_t m = 0; m < ld_merge_models(job->request->recipe->op); m++) {
        if (!source->from[m])
            return false;
    }
    return true;
}

static enum ld_code find_sources(const struct job *job, const struct ld_key *key,
                                 struct source *source, struct ld_error *err)
{
    const struct ld_weights *other = exchanged(job->request, key->part);
    if (other) {
        /* An encoder that the other file lacks stays that of A. */
        const bool there = ld_weights_get(other, key->name, &source->views[0]);
        source->from[0] = there ? other : NULL;
        if (there)
            return LD_OK;
    }
    for (uint32_t m = 0; m < MODELS; m++) {
        if (job->models[m] && ld_weights_get(job->models[m], key->name, &source->views[m]))
            source->from[m] = job->models[m];
        if (other && source->from[m])
            break;
    }
    const uint32_t shaped = widest(source);
    for (uint32_t m = 0; m < MODELS; m++) {
        if (source->from[m] && !same_shape(&source->views[m], &source->views[shaped]) &&
            !(is_first_conv(key->name) &&
              same_but_channels(&source->views[m], &source->views[shaped])))
            return LD_FAIL(err, LD_E_SHAPE, "the models disagree on the shape of %s", key->name);
    }
    return LD_OK;
}

/* What comes from another file as it is has to fit where A's own stood. */
static enum ld_code check_exchanged(const struct job *job, const struct ld_key *key,
                                    const struct source *source, struct ld_error *err)
{
    struct ld_weight_view own;
    return !ld_weights_get(job->models[0], key->name, &own) || same_shape(&own, &source->views[0])
               ? LD_OK
               : LD_FAIL(err, LD_E_SHAPE, "the models disagree on the shape of %s", key->name);
}

static enum ld_code add_tensor(struct job *job, const struct ld_key *key, struct ld_error *err)
{
    struct source *source = &job->sources[job->count];
    memset(source, 0, sizeof *source);
    enum ld_code code = find_sources(job, key, source, err);
    /* A tensor of C alone has no place in the result. */
    if (code != LD_OK || (!source->from[0] && !source->from[1]))
        return code;
    const struct ld_weight_view *view = &source->views[widest(source)];
    struct ld_model_item *item = &job->items[job->count++];
    item->key = key;
    item->rank = view->rank;
    item->count = view->count;
    item->dtype = source->views[source->from[0] ? 0 : 1].dtype;
    for (int32_t i = 0; i < view->rank; i++)
        item->shape[i] = view->shape[i];
    if (!all_present(job, source) && !exchanged(job->request, key->part))
        job->report->copied++;
    return exchanged(job->request, key->part) ? check_exchanged(job, key, source, err) : LD_OK;
}

/* Each part from whoever has it. */
static void unite_arch(struct job *job)
{
    job->arch = *ld_weights_arch(job->request->a.weights);
    for (uint32_t i = 0; i < job->count; i++) {
        const enum ld_part part = job->items[i].key->part;
        job->arch.has_unet = job->arch.has_unet || part == LD_PART_UNET;
        job->arch.has_text = job->arch.has_text || part == LD_PART_TEXT;
        job->arch.has_vae_encoder = job->arch.has_vae_encoder || part == LD_PART_VAE_ENCODER;
        job->arch.has_vae_decoder = job->arch.has_vae_decoder || part == LD_PART_VAE_DECODER;
        if (is_first_conv(job->items[i].key->name))
            job->arch.unet_in_channels = (int32_t)job->items[i].shape[1];
    }
}

static enum ld_code plan(struct job *job, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    job->map = ld_weights_keymap(job->request->a.weights);
    job->items = ld_heap_calloc(ld_keymap_count(job->map), sizeof *job->items);
    job->sources = ld_heap_calloc(ld_keymap_count(job->map), sizeof *job->sources);
    if (!job->items || !job->sources)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory to merge models");
    for (uint32_t i = 0; code == LD_OK && i < ld_keymap_count(job->map); i++)
        code = add_tensor(job, ld_keymap_at(job->map, i), err);
    if (code == LD_OK) {
        unite_arch(job);
        job->report->tensors = job->count;
    }
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

/* The values of every model that the operation wants; the first stands in `dst`, the others are
 * blocks of `size` bytes. */
static enum ld_code decode_all(const struct source *source, uint32_t models, float *dst,
                               float *values[MODELS], size_t size, struct ld_error *err)
{
    for (uint32_t m = 0; m < models; m++) {
        values[m] = m == 0 ? dst : ld_block_alloc(size);
        if (!values[m])
            return LD_FAIL(err, LD_E_NOMEM, "not enough memory to merge models");
        ld_weight_view_decode(&source->views[m], values[m]);
    }
    return LD_OK;
}

/* Merge where only the common input channels of a convolution are shared. Small tensors. */
static enum ld_code merge_narrow(const struct ld_merge_recipe *recipe, const struct source *source,
                                 float *values[MODELS], float *dst, struct ld_error *err)
{
    const uint32_t models = ld_merge_models(recipe->op);
    const struct ld_weight_view *view = &source->views[widest(source)];
    const size_t count = view->count / (size_t)view->shape[1] * COMMON_CHANNELS;
    float *whole = ld_heap_alloc(view->count * sizeof *whole);
    if (!whole)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory to merge models");
    ld_weight_view_decode(view, whole);
    for (uint32_t m = 0; m < models; m++)
        take_channels(values[m], values[m], &source->views[m], COMMON_CHANNELS);
    const enum ld_code code =
        ld_merge_tensor(values[0], recipe, view->name, values[0], values[1], values[2], count, err);
    put_channels(whole, values[0], view, COMMON_CHANNELS);
    memcpy(dst, whole, view->count * sizeof *whole);
    ld_heap_free(whole);
    return code;
}

static enum ld_code merge_present(const struct job *job, const struct source *source, float *dst,
                                  struct ld_error *err)
{
    struct ld_merge_recipe recipe = *job->request->recipe;
    const uint32_t models = ld_merge_models(recipe.op);
    const uint32_t shaped = widest(source);
    const struct ld_weight_view *view = &source->views[shaped];
    const size_t size = view->count * sizeof(float);
    float *values[MODELS] = {NULL};
    recipe.similarity = source->similarity;
    enum ld_code code = decode_all(source, models, dst, values, size, err);
    if (code == LD_OK)
        code = shapes_differ(source, models, shaped)
                   ? merge_narrow(&recipe, source, values, dst, err)
                   : ld_merge_tensor(dst, &recipe, view->name, values[0], values[1], values[2],
                                     view->count, err);
    for (uint32_t m = 1; m < MODELS; m++)
        ld_block_free(values[m], size);
    return code;
}

static void drop_pages(const struct source *source)
{
    for (uint32_t m = 0; m < MODELS; m++) {
        if (source->from[m])
            ld_weights_drop_pages(source->from[m], &source->views[m]);
    }
}

/* Before adapters. */
static enum ld_code merged_value(void *ctx, uint32_t index, float *dst, struct ld_error *err)
{
    const struct job *job = ctx;
    const struct source *source = &job->sources[index];
    enum ld_code code = LD_OK;
    if (all_present(job, source) && !exchanged(job->request, job->items[index].key->part))
        code = merge_present(job, source, dst, err);
    else
        ld_weight_view_decode(&source->views[source->from[0] ? 0 : 1], dst);
    drop_pages(source);
    return code;
}

static enum ld_code value(void *ctx, uint32_t index, float *dst, struct ld_error *err)
{
    struct job *job = ctx;
    return job->request->adapter_count ? ld_merge_bake_value(&job->bake, index, dst, err)
                                       : merged_value(job, index, dst, err);
}

/* ---- Cosine ---------------------------------------------------------------------------------- */

static enum ld_code similarity_of(struct job *job, uint32_t index, struct ld_error *err)
{
    struct source *source = &job->sources[index];
    const size_t count = source->views[0].count;
    float *a = ld_block_alloc(count * sizeof *a);
    float *b = ld_block_alloc(source->views[1].count * sizeof *b);
    if (a && b) {
        ld_weight_view_decode(&source->views[0], a);
        ld_weight_view_decode(&source->views[1], b);
        source->similarity = ld_merge_cosine(a, b, count);
        drop_pages(source);
    }
    const bool done = a && b;
    ld_block_free(a, count * sizeof *a);
    ld_block_free(b, source->views[1].count * sizeof *b);
    return done ? LD_OK : LD_FAIL(err, LD_E_NOMEM, "not enough memory to merge models");
}

/* Tensors that both have in the same shape; the others follow the mean. */
static bool compared(const struct job *job, uint32_t index)
{
    const struct source *source = &job->sources[index];
    return all_present(job, source) && !exchanged(job->request, job->items[index].key->part) &&
           same_shape(&source->views[0], &source->views[1]);
}

/* All similarities, mapped so that the least becomes 0 and the most 1. */
static enum ld_code compare(struct job *job, struct ld_error *err)
{
    double least = 1;
    double most = -1;
    for (uint32_t i = 0; i < job->count; i++) {
        if (!compared(job, i))
            continue;
        const enum ld_code code = similarity_of(job, i, err);
        if (code != LD_OK)
            return code;
        least = fmin(least, job->sources[i].similarity);
        most = fmax(most, job->sources[i].similarity);
        if (job->request->progress &&
            !job->request->progress(job->request->progress_ctx, "compare", i + 1, job->count))
            return LD_FAIL(err, LD_E_CANCELLED, "stopped; nothing was written");
    }
    for (uint32_t i = 0; i < job->count; i++) {
        double *similarity = &job->sources[i].similarity;
        *similarity = !compared(job, i) ? 0.5
                      : most > least    ? (*similarity - least) / (most - least)
                                        : 1;
    }
    return LD_OK;
}

/* ---- Metadata -------------------------------------------------------------------------------- */

static void write_number(struct ld_buffer *out, const char *key, double number)
{
    ld_buffer_format(out, ",\"%s\":", key);
    ld_buffer_json_double(out, number);
}

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
    const enum ld_merge_op op = recipe->op;
    ld_buffer_format(out, "{\"op\":\"%s\"", ld_merge_op_name(op));
    if (op == LD_MERGE_WEIGHTED_SUM || op == LD_MERGE_ADD_DIFFERENCE || op == LD_MERGE_SUM_TWICE ||
        ld_merge_is_cosine(op))
        write_number(out, "alpha", recipe->alpha);
    if (op == LD_MERGE_SUM_TWICE)
        write_number(out, "beta", recipe->beta);
    if (op == LD_MERGE_BLOCK_WEIGHTED) {
        write_number(out, "base", recipe->base);
        write_numbers(out, "in", recipe->in, LD_MERGE_BLOCKS);
        write_number(out, "middle", recipe->middle);
        write_numbers(out, "out", recipe->out, LD_MERGE_BLOCKS);
    }
    if (op == LD_MERGE_TIES)
        write_number(out, "density", recipe->density);
    if (op == LD_MERGE_DARE)
        write_number(out, "drop", recipe->drop);
    if (op == LD_MERGE_TIES || op == LD_MERGE_DARE)
        write_number(out, "lambda", recipe->lambda);
}

static enum ld_code write_parent(struct ld_buffer *out, const char *key,
                                 const struct ld_merge_parent *parent, struct ld_error *err)
{
    if (!parent->weights)
        return LD_OK;
    ld_buffer_format(out, ",\"%s\":", key);
    return ld_model_notes_parent(out, parent->weights, parent->path, err);
}

static void write_adapters(struct ld_buffer *out, const struct ld_merge_request *request)
{
    for (uint32_t i = 0; i < request->adapter_count; i++) {
        const struct ld_merge_adapter *each = &request->adapters[i];
        const char *slash = strrchr(each->path, '/');
        ld_buffer_text(out, i ? ",{\"name\":" : ",\"adapters\":[{\"name\":");
        ld_buffer_json_string(out, slash ? slash + 1 : each->path);
        ld_buffer_format(out, ",\"sha256\":\"%s\"", each->sha256);
        write_number(out, "weight", each->weight);
        write_number(out, "text_weight", each->text_weight);
        ld_buffer_byte(out, '}');
    }
    if (request->adapter_count)
        ld_buffer_byte(out, ']');
}

static enum ld_code write_history(struct ld_buffer *out, const struct ld_merge_request *request,
                                  struct ld_error *err)
{
    const struct {
        const char *key;
        const struct ld_merge_parent *parent;
    } parents[] = {
        {"a", &request->a},     {"b", &request->b},       {"c", &request->c},
        {"vae", &request->vae}, {"text", &request->text},
    };
    enum ld_code code = LD_OK;
    write_recipe(out, request->recipe);
    for (size_t i = 0; code == LD_OK && i < sizeof parents / sizeof parents[0]; i++)
        code = write_parent(out, parents[i].key, parents[i].parent, err);
    write_adapters(out, request);
    ld_buffer_format(out, ",\"dtype\":\"%s\"}", ld_model_storage_name(request->storage));
    if (code == LD_OK && out->failed)
        code = LD_FAIL(err, LD_E_NOMEM, "not enough memory to merge models");
    return code;
}

/* ---- The whole ------------------------------------------------------------------------------- */

static enum ld_code check(const struct ld_merge_request *request, struct ld_error *err)
{
    const uint32_t models = ld_merge_models(request->recipe->op);
    if (!request->a.weights || (models >= 2 && !request->b.weights) ||
        (models == 3 && !request->c.weights))
        return LD_FAIL(err, LD_E_INVALID, "this merge needs %u models", models);
    if (request->adapter_count > LD_MERGE_ADAPTERS_MAX)
        return LD_FAIL(err, LD_E_RANGE, "adapters may be %d at most", LD_MERGE_ADAPTERS_MAX);
    return ld_merge_check(request->recipe, err);
}

static bool write_progress(void *ctx, uint64_t done, uint64_t total)
{
    const struct ld_merge_request *request = ctx;
    return !request->progress || request->progress(request->progress_ctx, "write", done, total);
}

static enum ld_code write_model(const char *path, struct job *job, const char *history,
                                struct ld_error *err)
{
    const struct ld_merge_request *request = job->request;
    struct ld_model_notes notes;
    ld_model_notes_of(&notes, request->a.weights);
    ld_model_notes_set(&notes, "latentd.merge", history);
    if (job->arch.prediction == LD_PREDICT_V)
        ld_model_notes_set(&notes, "modelspec.prediction_type", "v");
    const char *vocabulary = ld_weights_metadata(request->a.weights, LD_VOCABULARY_KEY);
    const struct ld_model_write write = {
        .items = job->items,
        .count = job->count,
        .value = value,
        .ctx = job,
        .arch = &job->arch,
        .storage = request->storage,
        .notes = notes.notes,
        .note_count = notes.count,
        .progress = write_progress,
        .progress_ctx = (void *)(uintptr_t)request,
        .replace = request->replace,
    };
    return request->folder ? ld_model_write_folder(path, &write, vocabulary, err)
                           : ld_model_write_file(path, &write, err);
}

enum ld_code ld_merge_write(const char *path, const struct ld_merge_request *request,
                            struct ld_merge_report *report, struct ld_error *err)
{
    struct job job = {
        .request = request,
        .models = {request->a.weights, request->b.weights, request->c.weights},
        .report = report,
    };
    struct ld_buffer history = ld_buffer_make(HISTORY_MAX);
    memset(report, 0, sizeof *report);
    enum ld_code code = check(request, err);
    if (code == LD_OK)
        code = plan(&job, err);
    if (code == LD_OK && request->adapter_count)
        code = ld_merge_bake_init(&job.bake, request, &job.arch, job.items, job.count, merged_value,
                                  &job, report, err);
    if (code == LD_OK)
        code = write_history(&history, request, err);
    if (code == LD_OK && ld_merge_is_cosine(request->recipe->op))
        code = compare(&job, err);
    if (code == LD_OK)
        code = write_model(path, &job, history.data, err);
    ld_merge_bake_deinit(&job.bake);
    ld_buffer_deinit(&history);
    ld_heap_free(job.items);
    ld_heap_free(job.sources);
    return code;
}
