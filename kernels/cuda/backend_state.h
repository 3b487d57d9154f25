/* What the files of the CUDA backend share. Internal; backend.h is the way in. */
#ifndef LDK_BACKEND_STATE_H
#define LDK_BACKEND_STATE_H

#include "kernels/check.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/device_lock.h"
#include "kernels/cuda/ring.h"
#include "kernels/cuda/rt.h"
#include "kernels/cuda/tuned.h"
#include "runtime/base/thread.h"

enum { LD_CUDA_ALIGN = 256, LD_CUDA_PENDING_MAX = 16, LD_CUDA_RECORDINGS_MAX = 64 };

/* ---- Weights --------------------------------------------------------------------------------- */

struct ld_cuda_slab {
    struct ld_cuda_slab *next;
    unsigned char *memory;
    size_t bytes, used;
    uint32_t live; /* weights that still lie in it */
    bool pinned;   /* host memory of streamed weights */
};

/* Two pinned buffers: one is packed into while the other is on its way. */
struct ld_cuda_ring {
    unsigned char *buffers[2];
    ldk_event sent[2];
    size_t bytes;
    uint32_t next;
    float *lines; /* scratch of packing, `line_floats` for each thread */
    size_t line_floats;
};

/* The addresses of a streamed one are those of its host memory, and tell what lies where in it. */
struct ld_weight {
    struct ld_weight_facts facts;
    struct ld_cuda_slab *slab;
    size_t bytes;
    bool streamed;
    uint64_t serial;           /* of a streamed one; never given twice */
    const unsigned char *host; /* of a streamed one: `bytes` of pinned memory */
    const void *data;          /* VECTOR: float32 [rows]; TABLE: activation type [rows, k] */
    struct ldk_weight matrix;  /* LINEAR, GEGLU, CONV */
};

/* How streamed weights reach the device (backend_stream.c). */
struct ld_cuda_streaming {
    ldk_stream copies;     /* NULL: nothing was ever streamed */
    unsigned char *memory; /* of the ring, on the device */
    struct ldk_ring ring;  /* of 0 bytes while there is no memory */
    size_t largest;        /* weight since the ring was last closed */
    uint32_t weights;      /* that are streamed */
    uint64_t serials;      /* given so far */
    bool forked;           /* the copy stream follows the compute stream of this run */
    ldk_event fork, join;
    ldk_event copied[LDK_RING_PIECES], read[LDK_RING_PIECES]; /* by slot */
};

/* ---- Host inputs and outputs ----------------------------------------------------------------- */

/* An output that waits in pinned memory for the end of the run. */
struct ld_cuda_pending {
    void *host;
    const void *pinned;
    size_t bytes;
};

struct ld_cuda_stage {
    unsigned char *pinned, *device; /* twins: equal offsets belong together */
    size_t bytes, used;
    struct ld_cuda_pending pending[LD_CUDA_PENDING_MAX];
    uint32_t pending_count;
    /* Key counts that several attentions of one run share are sent once. */
    const int32_t *kv_len;
    const int32_t *kv_len_device;
    /* Likewise the scales of several sums. */
    const float *scales;
    const float *scales_device;
};

/* ---- Recordings ------------------------------------------------------------------------------ */

enum ld_cuda_mode { LD_CUDA_WALK, LD_CUDA_RECORD, LD_CUDA_REPLAY };

struct ld_cuda_recording {
    struct ld_run_id id;
    ldk_graph graph; /* NULL: walked so far */
    bool refused;    /* cannot be recorded here */
    bool walked;     /* once, so everything lazy has happened */
    size_t bytes;
    uint64_t generation, used;
};

/* ---- Moments --------------------------------------------------------------------------------- */

/* Tiles that the latest writer of the moments at this address left for each image. */
struct ld_cuda_moments {
    const float *at;
    int32_t tiles;
};
enum { LD_CUDA_MOMENTS_MAX = 256 }; /* a power of two; the UNet has 44 group norms */

/* ---- The backend ----------------------------------------------------------------------------- */

