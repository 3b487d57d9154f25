#include "api/dialect_a1111.h"

#include "api/dialect_a1111_control.h"
#include "api/dialect_a1111_scripts.h"
#include "config/limits.h"
#include "runtime/image/picture_kind.h"

#include <strings.h>

enum { PREVIEW_SIDE = 512 };

/* ---- Fields that map one to one -------------------------------------------------------------- */

static const struct ld_dialect_row common_rows[] = {
    {"negative_prompt", LD_DIALECT_TEXT, "negative_prompt"},
    {"steps", LD_DIALECT_WHOLE, "steps"},
    {"cfg_scale", LD_DIALECT_NUMBER, "cfg_scale"},
    {"width", LD_DIALECT_WHOLE, "width"},
    {"height", LD_DIALECT_WHOLE, "height"},
    {"seed", LD_DIALECT_SEED, "seed"},
    {"clip_skip", LD_DIALECT_WHOLE, "clip_skip"},
    {"eta", LD_DIALECT_NUMBER, "sampler_options.eta"},
    {"s_churn", LD_DIALECT_NUMBER, "sampler_options.s_churn"},
    {"s_tmin", LD_DIALECT_NUMBER, "sampler_options.s_tmin"},
    {"s_tmax", LD_DIALECT_NUMBER, "sampler_options.s_tmax"},
    {"s_noise", LD_DIALECT_NUMBER, "sampler_options.s_noise"},
    {"s_min_uncond", LD_DIALECT_NUMBER, "guidance.ngms"},
    {"force_task_id", LD_DIALECT_TEXT, "tag"},
    {"prompt", LD_DIALECT_READ, NULL},
    {"subseed", LD_DIALECT_READ, NULL},
    {"subseed_strength", LD_DIALECT_READ, NULL},
    {"sampler_name", LD_DIALECT_READ, NULL},
    {"sampler_index", LD_DIALECT_READ, NULL},
    {"scheduler", LD_DIALECT_READ, NULL},
    {"batch_size", LD_DIALECT_READ, NULL},
    {"n_iter", LD_DIALECT_READ, NULL},
    {"denoising_strength", LD_DIALECT_READ, NULL},
    {"override_settings", LD_DIALECT_READ, NULL},
    {"infotext", LD_DIALECT_READ, NULL},
    {"alwayson_scripts", LD_DIALECT_READ, NULL},
    {"controlnet_units", LD_DIALECT_READ, NULL},
    {"styles", LD_DIALECT_READ, NULL},
    {"save_images", LD_DIALECT_READ, NULL},
    {"send_images", LD_DIALECT_READ, NULL},
    {"disable_extra_networks", LD_DIALECT_READ, NULL},
    {"seed_resize_from_h", LD_DIALECT_READ, NULL},
    {"seed_resize_from_w", LD_DIALECT_READ, NULL},
    /* Bookkeeping of its own; nothing in the picture depends on it. */
    {"do_not_save_samples", LD_DIALECT_IGNORE, NULL},
    {"do_not_save_grid", LD_DIALECT_IGNORE, NULL},
    {"override_settings_restore_afterwards", LD_DIALECT_IGNORE, NULL},
    {"comments", LD_DIALECT_IGNORE, NULL},
    {"script_args", LD_DIALECT_IGNORE, NULL},
    {"distilled_cfg_scale", LD_DIALECT_IGNORE, NULL}, /* of other architectures */
    {"hr_distilled_cfg", LD_DIALECT_IGNORE, NULL},
    {"refiner_switch_at", LD_DIALECT_IGNORE, NULL}, /* without the checkpoint it does nothing */
    {"url", LD_DIALECT_IGNORE, NULL},               /* SillyTavern leaks these two */
    {"auth", LD_DIALECT_IGNORE, NULL},
    {"restore_faces", LD_DIALECT_LACKED, "face restoration"},
    {"tiling", LD_DIALECT_LACKED, "tiling pictures"},
    {"refiner_checkpoint", LD_DIALECT_LACKED, "refiner"},
    {"firstpass_image", LD_DIALECT_LACKED, "given first pass"},
    {"script_name", LD_DIALECT_LACKED, "scripts"},
    /* The other call's own. */
    {"enable_hr", LD_DIALECT_READ, NULL},
    {"hr_scale", LD_DIALECT_READ, NULL},
    {"hr_upscaler", LD_DIALECT_READ, NULL},
    {"hr_second_pass_steps", LD_DIALECT_READ, NULL},
    {"hr_resize_x", LD_DIALECT_READ, NULL},
    {"hr_resize_y", LD_DIALECT_READ, NULL},
    {"hr_checkpoint_name", LD_DIALECT_READ, NULL},
    {"hr_sampler_name", LD_DIALECT_READ, NULL},
    {"hr_scheduler", LD_DIALECT_READ, NULL},
    {"hr_prompt", LD_DIALECT_READ, NULL},
    {"hr_negative_prompt", LD_DIALECT_READ, NULL},
    {"hr_cfg", LD_DIALECT_READ, NULL},
    {"hr_additional_modules", LD_DIALECT_READ, NULL},
    {"firstphase_width", LD_DIALECT_READ, NULL},
    {"firstphase_height", LD_DIALECT_READ, NULL},
    {"init_images", LD_DIALECT_READ, NULL},
    {"resize_mode", LD_DIALECT_READ, NULL},
    {"image_cfg_scale", LD_DIALECT_READ, NULL},
    {"mask", LD_DIALECT_READ, NULL},
    {"mask_blur", LD_DIALECT_READ, NULL},
    {"mask_blur_x", LD_DIALECT_READ, NULL},
    {"mask_blur_y", LD_DIALECT_READ, NULL},
    {"mask_round", LD_DIALECT_READ, NULL},
    {"inpainting_fill", LD_DIALECT_READ, NULL},
    {"inpaint_full_res", LD_DIALECT_READ, NULL},
    {"inpaint_full_res_padding", LD_DIALECT_READ, NULL},
    {"inpainting_mask_invert", LD_DIALECT_READ, NULL},
    {"initial_noise_multiplier", LD_DIALECT_READ, NULL},
    {"latent_mask", LD_DIALECT_READ, NULL},
    {"include_init_images", LD_DIALECT_READ, NULL},
    {NULL, LD_DIALECT_READ, NULL},
};

