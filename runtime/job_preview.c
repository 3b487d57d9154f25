/*
 * Pictures of the work in progress: the prediction at hand through the server's TAESD decoder, or
 * as the latent's own colours, at the size and in the format that were asked for.
 */
#include "runtime/image/picture_write.h"
#include "runtime/image/pixels.h"
#include "runtime/image/pixels_resize.h"
#include "runtime/job.h"

enum { SIDE_DEFAULT = 256, CHANNELS = 3 };

void ld_job_choose_preview(struct ld_job *job, struct ld_library *library)
{
    struct ld_error err = {0};
    const enum ld_preview_decoder wanted = job->request.preview_decoder;
    if (!job->given.on_preview || job->request.preview_every <= 0 || wanted == LD_PREVIEW_LATENT)
        return;
    const enum ld_code code = ld_library_preview_decoder(library, &job->preview_decoder, &err);
    if (code != LD_OK && (code != LD_E_NOT_FOUND || wanted == LD_PREVIEW_TAESD))
        ld_job_warn(job, "previews show the latent's own colours: %.300s", err.detail);
}

/* ---- Pixels ---------------------------------------------------------------------------------- */

/* The longer side as asked for. */
static int32_t side_of(const struct ld_session *session, int32_t side)
{
    const int32_t asked = session->job->request.preview_size;
    const int32_t longest = session->height > session->width ? session->height : session->width;
    const int32_t scaled = side * (asked > 0 ? asked : SIDE_DEFAULT) / longest;
    return scaled > 0 ? scaled : 1;
}

/* [factor * height, factor * width, 3] of the prediction, a block. False: no memory, or the decoder
 * failed. */
struct colours {
    uint8_t *rgb;
    size_t bytes;
    int32_t height, width;
};

static bool decode(struct colours *out, const struct ld_session *session)
{
    struct ld_error ignored = {0};
    const size_t plane_bytes = (size_t)out->height * (size_t)out->width * sizeof(float);
    float *planes = ld_block_alloc(CHANNELS * plane_bytes);
    const bool good =
        planes && ld_taesd_decode(session->job->preview_decoder, ld_pass_prediction(session->pass),
                                  session->height, session->width, NULL, planes, &ignored) == LD_OK;
    for (size_t i = 0; good && i < CHANNELS * plane_bytes / sizeof(float); i++)
        planes[i] = 2.0F * planes[i] - 1.0F;
    if (good)
        ld_pixels_from_planes(out->rgb, planes, out->height, out->width);
    ld_block_free(planes, CHANNELS * plane_bytes);
    return good;
}

static bool make_colours(struct colours *out, const struct ld_session *session, bool decoded)
{
    const int32_t factor = decoded ? LD_TAESD_FACTOR : 1;
    *out = (struct colours){.height = factor * session->height, .width = factor * session->width};
    out->bytes = CHANNELS * (size_t)out->height * (size_t)out->width;
    out->rgb = ld_block_alloc(out->bytes);
    if (!out->rgb)
        return false;
    if (decoded)
        return decode(out, session);
    ld_preview_from_latent(out->rgb, ld_pass_prediction(session->pass), session->height,
                           session->width);
    return true;
}

/* Failing to make one is nobody's error: the next one may succeed, the picture will. */
static void make_preview(const struct ld_session *session, int32_t height, int32_t width,
                         struct ld_buffer *file)
{
    struct ld_error ignored = {0};
    struct colours colours;
    bool good = make_colours(&colours, session, session->job->preview_decoder != NULL);
    if (!good && session->job->preview_decoder) {
        ld_block_free(colours.rgb, colours.bytes);
        good = make_colours(&colours, session, false);
    }
    const size_t bytes = CHANNELS * (size_t)height * (size_t)width;
    uint8_t *rgb = ld_heap_alloc(bytes);
    if (good && rgb) {
        const struct ld_pixel_resize op = {
            .in = colours.rgb,
            .in_height = colours.height,
            .in_width = colours.width,
            .channels = CHANNELS,
            .out_height = height,
            .out_width = width,
            .filter = LD_PIXEL_BILINEAR,
            .out = rgb,
        };
        const struct ld_picture_image image = {
            .pixels = rgb,
            .width = width,
            .height = height,
            .channels = CHANNELS,
            .form = ld_picture_form_of_preview(&session->job->request),
        };
        if (ld_pixels_resize(&op, &ignored) != LD_OK ||
            ld_picture_write(file, &image, &ignored) != LD_OK)
            ld_buffer_clear(file);
    }
    ld_heap_free(rgb);
    ld_block_free(colours.rgb, colours.bytes);
}

/* ---- Telling --------------------------------------------------------------------------------- */

void ld_session_preview(struct ld_session *session)
{
    const struct ld_job *job = session->job;
    const int32_t every = job->request.preview_every;
    if (!job->given.on_preview || every <= 0 || !session->pass ||
        !ld_pass_prediction(session->pass) || ld_pass_call(session->pass) % (uint32_t)every != 0)
        return;
    struct ld_buffer file = ld_buffer_make(LD_PNG_BYTES_MAX);
    const int32_t height = side_of(session, session->height);
    const int32_t width = side_of(session, session->width);
    make_preview(session, height, width, &file);
    if (file.size > 0) {
        const struct ld_engine_image image = {
            .index = session->image,
            .seed = ld_noise_seed_of(&job->request, session->image),
            .width = width,
            .height = height,
            .file = ld_span_of(file.data, file.size),
            .partial = true,
        };
        job->given.on_preview(job->given.ctx, &image);
    }
    ld_buffer_deinit(&file);
}
