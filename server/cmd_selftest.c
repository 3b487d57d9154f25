/*
 * `latentd selftest [--json] [--backend WORD]`: which backends this program and this machine have,
 * and whether each computes rightly: a small convolution, a norm, an attention and a matrix product
 * against plain loops in double precision. What is not there is said, with what would be needed; a
 * failure only where it was asked for by name.
 */
#include "runtime/base/buffer.h"
#include "runtime/gpu/device.h"
#include "runtime/model/graph_layers.h"
#include "runtime/model/graph_run.h"
#include "server/cmd.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { JSON_MAX = 16 << 10, C = 64, SIDE = 8, HEADS = 2, KERNEL = 9, POSITIONS = SIDE * SIDE };

/* ---- The computation ------------------------------------------------------------------------- */

/* y = attention(qkv(group_norm(conv(x)))), all of width C; weights from one formula. */

static float value_at(uint32_t seed, size_t i)
{
    uint64_t z = (seed * 0x9E3779B97F4A7C15U) ^ (i * 0xBF58476D1CE4E5B9U);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    /* Multiples of 2^-10 below one: exact in fp16, and nearly so in bf16. */
    return (float)((int32_t)(z >> 53) - 1024) / 1024.0F;
}

struct operands {
    float x[C * POSITIONS]; /* planes [C, H, W] */
    float conv[C * C * KERNEL], conv_bias[C];
    float gamma[C], beta[C];
    float qkv[3][C * C];
};

static void fill(float *values, size_t count, uint32_t seed, double scale)
{
    for (size_t i = 0; i < count; i++)
        values[i] = (float)((double)value_at(seed, i) * scale);
}

static void make_operands(struct operands *o)
{
    fill(o->x, C * POSITIONS, 1, 1);
    fill(o->conv, C * C * KERNEL, 2, 0.0625);
    fill(o->conv_bias, C, 3, 1);
    fill(o->gamma, C, 4, 1);
    fill(o->beta, C, 5, 1);
    for (uint32_t p = 0; p < 3; p++)
        fill(o->qkv[p], (size_t)C * C, 6 + p, 0.25);
}

/* ---- In plain loops -------------------------------------------------------------------------- */

static double conv_at(const struct operands *o, int32_t c, int32_t y, int32_t x)
{
    double sum = (double)o->conv_bias[c];
    for (int32_t i = 0; i < C; i++)
        for (int32_t t = 0; t < KERNEL; t++) {
            const int32_t iy = y + t / 3 - 1;
            const int32_t ix = x + t % 3 - 1;
            if (iy >= 0 && iy < SIDE && ix >= 0 && ix < SIDE)
                sum += (double)o->conv[(c * C + i) * KERNEL + t] *
                       (double)o->x[i * POSITIONS + iy * SIDE + ix];
        }
    return sum;
}

/* 32 groups of two channels. */
static void normalise(const struct operands *o, double *h)
{
    enum { PER_GROUP = C / 32 };
    for (int32_t g = 0; g < 32; g++) {
        double sum = 0;
        double squares = 0;
        for (int32_t k = 0; k < PER_GROUP * POSITIONS; k++)
            sum += h[g * PER_GROUP * POSITIONS + k];
        const double mean = sum / (PER_GROUP * POSITIONS);
        for (int32_t k = 0; k < PER_GROUP * POSITIONS; k++) {
            const double d = h[g * PER_GROUP * POSITIONS + k] - mean;
            squares += d * d;
        }
        const double rstd = 1 / sqrt(squares / (PER_GROUP * POSITIONS) + 1e-5);
        for (int32_t k = 0; k < PER_GROUP * POSITIONS; k++) {
            const int32_t at = g * PER_GROUP * POSITIONS + k;
            const int32_t c = at / POSITIONS;
            h[at] = (h[at] - mean) * rstd * (double)o->gamma[c] + (double)o->beta[c];
        }
    }
}

