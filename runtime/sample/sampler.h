/*
 * Samplers as state machines. A sampler never calls the model: it says at which x and sigma it
 * wants the denoised estimate, is given it, and goes on. So one engine tick can gather the pending
 * evaluations of many sessions, whatever their samplers, into one UNet pass.
 *
 *     ld_sampler_create(&sampler, &arena, &config, noise, x, &err);
 *     while (ld_sampler_next(sampler, &eval) == LD_SAMPLER_EVAL) {
 *         denoise(eval.x, eval.sigma, denoised, uncond);
 *         ld_sampler_accept(sampler, denoised, uncond);
 *     }
 *     // x now holds the result
 *
 * State is kept in double: the reference trajectories are met to 1e-10, and the cost is nothing
 * beside a UNet pass. All tensor arithmetic goes through ld_lincomb, a weighted sum of tensors, so
 * that a device backend can run the same samplers with its own kernel.
 *
 * Source: sampling.md section 3 and the papers cited there.
 */
#ifndef LD_SAMPLE_SAMPLER_H
#define LD_SAMPLE_SAMPLER_H

#include "runtime/base/arena.h"

#include <stdbool.h>

/* ---- Noise as a sampler sees it -------------------------------------------------------------- */

enum ld_noise_stream {
    LD_NOISE_ANCESTRAL, /* stream A */
    LD_NOISE_BROWNIAN,  /* stream B: normalised increment from sigma `from` to sigma `to` */
    LD_NOISE_CHURN      /* stream G */
};

/* Draws come in the order in which the reference draws them, discarded ones included. */
struct ld_noise_source {
    void *state;
    /* Fill out[count] with standard normals (BROWNIAN: the normalised increment). `from` and `to`
     * are sigmas, meaningful for BROWNIAN only. */
    enum ld_code (*draw)(void *state, enum ld_noise_stream stream, double from, double to,
                         double *out, size_t count, struct ld_error *err);
};

/* ---- The state machine ----------------------------------------------------------------------- */

struct ld_sampler_options {
    double eta;                /* NAN: the sampler's own default */
    double s_noise;            /* 1 */
    double s_churn;            /* 0 */
    double s_tmin;             /* 0 */
    double s_tmax;             /* infinity */
    double gamma;              /* gradient_estimation, 2 */
    double r;                  /* dpmpp_sde and seeds_2, NAN: 1/2 */
    bool solver_heun;          /* dpmpp_2m_sde: heun instead of midpoint */
    bool extrapolate_last;     /* pre-July-2025 last step of gradient_estimation, lms, ipndm(_v) */
    double rtol, atol, h_init; /* dpm_adaptive: 0.05, 0.0078, 0.05 */
    int32_t order;             /* lms, deis, ipndm...: 0 = the sampler's own */
    bool a1111;                /* profile details of sampling.md 3 */
};

struct ld_sampler_options ld_sampler_options_default(void);

struct ld_sigma_table; /* tables.h */

struct ld_sampler_config {
    const char *name;         /* canonical name, see ld_sampler_info_find */
    const double *sigmas;     /* [sigma_count], float32 values widened, decreasing; borrowed */
    uint32_t sigma_count;     /* steps + 1; 0 or 1 runs nothing */
    const int32_t *timesteps; /* [sigma_count - 1] for VP-space samplers, else NULL */
    uint32_t timestep_total;  /* steps the timesteps were spaced for; 0: as many as there are */
    const struct ld_sigma_table *table; /* the model's, borrowed; NULL: SD1.5's */
    double sigma_min, sigma_max; /* of the model's table; informative, `table` is what is used */
    size_t count;                /* elements of x */
    struct ld_sampler_options options;
};

enum ld_sampler_status { LD_SAMPLER_EVAL, LD_SAMPLER_DONE, LD_SAMPLER_FAILED };

struct ld_sampler_eval {
    const double *x; /* [count], borrowed until accept */
    double sigma;
    uint32_t step;     /* index of the step this evaluation belongs to, 0-based */
    uint32_t call;     /* counter of denoiser calls, 0-based */
    bool needs_uncond; /* accept needs the unconditional output (CFG++) */
    double noise_to;   /* where Brownian noise drawn after this evaluation leads to; 0: nowhere */
};

struct ld_sampler;

/*
 * `x` [count] is the starting point and receives the result; it must live as long as the sampler.
 * Everything is allocated from `arena`. `noise` is copied.
 * Errors   LD_E_NOT_FOUND (unknown name), LD_E_RANGE (options), LD_E_NOMEM.
 */
enum ld_code ld_sampler_create(struct ld_sampler **out, struct ld_arena *arena,
                               const struct ld_sampler_config *config,
                               const struct ld_noise_source *noise, double *x,
                               struct ld_error *err) LD_MUST_USE;

/* The pending evaluation, or DONE. Calling it again before accept gives the same answer.
 * FAILED: the noise source failed; `err` of the last accept says why. */
enum ld_sampler_status ld_sampler_next(struct ld_sampler *sampler, struct ld_sampler_eval *eval);

/* Hand in D = the guided denoised estimate at eval.x, and U, the unconditional one (NULL where
 * eval.needs_uncond is false). Both are borrowed for the call. */
enum ld_code ld_sampler_accept(struct ld_sampler *sampler, const double *denoised,
                               const double *uncond, struct ld_error *err) LD_MUST_USE;

/* ---- What exists ----------------------------------------------------------------------------- */

enum ld_sampler_trait {
    LD_SAMPLER_VP = 1 << 0,                  /* walks integer timesteps */
    LD_SAMPLER_DISCARD_PENULTIMATE = 1 << 1, /* sampling.md 2 */
    LD_SAMPLER_BROWNIAN = 1 << 2,
    LD_SAMPLER_ANCESTRAL = 1 << 3,
    LD_SAMPLER_CFG_PP = 1 << 4,
    LD_SAMPLER_SECOND_ORDER = 1 << 5, /* a1111 counts 2 denoiser calls a step */
    LD_SAMPLER_USES_ENSD = 1 << 6
};

struct ld_sampler_info {
    const char *name;    /* as in ComfyUI */
    const char *label;   /* A1111's display name, or our own */
    const char *aliases; /* comma-separated, every dialect */
    const char *hint;    /* one line for people */
    uint32_t traits;
    uint32_t evals_per_step;
};

uint32_t ld_sampler_info_count(void);
const struct ld_sampler_info *ld_sampler_info_at(uint32_t index);
/* By name, label or alias, case-insensitive; NULL if unknown. */
const struct ld_sampler_info *ld_sampler_info_find(const char *name);

#endif
