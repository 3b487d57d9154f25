/*
 * One evaluation of a denoiser from the command line, for tests that compare it with other
 * programs:
 *
 *     denoise MODEL HEIGHT WIDTH TOKENS T [CONTROLNET STRENGTH]...
 *
 * STRENGTH is one number, or one a map with commas between them. On stdin float32: x [4, HEIGHT,
 * WIDTH], the context [TOKENS, its width], then of each ControlNet its hint [3, 8 HEIGHT, 8 WIDTH].
 * On stdout float32: what the network gives, [4, HEIGHT, WIDTH].
 */
#include "runtime/model/control.h"
#include "runtime/model/model.h"

#include <stdio.h>
#include <stdlib.h>

enum { FIRST_CONTROL = 6, ROOM = 1 << 26 };

struct denoise {
    struct ld_backend *backend;
    struct ld_model *model;
    struct ld_model *controls[LD_CONTROL_NETS_MAX];
    float strength[LD_CONTROL_NETS_MAX][LD_CONTROL_OUTPUTS_MAX];
    struct ld_unet_hint hints[LD_CONTROL_NETS_MAX];
    int32_t control_count;
};

static const float *take(float **at, size_t count)
{
    const float *values = *at;
    *at += count;
    if (fread(*at - count, sizeof(float), count, stdin) != count) {
        fprintf(stderr, "denoise: too little on stdin\n");
        exit(2);
    }
    return values;
}

static enum ld_code open_all(struct denoise *d, int argc, char **argv, struct ld_error *err)
{
    const struct ld_weights_options control = {.control = true, .prediction = -1};
    enum ld_code code = ld_cpu_backend_create(&d->backend, 2, LD_CPU_AUTO, err);
    if (code == LD_OK)
        code = ld_model_open(&d->model, d->backend, argv[1], NULL, err);
    for (int i = FIRST_CONTROL; code == LD_OK && i + 1 < argc; i += 2) {
        const int32_t net = d->control_count++;
        code = ld_model_open(&d->controls[net], d->backend, argv[i], &control, err);
        char *next = argv[i + 1];
        for (int k = 0; k < LD_CONTROL_OUTPUTS_MAX; k++) {
            d->strength[net][k] = strtof(next, &next);
            next = *next == ',' ? next + 1 : argv[i + 1];
        }
        d->hints[net].strength = d->strength[net];
        d->hints[net].serial = 1 + (uint64_t)net;
    }
    return code;
}

int main(int argc, char **argv)
{
    static struct denoise d;
    struct ld_error err = {0};
    if (argc < FIRST_CONTROL || (argc - FIRST_CONTROL) / 2 > LD_CONTROL_NETS_MAX) {
        fprintf(stderr, "denoise MODEL HEIGHT WIDTH TOKENS T [CONTROLNET STRENGTH]...\n");
        return 2;
    }
    float *memory = ld_block_alloc(ROOM * sizeof *memory);
    float *at = memory;
    const int32_t height = atoi(argv[2]);
    const int32_t width = atoi(argv[3]);
    const int32_t tokens = atoi(argv[4]);
    const size_t cells = (size_t)height * (size_t)width;
    if (!memory || open_all(&d, argc, argv, &err) != LD_OK) {
        fprintf(stderr, "denoise: %s\n", err.detail);
        return 1;
    }
    struct ld_unet_row row = {.scale = 1, .t = strtof(argv[5], NULL), .context_tokens = tokens};
    row.x = take(&at, 4 * cells);
    row.context = take(&at, (size_t)tokens * (size_t)ld_model_arch(d.model)->unet_context);
    for (int32_t i = 0; i < d.control_count; i++)
        d.hints[i].planes = take(&at, LD_HINT_CHANNELS * LD_HINT_FACTOR * LD_HINT_FACTOR * cells);
    row.hints = d.hints;
    row.eps = at;
    const struct ld_unet_request request = {.rows = &row,
                                            .row_count = 1,
                                            .height = height,
                                            .width = width,
                                            .options = {.controls = d.control_count},
                                            .controls = d.controls};
    const enum ld_code code = ld_model_unet(d.model, NULL, &request, &err);
    if (code != LD_OK)
        fprintf(stderr, "denoise: %s\n", err.detail);
    else
        fwrite(row.eps, sizeof(float), 4 * cells, stdout);
    for (int32_t i = 0; i < d.control_count; i++)
        ld_model_destroy(d.controls[i]);
    ld_model_destroy(d.model);
    d.backend->ops->destroy(d.backend);
    ld_block_free(memory, ROOM * sizeof *memory);
    return code == LD_OK ? 0 : 1;
}
