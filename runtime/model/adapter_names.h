/* The module names of adapters, in every scheme, for the tensors of one architecture. */
#ifndef LD_MODEL_ADAPTER_NAMES_H
#define LD_MODEL_ADAPTER_NAMES_H

#include "runtime/model/keymap.h"

struct ld_module_name {
    const char *name;
    uint32_t key; /* of the module's weight in the key map */
};

/* Caller's storage; zeroed is empty. */
struct ld_module_names {
    struct ld_arena arena;
    struct ld_module_name *items; /* sorted by name */
    uint32_t count, capacity;
};

/* Owner    fills `names`; ld_module_names_deinit on success and on failure. Errors LD_E_NOMEM. */
enum ld_code ld_module_names_init(struct ld_module_names *names, const struct ld_keymap *map,
                                  struct ld_error *err) LD_MUST_USE;
void ld_module_names_deinit(struct ld_module_names *names);

/* The key of a module's weight, -1 if the architecture has no such module. */
int32_t ld_module_names_find(const struct ld_module_names *names, const char *name);

#endif
