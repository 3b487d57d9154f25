/*
 * The Box-Muller transform on eight lanes, the one inner loop of every generator here. The
 * logarithm, sine and cosine are short series in single precision written so that the compiler
 * vectorises them; against libm the results differ by less than 1e-6, which is what the reference
 * builds differ by among themselves (sampling.md 4.1).
 */
#ifndef LD_SAMPLE_NOISE_NORMAL_H
#define LD_SAMPLE_NOISE_NORMAL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_NORMAL_LANES = 8 };

/*
 * r = sqrt(-2 ln u), cosine[j] = r cos(angle), sine[j] = r sin(angle).
 *
 * Shapes   every array has LD_NORMAL_LANES elements.
 * Numerics u in (0, 1] and `complement` = 1 - u, each correctly rounded: near u = 1 the logarithm
 *          is taken from the complement, where u itself has lost its digits. angle in [0, 2 pi].
 * Source   Box & Muller 1958.
 */
void ld_normal_lanes(const float *u, const float *complement, const double *angle, float *cosine,
                     float *sine);

#ifdef __cplusplus
}
#endif
#endif
