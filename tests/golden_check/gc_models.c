#include "tests/golden_check/gc_models.h"

#include "runtime/gpu/device.h"
#include "runtime/model/arch.h"
#include "tests/tools/checkpoint_write.h"
#include "tests/tools/genweights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PATH_SIZE = 4096, NAME_SIZE = 256 };

/* ---- Models ---------------------------------------------------------------------------------- */

struct ld_backend *gc_backend(struct gc *gc)
{
    static struct ld_backend *backend;
    struct ld_error err = {0};
    const struct ld_device_choice choice = {.backend = gc->backend ? gc->backend : "cpu",
                                            .precision = gc->precision};
    if (!backend && ld_device_open(&backend, &choice, NULL, &err) != LD_OK)
        gc_fail(gc, "backend", err.detail);
    return backend;
}

/* kernels.md 15: one evaluation of a network in 16 bits against float32. */
double gc_tolerance(struct gc *gc, double float32)
{
    const struct ld_backend *backend = gc_backend(gc);
    if (!backend || backend->act_dtype == LD_DTYPE_F32)
        return float32;
    return backend->act_dtype == LD_DTYPE_F16 ? 1e-2 : 4e-2;
}

struct ld_model *gc_tiny_model(struct gc *gc, const char *root, const char *name)
{
    static char known_path[PATH_SIZE];
    static struct ld_model *model;
    char path[PATH_SIZE];
    struct ld_error err = {0};
    struct ld_backend *backend = gc_backend(gc);
    if (!backend)
        return NULL;
    if (!gc_find(gc, root, "tiny.safetensors", path, sizeof path)) {
        gc_fail(gc, name, "tiny.safetensors is neither beside the cases nor in --base");
        return NULL;
    }
    if (model && strcmp(path, known_path) == 0)
        return model;
    ld_model_destroy(model);
    model = NULL;
    if (ld_model_open(&model, backend, path, NULL, &err) != LD_OK)
        gc_fail(gc, name, err.detail);
    snprintf(known_path, sizeof known_path, "%s", path);
    return model;
}

/* Generate into a memory file, so that the model is loaded by the same code as any other. */
static enum ld_code generate(int fd, uint32_t parts, struct ld_error *err)
{
    struct ld_arch arch;
    struct ld_keymap *map = NULL;
    struct ld_pool *pool = NULL;
    ld_arch_set_sd15(&arch);
    enum ld_code code = ld_keymap_create(&map, &arch, err);
    if (code == LD_OK)
        code = ld_pool_create(&pool, 0, err);
    if (code == LD_OK)
        code = ld_checkpoint_write(fd, map, parts, NULL, ld_genweights_fill, NULL, pool, err);
    ld_pool_destroy(pool);
    ld_keymap_destroy(map);
    return code;
}

struct ld_model *gc_full_model(struct gc *gc, uint32_t parts, const char *name)
{
    static uint32_t known_parts;
    static struct ld_model *model;
    struct ld_error err = {0};
    struct ld_backend *backend = gc_backend(gc);
    if (!backend || (model && parts == known_parts))
        return backend ? model : NULL;
    ld_model_destroy(model);
    model = NULL;
    const int fd = memfd_create("model", MFD_CLOEXEC);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    enum ld_code code = fd < 0 ? LD_E_IO : generate(fd, parts, &err);
    if (code == LD_OK)
        code = ld_model_open(&model, backend, path, NULL, &err);
    if (fd >= 0)
        close(fd);
    if (code != LD_OK)
        gc_fail(gc, name, err.detail);
    known_parts = parts;
    return model;
}

/* ---- Block statistics ------------------------------------------------------------------------ */

static double larger(double a, double b)
{
    return a > b || isnan(a) ? a : b;
}

double gc_statistics_error(const float *values, size_t count, const json_t *expected)
{
    double sum = 0;
    double squares = 0;
    double most = 0;
    for (size_t i = 0; i < count; i++) {
        const double v = (double)values[i];
        sum += v;
        squares += v * v;
        most = fabs(v) > most ? fabs(v) : most;
    }
    const double n = (double)count;
    const double mean = sum / n;
    const double std = sqrt(squares / n - mean * mean);
    const double e_std = json_number_value(json_object_get(expected, "std"));
    const double e_most = json_number_value(json_object_get(expected, "absmax"));
    const double e_l2 = json_number_value(json_object_get(expected, "l2"));
    double error = fabs(mean - json_number_value(json_object_get(expected, "mean"))) / e_std;
    error = larger(fabs(std - e_std) / e_std, error);
    error = larger(fabs(most - e_most) / e_most, error);
    error = larger(fabs(sqrt(squares) - e_l2) / e_l2, error);
    /* Samples by their L2 distance, in units of what 16 typical values have. */
    const json_t *index = json_object_get(expected, "sample_index");
    const json_t *sample = json_object_get(expected, "sample");
    double distance = 0;
    for (size_t s = 0; s < json_array_size(sample); s++) {
        const size_t at = (size_t)json_integer_value(json_array_get(index, s));
        if (at >= count)
            return (double)INFINITY;
        const double d = (double)values[at] - json_number_value(json_array_get(sample, s));
        distance += d * d;
    }
    const double scale = e_l2 / sqrt(n);
    return larger(sqrt(distance / (double)json_array_size(sample)) / scale, error);
}

