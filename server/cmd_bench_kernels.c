/*
 * `bench kernels`: every distinct operator of one network at one size, alone: its time, what it
 * computes and moves, the time that this machine's ceilings allow, and the ratio. The list comes
 * from the network's own graph, so no shape is forgotten or invented. The ceilings (a large matrix
 * product, a large copy) are measured first, in the same run.
 *
 * Inputs and outputs rotate through a pool larger than any cache; weights stay where the last run
 * left them.
 */
#include "runtime/base/arena.h"
#include "runtime/gpu/device.h"
#include "runtime/model/arch.h"
#include "runtime/model/graph_run.h"
#include "runtime/model/unet.h"
#include "runtime/model/vae_graph.h"
#include "server/cmd_bench.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    ROWS_MAX = 256,
    KEY_SIZE = 160,
    ALIGN = 256,
    ROTATIONS_MAX = 64,
    WARM_UP = 3,
    BATCH_MS = 5, /* one timed run repeats the operator for about this long */
    REPEATS_MAX = 256,
    ALONE_VALUES_MAX = 16,
    CHUNK = 1 << 22 /* values written into the pool at a time */
};
static const size_t POOL_BYTES_GPU = (size_t)1 << 30;
static const size_t POOL_BYTES_CPU = (size_t)1 << 28;

struct row {
    char key[KEY_SIZE];
    const struct ld_graph_op *op;
    uint32_t count; /* of this operator in the network */
    double flop, bytes;
    double least_flop; /* that the floor counts */
    struct ld_bench_times times;
    double exps; /* exponentials of an attention */
    double floor_ms;
    bool tuned;
    struct ld_device_kernel kernel; /* what the tuner chose, where it did */
};

struct kernels {
    const struct ld_bench_options *options;
    struct ld_backend *backend;
    struct ld_weight_layout layout;
    struct ld_graph graph;
    uint8_t *pool;
    size_t pool_bytes;
    int32_t *kv_len;
    float *noise; /* [CHUNK] */
    struct row *rows;
    uint32_t row_count;
    double matrix_tflops, copy_gbps;
    double exps_a_ms; /* of the whole chip; 0: unknown */
};

/* ---- What an operator is --------------------------------------------------------------------- */

static const struct ld_graph_value *at(const struct kernels *k, int32_t value)
{
    return &k->graph.values[value];
}

/* A text that equal operators share; false for those that are not measured (host transfers and a
 * few hundred bytes of arithmetic). */
static bool describe(const struct kernels *k, const struct ld_graph_op *op, char out[KEY_SIZE])
{
    const struct ld_graph_value *y = at(k, op->out);
    switch (op->kind) {
    case LD_GRAPH_CONV2D: {
        const struct ld_conv2d *c = &op->u.conv2d;
        const struct ld_weight_slot *w = &k->layout.slots[op->weight[0]];
        return ld_fmt(out, KEY_SIZE, "conv%dx%d b%d %dx%d %d+%d->%d s%d%s%s%s", w->kernel,
                      w->kernel, c->batch, y->height, y->width, c->c0, c->c1, y->channels,
                      c->stride, c->up_h ? " up" : "", op->in[LD_IN_ROW_ADD].value ? " +row" : "",
                      op->in[LD_IN_RESIDUAL].value ? " +res" : "");
    }
    case LD_GRAPH_LINEAR: {
        static const char *const acts[] = {"", " silu", " quickgelu", " geglu"};
        const struct ld_linear *l = &op->u.linear;
        return ld_fmt(out, KEY_SIZE, "linear %dx(%d+%d)->%d%s%s", l->rows, l->c0, l->c1,
                      y->channels, acts[l->activation],
                      op->in[LD_IN_RESIDUAL].value ? " +res" : "");
    }
    case LD_GRAPH_GROUP_NORM: {
        const struct ld_group_norm *n = &op->u.group_norm;
        return ld_fmt(out, KEY_SIZE, "group_norm b%d %dx(%d+%d)%s", n->batch, n->positions, n->c0,
                      n->c1, n->silu ? " silu" : "");
    }
    case LD_GRAPH_LAYER_NORM:
        return ld_fmt(out, KEY_SIZE, "layer_norm %dx%d", op->u.layer_norm.rows,
                      op->u.layer_norm.channels);
    case LD_GRAPH_ATTENTION: {
        const struct ld_attention *a = &op->u.attention;
        return ld_fmt(out, KEY_SIZE, "attention b%d %dx%d heads %dx%d%s", a->batch, a->q_rows,
                      a->kv_rows, a->heads, a->head_dim, a->causal ? " causal" : "");
    }
    case LD_GRAPH_TIMESTEP:
    case LD_GRAPH_EMBED:
    case LD_GRAPH_MAP:
    case LD_GRAPH_RESIZE:
    case LD_GRAPH_ADD_SCALED:
    case LD_GRAPH_PLANES_IN:
    case LD_GRAPH_PLANES_OUT:
    case LD_GRAPH_HOST:
        break;
    }
    return false;
}

