#include "api/dialect_novelai.h"

#include <strings.h>

enum { SAMPLES_MAX = 8, STEPS_MAX = 50 };

/* autoSmea of the first two models: pictures of so many pixels and more (api.md 2.3). */
static const int64_t auto_smea_area = 1064961;

static const struct ld_dialect_row outer_rows[] = {
    {"input", LD_DIALECT_READ, NULL},
    {"model", LD_DIALECT_READ, NULL},
    {"action", LD_DIALECT_READ, NULL},
    {"parameters", LD_DIALECT_READ, NULL},
    {"use_new_shared_trial", LD_DIALECT_IGNORE, NULL}, /* accounts of the original service */
    {"recaptcha_token", LD_DIALECT_IGNORE, NULL},
    {"url", LD_DIALECT_IGNORE, NULL},
    {NULL, LD_DIALECT_READ, NULL},
};

static const struct ld_dialect_row rows[] = {
    {"width", LD_DIALECT_WHOLE, "width"},
    {"height", LD_DIALECT_WHOLE, "height"},
    {"scale", LD_DIALECT_NUMBER, "cfg_scale"},
    {"seed", LD_DIALECT_SEED, "seed"},
    {"noise_schedule", LD_DIALECT_TEXT, "scheduler"},
    {"uncond_scale", LD_DIALECT_NUMBER, "guidance.uncond_scale"},
    {"cfg_rescale", LD_DIALECT_NUMBER, "guidance.rescale"},
    {"skip_cfg_above_sigma", LD_DIALECT_NUMBER, "guidance.skip_above_sigma"},
    {"skip_cfg_below_sigma", LD_DIALECT_NUMBER, "guidance.skip_below_sigma"},
    {"steps", LD_DIALECT_READ, NULL},
    {"sampler", LD_DIALECT_READ, NULL},
    {"n_samples", LD_DIALECT_READ, NULL},
    {"negative_prompt", LD_DIALECT_READ, NULL},
    {"uc", LD_DIALECT_READ, NULL},
    {"sm", LD_DIALECT_READ, NULL},
    {"sm_dyn", LD_DIALECT_READ, NULL},
    {"autoSmea", LD_DIALECT_READ, NULL},
    {"dynamic_thresholding", LD_DIALECT_READ, NULL},
    {"dynamic_thresholding_percentile", LD_DIALECT_READ, NULL},
    {"dynamic_thresholding_mimic_scale", LD_DIALECT_READ, NULL},
    {"image", LD_DIALECT_READ, NULL},
    {"mask", LD_DIALECT_READ, NULL},
    {"strength", LD_DIALECT_READ, NULL},
    {"noise", LD_DIALECT_READ, NULL},
    {"inpaintImg2ImgStrength", LD_DIALECT_READ, NULL},
    {"add_original_image", LD_DIALECT_READ, NULL},
    {"extra_noise_seed", LD_DIALECT_READ, NULL},
    {"color_correct", LD_DIALECT_READ, NULL},
    {"image_format", LD_DIALECT_READ, NULL},
    {"stream", LD_DIALECT_READ, NULL},
    {"v4_prompt", LD_DIALECT_READ, NULL},
    {"v4_negative_prompt", LD_DIALECT_READ, NULL},
    /* Kept in the metadata, as clients have written their meaning into the texts. */
    {"qualityToggle", LD_DIALECT_IGNORE, NULL},
    {"ucPreset", LD_DIALECT_IGNORE, NULL},
    /* Choose among versions of the original program. */
    {"params_version", LD_DIALECT_IGNORE, NULL},
    {"legacy", LD_DIALECT_IGNORE, NULL},
    {"legacy_v3_extend", LD_DIALECT_IGNORE, NULL},
    {"legacy_uc", LD_DIALECT_IGNORE, NULL},
    {"deliberate_euler_ancestral_bug", LD_DIALECT_IGNORE, NULL},
    {"prefer_brownian", LD_DIALECT_IGNORE, NULL},
    {"use_coords", LD_DIALECT_IGNORE, NULL},
    {"prompt", LD_DIALECT_IGNORE, NULL},              /* a second copy of input */
    {"controlnet_strength", LD_DIALECT_IGNORE, NULL}, /* without the others it says nothing */
    {"reference_strength", LD_DIALECT_IGNORE, NULL},
    {"reference_information_extracted", LD_DIALECT_IGNORE, NULL},
    {"reference_strength_multiple", LD_DIALECT_IGNORE, NULL},
    {"reference_information_extracted_multiple", LD_DIALECT_IGNORE, NULL},
    {"normalize_reference_strength_multiple", LD_DIALECT_IGNORE, NULL},
    {"controlnet_condition", LD_DIALECT_LACKED, "ControlNet"},
    {"controlnet_model", LD_DIALECT_LACKED, "ControlNet"},
    {"reference_image", LD_DIALECT_LACKED, "vibe transfer"},
    {"reference_image_multiple", LD_DIALECT_LACKED, "vibe transfer"},
    {"director_reference_images", LD_DIALECT_LACKED, "character reference"},
    {"director_reference_descriptions", LD_DIALECT_LACKED, "character reference"},
    {"characterPrompts", LD_DIALECT_LACKED, "prompts of characters"},
    {NULL, LD_DIALECT_READ, NULL},
};

