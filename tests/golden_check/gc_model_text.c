/* Golden cases where weights or token vectors change what the tiny model says: adapters, textual
 * inversion, and emphasis on real encoder output. */
#include "runtime/model/adapter.h"
#include "runtime/model/embedding.h"
#include "runtime/text/emphasis.h"
#include "tests/golden_check/gc_model_kinds.h"
#include "tests/golden_check/gc_models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 256, PATH_SIZE = 4096, CHUNK = 77, EMBEDDINGS_MAX = 4, ADAPTERS_MAX = 8 };
static const double TEXT_TOLERANCE = 2e-6;
static const double UNET_TOLERANCE = 6e-6;

static const char *id_of(const json_t *item)
{
    const char *id = json_string_value(json_object_get(item, "id"));
    return id ? id : "unnamed";
}

static void report(struct gc *gc, const char *id, const char *what, double error, double tolerance)
{
    char name[NAME_SIZE];
    gc_report(gc, gc_join(name, sizeof name, id, what), error, gc_tolerance(gc, tolerance));
}

/* Ids from an I32 tensor; caller frees. */
static int32_t *load_ids(struct gc_tensors *tensors, const char *id, const char *name,
                         int32_t *chunks)
{
    char full[NAME_SIZE];
    struct gc_array array;
    int32_t *ids = NULL;
    if (gc_tensors_get(tensors, gc_join(full, sizeof full, id, name), &array))
        ids = calloc(array.count + 1, sizeof *ids);
    for (size_t i = 0; ids && i < array.count; i++)
        ids[i] = (int32_t)array.data[i];
    *chunks = (int32_t)(array.count / CHUNK);
    gc_array_free(&array);
    return ids;
}

/* ---- Adapters -------------------------------------------------------------------------------- */

/* What every adapter case runs on. */
struct adapter_inputs {
    struct ld_model *model;
    float *x, *near, *context, *eps, *text;
    struct gc_array x_shape, context_shape;
    int32_t *ids; /* of text case 1 */
    int32_t chunks;
};

static bool load_inputs(struct gc *gc, const char *root, const char *path,
                        struct gc_tensors *tensors, struct adapter_inputs *in)
{
    char file[PATH_SIZE];
    memset(in, 0, sizeof *in);
    in->model = gc_tiny_model(gc, root, path);
    if (!in->model)
        return false;
    if (gc_find(gc, root, "tiny_clip.safetensors", file, sizeof file)) {
        struct gc_tensors *clip = gc_tensors_open(file);
        in->ids = clip ? load_ids(clip, "tiny_clip1", "tokens", &in->chunks) : NULL;
        gc_tensors_close(clip);
    }
    in->x = gc_floats(tensors, "input", "x", &in->x_shape);
    in->context = gc_floats(tensors, "input", "context", &in->context_shape);
    in->eps = calloc(in->x_shape.count + 1, sizeof *in->eps);
    in->near = calloc(in->x_shape.count + 1, sizeof *in->near);
    in->text = calloc((size_t)in->chunks * CHUNK * (size_t)ld_model_arch(in->model)->text_width + 1,
                      sizeof *in->text);
    if (in->ids && in->x && in->near && in->context && in->eps && in->text)
        return true;
    gc_fail(gc, path, "the inputs of the adapter cases cannot be read");
    return false;
}

static void free_inputs(struct adapter_inputs *in)
{
    free(in->text);
    free(in->eps);
    free(in->context);
    free(in->near);
    free(in->x);
    free(in->ids);
}

