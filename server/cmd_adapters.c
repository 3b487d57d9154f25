#include "server/cmd_adapters.h"

#include "runtime/base/json_find.h"

static bool adapter_at(void *ctx, uint32_t index, struct ld_known_adapter *out)
{
    struct ld_local_adapters *adapters = ctx;
    if (index >= ld_registry_count(adapters->registry, LD_REGISTRY_ADAPTER))
        return false;
    const struct ld_registry_entry *entry =
        ld_registry_at(adapters->registry, LD_REGISTRY_ADAPTER, index);
    if (!ld_json_find_string(ld_span_text(entry->detail), "/recipe_text", adapters->recipe,
                             sizeof adapters->recipe))
        adapters->recipe[0] = '\0';
    *out = (struct ld_known_adapter){entry->name, adapters->recipe};
    return true;
}

enum ld_code ld_local_adapters_open(struct ld_local_adapters *adapters, const char *folder,
                                    struct ld_error *err)
{
    struct ld_registry_folders folders = {.cache_path = ""};
    for (int kind = 0; kind < LD_REGISTRY_KIND_COUNT; kind++)
        folders.folder[kind] = kind == LD_REGISTRY_ADAPTER ? folder : "";
    adapters->list = (struct ld_adapter_list){adapters, adapter_at};
    return ld_registry_open(&adapters->registry, &folders, err);
}

void ld_local_adapters_close(struct ld_local_adapters *adapters)
{
    if (adapters->registry)
        ld_registry_close(adapters->registry);
    adapters->registry = NULL;
}
