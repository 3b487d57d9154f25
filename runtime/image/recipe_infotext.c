/* A1111's infotext to a native request. Source: api.md 2.7 and A1111's names of its own fields. */
#include "config/limits.h"
#include "runtime/image/recipe_build.h"

#include <string.h>
#include <strings.h>

enum { VALUE_SIZE = LD_PROMPT_BYTES_MAX + 1 };

/* ---- Fields that map one to one -------------------------------------------------------------- */

enum kind { NUMBER, WHOLE, SEED, TEXT, TAGGED, NAME, TITLE, FLAG, IGNORED };

static const struct row {
    const char *key;
    const char *path;
    enum kind kind;
} rows[] = {
    {"Steps", "steps", WHOLE},
    {"CFG scale", "cfg_scale", NUMBER},
    {"Seed", "seed", SEED},
    {"Model", "model", NAME},
    {"VAE", "vae", NAME},
    {"Variation seed", "variation.seed", SEED},
    {"Variation seed strength", "variation.strength", NUMBER},
    {"Clip skip", "clip_skip", WHOLE},
    {"ENSD", "sampler_options.ensd", WHOLE},
    {"Eta", "sampler_options.eta", NUMBER},
    {"Sigma churn", "sampler_options.s_churn", NUMBER},
    {"Sigma tmin", "sampler_options.s_tmin", NUMBER},
    {"Sigma tmax", "sampler_options.s_tmax", NUMBER},
    {"Sigma noise", "sampler_options.s_noise", NUMBER},
    {"Discard penultimate sigma", "sampler_options.discard_penultimate", FLAG},
    {"Schedule rho", "scheduler_options.rho", NUMBER},
    {"Schedule min sigma", "scheduler_options.sigma_min", NUMBER},
    {"Schedule max sigma", "scheduler_options.sigma_max", NUMBER},
    {"Beta schedule alpha", "scheduler_options.alpha", NUMBER},
    {"Beta schedule beta", "scheduler_options.beta", NUMBER},
    {"NGMS", "guidance.ngms", NUMBER},
    {"Skip Early CFG", "guidance.skip_early", NUMBER},
    {"Pad conds", "pad_context", FLAG},
    {"Hires upscale", "hires.scale", NUMBER},
    {"Hires steps", "hires.steps", WHOLE},
    {"Hires CFG Scale", "hires.cfg_scale", NUMBER},
    {"Hires prompt", "hires.prompt", TAGGED},
    {"Hires checkpoint", "hires.model", TITLE},
    {"Hires negative prompt", "hires.negative_prompt", TEXT},
    /* Read elsewhere, or said by another field. */
    {"Sampler", NULL, IGNORED},
    {"Schedule type", NULL, IGNORED},
    {"Size", NULL, IGNORED},
    {"Model hash", NULL, IGNORED},
    {"VAE hash", NULL, IGNORED},
    {"Denoising strength", NULL, IGNORED},
    {"Mask blur", NULL, IGNORED},
    {"RNG", NULL, IGNORED},
    {"Emphasis", NULL, IGNORED},
    {"Profile", NULL, IGNORED},
    {"Hires upscaler", NULL, IGNORED},
    {"Hires resize", NULL, IGNORED},
    {"Hires sampler", NULL, IGNORED},
    {"Hires schedule type", NULL, IGNORED},
    {"Lora hashes", NULL, IGNORED},
    {"TI hashes", NULL, IGNORED},
    {"Hashes", NULL, IGNORED},
    {"Version", NULL, IGNORED},
    {"Batch size", NULL, IGNORED},
    {"Batch pos", NULL, IGNORED},
};

static const struct row *row_of(struct ld_span key)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strlen(rows[i].key) == key.size &&
            strncasecmp(rows[i].key, (const char *)key.data, key.size) == 0)
            return &rows[i];
    return NULL;
}

/* "Schedule rho: 0" is A1111's way to say "the scheduler's own". */
static bool means_default(const struct row *row, struct ld_span text)
{
    double value;
    return strncmp(row->path, "scheduler_options.", 18) == 0 && ld_parse_double(text, &value) &&
           value == 0;
}

/* "name [hash]" without the hash. */
static struct ld_span without_hash(struct ld_span title)
{
    const char *text = (const char *)title.data;
    size_t end = title.size;
    if (end == 0 || text[end - 1] != ']')
        return title;
    while (end > 0 && text[end - 1] != '[')
        end--;
    return end > 2 && text[end - 2] == ' ' ? ld_span_of(text, end - 2) : title;
}

