/*
 * Where the operators of a walk stand on a profiler's time line: each in a range of its own, inside
 * that of its block. Only where the backend runs them one by one (ld_backend.op_ranges); a replayed
 * recording has no operators to show.
 *
 *     struct ld_graph_ranges ranges = ld_graph_ranges_of(backend);
 *     ld_graph_ranges_enter(&ranges, graph, i);
 *     code = ...;                                  // operator i
 *     ld_graph_ranges_leave(&ranges, graph, i);
    ld_graph_ranges_end(&ranges);                // after the last one, or the one that failed
 */
#ifndef LD_MODEL_GRAPH_RANGES_H
#define LD_MODEL_GRAPH_RANGES_H

#include "kernels/range.h"
#include "runtime/model/graph.h"

/* Of one walk, by one thread. */
struct ld_graph_ranges {
    const struct ld_ranges *table; /* NULL: nothing is shown */
    bool in_block;
};

struct ld_graph_ranges ld_graph_ranges_of(const struct ld_backend *backend);

/* Operator `i` begins, and its block, if none is open. */
void ld_graph_ranges_enter(struct ld_graph_ranges *ranges, const struct ld_graph *graph,
                           uint32_t i);

/* It has ended, and with it its block, if it was the block's last. */
void ld_graph_ranges_leave(struct ld_graph_ranges *ranges, const struct ld_graph *graph,
                           uint32_t i);

/* The walk has ended, wherever it was. */
void ld_graph_ranges_end(struct ld_graph_ranges *ranges);

#endif
