/*
 * `bench image`: a whole picture by phase: both prompts through the text encoder, the guided steps
 * of a sampler, the decoder. Token ids are random and the weights may be, so the picture means
 * nothing; the work is that of any other.
 */
#include "runtime/base/arena.h"
#include "runtime/model/model.h"
#include "runtime/sample/noise.h"
#include "runtime/sample/schedule.h"
#include "server/cmd_bench.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ARENA_BYTES_MAX = 1 << 30, WARM_UP = 1, SEED = 1 };
static const double GUIDANCE = 6;
static const float LATENT_SCALE = 1 / 0.18215F;

struct image {
    const struct ld_bench_options *options;
    struct ld_backend *backend;
    struct ld_model *model;
    int32_t height, width;
    size_t latent, context;
    float *contexts;  /* positive, negative */
    float *x, *eps;   /* [latent], [2][latent] */
    double *denoised; /* [latent] */
    float *picture;   /* [3][8h][8w] */
    size_t nonfinite; /* values of the picture that are no numbers */
};

struct phases {
    struct ld_bench_times text, steps, decode, total;
};

static enum ld_code open_image(struct image *image, const struct ld_bench_options *options,
                               struct ld_error *err)
{
    image->options = options;
    image->height = options->height / 8;
    image->width = options->width / 8;
    if (!options->model)
        return LD_FAIL(err, LD_E_INVALID, "--model FILE is needed; any SD1.5 checkpoint will do");
    enum ld_code code = ld_bench_backend_open(&image->backend, options, err);
    if (code == LD_OK)
        code = ld_model_open(&image->model, image->backend, options->model, NULL, err);
    for (int part = 0; code == LD_OK && part < LD_PART_COUNT; part++) {
        if (part != LD_PART_VAE_ENCODER)
            code = ld_model_load(image->model, (enum ld_part)part, err);
    }
    if (code != LD_OK)
        return code;
    image->latent = LD_LATENT_CHANNELS * (size_t)image->height * (size_t)image->width;
    image->context = LD_BENCH_TOKENS * (size_t)ld_model_arch(image->model)->unet_context;
    image->contexts = ld_heap_calloc(2 * image->context, sizeof *image->contexts);
    image->x = ld_heap_calloc(image->latent, sizeof *image->x);
    image->eps = ld_heap_calloc(2 * image->latent, sizeof *image->eps);
    image->denoised = ld_heap_calloc(image->latent, sizeof *image->denoised);
    image->picture =
        ld_heap_calloc(3 * (size_t)options->height * (size_t)options->width, sizeof(float));
    if (!image->contexts || !image->x || !image->eps || !image->denoised || !image->picture)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the picture");
    return LD_OK;
}

static void close_image(struct image *image)
{
    ld_heap_free(image->picture);
    ld_heap_free(image->denoised);
    ld_heap_free(image->eps);
    ld_heap_free(image->x);
    ld_heap_free(image->contexts);
    ld_model_destroy(image->model);
    if (image->backend)
        image->backend->ops->destroy(image->backend);
}

/* ---- Phases ---------------------------------------------------------------------------------- */

static enum ld_code encode_text(struct image *image, struct ld_error *err)
{
    const int32_t end = ld_model_arch(image->model)->text_vocabulary - 1;
    int32_t ids[LD_BENCH_TOKENS];
    enum ld_code code = LD_OK;
    for (int32_t prompt = 0; code == LD_OK && prompt < 2; prompt++) {
        ids[0] = end - 1;
        for (int32_t i = 1; i < LD_BENCH_TOKENS - 1; i++)
            ids[i] = (1 + prompt * 131 + i * 37) % (end - 1);
        ids[LD_BENCH_TOKENS - 1] = end;
        const struct ld_text_request request = {.ids = ids, .chunks = 1, .skip = 2};
        code = ld_model_encode_text(image->model, NULL, &request,
                                    image->contexts + (size_t)prompt * image->context, err);
    }
    return code;
}

/* The guided estimate at eval->x, as the engine makes it. */
static enum ld_code denoise(struct image *image, const struct ld_sampler_eval *eval,
                            struct ld_error *err)
{
    const struct ld_wrapping wrap =
        ld_sigma_table_wrap(ld_sigma_table_default(), LD_PREDICT_EPS, eval->sigma);
    struct ld_unet_row rows[2];
    for (size_t i = 0; i < image->latent; i++)
        image->x[i] = (float)eval->x[i];
    for (size_t r = 0; r < 2; r++)
        rows[r] = (struct ld_unet_row){.x = image->x,
                                       .scale = (float)wrap.c_in,
                                       .t = (float)wrap.timestep,
                                       .context = image->contexts + r * image->context,
                                       .context_tokens = LD_BENCH_TOKENS,
                                       .eps = image->eps + r * image->latent};
    const struct ld_unet_request request = {
        .rows = rows, .row_count = 2, .height = image->height, .width = image->width};
    const enum ld_code code = ld_model_unet(image->model, NULL, &request, err);
    for (size_t i = 0; code == LD_OK && i < image->latent; i++) {
        const double positive = (double)image->eps[i];
        const double negative = (double)image->eps[image->latent + i];
        image->denoised[i] =
            wrap.x * eval->x[i] + wrap.out * (negative + GUIDANCE * (positive - negative));
    }
    return code;
}

