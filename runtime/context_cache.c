#include "runtime/context_cache.h"

#include "runtime/base/arena.h"

void ld_context_cache_init(struct ld_context_cache *cache, size_t bytes_max)
{
    memset(cache, 0, sizeof *cache);
    cache->bytes_max = bytes_max;
}

static void unlink_entry(struct ld_context_cache *cache, struct ld_context_entry *entry)
{
    if (entry->newer)
        entry->newer->older = entry->older;
    else
        cache->newest = entry->older;
    if (entry->older)
        entry->older->newer = entry->newer;
    else
        cache->oldest = entry->newer;
    entry->newer = entry->older = NULL;
}

static void link_newest(struct ld_context_cache *cache, struct ld_context_entry *entry)
{
    entry->older = cache->newest;
    if (cache->newest)
        cache->newest->newer = entry;
    else
        cache->oldest = entry;
    cache->newest = entry;
}

static void drop(struct ld_context_cache *cache, struct ld_context_entry *entry)
{
    unlink_entry(cache, entry);
    cache->bytes -= entry->count * sizeof(float);
    ld_heap_free(entry->data);
    ld_heap_free(entry);
}

static void shrink(struct ld_context_cache *cache)
{
    struct ld_context_entry *entry = cache->oldest;
    while (entry && cache->bytes > cache->bytes_max) {
        struct ld_context_entry *newer = entry->newer;
        if (entry->users == 0)
            drop(cache, entry);
        entry = newer;
    }
}

void ld_context_cache_deinit(struct ld_context_cache *cache)
{
    while (cache->newest) {
        LD_ASSERT(cache->newest->users == 0);
        drop(cache, cache->newest);
    }
}

struct ld_context_entry *ld_context_cache_acquire(struct ld_context_cache *cache,
                                                  const uint8_t key[LD_SHA256_BYTES])
{
    for (struct ld_context_entry *entry = cache->newest; entry; entry = entry->older) {
        if (memcmp(entry->key, key, LD_SHA256_BYTES) != 0)
            continue;
        unlink_entry(cache, entry);
        link_newest(cache, entry);
        entry->users++;
        cache->hits++;
        return entry;
    }
    cache->misses++;
    return NULL;
}

struct ld_context_entry *ld_context_cache_add(struct ld_context_cache *cache,
                                              const uint8_t key[LD_SHA256_BYTES], size_t count)
{
    struct ld_context_entry *entry = ld_heap_alloc(sizeof *entry);
    if (!entry)
        return NULL;
    entry->data = ld_heap_calloc(count, sizeof(float));
    if (!entry->data) {
        ld_heap_free(entry);
        return NULL;
    }
    memcpy(entry->key, key, LD_SHA256_BYTES);
    entry->count = count;
    entry->users = 1;
    cache->bytes += count * sizeof(float);
    link_newest(cache, entry);
    shrink(cache);
    return entry;
}

void ld_context_cache_release(struct ld_context_cache *cache, struct ld_context_entry *entry)
{
    if (!entry)
        return;
    LD_ASSERT(entry->users > 0);
    entry->users--;
    shrink(cache);
}

void ld_context_cache_discard(struct ld_context_cache *cache, struct ld_context_entry *entry)
{
    LD_ASSERT(entry->users == 1);
    drop(cache, entry);
}
