/*
 * Weights of the demonstration checkpoint: random, but laid out so that sampling with it behaves.
 * A few channels carry the latent through both networks unchanged or smoothed, and the rest adds a
 * little that depends on prompt, time and place. So every sampler converges to soft coloured areas,
 * prompts and seeds change the picture, and nothing overflows. It has learned nothing.
 *
 * How: channel pairs (2i, 2i+1) hold +x_i and -x_i. silu(a) - silu(-a) = a, so a pair passes
 * GroupNorm + SiLU + convolution linearly, scaled to unit variance. The last decoder block of the
 * UNet writes x minus its low-pass through the deep levels: that is what the network predicts as
 * noise.
 */
#ifndef LD_TESTS_DEMO_WEIGHTS_H
#define LD_TESTS_DEMO_WEIGHTS_H

#include "runtime/model/keymap.h"

/* The widths, as JSON for the metadata key latentd.test_config. */
extern const char *const LD_DEMO_CONFIG;

/* A checkpoint_fill; `ctx` is not used. */
void ld_demo_weights_fill(const void *ctx, const struct ld_key *key, size_t first, size_t count,
                          uint16_t *out);

#endif
