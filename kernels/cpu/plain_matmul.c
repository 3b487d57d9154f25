/*
 * The oracle's matrix products: linear layers and convolutions as loops over float32 weights laid
 * out [row][ky][kx][channel], summed in double in that order. Slow and plain on purpose.
 */
#include "kernels/cpu/cpu.h"

#include "runtime/base/arena.h"

#include <math.h>

enum ld_code ld_plain_weight_pack(struct ld_cpu_backend *cpu, const struct ld_weight_desc *desc,
                                  struct ld_weight *weight, struct ld_error *err)
{
    (void)cpu;
    size_t taps = (size_t)weight->facts.kernel * (size_t)weight->facts.kernel;
    size_t k = (size_t)weight->facts.k;
    size_t row = taps * k;
    weight->dtype = LD_DTYPE_F32;
    weight->data_bytes = (size_t)weight->facts.rows * row * sizeof(float);
    weight->data = ld_block_alloc(weight->data_bytes);
    float *line = ld_heap_calloc(row, sizeof *line);
    enum ld_code code = LD_OK;
    if (weight->data == NULL || line == NULL) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory for a weight matrix");
        goto done;
    }
    float *dst = weight->data;
    for (uint32_t p = 0; p < desc->part_count; p++) {
        size_t item = ld_dtype_size(desc->parts[p].dtype);
        const size_t part_rows = (size_t)ld_weight_part_rows(desc, p);
        for (size_t r = 0; r < part_rows; r++, dst += row) {
            const unsigned char *src = desc->parts[p].data;
            ld_dtype_to_f32(line, src + r * row * item, desc->parts[p].dtype, row);
            for (size_t c = 0; c < k; c++)
                for (size_t t = 0; t < taps; t++)
                    dst[t * k + c] = line[c * taps + t];
        }
    }
done:
    ld_heap_free(line);
    return code;
}

