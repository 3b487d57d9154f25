/* One folder of the registry: walking it and looking into its files. Private to the registry. */
#ifndef LD_MODEL_REGISTRY_SCAN_H
#define LD_MODEL_REGISTRY_SCAN_H

#include "runtime/model/registry_look.h"

enum {
    LD_REGISTRY_ENTRIES_MAX = 10000,
    LD_REGISTRY_DEPTH_MAX = 6,
    LD_REGISTRY_REJECTS_MAX = 200 /* of one kind; more are only logged */
};

/* A growing list on the heap; strings live in the arena. */
struct ld_registry_list {
    struct ld_arena *arena;
    struct ld_registry_entry *items;
    uint32_t count, capacity;
    struct ld_registry_reject *rejects; /* in the arena; NULL until there is one */
    uint32_t reject_count;
};

/* Add what the folder of `kind` holds; folders of other kinds inside it are none of its business.
 * Errors as ld_registry_open. */
enum ld_code ld_registry_scan(struct ld_registry_list *list,
                              const struct ld_registry_folders *folders, enum ld_registry_kind kind,
                              struct ld_error *err) LD_MUST_USE;

/* Add NAME.safetensors, which lies right in `folder`. Errors as ld_registry_add. */
enum ld_code ld_registry_scan_one(struct ld_registry_list *list, const char *folder,
                                  enum ld_registry_kind kind, const char *name,
                                  struct ld_error *err) LD_MUST_USE;

/* At most LD_REGISTRY_NAME_MAX bytes of UTF-8 without control bytes or '\', no empty part, no part
 * that starts with a dot, no leading or trailing '/'. */
bool ld_registry_name_valid(const char *name);

#endif
