#include "config/recipe.h"

#include "config/embedded.h"
#include "config/ini_text.h"
#include "config/limits.h"
#include "config/manifest.h"
#include "config/nearest.h"

#include <math.h>

/* ---- Entries --------------------------------------------------------------------------------- */

struct parser {
    struct ld_recipe *recipe;
    struct ld_arena *arena;
};

static enum ld_code set_text(struct parser *parser, const char **place, const char *value,
                             struct ld_error *err)
{
    *place = ld_arena_strdup(parser->arena, value);
    return *place ? LD_OK : LD_FAIL(err, LD_E_NOMEM, "out of memory");
}

static enum ld_code set_number(double *place, const char *key, const char *value, double low,
                               double high, struct ld_error *err)
{
    return ld_parse_double(ld_span_text(value), place) && *place >= low && *place <= high
               ? LD_OK
               : LD_FAIL(err, LD_E_RANGE, "%s must be a number between %g and %g", key, low, high);
}

static enum ld_code set_steps(int32_t *place, const char *value, struct ld_error *err)
{
    int64_t steps;
    if (!ld_parse_i64(ld_span_text(value), &steps) || steps < LD_STEPS_MIN || steps > LD_STEPS_MAX)
        return LD_FAIL(err, LD_E_RANGE, "steps must be between %d and %d", LD_STEPS_MIN,
                       LD_STEPS_MAX);
    *place = (int32_t)steps;
    return LD_OK;
}

static enum ld_code unknown(const char *section, const char *key, const char *const *known,
                            size_t count, struct ld_error *err)
{
    struct ld_nearest nearest = ld_nearest_to(ld_span_text(key));
    for (size_t i = 0; i < count; i++)
        ld_nearest_offer(&nearest, known[i]);
    return LD_FAIL(err, LD_E_NOT_FOUND, "unknown key %.64s in [%.64s]%s", key, section,
                   ld_nearest_hint(&nearest));
}

static enum ld_code take_head(struct parser *parser, const char *key, const char *value,
                              struct ld_error *err)
{
    static const char *const known[] = {"title", "adapters", "steps", "weight"};
    struct ld_recipe *recipe = parser->recipe;
    if (strcmp(key, "title") == 0)
        return set_text(parser, &recipe->title, value, err);
    if (strcmp(key, "adapters") == 0)
        return set_text(parser, &recipe->adapters, value, err);
    if (strcmp(key, "steps") == 0)
        return set_steps(&recipe->steps, value, err);
    if (strcmp(key, "weight") == 0)
        return set_number(&recipe->weight, key, value, 0, 2, err);
    return unknown("recipe", key, known, sizeof known / sizeof known[0], err);
}

static enum ld_code take_use(struct parser *parser, struct ld_recipe_use *use, const char *key,
                             const char *value, struct ld_error *err)
{
    static const char *const known[] = {"steps",     "sampler", "scheduler",
                                        "cfg_scale", "cfg_min", "cfg_max"};
    if (strcmp(key, "steps") == 0)
        return set_steps(&use->steps, value, err);
    if (strcmp(key, "sampler") == 0)
        return set_text(parser, &use->sampler, value, err);
    if (strcmp(key, "scheduler") == 0)
        return set_text(parser, &use->scheduler, value, err);
    double *number = strcmp(key, "cfg_scale") == 0 ? &use->cfg_scale
                     : strcmp(key, "cfg_min") == 0 ? &use->cfg_min
                     : strcmp(key, "cfg_max") == 0 ? &use->cfg_max
                                                   : NULL;
    return number ? set_number(number, key, value, 0, LD_CFG_SCALE_MAX, err)
                  : unknown(use->name, key, known, sizeof known / sizeof known[0], err);
}

/* The use of that name, a new one if there is none; NULL with the reason in `err`. */
static struct ld_recipe_use *use_named(struct parser *parser, const char *name,
                                       struct ld_error *err)
{
    struct ld_recipe *recipe = parser->recipe;
    for (uint32_t i = 0; i < recipe->use_count; i++)
        if (strcmp(recipe->uses[i].name, name) == 0)
            return &recipe->uses[i];
    if (recipe->use_count == LD_RECIPE_USES_MAX) {
        (void)LD_FAIL(err, LD_E_TOO_LARGE, "a recipe may have %d uses", LD_RECIPE_USES_MAX);
        return NULL;
    }
    struct ld_recipe_use *use = &recipe->uses[recipe->use_count];
    *use = (struct ld_recipe_use){.sampler = "",
                                  .scheduler = "",
                                  .cfg_scale = (double)NAN,
                                  .cfg_min = 0,
                                  .cfg_max = LD_CFG_SCALE_MAX};
    if (set_text(parser, &use->name, name, err) != LD_OK)
        return NULL;
    recipe->use_count++;
    return use;
}

static enum ld_code take_entry(void *ctx, const char *section, const char *key, const char *value,
                               bool continued, struct ld_error *err)
{
    struct parser *parser = ctx;
    if (continued)
        return LD_FAIL(err, LD_E_FORMAT, "a recipe's values have one line each");
    if (strcmp(section, "recipe") == 0)
        return take_head(parser, key, value, err);
    struct ld_recipe_use *use = section[0] ? use_named(parser, section, err) : NULL;
    if (use)
        return take_use(parser, use, key, value, err);
    return section[0] ? err->code : LD_FAIL(err, LD_E_FORMAT, "a value stands before [recipe]");
}

/* ---- The whole ------------------------------------------------------------------------------- */

enum ld_code ld_recipe_parse(struct ld_recipe *recipe, struct ld_span text, struct ld_arena *arena,
                             struct ld_error *err)
{
    struct parser parser = {recipe, arena};
    struct ld_error local = {0};
    err = err ? err : &local;
    memset(recipe, 0, sizeof *recipe);
    recipe->title = recipe->adapters = "";
    recipe->weight = 1;
    if (text.size > LD_RECIPE_BYTES_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "a recipe may have %d bytes", LD_RECIPE_BYTES_MAX);
    enum ld_code code = ld_ini_parse(text, take_entry, &parser, err);
    if (code == LD_OK && (recipe->steps == 0 || recipe->use_count == 0))
        code = LD_FAIL(err, LD_E_FORMAT, "a recipe needs steps in [recipe] and a section of use");
    for (uint32_t i = 0; code == LD_OK && i < recipe->use_count; i++) {
        const struct ld_recipe_use *use = &recipe->uses[i];
        if (use->steps == 0)
            code = LD_FAIL(err, LD_E_FORMAT, "[%.64s] needs steps", use->name);
        else if (use->cfg_min > use->cfg_max)
            code = LD_FAIL(err, LD_E_RANGE, "[%.64s]: cfg_min must be at most cfg_max", use->name);
    }
    return code;
}

enum ld_code ld_recipe_of(struct ld_recipe *recipe, const char *adapter, const char *text,
                          struct ld_arena *arena, struct ld_error *err)
{
    const char *slash = strrchr(adapter, '/');
    if (text[0])
        return ld_recipe_parse(recipe, ld_span_text(text), arena, err);
    for (uint32_t i = 0; i < ld_embedded_recipes_count; i++) {
        const struct ld_embedded *file = &ld_embedded_recipes[i];
        const enum ld_code code =
            ld_recipe_parse(recipe, ld_span_of(file->data, file->size), arena, err);
        if (code != LD_OK ||
            ld_manifest_pattern_fits(recipe->adapters, slash ? slash + 1 : adapter))
            return code;
    }
    return LD_FAIL(err, LD_E_NOT_FOUND, "the adapter has no recipe");
}
