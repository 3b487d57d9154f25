#include "runtime/model/plan_cache.h"

#include <string.h>

/* ---- Keys ------------------------------------------------------------------------------------ */

static bool key_equal(const struct ld_plan_key *a, const struct ld_plan_key *b)
{
    if (a->part != b->part)
        return false;
    if (a->part == LD_PART_UNET)
        return a->unet.batch == b->unet.batch && a->unet.height == b->unet.height &&
               a->unet.width == b->unet.width && a->unet.context_tokens == b->unet.context_tokens &&
               ld_unet_options_equal(&a->options, &b->options);
    if (a->part == LD_PART_TEXT)
        return a->clip.chunks == b->clip.chunks && a->clip.skip == b->clip.skip;
    return a->vae.batch == b->vae.batch && a->vae.height == b->vae.height &&
           a->vae.width == b->vae.width && a->vae.form == b->vae.form &&
           a->vae.sample_height == b->vae.sample_height &&
           a->vae.sample_width == b->vae.sample_width && a->vae.strip_rows == b->vae.strip_rows;
}

void ld_plan_build(struct ld_graph *graph, const struct ld_arch *arch,
                   const struct ld_plan_key *key)
{
    LD_ASSERT(key->part != LD_PART_CONTROL); /* it is part of a UNet's plan */
    if (key->part == LD_PART_UNET)
        ld_unet_build(graph, arch, &key->unet, &key->options);
    else if (key->part == LD_PART_TEXT)
        ld_clip_build(graph, arch, &key->clip);
    else if (key->part == LD_PART_VAE_DECODER)
        ld_vae_build_decoder(graph, arch, &key->vae);
    else
        ld_vae_build_encoder(graph, arch, &key->vae);
}

/* The slots that the smallest graph of `key` lists. */
static enum ld_code list_slots(struct ld_weight_layout *layout, const struct ld_arch *arch,
                               enum ld_dtype act_dtype, const struct ld_plan_key *key,
                               struct ld_error *err)
{
    struct ld_graph graph;
    ld_graph_init(&graph, act_dtype, layout);
    ld_plan_build(&graph, arch, key);
    const enum ld_code code = ld_graph_finish(&graph, err);
    ld_graph_deinit(&graph);
    return code;
}

/* A ControlNet has no plan of its own: those of the smallest UNet that has one. */
static enum ld_code list_control_slots(struct ld_weight_layout *layout, const struct ld_arch *arch,
                                       enum ld_dtype act_dtype, struct ld_error *err)
{
    const struct ld_plan_key key = {
        .part = LD_PART_UNET, .unet = {1, 1, 1, 1}, .options = {.controls = 1}};
    struct ld_weight_layout unet;
    struct ld_graph graph;
    ld_weight_layout_init(&unet);
    ld_graph_init(&graph, act_dtype, &unet);
    graph.control_layout = layout;
    ld_plan_build(&graph, arch, &key);
    const enum ld_code code = ld_graph_finish(&graph, err);
    ld_graph_deinit(&graph);
    ld_weight_layout_deinit(&unet);
    return code;
}

enum ld_code ld_plan_list_slots(struct ld_weight_layout *layout, const struct ld_arch *arch,
                                enum ld_dtype act_dtype, enum ld_part part, struct ld_error *err)
{
    if (part == LD_PART_CONTROL)
        return list_control_slots(layout, arch, act_dtype, err);
    const int32_t side = ld_vae_factor(arch);
    struct ld_plan_key key = {.part = part,
                              .unet = {1, 1, 1, 1},
                              .vae = {.batch = 1, .height = side, .width = side},
                              .clip = {.chunks = 1, .skip = 1}};
    enum ld_code code = list_slots(layout, arch, act_dtype, &key, err);
    if (code == LD_OK && part == LD_PART_UNET) {
        key.options.middle_identity = true;
        code = list_slots(layout, arch, act_dtype, &key, err);
    }
    return code;
}

/* ---- Plans ----------------------------------------------------------------------------------- */

