/*
 * `latentd bench plan WxH,B`: the memory that a size and a batch take on a GPU, by what takes it,
 * with ControlNets if wanted, and what is left of that where weights are streamed. Pure arithmetic
 * over the networks' plans: no model, no weights, no GPU.
 */
#include "config/limits.h"
#include "kernels/cuda/pack.h"
#include "kernels/cuda/ring.h"
#include "runtime/base/buffer.h"
#include "runtime/gpu/device.h"
#include "runtime/model/arch.h"
#include "runtime/model/plan_cache.h"
#include "server/cmd.h"

#include <stdio.h>
#include <string.h>

enum { FACTOR = 8, SIDE_MAX = 8192, TEXT_TOKENS = 77, JSON_MAX = 16 << 10 };

struct plan_options {
    int32_t width, height, batch, controls;
    bool json;
};

/* One network: its packed weights and what a run of it needs. */
struct network {
    const char *name;
    size_t weights, activations, persistent, workspace;
    size_t vectors, largest; /* of the weights: those that are never streamed, the largest other */
    uint32_t operators;      /* of one run, without what is kept from run to run */
    uint64_t macs;
};

struct budget {
    struct network unet, text, decoder, encoder;
    struct network controls; /* all of them: weights alone, they run with the UNet */
    bool has_workspace;      /* this build can tell */
    size_t weights, arena, workspace, libraries, context, total;
    size_t ring, vectors, streamed_total; /* with streamed weights */
};

/* ---- Weights --------------------------------------------------------------------------------- */

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* As the backend lays a slot out. */
static void add_slot(struct network *network, const struct ld_weight_slot *slot)
{
    const struct ld_weight_desc desc = ld_weight_slot_desc(slot);
    const size_t bytes = ldk_pack_weight_bytes(&desc, LDK_F16, true);
    network->weights += bytes;
    if (slot->kind == LD_WEIGHT_VECTOR)
        network->vectors += bytes;
    else
        network->largest = larger(network->largest, bytes);
}

/* ---- Networks -------------------------------------------------------------------------------- */

static void add_slots(struct network *network, const struct ld_weight_layout *layout)
{
    for (uint32_t i = 0; i < layout->count; i++)
        add_slot(network, &layout->slots[i]);
}

/* `controls`: where the weights of the key's ControlNets are counted, NULL where it has none. */
static enum ld_code price(struct network *network, const struct ld_arch *arch,
                          const struct ld_plan_key *key, struct network *controls,
                          struct ld_error *err)
{
    struct ld_weight_layout layout;
    struct ld_weight_layout control_layout;
    struct ld_graph graph;
    const struct ld_ops *ops = ld_device_plan_ops();
    ld_weight_layout_init(&layout);
    ld_weight_layout_init(&control_layout);
    ld_graph_init(&graph, LD_DTYPE_F16, &layout);
    graph.control_layout = &control_layout;
    ld_plan_build(&graph, arch, key);
    const enum ld_code code = ld_graph_finish(&graph, err);
    if (code == LD_OK) {
        network->activations = graph.scratch_bytes;
        network->persistent = graph.persistent_bytes;
        network->operators = graph.op_count - graph.prologue_count;
        network->macs = graph.macs;
        network->workspace = ops ? ld_graph_workspace_bytes(&graph, ops) : 0;
        network->weights = network->vectors = network->largest = 0;
        add_slots(network, &layout);
        for (int32_t i = 0; i < key->options.controls; i++)
            add_slots(controls, &control_layout);
    }
    ld_graph_deinit(&graph);
    ld_weight_layout_deinit(&control_layout);
    ld_weight_layout_deinit(&layout);
    return code;
}

