/*
 * Operators that work on device memory alone: check, then the launcher's struct, then the launch.
 * In a replay nothing is launched.
 */
#include "kernels/cuda/backend_state.h"
#include "kernels/cuda/pack.h"
#include "kernels/idx.h"

/* ---- Translation ----------------------------------------------------------------------------- */

static enum ldk_activation activation_of(enum ld_activation activation)
{
    switch (activation) {
    case LD_ACT_SILU:
        return LDK_ACT_SILU;
    case LD_ACT_QUICK_GELU:
        return LDK_ACT_QUICK_GELU;
    case LD_ACT_GEGLU:
        return LDK_ACT_GEGLU;
    case LD_ACT_RELU:
        return LDK_ACT_RELU;
    case LD_ACT_NONE:
        break;
    }
    return LDK_ACT_NONE;
}

static struct ldk_conv conv_of(const struct ld_conv2d *op, const struct ldk_weight *weight,
                               enum ldk_dtype dtype)
{
    const int32_t kernel = weight->taps == 9 ? 3 : 1;
    const int32_t margin = op->pad_before + op->pad_after;
    return (struct ldk_conv){
        .x0 = op->x0,
        .x1 = op->x1,
        .c0 = op->c0,
        .c1 = op->c1,
        .batch = op->batch,
        .in_h = op->in_h,
        .in_w = op->in_w,
        .up_h = op->up_h,
        .up_w = op->up_w,
        .out_h = ld_idx_conv_out(op->up_h > 0 ? op->up_h : op->in_h, margin, kernel, op->stride),
        .out_w = ld_idx_conv_out(op->up_w > 0 ? op->up_w : op->in_w, margin, kernel, op->stride),
        .stride = op->stride,
        .pad_before = op->pad_before,
        .w = *weight,
        .row_add = op->row_add,
        .row_add_stride = op->row_add_stride,
        .row_add_f32 = true,
        .residual = op->residual,
        .y = op->y,
        .dtype = dtype,
        .variant = LDK_VARIANT_AUTO,
    };
}

static struct ldk_linear linear_of(const struct ld_linear *op, const struct ldk_weight *weight,
                                   enum ldk_dtype dtype)
{
    return (struct ldk_linear){
        .x0 = op->x0,
        .x1 = op->x1,
        .c0 = op->c0,
        .c1 = op->c1,
        .rows = op->rows,
        .rows_per_image = op->rows_per_image,
        .w = *weight,
        .activation = activation_of(op->activation),
        .residual = op->residual,
        .y = op->y,
        .y_f32 = op->f32,
        .dtype = op->f32 ? LDK_F32 : dtype,
        .variant = LDK_VARIANT_AUTO,
    };
}

static struct ldk_group_norm group_norm_of(const struct ld_group_norm *op, enum ldk_dtype dtype)
{
    return (struct ldk_group_norm){
        .x0 = op->x0,
        .x1 = op->x1,
        .c0 = op->c0,
        .c1 = op->c1,
        .batch = op->batch,
        .positions = op->positions,
        .groups = op->groups,
        .epsilon = op->epsilon,
        .silu = op->silu,
        .y = op->y,
        .half = (enum ldk_norm_half)op->half, /* the same three, in the same order */
        .fold = op->fold,
        .dtype = dtype,
    };
}

static struct ldk_attention attention_of(const struct ld_attention *op, enum ldk_dtype dtype)
{
    return (struct ldk_attention){
        .q = op->q,
        .k = op->k,
        .v = op->v,
        .o = op->o,
        .batch = op->batch,
        .q_rows = op->q_rows,
        .kv_rows = op->kv_rows,
        .q_stride = op->q_stride,
        .k_stride = op->k_stride,
        .v_stride = op->v_stride,
        .o_stride = op->o_stride,
        .heads = op->heads,
        .head_dim = op->head_dim,
        .scale = op->scale,
        .causal = op->causal,
        .dtype = dtype,
        .variant = LDK_VARIANT_AUTO,
    };
}

