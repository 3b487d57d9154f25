/*
 * Times every operator of one CFG step (UNet, batch 2) and of one VAE decode at 512x512 on the
 * CPU backend, with float16 weights, and prints time, GFLOP/s and the share of the float32 FMA peak
 * that is measured in the same run on the same number of threads.
 *
 *     bench_kernels [auto|generic|avx2|avx512|amx] [threads] [unet|vae]
 */
#include "kernels/ops.h"
#include "runtime/base/arena.h"
#include "runtime/base/thread.h"

#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum kind { CONV, LINEAR, GEGLU, SELF, CROSS, GROUP, LAYER, KINDS };

static const char *const kind_names[KINDS] = {"conv",       "linear",     "geglu",     "attn self",
                                              "attn cross", "group norm", "layer norm"};

/* One distinct operator: a map of side x side, c0 + c1 channels in, n out; `count` in the network.
 */
struct shape {
    enum kind kind;
    int32_t side, c0, c1, n;
    int32_t kernel, stride, up; /* up 1: input has half the side */
    int32_t count;
};

static const struct shape unet[] = {
    {CONV, 64, 4, 0, 320, 3, 1, 0, 1},        {CONV, 64, 320, 0, 320, 3, 1, 0, 7},
    {CONV, 64, 640, 320, 320, 3, 1, 0, 1},    {CONV, 64, 320, 320, 320, 3, 1, 0, 2},
    {CONV, 64, 640, 0, 640, 3, 1, 1, 1},      {CONV, 64, 320, 0, 4, 3, 1, 0, 1},
    {CONV, 64, 640, 320, 320, 1, 1, 0, 1},    {CONV, 64, 320, 320, 320, 1, 1, 0, 2},
    {CONV, 64, 320, 0, 320, 3, 2, 0, 1},      {CONV, 32, 320, 0, 640, 3, 1, 0, 1},
    {CONV, 32, 640, 0, 640, 3, 1, 0, 6},      {CONV, 32, 1280, 640, 640, 3, 1, 0, 1},
    {CONV, 32, 640, 640, 640, 3, 1, 0, 1},    {CONV, 32, 640, 320, 640, 3, 1, 0, 1},
    {CONV, 32, 1280, 0, 1280, 3, 1, 1, 1},    {CONV, 32, 1280, 640, 640, 1, 1, 0, 1},
    {CONV, 32, 640, 640, 640, 1, 1, 0, 1},    {CONV, 32, 640, 320, 640, 1, 1, 0, 1},
    {CONV, 32, 320, 0, 640, 1, 1, 0, 1},      {CONV, 32, 640, 0, 640, 3, 2, 0, 1},
    {CONV, 16, 640, 0, 1280, 3, 1, 0, 1},     {CONV, 16, 1280, 0, 1280, 3, 1, 0, 6},
    {CONV, 16, 1280, 1280, 1280, 3, 1, 0, 2}, {CONV, 16, 1280, 640, 1280, 3, 1, 0, 1},
    {CONV, 16, 1280, 0, 1280, 3, 1, 1, 1},    {CONV, 16, 640, 0, 1280, 1, 1, 0, 1},
    {CONV, 16, 1280, 1280, 1280, 1, 1, 0, 2}, {CONV, 16, 1280, 640, 1280, 1, 1, 0, 1},
    {CONV, 16, 1280, 0, 1280, 3, 2, 0, 1},    {CONV, 8, 1280, 0, 1280, 3, 1, 0, 11},
    {CONV, 8, 1280, 1280, 1280, 3, 1, 0, 3},  {CONV, 8, 1280, 1280, 1280, 1, 1, 0, 3},
    {LINEAR, 64, 320, 0, 320, 1, 1, 0, 25},   {LINEAR, 64, 320, 0, 960, 1, 1, 0, 5},
    {GEGLU, 64, 320, 0, 1280, 1, 1, 0, 5},    {LINEAR, 64, 1280, 0, 320, 1, 1, 0, 5},
    {LINEAR, 32, 640, 0, 640, 1, 1, 0, 25},   {LINEAR, 32, 640, 0, 1920, 1, 1, 0, 5},
    {GEGLU, 32, 640, 0, 2560, 1, 1, 0, 5},    {LINEAR, 32, 2560, 0, 640, 1, 1, 0, 5},
    {LINEAR, 16, 1280, 0, 1280, 1, 1, 0, 25}, {LINEAR, 16, 1280, 0, 3840, 1, 1, 0, 5},
    {GEGLU, 16, 1280, 0, 5120, 1, 1, 0, 5},   {LINEAR, 16, 5120, 0, 1280, 1, 1, 0, 5},
    {LINEAR, 8, 1280, 0, 1280, 1, 1, 0, 5},   {LINEAR, 8, 1280, 0, 3840, 1, 1, 0, 1},
    {GEGLU, 8, 1280, 0, 5120, 1, 1, 0, 1},    {LINEAR, 8, 5120, 0, 1280, 1, 1, 0, 1},
    {LINEAR, 1, 1280, 0, 1280, 1, 1, 0, 16},  {LINEAR, 1, 1280, 0, 640, 1, 1, 0, 6},
    {SELF, 64, 320, 0, 8, 1, 1, 0, 5},        {SELF, 32, 640, 0, 8, 1, 1, 0, 5},
    {SELF, 16, 1280, 0, 8, 1, 1, 0, 5},       {SELF, 8, 1280, 0, 8, 1, 1, 0, 1},
    {CROSS, 64, 320, 0, 8, 1, 1, 0, 5},       {CROSS, 32, 640, 0, 8, 1, 1, 0, 5},
    {CROSS, 16, 1280, 0, 8, 1, 1, 0, 5},      {CROSS, 8, 1280, 0, 8, 1, 1, 0, 1},
    {GROUP, 64, 320, 0, 0, 1, 1, 0, 13},      {GROUP, 64, 320, 320, 0, 1, 1, 0, 2},
    {GROUP, 64, 640, 320, 0, 1, 1, 0, 1},     {GROUP, 32, 640, 0, 0, 1, 1, 0, 12},
    {GROUP, 32, 1280, 640, 0, 1, 1, 0, 3},    {GROUP, 16, 1280, 0, 0, 1, 1, 0, 12},
    {GROUP, 16, 1280, 1280, 0, 1, 1, 0, 3},   {GROUP, 8, 1280, 0, 0, 1, 1, 0, 15},
    {LAYER, 64, 320, 0, 0, 1, 1, 0, 15},      {LAYER, 32, 640, 0, 0, 1, 1, 0, 15},
    {LAYER, 16, 1280, 0, 0, 1, 1, 0, 15},     {LAYER, 8, 1280, 0, 0, 1, 1, 0, 3},
};

