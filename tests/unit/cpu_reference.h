/*
 * Straight float64 forms of the operators, written from the contracts of kernels/ops.h alone, and
 * what the CPU tests share: random data, guarded buffers, weights, error measures.
 */
#ifndef LD_TESTS_CPU_REFERENCE_H
#define LD_TESTS_CPU_REFERENCE_H

#include "kernels/ops.h"
#include "runtime/base/arena.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* ---- Random data ----------------------------------------------------------------------------- */

struct rng {
    uint64_t state;
};

static inline uint32_t rng_bits(struct rng *rng)
{
    rng->state += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t z = rng->state;
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (uint32_t)((z ^ z >> 31) >> 32);
}

static inline int32_t rng_range(struct rng *rng, int32_t low, int32_t high)
{
    return low + (int32_t)(rng_bits(rng) % (uint32_t)(high - low + 1));
}

/* About normal: the sum of four uniforms, variance 1. */
static inline float rng_normal(struct rng *rng)
{
    double sum = 0.0;
    for (int i = 0; i < 4; i++)
        sum += (double)rng_bits(rng) / 4294967296.0 - 0.5;
    return (float)(sum * 1.7320508075688772);
}

static inline void fill_normal(float *dst, size_t count, float scale, struct rng *rng)
{
    for (size_t i = 0; i < count; i++)
        dst[i] = scale * rng_normal(rng);
}

/* ---- Guarded buffers ------------------------------------------------------------------------- */

enum { GUARD = 64 }; /* floats on both sides */

static inline float *guarded_alloc(size_t count)
{
    float *block = ld_heap_calloc(count + 2 * GUARD, sizeof *block);
    assert_non_null(block);
    for (size_t i = 0; i < count + 2 * GUARD; i++)
        block[i] = 12345.5f;
    return block + GUARD;
}

/* True if nothing was written beside the `count` floats. */
static inline bool guards_intact(const float *buffer, size_t count)
{
    for (size_t i = 0; i < GUARD; i++) {
        if (buffer[count + i] != 12345.5f || buffer[(ptrdiff_t)i - GUARD] != 12345.5f)
            return false;
    }
    return true;
}

static inline void guarded_free(float *buffer)
{
    ld_heap_free(buffer - GUARD);
}

static inline float *random_buffer(size_t count, float scale, struct rng *rng)
{
    float *buffer = guarded_alloc(count);
    fill_normal(buffer, count, scale, rng);
    return buffer;
}

/* ---- Backends -------------------------------------------------------------------------------- */

enum { LEVELS = LD_CPU_LEVELS - LD_CPU_GENERIC };

static const enum ld_cpu_level all_levels[LEVELS] = {LD_CPU_GENERIC, LD_CPU_AVX2, LD_CPU_AVX512,
                                                     LD_CPU_AMX, LD_CPU_NEON};

/* NULL where this machine lacks the level. */
static inline struct ld_backend *open_level(enum ld_cpu_level level, uint32_t threads)
{
    struct ld_backend *backend = NULL;
    struct ld_error err = {0};
    enum ld_code code = ld_cpu_backend_create(&backend, threads, level, &err);
    assert_true(code == LD_OK || code == LD_E_UNSUPPORTED);
    return backend;
}

/* ---- Weights --------------------------------------------------------------------------------- */

/* A weight with the exact float32 values that the file would hold, in checkpoint order. */
struct test_weight {
    float *values; /* [rows][k][kernel][kernel] */
    float *bias;   /* [rows] or NULL */
    void *raw;     /* the same in `dtype` */
    struct ld_weight_desc desc;
};

