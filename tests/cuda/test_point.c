/*
 * Proves the small operators: timestep features, embedding with overrides, maps, a map added to
 * another (bit for bit), planes in and out, bytes out with the count of broken values, and every
 * resampling mode against the CPU's oracle.
 */
#include "kernels/cuda/rt.h"
#include "kernels/ops.h"
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
    return dtype == LDK_F32 ? 1e-6 : dtype == LDK_F16 ? 1e-3 : 6e-3;
}

/* Each element within two units of its last place and `slack`. */
static void compare(const char *what, const void *device, const double *want, size_t count,
                    enum ldk_dtype dtype, double slack)
{
    float *got = memory(count * sizeof *got);
    double *limits = memory(count * sizeof *limits);
    for (size_t i = 0; i < count; i++)
        limits[i] = 2.0 * hc_ulp(want[i], dtype) + slack;
    hc_values(got, device, count, dtype);
    hc_close(what, got, want, count, limit_of(dtype));
    hc_within(what, got, want, limits, count);
    free(got);
    free(limits);
}

/* ---- Timestep ----------------------------------------------------------------------------------- */

struct point_call {
    const void *x;
    const float *scale;
    void *y, *extra, *workspace;
    const int32_t *ids, *override_index;
    const void *table, *positions;
    int32_t batch, channels, height, width, out_h, out_w, mode;
    int64_t count;
    enum ldk_activation activation;
    enum ldk_dtype dtype;
};

static int run_timestep(void *context)
{
    const struct point_call *c = context;
    return ldk_timestep(c->x, c->batch, c->channels, c->y, c->dtype, NULL);
}

static void timestep_case(enum ldk_dtype dtype, int32_t dim)
{
    enum { BATCH = 4 };
    static const float t[BATCH] = {0.0f, 1.0f, 999.0f, 517.25f};
    hc_case("timestep features, %d wide", (int)dim);
    const size_t count = (size_t)(BATCH * dim);
    struct point_call c = {.x = hc_upload(t, sizeof t),
                           .batch = BATCH,
                           .channels = dim,
                           .y = hc_device(count * hc_size(dtype)),
                           .dtype = dtype};
    double *want = memory(count * sizeof *want);
    for (int32_t b = 0; b < BATCH; b++)
        for (int32_t i = 0; i < dim / 2; i++) {
            const double angle = (double)t[b] * exp(-log(10000.0) * i / (dim / 2));
            want[b * dim + i] = cos(angle);
            want[b * dim + dim / 2 + i] = sin(angle);
        }
    if (hc_run(run_timestep, &c, c.y, count * hc_size(dtype)))
        compare("y", c.y, want, count, dtype, 2e-7);
    free(want);
    hc_free_all();
}

/* ---- Embedding ---------------------------------------------------------------------------------- */

static int run_embed(void *context)
{
    const struct point_call *c = context;
    return ldk_embed(c->ids, c->override_index, c->x, c->batch, c->height, c->channels, c->width,
                     c->table, c->positions, c->y, c->dtype, NULL);
}

static void embed_case(enum ldk_dtype dtype, bool overrides)
{
    enum { ROWS = 14, TOKENS = 7, CHANNELS = 33, TABLE = 50, EXTRA = 2 };
    static const int32_t ids[ROWS] = {49, 0, 3, 3, 17, 48, 1, 2, 49, 0, 5, 6, 7, 8};
    static const int32_t index[ROWS] = {-1, 1, -1, -1, 0, -1, -1, -1, -1, -1, -1, -1, -1, 1};
    float table[TABLE * CHANNELS], positions[TOKENS * CHANNELS], extra[EXTRA * CHANNELS];
    double want[ROWS * CHANNELS];
    hc_case("embedding, overrides %d", (int)overrides);
    hc_normal(table, TABLE * CHANNELS, 1.0f, 1);
    hc_normal(positions, TOKENS * CHANNELS, 1.0f, 2);
    hc_normal(extra, EXTRA * CHANNELS, 1.0f, 3);
    struct point_call c = {.ids = hc_upload(ids, sizeof ids),
                           .override_index = overrides ? hc_upload(index, sizeof index) : NULL,
                           .x = overrides ? hc_tensor(extra, EXTRA * CHANNELS, LDK_F32) : NULL,
                           .batch = ROWS,
                           .height = TOKENS,
                           .channels = CHANNELS,
                           .width = TABLE,
                           .table = hc_tensor(table, TABLE * CHANNELS, dtype),
                           .positions = hc_tensor(positions, TOKENS * CHANNELS, dtype),
                           .y = hc_device(sizeof(uint16_t) * ROWS * CHANNELS),
                           .dtype = dtype};
    for (int32_t m = 0; m < ROWS; m++)
        for (int32_t k = 0; k < CHANNELS; k++) {
            const bool instead = overrides && index[m] >= 0;
            const float v = instead ? extra[index[m] * CHANNELS + k] : table[ids[m] * CHANNELS + k];
            want[m * CHANNELS + k] = (double)v + (double)positions[m % TOKENS * CHANNELS + k];
        }
    if (hc_run(run_embed, &c, c.y, sizeof(uint16_t) * ROWS * CHANNELS))
        compare("y", c.y, want, ROWS * CHANNELS, dtype, 3e-7);
    hc_free_all();
}

