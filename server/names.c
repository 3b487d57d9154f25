#include "server/names.h"

#include "runtime/model/merge.h"
#include "runtime/model/model_write.h"
#include "runtime/sample/sampler.h"
#include "runtime/sample/schedule.h"

static const char *sampler(void *ctx, const char *name)
{
    (void)ctx;
    const struct ld_sampler_info *info = ld_sampler_info_find(name);
    return info ? info->name : NULL;
}

/* "automatic" becomes what the sampler is usually walked with, so that the request says it. */
static const char *scheduler(void *ctx, const char *name, const struct ld_request *request)
{
    (void)ctx;
    const struct ld_scheduler_info *info = ld_scheduler_info_find(name);
    if (info && strcmp(info->name, "automatic") == 0)
        info = ld_scheduler_automatic(request ? ld_sampler_info_find(request->sampler) : NULL);
    return info ? info->name : NULL;
}

static const char *sampler_at(void *ctx, uint32_t index)
{
    (void)ctx;
    return index < ld_sampler_info_count() ? ld_sampler_info_at(index)->name : NULL;
}

static const char *scheduler_at(void *ctx, uint32_t index)
{
    (void)ctx;
    return index < ld_scheduler_info_count() ? ld_scheduler_info_at(index)->name : NULL;
}

struct ld_api_names ld_names_builtin(void)
{
    return (struct ld_api_names){
        .sampler = sampler,
        .scheduler = scheduler,
        .sampler_at = sampler_at,
        .scheduler_at = scheduler_at,
    };
}

uint32_t ld_names_evals_per_step(const char *name)
{
    const struct ld_sampler_info *info = ld_sampler_info_find(name);
    return info && info->evals_per_step > 0 ? info->evals_per_step : 1;
}

uint32_t ld_names_merge_models(const char *op)
{
    enum ld_merge_op found;
    return ld_merge_op_find(op, &found) ? ld_merge_models(found) : 0;
}

bool ld_names_is_merge_block(struct ld_span name)
{
    uint32_t place;
    return ld_merge_alpha_find(name, &place);
}

int ld_names_merge_weight_max(void)
{
    return LD_MERGE_WEIGHT_MAX;
}

bool ld_names_is_storage(const char *word)
{
    enum ld_model_storage found;
    return ld_model_storage_find(word, &found);
}
