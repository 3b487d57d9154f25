#include "tests/gpu/shapes.h"

#include "kernels/cuda/pack.h"
#include "kernels/cuda/rt.h"
#include "tests/cuda/hostcuda.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Elements between the windows of one operator's operands; a multiple of 256 bytes. */
static const size_t WINDOW_STEP = 1 << 20;

/* ---- Noise ----------------------------------------------------------------------------------- */

static uint16_t bits_of(float value, enum ldk_dtype dtype)
{
    return dtype == LDK_BF16 ? ld_bf16_from_f32(value) : ld_f16_from_f32(value);
}

bool noise_open(struct noise *noise, enum ldk_dtype dtype, size_t elements)
{
    void *device = NULL;
    uint16_t *bits = calloc(NOISE_PERIOD, sizeof *bits);
    memset(noise, 0, sizeof *noise);
    noise->dtype = dtype;
    noise->elements = elements + 4 * WINDOW_STEP;
    noise->values = calloc(NOISE_PERIOD + NOISE_ROW_MAX, sizeof *noise->values);
    bool ok =
        bits && noise->values && ldk_rt_malloc(&device, noise->elements * sizeof *bits) == LDK_OK;
    noise->device = device;
    if (ok) {
        hc_normal(noise->values, NOISE_PERIOD, 1, 42);
        for (size_t i = 0; i < NOISE_PERIOD; i++) {
            noise->values[i] = hc_round(noise->values[i], dtype);
            bits[i] = bits_of(noise->values[i], dtype);
        }
        memcpy(noise->values + NOISE_PERIOD, noise->values, NOISE_ROW_MAX * sizeof(float));
    }
    for (size_t done = 0; ok && done < noise->elements; done += NOISE_PERIOD) {
        const size_t left = noise->elements - done;
        const size_t count = left < NOISE_PERIOD ? left : NOISE_PERIOD;
        ok = ldk_rt_upload(noise->device + done * sizeof *bits, bits, count * sizeof *bits, NULL) ==
                 LDK_OK &&
             ldk_rt_stream_synchronize(NULL) == LDK_OK;
    }
    free(bits);
    return ok;
}

void noise_close(struct noise *noise)
{
    if (noise->device)
        (void)ldk_rt_free(noise->device);
    free(noise->values);
    memset(noise, 0, sizeof *noise);
}

struct window noise_window(const struct noise *noise, uint32_t which)
{
    const size_t first = which * WINDOW_STEP;
    return (struct window){noise->device + first * sizeof(uint16_t), first};
}

/* ---- Weights --------------------------------------------------------------------------------- */

static bool matrix_open(struct layer *layer, const struct ld_weight_slot *slot,
                        enum ldk_dtype dtype)
{
    const size_t taps = (size_t)(slot->kernel * slot->kernel);
    const size_t row = (size_t)slot->k * taps;
    const size_t rows = (size_t)slot->rows;
    size_t first = 0;
    struct ld_weight_desc desc = ld_weight_slot_desc(slot);
    struct ldk_pack pack;
    layer->matrix = calloc(rows * row, sizeof(float));
    layer->bias = calloc(rows, sizeof(float));
    if (!layer->matrix || !layer->bias)
        return false;
    hc_normal(layer->matrix, rows * row, 1 / sqrtf((float)row), 7);
    for (size_t i = 0; i < rows * row; i++)
        layer->matrix[i] = hc_round(layer->matrix[i], dtype);
    for (uint32_t p = 0; p < slot->part_count; p++) {
        const size_t part_rows = (size_t)slot->parts[p].rows;
        desc.parts[p].data = layer->matrix + first * row;
        desc.parts[p].dtype = LD_DTYPE_F32;
        if (slot->parts[p].bias) {
            hc_normal(layer->bias + first, part_rows, 0.3F, 8 + p);
            desc.bias[p] =
                (struct ld_weight_part){.data = layer->bias + first, .dtype = LD_DTYPE_F32};
        }
        first += part_rows;
    }
    ldk_pack_plan(&pack, &desc, dtype, false);
    unsigned char *packed = malloc(pack.data_bytes);
    float *bias = malloc(pack.bias_bytes);
    float *line = malloc(pack.line * sizeof *line);
    const bool ok = packed && bias && line;
    if (ok) {
        ldk_pack_rows(&pack, &desc, 0, pack.rows_padded, line, packed);
        ldk_pack_bias(&pack, &desc, bias);
        layer->w = ldk_pack_weight(&pack, hc_upload(packed, pack.data_bytes), NULL,
                                   hc_upload(bias, pack.bias_bytes));
    }
    free(line);
    free(bias);
    free(packed);
    return ok;
}