/* Bytes that must move at least once: inputs, weights, output. A slice counts as its own width. */
static double moved_bytes(const struct kernels *k, const struct ld_graph_op *op)
{
    const double element = (double)ld_dtype_size(k->backend->act_dtype);
    double bytes = (double)at(k, op->out)->bytes;
    if (op->kind == LD_GRAPH_ATTENTION) {
        const struct ld_attention *a = &op->u.attention;
        return element * (double)a->batch * (double)a->heads * (double)a->head_dim *
               (2.0 * (double)a->q_rows + 2.0 * (double)a->kv_rows);
    }
    for (int i = 0; i < LD_GRAPH_INPUTS_MAX; i++) {
        const struct ld_graph_value *x = at(k, op->in[i].value); /* values[0] has no bytes */
        const bool slice = op->kind == LD_GRAPH_CONV2D && i == LD_IN_ROW_ADD && x->bytes > 0;
        bytes += slice ? (double)x->batch * (double)at(k, op->out)->channels * sizeof(float)
                       : (double)x->bytes;
    }
    if (op->kind == LD_GRAPH_CONV2D || op->kind == LD_GRAPH_LINEAR) {
        const struct ld_weight_slot *w = &k->layout.slots[op->weight[0]];
        bytes += element * (double)w->rows * (double)w->k * (double)(w->kernel * w->kernel);
    }
    return bytes;
}

/* A value of a doubled map stands in four places: sums of taps, four for each output, do for nine.
 */
static double least_flop(const struct ld_graph_op *op)
{
    const struct ld_conv2d *c = &op->u.conv2d;
    const bool doubled = op->kind == LD_GRAPH_CONV2D && c->up_h > 0 && c->up_h == 2 * c->in_h &&
                         c->up_w == 2 * c->in_w;
    return 2 * (double)op->macs * (doubled ? 4.0 / 9 : 1);
}

static enum ld_code collect(struct kernels *k, struct ld_error *err)
{
    char key[KEY_SIZE];
    for (uint32_t i = 0; i < k->graph.op_count; i++) {
        const struct ld_graph_op *op = &k->graph.ops[i];
        uint32_t r = 0;
        if (!describe(k, op, key))
            continue;
        while (r < k->row_count && strcmp(k->rows[r].key, key) != 0)
            r++;
        if (r == ROWS_MAX)
            return LD_FAIL(err, LD_E_TOO_LARGE, "the network has over %d distinct operators",
                           ROWS_MAX);
        struct row *row = &k->rows[r];
        row->count++;
        if (r < k->row_count)
            continue;
        k->row_count++;
        memcpy(row->key, key, sizeof key);
        row->op = op;
        row->flop = 2 * (double)op->macs;
        row->least_flop = least_flop(op);
        row->bytes = moved_bytes(k, op);
        if (op->kind == LD_GRAPH_ATTENTION) {
            const struct ld_attention *a = &op->u.attention;
            row->exps = (double)a->batch * (double)a->heads * (double)a->q_rows *
                        (double)a->kv_rows * (a->causal ? 0.5 : 1);
        }
    }
    return LD_OK;
}

/* ---- Running one alone ----------------------------------------------------------------------- */

