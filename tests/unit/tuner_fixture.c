#include "tests/unit/tuner_fixture.h"

#include "kernels/cuda/rt.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { TEXT_SIZE = 65536 };

/* ---- Folder ---------------------------------------------------------------------------------- */

int open_tuning(void **state)
{
    (void)state;
    fake_gpu_reset();
    return make_test_folder("test_tuner") ? 0 : -1;
}

int close_tuning(void **state)
{
    (void)state;
    remove_files(test_folder, "tune-");
    remove_files(test_folder, "idle-");
    remove_files(test_folder, "gpu-");
    return remove_test_folder() && fake_gpu.live_allocations == 0 ? 0 : -1;
}

const char *decisions_of(const char *prefix)
{
    static char text[TEXT_SIZE];
    DIR *dir = opendir(test_folder);
    text[0] = '\0';
    for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
        char path[400];
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", test_folder, entry->d_name);
        FILE *file = fopen(path, "r");
        if (file) {
            text[fread(text, 1, sizeof text - 1, file)] = '\0';
            (void)fclose(file);
        }
    }
    if (dir)
        (void)closedir(dir);
    return text;
}

const char *decisions(void)
{
    return decisions_of("tune-");
}

/* ---- The backend ----------------------------------------------------------------------------- */

struct ld_backend *open_with(const struct ld_cuda_options *options)
{
    struct ld_error err = {0};
    struct ld_backend *backend = NULL;
    if (ld_cuda_backend_create(&backend, options, &err) != LD_OK)
        fail_msg("%s", err.detail);
    return backend;
}

struct ld_backend *open_backend(enum ld_dtype dtype, bool tune)
{
    return open_with(&(struct ld_cuda_options){
        .dtype = dtype, .threads = 1, .tuning_folder = test_folder, .tune = tune});
}

struct ld_backend *open_idle(enum ld_dtype dtype, const char *where)
{
    return open_with(&(struct ld_cuda_options){
        .dtype = dtype, .threads = 1, .tuning_folder = where, .tune_idle = true});
}

/* Values that differ everywhere, of about unit size. */
static float value_at(uint32_t i, uint32_t seed)
{
    return (float)((i * 2654435761U + seed * 40503U) >> 16 & 1023U) / 512.0F - 1.0F;
}

/* Device memory of the activation type holding value_at, and the same rounded in `out`. */
static void *operand(struct ld_backend *backend, float *out, uint32_t count, uint32_t seed)
{
    struct ld_error err = {0};
    void *device = NULL;
    uint16_t *rounded = calloc(count, sizeof *rounded);
    assert_non_null(rounded);
    for (uint32_t i = 0; i < count; i++)
        out[i] = value_at(i, seed);
    ld_dtype_from_f32(rounded, out, backend->act_dtype, count);
    ld_dtype_to_f32(out, rounded, backend->act_dtype, count);
    assert_int_equal(backend->ops->memory_alloc(backend, count * sizeof *rounded, &device, &err),
                     LD_OK);
    assert_int_equal(ldk_rt_upload(device, rounded, count * sizeof *rounded, NULL), 0);
    assert_int_equal(ldk_rt_stream_synchronize(NULL), 0);
    free(rounded);
    return device;
}

void fetch(struct ld_backend *backend, uint16_t *out, const void *device, size_t bytes)
{
    struct ld_error err = {0};
    assert_int_equal(ldk_rt_download(out, device, bytes, ld_cuda_stream(backend)), 0);
    assert_int_equal(backend->ops->synchronize(backend, &err), LD_OK);
}

/* ---- Linear layers --------------------------------------------------------------------------- */

