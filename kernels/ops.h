/*
 * The operator table: the few fused operators that CLIP, the UNet and the VAE need, behind one
 * struct of function pointers. `kernels/cpu` is the oracle and the default without a GPU,
 * `kernels/cuda` the product. Nothing here knows a model, a job or a user.
 *
 * Conventions
 *   - Activations are NHWC, contiguous, of the backend's activation type (`ld_backend.act_dtype`;
 *     float32 on the CPU). A transformer's token matrix [B, H*W, C] is the same bytes.
 *   - Convolution weights are given in checkpoint layout [Cout, Cin, kh, kw], linear weights
 *     [N, K]; `weight_create` packs them for the backend.
 *   - Every result row (one image's position or token) is a pure function of that image's own data
 *     and shape: neither the batch size nor the number of threads changes a bit of it.
 *   - No operator allocates. Scratch comes from the backend's workspace, sized at plan time
 *     (`workspace_bytes`, `workspace_reserve`).
 *   - Operators check shapes (LD_E_SHAPE) and never print.
 *
 *     struct ld_conv2d op = {.x0 = h, .c0 = 320, .batch = 2, .in_h = 64, .in_w = 64, .weight = w,
 *                            .stride = 1, .pad_before = 1, .pad_after = 1, .y = out};
 *     if (backend->ops->conv2d(backend, &op, err) != LD_OK) ...
 */
#ifndef LD_KERNELS_OPS_H
#define LD_KERNELS_OPS_H

#include "kernels/range.h"
#include "kernels/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ld_backend;
struct ld_weight; /* packed by and for one backend */

/* ---- Weights --------------------------------------------------------------------------------- */

/* The largest stack: a timestep projection of each residual block, five a level and two in the
 * middle, of the eight levels that a UNet may have. */
enum { LD_WEIGHT_PARTS_MAX = 42 };

enum ld_weight_kind {
    LD_WEIGHT_LINEAR, /* parts are [part rows, k]; stacked along rows (q, k, v become one) */
    LD_WEIGHT_GEGLU,  /* one part [2n, k]: value rows first, gate rows second */
    LD_WEIGHT_CONV,   /* one part [rows, k, kernel, kernel]; kernel 1 or 3 */
    LD_WEIGHT_VECTOR, /* norm gains and shifts, biases; k = 1, kept as float32 */
    LD_WEIGHT_TABLE   /* embedding table [rows, k], looked up by row */
};

/* Raw bytes in checkpoint order; borrowed during weight_create only. */
struct ld_weight_part {
    const void *data;
    enum ld_dtype dtype;
    float scale;  /* multiplies every element (fp8 files with scale_weight); 0 means 1 */
    int32_t rows; /* of a stack's part; 0 in a weight of one part, in a bias */
};

struct ld_weight_desc {
    enum ld_weight_kind kind;
    int32_t rows; /* output features, all parts together */
    int32_t k;    /* input features (Cin for a convolution) */
    int32_t kernel;
    bool upsampled; /* a convolution that reads an upsampled map: phase kernels may pay off */
    /* Kept in the host's memory and sent to each use, where the backend has `ring_plan_bytes` and
     * this kind is worth it; for others it says nothing. Changes no bit of any result. */
    bool streamed;
    uint32_t part_count;
    struct ld_weight_part parts[LD_WEIGHT_PARTS_MAX];
    /* Bias in the same order as the stacked rows: one optional part per weight part. */
    struct ld_weight_part bias[LD_WEIGHT_PARTS_MAX]; /* data NULL: none */
};

/* ---- Operators ------------------------------------------------------------------------------- */

/*
 * Moments: a backend may let the operator that writes a map leave sums of it for the group norm
 * that reads the map, so that the norm need not read it twice. The planner gives them room beside
 * the map (`moments`, NULL where nobody asks); what stands there is the backend's own affair, and a
 * backend without use for it ignores the pointers.
 */