/* The option that fp16 alone has. */
static bool has_fp16_sums(const struct ld_cuda *cuda)
{
    return cuda->options.fp16_accumulate && cuda->dtype == LDK_F16;
}

/* ---- Workspace ------------------------------------------------------------------------------- */

/* Sizes do not depend on which of the two 16-bit types it is, nor on addresses: the shape of a
 * weight is enough. */
static struct ldk_weight weight_shape(const struct ld_weight_desc *desc)
{
    struct ldk_pack pack;
    ldk_pack_plan(&pack, desc, LDK_F16,
                  desc->kind == LD_WEIGHT_CONV && desc->upsampled && desc->kernel == 3);
    return ldk_pack_weight(&pack, NULL, NULL, NULL);
}

size_t ld_cuda_workspace_bytes(enum ld_workspace_kind kind, const void *op,
                               const struct ld_weight_desc *weight)
{
    switch (kind) {
    case LD_WORKSPACE_CONV2D: {
        const struct ldk_weight shape = weight_shape(weight);
        const struct ldk_conv conv = conv_of(op, &shape, LDK_F16);
        return ldk_conv_workspace(&conv);
    }
    case LD_WORKSPACE_LINEAR: {
        const struct ldk_weight shape = weight_shape(weight);
        const struct ldk_linear linear = linear_of(op, &shape, LDK_F16);
        return ldk_linear_workspace(&linear);
    }
    case LD_WORKSPACE_GROUP_NORM: {
        const struct ldk_group_norm norm = group_norm_of(op, LDK_F16);
        return ldk_group_norm_workspace(&norm);
    }
    case LD_WORKSPACE_ATTENTION: {
        const struct ldk_attention attention = attention_of(op, LDK_F16);
        return ldk_attention_workspace(&attention);
    }
    case LD_WORKSPACE_RESIZE: {
        const struct ld_resize *resize = op;
        return ldk_resize_workspace(resize->batch, resize->in_h, resize->in_w, resize->channels,
                                    resize->out_h, resize->out_w, (int32_t)resize->mode);
    }
    }
    return 0;
}

/* The graph has reserved what it needs; an operator called by itself (tests) grows it here, which
 * a walked run may do at any time. */
static enum ld_code workspace(struct ld_cuda *cuda, size_t bytes, void **out, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    if (bytes > cuda->workspace_bytes) {
        if (cuda->mode != LD_CUDA_WALK)
            return LD_FAIL(err, LD_E_BUG, "a recorded plan wants more room than was reserved");
        code = ld_cuda_stage_settle(cuda, true, err);
        if (code == LD_OK)
            code = cuda->base.ops->workspace_reserve(&cuda->base, bytes, err);
    }
    *out = bytes > 0 ? cuda->workspace : NULL;
    return code;
}

/* ---- Signatures ------------------------------------------------------------------------------ */

/* A library's way has the signature it was chosen with. */
static uint32_t chosen_signature(const struct ldk_tune_choice *choice)
{
    return choice ? choice->signature : 0;
}

/* The default has that of the variant which it is, as with the others. */
static uint32_t attention_signature(const struct ldk_attention *attention)
{
    enum { VARIANTS_MAX = 16 };
    struct ldk_variant variants[VARIANTS_MAX];
    const int32_t number = ldk_attention_number(attention);
    const int32_t count = ldk_attention_variants(attention, variants, VARIANTS_MAX);
    for (int32_t i = 0; i < count && i < VARIANTS_MAX; i++)
        if (variants[i].number == number)
            return variants[i].signature;
    return 0;
}