/*
 * A graph of one operator again and again, on as many copies of its values as fit the pool: one run
 * of it launches all of them, and a backend that records plans replays them without gaps.
 */
struct alone {
    struct ld_graph graph;
    struct ld_weight_pack pack;
    int32_t
        originals[ALONE_VALUES_MAX]; /* values of the network's graph that the operator touches */
    int32_t original_count;
    size_t span; /* bytes of one copy of them all */
    uint32_t repeats;
};

/* The place of a value in `originals`, added if it is new. */
static void touch(struct alone *alone, int32_t value)
{
    int32_t i = 0;
    if (value == LD_GRAPH_NONE)
        return;
    while (i < alone->original_count && alone->originals[i] != value)
        i++;
    LD_ASSERT(i < ALONE_VALUES_MAX);
    if (i == alone->original_count)
        alone->originals[alone->original_count++] = value;
}

/* The number of copy `place` of a value. */
static int32_t copy_of(const struct alone *alone, int32_t value, uint32_t place)
{
    for (int32_t i = 0; i < alone->original_count; i++) {
        if (alone->originals[i] == value)
            return 1 + (int32_t)place * alone->original_count + i;
    }
    return LD_GRAPH_NONE;
}

/* Every copy stands behind the one before. */
static void lay_out(struct alone *alone, const struct kernels *k, uint32_t places)
{
    size_t offset = 0;
    for (uint32_t place = 0; place < places; place++) {
        for (int32_t i = 0; i < alone->original_count; i++) {
            const struct ld_graph_value *from = at(k, alone->originals[i]);
            struct ld_graph_value *to =
                &alone->graph.values[copy_of(alone, alone->originals[i], place)];
            *to = *from;
            to->persistent = false;
            to->moments = copy_of(alone, from->moments, place);
            to->offset = offset;
            offset += (from->bytes + ALIGN - 1) / ALIGN * ALIGN;
        }
    }
}

static enum ld_code alone_graph(struct alone *alone, struct kernels *k,
                                const struct ld_graph_op *op, uint32_t repeats,
                                struct ld_error *err)
{
    ld_graph_init(&alone->graph, k->graph.act_dtype, &k->layout);
    alone->repeats = repeats;
    for (int i = 0; i < LD_GRAPH_INPUTS_MAX; i++) {
        touch(alone, op->in[i].value);
        touch(alone, at(k, op->in[i].value)->moments);
    }
    touch(alone, op->out);
    touch(alone, at(k, op->out)->moments);
    for (int32_t i = 0; i < alone->original_count; i++)
        alone->span += (at(k, alone->originals[i])->bytes + ALIGN - 1) / ALIGN * ALIGN;
    size_t places = k->pool_bytes / (alone->span ? alone->span : 1);
    places = places > ROTATIONS_MAX ? ROTATIONS_MAX : places;
    places = places > repeats ? repeats : places;
    if (places < 1)
        return LD_FAIL(err, LD_E_TOO_LARGE, "an operator needs %zu bytes, the pool has %zu",
                       alone->span, k->pool_bytes);
    const uint32_t values = 1 + (uint32_t)places * (uint32_t)alone->original_count;
    alone->graph.ops = ld_heap_calloc(repeats, sizeof *alone->graph.ops);
    alone->graph.values = ld_heap_calloc(values, sizeof *alone->graph.values);
    if (!alone->graph.ops || !alone->graph.values)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory");
    alone->graph.value_count = values;
    alone->graph.op_count = repeats;
    lay_out(alone, k, (uint32_t)places);
    for (uint32_t r = 0; r < repeats; r++) {
        const uint32_t place = r % (uint32_t)places;
        struct ld_graph_op *copy = &alone->graph.ops[r];
        *copy = *op;
        copy->tap = NULL;
        copy->out = copy_of(alone, op->out, place);
        for (int i = 0; i < LD_GRAPH_INPUTS_MAX; i++)
            copy->in[i].value = copy_of(alone, op->in[i].value, place);
    }
    return LD_OK;
}