/* The decoder works on one image. */
static const struct shape vae[] = {
    {CONV, 64, 4, 0, 512, 3, 1, 0, 1},     {CONV, 64, 512, 0, 512, 3, 1, 0, 10},
    {LINEAR, 64, 512, 0, 512, 1, 1, 0, 4}, {SELF, 64, 512, 0, 1, 1, 1, 0, 1},
    {CONV, 128, 512, 0, 512, 3, 1, 1, 1},  {CONV, 128, 512, 0, 512, 3, 1, 0, 6},
    {CONV, 256, 512, 0, 512, 3, 1, 1, 1},  {CONV, 256, 512, 0, 256, 3, 1, 0, 1},
    {CONV, 256, 512, 0, 256, 1, 1, 0, 1},  {CONV, 256, 256, 0, 256, 3, 1, 0, 5},
    {CONV, 512, 256, 0, 256, 3, 1, 1, 1},  {CONV, 512, 256, 0, 128, 3, 1, 0, 1},
    {CONV, 512, 256, 0, 128, 1, 1, 0, 1},  {CONV, 512, 128, 0, 128, 3, 1, 0, 5},
    {CONV, 512, 128, 0, 3, 3, 1, 0, 1},    {GROUP, 64, 512, 0, 0, 1, 1, 0, 11},
    {GROUP, 128, 512, 0, 0, 1, 1, 0, 6},   {GROUP, 256, 512, 0, 0, 1, 1, 0, 1},
    {GROUP, 256, 256, 0, 0, 1, 1, 0, 5},   {GROUP, 512, 256, 0, 0, 1, 1, 0, 1},
    {GROUP, 512, 128, 0, 0, 1, 1, 0, 6},
};

