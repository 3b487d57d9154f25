/*
 * Guidance by range: a channel's range is measured from the largest and smallest values of its
 * rows, and the push away from the negative is scaled to meet a wanted range. Automatic CFG does
 * that with the negative, Uncond-Zero without one, at half the cost.
 *
 * Source: sampling.md 5.4, 5.5 (Extraltodeus, Uncond-Zero-for-ComfyUI and ComfyUI-AutomaticCFG).
 */
#ifndef LD_SAMPLE_GUIDANCE_RANGE_H
#define LD_SAMPLE_GUIDANCE_RANGE_H

#include "runtime/sample/guidance_math.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ld_range_mode {
    LD_RANGE_HARD,         /* half the sum of the mean of the largest and the mean |smallest| */
    LD_RANGE_SOFT,         /* with |mean of the smallest| instead */
    LD_RANGE_HARD_SQUARED, /* the square of HARD */
    LD_RANGE_CENTRED       /* HARD of the channel minus its mean */
};

/* False for an unknown name ("hard", "soft", "hard_squared", "range"). */
bool ld_range_mode_named(const char *name, enum ld_range_mode *mode);

/*
 * The range of one channel: of every row the k = int(height / 4) largest and k smallest values
 * (1 <= k <= width). `row` is scratch of `width` values.
 */
double ld_channel_range(const double *channel, int32_t height, int32_t width,
                        enum ld_range_mode mode, double *row);

/*
 * D = U + 8 (s / 10) / range(U + 8 (C - U)) (C - U), per channel.
 *
 * Shapes   out, cond, uncond: one image; scratch: plane + width values. `out` may alias an input.
 */
void ld_auto_cfg(double *out, const double *cond, const double *uncond, double scale,
                 enum ld_range_mode mode, struct ld_latent_shape shape, double *scratch);

/* State of one image's run. */
struct ld_uncond_zero {
    double scale, pre_scale;
    bool pre_fix;
    double sigma_max;
    double *previous; /* [count], caller's */
    bool has_previous;
};

/*
 * One call. `uncond` NULL (or all zero): no negative here, D is C brought to the wanted range, or C
 * itself at sigma <= 1. Else Automatic CFG in its hard form. `guidance` is the request's s. `cond`
 * may be changed: it then holds what the next call is kept away from.
 *
 * Shapes   one image; scratch: plane + width values; `out` may alias `cond`.
 */
void ld_uncond_zero(struct ld_uncond_zero *state, double *out, double *cond, const double *uncond,
                    double sigma, double guidance, struct ld_latent_shape shape, double *scratch);

#ifdef __cplusplus
}
#endif
#endif
