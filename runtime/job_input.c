/*
 * Image to image and inpainting: the picture and mask that came with the job become a latent, a
 * mask in latent cells, and, for inpainting checkpoints, the channels they look at.
 *
 * Source: sampling.md 1.4, 1.6; model.md 1.3 (channel order of inpainting models), 2.2.
 */
#include "runtime/job.h"

#include "runtime/image/picture_read.h"
#include "runtime/image/pixels.h"
#include "runtime/image/pixels_resize.h"
#include "runtime/sample/resize.h"
#include "runtime/vae_form.h"

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
    ld_heap_free(job->frame);
    ld_heap_free(job->frame_mask);
    for (int pass = 0; pass < LD_JOB_PASSES; pass++)
        ld_heap_free(job->extra[pass]);
}

/* ---- Encoding -------------------------------------------------------------------------------- */

enum ld_code ld_job_encode_pixels(struct ld_job *job, bool second, const uint8_t *rgb,
                                  int32_t height, int32_t width, const struct ld_cancel *interrupt,
                                  double **latent, struct ld_error *err)
{
    struct ld_model *model = ld_job_vae(job, second);
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
    code = ld_model_encode_form(
        model, planes, height, width,
        ld_vae_form_of(job->request.vae_tiling, model, true, height / 8, width / 8, false),
        interrupt, moments, err);
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

/* A picture that came with the job, and the mask beside it, as they are. */
struct input {
    uint8_t *rgb;  /* [height, width, 3] */
    uint8_t *mask; /* [height, width, 3], NULL without one */
    int32_t width, height;
};

static size_t input_count(const struct input *input)
{
    return (size_t)input->width * (size_t)input->height;
}

static void release(struct input *input)
{
    ld_block_free(input->rgb, 3 * input_count(input));
    ld_block_free(input->mask, 3 * input_count(input));
}

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

/* RGB8 of any picture; the transparency of a picture is not looked at, that of a mask where `from`
 * says so. */
static enum ld_code read_rgb(struct ld_span bytes, enum ld_mask_from from,
                             struct ld_picture *picture, uint8_t **rgb, struct ld_error *err)
{
    if (ld_picture_read(picture, bytes, err) != LD_OK)
        return err->code;
    if ((from == LD_MASK_TRANSPARENT || from == LD_MASK_OPAQUE) && picture->channels != 4)
        return LD_FAIL(err, LD_E_INVALID, "init.mask has no transparency to go by");
    const size_t count = (size_t)picture->width * (size_t)picture->height;
    *rgb = ld_block_alloc(3 * count);
    if (!*rgb)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the input picture");
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < 3; c++)
            (*rgb)[3 * i + c] = byte_of(picture, i, c, from);
    return LD_OK;
}

static enum ld_code read_input(const struct ld_job *job, struct input *input, struct ld_error *err)
{
    struct ld_picture picture = {0};
    enum ld_code code = read_rgb(job->given.init_image, LD_MASK_WHITE, &picture, &input->rgb, err);
    input->width = picture.width;
    input->height = picture.height;
    ld_picture_deinit(&picture);
    if (code != LD_OK)
        return ld_error_at(err, "/init/image");
    if (!job->request.init.mask[0])
        return LD_OK;
    uint8_t *mask = NULL;
    code = read_rgb(job->given.init_mask, job->request.init.mask_from, &picture, &mask, err);
    const bool fits = picture.width == input->width && picture.height == input->height;
    if (code == LD_OK && !fits) {
        ld_block_free(mask, 3 * (size_t)picture.width * (size_t)picture.height);
        mask = NULL;
        code = LD_FAIL(err, LD_E_SHAPE, "init.mask must have the picture's size, %dx%d, not %dx%d",
                       input->width, input->height, picture.width, picture.height);
    }
    input->mask = mask;
    ld_picture_deinit(&picture);
    return code == LD_OK ? LD_OK : ld_error_at(err, "/init/mask");
}