/* The body while it is read. */
struct body {
    struct ld_translation *t;
    const struct ld_json_tree *tree;
    const struct ld_json_node *root;
};

static const struct ld_json_node *member(const struct body *b, const char *key)
{
    return ld_lenient_member(b->tree, b->root, key);
}

static int64_t whole(const struct body *b, const char *key, int64_t by_default)
{
    return ld_body_whole(b->t, b->tree, b->root, key, by_default);
}

static double number(const struct body *b, const char *key, double by_default)
{
    return ld_body_number(b->t, b->tree, b->root, key, by_default);
}

static const char *text(const struct body *b, const char *key)
{
    return ld_body_text(b->t, b->tree, b->root, key, "");
}

/* ---- Options --------------------------------------------------------------------------------- */

void ld_a1111_options_read(struct ld_a1111_options *options, const struct ld_json_tree *tree,
                           const struct ld_json_node *object, struct ld_arena *arena)
{
    const struct ld_json_node *model = ld_lenient_member(tree, object, "sd_model_checkpoint");
    const struct ld_json_node *vae = ld_lenient_member(tree, object, "sd_vae");
    const struct ld_json_node *skip = ld_lenient_member(tree, object, "CLIP_stop_at_last_layers");
    const struct ld_json_node *ensd = ld_lenient_member(tree, object, "eta_noise_seed_delta");
    const struct ld_json_node *live = ld_lenient_member(tree, object, "live_previews_enable");
    const struct ld_json_node *every =
        ld_lenient_member(tree, object, "show_progress_every_n_steps");
    const struct ld_json_node *shown =
        ld_lenient_member(tree, object, "live_previews_image_format");
    const struct ld_json_node *format = ld_lenient_member(tree, object, "samples_format");
    const struct ld_json_node *quality = ld_lenient_member(tree, object, "jpeg_quality");
    const struct ld_json_node *lossless = ld_lenient_member(tree, object, "webp_lossless");
    int64_t value;
    bool on;
    const char *words;
    if (format && (words = ld_lenient_text(format, arena)))
        options->format = words;
    if (quality && ld_lenient_whole(quality, &value))
        options->quality = value < 1 ? 1 : value > 100 ? 100 : value;
    if (lossless && ld_lenient_flag(lossless, &on))
        options->lossless = on;
    if (live && ld_lenient_flag(live, &on))
        options->previews_off = !on;
    if (every && ld_lenient_whole(every, &value))
        options->previews_every = value > 0 && value <= LD_STEPS_MAX ? value : -1;
    if (shown && (words = ld_lenient_text(shown, arena)))
        options->previews_format = words;
    if (model && (words = ld_lenient_text(model, arena)))
        options->model = words;
    if (vae && (words = ld_lenient_text(vae, arena)))
        options->vae = words;
    if (skip && ld_lenient_whole(skip, &value))
        options->clip_skip = value;
    if (ensd && ld_lenient_whole(ensd, &value))
        options->ensd = value;
}

