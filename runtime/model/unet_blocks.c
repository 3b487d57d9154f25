#include "runtime/model/unet_blocks.h"

/* model.md 2.1: ResBlocks and the output norm 1e-5, the transformer's own input norm 1e-6. */
static const double RESBLOCK_EPSILON = 1e-5;
static const double TRANSFORMER_EPSILON = 1e-6;
/* Of a UNet that came without a text encoder: model.md 3.3. */
enum { CHUNK_TOKENS = 77 };

void ld_unet_tap(struct ld_unet_builder *builder, const char *name)
{
    ld_graph_tap(builder->graph, ld_graph_name(builder->graph, "%s%s", builder->tap, name));
}

/* ---- Residual block -------------------------------------------------------------------------- */

int32_t ld_unet_resblock(struct ld_unet_builder *builder, const char *name, int32_t x0, int32_t x1,
                         int32_t channels)
{
    struct ld_graph *graph = builder->graph;
    const int32_t in_channels = ld_graph_at(graph, x0)->channels + ld_graph_at(graph, x1)->channels;
    int32_t h = ld_graph_group_norm(graph, ld_graph_name(graph, "%s.in_layers.0", name), x0, x1,
                                    RESBLOCK_EPSILON, true);
    h = ld_graph_conv(graph, ld_graph_name(graph, "%s.in_layers.2", name),
                      &(struct ld_conv_args){.x0 = h,
                                             .channels = channels,
                                             .row_add = builder->time,
                                             .row_add_column = builder->time_column});
    builder->time_column += channels;
    h = ld_graph_group_norm(graph, ld_graph_name(graph, "%s.out_layers.0", name), h, LD_GRAPH_NONE,
                            RESBLOCK_EPSILON, true);
    int32_t skip = x0;
    if (in_channels != channels)
        skip = ld_graph_linear(graph, ld_graph_name(graph, "%s.skip_connection", name),
                               &(struct ld_linear_args){.x0 = x0, .x1 = x1, .channels = channels});
    else if (x1 != LD_GRAPH_NONE)
        ld_graph_fail(graph, LD_E_UNSUPPORTED,
                      "the model's channel multipliers must not fall from level to level");
    return ld_graph_conv(graph, ld_graph_name(graph, "%s.out_layers.3", name),
                         &(struct ld_conv_args){.x0 = h, .channels = channels, .residual = skip});
}

/* ---- Transformer ----------------------------------------------------------------------------- */

/* PAG's perturbed branch: attention to oneself only, so the result is the V projection. */
static int32_t identity_attention(struct ld_graph *graph, const char *name, int32_t x)
{
    return ld_graph_linear(graph, ld_graph_name(graph, "%s.to_v", name),
                           &(struct ld_linear_args){.x0 = x,
                                                    .channels = ld_graph_at(graph, x)->channels,
                                                    .no_bias = true});
}

static int32_t self_attention(struct ld_unet_builder *builder, const char *name, int32_t x,
                              bool middle)
{
    struct ld_graph *graph = builder->graph;
    const int32_t channels = ld_graph_at(graph, x)->channels;
    const char *const names[] = {ld_graph_name(graph, "%s.to_q", name),
                                 ld_graph_name(graph, "%s.to_k", name),
                                 ld_graph_name(graph, "%s.to_v", name)};
    const int32_t qkv = ld_graph_linear_stack(
        graph, names, 3, &(struct ld_linear_args){.x0 = x, .channels = channels, .no_bias = true});
    if (middle && builder->options->middle_qkv)
        ld_graph_planes_out(graph, qkv, LD_PORT_QKV);
    return ld_graph_attention(
        graph, &(struct ld_attention_args){.q = {qkv, 0, 0},
                                           .k = {qkv, channels, 0},
                                           .v = {qkv, 2 * channels, 0},
                                           .heads = builder->arch->unet_heads,
                                           .head_dim = channels / builder->arch->unet_heads});
}

/*
 * Keys and values of the context: prologue, persistent. Rows are cut into images of one text chunk
 * where the length allows, so that a context's bits do not depend on the length of the longest
 * context in the batch.
 */
