/* Attention with its gradient for training on a CPU: softmax(scale q k^T) v, one head at a time,
 * the scores of one block of query rows in the cache and never in memory (the gradient computes
 * them again). Tensors are bfloat16, batch x rows x (heads x depth), contiguous, computed with in
 * fp32; depth is a multiple of 16, at most 64.
 *
 * attention.py builds this file with the machine's own instruction set and falls back to PyTorch
 * where that fails; nothing of latentd itself uses it.
 */

#include "vector.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 32, DEPTH_MAX = 64 };

/* out[rows][n] = a[rows][d] times bt[d][n]; rows a multiple of 4, n of 16. */
static void product_nt(const float *a, const float *bt, float *out, int rows, int n, int d)
{
    for (int j = 0; j < n; j += 4 * LANES) {
        const int wide = n - j < 4 * LANES ? (n - j) / LANES : 4;
        for (int i = 0; i < rows; i += 4) {
            vec acc[4][4] = {{{0}}};
            if (wide == 4) {
                for (int k = 0; k < d; k++) {
                    const float *b = bt + (size_t)k * n + j;
                    const vec b0 = load(b), b1 = load(b + 16), b2 = load(b + 32), b3 = load(b + 48);
#pragma GCC unroll 4
                    for (int r = 0; r < 4; r++) {
                        const vec x = splat(a[(i + r) * d + k]);
                        acc[r][0] += x * b0;
                        acc[r][1] += x * b1;
                        acc[r][2] += x * b2;
                        acc[r][3] += x * b3;
                    }
                }
            } else {
                for (int k = 0; k < d; k++)
                    for (int r = 0; r < 4; r++)
                        for (int w = 0; w < wide; w++)
                            acc[r][w] += splat(a[(i + r) * d + k]) *
                                         load(bt + (size_t)k * n + j + w * LANES);
            }
            for (int r = 0; r < 4; r++)
                for (int w = 0; w < wide; w++)
                    *(vec *)(out + (size_t)(i + r) * n + j + w * LANES) = acc[r][w];
        }
    }
}

/* out[rows][d] = p[rows][n] times b[n][d], 16 columns of d and 8 rows at a time. */
static void product_nn(const float *p, const float *b, float *out, int rows, int n, int d)
{
    for (int i = 0; i < rows; i += 8) {
        for (int c = 0; c < d; c += 2 * LANES) {
            vec acc[8][2] = {{{0}}};
            const int two = d - c > LANES;
            for (int j = 0; j < n; j++) {
                const vec b0 = load(b + (size_t)j * d + c);
                const vec b1 = two ? load(b + (size_t)j * d + c + LANES) : b0;
#pragma GCC unroll 8
                for (int r = 0; r < 8; r++) {
                    const vec x = splat(p[(size_t)(i + r) * n + j]);
                    acc[r][0] += x * b0;
                    acc[r][1] += x * b1;
                }
            }
            for (int r = 0; r < 8; r++) {
                *(vec *)(out + (size_t)(i + r) * d + c) = acc[r][0];
                if (two)
                    *(vec *)(out + (size_t)(i + r) * d + c + LANES) = acc[r][1];
            }
        }
    }
}

/* out[n][d] += p[rows][n]^T times g[rows][d]. */
static void product_tn(const float *p, const float *g, float *out, int rows, int n, int d)
{
    for (int j = 0; j < n; j += 8) {
        for (int c = 0; c < d; c += 2 * LANES) {
            vec acc[8][2];
            const int two = d - c > LANES;
            for (int r = 0; r < 8; r++) {
                acc[r][0] = load(out + (size_t)(j + r) * d + c);
                acc[r][1] = two ? load(out + (size_t)(j + r) * d + c + LANES) : acc[r][0];
            }
            for (int i = 0; i < rows; i++) {
                const vec g0 = load(g + (size_t)i * d + c);
                const vec g1 = two ? load(g + (size_t)i * d + c + LANES) : g0;
#pragma GCC unroll 8
                for (int r = 0; r < 8; r++) {
                    const vec x = splat(p[(size_t)i * n + j + r]);
                    acc[r][0] += x * g0;
                    acc[r][1] += x * g1;
                }
            }
            for (int r = 0; r < 8; r++) {
                *(vec *)(out + (size_t)(j + r) * d + c) = acc[r][0];
                if (two)
                    *(vec *)(out + (size_t)(j + r) * d + c + LANES) = acc[r][1];
            }
        }
    }
}

