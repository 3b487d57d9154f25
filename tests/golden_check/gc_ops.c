/* Golden cases of single operators (ops.json) and of the weight generator. Operators run on the
 * backend through kernels/ops.h, inputs and results cross by planes_in and planes_out. */
#include "tests/golden_check/gc_model_kinds.h"
#include "tests/golden_check/gc_models.h"
#include "tests/tools/genweights.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 256 };
static const double TOLERANCE = 2e-6;
static const double WIDE_TOLERANCE = 5e-6; /* attention and convolutions */

/* One case: device memory is remembered and freed at its end. */
struct op_case {
    struct gc *gc;
    struct gc_tensors *tensors;
    const json_t *item;
    const char *id;
    struct ld_backend *backend;
    struct {
        void *memory;
        size_t bytes;
    } blocks[16];
    uint32_t block_count;
    struct ld_weight *weights[8];
    uint32_t weight_count;
    struct ld_error err;
};

/* ---- Memory ---------------------------------------------------------------------------------- */

static void *device_memory(struct op_case *c, size_t count)
{
    const size_t bytes = count * ld_dtype_size(c->backend->act_dtype);
    void *memory = NULL;
    if (c->block_count == 16 ||
        c->backend->ops->memory_alloc(c->backend, bytes, &memory, &c->err) != LD_OK)
        return NULL;
    c->blocks[c->block_count].memory = memory;
    c->blocks[c->block_count++].bytes = bytes;
    return memory;
}

/* Tensor `name` on the device. [B, C, H, W] becomes NHWC, lower ranks are copied as rows. */
static void *upload(struct op_case *c, const char *name, struct gc_array *shape)
{
    float *values = gc_floats(c->tensors, c->id, name, shape);
    void *memory = values ? device_memory(c, shape->count) : NULL;
    struct ld_planes_in in = {
        .planes = values, .batch = 1, .channels = 1, .height = 1, .width = (int32_t)shape->count};
    if (shape->rank == 4) {
        in.batch = (int32_t)shape->shape[0];
        in.channels = (int32_t)shape->shape[1];
        in.height = (int32_t)shape->shape[2];
        in.width = (int32_t)shape->shape[3];
    }
    in.y = memory;
    if (memory && c->backend->ops->planes_in(c->backend, &in, &c->err) != LD_OK)
        memory = NULL;
    free(values);
    return memory;
}

/* Compare [batch, h, w, channels] on the device with tensor `name`; channels 0: plain rows. */
static void compare(struct op_case *c, const char *name, const void *y, const int32_t nhwc[4],
                    double tolerance)
{
    char full[NAME_SIZE];
    const size_t count = (size_t)nhwc[0] * (size_t)nhwc[1] * (size_t)nhwc[2] * (size_t)nhwc[3];
    float *values = calloc(count, sizeof *values);
    const struct ld_planes_out out = {.x = y,
                                      .batch = nhwc[0],
                                      .channels = nhwc[3],
                                      .height = nhwc[1],
                                      .width = nhwc[2],
                                      .planes = values};
    double error = (double)INFINITY;
    if (values && y && c->backend->ops->planes_out(c->backend, &out, &c->err) == LD_OK)
        error = gc_distance(c->tensors, c->id, name, values, count);
    gc_report(c->gc, gc_join(full, sizeof full, c->id, name), error, tolerance);
    free(values);
}

static void compare_rows(struct op_case *c, const char *name, const void *y, size_t count,
                         double tolerance)
{
    compare(c, name, y, (const int32_t[4]){1, 1, (int32_t)count, 1}, tolerance);
}

