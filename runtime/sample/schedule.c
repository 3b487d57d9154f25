#include "runtime/sample/schedule.h"

#include "runtime/sample/float32.h"
#include "runtime/sample/schedule_shape.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct ld_schedule_options ld_schedule_options_default(void)
{
    const double unset = (double)NAN;
    return (struct ld_schedule_options){
        .steps = 20,
        .denoise = 1,
        .discard_penultimate = LD_UNSET,
        .rho = unset,
        .sigma_min = unset,
        .sigma_max = unset,
        .coefficient = unset,
        .alpha = unset,
        .beta = unset,
        .mu = unset,
        .b = unset,
    };
}

static void LD_PRINTF(2, 3) warn(struct ld_schedule *schedule, const char *format, ...)
{
    if (schedule->warning_count == LD_SCHEDULE_WARNINGS_MAX)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(schedule->warnings[schedule->warning_count++], LD_SCHEDULE_WARNING_SIZE, format,
              args);
    va_end(args);
}

static enum ld_profile profile_of(const struct ld_schedule_options *options)
{
    return options->table->config.profile;
}

/* ---- What to build and what to keep ---------------------------------------------------------- */

/* A strength s in (0,1) either makes a denser schedule of which the tail runs, or cuts the tail. */
struct cut {
    uint32_t total; /* steps the schedule is built for */
    uint32_t keep;  /* steps of its tail that run */
};

static enum ld_code plan_cut(const struct ld_schedule_options *options, bool own_cut,
                             struct cut *cut, struct ld_error *err)
{
    const double s = options->denoise;
    const double steps = options->steps;
    if (!(s >= 0 && s <= 1))
        return LD_FAIL(err, LD_E_RANGE, "the strength must be between 0 and 1");
    if (options->steps < 1 || options->steps > LD_SCHEDULE_STEPS_MAX)
        return LD_FAIL(err, LD_E_RANGE, "steps must be between 1 and %d", LD_SCHEDULE_STEPS_MAX);
    double total = steps;
    double keep = steps;
    if (own_cut) {
        keep = s < 1 ? rint(steps * s) : steps;
    } else if (profile_of(options) == LD_PROFILE_A1111) {
        const double capped = fmin(s, 0.999);
        if (options->exact_steps)
            total = s > 0 ? trunc(steps / capped) : 0;
        else if (s < 1)
            keep = trunc(capped * steps) + 1;
    } else if (s <= 0.9999) {
        total = s > 0 ? trunc(steps / s) : 0;
    }
    if (total > LD_SCHEDULE_TOTAL_MAX)
        return LD_FAIL(err, LD_E_RANGE, "the strength must be at least %.4f for %u steps",
                       steps / LD_SCHEDULE_TOTAL_MAX, options->steps);
    cut->total = (uint32_t)total;
    cut->keep = total > 0 ? (uint32_t)keep : 0;
    return LD_OK;
}

/* Second-order samplers run badly on the last gap, so it is widened: sampling.md 2. The two
 * profiles name different samplers. */
static bool discards_penultimate(const struct ld_schedule_options *options,
                                 const struct ld_scheduler_info *scheduler)
{
    if (options->discard_penultimate != LD_UNSET)
        return options->discard_penultimate == LD_TRUE;
    if (!options->sampler)
        return false;
    if (profile_of(options) == LD_PROFILE_A1111) {
        static const char *const samplers[] = {"dpm_2", "dpm_2_ancestral", "dpmpp_3m_sde"};
        for (size_t i = 0; i < sizeof samplers / sizeof samplers[0]; i++)
            if (strcmp(options->sampler->name, samplers[i]) == 0)
                return true;
        return false;
    }
    return (options->sampler->traits & LD_SAMPLER_DISCARD_PENULTIMATE) &&
           !(scheduler->traits & LD_SCHEDULER_EXPLICIT);
}

/* ---- Sigma-space lists ----------------------------------------------------------------------- */

