/*
 * Encoded texts by the hash of everything that decides them: weights, clip skip, ids, embeddings,
 * token weights. Entries in use stay; the others go, least recently used first, when the budget is
 * exceeded.
 */
#ifndef LD_RUNTIME_CONTEXT_CACHE_H
#define LD_RUNTIME_CONTEXT_CACHE_H

#include "runtime/base/id.h"

struct ld_context_entry {
    struct ld_context_entry *newer, *older;
    uint8_t key[LD_SHA256_BYTES];
    float *data; /* [tokens, width] */
    size_t count;
    uint32_t users;
};

/* Owned by one thread. */
struct ld_context_cache {
    struct ld_context_entry *newest, *oldest;
    size_t bytes, bytes_max;
    uint64_t hits, misses;
};

void ld_context_cache_init(struct ld_context_cache *cache, size_t bytes_max);
/* All entries must be released. */
void ld_context_cache_deinit(struct ld_context_cache *cache);

/* The entry for `key`, acquired, or NULL. */
struct ld_context_entry *ld_context_cache_acquire(struct ld_context_cache *cache,
                                                  const uint8_t key[LD_SHA256_BYTES]);

/* A new acquired entry of `count` floats, to be filled by the caller; NULL when out of memory. */
struct ld_context_entry *ld_context_cache_add(struct ld_context_cache *cache,
                                              const uint8_t key[LD_SHA256_BYTES], size_t count);

/* `entry` may be NULL. */
void ld_context_cache_release(struct ld_context_cache *cache, struct ld_context_entry *entry);

/* Forget an entry that could not be filled (acquired once, by the caller). */
void ld_context_cache_discard(struct ld_context_cache *cache, struct ld_context_entry *entry);

#endif
