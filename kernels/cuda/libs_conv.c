/*
 * Convolutions 3x3 through cuDNN's graph interface: convolution, bias, timestep row and residual
 * as one operation graph over NHWC tensors, intermediate values in float32. A way is an engine by
 * its number with the knobs that the heuristic turned: on Hopper one engine does all, and its knobs
 * are what decides. A plan per shape is made at its first use: compiled, or loaded from the file
 * that an earlier process has left (plan_store.h).
 *
 * Source: cuDNN backend API documentation (operation graphs, engine configurations, numerical
 * notes, execution plans, variant packs).
 */
#include "kernels/cuda/libs_table.h"
#include "runtime/base/arena.h"
#include "runtime/base/bytes.h"

#include <stdio.h>
#include <string.h>

#ifdef LDK_HAS_CUDNN

/* Set by the build: a hash of this file, which says what graph a plan was compiled for. */
#ifndef LDK_CONV_ID
#define LDK_CONV_ID LATENTD_VERSION
#endif

static const char prefix[] = "cudnn:";

enum { DIMS = 4, OPS_MAX = 4, TENSORS_MAX = 8, CONFIGS_MAX = 16, KNOBS_MAX = 12, OBJECTS_MAX = 40 };
enum { UID_X = 1, UID_W, UID_BIAS, UID_ROW, UID_RESIDUAL, UID_Y, UID_VIRTUAL };

/*
 * An output over its own residual is left to our kernels (15 convolutions of a UNet pass). cuDNN's
 * developer guide, on operation graphs: where there is more than one operation, no output may be
 * one of the inputs; in place is for graphs of a single one. Ours has at least two, the convolution
 * and its bias. cuDNN 9.19 does not refuse one tensor in both places and compiles the same engines,
 * but nothing says that a block of theirs reads its part of the residual before any writes there,
 * and a check on one shape proves no order. A single operation that adds to its output (beta 1) has
 * no bias, which would cost another pass over y; a copy of the residual costs one too.
 */
static bool plain_conv(const struct ldk_libs *libs, const struct ldk_conv *c)
{
    return libs->cudnn_library && c->dtype != LDK_F32 && c->w.dtype == c->dtype && !c->x1 &&
           c->c1 == 0 && c->up_h == 0 && !c->moments && !c->fp16_accumulate && c->w.taps == 9 &&
           c->w.k_padded == c->c0 && c->w.rows % 8 == 0 && (!c->row_add || c->row_add_f32) &&
           (!c->residual || c->residual != c->y);
}

/* As the tensors below are described. */
static bool is_aligned(const struct ldk_conv *c)
{
    const uintptr_t bases = (uintptr_t)c->x0 | (uintptr_t)c->w.data | (uintptr_t)c->w.bias |
                            (uintptr_t)c->row_add | (uintptr_t)c->residual | (uintptr_t)c->y;
    return bases % LDK_LIBS_ALIGN == 0;
}

/* ---- Building: every descriptor is kept until the graph is done, the first failure stops it ---- */

struct builder {
    const struct ldk_cudnn *dnn;
    cudnnBackendDescriptor_t objects[OBJECTS_MAX];
    uint32_t count;
    bool failed;
    int64_t uid; /* of the next virtual tensor */
};

static cudnnBackendDescriptor_t make(struct builder *b, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t object = NULL;
    if (b->failed || b->count == OBJECTS_MAX ||
        b->dnn->cudnnBackendCreateDescriptor(type, &object) != CUDNN_STATUS_SUCCESS) {
        b->failed = true;
        return NULL;
    }
    b->objects[b->count++] = object;
    return object;
}

static void set(struct builder *b, cudnnBackendDescriptor_t object,
                cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                const void *values)
{
    if (!b->failed &&
        b->dnn->cudnnBackendSetAttribute(object, name, type, count, values) != CUDNN_STATUS_SUCCESS)
        b->failed = true;
}

