/*
 * The oracle's normalisations: two passes in double (mean, then squared distances), so that a tiny
 * variance beside a large mean survives.
 */
#include "kernels/cpu/cpu.h"

#include <math.h>

struct group_ctx {
    const struct ld_group_norm *op;
    int32_t channels;
    int32_t per_group;
};

/* Value of channel c at position p of image b in the concatenation of both sources. */
static double group_value(const struct ld_group_norm *op, size_t p, int32_t c)
{
    if (c < op->c0)
        return (double)((const float *)op->x0)[p * (size_t)op->c0 + (size_t)c];
    return (double)((const float *)op->x1)[p * (size_t)op->c1 + (size_t)(c - op->c0)];
}

/* A double as the sum of two floats: what a fold holds, so that halves and whole agree. */
static void as_two_floats(double value, float out[2])
{
    out[0] = (float)value;
    out[1] = (float)(value - (double)out[0]);
}

/* Mean and reciprocal deviation of one group, as two floats each. */
static void measure(const struct group_ctx *ctx, size_t first, int32_t c_first, float out[4])
{
    const struct ld_group_norm *op = ctx->op;
    const int32_t c_end = c_first + ctx->per_group;
    double count = (double)op->positions * (double)ctx->per_group;
    double sum = 0.0;
    for (size_t p = first; p < first + (size_t)op->positions; p++)
        for (int32_t c = c_first; c < c_end; c++)
            sum += group_value(op, p, c);
    double mean = sum / count;
    double squares = 0.0;
    for (size_t p = first; p < first + (size_t)op->positions; p++) {
        for (int32_t c = c_first; c < c_end; c++) {
            double d = group_value(op, p, c) - mean;
            squares += d * d;
        }
    }
    as_two_floats(mean, out);
    as_two_floats(1.0 / sqrt(squares / count + (double)op->epsilon), out + 2);
}

static void group_task(void *pointer, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct group_ctx *ctx = pointer;
    const struct ld_group_norm *op = ctx->op;
    size_t first = (size_t)(task / (uint32_t)op->groups) * (size_t)op->positions;
    int32_t c_first = (int32_t)(task % (uint32_t)op->groups) * ctx->per_group;
    int32_t c_end = c_first + ctx->per_group;
    float local[LD_NORM_FOLD];
    const size_t group = (size_t)(task / (uint32_t)op->groups) * (size_t)ctx->channels;
    float *fold =
        op->half == LD_NORM_BOTH ? local : op->fold + (group + (size_t)c_first) * LD_NORM_FOLD;
    if (op->half != LD_NORM_APPLY)
        measure(ctx, first, c_first, fold);
    if (op->half == LD_NORM_MEASURE)
        return;
    const double mean = (double)fold[0] + (double)fold[1];
    const double rstd = (double)fold[2] + (double)fold[3];
    const float *gamma = op->gamma->data;
    const float *beta = op->beta->data;
    float *y = op->y;
    for (size_t p = first; p < first + (size_t)op->positions; p++) {
        for (int32_t c = c_first; c < c_end; c++) {
            double v = (group_value(op, p, c) - mean) * rstd * (double)gamma[c] + (double)beta[c];
            if (op->silu)
                v = v / (1.0 + exp(-v));
            y[p * (size_t)ctx->channels + (size_t)c] = (float)v;
        }
    }
}

void ld_plain_group_norm(struct ld_cpu_backend *cpu, const struct ld_group_norm *op)
{
    struct group_ctx ctx = {.op = op, .channels = op->c0 + op->c1};
    ctx.per_group = ctx.channels / op->groups;
    ld_pool_run(cpu->pool, (uint32_t)op->batch * (uint32_t)op->groups, group_task, &ctx);
}

static void layer_task(void *pointer, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct ld_layer_norm *op = pointer;
    size_t channels = (size_t)op->channels;
    const float *x = (const float *)op->x + task * channels;
    float *y = (float *)op->y + task * channels;
    double sum = 0.0;
    for (size_t c = 0; c < channels; c++)
        sum += (double)x[c];
    double mean = sum / (double)channels;
    double squares = 0.0;
    for (size_t c = 0; c < channels; c++)
        squares += ((double)x[c] - mean) * ((double)x[c] - mean);
    double rstd = 1.0 / sqrt(squares / (double)channels + (double)op->epsilon);
    const float *gamma = op->gamma->data;
    const float *beta = op->beta->data;
    for (size_t c = 0; c < channels; c++)
        y[c] = (float)(((double)x[c] - mean) * rstd * (double)gamma[c] + (double)beta[c]);
}

void ld_plain_layer_norm(struct ld_cpu_backend *cpu, const struct ld_layer_norm *op)
{
    struct ld_layer_norm local = *op;
    ld_pool_run(cpu->pool, (uint32_t)op->rows, layer_task, &local);
}