/* Work space of one head: keys padded to a multiple of 16, plain and transposed. */
struct head {
    int n, padded, d;
    float *kt, *vt, *k, *v, *dk, *dv, *s, *g, *q, *o;
};

static float *take(float **next, size_t count)
{
    float *block = *next;
    *next += count;
    return block;
}

static int head_init(struct head *head, int n, int d)
{
    const int padded = (n + LANES - 1) / LANES * LANES;
    const size_t keys = (size_t)padded * d;
    const size_t total = 6 * keys + 2 * (size_t)BLOCK * padded + 2 * (size_t)BLOCK * d;
    float *next = aligned_alloc(64, (total * sizeof(float) + 63) / 64 * 64);
    if (!next)
        return 0;
    memset(next, 0, total * sizeof(float));
    head->n = n;
    head->padded = padded;
    head->d = d;
    head->kt = take(&next, keys);
    head->vt = take(&next, keys);
    head->k = take(&next, keys);
    head->v = take(&next, keys);
    head->dk = take(&next, keys);
    head->dv = take(&next, keys);
    head->s = take(&next, (size_t)BLOCK * padded);
    head->g = take(&next, (size_t)BLOCK * padded);
    head->q = take(&next, (size_t)BLOCK * d);
    head->o = take(&next, (size_t)BLOCK * d);
    return 1;
}

/* `rows` rows of one head as floats; `stride` lies between rows in memory. */
static void rows_load(float *to, const unsigned short *from, int rows, int stride, int d)
{
    for (int i = 0; i < rows; i++)
        for (int c = 0; c < d; c += LANES)
            *(vec *)(to + (size_t)i * d + c) = load_half(from + (size_t)i * stride + c);
}

static void rows_store(unsigned short *to, const float *from, int rows, int stride, int d)
{
    for (int i = 0; i < rows; i++)
        for (int c = 0; c < d; c += LANES)
            store_half(to + (size_t)i * stride + c, load(from + (size_t)i * d + c));
}

static void head_load(struct head *head, const unsigned short *k, const unsigned short *v,
                      int stride)
{
    rows_load(head->k, k, head->n, stride, head->d);
    rows_load(head->v, v, head->n, stride, head->d);
    for (int j = 0; j < head->n; j++)
        for (int c = 0; c < head->d; c++) {
            head->kt[(size_t)c * head->padded + j] = head->k[(size_t)j * head->d + c];
            head->vt[(size_t)c * head->padded + j] = head->v[(size_t)j * head->d + c];
        }
}

/* Copy up to BLOCK rows, zeros beyond. */
static void block_load(float *to, const unsigned short *from, int rows, int stride, int d)
{
    if (rows < BLOCK)
        memset(to, 0, (size_t)BLOCK * d * sizeof *to);
    rows_load(to, from, rows, stride, d);
}

/* Scores of a row into probabilities; returns log of the sum of exponentials. */
static float softmax_row(float *s, int n, int padded, float scale)
{
    vec top = splat(-INFINITY);
    for (int j = n; j < padded; j++)
        s[j] = -INFINITY;
    for (int j = 0; j < padded; j += LANES) {
        const vec x = load(s + j) * scale;
        *(vec *)(s + j) = x;
        const ivec more = x > top;
        top = (vec)(((ivec)x & more) | ((ivec)top & ~more));
    }
    float most = top[0];
    for (int i = 1; i < LANES; i++)
        most = top[i] > most ? top[i] : most;
    vec total = {0};
    for (int j = 0; j < padded; j += LANES) {
        const vec e = exp_neg(load(s + j) - most);
        *(vec *)(s + j) = e;
        total += e;
    }
    for (int j = n; j < padded; j++)
        s[j] = 0;
    const float sum = sum_lanes(total);
    for (int j = 0; j < padded; j += LANES)
        *(vec *)(s + j) = load(s + j) * (1 / sum);
    return most + logf(sum);
}

