/* Digests of the registry's files: known ones, those needed now, and the rest between other work.
 */
#include "runtime/base/log.h"
#include "runtime/model/hash.h"
#include "runtime/model/registry_state.h"
#include "runtime/model/weights.h"

#include <limits.h>
#include <stdlib.h>

/* ---- At once --------------------------------------------------------------------------------- */

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

void ld_registry_save_digests(struct ld_registry *registry)
{
    struct ld_error why = {0};
    const bool failed = ld_digest_cache_save(registry->digests, &why) != LD_OK;
    if (failed && !registry->save_failed)
        ld_log_error(LD_LOG_WARN, "registry", "the digest cache cannot be written", &why);
    registry->save_failed = failed;
}

/* What the file is now. A model's stamp is that of the scan, for its digest is that of the weights
 * which are used. */
static bool stamp_now(const struct ld_registry_entry *entry, struct ld_registry_stamp *stamp)
{
    *stamp = entry->stamp;
    return entry->kind == LD_REGISTRY_MODEL || ld_registry_stamp_path(entry->path, stamp);
}

bool ld_registry_sha256_known(const struct ld_registry *registry,
                              const struct ld_registry_entry *entry, char out[LD_SHA256_HEX_SIZE])
{
    char place[PATH_MAX];
    struct ld_registry_stamp stamp;
    if (!stamp_now(entry, &stamp))
        return false;
    const struct ld_digest_key key = key_of(entry->path, &stamp, place);
    return ld_digest_cache_get(registry->digests, &key, out);
}

enum ld_code ld_registry_sha256(struct ld_registry *registry, const struct ld_registry_entry *entry,
                                char out[LD_SHA256_HEX_SIZE], struct ld_error *err)
{
    char place[PATH_MAX];
    struct ld_registry_stamp stamp;
    LD_ASSERT(ld_registry_find(registry, entry->kind, entry->name) == entry);
    if (!stamp_now(entry, &stamp))
        return LD_FAIL(err, LD_E_IO, "the file of '%.100s' cannot be read", entry->name);
    const struct ld_digest_key key = key_of(entry->path, &stamp, place);
    if (ld_digest_cache_get(registry->digests, &key, out))
        return LD_OK;
    const enum ld_code code = hash_entry(entry, out, err);
    if (code == LD_OK)
        ld_digest_cache_put(registry->digests, &key, out);
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
    if (code == LD_OK && ld_registry_stamp_equal(&before, &after)) { /* else written to meanwhile */
        ld_digest_cache_put(registry->digests, &key, out);
        ld_registry_save_digests(registry);
    }
    return code;
}

/* ---- Between other work ---------------------------------------------------------------------- */

void ld_registry_hash_anew(struct ld_registry *registry)
{
    ld_digester_end(registry->hashing.digester);
    memset(&registry->hashing, 0, sizeof registry->hashing);
}

/* The file at the cursor, or the next one behind it, that has no digest; NULL: all have. */
static const struct ld_registry_entry *next_unknown(struct ld_registry *registry)
{
    struct ld_registry_hashing *at = &registry->hashing;
    char known[LD_SHA256_HEX_SIZE];
    for (; at->kind < LD_REGISTRY_KIND_COUNT; at->kind++, at->index = 0) {
        const struct ld_registry_list *list = &registry->lists[at->kind];
        if (at->kind == LD_REGISTRY_WILDCARD)
            continue; /* nobody is told theirs */
        for (; at->index < list->count; at->index++) {
            if (!ld_registry_sha256_known(registry, &list->items[at->index], known))
                return &list->items[at->index];
        }
    }
    return NULL;
}

static void learn(struct ld_registry *registry, const struct ld_registry_entry *entry,
                  bool *learned)
{
    char digest[LD_SHA256_HEX_SIZE];
    char place[PATH_MAX];
    struct ld_registry_stamp stamp;
    if (!ld_digester_result(registry->hashing.digester, &stamp, digest))
        return; /* somebody still writes to it; the next scan sees it anew */
    const struct ld_digest_key key = key_of(entry->path, &stamp, place);
    ld_digest_cache_put(registry->digests, &key, digest);
    ld_registry_save_digests(registry);
    *learned = true;
}

bool ld_registry_hash_some(struct ld_registry *registry, uint64_t bytes, bool *learned)
{
    struct ld_registry_hashing *at = &registry->hashing;
    struct ld_error err = {0};
    bool done = false;
    enum ld_code code = LD_OK;
    *learned = false;
    if (!at->digester)
        ld_digest_cache_reread(registry->digests); /* other workers look at the same folders */
    const struct ld_registry_entry *entry =
        at->digester ? &registry->lists[at->kind].items[at->index] : next_unknown(registry);
    if (!entry)
        return false;
    if (!at->digester)
        code = ld_digester_begin(&at->digester, entry->path,
                                 entry->kind == LD_REGISTRY_MODEL || entry->kind == LD_REGISTRY_VAE,
                                 &err);
    if (code == LD_OK)
        code = ld_digester_step(at->digester, bytes, &done, &err);
    if (code == LD_OK && done)
        learn(registry, entry, learned);
    if (code != LD_OK)
        ld_log_error(LD_LOG_WARN, "registry", "a file could not be hashed", &err);
    if (code != LD_OK || done) {
        ld_digester_end(at->digester);
        at->digester = NULL;
        at->index++;
    }
    return true;
}
