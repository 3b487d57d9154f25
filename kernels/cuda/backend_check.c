/*
 * What an operator must satisfy before its launcher sees it. Products that become 32-bit indices
 * are bounded by the graph (values of at most 2^31 positions); here the parts must fit together.
 */
#include "kernels/cuda/backend_state.h"

enum { FEATURES_MAX = 1 << 16, SIDE_MAX = 1 << 20 };

static enum ld_code refuse(struct ld_error *err, const char *what)
{
    return LD_FAIL(err, LD_E_SHAPE, "%s", what);
}

/* The second source is there exactly when it has channels. */
static bool sources_fit(const void *x0, const void *x1, int32_t c0, int32_t c1)
{
    return x0 != NULL && c0 >= 1 && c1 >= 0 && (x1 != NULL) == (c1 > 0) && c0 <= INT32_MAX - c1;
}

enum ld_code ld_cuda_check_weight(const struct ld_weight_desc *desc, struct ld_error *err)
{
    const bool conv = desc->kind == LD_WEIGHT_CONV;
    if (desc->part_count < 1 || desc->part_count > LD_WEIGHT_PARTS_MAX)
        return refuse(err, "a weight has between 1 and 3 parts");
    if (conv && desc->kernel != 1 && desc->kernel != 3)
        return refuse(err, "a convolution kernel is 1x1 or 3x3");
    if (desc->rows < 1 || desc->k < 1 || desc->rows > INT32_MAX / 4 || desc->k > FEATURES_MAX ||
        (desc->kind == LD_WEIGHT_VECTOR && desc->k != 1))
        return refuse(err, "weight dimensions are out of range");
    if (desc->part_count > 1 && desc->kind != LD_WEIGHT_LINEAR && desc->kind != LD_WEIGHT_VECTOR)
        return refuse(err, "only linear and vector weights are stacked from parts");
    if (desc->kind == LD_WEIGHT_GEGLU && desc->rows % 2 != 0)
        return refuse(err, "a GEGLU weight has an even number of rows");
    for (uint32_t i = 0; i < desc->part_count; i++) {
        if (desc->parts[i].data == NULL || !ld_dtype_is_float(desc->parts[i].dtype) ||
            (desc->bias[i].data != NULL && !ld_dtype_is_float(desc->bias[i].dtype)))
            return refuse(err, "weights and biases are floating-point tensors");
    }
    return LD_OK;
}

enum ld_code ld_cuda_check_conv2d(const struct ld_conv2d *op, struct ld_error *err)
{
    const struct ld_weight *weight = op->weight;
    if (weight == NULL || weight->kind != LD_WEIGHT_CONV)
        return refuse(err, "conv2d needs a convolution weight");
    if (!sources_fit(op->x0, op->x1, op->c0, op->c1) || op->c0 + op->c1 != weight->k)
        return refuse(err, "conv2d input channels do not match the weight");
    if (op->y == NULL || op->y == op->x0 || op->y == op->x1)
        return refuse(err, "conv2d output must not alias an input");
    if ((op->up_h > 0) != (op->up_w > 0) || op->up_h < 0 || op->up_w < 0)
        return refuse(err, "conv2d upsamples both sides or none");
    if (op->stride < 1 || op->stride > 2 || op->pad_before < 0 || op->pad_before > 1 ||
        op->pad_after < 0 || op->pad_after > 1)
        return refuse(err, "conv2d stride is 1 or 2, padding 0 or 1");
    if (weight->kernel == 1 && (op->stride != 1 || op->pad_before + op->pad_after != 0))
        return refuse(err, "a 1x1 convolution has stride 1 and no padding");
    if (op->batch < 1 || op->in_h < 1 || op->in_w < 1 || op->in_h > SIDE_MAX ||
        op->in_w > SIDE_MAX || op->up_h > SIDE_MAX || op->up_w > SIDE_MAX)
        return refuse(err, "conv2d map size is out of range");
    const int32_t margin = op->pad_before + op->pad_after - weight->kernel;
    if ((op->up_h > 0 ? op->up_h : op->in_h) + margin < 0 ||
        (op->up_w > 0 ? op->up_w : op->in_w) + margin < 0)
        return refuse(err, "conv2d map is smaller than its kernel");
    if (op->row_add != NULL && op->row_add_stride < weight->rows)
        return refuse(err, "conv2d row_add is narrower than the output");
    return LD_OK;
}