/* As the operators below choose, without measuring. */
uint32_t ld_cuda_signature(struct ld_backend *backend, enum ld_workspace_kind kind, const void *op)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    const bool fp16_accumulate = has_fp16_sums(cuda);
    if (kind == LD_WORKSPACE_CONV2D) {
        const struct ld_conv2d *given = op;
        const bool moments = given->moments != NULL;
        struct ldk_conv conv = conv_of(given, &given->weight->matrix, cuda->dtype);
        conv.fp16_accumulate = fp16_accumulate;
        ldk_tuner_conv(cuda->tuner, &conv, moments, false);
        return conv.variant >= LDK_VARIANT_LIBRARY
                   ? chosen_signature(ldk_tuner_conv_choice(cuda->tuner, &conv, moments))
                   : ldk_conv_signature(&conv);
    }
    if (kind == LD_WORKSPACE_LINEAR) {
        const struct ld_linear *given = op;
        const bool moments = given->moments != NULL;
        struct ldk_linear linear = linear_of(given, &given->weight->matrix, cuda->dtype);
        linear.fp16_accumulate = fp16_accumulate && !given->f32;
        ldk_tuner_linear(cuda->tuner, &linear, moments, false);
        return linear.variant >= LDK_VARIANT_LIBRARY
                   ? chosen_signature(ldk_tuner_linear_choice(cuda->tuner, &linear, moments))
                   : ldk_linear_signature(&linear);
    }
    if (kind == LD_WORKSPACE_ATTENTION) {
        struct ldk_attention attention = attention_of(op, cuda->dtype);
        attention.fp16_accumulate = fp16_accumulate;
        ldk_tuner_attention(cuda->tuner, &attention, false);
        return attention_signature(&attention);
    }
    return 0;
}

/* ---- Moments --------------------------------------------------------------------------------- */

/* The entry of this address, or the one to replace. A full table loses entries, which costs a norm
 * a second reading of its input and nothing else. */
static struct ld_cuda_moments *moments_entry(struct ld_cuda *cuda, const float *at)
{
    const size_t hash = ((uintptr_t)at / LD_CUDA_ALIGN) * 0x9E3779B1U;
    struct ld_cuda_moments *entry = NULL;
    for (size_t probe = 0; probe < 8; probe++) {
        entry = &cuda->moments[(hash + probe) % LD_CUDA_MOMENTS_MAX];
        if (entry->at == at || entry->at == NULL)
            break;
    }
    return entry;
}

static void note_moments(struct ld_cuda *cuda, const float *at, int32_t tiles)
{
    if (at)
        *moments_entry(cuda, at) = (struct ld_cuda_moments){at, tiles};
}

/* Tiles at `at`; 0: the writer left nothing. */
static int32_t moments_at(struct ld_cuda *cuda, const float *at)
{
    const struct ld_cuda_moments *entry = at ? moments_entry(cuda, at) : NULL;
    return entry && entry->at == at ? entry->tiles : 0;
}

/* Moments have four floats a tile and channel. */
static bool moments_fit(int32_t batch, int32_t tiles, int32_t channels, size_t bytes)
{
    return tiles > 0 &&
           (size_t)batch * (size_t)tiles * (size_t)channels * 4 * sizeof(float) <= bytes;
}

/* ---- Launches -------------------------------------------------------------------------------- */

/* A library's way could not be launched: our own kernel takes over, without what it left behind. */
static bool gives_way(int code, int32_t *variant)
{
    if (code != LDK_E_UNSUPPORTED || *variant < LDK_VARIANT_LIBRARY)
        return false;
    *variant = LDK_VARIANT_AUTO;
    (void)ldk_rt_last_error();
    return true;
}

static enum ld_code launch_conv(struct ld_cuda *cuda, struct ldk_conv *conv, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    int done;
    do {
        code = workspace(cuda, ldk_conv_workspace(conv), &conv->workspace, err);
        if (code != LD_OK)
            return code;
        done = ldk_tuned_conv2d(cuda->tuner, conv, cuda->stream);
    } while (gives_way(done, &conv->variant));
    return ld_cuda_check(cuda, done, "conv2d", err);
}

static enum ld_code launch_linear(struct ld_cuda *cuda, struct ldk_linear *linear,
                                  struct ld_error *err)
{
    enum ld_code code = LD_OK;
    int done;
    do {
        code = workspace(cuda, ldk_linear_workspace(linear), &linear->workspace, err);
        if (code != LD_OK)
            return code;
        done = ldk_tuned_linear(cuda->tuner, linear, cuda->stream);
    } while (gives_way(done, &linear->variant));
    return ld_cuda_check(cuda, done, "linear", err);
}

