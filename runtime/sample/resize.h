/*
 * Resampling of float planes: latents between two passes, feature maps in deep shrink. Formulas of
 * each mode, for n cells in and m cells out along one axis, c = n / m, output i:
 *
 *   nearest               floor(i c) in single precision;   nearest-exact  floor((i + 1/2) c)
 *   bilinear              s = max(0, (i + 1/2) c - 1/2), between floor(s) and the next cell
 *   bicubic               s = (i + 1/2) c - 1/2, four clamped taps, Keys' kernel with A = -3/4
 *   area                  mean over cells floor(i n / m) .. ceil((i + 1) n / m) - 1
 *   ...-antialias         triangle or Keys A = -1/2, widened by c when shrinking, normalised
 *   bislerp               bilinear places; between two cells the channel vector turns and its
 *                         length changes linearly; width first, then height
 *
 *     struct ld_resample op = {.in = latent, .images = 1, .channels = 4, .in_height = 64, ...};
 *     ld_resample(&op, &err);
 *
 * Source: sampling.md 7.1; Keys 1981 (cubic convolution).
 */
#ifndef LD_SAMPLE_RESIZE_H
#define LD_SAMPLE_RESIZE_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_RESAMPLE_SIDE_MAX = 8192 }; /* above any picture's side; bounds the tables */

struct ld_resample {
    const float *in; /* [images, channels, in_height, in_width] */
    int32_t images, channels;
    int32_t in_height, in_width;
    int32_t out_height, out_width;
    enum ld_resize_mode mode;
    float *out; /* [images, channels, out_height, out_width], must not alias `in` */
};

/* Errors LD_E_RANGE (a side outside 1..LD_RESAMPLE_SIDE_MAX), LD_E_NOMEM. */
enum ld_code ld_resample(const struct ld_resample *op, struct ld_error *err) LD_MUST_USE;

/*
 * Names of every dialect, case aside, '_' and '-' alike: "bicubic", "nearest-exact",
 * "latent-bislerp", "bilinear-antialias", A1111's "Latent (bicubic antialiased)". False if unknown.
 */
bool ld_resize_mode_named(const char *name, enum ld_resize_mode *mode);

/* The canonical name, "nearest-exact". */
const char *ld_resize_mode_name(enum ld_resize_mode mode);

/* The middle part of the input that has the output's aspect. */
struct ld_crop {
    int32_t y, x, height, width;
};
struct ld_crop ld_crop_centre(int32_t in_height, int32_t in_width, int32_t out_height,
                              int32_t out_width);

/* Copy the crop of `planes` planes into `out` [planes, crop.height, crop.width]. */
void ld_crop_planes(float *out, const float *in, int32_t planes, int32_t in_height,
                    int32_t in_width, const struct ld_crop *crop);

#ifdef __cplusplus
}
#endif
#endif
