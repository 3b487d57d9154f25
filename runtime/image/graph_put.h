/*
 * Writes the nodes of a ComfyUI API graph, one after another, into a buffer.
 *
 *     struct ld_graph_writer w = {.out = &buffer, .request = &request};
 *     const struct ld_graph_link file = ld_graph_open(&w, "LoadImage");
 *     ld_graph_put_text(&w, "image", id);
 *     ld_graph_close(&w);
 *     ...                              // a node that takes `file`; then the last brace
 *
 * Nothing fails but the buffer (`failed`). Texts are borrowed for the call.
 */
#ifndef LD_IMAGE_GRAPH_PUT_H
#define LD_IMAGE_GRAPH_PUT_H

#include "runtime/base/buffer.h"
#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An output of a node: ["id", slot]. */
struct ld_graph_link {
    uint32_t node, slot;
};

struct ld_graph_writer {
    struct ld_buffer *out;
    uint32_t last; /* id of the newest node; ids count from 1 */
    bool comma;    /* within the open node's inputs */
    const struct ld_request *request;
    struct ld_graph_link model, clip, vae; /* as the latest patch left them */
    struct ld_graph_link init;             /* init's picture as it is painted over; node 0: none */
};

/* Begin a node; its first output comes back. Inputs follow, then its end. */
struct ld_graph_link ld_graph_open(struct ld_graph_writer *w, const char *class_type);
void ld_graph_close(struct ld_graph_writer *w);

void ld_graph_put_link(struct ld_graph_writer *w, const char *name, struct ld_graph_link link);
void ld_graph_put_text(struct ld_graph_writer *w, const char *name, const char *text);
void ld_graph_put_number(struct ld_graph_writer *w, const char *name, double value);
void ld_graph_put_whole(struct ld_graph_writer *w, const char *name, int64_t value);
void ld_graph_put_seed(struct ld_graph_writer *w, const char *name, uint64_t value);
void ld_graph_put_bool(struct ld_graph_writer *w, const char *name, bool value);
/* A model's file name: the registry's name with its usual ending. */
void ld_graph_put_file(struct ld_graph_writer *w, const char *name, const char *file);

#ifdef __cplusplus
}
#endif
#endif
