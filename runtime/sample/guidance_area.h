/*
 * Several prompts in one picture: weighted areas (ComfyUI's conditioning) and the word AND
 * (A1111's). Both give one estimate C, which guidance then takes like that of a single prompt.
 *
 * Source: sampling.md 5.9.
 */
#ifndef LD_SAMPLE_GUIDANCE_AREA_H
#define LD_SAMPLE_GUIDANCE_AREA_H

#include "runtime/sample/guidance_math.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A rectangle in latent cells. */
struct ld_area {
    int32_t height, width, y, x;
};

/* From fractions of the picture: at least one cell, halves rounded to even. */
struct ld_area ld_area_of_share(double height, double width, double y, double x, int32_t in_height,
                                int32_t in_width);

/* Cut what lies outside the picture. False if nothing is left. */
bool ld_area_clip(struct ld_area *area, int32_t in_height, int32_t in_width);

/*
 * The weight of each cell of a clipped area: `strength`, and without a mask a linear ramp 1/r, 2/r,
 * ... over r = min(8, extent / 4) cells at every edge that is not the picture's own.
 *
 * Shapes   weights: [area.height, area.width].
 */
void ld_area_weights(double *weights, const struct ld_area *area, double strength, bool ramps,
                     int32_t in_height, int32_t in_width);

/*
 * sum += w * part and weight += w inside the area, for every channel.
 *
 * Shapes   sum: [channels, height, width]; weight: [height, width] of the whole picture;
 *          part: [channels, area.height, area.width], the estimate made on the crop;
 *          weights: as ld_area_weights gives them.
 */
void ld_area_add(double *sum, double *weight, struct ld_latent_shape shape,
                 const struct ld_area *area, const double *weights, const double *part);

/* C = sum / (weight + 1e-37), in place in `sum`. */
void ld_area_finish(double *sum, const double *weight, struct ld_latent_shape shape);

/* Copy the area's crop of a tensor: what its prompt is evaluated on. */
void ld_area_crop(double *out, const double *x, struct ld_latent_shape shape,
                  const struct ld_area *area);

/* Active at this sigma: low <= sigma <= high, the sigmas of the range's end and start. */
static inline bool ld_sigma_in_range(double sigma, double high, double low)
{
    return sigma <= high && sigma >= low;
}

/*
 * AND: C = base + sum_i w_i (C_i - base), after which plain guidance gives U + sum_i w_i s (C_i -
 * U). `base` is U, or C_0 where the negative is skipped at this call.
 *
 * Shapes   all [count]; out must not alias any of them.
 */
void ld_compose_and(double *out, const double *const *conds, const double *weights, size_t parts,
                    const double *base, size_t count);

#ifdef __cplusplus
}
#endif
#endif