/* `batch` pictures, each with its negative prompt; pictures are decoded one by one. */
static enum ld_code make_budget(const struct plan_options *options, struct budget *budget,
                                struct ld_error *err)
{
    struct ld_arch arch;
    const int32_t height = options->height / FACTOR;
    const int32_t width = options->width / FACTOR;
    const struct ld_plan_key unet = {.part = LD_PART_UNET,
                                     .unet = {2 * options->batch, height, width, TEXT_TOKENS},
                                     .options = {.controls = options->controls}};
    const struct ld_plan_key text = {.part = LD_PART_TEXT, .clip = {.chunks = 2, .skip = 1}};
    const struct ld_plan_key decoder = {.part = LD_PART_VAE_DECODER,
                                        .vae = {.batch = 1, .height = height, .width = width}};
    const struct ld_plan_key encoder = {
        .part = LD_PART_VAE_ENCODER,
        .vae = {.batch = 1, .height = options->height, .width = options->width}};
    ld_arch_set_sd15(&arch);
    memset(budget, 0, sizeof *budget);
    budget->has_workspace = ld_device_plan_ops() != NULL;
    budget->libraries = ld_device_plan_library_bytes();
    enum ld_code code = price(&budget->unet, &arch, &unet, &budget->controls, err);
    if (code == LD_OK)
        code = price(&budget->text, &arch, &text, NULL, err);
    if (code == LD_OK)
        code = price(&budget->decoder, &arch, &decoder, NULL, err);
    if (code == LD_OK)
        code = price(&budget->encoder, &arch, &encoder, NULL, err);
    if (code != LD_OK)
        return code;
    const struct network *all[] = {&budget->unet, &budget->text, &budget->decoder, &budget->encoder,
                                   &budget->controls};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        budget->weights += all[i]->weights;
        budget->vectors += all[i]->vectors;
        budget->ring = larger(budget->ring, ldk_ring_bytes(all[i]->largest));
        budget->context += all[i]->persistent;
        if (i < 2) /* steps and texts; the decoder's peak is told apart */
            budget->arena = larger(budget->arena, all[i]->activations);
        budget->workspace = larger(budget->workspace, all[i]->workspace);
    }
    /* The networks take turns in one arena. Painting needs no encoder's activations. */
    budget->total = budget->weights + larger(budget->arena, budget->decoder.activations) +
                    budget->context + budget->workspace + budget->libraries;
    budget->streamed_total = budget->total - budget->weights + budget->vectors + budget->ring;
    return LD_OK;
}

/* ---- Telling --------------------------------------------------------------------------------- */

static double mebibytes(size_t bytes)
{
    return (double)bytes / (double)(1 << 20);
}

static void write_json(const struct plan_options *options, const struct budget *budget,
                       struct ld_buffer *out)
{
    const struct network *all[] = {&budget->unet, &budget->text, &budget->decoder, &budget->encoder,
                                   &budget->controls};
    ld_buffer_format(out,
                     "{\"width\":%d,\"height\":%d,\"batch\":%d,\"controls\":%d,"
                     "\"weight_bytes\":%zu,"
                     "\"arena_bytes\":%zu,\"vae_peak_bytes\":%zu,\"context_bytes\":%zu,"
                     "\"step_operators\":%u,\"step_macs\":%llu,\"workspace_bytes\":",
                     (int)options->width, (int)options->height, (int)options->batch,
                     (int)options->controls, budget->weights, budget->arena,
                     budget->decoder.activations, budget->context, budget->unet.operators,
                     (unsigned long long)budget->unet.macs);
    if (budget->has_workspace)
        ld_buffer_format(out, "%zu", budget->workspace);
    else
        ld_buffer_text(out, "null");
    ld_buffer_format(out,
                     ",\"library_bytes\":%zu,\"total_bytes\":%zu,\"streamed\":{\"ring_bytes\":%zu,"
                     "\"weight_bytes\":%zu,"
                     "\"total_bytes\":%zu},\"networks\":{",
                     budget->libraries, budget->total, budget->ring, budget->vectors,
                     budget->streamed_total);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        ld_buffer_format(out, "%s\"%s\":{\"weight_bytes\":%zu,\"activation_bytes\":%zu}",
                         i ? "," : "", all[i]->name, all[i]->weights, all[i]->activations);
    ld_buffer_text(out, "}}\n");
}