static bool gains_open(struct layer *layer, int32_t channels)
{
    const size_t count = (size_t)channels;
    layer->gamma = calloc(count, sizeof(float));
    layer->beta = calloc(count, sizeof(float));
    if (!layer->gamma || !layer->beta)
        return false;
    hc_normal(layer->gamma, count, 0.2F, 9);
    hc_normal(layer->beta, count, 0.2F, 10);
    for (size_t i = 0; i < count; i++)
        layer->gamma[i] += 1;
    layer->gamma_device = hc_upload(layer->gamma, count * sizeof(float));
    layer->beta_device = hc_upload(layer->beta, count * sizeof(float));
    return true;
}

bool layer_open(struct layer *layer, const struct ld_weight_layout *layout,
                const struct ld_graph_op *op, enum ldk_dtype dtype)
{
    memset(layer, 0, sizeof *layer);
    if (op->kind == LD_GRAPH_CONV2D || op->kind == LD_GRAPH_LINEAR)
        return matrix_open(layer, &layout->slots[op->weight[0]], dtype);
    if (op->kind == LD_GRAPH_GROUP_NORM)
        return gains_open(layer, op->u.group_norm.c0 + op->u.group_norm.c1);
    if (op->kind == LD_GRAPH_LAYER_NORM)
        return gains_open(layer, op->u.layer_norm.channels);
    return true;
}

void layer_close(struct layer *layer)
{
    free(layer->beta);
    free(layer->gamma);
    free(layer->bias);
    free(layer->matrix);
    memset(layer, 0, sizeof *layer);
}

/* ---- Jobs ------------------------------------------------------------------------------------ */

static void open_conv(struct job *job, const struct ld_graph_op *op, int32_t out_h, int32_t out_w,
                      int32_t batch)
{
    const struct ld_conv2d *c = &op->u.conv2d;
    const int32_t rows = job->layer->w.rows;
    const size_t rows_all = (size_t)batch * (size_t)rows;
    job->u.conv = (struct ldk_conv){.x0 = job->x0.device,
                                    .x1 = c->c1 ? job->x1.device : NULL,
                                    .c0 = c->c0,
                                    .c1 = c->c1,
                                    .batch = batch,
                                    .in_h = c->in_h,
                                    .in_w = c->in_w,
                                    .up_h = c->up_h,
                                    .up_w = c->up_w,
                                    .out_h = out_h,
                                    .out_w = out_w,
                                    .stride = c->stride,
                                    .pad_before = c->pad_before,
                                    .w = job->layer->w,
                                    .dtype = job->noise->dtype,
                                    .variant = LDK_VARIANT_AUTO};
    if (op->in[LD_IN_RESIDUAL].value)
        job->u.conv.residual = job->residual.device;
    if (op->in[LD_IN_ROW_ADD].value) {
        job->row_add = calloc(rows_all, sizeof *job->row_add);
        hc_normal(job->row_add, rows_all, 1, 11);
        job->u.conv.row_add = hc_upload(job->row_add, rows_all * sizeof *job->row_add);
        job->u.conv.row_add_stride = rows;
        job->u.conv.row_add_f32 = true;
    }
    job->image_values = (size_t)out_h * (size_t)out_w * (size_t)rows;
    snprintf(job->name, sizeof job->name, "conv%s %dx%d %d+%d->%d s%d%s%s%s",
             job->layer->w.taps == 9 ? "3x3" : "1x1", out_h, out_w, c->c0, c->c1, rows, c->stride,
             c->up_h ? " up" : "", job->row_add ? " +row" : "",
             job->u.conv.residual ? " +res" : "");
}