static double project(const struct operands *o, const double *h, int32_t part, int32_t p, int32_t n)
{
    double sum = 0;
    for (int32_t k = 0; k < C; k++)
        sum += (double)o->qkv[part][n * C + k] * h[k * POSITIONS + p];
    return sum;
}

static void attend(const double *q, const double *k, const double *v, double *out)
{
    enum { WIDTH = C / HEADS };
    for (int32_t at = 0; at < POSITIONS * HEADS; at++) {
        double weights[POSITIONS];
        double sum = 0;
        const int32_t first = at % HEADS * WIDTH;
        const int32_t i = at / HEADS;
        for (int32_t j = 0; j < POSITIONS; j++) {
            double score = 0;
            for (int32_t d = first; d < first + WIDTH; d++)
                score += q[i * C + d] * k[j * C + d];
            sum += weights[j] = exp(score / sqrt((double)WIDTH));
        }
        for (int32_t d = first; d < first + WIDTH; d++) {
            double value = 0;
            for (int32_t j = 0; j < POSITIONS; j++)
                value += weights[j] / sum * v[j * C + d];
            out[d * POSITIONS + i] = value;
        }
    }
}

/* out: planes [C, H, W] */
static void compute_plainly(const struct operands *o, double *out)
{
    static double h[C * POSITIONS];
    static double qkv[3][POSITIONS * C];
    for (int32_t at = 0; at < C * POSITIONS; at++)
        h[at] = conv_at(o, at / POSITIONS, at % POSITIONS / SIDE, at % SIDE);
    normalise(o, h);
    for (int32_t part = 0; part < 3; part++)
        for (int32_t at = 0; at < POSITIONS * C; at++)
            qkv[part][at] = project(o, h, part, at / C, at % C);
    attend(qkv[0], qkv[1], qkv[2], out);
}

/* ---- On a backend ---------------------------------------------------------------------------- */

static void build(struct ld_graph *graph)
{
    static const char *const names[] = {"q", "k", "v"};
    int32_t h = ld_graph_planes_in(graph, LD_PORT_X, LD_PORT_NONE, 1, C, SIDE, SIDE);
    h = ld_graph_conv(graph, "conv", &(struct ld_conv_args){.x0 = h, .channels = C});
    h = ld_graph_group_norm(graph, "norm", h, LD_GRAPH_NONE, 1e-5, false);
    h = ld_graph_linear_stack(graph, names, 3,
                              &(struct ld_linear_args){.x0 = h, .channels = C, .no_bias = true});
    h = ld_graph_attention(graph, &(struct ld_attention_args){.q = {h, 0, 0},
                                                              .k = {h, C, 0},
                                                              .v = {h, 2 * C, 0},
                                                              .heads = HEADS,
                                                              .head_dim = C / HEADS});
    ld_graph_planes_out(graph, h, LD_PORT_OUT);
}

static void set_part(struct ld_weight_part *part, const float *data)
{
    part->data = data;
    part->dtype = LD_DTYPE_F32;
}

/* The data behind a slot, by its first tensor's name. */
static void describe(const struct operands *o, const struct ld_weight_slot *slot,
                     struct ld_weight_desc *desc)
{
    const char *name = slot->parts[0].weight;
    *desc = ld_weight_slot_desc(slot);
    if (slot->kind == LD_WEIGHT_CONV) {
        set_part(&desc->parts[0], o->conv);
        set_part(&desc->bias[0], o->conv_bias);
    } else if (slot->kind == LD_WEIGHT_LINEAR) {
        for (int p = 0; p < 3; p++)
            set_part(&desc->parts[p], o->qkv[p]);
    } else {
        set_part(&desc->parts[0], strcmp(name, "norm.weight") == 0 ? o->gamma : o->beta);
    }
}

static enum ld_code pack(struct ld_backend *backend, const struct operands *o,
                         const struct ld_weight_layout *layout, struct ld_weight_pack *pack,
                         struct ld_weight **weights, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    pack->weights = weights;
    for (; code == LD_OK && pack->count < layout->count; pack->count += code == LD_OK ? 1 : 0) {
        struct ld_weight_desc desc;
        describe(o, &layout->slots[pack->count], &desc);
        code = backend->ops->weight_create(backend, &desc, &weights[pack->count], err);
    }
    return code;
}

