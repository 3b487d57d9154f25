/*
 * The launchers of kernels.h as plain loops: operands in the device's types, sums in float32 in
 * index order, one rounding at each store. Slow, and independent of every real kernel: what the
 * network's result should be where a GPU rounds, computed and not guessed (kernels.md 15, 6).
 */
#include "kernels/cuda/pack.h"
#include "tests/cuda/fake_gpu.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 64 };

/* ---- Elements -------------------------------------------------------------------------------- */

static float get(const void *x, size_t i, enum ldk_dtype dtype)
{
    if (dtype == LDK_F32)
        return ((const float *)x)[i];
    const uint16_t bits = ((const uint16_t *)x)[i];
    return dtype == LDK_F16 ? ld_f16_to_f32(bits) : ld_bf16_to_f32(bits);
}

static float put(void *x, size_t i, float value, enum ldk_dtype dtype)
{
    if (dtype == LDK_F32)
        return ((float *)x)[i] = value;
    const uint16_t bits = dtype == LDK_F16 ? ld_f16_from_f32(value) : ld_bf16_from_f32(value);
    ((uint16_t *)x)[i] = bits;
    return get(x, i, dtype);
}

static float silu(float x)
{
    return x / (1.0F + expf(-x));
}

static float activate(float x, enum ldk_activation activation)
{
    if (activation == LDK_ACT_SILU)
        return silu(x);
    if (activation == LDK_ACT_RELU)
        return x > 0.0F ? x : 0.0F;
    return activation == LDK_ACT_QUICK_GELU ? x / (1.0F + expf(-1.702F * x)) : x;
}

/* Packed row of weight row `row`: GEGLU has 8 value rows, then their 8 gates. */
static size_t packed_row(const struct ldk_weight *w, int32_t row)
{
    const int32_t outputs = w->rows / 2;
    if (!w->geglu)
        return (size_t)row;
    const int32_t output = row % outputs;
    return (size_t)(output / 8 * 16 + (row < outputs ? 0 : 8) + output % 8);
}

/* An operand as float32, decoded once for a whole operator. */
static float *decoded(const void *x, size_t count, enum ldk_dtype dtype)
{
    float *values = calloc(count + 1, sizeof *values);
    if (!values)
        abort();
    if (x)
        ld_dtype_to_f32(values, x,
                        dtype == LDK_F32   ? LD_DTYPE_F32
                        : dtype == LDK_F16 ? LD_DTYPE_F16
                                           : LD_DTYPE_BF16,
                        count);
    return values;
}

static float *decoded_weight(const struct ldk_weight *w)
{
    return decoded(w->data, (size_t)w->rows_padded * (size_t)w->taps * (size_t)w->k_padded,
                   w->dtype);
}

/* Eight sums side by side, joined in order. */
static float dot(const float *a, const float *b, int32_t count)
{
    float sums[8] = {0};
    float sum = 0;
    int32_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (int32_t k = 0; k < 8; k++)
            sums[k] += a[i + k] * b[i + k];
    for (; i < count; i++)
        sum += a[i] * b[i];
    for (int32_t k = 0; k < 8; k++)
        sum += sums[k];
    return sum;
}

/* ---- Moments --------------------------------------------------------------------------------- */

static void leave_moments(float *moments, const void *y, enum ldk_dtype dtype, int32_t images,
                          int32_t positions, int32_t channels)
{
    const int32_t tiles = (positions + TILE - 1) / TILE;
    for (int32_t t = 0; moments && t < images * tiles; t++) {
        const size_t first = (size_t)(t / tiles) * (size_t)positions + (size_t)(t % tiles) * TILE;
        const int32_t left = positions - t % tiles * TILE;
        const int32_t count = left < TILE ? left : TILE;
        for (int32_t c = 0; c < channels; c++) {
            float *m = moments + ((size_t)t * (size_t)channels + (size_t)c) * 4;
            m[0] = get(y, first * (size_t)channels + (size_t)c, dtype);
            m[1] = m[2] = 0;
            m[3] = (float)count;
            for (size_t p = first; p < first + (size_t)count; p++) {
                const float d = get(y, p * (size_t)channels + (size_t)c, dtype) - m[0];
                m[1] += d;
                m[2] += d * d;
            }
        }
    }
}

/* ---- Convolution ----------------------------------------------------------------------------- */