static struct ld_weight *make_weight(struct op_case *c, enum ld_weight_kind kind, const char *name,
                                     const char *bias_name)
{
    struct gc_array shape;
    struct gc_array bias_shape;
    float *values = gc_floats(c->tensors, c->id, name, &shape);
    float *bias = bias_name ? gc_floats(c->tensors, c->id, bias_name, &bias_shape) : NULL;
    struct ld_weight *weight = NULL;
    const struct ld_weight_desc desc = {.kind = kind,
                                        .rows = (int32_t)shape.shape[0],
                                        .k = shape.rank > 1 ? (int32_t)shape.shape[1] : 1,
                                        .kernel = shape.rank == 4 ? (int32_t)shape.shape[2] : 1,
                                        .part_count = 1,
                                        .parts = {{.data = values, .dtype = LD_DTYPE_F32}},
                                        .bias = {{.data = bias, .dtype = LD_DTYPE_F32}}};
    if (values && c->weight_count < 8 &&
        c->backend->ops->weight_create(c->backend, &desc, &weight, &c->err) == LD_OK)
        c->weights[c->weight_count++] = weight;
    free(bias);
    free(values);
    return weight;
}

static void end_case(struct op_case *c)
{
    for (uint32_t i = 0; i < c->block_count; i++)
        c->backend->ops->memory_free(c->backend, c->blocks[i].memory, c->blocks[i].bytes);
    for (uint32_t i = 0; i < c->weight_count; i++)
        c->backend->ops->weight_destroy(c->backend, c->weights[i]);
}

static int32_t integer_of(const struct op_case *c, const char *field)
{
    return (int32_t)json_integer_value(json_object_get(c->item, field));
}

/* ---- Operators ------------------------------------------------------------------------------- */

static void check_group_norm(struct op_case *c)
{
    struct gc_array shape;
    const void *x = upload(c, "x", &shape);
    struct ld_group_norm op = {.x0 = x,
                               .c0 = (int32_t)shape.shape[1],
                               .batch = (int32_t)shape.shape[0],
                               .positions = (int32_t)(shape.shape[2] * shape.shape[3]),
                               .groups = integer_of(c, "groups"),
                               .epsilon = (float)json_number_value(json_object_get(c->item, "eps")),
                               .gamma = make_weight(c, LD_WEIGHT_VECTOR, "weight", NULL),
                               .beta = make_weight(c, LD_WEIGHT_VECTOR, "bias", NULL),
                               .y = device_memory(c, shape.count)};
    const int32_t nhwc[4] = {op.batch, (int32_t)shape.shape[2], (int32_t)shape.shape[3], op.c0};
    for (int silu = 0; silu < 2; silu++) {
        op.silu = silu == 1;
        const bool ok = x && op.y && op.gamma && op.beta &&
                        c->backend->ops->group_norm(c->backend, &op, &c->err) == LD_OK;
        compare(c, silu ? "y_silu" : "y", ok ? op.y : NULL, nhwc, TOLERANCE);
    }
}

static void check_layer_norm(struct op_case *c)
{
    struct gc_array shape;
    const void *x = upload(c, "x", &shape);
    const int32_t channels = (int32_t)shape.shape[shape.rank - 1];
    const struct ld_layer_norm op = {.x = x,
                                     .rows = (int32_t)(shape.count / (size_t)channels),
                                     .channels = channels,
                                     .epsilon =
                                         (float)json_number_value(json_object_get(c->item, "eps")),
                                     .gamma = make_weight(c, LD_WEIGHT_VECTOR, "weight", NULL),
                                     .beta = make_weight(c, LD_WEIGHT_VECTOR, "bias", NULL),
                                     .y = device_memory(c, shape.count)};
    const bool ok = x && op.y && op.gamma && op.beta &&
                    c->backend->ops->layer_norm(c->backend, &op, &c->err) == LD_OK;
    compare_rows(c, "y", ok ? op.y : NULL, shape.count, TOLERANCE);
}

/* The exact gelu has no operator of its own; it is checked inside GEGLU. */
static void check_activations(struct op_case *c)
{
    static const struct {
        const char *name;
        enum ld_activation activation;
    } rows[] = {{"silu", LD_ACT_SILU}, {"quick_gelu", LD_ACT_QUICK_GELU}};
    struct gc_array shape;
    const void *x = upload(c, "x", &shape);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct ld_map op = {.x = x,
                                  .count = (int64_t)shape.count,
                                  .activation = rows[i].activation,
                                  .y = device_memory(c, shape.count)};
        const bool ok = x && op.y && c->backend->ops->map(c->backend, &op, &c->err) == LD_OK;
        compare_rows(c, rows[i].name, ok ? op.y : NULL, shape.count, TOLERANCE);
    }
}

