/*
 * ControlNets in ComfyUI's graphs: what the ControlNetApply nodes in front of a sampler say, as the
 * field `control`.
 *
 *     struct ld_comfy_units units[2];                       // of the first pass and the second
 *     if (ld_comfy_units_read(&g, first, &units[0]) && ld_comfy_units_read(&g, second, &units[1]))
 *         ld_comfy_units_put(&g, units, &canvas);
 *
 * In ComfyUI a ControlNet hangs on a conditioning. Here a unit acts beside both prompts, so both
 * must have the same ones: through ControlNetApplyAdvanced, or through ControlNetApply on the
 * positive one, which ComfyUI then gives the negative one too. A strength of 0 is no unit, as
 * there. Units are numbered from the prompt on: the node nearest to the text encoder is the first.
 *
 * Source: ComfyUI nodes.py (ControlNetApply, ControlNetApplyAdvanced), comfy/samplers.py (what
 * control_apply_to_uncond does), comfy/controlnet.py (the picture is cut from its middle to the
 * latent's shape), comfy_extras/nodes_sd3.py, nodes_canny.py.
 */
#ifndef LD_API_DIALECT_COMFY_CONTROL_H
#define LD_API_DIALECT_COMFY_CONTROL_H

#include "api/dialect_comfy_graph.h"

enum {
    LD_COMFY_UNITS_MAX = 16
}; /* in front of one prompt; more than LD_CONTROLS_MAX are refused */

struct ld_comfy_unit {
    const struct ld_json_node *node;  /* that applies it */
    const struct ld_json_node *scale; /* the ImageScale behind its picture, or NULL */
    const char *model;                /* as the loader names it, in the arena */
    char image[LD_ID_SIZE];
    const char *preprocess; /* "none", "canny", "invert" */
    double low, high;       /* canny's, 0..255 */
    double weight, start, end;
};

struct ld_comfy_units {
    struct ld_comfy_unit unit[LD_COMFY_UNITS_MAX];
    uint32_t count;
};

/* A pass's picture; any two numbers of the right proportion where its size is not said. */
struct ld_comfy_shape {
    double width, height;
};

/* The units of a sampler's prompts. False after a complaint. */
bool ld_comfy_units_read(struct ld_comfy_graph *g, const struct ld_json_node *sampler,
                         struct ld_comfy_units *units);

/* What the passes paint: where there is no second one, its shape is the first's. */
struct ld_comfy_canvas {
    struct ld_comfy_shape shape[2];
    const struct ld_json_node *init; /* the ImageScale whose picture is begun with, or NULL: a unit
                                        behind it follows init's picture */
};

/* Put them as `control`: those that both passes have once, those of one alone with `passes`. Where
 * there is no second pass, its units are the first's. Complains of more than
 * LD_CONTROLS_MAX, and of an ImageScale that changes a picture's shape to another one than the
 * pass's. */
void ld_comfy_units_put(struct ld_comfy_graph *g, const struct ld_comfy_units units[2],
                        const struct ld_comfy_canvas *canvas);

/* Does the node stand between a picture and a ControlNet? */
bool ld_comfy_is_before_control(const struct ld_comfy_graph *g, const struct ld_json_node *node);

/* Nodes that make hints, and have no meaning for other pictures. */
bool ld_comfy_is_preprocessor(const struct ld_comfy_graph *g, const struct ld_json_node *node);

#endif
