/*
 * Guidance formulas on whole tensors in double: how the model's estimates with and without the
 * prompt become the one a sampler is given. Each is a pure function of one image's tensors; which
 * of them apply, and when, is guidance.h.
 *
 * Letters as in sampling.md 5: C the estimate for the prompt, U the one for the negative prompt, E
 * the one for an empty prompt, D the result, s the guidance scale. `out` may alias any input unless
 * a function says otherwise.
 */
#ifndef LD_SAMPLE_GUIDANCE_MATH_H
#define LD_SAMPLE_GUIDANCE_MATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A latent's shape; tensors are [channels, height, width]. */
struct ld_latent_shape {
    int32_t channels, height, width;
};

static inline size_t ld_latent_plane(struct ld_latent_shape shape)
{
    return (size_t)shape.height * (size_t)shape.width;
}

static inline size_t ld_latent_count(struct ld_latent_shape shape)
{
    return (size_t)shape.channels * ld_latent_plane(shape);
}

/* D = U + s (C - U). Source: Ho & Salimans 2022, arXiv:2207.12598. */
void ld_cfg(double *out, const double *cond, const double *uncond, double scale, size_t count);

/* Standard deviation with n - 1, two passes; 0 for fewer than two values. */
double ld_deviation(const double *values, size_t count);

double ld_norm(const double *values, size_t count);
double ld_dot(const double *a, const double *b, size_t count);

/*
 * Pull the spread of a guided estimate back to that of C, in v space:
 *   v(X) = (x / (sigma^2 + 1) - X) k, k = sqrt(sigma^2 + 1) / sigma
 *   v' = phi v(D) std(v(C)) / std(v(D)) + (1 - phi) v(D),  D' = x / (sigma^2 + 1) - v' / k
 * which is RescaleCFG when D is plain guidance, v being linear.
 *
 * Shapes   all [count] of one image; denoised is changed in place and must not alias `cond`.
 * Source   Lin et al. 2023, arXiv:2305.08891, section 3.4.
 */
void ld_cfg_rescale(double *denoised, const double *cond, const double *x, double sigma, double phi,
                    size_t count);

/*
 * Perp-Neg: only the part of the negative that is at right angles to the positive pushes away.
 *   p = C - E, n = N - E, D = E + s (p - w (n - <n,p> / |p|^2 p))
 * Source: Armandpour et al. 2023, arXiv:2304.04968.
 */
void ld_perp_neg(double *out, const double *cond, const double *negative, const double *empty,
                 double scale, double weight, size_t count);

/* Adaptive projected guidance. `running` [count] is the momentum's state, zero before the first
 * call, NULL without momentum. */
struct ld_apg {
    double eta, threshold, momentum; /* threshold 0: no bound */
    double *running;
};

/*
 * Bound the update g = C - U, split it into parts parallel and orthogonal to C, and fold it into C
 * so that plain guidance of the result gives D = U + s (orthogonal + eta parallel + (C - U) / s).
 * Source: Sadat et al. 2024, arXiv:2410.02416. `scale` must not be 0.
 */
void ld_apg_fold(struct ld_apg *apg, double *cond, const double *uncond, double scale,
                 size_t count);

/* U <- (1 - q) C + q U, scaled back to the length of the old U: the strength of the negative. */
void ld_negative_strength(double *uncond, const double *cond, double q, size_t count);

/* D <- x - (x - D) / k. Source: Ning et al. 2023, arXiv:2308.15321 (epsilon scaling). */
void ld_epsilon_scale(double *denoised, const double *x, double k, size_t count);

#ifdef __cplusplus
}
#endif
#endif
