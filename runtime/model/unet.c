#include "runtime/model/unet.h"

#include "runtime/model/control.h"
#include "runtime/model/graph_layers.h"
#include "runtime/model/keymap.h"
#include "runtime/model/unet_freeu.h"

#define PREFIX LD_PREFIX_UNET

static const double OUTPUT_EPSILON = 1e-5; /* model.md 2.1 */

/* ---- Options --------------------------------------------------------------------------------- */

bool ld_unet_options_equal(const struct ld_unet_options *a, const struct ld_unet_options *b)
{
    if (a->shrink != b->shrink || a->middle_identity != b->middle_identity ||
        a->middle_qkv != b->middle_qkv || a->freeu != b->freeu || a->controls != b->controls)
        return false;
    if (a->shrink &&
        (a->shrink_after_skip != b->shrink_after_skip || a->shrink_block != b->shrink_block ||
         !(a->shrink_factor == b->shrink_factor) || a->shrink_down != b->shrink_down ||
         a->shrink_up != b->shrink_up))
        return false;
    return a->freeu == LD_FREEU_OFF || (a->freeu_b1 == b->freeu_b1 && a->freeu_b2 == b->freeu_b2 &&
                                        a->freeu_s1 == b->freeu_s1 && a->freeu_s2 == b->freeu_s2);
}

static bool arch_ok(const struct ld_arch *arch)
{
    if (arch->unet_levels < 1 || arch->unet_levels > LD_LEVELS_MAX || arch->unet_channels < 1 ||
        arch->unet_channels % 32 != 0 || arch->unet_heads < 1 || arch->unet_context < 1 ||
        arch->unet_in_channels < LD_LATENT_CHANNELS)
        return false;
    for (int32_t l = 0; l < arch->unet_levels; l++)
        if (arch->unet_multipliers[l] < 1 ||
            arch->unet_channels * arch->unet_multipliers[l] % arch->unet_heads != 0)
            return false;
    return true;
}

static bool in_range(int32_t value, int32_t max)
{
    return value >= 1 && value <= max;
}

static void check(struct ld_graph *graph, const struct ld_arch *arch,
                  const struct ld_unet_shape *shape, const struct ld_unet_options *options)
{
    if (!arch_ok(arch))
        ld_graph_fail(graph, LD_E_UNSUPPORTED, "the UNet's widths are not supported");
    if (!in_range(shape->batch, LD_UNET_BATCH_MAX) ||
        !in_range(shape->height, LD_LATENT_SIDE_MAX) ||
        !in_range(shape->width, LD_LATENT_SIDE_MAX) ||
        !in_range(shape->context_tokens, LD_UNET_CONTEXT_TOKENS_MAX))
        ld_graph_fail(graph, LD_E_RANGE, "batch, picture size or context is out of range");
    if (options->shrink &&
        (options->shrink_block < 0 || options->shrink_block >= 3 * arch->unet_levels ||
         !(options->shrink_factor >= 1 && options->shrink_factor <= 64)))
        ld_graph_fail(graph, LD_E_RANGE,
                      "deep_shrink: block must name an encoder block, factor lie in 1..64");
    if (options->controls < 0 || options->controls > LD_CONTROL_NETS_MAX)
        ld_graph_fail(graph, LD_E_RANGE, "control: too many ControlNets at once");
    LD_ASSERT(options->controls == 0 || graph->control_layout);
}

/* ---- FreeU ----------------------------------------------------------------------------------- */

static void apply_freeu(struct ld_unet_builder *builder, int32_t *h, int32_t *skip)
{
    struct ld_graph *graph = builder->graph;
    const struct ld_unet_options *options = builder->options;
    const int32_t channels = ld_graph_at(graph, *h)->channels;
    const bool deep = channels == 4 * builder->arch->unet_channels;
    if (options->freeu == LD_FREEU_OFF || (!deep && channels != 2 * builder->arch->unet_channels))
        return;
    const struct ld_graph_value *map = ld_graph_at(graph, *h);
    struct ld_unet_freeu *freeu = ld_unet_freeu_create(
        &graph->arena, options->freeu, deep ? options->freeu_b1 : options->freeu_b2,
        deep ? options->freeu_s1 : options->freeu_s2, map->height, map->width);
    if (!freeu) {
        ld_graph_fail(graph, LD_E_NOMEM, "not enough memory to plan the model");
        return;
    }
    *h = ld_graph_host(graph, *h,
                       &(struct ld_graph_host){.run = ld_unet_freeu_backbone, .ctx = freeu});
    *skip = ld_graph_host(graph, *skip,
                          &(struct ld_graph_host){.run = ld_unet_freeu_skip, .ctx = freeu});
}

/* ---- Inputs ---------------------------------------------------------------------------------- */

static int32_t build_conv_in(struct ld_unet_builder *builder)
{
    struct ld_graph *graph = builder->graph;
    const struct ld_unet_shape *shape = builder->shape;
    const int32_t extra = builder->arch->unet_in_channels - LD_LATENT_CHANNELS;
    const int32_t x0 = ld_graph_planes_in(graph, LD_PORT_X, LD_PORT_SCALE, shape->batch,
                                          LD_LATENT_CHANNELS, shape->height, shape->width);
    int32_t x1 = LD_GRAPH_NONE;
    if (extra > 0)
        x1 = ld_graph_planes_in(graph, LD_PORT_EXTRA, LD_PORT_NONE, shape->batch, extra,
                                shape->height, shape->width);
    builder->latent = x0;
    return ld_graph_conv(
        graph, PREFIX "input_blocks.0.0",
        &(struct ld_conv_args){.x0 = x0, .x1 = x1, .channels = builder->arch->unet_channels});
}