/*
 * y[b,oy,ox,o] = bias[o] + row_add[b,o] + residual[b,oy,ox,o]
 *              + sum_{ky,kx,c} w[o,c,ky,kx] * in[b, oy*stride + ky - pad_before, ..., c]
 * `in` is x0 and x1 concatenated on channels (x1 NULL: x0 alone), after nearest upsampling to
 * [up_h, up_w] when up_h > 0 (source index = floor(dst * in / up)). Outside reads are zero.
 * Output size = (H + pad_before + pad_after - kernel) / stride + 1 with H the (upsampled) height.
 *
 * y must not alias x0 or x1; it may alias residual.
 */
struct ld_conv2d {
    const void *x0, *x1;
    int32_t c0, c1;
    int32_t batch, in_h, in_w;
    int32_t up_h, up_w;
    int32_t stride, pad_before, pad_after;
    const struct ld_weight *weight; /* kernel 1 or 3, bias inside */
    const float *row_add;           /* [batch, row_add_stride] float32, or NULL */
    int32_t row_add_stride;
    const void *residual;
    void *y;
    float *moments; /* of y; NULL: not wanted */
    size_t moments_bytes;
};

enum ld_activation {
    LD_ACT_NONE,
    LD_ACT_SILU,
    LD_ACT_QUICK_GELU, /* x * sigmoid(1.702 x) */
    LD_ACT_GEGLU, /* value * gelu_erf(gate); weight kind LD_WEIGHT_GEGLU, output n = rows / 2 */
    LD_ACT_RELU   /* max(x, 0), 0 for what is no number; of a map only */
};

/* y[m, :] = act(x[m, :] W^T + bias) + residual[m, :]. x: [rows, k], y: [rows, n]. `rows_per_image`
 * tells where images end (tiles are cut there); rows % rows_per_image == 0. `x1` as in ld_conv2d.
 */
struct ld_linear {
    const void *x0, *x1;
    int32_t c0, c1;
    int32_t rows, rows_per_image;
    const struct ld_weight *weight;
    enum ld_activation activation;
    const void *residual;
    void *y;
    bool f32; /* x0, x1, residual and y are float32 whatever the activation type: the timestep path
               */
    float *moments; /* of y; NULL: not wanted */
    size_t moments_bytes;
};

/* A norm in two halves: what is measured of a whole map is applied to parts of it, or of another.
 */
enum ld_norm_half {
    LD_NORM_BOTH,
    LD_NORM_MEASURE, /* leaves `fold`, writes no y */
    LD_NORM_APPLY    /* reads `fold`; `positions` are those at hand */
};
enum { LD_NORM_FOLD = 4 }; /* floats a channel of a fold; what they mean is the backend's affair */

/* y = silu?((x - mean_g) * rstd_g * gamma[c] + beta[c]), statistics per image and group over
 * H*W*C/groups values of the channel concatenation of x0 and x1. y may alias x0 when x1 is NULL.
 * MEASURE of a map and APPLY to all its parts give the bits of BOTH. */
struct ld_group_norm {
    const void *x0, *x1;
    int32_t c0, c1;
    int32_t batch, positions; /* H * W */
    int32_t groups;
    float epsilon;
    bool silu;
    const struct ld_weight *gamma, *beta;
    void *y;
    const float *moments0, *moments1; /* what the writers of x0 and x1 left, or NULL */
    enum ld_norm_half half;
    float *fold; /* [batch, channels, LD_NORM_FOLD] of the backend's memory, unless BOTH */
};

/* y[m,:] = (x - mean) * rstd * gamma + beta over the last axis. y may alias x. */
struct ld_layer_norm {
    const void *x;
    int32_t rows, channels;
    float epsilon;
    const struct ld_weight *gamma, *beta;
    void *y;
};

