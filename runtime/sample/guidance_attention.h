/*
 * Guidance that looks into the UNet's attention: self attention guidance blurs where the middle
 * block attends, perturbed attention guidance compares with a pass whose attention is switched off.
 *
 * Source: sampling.md 5.8; Hong et al. 2022, arXiv:2210.00939 (SAG); Ahn et al. 2024,
 * arXiv:2403.17377 (PAG).
 */
#ifndef LD_SAMPLE_GUIDANCE_ATTENTION_H
#define LD_SAMPLE_GUIDANCE_ATTENTION_H

#include "runtime/sample/guidance_math.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_SAG_KERNEL = 9 /* taps of the blur; the latent must be larger than half of it */ };

/* The middle block's grid: height * width == tokens, as close to the latent's aspect as it goes. */
void ld_sag_grid(int32_t tokens, int32_t latent_height, int32_t latent_width, int32_t *height,
                 int32_t *width);

/* SAG needs reflect padding of half the kernel; smaller latents go without it. */
bool ld_sag_possible(struct ld_latent_shape shape);

/*
 * B = where the middle block attended more than average (attention > 1): U blurred; elsewhere U.
 *
 * Shapes   out, uncond: one image, must not alias; attention: [tokens], for every key the mean over
 *          heads of the sum over queries of the softmax; scratch: 2 planes.
 */
void ld_sag_degrade(double *out, const double *uncond, const float *attention, int32_t tokens,
                    double blur_sigma, struct ld_latent_shape shape, double *scratch);

/* What the negative is evaluated at the second time: B + x - U. */
void ld_sag_input(double *out, const double *degraded, const double *x, const double *uncond,
                  size_t count);

/* D += scale (kept - lost): PAG with C and its perturbed pass, SAG with B and its estimate. */
void ld_guidance_push(double *denoised, const double *kept, const double *lost, double scale,
                      size_t count);

#ifdef __cplusplus
}
#endif
#endif
