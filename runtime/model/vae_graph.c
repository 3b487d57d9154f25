#include "runtime/model/vae_graph.h"

#include "runtime/model/graph_layers.h"

#define PREFIX "first_stage_model."

enum {
    LATENT_CHANNELS = 4,
    PICTURE_CHANNELS = 3,
    DECODER_RES_PER_LEVEL = 3,
    ENCODER_RES_PER_LEVEL = 2,
    BATCH_MAX = 1024,
    SIDE_MAX = 1 << 17 /* picture side, 8 times the UNet's latent bound */
};
static const double EPSILON = 1e-6; /* every norm of the VAE, model.md 2.2 */

/* ---- Blocks ---------------------------------------------------------------------------------- */

/* The shortcut comes first: the input then dies in the first norm, which runs in place. That is
 * what sets the peak of the decoder's last level. */
static int32_t resblock(struct ld_graph *graph, const char *name, int32_t x, int32_t channels)
{
    int32_t skip = x;
    if (ld_graph_at(graph, x)->channels != channels)
        skip = ld_graph_linear(graph, ld_graph_name(graph, "%s.nin_shortcut", name),
                               &(struct ld_linear_args){.x0 = x, .channels = channels});
    int32_t h = ld_graph_group_norm(graph, ld_graph_name(graph, "%s.norm1", name), x, LD_GRAPH_NONE,
                                    EPSILON, true);
    h = ld_graph_conv(graph, ld_graph_name(graph, "%s.conv1", name),
                      &(struct ld_conv_args){.x0 = h, .channels = channels});
    h = ld_graph_group_norm(graph, ld_graph_name(graph, "%s.norm2", name), h, LD_GRAPH_NONE,
                            EPSILON, true);
    return ld_graph_conv(graph, ld_graph_name(graph, "%s.conv2", name),
                         &(struct ld_conv_args){.x0 = h, .channels = channels, .residual = skip});
}

/* One head over all channels. */
static int32_t attention(struct ld_graph *graph, const char *name, int32_t x)
{
    const int32_t channels = ld_graph_at(graph, x)->channels;
    const char *const names[] = {ld_graph_name(graph, "%s.q", name),
                                 ld_graph_name(graph, "%s.k", name),
                                 ld_graph_name(graph, "%s.v", name)};
    const int32_t h = ld_graph_group_norm(graph, ld_graph_name(graph, "%s.norm", name), x,
                                          LD_GRAPH_NONE, EPSILON, false);
    const int32_t qkv = ld_graph_linear_stack(
        graph, names, 3, &(struct ld_linear_args){.x0 = h, .channels = channels});
    const int32_t a =
        ld_graph_attention(graph, &(struct ld_attention_args){.q = {qkv, 0},
                                                              .k = {qkv, channels},
                                                              .v = {qkv, 2 * channels},
                                                              .heads = 1,
                                                              .head_dim = channels});
    return ld_graph_linear(graph, ld_graph_name(graph, "%s.proj_out", name),
                           &(struct ld_linear_args){.x0 = a, .channels = channels, .residual = x});
}

/* `half` is "decoder" or "encoder". */
static int32_t middle(struct ld_graph *graph, const char *half, int32_t h)
{
    const int32_t channels = ld_graph_at(graph, h)->channels;
    h = resblock(graph, ld_graph_name(graph, PREFIX "%s.mid.block_1", half), h, channels);
    h = attention(graph, ld_graph_name(graph, PREFIX "%s.mid.attn_1", half), h);
    ld_graph_tap(graph, ld_graph_name(graph, "%s.mid.attn_1", half));
    h = resblock(graph, ld_graph_name(graph, PREFIX "%s.mid.block_2", half), h, channels);
    ld_graph_tap(graph, ld_graph_name(graph, "%s.mid.block_2", half));
    return h;
}

static bool arch_ok(struct ld_graph *graph, const struct ld_arch *arch,
                    const struct ld_vae_shape *shape)
{
    bool ok = arch->vae_levels >= 1 && arch->vae_levels <= LD_LEVELS_MAX &&
              arch->vae_channels >= 32 && arch->vae_channels % 32 == 0;
    for (int32_t l = 0; ok && l < arch->vae_levels; l++)
        ok = arch->vae_multipliers[l] >= 1;
    if (!ok)
        ld_graph_fail(graph, LD_E_UNSUPPORTED, "the VAE's widths are not supported");
    if (shape->batch < 1 || shape->batch > BATCH_MAX || shape->height < 1 ||
        shape->height > SIDE_MAX || shape->width < 1 || shape->width > SIDE_MAX)
        ld_graph_fail(graph, LD_E_RANGE, "batch or picture size is out of range");
    return graph->failed == LD_OK;
}

