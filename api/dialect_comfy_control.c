#include "api/dialect_comfy_control.h"

#include "config/limits.h"

#include <math.h>

typedef const struct ld_json_node *node_ref;

/* ---- A unit's picture ------------------------------------------------------------------------ */

bool ld_comfy_is_preprocessor(const struct ld_comfy_graph *g, node_ref node)
{
    return ld_comfy_is(g, node, "Canny") || ld_comfy_is(g, node, "ImageInvert");
}

static bool is_applier(const struct ld_comfy_graph *g, node_ref node)
{
    return ld_comfy_is(g, node, "ControlNetApplyAdvanced") ||
           ld_comfy_is(g, node, "ControlNetApply") || ld_comfy_is(g, node, "ControlNetApplySD3");
}

static bool is_before_picture(const struct ld_comfy_graph *g, node_ref node)
{
    return ld_comfy_is_preprocessor(g, node) || ld_comfy_is(g, node, "ImageScale") ||
           ld_comfy_is(g, node, "ImageScaleBy");
}

bool ld_comfy_is_before_control(const struct ld_comfy_graph *g, node_ref node)
{
    for (node_ref one = ld_json_first(g->tree, g->nodes); one; one = ld_json_after(g->tree, one)) {
        node_ref at = is_applier(g, one) ? ld_comfy_follow(g, one, "image") : NULL;
        for (int hop = 0; is_before_picture(g, at) && hop < LD_COMFY_HOPS_MAX; hop++) {
            if (at == node)
                return true;
            at = ld_comfy_follow(g, at, "image");
        }
    }
    return false;
}

/* A threshold of ComfyUI's Canny, which works on 0..1 with the same Sobel operator. A millionth of
 * rounding, so that what this program writes as a quotient comes back whole. */
static double threshold_of(const struct ld_comfy_graph *g, node_ref canny, const char *name,
                           double by_default)
{
    return round(ld_comfy_number(g, canny, name, by_default) * 255e6) / 1e6;
}

static bool read_canny(struct ld_comfy_graph *g, node_ref canny, struct ld_comfy_unit *unit)
{
    unit->low = threshold_of(g, canny, "low_threshold", 0.4);
    unit->high = threshold_of(g, canny, "high_threshold", 0.8);
    if (unit->low > unit->high)
        ld_comfy_refuse(g, canny, "low_threshold", "low_threshold must be at most high_threshold");
    return unit->low <= unit->high;
}

/* From the node that applies it back to the file. False after a complaint. */
static bool read_hint(struct ld_comfy_graph *g, struct ld_comfy_unit *unit)
{
    int32_t width, height;
    struct ld_comfy_input picture;
    node_ref at = ld_comfy_follow(g, unit->node, "image");
    unit->preprocess = "none";
    for (int hop = 0; is_before_picture(g, at) && hop < LD_COMFY_HOPS_MAX; hop++) {
        if (ld_comfy_is(g, at, "ImageScale")) {
            if (unit->scale) {
                ld_comfy_refuse(g, at, "image",
                                "a ControlNet's picture is resized by one ImageScale at most");
                return false;
            }
            unit->scale = at;
        } else if (ld_comfy_is_preprocessor(g, at)) {
            if (strcmp(unit->preprocess, "none") != 0) {
                ld_comfy_refuse(
                    g, at, "image",
                    "a ControlNet's picture goes through one Canny or ImageInvert here");
                return false;
            }
            unit->preprocess = ld_comfy_is(g, at, "Canny") ? "canny" : "invert";
            if (ld_comfy_is(g, at, "Canny") && !read_canny(g, at, unit))
                return false;
        }
        at = ld_comfy_follow(g, at, "image");
    }
    if (!ld_comfy_is(g, at, "LoadImage")) {
        ld_comfy_refuse(g, unit->node, "image",
                        "a ControlNet's picture must come from LoadImage, through Canny, "
                        "ImageInvert, ImageScale and ImageScaleBy at most");
        return false;
    }
    if (!ld_comfy_read_picture(g, at, &picture))
        return false;
    if (!ld_comfy_size_of(g, picture.image, &width, &height)) {
        ld_comfy_complain(g, at, "custom_validation_failed", "Invalid image file",
                          ld_span_text("image"), ld_span_text(picture.image));
        return false;
    }
    memcpy(unit->image, picture.image, sizeof unit->image);
    return true;
}

