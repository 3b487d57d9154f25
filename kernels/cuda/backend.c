/*
 * The CUDA backend's life: creation, memory, error classes, and the table of its operators.
 */
#include "kernels/cuda/backend_state.h"
#include "kernels/cuda/ranges.h"

#include "kernels/cuda/tune_cache.h"
#include "runtime/base/arena.h"
#include "runtime/base/log.h"

#include <stdio.h>
#include <string.h>

enum { ERROR_MEMORY_ALLOCATION = 2 }; /* cudaErrorMemoryAllocation */

/* A launch node of an instantiated graph takes a few KiB of device and host memory; 64 MiB hold the
 * plans of a dozen picture sizes. */
static const size_t RECORDING_BYTES_DEFAULT = (size_t)64 << 20;

/* ---- Errors ---------------------------------------------------------------------------------- */

enum ld_code ld_cuda_check(struct ld_cuda *cuda, int code, const char *what, struct ld_error *err)
{
    if (code == LDK_OK)
        return LD_OK;
    enum ld_code result;
    if (code == LDK_E_UNSUPPORTED) {
        result = LD_FAIL(err, LD_E_UNSUPPORTED, "the GPU's kernels do not take this shape");
    } else if (code == LDK_E_INVALID) {
        result = LD_FAIL(err, LD_E_SHAPE, "an operator's shapes do not fit together");
    } else if (code == ERROR_MEMORY_ALLOCATION) {
        result = LD_FAIL_OS(err, LD_E_GPU_NOMEM, code, "the GPU has not enough free memory");
    } else {
        cuda->base.lost = cuda->base.lost || ldk_rt_error_is_sticky(code);
        result = LD_FAIL_OS(err, LD_E_DEVICE, code, "the GPU reports an error");
    }
    (void)ld_error_note(err, "%s: %s", what,
                        code > 0 ? ldk_rt_error_name(code) : "refused by its launcher");
    return result;
}

static unsigned mebibytes(size_t bytes)
{
    return (unsigned)((bytes + ((1U << 20) - 1)) >> 20);
}

/* The owner lets go of what nobody needs. */
static bool relieve(struct ld_cuda *cuda)
{
    (void)ldk_rt_last_error(); /* a refused allocation leaves the context whole */
    return cuda->base.relieve && cuda->base.relieve(cuda->base.relieve_ctx);
}

enum ld_code ld_cuda_alloc(struct ld_cuda *cuda, size_t bytes, void **out, struct ld_error *err)
{
    struct ldk_device_info info = {.major = 0};
    *out = NULL;
    int code = ldk_rt_malloc(out, bytes);
    cuda->stats.device_allocations++;
    if (code == ERROR_MEMORY_ALLOCATION && relieve(cuda)) {
        code = ldk_rt_malloc(out, bytes);
        cuda->stats.device_allocations++;
    }
    if (code != ERROR_MEMORY_ALLOCATION)
        return ld_cuda_check(cuda, code, "device memory", err);
    (void)ldk_rt_last_error();
    if (ldk_rt_device_info(cuda->options.device, &info) != 0)
        return ld_cuda_check(cuda, code, "device memory", err);
    return LD_FAIL_OS(
        err, LD_E_GPU_NOMEM, code,
        "the GPU has not enough memory: %u MiB more are needed, %u of %u MiB are free",
        mebibytes(bytes), (unsigned)(info.memory_free >> 20), mebibytes(info.memory_total));
}

enum ld_code ld_cuda_alloc_pinned(struct ld_cuda *cuda, size_t bytes, void **out,
                                  struct ld_error *err)
{
    *out = NULL;
    int code = ldk_rt_malloc_pinned(out, bytes);
    if (code == ERROR_MEMORY_ALLOCATION && relieve(cuda))
        code = ldk_rt_malloc_pinned(out, bytes);
    if (code != ERROR_MEMORY_ALLOCATION)
        return ld_cuda_check(cuda, code, "pinned memory", err);
    (void)ldk_rt_last_error();
    return LD_FAIL_OS(err, LD_E_NOMEM, code,
                      "the machine has not enough memory that a GPU can read: %u MiB more are "
                      "needed",
                      mebibytes(bytes));
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static enum ld_code memory_alloc(struct ld_backend *backend, size_t bytes, void **out,
                                 struct ld_error *err)
{
    return ld_cuda_alloc(ld_cuda_of(backend), bytes > 0 ? bytes : 1, out, err);
}

static void memory_free(struct ld_backend *backend, void *memory, size_t bytes)
{
    (void)backend;
    (void)bytes;
    if (memory)
        (void)ldk_rt_free(memory); /* waits for whatever uses it */
}

static enum ld_code workspace_reserve(struct ld_backend *backend, size_t bytes,
                                      struct ld_error *err)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    void *grown = NULL;
    LD_ASSERT(cuda->mode == LD_CUDA_WALK);
    if (bytes <= cuda->workspace_bytes)
        return LD_OK;
    if (cuda->workspace)
        (void)ldk_rt_free(cuda->workspace);
    cuda->workspace = NULL;
    cuda->workspace_bytes = 0;
    cuda->generation++;
    const enum ld_code code = ld_cuda_alloc(cuda, bytes, &grown, err);
    if (code != LD_OK)
        return code;
    cuda->workspace = grown;
    cuda->workspace_bytes = bytes;
    return LD_OK;
}