static int32_t stored(int32_t i, int32_t n, int32_t up)
{
    return up > 0 ? (int32_t)((int64_t)i * n / up) : i;
}

static float conv_value(const struct ldk_conv *c, const float *const x[2], const float *w,
                        int32_t m, int32_t o)
{
    const int32_t b = m / (c->out_h * c->out_w);
    const int32_t oy = m / c->out_w % c->out_h;
    const int32_t ox = m % c->out_w;
    const int32_t side = c->w.taps == 9 ? 3 : 1;
    const int32_t height = c->up_h > 0 ? c->up_h : c->in_h;
    const int32_t width = c->up_w > 0 ? c->up_w : c->in_w;
    float sum = 0;
    for (int32_t tap = 0; tap < c->w.taps; tap++) {
        const int32_t iy = oy * c->stride + tap / side - c->pad_before;
        const int32_t ix = ox * c->stride + tap % side - c->pad_before;
        if (iy < 0 || iy >= height || ix < 0 || ix >= width)
            continue;
        const size_t at = (size_t)((b * c->in_h + stored(iy, c->in_h, c->up_h)) * c->in_w +
                                   stored(ix, c->in_w, c->up_w));
        const float *row = w + (size_t)(o * c->w.taps + tap) * (size_t)c->w.k_padded;
        sum += dot(x[0] + at * (size_t)c->c0, row, c->c0);
        sum += dot(x[1] + at * (size_t)c->c1, row + c->c0, c->c1);
    }
    return sum + c->w.bias[o];
}

static void run_conv(const void *args)
{
    const struct ldk_conv *c = args;
    const size_t in = (size_t)c->batch * (size_t)c->in_h * (size_t)c->in_w;
    float *x[2] = {decoded(c->x0, in * (size_t)c->c0, c->dtype),
                   decoded(c->x1, in * (size_t)c->c1, c->dtype)};
    const float *const sources[2] = {x[0], x[1]};
    float *w = decoded_weight(&c->w);
    for (int32_t m = 0; m < c->batch * c->out_h * c->out_w; m++) {
        const int32_t b = m / (c->out_h * c->out_w);
        for (int32_t o = 0; o < c->w.rows; o++) {
            const size_t at = (size_t)m * (size_t)c->w.rows + (size_t)o;
            float v = conv_value(c, sources, w, m, o);
            if (c->row_add)
                v += get(c->row_add, (size_t)b * (size_t)c->row_add_stride + (size_t)o,
                         c->row_add_f32 ? LDK_F32 : c->dtype);
            if (c->residual)
                v += get(c->residual, at, c->dtype);
            put(c->y, at, v, c->dtype);
        }
    }
    free(w);
    free(x[1]);
    free(x[0]);
    leave_moments(c->moments, c->y, c->dtype, c->batch, c->out_h * c->out_w, c->w.rows);
}

int32_t ldk_conv_tiles(const struct ldk_conv *c)
{
    return fake_gpu.no_moments ? 0 : (c->out_h * c->out_w + TILE - 1) / TILE;
}

/* What it would be on a chip does not matter here, as long as shapes differ. */
uint32_t ldk_conv_signature(const struct ldk_conv *c)
{
    return fake_gpu.signature + (uint32_t)(c->out_h * c->out_w % 97 + c->w.rows % 89);
}

/* There is one. */
int32_t ldk_conv_number(const struct ldk_conv *c)
{
    (void)c;
    return LDK_VARIANT_PLAIN;
}

uint32_t ldk_linear_signature(const struct ldk_linear *l)
{
    return fake_gpu.signature + (uint32_t)(l->rows_per_image % 97 + l->w.rows % 89);
}

size_t ldk_conv_workspace(const struct ldk_conv *c)
{
    return c->w.rows > 32 ? 4096 : 0;
}

/* Every shape has one kernel here, which checks itself. */
static int32_t only_variant(struct ldk_variant *out, int32_t capacity)
{
    if (capacity > 0)
        *out = (struct ldk_variant){.number = LDK_VARIANT_PLAIN, .signature = 1, .name = "plain"};
    return 1;
}

int32_t ldk_conv_variants(const struct ldk_conv *c, struct ldk_variant *out, int32_t capacity)
{
    (void)c;
    return only_variant(out, capacity);
}

