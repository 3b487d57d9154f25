/*
 * Separable resampling of NHWC maps. Each mode says which source indices an output index reads and
 * with which weights; one loop applies them, rows outside and columns inside. `bislerp` bends
 * vectors instead of averaging them and has its own loop.
 * Formulas: sampling.md 7.1. Coordinates are float32 as in the references, weights double.
 */
#include "kernels/cpu/cpu.h"

#include <math.h>

enum {
    TAPS_MAX = 128,
    RATIO_MAX = 31 /* largest in / out: 4 * 31 + 2 taps of the widest kernel fit TAPS_MAX */
};

/* Reads index clamp(first + t, 0, n - 1) with weight[t]. */
struct axis {
    int32_t first, count;
    float weight[TAPS_MAX];
};

static int32_t clamp_index(int32_t i, int32_t n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

/* Keys' cubic convolution kernel with parameter a. */
static double keys(double x, double a)
{
    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0)
        return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

static double triangle(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static void axis_point(struct axis *axis, float source, int32_t n)
{
    axis->first = clamp_index((int32_t)floorf(source), n);
    axis->count = 1;
    axis->weight[0] = 1.0f;
}

static void axis_bilinear(struct axis *axis, int32_t i, float scale, int32_t n)
{
    float s = ((float)i + 0.5f) * scale - 0.5f;
    s = s > 0.0f ? s : 0.0f;
    axis->first = clamp_index((int32_t)s, n);
    axis->count = 2;
    axis->weight[1] = s - (float)axis->first;
    axis->weight[0] = 1.0f - axis->weight[1];
}

static void axis_bicubic(struct axis *axis, int32_t i, float scale)
{
    float s = ((float)i + 0.5f) * scale - 0.5f;
    float base = floorf(s);
    float t = s - base;
    axis->first = (int32_t)base - 1;
    axis->count = 4;
    for (int32_t k = 0; k < 4; k++)
        axis->weight[k] = (float)keys((double)t + 1.0 - (double)k, -0.75);
}

static void axis_area(struct axis *axis, int32_t i, int32_t n, int32_t m)
{
    int64_t begin = (int64_t)i * n / m;
    int64_t end = ((int64_t)(i + 1) * n + m - 1) / m;
    axis->first = (int32_t)begin;
    axis->count = (int32_t)(end - begin);
    for (int32_t k = 0; k < axis->count; k++)
        axis->weight[k] = 1.0f / (float)axis->count;
}

static void axis_antialias(struct axis *axis, int32_t i, float scale, int32_t n, bool cubic)
{
    float stretch = scale > 1.0f ? scale : 1.0f;
    float support = (cubic ? 2.0f : 1.0f) * stretch;
    float centre = ((float)i + 0.5f) * scale;
    int32_t begin = (int32_t)(centre - support + 0.5f);
    int32_t end = (int32_t)(centre + support + 0.5f);
    begin = begin < 0 ? 0 : begin;
    end = end > n ? n : end;
    axis->first = begin;
    axis->count = end - begin < TAPS_MAX ? end - begin : TAPS_MAX;
    double weight[TAPS_MAX];
    double total = 0.0;
    for (int32_t k = 0; k < axis->count; k++) {
        double x = ((double)(begin + k) - (double)centre + 0.5) / (double)stretch;
        weight[k] = cubic ? keys(x, -0.5) : triangle(x);
        total += weight[k];
    }
    for (int32_t k = 0; k < axis->count; k++)
        axis->weight[k] = (float)(total != 0.0 ? weight[k] / total : weight[k]);
}

/* Taps of output index i of m over a source of n. */
static void axis_taps(struct axis *axis, enum ld_resize_mode mode, int32_t i, int32_t n, int32_t m)
{
    float scale = (float)n / (float)m;
    switch (mode) {
    case LD_RESIZE_NEAREST:
        axis_point(axis, (float)i * scale, n);
        break;
    case LD_RESIZE_NEAREST_EXACT:
        axis_point(axis, ((float)i + 0.5f) * scale, n);
        break;
    case LD_RESIZE_BILINEAR:
    case LD_RESIZE_BISLERP:
        axis_bilinear(axis, i, scale, n);
        break;
    case LD_RESIZE_BICUBIC:
        axis_bicubic(axis, i, scale);
        break;
    case LD_RESIZE_AREA:
        axis_area(axis, i, n, m);
        break;
    case LD_RESIZE_BILINEAR_ANTIALIAS:
        axis_antialias(axis, i, scale, n, false);
        break;
    case LD_RESIZE_BICUBIC_ANTIALIAS:
        axis_antialias(axis, i, scale, n, true);
        break;
    }
}

static const float *pixel(const struct ld_resize *op, size_t b, int32_t y, int32_t x)
{
    size_t row = b * (size_t)op->in_h + (size_t)clamp_index(y, op->in_h);
    size_t at = row * (size_t)op->in_w + (size_t)clamp_index(x, op->in_w);
    return (const float *)op->x + at * (size_t)op->channels;
}

/* One output pixel, some channels at a time: columns are summed first, then rows. */
static void blend_pixel(const struct ld_resize *op, size_t b, const struct axis *rows,
                        const struct axis *cols, float *out)
{
    enum { PIECE = 64 };
    for (int32_t c0 = 0; c0 < op->channels; c0 += PIECE) {
        int32_t count = op->channels - c0 < PIECE ? op->channels - c0 : PIECE;
        float sum[PIECE] = {0.0f};
        for (int32_t r = 0; r < rows->count; r++) {
            float line[PIECE] = {0.0f};
            for (int32_t t = 0; t < cols->count; t++) {
                const float *src = pixel(op, b, rows->first + r, cols->first + t) + c0;
                for (int32_t c = 0; c < count; c++)
                    line[c] += cols->weight[t] * src[c];
            }
            for (int32_t c = 0; c < count; c++)
                sum[c] += rows->weight[r] * line[c];
        }
        for (int32_t c = 0; c < count; c++)
            out[c0 + c] = sum[c];
    }
}

/* ---- Bislerp --------------------------------------------------------------------------------- */

/* Where output index i of m looks: two source indices and the ratio between them. */
struct bend {
    int32_t first, second;
    float ratio;
};

static struct bend bend_of(int32_t i, int32_t n, int32_t m)
{
    struct axis axis;
    axis_bilinear(&axis, i, (float)n / (float)m, n);
    struct bend bend = {.first = axis.first, .ratio = axis.weight[1]};
    /* The second index is read off an interpolated list 1, 2, .., n-1, n-1, as the reference does:
     * in float32 that can fall short of first + 1. */
    int32_t next = clamp_index(axis.first + 1, n);
    float a = (float)(axis.first + 1 < n ? axis.first + 1 : n - 1);
    float b = (float)(next + 1 < n ? next + 1 : n - 1);
    bend.second = clamp_index((int32_t)(axis.weight[0] * a + axis.weight[1] * b), n);
    return bend;
}

/* Weights of p and q such that out = wp * p + wq * q. */
static void bend_weights(const float *p, const float *q, int32_t channels, float ratio, float *wp,
                         float *wq)
{
    double pp = 0.0;
    double qq = 0.0;
    double pq = 0.0;
    for (int32_t c = 0; c < channels; c++) {
        pp += (double)p[c] * (double)p[c];
        qq += (double)q[c] * (double)q[c];
        pq += (double)p[c] * (double)q[c];
    }
    double np = sqrt(pp);
    double nq = sqrt(qq);
    double inverse_p = np > 0.0 ? 1.0 / np : 0.0;
    double inverse_q = nq > 0.0 ? 1.0 / nq : 0.0;
    double cosine = pq * inverse_p * inverse_q;
    double r = (double)ratio;
    double a = 1.0 - r;
    double b = r;
    if (cosine > 1.0 - 1e-5) {
        a = 1.0;
        b = 0.0;
    } else if (cosine >= 1e-5 - 1.0) {
        double angle = acos(cosine);
        double length = (np * (1.0 - r) + nq * r) / sin(angle);
        a = sin((1.0 - r) * angle) * length * inverse_p;
        b = sin(r * angle) * length * inverse_q;
    }
    *wp = (float)a;
    *wq = (float)b;
}

/* Worker scratch holds the two rows' bent vectors. */
static void bislerp_pixel(const struct ld_resize *op, size_t b, const struct bend *row,
                          const struct bend *col, float *scratch, float *out)
{
    for (int32_t side = 0; side < 2; side++) {
        int32_t y = side == 0 ? row->first : row->second;
        const float *p = pixel(op, b, y, col->first);
        const float *q = pixel(op, b, y, col->second);
        float *dst = scratch + (size_t)side * (size_t)op->channels;
        float wp;
        float wq;
        bend_weights(p, q, op->channels, col->ratio, &wp, &wq);
        for (int32_t c = 0; c < op->channels; c++)
            dst[c] = wp * p[c] + wq * q[c];
    }
    const float *p = scratch;
    const float *q = scratch + op->channels;
    float wp;
    float wq;
    bend_weights(p, q, op->channels, row->ratio, &wp, &wq);
    for (int32_t c = 0; c < op->channels; c++)
        out[c] = wp * p[c] + wq * q[c];
}

/* ---- The operator ---------------------------------------------------------------------------- */

struct resize_ctx {
    struct ld_cpu_backend *cpu;
    const struct ld_resize *op;
};

static void resize_row(void *pointer, uint32_t task, uint32_t worker)
{
    const struct resize_ctx *ctx = pointer;
    const struct ld_resize *op = ctx->op;
    float *scratch = (float *)(void *)(ctx->cpu->private + worker * ctx->cpu->private_bytes);
    size_t b = task / (uint32_t)op->out_h;
    int32_t oy = (int32_t)(task % (uint32_t)op->out_h);
    float *out = (float *)op->y + (size_t)task * (size_t)op->out_w * (size_t)op->channels;
    struct axis rows;
    struct axis cols;
    struct bend row = bend_of(oy, op->in_h, op->out_h);
    axis_taps(&rows, op->mode, oy, op->in_h, op->out_h);
    for (int32_t ox = 0; ox < op->out_w; ox++, out += op->channels) {
        if (op->mode == LD_RESIZE_BISLERP) {
            struct bend col = bend_of(ox, op->in_w, op->out_w);
            bislerp_pixel(op, b, &row, &col, scratch, out);
        } else {
            axis_taps(&cols, op->mode, ox, op->in_w, op->out_w);
            blend_pixel(op, b, &rows, &cols, out);
        }
    }
}

enum ld_code ld_cpu_resize(struct ld_backend *backend, const struct ld_resize *op,
                           struct ld_error *err)
{
    struct resize_ctx ctx = {.cpu = ld_cpu_of(backend), .op = op};
    enum ld_code code = ld_check_resize(op, err);
    if (code != LD_OK)
        return code;
    if (op->in_h / op->out_h >= RATIO_MAX || op->in_w / op->out_w >= RATIO_MAX)
        return LD_FAIL(err, LD_E_SHAPE, "resize shrinks at most %d times", RATIO_MAX);
    if ((size_t)op->channels * 2 * sizeof(float) > ctx.cpu->private_bytes)
        return LD_FAIL(err, LD_E_SHAPE, "resize has too many channels");
    ld_pool_run(ctx.cpu->pool, (uint32_t)op->batch * (uint32_t)op->out_h, resize_row, &ctx);
    return LD_OK;
}