static void put_row(struct ld_recipe_fields *fields, const struct row *row, const char *value)
{
    const struct ld_span text = ld_span_text(value);
    char name[LD_RECIPE_NAME_SIZE];
    bool ok = true;
    switch (row->kind) {
    case NUMBER:
        ok = means_default(row, text) || ld_recipe_put_number(fields, row->path, text);
        break;
    case WHOLE:
        ok = ld_recipe_put_whole(fields, row->path, text);
        break;
    case SEED:
        ok = ld_recipe_put_seed_text(fields, row->path, text);
        break;
    case TEXT:
        ld_recipe_put_text(fields, row->path, text);
        break;
    case TAGGED:
        ld_recipe_put_hires_prompt(fields, text);
        break;
    case TITLE:
        if (strcasecmp(value, "Use same checkpoint") == 0)
            break;
        ld_recipe_model_name(without_hash(text), name);
        ld_recipe_put_string(fields, row->path, name);
        break;
    case NAME:
        ld_recipe_model_name(text, name);
        ld_recipe_put_string(fields, row->path, name);
        break;
    case FLAG:
        ld_recipe_put_bool(fields, row->path, strcasecmp(value, "true") == 0);
        break;
    case IGNORED:
        break;
    }
    if (!ok)
        ld_recipe_note(fields, "%s: \"%.40s\" is no number and was left out", row->key, value);
}

/* ---- Fields with a form of their own --------------------------------------------------------- */

static bool value_of(const struct ld_infotext *info, const char *key, char *out, size_t size)
{
    const struct ld_infotext_pair *pair = ld_infotext_find(info, key);
    return pair && ld_infotext_value(pair, out, size);
}

/* "832x1216". */
static bool put_size(struct ld_recipe_fields *fields, const char *text, const char *width,
                     const char *height)
{
    const char *x = strchr(text, 'x');
    if (!x)
        return false;
    return ld_recipe_put_whole(fields, width, ld_span_of(text, (size_t)(x - text))) &&
           ld_recipe_put_whole(fields, height, ld_span_text(x + 1));
}

/* Until 1.9 the schedule was the tail of the sampler's name: "DPM++ 2M SDE Karras". */
void ld_recipe_put_sampler(struct ld_recipe_fields *fields, const char *name, const char *schedule,
                           const char *sampler_path, const char *schedule_path)
{
    char sampler[LD_RECIPE_NAME_SIZE];
    if (!ld_fmt(sampler, sizeof sampler, "%s", name)) {
        ld_recipe_put_string(fields, sampler_path, name); /* no sampler's name is as long */
        return;
    }
    static const char *const tails[] = {"Karras",      "Exponential", "Polyexponential",
                                        "SGM Uniform", "Simple",      "Normal",
                                        "Beta",        "Uniform"};
    const size_t size = strlen(sampler);
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        const size_t tail = strlen(tails[i]);
        if (size > tail + 1 && sampler[size - tail - 1] == ' ' &&
            strcasecmp(sampler + size - tail, tails[i]) == 0) {
            sampler[size - tail - 1] = '\0';
            schedule = schedule[0] ? schedule : tails[i];
            break;
        }
    }
    ld_recipe_put_string(fields, sampler_path, sampler);
    if (schedule[0])
        ld_recipe_put_string(fields, schedule_path, schedule);
}

static void put_samplers(struct ld_recipe_fields *fields, const struct ld_infotext *info)
{
    char sampler[128], schedule[128] = "";
    if (value_of(info, "Sampler", sampler, sizeof sampler)) {
        (void)value_of(info, "Schedule type", schedule, sizeof schedule);
        ld_recipe_put_sampler(fields, sampler, schedule, "sampler", "scheduler");
        /* Without a schedule A1111 means the one that goes with the sampler. */
        if (!ld_recipe_has(fields, "scheduler"))
            ld_recipe_put_string(fields, "scheduler", "automatic");
    }
    schedule[0] = '\0';
    (void)value_of(info, "Hires schedule type", schedule, sizeof schedule);
    if (value_of(info, "Hires sampler", sampler, sizeof sampler))
        ld_recipe_put_sampler(fields, sampler, schedule, "hires.sampler", "hires.scheduler");
    else if (schedule[0])
        ld_recipe_put_string(fields, "hires.scheduler", schedule);
}

