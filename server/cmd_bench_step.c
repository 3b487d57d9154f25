/*
 * `bench step`: the time of one guided evaluation of the UNet, host latents in, host latents out,
 * as a sampler sees it. With --pipe a script says when: so two programs can take turns on one
 * device, and their ratio does not depend on its clocks.
 *
 *     step N      run N evaluations, answer `ms A B C ...`
 *     eps FILE    write the last result as float32 [rows, 4, h, w], answer `ok COUNT`
 *     end         or the end of stdin
 */
#include "runtime/base/arena.h"
#include "runtime/base/fsx.h"
#include "runtime/model/model.h"
#include "server/cmd_bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINE_SIZE = 4096, PATH_SIZE = 4096, WARM_UP = 3, INPUT_BYTES_MAX = 1 << 28 };
static const float TIMESTEP = 601;

struct step {
    const struct ld_bench_options *options;
    struct ld_backend *backend;
    struct ld_model *model;
    uint32_t rows, runs;
    int32_t height, width; /* of the latent */
    size_t latent, context;
    float *x, *contexts, *eps; /* x is shared by the two rows of an image */
    struct ld_unet_row row[2 * 64];
    struct ld_cost cost;
};

/* `count` floats from a file of the inputs folder. */
static enum ld_code read_input(const struct step *step, const char *name, float *out, size_t count,
                               struct ld_error *err)
{
    char path[PATH_SIZE];
    struct ld_buffer bytes = ld_buffer_make(INPUT_BYTES_MAX);
    if (!ld_fmt(path, sizeof path, "%s/%s", step->options->inputs, name))
        return LD_FAIL(err, LD_E_TOO_LARGE, "the name of the inputs folder is too long");
    enum ld_code code = ld_fsx_read_file(path, &bytes, err);
    if (code == LD_OK && bytes.size != count * sizeof *out)
        code = LD_FAIL(err, LD_E_SHAPE, "%s holds %zu bytes, %zu are needed", name, bytes.size,
                       count * sizeof *out);
    if (code == LD_OK)
        memcpy(out, bytes.data, bytes.size);
    ld_buffer_deinit(&bytes);
    return code;
}

static enum ld_code fill_inputs(struct step *step, struct ld_error *err)
{
    const size_t images = (size_t)step->options->batch;
    const struct ld_unet_shape shape = {(int32_t)step->rows, step->height, step->width,
                                        LD_BENCH_TOKENS};
    const struct ld_unet_options none = {0};
    enum ld_code code = LD_OK;
    if (step->options->inputs) {
        code = read_input(step, "x.f32", step->x, images * step->latent, err);
        if (code == LD_OK)
            code = read_input(step, "context.f32", step->contexts, step->rows * step->context, err);
    } else {
        ld_bench_normal(1, step->x, images * step->latent);
        ld_bench_normal(2, step->contexts, step->rows * step->context);
    }
    for (uint32_t r = 0; r < step->rows; r++)
        step->row[r] = (struct ld_unet_row){.x = step->x + (r / 2) * step->latent,
                                            .scale = 1,
                                            .t = TIMESTEP,
                                            .context = step->contexts + r * step->context,
                                            .context_tokens = LD_BENCH_TOKENS,
                                            .eps = step->eps + r * step->latent};
    if (code == LD_OK)
        code = ld_cost_unet(&step->cost, ld_model_arch(step->model), step->backend->act_dtype,
                            &shape, &none, err);
    return code;
}

static enum ld_code open_step(struct step *step, const struct ld_bench_options *options,
                              struct ld_error *err)
{
    step->options = options;
    step->rows = 2 * (uint32_t)options->batch;
    step->height = options->height / 8;
    step->width = options->width / 8;
    if (!options->model)
        return LD_FAIL(err, LD_E_INVALID, "--model FILE is needed; any SD1.5 checkpoint will do");
    enum ld_code code = ld_bench_backend_open(&step->backend, options, err);
    if (code == LD_OK)
        code = ld_bench_model_open(&step->model, step->backend, options, err);
    if (code == LD_OK)
        code = ld_model_load(step->model, LD_PART_UNET, err);
    if (code != LD_OK)
        return code;
    const struct ld_arch *arch = ld_model_arch(step->model);
    if (arch->unet_in_channels != LD_LATENT_CHANNELS)
        return LD_FAIL(err, LD_E_UNSUPPORTED, "an inpainting model is not measured");
    step->latent = LD_LATENT_CHANNELS * (size_t)step->height * (size_t)step->width;
    step->context = LD_BENCH_TOKENS * (size_t)arch->unet_context;
    step->x = ld_heap_calloc((size_t)options->batch * step->latent, sizeof *step->x);
    step->eps = ld_heap_calloc(step->rows * step->latent, sizeof *step->eps);
    step->contexts = ld_heap_calloc(step->rows * step->context, sizeof *step->contexts);
    if (!step->x || !step->eps || !step->contexts)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the inputs");
    return fill_inputs(step, err);
}