void ld_a1111_options_write(const struct ld_a1111_options *options, struct ld_buffer *out)
{
    ld_buffer_text(out, "{\"sd_model_checkpoint\":");
    ld_buffer_json_string(out, options->model ? options->model : "");
    ld_buffer_text(out, ",\"sd_vae\":");
    ld_buffer_json_string(out, options->vae ? options->vae : "Automatic");
    ld_buffer_format(out, ",\"CLIP_stop_at_last_layers\":%lld,\"eta_noise_seed_delta\":%lld",
                     (long long)options->clip_skip, (long long)options->ensd);
    if (options->format) {
        ld_buffer_text(out, ",\"samples_format\":");
        ld_buffer_json_string(out, options->format);
    }
    if (options->quality > 0)
        ld_buffer_format(out, ",\"jpeg_quality\":%lld", (long long)options->quality);
    if (options->lossless)
        ld_buffer_text(out, ",\"webp_lossless\":true");
    if (options->previews_off)
        ld_buffer_text(out, ",\"live_previews_enable\":false");
    if (options->previews_every != 0)
        ld_buffer_format(out, ",\"show_progress_every_n_steps\":%lld",
                         (long long)options->previews_every);
    if (options->previews_format) {
        ld_buffer_text(out, ",\"live_previews_image_format\":");
        ld_buffer_json_string(out, options->previews_format);
    }
    ld_buffer_byte(out, '}');
}

int64_t ld_a1111_previews_every(const struct ld_a1111_options *options)
{
    enum { USUAL = 10 }; /* as in the other program */
    if (options->previews_off || options->previews_every < 0)
        return 0;
    return options->previews_every > 0 ? options->previews_every : USUAL;
}

void ld_a1111_model_name(const char *title, char *out)
{
    const size_t size = strlen(title);
    const char *hash = size > 1 && title[size - 1] == ']' ? strrchr(title, '[') : NULL;
    size_t kept = hash ? (size_t)(hash - title) : size;
    while (kept > 0 && title[kept - 1] == ' ')
        kept--;
    ld_recipe_model_name(ld_span_of(title, kept), out);
}

void ld_a1111_put_file(struct ld_translation *t, const struct ld_a1111_options *options)
{
    const char *format = options->format ? options->format : "png";
    const bool is_jpeg = strcasecmp(format, "jpg") == 0 || strcasecmp(format, "jpeg") == 0;
    const bool is_webp = strcasecmp(format, "webp") == 0;
    if (!is_jpeg && !is_webp && strcasecmp(format, "png") != 0)
        ld_translation_warn(t, "samples_format %.32s is not written here; the picture is a PNG",
                            format);
    if (!is_jpeg && !is_webp)
        return;
    ld_recipe_put_string(&t->fields, "output.format", is_jpeg ? "jpeg" : "webp");
    if (is_webp && options->lossless)
        ld_recipe_put_bool(&t->fields, "output.lossless", true);
    else
        ld_recipe_put_integer(&t->fields, "output.quality",
                              options->quality > 0 ? options->quality : LD_A1111_QUALITY_DEFAULT);
}