/*
 * o[b,i,h,:] = sum_j softmax_j(scale * q[b,i,h,:].k[b,j,h,:]) v[b,j,h,:]
 * Element (b, i, head, d) of q is at q[(b * q_rows + i) * q_stride + head * head_dim + d]; k and v
 * likewise with kv_rows and their strides (so q, k, v may be slices of one fused projection).
 * kv_len[b] <= kv_rows counts the keys in use, NULL means kv_rows. causal: j <= i.
 */
struct ld_attention {
    const void *q, *k, *v;
    void *o; /* [batch, q_rows, heads * head_dim], stride o_stride */
    int32_t batch, q_rows, kv_rows;
    int32_t q_stride, k_stride, v_stride, o_stride;
    int32_t heads, head_dim;
    float scale;
    const int32_t *kv_len;
    bool causal;
};

/* y[b, 0..dim/2) = cos(t_b f_i), y[b, dim/2..dim) = sin(t_b f_i), f_i = exp(-ln(10000) i/(dim/2)).
 */
struct ld_timestep {
    const float *t; /* [batch], host memory */
    int32_t batch, dim;
    void *y;
    bool f32; /* y is float32 whatever the activation type */
};

/* y[m, :] = table[ids[m], :] + positions[m % tokens, :]; where override[m] is not NULL that float32
 * vector stands in for the table row (textual inversion). */
struct ld_embed {
    const int32_t *ids;           /* [rows], host memory */
    const float *const *override; /* [rows] or NULL */
    int32_t rows, tokens, channels;
    const struct ld_weight *table, *positions;
    void *y;
};

/* y = nonlinearity(x), elementwise: the timestep vector's SiLU, the preview decoder's ReLU. y may
 * alias x. */
struct ld_map {
    const void *x;
    int64_t count;
    enum ld_activation activation;
    void *y;
    bool f32; /* x and y are float32 whatever the activation type */
};

enum ld_resize_mode {
    LD_RESIZE_NEAREST,
    LD_RESIZE_NEAREST_EXACT,
    LD_RESIZE_BILINEAR,
    LD_RESIZE_BICUBIC,
    LD_RESIZE_AREA,
    LD_RESIZE_BISLERP,
    LD_RESIZE_BILINEAR_ANTIALIAS,
    LD_RESIZE_BICUBIC_ANTIALIAS
};

/* Separable resampling of a feature map (deep shrink); formulas of each mode: sample/resize.h. */
struct ld_resize {
    const void *x;
    int32_t batch, in_h, in_w, channels;
    int32_t out_h, out_w;
    enum ld_resize_mode mode;
    void *y;
};

/* Host planes [batch, C, H, W] float32 -> activations NHWC, times scale[b] (NULL: 1). */
struct ld_planes_in {
    const float *planes;
    int32_t batch, channels, height, width;
    const float *scale;
    void *y;
};

/* Activations NHWC -> host planes [batch, C, H, W] float32. */
struct ld_planes_out {
    const void *x;
    int32_t batch, channels, height, width;
    float *planes;
    bool f32; /* x is float32 whatever the activation type; one position an image */
};

/*
 * y[b, i] = x[b, i] + scale[b] * z[b, i]: what a ControlNet adds to a map. The product and the sum
 * are rounded to float32 each, then once to the activation type. Where scale[b] is 0, y is x bit
 * for bit, whatever z holds: -0 + 0 would be +0, and 0 times an infinity no number. y may alias x
 * or z.
 */
struct ld_add_scaled {
    const void *x, *z;
    const float *scale; /* [batch], host memory */
    /* A list that `scale` is part of, for operators of one run to send it once; NULL: there is
     * none. */
    const float *scales; /* [scales_count], host memory */
    int32_t scales_count;
    int32_t batch;
    int64_t count; /* elements an image */
    void *y;
};

/* ---- Runs ------------------------------------------------------------------------------------ */

/*
 * A run is one walk over a whole plan. A backend that can record launches (one CUDA graph a plan)
 * is told where a run begins and ends and what it is: two runs of equal identity launch the same
 * operators on the same addresses and differ only in what their host memory holds. So it may record
 * one and replay it later; in a replay the operators are called all the same, and the backend takes
 * only their host inputs.
 */
