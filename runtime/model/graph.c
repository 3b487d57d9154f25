#include "runtime/model/graph.h"

#include "runtime/gpu/plan_mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The UNet's names and contexts take under 100 KB. */
static const size_t GRAPH_BYTES_MAX = 1 << 20;
enum { NAME_SIZE = 256 };

/* ---- Building -------------------------------------------------------------------------------- */

void ld_graph_init(struct ld_graph *graph, enum ld_dtype act_dtype, struct ld_weight_layout *layout)
{
    memset(graph, 0, sizeof *graph);
    graph->act_dtype = act_dtype;
    graph->layout = layout;
    ld_arena_init(&graph->arena, "graph", GRAPH_BYTES_MAX);
}

void ld_graph_deinit(struct ld_graph *graph)
{
    ld_heap_free(graph->values);
    ld_heap_free(graph->ops);
    ld_arena_deinit(&graph->arena);
    memset(graph, 0, sizeof *graph);
}

void ld_graph_fail(struct ld_graph *graph, enum ld_code code, const char *why)
{
    if (graph->failed != LD_OK)
        return;
    graph->failed = code;
    (void)ld_fmt(graph->failure, sizeof graph->failure, "%s", why);
}

/* Room for one more element in a growing array; the old one stays on failure. */
static bool reserve(void **array, uint32_t *capacity, uint32_t count, size_t element)
{
    if (count < *capacity)
        return true;
    const uint32_t wanted = *capacity ? 2 * *capacity : 256;
    void *grown = ld_heap_resize(*array, wanted * element);
    if (!grown)
        return false;
    *array = grown;
    *capacity = wanted;
    return true;
}

static bool value_bytes(enum ld_dtype dtype, const struct ld_graph_value *value, size_t *bytes)
{
    size_t positions;
    size_t elements;
    /* Operators count rows and elements of a row in int32. */
    return value->batch > 0 && value->height > 0 && value->width > 0 && value->channels > 0 &&
           ld_mul_ok((size_t)value->height, (size_t)value->width, &positions) &&
           ld_mul_ok(positions, (size_t)value->batch, &positions) && positions <= INT32_MAX &&
           ld_mul_ok(positions, (size_t)value->channels, &elements) &&
           ld_mul_ok(elements, ld_dtype_size(dtype), bytes);
}

int32_t ld_graph_value(struct ld_graph *graph, int32_t batch, int32_t height, int32_t width,
                       int32_t channels)
{
    struct ld_graph_value value = {.batch = batch,
                                   .height = height,
                                   .width = width,
                                   .channels = channels,
                                   .first = -1,
                                   .last = -1};
    if (graph->failed != LD_OK)
        return LD_GRAPH_NONE;
    if (!value_bytes(graph->act_dtype, &value, &value.bytes)) {
        ld_graph_fail(graph, LD_E_TOO_LARGE, "the picture is too large for this program");
        return LD_GRAPH_NONE;
    }
    void *values = graph->values;
    const bool first = graph->value_count == 0;
    if (!reserve(&values, &graph->value_capacity, graph->value_count + (first ? 1 : 0),
                 sizeof value)) {
        ld_graph_fail(graph, LD_E_NOMEM, "not enough memory to plan the model");
        return LD_GRAPH_NONE;
    }
    graph->values = values;
    if (first)
        graph->values[graph->value_count++] = (struct ld_graph_value){.first = -1, .last = -1};
    graph->values[graph->value_count] = value;
    return (int32_t)graph->value_count++;
}

const struct ld_graph_value *ld_graph_at(const struct ld_graph *graph, int32_t value)
{
    static const struct ld_graph_value none = {.first = -1, .last = -1};
    if (value <= 0 || (uint32_t)value >= graph->value_count)
        return &none;
    return &graph->values[value];
}

void ld_graph_push(struct ld_graph *graph, const struct ld_graph_op *op)
{
    if (graph->failed != LD_OK)
        return;
    void *ops = graph->ops;
    if (!reserve(&ops, &graph->op_capacity, graph->op_count, sizeof *op)) {
        ld_graph_fail(graph, LD_E_NOMEM, "not enough memory to plan the model");
        return;
    }
    graph->ops = ops;
    for (int i = 0; i < LD_GRAPH_WEIGHTS_MAX; i++)
        if (op->weight[i] < 0)
            ld_graph_fail(graph, LD_E_NOMEM, "not enough memory to list the model's weights");
    graph->ops[graph->op_count] = *op;
    graph->ops[graph->op_count++].prologue = graph->in_prologue;
}

void ld_graph_tap(struct ld_graph *graph, const char *name)
{
    if (graph->failed == LD_OK && graph->op_count > 0)
        graph->ops[graph->op_count - 1].tap = name;
}

const char *ld_graph_name(struct ld_graph *graph, const char *format, ...)
{
    char text[NAME_SIZE];
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    LD_ASSERT(length >= 0 && length < NAME_SIZE);
    char *name = ld_arena_strdup(&graph->arena, text);
    if (!name)
        ld_graph_fail(graph, LD_E_NOMEM, "not enough memory to plan the model");
    return name ? name : "";
}

/* ---- Finishing ------------------------------------------------------------------------------- */