/* ---- Units of a prompt ----------------------------------------------------------------------- */

static bool read_unit(struct ld_comfy_graph *g, node_ref node, struct ld_comfy_unit *unit)
{
    *unit = (struct ld_comfy_unit){.node = node};
    unit->weight = ld_comfy_number(g, node, "strength", 1);
    unit->start = ld_comfy_number(g, node, "start_percent", 0);
    unit->end = ld_comfy_number(g, node, "end_percent", 1);
    node_ref loader = ld_comfy_follow(g, node, "control_net");
    node_ref name = ld_comfy_input_of(g, loader, "control_net_name");
    unit->model = name ? ld_lenient_text(name, g->t->native->arena) : NULL;
    if (!unit->model) {
        ld_comfy_refuse(g, node, "control_net", "a ControlNet must come from ControlNetLoader");
        return false;
    }
    if (unit->start >= unit->end) {
        ld_comfy_refuse(g, node, "start_percent", "start_percent must be below end_percent");
        return false;
    }
    return read_hint(g, unit);
}

struct side {
    struct ld_comfy_units units; /* the one nearest to the sampler first, until they are turned */
    bool spreads;                /* the last one that was applied goes to the other prompt too */
};

static void turn(struct ld_comfy_units *units)
{
    for (uint32_t i = 0; i < units->count / 2; i++) {
        const struct ld_comfy_unit unit = units->unit[i];
        units->unit[i] = units->unit[units->count - 1 - i];
        units->unit[units->count - 1 - i] = unit;
    }
}

/* A node with two outputs carries each prompt through under its own name. Behind
 * ConditioningZeroOut either will do: nothing of the prompt is left but its units. */
static const char *way_through(struct ld_comfy_graph *g, node_ref applier, int64_t slot,
                               const char *name)
{
    const char *way = slot == 0 ? "positive" : "negative";
    if (ld_comfy_is(g, applier, "ControlNetApply"))
        return "conditioning";
    if (name && strcmp(way, name) != 0) {
        ld_comfy_refuse(g, applier, way,
                        "positive must take the first output of this node and negative the second");
        return NULL;
    }
    return way;
}

/* From a sampler along its `name` ("positive", "negative") to the prompt. False after a complaint.
 */
static bool read_side(struct ld_comfy_graph *g, node_ref sampler, const char *name,
                      struct side *side)
{
    node_ref link = ld_comfy_input_of(g, sampler, name);
    for (int hop = 0; link && hop < LD_COMFY_HOPS_MAX; hop++) {
        node_ref at = ld_comfy_target(g, link);
        const char *way = "conditioning";
        if (ld_comfy_is(g, at, "ConditioningZeroOut")) {
            name = NULL;
        } else if (is_applier(g, at)) {
            way = way_through(g, at, ld_comfy_slot(g, link), name);
            if (!way)
                return false;
            if (ld_comfy_number(g, at, "strength", 1) > 0) {
                if (side->units.count == LD_COMFY_UNITS_MAX) {
                    ld_comfy_refuse(g, at, "control_net", "too many ControlNets");
                    return false;
                }
                if (!read_unit(g, at, &side->units.unit[side->units.count]))
                    return false;
                if (side->units.count++ == 0)
                    side->spreads = ld_comfy_is(g, at, "ControlNetApply");
            }
        } else {
            break; /* the text encoder */
        }
        link = ld_comfy_input_of(g, at, way);
    }
    turn(&side->units);
    return true;
}