/* The UNet's and the text encoder's answers with `variant` against those of case `id`. */
static void check_outputs(struct gc *gc, struct gc_tensors *tensors,
                          const struct adapter_inputs *in, struct ld_variant *variant,
                          const char *id, double t)
{
    struct ld_error err = {0};
    const struct ld_unet_row row = {.x = in->near,
                                    .scale = 1,
                                    .t = (float)t,
                                    .context = in->context,
                                    .context_tokens = (int32_t)in->context_shape.shape[1],
                                    .eps = in->eps};
    const struct ld_unet_request request = {.rows = &row,
                                            .row_count = 1,
                                            .height = (int32_t)in->x_shape.shape[2],
                                            .width = (int32_t)in->x_shape.shape[3]};
    const struct ld_text_request text = {.ids = in->ids, .chunks = in->chunks, .skip = 2};
    const size_t values = (size_t)in->chunks * CHUNK * (size_t)ld_model_arch(in->model)->text_width;
    struct gc_runs runs = {0};
    enum ld_code code = LD_OK;
    const double limit = gc_tolerance(gc, UNET_TOLERANCE);
    for (int32_t run = 0;
         code == LD_OK && run < gc_runs_wanted(gc, in->model) && !gc_runs_are_enough(&runs, limit);
         run++) {
        gc_runs_latents(in->near, in->x, in->x_shape.count, run);
        code = ld_model_unet(in->model, variant, &request, &err);
        gc_runs_add(&runs, gc_distance(tensors, id, "eps", in->eps, in->x_shape.count));
    }
    if (code != LD_OK)
        gc_fail(gc, id, err.detail);
    else
        report(gc, id, "eps", gc_runs_error(&runs, limit), UNET_TOLERANCE);
    if (ld_model_encode_text(in->model, variant, &text, in->text, &err) != LD_OK)
        gc_fail(gc, id, err.detail);
    else
        report(gc, id, "clip_skip2", gc_distance(tensors, id, "clip_skip2", in->text, values),
               TEXT_TOLERANCE);
}

static enum ld_code apply_one(struct gc *gc, const char *root, const json_t *entry,
                              enum ld_dora_norm norm, struct ld_weights *overlay,
                              struct ld_adapter **adapter, struct ld_error *err)
{
    char path[PATH_SIZE];
    const char *file = json_string_value(json_object_get(entry, "file"));
    const struct ld_adapter_options options = {
        .unet_strength = json_number_value(json_object_get(entry, "unet_strength")),
        .text_strength = json_number_value(json_object_get(entry, "te_strength")),
        .dora_norm = norm};
    if (!file || !gc_find(gc, root, file, path, sizeof path))
        return LD_FAIL(err, LD_E_NOT_FOUND, "an adapter file is missing");
    enum ld_code code = ld_adapter_open(adapter, path, err);
    if (code == LD_OK)
        code = ld_adapter_apply(*adapter, overlay, &options, NULL, err);
    return code;
}

static void check_adapter_case(struct gc *gc, const char *root, struct gc_tensors *tensors,
                               const struct adapter_inputs *in, const json_t *item)
{
    const char *id = id_of(item);
    struct ld_error err = {0};
    struct ld_weights *overlay = NULL;
    struct ld_variant *variant = NULL;
    struct ld_adapter *adapters[ADAPTERS_MAX] = {0};
    const char *norm = json_string_value(json_object_get(item, "dora_norm"));
    const json_t *list = json_object_get(item, "adapters");
    enum ld_code code = ld_weights_overlay(&overlay, ld_model_weights(in->model), &err);
    if (code == LD_OK && json_array_size(list) > ADAPTERS_MAX)
        code = LD_FAIL(&err, LD_E_TOO_LARGE, "too many adapters for this check");
    for (size_t i = 0; code == LD_OK && i < json_array_size(list); i++)
        code = apply_one(gc, root, json_array_get(list, i),
                         norm && strcmp(norm, "comfy") == 0 ? LD_DORA_COMFY : LD_DORA_MERGED,
                         overlay, &adapters[i], &err);
    if (code == LD_OK)
        code = ld_variant_create(&variant, in->model, overlay, &err);
    if (code == LD_OK)
        code = ld_variant_load(variant, &err);
    ld_weights_close(overlay); /* a loaded variant needs neither it nor the adapters */
    for (size_t i = 0; i < ADAPTERS_MAX; i++)
        ld_adapter_close(adapters[i]);
    if (code != LD_OK)
        gc_fail(gc, id, err.detail);
    else
        check_outputs(gc, tensors, in, variant, id, json_number_value(json_object_get(item, "t")));
    ld_variant_destroy(variant);
}

