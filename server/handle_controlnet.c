/* What A1111's ControlNet extension lists (`/controlnet/...`): models, preprocessors and both by
 * what they are for. Source: sd-webui-controlnet, scripts/api.py and scripts/global_state.py. */
#include "api/dialect_a1111_control.h"
#include "config/limits.h"
#include "server/front.h"
#include "server/handlers.h"
#include "server/inventory.h"

#include <string.h>

enum { VERSION = 3, RESOLUTION_USUAL = 512 };

static enum ld_handled reply(struct ld_exchange *ex)
{
    return ld_exchange_json(ex, 200);
}

/* ---- Models ---------------------------------------------------------------------------------- */

/* "edges [01234567]", as a unit may name it. */
static void write_title(struct ld_buffer *out, const struct ld_controlnet_view *view)
{
    struct ld_buffer title = ld_buffer_make(2 * LD_NAME_BYTES_MAX);
    ld_buffer_format(&title, "%s [%.8s]", view->name, view->sha256);
    ld_buffer_json_string(out, title.data && !title.failed ? title.data : view->name);
    ld_buffer_deinit(&title);
}

/* Has the name one of these words in it, "depth normal"? NULL: any name will do. */
static bool is_meant(const char *name, const char *words)
{
    bool meant = !words;
    for (const char *at = words ? words : ""; *at && !meant; at += strspn(at, " ")) {
        char word[16];
        const size_t size = strcspn(at, " ");
        meant = ld_fmt(word, sizeof word, "%.*s", (int)size, at) && strcasestr(name, word);
        at += size;
    }
    return meant;
}

/* The first of those that are meant. */
static const struct ld_controlnet_view *first_of(const struct ld_inventory *inventory,
                                                 const char *words)
{
    for (uint32_t i = 0; inventory && i < inventory->controlnet_count; i++)
        if (is_meant(inventory->controlnets[i].name, words))
            return &inventory->controlnets[i];
    return NULL;
}

static void write_models(struct ld_buffer *out, const struct ld_inventory *inventory,
                         const char *words, const char *comma)
{
    for (uint32_t i = 0; inventory && i < inventory->controlnet_count; i++) {
        if (!is_meant(inventory->controlnets[i].name, words))
            continue;
        ld_buffer_text(out, comma);
        write_title(out, &inventory->controlnets[i]);
        comma = ",";
    }
}

enum ld_handled ld_handle_controlnet_models(struct ld_exchange *ex)
{
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    ld_buffer_text(&ex->reply.body, "{\"model_list\":[");
    write_models(&ex->reply.body, inventory, NULL, "");
    ld_buffer_text(&ex->reply.body, "]}");
    ld_inventory_release(ex->front->inventory, inventory);
    return reply(ex);
}

/* ---- Preprocessors --------------------------------------------------------------------------- */

static void write_slider(struct ld_buffer *out, const struct ld_a1111_slider *slider)
{
    ld_buffer_text(out, ",{\"name\":");
    ld_buffer_json_string(out, slider->label);
    ld_buffer_text(out, ",\"value\":");
    ld_buffer_json_double(out, slider->usual);
    ld_buffer_text(out, ",\"min\":");
    ld_buffer_json_double(out, slider->least);
    ld_buffer_text(out, ",\"max\":");
    ld_buffer_json_double(out, slider->most);
    ld_buffer_text(out, ",\"step\":");
    ld_buffer_json_double(out, slider->step);
    ld_buffer_byte(out, '}');
}

/* Sliders stand in the order processor_res, threshold_a, threshold_b. */
static void write_detail(struct ld_buffer *out, const struct ld_a1111_module *module)
{
    ld_buffer_text(out, "{\"model_free\":false,\"sliders\":[");
    if (module->slider[0].label) {
        ld_buffer_format(out,
                         "{\"name\":\"Resolution\",\"value\":%d,\"min\":64,\"max\":2048,"
                         "\"step\":1}",
                         RESOLUTION_USUAL);
        for (size_t i = 0; i < 2 && module->slider[i].label; i++)
            write_slider(out, &module->slider[i]);
    }
    ld_buffer_text(out, "]}");
}

static bool wants_labels(struct ld_exchange *ex)
{
    const char *wanted = ld_exchange_query(ex, "alias_names");
    return wanted && (strcasecmp(wanted, "true") == 0 || strcmp(wanted, "1") == 0);
}

