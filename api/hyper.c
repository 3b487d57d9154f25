#include "api/hyper.h"

#include "config/recipe.h"

#include <math.h>

enum { ADAPTERS_MAX = 100000, STEPS_TOLD_MAX = 16 };

/* What was found, and what else there would have been. */
struct search {
    const struct ld_request *request;
    struct ld_known_adapter adapter;
    struct ld_recipe recipe;
    const struct ld_recipe_use *use; /* in `recipe`; NULL until found */
    int32_t steps[STEPS_TOLD_MAX];   /* of all uses, in the order found */
    uint32_t step_count;
};

/* ---- Finding --------------------------------------------------------------------------------- */

static void remember(struct search *search, int32_t steps)
{
    for (uint32_t i = 0; i < search->step_count; i++)
        if (search->steps[i] == steps)
            return;
    if (search->step_count < STEPS_TOLD_MAX)
        search->steps[search->step_count++] = steps;
}

/* A use of that many steps; one of an adapter that was made for them beats any other. */
static void consider(struct search *search, const struct ld_known_adapter *adapter,
                     const struct ld_recipe *recipe)
{
    const int32_t wanted = search->request->hyper_steps;
    const bool better = recipe->steps == wanted && search->use && search->recipe.steps != wanted;
    for (uint32_t i = 0; i < recipe->use_count; i++) {
        remember(search, recipe->uses[i].steps);
        if (recipe->uses[i].steps != wanted || (search->use && !better))
            continue;
        search->adapter = *adapter;
        search->recipe = *recipe;
        search->use = &search->recipe.uses[i];
        return;
    }
}

static enum ld_code find(struct search *search, const struct ld_adapter_list *list,
                         struct ld_arena *arena, struct ld_warnings *warnings,
                         struct ld_problem *problem)
{
    struct ld_known_adapter adapter;
    for (uint32_t i = 0; i < ADAPTERS_MAX && list->at(list->ctx, i, &adapter); i++) {
        struct ld_recipe recipe;
        struct ld_error err = {0};
        const enum ld_code code = ld_recipe_of(&recipe, adapter.name, adapter.recipe, arena, &err);
        if (code == LD_E_NOMEM)
            return ld_problem_add(problem, LD_E_NOMEM, "", "out of memory");
        if (code == LD_OK)
            consider(search, &adapter, &recipe);
        else if (adapter.recipe[0])
            ld_warnings_add(warnings, "hyper: the recipe of adapter '%.60s' is not used: %.150s",
                            adapter.name, err.detail);
    }
    return LD_OK;
}

static enum ld_code refuse(const struct search *search, struct ld_problem *problem)
{
    char known[160] = "";
    for (uint32_t i = 0; i < search->step_count; i++) {
        const size_t used = strlen(known);
        (void)ld_fmt(known + used, sizeof known - used, "%s%d", i ? ", " : "", search->steps[i]);
    }
    if (search->step_count == 0)
        return ld_problem_add(problem, LD_E_INVALID, "/hyper",
                              "hyper: no adapter with a recipe is here; put one such as "
                              "Hyper-SD15-8steps-CFG-lora into the folder of adapters, or name an "
                              "adapter in loras");
    return ld_problem_add(problem, LD_E_INVALID, "/hyper/steps",
                          "hyper.steps: no adapter here has a recipe for %d steps; there are: %s",
                          search->request->hyper_steps, known);
}

/* ---- Applying -------------------------------------------------------------------------------- */

static enum ld_code add_to_list(struct ld_request *request, const char *list, const char *name,
                                double weight, struct ld_problem *problem)
{
    uint32_t *count;
    struct ld_request_lora *loras = ld_request_list(request, ld_field_find(list), &count);
    for (uint32_t i = 0; i < *count; i++)
        if (strcmp(loras[i].name, name) == 0)
            return LD_OK; /* as the request has it */
    if (*count == LD_REQUEST_LORAS_MAX)
        return ld_problem_add(problem, LD_E_RANGE, "/loras",
                              "%s may hold %d adapters, that of hyper included", list,
                              LD_REQUEST_LORAS_MAX);
    loras[(*count)++] = (struct ld_request_lora){
        .name = name, .weight = weight, .text_weight = weight, .start = 0, .end = 1};
    return LD_OK;
}

