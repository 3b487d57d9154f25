/*
 * `bench image`: a whole picture by phase: both prompts through the text encoder, the guided steps
 * of a sampler, the decoder.
 */
#include "server/cmd_bench_picture.h"

#include <math.h>
#include <stdio.h>

enum { WARM_UP = 1, SEED = 1 };

struct image {
    struct ld_bench_painter painter;
    struct ld_bench_picture picture;
    float *rgb;       /* [3][8h][8w] */
    size_t nonfinite; /* values of it that are no numbers */
};

struct phases {
    struct ld_bench_times text, steps, decode, total;
};

static enum ld_code open_image(struct image *image, const struct ld_bench_options *options,
                               struct ld_error *err)
{
    enum ld_code code = ld_bench_painter_open(&image->painter, options, err);
    if (code == LD_OK)
        code = ld_bench_picture_create(&image->picture, &image->painter, err);
    if (code != LD_OK)
        return code;
    image->rgb =
        ld_heap_calloc(3 * (size_t)options->height * (size_t)options->width, sizeof *image->rgb);
    return image->rgb ? LD_OK : LD_FAIL(err, LD_E_NOMEM, "not enough memory for the picture");
}

static void close_image(struct image *image)
{
    ld_heap_free(image->rgb);
    ld_bench_picture_destroy(&image->picture);
    ld_bench_painter_close(&image->painter);
}

/* ---- Phases ---------------------------------------------------------------------------------- */

static enum ld_code sample(struct image *image, struct ld_error *err)
{
    const struct ld_bench_painter *painter = &image->painter;
    struct ld_unet_row rows[LD_BENCH_PICTURE_ROWS];
    const struct ld_unet_request request = {.rows = rows,
                                            .row_count = LD_BENCH_PICTURE_ROWS,
                                            .height = painter->height,
                                            .width = painter->width};
    enum ld_code code = ld_bench_picture_begin(&image->picture, SEED, err);
    for (uint32_t i = 0; code == LD_OK && ld_bench_picture_rows(&image->picture, rows); i++) {
        ld_range_push(painter->backend->ranges, "step[%u]", i);
        code = ld_model_unet(painter->model, NULL, &request, err);
        ld_range_pop(painter->backend->ranges);
        if (code == LD_OK)
            code = ld_bench_picture_accept(&image->picture, err);
    }
    return code;
}

static enum ld_code decode(struct image *image, struct ld_error *err)
{
    const struct ld_bench_options *options = image->painter.options;
    const size_t values = 3 * (size_t)options->height * (size_t)options->width;
    const enum ld_code code = ld_bench_picture_decode(&image->picture, image->rgb, err);
    image->nonfinite = 0;
    for (size_t i = 0; code == LD_OK && i < values; i++)
        image->nonfinite += isfinite(image->rgb[i]) ? 0 : 1;
    return code;
}

static enum ld_code paint(struct image *image, struct phases *phases, bool keep,
                          struct ld_error *err)
{
    const struct ld_bench_options *options = image->painter.options;
    const struct ld_ranges *ranges = image->painter.backend->ranges;
    double at[4] = {ld_bench_now_ms()};
    ld_range_push(ranges, "request %dx%d, steps %u, images 1", options->width, options->height,
                  options->steps);
    enum ld_code code = ld_bench_picture_encode(&image->picture, SEED, err);
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
    const struct ld_bench_options *options = image->painter.options;
    ld_buffer_text(json, "{");
    ld_bench_json_head(json, options, image->painter.backend);
    ld_buffer_format(json, ",\"width\":%d,\"height\":%d,\"step_count\":%u,\"nonfinite\":%zu",
                     options->width, options->height, options->steps, image->nonfinite);
    for (size_t p = 0; p < 4; p++) {
        ld_bench_times_finish(all[p]);
        ld_buffer_format(json, ",\"%s\":", names[p]);
        ld_bench_times_json(json, all[p]);
        if (!options->json)
            printf("%-8s %10.2f ms (%.2f to %.2f)\n", names[p], all[p]->median, all[p]->low,
                   all[p]->high);
    }
    ld_buffer_text(json, "}");
    if (!options->json && image->nonfinite > 0)
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