static bool has_same_scale(const struct ld_comfy_graph *g, node_ref a, node_ref b)
{
    if (!a || !b)
        return a == b;
    return ld_comfy_whole(g, a, "width", 0) == ld_comfy_whole(g, b, "width", 0) &&
           ld_comfy_whole(g, a, "height", 0) == ld_comfy_whole(g, b, "height", 0) &&
           ld_comfy_crops(g, a) == ld_comfy_crops(g, b);
}

/* The same node, or one that says the same. */
static bool is_same(const struct ld_comfy_graph *g, const struct ld_comfy_unit *a,
                    const struct ld_comfy_unit *b)
{
    return a->node == b->node ||
           (strcmp(a->model, b->model) == 0 && strcmp(a->image, b->image) == 0 &&
            strcmp(a->preprocess, b->preprocess) == 0 && a->low == b->low && a->high == b->high &&
            a->weight == b->weight && a->start == b->start && a->end == b->end &&
            has_same_scale(g, a->scale, b->scale));
}

bool ld_comfy_units_read(struct ld_comfy_graph *g, node_ref sampler, struct ld_comfy_units *units)
{
    struct side positive = {.spreads = false}, negative = {.spreads = false};
    if (!read_side(g, sampler, "positive", &positive) ||
        !read_side(g, sampler, "negative", &negative))
        return false;
    const struct ld_comfy_units *has = &positive.units, *other = &negative.units;
    uint32_t same = 0;
    while (same < has->count && same < other->count &&
           is_same(g, &has->unit[same], &other->unit[same]))
        same++;
    const bool given_on = positive.spreads && other->count == 0;
    if (!given_on && (same < has->count || same < other->count)) {
        const struct ld_comfy_units *longer = same < has->count ? has : other;
        ld_comfy_refuse(g, longer->unit[same].node, "control_net",
                        "positive and negative must have the same ControlNets here");
        return false;
    }
    *units = *has;
    return true;
}

/* ---- As a field ------------------------------------------------------------------------------ */

/* Would cutting the one's middle to the other's shape take less than a latent's cell? */
static bool has_shape(double width, double height, const struct ld_comfy_shape *shape)
{
    const double scale = fmax(shape->width / width, shape->height / height);
    return width * scale - shape->width < 8 && height * scale - shape->height < 8;
}

/* How a unit's picture comes to a pass's size; NULL: it cannot be said. ComfyUI cuts what the
 * ImageScale leaves, so that must have the pass's shape, or the picture's own. */
static const char *resize_of(const struct ld_comfy_graph *g, const struct ld_comfy_unit *unit,
                             const struct ld_comfy_canvas *canvas, uint32_t pass)
{
    int32_t own_width = 0, own_height = 0;
    if (!unit->scale || unit->scale == canvas->init)
        return "crop";
    const double width = (double)ld_comfy_whole(g, unit->scale, "width", 512);
    const double height = (double)ld_comfy_whole(g, unit->scale, "height", 512);
    const struct ld_comfy_shape scaled = {width, height};
    if (ld_comfy_size_of(g, unit->image, &own_width, &own_height) &&
        has_shape(own_width, own_height, &scaled))
        return "crop";
    if (!has_shape(width, height, &canvas->shape[pass]))
        return NULL;
    return ld_comfy_crops(g, unit->scale) ? "crop" : "stretch";
}

struct listing {
    struct ld_comfy_graph *g;
    const struct ld_comfy_canvas *canvas;
    struct ld_buffer json;
    uint32_t count;
};

/* The usual ones (runtime/image/hint.h) are left out, as they are in most requests. */
static void put_threshold(struct ld_buffer *out, const struct ld_comfy_unit *unit, const char *name,
                          double value, double usual)
{
    if (strcmp(unit->preprocess, "canny") != 0 || value == usual)
        return;
    ld_buffer_format(out, ",\"%s\":", name);
    ld_buffer_json_double(out, value);
}