/* Random matrices of the usual spread, gains about 1, small biases. */
static enum ld_code make_weight(struct kernels *k, int32_t slot_index, struct ld_weight **out,
                                struct ld_error *err)
{
    const struct ld_weight_slot *slot = &k->layout.slots[slot_index];
    const bool vector = slot->kind == LD_WEIGHT_VECTOR;
    const size_t fan_in = (size_t)slot->k * (size_t)(slot->kernel * slot->kernel);
    const size_t values = (size_t)slot->rows * fan_in;
    const float scale = vector ? 0.1F : 1 / sqrtf((float)fan_in);
    struct ld_weight_desc desc = ld_weight_slot_desc(slot);
    uint16_t *data = ld_heap_calloc(values + (size_t)slot->rows, sizeof *data);
    if (!data)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for weights of %zu values", values);
    for (size_t i = 0; i < values; i++)
        data[i] = ld_f16_from_f32((vector ? 1.0F : 0.0F) + scale * k->noise[i % CHUNK]);
    for (size_t i = 0; i < (size_t)slot->rows; i++)
        data[values + i] = ld_f16_from_f32(0.1F * k->noise[i % CHUNK]);
    for (uint32_t p = 0; p < slot->part_count; p++) {
        desc.parts[p].data = data;
        desc.parts[p].dtype = LD_DTYPE_F16;
        if (slot->parts[p].bias)
            desc.bias[p] = (struct ld_weight_part){.data = data + values, .dtype = LD_DTYPE_F16};
    }
    const enum ld_code code = k->backend->ops->weight_create(k->backend, &desc, out, err);
    ld_heap_free(data);
    return code;
}

static enum ld_code alone_open(struct alone *alone, struct kernels *k, const struct ld_graph_op *op,
                               uint32_t repeats, struct ld_error *err)
{
    const struct ld_ops *ops = k->backend->ops;
    const int weights = op->kind == LD_GRAPH_ATTENTION || op->kind == LD_GRAPH_MAP   ? 0
                        : op->kind == LD_GRAPH_CONV2D || op->kind == LD_GRAPH_LINEAR ? 1
                                                                                     : 2;
    memset(alone, 0, sizeof *alone);
    ld_weight_pack_init(&alone->pack, k->backend);
    enum ld_code code = alone_graph(alone, k, op, repeats, err);
    alone->pack.weights = ld_heap_calloc(k->layout.count, sizeof *alone->pack.weights);
    alone->pack.owned = ld_heap_calloc(k->layout.count, sizeof *alone->pack.owned);
    if (code == LD_OK && (!alone->pack.weights || !alone->pack.owned))
        code = LD_FAIL(err, LD_E_NOMEM, "not enough memory");
    if (alone->pack.weights && alone->pack.owned)
        alone->pack.count = k->layout.count;
    for (int w = 0; code == LD_OK && w < weights; w++) {
        const int32_t slot = op->weight[w];
        code = make_weight(k, slot, &alone->pack.weights[slot], err);
        alone->pack.owned[slot] = code == LD_OK;
    }
    if (code == LD_OK && ops->workspace_reserve)
        code =
            ops->workspace_reserve(k->backend, ld_graph_workspace_bytes(&alone->graph, ops), err);
    return code;
}

static void alone_close(struct alone *alone, struct kernels *k)
{
    if (k->backend->ops->run_forget)
        k->backend->ops->run_forget(k->backend, alone->graph.serial);
    ld_weight_pack_deinit(&alone->pack);
    ld_graph_deinit(&alone->graph);
}

/* Milliseconds of one operator in one run of them all; ld_graph_run waits for the device. */
static enum ld_code run_once(struct kernels *k, const struct alone *alone, double *ms,
                             struct ld_error *err)
{
    struct ld_graph_run run = {.backend = k->backend, .scratch = k->pool, .weights = &alone->pack};
    run.in[LD_PORT_KV_LEN] = k->kv_len;
    const double start = ld_bench_now_ms();
    const enum ld_code code = ld_graph_run(&alone->graph, &run, err);
    *ms = (ld_bench_now_ms() - start) / alone->repeats;
    return code;
}

