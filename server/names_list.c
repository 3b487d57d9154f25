#include "server/names_list.h"

#include "runtime/sample/sampler.h"
#include "runtime/sample/schedule.h"

const struct ld_sampler_view *ld_names_samplers(struct ld_arena *arena, uint32_t *count)
{
    *count = ld_sampler_info_count();
    struct ld_sampler_view *views = ld_arena_calloc(arena, *count, sizeof *views);
    for (uint32_t i = 0; views && i < *count; i++) {
        const struct ld_sampler_info *info = ld_sampler_info_at(i);
        views[i] = (struct ld_sampler_view){
            .name = info->name,
            .label = info->label,
            .aliases = info->aliases,
            .hint = info->hint,
            .evals_per_step = info->evals_per_step,
            .ancestral = (info->traits & LD_SAMPLER_ANCESTRAL) != 0,
        };
    }
    return views;
}

const struct ld_scheduler_view *ld_names_schedulers(struct ld_arena *arena, uint32_t *count)
{
    *count = ld_scheduler_info_count();
    struct ld_scheduler_view *views = ld_arena_calloc(arena, *count, sizeof *views);
    for (uint32_t i = 0; views && i < *count; i++) {
        const struct ld_scheduler_info *info = ld_scheduler_info_at(i);
        views[i] = (struct ld_scheduler_view){info->name, info->label, info->aliases, info->hint};
    }
    return views;
}
