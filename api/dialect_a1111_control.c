#include "api/dialect_a1111_control.h"

#include "api/dialect_a1111.h"
#include "config/limits.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

typedef const struct ld_json_node *node_ref;

/* ---- Preprocessors --------------------------------------------------------------------------- */

static const struct ld_a1111_module modules[] = {
    {"none", "none", "none", {{0}, {0}}},
    {"canny",
     "canny",
     "canny",
     {{"Canny Low Threshold", 0, 255, 1, 100}, {"Canny High Threshold", 0, 255, 1, 200}}},
    {"invert", "invert (from white bg & black line)", "invert", {{0}, {0}}},
    {"lineart_standard", "lineart_standard (from white bg & black line)", "lineart", {{0}, {0}}},
    {"scribble_xdog", "scribble_xdog", "scribble", {{"XDoG Threshold", 1, 64, 1, 32}, {0}}},
    {"threshold", "threshold", "threshold", {{"Binarization Threshold", 0, 255, 1, 127}, {0}}},
    {"recolor_luminance", "recolor_luminance", "luminance", {{0}, {0}}},
    {"blur_gaussian", "blur_gaussian", "blur", {{"Sigma", 0.01, 64, 0.01, 9}, {0}}},
    {"tile_resample", "tile_resample", "tile", {{"Down Sampling Rate", 1, 8, 0.01, 1}, {0}}},
    {"inpaint_only", "inpaint_only", "inpaint", {{0}, {0}}},
    {"inpaint", "inpaint_global_harmonious", "inpaint", {{0}, {0}}},
};

const struct ld_a1111_module *ld_a1111_modules(uint32_t *count)
{
    *count = sizeof modules / sizeof modules[0];
    return modules;
}

static const struct ld_a1111_module *module_called(const char *name)
{
    for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++)
        if (strcasecmp(name, modules[i].name) == 0 || strcasecmp(name, modules[i].label) == 0)
            return &modules[i];
    return NULL;
}

static bool is_module(const struct ld_a1111_module *module, const char *preprocess)
{
    return strcmp(module->preprocess, preprocess) == 0;
}

/* ---- A unit while it is read ----------------------------------------------------------------- */

struct units {
    struct ld_translation *t;
    const struct ld_json_tree *tree;
    node_ref root;
    bool has_second; /* is there a second pass? */
    struct ld_buffer json;
    uint32_t count;
};

struct unit {
    struct units *units;
    node_ref node;
};

static node_ref member(const struct unit *unit, const char *key)
{
    return ld_lenient_member(unit->units->tree, unit->node, key);
}

/* A member by the name it has now, or else by the one it had. */
static node_ref renamed(const struct unit *unit, const char *key, const char *old)
{
    const node_ref node = member(unit, key);
    return node ? node : member(unit, old);
}

/* Where a unit's member stands, "" for the unit itself. */
static void place_of(const struct unit *unit, const char *key, char out[LD_ERROR_POINTER_SIZE])
{
    char place[LD_ERROR_POINTER_SIZE];
    ld_json_pointer(unit->units->tree, unit->node, place, sizeof place);
    (void)ld_fmt(out, LD_ERROR_POINTER_SIZE, "%.60s%s%s", place, *key ? "/" : "", key);
}

/* "alwayson_scripts/controlnet/args/0/module: " and the sentence. */
LD_PRINTF(3, 4)
static void refuse(const struct unit *unit, const char *key, const char *format, ...)
{
    char place[LD_ERROR_POINTER_SIZE];
    char sentence[LD_ERROR_DETAIL_SIZE];
    va_list args;
    place_of(unit, key, place);
    va_start(args, format);
    (void)vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    ld_translation_refuse(unit->units->t, place, "%s: %s", place + 1, sentence);
}

static const char *text_of(const struct unit *unit, const char *key)
{
    const node_ref node = member(unit, key);
    const char *text = node ? ld_lenient_text(node, unit->units->t->native->arena) : "";
    if (!text)
        refuse(unit, key, "must be a string");
    return text ? text : "";
}

