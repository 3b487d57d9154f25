/*
 * Operators with a host side: what they read from the host passes through the stage, so that a
 * replay needs only new content at old addresses.
 */
#include "kernels/cuda/backend_state.h"

#include <string.h>

static size_t planes_bytes(int32_t batch, int32_t channels, int32_t height, int32_t width)
{
    return (size_t)batch * (size_t)channels * (size_t)height * (size_t)width * sizeof(float);
}

enum ld_code ld_cuda_timestep(struct ld_backend *backend, const struct ld_timestep *op,
                              struct ld_error *err)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    void *t = NULL;
    if (op->t == NULL || op->y == NULL || op->batch < 1 || op->dim < 2)
        return LD_FAIL(err, LD_E_SHAPE, "timestep needs times and an output");
    const enum ld_code code =
        ld_cuda_stage_in(cuda, op->t, (size_t)op->batch * sizeof *op->t, &t, err);
    if (code != LD_OK || cuda->mode == LD_CUDA_REPLAY)
        return code;
    return ld_cuda_check(
        cuda,
        ldk_timestep(t, op->batch, op->dim, op->y, op->f32 ? LDK_F32 : cuda->dtype, cuda->stream),
        "timestep", err);
}

/* One place holds ids, indices and vectors: a second take may move the first. There is room for as
 * many vectors as rows, so that the place does not depend on the prompt. */
struct embed_layout {
    size_t index_at, vectors_at, bytes;
};

static struct embed_layout embed_layout(const struct ld_embed *op)
{
    const size_t rows = (size_t)op->rows;
    struct embed_layout layout = {.index_at = rows * sizeof(int32_t)};
    layout.vectors_at = (2 * layout.index_at + LD_CUDA_ALIGN - 1) & ~(size_t)(LD_CUDA_ALIGN - 1);
    layout.bytes = op->override ? layout.vectors_at + rows * (size_t)op->channels * sizeof(float)
                                : layout.index_at;
    return layout;
}

static void lay_out_embed(const struct ld_embed *op, const struct embed_layout *layout,
                          unsigned char *pinned)
{
    const size_t row_bytes = (size_t)op->channels * sizeof(float);
    int32_t *ids = (void *)pinned;
    int32_t *index = (void *)(pinned + layout->index_at);
    int32_t count = 0;
    memcpy(ids, op->ids, (size_t)op->rows * sizeof *ids);
    for (int32_t m = 0; op->override && m < op->rows; m++) {
        index[m] = op->override[m] ? count++ : -1;
        if (op->override[m])
            memcpy(pinned + layout->vectors_at + (size_t)index[m] * row_bytes, op->override[m],
                   row_bytes);
    }
}

enum ld_code ld_cuda_embed(struct ld_backend *backend, const struct ld_embed *op,
                           struct ld_error *err)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    void *pinned = NULL;
    void *device = NULL;
    enum ld_code code = ld_check_embed(op, err);
    if (code != LD_OK)
        return code;
    const struct embed_layout layout = embed_layout(op);
    code = ld_cuda_stage_take(cuda, layout.bytes, &pinned, &device, err);
    if (code != LD_OK)
        return code;
    lay_out_embed(op, &layout, pinned);
    if (cuda->mode == LD_CUDA_REPLAY)
        return LD_OK;
    code = ld_cuda_check(cuda, ldk_rt_upload(device, pinned, layout.bytes, cuda->stream), "upload",
                         err);
    if (code != LD_OK)
        return code;
    const struct ld_weight *const tables[2] = {op->table, op->positions};
    const void *rows[2];
    code = ld_cuda_stream_tables(cuda, tables, rows, err);
    if (code != LD_OK)
        return code;
    const unsigned char *at = device;
    const int32_t *index = (const void *)(at + layout.index_at);
    const float *vectors = (const void *)(at + layout.vectors_at);
    code =
        ld_cuda_check(cuda,
                      ldk_embed(device, op->override ? index : NULL, op->override ? vectors : NULL,
                                op->rows, op->tokens, op->channels, op->table->facts.rows, rows[0],
                                rows[1], op->y, cuda->dtype, cuda->stream),
                      "embed", err);
    for (int i = 0; code == LD_OK && i < 2; i++)
        code = ld_cuda_stream_read(cuda, tables[i], err);
    return code;
}

