/*
 * FreeU: in the decoder, before a skip is joined, the backbone's first channels are amplified and
 * the skip's lowest frequencies damped. Works on host planes, as an LD_GRAPH_HOST operator.
 * Source   Si et al. 2023, arXiv:2309.11497; sampling.md 5.8.
 */
#ifndef LD_MODEL_UNET_FREEU_H
#define LD_MODEL_UNET_FREEU_H

#include "runtime/model/unet.h"

struct ld_freeu {
    enum ld_freeu_version version;
    float backbone, skip; /* b and s */
};

/*
 * First half of the channels (rounded down) times b (v1) or times (b - 1) q + 1 (v2), with q the
 * channel mean min-max normalised over the image; a constant mean gives q = 0.
 * `ctx` is a struct ld_freeu.
 */
void ld_unet_freeu_backbone(const void *ctx, float *planes, int32_t batch, int32_t channels,
                            int32_t height, int32_t width);

/* The frequencies {-1, 0} x {-1, 0} times s; the real part of the result. */
void ld_unet_freeu_skip(const void *ctx, float *planes, int32_t batch, int32_t channels,
                        int32_t height, int32_t width);

#endif
