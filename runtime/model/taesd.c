#include "runtime/model/taesd.h"

#include "runtime/base/arena.h"
#include "runtime/model/graph_layers.h"
#include "runtime/model/graph_run.h"
#include "runtime/model/safetensors.h"

#include <math.h>
#include <string.h>

enum {
    LATENT_CHANNELS = 4,
    PICTURE_CHANNELS = 3,
    LEVELS = 3,
    BLOCKS_PER_LEVEL = 3,
    NAME_MAX_BYTES = 96
};

struct ld_taesd {
    struct ld_backend *backend;
    struct ld_weight_layout layout;
    struct ld_weight_pack pack;
    struct ld_workspace workspace;
    int32_t channels; /* of the maps inside */
    /* The plan of the latest size; there is one as soon as `height` is not 0. */
    struct ld_graph graph;
    int32_t height, width;
    bool computing;
};

/* ---- The network ----------------------------------------------------------------------------- */

static int32_t conv_relu(struct ld_graph *graph, const char *name, int32_t x, int32_t channels,
                         int32_t residual)
{
    const int32_t y = ld_graph_conv(
        graph, name, &(struct ld_conv_args){.x0 = x, .channels = channels, .residual = residual});
    return ld_graph_relu(graph, y);
}

static int32_t block(struct ld_graph *graph, int32_t number, int32_t x, int32_t channels)
{
    int32_t h = x;
    for (int i = 0; i < 3; i++)
        h = conv_relu(graph, ld_graph_name(graph, "%d.conv.%d", number, 2 * i), h, channels,
                      i == 2 ? x : LD_GRAPH_NONE);
    return h;
}

/* Numbers are those of the layers in the original file; what has no weights has one too. */
static void build(struct ld_graph *graph, int32_t channels, int32_t height, int32_t width)
{
    int32_t number = 1;
    int32_t h =
        ld_graph_planes_in(graph, LD_PORT_X, LD_PORT_NONE, 1, LATENT_CHANNELS, height, width);
    h = conv_relu(graph, "1", h, channels, LD_GRAPH_NONE);
    number += 2;
    for (int32_t level = 0; level < LEVELS; level++) {
        for (int i = 0; i < BLOCKS_PER_LEVEL; i++)
            h = block(graph, number++, h, channels);
        height *= 2;
        width *= 2;
        number++; /* the upsampling, done by the convolution that reads it */
        h = ld_graph_conv(graph, ld_graph_name(graph, "%d", number++),
                          &(struct ld_conv_args){.x0 = h,
                                                 .channels = channels,
                                                 .up_height = height,
                                                 .up_width = width,
                                                 .no_bias = true});
    }
    h = block(graph, number++, h, channels);
    h = ld_graph_conv(graph, ld_graph_name(graph, "%d", number),
                      &(struct ld_conv_args){.x0 = h, .channels = PICTURE_CHANNELS});
    ld_graph_planes_out(graph, h, LD_PORT_OUT);
}

static void forget_plan(struct ld_taesd *taesd)
{
    if (taesd->height == 0)
        return;
    if (taesd->backend->ops->run_forget)
        taesd->backend->ops->run_forget(taesd->backend, taesd->graph.serial);
    ld_graph_deinit(&taesd->graph);
    taesd->height = taesd->width = 0;
}

static enum ld_code plan(struct ld_taesd *taesd, int32_t height, int32_t width,
                         struct ld_error *err)
{
    if (taesd->height == height && taesd->width == width)
        return LD_OK;
    forget_plan(taesd);
    ld_graph_init(&taesd->graph, taesd->backend->act_dtype, &taesd->layout);
    build(&taesd->graph, taesd->channels, height, width);
    const enum ld_code code = ld_graph_finish(&taesd->graph, err);
    if (code != LD_OK) {
        ld_graph_deinit(&taesd->graph);
        return code;
    }
    taesd->height = height;
    taesd->width = width;
    return LD_OK;
}

/* ---- The file -------------------------------------------------------------------------------- */