static enum ld_code resolve_shape(const struct ld_schedule_options *options, uint32_t n,
                                  struct ld_shape *shape, struct ld_error *err)
{
    const struct ld_sigma_table *table = options->table;
    *shape = (struct ld_shape){
        .table = table,
        .n = n,
        .sigma_min = isnan(options->sigma_min) ? ld_sigma_table_min(table) : options->sigma_min,
        .sigma_max = isnan(options->sigma_max) ? ld_sigma_table_max(table) : options->sigma_max,
        .rho = options->rho,
        .coefficient = options->coefficient,
        .alpha = options->alpha,
        .beta = options->beta,
        .mu = options->mu,
        .b = options->b,
        .denoise = options->denoise,
    };
    if (!(shape->sigma_min > 0 && shape->sigma_min < shape->sigma_max && shape->sigma_max <= 1e5))
        return LD_FAIL(err, LD_E_RANGE,
                       "sigma_min must be above 0 and below sigma_max, which is at most 100000");
    if (!isnan(shape->rho) && !(shape->rho >= 0.01 && shape->rho <= 100))
        return LD_FAIL(err, LD_E_RANGE, "rho must be between 0.01 and 100");
    if (!isnan(shape->mu) && !(fabs(shape->mu) <= 10))
        return LD_FAIL(err, LD_E_RANGE, "mu must be between -10 and 10");
    if (!isnan(shape->b) && !(shape->b >= 0.01 && shape->b <= 10))
        return LD_FAIL(err, LD_E_RANGE, "b must be between 0.01 and 10");
    return LD_OK;
}

static void note_range(struct ld_schedule *schedule, const struct ld_shape_list *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->values[i] <= 0)
            continue;
        schedule->uncut_sigma_max = fmax(schedule->uncut_sigma_max, list->values[i]);
        schedule->uncut_sigma_min = schedule->uncut_sigma_min > 0
                                        ? fmin(schedule->uncut_sigma_min, list->values[i])
                                        : list->values[i];
    }
}

/* Equal neighbours (a table with fewer entries than steps, a clamped end) are steps that would do
 * nothing: one of them goes. */
static void drop_repeats(struct ld_schedule *schedule, struct ld_shape_list *list)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < list->count; i++)
        if (kept == 0 || list->values[i] < list->values[kept - 1])
            list->values[kept++] = list->values[i];
    if (kept < list->count)
        warn(schedule, "%u steps that would not have changed the noise level were left out",
             list->count - kept);
    list->count = kept;
}

static enum ld_code copy_sigmas(struct ld_schedule *schedule, struct ld_arena *arena,
                                const double *sigmas, uint32_t count, struct ld_error *err)
{
    if (count == 1 && sigmas[0] == 0) /* cut down to its end: nothing to run, no noise to add */
        return LD_OK;
    schedule->sigmas = ld_arena_calloc(arena, count, sizeof *sigmas);
    if (!schedule->sigmas)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the schedule");
    memcpy(schedule->sigmas, sigmas, count * sizeof *sigmas);
    schedule->sigma_count = count;
    return LD_OK;
}

