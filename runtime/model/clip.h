/*
 * The text encoder (CLIP ViT-L/14's text half) as an operator list over whole chunks of
 * text_positions (77) tokens. Chunks do not see each other.
 *
 * Ports    in LD_PORT_IDS [chunks * 77]; LD_PORT_VECTORS [chunks * 77] or unbound: textual
 *          inversion vectors that stand in for table rows;
 *          out LD_PORT_OUT [chunks * 77, width], after final_layer_norm.
 * Source   model.md 2.3.
 */
#ifndef LD_MODEL_CLIP_H
#define LD_MODEL_CLIP_H

#include "runtime/model/graph.h"

struct ld_clip_shape {
    int32_t chunks;
    int32_t skip; /* k: the k-th layer from the end is the last one computed; 1..layers */
};

/* Append to an initialised graph; failures are kept in it: LD_E_RANGE, LD_E_UNSUPPORTED,
 * LD_E_TOO_LARGE, LD_E_NOMEM. Taps: "embed", "layer0", "layer1", ... */
void ld_clip_build(struct ld_graph *graph, const struct ld_arch *arch,
                   const struct ld_clip_shape *shape);

#endif