enum { LD_RUN_WEIGHTS_MAX = 3 };
struct ld_run_id {
    uint64_t plan, weights;            /* serials, never given twice */
    uint64_t more[LD_RUN_WEIGHTS_MAX]; /* of further sets of weights, 0 where there is none */
    const void *scratch, *persistent;
    uint64_t bound; /* which ports have host memory, bit by bit */
    bool skip_prologue;
    bool recordable;    /* false: the host works on values in between, or a test looks at them */
    uint32_t operators; /* about how much a recording takes */
};

/* The operators that may need scratch. */
enum ld_workspace_kind {
    LD_WORKSPACE_CONV2D,     /* const struct ld_conv2d *, and its weight's shape */
    LD_WORKSPACE_LINEAR,     /* const struct ld_linear *, and its weight's shape */
    LD_WORKSPACE_GROUP_NORM, /* const struct ld_group_norm * */
    LD_WORKSPACE_ATTENTION,  /* const struct ld_attention * */
    LD_WORKSPACE_RESIZE      /* const struct ld_resize * */
};

/* ---- The table ------------------------------------------------------------------------------- */

/* What an idle time has left to do. */
enum ld_idle {
    LD_IDLE_DONE, /* nothing, until something has run again */
    LD_IDLE_MORE,
    LD_IDLE_LATER /* not now: another process computes on this device */
};

struct ld_ops {
    enum ld_code (*weight_create)(struct ld_backend *, const struct ld_weight_desc *,
                                  struct ld_weight **out, struct ld_error *);
    void (*weight_destroy)(struct ld_backend *, struct ld_weight *);
    size_t (*weight_bytes)(const struct ld_weight *); /* that it takes, wherever it lies */
    /* Optional. What a weight of this description would take of the device before there is one, 0
     * if it would be streamed: a pure function of its numbers, whose data nobody looks at. */
    size_t (*weight_plan_bytes)(struct ld_backend *, const struct ld_weight_desc *);
    /* Optional: the backend streams weights. What it takes of the device to stream this one, 0 if
     * it would not; weights are streamed one after the other, so of several the largest counts. */
    size_t (*ring_plan_bytes)(struct ld_backend *, const struct ld_weight_desc *);

    /* Device memory for activations: 64-byte aligned on the CPU, 256 on a GPU; released as a whole.
     */
    enum ld_code (*memory_alloc)(struct ld_backend *, size_t bytes, void **out, struct ld_error *);
    void (*memory_free)(struct ld_backend *, void *memory, size_t bytes);

    /*
     * Optional (NULL: nothing to do). Scratch of one operator, a pure function of the numbers in
     * `op` and `weight` (whose data nobody looks at; NULL for operators without a matrix); and the
     * order to hold at least `bytes` of it ready, so that no run allocates.
     */
    size_t (*workspace_bytes)(enum ld_workspace_kind, const void *op,
                              const struct ld_weight_desc *weight);
    enum ld_code (*workspace_reserve)(struct ld_backend *, size_t bytes, struct ld_error *);

    /*
     * Optional (NULL: only the build and the device decide). A number for the order in which the
     * operator sums, equal wherever equal operands give equal bits: the reduction signature of
     * kernels.md 13. `op` as for a run, its weight in place; nobody looks at its operands.
     */
    uint32_t (*signature)(struct ld_backend *, enum ld_workspace_kind, const void *op);

    /*
     * Optional, see struct ld_run_id. Every run_begin is followed by one run_end; `completed` tells
     * whether all operators were called and succeeded. *again: the run was not carried out (the
     * recording failed) and has to be made once more. run_forget: the plan is gone.
     */
    enum ld_code (*run_begin)(struct ld_backend *, const struct ld_run_id *, struct ld_error *);
    enum ld_code (*run_end)(struct ld_backend *, bool completed, bool *again, struct ld_error *);
    void (*run_forget)(struct ld_backend *, uint64_t plan);