static double number_of(const struct unit *unit, const char *key, node_ref node, double by_default)
{
    double value = by_default;
    if (node && !ld_lenient_number(node, &value)) {
        refuse(unit, key, "must be a number");
        return by_default;
    }
    return value;
}

/* One of a list by its place in it or by a name. */
struct choice {
    const char *name;
    int64_t place; /* -1: none */
    const char *ours;
};

/* NULL after a complaint; `by_default` where the member is absent. */
static const char *choice_of(const struct unit *unit, const char *key, const struct choice *choices,
                             size_t count, const char *by_default)
{
    const node_ref node = member(unit, key);
    const char *name = node ? ld_lenient_text(node, unit->units->t->native->arena) : NULL;
    int64_t place = -1;
    if (!node)
        return by_default;
    const bool placed = ld_lenient_whole(node, &place) && place >= 0;
    for (size_t i = 0; i < count; i++)
        if ((placed && choices[i].place == place) ||
            (name && strcasecmp(name, choices[i].name) == 0))
            return choices[i].ours;
    refuse(unit, key, "must be 0, 1, 2, \"%s\", \"%s\" or \"%s\"", choices[0].name, choices[1].name,
           choices[2].name);
    return NULL;
}

/* ---- What it says ---------------------------------------------------------------------------- */

static const struct choice modes[] = {{"Balanced", 0, "balanced"},
                                      {"My prompt is more important", 1, "prompt"},
                                      {"ControlNet is more important", 2, "control"}};

static const struct choice resizes[] = {{"Just Resize", 0, "stretch"},
                                        {"Crop and Resize", 1, "crop"},
                                        {"Resize and Fill", 2, "pad"},
                                        {"Just Resize (Latent upscale)", 3, "stretch"},
                                        {"Inner Fit (Scale to Fit)", -1, "crop"},
                                        {"Scale to Fit (Inner Fit)", -1, "crop"},
                                        {"Outer Fit (Shrink to Fit)", -1, "pad"},
                                        {"Envelope (Outer Fit)", -1, "pad"}};

static const struct choice passes[] = {
    {"Both", 0, "both"}, {"Low res only", 1, "first"}, {"High res only", 2, "second"}};

#define COUNT(list) (sizeof(list) / sizeof(list)[0])

static void put_string(struct ld_buffer *out, const char *key, const char *value)
{
    ld_buffer_format(out, ",\"%s\":", key);
    ld_buffer_json_string(out, value);
}

static void put_number(struct ld_buffer *out, const char *key, double value)
{
    ld_buffer_format(out, ",\"%s\":", key);
    ld_buffer_json_double(out, value);
}

/* The first of an object; the model has no comma before it. */
static void put_model(const struct unit *unit)
{
    char name[LD_RECIPE_NAME_SIZE];
    const char *title = text_of(unit, "model");
    if (!*title || strcasecmp(title, "None") == 0)
        refuse(unit, "model",
               "must name a ControlNet; latentd has no preprocessor that works without one");
    ld_a1111_model_name(title, name);
    ld_buffer_text(&unit->units->json, "{\"model\":");
    ld_buffer_json_string(&unit->units->json, name);
}

/* A slider's number. As there, one beyond its ends is its usual one; below 0 it is not given. */
static double slider_of(const struct unit *unit, const struct ld_a1111_slider *slider,
                        const char *key)
{
    const double value = number_of(unit, key, member(unit, key), -1);
    if (value >= slider->least && value <= slider->most)
        return value;
    if (value >= 0)
        ld_translation_warn(unit->units->t,
                            "ControlNet: %s %g is not between %g and %g; %g was taken", key, value,
                            slider->least, slider->most, slider->usual);
    return slider->usual;
}

