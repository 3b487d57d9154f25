/*
 * Schedules: a step count becomes the decreasing list of sigmas a sampler walks. This is the one
 * entry for it; profile, sampler and strength decide together what is cut from the list.
 *
 *     struct ld_schedule_options options = ld_schedule_options_default();
 *     options.table = &table;                       // carries the profile
 *     options.scheduler = "karras";
 *     options.sampler = ld_sampler_info_find("dpmpp_2m");
 *     options.steps = 28;
 *     ld_schedule_build(&schedule, &arena, &options, &err);
 *     // schedule.sigmas[schedule.sigma_count] and, for VP-space samplers, schedule.timesteps
 *
 * Values are float32 widened to double, computed in float32 where the reference does so: a sigma
 * that differs in its last bits gives a slightly different picture for the same seed.
 *
 * Source: sampling.md 1.5 and 2, and the papers cited there.
 */
#ifndef LD_SAMPLE_SCHEDULE_H
#define LD_SAMPLE_SCHEDULE_H

#include "runtime/sample/sampler.h"
#include "runtime/sample/tables.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LD_SCHEDULE_STEPS_MAX = 10000,
    /* A strength s makes the schedule of steps / s steps and keeps its tail; this bounds it. */
    LD_SCHEDULE_TOTAL_MAX = 20000,
    LD_SCHEDULE_WARNINGS_MAX = 4,
    LD_SCHEDULE_WARNING_SIZE = 160
};

/* ---- What exists ----------------------------------------------------------------------------- */

enum ld_scheduler_trait {
    LD_SCHEDULER_EXPLICIT = 1 << 0, /* a list of its own: comfy discards no penultimate sigma */
    LD_SCHEDULER_OWN_CUT = 1 << 1,  /* a strength runs fewer steps instead of denser ones */
    LD_SCHEDULER_SPACING = 1 << 2   /* picks integer timesteps, what VP-space samplers walk */
};

struct ld_scheduler_info {
    const char *name;    /* as in ComfyUI where it has one */
    const char *label;   /* A1111's display name, or our own */
    const char *aliases; /* comma-separated, every dialect */
    const char *hint;    /* one line for people */
    uint32_t traits;
};

uint32_t ld_scheduler_info_count(void);
const struct ld_scheduler_info *ld_scheduler_info_at(uint32_t index);
/* By name, label or alias, case-insensitive; NULL if unknown. "automatic" is known. */
const struct ld_scheduler_info *ld_scheduler_info_find(const char *name);

/* What "automatic" means for a sampler (NULL: no particular one); never "automatic" itself. */
const struct ld_scheduler_info *ld_scheduler_automatic(const struct ld_sampler_info *sampler);

/* ---- Building -------------------------------------------------------------------------------- */

struct ld_schedule_options {
    const struct ld_sigma_table *table;    /* NULL: SD1.5's in profile comfy */
    const char *scheduler;                 /* any known name; NULL or "": automatic */
    const struct ld_sampler_info *sampler; /* NULL: no sampler's rules apply */
    uint32_t steps;
    double denoise;   /* strength: 1 = whole schedule, 0 = nothing runs */
    bool exact_steps; /* a1111: `steps` run whatever the strength (hires pass) */
    enum ld_tristate discard_penultimate; /* unset: as the sampler wants */
    /* NAN: the scheduler's own. Which scheduler reads which: sampling.md 2. */
    double rho, sigma_min, sigma_max, coefficient, alpha, beta, mu, b;
};

struct ld_schedule {
    const struct ld_scheduler_info *scheduler; /* resolved; NULL for an explicit list */
    double *sigmas;       /* [sigma_count], owned by the arena; strictly decreasing */
    uint32_t sigma_count; /* steps + 1, or 0 where nothing is to run */
    int32_t *timesteps;   /* [sigma_count - 1] where the sampler walks timesteps, else NULL */
    uint32_t
        timestep_total; /* steps the spacing was made for; more than run where a strength cuts */
    /* Largest and smallest positive sigma before the strength's cut: the range of the Brownian
     * tree in profile a1111. */
    double uncut_sigma_max, uncut_sigma_min;
    uint32_t warning_count;
    char warnings[LD_SCHEDULE_WARNINGS_MAX][LD_SCHEDULE_WARNING_SIZE];
};

struct ld_schedule_options ld_schedule_options_default(void);

/*
 * Owner    lists come from `arena`; nothing to free.
 * Errors   LD_E_NOT_FOUND (scheduler), LD_E_RANGE (steps, strength, an option), LD_E_NOMEM.
 */
enum ld_code ld_schedule_build(struct ld_schedule *schedule, struct ld_arena *arena,
                               const struct ld_schedule_options *options,
                               struct ld_error *err) LD_MUST_USE;

/*
 * An explicit list instead of a scheduler: positive and strictly decreasing, the last may be 0. It
 * is used as it is, strength and penultimate rule do not apply; VP-space samplers get the nearest
 * timesteps.
 * Errors   LD_E_RANGE, LD_E_NOMEM.
 */
enum ld_code ld_schedule_from_list(struct ld_schedule *schedule, struct ld_arena *arena,
                                   const struct ld_schedule_options *options, const double *sigmas,
                                   uint32_t count, struct ld_error *err) LD_MUST_USE;

/*
 * Keep the steps from `start` to `end` (ComfyUI's advanced sampler). Without `leftover_noise` a
 * list cut at its end finishes at 0.
 */
void ld_schedule_slice(struct ld_schedule *schedule, uint32_t start, uint32_t end,
                       bool leftover_noise);

/* Does this sampler walk integer timesteps? `ddim` does in profile a1111 only. */
bool ld_sampler_walks_timesteps(const struct ld_sampler_info *sampler, enum ld_profile profile);

/* ---- Integer timesteps (sampling.md 2.2) ----------------------------------------------------- */

enum ld_spacing {
    LD_SPACING_TRAILING,
    LD_SPACING_LEADING,
    LD_SPACING_LINSPACE,
    LD_SPACING_UNIFORM,  /* A1111's DDIM and PLMS; may have one entry more than asked for */
    LD_SPACING_DISTILLED /* TCD and LCM: from the 50 timesteps of distillation */
};

/* Descending timesteps into out[capacity]; how many there are. Usually `steps`, but UNIFORM covers
 * the whole range, and DISTILLED has at most 50. `steps` in 1..1000, capacity at least 1000. */
uint32_t ld_timesteps_spaced(enum ld_spacing spacing, uint32_t steps, int32_t *out,
                             uint32_t capacity);

#ifdef __cplusplus
}
#endif
#endif
