/* A ComfyUI API graph of a request. Source: ComfyUI's node definitions (api.md 2.4). */
#include "runtime/image/graph_control.h"
#include "runtime/image/infotext.h"
#include "runtime/sample/schedule.h"

#include <math.h>
#include <string.h>

static bool given(const char *text)
{
    return text && text[0];
}

/* ---- Loading and patches --------------------------------------------------------------------- */

/* What a pass is painted with. */
struct loading {
    const char *model;
    const struct ld_request_lora *loras;
    uint32_t lora_count;
};

static void put_loaders(struct ld_graph_writer *w, const struct loading *loading)
{
    const struct ld_request *r = w->request;
    const struct ld_graph_link loader = ld_graph_open(w, "CheckpointLoaderSimple");
    ld_graph_put_file(w, "ckpt_name", loading->model);
    ld_graph_close(w);
    w->model = loader;
    w->clip = (struct ld_graph_link){loader.node, 1};
    w->vae = (struct ld_graph_link){loader.node, 2};
    for (uint32_t i = 0; i < loading->lora_count; i++) {
        const struct ld_request_lora *lora = &loading->loras[i];
        const struct ld_graph_link node = ld_graph_open(w, "LoraLoader");
        ld_graph_put_link(w, "model", w->model);
        ld_graph_put_link(w, "clip", w->clip);
        ld_graph_put_file(w, "lora_name", lora->name);
        ld_graph_put_number(w, "strength_model", lora->weight);
        ld_graph_put_number(w, "strength_clip",
                            isnan(lora->text_weight) ? lora->weight : lora->text_weight);
        ld_graph_close(w);
        w->model = node;
        w->clip = (struct ld_graph_link){node.node, 1};
    }
    if (given(r->vae)) {
        w->vae = ld_graph_open(w, "VAELoader");
        ld_graph_put_file(w, "vae_name", r->vae);
        ld_graph_close(w);
    }
    const struct ld_graph_link layer = ld_graph_open(w, "CLIPSetLastLayer");
    ld_graph_put_link(w, "clip", w->clip);
    ld_graph_put_whole(w, "stop_at_clip_layer", -(int64_t)r->clip_skip);
    ld_graph_close(w);
    w->clip = layer;
}

/* Begin a node that takes the model and gives it back changed. */
static void patch_open(struct ld_graph_writer *w, const char *class_type)
{
    const struct ld_graph_link node = ld_graph_open(w, class_type);
    ld_graph_put_link(w, "model", w->model);
    w->model = node;
}

static void put_deep_shrink(struct ld_graph_writer *w)
{
    const struct ld_request_deep_shrink *d = &w->request->deep_shrink;
    if (!d->present)
        return;
    patch_open(w, "PatchModelAddDownscale");
    ld_graph_put_whole(w, "block_number", d->block);
    ld_graph_put_number(w, "downscale_factor", d->factor);
    ld_graph_put_number(w, "start_percent", d->start);
    ld_graph_put_number(w, "end_percent", d->end);
    ld_graph_put_bool(w, "downscale_after_skip", d->after_skip);
    ld_graph_put_text(w, "downscale_method", given(d->downscale) ? d->downscale : "bicubic");
    ld_graph_put_text(w, "upscale_method", given(d->upscale) ? d->upscale : "bicubic");
    ld_graph_close(w);
}

static void put_freeu(struct ld_graph_writer *w)
{
    const struct ld_request_guidance *g = &w->request->guidance;
    if (!given(g->freeu))
        return;
    const bool v1 = strcmp(g->freeu, "v1") == 0;
    patch_open(w, v1 ? "FreeU" : "FreeU_V2");
    ld_graph_put_number(w, "b1", isnan(g->freeu_b1) ? (v1 ? 1.1 : 1.3) : g->freeu_b1);
    ld_graph_put_number(w, "b2", isnan(g->freeu_b2) ? (v1 ? 1.2 : 1.4) : g->freeu_b2);
    ld_graph_put_number(w, "s1", isnan(g->freeu_s1) ? 0.9 : g->freeu_s1);
    ld_graph_put_number(w, "s2", isnan(g->freeu_s2) ? 0.2 : g->freeu_s2);
    ld_graph_close(w);
}