/* A scale an image: alone, or as part of a list that is sent once for all sums of a run. */
static enum ld_code stage_scale(struct ld_cuda *cuda, const struct ld_add_scaled *op,
                                const float **scale, struct ld_error *err)
{
    struct ld_cuda_stage *stage = &cuda->stage;
    const bool listed = op->scales != NULL;
    const float *list = listed ? op->scales : op->scale;
    const int32_t count = listed ? op->scales_count : op->batch;
    void *device = NULL;
    if (listed && stage->scales == list) {
        *scale = stage->scales_device + (op->scale - list);
        return LD_OK;
    }
    const enum ld_code code =
        ld_cuda_stage_in(cuda, list, (size_t)count * sizeof *list, &device, err);
    stage->scales = code == LD_OK && listed ? list : NULL;
    stage->scales_device = device;
    *scale = code == LD_OK ? stage->scales_device + (op->scale - list) : NULL;
    return code;
}

enum ld_code ld_cuda_add_scaled(struct ld_backend *backend, const struct ld_add_scaled *op,
                                struct ld_error *err)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    const float *scale = NULL;
    enum ld_code code = ld_check_add_scaled(op, err);
    if (code == LD_OK)
        code = stage_scale(cuda, op, &scale, err);
    if (code != LD_OK || cuda->mode == LD_CUDA_REPLAY)
        return code;
    return ld_cuda_check(
        cuda,
        ldk_add_scaled(op->x, op->z, scale, op->batch, op->count, op->y, cuda->dtype, cuda->stream),
        "add_scaled", err);
}

enum ld_code ld_cuda_planes_in(struct ld_backend *backend, const struct ld_planes_in *op,
                               struct ld_error *err)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    void *pinned = NULL;
    void *device = NULL;
    enum ld_code code = ld_check_planes_in(op, err);
    if (code != LD_OK)
        return code;
    const size_t bytes = planes_bytes(op->batch, op->channels, op->height, op->width);
    const size_t scale_bytes = op->scale ? (size_t)op->batch * sizeof *op->scale : 0;
    code = ld_cuda_stage_take(cuda, bytes + scale_bytes, &pinned, &device, err);
    if (code != LD_OK)
        return code;
    memcpy(pinned, op->planes, bytes);
    if (op->scale)
        memcpy((unsigned char *)pinned + bytes, op->scale, scale_bytes);
    if (cuda->mode == LD_CUDA_REPLAY)
        return LD_OK;
    code = ld_cuda_check(cuda, ldk_rt_upload(device, pinned, bytes + scale_bytes, cuda->stream),
                         "upload", err);
    if (code != LD_OK)
        return code;
    const float *planes = device;
    return ld_cuda_check(cuda,
                         ldk_planes_in(planes, op->scale ? planes + bytes / sizeof *planes : NULL,
                                       op->batch, op->channels, op->height, op->width, op->y,
                                       cuda->dtype, cuda->stream),
                         "planes_in", err);
}

enum ld_code ld_cuda_planes_out(struct ld_backend *backend, const struct ld_planes_out *op,
                                struct ld_error *err)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    void *pinned = NULL;
    void *device = NULL;
    enum ld_code code = ld_check_planes_out(op, err);
    if (code == LD_OK && op->f32 && op->height * op->width != 1)
        code = LD_FAIL(err, LD_E_SHAPE, "planes_out reads float32 of one position only");
    if (code != LD_OK)
        return code;
    const size_t bytes = planes_bytes(op->batch, op->channels, op->height, op->width);
    code = ld_cuda_stage_take(cuda, bytes, &pinned, &device, err);
    if (code == LD_OK && cuda->mode != LD_CUDA_REPLAY && !op->f32)
        code = ld_cuda_check(cuda,
                             ldk_planes_out(op->x, op->batch, op->channels, op->height, op->width,
                                            device, cuda->dtype, cuda->stream),
                             "planes_out", err);
    if (code != LD_OK)
        return code;
    return ld_cuda_stage_out(cuda, pinned, op->f32 ? op->x : device, op->planes, bytes, err);
}
