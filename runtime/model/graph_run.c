#include "runtime/model/graph_run.h"

#include "runtime/model/graph_ranges.h"

#include <string.h>

/* ---- Resolving ------------------------------------------------------------------------------- */

struct runner {
    const struct ld_graph *graph;
    const struct ld_graph_run *run;
    size_t element; /* bytes of one activation */
};

static void *value_at(const struct runner *runner, int32_t value)
{
    if (value == LD_GRAPH_NONE)
        return NULL;
    const struct ld_graph_value *v = &runner->graph->values[value];
    uint8_t *base = v->persistent ? runner->run->persistent : runner->run->scratch;
    return base + v->offset;
}

static const void *input(const struct runner *runner, const struct ld_graph_op *op, int which)
{
    const uint8_t *base = value_at(runner, op->in[which].value);
    const struct ld_graph_value *v = &runner->graph->values[op->in[which].value];
    const size_t row = (size_t)v->width * (size_t)v->channels;
    const size_t element = v->wide ? sizeof(float) : runner->element;
    return base ? base + ((size_t)op->in[which].row * row + (size_t)op->in[which].column) * element
                : NULL;
}

/* Where the operator writes: a value, or rows of one. */
static void *output(const struct runner *runner, const struct ld_graph_op *op)
{
    uint8_t *base = value_at(runner, op->out);
    const struct ld_graph_value *v = &runner->graph->values[op->out];
    return base ? base +
                      (size_t)op->out_row * (size_t)v->width * (size_t)v->channels * runner->element
                : NULL;
}

static const struct ld_weight *weight(const struct runner *runner, const struct ld_graph_op *op,
                                      int which)
{
    const struct ld_weight_pack *pack =
        op->set == 0 ? runner->run->weights : runner->run->more[op->set - 1];
    return pack->weights[op->weight[which]];
}

static const void *port(const struct runner *runner, const struct ld_graph_op *op, int which)
{
    return runner->run->in[op->port[which]]; /* in[LD_PORT_NONE] is NULL */
}

/* Room for the moments of `value`; NULL where the plan gave none. */
static float *moments_of(const struct runner *runner, int32_t value, size_t *bytes)
{
    const struct ld_graph_value *v = &runner->graph->values[value];
    *bytes = v->moments != LD_GRAPH_NONE ? runner->graph->values[v->moments].bytes : 0;
    return value_at(runner, v->moments);
}

/* ---- One operator ---------------------------------------------------------------------------- */

static struct ld_conv2d conv2d_of(const struct runner *r, const struct ld_graph_op *op, void *y)
{
    struct ld_conv2d conv = op->u.conv2d;
    conv.x0 = input(r, op, LD_IN_X0);
    conv.x1 = input(r, op, LD_IN_X1);
    conv.residual = input(r, op, LD_IN_RESIDUAL);
    conv.row_add = input(r, op, LD_IN_ROW_ADD);
    conv.weight = weight(r, op, 0);
    conv.y = y;
    conv.moments = moments_of(r, op->out, &conv.moments_bytes);
    return conv;
}

static struct ld_linear linear_of(const struct runner *r, const struct ld_graph_op *op, void *y)
{
    struct ld_linear linear = op->u.linear;
    linear.x0 = input(r, op, LD_IN_X0);
    linear.x1 = input(r, op, LD_IN_X1);
    linear.residual = input(r, op, LD_IN_RESIDUAL);
    linear.weight = weight(r, op, 0);
    linear.y = y;
    linear.moments = moments_of(r, op->out, &linear.moments_bytes);
    return linear;
}

static enum ld_code run_norm(const struct runner *r, const struct ld_graph_op *op, void *y,
                             struct ld_error *err)
{
    struct ld_backend *backend = r->run->backend;
    if (op->kind == LD_GRAPH_LAYER_NORM) {
        struct ld_layer_norm norm = op->u.layer_norm;
        norm.x = input(r, op, LD_IN_X0);
        norm.gamma = weight(r, op, 0);
        norm.beta = weight(r, op, 1);
        norm.y = y;
        return backend->ops->layer_norm(backend, &norm, err);
    }
    struct ld_group_norm norm = op->u.group_norm;
    norm.x0 = input(r, op, LD_IN_X0);
    norm.x1 = input(r, op, LD_IN_X1);
    norm.gamma = weight(r, op, 0);
    norm.beta = weight(r, op, 1);
    norm.y = norm.half == LD_NORM_MEASURE ? NULL : y;
    if (norm.half != LD_NORM_BOTH)
        norm.fold = norm.half == LD_NORM_MEASURE ? y : value_at(r, op->in[LD_IN_FOLD].value);
    size_t bytes;
    norm.moments0 = moments_of(r, op->in[LD_IN_X0].value, &bytes);
    norm.moments1 = moments_of(r, op->in[LD_IN_X1].value, &bytes);
    return backend->ops->group_norm(backend, &norm, err);
}

