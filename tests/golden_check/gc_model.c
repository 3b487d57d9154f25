/* Golden cases of the three networks: text encoder, UNet, VAE; tiny weights from the folder's
 * checkpoint, full-size ones generated. Tolerances: the golden README, float32 column. */
#include "tests/golden_check/gc_model_kinds.h"
#include "tests/golden_check/gc_models.h"
#include "tests/tools/checkpoint_write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 256, ROWS_MAX = 16, CHUNK = 77 };
static const double TEXT_TOLERANCE = 2e-6;
static const double UNET_TOLERANCE = 6e-6;
static const double VAE_TOLERANCE = 6e-6;

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

/* ---- Text encoder ---------------------------------------------------------------------------- */

/* The statistics of layer i are listed by position; the taps are named. */
static json_t *layers_by_name(const json_t *item)
{
    const json_t *layers = json_object_get(item, "layers");
    if (!layers)
        return NULL;
    json_t *named = json_object();
    for (size_t i = 0; i < json_array_size(layers); i++) {
        char name[32];
        snprintf(name, sizeof name, "layer%zu", i);
        json_object_set(named, name, json_array_get(layers, i));
    }
    return named;
}

static void check_skip(struct gc *gc, struct gc_tensors *tensors, struct ld_model *model,
                       const char *id, const struct ld_text_request *request, float *out)
{
    char name[32];
    struct gc_array shape;
    struct ld_error err = {0};
    snprintf(name, sizeof name, "skip%d", (int)request->skip);
    float *expected = gc_floats(tensors, id, name, &shape);
    if (!expected)
        return; /* not every case has every skip */
    free(expected);
    if (ld_model_encode_text(model, NULL, request, out, &err) != LD_OK)
        gc_fail(gc, id, err.detail);
    else
        report(gc, id, name, gc_distance(tensors, id, name, out, shape.count), TEXT_TOLERANCE);
}

/* The final norm's row at each chunk's first end token, after all layers. */
static void check_pooled(struct gc *gc, struct gc_tensors *tensors, const char *id,
                         const struct ld_text_request *request, const struct ld_arch *arch,
                         const float *skip1)
{
    const size_t width = (size_t)arch->text_width;
    float *pooled = calloc((size_t)request->chunks * width, sizeof *pooled);
    for (int32_t c = 0; pooled && c < request->chunks; c++) {
        const int32_t *ids = request->ids + c * CHUNK;
        int32_t at = 0;
        while (at < CHUNK - 1 && ids[at] != arch->text_vocabulary - 1)
            at++;
        memcpy(pooled + (size_t)c * width, skip1 + (size_t)(c * CHUNK + at) * width,
               width * sizeof *pooled);
    }
    if (pooled)
        report(gc, id, "pooled",
               gc_distance(tensors, id, "pooled", pooled, (size_t)request->chunks * width),
               TEXT_TOLERANCE);
    free(pooled);
}

static void check_text_case(struct gc *gc, struct gc_tensors *tensors, struct ld_model *model,
                            const json_t *item)
{
    const char *id = id_of(item);
    const struct ld_arch *arch = ld_model_arch(model);
    struct gc_array shape;
    char name[NAME_SIZE];
    if (!gc_tensors_get(tensors, gc_join(name, sizeof name, id, "tokens"), &shape)) {
        gc_fail(gc, id, "no tokens");
        return;
    }
    int32_t *ids = calloc(shape.count, sizeof *ids);
    float *out = calloc(shape.count * (size_t)arch->text_width, sizeof *out);
    for (size_t i = 0; ids && i < shape.count; i++)
        ids[i] = (int32_t)shape.data[i];
    struct ld_text_request request = {.ids = ids, .chunks = (int32_t)(shape.count / CHUNK)};
    json_t *layers = layers_by_name(item);
    for (request.skip = 3; ids && out && request.skip >= 1; request.skip--) {
        struct gc_blocks blocks;
        gc_blocks_begin(&blocks, request.skip == 1 ? layers : NULL, tensors, id, model);
        check_skip(gc, tensors, model, id, &request, out);
        gc_blocks_run(&blocks);
        gc_blocks_end(gc, &blocks, model, id, TEXT_TOLERANCE);
    }
    if (ids && out)
        check_pooled(gc, tensors, id, &request, arch, out);
    json_decref(layers);
    free(out);
    free(ids);
    gc_array_free(&shape);
}

/* ---- UNet ------------------------------------------------------------------------------------ */

