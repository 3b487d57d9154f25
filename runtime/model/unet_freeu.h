/*
 * FreeU as LD_GRAPH_HOST operators: in the decoder, before a skip is joined, the backbone's first
 * channels are amplified and the skip's lowest frequencies damped. The formulas are those of
 * sample/guidance_freeu.h; here they meet a graph's planes.
 * Source   Si et al. 2023, arXiv:2309.11497; sampling.md 5.8.
 */
#ifndef LD_MODEL_UNET_FREEU_H
#define LD_MODEL_UNET_FREEU_H

#include "runtime/model/unet.h"

/* Made by ld_unet_freeu_create; lives as long as its graph. */
struct ld_unet_freeu {
    enum ld_freeu_version version;
    float backbone, skip; /* b and s */
    float *plane;         /* scratch of height * width values */
    double *lines;        /* scratch of 2 (height + width) values */
};

/* With scratch for maps of this size, from `arena`; NULL when there is no memory. */
struct ld_unet_freeu *ld_unet_freeu_create(struct ld_arena *arena, enum ld_freeu_version version,
                                           float backbone, float skip, int32_t height,
                                           int32_t width);

/* `ctx` is a struct ld_unet_freeu; planes [batch, channels, height, width], changed in place. */
void ld_unet_freeu_backbone(const void *ctx, float *planes, int32_t batch, int32_t channels,
                            int32_t height, int32_t width);
void ld_unet_freeu_skip(const void *ctx, float *planes, int32_t batch, int32_t channels,
                        int32_t height, int32_t width);

#endif
