#include "tests/cuda/attention_fixture.h"

#include "kernels/cuda/rt.h"
#include "runtime/base/arena.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *memory(size_t bytes)
{
    void *block = calloc(1, bytes);
    if (!block) {
        fprintf(stderr, "no memory\n");
        exit(2);
    }
    return block;
}

/* Keys that no image may look at become NaN. */
static void spoil(float *k, float *v, const struct attention_case *c,
                  const struct ldk_attention *op)
{
    for (int32_t b = 0; c->kv_len[0] > 0 && b < c->batch; b++)
        for (int32_t j = c->kv_len[b]; j < c->kv_rows; j++)
            for (int32_t d = 0; d < c->heads * c->head_dim; d++) {
                k[(b * c->kv_rows + j) * op->k_stride + d] = NAN;
                v[(b * c->kv_rows + j) * op->v_stride + d] = NAN;
            }
}

struct attention_data attention_make(const struct attention_case *c, uint64_t seed)
{
    const int32_t width = c->heads * c->head_dim;
    const size_t item = 2;
    struct attention_data a = {0};
    struct ldk_attention *op = &a.op;
    *op = (struct ldk_attention){.batch = c->batch,
                                 .q_rows = c->q_rows,
                                 .kv_rows = c->kv_rows,
                                 .heads = c->heads,
                                 .head_dim = c->head_dim,
                                 .scale = 1.0f / sqrtf((float)c->head_dim),
                                 .causal = c->causal,
                                 .fp16_accumulate = c->fp16_accumulate,
                                 .dtype = (enum ldk_dtype)c->dtype,
                                 .variant = c->variant};
    const int32_t stride = (c->fused ? 3 : 1) * width + c->gap;
    op->q_stride = op->k_stride = op->v_stride = stride;
    op->o_stride = width + c->gap;
    const int32_t rows = c->fused && c->kv_rows > c->q_rows ? c->kv_rows : c->q_rows;
    const size_t q_count = (size_t)c->batch * (size_t)rows * (size_t)stride;
    const size_t k_count = (size_t)c->batch * (size_t)c->kv_rows * (size_t)stride;
    a.q = memory(q_count * sizeof *a.q);
    hc_normal(a.q, q_count, c->spread, seed);
    if (c->fused) { /* one tensor, three slices */
        a.k = a.q + width;
        a.v = a.q + 2 * width;
    } else {
        a.k = memory(k_count * sizeof *a.k);
        a.v = memory(k_count * sizeof *a.v);
        hc_normal(a.k, k_count, 1.0f, seed + 1);
        hc_normal(a.v, k_count, 1.0f, seed + 2);
    }
    for (int32_t r = 0; c->ramp != 0 && r < c->batch * c->kv_rows; r++)
        a.k[r * stride] = c->ramp * (float)(r % c->kv_rows);
    for (int32_t r = 0; c->ramp != 0 && r < c->batch * c->q_rows; r++)
        a.q[r * stride] = 8.0f;
    if (!c->fused)
        spoil(a.k, a.v, c, op);
    const unsigned char *q = hc_tensor(a.q, q_count, op->dtype);
    op->q = q;
    op->k = c->fused ? q + (size_t)width * item : hc_tensor(a.k, k_count, op->dtype);
    op->v = c->fused ? q + 2 * (size_t)width * item : hc_tensor(a.v, k_count, op->dtype);
    if (c->kv_len[0] > 0)
        op->kv_len = hc_upload(c->kv_len, (size_t)c->batch * sizeof(int32_t));
    a.o_count = (size_t)c->batch * (size_t)c->q_rows * (size_t)op->o_stride;
    op->o = hc_device(a.o_count * item);
    const size_t workspace = ldk_attention_workspace(op);
    op->workspace = workspace > 0 ? hc_device(workspace) : NULL;
    return a;
}

void attention_discard(struct attention_data *a, bool fused)
{
    free(a->q);
    if (!fused) {
        free(a->k);
        free(a->v);
    }
    hc_free_all();
}

/* ---- Reference ---------------------------------------------------------------------------------- */

static int32_t keys_of(const struct attention_case *c, int32_t b, int32_t i)
{
    const int32_t keys = c->kv_len[0] > 0 ? c->kv_len[b] : c->kv_rows;
    return c->causal && i + 1 < keys ? i + 1 : keys;
}

static void reference_row(const struct attention_data *a, int32_t keys, const float *q,
                          const float *k, const float *v, double *p, double *o)
{
    const struct ldk_attention *op = &a->op;
    double most = -(double)INFINITY, total = 0.0;
    for (int32_t j = 0; j < keys; j++) {
        p[j] = 0.0;
        for (int32_t d = 0; d < op->head_dim; d++)
            p[j] += (double)q[d] * (double)k[j * op->k_stride + d];
        p[j] *= (double)op->scale;
        most = p[j] > most ? p[j] : most;
    }
    for (int32_t j = 0; j < keys; j++)
        total += p[j] = exp(p[j] - most);
    for (int32_t d = 0; d < op->head_dim; d++) {
        o[d] = 0.0;
        for (int32_t j = 0; j < keys; j++)
            o[d] += p[j] / total * (double)v[j * op->v_stride + d];
    }
}

