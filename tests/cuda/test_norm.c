/*
 * Proves GroupNorm (with and without SiLU, one and two sources, own moments and a producer's uneven
 * tiles) and LayerNorm against float64 from the rounded inputs: relative error, and each element
 * within two units of its last place. Also a small spread beside a large mean, the output in place
 * of the input, and an image's bits alone and in a batch.
 */
#include "kernels/cuda/rt.h"
#include "tests/cuda/hostcuda.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *memory(size_t bytes)
{
    void *block = calloc(1, bytes > 0 ? bytes : 1);
    if (!block) {
        fprintf(stderr, "no memory\n");
        exit(2);
    }
    return block;
}

static double limit_of(enum ldk_dtype dtype)
{
    return dtype == LDK_F16 ? 1e-3 : 6e-3;
}

/* Two units of the last place of what is left, however much has cancelled (kernels.md 15). */
static double element_limit(double want, enum ldk_dtype dtype)
{
    return 2.0 * hc_ulp(want, dtype);
}

/* ---- GroupNorm ---------------------------------------------------------------------------------- */

struct group_case {
    const char *name;
    int32_t dtype, batch, positions, c0, c1, groups;
    bool silu, producer, in_place;
    float mean, deviation, epsilon;
};

static const struct group_case group_cases[] = {
    {"one source", LDK_F16, 2, 70, 320, 0, 32, true, false, false, 0.5f, 2, 1e-5f},
    {"groups across the sources", LDK_F16, 1, 65, 64, 32, 32, true, false, false, 0, 1, 1e-5f},
    {"groups of 30", LDK_BF16, 2, 40, 640, 320, 32, true, true, false, 1, 1, 1e-5f},
    {"transformer", LDK_F16, 1, 33, 320, 0, 32, false, true, false, -1, 1, 1e-6f},
    {"small spread, large mean", LDK_F16, 1, 200, 64, 0, 4, false, false, false, 40, 0.25f, 1e-6f},
    {"the same from a producer", LDK_F16, 1, 200, 64, 0, 4, false, true, false, 40, 0.25f, 1e-6f},
    {"in place", LDK_BF16, 3, 17, 64, 0, 8, true, false, true, 0, 1, 1e-5f},
    {"odd channels", LDK_F16, 2, 19, 20, 10, 5, true, false, false, 0, 1, 1e-5f},
    {"odd channels, producer", LDK_F16, 1, 90, 9, 3, 3, false, true, false, 2, 1, 1e-5f},
    {"one position", LDK_F16, 1, 1, 64, 0, 32, false, false, false, 0, 1, 1e-5f},
    {"more channels than threads", LDK_F16, 1, 9, 1280, 1280, 32, true, false, false, 0, 1, 1e-5f},
    {"all equal", LDK_F16, 1, 50, 32, 0, 32, true, false, false, 3, 0, 1e-5f},
};

struct group_data {
    struct ldk_group_norm op;
    float *x[2], *gamma, *beta; /* the values on the device */
    void *pristine;             /* of x0, for calls in place */
    size_t bytes;               /* of y */
};

/* Moments as a producer leaves them: tiles of uneven length, shifted by their first row. */
static void *produce_moments(const float *x, const struct group_case *c, int32_t channels,
                             int32_t *tiles)
{
    static const int32_t lengths[] = {1, 37, 16, 64, 5};
    const size_t most = (size_t)c->batch * (size_t)(c->positions + 1) * (size_t)channels * 4;
    float *moments = memory(most * sizeof *moments), *next = moments;
    for (int32_t b = 0; b < c->batch; b++) {
        *tiles = 0;
        for (int32_t row = 0, end; row < c->positions; row = end, (*tiles)++) {
            end = row + lengths[*tiles % 5];
            end = end < c->positions ? end : c->positions;
            for (int32_t k = 0; k < channels; k++, next += 4) {
                const float *column = x + b * c->positions * channels + k;
                next[0] = column[row * channels];
                for (int32_t r = row; r < end; r++) {
                    const float d = column[r * channels] - next[0];
                    next[1] += d;
                    next[2] += d * d;
                }
                next[3] = (float)(end - row);
            }
        }
    }
    void *device = hc_upload(moments, (size_t)(next - moments) * sizeof *moments);
    free(moments);
    return device;
}