void open_layer(struct layer *layer, struct ld_backend *backend)
{
    struct ld_error err = {0};
    for (uint32_t i = 0; i < N * K; i++)
        layer->matrix[i] = 0.1F * value_at(i, 5);
    for (uint32_t i = 0; i < N; i++)
        layer->bias[i] = value_at(i, 6);
    const struct ld_weight_desc desc = {.kind = LD_WEIGHT_LINEAR,
                                        .rows = N,
                                        .k = K,
                                        .kernel = 1,
                                        .part_count = 1,
                                        .parts = {{.data = layer->matrix, .dtype = LD_DTYPE_F32}},
                                        .bias = {{.data = layer->bias, .dtype = LD_DTYPE_F32}}};
    assert_int_equal(backend->ops->weight_create(backend, &desc, &layer->weight, &err), LD_OK);
    layer->x_device = operand(backend, layer->x, X_VALUES, 7);
    layer->residual_device = operand(backend, layer->residual, Y_VALUES, 8);
    assert_int_equal(
        backend->ops->memory_alloc(backend, Y_VALUES * sizeof(uint16_t), &layer->y_device, &err),
        LD_OK);
}

void close_layer(struct layer *layer, struct ld_backend *backend)
{
    backend->ops->memory_free(backend, layer->y_device, Y_VALUES * sizeof(uint16_t));
    backend->ops->memory_free(backend, layer->residual_device, Y_VALUES * sizeof(uint16_t));
    backend->ops->memory_free(backend, layer->x_device, X_VALUES * sizeof(uint16_t));
    backend->ops->weight_destroy(backend, layer->weight);
}

void run_layer(struct layer *layer, struct ld_backend *backend, bool residual, uint16_t *out)
{
    struct ld_error err = {0};
    const struct ld_linear op = {.x0 = layer->x_device,
                                 .c0 = K,
                                 .rows = ROWS,
                                 .rows_per_image = ROWS / 2,
                                 .weight = layer->weight,
                                 .residual = residual ? layer->residual_device : NULL,
                                 .y = layer->y_device};
    if (backend->ops->linear(backend, &op, &err) != LD_OK)
        fail_msg("%s", err.detail);
    fetch(backend, out, layer->y_device, Y_VALUES * sizeof *out);
}

double distance(const struct layer *layer, const struct ld_backend *backend, bool residual,
                const uint16_t *got)
{
    const bool bf16 = backend->act_dtype == LD_DTYPE_BF16;
    double difference = 0;
    double size = 0;
    for (uint32_t i = 0; i < Y_VALUES; i++) {
        const uint32_t n = i % N;
        double want = (double)layer->bias[n] + (residual ? (double)layer->residual[i] : 0);
        for (uint32_t k = 0; k < K; k++)
            want += (double)layer->matrix[n * K + k] * (double)layer->x[i / N * K + k];
        const double found = (double)(bf16 ? ld_bf16_to_f32(got[i]) : ld_f16_to_f32(got[i]));
        difference += (found - want) * (found - want);
        size += want * want;
    }
    return sqrt(difference / size);
}

/* ---- Attention ------------------------------------------------------------------------------- */

void attend(struct ld_backend *backend, uint16_t *out)
{
    static float values[2 * QKV];
    struct ld_error err = {0};
    void *o = NULL;
    const size_t bytes = (size_t)2 * TOKENS * WIDTH * sizeof *out;
    uint16_t *qkv = operand(backend, values, 2 * QKV, 9);
    assert_int_equal(backend->ops->memory_alloc(backend, bytes, &o, &err), LD_OK);
    const struct ld_attention op = {.q = qkv,
                                    .k = qkv + WIDTH,
                                    .v = qkv + 2 * WIDTH,
                                    .o = o,
                                    .batch = 2,
                                    .q_rows = TOKENS,
                                    .kv_rows = TOKENS,
                                    .q_stride = 3 * WIDTH,
                                    .k_stride = 3 * WIDTH,
                                    .v_stride = 3 * WIDTH,
                                    .o_stride = WIDTH,
                                    .heads = HEADS,
                                    .head_dim = DIM,
                                    .scale = 0.35F};
    if (backend->ops->attention(backend, &op, &err) != LD_OK)
        fail_msg("%s", err.detail);
    fetch(backend, out, o, bytes);
    backend->ops->memory_free(backend, o, bytes);
    backend->ops->memory_free(backend, qkv, sizeof(uint16_t) * 2 * QKV);
}