/* ---- Maps --------------------------------------------------------------------------------------- */

static int run_map(void *context)
{
    const struct point_call *c = context;
    return ldk_map(c->x, c->count, c->activation, c->y, c->dtype, NULL);
}

static void map_case(enum ldk_dtype dtype, size_t count, enum ldk_activation activation)
{
    hc_case("map %d of %zu", (int)activation, count);
    float *x = memory(count * sizeof *x);
    double *want = memory(count * sizeof *want);
    hc_normal(x, count, 3.0f, 4);
    x[0] = -60000.0f;
    x[count - 1] = 60000.0f;
    struct point_call c = {.x = hc_tensor(x, count, dtype),
                           .count = (int64_t)count,
                           .activation = activation,
                           .y = hc_device(count * hc_size(dtype)),
                           .dtype = dtype};
    for (size_t i = 0; i < count; i++) {
        const double v = (double)x[i], k = activation == LDK_ACT_QUICK_GELU ? 1.702 : 1.0;
        want[i] = activation == LDK_ACT_NONE ? v : v / (1.0 + exp(-k * v));
        if (activation == LDK_ACT_RELU)
            want[i] = fmax(v, 0.0);
    }
    if (hc_run(run_map, &c, c.y, count * hc_size(dtype)))
        compare("y", c.y, want, count, dtype, 1e-6);
    free(x);
    free(want);
    hc_free_all();
}

/* ---- A map times a number on another ------------------------------------------------------------ */

enum add_place { ADD_APART, ADD_OVER_X, ADD_OVER_Z };

struct add_case {
    enum ldk_dtype dtype;
    int32_t batch;
    size_t count;   /* elements an image */
    size_t offset;  /* of every operand from where vectors may begin, in elements */
    uint32_t first; /* the first image's factor */
    enum add_place place;
    bool wide; /* eight elements a thread */
};

enum { ADD_FACTORS = 4, ADD_BATCH_MAX = 3 };

struct add_call {
    const struct add_case *c;
    size_t bytes;
    uint16_t *x, *z, *want; /* bits */
    float scale[ADD_BATCH_MAX];
    uint16_t *device_x, *device_z, *device_y;
    const float *device_scale;
};

static uint16_t bits_of(float value, enum ldk_dtype dtype)
{
    return dtype == LDK_F16 ? ld_f16_from_f32(value) : ld_bf16_from_f32(value);
}

static float value_of(uint16_t bits, enum ldk_dtype dtype)
{
    return dtype == LDK_F16 ? ld_f16_to_f32(bits) : ld_bf16_to_f32(bits);
}