void attention_reference(const struct attention_case *c, const struct attention_data *a, double *o)
{
    const struct ldk_attention *op = &a->op;
    double *p = memory((size_t)c->kv_rows * sizeof *p);
    for (int32_t b = 0; b < c->batch; b++)
        for (int32_t i = 0; i < c->q_rows; i++)
            for (int32_t h = 0; h < c->heads; h++) {
                const int32_t at = h * c->head_dim;
                reference_row(a, keys_of(c, b, i), a->q + (b * c->q_rows + i) * op->q_stride + at,
                              a->k + b * c->kv_rows * op->k_stride + at,
                              a->v + b * c->kv_rows * op->v_stride + at, p,
                              o + ((b * c->q_rows + i) * c->heads + h) * c->head_dim);
            }
    free(p);
}

static double largest_value(const struct attention_case *c, const struct attention_data *a)
{
    double most = 0.0;
    for (int32_t r = 0; r < c->batch * c->kv_rows; r++)
        for (int32_t d = 0; d < c->heads * c->head_dim; d++)
            most = fmax(most, fabs((double)a->v[r * a->op.v_stride + d])); /* NaN is passed over */
    return most;
}

/* ---- Counters ----------------------------------------------------------------------------------- */

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static void expect_count(const char *what, uint64_t got, int64_t want)
{
    hc_expect((int64_t)got == want, "%lld %s, not %lld", (long long)got, what, (long long)want);
}

/* Products and copied bytes of one flash call: blocks of `rows`, groups of 16 keys. */
static void check_flash_counts(const struct attention_case *c, const struct ldk_host_counters *n)
{
    const int64_t d = c->head_dim;
    const int64_t high = d == 40 ? 192 : 256;
    const int64_t rows = c->variant == HIGH ? high : c->variant == TALL ? 128 : 64;
    const int64_t blocks_m = c->variant == NARROW || d == 160 ? 1 : 2;
    const int64_t warps = rows / 16 / blocks_m;
    const bool f16_scores = c->fp16_accumulate && c->dtype == LDK_F16 && !c->causal;
    int64_t scores = 0, values = 0, tail = 0, bytes = 0;
    for (int32_t b = 0; b < c->batch; b++)
        for (int64_t row = 0; row < c->q_rows; row += rows) {
            const int64_t keys = keys_of(c, b, (int32_t)(row + rows - 1));
            const int64_t groups = ceil_div(keys, 16) * warps * blocks_m * c->heads;
            scores += groups * 2 * (d / 16);
            values += groups * d / 8;
            tail += d % 16 != 0 ? groups * 2 : 0;
            bytes += keys * d * 2 * 2 * c->heads;
        }
    expect_count("mma", n->mma_16816, values + (f16_scores ? 0 : scores));
    expect_count("k8 mma", n->mma_1688, f16_scores ? 0 : tail);
    expect_count("mma of fp16 sums", n->mma_16816_h, f16_scores ? scores : 0);
    expect_count("k8 mma of fp16 sums", n->mma_1688_h, f16_scores ? tail : 0);
    expect_count("bytes copied", n->cp_async_bytes, bytes);
}

static void check_wide_counts(const struct attention_case *c, const struct ldk_host_counters *n)
{
    int64_t mma = 0;
    for (int32_t b = 0; b < c->batch; b++) {
        const int64_t keys = keys_of(c, b, 0);
        const int64_t scores = ceil_div(keys, 128) * ceil_div(c->q_rows, 128);
        const int64_t values = ceil_div(keys, 64) * ceil_div(c->q_rows, 128);
        /* scores: 8 warps, 16 mma a k16 step; values: 8 warps, 16 a step, 128 columns */
        mma += c->heads *
               (scores * 8 * c->head_dim / 16 * 16 + values * 8 * c->head_dim / 128 * 4 * 16);
    }
    hc_expect((int64_t)n->mma_16816 == mma, "%lld mma, not %lld", (long long)n->mma_16816,
              (long long)mma);
}

static void check_counts(const struct attention_case *c)
{
    struct ldk_host_counters n;
    if (!hc_counters(&n))
        return;
    hc_expect(n.ldmatrix_conflicts == 0, "%llu ldmatrix conflicts",
              (unsigned long long)n.ldmatrix_conflicts);
    if (c->variant == NARROW || c->variant == TALL || c->variant == HIGH)
        check_flash_counts(c, &n);
    if (c->variant == WIDE)
        check_wide_counts(c, &n);
}

/* ---- The cases ---------------------------------------------------------------------------------- */

static int run(void *context)
{
    return ldk_attention(context, NULL);
}

/* Rows without the gaps between them; false if a gap was written. */
static bool dense_rows(const struct attention_case *c, const struct attention_data *a, float *dense)
{
    const int32_t width = c->heads * c->head_dim;
    uint16_t *bits = memory(a->o_count * sizeof *bits);
    float *rows = memory(a->o_count * sizeof *rows);
    hc_download(bits, a->op.o, a->o_count * sizeof *bits);
    hc_values(rows, a->op.o, a->o_count, a->op.dtype);
    bool kept = true;
    for (int32_t r = 0; r < c->batch * c->q_rows; r++) {
        memcpy(dense + r * width, rows + r * a->op.o_stride, (size_t)width * sizeof *dense);
        for (int32_t d = width; d < a->op.o_stride; d++)
            kept = kept && bits[r * a->op.o_stride + d] == 0xFFFF;
    }
    free(rows);
    free(bits);
    return kept;
}

