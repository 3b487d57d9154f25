/*
 * GroupNorm, LayerNorm and elementwise maps on vectors, compiled once a level.
 *
 * GroupNorm reads the map twice. First every slice of positions leaves, for each channel, the sum
 * and the squared sum of distances from the channel's first value: float32 over a few positions,
 * double beyond. Distances from a value of the channel keep a tiny variance beside a large mean.
 * Slices are cut from the number of positions alone and are folded in their order.
 */
#ifndef LD_KERNELS_CPU_NORM_SIMD_H
#define LD_KERNELS_CPU_NORM_SIMD_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd_math.h"

#include <math.h>

enum {
    NORM_RUN = 16,        /* positions summed in float32 */
    NORM_SLICES_MAX = 64, /* of one image */
    NORM_SLICE_MIN = 64,  /* positions */
    MAP_CHUNK = 1 << 14
};

struct norm_job {
    const struct ld_group_norm *op;
    int32_t channels, slices, slice_positions;
    int32_t first_image, images;
    double *moments; /* [image][slice][2][channels] */
    float *affine;   /* [image][LD_NORM_FOLD][channels]: mean, its rest, gain */
};

/* The source that holds channel c of position p, and its stride. */
static inline const float *norm_source(const struct ld_group_norm *op, size_t p, int32_t c,
                                       size_t *stride)
{
    if (c < op->c0) {
        *stride = (size_t)op->c0;
        return (const float *)op->x0 + p * *stride + c;
    }
    *stride = (size_t)op->c1;
    return (const float *)op->x1 + p * *stride + (c - op->c0);
}

/* Channels [c, c + n), n <= VF, over `positions` rows: adds to sum[n] and squares[n]. */
static inline void norm_moments(const float *x, size_t stride, const float *shift, int32_t n,
                                int32_t positions, double *sum, double *squares)
{
    vf base = vf_load_part(shift, n);
    vd low = vd_zero();
    vd high = vd_zero();
    vd low2 = vd_zero();
    vd high2 = vd_zero();
    for (int32_t p = 0; p < positions; p += NORM_RUN) {
        int32_t run = positions - p < NORM_RUN ? positions - p : NORM_RUN;
        vf s = vf_set(0.0f);
        vf q = vf_set(0.0f);
        for (int32_t i = 0; i < run; i++, x += stride) {
            vf d = vf_sub(n == VF ? vf_load(x) : vf_load_part(x, n), base);
            s = vf_add(s, d);
            q = vf_fma(d, d, q);
        }
        low = vd_add(low, vd_low(s));
        high = vd_add(high, vd_high(s));
        low2 = vd_add(low2, vd_low(q));
        high2 = vd_add(high2, vd_high(q));
    }
    double out[2][VF];
    vd_store(out[0], low);
    vd_store(out[0] + VF / 2, high);
    vd_store(out[1], low2);
    vd_store(out[1] + VF / 2, high2);
    for (int32_t i = 0; i < n; i++) {
        sum[i] = out[0][i];
        squares[i] = out[1][i];
    }
}

static void norm_moments_task(void *pointer, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct norm_job *job = pointer;
    const struct ld_group_norm *op = job->op;
    int32_t image = job->first_image + (int32_t)task / job->slices;
    int32_t slice = (int32_t)task % job->slices;
    int32_t first = slice * job->slice_positions;
    int32_t count = op->positions - first;
    count = count < job->slice_positions ? count : job->slice_positions;
    size_t base = (size_t)image * (size_t)op->positions;
    double *sum = job->moments + (size_t)task * 2 * (size_t)job->channels;
    double *squares = sum + job->channels;
    for (int32_t c = 0; c < job->channels;) {
        int32_t end = c < op->c0 ? op->c0 : job->channels;
        int32_t n = end - c < VF ? end - c : VF;
        size_t stride;
        const float *shift = norm_source(op, base, c, &stride);
        norm_moments(shift + (size_t)first * stride, stride, shift, n, count, sum + c, squares + c);
        c += n;
    }
}