static struct ld_attention attention_of(const struct runner *r, const struct ld_graph_op *op,
                                        void *y)
{
    struct ld_attention attention = op->u.attention;
    attention.q = input(r, op, LD_IN_Q);
    attention.k = input(r, op, LD_IN_K);
    attention.v = input(r, op, LD_IN_V);
    attention.kv_len = port(r, op, 0);
    attention.o = y;
    return attention;
}

static enum ld_code run_embed(const struct runner *r, const struct ld_graph_op *op, void *y,
                              struct ld_error *err)
{
    struct ld_embed embed = op->u.embed;
    embed.ids = port(r, op, 0);
    embed.override = port(r, op, 1);
    embed.table = weight(r, op, 0);
    embed.positions = weight(r, op, 1);
    embed.y = y;
    return r->run->backend->ops->embed(r->run->backend, &embed, err);
}

static enum ld_code run_transfer(const struct runner *r, const struct ld_graph_op *op, void *y,
                                 struct ld_error *err)
{
    struct ld_backend *backend = r->run->backend;
    if (op->kind == LD_GRAPH_PLANES_IN) {
        struct ld_planes_in in = op->u.planes_in;
        in.planes = port(r, op, 0);
        in.scale = port(r, op, 1);
        in.y = y;
        return backend->ops->planes_in(backend, &in, err);
    }
    struct ld_planes_out out = op->u.planes_out;
    out.x = input(r, op, LD_IN_X0);
    out.planes = r->run->out[op->port[0]];
    return backend->ops->planes_out(backend, &out, err);
}

static enum ld_code run_host(const struct runner *r, const struct ld_graph_op *op, void *y,
                             struct ld_error *err)
{
    struct ld_backend *backend = r->run->backend;
    const struct ld_graph_value *v = &r->graph->values[op->out];
    const struct ld_planes_out down = {.x = input(r, op, LD_IN_X0),
                                       .batch = v->batch,
                                       .channels = v->channels,
                                       .height = v->height,
                                       .width = v->width,
                                       .planes = r->run->staging};
    const struct ld_planes_in up = {.planes = r->run->staging,
                                    .batch = v->batch,
                                    .channels = v->channels,
                                    .height = v->height,
                                    .width = v->width,
                                    .y = y};
    enum ld_code code = backend->ops->planes_out(backend, &down, err);
    if (code == LD_OK)
        code = backend->ops->synchronize(backend, err);
    if (code != LD_OK)
        return code;
    op->u.host.run(op->u.host.ctx, r->run->staging, v->batch, v->channels, v->height, v->width);
    return backend->ops->planes_in(backend, &up, err);
}

static enum ld_code run_op(const struct runner *r, const struct ld_graph_op *op,
                           struct ld_error *err)
{
    struct ld_backend *backend = r->run->backend;
    void *y = output(r, op);
    switch (op->kind) {
    case LD_GRAPH_CONV2D: {
        const struct ld_conv2d conv = conv2d_of(r, op, y);
        return backend->ops->conv2d(backend, &conv, err);
    }
    case LD_GRAPH_LINEAR: {
        const struct ld_linear linear = linear_of(r, op, y);
        return backend->ops->linear(backend, &linear, err);
    }
    case LD_GRAPH_GROUP_NORM:
    case LD_GRAPH_LAYER_NORM:
        return run_norm(r, op, y, err);
    case LD_GRAPH_ATTENTION: {
        const struct ld_attention attention = attention_of(r, op, y);
        return backend->ops->attention(backend, &attention, err);
    }
    case LD_GRAPH_EMBED:
        return run_embed(r, op, y, err);
    case LD_GRAPH_PLANES_IN:
    case LD_GRAPH_PLANES_OUT:
        return run_transfer(r, op, y, err);
    case LD_GRAPH_HOST:
        return run_host(r, op, y, err);
    case LD_GRAPH_TIMESTEP: {
        struct ld_timestep timestep = op->u.timestep;
        timestep.t = port(r, op, 0);
        timestep.y = y;
        return backend->ops->timestep(backend, &timestep, err);
    }
    case LD_GRAPH_MAP: {
        struct ld_map map = op->u.map;
        map.x = input(r, op, LD_IN_X0);
        map.y = y;
        return backend->ops->map(backend, &map, err);
    }
    case LD_GRAPH_ADD_SCALED: {
        struct ld_add_scaled add = op->u.add_scaled;
        add.x = input(r, op, LD_IN_X);
        add.z = input(r, op, LD_IN_Z);
        add.scales = port(r, op, 0);
        add.scale = add.scales + op->port_first;
        add.y = y;
        return backend->ops->add_scaled(backend, &add, err);
    }
    case LD_GRAPH_RESIZE: {
        struct ld_resize resize = op->u.resize;
        resize.x = input(r, op, LD_IN_X0);
        resize.y = y;
        return backend->ops->resize(backend, &resize, err);
    }
    }
    return LD_FAIL(err, LD_E_BUG, "the model's plan holds an unknown operator");
}

