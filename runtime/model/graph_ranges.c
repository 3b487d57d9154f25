#include "runtime/model/graph_ranges.h"

struct ld_graph_ranges ld_graph_ranges_of(const struct ld_backend *backend)
{
    return (struct ld_graph_ranges){.table = backend->op_ranges ? backend->ranges : NULL};
}

static const char *kind_name(enum ld_graph_op_kind kind)
{
    static const char *const names[] = {[LD_GRAPH_CONV2D] = "conv2d",
                                        [LD_GRAPH_LINEAR] = "linear",
                                        [LD_GRAPH_GROUP_NORM] = "group_norm",
                                        [LD_GRAPH_LAYER_NORM] = "layer_norm",
                                        [LD_GRAPH_ATTENTION] = "attention",
                                        [LD_GRAPH_TIMESTEP] = "timestep",
                                        [LD_GRAPH_EMBED] = "embed",
                                        [LD_GRAPH_MAP] = "map",
                                        [LD_GRAPH_RESIZE] = "resize",
                                        [LD_GRAPH_ADD_SCALED] = "add_scaled",
                                        [LD_GRAPH_PLANES_IN] = "planes_in",
                                        [LD_GRAPH_PLANES_OUT] = "planes_out",
                                        [LD_GRAPH_HOST] = "host"};
    return (unsigned)kind < sizeof names / sizeof names[0] ? names[kind] : "unknown";
}

/* A block is named at its last operator. What depends on the context only was moved to the front,
 * out of many blocks; behind the last block the network's end follows. */
static const char *block_name(const struct ld_graph *graph, uint32_t i)
{
    if (graph->ops[i].prologue)
        return "prologue";
    while (i < graph->op_count && !graph->ops[i].tap)
        i++;
    return i < graph->op_count ? graph->ops[i].tap : "end";
}

void ld_graph_ranges_enter(struct ld_graph_ranges *ranges, const struct ld_graph *graph, uint32_t i)
{
    const struct ld_graph_op *op = &graph->ops[i];
    if (!ranges->table)
        return;
    if (!ranges->in_block)
        ld_range_push(ranges->table, "%s", block_name(graph, i));
    ranges->in_block = true;
    /* What it writes; what it reads where that is the host's. */
    const struct ld_graph_value *map =
        ld_graph_at(graph, op->out != LD_GRAPH_NONE ? op->out : op->in[LD_IN_X0].value);
    ld_range_push(ranges->table, "%s %dx%dx%dx%d", kind_name(op->kind), map->batch, map->height,
                  map->width, map->channels);
}

void ld_graph_ranges_leave(struct ld_graph_ranges *ranges, const struct ld_graph *graph, uint32_t i)
{
    const struct ld_graph_op *op = &graph->ops[i];
    if (!ranges->table)
        return;
    ld_range_pop(ranges->table);
    if (op->prologue ? i + 1 == graph->prologue_count : op->tap != NULL)
        ld_graph_ranges_end(ranges);
}

void ld_graph_ranges_end(struct ld_graph_ranges *ranges)
{
    if (ranges->in_block)
        ld_range_pop(ranges->table);
    ranges->in_block = false;
}
