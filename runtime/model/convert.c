#include "runtime/model/convert.h"

#include "runtime/base/buffer.h"
#include "runtime/model/arch.h"
#include "runtime/model/model_notes.h"
#include "runtime/model/vocabulary.h"
#include "runtime/model/weights_private.h"

#include <string.h>
#include <sys/stat.h>

enum { HISTORY_MAX = 64 * 1024, VOCABULARY_MAX = 16 << 20, SD15_VOCABULARY = 49408 };

struct job {
    const struct ld_weights *model;
    struct ld_model_item *items;
    uint32_t count;
};

/* ---- Tensors --------------------------------------------------------------------------------- */

static enum ld_code plan(struct job *job, struct ld_error *err)
{
    const struct ld_keymap *map = ld_weights_keymap(job->model);
    job->items = ld_heap_calloc(ld_weights_count(job->model) + 1, sizeof *job->items);
    if (!job->items)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory to convert a model");
    for (uint32_t i = 0; i < ld_weights_count(job->model); i++) {
        struct ld_weight_view view;
        ld_weights_at(job->model, i, &view);
        struct ld_model_item *item = &job->items[job->count++];
        item->key = ld_keymap_at(map, (uint32_t)ld_keymap_find(map, view.name));
        item->rank = view.rank;
        item->count = view.count;
        item->dtype = view.dtype;
        for (int32_t d = 0; d < view.rank; d++)
            item->shape[d] = view.shape[d];
    }
    return LD_OK;
}

static enum ld_code value(void *ctx, uint32_t index, float *dst, struct ld_error *err)
{
    (void)err;
    const struct job *job = ctx;
    struct ld_weight_view view;
    ld_weights_at(job->model, index, &view);
    ld_weight_view_decode(&view, dst);
    ld_weights_drop_pages(job->model, &view);
    return LD_OK;
}

/* Tensors of the files that are bound to nothing; the scales of bound ones are used up. */
static void count_dropped(const struct ld_weights *model, struct ld_convert_report *report)
{
    const struct ld_weights *root = ld_weights_root(model);
    const uint32_t keys = ld_keymap_count(root->detection.map);
    uint64_t used_bytes = 0;
    uint64_t all_bytes = 0;
    uint32_t used = 0;
    for (uint32_t k = 0; k < keys; k++) {
        const int32_t both[] = {root->detection.bindings[k].item,
                                root->detection.bindings[k].scale_item};
        for (size_t i = 0; i < 2; i++) {
            if (both[i] < 0)
                continue;
            const struct ld_st_tensor *tensor = ld_weights_source(root, both[i])->tensor;
            used++;
            used_bytes += tensor->end - tensor->begin;
        }
    }
    for (uint32_t i = 0; i < root->tensors.inventory.count; i++) {
        const struct ld_st_tensor *tensor = ld_weights_source(root, (int32_t)i)->tensor;
        all_bytes += tensor->end - tensor->begin;
    }
    report->dropped = root->tensors.inventory.count - used;
    report->dropped_bytes = all_bytes - used_bytes;
}

/* ---- Vocabulary ------------------------------------------------------------------------------ */

/* The vocabulary's text as far as one is known, in `own` or borrowed; NULL: none. */
static const char *find_vocabulary(const struct ld_convert_request *request, struct ld_buffer *own)
{
    struct ld_error ignored = {0};
    struct stat info;
    const char *inside = ld_weights_metadata(request->model, LD_VOCABULARY_KEY);
    if (request->vocabulary || inside)
        return request->vocabulary ? request->vocabulary : inside;
    if (stat(request->from, &info) == 0 && S_ISDIR(info.st_mode) &&
        ld_vocabulary_of_folder(own, request->from, &ignored) == LD_OK && own->data &&
        strlen(own->data) == own->size)
        return own->data;
    return NULL;
}

/* A file must bring a vocabulary that is not CLIP's; CLIP's own is installed. */
static void note_vocabulary(struct ld_model_notes *notes, const struct ld_arch *arch, bool folder,
                            const char *vocabulary)
{
    if (folder && vocabulary)
        ld_model_notes_remove(notes, LD_VOCABULARY_KEY); /* tokenizer/ has it */
    else if (vocabulary && arch->text_vocabulary != SD15_VOCABULARY)
        ld_model_notes_set(notes, LD_VOCABULARY_KEY, vocabulary);
}

/* ---- The whole ------------------------------------------------------------------------------- */

static enum ld_code write_history(struct ld_buffer *out, const struct ld_convert_request *request,
                                  struct ld_error *err)
{
    ld_buffer_format(out, "{\"dtype\":\"%s\",\"layout\":\"%s\",\"from\":",
                     ld_model_storage_name(request->storage),
                     request->folder ? "diffusers" : "single");
    const enum ld_code code = ld_model_notes_parent(out, request->model, request->from, err);
    if (ld_weights_detection(request->model)->uses_ema)
        ld_buffer_text(out, ",\"ema\":true");
    ld_buffer_text(out, "}");
    return code == LD_OK && out->failed ? LD_FAIL(err, LD_E_NOMEM, "not enough memory") : code;
}

enum ld_code ld_convert(const char *path, const struct ld_convert_request *request,
                        struct ld_convert_report *report, struct ld_error *err)
{
    struct job job = {.model = request->model};
    struct ld_model_notes notes;
    struct ld_buffer history = ld_buffer_make(HISTORY_MAX);
    struct ld_buffer own = ld_buffer_make(VOCABULARY_MAX);
    const struct ld_arch *arch = ld_weights_arch(request->model);
    const char *vocabulary = arch->has_text ? find_vocabulary(request, &own) : NULL;
    memset(report, 0, sizeof *report);
    ld_model_notes_of(&notes, request->model);
    note_vocabulary(&notes, arch, request->folder, vocabulary);
    if (arch->prediction == LD_PREDICT_V)
        ld_model_notes_set(&notes, "modelspec.prediction_type", "v");
    enum ld_code code = plan(&job, err);
    if (code == LD_OK)
        code = write_history(&history, request, err);
    if (code == LD_OK)
        ld_model_notes_set(&notes, "latentd.convert", history.data);
    const struct ld_model_write write = {
        .items = job.items,
        .count = job.count,
        .value = value,
        .ctx = &job,
        .arch = arch,
        .storage = request->storage,
        .notes = notes.notes,
        .note_count = notes.count,
        .progress = request->progress,
        .progress_ctx = request->progress_ctx,
        .replace = request->replace,
    };
    if (code == LD_OK)
        code = request->folder ? ld_model_write_folder(path, &write, vocabulary, err)
                               : ld_model_write_file(path, &write, err);
    report->tensors = job.count;
    report->tokenizer = request->folder && vocabulary;
    count_dropped(request->model, report);
    ld_heap_free(job.items);
    ld_buffer_deinit(&own);
    ld_buffer_deinit(&history);
    return code;
}