static enum ld_code synchronize(struct ld_backend *backend, struct ld_error *err)
{
    return ld_cuda_stage_settle(ld_cuda_of(backend), true, err);
}

/* ---- Idle times ------------------------------------------------------------------------------ */

/* What a measurement broke shows at the next wait. */
static enum ld_idle idle(struct ld_backend *backend)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    struct ld_error err = {0};
    LD_ASSERT(cuda->mode == LD_CUDA_WALK);
    if (cuda->base.lost || !ldk_tuner_waits(cuda->tuner))
        return LD_IDLE_DONE;
    if (!ldk_device_lock_take(&cuda->lock))
        return LD_IDLE_LATER;
    const bool more = ldk_tuner_idle(cuda->tuner);
    const enum ld_code code =
        ld_cuda_check(cuda, ldk_rt_stream_synchronize(cuda->stream), "an idle time", &err);
    ldk_device_lock_release(&cuda->lock);
    if (code != LD_OK)
        ld_log_error(LD_LOG_WARN, "tune", "a measurement failed", &err);
    return code == LD_OK && more ? LD_IDLE_MORE : LD_IDLE_DONE;
}

static void occupy(struct ld_backend *backend, bool now)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    if (now)
        ldk_device_lock_share(&cuda->lock);
    else
        ldk_device_lock_release(&cuda->lock);
}

/* ---- Creation -------------------------------------------------------------------------------- */

static void destroy(struct ld_backend *backend)
{
    if (!backend)
        return;
    struct ld_cuda *cuda = ld_cuda_of(backend);
    if (cuda->stream)
        (void)ldk_rt_stream_synchronize(cuda->stream);
    ld_cuda_runs_deinit(cuda);
    ld_cuda_stage_deinit(cuda);
    ld_cuda_stream_deinit(cuda);
    ld_cuda_weights_deinit(cuda);
    ldk_tuner_destroy(cuda->tuner);
    ldk_device_lock_deinit(&cuda->lock);
    if (cuda->workspace)
        (void)ldk_rt_free(cuda->workspace);
    if (cuda->stream)
        (void)ldk_rt_stream_destroy(cuda->stream);
    ld_pool_destroy(cuda->pool);
    ld_heap_free(cuda);
}

static const struct ld_ops operator_table = {
    .weight_create = ld_cuda_weight_create,
    .weight_destroy = ld_cuda_weight_destroy,
    .weight_bytes = ld_cuda_weight_bytes,
    .weight_plan_bytes = ld_cuda_weight_plan_bytes,
    .ring_plan_bytes = ld_cuda_ring_plan_bytes,
    .memory_alloc = memory_alloc,
    .memory_free = memory_free,
    .workspace_bytes = ld_cuda_workspace_bytes,
    .workspace_reserve = workspace_reserve,
    .signature = ld_cuda_signature,
    .run_begin = ld_cuda_run_begin,
    .run_end = ld_cuda_run_end,
    .run_forget = ld_cuda_run_forget,
    .conv2d = ld_cuda_conv2d,
    .linear = ld_cuda_linear,
    .group_norm = ld_cuda_group_norm,
    .layer_norm = ld_cuda_layer_norm,
    .attention = ld_cuda_attention,
    .timestep = ld_cuda_timestep,
    .embed = ld_cuda_embed,
    .map = ld_cuda_map,
    .resize = ld_cuda_resize,
    .add_scaled = ld_cuda_add_scaled,
    .planes_in = ld_cuda_planes_in,
    .planes_out = ld_cuda_planes_out,
    .idle = idle,
    .occupy = occupy,
    .synchronize = synchronize,
    .destroy = destroy,
};

static void describe(struct ld_cuda *cuda, const struct ldk_device_info *info)
{
    const bool f16_sums = cuda->options.fp16_accumulate && cuda->dtype == LDK_F16;
    (void)snprintf(cuda->base.description, sizeof cuda->base.description,
                   "%.60s, compute capability %d.%d, %u MiB, %s%s", info->name, (int)info->major,
                   (int)info->minor, mebibytes(info->memory_total),
                   cuda->dtype == LDK_F16 ? "fp16" : "bf16", f16_sums ? ", fp16 sums" : "");
}

