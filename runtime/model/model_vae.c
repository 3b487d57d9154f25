#include "runtime/model/model_state.h"

#include <string.h>

/* model.md 2.2: what keeps exp(0.5 logvar) finite. */
static const float LOGVAR_MIN = -30.0F;
static const float LOGVAR_MAX = 20.0F;

/* One run of one half: the whole picture in one of its forms, or a tile. `sample` [C, ...] is the
 * sample of form ESTIMATED, `first` tells that its norms have yet to be measured.
 */
struct vae_run {
    enum ld_part part;
    struct ld_vae_shape shape;
    const float *in, *sample;
    const float *scale; /* NULL for the encoder */
    bool first;
    const struct ld_cancel *cancel;
    float *out;
};

void ld_model_set_strip_rows(struct ld_model *model, int32_t rows)
{
    model->strip_rows = rows;
}

static enum ld_code run_one(struct ld_model *model, const struct vae_run *vae, struct ld_error *err)
{
    struct ld_plan_key key = {.part = vae->part, .vae = vae->shape};
    if (vae->shape.form == LD_VAE_FORM_STRIPS)
        key.vae.strip_rows = model->strip_rows;
    struct ld_plan *plan;
    struct ld_graph_run run;
    const enum ld_code code = ld_model_prepare(model, NULL, &key, 0, &plan, &run, err);
    if (code != LD_OK)
        return code;
    run.in[LD_PORT_X] = vae->in;
    run.in[LD_PORT_EXTRA] = vae->sample;
    run.in[LD_PORT_SCALE] = vae->scale;
    run.out[LD_PORT_OUT] = vae->out;
    run.skip_prologue = vae->shape.form == LD_VAE_FORM_ESTIMATED && !vae->first;
    run.cancel = vae->cancel;
    return ld_graph_run(&plan->graph, &run, err);
}

static void clamp_logvar(float *moments, size_t plane)
{
    for (size_t i = 4 * plane; i < 8 * plane; i++) {
        moments[i] = moments[i] < LOGVAR_MIN ? LOGVAR_MIN : moments[i];
        moments[i] = moments[i] > LOGVAR_MAX ? LOGVAR_MAX : moments[i];
    }
}

/* ---- Tiles ----------------------------------------------------------------------------------- */

enum { TILE = LD_VAE_TILE_SIDE, OVERLAP = LD_VAE_TILE_OVERLAP };

/* Side of the pieces that form ESTIMATED measures its norms on: small enough that they cover the
 * picture evenly, with an inside that no neighbour reaches in the deep levels. */
enum { BLOCK = 8 };

/* Side of the sample of a side: half of it, and at least a tile's, which takes no more memory than
 * the tiles do and leaves less of a small picture out. */
static int32_t sample_of(int32_t side)
{
    const int32_t half = (side + 1) / 2;
    const int32_t tile = side < TILE ? side : TILE;
    return half > tile ? half : tile;
}

/* A half of the VAE over a picture in tiles. All tiles have one size, the last ones move inwards,
 * so that one plan serves all. Sizes are in latent cells; a cell is in_factor input values wide and
 * out_factor output values. */
struct tiling {
    struct vae_run run;
    int32_t height, width, tile_height, tile_width;
    int32_t in_channels, in_factor, out_channels, out_factor;
    const float *in;
    float *out, *weights; /* sums, and what they are divided by: [out_height, out_width] */
    float *tile_in, *tile_out;
};

static void cut(const struct tiling *t, int32_t y0, int32_t x0)
{
    const size_t f = (size_t)t->in_factor;
    const size_t width = (size_t)t->width * f;
    const size_t tile_height = (size_t)t->tile_height * f;
    const size_t tile_width = (size_t)t->tile_width * f;
    for (size_t c = 0; c < (size_t)t->in_channels; c++)
        for (size_t y = 0; y < tile_height; y++)
            memcpy(t->tile_in + (c * tile_height + y) * tile_width,
                   t->in + (c * (size_t)t->height * f + (size_t)y0 * f + y) * width +
                       (size_t)x0 * f,
                   tile_width * sizeof(float));
}