    enum ld_code (*conv2d)(struct ld_backend *, const struct ld_conv2d *, struct ld_error *);
    enum ld_code (*linear)(struct ld_backend *, const struct ld_linear *, struct ld_error *);
    enum ld_code (*group_norm)(struct ld_backend *, const struct ld_group_norm *,
                               struct ld_error *);
    enum ld_code (*layer_norm)(struct ld_backend *, const struct ld_layer_norm *,
                               struct ld_error *);
    enum ld_code (*attention)(struct ld_backend *, const struct ld_attention *, struct ld_error *);
    enum ld_code (*timestep)(struct ld_backend *, const struct ld_timestep *, struct ld_error *);
    enum ld_code (*embed)(struct ld_backend *, const struct ld_embed *, struct ld_error *);
    enum ld_code (*map)(struct ld_backend *, const struct ld_map *, struct ld_error *);
    enum ld_code (*resize)(struct ld_backend *, const struct ld_resize *, struct ld_error *);
    enum ld_code (*add_scaled)(struct ld_backend *, const struct ld_add_scaled *,
                               struct ld_error *);
    enum ld_code (*planes_in)(struct ld_backend *, const struct ld_planes_in *, struct ld_error *);
    enum ld_code (*planes_out)(struct ld_backend *, const struct ld_planes_out *,
                               struct ld_error *);
    /*
     * Optional. One piece of what waits for a time when nobody wants anything, between runs: under
     * a second. It changes no bit of any run, and what breaks in it is told by `lost` alone.
     * Returns what is left to do; nothing is done while another process occupies the device.
     */
    enum ld_idle (*idle)(struct ld_backend *);
    /* Optional. From now on, or no longer, this process has something to compute: idle times of
     * others on the same device wait. */
    void (*occupy)(struct ld_backend *, bool now);
    /* Wait for everything launched. A no-op on the CPU. */
    enum ld_code (*synchronize)(struct ld_backend *, struct ld_error *);
    void (*destroy)(struct ld_backend *);
};

/* One device. Used by one thread at a time. Backends embed this as their first member. */
struct ld_backend {
    const struct ld_ops *ops;
    const char *name;        /* "cpu", "cuda" */
    char description[128];   /* "AVX-512, 2 threads" */
    enum ld_dtype act_dtype; /* type of activations */
    size_t memory_bytes;     /* all that the device has; 0: no bound of its own */
    size_t memory_free;      /* what of it was free when the backend was made; 0 likewise */
    size_t library_bytes; /* scratch of other libraries that runs come to use; 0: they use none */
    bool apart; /* what was called may still run on a device of its own until `synchronize` */
    bool lost;  /* the device cannot be used any more; every later call fails with LD_E_DEVICE */
    const struct ld_ranges *ranges; /* a profiler's; NULL: none listens */
    bool op_ranges; /* operators are run one by one, for a profiler to see each of them */
    /*
     * Optional, set by the owner: called when memory is refused; gives back what nobody needs right
     * now and tells whether there was anything, then the memory is asked for again. It may free
     * memory and weights of this backend, but not what the operation at hand uses.
     */
    bool (*relieve)(void *ctx);
    void *relieve_ctx;
};

/* ---- Backends -------------------------------------------------------------------------------- */

enum ld_cpu_level {
    LD_CPU_AUTO,    /* the best this machine has */
    LD_CPU_GENERIC, /* plain C: the oracle */
    LD_CPU_AVX2,
    LD_CPU_AVX512,
    LD_CPU_AMX,
    LD_CPU_NEON,
    LD_CPU_LEVELS
};

/*
 * `threads` 0: one per usable core.
 * Errors   LD_E_UNSUPPORTED if the machine lacks the asked level, LD_E_NOMEM.
 */
enum ld_code ld_cpu_backend_create(struct ld_backend **out, uint32_t threads,
                                   enum ld_cpu_level level, struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