/* Image b alone gives the bits that it had among the others. */
static void check_alone(const struct attention_case *c, const struct attention_data *a)
{
    const size_t image = a->o_count / (size_t)c->batch * 2;
    unsigned char *together = memory(a->o_count * 2), *alone = memory(image);
    hc_download(together, a->op.o, a->o_count * 2);
    hc_seed(0);
    for (int32_t b = 0; c->batch > 1 && b < c->batch; b++) {
        struct ldk_attention op = a->op;
        op.batch = 1;
        op.q = (const unsigned char *)op.q + (size_t)(b * c->q_rows * op.q_stride) * 2;
        op.k = (const unsigned char *)op.k + (size_t)(b * c->kv_rows * op.k_stride) * 2;
        op.v = (const unsigned char *)op.v + (size_t)(b * c->kv_rows * op.v_stride) * 2;
        op.kv_len = op.kv_len != NULL ? op.kv_len + b : NULL;
        op.o = hc_device(image);
        if (!hc_expect(ldk_attention(&op, NULL) == LDK_OK, "image %d alone", (int)b))
            continue;
        hc_download(alone, op.o, image);
        /* Row by row: what lies between rows nobody writes. */
        const size_t row = (size_t)op.o_stride * 2;
        for (size_t i = 0; i < image / row; i++)
            hc_equal_bits("an image alone", alone + i * row, together + (size_t)b * image + i * row,
                          (size_t)(op.heads * op.head_dim) * 2);
    }
    free(together);
    free(alone);
}

/* Relative L2: kernels.md 15. fp16 scores (attention_scores.cuh) keep to the same limit, except
 * where scores grow far: theirs is then that of the other products with fp16 sums. */
static double limit_of(const struct attention_case *c)
{
    return c->dtype == LDK_BF16 ? 1e-2 : c->fp16_accumulate && c->ramp != 0 ? 4e-3 : 2e-3;
}

void attention_check(const struct attention_case *c, uint64_t seed)
{
    hc_case("attention: %s (d %d)", c->name, (int)c->head_dim);
    struct attention_data a = attention_make(c, seed);
    const size_t count = (size_t)(c->batch * c->q_rows * c->heads * c->head_dim);
    float *got = memory(count * sizeof *got);
    double *want = memory(count * sizeof *want), *limits = memory(count * sizeof *limits);
    if (hc_run(run, &a.op, a.op.o, a.o_count * 2)) {
        check_counts(c);
        hc_expect(dense_rows(c, &a, got), "something was written between the rows");
        attention_reference(c, &a, want);
        const double most = largest_value(c, &a);
        for (size_t i = 0; i < count; i++)
            limits[i] = 8e-3 * most;
        hc_close("o", got, want, count, limit_of(c));
        hc_within("o", got, want, limits, count);
        check_alone(c, &a);
    }
    free(got);
    free(want);
    free(limits);
    attention_discard(&a, c->fused);
}

void attention_check_heights(int32_t head_dim, bool fp16_accumulate)
{
    const struct attention_case c = {"heights", NARROW, LDK_F16,  1,   70,
                                     90,        1,      head_dim, {0}, false,
                                     false,     2,      0,        0,   fp16_accumulate};
    const int32_t highest = head_dim == 40 || head_dim == 80 ? HIGH : TALL;
    hc_case("all heights (d %d)", (int)head_dim);
    struct attention_data a = attention_make(&c, 71);
    struct ldk_variant variants[5];
    const int32_t count = ldk_attention_variants(&a.op, variants, 5);
    if (!hc_expect(count == highest + 1, "%d variants", (int)count))
        return;
    hc_expect(variants[0].signature != variants[NARROW].signature, "signatures");
    unsigned char *narrow = memory(a.o_count * 2), *other = memory(a.o_count * 2);
    hc_expect(ldk_attention(&a.op, NULL) == LDK_OK, "narrow");
    hc_download(narrow, a.op.o, a.o_count * 2);
    for (int32_t number = TALL; number <= highest; number++) {
        hc_expect(variants[number].number == number &&
                      variants[number].signature == variants[NARROW].signature &&
                      variants[number].tile_m > variants[number - 1].tile_m,
                  "variant %d", (int)number);
        LD_ASSERT(ldk_rt_memset(a.op.o, 0x5a, a.o_count * 2, NULL) == 0);
        a.op.variant = number;
        hc_expect(ldk_attention(&a.op, NULL) == LDK_OK, "%s runs", variants[number].name);
        hc_download(other, a.op.o, a.o_count * 2);
        hc_equal_bits(variants[number].name, narrow, other, a.o_count * 2);
    }
    free(narrow);
    free(other);
    attention_discard(&a, false);
}
