#include "runtime/image/recipe_graph_tables.h"

#define NUM(class, input, path)                                                                    \
    {                                                                                              \
        class, input, path, LD_PUT_NUMBER, NULL                                                    \
    }
#define WHOLE(class, input, path)                                                                  \
    {                                                                                              \
        class, input, path, LD_PUT_WHOLE, NULL                                                     \
    }
#define WORD(class, input, path)                                                                   \
    {                                                                                              \
        class, input, path, LD_PUT_WORD, NULL                                                      \
    }
#define BOOL(class, input, path)                                                                   \
    {                                                                                              \
        class, input, path, LD_PUT_BOOL, NULL                                                      \
    }
#define SEED(class, input, path)                                                                   \
    {                                                                                              \
        class, input, path, LD_PUT_SEED, NULL                                                      \
    }
#define CONST(class, path, constant)                                                               \
    {                                                                                              \
        class, NULL, path, LD_PUT_NUMBER, constant                                                 \
    }
/* Every scheduler node has these. */
#define STEPS(class, name) CONST(class, "scheduler", "\"" name "\""), WHOLE(class, "steps", "steps")
#define RANGE(class)                                                                               \
    NUM(class, "sigma_max", "scheduler_options.sigma_max"),                                        \
        NUM(class, "sigma_min", "scheduler_options.sigma_min")
#define NOISY(class)                                                                               \
    NUM(class, "eta", "sampler_options.eta"), NUM(class, "s_noise", "sampler_options.s_noise")