/* Every other sum is nearly nothing: only a product that is rounded by itself gives its bits. */
static void fill_image(const struct add_call *a, size_t at, float factor)
{
    const enum ldk_dtype dtype = a->c->dtype;
    uint16_t *x = a->x + at;
    uint16_t *z = a->z + at;
    for (size_t i = 1; i < a->c->count; i += 2)
        x[i] = bits_of(-(factor * value_of(z[i], dtype)), dtype);
    x[0] = bits_of(-0.0f, dtype);
    z[0] = bits_of(factor == 0.0f ? NAN : -0.0f, dtype);
    if (factor == 0.0f) {
        x[1] = dtype == LDK_F16 ? 0x7D01 : 0x7F81; /* a NaN that arithmetic would not give back */
        z[2] = bits_of(INFINITY, dtype);
    } else {
        x[2] = bits_of(60000.0f, dtype);
        z[2] = bits_of(60000.0f, dtype); /* more than float16 holds, or nearly */
    }
    for (size_t i = 0; i < a->c->count; i++) {
        const float product = factor * value_of(z[i], dtype);
        a->want[at + i] = factor == 0.0f ? x[i] : bits_of(value_of(x[i], dtype) + product, dtype);
    }
}

static int run_add(void *context)
{
    const struct add_call *a = context;
    int code = ldk_rt_upload(a->device_x, a->x, a->bytes, NULL);
    if (code == LDK_OK)
        code = ldk_rt_upload(a->device_z, a->z, a->bytes, NULL);
    return code != LDK_OK ? code
                          : ldk_add_scaled(a->device_x, a->device_z, a->device_scale, a->c->batch,
                                           (int64_t)a->c->count, a->device_y, a->c->dtype, NULL);
}

/* With `offset` elements of ones in front of it, which nothing may change. */
static uint16_t *add_operand(const struct add_call *a)
{
    const size_t before = a->c->offset * sizeof(uint16_t);
    uint16_t *device = hc_device(a->bytes + before);
    hc_expect(before == 0 || ldk_rt_memset(device, 0xFF, before, NULL) == LDK_OK, "filling");
    return device + a->c->offset;
}

static void check_add(struct add_call *a, size_t elements)
{
    uint16_t *got = memory(a->bytes + a->c->offset * sizeof *got);
    struct ldk_host_counters n;
    if (hc_run(run_add, a, a->device_y, a->bytes)) {
        hc_download(got, a->device_y - a->c->offset, a->bytes + a->c->offset * sizeof *got);
        for (size_t i = 0; i < a->c->offset && a->c->place == ADD_APART; i++)
            hc_expect(got[i] == 0xFFFF, "written before the output");
        hc_equal_bits("y", got + a->c->offset, a->want, elements * sizeof *got);
        const size_t items = a->c->count / (a->c->wide ? 8 : 1);
        if (hc_counters(&n))
            hc_expect(n.launches == 1 && n.barriers == 0 && n.cp_async == 0 && n.shuffles == 0 &&
                          n.blocks == (items + 255) / 256 * (size_t)a->c->batch,
                      "%llu launches of %llu blocks", (unsigned long long)n.launches,
                      (unsigned long long)n.blocks);
    }
    free(got);
}

static void add_case(const struct add_case *c)
{
    static const float factors[ADD_FACTORS] = {0.7f, 0.0f, -1.3f, -0.0f};
    struct add_call a = {.c = c};
    hc_case("%d maps of %zu added, %s, at %zu, place %d", (int)c->batch, c->count,
            c->dtype == LDK_F16 ? "fp16" : "bf16", c->offset, (int)c->place);
    const size_t elements = (size_t)c->batch * c->count;
    a.bytes = elements * sizeof *a.x;
    float *values = memory(elements * sizeof *values);
    a.x = memory(a.bytes);
    a.z = memory(a.bytes);
    a.want = memory(a.bytes);
    hc_normal(values, elements, 2.0f, 12);
    for (size_t i = 0; i < elements; i++)
        a.x[i] = bits_of(values[i], c->dtype);
    hc_normal(values, elements, 1.0f, 13);
    for (size_t i = 0; i < elements; i++)
        a.z[i] = bits_of(values[i], c->dtype);
    for (uint32_t b = 0; b < (uint32_t)c->batch; b++) {
        a.scale[b] = factors[(c->first + b) % ADD_FACTORS];
        fill_image(&a, b * c->count, a.scale[b]);
    }
    a.device_scale = hc_upload(a.scale, (size_t)c->batch * sizeof *a.scale);
    a.device_x = add_operand(&a);
    a.device_z = add_operand(&a);
    a.device_y = c->place == ADD_OVER_X   ? a.device_x
                 : c->place == ADD_OVER_Z ? a.device_z
                                          : add_operand(&a);
    check_add(&a, elements);
    free(values);
    free(a.x);
    free(a.z);
    free(a.want);
    hc_free_all();
}