/* ---- Taps ------------------------------------------------------------------------------------ */

static enum ld_code run_tap(const struct runner *r, const struct ld_graph_op *op,
                            struct ld_error *err)
{
    struct ld_backend *backend = r->run->backend;
    const struct ld_graph_value *v = &r->graph->values[op->out];
    const size_t bytes = v->wide ? v->bytes : v->bytes / r->element * sizeof(float);
    float *planes = ld_block_alloc(bytes);
    if (!planes)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory to look at a block");
    const struct ld_planes_out down = {.x = value_at(r, op->out),
                                       .batch = v->batch,
                                       .channels = v->channels,
                                       .height = v->height,
                                       .width = v->width,
                                       .planes = planes,
                                       .f32 = v->wide};
    enum ld_code code = backend->ops->planes_out(backend, &down, err);
    if (code == LD_OK)
        code = backend->ops->synchronize(backend, err);
    if (code == LD_OK)
        r->run->tap->take(r->run->tap->ctx, op->tap, planes, v->batch, v->channels, v->height,
                          v->width);
    ld_block_free(planes, bytes);
    return code;
}

/* ---- The run --------------------------------------------------------------------------------- */

static struct ld_run_id identity(const struct ld_graph *graph, const struct ld_graph_run *run)
{
    struct ld_run_id id = {.plan = graph->serial,
                           .weights = run->weights->serial,
                           .scratch = run->scratch,
                           .persistent = run->persistent,
                           .skip_prologue = run->skip_prologue,
                           .recordable = !graph->has_host_ops && !run->tap,
                           .operators = graph->op_count};
    for (int i = 0; i < LD_RUN_WEIGHTS_MAX; i++)
        id.more[i] = run->more[i] ? run->more[i]->serial : 0;
    for (int p = 0; p < LD_PORT_COUNT; p++) {
        id.bound |= run->in[p] ? UINT64_C(1) << p : 0;
        id.bound |= run->out[p] ? UINT64_C(1) << (LD_PORT_COUNT + p) : 0;
    }
    return id;
}

static enum ld_code step(const struct runner *runner, uint32_t i, struct ld_error *err)
{
    const struct ld_graph *graph = runner->graph;
    const struct ld_graph_run *run = runner->run;
    const struct ld_graph_op *op = &graph->ops[i];
    if (run->cancel && atomic_load(&run->cancel->requested))
        return LD_FAIL(err, LD_E_CANCELLED, "cancelled");
    enum ld_code code = run_op(runner, op, err);
    if (code == LD_OK && run->tap && op->tap)
        code = run_tap(runner, op, err);
    if (code != LD_OK)
        (void)ld_error_note(err, "operator %u of %u, kind %d", i, graph->op_count, (int)op->kind);
    return code;
}

static enum ld_code walk(const struct runner *runner, struct ld_error *err)
{
    const struct ld_graph *graph = runner->graph;
    struct ld_graph_ranges ranges = ld_graph_ranges_of(runner->run->backend);
    enum ld_code code = LD_OK;
    uint32_t i = runner->run->skip_prologue ? graph->prologue_count : 0;
    for (; code == LD_OK && i < graph->op_count; i++) {
        ld_graph_ranges_enter(&ranges, graph, i);
        code = step(runner, i, err);
        ld_graph_ranges_leave(&ranges, graph, i);
    }
    ld_graph_ranges_end(&ranges);
    return code;
}

