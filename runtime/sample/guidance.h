/*
 * Guidance of one image's run: says before each denoiser call which estimates the model must make,
 * and afterwards combines them into the one the sampler gets. Asking first is what saves the
 * negative's half of the work wherever a rule does without it.
 *
 *     ld_guidance_create(&guidance, &arena, &config, &err);
 *     ...
 *     struct ld_guidance_plan plan = ld_guidance_plan(guidance, eval.sigma, eval.call,
 *                                                     eval.needs_uncond);
 *     // evaluate plan.rows, at eval.x: C always, U, E, the perturbed C as told
 *     if (plan.rows & LD_ROW_SAG)
 *         ld_guidance_sag(guidance, rows.x, rows.uncond, attention, tokens);
 *         // and evaluate the negative once more, at ld_guidance_sag_x(guidance)
 *     ld_guidance_combine(guidance, &plan, &rows, denoised);
 *     // the sampler's U, where it asked for one: ld_guidance_uncond(guidance)
 *
 * Order within a call: prompts composed (guidance_area.h, before this) -> strength of the negative
 * -> APG -> one main rule, the first that is on of Perp-Neg, dynamic thresholding, Uncond-Zero,
 * Automatic CFG, plain -> RescaleCFG -> PAG -> SAG -> epsilon scaling. The inpaint blend follows
 * outside.
 *
 * Source: sampling.md 5.
 */
#ifndef LD_SAMPLE_GUIDANCE_H
#define LD_SAMPLE_GUIDANCE_H

#include "runtime/base/arena.h"
#include "runtime/params.h"
#include "runtime/sample/guidance_math.h"
#include "runtime/sample/tables.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Estimates of one call; each set bit is one UNet row (or one per prompt part). */
enum ld_guidance_row {
    LD_ROW_COND = 1 << 0,
    LD_ROW_UNCOND = 1 << 1,    /* the negative prompt */
    LD_ROW_EMPTY = 1 << 2,     /* an empty prompt: Perp-Neg */
    LD_ROW_PERTURBED = 1 << 3, /* the positive, middle self-attention replaced by its V: PAG */
    LD_ROW_SAG = 1 << 4        /* the negative again at another x, after the others */
};

enum ld_guidance_rule {
    LD_RULE_COND,    /* D = C */
    LD_RULE_ZERO,    /* the negative is out of its range: U is a zero tensor */
    LD_RULE_FULL,    /* C and U */
    LD_RULE_PERP_NEG /* C, U and E */
};

struct ld_guidance_plan {
    double sigma;
    uint32_t call;
    uint32_t rows; /* enum ld_guidance_row bits */
    enum ld_guidance_rule rule;
    bool keep_attention;   /* the negative's row must record the middle block's attention (SAG) */
    bool and_base_is_cond; /* AND: compose against the first part instead of U (sampling.md 5.3) */
};

struct ld_guidance_config {
    const struct ld_request_guidance *options; /* copied */
    const struct ld_sigma_table *table;        /* borrowed; gives sigma_max, ranges and timesteps */
    double scale;                              /* cfg_scale of this pass */
    uint32_t total_calls; /* denoiser calls of the run: steps, twice that for second order */
    bool ngms_all_calls;  /* NGMS on even calls too */
    bool composed_and;    /* the prompt has AND parts: U is needed even at scale 1 */
    struct ld_latent_shape shape;
};

/* What was evaluated, each [channels, height, width] of this image, NULL where the plan has no such
 * row. Borrowed. */
struct ld_guidance_rows {
    const double *x;
    const double *cond, *uncond, *empty, *perturbed, *sag;
};

struct ld_guidance;

/*
 * State and scratch come from `arena`: at most eight tensors, only those that the options need.
 * Errors   LD_E_NOMEM; LD_E_INVALID for a mode name that is not known.
 */
enum ld_code ld_guidance_create(struct ld_guidance **out, struct ld_arena *arena,
                                const struct ld_guidance_config *config,
                                struct ld_error *err) LD_MUST_USE;

/* Pure: asking again gives the same answer. `needs_uncond`: the sampler wants U (CFG++). */
struct ld_guidance_plan ld_guidance_plan(const struct ld_guidance *guidance, double sigma,
                                         uint32_t call, bool needs_uncond);

/* Between the rows and SAG's own: blur where the negative's middle block attended. `attention` as
 * in ld_sag_degrade. */
void ld_guidance_sag(struct ld_guidance *guidance, const double *x, const double *uncond,
                     const float *attention, int32_t tokens);
/* Where the negative is to be evaluated again; good until the next ld_guidance_sag. */
const double *ld_guidance_sag_x(const struct ld_guidance *guidance);

/* D into `denoised` [count], which must not alias a row. Once per call, in order: rules with a
 * memory (Uncond-Zero, APG, Automatic CFG) move on here. */
void ld_guidance_combine(struct ld_guidance *guidance, const struct ld_guidance_plan *plan,
                         const struct ld_guidance_rows *rows, double *denoised);

/* The unconditional estimate of the last combined call for a CFG++ sampler: U, or a zero tensor
 * where the negative was out of its range. Good until the next combine. */
const double *ld_guidance_uncond(const struct ld_guidance *guidance);

#ifdef __cplusplus
}
#endif
#endif
