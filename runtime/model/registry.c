#include "runtime/model/registry.h"

#include "runtime/base/log.h"
#include "runtime/model/digest_cache.h"
#include "runtime/model/hash.h"
#include "runtime/model/registry_scan.h"
#include "runtime/model/weights.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct ld_registry {
    struct ld_arena arena;
    struct ld_registry_list lists[LD_REGISTRY_KIND_COUNT]; /* sorted by name */
    struct ld_digest_cache *digests;
};

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
        struct ld_registry before = *registry;
        *registry = *fresh;
        registry->digests = before.digests;
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
    clear(registry);
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

/* `place` holds the absolute path: digests are kept for programs that start in other folders. */
static struct ld_digest_key key_of(const char *path, const struct ld_registry_stamp *stamp,
                                   char place[PATH_MAX])
{
    return (struct ld_digest_key){.path = realpath(path, place) ? place : path,
                                  .bytes = stamp->bytes,
                                  .modified_ns = stamp->modified_ns,
                                  .inode = stamp->inode};
}

static void remember(struct ld_registry *registry, const struct ld_digest_key *key,
                     const char *digest)
{
    struct ld_error why = {0};
    ld_digest_cache_put(registry->digests, key, digest);
    if (ld_digest_cache_save(registry->digests, &why) != LD_OK)
        ld_log_error(LD_LOG_WARN, "registry", "the digest cache cannot be written", &why);
}

enum ld_code ld_registry_sha256(struct ld_registry *registry, const struct ld_registry_entry *entry,
                                char out[LD_SHA256_HEX_SIZE], struct ld_error *err)
{
    struct ld_registry_stamp stamp = entry->stamp;
    LD_ASSERT(find(registry, entry->kind, entry->name) == entry);
    if (entry->kind != LD_REGISTRY_MODEL && !ld_registry_stamp_path(entry->path, &stamp))
        return LD_FAIL(err, LD_E_IO, "the file of '%.100s' cannot be read", entry->name);
    char place[PATH_MAX];
    const struct ld_digest_key key = key_of(entry->path, &stamp, place);
    if (ld_digest_cache_get(registry->digests, &key, out))
        return LD_OK;
    const enum ld_code code = hash_entry(entry, out, err);
    if (code == LD_OK)
        remember(registry, &key, out);
    return code;
}

enum ld_code ld_registry_weights_sha256(struct ld_registry *registry, const char *path,
                                        struct ld_weights *weights, char out[LD_SHA256_HEX_SIZE],
                                        struct ld_error *err)
{
    struct ld_registry_stamp before;
    struct ld_registry_stamp after;
    ld_registry_stamp_weights(weights, &before);
    char place[PATH_MAX];
    const struct ld_digest_key key = key_of(path, &before, place);
    if (ld_digest_cache_get(registry->digests, &key, out))
        return LD_OK;
    const enum ld_code code = ld_weights_sha256(weights, out, err);
    ld_registry_stamp_weights(weights, &after);
    if (code == LD_OK && ld_registry_stamp_equal(&before, &after)) /* else written to meanwhile */
        remember(registry, &key, out);
    return code;
}