static inline struct test_weight make_weight(enum ld_weight_kind kind, int32_t rows, int32_t k,
                                             int32_t kernel, enum ld_dtype dtype, bool bias,
                                             struct rng *rng)
{
    struct test_weight w = {0};
    size_t count = (size_t)rows * (size_t)k * (size_t)(kernel * kernel);
    w.values = random_buffer(count, 1.0f / sqrtf((float)(k * kernel * kernel)), rng);
    w.raw = ld_heap_calloc(count, 8);
    assert_non_null(w.raw);
    if (dtype == LD_DTYPE_F64) {
        for (size_t i = 0; i < count; i++)
            ((double *)w.raw)[i] = (double)w.values[i];
    } else {
        ld_dtype_from_f32(w.raw, w.values, dtype, count);
        ld_dtype_to_f32(w.values, w.raw, dtype, count);
    }
    w.desc = (struct ld_weight_desc){
        .kind = kind, .rows = rows, .k = k, .kernel = kernel, .part_count = 1};
    w.desc.parts[0] = (struct ld_weight_part){.data = w.raw, .dtype = dtype};
    if (bias) {
        w.bias = random_buffer((size_t)rows, 0.5f, rng);
        w.desc.bias[0] = (struct ld_weight_part){.data = w.bias, .dtype = LD_DTYPE_F32};
    }
    return w;
}

static inline void free_weight(struct test_weight *w)
{
    guarded_free(w->values);
    if (w->bias != NULL)
        guarded_free(w->bias);
    ld_heap_free(w->raw);
}

static inline struct ld_weight *load_weight(struct ld_backend *backend, const struct test_weight *w)
{
    struct ld_weight *weight = NULL;
    struct ld_error err = {0};
    assert_int_equal(backend->ops->weight_create(backend, &w->desc, &weight, &err), LD_OK);
    return weight;
}

/* ---- Error measures -------------------------------------------------------------------------- */

/* ||a - b|| / ||b||; infinity where a is not finite. */
static inline double relative_l2(const float *a, const double *b, size_t count)
{
    double error = 0.0;
    double norm = 0.0;
    for (size_t i = 0; i < count; i++) {
        double d = (double)a[i] - b[i];
        error += d * d;
        norm += b[i] * b[i];
    }
    if (!isfinite(error))
        return (double)INFINITY;
    return norm > 0.0 ? sqrt(error / norm) : sqrt(error);
}

/* ---- Reference operators --------------------------------------------------------------------- */

static inline double ref_input(const void *x0, const void *x1, int32_t c0, int32_t c1, size_t at,
                               int32_t c)
{
    if (c < c0)
        return (double)((const float *)x0)[at * (size_t)c0 + (size_t)c];
    return (double)((const float *)x1)[at * (size_t)c1 + (size_t)(c - c0)];
}

static inline double ref_activate(double v, enum ld_activation activation)
{
    if (activation == LD_ACT_SILU)
        return v / (1.0 + exp(-v));
    if (activation == LD_ACT_QUICK_GELU)
        return v / (1.0 + exp(-1.702 * v));
    if (activation == LD_ACT_RELU)
        return v > 0.0 ? v : 0.0;
    return v;
}

static inline int32_t ref_out_side(int32_t in, int32_t up, const struct ld_conv2d *op,
                                   int32_t kernel)
{
    int32_t side = up > 0 ? up : in;
    return (side + op->pad_before + op->pad_after - kernel) / op->stride + 1;
}

static inline void ref_conv2d(const struct ld_conv2d *op, const struct test_weight *w, double *y)
{
    int32_t kernel = w->desc.kernel;
    int32_t cin = op->c0 + op->c1;
    int32_t h = op->up_h > 0 ? op->up_h : op->in_h;
    int32_t width = op->up_w > 0 ? op->up_w : op->in_w;
    int32_t out_h = ref_out_side(op->in_h, op->up_h, op, kernel);
    int32_t out_w = ref_out_side(op->in_w, op->up_w, op, kernel);
    size_t at = 0;
    for (int32_t b = 0; b < op->batch; b++)
        for (int32_t oy = 0; oy < out_h; oy++)
            for (int32_t ox = 0; ox < out_w; ox++)
                for (int32_t o = 0; o < w->desc.rows; o++, at++) {
                    double sum = w->bias != NULL ? (double)w->bias[o] : 0.0;
                    for (int32_t ky = 0; ky < kernel; ky++)
                        for (int32_t kx = 0; kx < kernel; kx++) {
                            int32_t iy = oy * op->stride + ky - op->pad_before;
                            int32_t ix = ox * op->stride + kx - op->pad_before;
                            if (iy < 0 || ix < 0 || iy >= h || ix >= width)
                                continue;
                            iy = iy * op->in_h / h;
                            ix = ix * op->in_w / width;
                            size_t p = (size_t)((b * op->in_h + iy) * op->in_w + ix);
                            for (int32_t c = 0; c < cin; c++) {
                                size_t i = (size_t)(((o * cin + c) * kernel + ky) * kernel + kx);
                                sum += (double)w->values[i] *
                                       ref_input(op->x0, op->x1, op->c0, op->c1, p, c);
                            }
                        }
                    if (op->row_add != NULL)
                        sum += (double)op->row_add[b * op->row_add_stride + o];
                    if (op->residual != NULL)
                        sum += (double)((const float *)op->residual)[at];
                    y[at] = sum;
                }
}

