/*
 * Counts what the kernels do in one evaluation of SD1.5's UNet or VAE decoder, without a GPU: warp
 * instructions by kind, bank conflicts, sectors, from the addresses that the kernels' PTX computes.
 * The network is walked whole through the CUDA backend, with the default kernel of every shape and
 * random weights; of each grid a sample of the blocks runs, so most values are what memory happened
 * to hold: what is counted depends on shapes, except where a kernel looks at values (attention's
 * rescaling).
 *
 *     ptx_count [--network unet|vae] [--sizes 512x512,1024x1024] [--batch 2] [--blocks 4]
 *               [--sums f32|f16] [--json FILE]
 */
#include "tests/ptx/count.h"
#include "kernels/cuda/backend.h"
#include "runtime/base/arena.h"
#include "runtime/model/arch.h"
#include "runtime/model/graph_run.h"
#include "runtime/model/unet.h"
#include "runtime/model/vae_graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 77, SIZES_MAX = 8, NOISE = 4096 };

struct arguments {
    int32_t widths[SIZES_MAX], heights[SIZES_MAX];
    int32_t size_count, batch, blocks;
    bool vae, f16_sums; /* f16_sums: the option fp16_accumulate */
    const char *json;
};

struct network {
    struct ld_backend *backend;
    struct ld_weight_layout layout;
    struct ld_weight_pack pack;
    uint16_t *values; /* as many as the largest weight has */
};

static struct counts counts;

/* ---- Names of operators ---------------------------------------------------------------------- */

/* Ranges lie in each other; the innermost one that is open names the launches. */
static void range_push(const char *name)
{
    snprintf(counts.op, sizeof counts.op, "%s", name);
}

static void range_pop(void)
{
}

static uint64_t range_start(const char *name)
{
    (void)name;
    return 0;
}

static void range_end(uint64_t range)
{
    (void)range;
}

static const struct ld_ranges ranges = {range_push, range_pop, range_start, range_end};

/* ---- Weights --------------------------------------------------------------------------------- */

static size_t slot_values(const struct ld_weight_slot *slot)
{
    const size_t fan_in = (size_t)(slot->k > 0 ? slot->k : 1) *
                          (size_t)(slot->kernel > 0 ? slot->kernel * slot->kernel : 1);
    return (size_t)slot->rows * fan_in;
}

/* Uniform, with the spread that keeps a sum's; vectors about 1. */
static void fill(uint16_t *values, size_t count, size_t fan_in, bool vector)
{
    uint64_t random = 88172645463325252u;
    uint16_t noise[NOISE];
    const float scale = sqrtf(3 / (float)fan_in);
    for (size_t i = 0; i < NOISE; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        const float u = (float)(random >> 40) * 0x1p-23F - 1;
        noise[i] = ld_f16_from_f32(vector ? 1 + 0.1F * u : scale * u);
    }
    for (size_t i = 0; i < count; i++)
        values[i] = noise[(i + i / 4093) % NOISE];
}

static enum ld_code make_weight(struct network *n, uint32_t index, struct ld_error *err)
{
    const struct ld_weight_slot *slot = &n->layout.slots[index];
    const size_t count = slot_values(slot);
    struct ld_weight_desc desc = ld_weight_slot_desc(slot);
    fill(n->values, count, count / (size_t)slot->rows, slot->kind == LD_WEIGHT_VECTOR);
    for (uint32_t p = 0; p < slot->part_count; p++) {
        desc.parts[p].data = n->values;
        desc.parts[p].dtype = LD_DTYPE_F16;
        if (slot->parts[p].bias)
            desc.bias[p] = (struct ld_weight_part){.data = n->values, .dtype = LD_DTYPE_F16};
    }
    const enum ld_code code =
        n->backend->ops->weight_create(n->backend, &desc, &n->pack.weights[index], err);
    n->pack.owned[index] = code == LD_OK;
    return code;
}