struct body {
    struct ld_translation *t;
    struct ld_novelai_call *call;
    const struct ld_json_node *root, *parameters;
};

static const struct ld_json_node *parameter(const struct body *b, const char *key)
{
    return ld_lenient_member(&b->call->tree, b->parameters, key);
}

static double number(const struct body *b, const char *key, double by_default)
{
    return ld_body_number(b->t, &b->call->tree, b->parameters, key, by_default);
}

static int64_t whole(const struct body *b, const char *key, int64_t by_default)
{
    return ld_body_whole(b->t, &b->call->tree, b->parameters, key, by_default);
}

static bool flag(const struct body *b, const char *key, bool by_default)
{
    return ld_body_flag(b->t, &b->call->tree, b->parameters, key, by_default);
}

static const char *text(const struct body *b, const char *key, const char *by_default)
{
    return ld_body_text(b->t, &b->call->tree, b->parameters, key, by_default);
}

/* ---- Parts ----------------------------------------------------------------------------------- */

/* The names of the service's models stand for the model that is here. */
static void put_model(const struct body *b)
{
    const char *model = ld_body_text(b->t, &b->call->tree, b->root, "model", "");
    if (!*model || strncmp(model, "nai-diffusion-2", 15) == 0)
        return;
    if (strncmp(model, "nai-", 4) == 0 || strncmp(model, "safe-", 5) == 0 ||
        strncmp(model, "custom", 6) == 0)
        ld_translation_warn(b->t, "model: the server's default model stands in for %.64s", model);
    else
        ld_recipe_put_string(&b->t->fields, "model", model);
}

static const struct ld_json_node *caption_of(const struct body *b, const char *key)
{
    const struct ld_json_node *v4 = parameter(b, key);
    return v4 ? ld_lenient_member(&b->call->tree, v4, "caption") : NULL;
}

/* The text that later models have a second copy of. */
static const char *base_caption(const struct body *b, const char *key)
{
    const struct ld_json_node *caption = caption_of(b, key);
    return caption ? ld_body_text(b->t, &b->call->tree, caption, "base_caption", "") : "";
}

static void put_prompts(const struct body *b)
{
    const struct ld_json_node *caption = caption_of(b, "v4_prompt");
    const struct ld_json_node *characters =
        caption ? ld_lenient_member(&b->call->tree, caption, "char_captions") : NULL;
    if (characters && !ld_lenient_is_empty(characters))
        ld_translation_refuse(b->t, "/parameters/v4_prompt",
                              "v4_prompt: latentd has no prompts of characters");
    ld_recipe_put_string(&b->t->fields, "syntax", "novelai");
    ld_recipe_put_string(
        &b->t->fields, "prompt",
        ld_body_text(b->t, &b->call->tree, b->root, "input", base_caption(b, "v4_prompt")));
    ld_recipe_put_string(
        &b->t->fields, "negative_prompt",
        text(b, "negative_prompt", text(b, "uc", base_caption(b, "v4_negative_prompt"))));
}

static void put_smea(const struct body *b, const char *sampler, bool named)
{
    const bool smea = flag(b, "sm", false) || flag(b, "sm_dyn", false) || named;
    const int64_t area = whole(b, "width", 832) * whole(b, "height", 1216);
    const bool automatic = flag(b, "autoSmea", true) && area >= auto_smea_area &&
                           !parameter(b, "image") && strncmp(sampler, "ddim", 4) != 0;
    if (flag(b, "sm_dyn", false))
        ld_translation_warn(b->t, "sm_dyn: the second model knows plain SMEA only, which is used");
    if (smea || automatic)
        ld_recipe_put_string(&b->t->fields, "smea", "on");
}

static void put_sampling(const struct body *b)
{
    const char *sampler = text(b, "sampler", "k_euler_ancestral");
    const bool named = strncmp(sampler, "nai_smea", 8) == 0; /* a sampler of its own once */
    const int64_t steps = whole(b, "steps", 28);
    const int64_t samples = whole(b, "n_samples", 1);
    ld_recipe_put_string(&b->t->fields, "sampler", named ? "k_euler_ancestral" : sampler);
    if (!parameter(b, "noise_schedule"))
        ld_recipe_put_string(&b->t->fields, "scheduler", "native");
    put_smea(b, sampler, named);
    b->call->steps = (int32_t)(steps > 0 && steps <= STEPS_MAX ? steps : 28);
    if (steps < 1 || steps > STEPS_MAX)
        ld_translation_refuse(b->t, "/parameters/steps", "steps must be between 1 and %d",
                              STEPS_MAX);
    else
        ld_recipe_put_integer(&b->t->fields, "steps", steps);
    if (samples < 1 || samples > SAMPLES_MAX)
        ld_translation_refuse(b->t, "/parameters/n_samples", "n_samples must be between 1 and %d",
                              SAMPLES_MAX);
    else
        ld_recipe_put_integer(&b->t->fields, "images", samples);
    if (flag(b, "dynamic_thresholding", false)) {
        ld_recipe_put_double(&b->t->fields, "guidance.dynamic_threshold.mimic_scale",
                             number(b, "dynamic_thresholding_mimic_scale", 10));
        ld_recipe_put_double(&b->t->fields, "guidance.dynamic_threshold.percentile",
                             number(b, "dynamic_thresholding_percentile", 0.999));
    }
}

