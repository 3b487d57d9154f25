/*
 * The launchers of the CUDA kernels: plain C structs in, an error code out. The backend
 * (kernels/cuda/backend.c) turns the operators of kernels/ops.h into these calls; the same sources
 * and the same calls exist twice, built by nvcc for the device and by the host compiler over
 * kernels/host (tests). Device code sees this header, launch.h and idx.h, nothing else.
 *
 * Conventions
 *   - Pointers are device memory. Activations (`act`) are NHWC of type `dtype` (fp16 or bf16);
 *     norm gains, biases, moments and everything named float are float32.
 *   - Activation bases are 256-byte aligned; a slice of a fused projection starts at a multiple of
 *     16 bytes on the fast paths (the plain variants take any element offset).
 *   - Nothing allocates and nothing synchronises. Scratch is `workspace`, sized by the *_workspace
 *     function of the same arguments (a pure function of the shape of ONE image and the batch).
 *   - One image's result is a function of that image's data and shape only, bit for bit: tiles are
 *     cut per image, sums run in a fixed order, no atomics on floats.
 *   - `variant` picks an implementation: LDK_VARIANT_AUTO takes the default for the shape, others
 *     are numbers below the family's count; a variant that cannot run the shape returns
 *     LDK_E_UNSUPPORTED and launches nothing.
 *
 * Source: kernels.md sections 2, 4-9.
 */
#ifndef LDK_KERNELS_H
#define LDK_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ldk_stream_opaque *ldk_stream; /* a cudaStream_t; NULL on the host build */

enum ldk_code {
    LDK_OK = 0,
    LDK_E_UNSUPPORTED = -1, /* this variant does not do this shape or type */
    LDK_E_INVALID = -2      /* arguments that make no sense */
    /* positive: a cudaError_t from the launch */
};

enum ldk_dtype { LDK_F16 = 0, LDK_BF16 = 1, LDK_F32 = 2 };

enum { LDK_VARIANT_AUTO = -1, LDK_VARIANT_PLAIN = 0 };

/* ReLU is known to ldk_map alone. */
enum ldk_activation { LDK_ACT_NONE, LDK_ACT_SILU, LDK_ACT_QUICK_GELU, LDK_ACT_GEGLU, LDK_ACT_RELU };

/* ---- Packed weights (pack.h fills them on the host) -------------------------------------------- */

/*
 * [rows_padded][taps][k_padded] of `dtype`: tap-major K with channels innermost, linear weights
 * have one tap. Padding is zero. GEGLU rows are interleaved: 8 value rows, then the 8 gate rows of
 * the same outputs. `phase` (kernel 3 only, may be NULL): the four 2x2 kernels of the upsampling
 * form, [4][rows_padded][4][k_padded], sums taken in fp32 and rounded once.
 */
struct ldk_weight {
    const void *data;
    const void *phase;
    const float *bias; /* [rows_padded], zeros where there is none; GEGLU interleaved as rows */
    int32_t rows, rows_padded;
    int32_t k, k_padded;
    int32_t taps; /* 1 or 9 */
    bool geglu;
    enum ldk_dtype dtype;
    const void *bias16; /* `bias` in `dtype`, for libraries; NULL: none are offered this weight */
};

/* ---- Convolution and linear: conv.cu, gemm.cu -------------------------------------------------- */

/* As ld_conv2d; kernel 1 or 3 by w->taps. Two-source input without concatenation, nearest
 * upsampling to [up_h, up_w] folded into the index walk (and by phase kernels when up is exactly
 * twice and w->phase is there). */
struct ldk_conv {
    const void *x0, *x1; /* act [batch, in_h, in_w, c0 | c1] */
    int32_t c0, c1;
    int32_t batch, in_h, in_w, up_h, up_w, out_h, out_w;
    int32_t stride, pad_before;
    struct ldk_weight w;
    const void *row_add; /* [batch, row_add_stride] float32 (row_add_f32) or act; NULL: none */
    int32_t row_add_stride;
    bool row_add_f32;
    const void *residual; /* act, as y; may alias y */
    void *y;              /* act [batch, out_h, out_w, w.rows] */
    float *
        moments; /* NULL, or [batch][ldk_conv_tiles][w.rows][4]: per tile and channel the shifted
                    moments (shift, sum of (v-shift), sum of (v-shift)^2, count) of the rounded y */
    void *workspace; /* ldk_conv_workspace bytes; NULL where that is 0 */
    enum ldk_dtype dtype;
    bool fp16_accumulate; /* GeForce option: fp16 mma accumulators, promoted every 128 of K */
    int32_t variant;
};
/* M tiles of one image: what `moments` holds per image. A function of one image's shape and of the
 * variant. 0: this kernel leaves no moments (`moments` must be NULL and the norm takes its own). */