static enum ld_code open_device(struct ld_cuda *cuda, struct ld_error *err)
{
    struct ldk_device_info info;
    enum ld_code code =
        ld_cuda_check(cuda, ldk_rt_set_device(cuda->options.device), "choosing the device", err);
    if (code == LD_OK)
        code = ld_cuda_check(cuda, ldk_rt_device_info(cuda->options.device, &info),
                             "asking the device", err);
    if (code == LD_OK)
        code = ld_cuda_check(cuda, ldk_rt_stream_create(&cuda->stream, 0), "a stream", err);
    if (code != LD_OK)
        return code;
    cuda->base.memory_bytes = info.memory_total;
    cuda->base.memory_free = info.memory_free;
    ldk_device_lock_init(&cuda->lock, cuda->options.tuning_folder, info.uuid,
                         cuda->options.tune_idle);
    describe(cuda, &info);
    return code;
}

/* Where nothing was ever measured there is nothing to know, and no reason to load the libraries
 * that decisions may name; those of idle times name none. */
static enum ld_code open_tuner(struct ld_cuda *cuda, struct ld_error *err)
{
    const char *folder = cuda->options.tuning_folder;
    const bool given = folder && folder[0];
    const bool measure = given && cuda->options.tune;
    const bool known = measure || (given && ldk_tune_cache_any(folder));
    const struct ldk_tuner_options options = {.device = cuda->options.device,
                                              .folder = given ? folder : NULL,
                                              .measure = measure,
                                              .libraries = known,
                                              .idle = cuda->options.tune_idle,
                                              .stream = cuda->stream};
    cuda->options.tuning_folder = NULL; /* the caller's text */
    return known || options.idle ? ldk_tuner_create(&cuda->tuner, &options, err) : LD_OK;
}

enum ld_code ld_cuda_backend_create(struct ld_backend **out, const struct ld_cuda_options *options,
                                    struct ld_error *err)
{
    LD_ASSERT(out != NULL && options != NULL);
    *out = NULL;
    if (options->dtype != LD_DTYPE_F16 && options->dtype != LD_DTYPE_BF16)
        return LD_FAIL(err, LD_E_INVALID, "the CUDA backend computes in fp16 or bf16");
    struct ld_cuda *cuda = ld_heap_alloc(sizeof *cuda);
    if (!cuda)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the CUDA backend");
    cuda->base = (struct ld_backend){
        .ops = &operator_table, .name = "cuda", .act_dtype = options->dtype, .apart = true};
    cuda->base.ranges = ldk_ranges();
    cuda->base.op_ranges = options->no_recording;
    cuda->options = *options;
    ldk_device_lock_init(&cuda->lock, NULL, (const uint8_t[LDK_UUID_BYTES]){0}, false);
    cuda->dtype = options->dtype == LD_DTYPE_F16 ? LDK_F16 : LDK_BF16;
    if (options->recording_bytes_max == 0)
        cuda->options.recording_bytes_max = RECORDING_BYTES_DEFAULT;
    enum ld_code code = open_device(cuda, err);
    if (code == LD_OK)
        code = ld_pool_create(&cuda->pool, options->threads, err);
    if (code == LD_OK)
        code = open_tuner(cuda, err);
    if (code == LD_OK)
        cuda->base.library_bytes = ldk_tuner_library_bytes(cuda->tuner);
    if (code != LD_OK) {
        destroy(&cuda->base);
        return code;
    }
    *out = &cuda->base;
    return LD_OK;
}

/* ---- Reports --------------------------------------------------------------------------------- */

void ld_cuda_stats(const struct ld_backend *backend, struct ld_cuda_stats *out)
{
    const struct ld_cuda *cuda = (const struct ld_cuda *)backend;
    *out = cuda->stats;
    out->workspace_bytes = cuda->workspace_bytes;
    out->stage_bytes = cuda->stage.bytes;
    out->slab_bytes = 0;
    for (const struct ld_cuda_slab *slab = cuda->slabs; slab; slab = slab->next)
        out->slab_bytes += slab->bytes;
    out->ring_bytes = cuda->streaming.ring.bytes;
    out->host_slab_bytes = 0;
    for (const struct ld_cuda_slab *slab = cuda->host_slabs; slab; slab = slab->next)
        out->host_slab_bytes += slab->bytes;
    out->recording_bytes = 0;
    for (uint32_t i = 0; i < cuda->recording_count; i++)
        out->recording_bytes += cuda->recordings[i].bytes;
}

struct ldk_tuner *ld_cuda_tuner(const struct ld_backend *backend)
{
    return ((const struct ld_cuda *)backend)->tuner;
}

ldk_stream ld_cuda_stream(const struct ld_backend *backend)
{
    return ((const struct ld_cuda *)backend)->stream;
}
