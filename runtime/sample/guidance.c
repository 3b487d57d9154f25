#include "runtime/sample/guidance.h"

#include "runtime/sample/guidance_area.h"
#include "runtime/sample/guidance_attention.h"
#include "runtime/sample/guidance_range.h"
#include "runtime/sample/guidance_threshold.h"

#include <math.h>
#include <string.h>

struct ld_guidance {
    struct ld_request_guidance options;
    struct ld_guidance_config config;
    double sigma_max;
    double negative_high, negative_low; /* sigmas between which the negative acts */
    bool auto_cfg;
    enum ld_range_mode auto_mode;
    enum ld_scale_mode mimic_mode, cfg_mode;
    bool threshold_from_zero, threshold_deviation;
    double last_scale; /* Automatic CFG: the last scale that guided at all */
    struct ld_uncond_zero uncond_zero;
    struct ld_apg apg;
    double *zero;                 /* [count], never written */
    double *cond;                 /* [count] working copy of C */
    double *uncond;               /* [count] working copy of U */
    double *scratch;              /* 2 count */
    double *degraded, *sag_x;     /* SAG */
    const double *sampler_uncond; /* of the last call */
};

/* ---- Creation -------------------------------------------------------------------------------- */

static enum ld_code name_error(struct ld_error *err, const char *field, const char *value)
{
    return LD_FAIL(err, LD_E_INVALID, "guidance.%s: \"%.32s\" is not known", field, value);
}

static bool given(const char *text)
{
    return text && text[0];
}

static enum ld_code resolve_names(struct ld_guidance *g, struct ld_error *err)
{
    const struct ld_request_guidance *o = &g->options;
    g->auto_cfg = given(o->auto_cfg);
    if (g->auto_cfg && !ld_range_mode_named(o->auto_cfg, &g->auto_mode))
        return name_error(err, "auto_cfg.mode", o->auto_cfg);
    if (!o->dynamic_threshold)
        return LD_OK;
    if (given(o->dt_mimic_mode) && !ld_scale_mode_named(o->dt_mimic_mode, &g->mimic_mode))
        return name_error(err, "dynamic_threshold.mimic_mode", o->dt_mimic_mode);
    if (given(o->dt_cfg_mode) && !ld_scale_mode_named(o->dt_cfg_mode, &g->cfg_mode))
        return name_error(err, "dynamic_threshold.cfg_mode", o->dt_cfg_mode);
    g->threshold_from_zero = given(o->dt_start) && strcmp(o->dt_start, "zero") == 0;
    if (given(o->dt_start) && !g->threshold_from_zero && strcmp(o->dt_start, "mean") != 0)
        return name_error(err, "dynamic_threshold.start", o->dt_start);
    g->threshold_deviation = given(o->dt_variability) && strcmp(o->dt_variability, "std") == 0;
    if (given(o->dt_variability) && !g->threshold_deviation && strcmp(o->dt_variability, "ad") != 0)
        return name_error(err, "dynamic_threshold.variability", o->dt_variability);
    return LD_OK;
}

static bool take(struct ld_arena *arena, double **tensor, size_t count)
{
    *tensor = ld_arena_calloc(arena, count, sizeof(double));
    return *tensor != NULL;
}

/* Tensors that an option needs, and no others: plain guidance keeps only the zero tensor. */
static bool take_tensors(struct ld_guidance *g, struct ld_arena *arena)
{
    const struct ld_request_guidance *o = &g->options;
    const size_t count = ld_latent_count(g->config.shape);
    const bool measured = g->auto_cfg || o->uncond_zero || o->dynamic_threshold || o->sag != 0;
    return take(arena, &g->zero, count) &&
           (!(o->uncond_zero || o->apg) || take(arena, &g->cond, count)) &&
           (o->uncond_scale == 1.0 || take(arena, &g->uncond, count)) &&
           (!measured || take(arena, &g->scratch, 2 * count + (size_t)g->config.shape.width)) &&
           (!o->uncond_zero || take(arena, &g->uncond_zero.previous, count)) &&
           (!(o->apg && o->apg_momentum != 0) || take(arena, &g->apg.running, count)) &&
           (o->sag == 0 || (take(arena, &g->degraded, count) && take(arena, &g->sag_x, count)));
}