void ld_plan_cache_init(struct ld_plan_cache *cache, struct ld_backend *backend, size_t bytes_max)
{
    memset(cache, 0, sizeof *cache);
    cache->backend = backend;
    cache->bytes_max = bytes_max;
}

static void destroy_plan(struct ld_plan_cache *cache, struct ld_plan *plan)
{
    if (cache->backend->ops->run_forget)
        cache->backend->ops->run_forget(cache->backend, plan->graph.serial);
    if (plan->persistent)
        cache->backend->ops->memory_free(cache->backend, plan->persistent,
                                         plan->graph.persistent_bytes);
    ld_block_free(plan->host, plan->host_bytes);
    ld_graph_deinit(&plan->graph);
    ld_heap_free(plan);
}

static size_t plan_bytes(const struct ld_plan *plan)
{
    return plan->graph.persistent_bytes + plan->host_bytes;
}

static void drop(struct ld_plan_cache *cache, uint32_t index)
{
    cache->bytes -= plan_bytes(cache->plans[index]);
    destroy_plan(cache, cache->plans[index]);
    cache->plans[index] = cache->plans[--cache->count];
}

void ld_plan_cache_deinit(struct ld_plan_cache *cache)
{
    while (cache->count > 0)
        drop(cache, cache->count - 1);
}

/* Until one more plan of `bytes` fits: oldest out. A single plan above the budget is kept alone. */
static void make_room(struct ld_plan_cache *cache, size_t bytes)
{
    while (cache->count > 0 &&
           (cache->count == LD_PLANS_MAX || cache->bytes + bytes > cache->bytes_max)) {
        uint32_t oldest = 0;
        for (uint32_t i = 1; i < cache->count; i++)
            if (cache->plans[i]->used < cache->plans[oldest]->used)
                oldest = i;
        drop(cache, oldest);
    }
}

static enum ld_code create_plan(struct ld_plan_cache *cache, const struct ld_arch *arch,
                                struct ld_weight_layout *layout, struct ld_weight_layout *controls,
                                const struct ld_plan_key *key, size_t host_bytes,
                                struct ld_plan **out, struct ld_error *err)
{
    struct ld_plan *plan = ld_heap_alloc(sizeof *plan);
    if (!plan)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory to plan the model");
    plan->key = *key;
    ld_graph_init(&plan->graph, cache->backend->act_dtype, layout);
    plan->graph.control_layout = controls;
    ld_plan_build(&plan->graph, arch, key);
    enum ld_code code = ld_graph_finish(&plan->graph, err);
    if (code != LD_OK)
        goto done;
    make_room(cache, plan->graph.persistent_bytes + host_bytes);
    if (plan->graph.persistent_bytes > 0)
        code = cache->backend->ops->memory_alloc(cache->backend, plan->graph.persistent_bytes,
                                                 &plan->persistent, err);
    if (code == LD_OK && host_bytes > 0) {
        plan->host = ld_block_alloc(host_bytes);
        plan->host_bytes = plan->host ? host_bytes : 0;
        if (!plan->host)
            code = LD_FAIL(err, LD_E_NOMEM, "not enough memory for the model's inputs");
    }
done:
    if (code != LD_OK)
        destroy_plan(cache, plan);
    else
        *out = plan;
    return code;
}

enum ld_code ld_plan_cache_get(struct ld_plan_cache *cache, const struct ld_arch *arch,
                               struct ld_weight_layout *layout, struct ld_weight_layout *controls,
                               const struct ld_plan_key *key, size_t host_bytes,
                               struct ld_plan **out, struct ld_error *err)
{
    *out = NULL;
    for (uint32_t i = 0; i < cache->count && !*out; i++)
        if (key_equal(&cache->plans[i]->key, key))
            *out = cache->plans[i];
    if (!*out) {
        struct ld_plan *plan = NULL;
        enum ld_code code = create_plan(cache, arch, layout, controls, key, host_bytes, &plan, err);
        if (!plan)
            return code;
        cache->plans[cache->count++] = plan;
        cache->bytes += plan_bytes(plan);
        *out = plan;
    }
    (*out)->used = ++cache->clock;
    return LD_OK;
}