/* How a file calls the layer that the original calls "N". */
struct naming {
    const char *prefix;
    int32_t shift;
};
static const struct naming namings[] = {
    {"", 0},                /* taesd_decoder */
    {"decoder.", 0},        /* encoder and decoder in one file */
    {"taesd_decoder.", 0},  /* ComfyUI, beside a VAE's names */
    {"decoder.layers.", -1} /* diffusers */
};

/* `name` as "3.conv.0.weight". NULL: the file has no such tensor. */
static const struct ld_st_tensor *find(const struct ld_safetensors *file,
                                       const struct naming *naming, const char *name)
{
    char text[NAME_MAX_BYTES];
    int32_t number = 0;
    while (*name >= '0' && *name <= '9')
        number = 10 * number + (*name++ - '0');
    (void)ld_fmt(text, sizeof text, "%s%d%s", naming->prefix, (int)(number + naming->shift), name);
    return ld_safetensors_find(file, text);
}

static const struct naming *naming_of(const struct ld_safetensors *file)
{
    for (size_t i = 0; i < sizeof namings / sizeof namings[0]; i++)
        if (find(file, &namings[i], "1.weight") && find(file, &namings[i], "3.conv.0.weight"))
            return &namings[i];
    return NULL;
}

static bool has_shape(const struct ld_st_tensor *tensor, const struct ld_weight_slot *slot,
                      bool bias)
{
    const bool rows = tensor->rank >= 1 && tensor->shape[0] == (uint64_t)slot->rows;
    if (bias)
        return rows && tensor->rank == 1;
    return rows && tensor->rank == 4 && tensor->shape[1] == (uint64_t)slot->k &&
           tensor->shape[2] == 3 && tensor->shape[3] == 3;
}

static enum ld_code take_part(const struct ld_safetensors *file, const struct naming *naming,
                              const struct ld_weight_slot *slot, bool bias,
                              struct ld_weight_part *part, struct ld_error *err)
{
    const char *name = bias ? slot->parts[0].bias : slot->parts[0].weight;
    const struct ld_st_tensor *tensor = find(file, naming, name);
    if (!tensor)
        return LD_FAIL(err, LD_E_UNSUPPORTED, "the TAESD decoder lacks the tensor %s", name);
    if (!has_shape(tensor, slot, bias))
        return LD_FAIL(err, LD_E_SHAPE, "the tensor %.96s has not the shape of a TAESD decoder's",
                       tensor->name);
    if (!ld_dtype_is_float(tensor->dtype))
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "the tensor %.96s is of type %.16s, which no weight can be", tensor->name,
                       tensor->dtype_name);
    *part = (struct ld_weight_part){
        .data = ld_safetensors_data(file, tensor), .dtype = tensor->dtype, .scale = 1};
    return LD_OK;
}

static enum ld_code pack_slot(struct ld_taesd *taesd, const struct ld_safetensors *file,
                              const struct naming *naming, uint32_t index, struct ld_error *err)
{
    struct ld_weight_pack *pack = &taesd->pack;
    const struct ld_weight_slot *slot = &taesd->layout.slots[index];
    struct ld_weight_desc desc = ld_weight_slot_desc(slot);
    enum ld_code code = take_part(file, naming, slot, false, &desc.parts[0], err);
    if (code == LD_OK && slot->parts[0].bias)
        code = take_part(file, naming, slot, true, &desc.bias[0], err);
    if (code == LD_OK)
        code = pack->backend->ops->weight_create(pack->backend, &desc, &pack->weights[index], err);
    if (code == LD_OK) {
        pack->owned[index] = true;
        pack->count = index + 1;
    }
    return code;
}