/* Channel c of one image: mean, and sum of squared distances from it, over all positions. */
static void norm_channel(const struct norm_job *job, int32_t image, int32_t c, double *mean,
                         double *spread)
{
    const struct ld_group_norm *op = job->op;
    const double *m =
        job->moments + (size_t)image * (size_t)job->slices * 2 * (size_t)job->channels;
    double sum = 0.0;
    double squares = 0.0;
    for (int32_t s = 0; s < job->slices; s++, m += 2 * job->channels) {
        sum += m[c];
        squares += m[job->channels + c];
    }
    size_t base = (size_t)(job->first_image + image) * (size_t)op->positions;
    size_t stride;
    double shift = (double)*norm_source(op, base, c, &stride);
    double n = (double)op->positions;
    *mean = shift + sum / n;
    *spread = squares - sum * sum / n;
}

static void norm_fold_task(void *pointer, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct norm_job *job = pointer;
    const struct ld_group_norm *op = job->op;
    int32_t image = (int32_t)task / op->groups;
    int32_t width = job->channels / op->groups;
    int32_t first = (int32_t)task % op->groups * width;
    double mean = 0.0;
    double spread = 0.0;
    for (int32_t c = first; c < first + width; c++) {
        double m;
        double s;
        norm_channel(job, image, c, &m, &s);
        mean += m;
        spread += s;
    }
    mean /= (double)width;
    for (int32_t c = first; c < first + width; c++) {
        double m;
        double s;
        norm_channel(job, image, c, &m, &s);
        spread += (m - mean) * (m - mean) * (double)op->positions;
    }
    double variance = spread / ((double)width * (double)op->positions);
    /* Rounding can leave a hair below zero; a NaN must pass, so no fmax. */
    double rstd = 1.0 / sqrt((variance < 0.0 ? 0.0 : variance) + (double)op->epsilon);
    float *affine = job->affine + (size_t)image * LD_NORM_FOLD * (size_t)job->channels;
    for (int32_t c = first; c < first + width; c++) {
        float *at = affine + c;
        at[0] = (float)mean;
        at[job->channels] = (float)(mean - (double)at[0]);
        at[2 * job->channels] = (float)(rstd * (double)((const float *)op->gamma->data)[c]);
    }
}

/* ((x - mean) - rest) * gain + beta: the mean in two floats, so that nothing cancels. */
static inline vf norm_apply(vf x, const float *mean, const float *rest, const float *gain,
                            const float *beta, int32_t n)
{
    vf d = vf_sub(vf_sub(x, vf_load_part(mean, n)), vf_load_part(rest, n));
    return vf_fma(d, vf_load_part(gain, n), vf_load_part(beta, n));
}

static void norm_apply_task(void *pointer, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct norm_job *job = pointer;
    const struct ld_group_norm *op = job->op;
    int32_t image = (int32_t)task / job->slices;
    size_t first = (size_t)((int32_t)task % job->slices) * (size_t)job->slice_positions;
    size_t end = first + (size_t)job->slice_positions;
    end = end < (size_t)op->positions ? end : (size_t)op->positions;
    size_t base = (size_t)(job->first_image + image) * (size_t)op->positions;
    const float *affine = job->affine + (size_t)image * LD_NORM_FOLD * (size_t)job->channels;
    const float *beta = op->beta->data;
    float *y = (float *)op->y + (base + first) * (size_t)job->channels;
    for (size_t p = base + first; p < base + end; p++, y += job->channels) {
        for (int32_t c = 0; c < job->channels;) {
            int32_t source_end = c < op->c0 ? op->c0 : job->channels;
            int32_t n = source_end - c < VF ? source_end - c : VF;
            size_t stride;
            const float *x = norm_source(op, p, c, &stride);
            const float *mean = affine + c;
            vf v = norm_apply(vf_load_part(x, n), mean, mean + job->channels,
                              mean + 2 * job->channels, beta + c, n);
            vf_store_part(y + c, op->silu ? vf_gated(v, 1.0f) : v, n);
            c += n;
        }
    }
}