/* Token values [B, T, C] come as planes [B, C, 1, T]; their statistics are of the rows. */
static float *rows_of(const float *planes, int32_t batch, int32_t channels, int32_t tokens)
{
    float *rows = calloc((size_t)batch * (size_t)channels * (size_t)tokens, sizeof *rows);
    for (size_t b = 0; rows && b < (size_t)batch; b++)
        for (size_t c = 0; c < (size_t)channels; c++)
            for (size_t t = 0; t < (size_t)tokens; t++)
                rows[(b * (size_t)tokens + t) * (size_t)channels + c] =
                    planes[(b * (size_t)channels + c) * (size_t)tokens + t];
    return rows;
}

static void note_worst(struct gc_blocks *blocks, const char *name, double error)
{
    if (error <= blocks->worst)
        return;
    blocks->worst = error;
    snprintf(blocks->worst_name, sizeof blocks->worst_name, "%s", name);
}

/* The whole block, where the case stores it: "<case>/block.<name>" or "<case>/<name>". */
static void compare_whole(struct gc_blocks *blocks, const char *name, const float *planes,
                          int32_t batch, int32_t channels, size_t plane)
{
    char full[NAME_SIZE];
    struct gc_array array;
    const size_t count = (size_t)batch * (size_t)channels * plane;
    snprintf(full, sizeof full, "%s/block.%s", blocks->case_id, name);
    bool there = gc_tensors_get(blocks->tensors, full, &array);
    if (!there)
        there = gc_tensors_get(blocks->tensors, gc_join(full, sizeof full, blocks->case_id, name),
                               &array);
    if (!there)
        return;
    float *rows = array.rank == 3 ? rows_of(planes, batch, channels, (int32_t)plane) : NULL;
    const float *values = rows ? rows : planes;
    double *wide = calloc(count ? count : 1, sizeof *wide);
    for (size_t i = 0; wide && i < count; i++)
        wide[i] = (double)values[i];
    note_worst(blocks, name,
               wide && array.count == count ? gc_relative_l2(wide, array.data, count)
                                            : (double)INFINITY);
    free(wide);
    free(rows);
    gc_array_free(&array);
}

static void take_block(void *ctx, const char *name, const float *planes, int32_t batch,
                       int32_t channels, int32_t height, int32_t width)
{
    struct gc_blocks *blocks = ctx;
    const json_t *expected = json_object_get(blocks->expected, name);
    const size_t count = (size_t)batch * (size_t)channels * (size_t)height * (size_t)width;
    compare_whole(blocks, name, planes, batch, channels, (size_t)height * (size_t)width);
    if (!expected)
        return;
    size_t shape = 1;
    const json_t *dims = json_object_get(expected, "shape");
    for (size_t d = 0; d < json_array_size(dims); d++)
        shape *= (size_t)json_integer_value(json_array_get(dims, d));
    float *rows = json_array_size(dims) == 3 ? rows_of(planes, batch, channels, width) : NULL;
    const double error = shape == count ? gc_statistics_error(rows ? rows : planes, count, expected)
                                        : (double)INFINITY;
    free(rows);
    blocks->seen++;
    note_worst(blocks, name, error);
}

static struct ld_graph_tap_sink blocks_sink;

void gc_blocks_begin(struct gc_blocks *blocks, const json_t *expected, struct gc_tensors *tensors,
                     const char *case_id, struct ld_model *model)
{
    *blocks = (struct gc_blocks){.expected = expected, .tensors = tensors, .case_id = case_id};
    blocks_sink = (struct ld_graph_tap_sink){.ctx = blocks, .take = take_block};
    ld_model_set_tap(model, expected ? &blocks_sink : NULL);
}

void gc_blocks_run(struct gc_blocks *blocks)
{
    const bool whole = blocks->seen == json_object_size(blocks->expected);
    gc_runs_add(&blocks->runs, whole ? blocks->worst : (double)INFINITY);
    blocks->worst = 0;
    blocks->seen = 0;
}

