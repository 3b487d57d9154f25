/* What clients of A1111's ControlNet extension list: models, preprocessors, and which go together.
 */
#include "api/dialect_a1111_control.h"
#include "config/limits.h"
#include "server/front.h"
#include "server/handlers.h"
#include "server/inventory.h"

#include <strings.h>

static enum ld_handled reply_text(struct ld_exchange *ex, const char *json)
{
    ld_buffer_text(&ex->reply.body, json);
    return ld_exchange_json(ex, 200);
}

/* ---- Models and preprocessors ---------------------------------------------------------------- */

/* "name [hash]", as a unit says it back. */
static void write_title(struct ld_buffer *out, const struct ld_controlnet_view *model)
{
    struct ld_buffer title = ld_buffer_make(1024);
    ld_buffer_text(&title, model->name);
    if (model->sha256 && *model->sha256)
        ld_buffer_format(&title, " [%.*s]", LD_INFOTEXT_CONTROL_HASH, model->sha256);
    ld_buffer_json_string(out, title.failed ? model->name : title.data);
    ld_buffer_deinit(&title);
}

enum ld_handled ld_handle_controlnet_models(struct ld_exchange *ex)
{
    struct ld_buffer *out = &ex->reply.body;
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    ld_buffer_text(out, "{\"model_list\":[");
    for (uint32_t i = 0; inventory && i < inventory->controlnet_count; i++) {
        ld_buffer_text(out, i ? "," : "");
        write_title(out, &inventory->controlnets[i]);
    }
    ld_inventory_release(ex->front->inventory, inventory);
    return reply_text(ex, "]}");
}

static void write_slider(struct ld_buffer *out, const struct ld_a1111_slider *slider)
{
    ld_buffer_format(out, ",{\"name\":\"%s\",\"value\":", slider->name);
    ld_buffer_json_double(out, slider->usual);
    ld_buffer_text(out, ",\"min\":");
    ld_buffer_json_double(out, slider->min);
    ld_buffer_text(out, ",\"max\":");
    ld_buffer_json_double(out, slider->max);
    ld_buffer_text(out, ",\"step\":");
    ld_buffer_json_double(out, slider->step);
    ld_buffer_byte(out, '}');
}

/* The first slider is the resolution's there; here a preprocessor works at the picture's. */
static void write_detail(struct ld_buffer *out, const struct ld_a1111_module *module)
{
    ld_buffer_format(out, "\"%s\":{\"model_free\":false,\"sliders\":[",
                     ld_infotext_module(module->kind));
    if (module->sliders[0].name)
        ld_buffer_text(out, "null");
    for (uint32_t i = 0; i < 2 && module->sliders[i].name; i++)
        write_slider(out, &module->sliders[i]);
    ld_buffer_text(out, "]}");
}

enum ld_handled ld_handle_controlnet_modules(struct ld_exchange *ex)
{
    struct ld_buffer *out = &ex->reply.body;
    const struct ld_a1111_module *module;
    ld_buffer_text(out, "{\"module_list\":[");
    for (uint32_t i = 0; (module = ld_a1111_module_at(i)) != NULL; i++)
        ld_buffer_format(out, "%s\"%s\"", i ? "," : "", ld_infotext_module(module->kind));
    ld_buffer_text(out, "],\"module_detail\":{");
    for (uint32_t i = 0; (module = ld_a1111_module_at(i)) != NULL; i++) {
        ld_buffer_text(out, i ? "," : "");
        write_detail(out, module);
    }
    return reply_text(ex, "}}");
}

/* ---- Types ----------------------------------------------------------------------------------- */

/* Models of a type have its word in their names. A type whose preprocessors need a network has none
 * here but its models take finished maps. */
static const char *const types[] = {"All",      "Canny",        "Depth",     "IP2P",     "Inpaint",
                                    "Lineart",  "MLSD",         "NormalMap", "OpenPose", "Recolor",
                                    "Scribble", "Segmentation", "SoftEdge",  "Tile"};

static bool is_of(const char *type, const char *model)
{
    static const struct {
        const char *type, *word;
    } other[] = {{"NormalMap", "normal"}, {"Segmentation", "seg"}, {"Canny", "edges"}};
    bool found = strcasestr(model, type) != NULL;
    for (size_t i = 0; !found && i < sizeof other / sizeof other[0]; i++)
        found = strcmp(type, other[i].type) == 0 && strcasestr(model, other[i].word);
    return found || strcmp(type, "All") == 0;
}

static void write_type(struct ld_buffer *out, const char *type, const struct ld_inventory *known)
{
    const bool all = strcmp(type, "All") == 0;
    const struct ld_a1111_module *module, *usual = NULL;
    const struct ld_controlnet_view *first = NULL;
    ld_buffer_format(out, "\"%s\":{\"module_list\":[\"none\"", type);
    for (uint32_t i = 1; (module = ld_a1111_module_at(i)) != NULL; i++) {
        if (!all && !(module->type && strcmp(module->type, type) == 0))
            continue;
        ld_buffer_format(out, ",\"%s\"", ld_infotext_module(module->kind));
        usual = usual || all ? usual : module;
    }
    ld_buffer_text(out, "],\"model_list\":[\"None\"");
    for (uint32_t i = 0; known && i < known->controlnet_count; i++) {
        const struct ld_controlnet_view *model = &known->controlnets[i];
        if (!is_of(type, model->name))
            continue;
        ld_buffer_byte(out, ',');
        write_title(out, model);
        first = first || all ? first : model;
    }
    ld_buffer_format(out, "],\"default_option\":\"%s\",\"default_model\":",
                     ld_infotext_module(usual ? usual->kind : LD_HINT_NONE));
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
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        ld_buffer_text(out, i ? "," : "");
        write_type(out, types[i], inventory);
    }
    ld_inventory_release(ex->front->inventory, inventory);
    return reply_text(ex, "}}");
}

/* ---- What is the same everywhere ------------------------------------------------------------- */

enum ld_handled ld_handle_controlnet_version(struct ld_exchange *ex)
{
    return reply_text(ex, "{\"version\":3}"); /* whose fields units have here */
}

enum ld_handled ld_handle_controlnet_settings(struct ld_exchange *ex)
{
    ld_buffer_format(&ex->reply.body, "{\"control_net_unit_count\":%d", LD_CONTROLS_MAX);
    return reply_text(ex, "}");
}

/* Whoever answers decodes no pictures (docs/architecture.md): that is a worker's to do. */
enum ld_handled ld_handle_controlnet_detect(struct ld_exchange *ex)
{
    return ld_exchange_refuse(ex, LD_E_UNSUPPORTED, 0,
                              "ControlNet maps are made with the picture, by a unit's module; "
                              "latentd does not make one alone");
}
