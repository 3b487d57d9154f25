#include "api/dialect_a1111_control.h"

#include "api/dialect_a1111.h"
#include "config/limits.h"

#include <strings.h>

/* ---- Preprocessors --------------------------------------------------------------------------- */

/* Behind a name there may be a remark in brackets: "invert (from white bg & black line)". */
static const struct ld_a1111_module modules[] = {
    {LD_HINT_NONE, "none", NULL, {{NULL}}},
    {LD_HINT_CANNY,
     "canny",
     "Canny",
     {{"Low Threshold", 100, 1, 255, 1}, {"High Threshold", 200, 1, 255, 1}}},
    {LD_HINT_INVERT, "invert", "Lineart", {{NULL}}},
    {LD_HINT_LINEART, "lineart", "Lineart", {{NULL}}},
    {LD_HINT_SCRIBBLE, "scribble", "Scribble", {{"XDoG Threshold", 32, 1, 64, 1}}},
    {LD_HINT_THRESHOLD, "threshold", NULL, {{"Binarization Threshold", 127, 0, 255, 1}}},
    {LD_HINT_TILE, "tile", "Tile", {{"Down Sampling Rate", 1, 1, 8, 0.01}}},
    {LD_HINT_BLUR, "blur", "Tile", {{"Sigma", 9, 0.01, 64, 0.01}}},
    {LD_HINT_INPAINT, "inpaint", "Inpaint", {{NULL}}},
    {LD_HINT_LUMINANCE, "luminance", "Recolor", {{NULL}}},
};

const struct ld_a1111_module *ld_a1111_module_at(uint32_t index)
{
    return index < sizeof modules / sizeof modules[0] ? &modules[index] : NULL;
}

static const struct ld_a1111_module *module_called(const char *name)
{
    const char *remark = strstr(name, " (");
    const size_t size = remark ? (size_t)(remark - name) : strlen(name);
    for (uint32_t i = 0; i < sizeof modules / sizeof modules[0]; i++) {
        const char *known = ld_infotext_module(modules[i].kind);
        if (strlen(known) == size && strncasecmp(known, name, size) == 0)
            return &modules[i];
    }
    return NULL;
}

bool ld_a1111_is_control(struct ld_span title)
{
    static const char name[] = "controlnet";
    return title.size == sizeof name - 1 &&
           strncasecmp((const char *)title.data, name, title.size) == 0;
}

/* ---- A unit while it is read ----------------------------------------------------------------- */

struct unit {
    struct ld_translation *t;
    const struct ld_json_tree *tree;
    const struct ld_json_node *node;
    const char *list; /* where it stands, and as which */
    uint32_t place;
    struct ld_buffer *picture; /* its bytes go here */
    struct ld_buffer *out;     /* and it goes here */
};

/* Members that say nothing about the picture, or what is so here anyway. */
static const char *const passed_over[] = {
    "enabled",
    "module",
    "model",
    "weight",
    "image",
    "input_image",
    "resize_mode",
    "low_vram",
    "lowvram",
    "processor_res",
    "threshold_a",
    "threshold_b",
    "guidance",
    "guidance_start",
    "guidance_end",
    "pixel_perfect",
    "control_mode",
    "hr_option",
    "save_detected_map",
    "is_ui",
    "input_mode",
    "batch_images",
    "output_dir",
    "loopback",
    "inpaint_crop_input_image",
    "pulid_mode",
    "mask",
    "mask_image",
    "effective_region_mask",
    "ipadapter_input",
    "advanced_weighting",
    "use_preview_as_input",
    "generated_image",
};

static void refuse(const struct unit *u, const char *key, const char *sentence)
{
    char pointer[LD_ERROR_POINTER_SIZE];
    (void)ld_fmt(pointer, sizeof pointer, "%s/%u/%s", u->list, u->place, key);
    ld_translation_refuse(u->t, pointer, "controlnet unit %u, %s: %s", u->place, key, sentence);
}

static const struct ld_json_node *member(const struct unit *u, const char *key)
{
    const struct ld_json_node *node = ld_lenient_member(u->tree, u->node, key);
    return node && !(node->kind == LD_JSON_STRING && node->text.size == 0) ? node : NULL;
}

static const struct ld_json_node *either(const struct unit *u, const char *key, const char *old)
{
    const struct ld_json_node *node = member(u, key);
    return node ? node : member(u, old);
}

static const char *text_of(const struct unit *u, const struct ld_json_node *node)
{
    const char *text = node ? ld_lenient_text(node, u->t->native->arena) : NULL;
    return text ? text : "";
}

/* ,"name":number; false where there is none. */
static bool put_number(const struct unit *u, const struct ld_json_node *node, const char *key,
                       const char *name)
{
    double value;
    if (!node)
        return false;
    if (!ld_lenient_number(node, &value)) {
        refuse(u, key, "must be a number");
        return false;
    }
    ld_buffer_format(u->out, ",\"%s\":", name);
    ld_buffer_json_double(u->out, value);
    return true;
}