const struct ld_graph_row ld_graph_patch_rows[] = {
    /* ---- Patches of the model ---------------------------------------------------------------- */
    CONST("PatchModelAddDownscale", "deep_shrink.block", "3"),
    WHOLE("PatchModelAddDownscale", "block_number", "deep_shrink.block"),
    NUM("PatchModelAddDownscale", "downscale_factor", "deep_shrink.factor"),
    NUM("PatchModelAddDownscale", "start_percent", "deep_shrink.start"),
    NUM("PatchModelAddDownscale", "end_percent", "deep_shrink.end"),
    BOOL("PatchModelAddDownscale", "downscale_after_skip", "deep_shrink.after_skip"),
    WORD("PatchModelAddDownscale", "downscale_method", "deep_shrink.downscale"),
    WORD("PatchModelAddDownscale", "upscale_method", "deep_shrink.upscale"),
    NUM("RescaleCFG", "multiplier", "guidance.rescale"),
    NUM("PerturbedAttentionGuidance", "scale", "guidance.pag"),
    NUM("SelfAttentionGuidance", "scale", "guidance.sag"),
    NUM("SelfAttentionGuidance", "blur_sigma", "guidance.sag_blur"),
    CONST("FreeU", "guidance.freeu.version", "\"v1\""),
    NUM("FreeU", "b1", "guidance.freeu.b1"),
    NUM("FreeU", "b2", "guidance.freeu.b2"),
    NUM("FreeU", "s1", "guidance.freeu.s1"),
    NUM("FreeU", "s2", "guidance.freeu.s2"),
    CONST("FreeU_V2", "guidance.freeu.version", "\"v2\""),
    NUM("FreeU_V2", "b1", "guidance.freeu.b1"),
    NUM("FreeU_V2", "b2", "guidance.freeu.b2"),
    NUM("FreeU_V2", "s1", "guidance.freeu.s1"),
    NUM("FreeU_V2", "s2", "guidance.freeu.s2"),
    NUM("APG", "eta", "guidance.apg.eta"),
    NUM("APG", "norm_threshold", "guidance.apg.threshold"),
    NUM("APG", "momentum", "guidance.apg.momentum"),
    NUM("PerpNeg", "neg_scale", "guidance.perp_neg"),
    NUM("Epsilon Scaling", "scaling_factor", "guidance.epsilon_scale"),
    NUM("DynamicThresholdingSimple", "mimic_scale", "guidance.dynamic_threshold.mimic_scale"),
    NUM("DynamicThresholdingSimple", "threshold_percentile",
        "guidance.dynamic_threshold.percentile"),
    NUM("DynamicThresholdingFull", "mimic_scale", "guidance.dynamic_threshold.mimic_scale"),
    NUM("DynamicThresholdingFull", "threshold_percentile", "guidance.dynamic_threshold.percentile"),
    WORD("DynamicThresholdingFull", "mimic_mode", "guidance.dynamic_threshold.mimic_mode"),
    NUM("DynamicThresholdingFull", "mimic_scale_min", "guidance.dynamic_threshold.mimic_min"),
    WORD("DynamicThresholdingFull", "cfg_mode", "guidance.dynamic_threshold.cfg_mode"),
    NUM("DynamicThresholdingFull", "cfg_scale_min", "guidance.dynamic_threshold.cfg_min"),
    NUM("DynamicThresholdingFull", "sched_val", "guidance.dynamic_threshold.sched_value"),
    WORD("DynamicThresholdingFull", "scaling_startpoint", "guidance.dynamic_threshold.start"),
    WORD("DynamicThresholdingFull", "variability_measure",
         "guidance.dynamic_threshold.variability"),
    NUM("DynamicThresholdingFull", "interpolate_phi", "guidance.dynamic_threshold.phi"),

    /* ---- Samplers ---------------------------------------------------------------------------- */
    WORD("KSamplerSelect", "sampler_name", "sampler"),
    CONST("SamplerEulerAncestral", "sampler", "\"euler_ancestral\""),
    NOISY("SamplerEulerAncestral"),
    CONST("SamplerDPMPP_2S_Ancestral", "sampler", "\"dpmpp_2s_ancestral\""),
    NOISY("SamplerDPMPP_2S_Ancestral"),
    CONST("SamplerDPMPP_SDE", "sampler", "\"dpmpp_sde\""),
    NOISY("SamplerDPMPP_SDE"),
    NUM("SamplerDPMPP_SDE", "r", "sampler_options.r"),
    CONST("SamplerDPMPP_2M_SDE", "sampler", "\"dpmpp_2m_sde\""),
    NOISY("SamplerDPMPP_2M_SDE"),
    WORD("SamplerDPMPP_2M_SDE", "solver_type", "sampler_options.solver"),
    CONST("SamplerDPMPP_3M_SDE", "sampler", "\"dpmpp_3m_sde\""),
    NOISY("SamplerDPMPP_3M_SDE"),
    CONST("SamplerLMS", "sampler", "\"lms\""),
    WHOLE("SamplerLMS", "order", "sampler_options.order"),
    CONST("SamplerER_SDE", "sampler", "\"er_sde\""),
    NOISY("SamplerER_SDE"),

    /* ---- Schedulers -------------------------------------------------------------------------- */
    WORD("BasicScheduler", "scheduler", "scheduler"),
    WHOLE("BasicScheduler", "steps", "steps"),
    STEPS("KarrasScheduler", "karras"),
    RANGE("KarrasScheduler"),
    NUM("KarrasScheduler", "rho", "scheduler_options.rho"),
    STEPS("ExponentialScheduler", "exponential"),
    RANGE("ExponentialScheduler"),
    STEPS("PolyexponentialScheduler", "polyexponential"),
    RANGE("PolyexponentialScheduler"),
    NUM("PolyexponentialScheduler", "rho", "scheduler_options.rho"),
    STEPS("LaplaceScheduler", "laplace"),
    RANGE("LaplaceScheduler"),
    NUM("LaplaceScheduler", "mu", "scheduler_options.mu"),
    NUM("LaplaceScheduler", "beta", "scheduler_options.b"),
    STEPS("VPScheduler", "vp"),
    STEPS("BetaSamplingScheduler", "beta"),
    NUM("BetaSamplingScheduler", "alpha", "scheduler_options.alpha"),
    NUM("BetaSamplingScheduler", "beta", "scheduler_options.beta"),
    STEPS("AlignYourStepsScheduler", "ays"),
    STEPS("GITSScheduler", "gits"),
    NUM("GITSScheduler", "coeff", "scheduler_options.coefficient"),
    STEPS("SDTurboScheduler", "turbo"),

    /* ---- Guiders and noise ------------------------------------------------------------------- */
    NUM("CFGGuider", "cfg", "cfg_scale"),
    NUM("PerpNegGuider", "cfg", "cfg_scale"),
    NUM("PerpNegGuider", "neg_scale", "guidance.perp_neg"),
    CONST("BasicGuider", "cfg_scale", "1"),
    SEED("RandomNoise", "noise_seed", "seed"),

    /* ---- From the first pass to the second --------------------------------------------------- */
    NUM("LatentUpscaleBy", "scale_by", "hires.scale"),
    WHOLE("LatentUpscale", "width", "hires.width"),
    WHOLE("LatentUpscale", "height", "hires.height"),
    NUM("ImageScaleBy", "scale_by", "hires.scale"),
    WHOLE("ImageScale", "width", "hires.width"),
    WHOLE("ImageScale", "height", "hires.height"),
    {"LatentUpscaleBy", "upscale_method", "hires.upscaler", LD_PUT_LATENT, NULL},
    {"LatentUpscale", "upscale_method", "hires.upscaler", LD_PUT_LATENT, NULL},
    {"ImageScaleBy", "upscale_method", "hires.upscaler", LD_PUT_PIXEL, NULL},
    {"ImageScale", "upscale_method", "hires.upscaler", LD_PUT_PIXEL, NULL},
    {NULL, NULL, NULL, LD_PUT_NUMBER, NULL},
};