void gc_blocks_end(struct gc *gc, struct gc_blocks *blocks, struct ld_model *model,
                   const char *case_id, double tolerance)
{
    char name[NAME_SIZE];
    ld_model_set_tap(model, NULL);
    if (!blocks->expected)
        return;
    const double limit = gc_tolerance(gc, tolerance);
    const double error = gc_runs_error(&blocks->runs, limit);
    if (error <= limit)
        snprintf(name, sizeof name, "%s/blocks", case_id);
    else
        snprintf(name, sizeof name, "%s/blocks[%s]", case_id, blocks->worst_name);
    gc_report(gc, name, error, limit);
}

/* ---- Runs of one case ------------------------------------------------------------------------ */

int32_t gc_runs_wanted(struct gc *gc, const struct ld_model *model)
{
    enum { SD15_CHANNELS = 320 };
    const struct ld_backend *backend = gc_backend(gc);
    const bool rounds = backend && backend->act_dtype != LD_DTYPE_F32;
    return rounds && ld_model_arch(model)->unet_channels < SD15_CHANNELS ? 1 + GC_NEIGHBOURS_MAX
                                                                         : 1;
}

void gc_runs_latents(float *out, const float *x, size_t count, int32_t run)
{
    uint32_t state = (uint32_t)run * 2654435761u;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u; /* Numerical Recipes' generator */
        const float sign = (float)((int32_t)(state >> 30) % 3 - 1);
        out[i] = run ? x[i] + x[i] * sign * 0x1p-18F : x[i];
    }
}

void gc_runs_add(struct gc_runs *runs, double error)
{
    LD_ASSERT(runs->count <= GC_NEIGHBOURS_MAX);
    if (runs->count++ == 0) {
        runs->first = error;
        return;
    }
    int32_t at = runs->count - 2;
    for (; at > 0 && !(runs->near[at - 1] <= error); at--)
        runs->near[at] = runs->near[at - 1];
    runs->near[at] = error;
}

double gc_runs_error(const struct gc_runs *runs, double tolerance)
{
    if (runs->first <= tolerance || runs->count <= GC_NEIGHBOURS_RIGHT)
        return runs->first;
    return runs->near[GC_NEIGHBOURS_RIGHT - 1];
}

bool gc_runs_are_enough(const struct gc_runs *runs, double tolerance)
{
    return runs->count > 0 && gc_runs_error(runs, tolerance) <= tolerance;
}

/* ---- Small helpers --------------------------------------------------------------------------- */

const char *gc_join(char *out, size_t size, const char *a, const char *b)
{
    snprintf(out, size, "%s/%s", a, b);
    return out;
}

float *gc_floats(struct gc_tensors *tensors, const char *case_id, const char *name,
                 struct gc_array *shape)
{
    char full[NAME_SIZE];
    struct gc_array array;
    float *values = NULL;
    if (gc_tensors_get(tensors, gc_join(full, sizeof full, case_id, name), &array))
        values = calloc(array.count ? array.count : 1, sizeof *values);
    for (size_t i = 0; values && i < array.count; i++)
        values[i] = (float)array.data[i];
    if (shape)
        *shape = array;
    gc_array_free(&array);
    if (shape)
        shape->data = NULL;
    return values;
}

double gc_distance(struct gc_tensors *tensors, const char *case_id, const char *name,
                   const float *values, size_t count)
{
    char full[NAME_SIZE];
    struct gc_array array;
    double error = (double)INFINITY;
    double *wide = calloc(count ? count : 1, sizeof *wide);
    for (size_t i = 0; wide && i < count; i++)
        wide[i] = (double)values[i];
    if (gc_tensors_get(tensors, gc_join(full, sizeof full, case_id, name), &array) && wide &&
        array.count == count)
        error = gc_relative_l2(wide, array.data, count);
    gc_array_free(&array);
    free(wide);
    return error;
}

bool gc_case_file_open(struct gc *gc, const char *root, const char *path, struct gc_case_file *file)
{
    char tensors_path[PATH_SIZE];
    memset(file, 0, sizeof *file);
    file->json = json_load_file(path, 0, NULL);
    file->cases = json_object_get(file->json, "cases");
    const char *name = json_string_value(json_object_get(file->json, "tensors_file"));
    if (file->cases && name && gc_find(gc, root, name, tensors_path, sizeof tensors_path))
        file->tensors = gc_tensors_open(tensors_path);
    if (file->tensors)
        return true;
    gc_fail(gc, path, "the cases or their tensors cannot be read");
    gc_case_file_close(file);
    return false;
}

void gc_case_file_close(struct gc_case_file *file)
{
    gc_tensors_close(file->tensors);
    json_decref(file->json);
    memset(file, 0, sizeof *file);
}