enum ld_handled ld_handle_controlnet_modules(struct ld_exchange *ex)
{
    uint32_t count;
    struct ld_buffer *out = &ex->reply.body;
    const struct ld_a1111_module *modules = ld_a1111_modules(&count);
    const bool labels = wants_labels(ex);
    ld_buffer_text(out, "{\"module_list\":");
    for (uint32_t i = 0; i < count; i++) {
        ld_buffer_byte(out, i ? ',' : '[');
        ld_buffer_json_string(out, labels ? modules[i].label : modules[i].name);
    }
    ld_buffer_text(out, "],\"module_detail\":");
    for (uint32_t i = 0; i < count; i++) {
        ld_buffer_byte(out, i ? ',' : '{');
        ld_buffer_json_string(out, labels ? modules[i].label : modules[i].name);
        ld_buffer_byte(out, ':');
        write_detail(out, &modules[i]);
    }
    ld_buffer_text(out, "}}");
    return reply(ex);
}

/* ---- What they are for ----------------------------------------------------------------------- */

/* The published ControlNets for SD1.5 have these words in their names. */
static const struct {
    const char *type, *words;
    const char *modules; /* between spaces, the usual one first; "" where each needs a network */
} types[] = {
    {"Blur", "blur", " blur_gaussian "},
    {"Canny", "canny edges", " canny invert "},
    {"Depth", "depth", ""},
    {"InstructP2P", "ip2p instructp2p", ""},
    {"Inpaint", "inpaint", " inpaint_only inpaint "},
    {"Lineart", "lineart", " lineart_standard invert "},
    {"MLSD", "mlsd", " invert "},
    {"NormalMap", "normal", ""},
    {"OpenPose", "openpose pose", ""},
    {"Recolor", "recolor brightness", " recolor_luminance "},
    {"Scribble", "scribble sketch", " scribble_xdog invert threshold "},
    {"Segmentation", "seg", ""},
    {"Shuffle", "shuffle", ""},
    {"SoftEdge", "softedge hed", ""},
    {"Tile", "tile", " tile_resample blur_gaussian "},
};

static bool has_module(const char *list, const char *name)
{
    char word[40];
    return ld_fmt(word, sizeof word, " %s ", name) && strstr(list, word) != NULL;
}

/* The names in menus, "none" first; `list` NULL: all. The list's own first one is the usual one. */
static const char *write_modules(struct ld_buffer *out, const char *list)
{
    uint32_t count;
    const struct ld_a1111_module *modules = ld_a1111_modules(&count);
    const char *usual = "none";
    for (uint32_t i = 0; i < count; i++) {
        const char *name = modules[i].name;
        if (i > 0 && list && !has_module(list, name))
            continue;
        if (list && list[0] && strcspn(list + 1, " ") == strlen(name) &&
            strncmp(list + 1, name, strlen(name)) == 0)
            usual = modules[i].label;
        ld_buffer_text(out, i ? "," : "");
        ld_buffer_json_string(out, modules[i].label);
    }
    return usual;
}

/* As there: where no model's name has the type's word, all of them and none to begin with. */
static void write_type(struct ld_buffer *out, const struct ld_inventory *inventory,
                       const char *type, const char *words, const char *list)
{
    const struct ld_controlnet_view *first = words ? first_of(inventory, words) : NULL;
    ld_buffer_json_string(out, type);
    ld_buffer_text(out, ":{\"module_list\":[");
    const char *usual = write_modules(out, list);
    ld_buffer_text(out, "],\"model_list\":[\"None\"");
    write_models(out, inventory, first ? words : NULL, ",");
    ld_buffer_text(out, "],\"default_option\":");
    ld_buffer_json_string(out, usual);
    ld_buffer_text(out, ",\"default_model\":");
    if (first)
        write_title(out, first);
    else
        ld_buffer_text(out, "\"None\"");
    ld_buffer_byte(out, '}');
}

enum ld_handled ld_handle_controlnet_types(struct ld_exchange *ex)
{
    struct ld_buffer *out = &ex->reply.body;
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    ld_buffer_text(out, "{\"control_types\":{");
    write_type(out, inventory, "All", NULL, NULL);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        ld_buffer_byte(out, ',');
        write_type(out, inventory, types[i].type, types[i].words, types[i].modules);
    }
    ld_buffer_text(out, "}}");
    ld_inventory_release(ex->front->inventory, inventory);
    return reply(ex);
}

/* ---- The rest -------------------------------------------------------------------------------- */

enum ld_handled ld_handle_controlnet_version(struct ld_exchange *ex)
{
    ld_buffer_format(&ex->reply.body, "{\"version\":%d}", VERSION);
    return reply(ex);
}

enum ld_handled ld_handle_controlnet_settings(struct ld_exchange *ex)
{
    ld_buffer_format(&ex->reply.body, "{\"control_net_unit_count\":%d}", LD_CONTROLS_MAX);
    return reply(ex);
}

/* This process decodes no pictures. */
enum ld_handled ld_handle_controlnet_detect(struct ld_exchange *ex)
{
    return ld_exchange_refuse(ex, LD_E_UNSUPPORTED, 0,
                              "latentd makes a ControlNet's hint while it paints and hands none "
                              "out; send the picture with the module in a unit");
}