static void open_linear(struct job *job, const struct ld_graph_op *op, int32_t batch)
{
    static const enum ldk_activation activations[] = {LDK_ACT_NONE, LDK_ACT_SILU,
                                                      LDK_ACT_QUICK_GELU, LDK_ACT_GEGLU};
    static const char *const names[] = {"", " silu", " quickgelu", " geglu"};
    const struct ld_linear *l = &op->u.linear;
    const int32_t n = job->layer->w.geglu ? job->layer->w.rows / 2 : job->layer->w.rows;
    job->u.linear = (struct ldk_linear){.x0 = job->x0.device,
                                        .x1 = l->c1 ? job->x1.device : NULL,
                                        .c0 = l->c0,
                                        .c1 = l->c1,
                                        .rows = batch * l->rows_per_image,
                                        .rows_per_image = l->rows_per_image,
                                        .w = job->layer->w,
                                        .activation = activations[l->activation],
                                        .dtype = job->noise->dtype,
                                        .variant = LDK_VARIANT_AUTO};
    if (op->in[LD_IN_RESIDUAL].value)
        job->u.linear.residual = job->residual.device;
    job->image_values = (size_t)l->rows_per_image * (size_t)n;
    snprintf(job->name, sizeof job->name, "linear %d x (%d+%d)->%d%s%s", l->rows_per_image, l->c0,
             l->c1, n, names[l->activation], job->u.linear.residual ? " +res" : "");
}

static void open_group_norm(struct job *job, const struct ld_graph_op *op, int32_t batch)
{
    const struct ld_group_norm *n = &op->u.group_norm;
    job->u.group_norm = (struct ldk_group_norm){.x0 = job->x0.device,
                                                .x1 = n->c1 ? job->x1.device : NULL,
                                                .c0 = n->c0,
                                                .c1 = n->c1,
                                                .batch = batch,
                                                .positions = n->positions,
                                                .groups = n->groups,
                                                .epsilon = n->epsilon,
                                                .silu = n->silu,
                                                .gamma = job->layer->gamma_device,
                                                .beta = job->layer->beta_device,
                                                .dtype = job->noise->dtype};
    job->image_values = (size_t)n->positions * (size_t)(n->c0 + n->c1);
    job->means = calloc((size_t)n->groups, sizeof(double));
    job->scales = calloc((size_t)n->groups, sizeof(double));
    snprintf(job->name, sizeof job->name, "group_norm %d x (%d+%d)%s", n->positions, n->c0, n->c1,
             n->silu ? " silu" : "");
}

static void open_attention(struct job *job, const struct ld_graph_op *op, int32_t batch)
{
    const struct ld_attention *a = &op->u.attention;
    const bool cross = op->in[LD_IN_K].value != op->in[LD_IN_Q].value;
    job->kv_len = calloc((size_t)batch, sizeof *job->kv_len);
    /* Every other image uses fewer keys, so that the mask matters. */
    for (int32_t b = 0; b < batch; b++)
        job->kv_len[b] = cross && b % 2 == 1 ? 1 + a->kv_rows / 2 : a->kv_rows;
    job->u.attention = (struct ldk_attention){.batch = batch,
                                              .q_rows = a->q_rows,
                                              .kv_rows = a->kv_rows,
                                              .q_stride = a->q_stride,
                                              .k_stride = a->k_stride,
                                              .v_stride = a->v_stride,
                                              .o_stride = a->o_stride,
                                              .heads = a->heads,
                                              .head_dim = a->head_dim,
                                              .scale = a->scale,
                                              .causal = a->causal,
                                              .dtype = job->noise->dtype,
                                              .variant = LDK_VARIANT_AUTO};
    if (cross)
        job->u.attention.kv_len = hc_upload(job->kv_len, (size_t)batch * sizeof *job->kv_len);
    /* q, k and v are separate windows; strides are those of the graph. */
    job->u.attention.q = job->x0.device;
    job->u.attention.k = job->x1.device;
    job->u.attention.v = job->residual.device;
    job->image_values = (size_t)a->q_rows * (size_t)a->o_stride;
    snprintf(job->name, sizeof job->name, "attention %dx%d heads %dx%d%s", a->q_rows, a->kv_rows,
             a->heads, a->head_dim, a->causal ? " causal" : "");
}