static void write_unit(struct ld_buffer *out, const struct ld_comfy_unit *unit, const char *resize,
                       const char *passes, bool follows_init)
{
    char model[LD_RECIPE_NAME_SIZE];
    ld_recipe_model_name(ld_span_text(unit->model), model);
    ld_buffer_text(out, "{\"model\":");
    ld_buffer_json_string(out, model);
    if (!follows_init)
        ld_buffer_format(out, ",\"image\":{\"id\":\"%s\"}", unit->image);
    ld_buffer_text(out, ",\"weight\":");
    ld_buffer_json_double(out, unit->weight);
    ld_buffer_text(out, ",\"start\":");
    ld_buffer_json_double(out, unit->start);
    ld_buffer_text(out, ",\"end\":");
    ld_buffer_json_double(out, unit->end);
    ld_buffer_format(out, ",\"preprocess\":\"%s\",\"resize\":\"%s\",\"passes\":\"%s\"",
                     unit->preprocess, resize, passes);
    put_threshold(out, unit, "low", unit->low, 100);
    put_threshold(out, unit, "high", unit->high, 200);
    ld_buffer_byte(out, '}');
}

static void add_unit(struct listing *list, const struct ld_comfy_unit *unit, bool in_first,
                     bool in_second)
{
    struct ld_comfy_graph *g = list->g;
    if (g->call->error_type)
        return;
    if (list->count == LD_CONTROLS_MAX) {
        ld_comfy_refuse(g, unit->node, "control_net", "a prompt has at most 3 ControlNets here");
        return;
    }
    const bool follows_init = unit->scale && unit->scale == list->canvas->init;
    const char *first = in_first ? resize_of(g, unit, list->canvas, 0) : "";
    const char *second = in_second ? resize_of(g, unit, list->canvas, 1) : first;
    if (!in_first)
        first = second;
    if (!first || !second || strcmp(first, second) != 0) {
        ld_comfy_refuse(g, unit->scale, "width",
                        "a ControlNet's picture must be scaled to its own shape or to that of the "
                        "picture that is painted");
        return;
    }
    ld_buffer_text(&list->json, list->count++ ? "," : "");
    write_unit(&list->json, unit, first,
               !in_first    ? "second"
               : !in_second ? "first"
                            : "both",
               follows_init);
}

/* The place of an equal unit in the second pass from `from` on; its count where there is none. */
static uint32_t find(const struct ld_comfy_graph *g, const struct ld_comfy_units *units,
                     uint32_t from, const struct ld_comfy_unit *wanted)
{
    while (from < units->count && !is_same(g, &units->unit[from], wanted))
        from++;
    return from;
}

/* One list of both passes' units, in which each pass finds its own in their order. */
static void add_both(struct listing *list, const struct ld_comfy_units *first,
                     const struct ld_comfy_units *second)
{
    uint32_t told = 0;
    for (uint32_t i = 0; i < first->count; i++) {
        const uint32_t place = find(list->g, second, told, &first->unit[i]);
        const bool in_second = place < second->count;
        while (in_second && told < place)
            add_unit(list, &second->unit[told++], false, true);
        add_unit(list, &first->unit[i], true, in_second);
        told += in_second;
    }
    while (told < second->count)
        add_unit(list, &second->unit[told++], false, true);
}

void ld_comfy_units_put(struct ld_comfy_graph *g, const struct ld_comfy_units units[2],
                        const struct ld_comfy_canvas *canvas)
{
    struct listing list = {.g = g, .canvas = canvas};
    list.json = ld_buffer_make(LD_RECIPE_BYTES_MAX);
    ld_buffer_byte(&list.json, '[');
    add_both(&list, &units[0], &units[1]);
    ld_buffer_byte(&list.json, ']');
    if (list.json.failed)
        ld_comfy_fail(g, "exception_during_validation", "no memory for the graph's ControlNets");
    else if (list.count > 0)
        ld_recipe_put_json(&g->t->fields, "control", ld_span_of(list.json.data, list.json.size));
    ld_buffer_deinit(&list.json);
}
