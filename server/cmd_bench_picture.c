#include "server/cmd_bench_picture.h"

#include "runtime/sample/noise.h"

enum { ARENA_BYTES_MAX = 1 << 30 };
static const double GUIDANCE = 6;
static const float LATENT_SCALE = 1 / 0.18215F;

/* ---- The model ------------------------------------------------------------------------------- */

enum ld_code ld_bench_painter_open(struct ld_bench_painter *painter,
                                   const struct ld_bench_options *options, struct ld_error *err)
{
    *painter = (struct ld_bench_painter){
        .options = options, .height = options->height / 8, .width = options->width / 8};
    if (!options->model)
        return LD_FAIL(err, LD_E_INVALID, "--model FILE is needed; any SD1.5 checkpoint will do");
    enum ld_code code = ld_bench_backend_open(&painter->backend, options, err);
    if (code == LD_OK)
        code = ld_bench_model_open(&painter->model, painter->backend, options, err);
    for (int part = 0; code == LD_OK && part < LD_PART_COUNT; part++) {
        if (part != LD_PART_VAE_ENCODER && part != LD_PART_CONTROL)
            code = ld_model_load(painter->model, (enum ld_part)part, err);
    }
    if (code != LD_OK)
        return code;
    const struct ld_arch *arch = ld_model_arch(painter->model);
    if (arch->unet_in_channels != LD_LATENT_CHANNELS)
        return LD_FAIL(err, LD_E_UNSUPPORTED, "an inpainting model is not measured");
    painter->latent = LD_LATENT_CHANNELS * (size_t)painter->height * (size_t)painter->width;
    painter->context = LD_BENCH_TOKENS * (size_t)arch->unet_context;
    return LD_OK;
}

void ld_bench_painter_close(struct ld_bench_painter *painter)
{
    ld_model_destroy(painter->model);
    if (painter->backend)
        painter->backend->ops->destroy(painter->backend);
}

/* ---- A picture ------------------------------------------------------------------------------- */

enum ld_code ld_bench_picture_create(struct ld_bench_picture *picture,
                                     struct ld_bench_painter *painter, struct ld_error *err)
{
    *picture = (struct ld_bench_picture){.painter = painter};
    ld_arena_init(&picture->arena, "bench", ARENA_BYTES_MAX);
    picture->contexts =
        ld_heap_calloc(LD_BENCH_PICTURE_ROWS * painter->context, sizeof *picture->contexts);
    picture->x = ld_heap_calloc(painter->latent, sizeof *picture->x);
    picture->eps = ld_heap_calloc(LD_BENCH_PICTURE_ROWS * painter->latent, sizeof *picture->eps);
    picture->walk = ld_heap_calloc(painter->latent, sizeof *picture->walk);
    picture->denoised = ld_heap_calloc(painter->latent, sizeof *picture->denoised);
    if (!picture->contexts || !picture->x || !picture->eps || !picture->walk || !picture->denoised)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for a picture");
    return LD_OK;
}

void ld_bench_picture_destroy(struct ld_bench_picture *picture)
{
    ld_heap_free(picture->denoised);
    ld_heap_free(picture->walk);
    ld_heap_free(picture->eps);
    ld_heap_free(picture->x);
    ld_heap_free(picture->contexts);
    ld_arena_deinit(&picture->arena);
}

enum ld_code ld_bench_picture_encode(struct ld_bench_picture *picture, uint64_t seed,
                                     struct ld_error *err)
{
    struct ld_model *model = picture->painter->model;
    const uint64_t end = (uint64_t)ld_model_arch(model)->text_vocabulary - 1;
    int32_t ids[LD_BENCH_TOKENS];
    enum ld_code code = LD_OK;
    for (uint64_t prompt = 0; code == LD_OK && prompt < LD_BENCH_PICTURE_ROWS; prompt++) {
        ids[0] = (int32_t)end - 1;
        for (uint64_t i = 1; i < LD_BENCH_TOKENS - 1; i++)
            ids[i] = (int32_t)((seed * 53 + prompt * 131 + i * 37) % (end - 1));
        ids[LD_BENCH_TOKENS - 1] = (int32_t)end;
        const struct ld_text_request request = {.ids = ids, .chunks = 1, .skip = 2};
        code = ld_model_encode_text(model, NULL, &request,
                                    picture->contexts + prompt * picture->painter->context, err);
    }
    return code;
}

