#include "kernels/check.h"

#include "kernels/idx.h"

/* Activations above this many elements are refused: 2^40 bytes of float32. */
static const int64_t ELEMENTS_MAX = INT64_C(1) << 38;

enum { FEATURES_MAX = 1 << 16, SIDE_MAX = 1 << 20, TOKENS_MAX = 1 << 24 };

static bool product_fits(int64_t a, int64_t b, int64_t c)
{
    if (a < 1 || b < 1 || c < 1)
        return false;
    return a <= ELEMENTS_MAX / b && a * b <= ELEMENTS_MAX / c;
}

/* Two-source inputs: the second source is there exactly when it has channels. */
static bool sources_fit(const void *x0, const void *x1, int32_t c0, int32_t c1)
{
    return x0 != NULL && c0 >= 1 && c1 >= 0 && (x1 != NULL) == (c1 > 0) && c0 <= INT32_MAX - c1;
}

/* Every backend's weight begins with its facts. */
static const struct ld_weight_facts *facts_of(const struct ld_weight *weight)
{
    return (const struct ld_weight_facts *)(const void *)weight;
}

static bool is_vector(const struct ld_weight *weight, int32_t channels)
{
    return weight != NULL && facts_of(weight)->kind == LD_WEIGHT_VECTOR &&
           facts_of(weight)->rows == channels;
}

static enum ld_code shape_error(struct ld_error *err, const char *what)
{
    return LD_FAIL(err, LD_E_SHAPE, "%s", what);
}

/* The parts' rows make up the weight's, each has some. */
static bool parts_add_up(const struct ld_weight_desc *desc)
{
    int64_t rows = 0;
    for (uint32_t i = 0; i < desc->part_count; i++) {
        const int32_t of_part = ld_weight_part_rows(desc, i);
        if (of_part < 1)
            return false;
        rows += of_part;
    }
    return rows == desc->rows;
}

enum ld_code ld_check_weight(const struct ld_weight_desc *desc, struct ld_error *err)
{
    if (desc->part_count < 1 || desc->part_count > LD_WEIGHT_PARTS_MAX)
        return LD_FAIL(err, LD_E_SHAPE, "a weight has between 1 and %d parts", LD_WEIGHT_PARTS_MAX);
    bool conv = desc->kind == LD_WEIGHT_CONV;
    if (conv && desc->kernel != 1 && desc->kernel != 3)
        return shape_error(err, "a convolution kernel is 1x1 or 3x3");
    if (!product_fits(desc->rows, desc->k, conv ? 9 : 1) || desc->rows > INT32_MAX / 4 ||
        desc->k > FEATURES_MAX)
        return shape_error(err, "weight dimensions are out of range");
    if (desc->part_count > 1 && desc->kind != LD_WEIGHT_LINEAR && desc->kind != LD_WEIGHT_VECTOR)
        return shape_error(err, "only linear and vector weights are stacked from parts");
    if (!parts_add_up(desc))
        return shape_error(err, "the parts of a weight have not its number of rows");
    if (desc->kind == LD_WEIGHT_GEGLU && desc->rows % 2 != 0)
        return shape_error(err, "a GEGLU weight has an even number of rows");
    if (desc->kind == LD_WEIGHT_VECTOR && desc->k != 1)
        return shape_error(err, "a vector weight has k = 1");
    for (uint32_t i = 0; i < desc->part_count; i++) {
        if (desc->parts[i].data == NULL || !ld_dtype_is_float(desc->parts[i].dtype))
            return shape_error(err, "weights are floating-point tensors");
        if (desc->bias[i].data != NULL && !ld_dtype_is_float(desc->bias[i].dtype))
            return shape_error(err, "biases are floating-point tensors");
    }
    return LD_OK;
}

struct ld_weight_facts ld_weight_facts_of(const struct ld_weight_desc *desc)
{
    return (struct ld_weight_facts){.kind = desc->kind,
                                    .rows = desc->rows,
                                    .k = desc->k,
                                    .kernel = desc->kind == LD_WEIGHT_CONV ? desc->kernel : 1};
}

int32_t ld_weight_part_rows(const struct ld_weight_desc *desc, uint32_t part)
{
    return desc->part_count == 1 && desc->parts[0].rows == 0 ? desc->rows : desc->parts[part].rows;
}

uint32_t ld_weight_part_of(const struct ld_weight_desc *desc, int32_t row, int32_t *within)
{
    uint32_t part = 0;
    LD_ASSERT(row >= 0 && row < desc->rows);
    while (row >= ld_weight_part_rows(desc, part))
        row -= ld_weight_part_rows(desc, part++);
    *within = row;
    return part;
}

struct ld_conv_shape ld_conv_shape_of(const struct ld_conv2d *op)
{
    struct ld_conv_shape shape = {.cin = op->c0 + op->c1};
    shape.src_h = op->up_h > 0 ? op->up_h : op->in_h;
    shape.src_w = op->up_w > 0 ? op->up_w : op->in_w;
    int32_t pad = op->pad_before + op->pad_after;
    shape.out_h = ld_idx_conv_out(shape.src_h, pad, facts_of(op->weight)->kernel, op->stride);
    shape.out_w = ld_idx_conv_out(shape.src_w, pad, facts_of(op->weight)->kernel, op->stride);
    return shape;
}

