/*
 * What the CPU's scratch memory adds to the checks of kernels/check.h.
 */
#include "kernels/cpu/micro.h"

/*
 * The fast levels pack whole rows of input into 56 MB of scratch, 6 bytes a value: with stride 2
 * 4 w + 33 pixels of k values for a map w wide. With the bound of features this keeps below it.
 */
enum { ROW_VALUES_MAX = 3 << 19, NORM_CHANNELS_MAX = 1 << 15 };

enum ld_code ld_cpu_check_conv2d(const struct ld_conv2d *op, struct ld_error *err)
{
    enum ld_code code = ld_check_conv2d(op, err);
    if (code != LD_OK)
        return code;
    const struct ld_conv_shape shape = ld_conv_shape_of(op);
    const int64_t widest_row = ((int64_t)shape.src_w + 2) * (shape.cin + 31);
    if (op->weight->facts.kernel == 3 && widest_row > ROW_VALUES_MAX)
        return LD_FAIL(err, LD_E_SHAPE, "conv2d rows are too wide");
    return LD_OK;
}

enum ld_code ld_cpu_check_group_norm(const struct ld_group_norm *op, struct ld_error *err)
{
    enum ld_code code = ld_check_group_norm(op, err);
    if (code == LD_OK && op->c0 + op->c1 > NORM_CHANNELS_MAX)
        return LD_FAIL(err, LD_E_SHAPE, "group_norm size is out of range");
    return code;
}

enum ld_code ld_cpu_check_attention(const struct ld_attention *op, struct ld_error *err)
{
    enum ld_code code = ld_check_attention(op, err);
    if (code == LD_OK && op->head_dim > LD_HEAD_DIM_MAX)
        return LD_FAIL(err, LD_E_SHAPE, "attention heads are out of range");
    return code;
}