/* Rising over what a tile shares with the one before it, falling towards the one after; 1 along the
 * picture's own edges. */
static float ramp(size_t at, size_t size, size_t overlap, bool first, bool last)
{
    const float up = first ? 1.0F : ((float)at + 0.5F) / (float)overlap;
    const float down = last ? 1.0F : ((float)(size - at) - 0.5F) / (float)overlap;
    const float least = up < down ? up : down;
    return least < 1.0F ? least : 1.0F;
}

static void blend(const struct tiling *t, int32_t y0, int32_t x0)
{
    const size_t f = (size_t)t->out_factor;
    const size_t width = (size_t)t->width * f;
    const size_t plane = width * (size_t)t->height * f;
    const size_t tile_height = (size_t)t->tile_height * f;
    const size_t tile_width = (size_t)t->tile_width * f;
    const size_t overlap = (size_t)OVERLAP * f;
    for (size_t y = 0; y < tile_height; y++) {
        const float wy = ramp(y, tile_height, overlap, y0 == 0, y0 + t->tile_height == t->height);
        for (size_t x = 0; x < tile_width; x++) {
            const float w =
                wy * ramp(x, tile_width, overlap, x0 == 0, x0 + t->tile_width == t->width);
            const size_t to = ((size_t)y0 * f + y) * width + (size_t)x0 * f + x;
            t->weights[to] += w;
            for (size_t c = 0; c < (size_t)t->out_channels; c++)
                t->out[c * plane + to] += w * t->tile_out[(c * tile_height + y) * tile_width + x];
        }
    }
}

/* Begins of tiles along one side. */
static int32_t tile_begin(int32_t index, int32_t side, int32_t tile)
{
    const int32_t at = index * (TILE - OVERLAP);
    return at + tile > side ? side - tile : at;
}

static int32_t tile_count(int32_t side, int32_t tile)
{
    return side <= tile ? 1 : 1 + (side - tile + TILE - OVERLAP - 1) / (TILE - OVERLAP);
}

static enum ld_code run_tiles(struct ld_model *model, struct tiling *t, struct ld_error *err)
{
    const size_t plane =
        (size_t)t->height * (size_t)t->width * (size_t)t->out_factor * (size_t)t->out_factor;
    memset(t->out, 0, (size_t)t->out_channels * plane * sizeof *t->out);
    t->run.in = t->tile_in;
    t->run.out = t->tile_out;
    t->run.first = true;
    for (int32_t i = 0; i < tile_count(t->height, t->tile_height); i++) {
        for (int32_t k = 0; k < tile_count(t->width, t->tile_width); k++) {
            const int32_t y0 = tile_begin(i, t->height, t->tile_height);
            const int32_t x0 = tile_begin(k, t->width, t->tile_width);
            cut(t, y0, x0);
            const enum ld_code code = run_one(model, &t->run, err);
            if (code != LD_OK)
                return code;
            blend(t, y0, x0);
            t->run.first = false;
        }
    }
    for (size_t i = 0; i < (size_t)t->out_channels * plane; i++)
        t->out[i] /= t->weights[i % plane];
    return LD_OK;
}

/* Where the sample's cell `at` comes from: blocks of BLOCK cells, spread evenly over the side; the
 * side itself where all of it is in the sample. */
static int32_t sampled_cell(int32_t at, int32_t side)
{
    const int32_t block = side < BLOCK ? side : BLOCK;
    if (sample_of(side) == side)
        return at;
    const int32_t last = (sample_of(side) - 1) / block;
    const int32_t begin =
        last ? (int32_t)((int64_t)(at / block) * (side - block) / last) : (side - block) / 2;
    return begin + at % block;
}