static void put_one_number(struct ld_graph_writer *w, bool on, const char *class_type,
                           const char *name, double value)
{
    if (!on)
        return;
    patch_open(w, class_type);
    ld_graph_put_number(w, name, value);
    ld_graph_close(w);
}

static void put_patches(struct ld_graph_writer *w)
{
    const struct ld_request_guidance *g = &w->request->guidance;
    put_deep_shrink(w);
    put_freeu(w);
    put_one_number(w, g->rescale != 0, "RescaleCFG", "multiplier", g->rescale);
    put_one_number(w, g->pag != 0, "PerturbedAttentionGuidance", "scale", g->pag);
    if (g->sag != 0) {
        patch_open(w, "SelfAttentionGuidance");
        ld_graph_put_number(w, "scale", g->sag);
        ld_graph_put_number(w, "blur_sigma", g->sag_blur);
        ld_graph_close(w);
    }
    if (g->apg) {
        patch_open(w, "APG");
        ld_graph_put_number(w, "eta", g->apg_eta);
        ld_graph_put_number(w, "norm_threshold", g->apg_threshold);
        ld_graph_put_number(w, "momentum", g->apg_momentum);
        ld_graph_close(w);
    }
    put_one_number(w, g->epsilon_scale != 1, "Epsilon Scaling", "scaling_factor", g->epsilon_scale);
}

/* ---- Prompts and latents --------------------------------------------------------------------- */

static struct ld_graph_link put_prompt(struct ld_graph_writer *w, const char *text)
{
    const struct ld_graph_link node = ld_graph_open(w, "CLIPTextEncode");
    ld_graph_put_link(w, "clip", w->clip);
    ld_graph_put_text(w, "text", text);
    ld_graph_close(w);
    return node;
}

static struct ld_graph_link put_negative(struct ld_graph_writer *w, const char *text)
{
    const struct ld_request_guidance *g = &w->request->guidance;
    struct ld_graph_link negative = put_prompt(w, text);
    if (g->negative_start > 0 || g->negative_end < 1) {
        const struct ld_graph_link range = ld_graph_open(w, "ConditioningSetTimestepRange");
        ld_graph_put_link(w, "conditioning", negative);
        ld_graph_put_number(w, "start", g->negative_start);
        ld_graph_put_number(w, "end", g->negative_end);
        ld_graph_close(w);
        negative = range;
    }
    return negative;
}

static struct ld_graph_link put_empty(struct ld_graph_writer *w)
{
    const struct ld_graph_link node = ld_graph_open(w, "EmptyLatentImage");
    ld_graph_put_whole(w, "width", w->request->width);
    ld_graph_put_whole(w, "height", w->request->height);
    ld_graph_put_whole(w, "batch_size", w->request->batch_size > 0 ? w->request->batch_size : 1);
    ld_graph_close(w);
    return node;
}

static struct ld_graph_link put_encode(struct ld_graph_writer *w, struct ld_graph_link pixels)
{
    const struct ld_graph_link node = ld_graph_open(w, "VAEEncode");
    ld_graph_put_link(w, "pixels", pixels);
    ld_graph_put_link(w, "vae", w->vae);
    ld_graph_close(w);
    return node;
}

static struct ld_graph_link put_decode(struct ld_graph_writer *w, struct ld_graph_link samples)
{
    const struct ld_graph_link node = ld_graph_open(w, "VAEDecode");
    ld_graph_put_link(w, "samples", samples);
    ld_graph_put_link(w, "vae", w->vae);
    ld_graph_close(w);
    return node;
}

/* The pixels that are painted anew, from the mask's own picture. */
static struct ld_graph_link put_mask(struct ld_graph_writer *w)
{
    const struct ld_request_init *init = &w->request->init;
    const bool alpha = init->mask_from == LD_MASK_TRANSPARENT || init->mask_from == LD_MASK_OPAQUE;
    const struct ld_graph_link mask = ld_graph_open(w, "LoadImageMask");
    ld_graph_put_text(w, "image", init->mask);
    ld_graph_put_text(w, "channel", alpha ? "alpha" : "red");
    ld_graph_close(w);
    if (init->mask_from == LD_MASK_WHITE || init->mask_from == LD_MASK_TRANSPARENT)
        return mask;
    const struct ld_graph_link inverse = ld_graph_open(w, "InvertMask");
    ld_graph_put_link(w, "mask", mask);
    ld_graph_close(w);
    return inverse;
}