/* ---- Fitting --------------------------------------------------------------------------------- */

static enum ld_code no_memory(struct ld_error *err)
{
    return LD_FAIL(err, LD_E_NOMEM, "out of memory for the input picture");
}

/* Where the picture lies in what is painted: all of it, but for what an outpaint adds. */
static struct ld_rect place_of(const struct ld_request *request)
{
    const struct ld_request_init *init = &request->init;
    return (struct ld_rect){
        init->outpaint_left,
        init->outpaint_top,
        request->width - init->outpaint_left - init->outpaint_right,
        request->height - init->outpaint_top - init->outpaint_bottom,
    };
}

static bool grows(const struct ld_request *request)
{
    const struct ld_rect place = place_of(request);
    return place.width < request->width || place.height < request->height;
}

/* `from` [height, width, 3] at the job's size: fitted into its place, edges repeated around it. */
static enum ld_code fit(const struct ld_job *job, const struct input *input, const uint8_t *from,
                        enum ld_pixel_filter filter, uint8_t *out, struct ld_error *err)
{
    const struct ld_rect place = place_of(&job->request);
    const size_t size = 3 * (size_t)place.width * (size_t)place.height;
    uint8_t *inner = ld_block_alloc(size);
    if (!inner)
        return no_memory(err);
    const struct ld_pixel_resize op = {
        .in = from,
        .in_height = input->height,
        .in_width = input->width,
        .channels = 3,
        .out_height = place.height,
        .out_width = place.width,
        .filter = filter,
        .out = inner,
    };
    const enum ld_code code = ld_pixels_fit(&op, job->request.init.resize, err);
    if (code == LD_OK)
        ld_pixels_lay(out, job->request.height, job->request.width, inner, place, 3);
    ld_block_free(inner, size);
    return code;
}

/* What an outpaint adds is painted anew. */
static void mask_around(const struct ld_job *job, uint8_t *mask)
{
    const struct ld_rect place = place_of(&job->request);
    for (int32_t y = 0; y < job->request.height; y++)
        for (int32_t x = 0; x < job->request.width; x++)
            if (y < place.y || y >= place.y + place.height || x < place.x ||
                x >= place.x + place.width)
                memset(mask + 3 * ((size_t)y * (size_t)job->request.width + (size_t)x), 255, 3);
}

/* Area "whole": the picture, and its mask, at the job's size. */
static enum ld_code take_whole(struct ld_job *job, const struct input *input, struct ld_error *err)
{
    const bool around = grows(&job->request);
    enum ld_code code = fit(job, input, input->rgb, LD_PIXEL_LANCZOS, job->init_rgb, err);
    if (code != LD_OK || (!input->mask && !around))
        return code;
    uint8_t *mask = ld_heap_calloc(pixel_count(job), 3);
    job->mask_pixels = ld_heap_calloc(pixel_count(job), sizeof(float));
    if (!mask || !job->mask_pixels)
        code = no_memory(err);
    if (code == LD_OK && input->mask)
        code = fit(job, input, input->mask, LD_PIXEL_BILINEAR, mask, err);
    if (code == LD_OK && around)
        mask_around(job, mask);
    if (code == LD_OK)
        ld_mask_from_pixels(job->mask_pixels, mask, 3, job->request.height, job->request.width);
    if (code == LD_OK && job->request.init.mask_blur > 0)
        code = ld_mask_blur(job->mask_pixels, job->request.height, job->request.width,
                            job->request.init.mask_blur, err);
    ld_heap_free(mask);
    return code;
}

