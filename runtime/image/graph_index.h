/*
 * A ComfyUI API graph as a table of nodes and inputs, so that links can be followed. Spans point
 * into the text, which must outlive the index.
 */
#ifndef LD_IMAGE_GRAPH_INDEX_H
#define LD_IMAGE_GRAPH_INDEX_H

#include "runtime/base/arena.h"
#include "runtime/base/json.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LD_GRAPH_NODES_MAX = 512,
    LD_GRAPH_INPUTS_MAX = 4096,
    LD_GRAPH_NODE_INPUTS_MAX = 128, /* more of one node are stepped over: look-ups stay short */
    LD_GRAPH_HOPS_MAX = 64,         /* a link is followed through at most this many nodes */
    LD_GRAPH_VALUES_MAX = 65536
};

enum ld_graph_value {
    LD_GRAPH_TEXT,   /* `token` is a STRING */
    LD_GRAPH_NUMBER, /* INTEGER or REAL */
    LD_GRAPH_BOOL,   /* TRUE or FALSE */
    LD_GRAPH_LINK,   /* `token` is the STRING of the other node's id */
    LD_GRAPH_OTHER
};

struct ld_graph_input {
    struct ld_json_token name, token;
    enum ld_graph_value kind;
};

struct ld_graph_node {
    struct ld_json_token id, class_type;
    uint32_t first_input, input_count;
};

struct ld_graph {
    struct ld_graph_node *node; /* [node_count], on the heap */
    struct ld_graph_input *input;
    uint32_t node_count, input_count;
    uint32_t node_limit, input_limit;
};

/* Errors LD_E_FORMAT (no such graph), LD_E_TOO_LARGE, LD_E_NOMEM. Deinit also after an error. */
enum ld_code ld_graph_read(struct ld_graph *graph, struct ld_span json,
                           struct ld_error *err) LD_MUST_USE;
void ld_graph_index_deinit(struct ld_graph *graph);

bool ld_graph_is(const struct ld_graph_node *node, const char *class_type);

/* The input of that name, or NULL; `node` may be NULL. */
const struct ld_graph_input *ld_graph_input(const struct ld_graph *graph,
                                            const struct ld_graph_node *node, const char *name);

/* The node that an input is linked to, or NULL; `input` may be NULL. */
const struct ld_graph_node *ld_graph_target(const struct ld_graph *graph,
                                            const struct ld_graph_input *input);

/* The same by the input's name. */
const struct ld_graph_node *ld_graph_follow(const struct ld_graph *graph,
                                            const struct ld_graph_node *node, const char *name);

#ifdef __cplusplus
}
#endif
#endif