/* The picture that was begun with, by its id, fitted and encoded. */
static struct ld_graph_link put_init(struct ld_graph_writer *w)
{
    const struct ld_request_init *init = &w->request->init;
    const struct ld_graph_link file = ld_graph_open(w, "LoadImage");
    ld_graph_put_text(w, "image", init->image);
    ld_graph_close(w);
    const struct ld_graph_link fitted = ld_graph_open(w, "ImageScale");
    ld_graph_put_link(w, "image", file);
    ld_graph_put_text(w, "upscale_method", "lanczos");
    ld_graph_put_whole(w, "width", w->request->width);
    ld_graph_put_whole(w, "height", w->request->height);
    ld_graph_put_text(w, "crop", init->resize == LD_FIT_CROP ? "center" : "disabled");
    ld_graph_close(w);
    w->init = fitted;
    struct ld_graph_link latent = put_encode(w, fitted);
    if (given(init->mask)) {
        const struct ld_graph_link mask = put_mask(w);
        const struct ld_graph_link masked = ld_graph_open(w, "SetLatentNoiseMask");
        ld_graph_put_link(w, "samples", latent);
        ld_graph_put_link(w, "mask", mask);
        ld_graph_close(w);
        latent = masked;
    }
    return latent;
}

/* ---- Sampling -------------------------------------------------------------------------------- */

struct pass {
    const char *sampler, *scheduler;
    int32_t steps;
    double cfg, strength;
    struct ld_graph_link positive, negative, latent;
};

static const char *scheduler_name(const struct pass *pass)
{
    const struct ld_scheduler_info *info = ld_scheduler_info_find(pass->scheduler);
    if (info && strcmp(info->name, "automatic") == 0)
        info = ld_scheduler_automatic(ld_sampler_info_find(pass->sampler));
    return !info ? pass->scheduler : strcmp(info->name, "uniform") == 0 ? "normal" : info->name;
}

static const char *sampler_name(const struct pass *pass)
{
    const struct ld_sampler_info *info = ld_sampler_info_find(pass->sampler);
    return info ? info->name : pass->sampler;
}

static bool in_list(const char *name, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i], name) == 0)
            return true;
    return false;
}

/* What the plain sampler node offers. */
static bool is_stock_scheduler(const char *name)
{
    static const char *const stock[] = {"simple",           "sgm_uniform",  "karras",
                                        "exponential",      "beta",         "normal",
                                        "linear_quadratic", "ddim_uniform", "kl_optimal"};
    return in_list(name, stock, sizeof stock / sizeof stock[0]);
}

/* Options that this scheduler reads (sampling.md 2); those of another pass's are none of its own.
 */
static bool has_scheduler_options(const struct ld_request *r, const char *scheduler)
{
    const struct ld_request_scheduler_options *s = &r->scheduler_options;
    static const char *const ranged[] = {"karras", "exponential", "polyexponential", "laplace"};
    static const char *const powers[] = {"karras", "polyexponential"};
    if (in_list(scheduler, ranged, 4) && (!isnan(s->sigma_min) || !isnan(s->sigma_max)))
        return true;
    if (in_list(scheduler, powers, 2) && !isnan(s->rho))
        return true;
    return strcmp(scheduler, "beta") == 0 && (!isnan(s->alpha) || !isnan(s->beta));
}

static double or_else(double value, double fallback)
{
    return isnan(value) ? fallback : value;
}

static void put_sigma_range(struct ld_graph_writer *w)
{
    const struct ld_request_scheduler_options *s = &w->request->scheduler_options;
    ld_graph_put_number(w, "sigma_max", or_else(s->sigma_max, 14.614642));
    ld_graph_put_number(w, "sigma_min", or_else(s->sigma_min, 0.0291675));
}