struct ld_cuda {
    struct ld_backend base; /* first: the public handle points here */
    struct ld_cuda_options options;
    enum ldk_dtype dtype;
    ldk_stream stream;
    struct ld_pool *pool;
    struct ldk_tuner *tuner;     /* NULL: defaults */
    struct ldk_device_lock lock; /* among processes that use this device */
    struct ld_cuda_slab *slabs;  /* newest first */
    struct ld_cuda_slab *host_slabs;
    struct ld_cuda_streaming streaming;
    struct ld_cuda_ring ring;
    struct ld_cuda_stage stage;
    void *workspace;
    size_t workspace_bytes;
    uint64_t
        generation; /* of stage, workspace, ring, libraries: older recordings point elsewhere */
    uint64_t tuner_lost; /* what ldk_tuner_lost said last */
    enum ld_cuda_mode mode;
    struct ld_cuda_recording recordings[LD_CUDA_RECORDINGS_MAX];
    uint32_t recording_count;
    struct ld_cuda_recording *current; /* of the run in progress; NULL: not recordable */
    uint64_t clock;
    struct ld_cuda_moments moments[LD_CUDA_MOMENTS_MAX];
    struct ld_cuda_stats stats;
};

static inline struct ld_cuda *ld_cuda_of(struct ld_backend *backend)
{
    return (struct ld_cuda *)backend;
}

/* ---- backend.c ------------------------------------------------------------------------------- */

/*
 * From a code of rt.h or a launcher to an error: LD_OK, LD_E_GPU_NOMEM, LD_E_DEVICE (and `lost`
 * where the context is gone), LD_E_UNSUPPORTED, LD_E_SHAPE. `what` names the operator or service in
 * the private chain.
 */
enum ld_code ld_cuda_check(struct ld_cuda *cuda, int code, const char *what, struct ld_error *err);

/* Device memory, counted. LD_E_GPU_NOMEM tells how much is wanted and how much is free. */
enum ld_code ld_cuda_alloc(struct ld_cuda *cuda, size_t bytes, void **out, struct ld_error *err);

/* Pinned host memory. LD_E_NOMEM tells how much is wanted. */
enum ld_code ld_cuda_alloc_pinned(struct ld_cuda *cuda, size_t bytes, void **out,
                                  struct ld_error *err);

/* ---- backend_weight.c ------------------------------------------------------------------------ */

enum ld_code ld_cuda_weight_create(struct ld_backend *backend, const struct ld_weight_desc *desc,
                                   struct ld_weight **out, struct ld_error *err);
void ld_cuda_weight_destroy(struct ld_backend *backend, struct ld_weight *weight);
size_t ld_cuda_weight_bytes(const struct ld_weight *weight);
size_t ld_cuda_weight_plan_bytes(struct ld_backend *backend, const struct ld_weight_desc *desc);
size_t ld_cuda_ring_plan_bytes(struct ld_backend *backend, const struct ld_weight_desc *desc);
void ld_cuda_weights_deinit(struct ld_cuda *cuda);

/* ---- backend_stream.c ------------------------------------------------------------------------ */

/* One more weight of `bytes` will be streamed: the ring is there and has room for it. Errors
 * LD_E_GPU_NOMEM, LD_E_DEVICE; it is not counted then. dismiss: it is gone. */
enum ld_code ld_cuda_stream_admit(struct ld_cuda *cuda, size_t bytes, struct ld_error *err);
void ld_cuda_stream_dismiss(struct ld_cuda *cuda);

/* A run begins with an empty ring; it ends with every copy behind it on the compute stream. */
void ld_cuda_stream_begin(struct ld_cuda *cuda);
enum ld_code ld_cuda_stream_end(struct ld_cuda *cuda, struct ld_error *err);

/* A matrix, or two tables at once, where the operator that is about to be called finds them. Every
 * call is followed by ld_cuda_stream_read for each weight when the operator has been called for.
 * Nothing happens to weights that are not streamed. */