void gc_run_adapter_outputs(struct gc *gc, const char *root, const char *path)
{
    struct gc_case_file file;
    struct adapter_inputs in;
    if (!gc_case_file_open(gc, root, path, &file))
        return;
    if (load_inputs(gc, root, path, file.tensors, &in)) {
        check_outputs(gc, file.tensors, &in, NULL, "base", 601);
        for (size_t i = 0; i < json_array_size(file.cases); i++)
            check_adapter_case(gc, root, file.tensors, &in, json_array_get(file.cases, i));
        /* The base is what it was: variants own what they changed. */
        check_outputs(gc, file.tensors, &in, NULL, "base", 601);
    }
    free_inputs(&in);
    gc_case_file_close(&file);
}

/* ---- Textual inversion ----------------------------------------------------------------------- */

/* The embeddings named in a text, in order: "embedding:NAME" up to a blank, comma or colon. */
static size_t open_embeddings(struct gc *gc, const char *root, const char *text, int32_t width,
                              struct ld_embedding *out, struct ld_error *err)
{
    static const char mark[] = "embedding:";
    size_t count = 0;
    for (const char *at = strstr(text, mark); at && count < EMBEDDINGS_MAX; at = strstr(at, mark)) {
        char relative[NAME_SIZE];
        char path[PATH_SIZE];
        at += strlen(mark);
        const int length = (int)strcspn(at, " ,:)");
        snprintf(relative, sizeof relative, "embeddings/%.*s.safetensors", length, at);
        if (!gc_find(gc, root, relative, path, sizeof path) ||
            ld_embedding_open(&out[count], path, width, err) != LD_OK)
            return 0;
        count++;
    }
    return count;
}

/* Each run of -1 takes the vectors of the next embedding. */
static bool place_vectors(const int32_t *ids, size_t rows, const struct ld_embedding *embeddings,
                          size_t count, const float **vectors)
{
    size_t next = 0;
    int32_t used = 0;
    for (size_t i = 0; i < rows; i++) {
        if (ids[i] != -1)
            continue;
        if (next == count)
            return false;
        vectors[i] = embeddings[next].values + (size_t)used * (size_t)embeddings[next].width;
        if (++used == embeddings[next].vectors) {
            used = 0;
            next++;
        }
    }
    return used == 0 && next == count;
}

/* Rows of a JSON list of lists of 77 numbers. */
static double *flatten(const json_t *lists, size_t *count)
{
    *count = json_array_size(lists) * CHUNK;
    double *flat = calloc(*count + 1, sizeof *flat);
    for (size_t i = 0; flat && i < *count; i++)
        flat[i] = json_number_value(json_array_get(json_array_get(lists, i / CHUNK), i % CHUNK));
    return flat;
}

/* The encoding of the empty prompt: start token, then 76 end tokens. */
static enum ld_code encode_empty(struct ld_model *model, float *out, struct ld_error *err)
{
    int32_t ids[CHUNK];
    const int32_t end = ld_model_arch(model)->text_vocabulary - 1;
    ids[0] = end - 1;
    for (int i = 1; i < CHUNK; i++)
        ids[i] = end;
    const struct ld_text_request request = {.ids = ids, .chunks = 1, .skip = 2};
    return ld_model_encode_text(model, NULL, &request, out, err);
}

/* Encode, compare as `encoded`, interpolate by weights, compare as `weighted`; either may be NULL.
 */
static void check_weighted(struct gc *gc, struct gc_tensors *tensors, struct ld_model *model,
                           const char *id, const struct ld_text_request *request,
                           const double *weights, const char *encoded, const char *weighted)
{
    struct ld_error err = {0};
    const size_t width = (size_t)ld_model_arch(model)->text_width;
    const size_t values = (size_t)request->chunks * CHUNK * width;
    float *z = calloc(values + 1, sizeof *z);
    float *empty = calloc(CHUNK * width, sizeof *empty);
    if (!z || !empty || ld_model_encode_text(model, NULL, request, z, &err) != LD_OK ||
        encode_empty(model, empty, &err) != LD_OK) {
        gc_fail(gc, id, err.detail);
        goto done;
    }
    if (encoded)
        report(gc, id, encoded, gc_distance(tensors, id, encoded, z, values), TEXT_TOLERANCE);
    if (!weighted)
        goto done;
    for (int32_t c = 0; c < request->chunks; c++)
        ld_emphasis_apply(LD_EMPHASIS_RULE_LERP, z + (size_t)c * CHUNK * width, empty,
                          weights + c * CHUNK, CHUNK, width);
    report(gc, id, weighted, gc_distance(tensors, id, weighted, z, values), TEXT_TOLERANCE);
done:
    free(empty);
    free(z);
}

