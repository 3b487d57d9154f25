/*
 * The CUDA backend: the operators of kernels/ops.h over the launchers of kernels.h and the services
 * of rt.h. Plain C: linked with the kernels built by nvcc it runs on a GPU, linked with those of
 * the host build it runs in tests on any machine, and it cannot tell the difference.
 *
 *     struct ld_cuda_options options = {.device = 0, .dtype = LD_DTYPE_F16};
 *     if (ld_cuda_backend_create(&backend, &options, &err) != LD_OK) ...
 *
 * What it owns
 *   - weight slabs: packed by pack.h, uploaded through two pinned buffers while the next rows are
 *     being packed;
 *   - of weights that are streamed: the same in pinned memory, and a ring on the device through
 *     which they pass during a run (backend_stream.c);
 *   - the tuner, where a folder for its decisions is given;
 *   - one workspace for all operators, sized at plan time;
 *   - a stage: pinned memory and its twin on the device, through which every host input and output
 *     of a run passes, in the order of the operators. Equal runs find their inputs at equal
 *     addresses, so a run is recorded once (at its second time) and replayed from then on;
 *   - the recordings, least recently used first out, within a budget of bytes.
 *
 * Numerics  activations fp16 or bf16, sums in float32, timestep path float32. Whether a plan is
 *           walked, recorded or replayed, and whether its weights are streamed, changes no bit.
 * Source    kernels.md sections 2, 3, 10, 11.
 */
#ifndef LDK_BACKEND_H
#define LDK_BACKEND_H

#include "kernels/cuda/kernels.h"
#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ldk_tuner;

struct ld_cuda_options {
    int32_t device;
    enum ld_dtype dtype;        /* LD_DTYPE_F16 or LD_DTYPE_BF16 */
    uint32_t threads;           /* that pack weights; 0: one per core */
    bool fp16_accumulate;       /* kernels.md 12, docs/numerics.md: for GeForce */
    bool no_phase;              /* upsampling convolutions by the index walk instead of phases */
    bool no_recording;          /* every run is walked; a profiler sees each operator */
    size_t recording_bytes_max; /* 0: the default */
    /* Folder of the tuner's decisions (tuned.h); NULL or "": the default variant of every shape. */
    const char *tuning_folder;
    bool tune;      /* decide what the folder does not know yet, by measuring at its first use */
    bool tune_idle; /* ... in idle times, within the bits of the default */
};

/*
 * The device must have been found fit (runtime/gpu/device.h does that). `out->ops->destroy` gives
 * everything back.
 * Errors   LD_E_INVALID (type), LD_E_DEVICE, LD_E_GPU_NOMEM, LD_E_NOMEM.
 * Thread   one at a time; the device is made current for the creating thread only.
 */
enum ld_code ld_cuda_backend_create(struct ld_backend **out, const struct ld_cuda_options *options,
                                    struct ld_error *err) LD_MUST_USE;

/* `ld_ops.workspace_bytes` of this backend, which needs no backend to be asked. */
size_t ld_cuda_workspace_bytes(enum ld_workspace_kind kind, const void *op,
                               const struct ld_weight_desc *weight);

/* What has happened so far; for tests and reports. */
struct ld_cuda_stats {
    uint64_t device_allocations; /* calls of the device allocator */
    uint64_t walks, recordings, replays;
    uint64_t recordings_failed, recordings_dropped;
    uint64_t prologues, prologues_skipped; /* runs that computed what depends on the context only */
    uint64_t norms, norms_with_moments;
    uint64_t weights_sent; /* copies of streamed weights called for; a replay's are not counted */
    size_t slab_bytes, workspace_bytes, stage_bytes, recording_bytes;
    size_t ring_bytes;      /* of streamed weights, on the device */
    size_t host_slab_bytes; /* their pinned memory */
};
void ld_cuda_stats(const struct ld_backend *backend, struct ld_cuda_stats *out);

/* The tuner, for reports about what was chosen; NULL if there is none. */
struct ldk_tuner *ld_cuda_tuner(const struct ld_backend *backend);

/* The stream that everything is launched on, for benchmarks that put events around it. */
ldk_stream ld_cuda_stream(const struct ld_backend *backend);

#ifdef __cplusplus
}
#endif
#endif
