#include "runtime/model/clip.h"

#include "runtime/model/graph_layers.h"

#define PREFIX "cond_stage_model.transformer.text_model."

enum { CHUNKS_MAX = 4096 };

static bool arch_ok(const struct ld_arch *arch)
{
    return arch->text_layers >= 1 && arch->text_width >= 1 && arch->text_heads >= 1 &&
           arch->text_width % arch->text_heads == 0 && arch->text_mlp >= 1 &&
           arch->text_vocabulary >= 1 && arch->text_positions >= 1;
}

/* x += out_proj(attn(layer_norm1(x))); x += fc2(quick_gelu(fc1(layer_norm2(x)))) */
static int32_t layer(struct ld_graph *graph, const struct ld_arch *arch, const char *name,
                     int32_t x)
{
    const int32_t width = arch->text_width;
    const char *const names[] = {ld_graph_name(graph, "%s.self_attn.q_proj", name),
                                 ld_graph_name(graph, "%s.self_attn.k_proj", name),
                                 ld_graph_name(graph, "%s.self_attn.v_proj", name)};
    int32_t h = ld_graph_layer_norm(graph, ld_graph_name(graph, "%s.layer_norm1", name), x);
    const int32_t qkv = ld_graph_linear_stack(graph, names, 3,
                                              &(struct ld_linear_args){.x0 = h, .channels = width});
    h = ld_graph_attention(graph, &(struct ld_attention_args){.q = {qkv, 0, 0},
                                                              .k = {qkv, width, 0},
                                                              .v = {qkv, 2 * width, 0},
                                                              .heads = arch->text_heads,
                                                              .head_dim = width / arch->text_heads,
                                                              .causal = true});
    x = ld_graph_linear(graph, ld_graph_name(graph, "%s.self_attn.out_proj", name),
                        &(struct ld_linear_args){.x0 = h, .channels = width, .residual = x});
    h = ld_graph_layer_norm(graph, ld_graph_name(graph, "%s.layer_norm2", name), x);
    h = ld_graph_linear(graph, ld_graph_name(graph, "%s.mlp.fc1", name),
                        &(struct ld_linear_args){
                            .x0 = h, .channels = arch->text_mlp, .activation = LD_ACT_QUICK_GELU});
    return ld_graph_linear(graph, ld_graph_name(graph, "%s.mlp.fc2", name),
                           &(struct ld_linear_args){.x0 = h, .channels = width, .residual = x});
}

void ld_clip_build(struct ld_graph *graph, const struct ld_arch *arch,
                   const struct ld_clip_shape *shape)
{
    if (!arch_ok(arch))
        ld_graph_fail(graph, LD_E_UNSUPPORTED, "the text encoder's widths are not supported");
    else if (shape->skip < 1 || shape->skip > arch->text_layers)
        ld_graph_fail(graph, LD_E_RANGE, "clip_skip must lie between 1 and the number of layers");
    else if (shape->chunks < 1 || shape->chunks > CHUNKS_MAX)
        ld_graph_fail(graph, LD_E_RANGE, "the prompt has too many chunks");
    if (graph->failed != LD_OK)
        return;
    int32_t x = ld_graph_embed(graph, PREFIX "embeddings.token_embedding.weight",
                               arch->text_vocabulary, PREFIX "embeddings.position_embedding.weight",
                               shape->chunks, arch->text_positions, arch->text_width);
    ld_graph_tap(graph, "embed");
    for (int32_t i = 0; i <= arch->text_layers - shape->skip; i++) {
        x = layer(graph, arch, ld_graph_name(graph, PREFIX "encoder.layers.%d", i), x);
        ld_graph_tap(graph, ld_graph_name(graph, "layer%d", i));
    }
    x = ld_graph_layer_norm(graph, PREFIX "final_layer_norm", x);
    ld_graph_rows_out(graph, x, LD_PORT_OUT);
}
