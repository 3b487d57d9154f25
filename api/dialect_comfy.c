#include "api/dialect_comfy.h"

#include "api/dialect_comfy_control.h"
#include "api/dialect_comfy_graph.h"
#include "api/dialect_comfy_nodes.h"

#include <math.h>

enum { NODES_MAX = 512, ERRORS_BYTES_MAX = 256 * 1024 };

typedef const struct ld_json_node *node_ref;

/* ---- One node against its row ---------------------------------------------------------------- */

/* The type of the output that a link names, "" if there is none. */
static struct ld_span output_type(const struct ld_comfy_graph *g, node_ref link)
{
    node_ref node = ld_comfy_target(g, link);
    node_ref class_type = node ? ld_comfy_member(g, node, "class_type") : NULL;
    const struct ld_comfy_node *row = class_type ? ld_comfy_node_find(class_type->text) : NULL;
    int64_t index;
    if (!row || !ld_json_integer(ld_json_after(g->tree, ld_json_first(g->tree, link)), &index) ||
        index < 0)
        return ld_span_text("");
    const char *at = row->output;
    for (; index > 0 && *at; index--) {
        at += strcspn(at, ",");
        at += *at == ',';
    }
    return ld_span_of(at, strcspn(at, ","));
}

static bool is_in_list(const struct ld_json_tree *inputs, node_ref list, node_ref value)
{
    for (node_ref item = ld_json_first(inputs, list); item; item = ld_json_after(inputs, item))
        if (value->kind == LD_JSON_STRING && ld_span_equal(item->text, value->text))
            return true;
    return false;
}

/* Names of samplers are taken in every spelling, files with their folders and endings; the native
 * check knows them. */
