/*
 * Dynamic thresholding: guide strongly, then bring the result back to the range that a milder
 * "mimic" guidance would have had.
 *
 * Source: sampling.md 5.6 (mcmonkeyprojects, sd-dynamic-thresholding); Saharia et al. 2022,
 * arXiv:2205.11487, section 2.3, for the idea.
 */
#ifndef LD_SAMPLE_GUIDANCE_THRESHOLD_H
#define LD_SAMPLE_GUIDANCE_THRESHOLD_H

#include "runtime/sample/guidance_math.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a scale changes over the run; f is the share of the run already done, p a parameter. */
enum ld_scale_mode {
    LD_SCALE_CONSTANT,
    LD_SCALE_LINEAR_DOWN,
    LD_SCALE_COSINE_DOWN,
    LD_SCALE_HALF_COSINE_DOWN,
    LD_SCALE_LINEAR_UP,
    LD_SCALE_COSINE_UP,
    LD_SCALE_HALF_COSINE_UP,
    LD_SCALE_POWER_UP,
    LD_SCALE_POWER_DOWN,
    LD_SCALE_LINEAR_REPEATING,
    LD_SCALE_COSINE_REPEATING,
    LD_SCALE_SAWTOOTH
};

/* "Half Cosine Down", "half_cosine_down" and "half-cosine-down" are one name. False if unknown. */
bool ld_scale_mode_named(const char *name, enum ld_scale_mode *mode);

/* smallest + (scale - smallest) w(f); `scale` itself in mode CONSTANT. */
double ld_scale_at(double scale, double smallest, enum ld_scale_mode mode, double f, double p);

struct ld_threshold {
    double scale, mimic; /* both as they are at this call */
    double percentile;   /* of |values|, for the AD measure */
    double phi;          /* share of the thresholded result */
    bool per_channel;    /* measure each channel by itself */
    bool from_zero;      /* scale about zero instead of about the mean */
    bool deviation;      /* measure by standard deviation instead of by the largest value */
};

/*
 * Shapes   out, cond, uncond: one image (or a whole batch given as one image of images * channels
 *          channels); scratch: 2 * count values; `out` may alias an input.
 */
void ld_dynamic_threshold(double *out, const double *cond, const double *uncond,
                          const struct ld_threshold *options, struct ld_latent_shape shape,
                          double *scratch);

#ifdef __cplusplus
}
#endif
#endif
