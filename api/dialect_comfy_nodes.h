/*
 * The nodes of the ComfyUI subset. `input` is the JSON that /object_info gives for the class, with
 * $NAME where a list of this server stands; from it come the checks of a prompt as well.
 */
#ifndef LD_API_DIALECT_COMFY_NODES_H
#define LD_API_DIALECT_COMFY_NODES_H

#include "api/dialect_comfy.h"

struct ld_comfy_node {
    const char *class_type, *title, *category;
    const char *input;  /* {"required": {...}, "optional": {...}} */
    const char *output; /* "MODEL,CLIP,VAE", "" for none */
    bool is_output;
};

/* Ends with a NULL class. */
extern const struct ld_comfy_node ld_comfy_nodes[];

const struct ld_comfy_node *ld_comfy_node_find(struct ld_span class_type);

/* The inputs with this server's lists in place, as a tree in `arena`. False without memory. */
bool ld_comfy_node_inputs(const struct ld_comfy_node *node, const struct ld_comfy_lists *lists,
                          struct ld_arena *arena, struct ld_json_tree *tree);

#endif