/* q, out: batch x m x c; k, v: batch x n x c; lse: batch x heads x m, fp32. 0: it cannot. */
int attention_forward(const unsigned short *q, const unsigned short *k, const unsigned short *v,
                      unsigned short *out, float *lse, int batch, int heads, int m, int n, int d)
{
    const float scale = 1 / sqrtf((float)d);
    const int stride = heads * d;
    int good = d % LANES == 0 && d <= DEPTH_MAX;
#pragma omp parallel
    {
        struct head head;
        const int mine = head_init(&head, n, d);
#pragma omp for schedule(dynamic)
        for (int h = 0; h < batch * heads; h++) {
            const size_t column = (size_t)(h % heads) * d;
            const size_t keys = (size_t)(h / heads) * n * stride + column;
            if (!mine) {
                good = 0;
                continue;
            }
            head_load(&head, k + keys, v + keys, stride);
            for (int i = 0; i < m; i += BLOCK) {
                const int rows = m - i < BLOCK ? m - i : BLOCK;
                const size_t at = ((size_t)(h / heads) * m + i) * stride + column;
                block_load(head.q, q + at, rows, stride, d);
                product_nt(head.q, head.kt, head.s, BLOCK, head.padded, d);
                for (int r = 0; r < rows; r++)
                    lse[(size_t)h * m + i + r] =
                        softmax_row(head.s + (size_t)r * head.padded, n, head.padded, scale);
                product_nn(head.s, head.v, head.o, BLOCK, head.padded, d);
                rows_store(out + at, head.o, rows, stride, d);
            }
        }
        if (mine)
            free(head.kt);
    }
    return good;
}

/* s: probabilities from scores; g: gradient of the scores from that of the probabilities. */
static void scores_back(struct head *head, int r, float lse, float delta, float scale)
{
    float *s = head->s + (size_t)r * head->padded;
    float *g = head->g + (size_t)r * head->padded;
    for (int j = 0; j < head->padded; j += LANES) {
        const vec p = exp_neg(load(s + j) * scale - lse);
        *(vec *)(s + j) = p;
        *(vec *)(g + j) = p * (load(g + j) - delta) * scale;
    }
    for (int j = head->n; j < head->padded; j++)
        s[j] = g[j] = 0;
}

/* As above; grad is the gradient of out, dq, dk, dv those of q, k, v. */
int attention_backward(const unsigned short *q, const unsigned short *k, const unsigned short *v,
                       const unsigned short *out, const float *lse, const unsigned short *grad,
                       unsigned short *dq, unsigned short *dk, unsigned short *dv, int batch,
                       int heads, int m, int n, int d)
{
    const float scale = 1 / sqrtf((float)d);
    const int stride = heads * d;
    int good = d % LANES == 0 && d <= DEPTH_MAX;
#pragma omp parallel
    {
        struct head head;
        const int mine = head_init(&head, n, d);
#pragma omp for schedule(dynamic)
        for (int h = 0; h < batch * heads; h++) {
            const size_t column = (size_t)(h % heads) * d;
            const size_t keys = (size_t)(h / heads) * n * stride + column;
            if (!mine) {
                good = 0;
                continue;
            }
            head_load(&head, k + keys, v + keys, stride);
            memset(head.dk, 0, (size_t)head.padded * d * sizeof(float));
            memset(head.dv, 0, (size_t)head.padded * d * sizeof(float));
            for (int i = 0; i < m; i += BLOCK) {
                const int rows = m - i < BLOCK ? m - i : BLOCK;
                const size_t at = ((size_t)(h / heads) * m + i) * stride + column;
                float deltas[BLOCK] = {0};
                block_load(head.q, out + at, rows, stride, d);
                block_load(head.o, grad + at, rows, stride, d);
                for (int r = 0; r < rows; r++) {
                    vec sum = {0};
                    for (int c = 0; c < d; c += LANES)
                        sum += load(head.o + r * d + c) * load(head.q + r * d + c);
                    deltas[r] = sum_lanes(sum);
                }
                block_load(head.q, q + at, rows, stride, d);
                product_nt(head.q, head.kt, head.s, BLOCK, head.padded, d);
                product_nt(head.o, head.vt, head.g, BLOCK, head.padded, d);
                for (int r = 0; r < rows; r++)
                    scores_back(&head, r, lse[(size_t)h * m + i + r], deltas[r], scale);
                if (rows < BLOCK) {
                    const size_t used = (size_t)rows * head.padded;
                    const size_t rest = (size_t)BLOCK * head.padded - used;
                    memset(head.s + used, 0, rest * sizeof(float));
                    memset(head.g + used, 0, rest * sizeof(float));
                }
                product_tn(head.s, head.o, head.dv, BLOCK, head.padded, d);
                product_tn(head.g, head.q, head.dk, BLOCK, head.padded, d);
                product_nn(head.g, head.k, head.o, BLOCK, head.padded, d);
                rows_store(dq + at, head.o, rows, stride, d);
            }
            rows_store(dk + keys, head.dk, n, stride, d);
            rows_store(dv + keys, head.dv, n, stride, d);
        }
        if (mine)
            free(head.kt);
    }
    return good;
}
