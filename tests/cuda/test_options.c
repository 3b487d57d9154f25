/* Proves that what guidance asks of the UNet itself (FreeU, the middle block's identity of PAG, its
 * q, k, v for SAG's map) and deep shrink come out of the CUDA kernels as out of the CPU backend,
 * and that each changes the result, so that nothing is left aside in silence. How: one evaluation
 * of a small UNet over the host build of the kernels, at the tolerance of kernels.md 15. */
#include "runtime/gpu/device.h"
#include "runtime/model/model.h"
#include "runtime/model/unet_sag.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { H = 16, W = 16, LATENT = 4 * H * W, CHUNK = 77, WIDTH_MAX = 768, QKV_MAX = 3 * 1280 * H };

static unsigned passed, failed;
static float input[LATENT];
static float context[CHUNK * WIDTH_MAX];

static void report(const char *option, const char *claim, bool holds, double figure)
{
    printf("%s %s: %s (%.3g)\n", holds ? "ok  " : "FAIL", option, claim, figure);
    *(holds ? &passed : &failed) += 1;
}

struct network {
    struct ld_backend *backend;
    struct ld_model *model;
};

static void stop(const char *what, const struct ld_error *err)
{
    printf("FAIL %s: %s\n", what, err->detail);
    exit(1);
}

static void open_on(struct network *on, const char *path, const char *backend,
                    const char *precision)
{
    struct ld_error err = {0};
    const struct ld_device_choice choice = {
        .backend = backend, .precision = precision, .threads = 1};
    if (ld_device_open(&on->backend, &choice, NULL, &err) != LD_OK ||
        ld_model_open(&on->model, on->backend, path, NULL, &err) != LD_OK)
        stop(backend, &err);
    LD_ASSERT(ld_model_arch(on->model)->unet_context <= WIDTH_MAX);
}

static void close_on(struct network *on)
{
    ld_model_destroy(on->model);
    on->backend->ops->destroy(on->backend);
}

/* Reproducible values, roughly normal. */
static void fill(float *values, size_t count, uint64_t state)
{
    for (size_t i = 0; i < count; i++) {
        float sum = 0;
        for (int k = 0; k < 12; k++) {
            state = state * 6364136223846793005U + 1442695040888963407U;
            sum += (float)(state >> 40) * 0x1p-24F;
        }
        values[i] = sum - 6;
    }
}

static double distance_of(const float *a, const float *b, size_t count)
{
    double difference = 0;
    double size = 0;
    for (size_t i = 0; i < count; i++) {
        difference += pow((double)a[i] - (double)b[i], 2);
        size += pow((double)b[i], 2);
    }
    return sqrt(difference / size);
}

struct result {
    float eps[LATENT];
    float qkv[QKV_MAX];
    float scores[H];
    size_t positions; /* of the middle block; 0: it was not asked for */
};

static void run(const struct network *on, const struct ld_unet_options *options, struct result *out)
{
    struct ld_error err = {0};
    const struct ld_unet_shape shape = {1, H, W, CHUNK};
    const struct ld_unet_middle middle = ld_unet_middle(ld_model_arch(on->model), &shape, options);
    const struct ld_unet_row row = {.x = input,
                                    .scale = 0.4F,
                                    .t = 500,
                                    .context = context,
                                    .context_tokens = CHUNK,
                                    .eps = out->eps,
                                    .qkv = options->middle_qkv ? out->qkv : NULL};
    const struct ld_unet_request request = {
        .rows = &row, .row_count = 1, .height = H, .width = W, .options = *options};
    out->positions = options->middle_qkv ? (size_t)middle.height * (size_t)middle.width : 0;
    enum ld_code code =
        3 * (size_t)middle.channels * (size_t)middle.height * (size_t)middle.width <= QKV_MAX
            ? ld_model_unet(on->model, NULL, &request, &err)
            : LD_E_TOO_LARGE;
    if (code == LD_OK && out->positions > 0)
        code = ld_sag_scores(out->qkv, middle.channels, middle.heads, (int32_t)out->positions,
                             out->scores, &err);
    if (code != LD_OK)
        stop(on->backend->name, &err);
}

/* Distance of the CUDA kernels' result from the CPU's, and of the option's from the plain one. */
static void compare(const char *name, const struct network *cuda, const struct network *cpu,
                    const struct ld_unet_options *options, double limit, const struct result *plain)
{
    static struct result want;
    static struct result got;
    run(cpu, options, &want);
    run(cuda, options, &got);
    const double distance = distance_of(got.eps, want.eps, LATENT);
    report(name, "as on the CPU", distance < limit, distance);
    if (want.positions > 0) {
        const double map = distance_of(got.scores, want.scores, want.positions);
        report(name, "the map as on the CPU", map < limit, map);
    } else if (plain) {
        const double change = distance_of(got.eps, plain->eps, LATENT);
        /* Equal runs give equal bits: an option left aside would change none. */
        report(name, "it changes the result", change > 0, change);
    }
}

static void check(const char *path, double limit, const struct network *cpu)
{
    static const struct ld_unet_options none;
    static const struct {
        const char *name;
        struct ld_unet_options options;
    } cases[] = {
        {"FreeU",
         {.freeu = LD_FREEU_V1,
          .freeu_b1 = 1.5F,
          .freeu_b2 = 1.6F,
          .freeu_s1 = 0.9F,
          .freeu_s2 = 0.2F}},
        {"FreeU 2",
         {.freeu = LD_FREEU_V2,
          .freeu_b1 = 1.5F,
          .freeu_b2 = 1.6F,
          .freeu_s1 = 0.9F,
          .freeu_s2 = 0.2F}},
        {"PAG", {.middle_identity = true}},
        {"SAG", {.middle_qkv = true}},
        {"deep shrink",
         {.shrink = true,
          .shrink_after_skip = true,
          .shrink_block = 3,
          .shrink_factor = 2,
          .shrink_down = LD_RESIZE_BICUBIC,
          .shrink_up = LD_RESIZE_BICUBIC}},
    };
    static struct result plain;
    struct network cuda;
    open_on(&cuda, path, "cuda", "fp16");
    run(&cuda, &none, &plain);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        compare(cases[i].name, &cuda, cpu, &cases[i].options, limit, &plain);
    close_on(&cuda);
}

int main(int argc, char **argv)
{
    struct network cpu;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 2) {
        fprintf(stderr, "usage: test_options MODEL\n");
        return 2;
    }
    fill(input, LATENT, 1);
    fill(context, CHUNK * WIDTH_MAX, 2);
    open_on(&cpu, argv[1], "cpu", "");
    check(argv[1], 1e-2, &cpu);
    close_on(&cpu);
    printf("%u passed, %u failed\n", passed, failed);
    return failed || passed == 0 ? 1 : 0;
}
