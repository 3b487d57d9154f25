/*
 * Spherical interpolation of two noise tensors: how a variation seed bends a picture away from the
 * one its main seed paints.
 */
#ifndef LD_SAMPLE_SLERP_H
#define LD_SAMPLE_SLERP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * noise = sin((1-s) w)/sin w * noise + sin(s w)/sin w * other, w the angle between the two along
 * the height of each (channel, column), as the reference takes it. Where all columns are nearly
 * parallel (mean cosine above 0.9995) it is the reference's s * noise + (1-s) * other.
 *
 * Shapes   noise, other: [channels, height, width] float32; must not overlap.
 * Source   sampling.md 4.4.
 */
void ld_slerp(float *noise, const float *other, double strength, int32_t channels, int32_t height,
              int32_t width);

#ifdef __cplusplus
}
#endif
#endif