/* Schedulers with a node of their own; false: there is none. */
static bool put_own_scheduler(struct ld_graph_writer *w, const struct pass *pass, const char *name,
                              struct ld_graph_link *sigmas)
{
    const struct ld_request_scheduler_options *s = &w->request->scheduler_options;
    static const char *const classes[][2] = {{"karras", "KarrasScheduler"},
                                             {"exponential", "ExponentialScheduler"},
                                             {"polyexponential", "PolyexponentialScheduler"},
                                             {"laplace", "LaplaceScheduler"},
                                             {"vp", "VPScheduler"},
                                             {"ays", "AlignYourStepsScheduler"},
                                             {"gits", "GITSScheduler"},
                                             {"beta", "BetaSamplingScheduler"},
                                             {"turbo", "SDTurboScheduler"}};
    size_t i = 0;
    const size_t count = sizeof classes / sizeof classes[0];
    while (i < count && strcmp(classes[i][0], name) != 0)
        i++;
    if (i == count)
        return false;
    *sigmas = ld_graph_open(w, classes[i][1]);
    ld_graph_put_whole(w, "steps", pass->steps);
    if (strcmp(name, "gits") == 0 || strcmp(name, "ays") == 0 || strcmp(name, "turbo") == 0)
        ld_graph_put_number(w, "denoise", pass->strength);
    if (strcmp(name, "gits") == 0)
        ld_graph_put_number(w, "coeff", or_else(s->coefficient, 1.2));
    if (strcmp(name, "ays") == 0)
        ld_graph_put_text(w, "model_type", "SD1");
    if (strcmp(name, "turbo") == 0 || strcmp(name, "beta") == 0)
        ld_graph_put_link(w, "model", w->model);
    if (strcmp(name, "beta") == 0) {
        ld_graph_put_number(w, "alpha", or_else(s->alpha, 0.6));
        ld_graph_put_number(w, "beta", or_else(s->beta, 0.6));
    }
    if (strcmp(name, "vp") == 0) {
        ld_graph_put_number(w, "beta_d", 19.9);
        ld_graph_put_number(w, "beta_min", 0.1);
        ld_graph_put_number(w, "eps_s", 0.001);
    }
    if (i < 4)
        put_sigma_range(w);
    if (strcmp(name, "karras") == 0 || strcmp(name, "polyexponential") == 0)
        ld_graph_put_number(w, "rho", or_else(s->rho, name[0] == 'k' ? 7.0 : 1.0));
    if (strcmp(name, "laplace") == 0) {
        ld_graph_put_number(w, "mu", or_else(s->mu, 0.0));
        ld_graph_put_number(w, "beta", or_else(s->b, 0.5));
    }
    ld_graph_close(w);
    return true;
}

static struct ld_graph_link put_sigmas(struct ld_graph_writer *w, const struct pass *pass)
{
    const struct ld_request *r = w->request;
    const char *name = scheduler_name(pass);
    struct ld_graph_link sigmas;
    if (r->sigma_count > 0) {
        struct ld_buffer list = ld_buffer_make(8192);
        for (uint32_t i = 0; i < r->sigma_count; i++) {
            ld_buffer_text(&list, i ? ", " : "");
            ld_buffer_json_double(&list, r->sigmas[i]);
        }
        sigmas = ld_graph_open(w, "ManualSigmas");
        ld_graph_put_text(w, "sigmas", list.data ? list.data : "");
        ld_graph_close(w);
        ld_buffer_deinit(&list);
        return sigmas;
    }
    const bool own = !is_stock_scheduler(name) || has_scheduler_options(r, name);
    if (own && put_own_scheduler(w, pass, name, &sigmas))
        return sigmas;
    sigmas = ld_graph_open(w, "BasicScheduler");
    ld_graph_put_link(w, "model", w->model);
    /* Spacings that ComfyUI has no name for: the trailing one is what this comes closest to. */
    ld_graph_put_text(w, "scheduler", is_stock_scheduler(name) ? name : "sgm_uniform");
    ld_graph_put_whole(w, "steps", pass->steps);
    ld_graph_put_number(w, "denoise", pass->strength);
    ld_graph_close(w);
    return sigmas;
}