/* `rounds` timed runs of `repeats` operators, after those that load, record and warm up. */
static enum ld_code time_repeats(struct kernels *k, const struct ld_graph_op *op, uint32_t repeats,
                                 uint32_t rounds, struct ld_bench_times *times,
                                 struct ld_error *err)
{
    struct alone alone;
    double ms = 0;
    times->count = 0;
    enum ld_code code = alone_open(&alone, k, op, repeats, err);
    for (uint32_t r = 0; code == LD_OK && r < WARM_UP + rounds; r++) {
        code = run_once(k, &alone, &ms, err);
        if (code == LD_OK && r >= WARM_UP)
            ld_bench_times_add(times, ms);
    }
    ld_bench_times_finish(times);
    alone_close(&alone, k);
    return code;
}

static enum ld_code time_row(struct kernels *k, struct row *row, struct ld_error *err)
{
    enum ld_code code = time_repeats(k, row->op, 1, 1, &row->times, err);
    const double fit = row->times.median > 0 ? BATCH_MS / row->times.median : REPEATS_MAX;
    const uint32_t repeats = fit < 1 ? 1 : fit > REPEATS_MAX ? REPEATS_MAX : (uint32_t)fit;
    if (code == LD_OK)
        code = time_repeats(k, row->op, repeats, k->options->rounds, &row->times, err);
    const bool tunable = row->op->kind == LD_GRAPH_CONV2D || row->op->kind == LD_GRAPH_LINEAR ||
                         row->op->kind == LD_GRAPH_ATTENTION;
    row->tuned = tunable && ld_device_latest_kernel(k->backend, &row->kernel);
    return code;
}

/* ---- Ceilings -------------------------------------------------------------------------------- */

/* Time of an operator that is in no network. */
static enum ld_code time_ceiling(struct kernels *k, const struct ld_graph_op *op, double *ms,
                                 struct ld_error *err)
{
    struct row row = {.op = op, .key = "a ceiling"};
    const enum ld_code code = time_row(k, &row, err);
    *ms = row.times.low;
    return code;
}

/*
 * A graph of a square matrix product and of an elementwise copy in place of the network's.
 * `side` is large enough to fill the device and small enough to take milliseconds.
 */
static enum ld_code measure_ceilings(struct kernels *k, struct ld_error *err)
{
    const bool gpu = strcmp(k->backend->name, "cpu") != 0;
    const int32_t side = gpu ? 8192 : 1024;
    struct ld_graph network = k->graph;
    const struct ld_weight_slot_part part = {.weight = "ceiling.weight", .rows = side};
    const int32_t slot =
        ld_weight_layout_slot(&k->layout, &(struct ld_weight_slot){.kind = LD_WEIGHT_LINEAR,
                                                                   .rows = side,
                                                                   .k = side,
                                                                   .kernel = 1,
                                                                   .part_count = 1,
                                                                   .parts = &part});
    if (slot < 0)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory");
    ld_graph_init(&k->graph, k->backend->act_dtype, &k->layout);
    const int32_t x = ld_graph_value(&k->graph, 1, 1, side, side);
    const int32_t y = ld_graph_value(&k->graph, 1, 1, side, side);
    double ms = 0;
    enum ld_code code = k->graph.failed;
    if (code == LD_OK) {
        const struct ld_graph_op product = {
            .kind = LD_GRAPH_LINEAR,
            .in = {{x, 0, 0}},
            .out = y,
            .weight = {slot},
            .u.linear = {.c0 = side, .rows = side, .rows_per_image = side}};
        code = time_ceiling(k, &product, &ms, err);
        k->matrix_tflops = 2 * pow((double)side, 3) / ms * 1e-9;
    }
    if (code == LD_OK) {
        const struct ld_graph_op copy = {
            .kind = LD_GRAPH_MAP,
            .in = {{x, 0, 0}},
            .out = y,
            .u.map = {.count = (int64_t)side * side, .activation = LD_ACT_NONE}};
        code = time_ceiling(k, &copy, &ms, err);
        k->copy_gbps = 2 * (double)at(k, x)->bytes / ms * 1e-6;
    }
    ld_graph_deinit(&k->graph);
    k->graph = network;
    return code;
}

/* Every supported chip has 16 special-function results a clock and multiprocessor (CUDA C++
 * programming guide, table of arithmetic throughput); attention can be bound by them. */
