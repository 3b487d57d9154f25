/*
 * FreeU: strengthen the backbone of the UNet's decoder and weaken the low frequencies of its skips,
 * before the two are concatenated. Plain functions on one image's feature map in any layout.
 *
 *     struct ld_feature_map h = {data, 1280, 8, 8, 1, 1280};     // NHWC
 *     if (ld_freeu_factors(&freeu, h.channels, &b, &s)) {
 *         ld_freeu_backbone(&h, b, freeu.v2, plane);
 *         ld_freeu_skip(&skip, s, scratch);
 *     }
 *
 * Source: sampling.md 5.8; Si et al. 2023, arXiv:2309.11497.
 */
#ifndef LD_SAMPLE_GUIDANCE_FREEU_H
#define LD_SAMPLE_GUIDANCE_FREEU_H

#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Element (c, y, x) is data[c * channel_stride + (y * width + x) * pixel_stride]:
 * NHWC has strides 1 and channels, NCHW has height * width and 1. */
struct ld_feature_map {
    float *data;
    int32_t channels, height, width;
    size_t channel_stride, pixel_stride;
};

struct ld_freeu {
    bool on, v2;
    double b1, b2, s1, s2;
    int32_t wide, middle; /* channel counts that take (b1, s1) and (b2, s2): 1280 and 640 in SD1.5,
                             4 and 2 times the model's channels in general */
};

/* From a request; unset factors are those of the version. */
struct ld_freeu ld_freeu_of(const struct ld_request_guidance *guidance, int32_t model_channels);

/* The factors of a decoder block by the channels of its backbone; false: nothing to do there. */
bool ld_freeu_factors(const struct ld_freeu *freeu, int32_t channels, float *b, float *s);

/*
 * The first half of the channels: v1 times b; v2 times (b - 1) q + 1, q the mean over all channels
 * at that pixel, stretched to 0..1 over the image. `scratch`: height * width floats, used by v2.
 */
void ld_freeu_backbone(const struct ld_feature_map *map, float b, bool v2, float *scratch);

/*
 * Scale the lowest 2x2 frequencies of every channel by s: rows H/2 - 1 .. H/2 of the shifted
 * spectrum are frequencies -1 and 0. Only those four coefficients are computed.
 *
 * Shapes   scratch: 2 (height + width) values.
 */
void ld_freeu_skip(const struct ld_feature_map *map, float s, double *scratch);

#ifdef __cplusplus
}
#endif
#endif