static void check_unet_case(struct gc *gc, struct gc_tensors *tensors, struct ld_model *model,
                            const json_t *item)
{
    const char *id = id_of(item);
    struct ld_error err = {0};
    struct gc_array x_shape = {0};
    struct gc_array context_shape = {0};
    struct gc_array t_shape = {0};
    struct ld_unet_row rows[ROWS_MAX];
    float *x = gc_floats(tensors, id, "x", &x_shape);
    float *context = gc_floats(tensors, id, "context", &context_shape);
    float *t = gc_floats(tensors, id, "t", &t_shape);
    float *eps = calloc(x_shape.count + 1, sizeof *eps);
    float *near = calloc(x_shape.count + 1, sizeof *near);
    const size_t batch = (size_t)x_shape.shape[0];
    if (!x || !context || !t || !eps || !near || batch < 1 || batch > ROWS_MAX ||
        t_shape.count != batch) {
        gc_fail(gc, id, "its tensors are missing or of an unexpected shape");
        goto done;
    }
    for (size_t b = 0; b < batch; b++)
        rows[b] = (struct ld_unet_row){.x = near + b * (x_shape.count / batch),
                                       .scale = 1,
                                       .t = t[b],
                                       .context = context + b * (context_shape.count / batch),
                                       .context_tokens = (int32_t)context_shape.shape[1],
                                       .eps = eps + b * (x_shape.count / batch)};
    const struct ld_unet_request request = {.rows = rows,
                                            .row_count = (uint32_t)batch,
                                            .height = (int32_t)x_shape.shape[2],
                                            .width = (int32_t)x_shape.shape[3]};
    struct gc_runs runs = {0};
    struct gc_blocks blocks;
    enum ld_code code = LD_OK;
    const double limit = gc_tolerance(gc, UNET_TOLERANCE);
    gc_blocks_begin(&blocks, json_object_get(item, "blocks"), tensors, id, model);
    for (int32_t run = 0; code == LD_OK && run < gc_runs_wanted(gc, model); run++) {
        if (gc_runs_are_enough(&runs, limit) && gc_runs_are_enough(&blocks.runs, limit))
            break;
        gc_runs_latents(near, x, x_shape.count, run);
        code = ld_model_unet(model, NULL, &request, &err);
        gc_runs_add(&runs, gc_distance(tensors, id, "eps", eps, x_shape.count));
        gc_blocks_run(&blocks);
    }
    if (code != LD_OK)
        gc_fail(gc, id, err.detail);
    else
        report(gc, id, "eps", gc_runs_error(&runs, limit), UNET_TOLERANCE);
    gc_blocks_end(gc, &blocks, model, id, UNET_TOLERANCE);
done:
    free(near);
    free(eps);
    free(t);
    free(context);
    free(x);
}

/* ---- VAE ------------------------------------------------------------------------------------- */

/* Statistics are over the whole batch, pictures are made one by one: only batches of one have their
 * blocks compared. */
static void begin_vae_blocks(struct gc_blocks *blocks, const json_t *item, size_t batch,
                             struct gc_tensors *tensors, struct ld_model *model)
{
    gc_blocks_begin(blocks, batch == 1 ? json_object_get(item, "blocks") : NULL, tensors,
                    id_of(item), model);
}

static void check_decode(struct gc *gc, struct gc_tensors *tensors, struct ld_model *model,
                         const json_t *item)
{
    const char *id = id_of(item);
    struct ld_error err = {0};
    struct gc_array shape = {0};
    float *z = gc_floats(tensors, id, "z", &shape);
    const size_t batch = (size_t)shape.shape[0];
    const int32_t height = (int32_t)shape.shape[2];
    const int32_t width = (int32_t)shape.shape[3];
    const size_t size = 3 * 64 * (size_t)height * (size_t)width;
    float *picture = calloc(batch * size + 1, sizeof *picture);
    struct gc_blocks blocks;
    begin_vae_blocks(&blocks, item, batch, tensors, model);
    enum ld_code code = z && picture ? LD_OK : LD_E_NOT_FOUND;
    for (size_t b = 0; code == LD_OK && b < batch; b++)
        code = ld_model_decode(model, z + b * (shape.count / batch), height, width, 1.0F, NULL,
                               picture + b * size, &err);
    if (code != LD_OK)
        gc_fail(gc, id, err.detail);
    else
        report(gc, id, "image", gc_distance(tensors, id, "image", picture, batch * size),
               VAE_TOLERANCE);
    gc_blocks_run(&blocks);
    gc_blocks_end(gc, &blocks, model, id, VAE_TOLERANCE);
    free(picture);
    free(z);
}