static enum ld_code fill(struct ld_taesd *taesd, const struct ld_safetensors *file,
                         struct ld_error *err)
{
    const struct naming *naming = naming_of(file);
    if (!naming)
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "the file is no TAESD decoder: it has no layers 1 and 3.conv.0");
    const struct ld_st_tensor *first = find(file, naming, "1.weight");
    if (first->rank != 4 || first->shape[0] < 1 || first->shape[0] > LD_TAESD_WIDTH_MAX)
        return LD_FAIL(err, LD_E_SHAPE, "the tensor %.96s has not the shape of a TAESD decoder's",
                       first->name);
    taesd->channels = (int32_t)first->shape[0];
    enum ld_code code = plan(taesd, 1, 1, err); /* lists the slots */
    if (code != LD_OK)
        return code;
    const uint32_t count = taesd->layout.count;
    taesd->pack.weights = ld_heap_calloc(count, sizeof(struct ld_weight *));
    taesd->pack.owned = ld_heap_calloc(count, sizeof(bool));
    taesd->pack.capacity = count;
    if (!taesd->pack.weights || !taesd->pack.owned)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the preview decoder");
    for (uint32_t i = 0; code == LD_OK && i < count; i++)
        code = pack_slot(taesd, file, naming, i, err);
    return code;
}

/* ---- Life ------------------------------------------------------------------------------------ */

enum ld_code ld_taesd_open(struct ld_taesd **out, struct ld_backend *backend, const char *path,
                           struct ld_error *err)
{
    struct ld_safetensors *file = NULL;
    *out = NULL;
    enum ld_code code = ld_safetensors_open(&file, path, NULL, err);
    if (code != LD_OK)
        return code;
    struct ld_taesd *taesd = ld_heap_alloc(sizeof *taesd);
    if (!taesd) {
        ld_safetensors_close(file);
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the preview decoder");
    }
    taesd->backend = backend;
    ld_weight_layout_init(&taesd->layout);
    ld_weight_pack_init(&taesd->pack, backend);
    ld_workspace_init(&taesd->workspace, backend);
    code = fill(taesd, file, err);
    ld_safetensors_close(file);
    if (code != LD_OK)
        ld_taesd_destroy(taesd);
    else
        *out = taesd;
    return code;
}

void ld_taesd_destroy(struct ld_taesd *taesd)
{
    if (!taesd)
        return;
    forget_plan(taesd);
    ld_workspace_deinit(&taesd->workspace);
    ld_weight_pack_deinit(&taesd->pack);
    ld_weight_layout_deinit(&taesd->layout);
    ld_heap_free(taesd);
}

bool ld_taesd_trim(struct ld_taesd *taesd)
{
    if (taesd->computing || !taesd->workspace.scratch)
        return false;
    ld_workspace_trim(&taesd->workspace);
    return true;
}

/* ---- Decoding -------------------------------------------------------------------------------- */

static enum ld_code run(struct ld_taesd *taesd, const float *latent, const struct ld_cancel *cancel,
                        float *picture, struct ld_error *err)
{
    taesd->computing = true; /* what is allocated from here on must not take the workspace away */
    enum ld_code code = ld_workspace_fit(&taesd->workspace, &taesd->graph, err);
    if (code == LD_OK) {
        struct ld_graph_run run = {.backend = taesd->backend,
                                   .scratch = taesd->workspace.scratch,
                                   .staging = taesd->workspace.staging,
                                   .weights = &taesd->pack,
                                   .cancel = cancel};
        run.in[LD_PORT_X] = latent;
        run.out[LD_PORT_OUT] = picture;
        code = ld_graph_run(&taesd->graph, &run, err);
    }
    taesd->computing = false;
    return code;
}

enum ld_code ld_taesd_decode(struct ld_taesd *taesd, const double *latent, int32_t height,
                             int32_t width, const struct ld_cancel *cancel, float *picture,
                             struct ld_error *err)
{
    enum ld_code code = plan(taesd, height, width, err);
    if (code != LD_OK)
        return code;
    const size_t count = (size_t)LATENT_CHANNELS * (size_t)height * (size_t)width;
    float *clamped = ld_heap_calloc(count, sizeof *clamped);
    if (!clamped)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the preview");
    for (size_t i = 0; i < count; i++)
        clamped[i] = (float)(3.0 * tanh(latent[i] / 3.0));
    code = run(taesd, clamped, cancel, picture, err);
    ld_heap_free(clamped);
    return code;
}
