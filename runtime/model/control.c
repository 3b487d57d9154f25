#include "runtime/model/control.h"

#include "runtime/model/graph_layers.h"
#include "runtime/model/keymap.h"

#include <string.h>

#define PREFIX LD_PREFIX_CONTROL

int32_t ld_control_outputs(const struct ld_arch *arch)
{
    return (LD_UNET_RES_PER_LEVEL + 1) * arch->unet_levels + 1;
}

bool ld_control_fits(const struct ld_arch *control, const struct ld_arch *unet)
{
    return control->unet_channels == unet->unet_channels &&
           control->unet_levels == unet->unet_levels &&
           memcmp(control->unet_multipliers, unet->unet_multipliers,
                  (size_t)unet->unet_levels * sizeof unet->unet_multipliers[0]) == 0 &&
           control->unet_heads == unet->unet_heads && control->unet_context == unet->unet_context;
}

/* ---- The hint -------------------------------------------------------------------------------- */

/* Persistent: it changes with the picture, not with the step. */
static int32_t build_hint(const struct ld_unet_builder *builder, int32_t net)
{
    static const struct {
        int32_t channels, stride;
    } layers[] = {{16, 1}, {16, 1}, {32, 2}, {32, 1}, {96, 2}, {96, 1}, {256, 2}};
    enum { COUNT = sizeof layers / sizeof layers[0] };
    struct ld_graph *graph = builder->graph;
    graph->in_prologue = true;
    int32_t h = ld_graph_planes_in(graph, (enum ld_port)(LD_PORT_HINT + net), LD_PORT_NONE,
                                   builder->shape->batch, LD_HINT_CHANNELS,
                                   LD_HINT_FACTOR * builder->shape->height,
                                   LD_HINT_FACTOR * builder->shape->width);
    for (int32_t i = 0; i < COUNT; i++) {
        h = ld_graph_conv(graph, ld_graph_name(graph, PREFIX "input_hint_block.%d", 2 * i),
                          &(struct ld_conv_args){
                              .x0 = h, .channels = layers[i].channels, .stride = layers[i].stride});
        h = ld_graph_silu(graph, h);
    }
    h = ld_graph_conv(graph, ld_graph_name(graph, PREFIX "input_hint_block.%d", 2 * COUNT),
                      &(struct ld_conv_args){.x0 = h, .channels = builder->arch->unet_channels});
    graph->in_prologue = false;
    if (h != LD_GRAPH_NONE)
        graph->values[h].persistent = true;
    return h;
}

/* ---- The copy of the encoder ----------------------------------------------------------------- */

/* Where the maps of one ControlNet go. */
struct adding {
    int32_t net, nets, outputs, batch;
    struct ld_unet_skips *skips;
};

/* `x` and what the ControlNet's `map` becomes through its last 1x1 convolution. */
static int32_t add(struct ld_graph *graph, const struct adding *adding, int32_t output,
                   const char *name, int32_t map, int32_t x)
{
    const int32_t z = ld_graph_linear(
        graph, name,
        &(struct ld_linear_args){.x0 = map, .channels = ld_graph_at(graph, map)->channels});
    return ld_graph_add_scaled(
        graph, x, z,
        &(struct ld_scale_args){.port = LD_PORT_STRENGTH,
                                .first = (adding->net * adding->outputs + output) * adding->batch,
                                .count = adding->nets * adding->outputs * adding->batch});
}

/* At once, so that no two sets of maps wait for each other. */
static void add_block(struct ld_unet_builder *builder, int32_t block, int32_t map)
{
    const struct adding *adding = builder->ctx;
    int32_t *skip = &adding->skips->values[block];
    *skip = add(builder->graph, adding, block,
                ld_graph_name(builder->graph, PREFIX "zero_convs.%d.0", block), map, *skip);
}

int32_t ld_control_build(const struct ld_unet_builder *unet, int32_t net,
                         struct ld_unet_skips *skips, int32_t middle)
{
    struct ld_graph *graph = unet->graph;
    struct ld_unet_skips own = {.count = 0};
    struct adding adding = {.net = net,
                            .nets = unet->options->controls,
                            .outputs = ld_control_outputs(unet->arch),
                            .batch = unet->shape->batch,
                            .skips = skips};
    /* Its maps have the sizes of the UNet's, so deep shrink acts in it too; nothing else does. */
    const struct ld_unet_options *of = unet->options;
    const struct ld_unet_options options = {.shrink = of->shrink,
                                            .shrink_after_skip = of->shrink_after_skip,
                                            .shrink_block = of->shrink_block,
                                            .shrink_factor = of->shrink_factor,
                                            .shrink_down = of->shrink_down,
                                            .shrink_up = of->shrink_up};
    struct ld_unet_builder builder = {.graph = graph,
                                      .arch = unet->arch,
                                      .shape = unet->shape,
                                      .options = &options,
                                      .prefix = PREFIX,
                                      .tap = ld_graph_name(graph, "control.%d.", net),
                                      .context = unet->context,
                                      .left = add_block,
                                      .ctx = &adding};
    graph->set = 1 + (uint32_t)net;
    const int32_t hint = build_hint(&builder, net);
    ld_unet_build_time(&builder, false);
    int32_t h = ld_graph_conv(graph, PREFIX "input_blocks.0.0",
                              &(struct ld_conv_args){.x0 = unet->latent,
                                                     .channels = unet->arch->unet_channels,
                                                     .residual = hint});
    h = ld_unet_build_down(&builder, h, &own);
    h = ld_unet_build_middle(&builder, h);
    middle = add(graph, &adding, own.count, PREFIX "middle_block_out.0", h, middle);
    graph->set = 0;
    return middle;
}
