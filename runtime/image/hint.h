/*
 * What makes a ControlNet's hint of a picture: edges, lines, grey and so on, all without a model.
 *
 *     const struct ld_hint_args args = {.kind = LD_HINT_CANNY, .low = NAN, .high = NAN};
 *     if (ld_hint_make(planes, rgb, height, width, &args, &err) != LD_OK) ...
 *
 * What the kinds give, of bytes v:
 *
 *   none       v / 255: the picture is a hint already
 *   canny      1 on Canny's edges, else 0 (hint_canny.h); low 100, high 200, both 0..2040
 *   scribble   1 on strong lines, else 0 (hint_lines.h); high 32, 0..255: how strong
 *   lineart    dark lines on bright paper as light ones on black (hint_lines.h)
 *   invert     (255 - v) / 255: a drawing that has been cleaned already
 *   threshold  1 where every colour is above high, else 0; high 127, 0..255
 *   luminance  0.299 r + 0.587 g + 0.114 b over 255 in all three
 *   blur       the picture blurred; high 9, 0..64: the standard deviation in pixels
 *   tile       the picture 1 / high as large, its pixels' means, and bicubic back; high 1, 1..8
 *   inpaint    v / 255, and -1 in all three where the mask is 128 or more
 *
 * Source: lllyasviel/ControlNet, annotator/canny; sd-webui-controlnet, processor.py (the others but
 * luminance, and all usual values); BT.601 (luminance); diffusers, the documentation of its
 * inpainting pipeline with ControlNet (-1 under the mask).
 */
#ifndef LD_IMAGE_HINT_H
#define LD_IMAGE_HINT_H

#include "runtime/base/error.h"
#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ld_hint_args {
    enum ld_hint_kind kind;
    double low, high;    /* NAN: the usual ones */
    const uint8_t *mask; /* [height, width], or NULL: none. Only inpaint looks at it. */
};

/* The low and high that a hint is made with: NAN becomes the usual value, one out of the kind's
 * bounds the nearest in them, and one that the kind does not look at NAN. */
struct ld_hint_args ld_hint_settled(const struct ld_hint_args *args);

/*
 * Shapes   planes: [3, height, width], 0..1, inpaint also -1; rgb: [height, width, 3].
 * Numerics equal arguments give equal bits. Canny, scribble and threshold give 0 and 1 alone, in
 *          three equal planes, as lineart and luminance do.
 * Owner    borrows everything; takes at most 20 bytes a pixel for the while.
 * Errors   LD_E_RANGE (sides outside 1..16384), LD_E_NOMEM; `planes` then holds anything.
 */
enum ld_code ld_hint_make(float *planes, const uint8_t *rgb, int32_t height, int32_t width,
                          const struct ld_hint_args *args, struct ld_error *err) LD_MUST_USE;

/* The hint as a picture to look at, rounded; -1 is black. Shapes as above. */
void ld_hint_picture(uint8_t *rgb, const float *planes, int32_t height, int32_t width);

#ifdef __cplusplus
}
#endif
#endif