static void check_inversion_case(struct gc *gc, const char *root, struct gc_tensors *tensors,
                                 struct ld_model *model, const json_t *item)
{
    const char *id = id_of(item);
    const char *text = json_string_value(json_object_get(item, "text"));
    struct ld_error err = {0};
    struct ld_embedding embeddings[EMBEDDINGS_MAX] = {{0}};
    size_t rows;
    size_t weight_count;
    double *tokens = flatten(json_object_get(item, "tokens"), &rows);
    double *weights = flatten(json_object_get(item, "weights"), &weight_count);
    int32_t *ids = calloc(rows + 1, sizeof *ids);
    const float **vectors = calloc(rows + 1, sizeof *vectors);
    const size_t found = open_embeddings(gc, root, text ? text : "",
                                         ld_model_arch(model)->text_width, embeddings, &err);
    for (size_t i = 0; ids && tokens && i < rows; i++)
        ids[i] = (int32_t)tokens[i];
    if (ids && vectors && weights && weight_count == rows && found > 0 &&
        place_vectors(ids, rows, embeddings, found, vectors)) {
        const struct ld_text_request request = {
            .ids = ids, .vectors = vectors, .chunks = (int32_t)(rows / CHUNK), .skip = 2};
        check_weighted(gc, tensors, model, id, &request, weights, "skip2", "weighted_comfy");
    } else {
        gc_fail(gc, id, "its embeddings do not fit its tokens");
    }
    for (size_t i = 0; i < EMBEDDINGS_MAX; i++)
        ld_embedding_deinit(&embeddings[i]);
    free(vectors);
    free(ids);
    free(weights);
    free(tokens);
}

void gc_run_inversion(struct gc *gc, const char *root, const char *path)
{
    struct gc_case_file file;
    if (!gc_case_file_open(gc, root, path, &file))
        return;
    struct ld_model *model = gc_tiny_model(gc, root, path);
    for (size_t i = 0; model && i < json_array_size(file.cases); i++)
        check_inversion_case(gc, root, file.tensors, model, json_array_get(file.cases, i));
    gc_case_file_close(&file);
}

/* ---- Emphasis -------------------------------------------------------------------------------- */

static void check_emphasis_case(struct gc *gc, struct gc_tensors *tensors, struct ld_model *model,
                                const json_t *item)
{
    const char *id = id_of(item);
    char name[NAME_SIZE];
    struct gc_array weights;
    int32_t chunks;
    int32_t *ids = load_ids(tensors, id, "webui_tokens", &chunks);
    if (ids) {
        const struct ld_text_request request = {.ids = ids, .chunks = chunks, .skip = 2};
        check_weighted(gc, tensors, model, id, &request, NULL, "z", NULL);
    }
    free(ids);
    ids = load_ids(tensors, id, "comfy_tokens", &chunks);
    if (ids && gc_tensors_get(tensors, gc_join(name, sizeof name, id, "comfy_weights"), &weights)) {
        const struct ld_text_request request = {.ids = ids, .chunks = chunks, .skip = 2};
        check_weighted(gc, tensors, model, id, &request, weights.data, NULL, "comfy_result");
        gc_array_free(&weights);
    } else {
        gc_fail(gc, id, "no comfy tokens");
    }
    free(ids);
}

void gc_run_emphasis_encodings(struct gc *gc, const char *root, const char *path)
{
    struct gc_case_file file;
    if (!gc_case_file_open(gc, root, path, &file))
        return;
    struct ld_model *model = gc_tiny_model(gc, root, path);
    for (size_t i = 0; model && i < json_array_size(file.cases); i++)
        check_emphasis_case(gc, file.tensors, model, json_array_get(file.cases, i));
    gc_case_file_close(&file);
}
