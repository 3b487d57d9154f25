#include "runtime/model/graph_layers.h"

#include <math.h>
#include <string.h>

enum { GROUPS = 32 };                          /* model.md 2: every GroupNorm of these networks */
static const float LAYER_NORM_EPSILON = 1e-5F; /* likewise every LayerNorm */

/* ---- Weight slots ---------------------------------------------------------------------------- */

static int32_t vector_slot(struct ld_graph *graph, const char *name, int32_t rows)
{
    const struct ld_weight_slot_part part = {.weight = name, .rows = rows};
    const struct ld_weight_slot slot = {
        .kind = LD_WEIGHT_VECTOR, .rows = rows, .k = 1, .part_count = 1, .parts = &part};
    return ld_weight_layout_slot(ld_graph_layout(graph, graph->set), &slot);
}

/* `rows` of each part, NULL where they share them evenly. */
static int32_t matrix_slot(struct ld_graph *graph, struct ld_weight_slot slot,
                           const char *const *names, const int32_t *rows, bool bias)
{
    struct ld_weight_slot_part parts[LD_WEIGHT_PARTS_MAX];
    LD_ASSERT(slot.part_count <= LD_WEIGHT_PARTS_MAX);
    for (uint32_t p = 0; p < slot.part_count; p++)
        parts[p] = (struct ld_weight_slot_part){
            .weight = ld_graph_name(graph, "%s.weight", names[p]),
            .bias = bias ? ld_graph_name(graph, "%s.bias", names[p]) : NULL,
            .rows = rows ? rows[p] : slot.rows / (int32_t)slot.part_count};
    slot.parts = parts;
    return ld_weight_layout_slot(ld_graph_layout(graph, graph->set), &slot);
}

/* An operator that computes nothing yet; its result has the shape of `like` with other channels. */
static struct ld_graph_op op_like(struct ld_graph *graph, enum ld_graph_op_kind kind, int32_t like,
                                  int32_t channels)
{
    const struct ld_graph_value *value = ld_graph_at(graph, like);
    struct ld_graph_op op;
    memset(&op, 0, sizeof op);
    op.kind = kind;
    op.out = ld_graph_value(graph, value->batch, value->height, value->width, channels);
    return op;
}

/* ---- Host memory ----------------------------------------------------------------------------- */

int32_t ld_graph_planes_in(struct ld_graph *graph, enum ld_port planes, enum ld_port scale,
                           int32_t batch, int32_t channels, int32_t height, int32_t width)
{
    if (graph->failed != LD_OK)
        return LD_GRAPH_NONE;
    struct ld_graph_op op = {.kind = LD_GRAPH_PLANES_IN, .port = {planes, scale}};
    op.out = ld_graph_value(graph, batch, height, width, channels);
    op.u.planes_in = (struct ld_planes_in){
        .batch = batch, .channels = channels, .height = height, .width = width};
    ld_graph_push(graph, &op);
    return op.out;
}

int32_t ld_graph_rows_in(struct ld_graph *graph, enum ld_port rows, int32_t batch, int32_t tokens,
                         int32_t channels)
{
    if (graph->failed != LD_OK)
        return LD_GRAPH_NONE;
    struct ld_graph_op op = {.kind = LD_GRAPH_PLANES_IN, .port = {rows, LD_PORT_NONE}};
    op.out = ld_graph_value(graph, batch, 1, tokens, channels);
    /* One plane of tokens x channels is the row-major matrix itself. */
    op.u.planes_in =
        (struct ld_planes_in){.batch = batch, .channels = 1, .height = tokens, .width = channels};
    ld_graph_push(graph, &op);
    return op.out;
}