bool job_open(struct job *job, const struct ld_graph *graph, const struct ld_graph_op *op,
              const struct layer *layer, const struct noise *noise, int32_t batch)
{
    const struct ld_graph_value *y = ld_graph_at(graph, op->out);
    const bool bf16 = noise->dtype == LDK_BF16;
    memset(job, 0, sizeof *job);
    job->kind = op->kind;
    job->noise = noise;
    job->layer = layer;
    job->batch = batch;
    job->stats_image = -1;
    job->l2_limit = bf16 ? 6e-3 : 1e-3;
    job->x0 = noise_window(noise, 0);
    job->x1 = noise_window(noise, 1);
    job->residual = noise_window(noise, 2);
    switch (op->kind) {
    case LD_GRAPH_CONV2D:
        open_conv(job, op, y->height, y->width, batch);
        return true;
    case LD_GRAPH_LINEAR:
        if (op->u.linear.f32) /* the timestep path: its own kernel, tested in tests/cuda */
            return false;
        open_linear(job, op, batch);
        return true;
    case LD_GRAPH_GROUP_NORM:
        open_group_norm(job, op, batch);
        return true;
    case LD_GRAPH_LAYER_NORM:
        job->u.layer_norm = (struct ldk_layer_norm){.x = job->x0.device,
                                                    .rows = batch * y->height * y->width,
                                                    .channels = op->u.layer_norm.channels,
                                                    .epsilon = op->u.layer_norm.epsilon,
                                                    .gamma = layer->gamma_device,
                                                    .beta = layer->beta_device,
                                                    .dtype = noise->dtype};
        job->image_values =
            (size_t)y->height * (size_t)y->width * (size_t)job->u.layer_norm.channels;
        snprintf(job->name, sizeof job->name, "layer_norm %d x %d", y->height * y->width,
                 job->u.layer_norm.channels);
        return true;
    case LD_GRAPH_ATTENTION:
        open_attention(job, op, batch);
        job->l2_limit = bf16 ? 1e-2 : 2e-3;
        return true;
    case LD_GRAPH_TIMESTEP:
    case LD_GRAPH_EMBED:
    case LD_GRAPH_MAP:
    case LD_GRAPH_RESIZE:
    case LD_GRAPH_ADD_SCALED:
    case LD_GRAPH_PLANES_IN:
    case LD_GRAPH_PLANES_OUT:
    case LD_GRAPH_HOST:
        break;
    }
    return false;
}

void job_close(struct job *job)
{
    free(job->scales);
    free(job->means);
    free(job->kv_len);
    free(job->row_add);
    memset(job, 0, sizeof *job);
}

/* ---- Launching ------------------------------------------------------------------------------- */

static const void *advance(const void *base, size_t values)
{
    return base ? (const unsigned char *)base + values * sizeof(uint16_t) : NULL;
}

/* Scratch for this launch, kept for the next; NULL for none. */
static void *scratch(struct job *job, size_t bytes)
{
    if (bytes > job->scratch_bytes) {
        job->scratch = hc_device(bytes);
        job->scratch_bytes = bytes;
    }
    return bytes ? job->scratch : NULL;
}

static int launch_conv(struct job *job, void *y, size_t first, int32_t count)
{
    struct ldk_conv c = job->u.conv;
    const size_t in = (size_t)c.in_h * (size_t)c.in_w;
    c.x0 = advance(c.x0, first * in * (size_t)c.c0);
    c.x1 = advance(c.x1, first * in * (size_t)c.c1);
    c.residual = advance(c.residual, first * job->image_values);
    if (c.row_add)
        c.row_add = (const float *)c.row_add + first * (size_t)c.row_add_stride;
    c.batch = count;
    c.y = y;
    c.workspace = scratch(job, ldk_conv_workspace(&c));
    return ldk_conv2d(&c, NULL);
}

static int launch_linear(struct job *job, void *y, size_t first, int32_t count)
{
    struct ldk_linear l = job->u.linear;
    const size_t row = first * (size_t)l.rows_per_image;
    l.x0 = advance(l.x0, row * (size_t)l.c0);
    l.x1 = advance(l.x1, row * (size_t)l.c1);
    l.residual = advance(l.residual, first * job->image_values);
    l.rows = count * l.rows_per_image;
    l.y = y;
    l.workspace = scratch(job, ldk_linear_workspace(&l));
    return ldk_linear(&l, NULL);
}

static int launch_group_norm(struct job *job, void *y, size_t first, int32_t count)
{
    struct ldk_group_norm n = job->u.group_norm;
    const size_t positions = first * (size_t)n.positions;
    n.x0 = advance(n.x0, positions * (size_t)n.c0);
    n.x1 = advance(n.x1, positions * (size_t)n.c1);
    n.batch = count;
    n.y = y;
    n.workspace = scratch(job, ldk_group_norm_workspace(&n));
    return ldk_group_norm(&n, NULL);
}

