/*
 * Lines of a picture by differences of blurs: a scribble of its strong ones, and dark lines on
 * bright paper by how much darker they are than what lies around. Both give light lines on black.
 *
 * Shapes   planes: [3, height, width], of which the first gets the result, 0..1, and all three are
 *          written on the way; rgb: [height, width, 3], sides 1..16384.
 * Errors   LD_E_NOMEM.
 */
#ifndef LD_IMAGE_HINT_LINES_H
#define LD_IMAGE_HINT_LINES_H

#include "runtime/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * 1 where 2 (255 - trunc(255 - d)) > threshold, 0 elsewhere. d is, of the colour where it is least
 * and brought into 0..255, the blur of sigma 5 less the blur of sigma 0.5. The reference doubles in
 * eight bits, which makes holes where d is 127 to 143; here lines have none.
 * Source   scribble_xdog of sd-webui-controlnet; Winnemoeller et al. 2012, "XDoG".
 */
enum ld_code ld_hint_scribble(float *planes, const uint8_t *rgb, int32_t height, int32_t width,
                              double threshold, struct ld_error *err) LD_MUST_USE;

/*
 * trunc(127 d / max(16, m)) / 255, at most 1. d is, of the colour where it is least and brought
 * into 0..255, the blur of sigma 6 less the picture; m is the median of all d above 8.
 * Source   lineart_standard of sd-webui-controlnet.
 */
enum ld_code ld_hint_lineart(float *planes, const uint8_t *rgb, int32_t height, int32_t width,
                             struct ld_error *err) LD_MUST_USE;

/* The median of those values that are above `least`, which is at least 0: the mean of both middle
 * ones where they are even in number, 0 where there is none. */
float ld_median_above(const float *values, size_t count, float least);

#ifdef __cplusplus
}
#endif
#endif
