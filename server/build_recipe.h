/*
 * The body of POST /v1/admin/models as the command line that does it. Inputs are names of the
 * inventory, looked up in the operator's folders; no text of a request becomes part of a path
 * before it was found there.
 */
#ifndef LD_SERVER_BUILD_RECIPE_H
#define LD_SERVER_BUILD_RECIPE_H

#include "api/json_scan.h"
#include "api/problem.h"
#include "config/settings.h"
#include "server/inventory.h"

enum { LD_BUILD_WORDS_MAX = 128 };

/* Caller's storage; texts in the arena. */
struct ld_build_recipe {
    const struct ld_json_tree *tree;
    const struct ld_settings *settings;
    const struct ld_inventory *inventory; /* NULL: nothing is known */
    struct ld_arena *arena;
    struct ld_problem *problem;

    const char *name;   /* of the new model */
    const char *folder; /* of models, absolute */
    char *argv[LD_BUILD_WORDS_MAX + 1];
    uint32_t count;
    uint64_t bytes; /* of all inputs */
};

/*
 * Fill `name` to `bytes` from the body that `tree` holds; the members before are the caller's.
 * False after the problem was filled: wrong members, names that are not known, a model of this
 * name, no folder to write to.
 */
bool ld_build_recipe_read(struct ld_build_recipe *recipe);

#endif