static int launch_attention(struct job *job, void *y, size_t first, int32_t count)
{
    struct ldk_attention a = job->u.attention;
    a.q = advance(a.q, first * (size_t)a.q_rows * (size_t)a.q_stride);
    a.k = advance(a.k, first * (size_t)a.kv_rows * (size_t)a.k_stride);
    a.v = advance(a.v, first * (size_t)a.kv_rows * (size_t)a.v_stride);
    if (a.kv_len)
        a.kv_len += first;
    a.batch = count;
    a.o = y;
    a.workspace = scratch(job, ldk_attention_workspace(&a));
    return ldk_attention(&a, NULL);
}

int job_launch(struct job *job, void *y, int32_t first, int32_t count)
{
    const size_t at = (size_t)first;
    if (job->kind == LD_GRAPH_CONV2D)
        return launch_conv(job, y, at, count);
    if (job->kind == LD_GRAPH_LINEAR)
        return launch_linear(job, y, at, count);
    if (job->kind == LD_GRAPH_GROUP_NORM)
        return launch_group_norm(job, y, at, count);
    if (job->kind == LD_GRAPH_ATTENTION)
        return launch_attention(job, y, at, count);
    struct ldk_layer_norm n = job->u.layer_norm;
    const int32_t rows = n.rows / job->batch;
    n.x = advance(n.x, at * (size_t)rows * (size_t)n.channels);
    n.rows = count * rows;
    n.y = y;
    return ldk_layer_norm(&n, NULL);
}

void job_set_variant(struct job *job, int32_t variant)
{
    if (job->kind == LD_GRAPH_CONV2D)
        job->u.conv.variant = variant;
    else if (job->kind == LD_GRAPH_LINEAR)
        job->u.linear.variant = variant;
    else if (job->kind == LD_GRAPH_ATTENTION)
        job->u.attention.variant = variant;
}

int32_t job_variants(struct job *job, struct ldk_variant *out, int32_t capacity)
{
    if (job->kind == LD_GRAPH_CONV2D)
        return ldk_conv_variants(&job->u.conv, out, capacity);
    if (job->kind == LD_GRAPH_LINEAR)
        return ldk_linear_variants(&job->u.linear, out, capacity);
    if (job->kind == LD_GRAPH_ATTENTION)
        return ldk_attention_variants(&job->u.attention, out, capacity);
    return 0;
}

/* ---- What must come out ---------------------------------------------------------------------- */

/* A sum and what its rounding may cost: kernels.md 15, "2 ulp(out) + 4e-4 * sum of abs products /
 * sqrt(K)". */
struct sum {
    double value, absolute;
    size_t terms;
};

static void add(struct sum *sum, double a, double b)
{
    sum->value += a * b;
    sum->absolute += fabs(a * b);
    sum->terms++;
}

static struct expected of_sum(const struct job *job, const struct sum *sum, double value)
{
    return (struct expected){value, 2 * hc_ulp(value, job->noise->dtype) +
                                        4e-4 * sum->absolute / sqrt((double)sum->terms)};
}

/* One position's channels of the concatenation of both sources. */
struct row {
    const float *x0, *x1;
    int32_t c0;
};

static struct row row_at(const struct job *job, size_t row, int32_t c0, int32_t c1)
{
    return (struct row){noise_row(job->noise, job->x0.first + row * (size_t)c0),
                        noise_row(job->noise, job->x1.first + row * (size_t)c1), c0};
}

static double channel(const struct row *row, int32_t c)
{
    return (double)(c < row->c0 ? row->x0[c] : row->x1[c - row->c0]);
}