static void check_encode(struct gc *gc, struct gc_tensors *tensors, struct ld_model *model,
                         const json_t *item)
{
    const char *id = id_of(item);
    struct ld_error err = {0};
    struct gc_array shape = {0};
    float *image = gc_floats(tensors, id, "image", &shape);
    const size_t batch = (size_t)shape.shape[0];
    const int32_t height = (int32_t)shape.shape[2];
    const int32_t width = (int32_t)shape.shape[3];
    const size_t half = 4 * (size_t)(height / 8) * (size_t)(width / 8);
    float *moments = calloc(2 * half + 1, sizeof *moments);
    float *mean = calloc(batch * half + 1, sizeof *mean);
    float *logvar = calloc(batch * half + 1, sizeof *logvar);
    struct gc_blocks blocks;
    begin_vae_blocks(&blocks, item, batch, tensors, model);
    enum ld_code code = image && moments && mean && logvar ? LD_OK : LD_E_NOT_FOUND;
    for (size_t b = 0; code == LD_OK && b < batch; b++) {
        code = ld_model_encode_image(model, image + b * (shape.count / batch), height, width, NULL,
                                     moments, &err);
        memcpy(mean + b * half, moments, half * sizeof *mean);
        memcpy(logvar + b * half, moments + half, half * sizeof *logvar);
    }
    if (code != LD_OK) {
        gc_fail(gc, id, err.detail);
    } else {
        report(gc, id, "mean", gc_distance(tensors, id, "mean", mean, batch * half), VAE_TOLERANCE);
        report(gc, id, "logvar", gc_distance(tensors, id, "logvar", logvar, batch * half),
               VAE_TOLERANCE);
    }
    gc_blocks_run(&blocks);
    gc_blocks_end(gc, &blocks, model, id, VAE_TOLERANCE);
    free(logvar);
    free(mean);
    free(moments);
    free(image);
}

static void check_vae_case(struct gc *gc, struct gc_tensors *tensors, struct ld_model *model,
                           const json_t *item)
{
    if (json_object_get(item, "latent"))
        check_decode(gc, tensors, model, item);
    else
        check_encode(gc, tensors, model, item);
}

/* ---- Case files ------------------------------------------------------------------------------ */

typedef void (*check_case)(struct gc *gc, struct gc_tensors *tensors, struct ld_model *model,
                           const json_t *item);

/* `parts` 0: the tiny model. */
static void run_cases(struct gc *gc, const char *root, const char *path, uint32_t parts,
                      check_case check)
{
    struct gc_case_file file;
    if (!gc_case_file_open(gc, root, path, &file))
        return;
    struct ld_model *model = parts ? gc_full_model(gc, parts, path) : gc_tiny_model(gc, root, path);
    for (size_t i = 0; model && i < json_array_size(file.cases); i++)
        check(gc, file.tensors, model, json_array_get(file.cases, i));
    gc_case_file_close(&file);
}

static void run_tiny_clip(struct gc *gc, const char *root, const char *path)
{
    run_cases(gc, root, path, 0, check_text_case);
}

static void run_tiny_unet(struct gc *gc, const char *root, const char *path)
{
    run_cases(gc, root, path, 0, check_unet_case);
}

static void run_tiny_vae(struct gc *gc, const char *root, const char *path)
{
    run_cases(gc, root, path, 0, check_vae_case);
}

static void run_full_clip(struct gc *gc, const char *root, const char *path)
{
    run_cases(gc, root, path, LD_PART_BIT(LD_PART_TEXT), check_text_case);
}

static void run_full_unet(struct gc *gc, const char *root, const char *path)
{
    run_cases(gc, root, path, LD_PART_BIT(LD_PART_UNET), check_unet_case);
}

static void run_full_vae(struct gc *gc, const char *root, const char *path)
{
    run_cases(gc, root, path, LD_PART_BIT(LD_PART_VAE_ENCODER) | LD_PART_BIT(LD_PART_VAE_DECODER),
              check_vae_case);
}

const struct gc_kind gc_kinds_model[] = {{"ops.json", gc_run_ops},
                                         {"generator_check.json", gc_run_generator},
                                         {"tiny_clip.json", run_tiny_clip},
                                         {"tiny_unet.json", run_tiny_unet},
                                         {"tiny_vae.json", run_tiny_vae},
                                         {"full_clip.json", run_full_clip},
                                         {"full_unet.json", run_full_unet},
                                         {"full64_unet.json", run_full_unet},
                                         {"full_vae.json", run_full_vae},
                                         {"adapters.json", gc_run_adapter_outputs},
                                         {"ti.json", gc_run_inversion},
                                         {"emphasis.json", gc_run_emphasis_encodings},
                                         {NULL, NULL}};