/* A preview that cannot be of that kind is none to refuse a picture for. */
static void put_previews(struct ld_translation *t, const struct ld_a1111_options *options)
{
    const char *format = options->previews_format ? options->previews_format : "png";
    enum ld_picture_kind kind = LD_PICTURE_PNG;
    ld_recipe_put_integer(&t->fields, "preview.every", ld_a1111_previews_every(options));
    ld_recipe_put_integer(&t->fields, "preview.size", PREVIEW_SIDE);
    if (!ld_picture_kind_find(format, &kind) || !ld_picture_kind_built(kind))
        ld_translation_warn(
            t, "live_previews_image_format %.32s is not written here; previews are PNGs", format);
    else if (options->previews_format)
        ld_recipe_put_string(&t->fields, "preview.format", ld_picture_kind_name(kind));
}

/* What the settings say; the body's own clip_skip, put later, wins. */
static void put_options(struct ld_translation *t, const struct ld_a1111_options *options)
{
    char name[LD_RECIPE_NAME_SIZE];
    if (options->model && *options->model) {
        ld_a1111_model_name(options->model, name);
        ld_recipe_put_string(&t->fields, "model", name);
    }
    if (options->vae && *options->vae && strcasecmp(options->vae, "Automatic") != 0 &&
        strcasecmp(options->vae, "None") != 0) {
        ld_a1111_model_name(options->vae, name);
        ld_recipe_put_string(&t->fields, "vae", name);
    }
    if (options->clip_skip > 0)
        ld_recipe_put_integer(&t->fields, "clip_skip", options->clip_skip);
    if (options->ensd != 0)
        ld_recipe_put_integer(&t->fields, "sampler_options.ensd", options->ensd);
    ld_a1111_put_file(t, options);
    if (ld_a1111_previews_every(options) > 0) /* for /progress */
        put_previews(t, options);
}

static void put_overrides(const struct body *b, struct ld_a1111_options options)
{
    static const char *const known[] = {"sd_model_checkpoint",
                                        "sd_vae",
                                        "CLIP_stop_at_last_layers",
                                        "eta_noise_seed_delta",
                                        "live_previews_enable",
                                        "show_progress_every_n_steps",
                                        "live_previews_image_format",
                                        "samples_format",
                                        "jpeg_quality",
                                        "webp_lossless"};
    const struct ld_json_node *given = member(b, "override_settings");
    if (given && given->kind != LD_JSON_OBJECT_BEGIN) {
        ld_translation_refuse(b->t, "/override_settings", "override_settings must be an object");
        given = NULL;
    }
    if (given)
        ld_a1111_options_read(&options, b->tree, given, b->t->native->arena);
    put_options(b->t, &options);
    for (const struct ld_json_node *node = given ? ld_json_first(b->tree, given) : NULL; node;
         node = ld_json_after(b->tree, node)) {
        bool is_known = false;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            is_known = is_known || ld_span_is(node->key, known[i]);
        if (!is_known)
            ld_translation_warn(b->t, "override_settings.%.*s is not known here and was ignored",
                                node->key.size > 64 ? 64 : (int)node->key.size,
                                (const char *)node->key.data);
    }
}

/* ---- What is sampled ------------------------------------------------------------------------- */

/* The other program's defaults, for clients that count on them; a body's own values follow. */
static void put_defaults(struct ld_translation *t)
{
    ld_recipe_put_string(&t->fields, "prompt", "");
    ld_recipe_put_string(&t->fields, "syntax", "a1111");
    ld_recipe_put_string(&t->fields, "profile", "a1111");
    ld_recipe_put_integer(&t->fields, "steps", 50);
    ld_recipe_put_integer(&t->fields, "cfg_scale", 7);
    ld_recipe_put_integer(&t->fields, "width", 512);
    ld_recipe_put_integer(&t->fields, "height", 512);
}

