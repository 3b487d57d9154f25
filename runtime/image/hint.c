#include "runtime/image/hint.h"

#include "runtime/base/arena.h"
#include "runtime/image/gaussian.h"
#include "runtime/image/hint_canny.h"
#include "runtime/image/hint_lines.h"
#include "runtime/image/pixels_resize.h"

#include <math.h>
#include <string.h>

enum { SIDE_MAX = 16384 };

/* A picture and the hint to make of it. */
struct making {
    float *planes;
    const uint8_t *rgb;
    int32_t height, width;
    size_t count; /* height * width */
    double low, high;
    const uint8_t *mask;
};

/* ---- Kinds ----------------------------------------------------------------------------------- */

/* planes = bytes / 255. */
static void spread(float *planes, const uint8_t *rgb, size_t count)
{
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < count; i++)
            planes[c * count + i] = (float)rgb[3 * i + c] / 255.0F;
}

/* The first plane in the other two. */
static enum ld_code grey(const struct making *making, enum ld_code code)
{
    const size_t plane = making->count * sizeof(float);
    if (code == LD_OK) {
        memcpy(making->planes + making->count, making->planes, plane);
        memcpy(making->planes + 2 * making->count, making->planes, plane);
    }
    return code;
}

static enum ld_code make_none(const struct making *making, struct ld_error *err)
{
    (void)err;
    spread(making->planes, making->rgb, making->count);
    return LD_OK;
}

static enum ld_code make_canny(const struct making *making, struct ld_error *err)
{
    return grey(making, ld_hint_canny(making->planes, making->rgb, making->height, making->width,
                                      making->low, making->high, err));
}

static enum ld_code make_scribble(const struct making *making, struct ld_error *err)
{
    return grey(making, ld_hint_scribble(making->planes, making->rgb, making->height, making->width,
                                         making->high, err));
}

static enum ld_code make_lineart(const struct making *making, struct ld_error *err)
{
    return grey(making,
                ld_hint_lineart(making->planes, making->rgb, making->height, making->width, err));
}

static enum ld_code make_invert(const struct making *making, struct ld_error *err)
{
    (void)err;
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < making->count; i++)
            making->planes[c * making->count + i] = (float)(255 - making->rgb[3 * i + c]) / 255.0F;
    return LD_OK;
}

static enum ld_code make_threshold(const struct making *making, struct ld_error *err)
{
    (void)err;
    for (size_t i = 0; i < making->count; i++) {
        const uint8_t *p = making->rgb + 3 * i;
        const bool bright = p[0] > making->high && p[1] > making->high && p[2] > making->high;
        making->planes[i] = bright ? 1.0F : 0.0F;
    }
    return grey(making, LD_OK);
}

static enum ld_code make_luminance(const struct making *making, struct ld_error *err)
{
    (void)err;
    for (size_t i = 0; i < making->count; i++) {
        const uint8_t *p = making->rgb + 3 * i;
        /* In thousandths, so that white is 1 and no more. */
        making->planes[i] = (float)(299 * p[0] + 587 * p[1] + 114 * p[2]) / 255000.0F;
    }
    return grey(making, LD_OK);
}

static enum ld_code make_blur(const struct making *making, struct ld_error *err)
{
    const enum ld_code code = ld_gaussian_blur(making->planes, making->rgb, making->height,
                                               making->width, making->high, err);
    for (size_t i = 0; i < 3 * making->count && code == LD_OK; i++)
        making->planes[i] = fminf(1.0F, making->planes[i] / 255.0F); /* weights are rounded */
    return code;
}

