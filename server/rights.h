/*
 * What a key allows of a request beyond its numbers: which models, and how far a picture may go.
 *
 * A rating is a filter of prompts, not of pictures: tags that name a forbidden rating are refused
 * in the positive prompts and added to the negative ones. Who describes a picture in other words,
 * or draws them from wildcards, gets past it.
 */
#ifndef LD_SERVER_RIGHTS_H
#define LD_SERVER_RIGHTS_H

#include "api/problem.h"
#include "runtime/params.h"
#include "server/caller.h"
#include "server/inventory.h"

/*
 * A settled request of this caller: negative prompts may grow (in the arena); whatever is not
 * allowed is added to `problem`. `inventory` may be NULL. True when nothing was refused.
 */
bool ld_rights_apply(const struct ld_caller *caller, const struct ld_inventory *inventory,
                     struct ld_request *request, struct ld_arena *arena,
                     struct ld_problem *problem);

/* Whether the prompt holds a tag that names a rating above `rating`; `*tag` is that tag. Letter
 * case, underscores, brackets and weights do not count. */
bool ld_rating_forbids(enum ld_rating rating, const char *prompt, const char **tag);

#endif