static void norm_groups(struct ld_cpu_backend *cpu, const struct ld_group_norm *op)
{
    struct norm_job job = {.op = op, .channels = op->c0 + op->c1};
    job.slice_positions = (op->positions + NORM_SLICES_MAX - 1) / NORM_SLICES_MAX;
    if (job.slice_positions < NORM_SLICE_MIN)
        job.slice_positions = NORM_SLICE_MIN;
    job.slices = (op->positions + job.slice_positions - 1) / job.slice_positions;
    size_t channels = (size_t)job.channels;
    size_t image_bytes =
        channels * ((size_t)job.slices * 2 * sizeof(double) + LD_NORM_FOLD * sizeof(float));
    int32_t most = (int32_t)(cpu->shared_bytes / image_bytes);
    LD_ASSERT(most > 0);
    for (; job.first_image < op->batch; job.first_image += most) {
        job.images = op->batch - job.first_image < most ? op->batch - job.first_image : most;
        job.moments = (double *)(void *)cpu->shared;
        job.affine =
            (float *)(job.moments + (size_t)job.images * (size_t)job.slices * 2 * channels);
        if (op->half != LD_NORM_BOTH)
            job.affine = op->fold + (size_t)job.first_image * LD_NORM_FOLD * channels;
        if (op->half != LD_NORM_APPLY) {
            ld_pool_run(cpu->pool, (uint32_t)(job.images * job.slices), norm_moments_task, &job);
            ld_pool_run(cpu->pool, (uint32_t)(job.images * op->groups), norm_fold_task, &job);
        }
        if (op->half != LD_NORM_MEASURE)
            ld_pool_run(cpu->pool, (uint32_t)(job.images * job.slices), norm_apply_task, &job);
    }
}

/* ---- LayerNorm ------------------------------------------------------------------------------- */

enum { LAYER_RUN = 16 }; /* rows of one task */

static inline void norm_row(const struct ld_layer_norm *op, const float *x, float *y)
{
    int32_t channels = op->channels;
    vd sum = vd_zero();
    for (int32_t c = 0; c < channels; c += VF) {
        vf v = vf_load_part(x + c, channels - c);
        sum = vd_add(sum, vd_add(vd_low(v), vd_high(v)));
    }
    double mean = vd_sum(sum) / (double)channels;
    vf high = vf_set((float)mean);
    vf rest = vf_set((float)(mean - (double)(float)mean));
    vd squares = vd_zero();
    for (int32_t c = 0; c < channels; c += VF) {
        vf d = vf_sub(vf_sub(vf_load_part(x + c, channels - c), high), rest);
        d = vf_keep(d, channels - c, vf_set(0.0f));
        squares = vd_fma(vd_low(d), vd_low(d), squares);
        squares = vd_fma(vd_high(d), vd_high(d), squares);
    }
    double variance = vd_sum(squares) / (double)channels;
    vf rstd = vf_set((float)(1.0 / sqrt(variance + (double)op->epsilon)));
    const float *gamma = op->gamma->data;
    const float *beta = op->beta->data;
    for (int32_t c = 0; c < channels; c += VF) {
        int32_t n = channels - c;
        vf d = vf_sub(vf_sub(vf_load_part(x + c, n), high), rest);
        vf v = vf_fma(vf_mul(d, rstd), vf_load_part(gamma + c, n), vf_load_part(beta + c, n));
        vf_store_part(y + c, v, n < VF ? n : VF);
    }
}

static void norm_rows_task(void *pointer, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct ld_layer_norm *op = pointer;
    int64_t first = (int64_t)task * LAYER_RUN;
    int64_t end = first + LAYER_RUN < op->rows ? first + LAYER_RUN : op->rows;
    for (int64_t m = first; m < end; m++)
        norm_row(op, (const float *)op->x + m * op->channels, (float *)op->y + m * op->channels);
}

static void norm_layers(struct ld_cpu_backend *cpu, const struct ld_layer_norm *op)
{
    struct ld_layer_norm local = *op;
    ld_pool_run(cpu->pool, ((uint32_t)op->rows + LAYER_RUN - 1) / LAYER_RUN, norm_rows_task,
                &local);
}

/* ---- Elementwise ----------------------------------------------------------------------------- */

static void map_values_task(void *pointer, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct ld_map *op = pointer;
    const float *x = (const float *)op->x + (size_t)task * MAP_CHUNK;
    float *y = (float *)op->y + (size_t)task * MAP_CHUNK;
    int64_t left = op->count - (int64_t)task * MAP_CHUNK;
    int32_t count = left < MAP_CHUNK ? (int32_t)left : MAP_CHUNK;
    for (int32_t i = 0; i < count; i += VF) {
        int32_t n = count - i < VF ? count - i : VF;
        vf_store_part(y + i, vf_activate(vf_load_part(x + i, n), op->activation), n);
    }
}

static void map_values(struct ld_cpu_backend *cpu, const struct ld_map *op)
{
    struct ld_map local = *op;
    ld_pool_run(cpu->pool, (uint32_t)((op->count + MAP_CHUNK - 1) / MAP_CHUNK), map_values_task,
                &local);
}

#endif