/* A1111's text of a picture fills what the body leaves open. */
static void put_infotext(const struct body *b)
{
    struct ld_recipe recipe;
    struct ld_error err = {0};
    struct ld_json_tree tree;
    const char *words = text(b, "infotext");
    if (!*words)
        return;
    if (ld_recipe_from_infotext(&recipe, ld_span_text(words), &err) == LD_OK &&
        ld_json_scan(&tree, ld_span_of(recipe.request.data, recipe.request.size), LD_JSON_DEPTH,
                     LD_JSON_VALUES, b->t->native->arena, &err) == LD_OK) {
        ld_translate_native(b->t, &tree);
        ld_translate_notes(b->t, &recipe);
    } else {
        (void)ld_problem_add_error(&b->t->native->problem, "/infotext", &err);
    }
    ld_recipe_deinit(&recipe);
}

static void put_samplers(const struct body *b)
{
    const char *sampler = text(b, "sampler_name");
    const char *scheduler = text(b, "scheduler");
    if (!*sampler && !*scheduler && ld_recipe_has(&b->t->fields, "sampler"))
        return; /* an infotext's */
    if (!*sampler && member(b, "sampler_index") &&
        member(b, "sampler_index")->kind == LD_JSON_STRING)
        sampler = text(b, "sampler_index");
    if (!*sampler)
        sampler = "Euler";
    const bool automatic = !*scheduler || strcasecmp(scheduler, "automatic") == 0;
    ld_recipe_put_sampler(&b->t->fields, sampler, automatic ? "" : scheduler, "sampler",
                          "scheduler");
    if (!ld_recipe_has(&b->t->fields, "scheduler"))
        ld_recipe_put_string(&b->t->fields, "scheduler", "automatic");
}

static void put_variation(const struct body *b)
{
    const double strength = number(b, "subseed_strength", 0);
    const int64_t seed = whole(b, "subseed", -1);
    if (strength == 0)
        return;
    ld_recipe_put_double(&b->t->fields, "variation.strength", strength);
    ld_recipe_put_integer(&b->t->fields, "variation.seed", seed < 0 ? -1 : seed);
}

static void put_count(const struct body *b)
{
    const int64_t size = whole(b, "batch_size", 1);
    const int64_t turns = whole(b, "n_iter", 1);
    if (size < 1 || turns < 1 || size > LD_IMAGES_MAX || turns > LD_IMAGES_MAX)
        ld_translation_refuse(b->t, "/batch_size",
                              "batch_size x n_iter must be between 1 and %d pictures",
                              LD_IMAGES_MAX);
    else
        ld_recipe_put_integer(&b->t->fields, "images", size * turns);
}

/* Adapters stand in the prompt, unless they are to be left out. */
static void put_prompt(const struct body *b)
{
    const char *prompt = text(b, "prompt");
    if (!member(b, "prompt") && ld_recipe_has(&b->t->fields, "prompt"))
        return; /* an infotext's */
    ld_recipe_put_prompt(&b->t->fields, ld_span_text(prompt));
    if (ld_body_flag(b->t, b->tree, b->root, "disable_extra_networks", false))
        ld_recipe_put_json(&b->t->fields, "loras", ld_span_text("[]"));
}

/* ---- Second pass ----------------------------------------------------------------------------- */

static int64_t rounded(double side)
{
    return (int64_t)(side / 8 + 0.5) * 8;
}

static void put_hires_size(const struct body *b)
{
    const int64_t x = whole(b, "hr_resize_x", 0);
    const int64_t y = whole(b, "hr_resize_y", 0);
    const double width = (double)whole(b, "width", 512);
    const double height = (double)whole(b, "height", 512);
    if (x <= 0 && y <= 0) {
        ld_recipe_put_double(&b->t->fields, "hires.scale", number(b, "hr_scale", 2));
    } else { /* the side that is not given follows the shape */
        ld_recipe_put_integer(&b->t->fields, "hires.width",
                              x > 0 ? x : rounded(width * (double)y / height));
        ld_recipe_put_integer(&b->t->fields, "hires.height",
                              y > 0 ? y : rounded(height * (double)x / width));
    }
}

