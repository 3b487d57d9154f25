#include "api/resolve.h"

#include "api/tag_order.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

/* Where no manifest names a native area: one megapixel. "auto" waits until the sides are a tenth
 * longer than the native ones; docs/high-resolution.md tells why the scale has these bounds. */
static const double SMEA_AREA = 1024.0 * 1024.0;
static const double SMEA_SCALE_AUTO = 1.1;
static const double SMEA_SCALE_MIN = 1.25;
static const double SMEA_SCALE_MAX = 2.0;

/* ---- Warnings -------------------------------------------------------------------------------- */

void ld_warnings_add(struct ld_warnings *warnings, const char *format, ...)
{
    char text[256];
    va_list args;
    if (!warnings || warnings->count == LD_WARNINGS_MAX)
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *kept = ld_arena_strdup(warnings->arena, text);
    if (kept)
        warnings->items[warnings->count++] = kept;
}

void ld_warnings_write(const struct ld_warnings *warnings, struct ld_buffer *out)
{
    ld_buffer_byte(out, '[');
    for (uint32_t i = 0; i < warnings->count; i++) {
        if (i)
            ld_buffer_byte(out, ',');
        ld_buffer_json_string(out, warnings->items[i]);
    }
    ld_buffer_byte(out, ']');
}

/* ---- The model's defaults -------------------------------------------------------------------- */

static enum ld_code apply_defaults(struct ld_request *request, const struct ld_manifest *manifest,
                                   struct ld_arena *arena, struct ld_problem *problem)
{
    uint8_t given[sizeof request->given];
    memcpy(given, request->given, sizeof given);
    for (uint32_t i = 0; i < manifest->default_count; i++) {
        const struct ld_manifest_default *item = &manifest->defaults[i];
        const struct ld_field *field = ld_field_find(item->field);
        struct ld_error err = {0};
        if (field && ld_request_has(request, field->path))
            continue;
        if (ld_request_set_text(request, arena, item->field, item->value, &err) != LD_OK)
            return ld_problem_add(problem, err.code == LD_E_NOMEM ? LD_E_NOMEM : LD_E_BUG, "",
                                  "the model's manifest: %.300s", err.detail);
        memcpy(request->given, given, sizeof given); /* a default is not "given" */
    }
    return LD_OK;
}

/* ---- Presets --------------------------------------------------------------------------------- */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Is `word` in the text, standing alone? */
static bool has_word(const char *text, const char *word)
{
    const size_t size = strlen(word);
    for (const char *at = strcasestr(text, word); at; at = strcasestr(at + 1, word))
        if ((at == text || !is_letter(at[-1])) && !is_letter(at[size]))
            return true;
    return false;
}

/* "first, second", or the one that is not empty. */
static enum ld_code join(const char **out, const char *first, const char *second,
                         const char *pointer, struct ld_arena *arena, struct ld_problem *problem)
{
    const size_t size = strlen(first) + strlen(second) + 3;
    if (size > LD_PROMPT_BYTES_MAX)
        return ld_problem_add(problem, LD_E_RANGE, pointer,
                              "%s with the preset must have at most %d bytes", pointer + 1,
                              LD_PROMPT_BYTES_MAX);
    char *text = ld_arena_alloc(arena, size);
    if (!text)
        return ld_problem_add(problem, LD_E_NOMEM, "", "out of memory");
    (void)ld_fmt(text, size, "%s%s%s", first, first[0] && second[0] ? ", " : "", second);
    *out = text;
    return LD_OK;
}

static enum ld_code refuse_preset(const char *pointer, const struct ld_manifest_preset *presets,
                                  uint32_t count, struct ld_problem *problem)
{
    char names[160] = "";
    for (uint32_t i = 0; i < count; i++) {
        const size_t used = strlen(names);
        (void)ld_fmt(names + used, sizeof names - used, "%s%s", i ? ", " : "", presets[i].name);
    }
    if (count == 0)
        return ld_problem_add(problem, LD_E_INVALID, pointer, "%s: this model has no such presets",
                              pointer + 1);
    return ld_problem_add(problem, LD_E_INVALID, pointer, "%s must be one of this model's: %s",
                          pointer + 1, names);
}

static enum ld_code place_quality(struct ld_request *request, const struct ld_manifest *manifest,
                                  struct ld_arena *arena, struct ld_problem *problem)
{
    const char *name = request->quality_tags;
    if (name[0] == '\0')
        return LD_OK;
    if (strcmp(name, "default") == 0 && manifest)
        name = manifest->quality_default;
    const struct ld_manifest_preset *preset = manifest ? ld_manifest_quality(manifest, name) : NULL;
    if (!preset)
        return refuse_preset("/quality_tags", manifest ? manifest->quality : NULL,
                             manifest ? manifest->quality_count : 0, problem);
    request->quality_tags = "";
    return preset->in_front
               ? join(&request->prompt, preset->text, request->prompt, "/prompt", arena, problem)
               : join(&request->prompt, request->prompt, preset->text, "/prompt", arena, problem);
}