/* The layout is that of the first size; all sizes have the same. */
static enum ld_code make_weights(struct network *n, struct ld_error *err)
{
    size_t most = 0;
    for (uint32_t i = 0; i < n->layout.count; i++) {
        const size_t count = slot_values(&n->layout.slots[i]);
        most = count > most ? count : most;
    }
    n->values = ld_heap_calloc(most, sizeof *n->values);
    n->pack.weights = ld_heap_calloc(n->layout.count, sizeof *n->pack.weights);
    n->pack.owned = ld_heap_calloc(n->layout.count, sizeof *n->pack.owned);
    if (!n->values || !n->pack.weights || !n->pack.owned)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for weights");
    n->pack.count = n->layout.count;
    enum ld_code code = LD_OK;
    for (uint32_t i = 0; code == LD_OK && i < n->layout.count; i++)
        code = make_weight(n, i, err);
    ld_heap_free(n->values);
    n->values = NULL;
    return code;
}

/* ---- One size -------------------------------------------------------------------------------- */

static enum ld_code build(struct network *n, struct ld_graph *graph, const struct arguments *a,
                          int32_t size, struct ld_error *err)
{
    struct ld_arch arch;
    const int32_t height = a->heights[size] / 8, width = a->widths[size] / 8;
    ld_arch_set_sd15(&arch);
    ld_graph_init(graph, n->backend->act_dtype, &n->layout);
    if (a->vae)
        ld_vae_build_decoder(
            graph, &arch,
            &(struct ld_vae_shape){.batch = a->batch, .height = height, .width = width});
    else
        ld_unet_build(graph, &arch, &(struct ld_unet_shape){a->batch, height, width, TOKENS},
                      &(struct ld_unet_options){0});
    return ld_graph_finish(graph, err);
}

/* Host inputs and outputs, as large as any port's. */
static float *make_ports(struct ld_graph_run *run, const struct arguments *a, int32_t size)
{
    static int32_t kv_len[64];
    const size_t pixels = (size_t)a->widths[size] * (size_t)a->heights[size];
    const size_t count = (size_t)a->batch * (pixels * 3 + TOKENS * 768);
    float *floats = ld_heap_calloc(count, sizeof *floats);
    if (!floats)
        return NULL;
    for (size_t i = 0; i < count; i++)
        floats[i] = (float)((i * 2654435761u) % 65536) / 32768 - 1;
    for (int32_t b = 0; b < a->batch; b++)
        kv_len[b] = TOKENS;
    run->in[LD_PORT_X] = floats;
    run->in[LD_PORT_T] = floats;
    run->in[LD_PORT_CONTEXT] = floats;
    run->in[LD_PORT_KV_LEN] = kv_len;
    run->out[LD_PORT_OUT] = floats;
    return floats;
}

static enum ld_code run_graph(struct network *n, const struct ld_graph *graph,
                              const struct arguments *a, int32_t size, struct ld_error *err)
{
    struct ld_workspace workspace;
    struct ld_graph_run run = {.backend = n->backend, .weights = &n->pack};
    ld_workspace_init(&workspace, n->backend);
    enum ld_code code = ld_workspace_fit(&workspace, graph, err);
    if (code == LD_OK && graph->persistent_bytes > 0)
        code = n->backend->ops->memory_alloc(n->backend, graph->persistent_bytes, &run.persistent,
                                             err);
    float *ports = make_ports(&run, a, size);
    if (code == LD_OK && !ports)
        code = LD_FAIL(err, LD_E_NOMEM, "not enough memory");
    run.scratch = workspace.scratch;
    run.staging = workspace.staging;
    if (code == LD_OK)
        code = ld_graph_run(graph, &run, err);
    ld_heap_free(ports);
    if (run.persistent)
        n->backend->ops->memory_free(n->backend, run.persistent, graph->persistent_bytes);
    ld_workspace_deinit(&workspace);
    return code;
}

static enum ld_code count_size(struct network *n, const struct arguments *a, int32_t size,
                               FILE *json, struct ld_error *err)
{
    struct ld_graph graph;
    char title[96];
    enum ld_code code = build(n, &graph, a, size, err);
    if (code == LD_OK && n->pack.count == 0)
        code = make_weights(n, err);
    memset(&counts, 0, sizeof counts);
    if (code == LD_OK)
        code = run_graph(n, &graph, a, size, err);
    ld_graph_deinit(&graph);
    snprintf(title, sizeof title, "SD1.5 %s, %dx%d, batch %d, at most %d blocks of a grid",
             a->vae ? "VAE decoder" : "UNet", a->widths[size], a->heights[size], a->batch,
             a->blocks);
    if (json && size > 0)
        fprintf(json, ",\n");
    if (code == LD_OK)
        count_report(&counts, title, json);
    return code;
}

