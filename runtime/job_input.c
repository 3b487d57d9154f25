/*
 * Image to image and inpainting: the picture and mask that came with the job become a latent, a
 * mask in latent cells, and, for inpainting checkpoints, the channels they look at.
 *
 * Source: sampling.md 1.4, 1.6; model.md 1.3 (channel order of inpainting models), 2.2.
 */
#include "runtime/job.h"

#include "runtime/image/pixels.h"
#include "runtime/image/pixels_resize.h"
#include "runtime/image/png_read.h"
#include "runtime/sample/resize.h"

#include <math.h>

static const double LATENT_SCALE = 0.18215; /* sampling.md 1.4 */

enum { INPAINT_CHANNELS = 9, EXTRA_CHANNELS = 5 }; /* mask, masked picture's latent */

static size_t pixel_count(const struct ld_job *job)
{
    return (size_t)job->request.height * (size_t)job->request.width;
}

static size_t cell_count(const struct ld_job *job)
{
    return pixel_count(job) / 64;
}

void ld_job_release_input(struct ld_job *job)
{
    ld_heap_free(job->start);
    ld_heap_free(job->mask);
    ld_heap_free(job->second_mask);
    ld_heap_free(job->init_rgb);
    ld_heap_free(job->mask_pixels);
    for (int pass = 0; pass < LD_JOB_PASSES; pass++)
        ld_heap_free(job->extra[pass]);
}

/* ---- Encoding -------------------------------------------------------------------------------- */

enum ld_code ld_job_encode_pixels(struct ld_job *job, const uint8_t *rgb, int32_t height,
                                  int32_t width, const struct ld_cancel *interrupt, double **latent,
                                  struct ld_error *err)
{
    struct ld_model *model = job->vae ? job->vae : job->model->model;
    const size_t pixels = (size_t)height * (size_t)width;
    const size_t cells = pixels / 64;
    enum ld_code code = LD_OK;
    if (!ld_model_arch(model)->has_vae_encoder)
        return LD_FAIL(err, LD_E_UNSUPPORTED, "init needs a model whose VAE has an encoder");
    float *planes = ld_block_alloc(3 * pixels * sizeof *planes);
    float *moments = ld_heap_calloc(8 * cells, sizeof *moments);
    double *result = ld_heap_calloc(LD_LATENT_CHANNELS * cells, sizeof *result);
    if (!planes || !moments || !result) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory for the input picture");
        goto done;
    }
    ld_pixels_to_planes(planes, rgb, 3, height, width);
    code = ld_model_encode_image(model, planes, height, width, interrupt, moments, err);
    if (code != LD_OK)
        goto done;
    /* The mean: a sample would add noise that no seed of the request names. */
    for (size_t i = 0; i < LD_LATENT_CHANNELS * cells; i++)
        result[i] = LATENT_SCALE * (double)moments[i];
    *latent = result;
    result = NULL;
done:
    ld_heap_free(result);
    ld_heap_free(moments);
    ld_block_free(planes, 3 * pixels * sizeof *planes);
    return code;
}

/* ---- Reading --------------------------------------------------------------------------------- */

/* One byte of a picture as RGB; of a mask, so that white is what shall be painted anew. */
static uint8_t byte_of(const struct ld_picture *picture, size_t pixel, size_t channel,
                       enum ld_mask_from from)
{
    const uint8_t *bytes = picture->pixels + pixel * (size_t)picture->channels;
    const uint8_t alpha = picture->channels == 4 ? bytes[3] : 255;
    switch (from) {
    case LD_MASK_WHITE:
        break;
    case LD_MASK_BLACK:
        return (uint8_t)(255 - bytes[channel]);
    case LD_MASK_TRANSPARENT:
        return (uint8_t)(255 - alpha);
    case LD_MASK_OPAQUE:
        return alpha;
    }
    return bytes[channel];
}

/* Any picture as RGB8 at the job's size; the transparency of a picture is not looked at, that of a
 * mask where `from` says so. */