/* The preset stands in front of the negative prompt. Where the prompt itself asks for it, a leading
 * "nsfw, " is dropped, as the service whose presets these are does; the rating "explicit", which
 * that service has no field for, asks for it too. */
static enum ld_code place_undesired(struct ld_request *request, const struct ld_manifest *manifest,
                                    struct ld_arena *arena, struct ld_problem *problem)
{
    static const char leading[] = "nsfw, ";
    const char *name = request->undesired;
    if (strcmp(name, "none") == 0 || name[0] == '\0')
        return LD_OK;
    if (strcmp(name, "default") == 0)
        name = manifest && manifest->undesired_count ? manifest->undesired[0].name : name;
    const struct ld_manifest_preset *preset =
        manifest ? ld_manifest_undesired(manifest, name) : NULL;
    if (!preset)
        return refuse_preset("/undesired", manifest ? manifest->undesired : NULL,
                             manifest ? manifest->undesired_count : 0, problem);
    const char *text = preset->text;
    const bool asked =
        has_word(request->prompt, "nsfw") || strcasecmp(request->rating, "explicit") == 0;
    if (asked && strncmp(text, leading, sizeof leading - 1) == 0)
        text += sizeof leading - 1;
    request->undesired = "none";
    return join(&request->negative_prompt, text, request->negative_prompt, "/negative_prompt",
                arena, problem);
}

/* The model's tags for a year and a rating, at the end. */
static enum ld_code place_year(struct ld_request *request, const struct ld_manifest *manifest,
                               struct ld_arena *arena, struct ld_warnings *warnings,
                               struct ld_problem *problem)
{
    char tag[96];
    const int32_t year = request->year;
    if (year == 0)
        return LD_OK;
    if (!manifest || !manifest->year_word[0])
        return ld_problem_add(problem, LD_E_INVALID, "/year", "year: this model knows no years");
    if (year < manifest->year_from || year > manifest->year_to)
        return ld_problem_add(problem, LD_E_RANGE, "/year",
                              "year must be between %d and %d for this model", manifest->year_from,
                              manifest->year_to);
    if (year > manifest->year_reliable_to)
        ld_warnings_add(warnings, "this model's years are reliable up to %d",
                        manifest->year_reliable_to);
    (void)ld_fmt(tag, sizeof tag, "%s %d", manifest->year_word, year);
    request->year = 0;
    return join(&request->prompt, request->prompt, tag, "/prompt", arena, problem);
}

static enum ld_code place_rating(struct ld_request *request, const struct ld_manifest *manifest,
                                 struct ld_arena *arena, struct ld_problem *problem)
{
    const char *name = request->rating;
    if (name[0] == '\0' || strcmp(name, "none") == 0) {
        request->rating = "";
        return LD_OK;
    }
    if (strcmp(name, "default") == 0 && manifest && manifest->rating_count)
        name = manifest->ratings[0].name;
    const struct ld_manifest_preset *preset = manifest ? ld_manifest_rating(manifest, name) : NULL;
    if (!preset)
        return refuse_preset("/rating", manifest ? manifest->ratings : NULL,
                             manifest ? manifest->rating_count : 0, problem);
    request->rating = "";
    return join(&request->prompt, request->prompt, preset->text, "/prompt", arena, problem);
}

/* Tags are what stands between commas, without blanks and brackets around. */
static void warn_renamed(const struct ld_request *request, const struct ld_manifest *manifest,
                         struct ld_warnings *warnings)
{
    const char *rest = request->prompt;
    while (*rest) {
        const size_t size = strcspn(rest, ",\n");
        char tag[64];
        const char *begin = rest;
        size_t length = size;
        while (length > 0 && (*begin == ' ' || strchr("({[", *begin))) {
            begin++;
            length--;
        }
        while (length > 0 && (begin[length - 1] == ' ' || strchr(")}]", begin[length - 1])))
            length--;
        if (length > 0 && ld_fmt(tag, sizeof tag, "%.*s", (int)length, begin)) {
            const char *now = ld_manifest_renamed(manifest, tag);
            if (now)
                ld_warnings_add(warnings, "this model knows the tag \"%s\" as \"%s\"", tag, now);
        }
        rest += size + (rest[size] ? 1 : 0);
    }
}

/* ---- Sizes ----------------------------------------------------------------------------------- */

/* How far a size lies from an advised one: a shape twice as wide weighs as much as twice the area.
 */
static double distance(const struct ld_manifest_size *size, double width, double height)
{
    const double shape = log(width / height) - log((double)size->width / (double)size->height);
    const double area = log(width * height) - log((double)size->width * (double)size->height);
    return fabs(shape) + fabs(area);
}