int ldk_conv2d(const struct ldk_conv *c, ldk_stream stream)
{
    assert((ldk_conv_workspace(c) > 0) == (c->workspace != NULL));
    fake_gpu.launches++;
    return fake_gpu_enqueue(stream, run_conv, c, sizeof *c);
}

/* ---- Linear ---------------------------------------------------------------------------------- */

static float linear_value(const struct ldk_linear *l, const float *const x[2], const float *w,
                          int32_t m, int32_t row)
{
    const size_t packed = packed_row(&l->w, row);
    const float *line = w + packed * (size_t)l->w.k_padded;
    return dot(x[0] + (size_t)m * (size_t)l->c0, line, l->c0) +
           dot(x[1] + (size_t)m * (size_t)l->c1, line + l->c0, l->c1) + l->w.bias[packed];
}

/* With a choice: the default, one of its bits in half the time, and one that is faster still but
 * adds in another order, or would on a chip. */
enum { LINEAR_DEFAULT = 1, LINEAR_FAST, LINEAR_OTHER, LINEAR_WAYS };

static void run_linear(const void *args)
{
    const struct ldk_linear *l = args;
    fake_gpu.now_ms -= l->variant == LINEAR_FAST ? 0.5 : l->variant == LINEAR_OTHER ? 0.75 : 0;
    const bool geglu = l->activation == LDK_ACT_GEGLU;
    const int32_t n = geglu ? l->w.rows / 2 : l->w.rows;
    float *x[2] = {decoded(l->x0, (size_t)l->rows * (size_t)l->c0, l->dtype),
                   decoded(l->x1, (size_t)l->rows * (size_t)l->c1, l->dtype)};
    const float *const sources[2] = {x[0], x[1]};
    float *w = decoded_weight(&l->w);
    for (int32_t m = 0; m < l->rows; m++)
        for (int32_t o = 0; o < n; o++) {
            const size_t at = (size_t)m * (size_t)n + (size_t)o;
            float v = linear_value(l, sources, w, m, o);
            if (geglu) {
                const float gate = linear_value(l, sources, w, m, o + n);
                v *= 0.5F * gate * (1.0F + erff(gate * 0.70710678F));
            } else {
                v = activate(v, l->activation);
            }
            if (l->residual)
                v += get(l->residual, at, l->dtype);
            if (fake_gpu.linear_strays && l->variant == LINEAR_FAST)
                v *= 1.0005F;
            put(l->y, at, v, l->y_f32 ? LDK_F32 : l->dtype);
        }
    free(w);
    free(x[1]);
    free(x[0]);
    leave_moments(l->moments, l->y, l->dtype, l->rows / l->rows_per_image, l->rows_per_image, n);
}

int32_t ldk_linear_tiles(const struct ldk_linear *l)
{
    const bool none = fake_gpu.no_moments || l->variant >= LINEAR_WAYS; /* a library's */
    return none ? 0 : (l->rows_per_image + TILE - 1) / TILE;
}

size_t ldk_linear_workspace(const struct ldk_linear *l)
{
    (void)l;
    return 0;
}

int32_t ldk_linear_number(const struct ldk_linear *l)
{
    if (l->variant != LDK_VARIANT_AUTO)
        return l->variant;
    return fake_gpu.linear_ways ? LINEAR_DEFAULT : LDK_VARIANT_PLAIN;
}

int32_t ldk_linear_variants(const struct ldk_linear *l, struct ldk_variant *out, int32_t capacity)
{
    static const char *const names[LINEAR_WAYS] = {"plain", "default", "fast", "other"};
    (void)l;
    if (!fake_gpu.linear_ways)
        return only_variant(out, capacity);
    for (int32_t i = 0; i < LINEAR_WAYS && i < capacity; i++)
        out[i] = (struct ldk_variant){.number = i,
                                      .signature = i == LINEAR_OTHER ? 9
                                                   : i > 0           ? 7
                                                                     : 1,
                                      .tile_m = 16,
                                      .tile_n = 16,
                                      .moment_rows = 16,
                                      .name = names[i]};
    return LINEAR_WAYS;
}

int ldk_linear(const struct ldk_linear *l, ldk_stream stream)
{
    fake_gpu.launches++;
    fake_gpu.linear_variant = l->variant;
    return fake_gpu_enqueue(stream, run_linear, l, sizeof *l);
}

/* ---- Norms ----------------------------------------------------------------------------------- */