/*
 * Wall time on two threads or more. On one thread CPU time, which other processes disturb less.
 */
static clockid_t bench_clock = CLOCK_MONOTONIC;

static double now(void)
{
    struct timespec t;
    clock_gettime(bench_clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void fail(const char *what)
{
    fprintf(stderr, "bench_kernels: %s\n", what);
    exit(1);
}

/* ---- The float32 peak ------------------------------------------------------------------------ */

static volatile double peak_sink[256];

__attribute__((target("avx512f"))) static void peak_task(void *ctx, uint32_t task, uint32_t worker)
{
    (void)worker;
    __m512 a[12];
    for (int i = 0; i < 12; i++)
        a[i] = _mm512_set1_ps((float)i);
    __m512 factor = _mm512_set1_ps(0.5f);
    for (int64_t n = 0; n < *(const int64_t *)ctx; n++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            a[i] = _mm512_fmadd_ps(a[i], factor, factor);
        __asm__ volatile("" : "+v"(factor)); /* a new value each round, or the loop is folded */
    }
    float sum = 0.0f;
    for (int i = 0; i < 12; i++)
        sum += _mm512_reduce_add_ps(a[i]);
    peak_sink[task] = (double)sum;
}

/* GFLOP/s of independent 512-bit multiply-adds on all threads; 0 without AVX-512. */
static double measure_peak(uint32_t threads)
{
    struct ld_pool *pool;
    struct ld_error err = {0};
    int64_t rounds = 30000000;
    if (!__builtin_cpu_supports("avx512f") || ld_pool_create(&pool, threads, &err) != LD_OK)
        return 0.0;
    threads = ld_pool_threads(pool);
    double best = 0.0;
    for (int i = 0; i < 3; i++) {
        double start = now();
        ld_pool_run(pool, threads, peak_task, &rounds);
        double rate = (double)rounds * 12 * 32 * threads / (now() - start) * 1e-9;
        best = rate > best ? rate : best;
    }
    ld_pool_destroy(pool);
    return best;
}

/* ---- Operators ------------------------------------------------------------------------------- */

struct bench {
    struct ld_backend *backend;
    int32_t batch;
    float *buffer[5]; /* each large enough for the widest map */
    unsigned char *raw;
    double seconds[KINDS], flops[KINDS];
};

static struct ld_weight *weight(struct bench *b, enum ld_weight_kind kind, int32_t rows, int32_t k,
                                int32_t kernel)
{
    struct ld_weight_desc desc = {
        .kind = kind, .rows = rows, .k = k, .kernel = kernel, .part_count = 1};
    desc.parts[0] = (struct ld_weight_part){.data = b->raw, .dtype = LD_DTYPE_F16};
    if (kind != LD_WEIGHT_VECTOR)
        desc.bias[0] = (struct ld_weight_part){.data = b->raw, .dtype = LD_DTYPE_F16};
    struct ld_weight *out;
    struct ld_error err = {0};
    if (b->backend->ops->weight_create(b->backend, &desc, &out, &err) != LD_OK)
        fail("no memory for a weight");
    return out;
}

struct prepared {
    struct ld_weight *w, *gamma, *beta;
};

static enum ld_code run_once(struct bench *b, const struct shape *s, const struct prepared *p)
{
    const struct ld_ops *ops = b->backend->ops;
    struct ld_error err = {0};
    int32_t positions = s->side * s->side;
    int32_t side = s->up ? s->side / 2 : s->side;
    float **x = b->buffer;
    switch (s->kind) {
    case CONV: {
        struct ld_conv2d op = {.x0 = x[0],
                               .x1 = s->c1 ? x[1] : NULL,
                               .c0 = s->c0,
                               .c1 = s->c1,
                               .batch = b->batch,
                               .in_h = side,
                               .in_w = side,
                               .stride = s->stride,
                               .pad_before = s->kernel / 2,
                               .pad_after = s->kernel / 2,
                               .weight = p->w,
                               .residual = x[2],
                               .y = x[3]};
        op.up_h = op.up_w = s->up ? s->side : 0;
        return ops->conv2d(b->backend, &op, &err);
    }
    case LINEAR:
    case GEGLU: {
        struct ld_linear op = {.x0 = x[0],
                               .c0 = s->c0,
                               .rows = b->batch * positions,
                               .rows_per_image = positions,
                               .weight = p->w,
                               .y = x[3],
                               .activation = s->kind == GEGLU ? LD_ACT_GEGLU : LD_ACT_NONE};
        return ops->linear(b->backend, &op, &err);
    }
    case SELF:
    case CROSS: {
        int32_t kv = s->kind == SELF ? positions : 77;
        struct ld_attention op = {.q = x[0],
                                  .k = x[1],
                                  .v = x[2],
                                  .o = x[3],
                                  .batch = b->batch,
                                  .q_rows = positions,
                                  .kv_rows = kv,
                                  .q_stride = s->c0,
                                  .k_stride = s->c0,
                                  .v_stride = s->c0,
                                  .o_stride = s->c0,
                                  .heads = s->n,
                                  .head_dim = s->c0 / s->n,
                                  .scale = 0.125f};
        return ops->attention(b->backend, &op, &err);
    }
    case GROUP: {
        struct ld_group_norm op = {.x0 = x[0],
                                   .x1 = s->c1 ? x[1] : NULL,
                                   .c0 = s->c0,
                                   .c1 = s->c1,
                                   .batch = b->batch,
                                   .positions = positions,
                                   .groups = 32,
                                   .epsilon = 1e-5f,
                                   .silu = true,
                                   .gamma = p->gamma,
                                   .beta = p->beta,
                                   .y = x[3]};
        return ops->group_norm(b->backend, &op, &err);
    }
    case LAYER: {
        struct ld_layer_norm op = {.x = x[0],
                                   .rows = b->batch * positions,
                                   .channels = s->c0,
                                   .epsilon = 1e-5f,
                                   .gamma = p->gamma,
                                   .beta = p->beta,
                                   .y = x[3]};
        return ops->layer_norm(b->backend, &op, &err);
    }
    case KINDS:
        break;
    }
    return LD_E_BUG;
}

static double flops_of(const struct bench *b, const struct shape *s)
{
    double rows = (double)b->batch * s->side * s->side / (s->stride * s->stride);
    double k = (double)(s->c0 + s->c1) * s->kernel * s->kernel;
    if (s->kind == CONV || s->kind == LINEAR)
        return 2.0 * rows * k * s->n;
    if (s->kind == GEGLU)
        return 4.0 * rows * k * s->n;
    if (s->kind == SELF)
        return 4.0 * rows * s->c0 * s->side * s->side;
    if (s->kind == CROSS)
        return 4.0 * rows * s->c0 * 77;
    return 0.0;
}

static void bench_shape(struct bench *b, const struct shape *s, double peak)
{
    struct prepared p = {0};
    if (s->kind == CONV)
        p.w = weight(b, LD_WEIGHT_CONV, s->n, s->c0 + s->c1, s->kernel);
    if (s->kind == LINEAR)
        p.w = weight(b, LD_WEIGHT_LINEAR, s->n, s->c0, 1);
    if (s->kind == GEGLU)
        p.w = weight(b, LD_WEIGHT_GEGLU, 2 * s->n, s->c0, 1);
    if (s->kind == GROUP || s->kind == LAYER) {
        p.gamma = weight(b, LD_WEIGHT_VECTOR, s->c0 + s->c1, 1, 1);
        p.beta = weight(b, LD_WEIGHT_VECTOR, s->c0 + s->c1, 1, 1);
    }
    double best = 1e30;
    double begin = now();
    for (int i = 0; i < 3 || (i < 30 && now() - begin < 0.3); i++) {
        double start = now();
        if (run_once(b, s, &p) != LD_OK)
            fail("an operator refused its shape");
        double seconds = now() - start;
        best = seconds < best ? seconds : best;
    }
    double flops = flops_of(b, s);
    b->seconds[s->kind] += best * s->count;
    b->flops[s->kind] += flops * s->count;
    printf("%-11s %3d^2 %4d+%-4d -> %4d k%d s%d u%d  x%-2d %9.3f ms %8.1f GFLOP/s %5.0f %%\n",
           kind_names[s->kind], s->side, s->c0, s->c1, s->n, s->kernel, s->stride, s->up, s->count,
           best * 1e3, flops / best * 1e-9, peak > 0.0 ? flops / best * 1e-7 / peak : 0.0);
    b->backend->ops->weight_destroy(b->backend, p.w);
    b->backend->ops->weight_destroy(b->backend, p.gamma);
    b->backend->ops->weight_destroy(b->backend, p.beta);
}

static void bench_network(struct bench *b, const char *name, const struct shape *shapes,
                          size_t count, double peak)
{
    memset(b->seconds, 0, sizeof b->seconds);
    memset(b->flops, 0, sizeof b->flops);
    for (size_t i = 0; i < count; i++)
        bench_shape(b, &shapes[i], peak);
    double seconds = 0.0;
    double flops = 0.0;
    printf("\n%s, by class:\n", name);
    for (int k = 0; k < KINDS; k++) {
        if (b->seconds[k] > 0.0)
            printf("  %-11s %8.3f s %8.1f GFLOP/s %5.0f %% of peak\n", kind_names[k], b->seconds[k],
                   b->flops[k] / b->seconds[k] * 1e-9,
                   peak > 0.0 ? b->flops[k] / b->seconds[k] * 1e-7 / peak : 0.0);
        seconds += b->seconds[k];
        flops += b->flops[k];
    }
    printf("  %-11s %8.3f s %8.1f GFLOP/s (%.3f TFLOP)\n\n", "total", seconds,
           flops / seconds * 1e-9, flops * 1e-12);
}

static enum ld_cpu_level level_of(const char *name)
{
    static const char *const names[] = {"auto", "generic", "avx2", "avx512", "amx"};
    for (int i = 0; i < 5; i++) {
        if (strcmp(name, names[i]) == 0)
            return (enum ld_cpu_level)i;
    }
    fail("the level is auto, generic, avx2, avx512 or amx");
    return LD_CPU_AUTO;
}

int main(int argc, char **argv)
{
    enum ld_cpu_level level = argc > 1 ? level_of(argv[1]) : LD_CPU_AUTO;
    uint32_t threads = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0;
    if (threads == 1)
        bench_clock = CLOCK_PROCESS_CPUTIME_ID;
    const char *only = argc > 3 ? argv[3] : "";
    struct bench b = {0};
    struct ld_error err = {0};
    if (ld_cpu_backend_create(&b.backend, threads, level, &err) != LD_OK)
        fail(err.detail);
    size_t floats = (size_t)512 * 512 * 256;
    for (int i = 0; i < 5; i++) {
        b.buffer[i] = ld_block_alloc(floats * sizeof(float));
        if (b.buffer[i] == NULL)
            fail("no memory for activations");
        for (size_t j = 0; j < floats; j++)
            b.buffer[i][j] = (float)((j * 2654435761u >> 7) % 2048) / 1024.0f - 1.0f;
    }
    size_t elements = (size_t)1280 * 2560 * 9;
    b.raw = ld_block_alloc(elements * 2);
    if (b.raw == NULL)
        fail("no memory for weights");
    for (size_t j = 0; j < elements; j++) {
        uint16_t bits = ld_f16_from_f32((float)((j * 2246822519u >> 5) % 2048) / 65536.0f);
        memcpy(b.raw + 2 * j, &bits, 2);
    }
    double peak = measure_peak(threads);
    printf("%s; float32 FMA peak %.1f GFLOP/s\n\n", b.backend->description, peak);
    if (strcmp(only, "vae") != 0) {
        b.batch = 2;
        bench_network(&b, "One CFG step, 512x512", unet, sizeof unet / sizeof unet[0], peak);
    }
    if (strcmp(only, "unet") != 0) {
        b.batch = 1;
        bench_network(&b, "One VAE decode, 512x512", vae, sizeof vae / sizeof vae[0], peak);
    }
    b.backend->ops->destroy(b.backend);
    return 0;
}
