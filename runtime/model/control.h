/*
 * ControlNets: a copy of the UNet's encoder that looks at a picture (the *hint*) beside the latent
 * and adds what it sees to the maps that the UNet's decoder takes. Appended to the UNet's own
 * operator list with weights of its own, so that a step with ControlNets is one plan and one
 * recording. The hint's encoding belongs to the prologue: it is computed once for the steps of a
 * picture. Internal to unet.c, but for the numbers.
 *
 * Source   model.md 5.6; lllyasviel/ControlNet (cldm.py).
 */
#ifndef LD_MODEL_CONTROL_H
#define LD_MODEL_CONTROL_H

#include "runtime/model/unet_encoder.h"

enum {
    LD_CONTROL_NETS_MAX = LD_RUN_WEIGHTS_MAX,
    LD_CONTROL_OUTPUTS_MAX = LD_UNET_SKIPS_MAX + 1,
    LD_HINT_FACTOR = 8, /* pixels of a hint a latent cell, each way */
    LD_HINT_CHANNELS = 3
};

/* Maps that a ControlNet adds to: one a block on the way down, first block first, and the middle.
 */
int32_t ld_control_outputs(const struct ld_arch *arch);

/* Whether a ControlNet of widths `control` was made for UNets like `unet`. */
bool ld_control_fits(const struct ld_arch *control, const struct ld_arch *unet);

/*
 * Append ControlNet number `net`, which has set 1 + net of weights: replaces every value of `skips`
 * by its sum with what the ControlNet makes of the block, times LD_PORT_STRENGTH [net, block, B],
 * and returns the same of the middle block's result `middle`.
 */
int32_t ld_control_build(const struct ld_unet_builder *unet, int32_t net,
                         struct ld_unet_skips *skips, int32_t middle);

#endif