/* A1111's latent upscalers in our words; others are no part of us and fall back. */
void ld_recipe_put_upscaler(struct ld_recipe_fields *fields, const char *name)
{
    static const char *const map[][2] = {
        {"Latent", "latent-bilinear"},
        {"Latent (antialiased)", "latent-bilinear-aa"},
        {"Latent (bicubic)", "latent-bicubic"},
        {"Latent (bicubic antialiased)", "latent-bicubic-aa"},
        {"Latent (nearest)", "latent-nearest"},
        {"Latent (nearest-exact)", "latent-nearest-exact"},
        {"Nearest", "pixel-nearest-exact"},
        {"Lanczos", "pixel-lanczos"},
        {"Bicubic", "pixel-bicubic"},
        {"Bilinear", "pixel-bilinear"},
        {"Area", "pixel-area"},
        {"None", "pixel-nearest-exact"},
    };
    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++) {
        if (strcasecmp(map[i][0], name) == 0) {
            ld_recipe_put_string(fields, "hires.upscaler", map[i][1]);
            return;
        }
    }
    if (strncmp(name, "latent-", 7) == 0 || strncmp(name, "pixel-", 6) == 0) {
        ld_recipe_put_string(fields, "hires.upscaler", name); /* our own text */
        return;
    }
    ld_recipe_put_string(fields, "hires.upscaler", "pixel-lanczos");
    ld_recipe_note(fields, "upscaler \"%.60s\" is not available; pixel-lanczos stands in", name);
}

static void put_hires(struct ld_recipe_fields *fields, const struct ld_infotext *info)
{
    char value[256];
    if (value_of(info, "Hires resize", value, sizeof value) &&
        !put_size(fields, value, "hires.width", "hires.height"))
        ld_recipe_note(fields, "Hires resize: \"%.40s\" is no size", value);
    if (value_of(info, "Hires upscaler", value, sizeof value))
        ld_recipe_put_upscaler(fields, value);
    const bool hires = ld_recipe_has(fields, "hires.scale") ||
                       ld_recipe_has(fields, "hires.width") ||
                       ld_recipe_has(fields, "hires.upscaler");
    if (!value_of(info, "Denoising strength", value, sizeof value))
        return;
    if (hires)
        (void)ld_recipe_put_number(fields, "hires.strength", ld_span_text(value));
    else
        ld_recipe_note(fields,
                       "made from another picture (denoising strength %.20s), which is not here",
                       value);
}

static void put_profile(struct ld_recipe_fields *fields, const struct ld_infotext *info)
{
    char version[128] = "", value[64];
    (void)value_of(info, "Version", version, sizeof version);
    bool a1111 = strncmp(version, "latentd", 7) != 0;
    if (!a1111 && value_of(info, "Profile", value, sizeof value))
        a1111 = strcmp(value, "a1111") == 0;
    ld_recipe_put_string(fields, "profile", a1111 ? "a1111" : "comfy");
    ld_recipe_put_string(fields, "syntax", "a1111");
    if (value_of(info, "RNG", value, sizeof value))
        ld_recipe_put_string(fields, "noise", strcasecmp(value, "CPU") == 0 ? "cpu" : "philox");
    else
        ld_recipe_put_string(fields, "noise", "philox");
    if (!ld_recipe_has(fields, "clip_skip"))
        ld_recipe_put_integer(fields, "clip_skip", 1);
    if (value_of(info, "Emphasis", value, sizeof value))
        ld_recipe_put_string(fields, "emphasis",
                             strcasecmp(value, "No norm") == 0  ? "no_norm"
                             : strcasecmp(value, "Ignore") == 0 ? "ignore"
                             : strcasecmp(value, "None") == 0   ? "none"
                                                                : "original");
}

/* ---- Adapters in the prompt ------------------------------------------------------------------ */

static const uint8_t *find(struct ld_span text, const char *what)
{
    return text.size ? memmem(text.data, text.size, what, strlen(what)) : NULL;
}

/* "name:weight" or "name:text-weight:weight", as between the angle brackets. */
static void put_lora(struct ld_buffer *list, size_t *count, struct ld_span tag)
{
    struct ld_span part[3] = {{0}};
    size_t parts = 0;
    while (parts < 3) {
        const uint8_t *colon = tag.size ? memchr(tag.data, ':', tag.size) : NULL;
        const size_t size = colon ? (size_t)(colon - tag.data) : tag.size;
        part[parts++] = ld_span_of(tag.data, size);
        if (!colon)
            break;
        tag = ld_span_of(colon + 1, tag.size - size - 1);
    }
    double text_weight = 1, weight = 1;
    if (part[0].size == 0 || *count == LD_LORAS_MAX ||
        (parts > 1 && !ld_parse_double(part[1], &text_weight)) ||
        (parts > 2 && !ld_parse_double(part[2], &weight)))
        return;
    if (parts < 3)
        weight = text_weight;
    if ((*count)++ > 0)
        ld_buffer_byte(list, ',');
    ld_buffer_text(list, "{\"name\":");
    ld_buffer_json_span(list, part[0]);
    ld_buffer_text(list, ",\"weight\":");
    ld_buffer_json_double(list, weight);
    if (weight != text_weight) {
        ld_buffer_text(list, ",\"text_weight\":");
        ld_buffer_json_double(list, text_weight);
    }
    ld_buffer_byte(list, '}');
}

