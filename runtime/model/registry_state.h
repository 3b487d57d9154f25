/* What the files of the registry share. Private to the registry. */
#ifndef LD_MODEL_REGISTRY_STATE_H
#define LD_MODEL_REGISTRY_STATE_H

#include "runtime/model/digest_cache.h"
#include "runtime/model/digester.h"
#include "runtime/model/registry_scan.h"

/* Digests that nobody has needed yet are made between other work, one file after the other. */
struct ld_registry_hashing {
    struct ld_digester *digester; /* NULL: between two files */
    uint32_t kind, index;         /* of that file, else of the next to look at */
};

struct ld_registry {
    struct ld_arena arena;
    struct ld_registry_list lists[LD_REGISTRY_KIND_COUNT]; /* sorted by name */
    struct ld_digest_cache *digests;
    bool save_failed; /* which is told once, not for every file */
    struct ld_registry_hashing hashing;
};

/* The lists have changed, or will: begin again at their start. */
void ld_registry_hash_anew(struct ld_registry *registry);

#endif