/* One of three words, by A1111's number or by its name. */
struct choice {
    const char *words[3]; /* of the number 0, 1, 2 */
    const char *names[8]; /* NULL behind the last */
    uint8_t meant[8];     /* by each name */
};

static void put_choice(const struct unit *u, const char *key, const char *name,
                       const struct choice *choice)
{
    const struct ld_json_node *node = member(u, key);
    const char *text = text_of(u, node);
    const char *word = NULL;
    int64_t number;
    if (!node)
        return;
    if (ld_lenient_whole(node, &number) && number >= 0 && number <= 2)
        word = choice->words[number];
    for (uint32_t i = 0; !word && i < 8 && choice->names[i]; i++)
        if (strcasecmp(text, choice->names[i]) == 0)
            word = choice->words[choice->meant[i]];
    if (!word)
        refuse(u, key, "must be one of the extension's words, or 0, 1 or 2");
    else
        ld_buffer_format(u->out, ",\"%s\":\"%s\"", name, word);
}

/* ---- Its picture ----------------------------------------------------------------------------- */

/*
 * A string; {"image", "mask"}; [image, mask]; or a list of one such object. NULL where there is
 * none: then it is that of img2img.
 */
static const struct ld_json_node *picture_of(const struct unit *u, const struct ld_json_node **mask)
{
    const struct ld_json_node *node = either(u, "image", "input_image");
    *mask = either(u, "mask", "mask_image");
    if (node && node->kind == LD_JSON_ARRAY_BEGIN) {
        const struct ld_json_node *first = ld_json_first(u->tree, node);
        const struct ld_json_node *second = first ? ld_json_after(u->tree, first) : NULL;
        const bool is_pair = first && first->kind == LD_JSON_STRING;
        if (second && (!is_pair || node->child_count > 2))
            refuse(u, "image", "must be one picture");
        if (is_pair && second)
            *mask = second;
        node = first;
    }
    if (node && node->kind == LD_JSON_OBJECT_BEGIN) {
        const struct ld_json_node *inner = ld_lenient_member(u->tree, node, "mask");
        *mask = inner ? inner : *mask;
        node = ld_lenient_member(u->tree, node, "image");
    }
    return node && node->kind != LD_JSON_NULL ? node : NULL;
}

static void put_picture(const struct unit *u)
{
    char pointer[LD_ERROR_POINTER_SIZE];
    const struct ld_json_node *mask;
    const struct ld_json_node *picture = picture_of(u, &mask);
    if (mask && !ld_lenient_is_empty(mask))
        refuse(u, "mask", "latentd has no masks of units; img2img's mask holds for inpaint");
    if (!picture)
        return;
    (void)ld_fmt(pointer, sizeof pointer, "%s/%u/image", u->list, u->place);
    ld_translate_base64(u->t, picture, pointer, u->picture);
    ld_buffer_format(u->out, ",\"image\":%s", ld_translate_placeholder);
}

/* ---- All of it ------------------------------------------------------------------------------- */

static void put_model(const struct unit *u)
{
    char name[LD_RECIPE_NAME_SIZE];
    const char *title = text_of(u, member(u, "model"));
    if (!*title || strcasecmp(title, "None") == 0) {
        refuse(u, "model", "a unit needs a model of /controlnet/model_list");
        return;
    }
    ld_a1111_model_name(title, name);
    ld_buffer_text(u->out, "{\"model\":");
    ld_buffer_json_string(u->out, name);
}

/* Beyond a slider's ends stands its usual value, of which -1 is the sign. */
static void put_slider(const struct unit *u, const char *key, const struct ld_a1111_slider *slider,
                       const char *name)
{
    double value;
    const struct ld_json_node *node = member(u, key);
    if (!slider->name || !node ||
        (ld_lenient_number(node, &value) && (value < slider->min || value > slider->max)))
        return;
    (void)put_number(u, node, key, name);
}

static void put_module(const struct unit *u)
{
    const struct ld_json_node *node = member(u, "module");
    const struct ld_a1111_module *module = node ? module_called(text_of(u, node)) : &modules[0];
    if (!module) {
        refuse(u, "module",
               "must be none, canny, invert, lineart_standard, scribble_xdog, threshold, "
               "tile_resample, blur_gaussian, inpaint_global_harmonious or recolor_luminance; with "
               "none the image "
               "may be the finished map of any other");
        return;
    }
    ld_buffer_format(u->out, ",\"preprocess\":\"%s\"", module->preprocess);
    if (module->kind == LD_HINT_LUMINANCE)
        ld_translation_warn(u->t,
                            "controlnet unit %u: recolor_luminance is the luma of BT.601 here, "
                            "without a gamma",
                            u->place);
    const bool has_two = module->sliders[1].name != NULL;
    put_slider(u, "threshold_a", &module->sliders[0], has_two ? "low" : "high");
    put_slider(u, "threshold_b", &module->sliders[1], "high");
}