static enum ld_code build_sigmas(struct ld_schedule *schedule, struct ld_arena *arena,
                                 const struct ld_schedule_options *options, const struct cut *cut,
                                 struct ld_error *err)
{
    const bool discard = discards_penultimate(options, schedule->scheduler);
    const uint32_t n = cut->total + (discard ? 1 : 0);
    const uint32_t capacity = (n > LD_TIMESTEPS ? n : LD_TIMESTEPS) + 2;
    struct ld_shape shape;
    struct ld_shape_list list = {.values = ld_heap_calloc(capacity, sizeof(double))};
    enum ld_code code = LD_OK;
    if (!list.values) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory for the schedule");
        goto done;
    }
    code = resolve_shape(options, n, &shape, err);
    if (code != LD_OK)
        goto done;
    code = ld_scheduler_row_of(schedule->scheduler)->shape(&shape, &list, err);
    if (code != LD_OK)
        goto done;
    LD_ASSERT(list.count <= capacity);
    if (discard && list.count >= 2) {
        list.values[list.count - 2] = list.values[list.count - 1];
        list.count--;
    }
    note_range(schedule, &list);
    /* Profile a1111 counts its cut from the front of the list, comfy from the end. */
    uint32_t first = 0;
    if (profile_of(options) == LD_PROFILE_A1111)
        first = cut->total - cut->keep < list.count ? cut->total - cut->keep : list.count;
    else if (options->denoise <= 0.9999 && list.count > cut->keep + 1)
        first = list.count - (cut->keep + 1);
    list.values += first;
    list.count -= first;
    drop_repeats(schedule, &list);
    if (options->denoise >= 1 && list.count > 0 && list.count != options->steps + 1)
        warn(schedule, "this schedule runs %u steps instead of %u", list.count - 1, options->steps);
    code = copy_sigmas(schedule, arena, list.values, list.count, err);
    list.values -= first;
done:
    ld_heap_free(list.values);
    return code;
}

/* ---- Lists of integer timesteps -------------------------------------------------------------- */

bool ld_sampler_walks_timesteps(const struct ld_sampler_info *sampler, enum ld_profile profile)
{
    if (!sampler)
        return false;
    return (sampler->traits & LD_SAMPLER_VP) != 0 ||
           (profile == LD_PROFILE_A1111 && strcmp(sampler->name, "ddim") == 0);
}

static enum ld_spacing spacing_of(const struct ld_sampler_info *sampler)
{
    if (strcmp(sampler->name, "ddim_trailing") == 0)
        return LD_SPACING_TRAILING;
    if (strcmp(sampler->name, "tcd") == 0 || strcmp(sampler->name, "lcm_trailing") == 0)
        return LD_SPACING_DISTILLED;
    return LD_SPACING_UNIFORM; /* plms, and ddim of profile a1111 */
}

static double sigma_at(const struct ld_sigma_table *table, int32_t timestep)
{
    const double alpha = table->alphas_cumprod[timestep];
    return ld_float32(sqrt((1 - alpha) / alpha));
}

/* Sigmas for a list of timesteps, and a final 0. */
static enum ld_code adopt_timesteps(struct ld_schedule *schedule, struct ld_arena *arena,
                                    const struct ld_schedule_options *options,
                                    const int32_t *timesteps, uint32_t count, struct ld_error *err)
{
    if (count == 0)
        return LD_OK;
    schedule->sigmas = ld_arena_calloc(arena, count + 1, sizeof *schedule->sigmas);
    schedule->timesteps = ld_arena_calloc(arena, count, sizeof *timesteps);
    if (!schedule->sigmas || !schedule->timesteps)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the schedule");
    for (uint32_t i = 0; i < count; i++) {
        schedule->timesteps[i] = timesteps[i];
        schedule->sigmas[i] = sigma_at(options->table, timesteps[i]);
    }
    schedule->sigma_count = count + 1;
    if (!ld_sampler_walks_timesteps(options->sampler, profile_of(options)))
        schedule->timesteps = NULL; /* a sigma-space sampler just takes the sigmas */
    return LD_OK;
}

