/*
 * All spellings under which the tensors of a model are found in files of the wild: other prefixes,
 * diffusers names, older attention names, and the EMA copy. One sorted list, so that a file's name
 * leads to its canonical key in one search.
 */
#ifndef LD_MODEL_ALIAS_H
#define LD_MODEL_ALIAS_H

#include "runtime/model/keymap.h"

struct ld_alias {
    const char *name;
    uint32_t key; /* index in the key map */
    bool ema;     /* the averaged copy of a UNet tensor */
};

/* Caller's storage; zeroed is empty. */
struct ld_aliases {
    struct ld_arena arena;
    struct ld_alias *items; /* sorted by name */
    uint32_t count, capacity;
};

/* Owner    fills `aliases`; ld_aliases_deinit on success and on failure. Errors LD_E_NOMEM. */
enum ld_code ld_aliases_init(struct ld_aliases *aliases, const struct ld_keymap *map,
                             struct ld_error *err) LD_MUST_USE;
void ld_aliases_deinit(struct ld_aliases *aliases);

/* NULL if no tensor of the model is ever called that. */
const struct ld_alias *ld_aliases_find(const struct ld_aliases *aliases, const char *name);

#endif
