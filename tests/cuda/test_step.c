/*
 * Proves the fused sampler step against float64 from the same numbers: guidance, rescale, eps and v
 * scalings, history, given and drawn noise, one and two rows an image, next input; and that the
 * device's Philox numbers are those of runtime/sample/philox.c. Images are processed together and
 * alone with equal bits.
 */
#include "kernels/cuda/rt.h"
#include "runtime/sample/philox.h"
#include "tests/cuda/hostcuda.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEIGHT = 9, WIDTH = 33, POSITIONS = HEIGHT * WIDTH, IMAGES = 3, ROWS = 5 };

static void *memory(size_t bytes)
{
    void *block = calloc(1, bytes > 0 ? bytes : 1);
    if (!block) {
        fprintf(stderr, "no memory\n");
        exit(2);
    }
    return block;
}

/* ---- Noise -------------------------------------------------------------------------------------- */

struct noise_call {
    uint64_t seed;
    uint32_t draw;
    int64_t count;
    float *out;
};

static int run_noise(void *context)
{
    const struct noise_call *c = context;
    return ldk_noise_philox(c->seed, c->draw, c->count, c->out, NULL);
}

static void noise_case(uint64_t seed, uint32_t draw)
{
    enum { COUNT = 5003 };
    static float got[COUNT], reference[COUNT];
    static double want[COUNT], limits[COUNT];
    hc_case("noise of seed %llu, draw %u", (unsigned long long)seed, (unsigned)draw);
    struct noise_call c = {seed, draw, COUNT, hc_device(sizeof got)};
    struct ld_philox generator = {.seed = seed, .offset = draw};
    ld_philox_normal(&generator, reference, 0, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        want[i] = (double)reference[i];
        limits[i] = 2e-6;
    }
    if (hc_run(run_noise, &c, c.out, sizeof got)) {
        hc_values(got, c.out, COUNT, LDK_F32);
        hc_within("noise", got, want, limits, COUNT);
    }
    hc_free_all();
}

/* ---- Step --------------------------------------------------------------------------------------- */

struct step_case {
    const char *name;
    int32_t dtype, channels;
    bool given_noise, last;
    struct ldk_step_image images[IMAGES];
};

/* Rows: image 0 has two, image 1 one, image 2 two. */
static const struct step_case cases[] = {
    {"eps, guidance, noise drawn",
     LDK_F16,
     4,
     false,
     false,
     {{.sigma = 7,
       .c_skip = 1,
       .c_out = -7,
       .cfg_scale = 7.5f,
       .a = 0.6f,
       .b = 0.4f,
       .c = 1.5f,
       .next_c_in = 0.2f,
       .seed = 42,
       .draw = 3,
       .push = -1,
       .rows = 2,
       .first_row = 0},
      {.sigma = 2,
       .c_skip = 1,
       .c_out = -2,
       .cfg_scale = 5,
       .a = 0.3f,
       .b = 0.7f,
       .c = 0.5f,
       .next_c_in = 0.5f,
       .seed = 1ull << 40,
       .draw = 0,
       .push = -1,
       .rows = 1,
       .first_row = 2},
      {.sigma = 0.1f,
       .c_skip = 1,
       .c_out = -0.1f,
       .cfg_scale = 1,
       .a = 0,
       .b = 1,
       .c = 0,
       .next_c_in = 1,
       .seed = 7,
       .draw = 9,
       .push = -1,
       .rows = 2,
       .first_row = 3}}},
    {"v, rescale, history, noise given",
     LDK_BF16,
     4,
     true,
     false,
     {{.sigma = 3,
       .c_skip = 0.1f,
       .c_out = -0.94868f,
       .cfg_scale = 9,
       .rescale = 0.7f,
       .a = 0.5f,
       .b = 0.75f,
       .c = 0.3f,
       .e = {-0.25f, 0, 0},
       .next_c_in = 0.4f,
       .push = 0,
       .rows = 2,
       .first_row = 0},
      {.sigma = 1,
       .c_skip = 0.5f,
       .c_out = -0.70711f,
       .cfg_scale = 9,
       .rescale = 0.7f,
       .a = 0.2f,
       .b = 1.5f,
       .c = 0,
       .e = {-0.5f, 0.125f, -0.01f},
       .next_c_in = 0.9f,
       .push = 2,
       .rows = 1,
       .first_row = 2},
      {.sigma = 5,
       .c_skip = 0.04f,
       .c_out = -0.98f,
       .cfg_scale = 3,
       .rescale = 1,
       .a = 0.9f,
       .b = 0.1f,
       .c = 0,
       .next_c_in = 0.3f,
       .push = 1,
       .rows = 2,
       .first_row = 3}}},
    {"three channels, last step",
     LDK_F16,
     3,
     false,
     true,
     {{.sigma = 1,
       .c_skip = 1,
       .c_out = -1,
       .cfg_scale = 2,
       .rescale = 0.5f,
       .a = 0,
       .b = 1,
       .next_c_in = 1,
       .push = -1,
       .rows = 2,
       .first_row = 0},
      {.sigma = 1,
       .c_skip = 1,
       .c_out = -1,
       .cfg_scale = 2,
       .a = 1,
       .b = 0,
       .c = 2,
       .next_c_in = 1,
       .seed = 5,
       .draw = 1,
       .push = -1,
       .rows = 1,
       .first_row = 2},
      {.sigma = 1,
       .c_skip = 1,
       .c_out = -1,
       .cfg_scale = 0,
       .a = 0,
       .b = 1,
       .next_c_in = 1,
       .push = -1,
       .rows = 2,
       .first_row = 3}}},
};

