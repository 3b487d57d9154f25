/*
 * From decoded pixels to the picture that is handed out, for jobs that painted into a picture.
 *
 * Source: docs/images.md tells the order: colours first, then what the mask keeps.
 */
#include "runtime/job.h"

#include "runtime/image/pixels.h"
#include "runtime/image/pixels_resize.h"

static size_t count_of(const struct ld_job_pixels *pixels)
{
    return (size_t)pixels->width * (size_t)pixels->height;
}

void ld_job_pixels_release(struct ld_job_pixels *pixels)
{
    ld_block_free(pixels->rgb, 3 * count_of(pixels));
    pixels->rgb = NULL;
}

static enum ld_code resize(const uint8_t *in, int32_t height, int32_t width, int32_t channels,
                           enum ld_pixel_filter filter, struct ld_rect to, uint8_t *out,
                           struct ld_error *err)
{
    const struct ld_pixel_resize op = {
        .in = in,
        .in_height = height,
        .in_width = width,
        .channels = channels,
        .out_height = to.height,
        .out_width = to.width,
        .filter = filter,
        .out = out,
    };
    return ld_pixels_resize(&op, err);
}

/* ---- What the mask keeps --------------------------------------------------------------------- */

/* The input picture and its mask at the size of the result, which a second pass has enlarged. */
static enum ld_code paste_back(const struct ld_job *job, struct ld_job_pixels *pixels,
                               struct ld_error *err)
{
    const int32_t height = job->request.height;
    const int32_t width = job->request.width;
    const size_t count = count_of(pixels);
    const size_t small = (size_t)height * (size_t)width;
    const struct ld_rect to = {0, 0, pixels->width, pixels->height};
    if (pixels->width == width && pixels->height == height) {
        ld_pixels_paste_back(pixels->rgb, job->init_rgb, job->mask_pixels, count);
        return LD_OK;
    }
    enum ld_code code = LD_OK;
    uint8_t *original = ld_block_alloc(3 * count);
    uint8_t *bytes = ld_block_alloc(small);
    uint8_t *large = ld_block_alloc(count);
    float *mask = ld_block_alloc(count * sizeof *mask);
    if (!original || !bytes || !large || !mask) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory for the picture");
        goto done;
    }
    for (size_t i = 0; i < small; i++)
        bytes[i] = (uint8_t)(job->mask_pixels[i] * 255.0F + 0.5F);
    code = resize(job->init_rgb, height, width, 3, LD_PIXEL_LANCZOS, to, original, err);
    if (code == LD_OK)
        code = resize(bytes, height, width, 1, LD_PIXEL_BILINEAR, to, large, err);
    if (code != LD_OK)
        goto done;
    for (size_t i = 0; i < count; i++)
        mask[i] = (float)large[i] / 255.0F;
    ld_pixels_paste_back(pixels->rgb, original, mask, count);
done:
    ld_block_free(mask, count * sizeof *mask);
    ld_block_free(large, count);
    ld_block_free(bytes, small);
    ld_block_free(original, 3 * count);
    return code;
}

/* ---- The part in its frame ------------------------------------------------------------------- */

/* Without paste_back the whole part is new, with it only what the mask covers. */
static void lay_part(const struct ld_job *job, const uint8_t *part, uint8_t *frame)
{
    const struct ld_rect at = job->frame_part;
    for (int32_t y = 0; y < at.height; y++) {
        const size_t first =
            (size_t)(at.y + y) * (size_t)job->frame_width + (size_t)at.x; /* pixel of the frame */
        const uint8_t *row = part + 3 * (size_t)y * (size_t)at.width;
        memcpy(frame + 3 * first, row, 3 * (size_t)at.width);
        if (job->request.init.paste_back)
            ld_pixels_paste_back(frame + 3 * first, job->frame + 3 * first, job->frame_mask + first,
                                 (size_t)at.width);
    }
}

static enum ld_code frame(const struct ld_job *job, struct ld_job_pixels *pixels,
                          struct ld_error *err)
{
    const struct ld_rect at = job->frame_part;
    const size_t part_size = 3 * (size_t)at.width * (size_t)at.height;
    struct ld_job_pixels whole = {.width = job->frame_width, .height = job->frame_height};
    uint8_t *part = ld_block_alloc(part_size);
    whole.rgb = ld_block_alloc(3 * count_of(&whole));
    enum ld_code code =
        part && whole.rgb
            ? resize(pixels->rgb, pixels->height, pixels->width, 3, LD_PIXEL_LANCZOS, at, part, err)
            : LD_FAIL(err, LD_E_NOMEM, "out of memory for the picture");
    if (code == LD_OK) {
        memcpy(whole.rgb, job->frame, 3 * count_of(&whole));
        lay_part(job, part, whole.rgb);
        ld_job_pixels_release(pixels);
        *pixels = whole;
    } else {
        ld_job_pixels_release(&whole);
    }
    ld_block_free(part, part_size);
    return code;
}

enum ld_code ld_job_finish_pixels(const struct ld_job *job, struct ld_job_pixels *pixels,
                                  struct ld_error *err)
{
    const struct ld_request_init *init = &job->request.init;
    if (!init->present || !job->init_rgb)
        return LD_OK;
    if (init->color_correction)
        ld_pixels_match_colors(pixels->rgb, count_of(pixels), job->init_rgb,
                               (size_t)job->request.width * (size_t)job->request.height);
    if (job->frame)
        return frame(job, pixels, err);
    return job->mask_pixels && init->paste_back ? paste_back(job, pixels, err) : LD_OK;
}
