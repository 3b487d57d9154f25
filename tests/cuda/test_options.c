/* Proves that what guidance asks of the UNet itself (FreeU, the middle block's identity of PAG, its
 * q, k, v for SAG's map) and deep shrink come out of the CUDA kernels as out of the CPU backend,
 * and that each changes the result, so that nothing is left aside in silence. How: one evaluation
 * of a small UNet over the host build of the kernels, at the tolerance of kernels.md 15. */
#include "runtime/model/unet_sag.h"
#include "tests/cuda/networks.h"

#include <stdio.h>
#include <string.h>

enum { H = 16, W = 16, LATENT = 4 * H * W, CHUNK = 77, WIDTH_MAX = 768, QKV_MAX = 3 * 1280 * H };

static float input[LATENT];
static float context[CHUNK * WIDTH_MAX];

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
        network_stop(on->backend->name, &err);
}

/* Distance of the CUDA kernels' result from the CPU's, and of the option's from the plain one. */
static void compare(const char *name, const struct network *cuda, const struct network *cpu,
                    const struct ld_unet_options *options, double limit, const struct result *plain)
{
    static struct result want;
    static struct result got;
    run(cpu, options, &want);
    run(cuda, options, &got);
    const double distance = network_distance(got.eps, want.eps, LATENT);
    network_report(name, "as on the CPU", distance < limit, distance);
    if (want.positions > 0) {
        const double map = network_distance(got.scores, want.scores, want.positions);
        network_report(name, "the map as on the CPU", map < limit, map);
    } else if (plain) {
        const double change = network_distance(got.eps, plain->eps, LATENT);
        /* Equal runs give equal bits: an option left aside would change none. */
        network_report(name, "it changes the result", change > 0, change);
    }
}

/* The kernels read the same values, wherever a weight lies for the moment. */
static void check_streamed(const char *path, const struct result *plain)
{
    static const struct ld_unet_options none;
    static struct result got;
    struct network streamed;
    network_open_streamed(&streamed, path);
    for (int i = 0; i < 2; i++) { /* the second time without the keys and values of the prompt */
        memset(&got, 0, sizeof got);
        run(&streamed, &none, &got);
        network_report("streamed weights", "give the same bits",
                       memcmp(got.eps, plain->eps, sizeof got.eps) == 0,
                       network_distance(got.eps, plain->eps, LATENT));
    }
    network_close(&streamed);
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
    network_open(&cuda, path, "cuda", "fp16");
    run(&cuda, &none, &plain);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        compare(cases[i].name, &cuda, cpu, &cases[i].options, limit, &plain);
    network_close(&cuda);
    check_streamed(path, &plain);
}

int main(int argc, char **argv)
{
    struct network cpu;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 2) {
        fprintf(stderr, "usage: test_options MODEL\n");
        return 2;
    }
    network_fill(input, LATENT, 1);
    network_fill(context, CHUNK * WIDTH_MAX, 2);
    network_open(&cpu, argv[1], "cpu", "");
    LD_ASSERT(ld_model_arch(cpu.model)->unet_context <= WIDTH_MAX);
    check(argv[1], 1e-2, &cpu);
    network_close(&cpu);
    return network_end();
}