static enum ld_code count_all(const struct arguments *a, FILE *json, struct ld_error *err)
{
    struct network n = {.backend = NULL};
    const struct ld_cuda_options options = {
        .dtype = LD_DTYPE_F16, .fp16_accumulate = a->f16_sums, .no_recording = true};
    struct ptx_options *ptx = ptx_options();
    ptx->blocks = a->blocks;
    ptx->watch = count_launch;
    ptx->watch_context = &counts;
    enum ld_code code = ld_cuda_backend_create(&n.backend, &options, err);
    if (code != LD_OK)
        return code;
    n.backend->ranges = &ranges;
    ld_weight_layout_init(&n.layout);
    ld_weight_pack_init(&n.pack, n.backend);
    for (int32_t i = 0; code == LD_OK && i < a->size_count; i++)
        code = count_size(&n, a, i, json, err);
    ld_weight_pack_deinit(&n.pack);
    ld_weight_layout_deinit(&n.layout);
    n.backend->ops->destroy(n.backend);
    return code;
}

/* ---- Arguments ------------------------------------------------------------------------------- */

static bool read_sizes(struct arguments *a, const char *text)
{
    a->size_count = 0;
    while (a->size_count < SIZES_MAX) {
        char *end;
        const long width = strtol(text, &end, 10);
        const long height = *end == 'x' ? strtol(end + 1, &end, 10) : 0;
        if (width < 64 || height < 64 || width > 4096 || height > 4096 ||
            (width | height) % 64 != 0)
            return false;
        a->widths[a->size_count] = (int32_t)width;
        a->heights[a->size_count++] = (int32_t)height;
        if (*end != ',')
            return *end == '\0';
        text = end + 1;
    }
    return false;
}

static bool read_count(const char *text, long most, int32_t *out)
{
    char *end;
    const long value = strtol(text, &end, 10);
    *out = (int32_t)value;
    return *text != '\0' && *end == '\0' && value >= 0 && value <= most;
}

static bool read_arguments(struct arguments *a, int argc, char **argv)
{
    bool good = argc % 2 == 1 && read_sizes(a, "512x512,1024x1024");
    a->batch = 2;
    a->blocks = 4;
    for (int i = 1; good && i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--network") == 0) {
            a->vae = strcmp(value, "vae") == 0;
            good = a->vae || strcmp(value, "unet") == 0;
        } else if (strcmp(argv[i], "--sizes") == 0) {
            good = read_sizes(a, value);
        } else if (strcmp(argv[i], "--batch") == 0) {
            good = read_count(value, 64, &a->batch) && a->batch > 0;
        } else if (strcmp(argv[i], "--blocks") == 0) {
            good = read_count(value, INT32_MAX, &a->blocks);
        } else if (strcmp(argv[i], "--sums") == 0) {
            a->f16_sums = strcmp(value, "f16") == 0;
            good = a->f16_sums || strcmp(value, "f32") == 0;
        } else if (strcmp(argv[i], "--json") == 0) {
            a->json = value;
        } else {
            good = false;
        }
    }
    return good;
}

int main(int argc, char **argv)
{
    struct arguments a = {.size_count = 0};
    struct ld_error err = {0};
    if (!read_arguments(&a, argc, argv)) {
        fprintf(stderr, "usage: ptx_count [--network unet|vae] [--sizes WxH,...] [--batch N] "
                        "[--blocks N] [--sums f32|f16] [--json FILE]\n");
        return 2;
    }
    FILE *json = a.json ? fopen(a.json, "w") : NULL;
    if (a.json && !json) {
        perror(a.json);
        return 1;
    }
    if (json)
        fprintf(json, "[");
    const enum ld_code code = count_all(&a, json, &err);
    if (code != LD_OK)
        fprintf(stderr, "ptx_count: %s\n", err.detail);
    if (json)
        fprintf(json, "]\n");
    const bool written = !json || fclose(json) == 0;
    return code == LD_OK && written ? 0 : 1;
}
