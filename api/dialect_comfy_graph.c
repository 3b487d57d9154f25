#include "api/dialect_comfy_graph.h"

typedef const struct ld_json_node *node_ref;

/* ---- Nodes and links ------------------------------------------------------------------------- */

node_ref ld_comfy_member(const struct ld_comfy_graph *g, node_ref object, const char *key)
{
    return ld_lenient_member(g->tree, object, key);
}

bool ld_comfy_is(const struct ld_comfy_graph *g, node_ref node, const char *class_type)
{
    node_ref given = node ? ld_comfy_member(g, node, "class_type") : NULL;
    return given && ld_json_string_is(given, class_type);
}

node_ref ld_comfy_input_of(const struct ld_comfy_graph *g, node_ref node, const char *name)
{
    node_ref inputs = node ? ld_comfy_member(g, node, "inputs") : NULL;
    return inputs ? ld_comfy_member(g, inputs, name) : NULL;
}

/* [node id, output index]. */
static bool is_link(const struct ld_comfy_graph *g, node_ref value)
{
    node_ref id = value && value->kind == LD_JSON_ARRAY_BEGIN && value->child_count == 2
                      ? ld_json_first(g->tree, value)
                      : NULL;
    return id && id->kind == LD_JSON_STRING && ld_json_after(g->tree, id)->kind == LD_JSON_INTEGER;
}

static node_ref node_by_id(const struct ld_comfy_graph *g, struct ld_span id)
{
    for (node_ref node = ld_json_first(g->tree, g->nodes); node;
         node = ld_json_after(g->tree, node))
        if (ld_span_equal(node->key, id))
            return node;
    return NULL;
}

node_ref ld_comfy_target(const struct ld_comfy_graph *g, node_ref link)
{
    return is_link(g, link) ? node_by_id(g, ld_json_first(g->tree, link)->text) : NULL;
}

node_ref ld_comfy_follow(const struct ld_comfy_graph *g, node_ref node, const char *name)
{
    return ld_comfy_target(g, ld_comfy_input_of(g, node, name));
}

int64_t ld_comfy_slot(const struct ld_comfy_graph *g, node_ref link)
{
    int64_t slot;
    const bool known = is_link(g, link) &&
                       ld_json_integer(ld_json_after(g->tree, ld_json_first(g->tree, link)), &slot);
    return known ? slot : -1;
}

int64_t ld_comfy_whole(const struct ld_comfy_graph *g, node_ref node, const char *name,
                       int64_t by_default)
{
    int64_t value = by_default;
    node_ref input = ld_comfy_input_of(g, node, name);
    return input && ld_lenient_whole(input, &value) ? value : by_default;
}

double ld_comfy_number(const struct ld_comfy_graph *g, node_ref node, const char *name,
                       double by_default)
{
    double value = by_default;
    node_ref input = ld_comfy_input_of(g, node, name);
    return input && ld_lenient_number(input, &value) ? value : by_default;
}

bool ld_comfy_crops(const struct ld_comfy_graph *g, node_ref scale)
{
    node_ref crop = ld_comfy_input_of(g, scale, "crop");
    return crop && ld_json_string_is(crop, "center");
}

/* ---- What is wrong --------------------------------------------------------------------------- */

void ld_comfy_fail(struct ld_comfy_graph *g, const char *type, const char *message)
{
    if (!g->call->error_type) {
        g->call->error_type = type;
        g->call->error_message = message;
    }
    ld_translation_refuse(g->t, "/prompt", "%s", message);
}

void ld_comfy_complain(struct ld_comfy_graph *g, node_ref node, const char *type,
                       const char *message, struct ld_span input, struct ld_span received)
{
    struct ld_buffer *out = &g->call->node_errors;
    node_ref class_type = ld_comfy_member(g, node, "class_type");
    ld_comfy_fail(g, "prompt_outputs_failed_validation", "Prompt outputs failed validation");
    ld_buffer_text(out, g->call->node_error_count++ ? "," : "");
    ld_buffer_json_span(out, node->key);
    ld_buffer_format(out, ":{\"errors\":[{\"type\":\"%s\",\"message\":", type);
    ld_buffer_json_string(out, message);
    ld_buffer_text(out, ",\"details\":");
    ld_buffer_json_span(out, input);
    ld_buffer_text(out, ",\"extra_info\":{\"input_name\":");
    ld_buffer_json_span(out, input);
    ld_buffer_text(out, ",\"received_value\":");
    ld_buffer_json_span(out, ld_span_of(received.data ? received.data : (const uint8_t *)"",
                                        received.size > 256 ? 256 : received.size));
    ld_buffer_text(out, "}}],\"dependent_outputs\":[],\"class_type\":");
    if (class_type && class_type->kind == LD_JSON_STRING)
        ld_write_node(class_type, out);
    else
        ld_buffer_text(out, "\"\"");
    ld_buffer_byte(out, '}');
}

void ld_comfy_refuse(struct ld_comfy_graph *g, node_ref node, const char *input,
                     const char *sentence)
{
    ld_comfy_complain(g, node, "custom_validation_failed", sentence, ld_span_text(input),
                      ld_span_text(""));
}

/* ---- Pictures -------------------------------------------------------------------------------- */

bool ld_comfy_size_of(const struct ld_comfy_graph *g, const char *id, int32_t *width,
                      int32_t *height)
{
    return g->call->image_size && g->call->image_size(g->call->image_ctx, id, width, height);
}

bool ld_comfy_read_picture(struct ld_comfy_graph *g, node_ref loader,
                           struct ld_comfy_input *picture)
{
    int32_t width, height;
    node_ref image = ld_comfy_input_of(g, loader, "image");
    const char *name = image ? ld_lenient_text(image, g->t->native->arena) : NULL;
    if (!name || !ld_comfy_input_read(name, picture) ||
        (picture->mask[0] && !ld_comfy_size_of(g, picture->mask, &width, &height))) {
        ld_comfy_complain(g, loader, "custom_validation_failed", "Invalid image file",
                          ld_span_text("image"), image ? image->text : ld_span_text(""));
        return false;
    }
    return true;
}