static void add_cases(void)
{
    static const struct add_case cases[] = {
        {LDK_F16, 1, 2400, 0, 0, ADD_APART, true},  {LDK_F16, 1, 2400, 0, 1, ADD_APART, true},
        {LDK_F16, 3, 777, 0, 0, ADD_APART, false},  {LDK_BF16, 2, 4104, 0, 2, ADD_APART, true},
        {LDK_BF16, 3, 13, 0, 1, ADD_APART, false},  {LDK_F16, 2, 264, 1, 2, ADD_APART, false},
        {LDK_BF16, 2, 2048, 8, 0, ADD_APART, true}, {LDK_BF16, 1, 512, 4, 2, ADD_APART, false},
        {LDK_F16, 3, 2056, 0, 0, ADD_OVER_X, true}, {LDK_BF16, 3, 77, 0, 2, ADD_OVER_X, false},
        {LDK_BF16, 3, 264, 0, 0, ADD_OVER_Z, true}, {LDK_F16, 2, 301, 3, 2, ADD_OVER_Z, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        add_case(&cases[i]);
    hc_case("a map added: refusals");
    const float one = 1.0f;
    void *x = hc_device(64);
    const float *s = hc_upload(&one, sizeof one);
    hc_expect(ldk_add_scaled(NULL, x, s, 1, 8, x, LDK_F16, NULL) == LDK_E_INVALID, "no x");
    hc_expect(ldk_add_scaled(x, NULL, s, 1, 8, x, LDK_F16, NULL) == LDK_E_INVALID, "no z");
    hc_expect(ldk_add_scaled(x, x, NULL, 1, 8, x, LDK_F16, NULL) == LDK_E_INVALID, "no scale");
    hc_expect(ldk_add_scaled(x, x, s, 1, 8, NULL, LDK_F16, NULL) == LDK_E_INVALID, "no y");
    hc_expect(ldk_add_scaled(x, x, s, 0, 8, x, LDK_F16, NULL) == LDK_E_INVALID, "no image");
    hc_expect(ldk_add_scaled(x, x, s, 65536, 8, x, LDK_F16, NULL) == LDK_E_INVALID, "65536 images");
    hc_expect(ldk_add_scaled(x, x, s, 1, 0, x, LDK_F16, NULL) == LDK_E_INVALID, "no element");
    hc_expect(ldk_add_scaled(x, x, s, 1, 8, x, LDK_F32, NULL) == LDK_E_INVALID, "float32");
    hc_free_all();
}

/* ---- Planes ------------------------------------------------------------------------------------- */

static int run_planes_in(void *context)
{
    const struct point_call *c = context;
    return ldk_planes_in(c->x, c->scale, c->batch, c->channels, c->height, c->width, c->y, c->dtype,
                         NULL);
}

static int run_planes_out(void *context)
{
    const struct point_call *c = context;
    return ldk_planes_out(c->x, c->batch, c->channels, c->height, c->width, c->y, c->dtype, NULL);
}

static void planes_case(enum ldk_dtype dtype, int32_t channels, bool scaled)
{
    enum { BATCH = 2, HEIGHT = 7, WIDTH = 41, POSITIONS = HEIGHT * WIDTH };
    static const float factors[BATCH] = {0.25f, -3.0f};
    hc_case("planes of %d channels", (int)channels);
    const size_t count = (size_t)(BATCH * POSITIONS * channels);
    float *planes = memory(count * sizeof *planes);
    double *want = memory(count * sizeof *want);
    hc_normal(planes, count, 2.0f, 5);
    struct point_call c = {.x = hc_tensor(planes, count, LDK_F32),
                           .scale = scaled ? hc_upload(factors, sizeof factors) : NULL,
                           .batch = BATCH,
                           .channels = channels,
                           .height = HEIGHT,
                           .width = WIDTH,
                           .y = hc_device(count * 2),
                           .dtype = dtype};
    for (size_t i = 0; i < count; i++) {
        const size_t k = i % (size_t)channels, p = i / (size_t)channels % POSITIONS;
        const size_t b = i / (size_t)channels / POSITIONS;
        const float v = planes[(b * (size_t)channels + k) * POSITIONS + p];
        want[i] = (double)v * (double)(scaled ? factors[b] : 1.0f);
    }
    if (hc_run(run_planes_in, &c, c.y, count * 2))
        compare("activations", c.y, want, count, dtype, 0);
    struct point_call back = c;
    back.x = c.y;
    back.y = hc_device(count * sizeof(float));
    float *activations = memory(count * sizeof *activations);
    hc_values(activations, c.y, count, dtype);
    if (hc_run(run_planes_out, &back, back.y, count * sizeof(float))) {
        size_t wrong = 0;
        hc_values(planes, back.y, count, LDK_F32);
        for (size_t i = 0; i < count; i++) {
            const size_t k = i % (size_t)channels, p = i / (size_t)channels % POSITIONS;
            const size_t b = i / (size_t)channels / POSITIONS;
            wrong += planes[(b * (size_t)channels + k) * POSITIONS + p] != activations[i];
        }
        hc_expect(wrong == 0, "%zu values changed on the way out", wrong);
    }
    free(activations);
    free(planes);
    free(want);
    hc_free_all();
}

/* ---- Bytes -------------------------------------------------------------------------------------- */

static int run_rgb(void *context)
{
    const struct point_call *c = context;
    return ldk_rgb_out(c->x, c->batch, c->height, c->width, c->y, c->extra, c->dtype, NULL);
}

static uint8_t byte_of(float v)
{
    if (isnan(v))
        return 0;
    const float level = fminf(fmaxf((v + 1.0f) * 0.5f, 0.0f), 1.0f) * 255.0f;
    return (uint8_t)rint((double)level); /* nearest, ties to even */
}

static void rgb_case(enum ldk_dtype dtype, int32_t width, bool broken)
{
    enum { BATCH = 2, HEIGHT = 5 };
    hc_case("bytes of rows of %d", (int)width);
    const size_t count = (size_t)(BATCH * HEIGHT * width * 3);
    float *x = memory(count * sizeof *x);
    uint8_t *got = memory(count);
    const uint32_t before = 40;
    hc_normal(x, count, 0.8f, 6);
    x[0] = 0.0f; /* 127.5: a tie */
    if (broken) {
        x[1] = NAN;
        x[7] = INFINITY;
        x[count - 1] = -INFINITY;
    }
    struct point_call c = {.x = hc_tensor(x, count, dtype),
                           .batch = BATCH,
                           .height = HEIGHT,
                           .width = width,
                           .y = hc_device(count),
                           .dtype = dtype};
    if (hc_run(run_rgb, &c, c.y, count)) {
        size_t wrong = 0;
        hc_download(got, c.y, count);
        for (size_t i = 0; i < count; i++)
            wrong += got[i] != byte_of(x[i]);
        hc_expect(wrong == 0, "%zu bytes are wrong", wrong);
    }
    c.extra = hc_upload(&before, sizeof before);
    uint32_t after = 0;
    hc_expect(run_rgb(&c) == LDK_OK, "counting");
    hc_download(&after, c.extra, sizeof after);
    hc_expect(after == before + (broken ? 3 : 0), "%u broken values", (unsigned)(after - before));
    free(x);
    free(got);
    hc_free_all();
}

/* ---- Resampling --------------------------------------------------------------------------------- */

static int run_resize(void *context)
{
    const struct point_call *c = context;
    return ldk_resize(c->x, c->batch, c->height, c->width, c->channels, c->out_h, c->out_w, c->mode,
                      c->y, c->workspace, c->dtype, NULL);
}

static void resize_case(struct ld_backend *cpu, enum ldk_dtype dtype, int32_t mode,
                        const int32_t sizes[5])
{
    enum { BATCH = 2 };
    hc_case("resize mode %d, %dx%d to %dx%d, %d channels", (int)mode, (int)sizes[1], (int)sizes[0],
            (int)sizes[3], (int)sizes[2], (int)sizes[4]);
    struct point_call c = {.batch = BATCH,
                           .height = sizes[0],
                           .width = sizes[1],
                           .out_h = sizes[2],
                           .out_w = sizes[3],
                           .channels = sizes[4],
                           .mode = mode,
                           .dtype = dtype};
    const size_t in = (size_t)(BATCH * c.height * c.width * c.channels);
    const size_t out = (size_t)(BATCH * c.out_h * c.out_w * c.channels);
    float *x = memory(in * sizeof *x), *y = memory(out * sizeof *y);
    double *want = memory(out * sizeof *want);
    hc_normal(x, in, 1.0f, 11);
    c.x = hc_tensor(x, in, dtype);
    c.y = hc_device(out * 2);
    c.workspace = hc_device(
        ldk_resize_workspace(BATCH, c.height, c.width, c.channels, c.out_h, c.out_w, mode));
    const struct ld_resize op = {.x = x,
                                 .batch = BATCH,
                                 .in_h = c.height,
                                 .in_w = c.width,
                                 .channels = c.channels,
                                 .out_h = c.out_h,
                                 .out_w = c.out_w,
                                 .mode = (enum ld_resize_mode)mode,
                                 .y = y};
    struct ld_error err = {0};
    hc_expect(cpu->ops->resize(cpu, &op, &err) == LD_OK, "the oracle");
    for (size_t i = 0; i < out; i++)
        want[i] = (double)y[i];
    if (hc_run(run_resize, &c, c.y, out * 2))
        compare("y", c.y, want, out, dtype, 4e-6);
    free(x);
    free(y);
    free(want);
    hc_free_all();
}

static void resize_cases(void)
{
    static const int32_t sizes[][5] = {
        {7, 5, 13, 11, 8}, {12, 9, 5, 4, 3}, {6, 6, 3, 12, 40}, {5, 4, 5, 4, 1}};
    struct ld_backend *cpu = NULL;
    struct ld_error err = {0};
    hc_case("the oracle");
    if (!hc_expect(ld_cpu_backend_create(&cpu, 1, LD_CPU_GENERIC, &err) == LD_OK, "no CPU backend"))
        return;
    for (int32_t mode = LD_RESIZE_NEAREST; mode <= LD_RESIZE_BICUBIC_ANTIALIAS; mode++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            resize_case(cpu, i % 2 == 0 ? LDK_F16 : LDK_BF16, mode, sizes[i]);
    cpu->ops->destroy(cpu);
    hc_case("resize: refusals");
    uint16_t word = 0;
    void *x = hc_device(64 * 64 * 2);
    hc_expect(ldk_resize(x, 1, 64, 64, 1, 2, 64, LD_RESIZE_BILINEAR, &word, &word, LDK_F16, NULL) ==
                  LDK_E_UNSUPPORTED,
              "32 times smaller");
    hc_expect(ldk_resize(x, 1, 4, 4, 1, 4, 4, 8, &word, &word, LDK_F16, NULL) == LDK_E_INVALID,
              "mode 8");
    hc_free_all();
}

int main(void)
{
    timestep_case(LDK_F32, 320);
    timestep_case(LDK_F16, 64);
    timestep_case(LDK_BF16, 6);
    embed_case(LDK_F16, true);
    embed_case(LDK_BF16, false);
    map_case(LDK_F32, 77, LDK_ACT_SILU);
    map_case(LDK_F16, 800, LDK_ACT_SILU);
    map_case(LDK_F16, 83, LDK_ACT_QUICK_GELU);
    map_case(LDK_BF16, 264, LDK_ACT_QUICK_GELU);
    map_case(LDK_BF16, 13, LDK_ACT_NONE);
    map_case(LDK_F16, 88, LDK_ACT_RELU);
    map_case(LDK_BF16, 21, LDK_ACT_RELU);
    add_cases();
    planes_case(LDK_F16, 4, true);
    planes_case(LDK_BF16, 4, false);
    planes_case(LDK_F16, 3, true);
    planes_case(LDK_BF16, 9, false);
    rgb_case(LDK_F16, 16, true);
    rgb_case(LDK_BF16, 11, true);
    rgb_case(LDK_F16, 7, false);
    resize_cases();
    return hc_report();
}