struct step_data {
    struct ldk_step op;
    const struct step_case *c;
    size_t size; /* elements of an image */
    float *x, *history, *output, *noise;
};

/* What the call changes is uploaded by each run: x and the history. */
static int run_step(void *context)
{
    const struct step_data *s = context;
    const size_t bytes = IMAGES * s->size * sizeof(float);
    int code = ldk_rt_upload(s->op.x, s->x, bytes, NULL);
    if (code == LDK_OK)
        code = ldk_rt_upload(s->op.history, s->history, LDK_STEP_HISTORY_MAX * bytes, NULL);
    return code != LDK_OK ? code : ldk_step(&s->op, NULL);
}

static struct step_data make(const struct step_case *c)
{
    struct step_data s = {.c = c, .size = (size_t)c->channels * POSITIONS};
    const size_t count = IMAGES * s.size, outputs = ROWS * s.size;
    const enum ldk_dtype dtype = (enum ldk_dtype)c->dtype;
    s.x = memory(count * sizeof(float));
    s.history = memory(LDK_STEP_HISTORY_MAX * count * sizeof(float));
    s.output = memory(outputs * sizeof(float));
    s.noise = memory(count * sizeof(float));
    hc_normal(s.x, count, 3.0f, 21);
    hc_normal(s.output, outputs, 1.0f, 22);
    hc_normal(s.noise, count, 1.0f, 23);
    hc_normal(s.history, LDK_STEP_HISTORY_MAX * count, 1.0f, 24);
    for (size_t i = 0; i < IMAGES; i++) /* what no coefficient names must not be read */
        for (size_t h = 0; h < LDK_STEP_HISTORY_MAX; h++)
            for (size_t e = 0; c->images[i].e[h] == 0.0f && e < s.size; e++)
                s.history[(i * LDK_STEP_HISTORY_MAX + h) * s.size + e] = NAN;
    s.op = (struct ldk_step){.images = hc_upload(c->images, sizeof c->images),
                             .count = IMAGES,
                             .channels = c->channels,
                             .height = HEIGHT,
                             .width = WIDTH,
                             .output = hc_tensor(s.output, outputs, dtype),
                             .x = hc_device(count * sizeof(float)),
                             .history = hc_device(LDK_STEP_HISTORY_MAX * count * sizeof(float)),
                             .next = c->last ? NULL : hc_device(outputs * 2),
                             .workspace = hc_device(IMAGES * 4 * sizeof(float)),
                             .dtype = dtype};
    if (c->given_noise)
        s.op.noise = hc_tensor(s.noise, count, LDK_F32);
    for (size_t i = 0; !c->given_noise && i < IMAGES; i++) {
        struct ld_philox generator = {.seed = c->images[i].seed, .offset = c->images[i].draw};
        ld_philox_normal(&generator, s.noise + i * s.size, 0, s.size);
    }
    return s;
}

static void discard(struct step_data *s)
{
    free(s->x);
    free(s->history);
    free(s->output);
    free(s->noise);
    hc_free_all();
}

/* What the network gave for element e (channel-major) of row `row`. */
static double output_of(const struct step_data *s, int32_t row, size_t e)
{
    const size_t k = e / POSITIONS, p = e % POSITIONS;
    const size_t at = ((size_t)row * POSITIONS + p) * (size_t)s->c->channels + k;
    return (double)s->output[at];
}

static double deviation(const double *v, size_t count)
{
    double mean = 0.0, squares = 0.0;
    for (size_t e = 0; e < count; e++)
        mean += v[e] / (double)count;
    for (size_t e = 0; e < count; e++)
        squares += (v[e] - mean) * (v[e] - mean);
    return sqrt(squares / (double)(count - 1));
}

/* The guided estimate of image i. */
static void reference_denoised(const struct step_data *s, size_t i, double *d)
{
    const struct ldk_step_image *image = &s->c->images[i];
    const float *x = s->x + i * s->size;
    const double a = 1.0 / ((double)image->sigma * (double)image->sigma + 1.0);
    const bool guided = image->rows == 2 && image->cfg_scale != 1.0f;
    double *cond = memory(s->size * sizeof *cond), *away = memory(s->size * sizeof *away);
    for (size_t e = 0; e < s->size; e++) {
        const double skip = (double)image->c_skip * (double)x[e], scale = (double)image->c_out;
        const double positive = skip + scale * output_of(s, image->first_row, e);
        d[e] = positive;
        if (guided) {
            const double negative = skip + scale * output_of(s, image->first_row + 1, e);
            d[e] = negative + (double)image->cfg_scale * (positive - negative);
        }
        cond[e] = a * (double)x[e] - positive;
        away[e] = a * (double)x[e] - d[e];
    }
    if (guided && image->rescale != 0.0f) {
        const double phi = (double)image->rescale;
        const double share = phi * deviation(cond, s->size) / deviation(away, s->size) + 1.0 - phi;
        for (size_t e = 0; e < s->size; e++)
            d[e] = a * (double)x[e] - share * away[e];
    }
    free(cond);
    free(away);
}