enum ld_code ld_bench_picture_begin(struct ld_bench_picture *picture, uint64_t seed,
                                    struct ld_error *err)
{
    const size_t latent = picture->painter->latent;
    struct ld_schedule_options options = ld_schedule_options_default();
    struct ld_schedule schedule;
    ld_arena_reset(&picture->arena);
    options.scheduler = "karras";
    options.sampler = ld_sampler_info_find("euler");
    options.steps = picture->painter->options->steps;
    const enum ld_code code = ld_schedule_build(&schedule, &picture->arena, &options, err);
    if (code != LD_OK)
        return code;
    ld_bench_normal(seed, picture->x, latent);
    for (size_t i = 0; i < latent; i++)
        picture->walk[i] =
            (double)picture->x[i] *
            ld_initial_noise_scale(ld_sigma_table_default(), schedule.sigmas[0], false);
    const struct ld_noise_source none = {0}; /* euler draws nothing */
    const struct ld_sampler_config config = {.name = "euler",
                                             .sigmas = schedule.sigmas,
                                             .sigma_count = schedule.sigma_count,
                                             .sigma_min = schedule.uncut_sigma_min,
                                             .sigma_max = schedule.uncut_sigma_max,
                                             .count = latent,
                                             .options = ld_sampler_options_default()};
    return ld_sampler_create(&picture->sampler, &picture->arena, &config, &none, picture->walk,
                             err);
}

bool ld_bench_picture_rows(struct ld_bench_picture *picture,
                           struct ld_unet_row rows[LD_BENCH_PICTURE_ROWS])
{
    const struct ld_bench_painter *painter = picture->painter;
    if (ld_sampler_next(picture->sampler, &picture->eval) != LD_SAMPLER_EVAL)
        return false;
    picture->wrap =
        ld_sigma_table_wrap(ld_sigma_table_default(), LD_PREDICT_EPS, picture->eval.sigma);
    for (size_t i = 0; i < painter->latent; i++)
        picture->x[i] = (float)picture->eval.x[i];
    for (size_t r = 0; r < LD_BENCH_PICTURE_ROWS; r++)
        rows[r] = (struct ld_unet_row){.x = picture->x,
                                       .scale = (float)picture->wrap.c_in,
                                       .t = (float)picture->wrap.timestep,
                                       .context = picture->contexts + r * painter->context,
                                       .context_tokens = LD_BENCH_TOKENS,
                                       .eps = picture->eps + r * painter->latent};
    return true;
}

/* As the engine guides: in double, from the negative prompt's estimate towards the positive's. */
enum ld_code ld_bench_picture_accept(struct ld_bench_picture *picture, struct ld_error *err)
{
    const size_t latent = picture->painter->latent;
    for (size_t i = 0; i < latent; i++) {
        const double positive = (double)picture->eps[i];
        const double negative = (double)picture->eps[latent + i];
        picture->denoised[i] = picture->wrap.x * picture->eval.x[i] +
                               picture->wrap.out * (negative + GUIDANCE * (positive - negative));
    }
    return ld_sampler_accept(picture->sampler, picture->denoised, NULL, err);
}

enum ld_code ld_bench_picture_decode(const struct ld_bench_picture *picture, float *rgb,
                                     struct ld_error *err)
{
    const struct ld_bench_painter *painter = picture->painter;
    for (size_t i = 0; i < painter->latent; i++)
        picture->x[i] = (float)picture->walk[i];
    return ld_model_decode(painter->model, picture->x, painter->height, painter->width,
                           LATENT_SCALE, NULL, rgb, err);
}