static struct expected expect_conv(const struct job *job, int32_t image, size_t index)
{
    const struct ldk_conv *c = &job->u.conv;
    const int32_t channels = c->c0 + c->c1;
    const int32_t kernel = c->w.taps == 9 ? 3 : 1;
    const int32_t height = c->up_h ? c->up_h : c->in_h;
    const int32_t width = c->up_w ? c->up_w : c->in_w;
    const int32_t o = (int32_t)(index % (size_t)c->w.rows);
    const int32_t position = (int32_t)(index / (size_t)c->w.rows);
    const int32_t oy = position / c->out_w;
    const int32_t ox = position % c->out_w;
    const float *w = job->layer->matrix + (size_t)o * (size_t)channels * (size_t)c->w.taps;
    struct sum sum = {0, 0, 0};
    for (int32_t tap = 0; tap < c->w.taps; tap++) {
        const int32_t y = oy * c->stride + tap / kernel - c->pad_before;
        const int32_t x = ox * c->stride + tap % kernel - c->pad_before;
        if (y < 0 || y >= height || x < 0 || x >= width)
            continue;
        /* Nearest upsampling: floor(dst * in / up). */
        const int32_t sy = (int32_t)((int64_t)y * c->in_h / height);
        const int32_t sx = (int32_t)((int64_t)x * c->in_w / width);
        const size_t row =
            ((size_t)image * (size_t)c->in_h + (size_t)sy) * (size_t)c->in_w + (size_t)sx;
        const struct row in = row_at(job, row, c->c0, c->c1);
        for (int32_t k = 0; k < channels; k++)
            add(&sum, channel(&in, k), (double)w[k * c->w.taps + tap]);
    }
    double value = sum.value + (double)job->layer->bias[o];
    if (job->row_add)
        value += (double)job->row_add[(size_t)image * (size_t)c->row_add_stride + (size_t)o];
    if (c->residual)
        value +=
            noise_at(job->noise, job->residual.first + (size_t)image * job->image_values + index);
    return of_sum(job, &sum, value);
}

static double product(const struct job *job, size_t row, int32_t o, struct sum *sum)
{
    const struct ldk_linear *l = &job->u.linear;
    const int32_t channels = l->c0 + l->c1;
    const float *w = job->layer->matrix + (size_t)o * (size_t)channels;
    const struct row in = row_at(job, row, l->c0, l->c1);
    for (int32_t k = 0; k < channels; k++)
        add(sum, channel(&in, k), (double)w[k]);
    return sum->value + (double)job->layer->bias[o];
}

static struct expected expect_linear(const struct job *job, int32_t image, size_t index)
{
    const struct ldk_linear *l = &job->u.linear;
    const size_t n = (size_t)(l->w.geglu ? l->w.rows / 2 : l->w.rows);
    const size_t row = (size_t)image * (size_t)l->rows_per_image + index / n;
    const int32_t o = (int32_t)(index % n);
    struct sum sum = {0, 0, 0};
    struct sum gate_sum = {0, 0, 0};
    double value = product(job, row, o, &sum);
    double limit = (double)INFINITY;
    if (l->activation == LDK_ACT_GEGLU) {
        const double gate = product(job, row, o + (int32_t)n, &gate_sum);
        value *= 0.5 * gate * (1 + erf(gate / sqrt(2.0)));
    } else if (l->activation == LDK_ACT_SILU) {
        value = value / (1 + exp(-value));
    } else if (l->activation == LDK_ACT_QUICK_GELU) {
        value = value / (1 + exp(-1.702 * value));
    } else {
        limit = 0;
    }
    if (l->residual)
        value +=
            noise_at(job->noise, job->residual.first + (size_t)image * job->image_values + index);
    struct expected expected = of_sum(job, &sum, value);
    if (limit > 0)
        expected.limit = limit; /* the table has no element limit behind an activation */
    return expected;
}

/* Mean and 1 / deviation of every group of an image, kept until another image is asked for. */
static void group_statistics(struct job *job, int32_t image)
{
    const struct ldk_group_norm *n = &job->u.group_norm;
    const int32_t channels = n->c0 + n->c1;
    const int32_t width = channels / n->groups;
    const double count = (double)width * (double)n->positions;
    if (job->stats_image == image)
        return;
    memset(job->means, 0, (size_t)n->groups * sizeof(double));
    memset(job->scales, 0, (size_t)n->groups * sizeof(double));
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t p = 0; p < n->positions; p++) {
            const struct row in =
                row_at(job, (size_t)image * (size_t)n->positions + (size_t)p, n->c0, n->c1);
            for (int32_t c = 0; c < channels; c++) {
                const double d = channel(&in, c) - job->means[c / width]; /* means: 0 at first */
                job->scales[c / width] += pass == 0 ? d : d * d;
            }
        }
        for (int32_t g = 0; g < n->groups; g++) {
            if (pass == 0) {
                job->means[g] = job->scales[g] / count;
                job->scales[g] = 0;
            } else {
                job->scales[g] = 1 / sqrt(job->scales[g] / count + (double)n->epsilon);
            }
        }
    }
    job->stats_image = image;
}

