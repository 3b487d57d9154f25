/*
 * The half of the UNet that a ControlNet copies: the timestep's path, the way down and the middle.
 * Internal to unet.c and control.c.
 */
#ifndef LD_MODEL_UNET_ENCODER_H
#define LD_MODEL_UNET_ENCODER_H

#include "runtime/model/unet_blocks.h"

enum { LD_UNET_RES_PER_LEVEL = 2, LD_UNET_SKIPS_MAX = LD_LEVELS_MAX * (LD_UNET_RES_PER_LEVEL + 1) };

/* What the blocks on the way down leave for the way up, first block first. */
struct ld_unet_skips {
    int32_t values[LD_UNET_SKIPS_MAX];
    int32_t count;
};

/* The timestep vector, and what every residual block makes of it at once, into builder->time;
 * `decoder`: of those on the way up as well. */
void ld_unet_build_time(struct ld_unet_builder *builder, bool decoder);

/* All blocks after the first, whose result is `h`. Returns what the middle block takes. */
int32_t ld_unet_build_down(struct ld_unet_builder *builder, int32_t h, struct ld_unet_skips *skips);

int32_t ld_unet_build_middle(struct ld_unet_builder *builder, int32_t h);

/* A side of a map that deep shrink has divided by `factor`. */
int32_t ld_unet_shrunk(int32_t size, double factor);

#endif