enum ld_code ld_guidance_create(struct ld_guidance **out, struct ld_arena *arena,
                                const struct ld_guidance_config *config, struct ld_error *err)
{
    struct ld_guidance *g = ld_arena_alloc(arena, sizeof *g);
    if (!g)
        return LD_FAIL(err, LD_E_NOMEM, "no memory for the guidance of this job");
    g->config = *config;
    g->options = *config->options;
    g->config.options = &g->options;
    const enum ld_code code = resolve_names(g, err);
    if (code != LD_OK)
        return code;
    const struct ld_request_guidance *o = &g->options;
    g->sigma_max = ld_sigma_table_max(config->table);
    g->negative_high = ld_percent_to_sigma(config->table, o->negative_start);
    g->negative_low = ld_percent_to_sigma(config->table, o->negative_end);
    g->last_scale = 8.0; /* Automatic CFG's reference, sampling.md 5.5 */
    g->uncond_zero = (struct ld_uncond_zero){.scale = o->uncond_zero_scale,
                                             .pre_scale = o->uncond_zero_pre_scale,
                                             .pre_fix = o->uncond_zero_pre_fix,
                                             .sigma_max = g->sigma_max};
    g->apg = (struct ld_apg){
        .eta = o->apg_eta, .threshold = o->apg_threshold, .momentum = o->apg_momentum};
    if (!take_tensors(g, arena))
        return LD_FAIL(err, LD_E_NOMEM, "no memory for the guidance of this job");
    g->sampler_uncond = g->zero;
    *out = g;
    return LD_OK;
}

/* ---- What a call needs ----------------------------------------------------------------------- */

static bool scale_is_one(double scale)
{
    return fabs(scale - 1.0) <= 1e-9 * fmax(1.0, fabs(scale));
}

/* The rules of sampling.md 5.3 by which a call does without its negative. */
static bool skips_negative(const struct ld_guidance *g, double sigma, uint32_t call)
{
    const struct ld_request_guidance *o = &g->options;
    if (!isnan(o->skip_above_sigma) && sigma > o->skip_above_sigma)
        return true;
    if (!isnan(o->skip_below_sigma) && sigma < o->skip_below_sigma)
        return true;
    if (o->ngms > 0 && sigma < o->ngms && (g->config.ngms_all_calls || call % 2 == 1))
        return true;
    if (o->skip_early != 0 && g->config.total_calls > 0 &&
        (double)call / (double)g->config.total_calls <= o->skip_early)
        return true;
    return g->auto_cfg && o->auto_cfg_boost && sigma < 1.0;
}

static enum ld_guidance_rule rule_of(const struct ld_guidance *g, bool skip, bool active,
                                     bool needs_uncond)
{
    const struct ld_request_guidance *o = &g->options;
    const bool one = scale_is_one(g->config.scale) && !g->config.composed_and && !needs_uncond;
    if (skip)
        return LD_RULE_COND;
    if (o->perp_neg != 0)
        return LD_RULE_PERP_NEG;
    if (!active || (one && o->uncond_zero))
        return one && !o->uncond_zero ? LD_RULE_COND : LD_RULE_ZERO;
    return one ? LD_RULE_COND : LD_RULE_FULL;
}

struct ld_guidance_plan ld_guidance_plan(const struct ld_guidance *guidance, double sigma,
                                         uint32_t call, bool needs_uncond)
{
    const struct ld_request_guidance *o = &guidance->options;
    const bool active = ld_sigma_in_range(sigma, guidance->negative_high, guidance->negative_low);
    const bool skip = skips_negative(guidance, sigma, call);
    const bool sag = o->sag != 0 && active && ld_sag_possible(guidance->config.shape);
    struct ld_guidance_plan plan = {.sigma = sigma, .call = call, .rows = LD_ROW_COND};
    plan.rule = rule_of(guidance, skip, active, needs_uncond);
    plan.and_base_is_cond = plan.rule == LD_RULE_COND;
    plan.keep_attention = sag;
    const bool guides = plan.rule == LD_RULE_FULL || plan.rule == LD_RULE_PERP_NEG;
    if (active && (guides || needs_uncond || sag))
        plan.rows |= LD_ROW_UNCOND;
    if (plan.rule == LD_RULE_PERP_NEG)
        plan.rows |= LD_ROW_EMPTY;
    if (o->pag != 0)
        plan.rows |= LD_ROW_PERTURBED;
    if (sag)
        plan.rows |= LD_ROW_SAG;
    return plan;
}

/* ---- Self attention guidance ----------------------------------------------------------------- */

void ld_guidance_sag(struct ld_guidance *guidance, const double *x, const double *uncond,
                     const float *attention, int32_t tokens)
{
    LD_ASSERT(guidance->degraded && guidance->sag_x);
    ld_sag_degrade(guidance->degraded, uncond, attention, tokens, guidance->options.sag_blur,
                   guidance->config.shape, guidance->scratch);
    ld_sag_input(guidance->sag_x, guidance->degraded, x, uncond,
                 ld_latent_count(guidance->config.shape));
}

const double *ld_guidance_sag_x(const struct ld_guidance *guidance)
{
    return guidance->sag_x;
}

/* ---- Combination ----------------------------------------------------------------------------- */