static enum ld_code build_timesteps(struct ld_schedule *schedule, struct ld_arena *arena,
                                    const struct ld_schedule_options *options,
                                    const struct cut *cut, enum ld_spacing spacing,
                                    struct ld_error *err)
{
    int32_t list[LD_TIMESTEPS + 1];
    const uint32_t total = cut->total < LD_TIMESTEPS ? cut->total : LD_TIMESTEPS;
    uint32_t count = ld_timesteps_spaced(spacing, total, list, LD_TIMESTEPS + 1);
    if (spacing == LD_SPACING_UNIFORM && count == 1) {
        list[0] = LD_TIMESTEPS - 1; /* its grid is {1} here, on which nothing would run */
        warn(schedule, "one step of this sampler is one Euler step from the highest noise level");
    }
    schedule->uncut_sigma_max = sigma_at(options->table, list[0]);
    schedule->uncut_sigma_min = sigma_at(options->table, list[count - 1]);
    schedule->timestep_total = total;
    uint32_t keep = count;
    if (options->denoise < 1 && cut->keep < count) {
        keep = cut->keep;
        /* A1111's DDIM walks from entry to entry and evaluates the last one never: one more. */
        if (spacing == LD_SPACING_UNIFORM && keep < count)
            keep++;
    }
    return adopt_timesteps(schedule, arena, options, list + (count - keep), keep, err);
}

/* ---- Entries --------------------------------------------------------------------------------- */

enum ld_code ld_schedule_build(struct ld_schedule *schedule, struct ld_arena *arena,
                               const struct ld_schedule_options *given, struct ld_error *err)
{
    struct ld_schedule_options options = *given;
    memset(schedule, 0, sizeof *schedule);
    if (!options.table)
        options.table = ld_sigma_table_default();
    const bool named = options.scheduler && options.scheduler[0];
    const struct ld_scheduler_info *scheduler =
        ld_scheduler_info_find(named ? options.scheduler : "automatic");
    if (!scheduler)
        return LD_FAIL(err, LD_E_NOT_FOUND, "unknown scheduler");
    const bool automatic = strcmp(scheduler->name, "automatic") == 0;
    if (automatic)
        scheduler = ld_scheduler_automatic(options.sampler);
    schedule->scheduler = scheduler;

    const bool a1111 = profile_of(&options) == LD_PROFILE_A1111;
    const bool turbo = strcmp(scheduler->name, "turbo") == 0;
    struct cut cut = {0};
    const enum ld_code code =
        plan_cut(&options, (scheduler->traits & LD_SCHEDULER_OWN_CUT) && !a1111, &cut, err);
    if (code != LD_OK || cut.total == 0)
        return code;
    if (turbo) { /* cuts at its noisy end by itself */
        cut = (struct cut){.total = options.steps, .keep = options.steps};
    }
    const bool spaced = (scheduler->traits & LD_SCHEDULER_SPACING) != 0;
    const bool walks = ld_sampler_walks_timesteps(options.sampler, profile_of(&options));
    if (walks && !spaced && !automatic)
        warn(schedule, "the sampler walks its own timesteps; the scheduler is not used");
    if (walks || spaced)
        return build_timesteps(
            schedule, arena, &options, &cut,
            spaced ? ld_scheduler_row_of(scheduler)->spacing : spacing_of(options.sampler), err);
    return build_sigmas(schedule, arena, &options, &cut, err);
}