/* Sampler nodes with options; others are chosen by name. */
static struct ld_graph_link put_sampler(struct ld_graph_writer *w, const struct pass *pass)
{
    static const char *const noisy[][2] = {{"euler_ancestral", "SamplerEulerAncestral"},
                                           {"dpmpp_2s_ancestral", "SamplerDPMPP_2S_Ancestral"},
                                           {"dpmpp_sde", "SamplerDPMPP_SDE"},
                                           {"dpmpp_2m_sde", "SamplerDPMPP_2M_SDE"},
                                           {"dpmpp_3m_sde", "SamplerDPMPP_3M_SDE"}};
    const struct ld_request_sampler_options *o = &w->request->sampler_options;
    const char *name = sampler_name(pass);
    const bool options = !isnan(o->eta) || !isnan(o->s_noise) || !isnan(o->r) || given(o->solver);
    for (size_t i = 0; options && i < sizeof noisy / sizeof noisy[0]; i++) {
        if (strcmp(noisy[i][0], name) != 0)
            continue;
        const struct ld_graph_link node = ld_graph_open(w, noisy[i][1]);
        ld_graph_put_number(w, "eta", or_else(o->eta, 1.0));
        ld_graph_put_number(w, "s_noise", or_else(o->s_noise, 1.0));
        if (i >= 2)
            ld_graph_put_text(w, "noise_device", "cpu");
        if (i == 2)
            ld_graph_put_number(w, "r", or_else(o->r, 0.5));
        if (i == 3)
            ld_graph_put_text(w, "solver_type", given(o->solver) ? o->solver : "midpoint");
        ld_graph_close(w);
        return node;
    }
    const struct ld_graph_link node = ld_graph_open(w, "KSamplerSelect");
    ld_graph_put_text(w, "sampler_name", name);
    ld_graph_close(w);
    return node;
}

static bool is_plain(const struct ld_graph_writer *w, const struct pass *pass)
{
    const struct ld_request_sampler_options *o = &w->request->sampler_options;
    const char *scheduler = scheduler_name(pass);
    return w->request->sigma_count == 0 && !has_scheduler_options(w->request, scheduler) &&
           isnan(o->eta) && isnan(o->s_noise) && isnan(o->r) && !given(o->solver) &&
           is_stock_scheduler(scheduler);
}

static struct ld_graph_link put_pass(struct ld_graph_writer *w, const struct pass *pass)
{
    const bool plain = is_plain(w, pass);
    struct ld_graph_link sampler = {0, 0}, sigmas = {0, 0};
    if (!plain) {
        sampler = put_sampler(w, pass);
        sigmas = put_sigmas(w, pass);
    }
    const struct ld_graph_link node = ld_graph_open(w, plain ? "KSampler" : "SamplerCustom");
    ld_graph_put_link(w, "model", w->model);
    ld_graph_put_seed(w, plain ? "seed" : "noise_seed", w->request->seed);
    if (plain) {
        ld_graph_put_whole(w, "steps", pass->steps);
        ld_graph_put_text(w, "sampler_name", sampler_name(pass));
        ld_graph_put_text(w, "scheduler", scheduler_name(pass));
        ld_graph_put_number(w, "denoise", pass->strength);
    } else {
        ld_graph_put_bool(w, "add_noise", true);
        ld_graph_put_link(w, "sampler", sampler);
        ld_graph_put_link(w, "sigmas", sigmas);
    }
    ld_graph_put_number(w, "cfg", pass->cfg);
    ld_graph_put_link(w, "positive", pass->positive);
    ld_graph_put_link(w, "negative", pass->negative);
    ld_graph_put_link(w, "latent_image", pass->latent);
    ld_graph_close(w);
    return node;
}

/* ---- Second pass ----------------------------------------------------------------------------- */

/* The first pass's result at the second's size: pixels or a latent, as the upscaler works on. */
static struct ld_graph_link put_enlarged(struct ld_graph_writer *w, struct ld_graph_link latent,
                                         bool pixels)
{
    const struct ld_request_hires *h = &w->request->hires;
    const bool exact = h->width > 0 && h->height > 0;
    const char *method = strchr(h->upscaler, '-');
    const struct ld_graph_link from = pixels ? put_decode(w, latent) : latent;
    const struct ld_graph_link node =
        ld_graph_open(w, pixels ? (exact ? "ImageScale" : "ImageScaleBy")
                                : (exact ? "LatentUpscale" : "LatentUpscaleBy"));
    ld_graph_put_link(w, pixels ? "image" : "samples", from);
    /* ComfyUI's latents know no antialiasing. */
    const char *name = method ? method + 1 : h->upscaler;
    ld_graph_put_text(w, "upscale_method",
                      strcmp(name, "bilinear-aa") == 0  ? "bilinear"
                      : strcmp(name, "bicubic-aa") == 0 ? "bicubic"
                      : strcmp(name, "nearest") == 0    ? "nearest-exact"
                                                        : name);
    if (exact) {
        ld_graph_put_whole(w, "width", h->width);
        ld_graph_put_whole(w, "height", h->height);
        ld_graph_put_text(w, "crop", "disabled");
    } else {
        ld_graph_put_number(w, "scale_by", h->scale);
    }
    ld_graph_close(w);
    return node;
}