static double dot(const float *a, const float *b, int32_t n)
{
    double sum = 0.0;
    for (int32_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static double finish_sum(const struct ld_weight *weight, int32_t row, double sum)
{
    if (weight->row_scale != NULL)
        sum *= (double)weight->row_scale[row];
    if (weight->bias != NULL)
        sum += (double)weight->bias[row];
    return sum;
}

/* ---- Linear ---------------------------------------------------------------------------------- */

static double activate(double v, enum ld_activation activation)
{
    switch (activation) {
    case LD_ACT_SILU:
        return v / (1.0 + exp(-v));
    case LD_ACT_QUICK_GELU:
        return v / (1.0 + exp(-1.702 * v));
    case LD_ACT_RELU:
        return v > 0.0 ? v : 0.0;
    case LD_ACT_NONE:
    case LD_ACT_GEGLU:
        break;
    }
    return v;
}

static double gelu_erf(double v)
{
    return 0.5 * v * (1.0 + erf(v * 0.70710678118654752440));
}

struct linear_ctx {
    const struct ld_linear *op;
    int32_t n; /* output features */
};

static double linear_row(const struct ld_linear *op, size_t m, int32_t row)
{
    const float *w = (const float *)op->weight->data + (size_t)row * (size_t)op->weight->facts.k;
    double sum = dot((const float *)op->x0 + m * (size_t)op->c0, w, op->c0);
    if (op->x1 != NULL)
        sum += dot((const float *)op->x1 + m * (size_t)op->c1, w + op->c0, op->c1);
    return finish_sum(op->weight, row, sum);
}

static void linear_task(void *pointer, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct linear_ctx *ctx = pointer;
    const struct ld_linear *op = ctx->op;
    size_t m = task;
    float *y = (float *)op->y + m * (size_t)ctx->n;
    const float *residual = op->residual;
    for (int32_t n = 0; n < ctx->n; n++) {
        double v = linear_row(op, m, n);
        if (op->activation == LD_ACT_GEGLU)
            v *= gelu_erf(linear_row(op, m, n + ctx->n));
        else
            v = activate(v, op->activation);
        if (residual != NULL)
            v += (double)residual[m * (size_t)ctx->n + (size_t)n];
        y[n] = (float)v;
    }
}

void ld_plain_linear(struct ld_cpu_backend *cpu, const struct ld_linear *op)
{
    struct linear_ctx ctx = {.op = op, .n = op->weight->facts.rows};
    if (op->activation == LD_ACT_GEGLU)
        ctx.n /= 2;
    ld_pool_run(cpu->pool, (uint32_t)op->rows, linear_task, &ctx);
}

/* ---- Convolution ----------------------------------------------------------------------------- */

struct conv_ctx {
    const struct ld_conv2d *op;
    struct ld_conv_shape shape;
};

/* Sum over the taps of one output value; reads outside the map are zero and so are skipped. */
static double conv_sum(const struct conv_ctx *ctx, int32_t b, int32_t oy, int32_t ox,
                       const float *w)
{
    const struct ld_conv2d *op = ctx->op;
    int32_t kernel = op->weight->facts.kernel;
    double sum = 0.0;
    for (int32_t ky = 0; ky < kernel; ky++) {
        int32_t iy = oy * op->stride + ky - op->pad_before;
        if (iy < 0 || iy >= ctx->shape.src_h)
            continue;
        int32_t sy = ld_idx_upsample(iy, op->in_h, op->up_h);
        for (int32_t kx = 0; kx < kernel; kx++) {
            int32_t ix = ox * op->stride + kx - op->pad_before;
            if (ix < 0 || ix >= ctx->shape.src_w)
                continue;
            int32_t sx = ld_idx_upsample(ix, op->in_w, op->up_w);
            size_t at = ((size_t)b * (size_t)op->in_h + (size_t)sy) * (size_t)op->in_w + (size_t)sx;
            const float *tap = w + (size_t)(ky * kernel + kx) * (size_t)ctx->shape.cin;
            sum += dot((const float *)op->x0 + at * (size_t)op->c0, tap, op->c0);
            if (op->x1 != NULL)
                sum += dot((const float *)op->x1 + at * (size_t)op->c1, tap + op->c0, op->c1);
        }
    }
    return sum;
}

static void conv_task(void *pointer, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct conv_ctx *ctx = pointer;
    const struct ld_conv2d *op = ctx->op;
    const struct ld_weight *weight = op->weight;
    size_t row =
        (size_t)weight->facts.kernel * (size_t)weight->facts.kernel * (size_t)weight->facts.k;
    int32_t b = (int32_t)task / ctx->shape.out_h;
    int32_t oy = (int32_t)task % ctx->shape.out_h;
    for (int32_t ox = 0; ox < ctx->shape.out_w; ox++) {
        size_t at =
            ((size_t)task * (size_t)ctx->shape.out_w + (size_t)ox) * (size_t)weight->facts.rows;
        for (int32_t o = 0; o < weight->facts.rows; o++) {
            const float *w = (const float *)weight->data + (size_t)o * row;
            double v = finish_sum(weight, o, conv_sum(ctx, b, oy, ox, w));
            if (op->row_add != NULL)
                v += (double)op->row_add[(size_t)b * (size_t)op->row_add_stride + (size_t)o];
            if (op->residual != NULL)
                v += (double)((const float *)op->residual)[at + (size_t)o];
            ((float *)op->y)[at + (size_t)o] = (float)v;
        }
    }
}

void ld_plain_conv2d(struct ld_cpu_backend *cpu, const struct ld_conv2d *op)
{
    struct conv_ctx ctx = {.op = op, .shape = ld_conv_shape_of(op)};
    ld_pool_run(cpu->pool, (uint32_t)op->batch * (uint32_t)ctx.shape.out_h, conv_task, &ctx);
}

/* ---- Elementwise map ------------------------------------------------------------------------- */

enum { MAP_CHUNK = 1 << 14 };

static void map_task(void *pointer, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct ld_map *op = pointer;
    int64_t first = (int64_t)task * MAP_CHUNK;
    int64_t end = first + MAP_CHUNK < op->count ? first + MAP_CHUNK : op->count;
    const float *x = op->x;
    float *y = op->y;
    for (int64_t i = first; i < end; i++)
        y[i] = (float)activate((double)x[i], op->activation);
}

void ld_plain_map(struct ld_cpu_backend *cpu, const struct ld_map *op)
{
    struct ld_map local = *op;
    ld_pool_run(cpu->pool, (uint32_t)((op->count + MAP_CHUNK - 1) / MAP_CHUNK), map_task, &local);
}
