#include "runtime/model/registry.h"

#include "runtime/base/log.h"
#include "runtime/model/registry_state.h"

#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b)
{
    const struct ld_registry_entry *left = a;
    const struct ld_registry_entry *right = b;
    const int order = strcmp(left->name, right->name);
    /* Of equal names .safetensors comes before .pt, and that before .bin. */
    return order ? order : -strcmp(left->path, right->path);
}

/* Of two files with one name (x.pt and x.safetensors) the first stays. */
static void drop_doubles(struct ld_registry_list *list)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        if (kept > 0 && strcmp(list->items[kept - 1].name, list->items[i].name) == 0) {
            LD_LOG(LD_LOG_WARN, "registry", "file left out: another one has the same name",
                   ld_log_text("path", list->items[i].path));
            continue;
        }
        list->items[kept++] = list->items[i];
    }
    list->count = kept;
}

/* ---- Scanning -------------------------------------------------------------------------------- */

static void clear(struct ld_registry *registry)
{
    for (int kind = 0; kind < LD_REGISTRY_KIND_COUNT; kind++)
        ld_heap_free(registry->lists[kind].items);
    ld_arena_deinit(&registry->arena);
}

/* Into a registry without lists. */
static enum ld_code scan(struct ld_registry *registry, const struct ld_registry_folders *folders,
                         struct ld_error *err)
{
    enum ld_code code = LD_OK;
    ld_arena_init(&registry->arena, "registry", (size_t)256 << 20);
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
    return code;
}

enum ld_code ld_registry_open(struct ld_registry **out, const struct ld_registry_folders *folders,
                              struct ld_error *err)
{
    *out = NULL;
    struct ld_registry *registry = ld_heap_alloc(sizeof *registry);
    if (!registry)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the list of model files");
    enum ld_code code = ld_digest_cache_open(&registry->digests,
                                             folders->cache_path ? folders->cache_path : "", err);
    if (code == LD_OK)
        code = scan(registry, folders, err);
    if (code == LD_OK)
        *out = registry;
    else
        ld_registry_close(registry);
    return code;
}

/* Both lists are sorted by name. */
static void compare(const struct ld_registry_list *before, const struct ld_registry_list *now,
                    enum ld_registry_kind kind, struct ld_registry_changes *changes)
{
    uint32_t b = 0;
    uint32_t n = 0;
    while (b < before->count || n < now->count) {
        const struct ld_registry_entry *old = b < before->count ? &before->items[b] : NULL;
        const struct ld_registry_entry *new = n < now->count ? &now->items[n] : NULL;
        const int order = !old ? 1 : !new ? -1 : strcmp(old->name, new->name);
        if (order < 0)
            changes->removed[kind]++;
        else if (order > 0)
            changes->added[kind]++;
        else if (!ld_registry_stamp_equal(&old->stamp, &new->stamp) ||
                 strcmp(old->path, new->path) != 0 || strcmp(old->detail, new->detail) != 0)
            changes->changed[kind]++;
        b += order <= 0 ? 1 : 0;
        n += order >= 0 ? 1 : 0;
    }
}

enum ld_code ld_registry_rescan(struct ld_registry *registry,
                                const struct ld_registry_folders *folders,
                                struct ld_registry_changes *changes, struct ld_error *err)
{
    memset(changes, 0, sizeof *changes);
    struct ld_registry *fresh = ld_heap_alloc(sizeof *fresh);
    if (!fresh)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the list of model files");
    const enum ld_code code = scan(fresh, folders, err);
    if (code == LD_OK) {
        for (int kind = 0; kind < LD_REGISTRY_KIND_COUNT; kind++)
            compare(&registry->lists[kind], &fresh->lists[kind], (enum ld_registry_kind)kind,
                    changes);
        ld_registry_hash_anew(registry);
        struct ld_registry before = *registry;
        *registry = *fresh;
        registry->digests = before.digests;
        registry->save_failed = before.save_failed;
        for (int kind = 0; kind < LD_REGISTRY_KIND_COUNT; kind++)
            registry->lists[kind].arena = &registry->arena;
        *fresh = before;
    }
    clear(fresh);
    ld_heap_free(fresh);
    return code;
}

void ld_registry_close(struct ld_registry *registry)
{
    if (!registry)
        return;
    ld_registry_hash_anew(registry);
    clear(registry);
    if (registry->digests)
        ld_registry_save_digests(registry);
    ld_digest_cache_close(registry->digests);
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
    return &registry->lists[kind].items[index];
}

static int has_name(const void *name, const void *found)
{
    return strcmp(name, ((const struct ld_registry_entry *)found)->name);
}

static const struct ld_registry_entry *find(const struct ld_registry *registry,
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
    return find(registry, kind, name);
}

uint32_t ld_registry_reject_count(const struct ld_registry *registry, enum ld_registry_kind kind)
{
    LD_ASSERT((unsigned)kind < LD_REGISTRY_KIND_COUNT);
    return registry->lists[kind].reject_count;
}

const struct ld_registry_reject *ld_registry_reject_at(const struct ld_registry *registry,
                                                       enum ld_registry_kind kind, uint32_t index)
{
    LD_ASSERT((unsigned)kind < LD_REGISTRY_KIND_COUNT &&
              index < registry->lists[kind].reject_count);
    return &registry->lists[kind].rejects[index];
}

enum ld_code ld_registry_add(struct ld_registry *registry, const char *folder,
                             enum ld_registry_kind kind, const char *name, struct ld_error *err)
{
    LD_ASSERT((unsigned)kind < LD_REGISTRY_KIND_COUNT);
    if (find(registry, kind, name))
        return LD_OK;
    struct ld_registry_list *list = &registry->lists[kind];
    ld_registry_hash_anew(registry);
    const enum ld_code code = ld_registry_scan_one(list, folder, kind, name, err);
    if (code == LD_OK)
        qsort(list->items, list->count, sizeof *list->items, by_name);
    return code;
}