static void close_step(struct step *step)
{
    ld_heap_free(step->contexts);
    ld_heap_free(step->eps);
    ld_heap_free(step->x);
    ld_model_destroy(step->model);
    if (step->backend)
        step->backend->ops->destroy(step->backend);
}

static enum ld_code run_once(struct step *step, double *ms, struct ld_error *err)
{
    const struct ld_unet_request request = {
        .rows = step->row, .row_count = step->rows, .height = step->height, .width = step->width};
    const double start = ld_bench_now_ms();
    ld_range_push(step->backend->ranges, "step[%u]", step->runs++);
    enum ld_code code = ld_model_unet(step->model, NULL, &request, err);
    if (code == LD_OK)
        code = step->backend->ops->synchronize(step->backend, err);
    ld_range_pop(step->backend->ranges);
    *ms = ld_bench_now_ms() - start;
    return code;
}

/* ---- The pipe -------------------------------------------------------------------------------- */

static enum ld_code write_eps(const struct step *step, const char *path, struct ld_error *err)
{
    const size_t bytes = step->rows * step->latent * sizeof *step->eps;
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return LD_FAIL_OS(err, LD_E_IO, errno, "the result file cannot be opened");
    const enum ld_code code = ld_fsx_write_all(fd, ld_span_of(step->eps, bytes), err);
    (void)close(fd);
    return code;
}

static enum ld_code obey(struct step *step, char *line, bool *end, struct ld_error *err)
{
    uint64_t count;
    double ms;
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "eps ", 4) == 0) {
        const enum ld_code code = write_eps(step, line + 4, err);
        if (code == LD_OK)
            printf("ok %zu\n", step->rows * step->latent);
        return code;
    }
    if (strncmp(line, "step ", 5) == 0 && ld_parse_u64(ld_span_text(line + 5), &count) &&
        count >= 1 && count <= LD_BENCH_ROUNDS_MAX) {
        printf("ms");
        for (uint64_t i = 0; i < count; i++) {
            const enum ld_code code = run_once(step, &ms, err);
            if (code != LD_OK)
                return code;
            printf(" %.4f", ms);
        }
        printf("\n");
        return LD_OK;
    }
    *end = strcmp(line, "end") == 0;
    return *end ? LD_OK : LD_FAIL(err, LD_E_INVALID, "commands are step N, eps FILE and end");
}

static enum ld_code serve(struct step *step, struct ld_error *err)
{
    char line[LINE_SIZE];
    bool end = false;
    enum ld_code code = LD_OK;
    printf("ready %s, %zu bytes of weights\n", step->backend->description,
           ld_model_weight_bytes(step->model));
    while (code == LD_OK && !end && fflush(stdout) == 0 && fgets(line, sizeof line, stdin))
        code = obey(step, line, &end, err);
    return code;
}

/* ---- Alone ----------------------------------------------------------------------------------- */

static void report(const struct step *step, const struct ld_bench_times *times,
                   struct ld_buffer *json)
{
    const double flop = 2 * (double)step->cost.macs;
    ld_buffer_text(json, "{");
    ld_bench_json_head(json, step->options, step->backend);
    ld_buffer_format(json, ",\"width\":%d,\"height\":%d,\"batch\":%d,\"flop\":%.6g,\"step\":",
                     step->options->width, step->options->height, step->options->batch, flop);
    ld_bench_times_json(json, times);
    ld_buffer_format(json, ",\"tflops\":%.5g}", flop / times->median * 1e-9);
    if (!step->options->json)
        printf("%s: %dx%d, %d image(s), step %.3f ms (%.3f to %.3f, %u rounds), %.2f TFLOP/s\n",
               step->backend->description, step->options->width, step->options->height,
               step->options->batch, times->median, times->low, times->high, times->count,
               flop / times->median * 1e-9);
}

enum ld_code ld_bench_step(const struct ld_bench_options *options, struct ld_buffer *json,
                           struct ld_error *err)
{
    struct step step = {0};
    struct ld_bench_times times = {0};
    double ms;
    enum ld_code code = open_step(&step, options, err);
    if (code == LD_OK && options->pipe) {
        code = serve(&step, err);
        ld_buffer_text(json, "{}");
    } else if (code == LD_OK) {
        for (uint32_t r = 0; code == LD_OK && r < WARM_UP + options->rounds; r++) {
            code = run_once(&step, &ms, err);
            if (code == LD_OK && r >= WARM_UP && times.count < LD_BENCH_ROUNDS_MAX)
                ld_bench_times_add(&times, ms);
        }
        ld_bench_times_finish(&times);
        if (code == LD_OK)
            report(&step, &times, json);
    }
    close_step(&step);
    return code;
}