/* ---- Operators ------------------------------------------------------------------------------- */

enum ld_code ld_cuda_conv2d(struct ld_backend *backend, const struct ld_conv2d *op,
                            struct ld_error *err)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    if (cuda->mode == LD_CUDA_REPLAY)
        return LD_OK;
    enum ld_code code = ld_check_conv2d(op, err);
    if (code != LD_OK)
        return code;
    struct ldk_weight matrix;
    code = ld_cuda_stream_matrix(cuda, op->weight, &matrix, err);
    if (code != LD_OK)
        return code;
    struct ldk_conv conv = conv_of(op, &matrix, cuda->dtype);
    conv.fp16_accumulate = has_fp16_sums(cuda);
    ldk_tuner_conv(cuda->tuner, &conv, op->moments != NULL, cuda->mode == LD_CUDA_WALK);
    const int32_t tiles = op->moments ? ldk_conv_tiles(&conv) : 0;
    if (moments_fit(op->batch, tiles, op->weight->facts.rows, op->moments_bytes))
        conv.moments = op->moments;
    note_moments(cuda, op->moments, conv.moments ? tiles : 0);
    code = launch_conv(cuda, &conv, err);
    return code != LD_OK ? code : ld_cuda_stream_read(cuda, op->weight, err);
}

enum ld_code ld_cuda_linear(struct ld_backend *backend, const struct ld_linear *op,
                            struct ld_error *err)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    if (cuda->mode == LD_CUDA_REPLAY)
        return LD_OK;
    enum ld_code code = ld_check_linear(op, err);
    if (code != LD_OK)
        return code;
    struct ldk_weight matrix;
    code = ld_cuda_stream_matrix(cuda, op->weight, &matrix, err);
    if (code != LD_OK)
        return code;
    struct ldk_linear linear = linear_of(op, &matrix, cuda->dtype);
    linear.fp16_accumulate = has_fp16_sums(cuda) && !op->f32;
    ldk_tuner_linear(cuda->tuner, &linear, op->moments != NULL, cuda->mode == LD_CUDA_WALK);
    const int32_t tiles = op->moments ? ldk_linear_tiles(&linear) : 0;
    if (moments_fit(op->rows / op->rows_per_image, tiles, op->weight->facts.rows,
                    op->moments_bytes))
        linear.moments = op->moments;
    note_moments(cuda, op->moments, linear.moments ? tiles : 0);
    code = launch_linear(cuda, &linear, err);
    return code != LD_OK ? code : ld_cuda_stream_read(cuda, op->weight, err);
}

enum ld_code ld_cuda_group_norm(struct ld_backend *backend, const struct ld_group_norm *op,
                                struct ld_error *err)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    if (cuda->mode == LD_CUDA_REPLAY)
        return LD_OK;
    enum ld_code code = ld_check_group_norm(op, err);
    if (code != LD_OK)
        return code;
    struct ldk_group_norm norm = group_norm_of(op, cuda->dtype);
    norm.gamma = op->gamma->data;
    norm.beta = op->beta->data;
    norm.tiles0 = moments_at(cuda, op->moments0);
    norm.moments0 = norm.tiles0 > 0 ? op->moments0 : NULL;
    norm.tiles1 = moments_at(cuda, op->moments1);
    norm.moments1 = norm.tiles1 > 0 ? op->moments1 : NULL;
    cuda->stats.norms++;
    if (norm.moments0 && (norm.moments1 || !op->x1))
        cuda->stats.norms_with_moments++;
    code = workspace(cuda, ldk_group_norm_workspace(&norm), &norm.workspace, err);
    return code != LD_OK
               ? code
               : ld_cuda_check(cuda, ldk_group_norm(&norm, cuda->stream), "group_norm", err);
}