static void put_canny(const struct unit *unit, const struct ld_a1111_module *module)
{
    /* OpenCV, which runs there, takes whole thresholds, and the smaller one as the lower. */
    const double a = floor(slider_of(unit, &module->slider[0], "threshold_a"));
    const double b = floor(slider_of(unit, &module->slider[1], "threshold_b"));
    put_number(&unit->units->json, "low", fmin(a, b));
    put_number(&unit->units->json, "high", fmax(a, b));
}

static void put_sliders(const struct unit *unit, const struct ld_a1111_module *module)
{
    enum { WHOLE_TILE = 1 }; /* below 1.1 nothing is made smaller there */
    if (is_module(module, "canny")) {
        put_canny(unit, module);
    } else if (module->slider[0].label) {
        const double value = slider_of(unit, &module->slider[0], "threshold_a");
        put_number(&unit->units->json, "high",
                   is_module(module, "tile") && value < 1.1 ? WHOLE_TILE : value);
    } else if (is_module(module, "luminance")) {
        const double gamma = number_of(unit, "threshold_a", member(unit, "threshold_a"), -1);
        if (gamma > 0 && gamma != 1 && gamma <= 2) /* its slider's end */
            refuse(unit, "threshold_a", "recolor_luminance has no gamma here; it must be 1");
        ld_translation_warn(unit->units->t,
                            "ControlNet: recolor_luminance takes the luminance of BT.601 here, "
                            "not the lightness of CIELAB");
    }
}

static void refuse_module(const struct unit *unit, const char *name)
{
    char there_are[256];
    struct ld_buffer list = ld_buffer_make(sizeof there_are);
    for (size_t i = 0; i < COUNT(modules); i++)
        ld_buffer_format(&list, "%s%s", i ? ", " : "", modules[i].name);
    ld_buffer_byte(&list, '\0');
    refuse(unit, "module",
           "latentd has no '%.40s': there are %s. Others need a network: send the finished picture "
           "with module none",
           name, list.data && !list.failed ? list.data : "");
    ld_buffer_deinit(&list);
}

static void put_module(const struct unit *unit)
{
    const char *name = text_of(unit, "module");
    const struct ld_a1111_module *module = *name ? module_called(name) : &modules[0];
    if (!module) {
        refuse_module(unit, name);
        return;
    }
    put_string(&unit->units->json, "preprocess", module->preprocess);
    put_sliders(unit, module);
    const bool sized = module->slider[0].label || is_module(module, "lineart");
    bool perfect = false;
    const node_ref node = member(unit, "pixel_perfect");
    if (node && !ld_lenient_flag(node, &perfect))
        refuse(unit, "pixel_perfect", "must be true or false");
    if (sized && !is_module(module, "tile") && !perfect &&
        number_of(unit, "processor_res", member(unit, "processor_res"), -1) > 0)
        ld_translation_warn(unit->units->t,
                            "ControlNet: processor_res was ignored; every hint is made at the "
                            "size of what is painted, as with pixel_perfect");
}

/* ---- Its picture ----------------------------------------------------------------------------- */

struct picture {
    node_ref image, mask; /* NULL: none */
};

static node_ref filled(node_ref node)
{
    return node && node->kind != LD_JSON_NULL && !ld_lenient_is_empty(node) ? node : NULL;
}

/* A picture alone, {image, mask}, [image, mask], or a list of one {image, mask}. */
static struct picture picture_of(const struct unit *unit)
{
    const struct ld_json_tree *tree = unit->units->tree;
    node_ref given = filled(renamed(unit, "image", "input_image"));
    struct picture picture = {given, NULL};
    if (given && given->kind == LD_JSON_ARRAY_BEGIN) {
        picture.image = ld_json_first(tree, given);
        const node_ref second = ld_json_after(tree, picture.image);
        if (picture.image->kind != LD_JSON_OBJECT_BEGIN)
            picture.mask = second;
        else if (second)
            refuse(unit, "image", "must have one picture");
        given = picture.image;
    }
    if (given && given->kind == LD_JSON_OBJECT_BEGIN)
        picture = (struct picture){ld_lenient_member(tree, given, "image"),
                                   ld_lenient_member(tree, given, "mask")};
    picture.image = filled(picture.image);
    picture.mask = filled(picture.mask);
    return picture;
}