enum ld_code ld_schedule_from_list(struct ld_schedule *schedule, struct ld_arena *arena,
                                   const struct ld_schedule_options *given, const double *sigmas,
                                   uint32_t count, struct ld_error *err)
{
    struct ld_schedule_options options = *given;
    memset(schedule, 0, sizeof *schedule);
    if (!options.table)
        options.table = ld_sigma_table_default();
    if (count < 2 || count > LD_SCHEDULE_STEPS_MAX + 1)
        return LD_FAIL(err, LD_E_RANGE, "sigmas must hold between 2 and %d values",
                       LD_SCHEDULE_STEPS_MAX + 1);
    for (uint32_t i = 0; i < count; i++) {
        const bool last = i + 1 == count;
        if (!(sigmas[i] <= 1e5 && (sigmas[i] > 0 || (last && sigmas[i] == 0))))
            return LD_FAIL(err, LD_E_RANGE,
                           "sigmas must lie above 0 and at most at 100000; the last may be 0");
        if (i > 0 && !((float)sigmas[i] < (float)sigmas[i - 1]))
            return LD_FAIL(err, LD_E_RANGE, "sigmas must be strictly decreasing");
    }
    enum ld_code code = copy_sigmas(schedule, arena, sigmas, count, err);
    if (code != LD_OK)
        return code;
    for (uint32_t i = 0; i < count; i++)
        schedule->sigmas[i] = ld_float32(sigmas[i]);
    note_range(schedule, &(struct ld_shape_list){schedule->sigmas, count});
    if (!ld_sampler_walks_timesteps(options.sampler, profile_of(&options)))
        return LD_OK;

    struct ld_sigma_table *nearest = ld_heap_alloc(sizeof *nearest);
    int32_t *timesteps = ld_heap_calloc(count, sizeof *timesteps);
    if (nearest && timesteps) {
        struct ld_sigma_table_config config = options.table->config;
        config.quantize = true;
        ld_sigma_table_init(nearest, &config);
        uint32_t kept = 0;
        for (uint32_t i = 0; i < count && sigmas[i] > 0; i++) {
            const int32_t t = (int32_t)ld_sigma_to_timestep(nearest, sigmas[i]);
            if (kept == 0 || t < timesteps[kept - 1])
                timesteps[kept++] = t;
        }
        schedule->timestep_total = kept;
        code = adopt_timesteps(schedule, arena, &options, timesteps, kept, err);
    } else {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory for the schedule");
    }
    ld_heap_free(nearest);
    ld_heap_free(timesteps);
    return code;
}

void ld_schedule_slice(struct ld_schedule *schedule, uint32_t start, uint32_t end,
                       bool leftover_noise)
{
    if (schedule->sigma_count > 0 && end < schedule->sigma_count - 1) {
        schedule->sigma_count = end + 1;
        if (!leftover_noise)
            schedule->sigmas[end] = 0;
    }
    if (schedule->sigma_count == 0 || start >= schedule->sigma_count - 1) {
        schedule->sigma_count = 0;
        return;
    }
    schedule->sigmas += start;
    schedule->sigma_count -= start;
    if (schedule->timesteps)
        schedule->timesteps += start;
}

uint32_t ld_timesteps_spaced(enum ld_spacing spacing, uint32_t steps, int32_t *out,
                             uint32_t capacity)
{
    LD_ASSERT(steps >= 1 && steps <= LD_TIMESTEPS && capacity >= LD_TIMESTEPS);
    const uint32_t stride = LD_TIMESTEPS / steps;
    /* The classic grid covers all timesteps, however many entries that takes. */
    const uint32_t points = spacing == LD_SPACING_UNIFORM ? (LD_TIMESTEPS - 1) / stride + 1 : steps;
    uint32_t count = 0;
    for (uint32_t i = 0; i < points; i++) {
        const uint32_t from_end = points - 1 - i;
        double t = 0;
        switch (spacing) {
        case LD_SPACING_TRAILING:
            t = rint(LD_TIMESTEPS - (double)i * LD_TIMESTEPS / steps) - 1;
            break;
        case LD_SPACING_LEADING:
            t = from_end * stride + 1;
            break;
        case LD_SPACING_LINSPACE:
            t = steps > 1 ? rint((double)from_end * (LD_TIMESTEPS - 1) / (steps - 1)) : 0;
            break;
        case LD_SPACING_UNIFORM:
            t = from_end * stride + 1;
            break;
        case LD_SPACING_DISTILLED: {
            const uint32_t every = LD_TIMESTEPS / LD_TIMESTEPS_DISTILLED;
            const uint32_t element = i * LD_TIMESTEPS_DISTILLED / steps;
            t = LD_TIMESTEPS - 1 - every * element;
            break;
        }
        }
        const int32_t timestep = (int32_t)fmin(t, LD_TIMESTEPS - 1);
        if (count == 0 || timestep < out[count - 1])
            out[count++] = timestep;
    }
    return count;
}