enum ld_code ld_cuda_layer_norm(struct ld_backend *backend, const struct ld_layer_norm *op,
                                struct ld_error *err)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    if (cuda->mode == LD_CUDA_REPLAY)
        return LD_OK;
    const enum ld_code code = ld_check_layer_norm(op, err);
    if (code != LD_OK)
        return code;
    const struct ldk_layer_norm norm = {
        .x = op->x,
        .rows = op->rows,
        .channels = op->channels,
        .epsilon = op->epsilon,
        .gamma = op->gamma->data,
        .beta = op->beta->data,
        .y = op->y,
        .dtype = cuda->dtype,
    };
    return ld_cuda_check(cuda, ldk_layer_norm(&norm, cuda->stream), "layer_norm", err);
}

/* Key counts come from the host: sent once for all attentions of a run that share them. */
static enum ld_code stage_kv_len(struct ld_cuda *cuda, const struct ld_attention *op,
                                 struct ld_error *err)
{
    void *device = NULL;
    if (op->kv_len == NULL || op->kv_len == cuda->stage.kv_len)
        return LD_OK;
    const enum ld_code code =
        ld_cuda_stage_in(cuda, op->kv_len, (size_t)op->batch * sizeof *op->kv_len, &device, err);
    cuda->stage.kv_len = code == LD_OK ? op->kv_len : NULL;
    cuda->stage.kv_len_device = device;
    return code;
}

enum ld_code ld_cuda_attention(struct ld_backend *backend, const struct ld_attention *op,
                               struct ld_error *err)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    struct ldk_attention attention = attention_of(op, cuda->dtype);
    attention.fp16_accumulate = has_fp16_sums(cuda);
    enum ld_code code = ld_check_attention(op, err);
    if (code == LD_OK && cuda->mode != LD_CUDA_REPLAY)
        ldk_tuner_attention(cuda->tuner, &attention, cuda->mode == LD_CUDA_WALK);
    /* The workspace first: growing it empties the stage. */
    if (code == LD_OK && cuda->mode != LD_CUDA_REPLAY)
        code = workspace(cuda, ldk_attention_workspace(&attention), &attention.workspace, err);
    if (code == LD_OK)
        code = stage_kv_len(cuda, op, err);
    if (code != LD_OK || cuda->mode == LD_CUDA_REPLAY)
        return code;
    attention.kv_len = op->kv_len ? cuda->stage.kv_len_device : NULL;
    return ld_cuda_check(cuda, ldk_attention(&attention, cuda->stream), "attention", err);
}

enum ld_code ld_cuda_map(struct ld_backend *backend, const struct ld_map *op, struct ld_error *err)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    if (cuda->mode == LD_CUDA_REPLAY)
        return LD_OK;
    if (op->x == NULL || op->y == NULL || op->count < 1 || op->activation == LD_ACT_GEGLU)
        return LD_FAIL(err, LD_E_SHAPE,
                       "map needs an input, an output and an elementwise function");
    return ld_cuda_check(cuda,
                         ldk_map(op->x, op->count, activation_of(op->activation), op->y,
                                 op->f32 ? LDK_F32 : cuda->dtype, cuda->stream),
                         "map", err);
}

enum ld_code ld_cuda_resize(struct ld_backend *backend, const struct ld_resize *op,
                            struct ld_error *err)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    void *scratch = NULL;
    if (cuda->mode == LD_CUDA_REPLAY)
        return LD_OK;
    enum ld_code code = ld_check_resize(op, err);
    if (code != LD_OK)
        return code;
    code = workspace(cuda, ld_cuda_workspace_bytes(LD_WORKSPACE_RESIZE, op, NULL), &scratch, err);
    if (code != LD_OK)
        return code;
    return ld_cuda_check(cuda,
                         ldk_resize(op->x, op->batch, op->in_h, op->in_w, op->channels, op->out_h,
                                    op->out_w, (int32_t)op->mode, op->y, scratch, cuda->dtype,
                                    cuda->stream),
                         "resize", err);
}