int32_t ldk_conv_tiles(const struct ldk_conv *c);
/* Bytes of scratch (sums of a split K); 0 for most shapes. Data pointers are not looked at. */
size_t ldk_conv_workspace(const struct ldk_conv *c);
int ldk_conv2d(const struct ldk_conv *c, ldk_stream stream);
/* conv_in (few input channels) and conv_out (few outputs) run on their own direct kernels inside
 * ldk_conv2d. */

struct ldk_linear {
    const void *x0, *x1; /* act [rows, c0 | c1] */
    int32_t c0, c1;
    int32_t rows, rows_per_image;
    struct ldk_weight w; /* one tap */
    enum ldk_activation activation;
    const void *residual;
    void *y;         /* act [rows, n]; n = w.rows, or w.rows / 2 for GEGLU */
    bool y_f32;      /* y is float32 (timestep path) */
    float *moments;  /* as in ldk_conv, tiles by ldk_linear_tiles */
    void *workspace; /* ldk_linear_workspace bytes */
    enum ldk_dtype dtype;
    bool fp16_accumulate;
    int32_t variant;
};
int32_t ldk_linear_tiles(const struct ldk_linear *l);
size_t ldk_linear_workspace(const struct ldk_linear *l);
int ldk_linear(const struct ldk_linear *l, ldk_stream stream);

/* What the tuner may choose from; fills up to `capacity` numbers, returns how many there are.
 * Variants with an equal `signature` give equal bits (kernels.md 13). */
struct ldk_variant {
    int32_t number;
    uint32_t signature;
    int32_t tile_m, tile_n, tile_k, stages, threads;
    int32_t splits; /* parts that K is summed in, by a block each; below 2: one */
    int32_t shared_bytes;
    int32_t moment_rows; /* that one record of moments covers; 0: it writes none */
    const char *name;
};
int32_t ldk_conv_variants(const struct ldk_conv *c, struct ldk_variant *out, int32_t capacity);
int32_t ldk_linear_variants(const struct ldk_linear *l, struct ldk_variant *out, int32_t capacity);
/* The signature of the variant asked for, AUTO being the default of this shape; 0: it cannot run.
 */
uint32_t ldk_conv_signature(const struct ldk_conv *c);
uint32_t ldk_linear_signature(const struct ldk_linear *l);
/* Its number; LDK_VARIANT_AUTO if it cannot run. */
int32_t ldk_conv_number(const struct ldk_conv *c);
int32_t ldk_linear_number(const struct ldk_linear *l);

/* ---- Normalisation: norm.cu -------------------------------------------------------------------- */

enum ldk_norm_half { LDK_NORM_BOTH, LDK_NORM_MEASURE, LDK_NORM_APPLY };

struct ldk_group_norm {
    const void *x0, *x1; /* act [batch, positions, c0 | c1] */
    int32_t c0, c1;
    int32_t batch, positions, groups;
    float epsilon;
    bool silu;
    const float *gamma, *beta; /* [c0 + c1] */
    void *y;                   /* may alias x0 when x1 is NULL */
    /* Moments that the producers of x0 and x1 left, or NULL: computed here first. */
    const float *moments0, *moments1;
    int32_t tiles0, tiles1; /* tiles an image; the counts are in the moments */
    enum ldk_norm_half half;
    float *fold; /* [batch, c0 + c1, 4] coefficients that one half leaves and the other reads */
    void *workspace;
    enum ldk_dtype dtype;
};
size_t ldk_group_norm_workspace(const struct ldk_group_norm *n);
int ldk_group_norm(const struct ldk_group_norm *n, ldk_stream stream);

struct ldk_layer_norm {
    const void *x;
    int32_t rows, channels;
    float epsilon;
    const float *gamma, *beta;
    void *y; /* may alias x */
    enum ldk_dtype dtype;
};
int ldk_layer_norm(const struct ldk_layer_norm *n, ldk_stream stream);

/* ---- Attention: attention.cu, attention_wide.cu (d > 160), attention_plain.cu ------------------- */

/* As ld_attention: q, k, v may be slices of one fused projection (strides in elements). kv_len is
 * device memory. Widths 40, 64, 80, 160 run on mma kernels, 512 in chunks of query rows through
 * workspace, any other on the plain one. */
struct ldk_attention {
    const void *q, *k, *v;
    void *o;
    int32_t batch, q_rows, kv_rows;
    int32_t q_stride, k_stride, v_stride, o_stride;
    int32_t heads, head_dim;
    float scale;
    const int32_t *kv_len;
    bool causal;
    /* GeForce option, for fp16 on the mma kernels of calls that are not causal, passed over
     * elsewhere: fp16 mma accumulators in q k^T (attention_scores.cuh). */
    bool fp16_accumulate;
    void *workspace;
    enum ldk_dtype dtype;
    int32_t variant;
};
size_t ldk_attention_workspace(const struct ldk_attention *a);
int ldk_attention(const struct ldk_attention *a, ldk_stream stream);
/* The number of the variant asked for, AUTO being the default of this shape; AUTO: it cannot run.
 */