enum ld_code ld_cuda_check_linear(const struct ld_linear *op, struct ld_error *err)
{
    const struct ld_weight *weight = op->weight;
    if (weight == NULL || (weight->kind != LD_WEIGHT_LINEAR && weight->kind != LD_WEIGHT_GEGLU))
        return refuse(err, "linear needs a linear or GEGLU weight");
    if ((op->activation == LD_ACT_GEGLU) != (weight->kind == LD_WEIGHT_GEGLU))
        return refuse(err, "GEGLU activation and GEGLU weight go together");
    if (!sources_fit(op->x0, op->x1, op->c0, op->c1) || op->c0 + op->c1 != weight->k)
        return refuse(err, "linear input features do not match the weight");
    if (op->y == NULL || op->y == op->x0 || op->y == op->x1)
        return refuse(err, "linear output must not alias an input");
    if (op->rows < 1 || op->rows_per_image < 1 || op->rows % op->rows_per_image != 0)
        return refuse(err, "linear rows are whole images");
    return LD_OK;
}

enum ld_code ld_cuda_check_norm(const struct ld_weight *gamma, const struct ld_weight *beta,
                                int32_t channels, struct ld_error *err)
{
    if (gamma == NULL || beta == NULL || gamma->kind != LD_WEIGHT_VECTOR ||
        beta->kind != LD_WEIGHT_VECTOR || gamma->rows != channels || beta->rows != channels)
        return refuse(err, "a norm's gain and shift have one value a channel");
    return LD_OK;
}

enum ld_code ld_cuda_check_attention(const struct ld_attention *op, struct ld_error *err)
{
    if (op->q == NULL || op->k == NULL || op->v == NULL || op->o == NULL)
        return refuse(err, "attention needs q, k, v and o");
    if (op->heads < 1 || op->head_dim < 1 || op->heads > FEATURES_MAX / op->head_dim)
        return refuse(err, "attention heads are out of range");
    const int32_t width = op->heads * op->head_dim;
    if (op->q_stride < width || op->k_stride < width || op->v_stride < width ||
        op->o_stride < width)
        return refuse(err, "attention strides are narrower than the heads");
    if (op->batch < 1 || op->q_rows < 1 || op->kv_rows < 1)
        return refuse(err, "attention sizes are out of range");
    for (int32_t b = 0; op->kv_len != NULL && b < op->batch; b++)
        if (op->kv_len[b] < 1 || op->kv_len[b] > op->kv_rows)
            return refuse(err, "attention key counts are between 1 and kv_rows");
    return LD_OK;
}

static bool is_table(const struct ld_weight *weight, int32_t channels)
{
    return weight != NULL && weight->kind == LD_WEIGHT_TABLE && weight->k == channels;
}

enum ld_code ld_cuda_check_embed(const struct ld_embed *op, struct ld_error *err)
{
    if (op->ids == NULL || op->y == NULL || op->rows < 1 || op->tokens < 1)
        return refuse(err, "embed needs ids and an output");
    if (!is_table(op->table, op->channels) || !is_table(op->positions, op->channels) ||
        op->positions->rows < op->tokens)
        return refuse(err, "embed tables do not match the channels");
    for (int32_t m = 0; m < op->rows; m++)
        if ((op->override == NULL || op->override[m] == NULL) &&
            (op->ids[m] < 0 || op->ids[m] >= op->table->rows))
            return refuse(err, "a token id is outside the embedding table");
    return LD_OK;
}