/* Stable, so that operators keep their order within both parts. */
static enum ld_code move_prologue_first(struct ld_graph *graph, struct ld_error *err)
{
    struct ld_graph_op *sorted = ld_heap_calloc(graph->op_count + 1, sizeof *sorted);
    if (!sorted)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory to plan the model");
    uint32_t count = 0;
    for (uint32_t i = 0; i < graph->op_count; i++)
        if (graph->ops[i].prologue)
            sorted[count++] = graph->ops[i];
    graph->prologue_count = count;
    for (uint32_t i = 0; i < graph->op_count; i++)
        if (!graph->ops[i].prologue)
            sorted[count++] = graph->ops[i];
    ld_heap_free(graph->ops);
    graph->ops = sorted;
    graph->op_capacity = graph->op_count + 1;
    return LD_OK;
}

static size_t staging_for(const struct ld_graph *graph, const struct ld_graph_op *op)
{
    if (op->kind != LD_GRAPH_HOST)
        return 0;
    const struct ld_graph_value *value = ld_graph_at(graph, op->out);
    return value->bytes / ld_dtype_size(graph->act_dtype) * sizeof(float);
}

/* A persistent value must not be written by what runs every time, nor a plain one cross from the
 * prologue (its memory is reused as soon as the prologue may be skipped). */
static void compute_lifetimes(struct ld_graph *graph)
{
    for (uint32_t i = 0; i < graph->op_count; i++) {
        const struct ld_graph_op *op = &graph->ops[i];
        for (int k = 0; k < LD_GRAPH_INPUTS_MAX; k++) {
            if (op->in[k].value == LD_GRAPH_NONE)
                continue;
            struct ld_graph_value *value = &graph->values[op->in[k].value];
            LD_ASSERT(value->first >= 0);
            LD_ASSERT(value->persistent || graph->ops[value->first].prologue == op->prologue);
            value->last = (int32_t)i;
        }
        if (op->out != LD_GRAPH_NONE) {
            struct ld_graph_value *value = &graph->values[op->out];
            LD_ASSERT(value->first < 0 && (!value->persistent || op->prologue));
            value->first = value->last = (int32_t)i;
        }
        graph->macs += op->macs;
        const size_t staging = staging_for(graph, op);
        graph->staging_bytes = staging > graph->staging_bytes ? staging : graph->staging_bytes;
    }
}

static enum ld_code place_persistent(struct ld_graph *graph, struct ld_error *err)
{
    for (uint32_t i = 1; i < graph->value_count; i++) {
        struct ld_graph_value *value = &graph->values[i];
        if (!value->persistent || value->first < 0)
            continue;
        value->offset = graph->persistent_bytes;
        const size_t rounded = (value->bytes + LD_PLAN_ALIGN - 1) & ~(size_t)(LD_PLAN_ALIGN - 1);
        if (!ld_add_ok(graph->persistent_bytes, rounded, &graph->persistent_bytes))
            return LD_FAIL(err, LD_E_TOO_LARGE, "the context is too large for this program");
    }
    return LD_OK;
}

/* The planner wants values in the order of their first use; `value_of` and `index_of` translate. */
static enum ld_code place_scratch(struct ld_graph *graph, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    struct ld_plan_value *plan = ld_heap_calloc(graph->value_count + 1, sizeof *plan);
    int32_t *value_of = ld_heap_calloc(graph->value_count + 1, sizeof *value_of);
    int32_t *index_of = ld_heap_calloc(graph->value_count + 1, sizeof *index_of);
    uint32_t count = 0;
    if (!plan || !value_of || !index_of) {
        code = LD_FAIL(err, LD_E_NOMEM, "not enough memory to plan the model");
        goto done;
    }
    for (uint32_t i = 0; i < graph->op_count; i++) {
        const struct ld_graph_op *op = &graph->ops[i];
        if (op->out == LD_GRAPH_NONE || graph->values[op->out].persistent)
            continue;
        const struct ld_graph_value *value = &graph->values[op->out];
        const bool may_share = op->in_place != LD_GRAPH_NONE && !graph->no_sharing &&
                               !graph->values[op->in_place].persistent;
        plan[count] = (struct ld_plan_value){
            .bytes = value->bytes,
            .first = graph->no_sharing ? 0 : value->first,
            .last = graph->no_sharing ? (int32_t)graph->op_count : value->last,
            .in_place = may_share ? index_of[op->in_place] : LD_PLAN_NO_VALUE};
        value_of[count] = op->out;
        index_of[op->out] = (int32_t)count++;
    }
    code = ld_plan_memory(plan, count, &graph->scratch_bytes, err);
    for (uint32_t i = 0; code == LD_OK && i < count; i++)
        graph->values[value_of[i]].offset = plan[i].offset;
done:
    ld_heap_free(index_of);
    ld_heap_free(value_of);
    ld_heap_free(plan);
    return code;
}

enum ld_code ld_graph_finish(struct ld_graph *graph, struct ld_error *err)
{
    if (graph->failed != LD_OK)
        return LD_FAIL(err, graph->failed, "%s", graph->failure);
    enum ld_code code = move_prologue_first(graph, err);
    if (code != LD_OK)
        return code;
    compute_lifetimes(graph);
    code = place_persistent(graph, err);
    if (code == LD_OK)
        code = place_scratch(graph, err);
    return code;
}