void ld_graph_planes_out(struct ld_graph *graph, int32_t x, enum ld_port planes)
{
    if (graph->failed != LD_OK)
        return;
    const struct ld_graph_value *value = ld_graph_at(graph, x);
    struct ld_graph_op op = {
        .kind = LD_GRAPH_PLANES_OUT, .in = {{.value = x}}, .port = {planes, LD_PORT_NONE}};
    op.u.planes_out = (struct ld_planes_out){.batch = value->batch,
                                             .channels = value->channels,
                                             .height = value->height,
                                             .width = value->width};
    ld_graph_push(graph, &op);
}

void ld_graph_rows_out(struct ld_graph *graph, int32_t x, enum ld_port rows)
{
    if (graph->failed != LD_OK)
        return;
    const struct ld_graph_value *value = ld_graph_at(graph, x);
    struct ld_graph_op op = {
        .kind = LD_GRAPH_PLANES_OUT, .in = {{.value = x}}, .port = {rows, LD_PORT_NONE}};
    op.u.planes_out = (struct ld_planes_out){.batch = value->batch,
                                             .channels = 1,
                                             .height = value->height * value->width,
                                             .width = value->channels};
    ld_graph_push(graph, &op);
}

/* ---- Convolution ----------------------------------------------------------------------------- */

int32_t ld_graph_conv(struct ld_graph *graph, const char *name, const struct ld_conv_args *args)
{
    if (graph->failed != LD_OK)
        return LD_GRAPH_NONE;
    struct ld_graph_value x0 = *ld_graph_at(graph, args->x0);
    LD_ASSERT(args->x0_row + args->x0_rows <= x0.height && (!args->x0_rows || x0.batch == 1));
    x0.height = args->x0_rows ? args->x0_rows : x0.height;
    const int32_t c1 = ld_graph_at(graph, args->x1)->channels;
    const int32_t stride = args->stride ? args->stride : 1;
    const int32_t pad_before = args->pad_end_only ? 0 : 1;
    const int32_t height = args->up_height ? args->up_height : x0.height;
    const int32_t width = args->up_width ? args->up_width : x0.width;
    struct ld_graph_op op;
    memset(&op, 0, sizeof op);
    op.kind = LD_GRAPH_CONV2D;
    op.in[LD_IN_X0] = (struct ld_graph_input){.value = args->x0, .row = args->x0_row};
    op.in[LD_IN_X1].value = args->x1;
    op.in[LD_IN_RESIDUAL] =
        (struct ld_graph_input){.value = args->residual, .row = args->residual_row};
    op.in[LD_IN_ROW_ADD] =
        (struct ld_graph_input){.value = args->row_add, .column = args->row_add_column};
    op.out = ld_graph_value(graph, x0.batch, (height + pad_before - 2) / stride + 1,
                            (width + pad_before - 2) / stride + 1, args->channels);
    op.weight[0] = matrix_slot(graph,
                               (struct ld_weight_slot){.kind = LD_WEIGHT_CONV,
                                                       .rows = args->channels,
                                                       .k = x0.channels + c1,
                                                       .kernel = 3,
                                                       .upsampled = args->up_height > 0,
                                                       .part_count = 1},
                               &name, NULL, !args->no_bias);
    op.u.conv2d = (struct ld_conv2d){.c0 = x0.channels,
                                     .c1 = c1,
                                     .batch = x0.batch,
                                     .in_h = x0.height,
                                     .in_w = x0.width,
                                     .up_h = args->up_height,
                                     .up_w = args->up_width,
                                     .stride = stride,
                                     .pad_before = pad_before,
                                     .pad_after = 1,
                                     .row_add_stride = ld_graph_at(graph, args->row_add)->channels};
    const struct ld_graph_value *out = ld_graph_at(graph, op.out);
    /* On top of a residual of the same size; of a part of a larger one the rest stays. */
    if (args->residual != args->x0 && args->residual != args->x1 &&
        ld_graph_at(graph, args->residual)->bytes == out->bytes)
        op.in_place = args->residual;
    op.macs =
        (uint64_t)out->bytes / ld_dtype_size(graph->act_dtype) * 9 * (uint64_t)(x0.channels + c1);
    ld_graph_push(graph, &op);
    return op.out;
}

