/* NovelAI's Comment to a native request. Source: api.md 2.3. */
#include "runtime/base/json.h"
#include "runtime/image/recipe_build.h"

#include <string.h>

enum kind { NUMBER, WHOLE, SEED, TEXT, SWITCH, REFUSED };

static const struct row {
    const char *key;
    const char *path; /* of REFUSED: what is told instead */
    enum kind kind;
} rows[] = {
    {"prompt", "prompt", TEXT},
    {"uc", "negative_prompt", TEXT},
    {"steps", "steps", WHOLE},
    {"width", "width", WHOLE},
    {"height", "height", WHOLE},
    {"scale", "cfg_scale", NUMBER},
    {"seed", "seed", SEED},
    {"sampler", "sampler", TEXT},
    {"noise_schedule", "scheduler", TEXT},
    {"uncond_scale", "guidance.uncond_scale", NUMBER},
    {"cfg_rescale", "guidance.rescale", NUMBER},
    {"skip_cfg_above_sigma", "guidance.skip_above_sigma", NUMBER},
    {"skip_cfg_below_sigma", "guidance.skip_below_sigma", NUMBER},
    {"dynamic_thresholding_percentile", "guidance.dynamic_threshold.percentile", NUMBER},
    {"dynamic_thresholding_mimic_scale", "guidance.dynamic_threshold.mimic_scale", NUMBER},
    {"sm", "SMEA was on, which has no public definition", SWITCH},
    {"sm_dyn", "SMEA DYN was on, which has no public definition", SWITCH},
    {"reference_image", "a vibe transfer image took part, which is not here", REFUSED},
    {"controlnet_condition", "a ControlNet condition took part, which is not here", REFUSED},
    {"image", "made from another picture, which is not here", REFUSED},
};

static const struct row *row_of(const struct ld_json_token *key)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (ld_json_is(key, rows[i].key))
            return &rows[i];
    return NULL;
}

/* A string's literal is JSON already. */
static void put_string(struct ld_recipe_fields *fields, const char *path,
                       const struct ld_json_token *token)
{
    ld_recipe_put_json(fields, path, ld_span_of(token->text.data - 1, token->text.size + 2));
}

static void put_value(struct ld_recipe_fields *fields, const struct row *row,
                      const struct ld_json_token *token)
{
    const bool number = token->kind == LD_JSON_INTEGER || token->kind == LD_JSON_REAL;
    switch (row->kind) {
    case TEXT:
        if (token->kind == LD_JSON_STRING)
            put_string(fields, row->path, token);
        break;
    case NUMBER:
        if (number)
            (void)ld_recipe_put_number(fields, row->path, token->text);
        break;
    case WHOLE:
        if (number)
            (void)ld_recipe_put_whole(fields, row->path, token->text);
        break;
    case SEED:
        if (token->kind == LD_JSON_INTEGER)
            (void)ld_recipe_put_seed_text(fields, row->path, token->text);
        break;
    case SWITCH:
        if (token->kind == LD_JSON_TRUE)
            ld_recipe_note(fields, "%s", row->path);
        break;
    case REFUSED:
        if (token->kind != LD_JSON_NULL && token->kind != LD_JSON_FALSE)
            ld_recipe_note(fields, "%s", row->path);
        break;
    }
}

/* Members of the outer object only; what is not known is stepped over. */
static enum ld_code walk(struct ld_recipe_fields *fields, struct ld_span text, bool *threshold,
                         struct ld_error *err)
{
    struct ld_json json;
    struct ld_json_token token;
    ld_json_init(&json, text, 32, 65536);
    enum ld_code code = ld_json_next(&json, &token, err);
    if (code == LD_OK && token.kind != LD_JSON_OBJECT_BEGIN)
        return LD_FAIL(err, LD_E_FORMAT, "the image's Comment is no JSON object");
    while (code == LD_OK) {
        code = ld_json_next(&json, &token, err);
        if (code != LD_OK || token.kind != LD_JSON_KEY)
            break; /* the end of the object */
        const struct row *row = row_of(&token);
        const bool is_threshold = ld_json_is(&token, "dynamic_thresholding");
        code = ld_json_next(&json, &token, err);
        if (code != LD_OK)
            break;
        *threshold = *threshold || (is_threshold && token.kind == LD_JSON_TRUE);
        if (row)
            put_value(fields, row, &token);
        code = ld_json_skip(&json, &token, err);
    }
    return code;
}

/* Keep the options of dynamic thresholding only where it was on. */
static void settle_threshold(struct ld_recipe_fields *fields, bool on)
{
    const char *const options = "guidance.dynamic_threshold.";
    size_t kept = 0;
    for (size_t i = 0; i < fields->count; i++)
        if (on || strncmp(fields->field[i].path, options, strlen(options)) != 0)
            fields->field[kept++] = fields->field[i];
    fields->count = kept;
    if (on && !ld_recipe_has(fields, "guidance.dynamic_threshold.mimic_scale"))
        ld_recipe_put_integer(fields, "guidance.dynamic_threshold.mimic_scale", 10);
    if (on && !ld_recipe_has(fields, "guidance.dynamic_threshold.percentile"))
        ld_recipe_put_double(fields, "guidance.dynamic_threshold.percentile", 0.999);
}

enum ld_code ld_recipe_from_novelai(struct ld_recipe *recipe, struct ld_span json,
                                    struct ld_error *err)
{
    struct ld_recipe_fields fields;
    bool threshold = false;
    ld_recipe_init(recipe, LD_RECIPE_NOVELAI);
    ld_recipe_fields_init(&fields);
    ld_recipe_put_string(&fields, "syntax", "novelai");
    ld_recipe_put_string(&fields, "prompt", "");
    const enum ld_code code = walk(&fields, json, &threshold, err);
    settle_threshold(&fields, threshold);
    ld_recipe_note(&fields, "NovelAI's own service paints a little differently; expect a likeness, "
                            "not the same picture");
    const enum ld_code finished = ld_recipe_fields_finish(&fields, recipe, code ? NULL : err);
    return code != LD_OK ? code : finished;
}
