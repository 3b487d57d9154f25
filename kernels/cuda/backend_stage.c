/*
 * The stage: how host inputs and outputs pass between a run and the device. Places are handed out
 * one after the other from the start of the run, so a replayed run finds the same addresses, and
 * only their content is new.
 */
#include "kernels/cuda/backend_state.h"

#include <string.h>

/* The latent, the context and the key counts of a small batch; pictures grow it. */
static const size_t STAGE_BYTES_MIN = (size_t)1 << 20;

static size_t round_up(size_t bytes)
{
    return (bytes + LD_CUDA_ALIGN - 1) & ~(size_t)(LD_CUDA_ALIGN - 1);
}

/* ---- Size ------------------------------------------------------------------------------------ */

static void release(struct ld_cuda_stage *stage)
{
    if (stage->pinned)
        (void)ldk_rt_free_pinned(stage->pinned);
    if (stage->device)
        (void)ldk_rt_free(stage->device);
    stage->pinned = stage->device = NULL;
    stage->bytes = stage->used = 0;
}

void ld_cuda_stage_deinit(struct ld_cuda *cuda)
{
    release(&cuda->stage);
}

/* Only a run that is walked grows the stage: one that is recorded has been walked before. What has
 * been staged in this run is used up first. */
static enum ld_code grow(struct ld_cuda *cuda, size_t bytes, struct ld_error *err)
{
    struct ld_cuda_stage *stage = &cuda->stage;
    void *pinned = NULL;
    void *device = NULL;
    if (cuda->mode != LD_CUDA_WALK)
        return LD_FAIL(err, LD_E_BUG, "a recorded plan wants more room than when it was walked");
    enum ld_code code = ld_cuda_stage_settle(cuda, true, err);
    if (code != LD_OK)
        return code;
    size_t wanted = stage->bytes ? 2 * stage->bytes : STAGE_BYTES_MIN;
    while (wanted < bytes)
        wanted *= 2;
    release(stage);
    cuda->generation++;
    code = ld_cuda_alloc(cuda, wanted, &device, err);
    if (code != LD_OK)
        return code;
    stage->device = device;
    code = ld_cuda_alloc_pinned(cuda, wanted, &pinned, err);
    if (code != LD_OK)
        return code;
    stage->pinned = pinned;
    stage->bytes = wanted;
    return LD_OK;
}

/* ---- Places ---------------------------------------------------------------------------------- */

enum ld_code ld_cuda_stage_take(struct ld_cuda *cuda, size_t bytes, void **pinned, void **device,
                                struct ld_error *err)
{
    struct ld_cuda_stage *stage = &cuda->stage;
    const size_t wanted = round_up(bytes);
    if (stage->used + wanted > stage->bytes) {
        const enum ld_code code = grow(cuda, stage->used + wanted, err);
        if (code != LD_OK)
            return code;
    }
    *pinned = stage->pinned + stage->used;
    *device = stage->device + stage->used;
    stage->used += wanted;
    return LD_OK;
}

enum ld_code ld_cuda_stage_in(struct ld_cuda *cuda, const void *src, size_t bytes, void **device,
                              struct ld_error *err)
{
    void *pinned;
    const enum ld_code code = ld_cuda_stage_take(cuda, bytes, &pinned, device, err);
    if (code != LD_OK)
        return code;
    memcpy(pinned, src, bytes);
    if (cuda->mode == LD_CUDA_REPLAY)
        return LD_OK;
    return ld_cuda_check(cuda, ldk_rt_upload(*device, pinned, bytes, cuda->stream), "upload", err);
}

enum ld_code ld_cuda_stage_out(struct ld_cuda *cuda, void *pinned, const void *device, void *host,
                               size_t bytes, struct ld_error *err)
{
    struct ld_cuda_stage *stage = &cuda->stage;
    if (stage->pending_count == LD_CUDA_PENDING_MAX)
        return LD_FAIL(err, LD_E_BUG, "a run has more outputs than the backend can keep");
    stage->pending[stage->pending_count++] =
        (struct ld_cuda_pending){.host = host, .pinned = pinned, .bytes = bytes};
    if (cuda->mode == LD_CUDA_REPLAY)
        return LD_OK;
    return ld_cuda_check(cuda, ldk_rt_download(pinned, device, bytes, cuda->stream), "download",
                         err);
}

enum ld_code ld_cuda_stage_settle(struct ld_cuda *cuda, bool keep, struct ld_error *err)
{
    struct ld_cuda_stage *stage = &cuda->stage;
    LD_ASSERT(cuda->mode == LD_CUDA_WALK);
    const enum ld_code code =
        ld_cuda_check(cuda, ldk_rt_stream_synchronize(cuda->stream), "waiting for the GPU", err);
    for (uint32_t i = 0; code == LD_OK && keep && i < stage->pending_count; i++)
        memcpy(stage->pending[i].host, stage->pending[i].pinned, stage->pending[i].bytes);
    stage->pending_count = 0;
    stage->used = 0;
    stage->kv_len = NULL;
    stage->scales = NULL;
    return code;
}