static void put_hires(const struct body *b)
{
    if (!ld_body_flag(b->t, b->tree, b->root, "enable_hr", false))
        return;
    const int64_t steps = whole(b, "hr_second_pass_steps", 0);
    const char *sampler = text(b, "hr_sampler_name");
    const char *scheduler = text(b, "hr_scheduler");
    const char *upscaler = text(b, "hr_upscaler");
    const char *prompt = text(b, "hr_prompt");
    const char *negative = text(b, "hr_negative_prompt");
    const char *model = text(b, "hr_checkpoint_name");
    put_hires_size(b);
    ld_recipe_put_double(&b->t->fields, "hires.strength", number(b, "denoising_strength", 0.75));
    ld_recipe_put_upscaler(&b->t->fields, *upscaler ? upscaler : "Latent");
    if (steps > 0)
        ld_recipe_put_integer(&b->t->fields, "hires.steps", steps);
    if (*sampler && strcasecmp(sampler, "Use same sampler") != 0)
        ld_recipe_put_sampler(&b->t->fields, sampler,
                              strcasecmp(scheduler, "Use same scheduler") == 0 ? "" : scheduler,
                              "hires.sampler", "hires.scheduler");
    else if (*scheduler && strcasecmp(scheduler, "Use same scheduler") != 0)
        ld_recipe_put_string(&b->t->fields, "hires.scheduler", scheduler);
    if (*prompt)
        ld_recipe_put_string(&b->t->fields, "hires.prompt", prompt);
    if (*negative)
        ld_recipe_put_string(&b->t->fields, "hires.negative_prompt", negative);
    const struct ld_json_node *modules = member(b, "hr_additional_modules");
    if (modules && !ld_lenient_is_empty(modules) &&
        !ld_json_string_is(ld_json_first(b->tree, modules), "Use same choices"))
        ld_translation_warn(b->t, "hr_additional_modules: the second pass has the first one's");
    if (member(b, "hr_cfg"))
        ld_recipe_put_double(&b->t->fields, "hires.cfg_scale", number(b, "hr_cfg", 1));
    if (*model && strcasecmp(model, "Use same checkpoint") != 0) {
        char name[LD_RECIPE_NAME_SIZE];
        ld_a1111_model_name(model, name);
        ld_recipe_put_string(&b->t->fields, "hires.model", name);
    }
}

/* ---- Image to image -------------------------------------------------------------------------- */

static void put_mask(const struct body *b)
{
    const struct ld_json_node *mask = member(b, "mask");
    if (!mask || ld_lenient_is_empty(mask))
        return;
    const double across = number(b, "mask_blur_x", 4);
    const double down = number(b, "mask_blur_y", 4);
    const int64_t fill = whole(b, "inpainting_fill", 0);
    ld_translate_picture(b->t, mask, "/mask", "init.mask");
    ld_recipe_put_integer(&b->t->fields, "init.mask_blur",
                          whole(b, "mask_blur", (int64_t)(across > down ? across : down)));
    if (whole(b, "inpainting_mask_invert", 0) != 0)
        ld_recipe_put_string(&b->t->fields, "init.mask_from", "black");
    if (ld_body_flag(b->t, b->tree, b->root, "inpaint_full_res", true)) {
        ld_recipe_put_string(&b->t->fields, "init.area", "masked");
        ld_recipe_put_integer(&b->t->fields, "init.mask_padding",
                              whole(b, "inpaint_full_res_padding", 0));
    }
    if (!ld_body_flag(b->t, b->tree, b->root, "mask_round", true))
        ld_translation_warn(b->t, "mask_round: a cell of the mask is painted anew or kept, never "
                                  "in part");
    if (fill != 1)
        ld_translation_warn(b->t, "inpainting_fill: the masked area begins with the original");
}