/* Three runs: a GPU walks a plan, records it and replays it. */
static enum ld_code compute(struct ld_backend *backend, const struct operands *o, float *out,
                            struct ld_error *err)
{
    struct ld_weight_layout layout;
    struct ld_graph graph;
    struct ld_workspace workspace;
    struct ld_weight *weights[8] = {NULL};
    struct ld_weight_pack packed;
    ld_weight_layout_init(&layout);
    ld_graph_init(&graph, backend->act_dtype, &layout);
    ld_workspace_init(&workspace, backend);
    ld_weight_pack_init(&packed, backend);
    build(&graph);
    enum ld_code code = ld_graph_finish(&graph, err);
    if (code == LD_OK)
        code = pack(backend, o, &layout, &packed, weights, err);
    if (code == LD_OK)
        code = ld_workspace_fit(&workspace, &graph, err);
    struct ld_graph_run run = {.backend = backend,
                               .scratch = workspace.scratch,
                               .staging = workspace.staging,
                               .weights = &packed};
    run.in[LD_PORT_X] = o->x;
    run.out[LD_PORT_OUT] = out;
    for (int round = 0; code == LD_OK && round < 3; round++)
        code = ld_graph_run(&graph, &run, err);
    for (uint32_t i = 0; i < packed.count; i++)
        backend->ops->weight_destroy(backend, weights[i]);
    ld_workspace_deinit(&workspace);
    ld_graph_deinit(&graph);
    ld_weight_layout_deinit(&layout);
    return code;
}

/* ---- Telling --------------------------------------------------------------------------------- */

struct verdict {
    const char *backend, *precision;
    bool there, right;
    double error;
    char says[256]; /* the device, or what is missing */
};

static double distance(const float *got, const double *expected)
{
    double difference = 0;
    double size = 0;
    for (size_t i = 0; i < (size_t)C * POSITIONS; i++) {
        const double d = (double)got[i] - expected[i];
        difference += d * d;
        size += expected[i] * expected[i];
    }
    return sqrt(difference / size);
}

/* Four operators in a row, each rounded to 16 bits: a few units in the last place (kernels.md 15).
 */
static double limit(enum ld_dtype dtype)
{
    return dtype == LD_DTYPE_F32 ? 1e-5 : dtype == LD_DTYPE_F16 ? 4e-3 : 3e-2;
}

static void judge(struct verdict *verdict, const struct operands *operands, const double *expected)
{
    static float got[C * POSITIONS];
    struct ld_error err = {0};
    struct ld_backend *backend = NULL;
    const struct ld_device_choice choice = {.backend = verdict->backend,
                                            .precision = verdict->precision};
    enum ld_code code = ld_device_open(&backend, &choice, NULL, &err);
    verdict->there = code == LD_OK;
    if (code == LD_OK) {
        (void)ld_fmt(verdict->says, sizeof verdict->says, "%s", backend->description);
        code = compute(backend, operands, got, &err);
    }
    if (code != LD_OK) {
        (void)ld_fmt(verdict->says, sizeof verdict->says, "%s", err.detail);
    } else {
        verdict->error = distance(got, expected);
        verdict->right = verdict->error <= limit(backend->act_dtype);
    }
    if (backend)
        backend->ops->destroy(backend);
}

static void write_json(const struct verdict *verdicts, size_t count, struct ld_buffer *out)
{
    ld_buffer_text(out, "{\"backends\":[");
    for (size_t i = 0; i < count; i++) {
        const struct verdict *v = &verdicts[i];
        ld_buffer_format(out,
                         "%s{\"backend\":\"%s\",\"precision\":\"%s\",\"there\":%s,\"right\":%s,"
                         "\"error\":",
                         i ? "," : "", v->backend, v->precision[0] ? v->precision : "fp32",
                         v->there ? "true" : "false", v->right ? "true" : "false");
        ld_buffer_json_double(out, v->error);
        ld_buffer_text(out, ",\"says\":");
        ld_buffer_json_string(out, v->says);
        ld_buffer_text(out, "}");
    }
    ld_buffer_text(out, "]}\n");
}