/* A one-input GEGLU with value weight 0 and bias 1: its result is the exact gelu of its input. */
static void check_gelu(struct op_case *c)
{
    struct gc_array shape;
    const void *x = upload(c, "x", &shape);
    const float matrix[2] = {0, 1};
    const float bias[2] = {1, 0};
    const struct ld_weight_desc desc = {.kind = LD_WEIGHT_GEGLU,
                                        .rows = 2,
                                        .k = 1,
                                        .kernel = 1,
                                        .part_count = 1,
                                        .parts = {{.data = matrix, .dtype = LD_DTYPE_F32}},
                                        .bias = {{.data = bias, .dtype = LD_DTYPE_F32}}};
    struct ld_linear op = {.x0 = x,
                           .c0 = 1,
                           .rows = (int32_t)shape.count,
                           .rows_per_image = (int32_t)shape.count,
                           .activation = LD_ACT_GEGLU,
                           .y = device_memory(c, shape.count)};
    struct ld_weight *weight = NULL;
    bool ok =
        x && op.y && c->backend->ops->weight_create(c->backend, &desc, &weight, &c->err) == LD_OK;
    if (ok) {
        c->weights[c->weight_count++] = weight;
        op.weight = weight;
        ok = c->backend->ops->linear(c->backend, &op, &c->err) == LD_OK;
    }
    compare_rows(c, "gelu_erf", ok ? op.y : NULL, shape.count, TOLERANCE);
}

static void check_timestep(struct op_case *c)
{
    static const int32_t dims[2] = {320, 32};
    struct gc_array shape;
    float *t = gc_floats(c->tensors, c->id, "t", &shape);
    for (int i = 0; t && i < 2; i++) {
        char name[16];
        snprintf(name, sizeof name, "y%d", (int)dims[i]);
        const size_t count = shape.count * (size_t)dims[i];
        const struct ld_timestep op = {
            .t = t, .batch = (int32_t)shape.count, .dim = dims[i], .y = device_memory(c, count)};
        const bool ok = op.y && c->backend->ops->timestep(c->backend, &op, &c->err) == LD_OK;
        compare_rows(c, name, ok ? op.y : NULL, count, TOLERANCE);
    }
    free(t);
}

static void check_attention(struct op_case *c)
{
    struct gc_array q;
    struct gc_array k;
    struct gc_array v;
    const int32_t heads = integer_of(c, "heads");
    const int32_t head_dim = integer_of(c, "head_dim");
    const int32_t width = heads * head_dim;
    struct ld_attention op = {.q = upload(c, "q", &q),
                              .k = upload(c, "k", &k),
                              .v = upload(c, "v", &v),
                              .q_stride = width,
                              .k_stride = width,
                              .v_stride = width,
                              .o_stride = width,
                              .heads = heads,
                              .head_dim = head_dim,
                              .scale = (float)(1.0 / sqrt((double)head_dim)),
                              .causal = json_is_true(json_object_get(c->item, "causal"))};
    op.batch = (int32_t)q.shape[0];
    op.q_rows = (int32_t)q.shape[1];
    op.kv_rows = (int32_t)k.shape[1];
    op.o = device_memory(c, q.count);
    const bool ok = op.q && op.k && op.v && op.o &&
                    c->backend->ops->attention(c->backend, &op, &c->err) == LD_OK;
    compare_rows(c, "y", ok ? op.o : NULL, q.count, WIDE_TOLERANCE);
}

