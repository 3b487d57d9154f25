/*
 * Small operators that are plain C at every level: timestep features, token embedding, a map added
 * to another, and the turn between host planes [B, C, H, W] and activations [B, H, W, C].
 */
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>

enum ld_code ld_cpu_timestep(struct ld_backend *backend, const struct ld_timestep *op,
                             struct ld_error *err)
{
    (void)backend;
    if (op->t == NULL || op->y == NULL || op->batch < 1 || op->dim < 2 || op->dim % 2 != 0)
        return LD_FAIL(err, LD_E_SHAPE, "timestep features have an even width");
    int32_t half = op->dim / 2;
    const double log_period = 9.210340371976182736; /* ln(10000), the largest period */
    for (int32_t b = 0; b < op->batch; b++) {
        float *y = (float *)op->y + (size_t)b * (size_t)op->dim;
        for (int32_t i = 0; i < half; i++) {
            double angle = (double)op->t[b] * exp(-log_period * (double)i / (double)half);
            y[i] = (float)cos(angle);
            y[half + i] = (float)sin(angle);
        }
    }
    return LD_OK;
}

static void table_row(float *dst, const struct ld_weight *table, int32_t row)
{
    size_t k = (size_t)table->facts.k;
    const unsigned char *src = table->data;
    ld_dtype_to_f32(dst, src + (size_t)row * k * ld_dtype_size(table->dtype), table->dtype, k);
    for (size_t c = 0; table->row_scale != NULL && c < k; c++)
        dst[c] *= table->row_scale[row];
}

/* Add a table row to dst in pieces, so that no row of unknown width needs memory. */
static void add_table_row(float *dst, const struct ld_weight *table, int32_t row)
{
    float piece[64];
    size_t k = (size_t)table->facts.k;
    size_t item = ld_dtype_size(table->dtype);
    const unsigned char *src = (const unsigned char *)table->data + (size_t)row * k * item;
    float scale = table->row_scale != NULL ? table->row_scale[row] : 1.0f;
    for (size_t first = 0; first < k; first += 64) {
        size_t count = k - first < 64 ? k - first : 64;
        ld_dtype_to_f32(piece, src + first * item, table->dtype, count);
        for (size_t c = 0; c < count; c++)
            dst[first + c] += piece[c] * scale;
    }
}

enum ld_code ld_cpu_embed(struct ld_backend *backend, const struct ld_embed *op,
                          struct ld_error *err)
{
    (void)backend;
    enum ld_code code = ld_check_embed(op, err);
    if (code != LD_OK)
        return code;
    size_t channels = (size_t)op->channels;
    for (int32_t m = 0; m < op->rows; m++) {
        float *y = (float *)op->y + (size_t)m * channels;
        const float *override = op->override != NULL ? op->override[m] : NULL;
        if (override != NULL)
            memcpy(y, override, channels * sizeof *y);
        else
            table_row(y, op->table, op->ids[m]);
        add_table_row(y, op->positions, m % op->tokens);
    }
    return LD_OK;
}

/* ---- A map times a number on another --------------------------------------------------------- */

enum { ADD_CHUNK = 1 << 14 };

struct add_ctx {
    const struct ld_add_scaled *op;
    uint32_t chunks; /* of an image */
};

static void add_task(void *pointer, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct add_ctx *ctx = pointer;
    const struct ld_add_scaled *op = ctx->op;
    const size_t count = (size_t)op->count;
    const uint32_t b = task / ctx->chunks;
    const size_t from = (size_t)(task % ctx->chunks) * ADD_CHUNK;
    const size_t first = b * count + from;
    const size_t n = count - from < ADD_CHUNK ? count - from : ADD_CHUNK;
    const float *x = (const float *)op->x + first;
    const float *z = (const float *)op->z + first;
    float *y = (float *)op->y + first;
    const float scale = op->scale[b];
    if (scale == 0.0f) {
        memmove(y, x, n * sizeof *y);
        return;
    }
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] + scale * z[i]; /* nowhere contracted: -ffp-contract=off */
}

enum ld_code ld_cpu_add_scaled(struct ld_backend *backend, const struct ld_add_scaled *op,
                               struct ld_error *err)
{
    const enum ld_code code = ld_check_add_scaled(op, err);
    if (code != LD_OK)
        return code;
    struct add_ctx ctx = {.op = op, .chunks = (uint32_t)((op->count + ADD_CHUNK - 1) / ADD_CHUNK)};
    ld_pool_run(ld_cpu_of(backend)->pool, (uint32_t)op->batch * ctx.chunks, add_task, &ctx);
    return LD_OK;
}

/* ---- Planes ---------------------------------------------------------------------------------- */

enum ld_code ld_cpu_planes_in(struct ld_backend *backend, const struct ld_planes_in *op,
                              struct ld_error *err)
{
    (void)backend;
    enum ld_code code = ld_check_planes_in(op, err);
    if (code != LD_OK)
        return code;
    size_t positions = (size_t)op->height * (size_t)op->width;
    size_t channels = (size_t)op->channels;
    for (size_t b = 0; b < (size_t)op->batch; b++) {
        float scale = op->scale != NULL ? op->scale[b] : 1.0f;
        const float *src = op->planes + b * channels * positions;
        float *dst = (float *)op->y + b * channels * positions;
        for (size_t p = 0; p < positions; p++)
            for (size_t c = 0; c < channels; c++)
                dst[p * channels + c] = src[c * positions + p] * scale;
    }
    return LD_OK;
}

enum ld_code ld_cpu_planes_out(struct ld_backend *backend, const struct ld_planes_out *op,
                               struct ld_error *err)
{
    (void)backend;
    enum ld_code code = ld_check_planes_out(op, err);
    if (code != LD_OK)
        return code;
    size_t positions = (size_t)op->height * (size_t)op->width;
    size_t channels = (size_t)op->channels;
    for (size_t b = 0; b < (size_t)op->batch; b++) {
        const float *src = (const float *)op->x + b * channels * positions;
        float *dst = op->planes + b * channels * positions;
        for (size_t p = 0; p < positions; p++)
            for (size_t c = 0; c < channels; c++)
                dst[c * positions + p] = src[p * channels + c];
    }
    return LD_OK;
}