static void write_text(const struct verdict *verdicts, size_t count, struct ld_buffer *out)
{
    for (size_t i = 0; i < count; i++) {
        const struct verdict *v = &verdicts[i];
        ld_buffer_format(out, "%-4s %-4s  ", v->backend, v->precision[0] ? v->precision : "fp32");
        if (!v->there)
            ld_buffer_format(out, "not here: %s\n", v->says);
        else if (v->error > 0 || v->right)
            ld_buffer_format(out, "%s, error %.2g  (%s)\n", v->right ? "right" : "WRONG", v->error,
                             v->says);
        else
            ld_buffer_format(out, "FAILED: %s\n", v->says);
    }
}

/* ---- The verb -------------------------------------------------------------------------------- */

struct selftest_options {
    const char *backend; /* "auto": every one that is there */
    bool json, help;
};

static bool read_options(struct selftest_options *options, int argc, char **argv)
{
    *options = (struct selftest_options){.backend = "auto"};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            options->json = true;
        else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            options->help = true;
        else if (strcmp(argv[i], "--backend") == 0 && i + 1 < argc)
            options->backend = argv[++i];
        else
            return false;
    }
    return strcmp(options->backend, "auto") == 0 || strcmp(options->backend, "cpu") == 0 ||
           strcmp(options->backend, "cuda") == 0;
}

/* True: all that was asked for computes rightly. */
static bool judge_all(struct verdict *verdicts, size_t count, bool named)
{
    static struct operands operands;
    static double expected[C * POSITIONS];
    bool good = true;
    make_operands(&operands);
    compute_plainly(&operands, expected);
    for (size_t i = 0; i < count; i++) {
        judge(&verdicts[i], &operands, expected);
        good = good && (verdicts[i].right || (!verdicts[i].there && !named));
    }
    return good;
}

int ld_cmd_selftest(int argc, char **argv)
{
    struct selftest_options options;
    struct verdict verdicts[] = {{.backend = "cpu", .precision = ""},
                                 {.backend = "cuda", .precision = "fp16"},
                                 {.backend = "cuda", .precision = "bf16"}};
    struct verdict *first = verdicts;
    size_t count = sizeof verdicts / sizeof verdicts[0];
    const bool known = read_options(&options, argc, argv);
    if (!known || options.help) {
        (void)fputs("usage: latentd selftest [--json] [--backend auto|cpu|cuda]\n"
                    "Which backends there are, and whether each computes rightly; status 1 if one "
                    "that is\nthere does not, or one that was named is not there.\n\n"
                    "  --json               one JSON document\n"
                    "  --backend WORD       only this one; auto: whatever is there\n",
                    known ? stdout : stderr);
        return known ? LD_EXIT_OK : LD_EXIT_USAGE;
    }
    const bool named = strcmp(options.backend, "auto") != 0;
    if (named) {
        first += strcmp(options.backend, "cuda") == 0 ? 1 : 0;
        count = strcmp(options.backend, "cuda") == 0 ? 2 : 1;
    }
    bool good = judge_all(first, count, named);
    if (named && !first->there)
        (void)fprintf(stderr, "latentd selftest: %s\n", first->says);
    struct ld_buffer out = ld_buffer_make(JSON_MAX);
    if (options.json)
        write_json(first, count, &out);
    else if (!named || first->there) /* what is missing has been said */
        write_text(first, count, &out);
    good =
        !out.failed && (!out.data || fputs(out.data, stdout) != EOF) && fflush(stdout) == 0 && good;
    ld_buffer_deinit(&out);
    return good ? LD_EXIT_OK : LD_EXIT_FAILED;
}
