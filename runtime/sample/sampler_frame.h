/*
 * What all samplers share, and what one has to supply. A sampler cannot block on the model, so it
 * is written as the code between two evaluations: the frame asks for the denoised estimate at the
 * start of each step, then calls `step` once for every estimate that arrives. `step` either asks
 * for another one within the same step (ld_sampler_ask) or returns, and the frame goes on to the
 * next step.
 *
 *     static enum ld_code euler_step(struct ld_sampler *s, struct ld_error *err)
 *     {
 *         const double w = s->sigma_next / s->sigma;
 *         LD_COMBINE(s, s->x, {w, s->x}, {1 - w, s->denoised});
 *         return LD_OK;
 *     }
 *
 * Internal to the sampler files; sampler.h is the way in.
 */
#ifndef LD_SAMPLE_SAMPLER_FRAME_H
#define LD_SAMPLE_SAMPLER_FRAME_H

#include "runtime/sample/lincomb.h"
#include "runtime/sample/sampler.h"
#include "runtime/sample/tables.h"

enum { LD_SAMPLER_SLOTS_MAX = 12 };

struct ld_sampler_kind {
    size_t state_size; /* of the sampler's own struct, zeroed at s->state */
    uint32_t slots;    /* tensors it needs besides x, at s->slot[] */
    /* Once, after everything else stands. May be NULL. */
    enum ld_code (*begin)(struct ld_sampler *s, struct ld_error *err);
    /* At the start of a step: must ask. NULL asks at x and sigma. */
    enum ld_code (*open)(struct ld_sampler *s, struct ld_error *err);
    /* The sigma that noise drawn after the evaluation at hand leads to; NULL: sigma_next. Only a
     * hint, for drawing it ahead. */
    double (*noise_to)(const struct ld_sampler *s);
    /* An estimate has arrived (s->denoised, s->uncond); s->phase counts those of this step. */
    enum ld_code (*step)(struct ld_sampler *s, struct ld_error *err);
};

/* One row of the registry, sampler_table.c. */
struct ld_sampler_row {
    struct ld_sampler_info info;
    const struct ld_sampler_kind *kind;
    double eta;    /* what NAN in the options means */
    int32_t order; /* what 0 means; also the highest order there is */
};

struct ld_sampler {
    const struct ld_sampler_row *row;
    const struct ld_sampler_kind *kind;
    struct ld_sampler_options options; /* resolved, nothing is NAN or 0 for "default" */
    struct ld_noise_source noise;
    const struct ld_sigma_table *table;
    struct ld_arena *arena;

    double *sigmas; /* [steps + 1], strictly decreasing */
    uint32_t steps;
    const int32_t *timesteps; /* [steps], VP space only */
    uint32_t timestep_total;
    double *x; /* [count], the caller's */
    size_t count;
    double *slot[LD_SAMPLER_SLOTS_MAX];
    void *state;

    /* The step at hand. `sigma` is sigmas[i] unless churn raised it. */
    uint32_t i;
    uint32_t phase;
    double sigma, sigma_next;

    /* The evaluation at hand. */
    bool asked;
    bool reopened; /* set beside an ask that starts anew: the next phase is 0 */
    const double *ask_x;
    double ask_sigma;
    uint32_t ask_step; /* for progress; i unless the sampler says otherwise */
    uint32_t call;
    const double *denoised, *uncond; /* within step() only */
    enum ld_sampler_status status;
};

/* Request the denoised estimate at (x, sigma); `x` must stay untouched until it arrives. */
void ld_sampler_ask(struct ld_sampler *s, const double *x, double sigma);

/* No further step, whatever is left of the list. */
void ld_sampler_finish(struct ld_sampler *s);

/* Fill `out` from a noise stream. */
enum ld_code ld_sampler_draw(struct ld_sampler *s, enum ld_noise_stream stream, double from,
                             double to, double *out, struct ld_error *err) LD_MUST_USE;

/* x += scale * s_noise * z with z from the ancestral stream, drawn for the present step; `scratch`
 * holds z afterwards. */
enum ld_code ld_sampler_add_noise(struct ld_sampler *s, double scale, double *scratch,
                                  struct ld_error *err) LD_MUST_USE;

/* Raise the noise of x from sigmas[i] to s->sigma, if the options ask for it, then ask at x. A
 * shared `open`; `always_draw` for samplers that take a tensor from the stream either way. */
enum ld_code ld_sampler_churn(struct ld_sampler *s, bool always_draw, double *scratch,
                              struct ld_error *err) LD_MUST_USE;

/* Split a step from `from` to `to` into a deterministic part down to `down` and fresh noise `up`.
 */
void ld_ancestral_split(double from, double to, double eta, double *down, double *up);

/* Exchange two slots: how a newest tensor becomes a previous one without a copy. */
void ld_slot_swap(struct ld_sampler *s, uint32_t a, uint32_t b);

/* dst = sum of weighted tensors: LD_COMBINE(s, dst, {w, x}, {v, y}). */
#define LD_COMBINE(s, dst, ...)                                                                    \
    ld_lincomb((dst), (const struct ld_term[]){__VA_ARGS__},                                       \
               sizeof((const struct ld_term[]){__VA_ARGS__}) / sizeof(struct ld_term), (s)->count)

/* x becomes a copy of `src`: the last step of most samplers. */
void ld_sampler_take(struct ld_sampler *s, const double *src);

/* ---- Kinds ----------------------------------------------------------------------------------- */

extern const struct ld_sampler_kind ld_kind_euler, ld_kind_euler_ancestral, ld_kind_euler_cfg_pp;
extern const struct ld_sampler_kind ld_kind_heun, ld_kind_heunpp2;
extern const struct ld_sampler_kind ld_kind_dpm_2, ld_kind_dpm_2_ancestral;
extern const struct ld_sampler_kind ld_kind_dpmpp_2s_ancestral, ld_kind_dpmpp_2s_ancestral_cfg_pp;
extern const struct ld_sampler_kind ld_kind_dpmpp_sde;
extern const struct ld_sampler_kind ld_kind_ddpm, ld_kind_lcm;
extern const struct ld_sampler_kind ld_kind_seeds_2, ld_kind_seeds_3;
extern const struct ld_sampler_kind ld_kind_dpmpp_2m, ld_kind_dpmpp_2m_cfg_pp;
extern const struct ld_sampler_kind ld_kind_dpmpp_2m_sde, ld_kind_dpmpp_2m_sde_heun,
    ld_kind_dpmpp_3m_sde;
extern const struct ld_sampler_kind ld_kind_gradient_estimation, ld_kind_gradient_estimation_cfg_pp;
extern const struct ld_sampler_kind ld_kind_lms, ld_kind_ipndm, ld_kind_ipndm_v, ld_kind_deis;
extern const struct ld_sampler_kind ld_kind_res_multistep, ld_kind_res_multistep_cfg_pp;
extern const struct ld_sampler_kind ld_kind_er_sde, ld_kind_sa_solver, ld_kind_sa_solver_pece;
extern const struct ld_sampler_kind ld_kind_uni_pc, ld_kind_uni_pc_bh2;
extern const struct ld_sampler_kind ld_kind_dpm_fast, ld_kind_dpm_adaptive;
extern const struct ld_sampler_kind ld_kind_ddim, ld_kind_ddim_trailing, ld_kind_plms, ld_kind_tcd,
    ld_kind_lcm_trailing;
extern const struct ld_sampler_kind ld_kind_restart;

const struct ld_sampler_row *ld_sampler_row_of(const struct ld_sampler_info *info);

#endif