static void put_tagged(struct ld_recipe_fields *fields, struct ld_span prompt, bool second)
{
    struct ld_buffer plain = ld_buffer_make(LD_RECIPE_BYTES_MAX);
    struct ld_buffer list = ld_buffer_make(LD_RECIPE_BYTES_MAX);
    size_t count = 0;
    ld_buffer_byte(&list, '[');
    while (prompt.size > 0) {
        const uint8_t *open = memchr(prompt.data, '<', prompt.size);
        const size_t before = open ? (size_t)(open - prompt.data) : prompt.size;
        const struct ld_span rest = ld_span_of(prompt.data + before, prompt.size - before);
        ld_buffer_bytes(&plain, prompt.data, before);
        const bool tag = rest.size > 6 && (memcmp(rest.data, "<lora:", 6) == 0 ||
                                           memcmp(rest.data, "<lyco:", 6) == 0);
        const uint8_t *close = tag ? find(rest, ">") : NULL;
        size_t used = rest.size > 0 ? 1 : 0;
        if (close) {
            used = (size_t)(close - rest.data) + 1;
            put_lora(&list, &count, ld_span_of(rest.data + 6, used - 7));
            /* The blank that set the tag off goes with it. */
            if (plain.size > 0 && plain.data[plain.size - 1] == ' ')
                plain.size--;
        } else {
            ld_buffer_bytes(&plain, rest.data, used);
        }
        prompt = ld_span_of(rest.data + used, rest.size - used);
    }
    ld_buffer_byte(&list, ']');
    ld_recipe_put_text(fields, second ? "hires.prompt" : "prompt",
                       ld_span_of(plain.data ? plain.data : "", plain.size));
    /* A second prompt without tags means no adapters where the first has some. */
    if (count > 0 || (second && ld_recipe_has(fields, "loras")))
        ld_recipe_put_json(fields, second ? "hires.loras" : "loras",
                           ld_span_of(list.data, list.size));
    fields->failed = fields->failed || plain.failed || list.failed;
    ld_buffer_deinit(&list);
    ld_buffer_deinit(&plain);
}

void ld_recipe_put_prompt(struct ld_recipe_fields *fields, struct ld_span prompt)
{
    put_tagged(fields, prompt, false);
}

void ld_recipe_put_hires_prompt(struct ld_recipe_fields *fields, struct ld_span prompt)
{
    put_tagged(fields, prompt, true);
}

/* ---- All of it ------------------------------------------------------------------------------- */

/* "ControlNet 0" and so on: how a picture was followed, but not which. */
static bool is_control(struct ld_span key)
{
    static const char head[] = "ControlNet ";
    return key.size > sizeof head - 1 && memcmp(key.data, head, sizeof head - 1) == 0;
}

static void put_pairs(struct ld_recipe_fields *fields, const struct ld_infotext *info, char *value)
{
    for (size_t i = 0; i < info->pair_count; i++) {
        const struct ld_infotext_pair *pair = &info->pair[i];
        const struct row *row = row_of(pair->key);
        if (is_control(pair->key))
            ld_recipe_note(fields, "%.*s " LD_RECIPE_NOTE_CONTROL,
                           (int)(pair->key.size < 60 ? pair->key.size : 60), pair->key.data);
        else if (!row)
            ld_recipe_note(fields, "%.*s: not known and left out",
                           (int)(pair->key.size < 60 ? pair->key.size : 60), pair->key.data);
        else if (row->kind != IGNORED && ld_infotext_value(pair, value, VALUE_SIZE))
            put_row(fields, row, value);
    }
}

enum ld_code ld_recipe_from_infotext(struct ld_recipe *recipe, struct ld_span text,
                                     struct ld_error *err)
{
    struct ld_infotext info;
    struct ld_recipe_fields fields;
    char size[64];
    char *value = ld_heap_alloc(VALUE_SIZE);
    ld_recipe_init(recipe, LD_RECIPE_A1111);
    if (!value)
        return LD_FAIL(err, LD_E_NOMEM, "no memory to read the image's recipe");
    ld_infotext_split(&info, text);
    ld_recipe_fields_init(&fields);
    ld_recipe_put_prompt(&fields, info.prompt);
    ld_recipe_put_text(&fields, "negative_prompt", info.negative);
    put_pairs(&fields, &info, value);
    put_samplers(&fields, &info);
    if (value_of(&info, "Size", size, sizeof size) && !put_size(&fields, size, "width", "height"))
        ld_recipe_note(&fields, "Size: \"%.40s\" is no size", size);
    put_hires(&fields, &info);
    put_profile(&fields, &info);
    if (!value_of(&info, "Model hash", recipe->model_hash, sizeof recipe->model_hash))
        recipe->model_hash[0] = '\0';
    ld_heap_free(value);
    return ld_recipe_fields_finish(&fields, recipe, err);
}
