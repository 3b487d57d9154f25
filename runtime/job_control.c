/*
 * The ControlNets of a job: loaded and pinned, and their pictures made into hints at the size of
 * each pass. What a row takes of them is control_row.h's affair.
 */
#include "runtime/job.h"

#include "runtime/image/hint.h"
#include "runtime/image/picture_read.h"
#include "runtime/image/pixels_resize.h"
#include "runtime/model/control.h"

#include <stdatomic.h>

/* A picture on its way to a hint. */
struct picture {
    uint8_t *rgb; /* [height, width, 3] */
    int32_t width, height;
};

static size_t pixels_of(int32_t width, int32_t height)
{
    return (size_t)width * (size_t)height;
}

static void release_picture(struct picture *picture)
{
    ld_block_free(picture->rgb, 3 * pixels_of(picture->width, picture->height));
    memset(picture, 0, sizeof *picture);
}

static enum ld_code no_memory(struct ld_error *err)
{
    return LD_FAIL(err, LD_E_NOMEM, "out of memory for a ControlNet's picture");
}

/* ---- Reading --------------------------------------------------------------------------------- */

static enum ld_code read_own(struct ld_span file, struct picture *out, struct ld_error *err)
{
    struct ld_picture picture = {0};
    if (file.size == 0)
        return LD_FAIL(err, LD_E_NOT_FOUND, "control.image is not an image that is stored here");
    if (ld_picture_read(&picture, file, err) != LD_OK)
        return err->code;
    const size_t count = pixels_of(picture.width, picture.height);
    const size_t channels = (size_t)picture.channels;
    out->width = picture.width;
    out->height = picture.height;
    out->rgb = ld_block_alloc(3 * count);
    for (size_t i = 0; out->rgb && i < 3 * count; i++)
        out->rgb[i] = picture.pixels[i / 3 * channels + i % 3];
    ld_picture_deinit(&picture);
    return out->rgb ? LD_OK : no_memory(err);
}

/* Without a picture of its own a unit follows that of init, as it is painted over. */
static enum ld_code read_init(const struct ld_job *job, struct picture *out, struct ld_error *err)
{
    if (!job->init_rgb)
        return LD_FAIL(err, LD_E_INVALID, "control.image is required where there is no init");
    out->width = job->request.width;
    out->height = job->request.height;
    const size_t bytes = 3 * pixels_of(out->width, out->height);
    out->rgb = ld_block_alloc(bytes);
    if (!out->rgb)
        return no_memory(err);
    memcpy(out->rgb, job->init_rgb, bytes);
    return LD_OK;
}

/* ---- Hints ----------------------------------------------------------------------------------- */

/* What is a hint already is resampled as the front ends do; a photograph as photographs are. */
static enum ld_pixel_filter filter_for(const struct ld_job *job,
                                       const struct ld_request_control *control, bool shrinks)
{
    if (control->preprocess != LD_HINT_NONE)
        return LD_PIXEL_LANCZOS;
    if (job->request.profile == LD_PROFILE_COMFY)
        return LD_PIXEL_NEAREST;
    return shrinks ? LD_PIXEL_BOX : LD_PIXEL_BICUBIC;
}

/* A unit's picture at another size, as its `resize` says. */
static enum ld_code fit(const struct ld_job *job, const struct ld_request_control *control,
                        const struct picture *picture, const struct picture *out,
                        struct ld_error *err)
{
    const struct ld_pixel_resize op = {
        .in = picture->rgb,
        .in_height = picture->height,
        .in_width = picture->width,
        .channels = 3,
        .out_height = out->height,
        .out_width = out->width,
        .filter = filter_for(job, control, picture->width > out->width),
        .out = out->rgb,
    };
    return ld_pixels_fit(&op, control->resize, err);
}

static bool make_room(struct picture *picture)
{
    picture->rgb = ld_block_alloc(3 * pixels_of(picture->width, picture->height));
    return picture->rgb != NULL;
}

/* With init.area "masked" a part of init is painted at the size of the job. A unit's own picture
 * belongs to all of init, so it is fitted to that and the same part of it followed. */
static enum ld_code cut_as_init(const struct ld_job *job, const struct ld_request_control *control,
                                struct picture *picture, struct ld_error *err)
{
    if (!job->frame)
        return LD_OK;
    struct picture whole = {NULL, job->frame_width, job->frame_height};
    struct picture part = {NULL, job->frame_part.width, job->frame_part.height};
    enum ld_code code = make_room(&whole) && make_room(&part) ? LD_OK : no_memory(err);
    if (code == LD_OK)
        code = fit(job, control, picture, &whole, err);
    if (code == LD_OK) {
        ld_rect_cut(whole.rgb, whole.width, job->frame_part, part.rgb);
        const struct picture uncut = *picture;
        *picture = part;
        part = uncut;
    }
    release_picture(&part);
    release_picture(&whole);
    return code;
}