static struct group_data make_group(const struct group_case *c, uint64_t seed)
{
    struct group_data g = {0};
    struct ldk_group_norm *op = &g.op;
    const int32_t channels = c->c0 + c->c1;
    const size_t rows = (size_t)c->batch * (size_t)c->positions;
    *op = (struct ldk_group_norm){.c0 = c->c0,
                                  .c1 = c->c1,
                                  .batch = c->batch,
                                  .positions = c->positions,
                                  .groups = c->groups,
                                  .epsilon = c->epsilon,
                                  .silu = c->silu,
                                  .dtype = (enum ldk_dtype)c->dtype};
    for (int s = 0; s < 2; s++) {
        const int32_t width = s == 0 ? c->c0 : c->c1;
        const size_t count = rows * (size_t)width;
        g.x[s] = memory(count * sizeof(float));
        hc_normal(g.x[s], count, c->deviation, seed + (uint64_t)s);
        for (size_t i = 0; i < count; i++)
            g.x[s][i] += c->mean;
        if (width == 0)
            continue;
        const void *device = hc_tensor(g.x[s], count, op->dtype);
        int32_t tiles = 0;
        const float *moments = c->producer ? produce_moments(g.x[s], c, width, &tiles) : NULL;
        *(s == 0 ? &op->x0 : &op->x1) = device;
        *(s == 0 ? &op->moments0 : &op->moments1) = moments;
        *(s == 0 ? &op->tiles0 : &op->tiles1) = tiles;
    }
    g.gamma = memory((size_t)channels * sizeof(float));
    g.beta = memory((size_t)channels * sizeof(float));
    hc_normal(g.gamma, (size_t)channels, 1.0f, seed + 2);
    hc_normal(g.beta, (size_t)channels, 0.5f, seed + 3);
    op->gamma = hc_tensor(g.gamma, (size_t)channels, LDK_F32);
    op->beta = hc_tensor(g.beta, (size_t)channels, LDK_F32);
    g.bytes = rows * (size_t)channels * 2;
    op->y = hc_device(g.bytes);
    op->workspace = hc_device(ldk_group_norm_workspace(op));
    if (c->in_place) {
        g.pristine = memory(g.bytes);
        hc_download(g.pristine, op->x0, g.bytes);
        op->x0 = op->y;
    }
    return g;
}

static double group_value(const struct group_case *c, const struct group_data *g, int32_t row,
                          int32_t k)
{
    return (double)(k < c->c0 ? g->x[0][row * c->c0 + k] : g->x[1][row * c->c1 + k - c->c0]);
}

static void group_reference(const struct group_case *c, const struct group_data *g, int32_t b,
                            int32_t group, double *want, double *limits)
{
    const int32_t channels = c->c0 + c->c1, width = channels / c->groups;
    const int32_t first = group * width, top = b * c->positions, end = top + c->positions;
    const double count = (double)c->positions * (double)width;
    double mean = 0.0, squares = 0.0;
    for (int32_t row = top; row < end; row++)
        for (int32_t k = first; k < first + width; k++)
            mean += group_value(c, g, row, k) / count;
    for (int32_t row = top; row < end; row++)
        for (int32_t k = first; k < first + width; k++)
            squares += pow(group_value(c, g, row, k) - mean, 2.0);
    const double rstd = 1.0 / sqrt(squares / count + (double)c->epsilon);
    for (int32_t row = top; row < end; row++)
        for (int32_t k = first; k < first + width; k++) {
            const double scale = rstd * (double)g->gamma[k], x = group_value(c, g, row, k);
            double v = (x - mean) * scale + (double)g->beta[k];
            if (c->silu)
                v /= 1.0 + exp(-v);
            want[row * channels + k] = v;
            limits[row * channels + k] = element_limit(v, g->op.dtype);
        }
}

/* In place the output holds the input first. */
static int run_group(void *context)
{
    const struct group_data *g = context;
    const int code =
        g->pristine != NULL ? ldk_rt_upload(g->op.y, g->pristine, g->bytes, NULL) : LDK_OK;
    return code != LDK_OK ? code : ldk_group_norm(&g->op, NULL);
}

static void group_alone(const struct group_case *c, const struct group_data *g)
{
    const size_t image = g->bytes / (size_t)c->batch;
    unsigned char *together = memory(g->bytes), *alone = memory(image);
    hc_download(together, g->op.y, g->bytes);
    for (int32_t b = 0; c->batch > 1 && !c->in_place && b < c->batch; b++) {
        struct ldk_group_norm op = g->op;
        const int32_t rows = b * c->positions;
        op.batch = 1;
        op.x0 = (const unsigned char *)op.x0 + rows * c->c0 * 2;
        op.x1 = c->c1 > 0 ? (const unsigned char *)op.x1 + rows * c->c1 * 2 : NULL;
        op.moments0 = c->producer ? op.moments0 + b * op.tiles0 * c->c0 * 4 : NULL;
        op.moments1 = c->producer && c->c1 > 0 ? op.moments1 + b * op.tiles1 * c->c1 * 4 : NULL;
        op.y = hc_device(image);
        hc_expect(ldk_group_norm(&op, NULL) == LDK_OK, "image %d alone", (int)b);
        hc_download(alone, op.y, image);
        hc_equal_bits("an image alone", alone, together + (size_t)b * image, image);
    }
    free(together);
    free(alone);
}