/* A model or adapters of the second pass's own are loaded beside the first's, and the prompts are
 * encoded by them. False: it goes on with the first's. */
static bool put_second_loaders(struct ld_graph_writer *w, const struct ld_infotext_facts *facts,
                               const struct loading *first)
{
    const struct ld_request_hires *h = &w->request->hires;
    struct loading own = *first;
    if (!given(h->model) && !h->loras_given)
        return false;
    if (given(h->model))
        own.model = given(facts->hires_model_name) ? facts->hires_model_name : h->model;
    if (h->loras_given) {
        own.loras = h->loras;
        own.lora_count = h->lora_count;
    }
    put_loaders(w, &own);
    put_patches(w);
    return true;
}

static struct ld_graph_link put_hires(struct ld_graph_writer *w,
                                      const struct ld_infotext_facts *facts,
                                      const struct loading *loading, const struct pass *first,
                                      struct ld_graph_controls *controls,
                                      struct ld_graph_link latent)
{
    const struct ld_request *r = w->request;
    const struct ld_request_hires *h = &r->hires;
    const bool pixels = strncmp(h->upscaler, "pixel-", 6) == 0;
    struct pass pass = *first;
    pass.latent = put_enlarged(w, latent, pixels); /* decoded by the first's VAE */
    const bool own = put_second_loaders(w, facts, loading);
    if (pixels)
        pass.latent = put_encode(w, pass.latent);
    if (own || h->prompt)
        pass.positive = put_prompt(w, h->prompt ? h->prompt : r->prompt);
    if (own || h->negative_prompt)
        pass.negative =
            put_negative(w, h->negative_prompt ? h->negative_prompt : r->negative_prompt);
    if (given(h->sampler))
        pass.sampler = h->sampler;
    if (given(h->scheduler))
        pass.scheduler = h->scheduler;
    if (h->steps > 0)
        pass.steps = h->steps;
    pass.cfg = or_else(h->cfg_scale, pass.cfg);
    pass.strength = h->strength;
    ld_graph_put_controls(w, controls, true, &pass.positive, &pass.negative);
    return put_pass(w, &pass);
}

void ld_infotext_write_graph(struct ld_buffer *out, const struct ld_request *request,
                             const struct ld_infotext_facts *facts)
{
    struct ld_graph_writer w = {.out = out, .request = request};
    struct ld_graph_controls controls = {.net = {{0, 0}}};
    const struct loading loading = {given(facts->model_name) ? facts->model_name : request->model,
                                    request->loras, request->lora_count};
    put_loaders(&w, &loading);
    put_patches(&w);
    struct pass pass = {.sampler = request->sampler,
                        .scheduler = request->scheduler,
                        .steps = request->steps,
                        .cfg = request->cfg_scale,
                        .strength = request->init.present ? request->init.strength : 1.0};
    pass.positive = put_prompt(&w, request->prompt);
    pass.negative = put_negative(&w, request->negative_prompt);
    pass.latent = request->init.present ? put_init(&w) : put_empty(&w);
    struct pass first = pass; /* whose ControlNets the second pass need not have */
    ld_graph_put_controls(&w, &controls, false, &first.positive, &first.negative);
    struct ld_graph_link latent = put_pass(&w, &first);
    if (request->hires.present)
        latent = put_hires(&w, facts, &loading, &pass, &controls, latent);
    const struct ld_graph_link pixels = put_decode(&w, latent);
    (void)ld_graph_open(&w, "SaveImage");
    ld_graph_put_link(&w, "images", pixels);
    ld_graph_put_text(&w, "filename_prefix", "latentd");
    ld_graph_close(&w);
    ld_buffer_byte(out, '}');
}
