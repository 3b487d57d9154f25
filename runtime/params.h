/*
 * struct ld_request: the checked, complete description of one generation. `api` builds it from
 * bytes, everything inside takes it as true. Names and bounds: config/fields.def and api.md 1.
 * All strings are UTF-8, NUL-terminated, owned by the request's arena; "" where absent unless a
 * comment says NULL.
 */
#ifndef LD_RUNTIME_PARAMS_H
#define LD_RUNTIME_PARAMS_H

#include "runtime/base/arena.h"
#include "runtime/base/buffer.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum ld_syntax { LD_SYNTAX_A1111, LD_SYNTAX_NOVELAI, LD_SYNTAX_COMFY, LD_SYNTAX_PLAIN };
enum ld_profile { LD_PROFILE_COMFY, LD_PROFILE_A1111 };
enum ld_noise_kind { LD_NOISE_CPU, LD_NOISE_PHILOX };
enum ld_emphasis {
    LD_EMPHASIS_ORIGINAL,
    LD_EMPHASIS_NO_NORM,
    LD_EMPHASIS_IGNORE,
    LD_EMPHASIS_NONE
};
enum ld_vae_tiling { LD_VAE_AUTO, LD_VAE_EXACT, LD_VAE_ESTIMATED, LD_VAE_PLAIN };
enum ld_fit { LD_FIT_STRETCH, LD_FIT_CROP, LD_FIT_PAD };
enum ld_tristate { LD_UNSET = -1, LD_FALSE = 0, LD_TRUE = 1 };

enum { LD_REQUEST_LORAS_MAX = 16, LD_REQUEST_SIGMAS_MAX = 152 };

struct ld_request_lora {
    const char *name;
    double weight, text_weight, start, end;
};

/* NAN in a double means "not given: the scheduler's or sampler's own". */
struct ld_request_sampler_options {
    double eta, s_noise, s_churn, s_tmin, s_tmax, gamma, r, rtol, atol, h_init;
    const char *solver;        /* "", "midpoint", "heun" */
    const char *ancestral_rng; /* "", "philox", "cpu" */
    const char *brownian_rng;  /* "", "philox", "cpu" */
    int64_t ensd;
    int32_t order;
    bool extrapolate_last;
    enum ld_tristate discard_penultimate;
};

struct ld_request_scheduler_options {
    double rho, sigma_min, sigma_max, coefficient, alpha, beta, mu, b;
};

struct ld_request_init {
    bool present;
    const char *image; /* id of an uploaded image; the bytes travel beside the request */
    const char *mask;  /* id or "" */
    double strength;
    double noise;
    enum ld_fit resize;
    int32_t mask_blur;
    bool paste_back;
};

struct ld_request_hires {
    bool present;
    double scale;
    int32_t width, height; /* 0: from scale */
    const char *upscaler;  /* "latent-bislerp", ... */
    int32_t steps;         /* 0: the first pass's */
    double strength;
    const char *sampler, *scheduler;      /* "": the first pass's */
    double cfg_scale;                     /* NAN: the first pass's */
    const char *prompt, *negative_prompt; /* NULL: the first pass's */
};

struct ld_request_deep_shrink {
    bool present;
    int32_t block;
    double factor, start, end;
    bool after_skip;
    const char *downscale, *upscale;
};

struct ld_request_guidance {
    double rescale; /* 0: off */
    bool uncond_zero;
    double uncond_zero_scale, uncond_zero_pre_scale;
    bool uncond_zero_pre_fix;
    const char *auto_cfg; /* "" or hard, hard_squared, soft, range */
    bool auto_cfg_boost;
    bool dynamic_threshold;
    double dt_mimic_scale, dt_percentile, dt_phi;
    const char *dt_mimic_mode, *dt_cfg_mode, *dt_start, *dt_variability;
    double dt_mimic_min, dt_cfg_min, dt_sched_value;
    bool dt_per_channel;
    double skip_above_sigma, skip_below_sigma; /* NAN: off */
    double ngms;                               /* 0: off */
    double skip_early;                         /* 0: off */
    double uncond_scale;                       /* 1 */
    double pag, sag, sag_blur;                 /* 0: off */
    const char *freeu;                         /* "" or v1, v2 */
    double freeu_b1, freeu_b2, freeu_s1, freeu_s2;
    bool apg;
    double apg_eta, apg_threshold, apg_momentum;
    double perp_neg;                     /* 0: off; else w */
    double epsilon_scale;                /* 1 */
    double negative_start, negative_end; /* range of the negative prompt, 0..1 */
};

struct ld_request {
    const char *model;
    const char *prompt, *negative_prompt;
    enum ld_syntax syntax;
    enum ld_profile profile;
    const char *quality_tags; /* "" or a preset name */
    const char *undesired;    /* "none", "light", "heavy", ... */
    int32_t width, height;
    int32_t images;
    int32_t steps;
    double cfg_scale;
    const char *sampler, *scheduler;
    struct ld_request_sampler_options sampler_options;
    struct ld_request_scheduler_options scheduler_options;
    double sigmas[LD_REQUEST_SIGMAS_MAX];
    uint32_t sigma_count; /* 0: scheduler and steps decide */
    uint64_t seed;        /* resolved; `seed_random` tells that the request asked for -1 */
    bool seed_random;
    enum ld_noise_kind noise;
    uint64_t variation_seed;
    double variation_strength; /* 0: off */
    int32_t clip_skip;
    struct ld_request_lora loras[LD_REQUEST_LORAS_MAX];
    uint32_t lora_count;
    int32_t hyper_steps; /* 0: off */
    double hyper_weight;
    const char *vae;
    enum ld_vae_tiling vae_tiling;
    enum ld_emphasis emphasis;
    bool pad_context;
    bool wildcards;
    bool wildcards_seeded;
    uint64_t wildcards_seed;
    struct ld_request_deep_shrink deep_shrink;
    struct ld_request_guidance guidance;
    struct ld_request_init init;
    struct ld_request_hires hires;
    int32_t priority;
    int32_t preview_every, preview_size;
    const char *output_format; /* "png" */
    bool metadata_full;
    int32_t compression; /* 0: default, 1..12 libdeflate */
    enum ld_tristate cancel_on_disconnect;
    const char *tag;
    const char *user_data; /* JSON text of an object, "" if absent */
};

#ifdef __cplusplus
}
#endif
#endif
