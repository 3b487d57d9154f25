#include "runtime/image/graph_index.h"

/* ---- Reading --------------------------------------------------------------------------------- */

/* [id, output] is a link; anything else in brackets is a value of its own. Reads to its end. */
static enum ld_code read_list(struct ld_json *json, struct ld_graph_input *input,
                              const struct ld_json_token *begin, struct ld_error *err)
{
    struct ld_json_token first, second;
    input->kind = LD_GRAPH_OTHER;
    enum ld_code code = ld_json_next(json, &first, err);
    if (code != LD_OK || first.kind == LD_JSON_ARRAY_END)
        return code;
    if (first.kind == LD_JSON_STRING) {
        code = ld_json_next(json, &second, err);
        if (code != LD_OK || second.kind == LD_JSON_ARRAY_END)
            return code;
        if (second.kind == LD_JSON_INTEGER) {
            input->kind = LD_GRAPH_LINK;
            input->token = first;
        }
        /* `second` may open a container; the rest of the list is stepped over with it. */
    }
    return ld_json_skip(json, begin, err);
}

static enum ld_code read_value(struct ld_json *json, struct ld_graph_input *input,
                               struct ld_error *err)
{
    const enum ld_code code = ld_json_next(json, &input->token, err);
    if (code != LD_OK)
        return code;
    const struct ld_json_token begin = input->token;
    switch (input->token.kind) {
    case LD_JSON_STRING:
        input->kind = LD_GRAPH_TEXT;
        return LD_OK;
    case LD_JSON_INTEGER:
    case LD_JSON_REAL:
        input->kind = LD_GRAPH_NUMBER;
        return LD_OK;
    case LD_JSON_TRUE:
    case LD_JSON_FALSE:
        input->kind = LD_GRAPH_BOOL;
        return LD_OK;
    case LD_JSON_ARRAY_BEGIN:
        return read_list(json, input, &begin, err);
    case LD_JSON_OBJECT_BEGIN:
    case LD_JSON_OBJECT_END:
    case LD_JSON_ARRAY_END:
    case LD_JSON_KEY:
    case LD_JSON_NULL:
    case LD_JSON_END:
        break;
    }
    input->kind = LD_GRAPH_OTHER;
    return ld_json_skip(json, &begin, err);
}

/* The members of "inputs"; the brace has been read. */
static enum ld_code read_inputs(struct ld_graph *graph, struct ld_graph_node *node,
                                struct ld_json *json, struct ld_error *err)
{
    struct ld_json_token key;
    node->first_input = graph->input_count;
    node->input_count = 0;
    for (;;) {
        enum ld_code code = ld_json_next(json, &key, err);
        if (code != LD_OK || key.kind != LD_JSON_KEY)
            return code;
        if (graph->input_count == graph->input_limit)
            return LD_FAIL(err, LD_E_TOO_LARGE, "the image's graph must have at most %d inputs",
                           LD_GRAPH_INPUTS_MAX);
        struct ld_graph_input *input = &graph->input[graph->input_count];
        input->name = key;
        code = read_value(json, input, err);
        if (node->input_count < LD_GRAPH_NODE_INPUTS_MAX) {
            node->input_count++;
            graph->input_count++;
        }
        if (code != LD_OK)
            return code;
    }
}

/* One node's members; its brace has been read. */
static enum ld_code read_node(struct ld_graph *graph, struct ld_graph_node *node,
                              struct ld_json *json, struct ld_error *err)
{
    struct ld_json_token key, value;
    for (;;) {
        enum ld_code code = ld_json_next(json, &key, err);
        if (code != LD_OK || key.kind != LD_JSON_KEY)
            return code;
        code = ld_json_next(json, &value, err);
        if (code != LD_OK)
            return code;
        if (ld_json_is(&key, "class_type") && value.kind == LD_JSON_STRING)
            node->class_type = value;
        if (ld_json_is(&key, "inputs") && value.kind == LD_JSON_OBJECT_BEGIN)
            code = read_inputs(graph, node, json, err);
        else
            code = ld_json_skip(json, &value, err);
        if (code != LD_OK)
            return code;
    }
}