/* A part of a picture at the job's size. */
static enum ld_code enlarge_part(const struct ld_job *job, const struct input *input,
                                 const uint8_t *from, enum ld_pixel_filter filter, uint8_t *out,
                                 struct ld_error *err)
{
    const struct ld_rect part = job->frame_part;
    const size_t bytes = 3 * (size_t)part.width * (size_t)part.height;
    uint8_t *cut = ld_block_alloc(bytes);
    if (!cut)
        return no_memory(err);
    ld_rect_cut(from, input->width, part, cut);
    const struct ld_pixel_resize op = {
        .in = cut,
        .in_height = part.height,
        .in_width = part.width,
        .channels = 3,
        .out_height = job->request.height,
        .out_width = job->request.width,
        .filter = filter,
        .out = out,
    };
    const enum ld_code code = ld_pixels_resize(&op, err);
    ld_block_free(cut, bytes);
    return code;
}

/* Area "masked": the surroundings of the mask, enlarged; the picture stays as the frame that the
 * result is pasted into. The mask is blurred at the picture's own size. */
static enum ld_code take_part(struct ld_job *job, struct input *input, struct ld_error *err)
{
    const struct ld_request_init *init = &job->request.init;
    struct ld_rect bounds;
    job->frame_mask = ld_heap_calloc(input_count(input), sizeof(float));
    job->mask_pixels = ld_heap_calloc(pixel_count(job), sizeof(float));
    job->frame = ld_heap_calloc(input_count(input), 3);
    uint8_t *mask = ld_heap_calloc(pixel_count(job), 3);
    enum ld_code code = LD_OK;
    if (!job->frame_mask || !job->mask_pixels || !job->frame || !mask) {
        code = no_memory(err);
        goto done;
    }
    job->frame_width = input->width;
    job->frame_height = input->height;
    memcpy(job->frame, input->rgb, 3 * input_count(input));
    ld_mask_from_pixels(job->frame_mask, input->mask, 3, input->height, input->width);
    if (!ld_mask_bounds(job->frame_mask, input->height, input->width, &bounds)) {
        (void)LD_FAIL(err, LD_E_INVALID, "init.mask has no white, so there is nothing to paint");
        code = ld_error_at(err, "/init/mask");
        goto done;
    }
    job->frame_part = ld_rect_around(bounds, init->mask_padding, job->request.width,
                                     job->request.height, input->height, input->width);
    if (init->mask_blur > 0)
        code = ld_mask_blur(job->frame_mask, input->height, input->width, init->mask_blur, err);
    for (size_t i = 0; code == LD_OK && i < 3 * input_count(input); i++)
        input->mask[i] = (uint8_t)(job->frame_mask[i / 3] * 255.0F + 0.5F);
    if (code == LD_OK)
        code = enlarge_part(job, input, input->rgb, LD_PIXEL_LANCZOS, job->init_rgb, err);
    if (code == LD_OK)
        code = enlarge_part(job, input, input->mask, LD_PIXEL_BILINEAR, mask, err);
    if (code == LD_OK)
        ld_mask_from_pixels(job->mask_pixels, mask, 3, job->request.height, job->request.width);
done:
    ld_heap_free(mask);
    return code;
}

/* A cell is repainted as far as its 8x8 pixels are; then cut to yes or no, as the reference does.
 */
static enum ld_code make_cells(struct ld_job *job, struct ld_error *err)
{
    const size_t width = (size_t)job->request.width;
    job->mask = ld_heap_calloc(cell_count(job), sizeof(double));
    if (!job->mask)
        return no_memory(err);
    for (size_t i = 0; i < cell_count(job); i++) {
        const size_t y = i / (width / 8) * 8;
        const size_t x = i % (width / 8) * 8;
        double sum = 0;
        for (size_t k = 0; k < 64; k++)
            sum += (double)job->mask_pixels[(y + k / 8) * width + x + k % 8];
        job->mask[i] = rint(sum / 64);
    }
    return LD_OK;
}

