#include "runtime/model/registry.h"

#include "runtime/base/log.h"
#include "runtime/model/digest_cache.h"
#include "runtime/model/hash.h"
#include "runtime/model/registry_scan.h"
#include "runtime/model/weights.h"

#include <stdlib.h>
#include <string.h>

struct ld_registry {
    struct ld_arena arena;
    struct ld_registry_list lists[LD_REGISTRY_KIND_COUNT]; /* sorted by name */
    struct ld_digest_cache *digests;
};

static int by_name(const void *a, const void *b)
{
    const struct ld_registry_entry *left = &((const struct ld_registry_found *)a)->entry;
    const struct ld_registry_entry *right = &((const struct ld_registry_found *)b)->entry;
    const int order = strcmp(left->name, right->name);
    /* Of equal names .safetensors comes before .pt, and that before .bin. */
    return order ? order : -strcmp(left->path, right->path);
}

/* Of two files with one name (x.pt and x.safetensors) the first stays. */
static void drop_doubles(struct ld_registry_list *list)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        if (kept > 0 && strcmp(list->items[kept - 1].entry.name, list->items[i].entry.name) == 0) {
            LD_LOG(LD_LOG_WARN, "registry", "file left out: another one has the same name",
                   ld_log_text("path", list->items[i].entry.path));
            continue;
        }
        list->items[kept++] = list->items[i];
    }
    list->count = kept;
}

enum ld_code ld_registry_open(struct ld_registry **out, const struct ld_registry_folders *folders,
                              struct ld_error *err)
{
    *out = NULL;
    struct ld_registry *registry = ld_heap_alloc(sizeof *registry);
    if (!registry)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the list of model files");
    ld_arena_init(&registry->arena, "registry", (size_t)256 << 20);
    enum ld_code code = ld_digest_cache_open(&registry->digests,
                                             folders->cache_path ? folders->cache_path : "", err);
    for (int kind = 0; code == LD_OK && kind < LD_REGISTRY_KIND_COUNT; kind++) {
        struct ld_registry_list *list = &registry->lists[kind];
        const char *folder = folders->folder[kind];
        list->arena = &registry->arena;
        if (!folder || !folder[0])
            continue;
        code = ld_registry_scan(list, folders, (enum ld_registry_kind)kind, err);
        if (list->count)
            qsort(list->items, list->count, sizeof *list->items, by_name);
        drop_doubles(list);
    }
    if (code == LD_OK)
        *out = registry;
    else
        ld_registry_close(registry);
    return code;
}

void ld_registry_close(struct ld_registry *registry)
{
    if (!registry)
        return;
    for (int kind = 0; kind < LD_REGISTRY_KIND_COUNT; kind++)
        ld_heap_free(registry->lists[kind].items);
    ld_digest_cache_close(registry->digests);
    ld_arena_deinit(&registry->arena);
    ld_heap_free(registry);
}

/* ---- Reading --------------------------------------------------------------------------------- */

uint32_t ld_registry_count(const struct ld_registry *registry, enum ld_registry_kind kind)
{
    LD_ASSERT((unsigned)kind < LD_REGISTRY_KIND_COUNT);
    return registry->lists[kind].count;
}

const struct ld_registry_entry *ld_registry_at(const struct ld_registry *registry,
                                               enum ld_registry_kind kind, uint32_t index)
{
    LD_ASSERT((unsigned)kind < LD_REGISTRY_KIND_COUNT && index < registry->lists[kind].count);
    return &registry->lists[kind].items[index].entry;
}

static int has_name(const void *name, const void *found)
{
    return strcmp(name, ((const struct ld_registry_found *)found)->entry.name);
}

static const struct ld_registry_found *find(const struct ld_registry *registry,
                                            enum ld_registry_kind kind, const char *name)
{
    const struct ld_registry_list *list = &registry->lists[kind];
    return list->count ? bsearch(name, list->items, list->count, sizeof *list->items, has_name)
                       : NULL;
}

const struct ld_registry_entry *ld_registry_find(const struct ld_registry *registry,
                                                 enum ld_registry_kind kind, const char *name)
{
    LD_ASSERT((unsigned)kind < LD_REGISTRY_KIND_COUNT);
    const struct ld_registry_found *found = find(registry, kind, name);
    return found ? &found->entry : NULL;
}

enum ld_code ld_registry_add(struct ld_registry *registry, const char *folder,
                             enum ld_registry_kind kind, const char *name, struct ld_error *err)
{
    LD_ASSERT((unsigned)kind < LD_REGISTRY_KIND_COUNT);
    if (find(registry, kind, name))
        return LD_OK;
    struct ld_registry_list *list = &registry->lists[kind];
    const enum ld_code code = ld_registry_scan_one(list, folder, kind, name, err);
    if (code == LD_OK)
        qsort(list->items, list->count, sizeof *list->items, by_name);
    return code;
}

/* ---- Digests --------------------------------------------------------------------------------- */

/* One file as it is, a model folder through its weight files in the order of their names. */
static enum ld_code hash_entry(const struct ld_registry_entry *entry, char out[LD_SHA256_HEX_SIZE],
                               struct ld_error *err)
{
    if (entry->kind == LD_REGISTRY_MODEL || entry->kind == LD_REGISTRY_VAE) {
        struct ld_weights *weights;
        enum ld_code code = ld_weights_open(&weights, entry->path, NULL, err);
        if (code == LD_OK)
            code = ld_weights_sha256(weights, out, err);
        ld_weights_close(weights);
        return code;
    }
    return ld_hash_path(entry->path, out, err);
}

enum ld_code ld_registry_sha256(struct ld_registry *registry, const struct ld_registry_entry *entry,
                                char out[LD_SHA256_HEX_SIZE], struct ld_error *err)
{
    const struct ld_registry_found *found = find(registry, entry->kind, entry->name);
    LD_ASSERT(found && &found->entry == entry);
    const struct ld_digest_key key = {
        .path = entry->path,
        .bytes = found->stamp.bytes,
        .modified_ns = found->stamp.modified_ns,
        .inode = found->stamp.inode,
    };
    if (ld_digest_cache_get(registry->digests, &key, out))
        return LD_OK;
    const enum ld_code code = hash_entry(entry, out, err);
    if (code != LD_OK)
        return code;
    ld_digest_cache_put(registry->digests, &key, out);
    struct ld_error why = {0};
    if (ld_digest_cache_save(registry->digests, &why) != LD_OK)
        ld_log_error(LD_LOG_WARN, "registry", "the digest cache cannot be written", &why);
    return LD_OK;
}