static void put_picture(const struct body *b, bool infill)
{
    const struct ld_json_node *image = parameter(b, "image");
    const struct ld_json_node *mask = parameter(b, "mask");
    if (!image || (infill && !mask)) {
        ld_translation_refuse(b->t, image ? "/parameters/mask" : "/parameters/image",
                              "%s is required for this action", image ? "mask" : "image");
        return;
    }
    ld_translate_picture(b->t, image, "/parameters/image", "init.image");
    ld_recipe_put_double(&b->t->fields, "init.strength",
                         infill ? number(b, "inpaintImg2ImgStrength", 1)
                                : number(b, "strength", 0.7));
    ld_recipe_put_double(&b->t->fields, "init.noise", number(b, "noise", 0));
    if (infill) {
        ld_translate_picture(b->t, mask, "/parameters/mask", "init.mask");
        ld_recipe_put_bool(&b->t->fields, "init.paste_back", flag(b, "add_original_image", true));
    }
    if (flag(b, "color_correct", false))
        ld_recipe_put_bool(&b->t->fields, "init.color_correction", true);
    if (parameter(b, "extra_noise_seed") &&
        whole(b, "extra_noise_seed", 0) != whole(b, "seed", 0) && number(b, "noise", 0) != 0)
        ld_translation_warn(b->t, "extra_noise_seed: the extra noise follows seed");
}

/* Pictures that the action has no use for. */
static void note_pictures(const struct body *b, const char *action)
{
    if (strcmp(action, "generate") == 0 && parameter(b, "image"))
        ld_translation_warn(b->t, "image: action generate begins with nothing; it was ignored");
    if (strcmp(action, "infill") != 0 && parameter(b, "mask"))
        ld_translation_warn(b->t, "mask: action infill has masks; it was ignored");
}

static void read_stream(const struct body *b)
{
    const char *stream = text(b, "stream", "msgpack");
    if (b->call->stream == LD_NOVELAI_ZIP)
        return;
    if (strcmp(stream, "sse") == 0)
        b->call->stream = LD_NOVELAI_SSE;
    else if (strcmp(stream, "msgpack") != 0)
        ld_translation_refuse(b->t, "/parameters/stream", "stream must be sse or msgpack");
    ld_recipe_put_integer(&b->t->fields, "preview.every", 4);
    ld_recipe_put_integer(&b->t->fields, "preview.size", 512);
}

void ld_novelai_translate(struct ld_translation *t, struct ld_novelai_call *call)
{
    struct body b = {t, call, ld_json_root(&call->tree), NULL};
    const char *action = ld_body_text(t, &call->tree, b.root, "action", "generate");
    const bool infill = strcmp(action, "infill") == 0;
    b.parameters = ld_lenient_member(&call->tree, b.root, "parameters");
    ld_translate_rows(t, &call->tree, b.root, outer_rows);
    if (!b.parameters || b.parameters->kind != LD_JSON_OBJECT_BEGIN) {
        ld_translation_refuse(t, "/parameters", "parameters must be an object");
        return;
    }
    ld_recipe_put_integer(&t->fields, "width", 832);
    ld_recipe_put_integer(&t->fields, "height", 1216);
    ld_recipe_put_integer(&t->fields, "cfg_scale", 10);
    ld_translate_rows(t, &call->tree, b.parameters, rows);
    put_model(&b);
    put_prompts(&b);
    put_sampling(&b);
    read_stream(&b);
    const char *format = text(&b, "image_format", "png");
    if (strcmp(format, "png") != 0 && strcmp(format, "webp") != 0) {
        ld_translation_refuse(t, "/parameters/image_format", "image_format must be png or webp");
    } else if (strcmp(format, "webp") == 0) {
        ld_recipe_put_string(&t->fields, "output.format", format);
        ld_recipe_put_bool(&t->fields, "output.lossless", true); /* as the service's own are */
    }
    note_pictures(&b, action);
    if (infill || strcmp(action, "img2img") == 0)
        put_picture(&b, infill);
    else if (strcmp(action, "generate") != 0)
        ld_translation_refuse(t, "/action", "action must be generate, img2img or infill");
}