static enum ld_code make_tile(const struct making *making, struct ld_error *err)
{
    const int32_t height = (int32_t)((double)making->height / making->high);
    const int32_t width = (int32_t)((double)making->width / making->high);
    struct ld_pixel_resize op = {.in = making->rgb,
                                 .in_height = making->height,
                                 .in_width = making->width,
                                 .channels = 3,
                                 .out_height = height > 1 ? height : 1,
                                 .out_width = width > 1 ? width : 1,
                                 .filter = LD_PIXEL_BOX};
    const size_t small_bytes = 3 * (size_t)op.out_height * (size_t)op.out_width;
    const size_t bytes = small_bytes + 3 * making->count;
    uint8_t *small = ld_block_alloc(bytes);
    if (!small)
        return LD_FAIL(err, LD_E_NOMEM, "no memory to resize the image");
    op.out = small;
    enum ld_code code = ld_pixels_resize(&op, err);
    if (code == LD_OK) {
        const struct ld_pixel_resize back = {.in = small,
                                             .in_height = op.out_height,
                                             .in_width = op.out_width,
                                             .channels = 3,
                                             .out_height = making->height,
                                             .out_width = making->width,
                                             .filter = LD_PIXEL_BICUBIC,
                                             .out = small + small_bytes};
        code = ld_pixels_resize(&back, err);
    }
    if (code == LD_OK)
        spread(making->planes, small + small_bytes, making->count);
    ld_block_free(small, bytes);
    return code;
}

static enum ld_code make_inpaint(const struct making *making, struct ld_error *err)
{
    (void)err;
    spread(making->planes, making->rgb, making->count);
    for (size_t i = 0; i < making->count && making->mask; i++)
        for (size_t c = 0; c < 3 && making->mask[i] >= 128; c++)
            making->planes[c * making->count + i] = -1.0F;
    return LD_OK;
}

/* ---- Table ----------------------------------------------------------------------------------- */

/* What a kind makes of a number; one whose most is 0 is not looked at. */
struct number {
    double usual, least, most;
};

/* By enum ld_hint_kind. */
static const struct {
    enum ld_code (*make)(const struct making *making, struct ld_error *err);
    struct number low, high;
} kinds[] = {
    [LD_HINT_NONE] = {make_none, {0}, {0}},
    [LD_HINT_CANNY] = {make_canny, {100, 0, 2040}, {200, 0, 2040}}, /* the steepest slope is 2040 */
    [LD_HINT_SCRIBBLE] = {make_scribble, {0}, {32, 0, 255}},
    [LD_HINT_LINEART] = {make_lineart, {0}, {0}},
    [LD_HINT_INVERT] = {make_invert, {0}, {0}},
    [LD_HINT_THRESHOLD] = {make_threshold, {0}, {127, 0, 255}},
    [LD_HINT_LUMINANCE] = {make_luminance, {0}, {0}},
    [LD_HINT_BLUR] = {make_blur, {0}, {9, 0, 64}},
    [LD_HINT_TILE] = {make_tile, {0}, {1, 1, 8}},
    [LD_HINT_INPAINT] = {make_inpaint, {0}, {0}},
};

static double settled(const struct number *number, double value)
{
    if (number->most == 0)
        return (double)NAN;
    return isnan(value) ? number->usual : fmin(number->most, fmax(number->least, value));
}

struct ld_hint_args ld_hint_settled(const struct ld_hint_args *args)
{
    LD_ASSERT((size_t)args->kind < sizeof kinds / sizeof kinds[0]);
    struct ld_hint_args made = *args;
    made.low = settled(&kinds[args->kind].low, args->low);
    made.high = settled(&kinds[args->kind].high, args->high);
    return made;
}

/* ---- Hints ----------------------------------------------------------------------------------- */

enum ld_code ld_hint_make(float *planes, const uint8_t *rgb, int32_t height, int32_t width,
                          const struct ld_hint_args *args, struct ld_error *err)
{
    if (height < 1 || height > SIDE_MAX || width < 1 || width > SIDE_MAX)
        return LD_FAIL(err, LD_E_RANGE,
                       "sides of an image to make a hint of must be between 1 and %d", SIDE_MAX);
    const struct ld_hint_args settled_args = ld_hint_settled(args);
    const struct making making = {.planes = planes,
                                  .rgb = rgb,
                                  .height = height,
                                  .width = width,
                                  .count = (size_t)height * (size_t)width,
                                  .low = settled_args.low,
                                  .high = settled_args.high,
                                  .mask = args->mask};
    return kinds[args->kind].make(&making, err);
}

void ld_hint_picture(uint8_t *rgb, const float *planes, int32_t height, int32_t width)
{
    const size_t count = (size_t)height * (size_t)width;
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < 3; c++)
            rgb[3 * i + c] =
                (uint8_t)(fminf(1.0F, fmaxf(0.0F, planes[c * count + i])) * 255.0F + 0.5F);
}
