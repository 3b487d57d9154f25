#include "server/handlers.h"

#include "api/advice.h"
#include "api/respond.h"
#include "server/front.h"
#include "server/names_list.h"

/* What lies in folders may come and go, so whoever looks again asks again. */
static enum ld_handled reply_files(struct ld_exchange *ex)
{
    ld_exchange_set_header(ex, "Cache-Control", "private, no-cache");
    return ld_exchange_json(ex, 200);
}

/* What the program itself can do; a minute of caching saves most of the traffic. */
static enum ld_handled reply_list(struct ld_exchange *ex)
{
    ld_exchange_set_header(ex, "Cache-Control", "private, max-age=60");
    return ld_exchange_json(ex, 200);
}

/* In the exchange's arena; NULL without memory, and the listing goes without it. */
static const char *advice_of(struct ld_exchange *ex, const struct ld_manifest *manifest)
{
    struct ld_buffer json = ld_buffer_make(64 << 10);
    ld_respond_advice(manifest, &json);
    const char *text = json.failed ? NULL : ld_arena_strndup(&ex->arena, json.data, json.size);
    ld_buffer_deinit(&json);
    return text;
}

enum ld_handled ld_handle_models(struct ld_exchange *ex)
{
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    const uint32_t count = inventory ? inventory->model_count : 0;
    struct ld_model_view *views = ld_arena_calloc(&ex->arena, count ? count : 1, sizeof *views);
    for (uint32_t i = 0; views && i < count; i++) {
        views[i] = inventory->models[i];
        const struct ld_manifest *manifest =
            ld_manifests_for(&ld_guides_now(ex->front->guides)->manifests, views[i].name);
        if (manifest) {
            views[i].manifest = manifest->name;
            views[i].title = *views[i].title ? views[i].title : manifest->title;
            if (!*views[i].prediction)
                views[i].prediction = manifest->prediction;
            views[i].advice_json = advice_of(ex, manifest);
        }
    }
    if (views)
        ld_respond_models(views, count, &ex->reply.body);
    ld_inventory_release(ex->front->inventory, inventory);
    return views ? reply_files(ex) : ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
}

enum ld_handled ld_handle_adapters(struct ld_exchange *ex)
{
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    ld_respond_adapters(inventory ? inventory->adapters : NULL,
                        inventory ? inventory->adapter_count : 0, &ex->reply.body);
    ld_inventory_release(ex->front->inventory, inventory);
    return reply_files(ex);
}

enum ld_handled ld_handle_embeddings(struct ld_exchange *ex)
{
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    ld_respond_embeddings(inventory ? inventory->embeddings : NULL,
                          inventory ? inventory->embedding_count : 0, &ex->reply.body);
    ld_inventory_release(ex->front->inventory, inventory);
    return reply_files(ex);
}

enum ld_handled ld_handle_controlnets(struct ld_exchange *ex)
{
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    ld_respond_controlnets(inventory ? inventory->controlnets : NULL,
                           inventory ? inventory->controlnet_count : 0, &ex->reply.body);
    ld_inventory_release(ex->front->inventory, inventory);
    return reply_files(ex);
}

/* Names alone: what stands in a list is seen in the expanded prompt. */
enum ld_handled ld_handle_wildcards(struct ld_exchange *ex)
{
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    struct ld_buffer *out = &ex->reply.body;
    ld_buffer_text(out, "{\"wildcards\":[");
    for (uint32_t i = 0; inventory && i < inventory->wildcard_count; i++) {
        ld_buffer_text(out, i ? ",{\"name\":" : "{\"name\":");
        ld_buffer_json_string(out, inventory->wildcards[i]);
        ld_buffer_byte(out, '}');
    }
    ld_buffer_text(out, "]}");
    ld_inventory_release(ex->front->inventory, inventory);
    return reply_files(ex);
}

enum ld_handled ld_handle_samplers(struct ld_exchange *ex)
{
    uint32_t count;
    const struct ld_sampler_view *views = ld_names_samplers(&ex->arena, &count);
    if (!views)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    ld_respond_samplers(views, count, &ex->reply.body);
    return reply_list(ex);
}

enum ld_handled ld_handle_schedulers(struct ld_exchange *ex)
{
    uint32_t count;
    const struct ld_scheduler_view *views = ld_names_schedulers(&ex->arena, &count);
    if (!views)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    ld_respond_schedulers(views, count, &ex->reply.body);
    return reply_list(ex);
}

enum ld_handled ld_handle_resolutions(struct ld_exchange *ex)
{
    const char *wanted = ld_exchange_query(ex, "model");
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    const struct ld_model_view *model = ld_inventory_model(inventory, wanted ? wanted : "");
    const bool unknown = wanted && *wanted && inventory && !model;
    const struct ld_manifest *manifest =
        ld_manifests_for(&ld_guides_now(ex->front->guides)->manifests, model    ? model->name
                                                                       : wanted ? wanted
                                                                                : "");
    ld_inventory_release(ex->front->inventory, inventory);
    if (unknown)
        return ld_exchange_refuse(ex, LD_E_NOT_FOUND, 0, "there is no such model");
    const uint32_t count = manifest ? manifest->size_count : 0;
    struct ld_size_view *views = ld_arena_calloc(&ex->arena, count ? count : 1, sizeof *views);
    if (!views)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    for (uint32_t i = 0; i < count; i++)
        views[i] = (struct ld_size_view){manifest->sizes[i].width, manifest->sizes[i].height,
                                         manifest->sizes[i].note};
    ld_respond_resolutions(views, count, &ex->reply.body);
    return reply_list(ex);
}