enum ld_code ld_cuda_stream_matrix(struct ld_cuda *cuda, const struct ld_weight *weight,
                                   struct ldk_weight *out, struct ld_error *err);
enum ld_code ld_cuda_stream_tables(struct ld_cuda *cuda, const struct ld_weight *const weights[2],
                                   const void *out[2], struct ld_error *err);
enum ld_code ld_cuda_stream_read(struct ld_cuda *cuda, const struct ld_weight *weight,
                                 struct ld_error *err);
void ld_cuda_stream_deinit(struct ld_cuda *cuda);

/* ---- backend_stage.c ------------------------------------------------------------------------- */

/* A place of `bytes` for one operator's host inputs or output. The run's places follow each other
 * in the order of the calls. Growing the stage moves earlier places of the run (they are used up
 * first), so an operator takes one place for all it has. */
enum ld_code ld_cuda_stage_take(struct ld_cuda *cuda, size_t bytes, void **pinned, void **device,
                                struct ld_error *err);
/* take, copy `src` in and send it. */
enum ld_code ld_cuda_stage_in(struct ld_cuda *cuda, const void *src, size_t bytes, void **device,
                              struct ld_error *err);
/* Fetch a place's device side; `host` receives it when the run is synchronised. */
enum ld_code ld_cuda_stage_out(struct ld_cuda *cuda, void *pinned, const void *device, void *host,
                               size_t bytes, struct ld_error *err);
/* Wait for the stream; then outputs reach their hosts, or (`keep` false) are forgotten. */
enum ld_code ld_cuda_stage_settle(struct ld_cuda *cuda, bool keep, struct ld_error *err);
void ld_cuda_stage_deinit(struct ld_cuda *cuda);

/* ---- backend_run.c --------------------------------------------------------------------------- */

enum ld_code ld_cuda_run_begin(struct ld_backend *backend, const struct ld_run_id *id,
                               struct ld_error *err);
enum ld_code ld_cuda_run_end(struct ld_backend *backend, bool completed, bool *again,
                             struct ld_error *err);
void ld_cuda_run_forget(struct ld_backend *backend, uint64_t plan);
void ld_cuda_runs_deinit(struct ld_cuda *cuda);

/* ---- backend_ops.c, backend_host.c ----------------------------------------------------------- */

enum ld_code ld_cuda_conv2d(struct ld_backend *backend, const struct ld_conv2d *op,
                            struct ld_error *err);
uint32_t ld_cuda_signature(struct ld_backend *backend, enum ld_workspace_kind kind, const void *op);
enum ld_code ld_cuda_linear(struct ld_backend *backend, const struct ld_linear *op,
                            struct ld_error *err);
enum ld_code ld_cuda_group_norm(struct ld_backend *backend, const struct ld_group_norm *op,
                                struct ld_error *err);
enum ld_code ld_cuda_layer_norm(struct ld_backend *backend, const struct ld_layer_norm *op,
                                struct ld_error *err);
enum ld_code ld_cuda_attention(struct ld_backend *backend, const struct ld_attention *op,
                               struct ld_error *err);
enum ld_code ld_cuda_map(struct ld_backend *backend, const struct ld_map *op, struct ld_error *err);
enum ld_code ld_cuda_resize(struct ld_backend *backend, const struct ld_resize *op,
                            struct ld_error *err);
enum ld_code ld_cuda_timestep(struct ld_backend *backend, const struct ld_timestep *op,
                              struct ld_error *err);
enum ld_code ld_cuda_embed(struct ld_backend *backend, const struct ld_embed *op,
                           struct ld_error *err);
enum ld_code ld_cuda_add_scaled(struct ld_backend *backend, const struct ld_add_scaled *op,
                                struct ld_error *err);
enum ld_code ld_cuda_planes_in(struct ld_backend *backend, const struct ld_planes_in *op,
                               struct ld_error *err);
enum ld_code ld_cuda_planes_out(struct ld_backend *backend, const struct ld_planes_out *op,
                                struct ld_error *err);

#endif