/* ---- Up ------------------------------------------------------------------------------------- */

/* One decoder block up to, not including, the upsampling. */
static int32_t build_up_block(struct ld_unet_builder *builder, int32_t index, int32_t level,
                              int32_t h, int32_t skip)
{
    struct ld_graph *graph = builder->graph;
    const struct ld_arch *arch = builder->arch;
    const char *name = ld_graph_name(graph, PREFIX "output_blocks.%d", index);
    const struct ld_graph_value target = *ld_graph_at(graph, skip);
    /* The reference compares heights alone and fails where a factor near 1 rounded only the width
     * (sampling.md 6); the skip's size is the only one that the two can be joined at. */
    if (ld_graph_at(graph, h)->height != target.height ||
        ld_graph_at(graph, h)->width != target.width)
        h = ld_graph_resize(graph, h, target.height, target.width, builder->options->shrink_up);
    apply_freeu(builder, &h, &skip);
    h = ld_unet_resblock(builder, ld_graph_name(graph, "%s.0", name), h, skip,
                         arch->unet_channels * arch->unet_multipliers[level]);
    if (level < arch->unet_levels - 1)
        h = ld_unet_transformer(builder, ld_graph_name(graph, "%s.1", name), h, false);
    return h;
}

static int32_t build_up(struct ld_unet_builder *builder, struct ld_unet_skips *skips, int32_t h)
{
    struct ld_graph *graph = builder->graph;
    const struct ld_arch *arch = builder->arch;
    int32_t index = 0;
    for (int32_t level = arch->unet_levels - 1; level >= 0; level--)
        for (int32_t r = 0; r <= LD_UNET_RES_PER_LEVEL; r++, index++) {
            h = build_up_block(builder, index, level, h, skips->values[--skips->count]);
            if (level > 0 && r == LD_UNET_RES_PER_LEVEL) {
                /* To the size of the next skip, whatever it is: odd sizes, deep shrink. */
                const int32_t next = skips->values[skips->count - 1];
                const int32_t place = level < arch->unet_levels - 1 ? 2 : 1;
                h = ld_graph_conv(
                    graph, ld_graph_name(graph, PREFIX "output_blocks.%d.%d.conv", index, place),
                    &(struct ld_conv_args){.x0 = h,
                                           .channels = ld_graph_at(graph, h)->channels,
                                           .up_height = ld_graph_at(graph, next)->height,
                                           .up_width = ld_graph_at(graph, next)->width});
            }
            ld_graph_tap(graph, ld_graph_name(graph, "output_blocks.%d", index));
        }
    return h;
}

void ld_unet_build(struct ld_graph *graph, const struct ld_arch *arch,
                   const struct ld_unet_shape *shape, const struct ld_unet_options *options)
{
    struct ld_unet_builder builder = {.graph = graph,
                                      .arch = arch,
                                      .shape = shape,
                                      .options = options,
                                      .prefix = PREFIX,
                                      .tap = ""};
    struct ld_unet_skips skips = {.count = 0};
    check(graph, arch, shape, options);
    if (graph->failed != LD_OK)
        return;
    graph->in_prologue = true;
    builder.context = ld_graph_rows_in(graph, LD_PORT_CONTEXT, shape->batch, shape->context_tokens,
                                       arch->unet_context);
    graph->in_prologue = false;
    ld_unet_build_time(&builder, true);
    int32_t h = ld_unet_build_down(&builder, build_conv_in(&builder), &skips);
    h = ld_unet_build_middle(&builder, h);
    for (int32_t net = 0; net < options->controls; net++)
        h = ld_control_build(&builder, net, &skips, h);
    h = build_up(&builder, &skips, h);
    LD_ASSERT(graph->failed != LD_OK ||
              builder.time_column == ld_graph_at(graph, builder.time)->channels);
    h = ld_graph_group_norm(graph, PREFIX "out.0", h, LD_GRAPH_NONE, OUTPUT_EPSILON, true);
    h = ld_graph_conv(graph, PREFIX "out.2",
                      &(struct ld_conv_args){.x0 = h, .channels = LD_LATENT_CHANNELS});
    ld_graph_planes_out(graph, h, LD_PORT_OUT);
}

/* ---- The middle block's size ----------------------------------------------------------------- */

struct ld_unet_middle ld_unet_middle(const struct ld_arch *arch, const struct ld_unet_shape *shape,
                                     const struct ld_unet_options *options)
{
    struct ld_unet_middle middle = {.height = shape->height,
                                    .width = shape->width,
                                    .channels = arch->unet_channels *
                                                arch->unet_multipliers[arch->unet_levels - 1],
                                    .heads = arch->unet_heads};
    for (int32_t block = 0; block < 3 * arch->unet_levels; block++) {
        if (block > 0 && block % 3 == 0) {
            middle.height = (middle.height + 1) / 2;
            middle.width = (middle.width + 1) / 2;
        }
        if (options->shrink && options->shrink_block == block) {
            middle.height = ld_unet_shrunk(middle.height, options->shrink_factor);
            middle.width = ld_unet_shrunk(middle.width, options->shrink_factor);
        }
    }
    return middle;
}
