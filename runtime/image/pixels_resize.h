/*
 * Resizing pictures in bytes: initial images to the size that is painted, previews, upscaling
 * between two passes. Latents are resized by sample/resize.h.
 */
#ifndef LD_IMAGE_PIXELS_RESIZE_H
#define LD_IMAGE_PIXELS_RESIZE_H

#include "runtime/base/error.h"
#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ld_pixel_filter {
    LD_PIXEL_NEAREST,
    LD_PIXEL_BOX, /* mean over the covered area when shrinking */
    LD_PIXEL_BILINEAR,
    LD_PIXEL_BICUBIC, /* Keys, A = -1/2 */
    LD_PIXEL_LANCZOS  /* three lobes; the front ends' choice for photographs */
};

/* "pixel-lanczos" and its kin as hires.upscaler and upscale.upscaler have them; Lanczos for any
 * other name. */
enum ld_pixel_filter ld_pixel_filter_named(const char *upscaler);

struct ld_pixel_resize {
    const uint8_t *in; /* [in_height, in_width, channels] */
    int32_t in_height, in_width, channels;
    int32_t out_height, out_width;
    enum ld_pixel_filter filter;
    uint8_t *out; /* [out_height, out_width, channels], must not alias `in` */
};

/*
 * out_i = sum_j w((j + 1/2 - (i + 1/2) c) / max(c, 1)) in_j, c = in / out, weights normalised,
 * across then down, rounded and clamped once at the end.
 * Errors   LD_E_RANGE (sides outside 1..16384, channels outside 1..4), LD_E_NOMEM.
 */
enum ld_code ld_pixels_resize(const struct ld_pixel_resize *op, struct ld_error *err) LD_MUST_USE;

/*
 * Fit a picture to a size: stretch it, cut what sticks out around the middle, or pad with black
 * around the middle. Shapes and errors as ld_pixels_resize.
 */
enum ld_code ld_pixels_fit(const struct ld_pixel_resize *op, enum ld_fit fit,
                           struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
