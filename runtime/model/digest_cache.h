/*
 * Remembered digests of large files, so that an unchanged file is not read again at every start. A
 * digest is believed only while path, size, modification time and inode are the same.
 */
#ifndef LD_MODEL_DIGEST_CACHE_H
#define LD_MODEL_DIGEST_CACHE_H

#include "runtime/base/arena.h"
#include "runtime/base/id.h"

enum { LD_DIGEST_ENTRIES_MAX = 20000 };

struct ld_digest_key {
    const char *path;
    uint64_t bytes;
    int64_t modified_ns;
    uint64_t inode;
};

struct ld_digest_cache;

/* Reads `path` if it exists; a damaged file is an empty cache. `path` "" keeps nothing on disk.
 * Owner    returns owned; ld_digest_cache_close. Errors LD_E_NOMEM. */
enum ld_code ld_digest_cache_open(struct ld_digest_cache **out, const char *path,
                                  struct ld_error *err) LD_MUST_USE;
void ld_digest_cache_close(struct ld_digest_cache *cache);

/* False if the digest is not known. */
bool ld_digest_cache_get(const struct ld_digest_cache *cache, const struct ld_digest_key *key,
                         char out[LD_SHA256_HEX_SIZE]);

/* Remember; a path has one digest, the newest. Without memory nothing is remembered. */
void ld_digest_cache_put(struct ld_digest_cache *cache, const struct ld_digest_key *key,
                         const char *digest);

/* Take up what other programs have saved since; what is known here stays. */
void ld_digest_cache_reread(struct ld_digest_cache *cache);

/* Write what is remembered, and what others have saved, all or nothing. Does nothing if nothing
 * changed. Errors as ld_fsx_publish. */
enum ld_code ld_digest_cache_save(struct ld_digest_cache *cache, struct ld_error *err) LD_MUST_USE;

#endif