/*
 * A sample of the input, for norms that are to fit the whole picture: blocks at the picture's own
 * scale. A picture shrunk by averaging has other variances than the whole, and
 * norms measured on it shift every tone (docs/high-resolution.md has figures).
 */
static enum ld_code make_sample(struct tiling *t, float **sample, size_t *sample_bytes,
                                struct ld_error *err)
{
    const size_t f = (size_t)t->in_factor;
    const size_t height = (size_t)sample_of(t->height) * f;
    const size_t width = (size_t)sample_of(t->width) * f;
    const size_t in_width = (size_t)t->width * f;
    const size_t in_plane = (size_t)t->height * f * in_width;
    *sample_bytes = (size_t)t->in_channels * height * width * sizeof(float);
    *sample = ld_block_alloc(*sample_bytes);
    if (!*sample)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the picture in tiles");
    t->run.sample = *sample;
    t->run.shape.sample_height = (int32_t)height;
    t->run.shape.sample_width = (int32_t)width;
    for (size_t c = 0; c < (size_t)t->in_channels; c++)
        for (size_t y = 0; y < height; y++) {
            const size_t from = (size_t)sampled_cell((int32_t)(y / f), t->height) * f + y % f;
            for (size_t x = 0; x < (size_t)sample_of(t->width); x++)
                memcpy(*sample + (c * height + y) * width + x * f,
                       t->in + c * in_plane + from * in_width +
                           (size_t)sampled_cell((int32_t)x, t->width) * f,
                       f * sizeof(float));
        }
    return LD_OK;
}

static enum ld_code in_tiles(struct ld_model *model, struct tiling *t, struct ld_error *err)
{
    t->tile_height = t->height < TILE ? t->height : TILE;
    t->tile_width = t->width < TILE ? t->width : TILE;
    t->run.shape.height = t->tile_height * t->in_factor;
    t->run.shape.width = t->tile_width * t->in_factor;
    const size_t cells = (size_t)t->tile_height * (size_t)t->tile_width;
    const size_t in_bytes = (size_t)t->in_channels * cells * (size_t)t->in_factor *
                            (size_t)t->in_factor * sizeof(float);
    const size_t out_bytes = (size_t)t->out_channels * cells * (size_t)t->out_factor *
                             (size_t)t->out_factor * sizeof(float);
    const size_t weight_bytes = (size_t)t->height * (size_t)t->width * (size_t)t->out_factor *
                                (size_t)t->out_factor * sizeof(float);
    float *sample = NULL;
    size_t sample_bytes = 0;
    enum ld_code code = LD_OK;
    t->tile_in = ld_block_alloc(in_bytes);
    t->tile_out = ld_block_alloc(out_bytes);
    t->weights = ld_block_alloc(weight_bytes);
    if (!t->tile_in || !t->tile_out || !t->weights)
        code = LD_FAIL(err, LD_E_NOMEM, "not enough memory for the picture in tiles");
    if (code == LD_OK)
        memset(t->weights, 0, weight_bytes);
    if (code == LD_OK && t->run.shape.form == LD_VAE_FORM_ESTIMATED)
        code = make_sample(t, &sample, &sample_bytes, err);
    if (code == LD_OK)
        code = run_tiles(model, t, err);
    ld_block_free(sample, sample_bytes);
    ld_block_free(t->weights, weight_bytes);
    ld_block_free(t->tile_out, out_bytes);
    ld_block_free(t->tile_in, in_bytes);
    return code;
}

static bool one_tile(int32_t height, int32_t width)
{
    return height <= TILE && width <= TILE;
}

/* ---- The two halves -------------------------------------------------------------------------- */