/* What init repaints, white, at the size of the pass. NULL in `*out` without a mask. */
static enum ld_code mask_at(const struct ld_job *job, int32_t width, int32_t height, uint8_t **out,
                            struct ld_error *err)
{
    const size_t count = pixels_of(job->request.width, job->request.height);
    if (!job->mask_pixels)
        return LD_OK;
    uint8_t *small = ld_block_alloc(count);
    *out = ld_block_alloc(pixels_of(width, height));
    enum ld_code code = small && *out ? LD_OK : no_memory(err);
    for (size_t i = 0; code == LD_OK && i < count; i++)
        small[i] = job->mask_pixels[i] >= 0.5F ? 255 : 0;
    const struct ld_pixel_resize op = {.in = small,
                                       .in_height = job->request.height,
                                       .in_width = job->request.width,
                                       .channels = 1,
                                       .out_height = height,
                                       .out_width = width,
                                       .filter = LD_PIXEL_NEAREST,
                                       .out = *out};
    if (code == LD_OK)
        code = ld_pixels_resize(&op, err);
    ld_block_free(small, count);
    return code;
}

static enum ld_code make_hint(const struct ld_job *job, const struct ld_request_control *control,
                              const struct picture *picture, struct ld_job_hint *hint,
                              struct ld_error *err)
{
    static atomic_uint_least64_t serials;
    const size_t count = pixels_of(hint->width, hint->height);
    struct picture fitted = {NULL, hint->width, hint->height};
    uint8_t *mask = NULL;
    hint->planes = ld_block_alloc(3 * count * sizeof *hint->planes);
    enum ld_code code = make_room(&fitted) && hint->planes ? LD_OK : no_memory(err);
    if (code == LD_OK)
        code = fit(job, control, picture, &fitted, err);
    if (code == LD_OK && control->preprocess == LD_HINT_INPAINT)
        code = mask_at(job, hint->width, hint->height, &mask, err);
    const struct ld_hint_args args = {
        .kind = control->preprocess, .low = control->low, .high = control->high, .mask = mask};
    if (code == LD_OK)
        code = ld_hint_make(hint->planes, fitted.rgb, hint->height, hint->width, &args, err);
    hint->serial = 1 + atomic_fetch_add(&serials, 1);
    ld_block_free(mask, count);
    release_picture(&fitted);
    return code;
}

/* ---- Units ----------------------------------------------------------------------------------- */

static bool takes_part(const struct ld_request_control *control, uint32_t pass)
{
    return control->passes == LD_CONTROL_BOTH ||
           (control->passes == LD_CONTROL_SECOND) == (pass == 1);
}

static enum ld_code load_model(struct ld_job *job, struct ld_library *library, uint32_t unit,
                               uint32_t passes, struct ld_error *err)
{
    const char *name = job->request.controls[unit].model;
    struct ld_model **model = &job->controls[unit].model;
    if (ld_library_control(library, name, model, err) != LD_OK)
        return err->code;
    (void)ld_fmt(job->controls[unit].sha256, sizeof job->controls[unit].sha256, "%s",
                 ld_library_control_sha256(library, name));
    for (uint32_t pass = 0; pass < passes; pass++)
        if (!ld_control_fits(ld_model_arch(*model), ld_model_arch(job->passes[pass].model->model)))
            return LD_FAIL(err, LD_E_UNSUPPORTED,
                           "ControlNet '%.100s' was made for UNets of other widths than that of "
                           "'%.100s'",
                           name, job->passes[pass].model->name);
    return LD_OK;
}

static enum ld_code take_unit(struct ld_job *job, struct ld_library *library, uint32_t unit,
                              struct ld_error *err)
{
    const struct ld_request_control *control = &job->request.controls[unit];
    const uint32_t passes = job->request.hires.present ? LD_JOB_PASSES : 1;
    struct picture picture = {0};
    int64_t width;
    int64_t height;
    if (!(control->weight > 0))
        return LD_OK;
    ld_request_final_size(&job->request, &width, &height);
    if (load_model(job, library, unit, passes, err) != LD_OK)
        return ld_error_at(err, "/control/%u/model", unit);
    enum ld_code code = control->image[0] ? read_own(job->given.control_images[unit], &picture, err)
                                          : read_init(job, &picture, err);
    if (code == LD_OK && control->image[0])
        code = cut_as_init(job, control, &picture, err);
    for (uint32_t pass = 0; code == LD_OK && pass < passes; pass++) {
        struct ld_job_hint *hint = &job->controls[unit].hints[pass];
        if (!takes_part(control, pass))
            continue;
        hint->width = pass == 0 ? job->request.width : (int32_t)width;
        hint->height = pass == 0 ? job->request.height : (int32_t)height;
        code = make_hint(job, control, &picture, hint, err);
    }
    release_picture(&picture);
    return code == LD_OK ? LD_OK : ld_error_at(err, "/control/%u/image", unit);
}

enum ld_code ld_job_take_controls(struct ld_job *job, struct ld_library *library,
                                  struct ld_error *err)
{
    enum ld_code code = LD_OK;
    for (uint32_t unit = 0; code == LD_OK && unit < job->request.control_count; unit++)
        code = take_unit(job, library, unit, err);
    return code;
}

void ld_job_release_controls(struct ld_job *job, struct ld_library *library)
{
    for (uint32_t unit = 0; unit < LD_REQUEST_CONTROLS_MAX; unit++) {
        struct ld_job_control *control = &job->controls[unit];
        ld_library_side_release(library, control->model);
        for (int pass = 0; pass < LD_JOB_PASSES; pass++) {
            struct ld_job_hint *hint = &control->hints[pass];
            ld_block_free(hint->planes,
                          3 * pixels_of(hint->width, hint->height) * sizeof *hint->planes);
        }
    }
}