static enum ld_code walk(struct image *image, struct ld_arena *arena, double *x,
                         struct ld_error *err)
{
    struct ld_schedule_options schedule_options = ld_schedule_options_default();
    struct ld_schedule schedule;
    struct ld_sampler *sampler;
    struct ld_sampler_eval eval;
    schedule_options.scheduler = "karras";
    schedule_options.sampler = ld_sampler_info_find("euler");
    schedule_options.steps = image->options->steps;
    enum ld_code code = ld_schedule_build(&schedule, arena, &schedule_options, err);
    if (code != LD_OK)
        return code;
    for (size_t i = 0; i < image->latent; i++)
        x[i] = (double)image->x[i] *
               ld_initial_noise_scale(ld_sigma_table_default(), schedule.sigmas[0], false);
    const struct ld_noise_source none = {0}; /* euler draws nothing */
    const struct ld_sampler_config config = {.name = "euler",
                                             .sigmas = schedule.sigmas,
                                             .sigma_count = schedule.sigma_count,
                                             .sigma_min = schedule.uncut_sigma_min,
                                             .sigma_max = schedule.uncut_sigma_max,
                                             .count = image->latent,
                                             .options = ld_sampler_options_default()};
    code = ld_sampler_create(&sampler, arena, &config, &none, x, err);
    for (uint32_t i = 0; code == LD_OK && ld_sampler_next(sampler, &eval) == LD_SAMPLER_EVAL; i++) {
        ld_range_push(image->backend->ranges, "step[%u]", i);
        code = denoise(image, &eval, err);
        ld_range_pop(image->backend->ranges);
        if (code == LD_OK)
            code = ld_sampler_accept(sampler, image->denoised, NULL, err);
    }
    for (size_t i = 0; code == LD_OK && i < image->latent; i++)
        image->x[i] = (float)x[i];
    return code;
}

static enum ld_code sample(struct image *image, struct ld_error *err)
{
    struct ld_arena arena;
    ld_arena_init(&arena, "bench", ARENA_BYTES_MAX);
    double *x = ld_arena_alloc(&arena, image->latent * sizeof *x);
    ld_bench_normal(SEED, image->x, image->latent);
    const enum ld_code code =
        x ? walk(image, &arena, x, err) : LD_FAIL(err, LD_E_NOMEM, "not enough memory");
    ld_arena_deinit(&arena);
    return code;
}

static enum ld_code decode(struct image *image, struct ld_error *err)
{
    const size_t values = 3 * (size_t)image->options->height * (size_t)image->options->width;
    const enum ld_code code = ld_model_decode(image->model, image->x, image->height, image->width,
                                              LATENT_SCALE, NULL, image->picture, err);
    image->nonfinite = 0;
    for (size_t i = 0; code == LD_OK && i < values; i++)
        image->nonfinite += isfinite(image->picture[i]) ? 0 : 1;
    return code;
}

static enum ld_code paint(struct image *image, struct phases *phases, bool keep,
                          struct ld_error *err)
{
    const struct ld_ranges *ranges = image->backend->ranges;
    double at[4] = {ld_bench_now_ms()};
    ld_range_push(ranges, "request %dx%d, steps %u, images 1", image->options->width,
                  image->options->height, image->options->steps);
    enum ld_code code = encode_text(image, err);
    at[1] = ld_bench_now_ms();
    if (code == LD_OK)
        code = sample(image, err);
    at[2] = ld_bench_now_ms();
    if (code == LD_OK)
        code = decode(image, err);
    ld_range_pop(ranges);
    at[3] = ld_bench_now_ms();
    if (code == LD_OK && keep) {
        ld_bench_times_add(&phases->text, at[1] - at[0]);
        ld_bench_times_add(&phases->steps, at[2] - at[1]);
        ld_bench_times_add(&phases->decode, at[3] - at[2]);
        ld_bench_times_add(&phases->total, at[3] - at[0]);
    }
    return code;
}

/* ---- The verb -------------------------------------------------------------------------------- */

static void report(const struct image *image, struct phases *phases, struct ld_buffer *json)
{
    struct ld_bench_times *const all[] = {&phases->text, &phases->steps, &phases->decode,
                                          &phases->total};
    static const char *const names[] = {"text", "steps", "decode", "total"};
    ld_buffer_text(json, "{");
    ld_bench_json_head(json, image->options, image->backend);
    ld_buffer_format(json, ",\"width\":%d,\"height\":%d,\"steps\":%u,\"nonfinite\":%zu",
                     image->options->width, image->options->height, image->options->steps,
                     image->nonfinite);
    for (size_t p = 0; p < 4; p++) {
        ld_bench_times_finish(all[p]);
        ld_buffer_format(json, ",\"%s\":", names[p]);
        ld_bench_times_json(json, all[p]);
        if (!image->options->json)
            printf("%-8s %10.2f ms (%.2f to %.2f)\n", names[p], all[p]->median, all[p]->low,
                   all[p]->high);
    }
    ld_buffer_text(json, "}");
    if (!image->options->json && image->nonfinite > 0)
        printf("the picture holds %zu values that are no numbers\n", image->nonfinite);
}

enum ld_code ld_bench_image(const struct ld_bench_options *options, struct ld_buffer *json,
                            struct ld_error *err)
{
    struct image image = {0};
    struct phases *phases = ld_heap_calloc(1, sizeof *phases);
    enum ld_code code =
        phases ? open_image(&image, options, err) : LD_FAIL(err, LD_E_NOMEM, "not enough memory");
    for (uint32_t r = 0; code == LD_OK && r < WARM_UP + options->rounds; r++)
        code =
            paint(&image, phases, r >= WARM_UP && phases->total.count < LD_BENCH_ROUNDS_MAX, err);
    if (code == LD_OK)
        report(&image, phases, json);
    close_image(&image);
    ld_heap_free(phases);
    return code;
}