/* The size the first pass paints beside those that the model's manifest advises. */
static void advise_size(const struct ld_request *request, const struct ld_manifest *manifest,
                        struct ld_warnings *warnings)
{
    const struct ld_manifest_size *nearest = NULL;
    for (uint32_t i = 0; i < manifest->size_count; i++) {
        const struct ld_manifest_size *size = &manifest->sizes[i];
        if (size->width == request->width && size->height == request->height)
            return;
        if (!nearest || distance(size, request->width, request->height) <
                            distance(nearest, request->width, request->height))
            nearest = size;
    }
    if (!nearest)
        return;
    const bool large =
        (double)request->width * request->height > 1.25 * ld_manifest_native_area(manifest);
    const bool helped = request->deep_shrink.present || request->smea != LD_SMEA_OFF;
    ld_warnings_add(warnings, "%dx%d is not among this model's sizes; the nearest is %dx%d%s",
                    request->width, request->height, nearest->width, nearest->height,
                    large && !helped ? "; deep_shrink, smea or hires help beyond it" : "");
}

/* "auto" and an absent scale become what they mean for this model, so that the stored request runs
 * again alike: the structure is painted at about the model's native area. */
static void settle_smea(struct ld_request *request, const struct ld_manifest *manifest)
{
    const double area = (double)request->width * request->height;
    const double native = manifest ? ld_manifest_native_area(manifest) : 0;
    const double scale = sqrt(area / (native > 0 ? native : SMEA_AREA));
    if (request->smea == LD_SMEA_AUTO)
        request->smea = scale >= SMEA_SCALE_AUTO ? LD_SMEA_ON : LD_SMEA_OFF;
    if (request->smea == LD_SMEA_ON && isnan(request->smea_scale))
        request->smea_scale = fmin(fmax(scale, SMEA_SCALE_MIN), SMEA_SCALE_MAX);
}

/* ---- What is left open ----------------------------------------------------------------------- */

static enum ld_code draw_seed(uint64_t *seed, bool *random_wanted, const struct ld_random *random,
                              struct ld_problem *problem)
{
    uint32_t drawn; /* below 2^32, which every dialect and JavaScript can carry */
    if (!random)
        return LD_OK;
    if (!random->fill(random->ctx, &drawn, sizeof drawn))
        return ld_problem_add(problem, LD_E_IO, "", "no random numbers are to be had");
    *seed = drawn;
    *random_wanted = false;
    return LD_OK;
}

static void fill_text_weights(struct ld_request_lora *loras, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (isnan(loras[i].text_weight))
            loras[i].text_weight = loras[i].weight;
}

static void fill_guidance(struct ld_request_guidance *guidance)
{
    const bool v1 = strcmp(guidance->freeu, "v1") == 0;
    const double defaults[4] = {v1 ? 1.1 : 1.3, v1 ? 1.2 : 1.4, 0.9, 0.2}; /* sampling.md 5.8 */
    double *const values[4] = {&guidance->freeu_b1, &guidance->freeu_b2, &guidance->freeu_s1,
                               &guidance->freeu_s2};
    for (size_t i = 0; i < 4 && guidance->freeu[0]; i++)
        if (isnan(*values[i]))
            *values[i] = defaults[i];
}

enum ld_code ld_request_resolve(struct ld_request *request, const struct ld_manifest *manifest,
                                const struct ld_random *random, struct ld_arena *arena,
                                struct ld_warnings *warnings, struct ld_problem *problem)
{
    enum ld_code worst = LD_OK;
    enum ld_code code;
    if (manifest && (code = apply_defaults(request, manifest, arena, problem)) != LD_OK)
        worst = code;
    if (request->profile == LD_PROFILE_A1111 && !ld_request_has(request, "noise"))
        request->noise = LD_NOISE_PHILOX;
    if (manifest)
        warn_renamed(request, manifest, warnings);
    if (manifest && warnings)
        ld_tag_order_advise(request->prompt, manifest, warnings);
    if ((code = place_undesired(request, manifest, arena, problem)) != LD_OK)
        worst = code;
    if ((code = place_quality(request, manifest, arena, problem)) != LD_OK)
        worst = code;
    if ((code = place_year(request, manifest, arena, warnings, problem)) != LD_OK)
        worst = code;
    if ((code = place_rating(request, manifest, arena, problem)) != LD_OK)
        worst = code;
    fill_text_weights(request->loras, request->lora_count);
    fill_text_weights(request->hires.loras, request->hires.lora_count);
    if (manifest)
        advise_size(request, manifest, warnings);
    settle_smea(request, manifest);
    fill_guidance(&request->guidance);
    if (request->sigma_count > 1)
        request->steps = (int32_t)request->sigma_count - 1;
    if (request->variation_strength > 0 && !ld_request_has(request, "variation.seed"))
        request->variation_seed_random = true;
    if (request->seed_random &&
        (code = draw_seed(&request->seed, &request->seed_random, random, problem)) != LD_OK)
        worst = code;
    if (request->variation_seed_random &&
        (code = draw_seed(&request->variation_seed, &request->variation_seed_random, random,
                          problem)) != LD_OK)
        worst = code;
    return worst;
}
