#include "runtime/model/unet_encoder.h"

#include "runtime/model/graph_layers.h"

#include <math.h>

enum { RESBLOCKS_MAX = LD_LEVELS_MAX * (2 * LD_UNET_RES_PER_LEVEL + 1) + 2 };
_Static_assert((int)RESBLOCKS_MAX <= (int)LD_WEIGHT_PARTS_MAX, "one stack holds all projections");

/* ---- Deep shrink ----------------------------------------------------------------------------- */

/* Round half to even (sampling.md 6), at least one row. The reference multiplies by the reciprocal,
 * which decides some halves. */
int32_t ld_unet_shrunk(int32_t size, double factor)
{
    const double rounded = nearbyint((double)size * (1.0 / factor));
    return rounded < 1 ? 1 : (int32_t)rounded;
}

static int32_t shrink(struct ld_unet_builder *builder, int32_t h)
{
    const struct ld_graph_value *value = ld_graph_at(builder->graph, h);
    const double factor = builder->options->shrink_factor;
    return ld_graph_resize(builder->graph, h, ld_unet_shrunk(value->height, factor),
                           ld_unet_shrunk(value->width, factor), builder->options->shrink_down);
}

/* ---- Timestep -------------------------------------------------------------------------------- */

/* The residual blocks' projections of the timestep, stacked in the order of the blocks. */
struct time_stack {
    const char *names[RESBLOCKS_MAX];
    int32_t widths[RESBLOCKS_MAX];
    uint32_t count;
};

static void stack_block(struct ld_unet_builder *builder, struct time_stack *stack,
                        const char *block, int32_t level)
{
    const struct ld_arch *arch = builder->arch;
    stack->names[stack->count] =
        ld_graph_name(builder->graph, "%s%s.emb_layers.1", builder->prefix, block);
    stack->widths[stack->count++] = arch->unet_channels * arch->unet_multipliers[level];
}

static void stack_blocks(struct ld_unet_builder *builder, struct time_stack *stack, bool decoder)
{
    struct ld_graph *graph = builder->graph;
    const int32_t last = builder->arch->unet_levels - 1;
    for (int32_t level = 0; level <= last; level++)
        for (int32_t r = 0; r < LD_UNET_RES_PER_LEVEL; r++)
            stack_block(builder, stack,
                        ld_graph_name(graph, "input_blocks.%d.0",
                                      1 + level * (LD_UNET_RES_PER_LEVEL + 1) + r),
                        level);
    stack_block(builder, stack, "middle_block.0", last);
    stack_block(builder, stack, "middle_block.2", last);
    for (int32_t index = 0; decoder && index < (last + 1) * (LD_UNET_RES_PER_LEVEL + 1); index++)
        stack_block(builder, stack, ld_graph_name(graph, "output_blocks.%d.0", index),
                    last - index / (LD_UNET_RES_PER_LEVEL + 1));
}

/* Timestep vector: sinusoid, two linear layers, the SiLU that every ResBlock starts with; and what
 * the blocks make of it, all at once. */
void ld_unet_build_time(struct ld_unet_builder *builder, bool decoder)
{
    struct ld_graph *graph = builder->graph;
    struct time_stack stack = {.count = 0};
    const int32_t channels = builder->arch->unet_channels;
    int32_t h = ld_graph_timestep(graph, LD_PORT_T, builder->shape->batch, channels);
    h = ld_graph_linear(
        graph, ld_graph_name(graph, "%stime_embed.0", builder->prefix),
        &(struct ld_linear_args){.x0 = h, .channels = 4 * channels, .activation = LD_ACT_SILU});
    h = ld_graph_linear(graph, ld_graph_name(graph, "%stime_embed.2", builder->prefix),
                        &(struct ld_linear_args){.x0 = h, .channels = 4 * channels});
    ld_unet_tap(builder, "time_embed");
    h = ld_graph_silu(graph, h);
    stack_blocks(builder, &stack, decoder);
    builder->time = ld_graph_linear_stack(
        graph, stack.names, stack.count, &(struct ld_linear_args){.x0 = h, .widths = stack.widths});
}

/* ---- Down, middle ---------------------------------------------------------------------------- */

/* The end of encoder block skips->count: keep the skip, and shrink where deep shrink asks for it.
 */
static int32_t end_encoder_block(struct ld_unet_builder *builder, struct ld_unet_skips *skips,
                                 int32_t h)
{
    struct ld_graph *graph = builder->graph;
    const bool here = builder->options->shrink && builder->options->shrink_block == skips->count;
    ld_unet_tap(builder, ld_graph_name(graph, "input_blocks.%d", skips->count));
    if (here && !builder->options->shrink_after_skip)
        h = shrink(builder, h);
    skips->values[skips->count] = h;
    if (builder->left)
        builder->left(builder, skips->count, h);
    skips->count++;
    if (here && builder->options->shrink_after_skip)
        h = shrink(builder, h);
    return h;
}

int32_t ld_unet_build_down(struct ld_unet_builder *builder, int32_t h, struct ld_unet_skips *skips)
{
    struct ld_graph *graph = builder->graph;
    const struct ld_arch *arch = builder->arch;
    h = end_encoder_block(builder, skips, h);
    for (int32_t level = 0; level < arch->unet_levels; level++) {
        const bool last = level == arch->unet_levels - 1;
        const int32_t channels = arch->unet_channels * arch->unet_multipliers[level];
        for (int32_t r = 0; r < LD_UNET_RES_PER_LEVEL; r++) {
            const char *name =
                ld_graph_name(graph, "%sinput_blocks.%d", builder->prefix, skips->count);
            h = ld_unet_resblock(builder, ld_graph_name(graph, "%s.0", name), h, LD_GRAPH_NONE,
                                 channels);
            if (!last)
                h = ld_unet_transformer(builder, ld_graph_name(graph, "%s.1", name), h, false);
            h = end_encoder_block(builder, skips, h);
        }
        if (!last) {
            h = ld_graph_conv(
                graph,
                ld_graph_name(graph, "%sinput_blocks.%d.0.op", builder->prefix, skips->count),
                &(struct ld_conv_args){.x0 = h, .channels = channels, .stride = 2});
            h = end_encoder_block(builder, skips, h);
        }
    }
    return h;
}

int32_t ld_unet_build_middle(struct ld_unet_builder *builder, int32_t h)
{
    struct ld_graph *graph = builder->graph;
    const int32_t channels = ld_graph_at(builder->graph, h)->channels;
    h = ld_unet_resblock(builder, ld_graph_name(graph, "%smiddle_block.0", builder->prefix), h,
                         LD_GRAPH_NONE, channels);
    h = ld_unet_transformer(builder, ld_graph_name(graph, "%smiddle_block.1", builder->prefix), h,
                            true);
    h = ld_unet_resblock(builder, ld_graph_name(graph, "%smiddle_block.2", builder->prefix), h,
                         LD_GRAPH_NONE, channels);
    ld_unet_tap(builder, "middle_block");
    return h;
}
