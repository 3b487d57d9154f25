/*
 * A ComfyUI graph while it is checked: its nodes by link and by name, and what is wrong with them.
 *
 *     struct ld_comfy_graph g = {t, call, &call->tree, nodes};
 *     const struct ld_json_node *loader = ld_comfy_follow(&g, node, "control_net");
 *     if (!ld_comfy_is(&g, loader, "ControlNetLoader"))
 *         ld_comfy_complain(&g, node, "custom_validation_failed", "...",
 * ld_span_text("control_net"), ld_span_text(""));
 *
 * Nodes and values may be NULL wherever one is read; what is read of them is then absent. Nothing
 * here fails but by a complaint: the first one sets call->error_type, and whoever reads on looks at
 * that, so that no node is complained of twice.
 */
#ifndef LD_API_DIALECT_COMFY_GRAPH_H
#define LD_API_DIALECT_COMFY_GRAPH_H

#include "api/dialect_comfy.h"

enum { LD_COMFY_HOPS_MAX = 64 }; /* a link is followed through at most this many nodes */

struct ld_comfy_graph {
    struct ld_translation *t;
    struct ld_comfy_call *call;
    const struct ld_json_tree *tree;
    const struct ld_json_node *nodes; /* {"id": {"class_type", "inputs"}} */
};

/* ---- Nodes and links ------------------------------------------------------------------------- */

/* The member, or NULL where it is absent or null. */
const struct ld_json_node *ld_comfy_member(const struct ld_comfy_graph *g,
                                           const struct ld_json_node *object, const char *key);
bool ld_comfy_is(const struct ld_comfy_graph *g, const struct ld_json_node *node,
                 const char *class_type);
/* An input's value or link, and what it is linked to. */
const struct ld_json_node *ld_comfy_input_of(const struct ld_comfy_graph *g,
                                             const struct ld_json_node *node, const char *name);
const struct ld_json_node *ld_comfy_follow(const struct ld_comfy_graph *g,
                                           const struct ld_json_node *node, const char *name);
/* The node that a link ([id, output]) names, and the output's number; NULL and -1 where it is no
 * link. */
const struct ld_json_node *ld_comfy_target(const struct ld_comfy_graph *g,
                                           const struct ld_json_node *link);
int64_t ld_comfy_slot(const struct ld_comfy_graph *g, const struct ld_json_node *link);

/* Inputs that are numbers; the default where they are none. */
int64_t ld_comfy_whole(const struct ld_comfy_graph *g, const struct ld_json_node *node,
                       const char *name, int64_t by_default);
double ld_comfy_number(const struct ld_comfy_graph *g, const struct ld_json_node *node,
                       const char *name, double by_default);
/* Does an ImageScale or LatentUpscale cut instead of stretching? */
bool ld_comfy_crops(const struct ld_comfy_graph *g, const struct ld_json_node *scale);

/* ---- Pictures -------------------------------------------------------------------------------- */

/* Of an upload of the caller's; false where there is none. */
bool ld_comfy_size_of(const struct ld_comfy_graph *g, const char *id, int32_t *width,
                      int32_t *height);
/* What a LoadImage or LoadImageMask names, as POST /upload/image or /upload/mask called it. False
 * after a complaint. */
bool ld_comfy_read_picture(struct ld_comfy_graph *g, const struct ld_json_node *loader,
                           struct ld_comfy_input *picture);

/* ---- What is wrong --------------------------------------------------------------------------- */

/* Of the graph as a whole; the first one stays. */
void ld_comfy_fail(struct ld_comfy_graph *g, const char *type, const char *message);
/* Of one node: `input` is the input's name, or the class where the node as a whole is meant. */
void ld_comfy_complain(struct ld_comfy_graph *g, const struct ld_json_node *node, const char *type,
                       const char *message, struct ld_span input, struct ld_span received);
/* A sentence of ours about one of a node's inputs. */
void ld_comfy_refuse(struct ld_comfy_graph *g, const struct ld_json_node *node, const char *input,
                     const char *sentence);

#endif