static int32_t context_kv(struct ld_unet_builder *builder, const char *name, int32_t channels)
{
    struct ld_graph *graph = builder->graph;
    const char *const names[] = {ld_graph_name(graph, "%s.to_k", name),
                                 ld_graph_name(graph, "%s.to_v", name)};
    const int32_t tokens = builder->shape->context_tokens;
    const int32_t positions = builder->arch->text_positions;
    const int32_t chunk = positions > 0 ? positions : CHUNK_TOKENS;
    graph->in_prologue = true;
    const int32_t kv = ld_graph_linear_stack(
        graph, names, 2,
        &(struct ld_linear_args){.x0 = builder->context,
                                 .channels = channels,
                                 .no_bias = true,
                                 .rows_per_image = tokens % chunk == 0 ? chunk : tokens});
    graph->in_prologue = false;
    if (kv != LD_GRAPH_NONE)
        graph->values[kv].persistent = true;
    return kv;
}

static int32_t cross_attention(struct ld_unet_builder *builder, const char *name, int32_t x)
{
    struct ld_graph *graph = builder->graph;
    const int32_t channels = ld_graph_at(graph, x)->channels;
    const int32_t kv = context_kv(builder, name, channels);
    const int32_t q =
        ld_graph_linear(graph, ld_graph_name(graph, "%s.to_q", name),
                        &(struct ld_linear_args){.x0 = x, .channels = channels, .no_bias = true});
    return ld_graph_attention(
        graph, &(struct ld_attention_args){.q = {q, 0, 0},
                                           .k = {kv, 0, 0},
                                           .v = {kv, channels, 0},
                                           .heads = builder->arch->unet_heads,
                                           .head_dim = channels / builder->arch->unet_heads,
                                           .kv_len = LD_PORT_KV_LEN});
}

int32_t ld_unet_transformer(struct ld_unet_builder *builder, const char *name, int32_t x,
                            bool middle)
{
    struct ld_graph *graph = builder->graph;
    const int32_t channels = ld_graph_at(graph, x)->channels;
    const char *block = ld_graph_name(graph, "%s.transformer_blocks.0", name);
    const char *attn1 = ld_graph_name(graph, "%s.attn1", block);
    const char *attn2 = ld_graph_name(graph, "%s.attn2", block);

    int32_t h = ld_graph_group_norm(graph, ld_graph_name(graph, "%s.norm", name), x, LD_GRAPH_NONE,
                                    TRANSFORMER_EPSILON, false);
    h = ld_graph_linear(graph, ld_graph_name(graph, "%s.proj_in", name),
                        &(struct ld_linear_args){.x0 = h, .channels = channels});

    int32_t a = ld_graph_layer_norm(graph, ld_graph_name(graph, "%s.norm1", block), h);
    a = middle && builder->options->middle_identity ? identity_attention(graph, attn1, a)
                                                    : self_attention(builder, attn1, a, middle);
    h = ld_graph_linear(graph, ld_graph_name(graph, "%s.to_out.0", attn1),
                        &(struct ld_linear_args){.x0 = a, .channels = channels, .residual = h});

    a = ld_graph_layer_norm(graph, ld_graph_name(graph, "%s.norm2", block), h);
    a = cross_attention(builder, attn2, a);
    h = ld_graph_linear(graph, ld_graph_name(graph, "%s.to_out.0", attn2),
                        &(struct ld_linear_args){.x0 = a, .channels = channels, .residual = h});

    a = ld_graph_layer_norm(graph, ld_graph_name(graph, "%s.norm3", block), h);
    a = ld_graph_linear(
        graph, ld_graph_name(graph, "%s.ff.net.0.proj", block),
        &(struct ld_linear_args){.x0 = a, .channels = 4 * channels, .activation = LD_ACT_GEGLU});
    h = ld_graph_linear(graph, ld_graph_name(graph, "%s.ff.net.2", block),
                        &(struct ld_linear_args){.x0 = a, .channels = channels, .residual = h});

    return ld_graph_linear(graph, ld_graph_name(graph, "%s.proj_out", name),
                           &(struct ld_linear_args){.x0 = h, .channels = channels, .residual = x});
}
