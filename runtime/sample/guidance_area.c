#include "runtime/sample/guidance_area.h"

#include <math.h>
#include <string.h>

enum { RAMP_MAX = 8 }; /* cells; ComfyUI's fuzzy edge */

static const double empty_guard = 1e-37; /* what ComfyUI adds so that no cell divides by zero */

struct ld_area ld_area_of_share(double height, double width, double y, double x, int32_t in_height,
                                int32_t in_width)
{
    const double h = rint(height * (double)in_height);
    const double w = rint(width * (double)in_width);
    return (struct ld_area){
        .height = h < 1 ? 1 : (int32_t)h,
        .width = w < 1 ? 1 : (int32_t)w,
        .y = (int32_t)rint(y * (double)in_height),
        .x = (int32_t)rint(x * (double)in_width),
    };
}

static bool clip_extent(int32_t *extent, int32_t *offset, int32_t size)
{
    if (*offset < 0) {
        *extent += *offset;
        *offset = 0;
    }
    if (*offset >= size)
        return false;
    if (*extent > size - *offset)
        *extent = size - *offset;
    return *extent > 0;
}

bool ld_area_clip(struct ld_area *area, int32_t in_height, int32_t in_width)
{
    return clip_extent(&area->height, &area->y, in_height) &&
           clip_extent(&area->width, &area->x, in_width);
}

/* The ramp's factor at place i of an extent. */
static double ramp(int32_t i, int32_t extent, bool at_start, bool at_end)
{
    const int32_t r = extent / 4 < RAMP_MAX ? extent / 4 : RAMP_MAX;
    double factor = 1.0;
    if (at_start && i < r)
        factor *= (double)(i + 1) / (double)r;
    if (at_end && extent - 1 - i < r)
        factor *= (double)(extent - i) / (double)r;
    return factor;
}

void ld_area_weights(double *weights, const struct ld_area *area, double strength, bool ramps,
                     int32_t in_height, int32_t in_width)
{
    const bool top = ramps && area->y > 0;
    const bool bottom = ramps && area->y + area->height < in_height;
    const bool left = ramps && area->x > 0;
    const bool right = ramps && area->x + area->width < in_width;
    for (int32_t y = 0; y < area->height; y++) {
        const double row = strength * ramp(y, area->height, top, bottom);
        for (int32_t x = 0; x < area->width; x++)
            *weights++ = row * ramp(x, area->width, left, right);
    }
}

void ld_area_add(double *sum, double *weight, struct ld_latent_shape shape,
                 const struct ld_area *area, const double *weights, const double *part)
{
    const size_t plane = ld_latent_plane(shape);
    const size_t area_plane = (size_t)area->height * (size_t)area->width;
    for (int32_t y = 0; y < area->height; y++) {
        for (int32_t x = 0; x < area->width; x++) {
            const size_t to = (size_t)(area->y + y) * (size_t)shape.width + (size_t)(area->x + x);
            const size_t from = (size_t)y * (size_t)area->width + (size_t)x;
            weight[to] += weights[from];
            for (size_t c = 0; c < (size_t)shape.channels; c++)
                sum[c * plane + to] += weights[from] * part[c * area_plane + from];
        }
    }
}

void ld_area_finish(double *sum, const double *weight, struct ld_latent_shape shape)
{
    const size_t plane = ld_latent_plane(shape);
    for (size_t c = 0; c < (size_t)shape.channels; c++)
        for (size_t i = 0; i < plane; i++)
            sum[c * plane + i] /= weight[i] + empty_guard;
}

void ld_area_crop(double *out, const double *x, struct ld_latent_shape shape,
                  const struct ld_area *area)
{
    for (int32_t c = 0; c < shape.channels; c++) {
        for (int32_t y = 0; y < area->height; y++) {
            const size_t row = (size_t)c * (size_t)shape.height + (size_t)(area->y + y);
            memcpy(out, x + row * (size_t)shape.width + (size_t)area->x,
                   (size_t)area->width * sizeof *out);
            out += area->width;
        }
    }
}

void ld_compose_and(double *out, const double *const *conds, const double *weights, size_t parts,
                    const double *base, size_t count)
{
    double rest = 1.0;
    for (size_t p = 0; p < parts; p++)
        rest -= weights[p];
    for (size_t i = 0; i < count; i++)
        out[i] = base ? rest * base[i] : 0.0;
    for (size_t p = 0; p < parts; p++)
        for (size_t i = 0; i < count; i++)
            out[i] += weights[p] * conds[p][i];
}