static enum ld_code take_picture(struct ld_job *job, const struct ld_cancel *interrupt,
                                 struct ld_error *err)
{
    struct input input = {0};
    enum ld_code code = read_input(job, &input, err);
    job->init_rgb = ld_heap_calloc(pixel_count(job), 3);
    if (code == LD_OK && !job->init_rgb)
        code = no_memory(err);
    if (code == LD_OK)
        code = job->request.init.area == LD_INIT_MASKED && input.mask
                   ? take_part(job, &input, err)
                   : take_whole(job, &input, err);
    release(&input);
    if (code == LD_OK && job->mask_pixels)
        code = make_cells(job, err);
    if (code != LD_OK)
        return code;
    return ld_job_encode_pixels(job, false, job->init_rgb, job->request.height, job->request.width,
                                interrupt, &job->start, err);
}

/* ---- Inpainting models ----------------------------------------------------------------------- */

/* Mask, then the latent of the picture with the area to repaint in grey. */
static enum ld_code make_extra(struct ld_job *job, bool second, const struct ld_cancel *interrupt,
                               struct ld_error *err)
{
    float **extra = &job->extra[second ? 1 : 0];
    const size_t pixels = pixel_count(job);
    const size_t cells = cell_count(job);
    double *masked = NULL;
    uint8_t *rgb = ld_heap_calloc(pixels, 3);
    *extra = ld_heap_calloc(EXTRA_CHANNELS * cells, sizeof(float));
    if (!rgb || !*extra) {
        ld_heap_free(rgb);
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the inpainting model");
    }
    for (size_t i = 0; i < 3 * pixels; i++) {
        const bool kept = job->init_rgb && job->mask_pixels && job->mask_pixels[i / 3] < 0.5F;
        rgb[i] = kept ? job->init_rgb[i] : 127;
    }
    const enum ld_code code = ld_job_encode_pixels(job, second, rgb, job->request.height,
                                                   job->request.width, interrupt, &masked, err);
    for (size_t i = 0; code == LD_OK && i < cells; i++)
        (*extra)[i] = job->mask ? (float)job->mask[i] : 1.0F;
    for (size_t i = 0; code == LD_OK && i < LD_LATENT_CHANNELS * cells; i++)
        (*extra)[cells + i] = (float)masked[i];
    ld_heap_free(masked);
    ld_heap_free(rgb);
    return code;
}

/* 4 channels, or 9 of an inpainting model: the other five are made here. */
static enum ld_code take_channels(struct ld_job *job, bool second,
                                  const struct ld_cancel *interrupt, struct ld_error *err)
{
    const struct ld_resident *model = job->passes[second ? 1 : 0].model;
    const int32_t channels = ld_model_arch(model->model)->unet_in_channels;
    if (channels != LD_LATENT_CHANNELS && channels != INPAINT_CHANNELS)
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "model '%.100s' edits pictures by instruction, which is not built",
                       model->name);
    return channels == INPAINT_CHANNELS ? make_extra(job, second, interrupt, err) : LD_OK;
}

enum ld_code ld_job_take_input(struct ld_job *job, const struct ld_cancel *interrupt,
                               struct ld_error *err)
{
    const struct ld_request_init *init = &job->request.init;
    if (init->present && job->given.init_image.size == 0)
        return LD_FAIL(err, LD_E_NOT_FOUND, "init.image is not an image that is stored here");
    if (init->present && init->mask[0] && job->given.init_mask.size == 0)
        return LD_FAIL(err, LD_E_NOT_FOUND, "init.mask is not an image that is stored here");
    ld_job_tell_progress(job, NULL, LD_PHASE_ENCODE);
    if (init->present && take_picture(job, interrupt, err) != LD_OK)
        return err->code;
    enum ld_code code = take_channels(job, false, interrupt, err);
    if (code == LD_OK && job->request.hires.present)
        code = take_channels(job, true, interrupt, err);
    return code;
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
    if (job->extra[1]) { /* so far at the first pass's size */
        float *extra = resized(job->extra[1], EXTRA_CHANNELS, job, height, width, err);
        code = extra ? LD_OK : err->code;
        ld_heap_free(job->extra[1]);
        job->extra[1] = extra;
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