enum ld_code ld_model_decode_form(struct ld_model *model, const float *latent, int32_t height,
                                  int32_t width, float scale, enum ld_vae_form form,
                                  const struct ld_cancel *cancel, float *picture,
                                  struct ld_error *err)
{
    const bool parts = form == LD_VAE_FORM_ESTIMATED || form == LD_VAE_FORM_TILE;
    const bool whole = parts && one_tile(height, width);
    struct tiling tiling = {
        .run = {.part = LD_PART_VAE_DECODER,
                .shape = {.batch = 1,
                          .height = height,
                          .width = width,
                          .form = whole ? LD_VAE_FORM_WHOLE : form},
                .in = latent,
                .scale = &scale,
                .cancel = cancel,
                .out = picture},
        .height = height,
        .width = width,
        .in_channels = 4,
        .in_factor = 1,
        .out_channels = 3,
        .out_factor = ld_vae_factor(ld_model_arch(model)),
        .in = latent,
        .out = picture,
    };
    ld_range_push(model->backend->ranges, "decode %dx%d", width * tiling.out_factor,
                  height * tiling.out_factor);
    const enum ld_code code =
        parts && !whole ? in_tiles(model, &tiling, err) : run_one(model, &tiling.run, err);
    ld_range_pop(model->backend->ranges);
    return code;
}

enum ld_code ld_model_decode(struct ld_model *model, const float *latent, int32_t height,
                             int32_t width, float scale, const struct ld_cancel *cancel,
                             float *picture, struct ld_error *err)
{
    return ld_model_decode_form(model, latent, height, width, scale, LD_VAE_FORM_WHOLE, cancel,
                                picture, err);
}

enum ld_code ld_model_encode_form(struct ld_model *model, const float *picture, int32_t height,
                                  int32_t width, enum ld_vae_form form,
                                  const struct ld_cancel *cancel, float *moments,
                                  struct ld_error *err)
{
    const int32_t factor = ld_vae_factor(ld_model_arch(model));
    const bool parts = form == LD_VAE_FORM_ESTIMATED || form == LD_VAE_FORM_TILE;
    const bool whole = parts && one_tile(height / factor, width / factor);
    struct tiling tiling = {
        .run = {.part = LD_PART_VAE_ENCODER,
                .shape = {.batch = 1,
                          .height = height,
                          .width = width,
                          .form = whole ? LD_VAE_FORM_WHOLE : form},
                .in = picture,
                .cancel = cancel,
                .out = moments},
        .height = height / factor,
        .width = width / factor,
        .in_channels = 3,
        .in_factor = factor,
        .out_channels = 8,
        .out_factor = 1,
        .in = picture,
        .out = moments,
    };
    ld_range_push(model->backend->ranges, "encode %dx%d", width, height);
    const enum ld_code code =
        parts && !whole ? in_tiles(model, &tiling, err) : run_one(model, &tiling.run, err);
    ld_range_pop(model->backend->ranges);
    if (code == LD_OK)
        clamp_logvar(moments, (size_t)tiling.height * (size_t)tiling.width);
    return code;
}

enum ld_code ld_model_encode_image(struct ld_model *model, const float *picture, int32_t height,
                                   int32_t width, const struct ld_cancel *cancel, float *moments,
                                   struct ld_error *err)
{
    return ld_model_encode_form(model, picture, height, width, LD_VAE_FORM_WHOLE, cancel, moments,
                                err);
}

/* ---- What it takes --------------------------------------------------------------------------- */

size_t ld_model_vae_bytes(const struct ld_model *model, bool encoder, int32_t height, int32_t width)
{
    const struct ld_arch *arch = ld_model_arch(model);
    const enum ld_dtype dtype = model->backend->act_dtype;
    const int32_t factor = ld_vae_factor(arch);
    struct ld_cost cost = {0};
    const enum ld_code code =
        encoder ? ld_cost_encode_image(&cost, arch, dtype, height * factor, width * factor, NULL)
                : ld_cost_decode(&cost, arch, dtype, height, width, NULL);
    return code == LD_OK ? cost.scratch_bytes : 0;
}

bool ld_model_on_host(const struct ld_model *model)
{
    return model->backend->act_dtype == LD_DTYPE_F32;
}