static inline double ref_linear_sum(const struct ld_linear *op, const struct test_weight *w,
                                    int32_t m, int32_t row)
{
    int32_t k = w->desc.k;
    double sum = w->bias != NULL ? (double)w->bias[row] : 0.0;
    for (int32_t c = 0; c < k; c++)
        sum += (double)w->values[(size_t)row * (size_t)k + (size_t)c] *
               ref_input(op->x0, op->x1, op->c0, op->c1, (size_t)m, c);
    return sum;
}

static inline void ref_linear(const struct ld_linear *op, const struct test_weight *w, double *y)
{
    bool geglu = op->activation == LD_ACT_GEGLU;
    int32_t n = geglu ? w->desc.rows / 2 : w->desc.rows;
    for (int32_t m = 0; m < op->rows; m++)
        for (int32_t j = 0; j < n; j++, y++) {
            double v = ref_linear_sum(op, w, m, j);
            if (geglu) {
                double gate = ref_linear_sum(op, w, m, n + j);
                v *= 0.5 * gate * (1.0 + erf(gate / sqrt(2.0)));
            }
            v = ref_activate(v, op->activation);
            if (op->residual != NULL)
                v += (double)((const float *)op->residual)[(size_t)m * (size_t)n + (size_t)j];
            *y = v;
        }
}

static inline void ref_attention(const struct ld_attention *op, double *o)
{
    double *p = ld_heap_calloc((size_t)op->kv_rows, sizeof *p);
    assert_non_null(p);
    for (int32_t b = 0; b < op->batch; b++)
        for (int32_t i = 0; i < op->q_rows; i++)
            for (int32_t h = 0; h < op->heads; h++) {
                const float *q =
                    (const float *)op->q + (size_t)(b * op->q_rows + i) * (size_t)op->q_stride;
                int32_t keys = op->kv_len != NULL ? op->kv_len[b] : op->kv_rows;
                keys = op->causal && i + 1 < keys ? i + 1 : keys;
                double largest = -HUGE_VAL;
                double total = 0.0;
                for (int32_t j = 0; j < keys; j++) {
                    const float *k =
                        (const float *)op->k + (size_t)(b * op->kv_rows + j) * (size_t)op->k_stride;
                    p[j] = 0.0;
                    for (int32_t d = h * op->head_dim; d < (h + 1) * op->head_dim; d++)
                        p[j] += (double)q[d] * (double)k[d];
                    p[j] *= (double)op->scale;
                    largest = p[j] > largest ? p[j] : largest;
                }
                for (int32_t j = 0; j < keys; j++)
                    total += p[j] = exp(p[j] - largest);
                for (int32_t d = h * op->head_dim; d < (h + 1) * op->head_dim; d++) {
                    double sum = 0.0;
                    for (int32_t j = 0; j < keys; j++)
                        sum += p[j] * (double)((const float *)op->v)[(size_t)(b * op->kv_rows + j) *
                                                                         (size_t)op->v_stride +
                                                                     (size_t)d];
                    o[(size_t)(b * op->q_rows + i) * (size_t)(op->heads * op->head_dim) +
                      (size_t)d] = sum / total;
                }
            }
    ld_heap_free(p);
}

#endif