static void set_object(struct builder *b, cudnnBackendDescriptor_t object,
                       cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t value)
{
    set(b, object, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static void finish(struct builder *b, cudnnBackendDescriptor_t object)
{
    if (!b->failed && b->dnn->cudnnBackendFinalize(object) != CUDNN_STATUS_SUCCESS)
        b->failed = true;
}

static void release(struct builder *b)
{
    while (b->count > 0)
        (void)b->dnn->cudnnBackendDestroyDescriptor(b->objects[--b->count]);
}

/* ---- The graph ------------------------------------------------------------------------------- */

struct shape {
    int64_t dims[DIMS], strides[DIMS];
};

/* N, C, H, W with the channel innermost. */
static struct shape nhwc(int32_t n, int32_t c, int32_t h, int32_t w)
{
    const int64_t row = (int64_t)w * c;
    return (struct shape){{n, c, h, w}, {row * h, 1, row, c}};
}

static cudnnBackendDescriptor_t tensor(struct builder *b, int64_t uid, cudnnDataType_t type,
                                       const struct shape *shape, bool is_virtual)
{
    const int64_t alignment = LDK_LIBS_ALIGN;
    cudnnBackendDescriptor_t t = make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(b, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(b, t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    set(b, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, DIMS, shape->dims);
    set(b, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, DIMS, shape->strides);
    set(b, t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    finish(b, t);
    return t;
}

static cudnnBackendDescriptor_t convolution(struct builder *b, const struct ldk_conv *c,
                                            cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t w,
                                            cudnnBackendDescriptor_t y)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t spatial = 2;
    const int64_t ones[2] = {1, 1};
    const int64_t strides[2] = {c->stride, c->stride};
    const int64_t before[2] = {c->pad_before, c->pad_before};
    /* The last row that the last output reads, beyond the map. */
    const int64_t after[2] = {(int64_t)(c->out_h - 1) * c->stride + 3 - c->pad_before - c->in_h,
                              (int64_t)(c->out_w - 1) * c->stride + 3 - c->pad_before - c->in_w};
    const double alpha = 1;
    const double beta = 0;
    cudnnBackendDescriptor_t d = make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set(b, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    set(b, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(b, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &spatial);
    set(b, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, ones);
    set(b, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
    set(b, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before);
    set(b, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, after);
    finish(b, d);
    cudnnBackendDescriptor_t op = make(b, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    set_object(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, d);
    set_object(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
    set_object(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w);
    set_object(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y);
    set(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_DOUBLE, 1, &alpha);
    set(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_DOUBLE, 1, &beta);
    finish(b, op);
    return op;
}

static cudnnBackendDescriptor_t addition(struct builder *b, cudnnBackendDescriptor_t x,
                                         cudnnBackendDescriptor_t addend,
                                         cudnnBackendDescriptor_t y)
{
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
    const cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t d = make(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(b, d, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(b, d, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &precision);
    finish(b, d);
    cudnnBackendDescriptor_t op = make(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_object(b, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, d);
    set_object(b, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    set_object(b, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, addend);
    set_object(b, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    finish(b, op);
    return op;
}

static cudnnBackendDescriptor_t build_graph(struct builder *b, const struct ldk_conv *c)
{
    const cudnnDataType_t type = c->dtype == LDK_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF;
    const struct shape in = nhwc(c->batch, c->c0, c->in_h, c->in_w);
    const struct shape weights = nhwc(c->w.rows, c->c0, 3, 3);
    const struct shape out = nhwc(c->batch, c->w.rows, c->out_h, c->out_w);
    const struct shape bias = nhwc(1, c->w.rows, 1, 1);
    struct shape row = nhwc(c->batch, c->w.rows, 1, 1);
    row.strides[0] = c->row_add_stride;
    cudnnBackendDescriptor_t ops[OPS_MAX];
    int64_t count = 0;
    b->uid = UID_VIRTUAL;
    cudnnBackendDescriptor_t sum = tensor(b, b->uid++, CUDNN_DATA_FLOAT, &out, true);
    ops[count++] = convolution(b, c, tensor(b, UID_X, type, &in, false),
                               tensor(b, UID_W, type, &weights, false), sum);
    /* Each addition reads the sum so far; the last one writes y. */
    cudnnBackendDescriptor_t addends[3];
    int32_t additions = 0;
    addends[additions++] = tensor(b, UID_BIAS, CUDNN_DATA_FLOAT, &bias, false);
    if (c->row_add)
        addends[additions++] = tensor(b, UID_ROW, CUDNN_DATA_FLOAT, &row, false);
    if (c->residual)
        addends[additions++] = tensor(b, UID_RESIDUAL, type, &out, false);
    for (int32_t i = 0; i < additions; i++) {
        const bool last = i + 1 == additions;
        cudnnBackendDescriptor_t y = last ? tensor(b, UID_Y, type, &out, false)
                                          : tensor(b, b->uid++, CUDNN_DATA_FLOAT, &out, true);
        ops[count++] = addition(b, sum, addends[i], y);
        sum = y;
    }
    cudnnBackendDescriptor_t graph = make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &b->dnn->handle);
    set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, ops);
    finish(b, graph);
    return graph;
}

/* ---- Engine configurations ------------------------------------------------------------------- */

struct config {
    int64_t engine;
    uint32_t knob_count;
    struct {
        int64_t type, value;
    } knobs[KNOBS_MAX];
};

/* "cudnn:ENGINE,TYPE=VALUE,..." */
static bool print_name(const struct config *config, char out[LDK_LIBS_NAME_SIZE])
{
    int used = snprintf(out, LDK_LIBS_NAME_SIZE, "%s%lld", prefix, (long long)config->engine);
    for (uint32_t i = 0; i < config->knob_count && used < LDK_LIBS_NAME_SIZE; i++)
        used += snprintf(out + used, (size_t)(LDK_LIBS_NAME_SIZE - used), ",%lld=%lld",
                         (long long)config->knobs[i].type, (long long)config->knobs[i].value);
    return used < LDK_LIBS_NAME_SIZE;
}

/* The number at *text up to one of `ends`, where *text then stands. */
static bool take_number(const char **text, const char *ends, int64_t *out)
{
    const size_t size = strcspn(*text, ends);
    const bool good = ld_parse_i64(ld_span_of(*text, size), out);
    *text += size;
    return good;
}

static bool parse_name(const char *name, struct config *config)
{
    const char *at = name + sizeof prefix - 1;
    memset(config, 0, sizeof *config);
    if (strncmp(name, prefix, sizeof prefix - 1) != 0 || !take_number(&at, ",", &config->engine))
        return false;
    while (*at++ == ',') {
        if (config->knob_count == KNOBS_MAX)
            return false;
        if (!take_number(&at, "=", &config->knobs[config->knob_count].type) || *at++ != '=' ||
            !take_number(&at, ",", &config->knobs[config->knob_count++].value))
            return false;
    }
    return true;
}

static bool get(const struct ldk_cudnn *dnn, cudnnBackendDescriptor_t object,
                cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                int64_t capacity, int64_t *count, void *values)
{
    return dnn->cudnnBackendGetAttribute(object, name, type, capacity, count, values) ==
               CUDNN_STATUS_SUCCESS &&
           *count <= capacity;
}

/* An engine that may add in another order the next time gives no picture twice, and sums are taken
 * in float32. */
static bool is_wanted(const struct ldk_cudnn *dnn, cudnnBackendDescriptor_t engine)
{
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t count = 0;
    bool good = get(dnn, engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                    CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes);
    for (int64_t i = 0; good && i < count; i++)
        good = notes[i] != CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC &&
               notes[i] != CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
    return good;
}

static bool read_knobs(const struct builder *b, cudnnBackendDescriptor_t from,
                       cudnnBackendDescriptor_t choices[KNOBS_MAX], struct config *config)
{
    int64_t count = 0;
    int64_t one = 0;
    bool good = get(b->dnn, from, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                    KNOBS_MAX, &count, choices);
    for (int64_t i = 0; good && i < count; i++) {
        cudnnBackendKnobType_t type;
        good = get(b->dnn, choices[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1,
                   &one, &type) &&
               get(b->dnn, choices[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &one,
                   &config->knobs[i].value);
        config->knobs[i].type = (int64_t)type;
    }
    config->knob_count = (uint32_t)count;
    return good;
}

/* What the heuristic proposes; false for what we cannot tell by a name, or do not want. */
static bool read_config(const struct ldk_cudnn *dnn, cudnnBackendDescriptor_t from,
                        struct config *config)
{
    struct builder b = {.dnn = dnn};
    cudnnBackendDescriptor_t engine = make(&b, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    cudnnBackendDescriptor_t choices[KNOBS_MAX];
    int64_t one = 0;
    for (int i = 0; i < KNOBS_MAX; i++)
        choices[i] = make(&b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    memset(config, 0, sizeof *config);
    const bool good = !b.failed &&
                      get(dnn, from, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                          &one, &engine) &&
                      get(dnn, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &one,
                          &config->engine) &&
                      is_wanted(dnn, engine) && read_knobs(&b, from, choices, config);
    release(&b);
    return good;
}

static cudnnBackendDescriptor_t build_config(struct builder *b, cudnnBackendDescriptor_t graph,
                                             const struct config *config)
{
    cudnnBackendDescriptor_t choices[KNOBS_MAX];
    cudnnBackendDescriptor_t engine = make(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    set_object(b, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    set(b, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &config->engine);
    finish(b, engine);
    for (uint32_t i = 0; i < config->knob_count; i++) {
        const cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)config->knobs[i].type;
        choices[i] = make(b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        set(b, choices[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        set(b, choices[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1,
            &config->knobs[i].value);
        finish(b, choices[i]);
    }
    cudnnBackendDescriptor_t built = make(b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    set_object(b, built, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (config->knob_count > 0)
        set(b, built, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
            config->knob_count, choices);
    finish(b, built);
    return built;
}

/* ---- Ways ------------------------------------------------------------------------------------ */

uint32_t ldk_libs_conv_ways(struct ldk_libs *libs, const struct ldk_conv *conv,
                            struct ldk_libs_way *out, uint32_t capacity)
{
    struct builder b = {.dnn = &libs->dnn};
    cudnnBackendDescriptor_t configs[CONFIGS_MAX];
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    int64_t found = 0;
    uint32_t count = 0;
    if (!plain_conv(libs, conv))
        return 0;
    cudnnBackendDescriptor_t graph = build_graph(&b, conv);
    cudnnBackendDescriptor_t heuristic = make(&b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_object(&b, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(&b, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    finish(&b, heuristic);
    for (int i = 0; i < CONFIGS_MAX; i++)
        configs[i] = make(&b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (!b.failed && libs->dnn.cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                        CUDNN_TYPE_BACKEND_DESCRIPTOR, CONFIGS_MAX,
                                                        &found, configs) != CUDNN_STATUS_SUCCESS)
        found = 0;
    for (int64_t i = 0; i < found && i < CONFIGS_MAX && count < capacity; i++) {
        struct config config;
        uint32_t known = 0;
        if (!read_config(&libs->dnn, configs[i], &config) || !print_name(&config, out[count].name))
            continue;
        while (strcmp(out[known].name, out[count].name) != 0) /* its own at the latest */
            known++;
        count += known == count;
    }
    release(&b);
    return count;
}

/* ---- Plans ----------------------------------------------------------------------------------- */

/* A finished plan that asks for no more than there is; it outlives its builder. */
static bool take_plan(struct builder *b, cudnnBackendDescriptor_t ready,
                      struct ldk_cudnn_plan *plan)
{
    int64_t got = 0;
    int64_t bytes = 0;
    if (b->failed ||
        !get(b->dnn, ready, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &got,
             &bytes) ||
        bytes > (int64_t)LDK_LIBS_WORKSPACE_BYTES)
        return false;
    plan->plan = ready;
    plan->workspace_bytes = bytes;
    for (uint32_t i = 0; i < b->count; i++) {
        if (b->objects[i] == ready)
            b->objects[i] = b->objects[--b->count];
    }
    return true;
}

static bool compile_plan(struct ldk_libs *libs, const struct ldk_conv *c,
                         const struct config *config, struct ldk_cudnn_plan *plan)
{
    struct builder b = {.dnn = &libs->dnn};
    cudnnBackendDescriptor_t built = build_config(&b, build_graph(&b, c), config);
    cudnnBackendDescriptor_t ready = make(&b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set(&b, ready, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &libs->dnn.handle);
    set_object(&b, ready, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, built);
    finish(&b, ready);
    plan->compiled = take_plan(&b, ready, plan);
    release(&b);
    return plan->compiled;
}

/* What cuDNN has made of a file is the engine that we asked for, every knob as we set it. */
static bool is_config(struct builder *b, cudnnBackendDescriptor_t ready,
                      const struct config *config)
{
    struct config found;
    int64_t one = 0;
    cudnnBackendDescriptor_t built = make(b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (b->failed ||
        !get(b->dnn, ready, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR,
             1, &one, &built) ||
        !read_config(b->dnn, built, &found) || found.engine != config->engine)
        return false;
    for (uint32_t i = 0; i < config->knob_count; i++) {
        uint32_t k = 0;
        while (k < found.knob_count && (found.knobs[k].type != config->knobs[i].type ||
                                        found.knobs[k].value != config->knobs[i].value))
            k++;
        if (k == found.knob_count)
            return false;
    }
    return true;
}

static bool store_key(const struct ldk_libs *libs, const struct ldk_cudnn_plan *plan,
                      char out[LDK_PLAN_KEY_SIZE])
{
    return ld_fmt(out, LDK_PLAN_KEY_SIZE, "%s, cudnn %d, graph %s: %s", libs->device,
                  libs->info.cudnn, LDK_CONV_ID, plan->key);
}

/* cuDNN refuses another version's and another GPU's plans, but looks at no checksum: the store
 * does. */
static bool load_plan(struct ldk_libs *libs, const struct config *config,
                      struct ldk_cudnn_plan *plan)
{
    struct builder b = {.dnn = &libs->dnn};
    struct ld_buffer file = ld_buffer_make(LDK_PLAN_FILE_BYTES_MAX);
    struct ld_span text;
    char key[LDK_PLAN_KEY_SIZE];
    bool good = store_key(libs, plan, key) && ldk_plan_store_read(&libs->store, key, &file, &text);
    if (good) {
        cudnnBackendDescriptor_t ready = make(&b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        set(&b, ready, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
            (int64_t)text.size, text.data);
        set(&b, ready, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &libs->dnn.handle);
        finish(&b, ready);
        good = !b.failed && is_config(&b, ready, config) && take_plan(&b, ready, plan);
    }
    release(&b);
    ld_buffer_deinit(&file);
    return good;
}

/* Engines that cannot be written down are compiled each time. */
static void keep_plan(struct ldk_libs *libs, struct ldk_cudnn_plan *plan)
{
    char key[LDK_PLAN_KEY_SIZE];
    int64_t bytes = 0;
    char *text = NULL;
    plan->compiled = false; /* tried once */
    if (!libs->store.folder[0] || !store_key(libs, plan, key) ||
        libs->dnn.cudnnBackendGetAttribute(
            plan->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, &bytes,
            NULL) != CUDNN_STATUS_SUCCESS ||
        bytes <= 0 || bytes > LDK_PLAN_BYTES_MAX)
        return;
    text = ld_heap_alloc((size_t)bytes);
    if (text && get(&libs->dnn, plan->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                    CUDNN_TYPE_CHAR, bytes, &bytes, text))
        ldk_plan_store_write(&libs->store, key, ld_span_of(text, (size_t)bytes));
    ld_heap_free(text);
}

/* Who makes room: the least recently used, and first of those that only the tuner used. */
static bool goes_before(const struct ldk_cudnn_plan *a, const struct ldk_cudnn_plan *b)
{
    return a->recorded != b->recorded ? b->recorded : a->used < b->used;
}

/* A plan for this way and shape, made if there is none. */
static struct ldk_cudnn_plan *plan_for(struct ldk_libs *libs, const struct ldk_libs_way *way,
                                       const struct config *config, const struct ldk_conv *c)
{
    struct ldk_cudnn_plan *first = NULL;
    char key[sizeof first->key];
    if (!ld_fmt(key, sizeof key, "%s %d %d %dx%d %dx%d %d %d s%d p%d r%d %d%d", way->name,
                (int)c->dtype, c->batch, c->in_h, c->in_w, c->out_h, c->out_w, c->c0, c->w.rows,
                c->stride, c->pad_before, c->row_add_stride, c->row_add != NULL,
                c->residual != NULL))
        return NULL;
    if (!libs->plans)
        libs->plans = ld_heap_calloc(LDK_LIBS_PLANS_MAX, sizeof *libs->plans);
    if (!libs->plans)
        return NULL;
    for (uint32_t i = 0; i < libs->plan_count; i++) {
        struct ldk_cudnn_plan *plan = &libs->plans[i];
        if (strcmp(plan->key, key) == 0) {
            plan->used = ++libs->clock;
            return plan;
        }
        if (!first || goes_before(plan, first))
            first = plan;
    }
    struct ldk_cudnn_plan *plan =
        libs->plan_count < LDK_LIBS_PLANS_MAX ? &libs->plans[libs->plan_count++] : first;
    libs->plans_lost += plan->recorded;
    if (plan->plan)
        (void)libs->dnn.cudnnBackendDestroyDescriptor(plan->plan);
    memset(plan, 0, sizeof *plan);
    memcpy(plan->key, key, sizeof key);
    plan->used = ++libs->clock;
    plan->refused = !load_plan(libs, config, plan) && !compile_plan(libs, c, config, plan);
    return plan;
}

static bool execute(struct ldk_libs *libs, const struct ldk_cudnn_plan *plan,
                    const struct ldk_conv *c, void *workspace)
{
    struct builder b = {.dnn = &libs->dnn};
    int64_t uids[TENSORS_MAX] = {UID_X, UID_W, UID_BIAS, UID_Y};
    const void *data[TENSORS_MAX] = {c->x0, c->w.data, c->w.bias, c->y};
    int64_t count = 4;
    if (c->row_add) {
        uids[count] = UID_ROW;
        data[count++] = c->row_add;
    }
    if (c->residual) {
        uids[count] = UID_RESIDUAL;
        data[count++] = c->residual;
    }
    cudnnBackendDescriptor_t pack = make(&b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, data);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, uids);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    finish(&b, pack);
    const bool ok = !b.failed && libs->dnn.cudnnBackendExecute(libs->dnn.handle, plan->plan,
                                                               pack) == CUDNN_STATUS_SUCCESS;
    release(&b);
    return ok;
}

int ldk_libs_conv(struct ldk_libs *libs, const struct ldk_libs_way *way,
                  const struct ldk_conv *conv, ldk_stream stream)
{
    struct config config;
    void *workspace;
    if (!parse_name(way->name, &config))
        return LDK_E_INVALID;
    if (!plain_conv(libs, conv) || !is_aligned(conv))
        return LDK_E_UNSUPPORTED;
    struct ldk_cudnn_plan *plan = plan_for(libs, way, &config, conv);
    if (!plan || plan->refused)
        return LDK_E_UNSUPPORTED;
    plan->recorded = plan->recorded || stream; /* the tuner measures on the default stream */
    if (plan->recorded && plan->compiled)
        keep_plan(libs, plan);
    const int code = ldk_libs_workspace(libs, &workspace);
    if (code != LDK_OK)
        return code;
    if (libs->dnn.cudnnSetStream(libs->dnn.handle, (cudaStream_t)stream) != CUDNN_STATUS_SUCCESS)
        return LDK_E_UNSUPPORTED;
    return execute(libs, plan, conv, workspace) ? LDK_OK : LDK_E_UNSUPPORTED;
}

uint64_t ldk_libs_plans_lost(const struct ldk_libs *libs)
{
    return libs->plans_lost;
}

void ldk_libs_conv_deinit(struct ldk_libs *libs)
{
    for (uint32_t i = 0; i < libs->plan_count; i++) {
        if (libs->plans[i].plan)
            (void)libs->dnn.cudnnBackendDestroyDescriptor(libs->plans[i].plan);
    }
    ld_heap_free(libs->plans);
    libs->plans = NULL;
    libs->plan_count = 0;
}

#else

uint32_t ldk_libs_conv_ways(struct ldk_libs *libs, const struct ldk_conv *conv,
                            struct ldk_libs_way *out, uint32_t capacity)
{
    (void)libs;
    (void)conv;
    (void)out;
    (void)capacity;
    return 0;
}

int ldk_libs_conv(struct ldk_libs *libs, const struct ldk_libs_way *way,
                  const struct ldk_conv *conv, ldk_stream stream)
{
    (void)libs;
    (void)way;
    (void)conv;
    (void)stream;
    return LDK_E_UNSUPPORTED;
}

uint64_t ldk_libs_plans_lost(const struct ldk_libs *libs)
{
    (void)libs;
    return 0;
}

void ldk_libs_conv_deinit(struct ldk_libs *libs)
{
    (void)libs;
}

#endif