static void put_init(const struct body *b)
{
    static const char *const modes[] = {"stretch", "crop", "pad", "stretch"};
    const struct ld_json_node *list = member(b, "init_images");
    const struct ld_json_node *first =
        list && list->kind == LD_JSON_ARRAY_BEGIN ? ld_json_first(b->tree, list) : NULL;
    const int64_t mode = whole(b, "resize_mode", 0);
    if (!first) {
        (void)ld_problem_add(&b->t->native->problem, LD_E_NOT_FOUND, "/init_images",
                             "Init image not found");
        return;
    }
    if (list->child_count > 1)
        ld_translation_refuse(b->t, "/init_images", "init_images must have one picture");
    ld_translate_picture(b->t, first, "/init_images/0", "init.image");
    ld_recipe_put_double(&b->t->fields, "init.strength", number(b, "denoising_strength", 0.75));
    if (mode < 0 || mode > 3)
        ld_translation_refuse(b->t, "/resize_mode", "resize_mode must be between 0 and 3");
    else
        ld_recipe_put_string(&b->t->fields, "init.resize", modes[mode]);
    if (mode == 3)
        ld_translation_warn(b->t, "resize_mode 3: the picture is resized, not its latent");
    if (number(b, "initial_noise_multiplier", 1) != 1)
        ld_translation_refuse(b->t, "/initial_noise_multiplier",
                              "initial_noise_multiplier must be 1");
    if (member(b, "latent_mask") && !ld_lenient_is_empty(member(b, "latent_mask")))
        ld_translation_refuse(b->t, "/latent_mask", "latent_mask: latentd has no masks of latents");
    if (member(b, "image_cfg_scale") && number(b, "image_cfg_scale", 1.5) != 1.5)
        ld_translation_warn(b->t, "image_cfg_scale has a meaning for models that edit pictures "
                                  "only and was ignored");
    put_mask(b);
}

/* ---- All of it ------------------------------------------------------------------------------- */

/* Fields of the other of the two calls, which do nothing in this one. */
static void note_the_other_calls(const struct body *b, bool image_to_image)
{
    static const char *const pictures[] = {"init_images", "mask", "latent_mask"};
    if (image_to_image && ld_body_flag(b->t, b->tree, b->root, "enable_hr", false))
        ld_translation_warn(b->t, "enable_hr: img2img has no second pass; it was ignored");
    for (size_t i = 0; i < sizeof pictures / sizeof pictures[0] && !image_to_image; i++)
        if (member(b, pictures[i]) && !ld_lenient_is_empty(member(b, pictures[i])))
            ld_translation_warn(b->t, "%s: txt2img begins with nothing; it was ignored",
                                pictures[i]);
}

static void note_the_rest(const struct body *b)
{
    const struct ld_json_node *styles = member(b, "styles");
    if (styles && !ld_lenient_is_empty(styles))
        ld_translation_warn(b->t, "styles: this server has no prompt styles; none was applied");
    if (ld_body_flag(b->t, b->tree, b->root, "save_images", false))
        ld_translation_warn(b->t, "save_images: the pictures are kept with the job, as always");
    if (whole(b, "seed_resize_from_h", -1) > 0 || whole(b, "seed_resize_from_w", -1) > 0)
        ld_translation_refuse(b->t, "/seed_resize_from_h",
                              "seed_resize_from_h, seed_resize_from_w: latentd has no "
                              "resizing of seeds");
    if (whole(b, "firstphase_width", 0) > 0 || whole(b, "firstphase_height", 0) > 0)
        ld_translation_refuse(b->t, "/firstphase_width",
                              "firstphase_width and firstphase_height are replaced by width, "
                              "height and hr_scale");
}

void ld_a1111_translate(struct ld_translation *t, const struct ld_json_tree *tree,
                        bool image_to_image, const struct ld_a1111_options *options)
{
    const struct body b = {t, tree, ld_json_root(tree)};
    put_defaults(t);
    put_infotext(&b);
    put_overrides(&b, *options);
    ld_translate_rows(t, tree, b.root, common_rows);
    put_samplers(&b);
    put_variation(&b);
    put_count(&b);
    put_prompt(&b);
    ld_a1111_translate_scripts(t, tree, member(&b, "alwayson_scripts"));
    note_the_rest(&b);
    note_the_other_calls(&b, image_to_image);
    if (image_to_image)
        put_init(&b);
    else
        put_hires(&b);
    ld_a1111_translate_control(t, tree, b.root);
}
