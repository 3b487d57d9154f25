/*
 * Running a finished graph: resolve values, slots and ports to pointers and hand each operator to
 * the backend. Nothing is allocated, nothing decided here.
 */
#ifndef LD_MODEL_GRAPH_RUN_H
#define LD_MODEL_GRAPH_RUN_H

#include "runtime/base/thread.h"
#include "runtime/model/graph.h"

/* Called after the operator that wrote a named block; `planes` [B, C, H, W] is borrowed. */
struct ld_graph_tap_sink {
    void *ctx;
    void (*take)(void *ctx, const char *name, const float *planes, int32_t batch, int32_t channels,
                 int32_t height, int32_t width);
};

/* What the calling thread does while a device of its own computes, before it waits for it; not
 * called where there is none (ld_backend.apart), since nothing would be saved. `act` may be NULL.
 */
struct ld_meanwhile {
    void (*act)(void *ctx);
    void *ctx;
};

/* Everything is borrowed for the call. */
struct ld_graph_run {
    struct ld_backend *backend;
    void *scratch;    /* graph->scratch_bytes of the backend's memory, 64-byte aligned */
    void *persistent; /* graph->persistent_bytes of it */
    float *staging;   /* graph->staging_bytes of host memory */
    const struct ld_weight_pack *weights;
    const struct ld_weight_pack *more[LD_RUN_WEIGHTS_MAX]; /* of sets 1 and up, as the graph has */
    const void *in[LD_PORT_COUNT];
    float *out[LD_PORT_COUNT];
    bool skip_prologue; /* the persistent values still hold what the same context gave */
    const struct ld_cancel *cancel; /* looked at between operators; NULL: never */
    struct ld_meanwhile meanwhile;
    const struct ld_graph_tap_sink *tap; /* NULL: none. Slow, for tests */
};

/*
 * Errors   LD_E_CANCELLED, and what the operators return. After an error persistent values are
 *          not valid.
 */
enum ld_code ld_graph_run(const struct ld_graph *graph, const struct ld_graph_run *run,
                          struct ld_error *err) LD_MUST_USE;

/*
 * A number for the order in which the operators of a graph sum: equal where equal weights and
 * inputs give equal bits on this device. Folded from the backend's signatures; nothing runs.
 */
uint64_t ld_graph_signature(const struct ld_graph *graph, struct ld_backend *backend,
                            const struct ld_weight_pack *weights);

/*
 * Memory that all graphs of a backend take turns in, grown to the largest of them.
 * Owned by one thread.
 */
struct ld_workspace {
    struct ld_backend *backend;
    void *scratch;
    size_t scratch_bytes;
    float *staging;
    size_t staging_bytes;
};

void ld_workspace_init(struct ld_workspace *workspace, struct ld_backend *backend);
void ld_workspace_deinit(struct ld_workspace *workspace);
/* Large enough for `graph` afterwards; old content is lost. LD_E_NOMEM. */
enum ld_code ld_workspace_fit(struct ld_workspace *workspace, const struct ld_graph *graph,
                              struct ld_error *err) LD_MUST_USE;
/* Give the memory back; the next fit takes it again. */
void ld_workspace_trim(struct ld_workspace *workspace);

#endif
