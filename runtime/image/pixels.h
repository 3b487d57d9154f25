/*
 * Between tensors and bytes: decoder planes to RGB8, pictures to encoder planes, masks, the guard
 * against broken pictures, and the cheap colour of previews.
 *
 *     if (!ld_values_finite(planes, count)) ...                   // before anything is encoded
 *     ld_pixels_from_planes(rgb, planes, height, width);
 */
#ifndef LD_IMAGE_PIXELS_H
#define LD_IMAGE_PIXELS_H

#include "runtime/base/error.h"
#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Pictures and planes --------------------------------------------------------------------- */

/*
 * rgb = trunc(255 clamp((v + 1) / 2, 0, 1)), as both front ends store it; NaN gives 0.
 * Shapes   planes: [3, height, width] in about [-1, 1]; rgb: [height, width, 3].
 */
void ld_pixels_from_planes(uint8_t *rgb, const float *planes, int32_t height, int32_t width);

/* v = byte / 255 * 2 - 1. `channels` 3 or 4; alpha is not looked at.
 * Shapes   pixels: [height, width, channels]; planes: [3, height, width]. */
void ld_pixels_to_planes(float *planes, const uint8_t *pixels, int32_t channels, int32_t height,
                         int32_t width);

/* ---- Guards ---------------------------------------------------------------------------------- */

/* No NaN and no infinity among the values. */
bool ld_values_finite(const float *values, size_t count);
bool ld_values_finite_f64(const double *values, size_t count);

/* Every byte zero: what a NaN that was missed looks like. */
bool ld_pixels_black(const uint8_t *pixels, size_t count);

/* ---- Previews -------------------------------------------------------------------------------- */

/*
 * A latent's colours at an eighth of the size, without the decoder: a linear map of the four
 * channels. Numerics: meant for the eye, off by some ten levels.
 * Shapes   latent: [4, height, width] in sampler scale; rgb: [height, width, 3].
 */
void ld_preview_from_latent(uint8_t *rgb, const double *latent, int32_t height, int32_t width);

/* ---- Masks ----------------------------------------------------------------------------------- */

/* Brightness of a mask picture as 0..1 (white = repaint), Rec. 601 weights; with an alpha channel a
 * transparent pixel counts as black. Shapes pixels: [height, width, channels], channels 3 or 4. */
void ld_mask_from_pixels(float *mask, const uint8_t *pixels, int32_t channels, int32_t height,
                         int32_t width);

/* Gaussian blur of standard deviation `radius` pixels, int(2.5 radius + 0.5) taps to each side,
 * edges mirrored without repeating them. Errors LD_E_NOMEM. */
enum ld_code ld_mask_blur(float *mask, int32_t height, int32_t width, int32_t radius,
                          struct ld_error *err) LD_MUST_USE;

/* Put the original back where the mask is dark: rgb = mask rgb + (1 - mask) original, rounded.
 * Shapes   rgb, original: [height, width, 3]; mask: [height, width]. */
void ld_pixels_paste_back(uint8_t *rgb, const uint8_t *original, const float *mask, size_t count);

#ifdef __cplusplus
}
#endif
#endif