static float joined(const struct ldk_group_norm *n, size_t p, int32_t c)
{
    return c < n->c0 ? get(n->x0, p * (size_t)n->c0 + (size_t)c, n->dtype)
                     : get(n->x1, p * (size_t)n->c1 + (size_t)(c - n->c0), n->dtype);
}

/* Sum and sum of squares of one channel from what its writer left. */
static bool from_moments(const struct ldk_group_norm *n, int32_t b, int32_t c, double *sum,
                         double *squares)
{
    const bool first = c < n->c0;
    const float *moments = first ? n->moments0 : n->moments1;
    const int32_t tiles = first ? n->tiles0 : n->tiles1;
    const int32_t channels = first ? n->c0 : n->c1;
    const int32_t channel = first ? c : c - n->c0;
    double count = 0;
    for (int32_t t = 0; moments && t < tiles; t++) {
        const float *m =
            moments + ((size_t)(b * tiles + t) * (size_t)channels + (size_t)channel) * 4;
        const double shift = (double)m[0];
        *sum += (double)m[1] + shift * (double)m[3];
        *squares += (double)m[2] + 2 * shift * (double)m[1] + shift * shift * (double)m[3];
        count += (double)m[3];
    }
    if (moments && (int32_t)count != n->positions)
        abort(); /* not every position was counted once */
    return moments != NULL;
}

static void run_group_norm(const void *args)
{
    const struct ldk_group_norm *n = args;
    if (n->half != LDK_NORM_APPLY && (!n->moments0 || (n->x1 && !n->moments1)))
        fake_gpu.now_ms += fake_gpu.reading_ms;
    const int32_t channels = n->c0 + n->c1;
    const int32_t per_group = channels / n->groups;
    for (int32_t t = 0; t < n->batch * n->groups; t++) {
        const int32_t b = t / n->groups;
        const int32_t c0 = t % n->groups * per_group;
        const size_t first = (size_t)b * (size_t)n->positions;
        double sum = 0;
        double squares = 0;
        for (int32_t c = c0; c < c0 + per_group; c++)
            if (!from_moments(n, b, c, &sum, &squares))
                for (size_t p = first; p < first + (size_t)n->positions; p++) {
                    const double v = (double)joined(n, p, c);
                    sum += v;
                    squares += v * v;
                }
        const double count = (double)n->positions * (double)per_group;
        double mean = sum / count;
        double rstd = 1.0 / sqrt(squares / count - mean * mean + (double)n->epsilon);
        float *fold = n->fold ? n->fold + ((size_t)b * (size_t)channels + (size_t)c0) * 4 : NULL;
        if (n->half == LDK_NORM_MEASURE) {
            fold[0] = (float)mean;
            fold[1] = (float)rstd;
            continue;
        }
        if (n->half == LDK_NORM_APPLY) {
            mean = (double)fold[0];
            rstd = (double)fold[1];
        }
        for (size_t p = first; p < first + (size_t)n->positions; p++)
            for (int32_t c = c0; c < c0 + per_group; c++) {
                const double v = ((double)joined(n, p, c) - mean) * rstd * (double)n->gamma[c] +
                                 (double)n->beta[c];
                put(n->y, p * (size_t)channels + (size_t)c, n->silu ? silu((float)v) : (float)v,
                    n->dtype);
            }
    }
}

size_t ldk_group_norm_workspace(const struct ldk_group_norm *n)
{
    return (size_t)n->batch * (size_t)(n->c0 + n->c1) * 8;
}

int ldk_group_norm(const struct ldk_group_norm *n, ldk_stream stream)
{
    assert(n->workspace);
    fake_gpu.launches++;
    fake_gpu.norms_with_moments += n->moments0 && (n->moments1 || !n->x1) ? 1 : 0;
    return fake_gpu_enqueue(stream, run_group_norm, n, sizeof *n);
}

static void run_layer_norm(const void *args)
{
    const struct ldk_layer_norm *n = args;
    for (int32_t m = 0; m < n->rows; m++) {
        const size_t first = (size_t)m * (size_t)n->channels;
        double mean = 0;
        double squares = 0;
        for (int32_t c = 0; c < n->channels; c++)
            mean += (double)get(n->x, first + (size_t)c, n->dtype) / (double)n->channels;
        for (int32_t c = 0; c < n->channels; c++) {
            const double d = (double)get(n->x, first + (size_t)c, n->dtype) - mean;
            squares += d * d;
        }
        const double rstd = 1.0 / sqrt(squares / (double)n->channels + (double)n->epsilon);
        for (int32_t c = 0; c < n->channels; c++) {
            const double v = ((double)get(n->x, first + (size_t)c, n->dtype) - mean) * rstd;
            put(n->y, first + (size_t)c, (float)(v * (double)n->gamma[c] + (double)n->beta[c]),
                n->dtype);
        }
    }
}

