/*
 * `hyper`: the registered step-distillation adapter and what its recipe says. Fields that were
 * given win; where they leave the recipe, a warning says so. Afterwards the request names adapter,
 * steps, sampler, scheduler and guidance itself and `hyper` is off, so that it can be run again
 * anywhere.
 */
#ifndef LD_API_HYPER_H
#define LD_API_HYPER_H

#include "api/names.h"
#include "api/problem.h"
#include "api/resolve.h"

/* An adapter as far as recipes go. */
struct ld_known_adapter {
    const char *name;
    const char *recipe; /* text of the file beside it; "" if there is none */
};

/* Which adapters there are. */
struct ld_adapter_list {
    void *ctx;
    bool (*at)(void *ctx, uint32_t index, struct ld_known_adapter *out); /* false past the last */
};

/*
 * Call after ld_request_resolve, before ld_request_check. Does nothing for a request without hyper.
 * `list` NULL: adapters are not known here, which is a problem. `names` (may be NULL) tells aliases
 * of samplers and schedulers from departures. A malformed recipe is passed over with a warning.
 * Owner   texts are made in `arena`. Errors   LD_E_INVALID (no adapter with a recipe for these
 * steps), LD_E_RANGE (too many adapters), LD_E_NOMEM; each is added to `problem`.
 */
enum ld_code ld_request_apply_hyper(struct ld_request *request, const struct ld_adapter_list *list,
                                    const struct ld_api_names *names, struct ld_arena *arena,
                                    struct ld_warnings *warnings,
                                    struct ld_problem *problem) LD_MUST_USE;

#endif