static void check_conv(struct op_case *c)
{
    struct gc_array x;
    struct gc_array y;
    const char *pad = json_string_value(json_object_get(c->item, "pad"));
    const bool end_only = pad && strcmp(pad, "right_bottom_1") == 0;
    const int32_t padding = pad && strcmp(pad, "0") != 0 ? 1 : 0;
    free(gc_floats(c->tensors, c->id, "y", &y));
    struct ld_conv2d op = {.x0 = upload(c, "x", &x),
                           .stride = integer_of(c, "stride"),
                           .pad_before = end_only ? 0 : padding,
                           .pad_after = padding,
                           .weight = make_weight(c, LD_WEIGHT_CONV, "weight", "bias")};
    op.batch = (int32_t)x.shape[0];
    op.c0 = (int32_t)x.shape[1];
    op.in_h = (int32_t)x.shape[2];
    op.in_w = (int32_t)x.shape[3];
    op.y = device_memory(c, y.count);
    const bool ok =
        op.x0 && op.weight && op.y && c->backend->ops->conv2d(c->backend, &op, &c->err) == LD_OK;
    compare(c, "y", ok ? op.y : NULL,
            (const int32_t[4]){(int32_t)y.shape[0], (int32_t)y.shape[2], (int32_t)y.shape[3],
                               (int32_t)y.shape[1]},
            WIDE_TOLERANCE);
}

