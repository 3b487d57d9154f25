#include "runtime/model/graph.h"

#include "runtime/gpu/plan_mem.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* The UNet's names and contexts take under 100 KB, those of a large picture's strips some MB. */
static const size_t GRAPH_BYTES_MAX = 8 << 20;
/* Positions that a writer sums up together at least (its tile of M; kernels.md 5.2 and 7.1); the
 * four grids of an upsampling convolution may each end in a smaller tile. */
enum { NAME_SIZE = 256, MOMENT_ROWS_MIN = 64, MOMENTS_PER_CHANNEL = 4 };

/* ---- Building -------------------------------------------------------------------------------- */

void ld_graph_init(struct ld_graph *graph, enum ld_dtype act_dtype, struct ld_weight_layout *layout)
{
    static atomic_uint_least64_t serials;
    memset(graph, 0, sizeof *graph);
    graph->serial = 1 + atomic_fetch_add(&serials, 1);
    graph->act_dtype = act_dtype;
    graph->layout = layout;
    ld_arena_init(&graph->arena, "graph", GRAPH_BYTES_MAX);
}

struct ld_weight_layout *ld_graph_layout(const struct ld_graph *graph, uint32_t set)
{
    return set == 0 ? graph->layout : graph->control_layout;
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
    if (op->partial)
        graph->values[op->out].patched = true;
    graph->ops[graph->op_count] = *op;
    graph->ops[graph->op_count].set = graph->set;
    graph->ops[graph->op_count++].prologue = graph->in_prologue;
}

void ld_graph_widen(struct ld_graph *graph, int32_t value)
{
    if (graph->failed != LD_OK)
        return;
    struct ld_graph_value *v = &graph->values[value];
    LD_ASSERT(value != LD_GRAPH_NONE && !v->wide);
    v->wide = true;
    v->bytes = v->bytes / ld_dtype_size(graph->act_dtype) * sizeof(float);
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

/* ---- Moments --------------------------------------------------------------------------------- */

/* The operator that wrote `value` can sum up what it writes: tiles are cut per image, so images of
 * the writer and of the norm must be the same. */
static bool leaves_moments(const struct ld_graph *graph, const struct ld_graph_value *value)
{
    const struct ld_graph_op *op = &graph->ops[value->first];
    if (value->persistent || value->wide || value->patched)
        return false;
    if (op->kind == LD_GRAPH_LINEAR)
        return op->u.linear.activation == LD_ACT_NONE &&
               op->u.linear.rows_per_image == value->height * value->width;
    return op->kind == LD_GRAPH_CONV2D;
}

/* Room for the moments of `source`, which lives from its writer to the last norm that reads it. */
static void want_moments(struct ld_graph *graph, int32_t source, int32_t norm)
{
    const struct ld_graph_value *value = ld_graph_at(graph, source);
    if (source == LD_GRAPH_NONE || !leaves_moments(graph, value))
        return;
    int32_t moments = value->moments;
    if (moments == LD_GRAPH_NONE) {
        const int32_t positions = value->height * value->width;
        const int32_t tiles = positions / MOMENT_ROWS_MIN + 4;
        moments =
            ld_graph_value(graph, value->batch, 1, tiles, MOMENTS_PER_CHANNEL * value->channels);
        if (moments == LD_GRAPH_NONE)
            return;
        ld_graph_widen(graph, moments);
        graph->values[moments].first = graph->values[source].first;
        graph->values[source].moments = moments;
    }
    graph->values[moments].last = norm;
}

static void plan_moments(struct ld_graph *graph)
{
    if (graph->act_dtype == LD_DTYPE_F32)
        return;
    for (uint32_t i = 0; i < graph->op_count; i++) {
        const struct ld_graph_op *op = &graph->ops[i];
        if (op->kind != LD_GRAPH_GROUP_NORM || op->u.group_norm.half == LD_NORM_APPLY)
            continue;
        want_moments(graph, op->in[LD_IN_X0].value, (int32_t)i);
        want_moments(graph, op->in[LD_IN_X1].value, (int32_t)i);
    }
}

/* ---- Lifetimes and places -------------------------------------------------------------------- */

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
            LD_ASSERT((value->first < 0 || op->partial) && (!value->persistent || op->prologue));
            value->first = value->first < 0 ? (int32_t)i : value->first;
            value->last = (int32_t)i;
        }
        graph->macs += op->macs;
        graph->has_host_ops = graph->has_host_ops || op->kind == LD_GRAPH_HOST;
        const size_t staging = staging_for(graph, op);
        graph->staging_bytes = staging > graph->staging_bytes ? staging : graph->staging_bytes;
    }
}