static void one_group_case(const struct group_case *c, uint64_t seed)
{
    hc_case("group norm: %s", c->name);
    struct group_data g = make_group(c, seed);
    const size_t count = g.bytes / 2;
    float *got = memory(count * sizeof *got);
    double *want = memory(count * sizeof *want), *limits = memory(count * sizeof *limits);
    for (int32_t b = 0; b < c->batch; b++)
        for (int32_t group = 0; group < c->groups; group++)
            group_reference(c, &g, b, group, want, limits);
    if (hc_run(run_group, &g, g.op.y, g.bytes)) {
        hc_values(got, g.op.y, count, g.op.dtype);
        hc_close("y", got, want, count, limit_of(g.op.dtype));
        hc_within("y", got, want, limits, count);
        group_alone(c, &g);
    }
    free(got);
    free(want);
    free(limits);
    free(g.x[0]);
    free(g.x[1]);
    free(g.gamma);
    free(g.beta);
    free(g.pristine);
    hc_free_all();
}

/* ---- LayerNorm ---------------------------------------------------------------------------------- */

struct layer_data {
    struct ldk_layer_norm op;
    float *x, *gamma, *beta;
};

static int run_layer(void *context)
{
    return ldk_layer_norm(context, NULL);
}

static void layer_row(const struct layer_data *l, int32_t row, double *want, double *limits)
{
    const int32_t channels = l->op.channels;
    const float *x = l->x + row * channels;
    double mean = 0.0, squares = 0.0;
    for (int32_t k = 0; k < channels; k++)
        mean += (double)x[k] / channels;
    for (int32_t k = 0; k < channels; k++)
        squares += pow((double)x[k] - mean, 2.0);
    const double rstd = 1.0 / sqrt(squares / channels + (double)l->op.epsilon);
    for (int32_t k = 0; k < channels; k++) {
        const double normal = ((double)x[k] - mean) * rstd * (double)l->gamma[k];
        want[row * channels + k] = normal + (double)l->beta[k];
        limits[row * channels + k] = element_limit(want[row * channels + k], l->op.dtype);
    }
}

static void layer_case(int32_t rows, int32_t channels, enum ldk_dtype dtype, float mean)
{
    hc_case("layer norm: %d rows of %d", (int)rows, (int)channels);
    const size_t width = (size_t)channels, count = (size_t)rows * width;
    struct layer_data l = {.x = memory(count * sizeof(float)),
                           .gamma = memory(width * sizeof(float)),
                           .beta = memory(width * sizeof(float))};
    hc_normal(l.x, count, 1.5f, 7);
    for (size_t i = 0; i < count; i++)
        l.x[i] += mean;
    hc_normal(l.gamma, width, 1.0f, 8);
    hc_normal(l.beta, width, 0.5f, 9);
    l.op = (struct ldk_layer_norm){.x = hc_tensor(l.x, count, dtype),
                                   .rows = rows,
                                   .channels = channels,
                                   .epsilon = 1e-5f,
                                   .gamma = hc_tensor(l.gamma, width, LDK_F32),
                                   .beta = hc_tensor(l.beta, width, LDK_F32),
                                   .y = hc_device(count * 2),
                                   .dtype = dtype};
    float *got = memory(count * sizeof *got);
    double *want = memory(count * sizeof *want), *limits = memory(count * sizeof *limits);
    for (int32_t row = 0; row < rows; row++)
        layer_row(&l, row, want, limits);
    if (hc_run(run_layer, &l.op, l.op.y, count * 2)) {
        hc_values(got, l.op.y, count, dtype);
        hc_close("y", got, want, count, limit_of(dtype));
        hc_within("y", got, want, limits, count);
    }
    free(got);
    free(want);
    free(limits);
    free(l.x);
    free(l.gamma);
    free(l.beta);
    hc_free_all();
}

int main(void)
{
    for (size_t i = 0; i < sizeof group_cases / sizeof group_cases[0]; i++)
        one_group_case(&group_cases[i], 300 + 10 * i);
    layer_case(9, 320, LDK_F16, 0.5f);
    layer_case(3, 64, LDK_BF16, 0);
    layer_case(5, 640, LDK_F16, 30);
    layer_case(3, 512, LDK_BF16, 2);
    layer_case(2, 768, LDK_BF16, 0);
    layer_case(4, 1280, LDK_F16, -1);
    layer_case(3, 1288, LDK_F16, 1);
    layer_case(7, 33, LDK_BF16, 1);
    layer_case(1, 1, LDK_F16, 1);
    return hc_report();
}