static void write_text(const struct plan_options *options, const struct budget *budget,
                       struct ld_buffer *out)
{
    ld_buffer_format(out, "%dx%d, %d picture%s at once, 16-bit, MiB\n", (int)options->width,
                     (int)options->height, (int)options->batch, options->batch > 1 ? "s" : "");
    ld_buffer_format(out, "  weights     %8.1f  (UNet %.1f, text %.1f, VAE %.1f + %.1f)\n",
                     mebibytes(budget->weights), mebibytes(budget->unet.weights),
                     mebibytes(budget->text.weights), mebibytes(budget->decoder.weights),
                     mebibytes(budget->encoder.weights));
    if (options->controls > 0)
        ld_buffer_format(out, "              %8.1f  of these in %d ControlNet%s\n",
                         mebibytes(budget->controls.weights), (int)options->controls,
                         options->controls > 1 ? "s" : "");
    ld_buffer_format(out, "  arena       %8.1f  (a step of %d rows, %u operators)\n",
                     mebibytes(budget->arena), 2 * (int)options->batch, budget->unet.operators);
    ld_buffer_format(out, "  VAE peak    %8.1f  (decoding, in the same arena)\n",
                     mebibytes(budget->decoder.activations));
    ld_buffer_format(out, "  context     %8.1f  (keys and values of the prompts%s)\n",
                     mebibytes(budget->context), options->controls > 0 ? ", hints" : "");
    if (budget->has_workspace)
        ld_buffer_format(out, "  workspaces  %8.1f\n", mebibytes(budget->workspace));
    else
        ld_buffer_text(out, "  workspaces         ?  (this build has no CUDA kernels)\n");
    if (budget->libraries)
        ld_buffer_format(out,
                         "  libraries   %8.1f  (scratch of cuBLASLt and cuDNN; only where a choice "
                         "of `bench step --tune` is theirs)\n",
                         mebibytes(budget->libraries));
    ld_buffer_format(out, "  total       %8.1f\n", mebibytes(budget->total));
    ld_buffer_format(
        out,
        "  streamed    %8.1f  (the same with the weights in the host's memory: a ring of "
        "%.1f, and %.1f that stay)\n",
        mebibytes(budget->streamed_total), mebibytes(budget->ring), mebibytes(budget->vectors));
}

/* ---- The verb -------------------------------------------------------------------------------- */

/* A whole number from 1 to `max` at the start of *text, which moves behind it. */
static bool take_number(const char **text, int32_t max, int32_t *out)
{
    int32_t value = 0;
    const char *at = *text;
    for (; *at >= '0' && *at <= '9' && value <= max; at++)
        value = 10 * value + (*at - '0');
    const bool good = at != *text && value >= 1 && value <= max;
    *text = at;
    *out = value;
    return good;
}

/* "WxH" or "WxH,B". */
static bool take_shape(const char *text, struct plan_options *options)
{
    options->batch = 1;
    if (!take_number(&text, SIDE_MAX, &options->width) || *text++ != 'x' ||
        !take_number(&text, SIDE_MAX, &options->height))
        return false;
    if (*text == ',' && (text++, !take_number(&text, LD_UNET_BATCH_MAX / 2, &options->batch)))
        return false;
    return *text == '\0' && options->width % FACTOR == 0 && options->height % FACTOR == 0;
}

int ld_cmd_bench_plan(int argc, char **argv)
{
    struct plan_options options = {0};
    struct budget budget;
    struct ld_error err = {0};
    bool good = true;
    const char *shape = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            options.json = true;
        else if (strcmp(argv[i], "--controls") == 0 && i + 1 < argc && argv[i + 1][0] >= '1' &&
                 argv[i + 1][0] <= '0' + LD_CONTROLS_MAX && argv[i + 1][1] == '\0')
            options.controls = argv[++i][0] - '0';
        else if (shape || argv[i][0] == '-')
            good = false;
        else
            shape = argv[i];
    }
    if (!good || !shape || !take_shape(shape, &options)) {
        (void)fputs(
            "usage: latentd bench plan WxH[,B] [--controls N] [--json]\n"
            "The memory that B pictures at once take on a GPU; sides are multiples of 8, N\n"
            "ControlNets (1 to 3) take part in each.\n",
            stderr);
        return LD_EXIT_USAGE;
    }
    if (make_budget(&options, &budget, &err) != LD_OK) {
        (void)fprintf(stderr, "latentd bench plan: %s\n", err.detail);
        return LD_EXIT_FAILED;
    }
    budget.unet.name = "unet";
    budget.text.name = "text";
    budget.decoder.name = "vae_decoder";
    budget.encoder.name = "vae_encoder";
    budget.controls.name = "controlnets";
    struct ld_buffer out = ld_buffer_make(JSON_MAX);
    if (options.json)
        write_json(&options, &budget, &out);
    else
        write_text(&options, &budget, &out);
    good = !out.failed && fputs(out.data, stdout) != EOF && fflush(stdout) == 0;
    ld_buffer_deinit(&out);
    return good ? LD_EXIT_OK : LD_EXIT_FAILED;
}