/* Where the unit has no picture it is that of init, which comes as the body says. */
static void put_picture(const struct unit *unit)
{
    struct units *units = unit->units;
    const struct picture picture = picture_of(unit);
    const char *resize = choice_of(unit, "resize_mode", resizes, COUNT(resizes), "crop");
    char place[LD_ERROR_POINTER_SIZE];
    int64_t mode;
    if (picture.mask)
        refuse(unit, member(unit, "image") ? "image" : "input_image",
               "latentd has no masks of ControlNet units; send the picture alone");
    if (picture.image) {
        place_of(unit, member(unit, "image") ? "image" : "input_image", place);
        ld_buffer_text(&units->json, ",\"image\":" LD_TRANSLATED_PICTURE);
        if (units->count < LD_CONTROLS_MAX) /* else the request is refused for its count */
            ld_translate_picture_into(units->t, picture.image, place,
                                      &units->t->native->control_images[units->count]);
    } else {
        const node_ref whole = ld_lenient_member(units->tree, units->root, "resize_mode");
        if (!whole || !ld_lenient_whole(whole, &mode))
            mode = 0;
        for (size_t i = 0; i < COUNT(resizes); i++)
            resize = resizes[i].place >= 0 && resizes[i].place == mode ? resizes[i].ours : resize;
    }
    if (resize)
        put_string(&units->json, "resize", resize);
}

/* ---- Units ----------------------------------------------------------------------------------- */

/* Members that are read above, and those that change nothing here: how memory is used, what is kept
 * or shown. */
static const char *const known_members[] = {"enabled",
                                            "module",
                                            "model",
                                            "weight",
                                            "image",
                                            "input_image",
                                            "resize_mode",
                                            "processor_res",
                                            "threshold_a",
                                            "threshold_b",
                                            "guidance",
                                            "guidance_start",
                                            "guidance_end",
                                            "control_mode",
                                            "hr_option",
                                            "pixel_perfect",
                                            "low_vram",
                                            "lowvram",
                                            "is_ui",
                                            "save_detected_map",
                                            "input_mode",
                                            "output_dir",
                                            "pulid_mode",
                                            "generated_image",
                                            "batch_image_dir",
                                            "batch_mask_dir",
                                            "batch_input_gallery",
                                            "batch_mask_gallery",
                                            "use_preview_as_input",
                                            "inpaint_crop_input_image"};

static const struct {
    const char *key, *sentence;
} lacked[] = {
    {"mask", "latentd has no masks of ControlNet units"},
    {"mask_image", "latentd has no masks of ControlNet units"},
    {"effective_region_mask", "latentd has no regions of ControlNet units"},
    {"ipadapter_input", "latentd has no IP-Adapter"},
    {"batch_images", "a unit follows one picture here; send a request for each"},
    {"loopback", "latentd has no loopback"},
    {"advanced_weighting", "latentd has no weights of single layers; use weight and control_mode"},
};

static void look_at_the_rest(const struct unit *unit)
{
    for (node_ref node = ld_json_first(unit->units->tree, unit->node); node;
         node = ld_json_after(unit->units->tree, node)) {
        bool known = false;
        for (size_t i = 0; i < COUNT(known_members) && !known; i++)
            known = ld_span_is(node->key, known_members[i]);
        for (size_t i = 0; i < COUNT(lacked) && !known; i++) {
            known = ld_span_is(node->key, lacked[i].key);
            if (known && filled(node))
                refuse(unit, lacked[i].key, "%s", lacked[i].sentence);
        }
        if (!known)
            ld_translation_warn(unit->units->t, "ControlNet: %.*s is not known and was ignored",
                                node->key.size > 64 ? 64 : (int)node->key.size,
                                (const char *)node->key.data);
    }
}