static bool has_loose_names(struct ld_span input)
{
    static const char *const names[] = {"sampler_name", "scheduler", "ckpt_name",       "lora_name",
                                        "vae_name",     "image",     "control_net_name"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (ld_span_is(input, names[i]))
            return true;
    return false;
}

static void check_number(struct ld_comfy_graph *g, node_ref node, const struct ld_json_tree *inputs,
                         node_ref wanted, node_ref value)
{
    node_ref options = ld_json_after(inputs, ld_json_first(inputs, wanted));
    node_ref least = options ? ld_json_member(inputs, options, "min") : NULL;
    node_ref most = options ? ld_json_member(inputs, options, "max") : NULL;
    double number, bound;
    if (!ld_lenient_number(value, &number))
        ld_comfy_complain(g, node, "invalid_input_type",
                          "Failed to convert an input value to a number", wanted->key, value->text);
    else if (least && ld_lenient_number(least, &bound) && number < bound)
        ld_comfy_complain(g, node, "value_smaller_than_min", "Value is smaller than the minimum",
                          wanted->key, value->text);
    else if (most && ld_parse_double(most->text, &bound) && number > bound)
        ld_comfy_complain(g, node, "value_bigger_than_max", "Value is bigger than the maximum",
                          wanted->key, value->text);
}

static void check_input(struct ld_comfy_graph *g, node_ref node, const struct ld_json_tree *inputs,
                        node_ref wanted, bool required)
{
    char name[64];
    node_ref type = ld_json_first(inputs, wanted);
    if (!ld_fmt(name, sizeof name, "%.*s", (int)wanted->key.size, (const char *)wanted->key.data))
        return;
    node_ref value = ld_comfy_input_of(g, node, name);
    const bool is_list = type->kind == LD_JSON_ARRAY_BEGIN;
    if (!value) {
        if (required)
            ld_comfy_complain(g, node, "required_input_missing", "Required input is missing",
                              wanted->key, ld_span_text(""));
    } else if (value->kind == LD_JSON_ARRAY_BEGIN) {
        if (!ld_comfy_target(g, value))
            ld_comfy_complain(g, node, "bad_linked_input",
                              "Bad linked input, must be a length-2 list of [node_id, slot_index]",
                              wanted->key, value->text);
        else if (is_list || !ld_span_equal(output_type(g, value), type->text))
            ld_comfy_complain(g, node, "return_type_mismatch",
                              "Return type mismatch between linked nodes", wanted->key,
                              value->text);
    } else if (is_list) {
        if (!is_in_list(inputs, type, value) &&
            (!has_loose_names(wanted->key) || type->child_count == 0 ||
             value->kind != LD_JSON_STRING))
            ld_comfy_complain(g, node, "value_not_in_list", "Value not in list", wanted->key,
                              value->text);
    } else if (ld_json_string_is(type, "INT") || ld_json_string_is(type, "FLOAT")) {
        if (!ld_span_is(wanted->key, "seed"))
            check_number(g, node, inputs, wanted, value);
    } else if (ld_json_string_is(type, "STRING") || ld_json_string_is(type, "BOOLEAN")) {
        if (value->kind == LD_JSON_OBJECT_BEGIN)
            ld_comfy_complain(g, node, "invalid_input_type", "Failed to convert an input value",
                              wanted->key, value->text);
    } else { /* a link's type, and no link */
        ld_comfy_complain(g, node, "bad_linked_input", "Bad linked input, must be a link",
                          wanted->key, value->text);
    }
}

static void check_node(struct ld_comfy_graph *g, node_ref node)
{
    struct ld_json_tree inputs;
    node_ref class_type =
        node->kind == LD_JSON_OBJECT_BEGIN ? ld_comfy_member(g, node, "class_type") : NULL;
    if (!class_type || class_type->kind != LD_JSON_STRING) {
        ld_comfy_fail(g, "invalid_prompt",
                      "Cannot execute because a node is missing the class_type property.");
        return;
    }
    const struct ld_comfy_node *row = ld_comfy_node_find(class_type->text);
    if (!row) {
        ld_comfy_complain(g, node, "custom_validation_failed",
                          "latentd has nothing that does what this class of nodes does",
                          class_type->text, class_type->text);
        return;
    }
    if (!ld_comfy_node_inputs(row, &g->call->lists, g->t->native->arena, &inputs)) {
        (void)ld_problem_add(&g->t->native->problem, LD_E_NOMEM, "", "out of memory");
        return;
    }
    static const char *const groups[] = {"required", "optional"};
    const uint32_t before = g->call->node_error_count;
    for (size_t i = 0; i < 2; i++) {
        node_ref group = ld_json_member(&inputs, ld_json_root(&inputs), groups[i]);
        for (node_ref wanted = group ? ld_json_first(&inputs, group) : NULL;
             wanted && g->call->node_error_count == before; wanted = ld_json_after(&inputs, wanted))
            check_input(g, node, &inputs, wanted, i == 0);
    }
}

/* ---- The graph as a whole -------------------------------------------------------------------- */

static bool is_sampler(const struct ld_comfy_graph *g, node_ref node)
{
    return ld_comfy_is(g, node, "KSampler");
}

/* Where a sampler's latent comes from: another sampler, an empty latent, a loaded picture. Nodes on
 * the way that resize, mask or convert are told to `seen`. */
static node_ref origin_of(const struct ld_comfy_graph *g, node_ref sampler, node_ref *seen,
                          uint32_t *seen_count)
{
    static const char *const ways[] = {"samples", "pixels", "image"};
    node_ref at = ld_comfy_follow(g, sampler, "latent_image");
    for (int hop = 0; at && hop < LD_COMFY_HOPS_MAX; hop++) {
        if (is_sampler(g, at) || ld_comfy_is(g, at, "EmptyLatentImage") ||
            ld_comfy_is(g, at, "LoadImage"))
            return at;
        if (seen && *seen_count < LD_COMFY_HOPS_MAX)
            seen[(*seen_count)++] = at;
        node_ref next = NULL;
        for (size_t w = 0; w < sizeof ways / sizeof ways[0] && !next; w++)
            next = ld_comfy_follow(g, at, ways[w]);
        at = next;
    }
    return NULL;
}

static bool is_resizer(const struct ld_comfy_graph *g, node_ref node)
{
    return ld_comfy_is(g, node, "LatentUpscale") || ld_comfy_is(g, node, "LatentUpscaleBy") ||
           ld_comfy_is(g, node, "ImageScale") || ld_comfy_is(g, node, "ImageScaleBy");
}

struct passes {
    node_ref first, second, origin, output;
    node_ref seen[2 * LD_COMFY_HOPS_MAX];
    uint32_t seen_count, seen_first; /* the second's come first */
    struct ld_comfy_canvas canvas;
};

/* Resizers do something between two samplers, or an ImageScale behind a loaded picture; Canny and
 * ImageInvert for a ControlNet alone. */
static void check_resizers(struct ld_comfy_graph *g, const struct passes *p)
{
    for (uint32_t i = 0; i < p->seen_count; i++) {
        if (ld_comfy_is_preprocessor(g, p->seen[i])) {
            ld_comfy_refuse(g, p->seen[i], "image",
                            "Canny and ImageInvert are known in front of a ControlNet only");
            return;
        }
    }
    for (node_ref node = ld_json_first(g->tree, g->nodes); node;
         node = ld_json_after(g->tree, node)) {
        bool used = !is_resizer(g, node) || ld_comfy_is_before_control(g, node);
        for (uint32_t i = 0; i < p->seen_count && !used; i++)
            used = p->seen[i] == node;
        if (!used)
            ld_comfy_complain(g, node, "custom_validation_failed",
                              "resizing is known between two samplers and behind LoadImage only",
                              ld_comfy_member(g, node, "class_type")->text, ld_span_text(""));
    }
}

/* A client may want some of the outputs only; there is one here. */
static bool is_wanted(const struct ld_comfy_graph *g, node_ref output)
{
    node_ref targets = ld_comfy_member(g, ld_json_root(g->tree), "partial_execution_targets");
    if (!targets || targets->kind != LD_JSON_ARRAY_BEGIN || targets->child_count == 0)
        return true;
    for (node_ref id = ld_json_first(g->tree, targets); id; id = ld_json_after(g->tree, id))
        if (id->kind == LD_JSON_STRING && ld_span_equal(id->text, output->key))
            return true;
    return false;
}

static void find_output(struct ld_comfy_graph *g, struct passes *p)
{
    node_ref wanted = NULL;
    for (node_ref node = ld_json_first(g->tree, g->nodes); node;
         node = ld_json_after(g->tree, node)) {
        node_ref class_type = ld_comfy_member(g, node, "class_type");
        const struct ld_comfy_node *row = class_type ? ld_comfy_node_find(class_type->text) : NULL;
        if (!row || !row->is_output)
            continue;
        if (p->output &&
            ld_comfy_follow(g, node, "images") != ld_comfy_follow(g, p->output, "images"))
            ld_comfy_complain(g, node, "custom_validation_failed",
                              "a prompt has one picture here; this node asks for another one",
                              class_type->text, ld_span_text(""));
        p->output = p->output ? p->output : node;
        wanted = !wanted && is_wanted(g, node) ? node : wanted;
    }
    p->output = wanted;
    if (!wanted)
        ld_comfy_fail(g, "prompt_no_outputs", "Prompt has no outputs");
}

static void find_passes(struct ld_comfy_graph *g, struct passes *p)
{
    node_ref decoder = ld_comfy_follow(g, p->output, "images");
    node_ref last = ld_comfy_follow(g, decoder, "samples");
    if (!ld_comfy_is(g, decoder, "VAEDecode") || !is_sampler(g, last)) {
        ld_comfy_complain(g, p->output, "custom_validation_failed",
                          "the picture must come from a KSampler through VAEDecode",
                          ld_comfy_member(g, p->output, "class_type")->text, ld_span_text(""));
        return;
    }
    node_ref before = origin_of(g, last, p->seen, &p->seen_count);
    p->first = last;
    p->origin = before;
    if (is_sampler(g, before)) {
        p->second = last;
        p->first = before;
        p->seen_first = p->seen_count;
        p->origin = origin_of(g, before, p->seen, &p->seen_count);
    }
    if (!p->origin || is_sampler(g, p->origin))
        ld_comfy_complain(
            g, p->first, "custom_validation_failed",
            "at most two samplers in a row, the first from EmptyLatentImage or LoadImage",
            ld_span_text("latent_image"), ld_span_text(""));
    check_resizers(g, p);
    for (uint32_t i = 0; p->second && i < p->seen_first; i++)
        if (ld_comfy_crops(g, p->seen[i]))
            ld_comfy_complain(g, p->seen[i], "value_not_in_list",
                              "center is known behind LoadImage only", ld_span_text("crop"),
                              ld_span_text("center"));
}

/* ---- A picture to begin with ----------------------------------------------------------------- */

static void put_image(struct ld_translation *t, const char *path, const char *id)
{
    char json[64];
    if (ld_fmt(json, sizeof json, "{\"id\":\"%s\"}", id))
        ld_recipe_put_json(&t->fields, path, ld_span_text(json));
}

/* ComfyUI's mask is 1 where is painted anew: one minus the alpha, or a colour channel. */
static const char *mask_from(bool alpha, bool inverted)
{
    return alpha ? (inverted ? "opaque" : "transparent") : (inverted ? "black" : "white");
}

/* The mask: what the picture has no pixels for, or a picture of its own. */
static void put_mask(struct ld_comfy_graph *g, node_ref node, node_ref origin)
{
    bool inverted = false;
    node_ref loader = ld_comfy_follow(g, node, "mask");
    for (int hop = 0; ld_comfy_is(g, loader, "InvertMask") && hop < LD_COMFY_HOPS_MAX; hop++) {
        inverted = !inverted;
        loader = ld_comfy_follow(g, loader, "mask");
    }
    if (loader == origin) {
        const struct ld_comfy_input *picture = &g->call->picture;
        put_image(g->t, "init.mask", picture->mask[0] ? picture->mask : picture->image);
        ld_recipe_put_string(&g->t->fields, "init.mask_from", mask_from(true, inverted));
    } else if (ld_comfy_is(g, loader, "LoadImageMask")) {
        struct ld_comfy_input own;
        node_ref channel = ld_comfy_input_of(g, loader, "channel");
        const bool alpha = channel && ld_json_string_is(channel, "alpha");
        if (!ld_comfy_read_picture(g, loader, &own))
            return;
        const char *id = alpha && own.mask[0] ? own.mask : own.image;
        int32_t width, height;
        if (!ld_comfy_size_of(g, id, &width, &height))
            ld_comfy_complain(g, loader, "custom_validation_failed", "Invalid image file",
                              ld_span_text("image"), ld_span_text(id));
        put_image(g->t, "init.mask", id);
        ld_recipe_put_string(&g->t->fields, "init.mask_from", mask_from(alpha, inverted));
    } else {
        ld_comfy_complain(
            g, node, "custom_validation_failed",
            "the mask must be the second output of the LoadImage that gives the picture, or "
            "of LoadImageMask",
            ld_span_text("mask"), ld_span_text(""));
    }
}

/* The size: the picture's own, in whole latent cells, or what an ImageScale behind it says. */
static void put_init_size(struct ld_comfy_graph *g, struct passes *p)
{
    int32_t own_width = 0, own_height = 0;
    if (!ld_comfy_size_of(g, g->call->picture.image, &own_width, &own_height)) {
        ld_comfy_complain(g, p->origin, "custom_validation_failed", "Invalid image file",
                          ld_span_text("image"), ld_span_text(g->call->picture.image));
        return;
    }
    double width = own_width, height = own_height;
    for (uint32_t i = p->seen_first; i < p->seen_count; i++) {
        node_ref pixels = ld_comfy_follow(g, p->seen[i], "pixels");
        if (ld_comfy_is(g, pixels, "ImageScale"))
            p->canvas.init = pixels;
        if (ld_comfy_is(g, p->seen[i], "ImageScale")) {
            width = (double)ld_comfy_whole(g, p->seen[i], "width", own_width);
            height = (double)ld_comfy_whole(g, p->seen[i], "height", own_height);
            if (ld_comfy_crops(g, p->seen[i]))
                ld_recipe_put_string(&g->t->fields, "init.resize", "crop");
        } else if (ld_comfy_is(g, p->seen[i], "ImageScaleBy")) {
            width *= ld_comfy_number(g, p->seen[i], "scale_by", 1);
            height *= ld_comfy_number(g, p->seen[i], "scale_by", 1);
        } else if (is_resizer(g, p->seen[i])) {
            ld_comfy_complain(g, p->seen[i], "custom_validation_failed",
                              "a loaded picture is resized by ImageScale only",
                              ld_span_text("samples"), ld_span_text(""));
        }
    }
    p->canvas.shape[0] = (struct ld_comfy_shape){floor(width / 8) * 8, floor(height / 8) * 8};
    ld_recipe_put_integer(&g->t->fields, "width", (int64_t)(width / 8) * 8);
    ld_recipe_put_integer(&g->t->fields, "height", (int64_t)(height / 8) * 8);
}

static void put_origin(struct ld_comfy_graph *g, struct passes *p)
{
    const double denoise = ld_comfy_number(g, p->first, "denoise", 1);
    if (ld_comfy_is(g, p->origin, "EmptyLatentImage")) {
        const int64_t count = ld_comfy_whole(g, p->origin, "batch_size", 1);
        p->canvas.shape[0].width = (double)ld_comfy_whole(g, p->origin, "width", 512);
        p->canvas.shape[0].height = (double)ld_comfy_whole(g, p->origin, "height", 512);
        ld_recipe_put_integer(&g->t->fields, "images", count);
        if (count > 1 && count <= LD_IMAGES_MAX)
            ld_recipe_put_integer(&g->t->fields, "batch.size", count);
        if (denoise < 1)
            ld_comfy_complain(g, p->first, "custom_validation_failed",
                              "denoise must be 1 for a picture that begins with nothing",
                              ld_span_text("denoise"), ld_span_text(""));
        return;
    }
    if (!ld_comfy_read_picture(g, p->origin, &g->call->picture))
        return;
    put_image(g->t, "init.image", g->call->picture.image);
    ld_recipe_put_double(&g->t->fields, "init.strength", denoise);
    put_init_size(g, p);
    for (uint32_t i = p->seen_first; i < p->seen_count; i++)
        if (ld_comfy_is(g, p->seen[i], "SetLatentNoiseMask"))
            put_mask(g, p->seen[i], p->origin);
}

/* ---- ControlNets ----------------------------------------------------------------------------- */

/* After put_origin: a picture to follow is held against the passes' shapes. */
static void put_controls(struct ld_comfy_graph *g, struct passes *p)
{
    struct ld_comfy_units units[2] = {{.count = 0}, {.count = 0}};
    p->canvas.shape[1] = p->canvas.shape[0];
    for (uint32_t i = 0; p->second && i < p->seen_first; i++) {
        if (!is_resizer(g, p->seen[i]) || !ld_comfy_input_of(g, p->seen[i], "width"))
            continue;
        p->canvas.shape[1].width = (double)ld_comfy_whole(g, p->seen[i], "width", 512);
        p->canvas.shape[1].height = (double)ld_comfy_whole(g, p->seen[i], "height", 512);
    }
    if (ld_comfy_units_read(g, p->first, &units[0]) &&
        ld_comfy_units_read(g, p->second ? p->second : p->first, &units[1]))
        ld_comfy_units_put(g, units, &p->canvas);
}

/* ---- The recipe ------------------------------------------------------------------------------ */

/* What the reader of recipes says of pictures that it cannot know has been settled here. */
static bool is_settled(const char *note)
{
    return strstr(note, LD_RECIPE_NOTE_CONTROL) ||
           strncmp(note, "made from another picture", 25) == 0 ||
           strncmp(note, "one of a batch", 14) == 0;
}

static void put_recipe(struct ld_comfy_graph *g)
{
    struct ld_recipe recipe;
    struct ld_error err = {0};
    struct ld_json_tree tree, notes;
    struct ld_arena *arena = g->t->native->arena;
    enum ld_code code = ld_recipe_from_graph(&recipe, g->nodes->text, &err);
    char *kept =
        code == LD_OK ? ld_arena_strndup(arena, recipe.request.data, recipe.request.size) : NULL;
    char *words =
        code == LD_OK ? ld_arena_strndup(arena, recipe.notes.data, recipe.notes.size) : NULL;
    if (code == LD_OK && (!kept || !words))
        code = LD_FAIL(&err, LD_E_NOMEM, "out of memory");
    if (code == LD_OK)
        code = ld_json_scan(&tree, ld_span_text(kept), LD_JSON_DEPTH, LD_JSON_VALUES, arena, &err);
    if (code == LD_OK)
        code = ld_json_scan(&notes, ld_span_text(words), 2, LD_RECIPE_NOTES_MAX + 1, arena, &err);
    ld_recipe_deinit(&recipe);
    if (code != LD_OK) {
        (void)ld_problem_add_error(&g->t->native->problem, "/prompt", &err);
        return;
    }
    ld_translate_native(g->t, &tree);
    for (node_ref note = ld_json_first(&notes, ld_json_root(&notes)); note;
         note = ld_json_after(&notes, note)) {
        const char *text = ld_lenient_text(note, arena);
        if (text && !is_settled(text))
            ld_translation_warn(g->t, "%s", text);
    }
}

/* ---- What the job keeps ---------------------------------------------------------------------- */

static void put_keepsake(struct ld_comfy_graph *g, const struct passes *p)
{
    struct ld_buffer json = ld_buffer_make(LD_USER_DATA_BYTES_MAX);
    const char *kind = ld_comfy_is(g, p->output, "SaveImageWebsocket") ? "websocket"
                       : ld_comfy_is(g, p->output, "PreviewImage")     ? "preview"
                                                                       : "save";
    node_ref shown = p->second ? p->second : p->first;
    ld_buffer_text(&json, "{\"comfy\":{\"prompt_id\":");
    ld_buffer_json_string(&json, g->call->prompt_id);
    ld_buffer_text(&json, ",\"client_id\":");
    ld_buffer_json_string(&json, g->call->client_id);
    ld_buffer_text(&json, ",\"sampler\":");
    ld_buffer_json_span(&json, shown->key);
    ld_buffer_text(&json, ",\"output\":");
    ld_buffer_json_span(&json, p->output->key);
    ld_buffer_format(&json, ",\"kind\":\"%s\"}}", kind);
    if (!json.failed)
        ld_recipe_put_json(&g->t->fields, "user_data", ld_span_of(json.data, json.size));
    ld_buffer_deinit(&json);
    if (*g->call->client_id) { /* somebody may look on */
        ld_recipe_put_integer(&g->t->fields, "preview.every", 2);
        ld_recipe_put_integer(&g->t->fields, "preview.size", 512);
        if (ld_picture_kind_built(LD_PICTURE_JPEG)) /* what the other program sends */
            ld_recipe_put_string(&g->t->fields, "preview.format", "jpeg");
    }
    if (g->call->front)
        ld_translation_warn(g->t, "front: the order of the queue is the server's");
}

static const char *short_text(struct ld_comfy_graph *g, const char *key)
{
    node_ref node = ld_comfy_member(g, ld_json_root(g->tree), key);
    const char *text = node ? ld_lenient_text(node, g->t->native->arena) : "";
    if (!text || strlen(text) >= LD_COMFY_ID_SIZE) {
        ld_comfy_fail(g, "invalid_prompt", "client_id and prompt_id must have at most 63 bytes");
        return "";
    }
    return text;
}

void ld_comfy_translate(struct ld_translation *t, struct ld_comfy_call *call)
{
    struct ld_comfy_graph g = {t, call, &call->tree, NULL};
    struct passes passes = {0};
    bool front = false;
    node_ref root = ld_json_root(&call->tree);
    node_ref first = ld_comfy_member(&g, root, "front");
    call->node_errors = ld_buffer_make(ERRORS_BYTES_MAX);
    call->client_id = short_text(&g, "client_id");
    call->prompt_id = short_text(&g, "prompt_id");
    call->front = first && ld_lenient_flag(first, &front) && front;
    g.nodes = ld_comfy_member(&g, root, "prompt");
    if (!g.nodes || g.nodes->kind != LD_JSON_OBJECT_BEGIN || g.nodes->child_count == 0) {
        ld_comfy_fail(&g, "no_prompt", "No prompt provided");
        return;
    }
    if (g.nodes->child_count > NODES_MAX) {
        ld_comfy_fail(&g, "invalid_prompt", "a prompt has at most 512 nodes here");
        return;
    }
    for (node_ref node = ld_json_first(g.tree, g.nodes); node; node = ld_json_after(g.tree, node))
        check_node(&g, node);
    if (!call->error_type)
        find_output(&g, &passes);
    if (!call->error_type)
        find_passes(&g, &passes);
    if (!call->error_type)
        put_recipe(&g);
    if (!call->error_type && t->native->problem.code == LD_OK)
        put_origin(&g, &passes);
    if (!call->error_type && t->native->problem.code == LD_OK)
        put_controls(&g, &passes);
    if (!call->error_type && t->native->problem.code == LD_OK)
        put_keepsake(&g, &passes);
}

void ld_comfy_write_refusal(const struct ld_comfy_call *call, struct ld_buffer *out)
{
    ld_buffer_format(out, "{\"error\":{\"type\":\"%s\",\"message\":", call->error_type);
    ld_buffer_json_string(out, call->error_message);
    ld_buffer_text(out, ",\"details\":");
    ld_buffer_json_string(out, call->error_message);
    ld_buffer_text(out, ",\"extra_info\":{}},\"node_errors\":{");
    if (call->node_errors.size > 0)
        ld_buffer_bytes(out, call->node_errors.data, call->node_errors.size);
    ld_buffer_text(out, "}}");
}
