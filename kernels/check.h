/*
 * What an operator must satisfy before any backend looks at its data: the parts fit together, and
 * every product that later becomes an index is bounded, so that kernels compute in int32_t and
 * size_t without looking. A backend adds only what its own scratch memory asks for.
 *
 *     enum ld_code code = ld_check_conv2d(op, err);
 *     if (code != LD_OK) ...
 *
 * Errors   LD_E_SHAPE, with one sentence.
 */
#ifndef LD_KERNELS_CHECK_H
#define LD_KERNELS_CHECK_H

#include "kernels/ops.h"

/* What every backend's packed weight begins with; the checks look at nothing else of it. */
struct ld_weight_facts {
    enum ld_weight_kind kind;
    int32_t rows;   /* all parts together; 2n for GEGLU */
    int32_t k;      /* input features or channels */
    int32_t kernel; /* 1 or 3; 1 for everything but convolutions */
};

/* Facts that a description leads to. The description has passed ld_check_weight. */
struct ld_weight_facts ld_weight_facts_of(const struct ld_weight_desc *desc);

/* Of such a description: the rows of a part; the part that holds stacked row `row`, and in `within`
 * which of its own rows that is. */
int32_t ld_weight_part_rows(const struct ld_weight_desc *desc, uint32_t part);
uint32_t ld_weight_part_of(const struct ld_weight_desc *desc, int32_t row, int32_t *within);

/* Sizes of a convolution: input channels, the (upsampled) map, the output. */
struct ld_conv_shape {
    int32_t cin;
    int32_t src_h, src_w; /* after upsampling */
    int32_t out_h, out_w;
};
/* Valid only for an operator that ld_check_conv2d has accepted. */
struct ld_conv_shape ld_conv_shape_of(const struct ld_conv2d *op);

enum ld_code ld_check_weight(const struct ld_weight_desc *desc, struct ld_error *err);
enum ld_code ld_check_conv2d(const struct ld_conv2d *op, struct ld_error *err);
enum ld_code ld_check_linear(const struct ld_linear *op, struct ld_error *err);
enum ld_code ld_check_group_norm(const struct ld_group_norm *op, struct ld_error *err);
enum ld_code ld_check_layer_norm(const struct ld_layer_norm *op, struct ld_error *err);
enum ld_code ld_check_attention(const struct ld_attention *op, struct ld_error *err);
enum ld_code ld_check_embed(const struct ld_embed *op, struct ld_error *err);
enum ld_code ld_check_resize(const struct ld_resize *op, struct ld_error *err);
enum ld_code ld_check_add_scaled(const struct ld_add_scaled *op, struct ld_error *err);
enum ld_code ld_check_planes_in(const struct ld_planes_in *op, struct ld_error *err);
enum ld_code ld_check_planes_out(const struct ld_planes_out *op, struct ld_error *err);

#endif