/* Norms: 2 ulp of the output; and float32 arithmetic in front of the rounding, which matters where
 * x * scale and the shift cancel and an ulp is nothing. */
static struct expected of_norm(const struct job *job, double scaled, double shift, bool silu)
{
    const double plain = scaled + shift;
    const double value = silu ? plain / (1 + exp(-plain)) : plain;
    return (struct expected){value, 2 * hc_ulp(value, job->noise->dtype) +
                                        1e-6 * (fabs(scaled) + fabs(shift))};
}

static struct expected expect_group_norm(struct job *job, int32_t image, size_t index)
{
    const struct ldk_group_norm *n = &job->u.group_norm;
    const int32_t channels = n->c0 + n->c1;
    const int32_t c = (int32_t)(index % (size_t)channels);
    const int32_t group = c / (channels / n->groups);
    const size_t row = (size_t)image * (size_t)n->positions + index / (size_t)channels;
    group_statistics(job, image);
    const double scale = job->scales[group] * (double)job->layer->gamma[c];
    const struct row in = row_at(job, row, n->c0, n->c1);
    return of_norm(job, channel(&in, c) * scale,
                   (double)job->layer->beta[c] - job->means[group] * scale, n->silu);
}

static struct expected expect_layer_norm(const struct job *job, int32_t image, size_t index)
{
    const int32_t channels = job->u.layer_norm.channels;
    const size_t row = ((size_t)image * job->image_values + index) / (size_t)channels;
    const int32_t c = (int32_t)(index % (size_t)channels);
    const struct row in = row_at(job, row, channels, 0);
    double mean = 0;
    double squares = 0;
    for (int32_t i = 0; i < channels; i++)
        mean += channel(&in, i);
    mean /= channels;
    for (int32_t i = 0; i < channels; i++) {
        const double d = channel(&in, i) - mean;
        squares += d * d;
    }
    const double scale =
        (double)job->layer->gamma[c] / sqrt(squares / channels + (double)job->u.layer_norm.epsilon);
    return of_norm(job, channel(&in, c) * scale, (double)job->layer->beta[c] - mean * scale, false);
}

static struct expected expect_attention(const struct job *job, int32_t image, size_t index)
{
    const struct ldk_attention *a = &job->u.attention;
    const size_t column = index % (size_t)a->o_stride;
    const size_t head = column / (size_t)a->head_dim * (size_t)a->head_dim;
    const int32_t i = (int32_t)(index / (size_t)a->o_stride);
    const size_t q = job->x0.first +
                     ((size_t)image * (size_t)a->q_rows + (size_t)i) * (size_t)a->q_stride + head;
    const float *query = noise_row(job->noise, q);
    int32_t keys = job->kv_len[image];
    if (a->causal && i + 1 < keys)
        keys = i + 1;
    double most = -(double)INFINITY;
    double sum = 0;
    double value = 0;
    double largest = 0;
    /* The softmax is exact whatever is subtracted; the running maximum keeps exp in range. */
    for (int32_t j = 0; j < keys; j++) {
        const size_t row = (size_t)image * (size_t)a->kv_rows + (size_t)j;
        const size_t k = job->x1.first + row * (size_t)a->k_stride + head;
        const double v =
            noise_at(job->noise, job->residual.first + row * (size_t)a->v_stride + column);
        const float *key = noise_row(job->noise, k);
        double score = 0;
        for (int32_t d = 0; d < a->head_dim; d++)
            score += (double)query[d] * (double)key[d];
        score *= (double)a->scale;
        if (score > most) {
            sum *= exp(most - score);
            value *= exp(most - score);
            most = score;
        }
        const double p = exp(score - most);
        sum += p;
        value += p * v;
        largest = fabs(v) > largest ? fabs(v) : largest;
    }
    return (struct expected){value / sum, 8e-3 * largest};
}

struct expected job_expected(struct job *job, int32_t image, size_t index)
{
    if (job->kind == LD_GRAPH_CONV2D)
        return expect_conv(job, image, index);
    if (job->kind == LD_GRAPH_LINEAR)
        return expect_linear(job, image, index);
    if (job->kind == LD_GRAPH_GROUP_NORM)
        return expect_group_norm(job, image, index);
    if (job->kind == LD_GRAPH_ATTENTION)
        return expect_attention(job, image, index);
    return expect_layer_norm(job, image, index);
}