/* ---- Linear ---------------------------------------------------------------------------------- */

int32_t ld_graph_linear_stack(struct ld_graph *graph, const char *const *names, uint32_t count,
                              const struct ld_linear_args *args)
{
    if (graph->failed != LD_OK)
        return LD_GRAPH_NONE;
    const bool geglu = args->activation == LD_ACT_GEGLU;
    struct ld_graph_value x0 = *ld_graph_at(graph, args->x0);
    LD_ASSERT(args->x0_row + args->x0_rows <= x0.height && (!args->x0_rows || x0.batch == 1));
    x0.height = args->x0_rows ? args->x0_rows : x0.height;
    const int32_t c1 = ld_graph_at(graph, args->x1)->channels;
    const int32_t rows = x0.batch * x0.height * x0.width;
    int32_t channels = 0;
    for (uint32_t p = 0; p < count; p++)
        channels += args->widths ? args->widths[p] : args->channels;
    struct ld_graph_op op;
    memset(&op, 0, sizeof op);
    op.kind = LD_GRAPH_LINEAR;
    op.out = ld_graph_value(graph, x0.batch, x0.height, x0.width, channels);
    op.in[LD_IN_X0] = (struct ld_graph_input){.value = args->x0, .row = args->x0_row};
    op.in[LD_IN_X1].value = args->x1;
    op.in[LD_IN_RESIDUAL].value = args->residual;
    op.weight[0] =
        matrix_slot(graph,
                    (struct ld_weight_slot){.kind = geglu ? LD_WEIGHT_GEGLU : LD_WEIGHT_LINEAR,
                                            .rows = geglu ? 2 * channels : channels,
                                            .k = x0.channels + c1,
                                            .kernel = 1,
                                            .part_count = count},
                    names, args->widths, !args->no_bias);
    op.u.linear = (struct ld_linear){.c0 = x0.channels,
                                     .c1 = c1,
                                     .rows = rows,
                                     .rows_per_image = args->rows_per_image ? args->rows_per_image
                                                                            : x0.height * x0.width,
                                     .activation = args->activation,
                                     .f32 = x0.wide};
    if (x0.wide)
        ld_graph_widen(graph, op.out);
    op.macs = (uint64_t)rows * (uint64_t)(x0.channels + c1) * (uint64_t)channels * (geglu ? 2 : 1);
    ld_graph_push(graph, &op);
    return op.out;
}

int32_t ld_graph_linear(struct ld_graph *graph, const char *name, const struct ld_linear_args *args)
{
    return ld_graph_linear_stack(graph, &name, 1, args);
}

/* ---- Norms ----------------------------------------------------------------------------------- */

static void norm_slots(struct ld_graph *graph, const char *name, int32_t channels,
                       struct ld_graph_op *op)
{
    op->weight[0] = vector_slot(graph, ld_graph_name(graph, "%s.weight", name), channels);
    op->weight[1] = vector_slot(graph, ld_graph_name(graph, "%s.bias", name), channels);
}

int32_t ld_graph_group_norm(struct ld_graph *graph, const char *name, int32_t x0, int32_t x1,
                            double epsilon, bool silu)
{
    if (graph->failed != LD_OK)
        return LD_GRAPH_NONE;
    const struct ld_graph_value a = *ld_graph_at(graph, x0);
    const int32_t c1 = ld_graph_at(graph, x1)->channels;
    struct ld_graph_op op = op_like(graph, LD_GRAPH_GROUP_NORM, x0, a.channels + c1);
    op.in[LD_IN_X0].value = x0;
    op.in[LD_IN_X1].value = x1;
    op.in_place = x1 == LD_GRAPH_NONE ? x0 : LD_GRAPH_NONE;
    norm_slots(graph, name, a.channels + c1, &op);
    op.u.group_norm = (struct ld_group_norm){.c0 = a.channels,
                                             .c1 = c1,
                                             .batch = a.batch,
                                             .positions = a.height * a.width,
                                             .groups = GROUPS,
                                             .epsilon = (float)epsilon,
                                             .silu = silu};
    ld_graph_push(graph, &op);
    return op.out;
}