enum ld_code ld_check_conv2d(const struct ld_conv2d *op, struct ld_error *err)
{
    const struct ld_weight_facts *weight = facts_of(op->weight);
    if (weight == NULL || weight->kind != LD_WEIGHT_CONV)
        return shape_error(err, "conv2d needs a convolution weight");
    if (!sources_fit(op->x0, op->x1, op->c0, op->c1) || op->c0 + op->c1 != weight->k)
        return shape_error(err, "conv2d input channels do not match the weight");
    if (op->y == NULL || op->y == op->x0 || op->y == op->x1)
        return shape_error(err, "conv2d output must not alias an input");
    if ((op->up_h > 0) != (op->up_w > 0) || op->up_h < 0 || op->up_w < 0)
        return shape_error(err, "conv2d upsamples both sides or none");
    if (op->stride < 1 || op->stride > 2 || op->pad_before < 0 || op->pad_before > 1 ||
        op->pad_after < 0 || op->pad_after > 1)
        return shape_error(err, "conv2d stride is 1 or 2, padding 0 or 1");
    if (op->batch < 1 || op->in_h < 1 || op->in_w < 1 || op->in_h > SIDE_MAX ||
        op->in_w > SIDE_MAX || op->up_h > SIDE_MAX || op->up_w > SIDE_MAX)
        return shape_error(err, "conv2d map size is out of range");
    struct ld_conv_shape shape = ld_conv_shape_of(op);
    int32_t margin = op->pad_before + op->pad_after;
    if (shape.src_h + margin < weight->kernel || shape.src_w + margin < weight->kernel)
        return shape_error(err, "conv2d map is smaller than its kernel");
    int64_t positions = (int64_t)shape.src_h * shape.src_w;
    int32_t widest = shape.cin > weight->rows ? shape.cin : weight->rows;
    if (!product_fits(op->batch, positions, widest) || positions > INT32_MAX / 4)
        return shape_error(err, "conv2d map size is out of range");
    if (weight->kernel == 1 && (op->stride != 1 || margin != 0))
        return shape_error(err, "a 1x1 convolution has stride 1 and no padding");
    if (op->row_add != NULL && op->row_add_stride < weight->rows)
        return shape_error(err, "conv2d row_add is narrower than the output");
    return LD_OK;
}

enum ld_code ld_check_linear(const struct ld_linear *op, struct ld_error *err)
{
    const struct ld_weight_facts *weight = facts_of(op->weight);
    if (weight == NULL || (weight->kind != LD_WEIGHT_LINEAR && weight->kind != LD_WEIGHT_GEGLU))
        return shape_error(err, "linear needs a linear or GEGLU weight");
    if ((op->activation == LD_ACT_GEGLU) != (weight->kind == LD_WEIGHT_GEGLU))
        return shape_error(err, "GEGLU activation and GEGLU weight go together");
    if (op->activation == LD_ACT_RELU)
        return shape_error(err, "a linear layer has no ReLU; a map has");
    if (!sources_fit(op->x0, op->x1, op->c0, op->c1) || op->c0 + op->c1 != weight->k)
        return shape_error(err, "linear input features do not match the weight");
    if (op->y == NULL || op->y == op->x0 || op->y == op->x1)
        return shape_error(err, "linear output must not alias an input");
    int32_t widest = weight->k > weight->rows ? weight->k : weight->rows;
    if (!product_fits(op->rows, widest, 1) || op->rows > INT32_MAX / 4)
        return shape_error(err, "linear row count is out of range");
    if (op->rows_per_image < 1 || op->rows % op->rows_per_image != 0)
        return shape_error(err, "linear rows are whole images");
    return LD_OK;
}

enum ld_code ld_check_group_norm(const struct ld_group_norm *op, struct ld_error *err)
{
    if (!sources_fit(op->x0, op->x1, op->c0, op->c1) ||
        (op->y == NULL && op->half != LD_NORM_MEASURE))
        return shape_error(err, "group_norm needs an input and an output");
    if (op->half != LD_NORM_BOTH && op->fold == NULL)
        return shape_error(err, "half a group_norm needs room for what is measured");
    int32_t channels = op->c0 + op->c1;
    if (op->groups < 1 || channels % op->groups != 0)
        return shape_error(err, "group_norm channels divide into the groups");
    if (!product_fits(op->batch, op->positions, channels) || channels > FEATURES_MAX)
        return shape_error(err, "group_norm size is out of range");
    if (op->x1 != NULL && (op->y == op->x1 || op->y == op->x0))
        return shape_error(err, "group_norm works in place on one source only");
    if (!is_vector(op->gamma, channels) || !is_vector(op->beta, channels))
        return shape_error(err, "group_norm gain and shift have one value a channel");
    return LD_OK;
}