static void look_at_the_rest(const struct unit *u)
{
    static const struct {
        const char *key, *sentence;
    } lacked[] = {
        {"effective_region_mask", "latentd has no masks of units"},
        {"ipadapter_input", "latentd has no IP-Adapter"},
        {"advanced_weighting", "latentd has one weight a unit, and the falling ones of "
                               "control_mode"},
    };
    for (size_t i = 0; i < sizeof lacked / sizeof lacked[0]; i++) {
        const struct ld_json_node *node = member(u, lacked[i].key);
        if (node && !ld_lenient_is_empty(node))
            refuse(u, lacked[i].key, lacked[i].sentence);
    }
    for (const struct ld_json_node *node = ld_json_first(u->tree, u->node); node;
         node = ld_json_after(u->tree, node)) {
        bool known = false;
        for (size_t i = 0; !known && i < sizeof passed_over / sizeof passed_over[0]; i++)
            known = ld_span_is(node->key, passed_over[i]);
        if (!known)
            ld_translation_warn(u->t, "controlnet unit %u: %.*s is not known here and was ignored",
                                u->place, node->key.size > 64 ? 64 : (int)node->key.size,
                                (const char *)node->key.data);
    }
}

/* Without one, hr_option says nothing. */
static bool has_second_pass(const struct unit *u)
{
    bool on = false;
    const struct ld_json_node *node =
        ld_lenient_member(u->tree, ld_json_root(u->tree), "enable_hr");
    return node && ld_lenient_flag(node, &on) && on;
}

static void put_unit(const struct unit *u)
{
    static const struct choice modes = {
        {"balanced", "prompt", "control"},
        {"Balanced", "My prompt is more important", "ControlNet is more important", NULL},
        {0, 1, 2}};
    static const struct choice fits = {{"stretch", "crop", "pad"},
                                       {"Just Resize", "Crop and Resize", "Resize and Fill",
                                        "Inner Fit (Scale to Fit)", "Scale to Fit (Inner Fit)",
                                        "Outer Fit (Shrink to Fit)", "Envelope (Outer Fit)", NULL},
                                       {0, 1, 2, 1, 1, 2, 2}};
    static const struct choice passes = {
        {"both", "first", "second"}, {"Both", "Low res only", "High res only", NULL}, {0, 1, 2}};
    const struct ld_json_node *end = either(u, "guidance_end", "guidance");
    put_model(u);
    (void)put_number(u, member(u, "weight"), "weight", "weight");
    (void)put_number(u, member(u, "guidance_start"), "guidance_start", "start");
    (void)put_number(u, end, "guidance_end", "end");
    put_module(u);
    put_choice(u, "control_mode", "mode", &modes);
    put_choice(u, "resize_mode", "resize", &fits);
    if (has_second_pass(u))
        put_choice(u, "hr_option", "passes", &passes);
    put_picture(u);
    look_at_the_rest(u);
    ld_buffer_byte(u->out, '}');
}

static bool is_on(const struct ld_json_tree *tree, const struct ld_json_node *node)
{
    bool on = true;
    const struct ld_json_node *enabled = ld_lenient_member(tree, node, "enabled");
    return node->child_count > 0 && (!enabled || !ld_lenient_flag(enabled, &on) || on);
}

void ld_a1111_translate_units(struct ld_translation *t, const struct ld_json_tree *tree,
                              const struct ld_json_node *units, const char *pointer)
{
    struct ld_buffer out = ld_buffer_make(LD_RECIPE_BYTES_MAX);
    uint32_t place = 0, count = 0;
    for (const struct ld_json_node *node = ld_json_first(tree, units); node;
         node = ld_json_after(tree, node), place++) {
        if (node->kind != LD_JSON_OBJECT_BEGIN) {
            if (!ld_lenient_is_empty(node))
                ld_translation_refuse(t, pointer, "controlnet unit %u must be an object", place);
            continue;
        }
        if (!is_on(tree, node))
            continue;
        if (count == LD_CONTROLS_MAX) {
            ld_translation_refuse(t, pointer, "controlnet: at most %d units can be enabled",
                                  LD_CONTROLS_MAX);
            break;
        }
        ld_buffer_text(&out, count ? "," : "[");
        const struct unit unit = {
            t, tree, node, pointer, place, &t->native->control_images[count], &out};
        put_unit(&unit);
        count++;
    }
    ld_buffer_byte(&out, ']');
    if (out.failed)
        (void)ld_problem_add(&t->native->problem, LD_E_NOMEM, pointer, "out of memory");
    else if (count > 0 && t->native->problem.code == LD_OK)
        ld_recipe_put_json(&t->fields, "control", ld_span_of(out.data, out.size));
    ld_buffer_deinit(&out);
}