int32_t ld_graph_norm_measure(struct ld_graph *graph, const char *name, int32_t x, double epsilon)
{
    if (graph->failed != LD_OK)
        return LD_GRAPH_NONE;
    const struct ld_graph_value a = *ld_graph_at(graph, x);
    struct ld_graph_op op;
    memset(&op, 0, sizeof op);
    op.kind = LD_GRAPH_GROUP_NORM;
    op.out = ld_graph_value(graph, a.batch, 1, a.channels, LD_NORM_FOLD);
    if (op.out == LD_GRAPH_NONE)
        return LD_GRAPH_NONE;
    ld_graph_widen(graph, op.out);
    op.in[LD_IN_X0].value = x;
    norm_slots(graph, name, a.channels, &op);
    op.u.group_norm = (struct ld_group_norm){.c0 = a.channels,
                                             .batch = a.batch,
                                             .positions = a.height * a.width,
                                             .groups = GROUPS,
                                             .epsilon = (float)epsilon,
                                             .half = LD_NORM_MEASURE};
    ld_graph_push(graph, &op);
    return op.out;
}

int32_t ld_graph_norm_apply(struct ld_graph *graph, const char *name,
                            const struct ld_norm_rows *args)
{
    if (graph->failed != LD_OK)
        return LD_GRAPH_NONE;
    const struct ld_graph_value a = *ld_graph_at(graph, args->x);
    const int32_t rows = args->rows ? args->rows : a.height;
    LD_ASSERT(args->row + rows <= a.height && (!args->rows || a.batch == 1));
    struct ld_graph_op op;
    memset(&op, 0, sizeof op);
    op.kind = LD_GRAPH_GROUP_NORM;
    op.out = ld_graph_value(graph, a.batch, rows, a.width, a.channels);
    op.in[LD_IN_X0] = (struct ld_graph_input){.value = args->x, .row = args->row};
    op.in[LD_IN_FOLD].value = args->fold;
    op.in_place = args->rows ? LD_GRAPH_NONE : args->x;
    norm_slots(graph, name, a.channels, &op);
    op.u.group_norm = (struct ld_group_norm){.c0 = a.channels,
                                             .batch = a.batch,
                                             .positions = rows * a.width,
                                             .groups = GROUPS,
                                             .epsilon = (float)args->epsilon,
                                             .silu = args->silu,
                                             .half = LD_NORM_APPLY};
    ld_graph_push(graph, &op);
    return op.out;
}

int32_t ld_graph_layer_norm(struct ld_graph *graph, const char *name, int32_t x)
{
    if (graph->failed != LD_OK)
        return LD_GRAPH_NONE;
    const struct ld_graph_value a = *ld_graph_at(graph, x);
    struct ld_graph_op op = op_like(graph, LD_GRAPH_LAYER_NORM, x, a.channels);
    op.in[LD_IN_X0].value = x;
    op.in_place = x;
    norm_slots(graph, name, a.channels, &op);
    op.u.layer_norm = (struct ld_layer_norm){.rows = a.batch * a.height * a.width,
                                             .channels = a.channels,
                                             .epsilon = LAYER_NORM_EPSILON};
    ld_graph_push(graph, &op);
    return op.out;
}

/* ---- Attention ------------------------------------------------------------------------------- */