static void look_at_exponentials(struct kernels *k)
{
    enum { EXPS_A_CLOCK = 16 };
    struct ld_device_facts facts;
    if (strcmp(k->backend->name, "cuda") != 0)
        return;
    ld_device_look(&facts, false, 0);
    k->exps_a_ms = EXPS_A_CLOCK * (double)facts.sm_count * (double)facts.clock_khz;
}

/* ---- The verb -------------------------------------------------------------------------------- */

/* SD1.5's widths, or those of a checkpoint. */
static enum ld_code read_arch(const struct ld_bench_options *options, struct ld_arch *arch,
                              struct ld_error *err)
{
    struct ld_weights *weights = NULL;
    ld_arch_set_sd15(arch);
    if (!options->model)
        return LD_OK;
    const enum ld_code code = ld_weights_open(&weights, options->model, NULL, err);
    if (code == LD_OK)
        *arch = *ld_weights_arch(weights);
    ld_weights_close(weights);
    return code;
}

static enum ld_code build(struct kernels *k, struct ld_error *err)
{
    const struct ld_bench_options *o = k->options;
    struct ld_arch arch;
    const enum ld_code code = read_arch(o, &arch, err);
    if (code != LD_OK)
        return code;
    ld_weight_layout_init(&k->layout);
    ld_graph_init(&k->graph, k->backend->act_dtype, &k->layout);
    if (strcmp(o->network, "unet") == 0) {
        const struct ld_unet_shape shape = {2 * o->batch, o->height / 8, o->width / 8,
                                            LD_BENCH_TOKENS};
        ld_unet_build(&k->graph, &arch, &shape, &(struct ld_unet_options){0});
    } else {
        const struct ld_vae_shape shape = {
            .batch = o->batch, .height = o->height / 8, .width = o->width / 8};
        ld_vae_build_decoder(&k->graph, &arch, &shape);
    }
    return ld_graph_finish(&k->graph, err);
}

static enum ld_code open_kernels(struct kernels *k, const struct ld_bench_options *options,
                                 struct ld_error *err)
{
    k->options = options;
    enum ld_code code = ld_bench_backend_open(&k->backend, options, err);
    if (code == LD_OK)
        code = build(k, err);
    if (code != LD_OK)
        return code;
    const size_t wanted = strcmp(k->backend->name, "cpu") == 0 ? POOL_BYTES_CPU : POOL_BYTES_GPU;
    k->pool_bytes = wanted > 4 * k->graph.scratch_bytes ? wanted : 4 * k->graph.scratch_bytes;
    k->rows = ld_heap_calloc(ROWS_MAX, sizeof *k->rows);
    k->noise = ld_heap_calloc(CHUNK, sizeof *k->noise);
    k->kv_len = ld_heap_calloc(2 * (size_t)options->batch, sizeof *k->kv_len);
    if (!k->rows || !k->noise || !k->kv_len)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory");
    for (int32_t i = 0; i < 2 * options->batch; i++)
        k->kv_len[i] = LD_BENCH_TOKENS;
    ld_bench_normal(3, k->noise, CHUNK);
    void *pool = NULL;
    code = k->backend->ops->memory_alloc(k->backend, k->pool_bytes, &pool, err);
    k->pool = pool;
    const size_t piece = CHUNK * ld_dtype_size(k->backend->act_dtype);
    for (size_t done = 0; code == LD_OK && done + piece <= k->pool_bytes; done += piece) {
        const struct ld_planes_in in = {.planes = k->noise,
                                        .batch = 1,
                                        .channels = 1,
                                        .height = 1,
                                        .width = CHUNK,
                                        .y = k->pool + done};
        code = k->backend->ops->planes_in(k->backend, &in, err);
        if (code == LD_OK)
            code = k->backend->ops->synchronize(k->backend, err);
    }
    return code == LD_OK ? collect(k, err) : code;
}