int ldk_layer_norm(const struct ldk_layer_norm *n, ldk_stream stream)
{
    fake_gpu.launches++;
    return fake_gpu_enqueue(stream, run_layer_norm, n, sizeof *n);
}

/* ---- Attention ------------------------------------------------------------------------------- */

enum { KEYS_MAX = 4096 };

struct operands {
    const float *q, *k, *v;
};

static void attend(const struct ldk_attention *a, const struct operands *x, int32_t b, int32_t i,
                   int32_t head)
{
    static float p[KEYS_MAX];
    const size_t d0 = (size_t)head * (size_t)a->head_dim;
    const float *q = x->q + (size_t)(b * a->q_rows + i) * (size_t)a->q_stride + d0;
    int32_t keys = a->kv_len ? a->kv_len[b] : a->kv_rows;
    keys = a->causal && i + 1 < keys ? i + 1 : keys;
    float most = -INFINITY;
    for (int32_t j = 0; j < keys; j++) {
        const size_t k = (size_t)(b * a->kv_rows + j) * (size_t)a->k_stride + d0;
        p[j] = a->scale * dot(q, x->k + k, a->head_dim);
        most = p[j] > most ? p[j] : most;
    }
    float sum = 0;
    for (int32_t j = 0; j < keys; j++)
        sum += p[j] = expf(p[j] - most);
    for (size_t d = 0; d < (size_t)a->head_dim; d++) {
        float o = 0;
        for (int32_t j = 0; j < keys; j++)
            o += p[j] * x->v[(size_t)(b * a->kv_rows + j) * (size_t)a->v_stride + d0 + d];
        put(a->o, (size_t)(b * a->q_rows + i) * (size_t)a->o_stride + d0 + d, o / sum, a->dtype);
    }
}

/* Values from the first to the last that is read of [rows] rows `stride` apart. */
static float *decoded_rows(const void *x, int32_t rows, int32_t stride,
                           const struct ldk_attention *a)
{
    const size_t width = (size_t)a->heads * (size_t)a->head_dim;
    return decoded(x, (size_t)(rows - 1) * (size_t)stride + width, a->dtype);
}

/* Three variants that give equal bits; the last is done in half the time. */
enum { ATTENTION_VARIANTS = 3, ATTENTION_FAST = ATTENTION_VARIANTS - 1 };

static void run_attention(const void *args)
{
    const struct ldk_attention *a = args;
    assert(a->kv_rows <= KEYS_MAX);
    if (a->variant == ATTENTION_FAST)
        fake_gpu.now_ms -= 0.5;
    float *q = decoded_rows(a->q, a->batch * a->q_rows, a->q_stride, a);
    float *k = decoded_rows(a->k, a->batch * a->kv_rows, a->k_stride, a);
    float *v = decoded_rows(a->v, a->batch * a->kv_rows, a->v_stride, a);
    const struct operands operands = {q, k, v};
    for (int32_t b = 0; b < a->batch; b++)
        for (int32_t i = 0; i < a->q_rows; i++)
            for (int32_t head = 0; head < a->heads; head++)
                attend(a, &operands, b, i, head);
    free(v);
    free(k);
    free(q);
}

size_t ldk_attention_workspace(const struct ldk_attention *a)
{
    return a->head_dim > 160 ? (size_t)a->q_rows * (size_t)a->kv_rows * 2 : 0;
}

int32_t ldk_attention_number(const struct ldk_attention *a)
{
    return a->variant == LDK_VARIANT_AUTO ? LDK_VARIANT_PLAIN + 1 : a->variant;
}

int32_t ldk_attention_variants(const struct ldk_attention *a, struct ldk_variant *out,
                               int32_t capacity)
{
    static const char *const names[ATTENTION_VARIANTS] = {"plain", "slow", "fast"};
    for (int32_t i = 0; i < ATTENTION_VARIANTS && i < capacity; i++)
        out[i] = (struct ldk_variant){.number = i,
                                      .signature = a->fp16_accumulate ? 0x42 : 0x41,
                                      .tile_m = 16,
                                      .tile_n = a->head_dim,
                                      .name = names[i]};
    return ATTENTION_VARIANTS;
}