int32_t ld_graph_attention(struct ld_graph *graph, const struct ld_attention_args *args)
{
    if (graph->failed != LD_OK)
        return LD_GRAPH_NONE;
    const struct ld_graph_value q = *ld_graph_at(graph, args->q.value);
    const struct ld_graph_value k = *ld_graph_at(graph, args->k.value);
    const struct ld_graph_value v = *ld_graph_at(graph, args->v.value);
    const int32_t width = args->heads * args->head_dim;
    LD_ASSERT(args->q.column + width <= q.channels && args->k.column + width <= k.channels &&
              args->v.column + width <= v.channels);
    struct ld_graph_op op = op_like(graph, LD_GRAPH_ATTENTION, args->q.value, width);
    op.in[LD_IN_Q] = args->q;
    op.in[LD_IN_K] = args->k;
    op.in[LD_IN_V] = args->v;
    op.port[0] = args->kv_len;
    op.u.attention = (struct ld_attention){.batch = q.batch,
                                           .q_rows = q.height * q.width,
                                           .kv_rows = k.height * k.width,
                                           .q_stride = q.channels,
                                           .k_stride = k.channels,
                                           .v_stride = v.channels,
                                           .o_stride = width,
                                           .heads = args->heads,
                                           .head_dim = args->head_dim,
                                           .scale = (float)(1.0 / sqrt((double)args->head_dim)),
                                           .causal = args->causal};
    op.macs = 2 * (uint64_t)q.batch * (uint64_t)(q.height * q.width) *
              (uint64_t)(k.height * k.width) * (uint64_t)width;
    ld_graph_push(graph, &op);
    return op.out;
}

/* ---- The rest -------------------------------------------------------------------------------- */

int32_t ld_graph_timestep(struct ld_graph *graph, enum ld_port t, int32_t batch, int32_t channels)
{
    if (graph->failed != LD_OK)
        return LD_GRAPH_NONE;
    struct ld_graph_op op = {.kind = LD_GRAPH_TIMESTEP, .port = {t, LD_PORT_NONE}};
    op.out = ld_graph_value(graph, batch, 1, 1, channels);
    ld_graph_widen(graph, op.out);
    op.u.timestep = (struct ld_timestep){.batch = batch, .dim = channels, .f32 = true};
    ld_graph_push(graph, &op);
    return op.out;
}

static int32_t map(struct ld_graph *graph, int32_t x, enum ld_activation activation)
{
    if (graph->failed != LD_OK)
        return LD_GRAPH_NONE;
    const struct ld_graph_value a = *ld_graph_at(graph, x);
    struct ld_graph_op op = op_like(graph, LD_GRAPH_MAP, x, a.channels);
    op.in[LD_IN_X0].value = x;
    op.in_place = x;
    if (a.wide)
        ld_graph_widen(graph, op.out);
    op.u.map = (struct ld_map){.count = (int64_t)a.batch * a.height * a.width * a.channels,
                               .activation = activation,
                               .f32 = a.wide};
    ld_graph_push(graph, &op);
    return op.out;
}

int32_t ld_graph_silu(struct ld_graph *graph, int32_t x)
{
    return map(graph, x, LD_ACT_SILU);
}

int32_t ld_graph_relu(struct ld_graph *graph, int32_t x)
{
    return map(graph, x, LD_ACT_RELU);
}

int32_t ld_graph_resize(struct ld_graph *graph, int32_t x, int32_t height, int32_t width,
                        enum ld_resize_mode mode)
{
    if (graph->failed != LD_OK)
        return LD_GRAPH_NONE;
    const struct ld_graph_value a = *ld_graph_at(graph, x);
    struct ld_graph_op op = {.kind = LD_GRAPH_RESIZE, .in = {{.value = x}}};
    op.out = ld_graph_value(graph, a.batch, height, width, a.channels);
    op.u.resize = (struct ld_resize){.batch = a.batch,
                                     .in_h = a.height,
                                     .in_w = a.width,
                                     .channels = a.channels,
                                     .out_h = height,
                                     .out_w = width,
                                     .mode = mode};
    ld_graph_push(graph, &op);
    return op.out;
}