int32_t ld_vae_factor(const struct ld_arch *arch)
{
    return 1 << (arch->vae_levels - 1);
}

/* ---- Decoder --------------------------------------------------------------------------------- */

void ld_vae_build_decoder(struct ld_graph *graph, const struct ld_arch *arch,
                          const struct ld_vae_shape *shape)
{
    if (!arch_ok(graph, arch, shape))
        return;
    const int32_t top = arch->vae_levels - 1;
    int32_t h = ld_graph_planes_in(graph, LD_PORT_X, LD_PORT_SCALE, shape->batch, LATENT_CHANNELS,
                                   shape->height, shape->width);
    h = ld_graph_linear(graph, PREFIX "post_quant_conv",
                        &(struct ld_linear_args){.x0 = h, .channels = LATENT_CHANNELS});
    h = ld_graph_conv(graph, PREFIX "decoder.conv_in",
                      &(struct ld_conv_args){
                          .x0 = h, .channels = arch->vae_channels * arch->vae_multipliers[top]});
    ld_graph_tap(graph, "decoder.conv_in");
    h = middle(graph, "decoder", h);
    for (int32_t level = top; level >= 0; level--) {
        const int32_t channels = arch->vae_channels * arch->vae_multipliers[level];
        for (int32_t r = 0; r < DECODER_RES_PER_LEVEL; r++)
            h = resblock(graph, ld_graph_name(graph, PREFIX "decoder.up.%d.block.%d", level, r), h,
                         channels);
        if (level > 0)
            h = ld_graph_conv(graph,
                              ld_graph_name(graph, PREFIX "decoder.up.%d.upsample.conv", level),
                              &(struct ld_conv_args){.x0 = h,
                                                     .channels = channels,
                                                     .up_height = 2 * ld_graph_at(graph, h)->height,
                                                     .up_width = 2 * ld_graph_at(graph, h)->width});
        ld_graph_tap(graph, ld_graph_name(graph, "decoder.up.%d", level));
    }
    h = ld_graph_group_norm(graph, PREFIX "decoder.norm_out", h, LD_GRAPH_NONE, EPSILON, true);
    h = ld_graph_conv(graph, PREFIX "decoder.conv_out",
                      &(struct ld_conv_args){.x0 = h, .channels = PICTURE_CHANNELS});
    ld_graph_planes_out(graph, h, LD_PORT_OUT);
}

/* ---- Encoder --------------------------------------------------------------------------------- */

void ld_vae_build_encoder(struct ld_graph *graph, const struct ld_arch *arch,
                          const struct ld_vae_shape *shape)
{
    if (!arch_ok(graph, arch, shape))
        return;
    if (shape->height % ld_vae_factor(arch) != 0 || shape->width % ld_vae_factor(arch) != 0) {
        ld_graph_fail(graph, LD_E_SHAPE, "the picture's sides must be multiples of 8");
        return;
    }
    int32_t h = ld_graph_planes_in(graph, LD_PORT_X, LD_PORT_NONE, shape->batch, PICTURE_CHANNELS,
                                   shape->height, shape->width);
    h = ld_graph_conv(graph, PREFIX "encoder.conv_in",
                      &(struct ld_conv_args){.x0 = h, .channels = arch->vae_channels});
    ld_graph_tap(graph, "encoder.conv_in");
    for (int32_t level = 0; level < arch->vae_levels; level++) {
        const int32_t channels = arch->vae_channels * arch->vae_multipliers[level];
        for (int32_t r = 0; r < ENCODER_RES_PER_LEVEL; r++)
            h = resblock(graph, ld_graph_name(graph, PREFIX "encoder.down.%d.block.%d", level, r),
                         h, channels);
        if (level < arch->vae_levels - 1)
            h = ld_graph_conv(
                graph, ld_graph_name(graph, PREFIX "encoder.down.%d.downsample.conv", level),
                &(struct ld_conv_args){
                    .x0 = h, .channels = channels, .stride = 2, .pad_end_only = true});
        ld_graph_tap(graph, ld_graph_name(graph, "encoder.down.%d", level));
    }
    h = middle(graph, "encoder", h);
    h = ld_graph_group_norm(graph, PREFIX "encoder.norm_out", h, LD_GRAPH_NONE, EPSILON, true);
    h = ld_graph_conv(graph, PREFIX "encoder.conv_out",
                      &(struct ld_conv_args){.x0 = h, .channels = 2 * LATENT_CHANNELS});
    h = ld_graph_linear(graph, PREFIX "quant_conv",
                        &(struct ld_linear_args){.x0 = h, .channels = 2 * LATENT_CHANNELS});
    ld_graph_planes_out(graph, h, LD_PORT_OUT);
}