static void threshold(const struct ld_guidance *g, double sigma, const double *cond,
                      const double *uncond, double *denoised)
{
    const struct ld_request_guidance *o = &g->options;
    /* Share of the run, measured in timesteps as ComfyUI's node does. */
    const double last = (double)(LD_TIMESTEPS - 1);
    const double f = (last - ld_sigma_to_timestep(g->config.table, sigma)) / last;
    const struct ld_threshold options = {
        .scale = ld_scale_at(g->config.scale, o->dt_cfg_min, g->cfg_mode, f, o->dt_sched_value),
        .mimic =
            ld_scale_at(o->dt_mimic_scale, o->dt_mimic_min, g->mimic_mode, f, o->dt_sched_value),
        .percentile = o->dt_percentile,
        .phi = o->dt_phi,
        .per_channel = o->dt_per_channel,
        .from_zero = g->threshold_from_zero,
        .deviation = g->threshold_deviation,
    };
    ld_dynamic_threshold(denoised, cond, uncond, &options, g->config.shape, g->scratch);
}

/* The main rule, for C and U as they are after strength and APG. */
static void main_rule(struct ld_guidance *g, const struct ld_guidance_plan *plan,
                      const struct ld_guidance_rows *rows, const double *cond, const double *uncond,
                      double *denoised)
{
    const struct ld_request_guidance *o = &g->options;
    const size_t count = ld_latent_count(g->config.shape);
    const double s = g->config.scale;
    if (plan->rule == LD_RULE_COND) {
        memcpy(denoised, cond, count * sizeof *denoised);
    } else if (plan->rule == LD_RULE_PERP_NEG) {
        /* Out of its range the negative says no more than the empty prompt. */
        const double *negative = (plan->rows & LD_ROW_UNCOND) ? uncond : rows->empty;
        ld_perp_neg(denoised, cond, negative, rows->empty, s, o->perp_neg, count);
    } else if (o->dynamic_threshold) {
        threshold(g, plan->sigma, cond, uncond, denoised);
    } else if (o->uncond_zero) {
        if (cond != g->cond)
            memcpy(g->cond, cond, count * sizeof *cond);
        ld_uncond_zero(&g->uncond_zero, denoised, g->cond,
                       plan->rule == LD_RULE_ZERO ? NULL : uncond, plan->sigma, s, g->config.shape,
                       g->scratch);
    } else if (g->auto_cfg) {
        if (s > 1.0 || plan->sigma >= g->sigma_max)
            g->last_scale = s;
        ld_auto_cfg(denoised, cond, uncond, g->last_scale, g->auto_mode, g->config.shape,
                    g->scratch);
    } else {
        ld_cfg(denoised, cond, uncond, s, count);
    }
}

void ld_guidance_combine(struct ld_guidance *guidance, const struct ld_guidance_plan *plan,
                         const struct ld_guidance_rows *rows, double *denoised)
{
    struct ld_guidance *g = guidance;
    const struct ld_request_guidance *o = &g->options;
    const size_t count = ld_latent_count(g->config.shape);
    const bool has_uncond = (plan->rows & LD_ROW_UNCOND) != 0;
    const bool full = has_uncond && plan->rule != LD_RULE_COND && plan->rule != LD_RULE_ZERO;
    LD_ASSERT(rows->cond && (!has_uncond || rows->uncond));
    LD_ASSERT(plan->rule != LD_RULE_PERP_NEG || rows->empty);
    const double *cond = rows->cond;
    g->sampler_uncond = has_uncond ? rows->uncond : g->zero;
    const double *uncond = plan->rule == LD_RULE_ZERO ? g->zero : g->sampler_uncond;

    /* Automatic CFG's own bounds of where the negative's strength applies. */
    if (full && o->uncond_scale != 1.0 && plan->sigma >= 1.0 && plan->sigma <= 15.0) {
        memcpy(g->uncond, uncond, count * sizeof *uncond);
        ld_negative_strength(g->uncond, cond, o->uncond_scale, count);
        uncond = g->uncond;
    }
    if (o->apg && plan->rule == LD_RULE_FULL && g->config.scale != 0) {
        memcpy(g->cond, cond, count * sizeof *cond);
        ld_apg_fold(&g->apg, g->cond, uncond, g->config.scale, count);
        cond = g->cond;
    }
    main_rule(g, plan, rows, cond, uncond, denoised);
    if (full && o->rescale != 0)
        ld_cfg_rescale(denoised, rows->cond, rows->x, plan->sigma, o->rescale, count);
    if ((plan->rows & LD_ROW_PERTURBED) && rows->perturbed)
        ld_guidance_push(denoised, rows->cond, rows->perturbed, o->pag, count);
    if ((plan->rows & LD_ROW_SAG) && rows->sag)
        ld_guidance_push(denoised, g->degraded, rows->sag, o->sag, count);
    if (o->epsilon_scale != 1.0)
        ld_epsilon_scale(denoised, rows->x, o->epsilon_scale, count);
}

const double *ld_guidance_uncond(const struct ld_guidance *guidance)
{
    return guidance->sampler_uncond;
}