static bool is_on(const struct unit *unit)
{
    bool on = true;
    const node_ref node = member(unit, "enabled");
    if (node && !ld_lenient_flag(node, &on)) {
        refuse(unit, "enabled", "must be true or false");
        return false;
    }
    return on;
}

static void put_range(const struct unit *unit)
{
    struct ld_buffer *out = &unit->units->json;
    const double start = number_of(unit, "guidance_start", member(unit, "guidance_start"), 0);
    const double end =
        number_of(unit, "guidance_end", renamed(unit, "guidance_end", "guidance"), 1);
    if (!(start < end))
        refuse(unit, "guidance_start", "must be below guidance_end");
    put_number(out, "weight", number_of(unit, "weight", member(unit, "weight"), 1));
    put_number(out, "start", start);
    put_number(out, "end", end);
}

static void put_unit(const struct unit *unit)
{
    struct units *units = unit->units;
    ld_buffer_text(&units->json, units->count ? "," : "");
    put_model(unit);
    put_range(unit);
    const char *mode = choice_of(unit, "control_mode", modes, COUNT(modes), "balanced");
    const char *where = choice_of(unit, "hr_option", passes, COUNT(passes), "both");
    if (mode)
        put_string(&units->json, "mode", mode);
    if (where && units->has_second) /* without one it says nothing there */
        put_string(&units->json, "passes", where);
    put_module(unit);
    put_picture(unit);
    look_at_the_rest(unit);
    ld_buffer_byte(&units->json, '}');
    units->count++;
}

static void put_list(struct units *units, node_ref list)
{
    for (node_ref node = ld_json_first(units->tree, list); node;
         node = ld_json_after(units->tree, node)) {
        const struct unit unit = {units, node};
        if (node->kind == LD_JSON_NULL || ld_lenient_is_empty(node))
            continue;
        if (node->kind != LD_JSON_OBJECT_BEGIN)
            refuse(&unit, "", "must be an object, a ControlNet unit");
        else if (is_on(&unit))
            put_unit(&unit);
    }
}

/* A list, or nothing. */
static void put_units(struct units *units, node_ref list)
{
    const struct unit place = {units, list};
    if (list && list->kind == LD_JSON_ARRAY_BEGIN)
        put_list(units, list);
    else if (list && !ld_lenient_is_empty(list))
        refuse(&place, "", "must be a list of ControlNet units");
}

bool ld_a1111_is_control(struct ld_span title)
{
    static const char name[] = "controlnet";
    return title.size == sizeof name - 1 &&
           strncasecmp((const char *)title.data, name, title.size) == 0;
}

void ld_a1111_translate_control(struct ld_translation *t, const struct ld_json_tree *tree,
                                node_ref root)
{
    const node_ref scripts = ld_lenient_member(tree, root, "alwayson_scripts");
    struct units units = {.t = t, .tree = tree, .root = root};
    for (size_t i = 0; i < t->fields.count; i++)
        units.has_second = units.has_second || strncmp(t->fields.field[i].path, "hires.", 6) == 0;
    units.json = ld_buffer_make(LD_RECIPE_BYTES_MAX);
    ld_buffer_byte(&units.json, '[');
    for (node_ref node =
             scripts && scripts->kind == LD_JSON_OBJECT_BEGIN ? ld_json_first(tree, scripts) : NULL;
         node; node = ld_json_after(tree, node))
        if (ld_a1111_is_control(node->key))
            put_units(&units, ld_lenient_member(tree, node, "args"));
    put_units(&units, ld_lenient_member(tree, root, "controlnet_units"));
    ld_buffer_byte(&units.json, ']');
    if (units.json.failed)
        t->fields.failed = true;
    else if (units.count > 0)
        ld_recipe_put_json(&t->fields, "control", ld_span_of(units.json.data, units.json.size));
    ld_buffer_deinit(&units.json);
}