static void reference_step(const struct step_data *s, size_t i, const double *d, double *x)
{
    const struct ldk_step_image *image = &s->c->images[i];
    for (size_t e = 0; e < s->size; e++) {
        x[e] = (double)image->a * (double)s->x[i * s->size + e] + (double)image->b * d[e] +
               (double)image->c * (double)s->noise[i * s->size + e];
        for (size_t h = 0; h < LDK_STEP_HISTORY_MAX; h++)
            if (image->e[h] != 0.0f)
                x[e] += (double)image->e[h] *
                        (double)s->history[(i * LDK_STEP_HISTORY_MAX + h) * s->size + e];
    }
}

/* The next input: every row of the image holds c_in x', rounded once. */
static void check_next(const struct step_data *s, size_t i, const double *x, const float *next)
{
    const struct ldk_step_image *image = &s->c->images[i];
    size_t wrong = 0;
    for (int32_t row = image->first_row; row < image->first_row + image->rows; row++)
        for (size_t e = 0; e < s->size; e++) {
            const size_t at =
                ((size_t)row * POSITIONS + e % POSITIONS) * (size_t)s->c->channels + e / POSITIONS;
            const double want = x[e] * (double)image->next_c_in;
            wrong += !(fabs((double)next[at] - want) <= hc_ulp(want, s->op.dtype) + 1e-5);
        }
    hc_expect(wrong == 0, "%zu values of the next input of image %zu", wrong, i);
}

static void check_image(const struct step_data *s, size_t i, const float *x, const float *history,
                        const float *next)
{
    const struct ldk_step_image *image = &s->c->images[i];
    double *d = memory(s->size * sizeof *d), *want = memory(s->size * sizeof *want);
    reference_denoised(s, i, d);
    reference_step(s, i, d, want);
    hc_close("x", x + i * s->size, want, s->size, 1e-6);
    for (int32_t h = 0; h < LDK_STEP_HISTORY_MAX; h++) {
        const size_t at = (i * LDK_STEP_HISTORY_MAX + (size_t)h) * s->size;
        if (h == image->push)
            hc_close("the pushed estimate", history + at, d, s->size, 1e-6);
        else
            hc_equal_bits("history", history + at, s->history + at, s->size * sizeof(float));
    }
    if (next != NULL)
        check_next(s, i, want, next);
    free(d);
    free(want);
}

/* Image i in a launch of its own, its rows and buffers where they are. */
static void check_alone(const struct step_data *s, const float *together)
{
    float *alone = memory(s->size * sizeof *alone);
    for (size_t i = 0; i < IMAGES; i++) {
        struct ldk_step op = s->op;
        op.images += i;
        op.count = 1;
        op.x += i * s->size;
        op.history += i * LDK_STEP_HISTORY_MAX * s->size;
        op.noise = op.noise != NULL ? op.noise + i * s->size : NULL;
        const size_t bytes = s->size * sizeof(float);
        int code = ldk_rt_upload(op.x, s->x + i * s->size, bytes, NULL);
        if (code == LDK_OK)
            code = ldk_rt_upload(op.history, s->history + i * LDK_STEP_HISTORY_MAX * s->size,
                                 LDK_STEP_HISTORY_MAX * bytes, NULL);
        hc_expect(code == LDK_OK && ldk_step(&op, NULL) == LDK_OK, "image %zu alone", i);
        hc_download(alone, op.x, bytes);
        hc_equal_bits("an image alone", alone, together + i * s->size, bytes);
    }
    free(alone);
}

static void one_case(const struct step_case *c)
{
    hc_case("step: %s", c->name);
    struct step_data s = make(c);
    const size_t count = IMAGES * s.size;
    float *x = memory(count * sizeof *x);
    float *history = memory(LDK_STEP_HISTORY_MAX * count * sizeof *history);
    float *next = c->last ? NULL : memory(ROWS * s.size * sizeof *next);
    if (hc_run(run_step, &s, s.op.x, count * sizeof *x)) {
        hc_values(x, s.op.x, count, LDK_F32);
        hc_values(history, s.op.history, LDK_STEP_HISTORY_MAX * count, LDK_F32);
        if (next != NULL)
            hc_values(next, s.op.next, ROWS * s.size, s.op.dtype);
        for (size_t i = 0; i < IMAGES; i++)
            check_image(&s, i, x, history, next);
        check_alone(&s, x);
    }
    free(x);
    free(history);
    free(next);
    discard(&s);
}

int main(void)
{
    noise_case(0, 0);
    noise_case(42, 1);
    noise_case(UINT64_MAX, UINT32_MAX);
    noise_case(0x123456789abcdefull, 77);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        one_case(&cases[i]);
    return hc_report();
}