int32_t ld_graph_add_scaled(struct ld_graph *graph, int32_t x, int32_t z,
                            const struct ld_scale_args *scale)
{
    if (graph->failed != LD_OK)
        return LD_GRAPH_NONE;
    const struct ld_graph_value a = *ld_graph_at(graph, x);
    LD_ASSERT(a.bytes == ld_graph_at(graph, z)->bytes && !a.wide);
    LD_ASSERT(scale->first + a.batch <= scale->count);
    struct ld_graph_op op = op_like(graph, LD_GRAPH_ADD_SCALED, x, a.channels);
    op.in[LD_IN_X].value = x;
    op.in[LD_IN_Z].value = z;
    op.in_place = x;
    op.port[0] = scale->port;
    op.port_first = scale->first;
    op.u.add_scaled = (struct ld_add_scaled){.batch = a.batch,
                                             .count = (int64_t)a.height * a.width * a.channels,
                                             .scales_count = scale->count};
    ld_graph_push(graph, &op);
    return op.out;
}

void ld_graph_copy_rows(struct ld_graph *graph, int32_t from, int32_t from_row, int32_t rows,
                        int32_t to, int32_t to_row)
{
    if (graph->failed != LD_OK)
        return;
    const struct ld_graph_value a = *ld_graph_at(graph, from);
    const struct ld_graph_value b = *ld_graph_at(graph, to);
    LD_ASSERT(a.width == b.width && a.channels == b.channels && a.batch == 1 && b.batch == 1);
    LD_ASSERT(from_row + rows <= a.height && to_row + rows <= b.height);
    struct ld_graph_op op = {.kind = LD_GRAPH_RESIZE,
                             .in = {{.value = from, .row = from_row}},
                             .out = to,
                             .out_row = to_row,
                             .partial = true};
    /* Resampling to the same size copies (sample/resize.h). */
    op.u.resize = (struct ld_resize){.batch = 1,
                                     .in_h = rows,
                                     .in_w = a.width,
                                     .channels = a.channels,
                                     .out_h = rows,
                                     .out_w = a.width,
                                     .mode = LD_RESIZE_NEAREST_EXACT};
    ld_graph_push(graph, &op);
}

static int32_t table_slot(struct ld_graph *graph, const char *name, int32_t rows, int32_t channels)
{
    const struct ld_weight_slot_part part = {.weight = name, .rows = rows};
    const struct ld_weight_slot slot = {
        .kind = LD_WEIGHT_TABLE, .rows = rows, .k = channels, .part_count = 1, .parts = &part};
    return ld_weight_layout_slot(ld_graph_layout(graph, graph->set), &slot);
}

int32_t ld_graph_embed(struct ld_graph *graph, const char *table, int32_t vocabulary,
                       const char *positions, int32_t batch, int32_t tokens, int32_t channels)
{
    if (graph->failed != LD_OK)
        return LD_GRAPH_NONE;
    struct ld_graph_op op = {.kind = LD_GRAPH_EMBED, .port = {LD_PORT_IDS, LD_PORT_VECTORS}};
    op.out = ld_graph_value(graph, batch, 1, tokens, channels);
    op.weight[0] = table_slot(graph, table, vocabulary, channels);
    op.weight[1] = table_slot(graph, positions, tokens, channels);
    op.u.embed = (struct ld_embed){.rows = batch * tokens, .tokens = tokens, .channels = channels};
    ld_graph_push(graph, &op);
    return op.out;
}

int32_t ld_graph_host(struct ld_graph *graph, int32_t x, const struct ld_graph_host *host)
{
    if (graph->failed != LD_OK)
        return LD_GRAPH_NONE;
    struct ld_graph_op op = op_like(graph, LD_GRAPH_HOST, x, ld_graph_at(graph, x)->channels);
    op.in[LD_IN_X0].value = x;
    op.in_place = x;
    op.u.host = *host;
    ld_graph_push(graph, &op);
    return op.out;
}