/* A value that lies in another's memory keeps that one alive, and has no place of its own. */
static void join_shared(struct ld_graph *graph)
{
    for (uint32_t i = graph->value_count; i-- > 1;) {
        const struct ld_graph_value *value = &graph->values[i];
        if (value->shares == LD_GRAPH_NONE)
            continue;
        struct ld_graph_value *host = &graph->values[value->shares];
        LD_ASSERT(value->shares < (int32_t)i && value->bytes <= host->bytes);
        host->last = value->last > host->last ? value->last : host->last;
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
static void add_to_plan(const struct ld_graph *graph, const struct ld_graph_value *value,
                        int32_t in_place, struct ld_plan_value *plan)
{
    *plan =
        (struct ld_plan_value){.bytes = value->bytes,
                               .first = graph->no_sharing ? 0 : value->first,
                               .last = graph->no_sharing ? (int32_t)graph->op_count : value->last,
                               .in_place = in_place};
}

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
        if (op->out == LD_GRAPH_NONE || graph->values[op->out].persistent ||
            graph->values[op->out].first != (int32_t)i || graph->values[op->out].shares)
            continue;
        const struct ld_graph_value *value = &graph->values[op->out];
        const bool may_share = op->in_place != LD_GRAPH_NONE && !graph->no_sharing &&
                               !graph->values[op->in_place].persistent &&
                               graph->values[op->in_place].shares == LD_GRAPH_NONE;
        add_to_plan(graph, value, may_share ? index_of[op->in_place] : LD_PLAN_NO_VALUE,
                    &plan[count]);
        value_of[count] = op->out;
        index_of[op->out] = (int32_t)count++;
        if (value->moments == LD_GRAPH_NONE)
            continue;
        add_to_plan(graph, &graph->values[value->moments], LD_PLAN_NO_VALUE, &plan[count]);
        value_of[count++] = value->moments;
    }
    code = ld_plan_memory(plan, count, &graph->scratch_bytes, err);
    for (uint32_t i = 0; code == LD_OK && i < count; i++)
        graph->values[value_of[i]].offset = plan[i].offset;
    for (uint32_t i = 1; code == LD_OK && i < graph->value_count; i++)
        if (graph->values[i].shares != LD_GRAPH_NONE)
            graph->values[i].offset = graph->values[graph->values[i].shares].offset;
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
    join_shared(graph);
    plan_moments(graph);
    if (graph->failed != LD_OK)
        return LD_FAIL(err, graph->failed, "%s", graph->failure);
    code = place_persistent(graph, err);
    if (code == LD_OK)
        code = place_scratch(graph, err);
    return code;
}

/* ---- Workspace ------------------------------------------------------------------------------- */

static size_t op_workspace(const struct ld_graph *graph, const struct ld_graph_op *op,
                           const struct ld_ops *ops)
{
    struct ld_weight_desc weight = {.kind = LD_WEIGHT_VECTOR};
    if (op->kind == LD_GRAPH_CONV2D || op->kind == LD_GRAPH_LINEAR)
        weight = ld_weight_slot_desc(&ld_graph_layout(graph, op->set)->slots[op->weight[0]]);
    if (op->kind == LD_GRAPH_CONV2D)
        return ops->workspace_bytes(LD_WORKSPACE_CONV2D, &op->u.conv2d, &weight);
    if (op->kind == LD_GRAPH_LINEAR)
        return ops->workspace_bytes(LD_WORKSPACE_LINEAR, &op->u.linear, &weight);
    if (op->kind == LD_GRAPH_GROUP_NORM)
        return ops->workspace_bytes(LD_WORKSPACE_GROUP_NORM, &op->u.group_norm, NULL);
    if (op->kind == LD_GRAPH_ATTENTION)
        return ops->workspace_bytes(LD_WORKSPACE_ATTENTION, &op->u.attention, NULL);
    if (op->kind == LD_GRAPH_RESIZE)
        return ops->workspace_bytes(LD_WORKSPACE_RESIZE, &op->u.resize, NULL);
    return 0;
}

size_t ld_graph_workspace_bytes(const struct ld_graph *graph, const struct ld_ops *ops)
{
    size_t most = 0;
    for (uint32_t i = 0; ops->workspace_bytes && i < graph->op_count; i++) {
        const size_t bytes = op_workspace(graph, &graph->ops[i], ops);
        most = bytes > most ? bytes : most;
    }
    return most;
}