int32_t ldk_attention_number(const struct ldk_attention *a);
int32_t ldk_attention_variants(const struct ldk_attention *a, struct ldk_variant *out,
                               int32_t capacity);

/* ---- Small ones: point.cu, resize.cu ------------------------------------------------------------ */

int ldk_timestep(const float *t, int32_t batch, int32_t dim, void *y, enum ldk_dtype dtype,
                 ldk_stream stream); /* dtype may be LDK_F32 */

/* override_index[row] < 0: the table row; else row of `overrides` [*, channels]. NULL: none. */
int ldk_embed(const int32_t *ids, const int32_t *override_index, const float *overrides,
              int32_t rows, int32_t tokens, int32_t channels, int32_t table_rows, const void *table,
              const void *positions, void *y, enum ldk_dtype dtype, ldk_stream stream);

int ldk_map(const void *x, int64_t count, enum ldk_activation activation, void *y,
            enum ldk_dtype dtype, ldk_stream stream); /* NONE, SILU, QUICK_GELU; dtype may be F32 */

/* y[b, i] = x[b, i] + scale[b] * z[b, i] for `count` elements an image, fp16 or bf16; x bit for bit
 * where scale[b] is 0. y may be x or z. batch <= 65535. */
int ldk_add_scaled(const void *x, const void *z, const float *scale, int32_t batch, int64_t count,
                   void *y, enum ldk_dtype dtype, ldk_stream stream);

/* Modes are those of enum ld_resize_mode, by number. */
int ldk_resize(const void *x, int32_t batch, int32_t in_h, int32_t in_w, int32_t channels,
               int32_t out_h, int32_t out_w, int32_t mode, void *y, void *workspace,
               enum ldk_dtype dtype, ldk_stream stream);
size_t ldk_resize_workspace(int32_t batch, int32_t in_h, int32_t in_w, int32_t channels,
                            int32_t out_h, int32_t out_w, int32_t mode);

/* float32 planes [batch, C, H, W] <-> act NHWC; scale [batch] or NULL. */
int ldk_planes_in(const float *planes, const float *scale, int32_t batch, int32_t channels,
                  int32_t height, int32_t width, void *y, enum ldk_dtype dtype, ldk_stream stream);
int ldk_planes_out(const void *x, int32_t batch, int32_t channels, int32_t height, int32_t width,
                   float *planes, enum ldk_dtype dtype, ldk_stream stream);

/* act [batch, H, W, 3] in [-1, 1] -> uint8 [batch, H, W, 3], clamp((v + 1) / 2) * 255 rounded to
 * nearest even; *nonfinite (device, may be NULL) counts NaN and infinities. */
int ldk_rgb_out(const void *x, int32_t batch, int32_t height, int32_t width, uint8_t *rgb,
                uint32_t *nonfinite, enum ldk_dtype dtype, ldk_stream stream);

/* ---- The fused sampler step: step.cu ------------------------------------------------------------ */

/*
 * One linear update of every sampler of the k-diffusion family, for `count` images at once:
 *   d_i    = read(output rows of image i)   CFG-combined denoised estimate, float32
 *   x_i'   = a*x + b*d + c*noise + sum_h e_h*history_h
 *   next   = c_in * x_i' written twice (or once) as the network's input, act NHWC
 * Coefficients are per image and live in device memory, so one captured graph replays for every
 * step.
 */
enum { LDK_STEP_HISTORY_MAX = 3 };
struct ldk_step_image {
    float sigma, c_skip, c_out; /* denoised = c_skip * x + c_out * output */
    float cfg_scale;            /* 1 or rows == 1: no negative row */
    float rescale;              /* CFG rescale phi, 0: off */
    float a, b, c;
    float e[LDK_STEP_HISTORY_MAX];
    float next_c_in;
    uint64_t seed; /* Philox key */
    uint32_t draw; /* draw counter of sampling.md 4 */
    int32_t push;  /* history slot that receives this call's d, -1: none */
    int32_t rows;  /* UNet rows of this image: 1 or 2 (positive first) */
    int32_t first_row;
};
struct ldk_step {
    const struct ldk_step_image *images; /* device [count] */
    int32_t count, channels, height, width;
    const void *output; /* act NHWC [rows, H, W, channels]: what the UNet gave */
    float *x;           /* [count, C, H, W], updated in place */
    float *history;     /* [count, LDK_STEP_HISTORY_MAX, C, H, W] */
    const float *noise; /* [count, C, H, W] from the host, or NULL: Philox drawn here */
    void *next;         /* act NHWC [rows, H, W, channels] */
    float *workspace;   /* [count * 4] sums for rescale */
    enum ldk_dtype dtype;
};
int ldk_step(const struct ldk_step *s, ldk_stream stream);
/* Standard normal numbers of the Philox stream (sampling.md 4), [count] float32. */
int ldk_noise_philox(uint64_t seed, uint32_t draw, int64_t count, float *out, ldk_stream stream);

#ifdef __cplusplus
}
#endif
#endif
