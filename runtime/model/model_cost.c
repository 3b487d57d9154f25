#include "runtime/model/model.h"
#include "runtime/model/plan_cache.h"

#include <string.h>

static enum ld_code price(struct ld_cost *cost, const struct ld_arch *arch, enum ld_dtype act_dtype,
                          const struct ld_plan_key *key, struct ld_error *err)
{
    struct ld_weight_layout layout;
    struct ld_weight_layout controls;
    struct ld_graph graph;
    memset(cost, 0, sizeof *cost);
    ld_weight_layout_init(&layout);
    ld_weight_layout_init(&controls);
    ld_graph_init(&graph, act_dtype, &layout);
    graph.control_layout = &controls;
    ld_plan_build(&graph, arch, key);
    const enum ld_code code = ld_graph_finish(&graph, err);
    if (code == LD_OK)
        *cost = (struct ld_cost){.scratch_bytes = graph.scratch_bytes,
                                 .persistent_bytes = graph.persistent_bytes,
                                 .macs = graph.macs,
                                 .parameters = ld_weight_layout_values(&layout)};
    ld_graph_deinit(&graph);
    ld_weight_layout_deinit(&controls);
    ld_weight_layout_deinit(&layout);
    return code;
}

enum ld_code ld_cost_unet(struct ld_cost *cost, const struct ld_arch *arch, enum ld_dtype act_dtype,
                          const struct ld_unet_shape *shape, const struct ld_unet_options *options,
                          struct ld_error *err)
{
    const struct ld_plan_key key = {.part = LD_PART_UNET, .unet = *shape, .options = *options};
    return price(cost, arch, act_dtype, &key, err);
}

enum ld_code ld_cost_decode(struct ld_cost *cost, const struct ld_arch *arch,
                            enum ld_dtype act_dtype, int32_t height, int32_t width,
                            struct ld_error *err)
{
    const struct ld_plan_key key = {.part = LD_PART_VAE_DECODER,
                                    .vae = {.batch = 1, .height = height, .width = width}};
    return price(cost, arch, act_dtype, &key, err);
}

enum ld_code ld_cost_decode_form(struct ld_cost *cost, const struct ld_arch *arch,
                                 enum ld_dtype act_dtype, int32_t height, int32_t width,
                                 enum ld_vae_form form, struct ld_error *err)
{
    const struct ld_plan_key key = {.part = LD_PART_VAE_DECODER,
                                    .vae = {1, height, width, .form = form}};
    return price(cost, arch, act_dtype, &key, err);
}

enum ld_code ld_cost_encode_image(struct ld_cost *cost, const struct ld_arch *arch,
                                  enum ld_dtype act_dtype, int32_t height, int32_t width,
                                  struct ld_error *err)
{
    const struct ld_plan_key key = {.part = LD_PART_VAE_ENCODER,
                                    .vae = {.batch = 1, .height = height, .width = width}};
    return price(cost, arch, act_dtype, &key, err);
}

enum ld_code ld_cost_text(struct ld_cost *cost, const struct ld_arch *arch, enum ld_dtype act_dtype,
                          int32_t chunks, int32_t skip, struct ld_error *err)
{
    const struct ld_plan_key key = {.part = LD_PART_TEXT, .clip = {.chunks = chunks, .skip = skip}};
    return price(cost, arch, act_dtype, &key, err);
}
