/*
 * Gaussian blur of pictures in single precision: what hints are made of (hint.h), with the taps and
 * the edges that the programs have whose hints ControlNets were trained on.
 */
#ifndef LD_IMAGE_GAUSSIAN_H
#define LD_IMAGE_GAUSSIAN_H

#include "runtime/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_GAUSSIAN_RADIUS_MAX = 256 }; /* of a standard deviation of 64 pixels */

/*
 * Taps to each side of the middle one: half of the odd number at or above 8 sigma + 1, that rounded
 * half to even; 0 where sigma is 0.
 * Source   OpenCV, the documentation of GaussianBlur and getGaussianKernel: 4 sigma to each side
 * for pictures that are no bytes.
 */
int32_t ld_gaussian_radius(double sigma);

/* weight[k] = exp(-k^2 / (2 sigma^2)) of the taps k = 0..radius to one side, so scaled that all
 * 2 radius + 1 add up to 1. */
void ld_gaussian_weights(float *weight, int32_t radius, double sigma);

/* Where a line of `size` goes on when it is mirrored at both ends without repeating them, at any
 * distance: the pattern repeats every 2 (size - 1). */
static inline int32_t ld_mirrored(int32_t at, int32_t size)
{
    if (size == 1)
        return 0;
    const int32_t period = 2 * (size - 1);
    at = (at < 0 ? -at : at) % period;
    return at < size ? at : period - at;
}

/*
 * Blur each colour: across, then down, edges mirrored without repeating them.
 *
 * Shapes   planes: [3, height, width], 0..255 unscaled; rgb: [height, width, 3], sides 1..16384;
 *          sigma in pixels, 0..64: larger ones have their taps cut at LD_GAUSSIAN_RADIUS_MAX.
 * Numerics sums in f32, always in the same order.
 * Owner    borrows everything; takes 2 radius + 1 rows of floats for the while.
 * Errors   LD_E_NOMEM.
 */
enum ld_code ld_gaussian_blur(float *planes, const uint8_t *rgb, int32_t height, int32_t width,
                              double sigma, struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
