/* Proves that a picture in strips of rows comes out of the CUDA kernels as the picture in one
 * piece: equal but for the rounding that another cut of the sums moves, as near to the CPU's
 * picture as the whole one, and the same bits each time; for an odd height, strips of few rows,
 * both halves of the VAE and both precisions. How: the demo model's VAE over the host build of the
 * kernels, at the tolerances of kernels.md 15. And that streamed weights change no bit of either.
 * (On the CPU strips equal the whole to the bit: tests/unit/test_vae_forms.c.) */
#include "tests/cuda/networks.h"

#include <stdio.h>
#include <string.h>

enum { CELLS_MAX = 16, FACTOR = 8, PICTURE = 3 * FACTOR * FACTOR * CELLS_MAX };

static float latent[4 * CELLS_MAX];
static float picture[PICTURE];

/* One half of the VAE at one size; `rows` 0: in one piece. */
struct half {
    bool encoder;
    int32_t height, width, rows;
};

static size_t values_of(const struct half *half)
{
    const size_t cells = (size_t)half->height * (size_t)half->width;
    return half->encoder ? 8 * cells : (size_t)3 * FACTOR * FACTOR * cells;
}

static void run(const struct network *on, const struct half *half, float *out)
{
    const enum ld_vae_form form = half->rows ? LD_VAE_FORM_STRIPS : LD_VAE_FORM_WHOLE;
    struct ld_error err = {0};
    ld_model_set_strip_rows(on->model, half->rows);
    const enum ld_code code =
        half->encoder ? ld_model_encode_form(on->model, picture, FACTOR * half->height,
                                             FACTOR * half->width, form, NULL, out, &err)
                      : ld_model_decode_form(on->model, latent, half->height, half->width, 1, form,
                                             NULL, out, &err);
    if (code != LD_OK)
        network_stop(half->encoder ? "encoder" : "decoder", &err);
}

/* Strips against the CPU's result `want` and the whole form's `whole`. */
static void check_strips(const struct network *cuda, const struct half *half, double limit,
                         const float *want, const float *whole)
{
    static float strips[PICTURE];
    char name[96];
    const size_t count = values_of(half);
    (void)snprintf(name, sizeof name, "%s %dx%d, strips of %d",
                   half->encoder ? "encoder" : "decoder", (int)half->height, (int)half->width,
                   (int)half->rows);
    run(cuda, half, strips);
    const double apart = network_distance(strips, whole, count);
    network_report(name, "as in one piece", apart < limit, apart);
    const double distance = network_distance(strips, want, count);
    network_report(name, "as on the CPU", distance < limit, distance);
    if (half->encoder)
        return;
    static float again[PICTURE];
    run(cuda, half, again);
    network_report(name, "the same bits again", memcmp(again, strips, count * sizeof *again) == 0,
                   0);
}

/* One half at one size, whole and in strips of `rows`, a list that 0 ends. */
static void check(const struct network *cuda, const struct network *cpu, struct half half,
                  const int32_t *rows, double limit)
{
    static float want[PICTURE];
    static float whole[PICTURE];
    half.rows = 0;
    run(cpu, &half, want);
    run(cuda, &half, whole);
    const double distance = network_distance(whole, want, values_of(&half));
    network_report(half.encoder ? "encoder in one piece" : "decoder in one piece", "as on the CPU",
                   distance < limit, distance);
    for (; *rows; rows++) {
        half.rows = *rows;
        check_strips(cuda, &half, limit, want, whole);
    }
}

static void check_streamed(const char *path, const struct network *resident)
{
    static const struct half halves[] = {{.height = 3, .width = 2},
                                         {.height = 3, .width = 2, .rows = 2},
                                         {.encoder = true, .height = 3, .width = 2}};
    static float want[PICTURE];
    static float got[PICTURE];
    struct network streamed;
    network_open_streamed(&streamed, path);
    for (size_t i = 0; i < sizeof halves / sizeof halves[0]; i++) {
        run(resident, &halves[i], want);
        run(&streamed, &halves[i], got);
        network_report(halves[i].encoder ? "streamed encoder" : "streamed decoder", "the same bits",
                       memcmp(got, want, values_of(&halves[i]) * sizeof *got) == 0,
                       network_distance(got, want, values_of(&halves[i])));
    }
    network_close(&streamed);
}

int main(int argc, char **argv)
{
    struct network cpu;
    struct network cuda;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 2) {
        fprintf(stderr, "usage: test_vae MODEL\n");
        return 2;
    }
    network_fill(latent, 4 * CELLS_MAX, 1);
    network_fill(picture, PICTURE, 2);
    network_open(&cpu, argv[1], "cpu", "");
    network_open(&cuda, argv[1], "cuda", "fp16");
    check(&cuda, &cpu, (struct half){.height = 5, .width = 3}, (const int32_t[]){2, 6, 0}, 1e-2);
    check(&cuda, &cpu, (struct half){.encoder = true, .height = 3, .width = 2},
          (const int32_t[]){6, 0}, 1e-2);
    check_streamed(argv[1], &cuda);
    network_close(&cuda);
    network_open(&cuda, argv[1], "cuda", "bf16");
    check(&cuda, &cpu, (struct half){.height = 3, .width = 2}, (const int32_t[]){2, 0}, 4e-2);
    network_close(&cuda);
    network_close(&cpu);
    return network_end();
}