static void close_kernels(struct kernels *k)
{
    if (k->pool)
        k->backend->ops->memory_free(k->backend, k->pool, k->pool_bytes);
    ld_heap_free(k->kv_len);
    ld_heap_free(k->noise);
    ld_heap_free(k->rows);
    ld_graph_deinit(&k->graph);
    ld_weight_layout_deinit(&k->layout);
    if (k->backend)
        k->backend->ops->destroy(k->backend);
}

static void print_row(const struct kernels *k, const struct row *row, struct ld_buffer *json)
{
    ld_buffer_text(json, ",{\"op\":");
    ld_buffer_json_string(json, row->key);
    ld_buffer_format(
        json, ",\"count\":%u,\"flop\":%.6g,\"bytes\":%.6g,\"floor_ms\":%.5g,\"ratio\":%.4g",
        row->count, row->flop, row->bytes, row->floor_ms, row->times.median / row->floor_ms);
    if (row->tuned) {
        ld_buffer_text(json, ",\"chosen\":");
        ld_buffer_json_string(json, row->kernel.chosen);
        ld_buffer_text(json, ",\"runner_up\":");
        ld_buffer_json_string(json, row->kernel.runner_up);
        ld_buffer_format(json, ",\"chosen_ms\":%.5g,\"runner_up_ms\":%.5g", row->kernel.ms,
                         row->kernel.runner_up_ms);
    }
    ld_buffer_text(json, ",\"time\":");
    ld_bench_times_json(json, &row->times);
    ld_buffer_text(json, "}");
    if (!k->options->json)
        printf("%-48s %3u %10.4f ms %9.4f floor %7.2f  %s\n", row->key, row->count,
               row->times.median, row->floor_ms, row->times.median / row->floor_ms,
               row->tuned ? row->kernel.chosen : "");
}

static enum ld_code measure(struct kernels *k, struct ld_buffer *json, struct ld_error *err)
{
    double total = 0;
    double floor_total = 0;
    enum ld_code code = measure_ceilings(k, err);
    if (code != LD_OK)
        return code;
    look_at_exponentials(k);
    ld_buffer_text(json, "{");
    ld_bench_json_head(json, k->options, k->backend);
    ld_buffer_format(json, ",\"network\":\"%s\",\"width\":%d,\"height\":%d,\"batch\":%d",
                     k->options->network, k->options->width, k->options->height, k->options->batch);
    ld_buffer_format(json, ",\"rows\":[{\"op\":\"ceiling: matrix product\",\"tflops\":%.5g}",
                     k->matrix_tflops);
    ld_buffer_format(json, ",{\"op\":\"ceiling: copy\",\"gbps\":%.5g}", k->copy_gbps);
    if (k->exps_a_ms > 0)
        ld_buffer_format(json,
                         ",{\"op\":\"ceiling: exponentials, from the highest clock\","
                         "\"gexps\":%.5g}",
                         k->exps_a_ms * 1e-6);
    if (!k->options->json)
        printf("%s: matrix product %.3f TFLOP/s, copy %.1f GB/s\n", k->backend->description,
               k->matrix_tflops, k->copy_gbps);
    for (uint32_t r = 0; code == LD_OK && r < k->row_count; r++) {
        struct row *row = &k->rows[r];
        code = time_row(k, row, err);
        if (code != LD_OK)
            break;
        row->floor_ms =
            fmax(row->least_flop / k->matrix_tflops * 1e-9, row->bytes / k->copy_gbps * 1e-6);
        if (k->exps_a_ms > 0)
            row->floor_ms = fmax(row->floor_ms, row->exps / k->exps_a_ms);
        total += row->count * row->times.median;
        floor_total += row->count * row->floor_ms;
        print_row(k, row, json);
    }
    ld_buffer_format(json, "],\"total_ms\":%.5g,\"floor_total_ms\":%.5g}", total, floor_total);
    if (code == LD_OK && !k->options->json)
        printf("all together %.3f ms, floor %.3f ms\n", total, floor_total);
    return code;
}

enum ld_code ld_bench_kernels(const struct ld_bench_options *options, struct ld_buffer *json,
                              struct ld_error *err)
{
    struct kernels k = {0};
    enum ld_code code = open_kernels(&k, options, err);
    if (code == LD_OK)
        code = measure(&k, json, err);
    close_kernels(&k);
    return code;
}