/* Upsampling exists inside a convolution: an identity 1x1 kernel shows it bare. */
static void check_upsample(struct op_case *c)
{
    static const char *const names[2] = {"y2x", "y9x13"};
    const float identity[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    const struct ld_weight_desc desc = {.kind = LD_WEIGHT_CONV,
                                        .rows = 3,
                                        .k = 3,
                                        .kernel = 1,
                                        .part_count = 1,
                                        .parts = {{.data = identity, .dtype = LD_DTYPE_F32}}};
    struct gc_array x;
    const void *x0 = upload(c, "x", &x);
    struct ld_weight *weight = NULL;
    const bool made =
        x0 && c->backend->ops->weight_create(c->backend, &desc, &weight, &c->err) == LD_OK;
    if (made)
        c->weights[c->weight_count++] = weight;
    for (int i = 0; i < 2; i++) {
        struct gc_array y;
        free(gc_floats(c->tensors, c->id, names[i], &y));
        const struct ld_conv2d op = {.x0 = x0,
                                     .c0 = 3,
                                     .batch = (int32_t)x.shape[0],
                                     .in_h = (int32_t)x.shape[2],
                                     .in_w = (int32_t)x.shape[3],
                                     .up_h = (int32_t)y.shape[2],
                                     .up_w = (int32_t)y.shape[3],
                                     .stride = 1,
                                     .weight = weight,
                                     .y = device_memory(c, y.count)};
        const bool ok = made && op.y && c->backend->ops->conv2d(c->backend, &op, &c->err) == LD_OK;
        compare(c, names[i], ok ? op.y : NULL, (const int32_t[4]){op.batch, op.up_h, op.up_w, 3},
                TOLERANCE);
    }
}

static void check_geglu(struct op_case *c)
{
    struct gc_array x;
    struct gc_array y;
    free(gc_floats(c->tensors, c->id, "y", &y));
    const void *x0 = upload(c, "x", &x);
    const int32_t channels = (int32_t)x.shape[x.rank - 1];
    const struct ld_linear op = {.x0 = x0,
                                 .c0 = channels,
                                 .rows = (int32_t)(x.count / (size_t)channels),
                                 .rows_per_image = (int32_t)x.shape[1],
                                 .activation = LD_ACT_GEGLU,
                                 .weight = make_weight(c, LD_WEIGHT_GEGLU, "weight", "bias"),
                                 .y = device_memory(c, y.count)};
    const bool ok =
        x0 && op.weight && op.y && c->backend->ops->linear(c->backend, &op, &c->err) == LD_OK;
    compare_rows(c, "y", ok ? op.y : NULL, y.count, TOLERANCE);
}

void gc_run_ops(struct gc *gc, const char *root, const char *path)
{
    static const struct {
        const char *op;
        void (*check)(struct op_case *c);
    } rows[] = {{"group_norm", check_group_norm},
                {"layer_norm", check_layer_norm},
                {"activations", check_activations},
                {"activations", check_gelu},
                {"timestep_embedding", check_timestep},
                {"attention", check_attention},
                {"conv2d", check_conv},
                {"upsample_nearest", check_upsample},
                {"geglu", check_geglu}};
    struct gc_case_file file;
    struct ld_backend *backend = gc_backend(gc);
    if (backend && backend->act_dtype != LD_DTYPE_F32)
        return; /* these call operators on host memory; the kernels have tests of their own */
    if (!backend || !gc_case_file_open(gc, root, path, &file))
        return;
    for (size_t i = 0; i < json_array_size(file.cases); i++) {
        const json_t *item = json_array_get(file.cases, i);
        const char *op = json_string_value(json_object_get(item, "op"));
        const char *id = json_string_value(json_object_get(item, "id"));
        bool known = false;
        for (size_t r = 0; op && id && r < sizeof rows / sizeof rows[0]; r++) {
            if (strcmp(op, rows[r].op) != 0)
                continue;
            struct op_case c = {
                .gc = gc, .tensors = file.tensors, .item = item, .id = id, .backend = backend};
            rows[r].check(&c);
            end_case(&c);
            known = true;
        }
        if (!known)
            gc_fail(gc, id ? id : path, "an operator that this check does not know");
    }
    gc_case_file_close(&file);
}

/* ---- The weight generator -------------------------------------------------------------------- */

static bool generator_entry_ok(const json_t *entry)
{
    struct ld_key key = {.name = json_string_value(json_object_get(entry, "name"))};
    const json_t *shape = json_object_get(entry, "shape");
    const json_t *first = json_object_get(entry, "first8");
    const json_t *bits = json_object_get(entry, "bits_first4");
    size_t count = 1;
    key.rank = (int32_t)json_array_size(shape);
    for (int32_t d = 0; d < key.rank && d < 4; d++) {
        key.shape[d] = json_integer_value(json_array_get(shape, (size_t)d));
        count *= (size_t)key.shape[d];
    }
    uint16_t *values = calloc(count, sizeof *values);
    if (!key.name || !values) {
        free(values);
        return false;
    }
    ld_genweights_fill(NULL, &key, 0, count, values);
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)ld_f16_to_f32(values[i]);
    /* The stored sum was taken in another order of additions. */
    const double expected = json_number_value(json_object_get(entry, "sum"));
    bool ok = fabs(sum - expected) <= 1e-9 * (double)count;
    ok = ok && (double)ld_f16_to_f32(values[count - 1]) ==
                   json_number_value(json_object_get(entry, "last"));
    for (size_t i = 0; ok && i < json_array_size(first) && i < count; i++)
        ok = (double)ld_f16_to_f32(values[i]) == json_number_value(json_array_get(first, i));
    for (size_t i = 0; ok && i < json_array_size(bits) && i < count; i++) {
        char text[8];
        snprintf(text, sizeof text, "%04x", values[i]);
        ok = strcmp(text, json_string_value(json_array_get(bits, i))) == 0;
    }
    free(values);
    return ok;
}

void gc_run_generator(struct gc *gc, const char *root, const char *path)
{
    char name[NAME_SIZE];
    const char *key;
    json_t *value;
    (void)root;
    json_t *json = json_load_file(path, 0, NULL);
    json_t *hashes = json_object_get(json, "fnv1a64");
    const json_t *entries = json_object_get(json, "full_check");
    if (!hashes || !entries)
        gc_fail(gc, path, "the check values cannot be read");
    json_object_foreach(hashes, key, value)
    {
        char text[24];
        snprintf(text, sizeof text, "%016" PRIx64, ld_genweights_hash(key));
        gc_exact(gc, gc_join(name, sizeof name, "generator/hash", key),
                 json_is_string(value) && strcmp(text, json_string_value(value)) == 0);
    }
    for (size_t i = 0; i < json_array_size(entries); i++) {
        const json_t *entry = json_array_get(entries, i);
        const char *tensor = json_string_value(json_object_get(entry, "name"));
        gc_exact(gc, gc_join(name, sizeof name, "generator/values", tensor ? tensor : "unnamed"),
                 generator_entry_ok(entry));
    }
    json_decref(json);
}
