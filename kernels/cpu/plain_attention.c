/*
 * The oracle's attention: for each query two walks over the keys, the first finds the largest
 * score, the second sums weights and values in double. Scores are computed twice so that no row of
 * scores needs memory.
 */
#include "kernels/cpu/cpu.h"

#include <math.h>

enum { HEAD_DIM_MAX = 1024 };

struct attention_row {
    const float *q, *k, *v;
    size_t k_stride, v_stride;
    int32_t keys;
    int32_t head_dim;
    double scale;
};

static double score(const struct attention_row *row, int32_t j)
{
    const float *k = row->k + (size_t)j * row->k_stride;
    double sum = 0.0;
    for (int32_t d = 0; d < row->head_dim; d++)
        sum += (double)row->q[d] * (double)k[d];
    return sum * row->scale;
}

static void attend(const struct attention_row *row, float *o)
{
    double largest = -(double)INFINITY;
    for (int32_t j = 0; j < row->keys; j++) {
        double s = score(row, j);
        if (s > largest || isnan(s))
            largest = s;
    }
    double values[HEAD_DIM_MAX] = {0.0};
    double total = 0.0;
    for (int32_t j = 0; j < row->keys; j++) {
        double p = exp(score(row, j) - largest);
        const float *v = row->v + (size_t)j * row->v_stride;
        total += p;
        for (int32_t d = 0; d < row->head_dim; d++)
            values[d] += p * (double)v[d];
    }
    for (int32_t d = 0; d < row->head_dim; d++)
        o[d] = (float)(values[d] / total);
}

static void attention_task(void *pointer, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct ld_attention *op = pointer;
    size_t b = task / (uint32_t)op->q_rows;
    int32_t i = (int32_t)(task % (uint32_t)op->q_rows);
    int32_t keys = op->kv_len != NULL ? op->kv_len[b] : op->kv_rows;
    if (op->causal && i + 1 < keys)
        keys = i + 1;
    size_t first_key = b * (size_t)op->kv_rows;
    for (int32_t h = 0; h < op->heads; h++) {
        size_t at = (size_t)h * (size_t)op->head_dim;
        struct attention_row row = {
            .q = (const float *)op->q + task * (size_t)op->q_stride + at,
            .k = (const float *)op->k + first_key * (size_t)op->k_stride + at,
            .v = (const float *)op->v + first_key * (size_t)op->v_stride + at,
            .k_stride = (size_t)op->k_stride,
            .v_stride = (size_t)op->v_stride,
            .keys = keys,
            .head_dim = op->head_dim,
            .scale = (double)op->scale,
        };
        attend(&row, (float *)op->o + task * (size_t)op->o_stride + at);
    }
}

void ld_plain_attention(struct ld_cpu_backend *cpu, const struct ld_attention *op)
{
    struct ld_attention local = *op;
    ld_pool_run(cpu->pool, (uint32_t)op->batch * (uint32_t)op->q_rows, attention_task, &local);
}

const struct ld_cpu_level_ops ld_cpu_plain_ops = {
    .name = "plain C",
    .weight_pack = ld_plain_weight_pack,
    .conv2d = ld_plain_conv2d,
    .linear = ld_plain_linear,
    .group_norm = ld_plain_group_norm,
    .layer_norm = ld_plain_layer_norm,
    .attention = ld_plain_attention,
    .map = ld_plain_map,
    .rows = &ld_plain_rows,
};