static enum ld_code read_fitted(const struct ld_job *job, struct ld_span png,
                                enum ld_pixel_filter filter, enum ld_mask_from from,
                                struct ld_picture *picture, uint8_t *out, struct ld_error *err)
{
    if (ld_png_read(picture, png, 0, err) != LD_OK)
        return err->code;
    if ((from == LD_MASK_TRANSPARENT || from == LD_MASK_OPAQUE) && picture->channels != 4)
        return LD_FAIL(err, LD_E_INVALID, "init.mask has no transparency to go by");
    const size_t count = (size_t)picture->width * (size_t)picture->height;
    uint8_t *rgb = ld_block_alloc(3 * count);
    if (!rgb)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the input picture");
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < 3; c++)
            rgb[3 * i + c] = byte_of(picture, i, c, from);
    const struct ld_pixel_resize op = {
        .in = rgb,
        .in_height = picture->height,
        .in_width = picture->width,
        .channels = 3,
        .out_height = job->request.height,
        .out_width = job->request.width,
        .filter = filter,
        .out = out,
    };
    const enum ld_code code = ld_pixels_fit(&op, job->request.init.resize, err);
    ld_block_free(rgb, 3 * count);
    return code;
}

static enum ld_code take_picture(struct ld_job *job, const struct ld_cancel *interrupt,
                                 struct ld_error *err)
{
    struct ld_picture picture = {0};
    job->init_rgb = ld_heap_calloc(pixel_count(job), 3);
    enum ld_code code = job->init_rgb
                            ? read_fitted(job, job->given.init_image, LD_PIXEL_LANCZOS,
                                          LD_MASK_WHITE, &picture, job->init_rgb, err)
                            : LD_FAIL(err, LD_E_NOMEM, "out of memory for the input picture");
    ld_picture_deinit(&picture);
    if (code != LD_OK)
        return ld_error_at(err, "/init/image");
    return ld_job_encode_pixels(job, job->init_rgb, job->request.height, job->request.width,
                                interrupt, &job->start, err);
}

/* A cell is repainted as far as its 8x8 pixels are; then cut to yes or no, as the reference does.
 */
static enum ld_code take_mask(struct ld_job *job, struct ld_error *err)
{
    struct ld_picture picture = {0};
    const size_t pixels = pixel_count(job);
    const size_t width = (size_t)job->request.width;
    uint8_t *rgb = ld_heap_calloc(pixels, 3);
    job->mask_pixels = ld_heap_calloc(pixels, sizeof(float));
    job->mask = ld_heap_calloc(cell_count(job), sizeof(double));
    enum ld_code code = LD_OK;
    if (!rgb || !job->mask_pixels || !job->mask) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory for the mask");
        goto done;
    }
    code = read_fitted(job, job->given.init_mask, LD_PIXEL_BILINEAR, job->request.init.mask_from,
                       &picture, rgb, err);
    if (code != LD_OK) {
        (void)ld_error_at(err, "/init/mask");
        goto done;
    }
    ld_mask_from_pixels(job->mask_pixels, rgb, 3, job->request.height, job->request.width);
    if (job->request.init.mask_blur > 0)
        code = ld_mask_blur(job->mask_pixels, job->request.height, job->request.width,
                            job->request.init.mask_blur, err);
    for (size_t i = 0; i < cell_count(job); i++) {
        const size_t y = i / (width / 8) * 8;
        const size_t x = i % (width / 8) * 8;
        double sum = 0;
        for (size_t k = 0; k < 64; k++)
            sum += (double)job->mask_pixels[(y + k / 8) * width + x + k % 8];
        job->mask[i] = rint(sum / 64);
    }
done:
    ld_picture_deinit(&picture);
    ld_heap_free(rgb);
    return code;
}

