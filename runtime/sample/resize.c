#include "runtime/sample/resize.h"

#include "runtime/base/arena.h"
#include "runtime/sample/resize_bislerp.h"
#include "runtime/sample/resize_taps.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

/* ---- Separable modes ------------------------------------------------------------------------- */

static void across(float *out, const float *in, size_t rows, int32_t in_width,
                   const struct ld_resize_taps *taps)
{
    for (size_t y = 0; y < rows; y++) {
        const float *row = in + y * (size_t)in_width;
        for (int32_t i = 0; i < taps->out_size; i++) {
            const int32_t *cell = taps->cell + i * taps->width;
            const float *weight = taps->weight + i * taps->width;
            float sum = 0;
            for (int32_t k = 0; k < taps->width; k++)
                sum += weight[k] * row[cell[k]];
            *out++ = sum;
        }
    }
}

static void down(float *out, const float *in, size_t width, const struct ld_resize_taps *taps)
{
    for (int32_t i = 0; i < taps->out_size; i++, out += width) {
        memset(out, 0, width * sizeof *out);
        for (int32_t k = 0; k < taps->width; k++) {
            const float weight = taps->weight[i * taps->width + k];
            if (weight == 0.0f)
                continue;
            const float *row = in + (size_t)taps->cell[i * taps->width + k] * width;
            for (size_t x = 0; x < width; x++)
                out[x] += weight * row[x];
        }
    }
}

static enum ld_code resample_separable(const struct ld_resample *op, struct ld_error *err)
{
    struct ld_resize_taps wide = {0}, high = {0};
    const size_t in_plane = (size_t)op->in_height * (size_t)op->in_width;
    const size_t mid_plane = (size_t)op->in_height * (size_t)op->out_width;
    const size_t out_plane = (size_t)op->out_height * (size_t)op->out_width;
    float *mid = NULL;
    enum ld_code code = ld_resize_taps_init(&wide, op->mode, op->in_width, op->out_width, err);
    if (code == LD_OK)
        code = ld_resize_taps_init(&high, op->mode, op->in_height, op->out_height, err);
    if (code != LD_OK)
        goto done;
    mid = ld_heap_calloc(mid_plane, sizeof *mid);
    if (!mid) {
        code = LD_FAIL(err, LD_E_NOMEM, "no memory to resize");
        goto done;
    }
    for (size_t p = 0; p < (size_t)op->images * (size_t)op->channels; p++) {
        across(mid, op->in + p * in_plane, (size_t)op->in_height, op->in_width, &wide);
        down(op->out + p * out_plane, mid, (size_t)op->out_width, &high);
    }
done:
    ld_heap_free(mid);
    ld_resize_taps_deinit(&wide);
    ld_resize_taps_deinit(&high);
    return code;
}

static bool side_ok(int32_t side)
{
    return side >= 1 && side <= LD_RESAMPLE_SIDE_MAX;
}

enum ld_code ld_resample(const struct ld_resample *op, struct ld_error *err)
{
    if (!side_ok(op->in_height) || !side_ok(op->in_width) || !side_ok(op->out_height) ||
        !side_ok(op->out_width) || op->images < 1 || op->channels < 1)
        return LD_FAIL(err, LD_E_RANGE, "sides to resize must be between 1 and %d",
                       LD_RESAMPLE_SIDE_MAX);
    if (op->in_height == op->out_height && op->in_width == op->out_width) {
        memcpy(op->out, op->in,
               (size_t)op->images * (size_t)op->channels * (size_t)op->in_height *
                   (size_t)op->in_width * sizeof *op->out);
        return LD_OK;
    }
    return op->mode == LD_RESIZE_BISLERP ? ld_resample_bislerp(op, err)
                                         : resample_separable(op, err);
}

/* ---- Names ----------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum ld_resize_mode mode;
} names[] = {
    /* Canonical names first, in the order of the enumeration. */
    {"nearest", LD_RESIZE_NEAREST},
    {"nearest-exact", LD_RESIZE_NEAREST_EXACT},
    {"bilinear", LD_RESIZE_BILINEAR},
    {"bicubic", LD_RESIZE_BICUBIC},
    {"area", LD_RESIZE_AREA},
    {"bislerp", LD_RESIZE_BISLERP},
    {"bilinear-antialias", LD_RESIZE_BILINEAR_ANTIALIAS},
    {"bicubic-antialias", LD_RESIZE_BICUBIC_ANTIALIAS},
    {"bilinear-aa", LD_RESIZE_BILINEAR_ANTIALIAS},
    {"bicubic-aa", LD_RESIZE_BICUBIC_ANTIALIAS},
    /* A1111's labels, without "latent". */
    {"", LD_RESIZE_BILINEAR},
    {"(nearest)", LD_RESIZE_NEAREST},
    {"(nearest-exact)", LD_RESIZE_NEAREST_EXACT},
    {"(antialiased)", LD_RESIZE_BILINEAR_ANTIALIAS},
    {"(bicubic)", LD_RESIZE_BICUBIC},
    {"(bicubic antialiased)", LD_RESIZE_BICUBIC_ANTIALIAS},
    {"bilinear-antialiased", LD_RESIZE_BILINEAR_ANTIALIAS},
    {"bicubic-antialiased", LD_RESIZE_BICUBIC_ANTIALIAS},
};

static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        const char x = *a == '_' ? '-' : (char)tolower((unsigned char)*a);
        if (x != *b)
            return false;
    }
    return *a == *b;
}

bool ld_resize_mode_named(const char *name, enum ld_resize_mode *mode)
{
    const char *rest = name;
    if (strncasecmp(name, "latent", 6) == 0)
        rest = name + 6 + (name[6] == ' ' || name[6] == '-' || name[6] == '_');
    else if (!name[0])
        return false;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (same_name(rest, names[i].name)) {
            *mode = names[i].mode;
            return true;
        }
    }
    return false;
}

const char *ld_resize_mode_name(enum ld_resize_mode mode)
{
    LD_ASSERT(names[mode].mode == mode);
    return names[mode].name;
}

/* ---- Centre crop ----------------------------------------------------------------------------- */

struct ld_crop ld_crop_centre(int32_t in_height, int32_t in_width, int32_t out_height,
                              int32_t out_width)
{
    const double have = (double)in_width / (double)in_height;
    const double want = (double)out_width / (double)out_height;
    struct ld_crop crop = {0, 0, in_height, in_width};
    if (have > want)
        crop.x = (int32_t)rint(((double)in_width - (double)in_width * (want / have)) / 2);
    else if (have < want)
        crop.y = (int32_t)rint(((double)in_height - (double)in_height * (have / want)) / 2);
    crop.width -= 2 * crop.x;
    crop.height -= 2 * crop.y;
    /* Extreme aspects round to nothing; one cell always stays. */
    if (crop.width < 1)
        crop = (struct ld_crop){crop.y, in_width / 2, crop.height, 1};
    if (crop.height < 1)
        crop = (struct ld_crop){in_height / 2, crop.x, 1, crop.width};
    return crop;
}

void ld_crop_planes(float *out, const float *in, int32_t planes, int32_t in_height,
                    int32_t in_width, const struct ld_crop *crop)
{
    for (int32_t p = 0; p < planes; p++) {
        for (int32_t y = 0; y < crop->height; y++) {
            const size_t row = (size_t)p * (size_t)in_height + (size_t)(crop->y + y);
            memcpy(out, in + row * (size_t)in_width + (size_t)crop->x,
                   (size_t)crop->width * sizeof *out);
            out += crop->width;
        }
    }
}
