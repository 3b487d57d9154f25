/*
 * The noise schedule of a model: the table of sigmas, the way between sigma and the timestep the
 * UNet is told, and what turns the UNet's output into a denoised estimate. Samplers and schedulers
 * see a model only through this table.
 *
 *     struct ld_sigma_table table;
 *     ld_sigma_table_init(&table, &(struct ld_sigma_table_config){.profile = LD_PROFILE_COMFY});
 *     struct ld_wrapping w = ld_sigma_table_wrap(&table, LD_PREDICT_EPS, sigma);
 *     // unet input: w.c_in * x at timestep w.timestep;  denoised: w.x * x + w.out * output
 *
 * Source: sampling.md section 1; Karras et al. 2022, arXiv:2206.00364 (the wrapping); Lin et al.
 * 2023, arXiv:2305.08891 (zero terminal SNR).
 */
#ifndef LD_SAMPLE_TABLES_H
#define LD_SAMPLE_TABLES_H

#include "runtime/model/weights.h"
#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LD_TIMESTEPS = 1000,        /* N of the diffusion process SD1.5 was trained with */
    LD_TIMESTEPS_DISTILLED = 50 /* of those, the ones an LCM checkpoint knows */
};

struct ld_sigma_table_config {
    enum ld_profile profile;
    double beta_start, beta_end; /* 0: SD1.5's 0.00085 and 0.012 */
    bool zsnr;                   /* rescale to zero terminal SNR */
    bool lcm;                    /* LCM checkpoint: 50 timesteps, LCM wrapping */
    bool quantize;               /* profile a1111: nearest timestep instead of interpolated */
};

/* Plain values, about 16 KiB; read-only after init and shareable between threads. */
struct ld_sigma_table {
    struct ld_sigma_table_config config;
    uint32_t count;                      /* entries of sigmas: 1000, or 50 for LCM */
    uint32_t stride;                     /* timesteps between entries: 1, or 20 */
    double alphas_cumprod[LD_TIMESTEPS]; /* always all 1000, for samplers in VP space */
    float sigmas[LD_TIMESTEPS];          /* [count], ascending */
    float log_sigmas[LD_TIMESTEPS];      /* [count] */
};

/* What the UNet is given at one sigma, and how its output is read. */
struct ld_wrapping {
    double c_in;     /* UNet input = c_in * x */
    double timestep; /* an integer, or fractional in profile a1111 */
    double x, out;   /* denoised = x * x_sigma + out * unet_output */
};

/* ---- The table ------------------------------------------------------------------------------- */

void ld_sigma_table_init(struct ld_sigma_table *table, const struct ld_sigma_table_config *config);

/* SD1.5's own table in profile comfy, for callers that were given none. */
const struct ld_sigma_table *ld_sigma_table_default(void);

double ld_sigma_table_min(const struct ld_sigma_table *table);
double ld_sigma_table_max(const struct ld_sigma_table *table);

/* ---- sigma and t ----------------------------------------------------------------------------- */

/* The timestep for `sigma`: nearest entry, lowest index on ties (comfy), or interpolated in
 * ln sigma (a1111). sigma <= 0 gives the lowest timestep. */
double ld_sigma_to_timestep(const struct ld_sigma_table *table, double sigma);

/* Log-linear between table entries, clamped to the table; a float32 value. */
double ld_timestep_to_sigma(const struct ld_sigma_table *table, double timestep);

/* Share of the denoising already done to sigma: 999999999.9 for p <= 0, 0 for p >= 1. Every
 * start/end range is compared through it. */
double ld_percent_to_sigma(const struct ld_sigma_table *table, double percent);

/* ---- Parametrisation ------------------------------------------------------------------------- */

struct ld_wrapping ld_sigma_table_wrap(const struct ld_sigma_table *table,
                                       enum ld_prediction prediction, double sigma);

/*
 * The scale of the initial x = latent + scale * z, sampling.md 1.4: sqrt(1 + sigma^2) with
 * `unit_variance` (profile a1111: option "SGM noise multiplier", or a VP-space sampler without a
 * latent), and in profile comfy whenever the run starts at sigma_max; else sigma.
 */
double ld_initial_noise_scale(const struct ld_sigma_table *table, double sigma_first,
                              bool unit_variance);

#ifdef __cplusplus
}
#endif
#endif