/* Mask, then the latent of the picture with the area to repaint in grey. */
static enum ld_code make_extra(struct ld_job *job, const struct ld_cancel *interrupt,
                               struct ld_error *err)
{
    const size_t pixels = pixel_count(job);
    const size_t cells = cell_count(job);
    double *masked = NULL;
    uint8_t *rgb = ld_heap_calloc(pixels, 3);
    job->extra[0] = ld_heap_calloc(EXTRA_CHANNELS * cells, sizeof(float));
    if (!rgb || !job->extra[0]) {
        ld_heap_free(rgb);
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the inpainting model");
    }
    for (size_t i = 0; i < 3 * pixels; i++) {
        const bool kept = job->init_rgb && job->mask_pixels && job->mask_pixels[i / 3] < 0.5F;
        rgb[i] = kept ? job->init_rgb[i] : 127;
    }
    const enum ld_code code = ld_job_encode_pixels(job, rgb, job->request.height,
                                                   job->request.width, interrupt, &masked, err);
    for (size_t i = 0; code == LD_OK && i < cells; i++)
        job->extra[0][i] = job->mask ? (float)job->mask[i] : 1.0F;
    for (size_t i = 0; code == LD_OK && i < LD_LATENT_CHANNELS * cells; i++)
        job->extra[0][cells + i] = (float)masked[i];
    ld_heap_free(masked);
    ld_heap_free(rgb);
    return code;
}

enum ld_code ld_job_take_input(struct ld_job *job, const struct ld_cancel *interrupt,
                               struct ld_error *err)
{
    const int32_t channels = ld_model_arch(job->model->model)->unet_in_channels;
    const struct ld_request_init *init = &job->request.init;
    if (init->present && job->given.init_image.size == 0)
        return LD_FAIL(err, LD_E_NOT_FOUND, "init.image is not an image that is stored here");
    if (init->present && init->mask[0] && job->given.init_mask.size == 0)
        return LD_FAIL(err, LD_E_NOT_FOUND, "init.mask is not an image that is stored here");
    if (channels != LD_LATENT_CHANNELS && channels != INPAINT_CHANNELS)
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "model '%.100s' edits pictures by instruction, which is not built",
                       job->model->name);
    ld_job_tell_progress(job, NULL, LD_PHASE_ENCODE);
    if (init->present && take_picture(job, interrupt, err) != LD_OK)
        return err->code;
    if (init->present && init->mask[0] && take_mask(job, err) != LD_OK)
        return err->code;
    return channels == INPAINT_CHANNELS ? make_extra(job, interrupt, err) : LD_OK;
}

/* ---- The second pass ------------------------------------------------------------------------- */

static float *resized(const float *planes, int32_t channels, const struct ld_job *job,
                      int32_t height, int32_t width, struct ld_error *err)
{
    const size_t count = (size_t)channels * (size_t)height * (size_t)width;
    float *out = ld_heap_calloc(count, sizeof *out);
    const struct ld_resample op = {
        .in = planes,
        .images = 1,
        .channels = channels,
        .in_height = job->request.height / 8,
        .in_width = job->request.width / 8,
        .out_height = height,
        .out_width = width,
        .mode = LD_RESIZE_NEAREST_EXACT,
        .out = out,
    };
    if (!out)
        (void)LD_FAIL(err, LD_E_NOMEM, "out of memory for the second pass");
    else if (ld_resample(&op, err) != LD_OK) {
        ld_heap_free(out);
        out = NULL;
    }
    return out;
}

enum ld_code ld_job_second_mask(struct ld_job *job, int32_t height, int32_t width,
                                struct ld_error *err)
{
    const size_t target = (size_t)height * (size_t)width;
    if (job->second_mask) /* another picture of the job has made it */
        return LD_OK;
    float *mask = ld_heap_calloc(cell_count(job), sizeof *mask);
    double *second = ld_heap_calloc(target, sizeof *second);
    float *large = NULL;
    enum ld_code code = LD_OK;
    if (!mask || !second) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory for the second pass");
        goto done;
    }
    for (size_t i = 0; i < cell_count(job); i++)
        mask[i] = job->mask ? (float)job->mask[i] : 1.0F;
    large = resized(mask, 1, job, height, width, err);
    if (!large) {
        code = err->code;
        goto done;
    }
    for (size_t i = 0; i < target; i++)
        second[i] = (double)large[i];
    if (job->extra[0]) {
        job->extra[1] = resized(job->extra[0], EXTRA_CHANNELS, job, height, width, err);
        code = job->extra[1] ? LD_OK : err->code;
    }
    if (code == LD_OK) {
        job->second_mask = second;
        second = NULL;
    }
done:
    ld_heap_free(large);
    ld_heap_free(second);
    ld_heap_free(mask);
    return code;
}