static enum ld_code read_nodes(struct ld_graph *graph, struct ld_json *json, struct ld_error *err)
{
    struct ld_json_token key, value;
    for (;;) {
        enum ld_code code = ld_json_next(json, &key, err);
        if (code != LD_OK || key.kind != LD_JSON_KEY)
            return code;
        code = ld_json_next(json, &value, err);
        if (code == LD_OK && value.kind != LD_JSON_OBJECT_BEGIN) {
            code = ld_json_skip(json, &value, err);
            if (code != LD_OK)
                return code;
            continue;
        }
        if (code != LD_OK)
            return code;
        if (graph->node_count == graph->node_limit)
            return LD_FAIL(err, LD_E_TOO_LARGE, "the image's graph must have at most %d nodes",
                           LD_GRAPH_NODES_MAX);
        struct ld_graph_node *node = &graph->node[graph->node_count++];
        node->id = key;
        code = read_node(graph, node, json, err);
        if (code != LD_OK)
            return code;
    }
}

static uint32_t smaller(size_t a, uint32_t b)
{
    return a < b ? (uint32_t)a : b;
}

enum ld_code ld_graph_read(struct ld_graph *graph, struct ld_span text, struct ld_error *err)
{
    struct ld_json json;
    struct ld_json_token token;
    /* A node takes five characters at least, an input four; short texts get short tables. */
    graph->node_limit = smaller(text.size / 5 + 1, LD_GRAPH_NODES_MAX);
    graph->input_limit = smaller(text.size / 4 + 1, LD_GRAPH_INPUTS_MAX);
    graph->node_count = graph->input_count = 0;
    graph->node = ld_heap_calloc(graph->node_limit, sizeof *graph->node);
    graph->input = ld_heap_calloc(graph->input_limit, sizeof *graph->input);
    if (!graph->node || !graph->input)
        return LD_FAIL(err, LD_E_NOMEM, "no memory to read the image's graph");
    ld_json_init(&json, text, 32, LD_GRAPH_VALUES_MAX);
    const enum ld_code code = ld_json_next(&json, &token, err);
    if (code != LD_OK)
        return code;
    if (token.kind != LD_JSON_OBJECT_BEGIN)
        return LD_FAIL(err, LD_E_FORMAT, "the image's graph is no JSON object");
    return read_nodes(graph, &json, err);
}

void ld_graph_index_deinit(struct ld_graph *graph)
{
    ld_heap_free(graph->node);
    ld_heap_free(graph->input);
    *graph = (struct ld_graph){0};
}

/* ---- Looking up ------------------------------------------------------------------------------ */

bool ld_graph_is(const struct ld_graph_node *node, const char *class_type)
{
    return node && node->class_type.text.data && ld_json_is(&node->class_type, class_type);
}

const struct ld_graph_input *ld_graph_input(const struct ld_graph *graph,
                                            const struct ld_graph_node *node, const char *name)
{
    if (!node)
        return NULL;
    for (uint32_t i = 0; i < node->input_count; i++) {
        const struct ld_graph_input *input = &graph->input[node->first_input + i];
        if (ld_json_is(&input->name, name))
            return input;
    }
    return NULL;
}

const struct ld_graph_node *ld_graph_target(const struct ld_graph *graph,
                                            const struct ld_graph_input *input)
{
    if (!input || input->kind != LD_GRAPH_LINK)
        return NULL;
    for (uint32_t i = 0; i < graph->node_count; i++)
        if (ld_span_equal(graph->node[i].id.text, input->token.text))
            return &graph->node[i];
    return NULL;
}

const struct ld_graph_node *ld_graph_follow(const struct ld_graph *graph,
                                            const struct ld_graph_node *node, const char *name)
{
    return ld_graph_target(graph, ld_graph_input(graph, node, name));
}