int ldk_attention(const struct ldk_attention *a, ldk_stream stream)
{
    if (a->variant >= ATTENTION_VARIANTS)
        return LDK_E_UNSUPPORTED;
    fake_gpu.launches++;
    return fake_gpu_enqueue(stream, run_attention, a, sizeof *a);
}

/* ---- Small ones ------------------------------------------------------------------------------ */

struct timestep {
    const float *t;
    int32_t batch, dim;
    void *y;
    enum ldk_dtype dtype;
};

static void run_timestep(const void *args)
{
    const struct timestep *s = args;
    const int32_t half = s->dim / 2;
    for (int32_t i = 0; i < s->batch * half; i++) {
        const double f = exp(-log(10000.0) * (double)(i % half) / (double)half);
        const double angle = (double)s->t[i / half] * f;
        const size_t row = (size_t)(i / half) * (size_t)s->dim + (size_t)(i % half);
        put(s->y, row, (float)cos(angle), s->dtype);
        put(s->y, row + (size_t)half, (float)sin(angle), s->dtype);
    }
}

int ldk_timestep(const float *t, int32_t batch, int32_t dim, void *y, enum ldk_dtype dtype,
                 ldk_stream stream)
{
    const struct timestep args = {t, batch, dim, y, dtype};
    fake_gpu.launches++;
    return fake_gpu_enqueue(stream, run_timestep, &args, sizeof args);
}

struct embed {
    const int32_t *ids, *index;
    const float *overrides;
    int32_t rows, tokens, channels;
    const void *table, *positions;
    void *y;
    enum ldk_dtype dtype;
};

static void run_embed(const void *args)
{
    const struct embed *e = args;
    const size_t width = (size_t)e->channels;
    for (size_t m = 0; m < (size_t)e->rows; m++)
        for (size_t c = 0; c < width; c++) {
            const bool over = e->index && e->index[m] >= 0;
            const float v = over ? e->overrides[(size_t)e->index[m] * width + c]
                                 : get(e->table, (size_t)e->ids[m] * width + c, e->dtype);
            put(e->y, m * width + c,
                v + get(e->positions, m % (size_t)e->tokens * width + c, e->dtype), e->dtype);
        }
}

int ldk_embed(const int32_t *ids, const int32_t *override_index, const float *overrides,
              int32_t rows, int32_t tokens, int32_t channels, int32_t table_rows, const void *table,
              const void *positions, void *y, enum ldk_dtype dtype, ldk_stream stream)
{
    (void)table_rows;
    const struct embed args = {ids,      override_index, overrides, rows, tokens,
                               channels, table,          positions, y,    dtype};
    fake_gpu.launches++;
    return fake_gpu_enqueue(stream, run_embed, &args, sizeof args);
}

struct map {
    const void *x;
    int64_t count;
    enum ldk_activation activation;
    void *y;
    enum ldk_dtype dtype;
};

static void run_map(const void *args)
{
    const struct map *m = args;
    for (size_t i = 0; i < (size_t)m->count; i++)
        put(m->y, i, activate(get(m->x, i, m->dtype), m->activation), m->dtype);
}

int ldk_map(const void *x, int64_t count, enum ldk_activation activation, void *y,
            enum ldk_dtype dtype, ldk_stream stream)
{
    const struct map args = {x, count, activation, y, dtype};
    fake_gpu.launches++;
    return fake_gpu_enqueue(stream, run_map, &args, sizeof args);
}

struct add_scaled {
    const void *x, *z;
    const float *scale;
    size_t batch, count;
    void *y;
    enum ldk_dtype dtype;
};

static void run_add_scaled(const void *args)
{
    const struct add_scaled *a = args;
    for (size_t i = 0; i < a->batch * a->count; i++) {
        const float scale = a->scale[i / a->count];
        const float added = scale == 0.0F ? -0.0F : scale * get(a->z, i, a->dtype);
        put(a->y, i, get(a->x, i, a->dtype) + added, a->dtype); /* -0 changes nothing */
    }
}