enum ld_code ld_graph_run(const struct ld_graph *graph, const struct ld_graph_run *run,
                          struct ld_error *err)
{
    const struct runner runner = {graph, run, ld_dtype_size(graph->act_dtype)};
    const struct ld_ops *ops = run->backend->ops;
    const struct ld_run_id id = identity(graph, run);
    LD_ASSERT(graph->act_dtype == run->backend->act_dtype);
    enum ld_code code = LD_OK;
    bool again = true;
    /* A recording that fails is made good by one plain walk, so twice is enough. */
    for (int round = 0; code == LD_OK && again && round < 2; round++) {
        again = false;
        if (ops->run_begin)
            code = ops->run_begin(run->backend, &id, err);
        if (code != LD_OK)
            return code;
        code = walk(&runner, err);
        if (!ops->run_end)
            continue;
        struct ld_error ending = {0};
        const enum ld_code ended = ops->run_end(run->backend, code == LD_OK, &again, &ending);
        if (code == LD_OK && ended != LD_OK) {
            code = ended;
            if (err)
                *err = ending;
        }
    }
    if (code == LD_OK && run->backend->apart && run->meanwhile.act)
        run->meanwhile.act(run->meanwhile.ctx);
    return code == LD_OK ? ops->synchronize(run->backend, err) : code;
}

/* ---- Signature ------------------------------------------------------------------------------- */

static uint32_t signature_of(const struct runner *r, const struct ld_graph_op *op)
{
    struct ld_backend *backend = r->run->backend;
    void *y = value_at(r, op->out);
    if (op->kind == LD_GRAPH_CONV2D) {
        const struct ld_conv2d conv = conv2d_of(r, op, y);
        return backend->ops->signature(backend, LD_WORKSPACE_CONV2D, &conv);
    }
    if (op->kind == LD_GRAPH_LINEAR) {
        const struct ld_linear linear = linear_of(r, op, y);
        return backend->ops->signature(backend, LD_WORKSPACE_LINEAR, &linear);
    }
    if (op->kind == LD_GRAPH_ATTENTION) {
        const struct ld_attention attention = attention_of(r, op, y);
        return backend->ops->signature(backend, LD_WORKSPACE_ATTENTION, &attention);
    }
    return 0;
}

uint64_t ld_graph_signature(const struct ld_graph *graph, struct ld_backend *backend,
                            const struct ld_weight_pack *weights)
{
    /* Addresses tell what is there and what lies on what; nobody follows them. */
    static unsigned char nowhere[2][256];
    const struct ld_graph_run run = {
        .backend = backend, .scratch = nowhere[0], .persistent = nowhere[1], .weights = weights};
    const struct runner runner = {graph, &run, ld_dtype_size(graph->act_dtype)};
    uint64_t hash = UINT64_C(0xCBF29CE484222325); /* FNV-1a, four bytes at a time */
    for (uint32_t i = 0; backend->ops->signature && i < graph->op_count; i++)
        hash = (hash ^ signature_of(&runner, &graph->ops[i])) * UINT64_C(0x100000001B3);
    return hash;
}

/* ---- Workspace ------------------------------------------------------------------------------- */

void ld_workspace_init(struct ld_workspace *workspace, struct ld_backend *backend)
{
    memset(workspace, 0, sizeof *workspace);
    workspace->backend = backend;
}

void ld_workspace_trim(struct ld_workspace *workspace)
{
    if (workspace->scratch)
        workspace->backend->ops->memory_free(workspace->backend, workspace->scratch,
                                             workspace->scratch_bytes);
    ld_block_free(workspace->staging, workspace->staging_bytes);
    workspace->scratch = NULL;
    workspace->staging = NULL;
    workspace->scratch_bytes = workspace->staging_bytes = 0;
}

void ld_workspace_deinit(struct ld_workspace *workspace)
{
    ld_workspace_trim(workspace);
}

enum ld_code ld_workspace_fit(struct ld_workspace *workspace, const struct ld_graph *graph,
                              struct ld_error *err)
{
    struct ld_backend *backend = workspace->backend;
    if (graph->scratch_bytes > workspace->scratch_bytes) {
        if (workspace->scratch)
            backend->ops->memory_free(backend, workspace->scratch, workspace->scratch_bytes);
        workspace->scratch = NULL;
        workspace->scratch_bytes = 0;
        enum ld_code code =
            backend->ops->memory_alloc(backend, graph->scratch_bytes, &workspace->scratch, err);
        if (code != LD_OK)
            return code;
        workspace->scratch_bytes = graph->scratch_bytes;
    }
    if (backend->ops->workspace_reserve) {
        const size_t bytes = ld_graph_workspace_bytes(graph, backend->ops);
        enum ld_code code = backend->ops->workspace_reserve(backend, bytes, err);
        if (code != LD_OK)
            return code;
    }
    if (graph->staging_bytes > workspace->staging_bytes) {
        ld_block_free(workspace->staging, workspace->staging_bytes);
        workspace->staging_bytes = 0;
        workspace->staging = ld_block_alloc(graph->staging_bytes);
        if (!workspace->staging)
            return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the model's activations");
        workspace->staging_bytes = graph->staging_bytes;
    }
    return LD_OK;
}