/* A second pass with adapters of its own runs as few steps, so it needs this one too. */
static enum ld_code add_adapter(struct ld_request *request, const struct search *search,
                                double weight, struct ld_arena *arena, struct ld_problem *problem)
{
    const char *name = ld_arena_strdup(arena, search->adapter.name);
    if (!name)
        return ld_problem_add(problem, LD_E_NOMEM, "", "out of memory");
    const enum ld_code code = add_to_list(request, "loras", name, weight, problem);
    if (code == LD_OK && request->hires.present && request->hires.loras_given)
        return add_to_list(request, "hires.loras", name, weight, problem);
    return code;
}

/* A word of the recipe, or the given one (`canonical`, where its name is known) with a warning
 * where they differ. */
static void settle_word(const struct ld_request *request, const char *field, const char **place,
                        const char *canonical, const char *wanted, struct ld_warnings *warnings)
{
    if (!wanted[0])
        return;
    if (!ld_request_has(request, field))
        *place = wanted;
    else if (strcmp(canonical ? canonical : *place, wanted) != 0)
        ld_warnings_add(warnings, "hyper: the recipe wants %s %s, not %.60s", field, wanted,
                        *place);
}

static void settle_numbers(struct ld_request *request, const struct ld_recipe_use *use,
                           struct ld_warnings *warnings)
{
    if (request->sigma_count > 0)
        ld_warnings_add(warnings, "hyper: sigmas replace the recipe's scheduler and %d steps",
                        use->steps);
    else if (!ld_request_has(request, "steps"))
        request->steps = use->steps;
    else if (request->steps != use->steps)
        ld_warnings_add(warnings, "hyper: the recipe wants %d steps, not %d", use->steps,
                        request->steps);
    if (!ld_request_has(request, "cfg_scale") && !isnan(use->cfg_scale))
        request->cfg_scale = use->cfg_scale;
    else if (request->cfg_scale < use->cfg_min || request->cfg_scale > use->cfg_max)
        ld_warnings_add(warnings, "hyper: the recipe wants cfg_scale %g to %g, not %g",
                        use->cfg_min, use->cfg_max, request->cfg_scale);
}

enum ld_code ld_request_apply_hyper(struct ld_request *request, const struct ld_adapter_list *list,
                                    const struct ld_api_names *names, struct ld_arena *arena,
                                    struct ld_warnings *warnings, struct ld_problem *problem)
{
    struct search search = {.request = request};
    if (request->hyper_steps <= 0)
        return LD_OK;
    if (!list)
        return ld_problem_add(problem, LD_E_INVALID, "/hyper",
                              "hyper: the adapters are not known yet; a worker must have started "
                              "once");
    enum ld_code code = find(&search, list, arena, warnings, problem);
    if (code == LD_OK && !search.use)
        code = refuse(&search, problem);
    if (code != LD_OK)
        return code;
    double weight = search.recipe.weight;
    if (ld_request_has(request, "hyper.weight")) {
        weight = request->hyper_weight;
        if (fabs(weight - search.recipe.weight) > 1e-9)
            ld_warnings_add(warnings, "hyper: the recipe wants weight %g, not %g",
                            search.recipe.weight, weight);
    }
    code = add_adapter(request, &search, weight, arena, problem);
    const char *sampler =
        names && names->sampler ? names->sampler(names->ctx, request->sampler) : NULL;
    settle_word(request, "sampler", &request->sampler, sampler, search.use->sampler, warnings);
    const char *scheduler = names && names->scheduler && request->sigma_count == 0
                                ? names->scheduler(names->ctx, request->scheduler, request)
                                : NULL;
    if (request->sigma_count == 0)
        settle_word(request, "scheduler", &request->scheduler, scheduler, search.use->scheduler,
                    warnings);
    settle_numbers(request, search.use, warnings);
    request->hyper_steps = 0;
    return code;
}
