/* Proves that what a ControlNet adds comes out of the CUDA kernels as out of the CPU backend, from
 * the hint's first convolution on, and that its strength is the row's own. How: evaluations of the
 * demo model with its ControlNet over the host build of the kernels, at the tolerance of kernels.md
 * 15; rows of a batch are compared bit for bit with themselves alone. */
#include "runtime/model/control.h"
#include "tests/cuda/networks.h"

#include <stdio.h>
#include <string.h>

enum { H = 4, W = 3, LATENT = 4 * H * W, CHUNK = 77, WIDTH_MAX = 768, ROWS = 2 };
enum { HINT = LD_HINT_CHANNELS * LD_HINT_FACTOR * LD_HINT_FACTOR * H * W };

static float inputs[ROWS][LATENT];
static float context[CHUNK * WIDTH_MAX];
static float hints[ROWS][HINT];

/* A model with its ControlNet on one backend. */
struct pair {
    struct network on;
    struct ld_model *control;
};

static void open_pair(struct pair *pair, char **paths, const char *backend, const char *precision)
{
    const struct ld_weights_options options = {.control = true, .prediction = -1};
    struct ld_error err = {0};
    network_open(&pair->on, paths[0], backend, precision);
    if (ld_model_open(&pair->control, pair->on.backend, paths[1], &options, &err) != LD_OK)
        network_stop(paths[1], &err);
}

static void close_pair(struct pair *pair)
{
    ld_model_destroy(pair->control);
    network_close(&pair->on);
}

/* `count` rows from `first` on; 0 nets: without the ControlNet. */
static void run(const struct pair *pair, uint32_t first, uint32_t count, int32_t nets,
                float eps[ROWS][LATENT])
{
    struct ld_error err = {0};
    struct ld_unet_row rows[ROWS];
    struct ld_unet_hint of[ROWS];
    float strength[ROWS][LD_CONTROL_OUTPUTS_MAX];
    for (uint32_t r = first; r < first + count; r++) {
        for (int i = 0; i < LD_CONTROL_OUTPUTS_MAX; i++)
            strength[r][i] = r == 0 ? 1.0F : 0.5F;
        of[r] = (struct ld_unet_hint){.planes = hints[r], .serial = 1 + r, .strength = strength[r]};
        rows[r] = (struct ld_unet_row){.x = inputs[r],
                                       .scale = 0.4F,
                                       .t = r == 0 ? 500 : 37.5F,
                                       .context = context,
                                       .context_tokens = CHUNK,
                                       .hints = &of[r],
                                       .eps = eps[r]};
    }
    const struct ld_unet_request request = {.rows = &rows[first],
                                            .row_count = count,
                                            .height = H,
                                            .width = W,
                                            .options = {.controls = nets},
                                            .controls = &pair->control};
    if (ld_model_unet(pair->on.model, NULL, &request, &err) != LD_OK)
        network_stop(pair->on.backend->name, &err);
}

static void check(char **paths, const char *precision, double limit)
{
    static float want[ROWS][LATENT];
    static float got[ROWS][LATENT];
    static float alone[ROWS][LATENT];
    static float plain[ROWS][LATENT];
    struct pair cpu;
    struct pair cuda;
    open_pair(&cpu, paths, "cpu", "");
    open_pair(&cuda, paths, "cuda", precision);
    run(&cpu, 0, ROWS, 1, want);
    run(&cuda, 0, ROWS, 1, got);
    run(&cuda, 0, ROWS, 0, plain);
    for (uint32_t r = 0; r < ROWS; r++) {
        const double distance = network_distance(got[r], want[r], LATENT);
        const double change = network_distance(got[r], plain[r], LATENT);
        network_report(precision, "a row as on the CPU", distance < limit, distance);
        network_report(precision, "it changes the result by more", change > 2 * limit, change);
    }
    run(&cuda, 1, 1, 1, alone);
    network_report(precision, "a row alone has the same bits",
                   memcmp(alone[1], got[1], sizeof alone[1]) == 0,
                   network_distance(alone[1], got[1], LATENT));
    close_pair(&cuda);
    close_pair(&cpu);
}

int main(int argc, char **argv)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 3) {
        fprintf(stderr, "usage: test_control MODEL CONTROLNET\n");
        return 2;
    }
    for (uint32_t r = 0; r < ROWS; r++) {
        network_fill(inputs[r], LATENT, 1 + r);
        network_fill(hints[r], HINT, 5 + r);
        for (size_t i = 0; i < HINT; i++) /* a drawing: 0 and 1 */
            hints[r][i] = hints[r][i] > 1 ? 1.0F : 0.0F;
    }
    network_fill(context, CHUNK * WIDTH_MAX, 9);
    check(&argv[1], "fp16", 1e-2);
    return network_end();
}
