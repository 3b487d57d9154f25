/*
 * Canny's edges of a colour picture, bit for bit as OpenCV finds them.
 */
#ifndef LD_IMAGE_HINT_CANNY_H
#define LD_IMAGE_HINT_CANNY_H

#include "runtime/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * 1 on an edge, 0 elsewhere. Slopes by Sobel's 3x3, edges of the picture repeated; of each pixel
 * the colour with the largest |dx| + |dy|, the first of equal ones. A pixel stays that is a maximum
 * across its edge, the direction of the slope taken to the nearest of four. It is an edge where its
 * slope is above the higher threshold, or above the lower one and joined to an edge by
 * pixels that are, in any of the eight directions.
 *
 * Shapes   edges: [height, width]; rgb: [height, width, 3], sides 1..16384. Thresholds in levels of
 *          |dx| + |dy|, which is 2040 at most; they are rounded down, and swapped where low is
 * above high. Errors   LD_E_NOMEM. Source   Canny 1986, "A Computational Approach to Edge
 * Detection"; OpenCV, the documentation of Canny (L2gradient false, aperture 3), and for ties,
 * directions and edges its canny.cpp.
 */
enum ld_code ld_hint_canny(float *edges, const uint8_t *rgb, int32_t height, int32_t width,
                           double low, double high, struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