int ldk_add_scaled(const void *x, const void *z, const float *scale, int32_t batch, int64_t count,
                   void *y, enum ldk_dtype dtype, ldk_stream stream)
{
    const struct add_scaled args = {x, z, scale, (size_t)batch, (size_t)count, y, dtype};
    fake_gpu.launches++;
    return fake_gpu_enqueue(stream, run_add_scaled, &args, sizeof args);
}

/* Nearest only: the backend's logic does not depend on the mode. */
struct resize {
    const void *x;
    int32_t batch, in_h, in_w, channels, out_h, out_w;
    void *y;
    enum ldk_dtype dtype;
};

static void run_resize(const void *args)
{
    const struct resize *r = args;
    for (int32_t m = 0; m < r->batch * r->out_h * r->out_w; m++) {
        const int32_t y = m / r->out_w % r->out_h * r->in_h / r->out_h;
        const int32_t x = m % r->out_w * r->in_w / r->out_w;
        const size_t from = (size_t)((m / (r->out_h * r->out_w) * r->in_h + y) * r->in_w + x);
        for (size_t c = 0; c < (size_t)r->channels; c++)
            put(r->y, (size_t)m * (size_t)r->channels + c,
                get(r->x, from * (size_t)r->channels + c, r->dtype), r->dtype);
    }
}

int ldk_resize(const void *x, int32_t batch, int32_t in_h, int32_t in_w, int32_t channels,
               int32_t out_h, int32_t out_w, int32_t mode, void *y, void *workspace,
               enum ldk_dtype dtype, ldk_stream stream)
{
    (void)mode;
    (void)workspace;
    const struct resize args = {x, batch, in_h, in_w, channels, out_h, out_w, y, dtype};
    fake_gpu.launches++;
    return fake_gpu_enqueue(stream, run_resize, &args, sizeof args);
}

size_t ldk_resize_workspace(int32_t batch, int32_t in_h, int32_t in_w, int32_t channels,
                            int32_t out_h, int32_t out_w, int32_t mode)
{
    (void)batch;
    (void)in_h;
    (void)in_w;
    (void)channels;
    (void)out_h;
    (void)out_w;
    (void)mode;
    return 0;
}

struct planes {
    float *planes;
    const float *scale;
    size_t batch, channels, positions;
    void *x;
    enum ldk_dtype dtype;
};

static void run_planes_in(const void *args)
{
    const struct planes *p = args;
    for (size_t b = 0; b < p->batch; b++)
        for (size_t c = 0; c < p->channels; c++)
            for (size_t i = 0; i < p->positions; i++)
                put(p->x, (b * p->positions + i) * p->channels + c,
                    p->planes[(b * p->channels + c) * p->positions + i] *
                        (p->scale ? p->scale[b] : 1.0F),
                    p->dtype);
}

static void run_planes_out(const void *args)
{
    const struct planes *p = args;
    for (size_t b = 0; b < p->batch; b++)
        for (size_t c = 0; c < p->channels; c++)
            for (size_t i = 0; i < p->positions; i++)
                p->planes[(b * p->channels + c) * p->positions + i] =
                    get(p->x, (b * p->positions + i) * p->channels + c, p->dtype);
}

static int enqueue_planes(void (*run)(const void *), const float *planes, const float *scale,
                          int32_t batch, int32_t channels, int32_t height, int32_t width,
                          const void *x, enum ldk_dtype dtype, ldk_stream stream)
{
    struct planes args = {.scale = scale,
                          .batch = (size_t)batch,
                          .channels = (size_t)channels,
                          .positions = (size_t)height * (size_t)width,
                          .dtype = dtype};
    memcpy(&args.planes, &planes, sizeof planes); /* one struct for both directions */
    memcpy(&args.x, &x, sizeof x);
    fake_gpu.launches++;
    return fake_gpu_enqueue(stream, run, &args, sizeof args);
}

int ldk_planes_in(const float *planes, const float *scale, int32_t batch, int32_t channels,
                  int32_t height, int32_t width, void *y, enum ldk_dtype dtype, ldk_stream stream)
{
    return enqueue_planes(run_planes_in, planes, scale, batch, channels, height, width, y, dtype,
                          stream);
}

int ldk_planes_out(const void *x, int32_t batch, int32_t channels, int32_t height, int32_t width,
                   float *planes, enum ldk_dtype dtype, ldk_stream stream)
{
    return enqueue_planes(run_planes_out, planes, NULL, batch, channels, height, width, x, dtype,
                          stream);
}
