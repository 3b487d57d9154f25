/*
 * The ControlNets of a request as nodes of a ComfyUI graph: a chain of ControlNetApplyAdvanced
 * around both prompts of a pass, the first unit nearest to the text encoder.
 *
 *     struct ld_graph_controls controls = {.net = {{0, 0}}};
 *     ld_graph_put_controls(&w, &controls, false, &positive, &negative);  // the first pass
 *
 * What ComfyUI's own nodes cannot do is left out there: modes other than `balanced`, preprocessors
 * other than canny and invert (the picture then stands for a hint), thresholds of canny outside of
 * 2.55 to 252.45, `resize` pad.
 *
 * Source: ComfyUI nodes.py, comfy_extras/nodes_canny.py.
 */
#ifndef LD_IMAGE_GRAPH_CONTROL_H
#define LD_IMAGE_GRAPH_CONTROL_H

#include "runtime/image/graph_put.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The units' loaders and pictures: written once, also where both passes take them. */
struct ld_graph_controls {
    struct ld_graph_link net[LD_REQUEST_CONTROLS_MAX]; /* node 0: not yet written */
    struct ld_graph_link hint[LD_REQUEST_CONTROLS_MAX];
};

/* Put the units of a pass around its prompts, which are changed to what the sampler then takes. */
void ld_graph_put_controls(struct ld_graph_writer *w, struct ld_graph_controls *controls,
                           bool second, struct ld_graph_link *positive,
                           struct ld_graph_link *negative);

#ifdef __cplusplus
}
#endif
#endif