enum ld_code ld_check_layer_norm(const struct ld_layer_norm *op, struct ld_error *err)
{
    if (op->x == NULL || op->y == NULL || !product_fits(op->rows, op->channels, 1))
        return shape_error(err, "layer_norm needs an input and an output");
    if (!is_vector(op->gamma, op->channels) || !is_vector(op->beta, op->channels))
        return shape_error(err, "layer_norm gain and shift have one value a channel");
    return LD_OK;
}

enum ld_code ld_check_attention(const struct ld_attention *op, struct ld_error *err)
{
    if (op->q == NULL || op->k == NULL || op->v == NULL || op->o == NULL)
        return shape_error(err, "attention needs q, k, v and o");
    if (op->heads < 1 || op->head_dim < 1 || op->heads > FEATURES_MAX / op->head_dim)
        return shape_error(err, "attention heads are out of range");
    int32_t width = op->heads * op->head_dim;
    if (op->q_stride < width || op->k_stride < width || op->v_stride < width ||
        op->o_stride < width)
        return shape_error(err, "attention strides are narrower than the heads");
    if (!product_fits(op->batch, op->q_rows, op->q_stride) ||
        !product_fits(op->batch, op->q_rows, op->o_stride) ||
        !product_fits(op->batch, op->kv_rows, op->k_stride) ||
        !product_fits(op->batch, op->kv_rows, op->v_stride) || op->q_rows > TOKENS_MAX ||
        op->kv_rows > TOKENS_MAX)
        return shape_error(err, "attention sizes are out of range");
    for (int32_t b = 0; op->kv_len != NULL && b < op->batch; b++) {
        if (op->kv_len[b] < 1 || op->kv_len[b] > op->kv_rows)
            return shape_error(err, "attention key counts are between 1 and kv_rows");
    }
    return LD_OK;
}

enum ld_code ld_check_resize(const struct ld_resize *op, struct ld_error *err)
{
    if (op->x == NULL || op->y == NULL || op->x == op->y)
        return shape_error(err, "resize needs an input and another output");
    if (!product_fits(op->batch, op->channels, 1) ||
        !product_fits((int64_t)op->batch * op->channels, op->in_h, op->in_w) ||
        !product_fits((int64_t)op->batch * op->channels, op->out_h, op->out_w))
        return shape_error(err, "resize sizes are out of range");
    return LD_OK;
}

enum ld_code ld_check_add_scaled(const struct ld_add_scaled *op, struct ld_error *err)
{
    if (op->x == NULL || op->z == NULL || op->scale == NULL || op->y == NULL)
        return shape_error(err, "add_scaled needs two inputs, a scale an image and an output");
    if (!product_fits(op->batch, op->count, 1))
        return shape_error(err, "add_scaled sizes are out of range");
    if (op->scales != NULL &&
        (op->scale < op->scales || op->scales_count - (op->scale - op->scales) < op->batch))
        return shape_error(err, "add_scaled's scale lies outside of its list");
    return LD_OK;
}

static bool is_table(const struct ld_weight *weight, int32_t channels)
{
    return weight != NULL && facts_of(weight)->kind == LD_WEIGHT_TABLE &&
           facts_of(weight)->k == channels;
}

enum ld_code ld_check_embed(const struct ld_embed *op, struct ld_error *err)
{
    if (op->ids == NULL || op->y == NULL || op->rows < 1 || op->tokens < 1)
        return shape_error(err, "embed needs ids and an output");
    if (!is_table(op->table, op->channels) || !is_table(op->positions, op->channels) ||
        facts_of(op->positions)->rows < op->tokens)
        return shape_error(err, "embed tables do not match the channels");
    for (int32_t m = 0; m < op->rows; m++) {
        const bool looked_up = op->override == NULL || op->override[m] == NULL;
        if (looked_up && (op->ids[m] < 0 || op->ids[m] >= facts_of(op->table)->rows))
            return shape_error(err, "a token id is outside the embedding table");
    }
    return LD_OK;
}

static bool planes_fit(int32_t batch, int32_t channels, int32_t height, int32_t width)
{
    return batch >= 1 && channels >= 1 && height >= 1 && width >= 1 &&
           (int64_t)height * width <= INT32_MAX && (int64_t)batch * channels <= INT32_MAX;
}

enum ld_code ld_check_planes_in(const struct ld_planes_in *op, struct ld_error *err)
{
    if (op->planes == NULL || op->y == NULL ||
        !planes_fit(op->batch, op->channels, op->height, op->width))
        return shape_error(err, "planes_in sizes are out of range");
    return LD_OK;
}

enum ld_code ld_check_planes_out(const struct ld_planes_out *op, struct ld_error *err)
{
    if (op->planes == NULL || op->x == NULL ||
        !planes_fit(op->batch, op->channels, op->height, op->width))
        return shape_error(err, "planes_out sizes are out of range");
    return LD_OK;
}
