#include "runtime/model/vae_graph.h"

#include "runtime/model/graph_layers.h"

#define PREFIX "first_stage_model."

enum {
    LATENT_CHANNELS = 4,
    PICTURE_CHANNELS = 3,
    DECODER_RES_PER_LEVEL = 3,
    ENCODER_RES_PER_LEVEL = 2,
    BATCH_MAX = 1024,
    SIDE_MAX = 1 << 17 /* picture side, 8 times the UNet's latent bound */
};
static const double EPSILON = 1e-6; /* every norm of the VAE, model.md 2.2 */

/* ---- Pieces ---------------------------------------------------------------------------------- */

enum { FOLDS_MAX = 64 };
enum norms { NORMS_OWN, NORMS_RECORDED, NORMS_REPLAYED };

struct builder {
    struct ld_graph *graph;
    const struct ld_arch *arch;
    const struct ld_vae_shape *shape;
    bool decodes;
    enum norms norms;
    int32_t folds[FOLDS_MAX]; /* what the norms of the half-size picture measured, in order */
    int32_t fold_count, fold_next;
};

/* Of a strip of any map. */
static size_t strip_bytes(const struct builder *b)
{
    const struct ld_vae_shape *shape = b->shape;
    const size_t side = b->decodes ? (size_t)ld_vae_factor(b->arch) : 1;
    const size_t pixels = (size_t)shape->height * (size_t)shape->width * side * side;
    const size_t part = pixels * (size_t)b->arch->vae_channels *
                        ld_dtype_size(b->graph->act_dtype) / LD_VAE_STRIP_PART;
    return part < LD_VAE_STRIP_BYTES ? part : LD_VAE_STRIP_BYTES;
}

/* Rows of a strip of a map with `channels`, even, so that up- and downsampling cut between pairs;
 * 0: the map is small or passes whole. */
static int32_t strip_rows(const struct builder *b, const struct ld_graph_value *x, int32_t channels)
{
    const size_t row = (size_t)x->width * (size_t)channels * ld_dtype_size(b->graph->act_dtype);
    if (b->shape->form != LD_VAE_FORM_STRIPS)
        return 0;
    if (b->shape->strip_rows > 0)
        return x->height > b->shape->strip_rows ? b->shape->strip_rows : 0;
    const size_t rows = strip_bytes(b) / row;
    if ((size_t)x->height <= (rows < 4 ? 8 : 2 * rows))
        return 0;
    return rows < 4 ? 4 : (int32_t)(rows & ~(size_t)1);
}

static int32_t norm(struct builder *b, const char *name, int32_t x, bool silu)
{
    struct ld_graph *graph = b->graph;
    struct ld_norm_rows rows = {.x = x, .epsilon = EPSILON, .silu = silu};
    if (b->norms == NORMS_OWN)
        return ld_graph_group_norm(graph, name, x, LD_GRAPH_NONE, EPSILON, silu);
    if (b->norms == NORMS_RECORDED) {
        LD_ASSERT(b->fold_count < FOLDS_MAX);
        rows.fold = ld_graph_norm_measure(graph, name, x, EPSILON);
        if (rows.fold != LD_GRAPH_NONE)
            graph->values[rows.fold].persistent = true;
        b->folds[b->fold_count++] = rows.fold;
    } else {
        LD_ASSERT(b->fold_next < b->fold_count);
        rows.fold = b->folds[b->fold_next++];
    }
    return ld_graph_norm_apply(graph, name, &rows);
}

/* ---- Strips ---------------------------------------------------------------------------------- */

/* Names of a strip's operators are those of the whole layer: one weight, many operators. */
struct conv_names {
    const char *norm, *conv;
};

/* The rows of x that a strip of its output [first, end) sees, and the output they give: one row
 * more on each side, whose results are dropped. */
static int32_t conv_strip(struct builder *b, const struct conv_names *names, int32_t x,
                          int32_t fold, const struct ld_conv_args *args, int32_t row, int32_t rows)
{
    struct ld_conv_args strip = *args;
    const int32_t normal = ld_graph_norm_apply(
        b->graph, names->norm,
        &(struct ld_norm_rows){
            .x = x, .row = row, .rows = rows, .fold = fold, .epsilon = EPSILON, .silu = true});
    strip.x0 = normal;
    strip.residual_row = args->residual ? row : 0;
    return ld_graph_conv(b->graph, names->conv, &strip);
}

/* Norm, SiLU, convolution and residual. In strips the result takes the residual's place. */
static int32_t norm_conv(struct builder *b, const struct conv_names *names, int32_t x,
                         const struct ld_conv_args *args)
{
    struct ld_graph *graph = b->graph;
    const struct ld_graph_value map = *ld_graph_at(graph, x);
    const int32_t widest = map.channels > args->channels ? map.channels : args->channels;
    const int32_t rows = strip_rows(b, &map, widest);
    struct ld_conv_args whole = *args;
    if (rows == 0) {
        whole.x0 = norm(b, names->norm, x, true);
        return ld_graph_conv(graph, names->conv, &whole);
    }
    const int32_t fold = ld_graph_norm_measure(graph, names->norm, x, EPSILON);
    const int32_t y = args->residual
                          ? args->residual
                          : ld_graph_value(graph, 1, map.height, map.width, args->channels);
    for (int32_t first = 0; first < map.height && graph->failed == LD_OK; first += rows) {
        const int32_t end = first + rows < map.height ? first + rows : map.height;
        const int32_t from = first > 0 ? first - 1 : 0;
        const int32_t to = end < map.height ? end + 1 : map.height;
        const int32_t out = conv_strip(b, names, x, fold, args, from, to - from);
        ld_graph_copy_rows(graph, out, first - from, end - first, y, first);
    }
    return y;
}

/* Twice the size, then a convolution. */
static int32_t up_conv(struct builder *b, const char *name, int32_t x)
{
    struct ld_graph *graph = b->graph;
    const struct ld_graph_value map = *ld_graph_at(graph, x);
    const struct ld_graph_value large = {.height = 2 * map.height, .width = 2 * map.width};
    const int32_t rows = strip_rows(b, &large, map.channels);
    if (rows == 0)
        return ld_graph_conv(graph, name,
                             &(struct ld_conv_args){.x0 = x,
                                                    .channels = map.channels,
                                                    .up_height = large.height,
                                                    .up_width = large.width});
    const int32_t y = ld_graph_value(graph, 1, large.height, large.width, map.channels);
    for (int32_t first = 0; first < large.height && graph->failed == LD_OK; first += rows) {
        const int32_t end = first + rows < large.height ? first + rows : large.height;
        const int32_t from = first > 0 ? first / 2 - 1 : 0;
        const int32_t to = end < large.height ? end / 2 + 1 : map.height;
        const int32_t out = ld_graph_conv(graph, name,
                                          &(struct ld_conv_args){.x0 = x,
                                                                 .x0_row = from,
                                                                 .x0_rows = to - from,
                                                                 .channels = map.channels,
                                                                 .up_height = 2 * (to - from),
                                                                 .up_width = large.width});
        ld_graph_copy_rows(graph, out, first - 2 * from, end - first, y, first);
    }
    return y;
}

/* Half the size. A strip's last row reads one row of the next strip, or the zeros below the map. */
static int32_t down_conv(struct builder *b, const char *name, int32_t x)
{
    struct ld_graph *graph = b->graph;
    const struct ld_graph_value map = *ld_graph_at(graph, x);
    const int32_t rows = strip_rows(b, &map, map.channels);
    if (rows == 0)
        return ld_graph_conv(
            graph, name,
            &(struct ld_conv_args){
                .x0 = x, .channels = map.channels, .stride = 2, .pad_end_only = true});
    const int32_t y = ld_graph_value(graph, 1, map.height / 2, map.width / 2, map.channels);
    for (int32_t first = 0; first < map.height && graph->failed == LD_OK; first += rows) {
        const int32_t end = first + rows < map.height ? first + rows : map.height;
        const int32_t to = end < map.height ? end + 1 : map.height;
        const int32_t out = ld_graph_conv(graph, name,
                                          &(struct ld_conv_args){.x0 = x,
                                                                 .x0_row = first,
                                                                 .x0_rows = to - first,
                                                                 .channels = map.channels,
                                                                 .stride = 2,
                                                                 .pad_end_only = true});
        ld_graph_copy_rows(graph, out, 0, (end - first) / 2, y, first / 2);
    }
    return y;
}

/* The 1x1 convolution of a residual. In strips it follows its own reads through the same memory,
 * where it is narrower: nobody reads x after it. */
static int32_t shortcut(struct builder *b, const char *name, int32_t x, int32_t channels)
{
    struct ld_graph *graph = b->graph;
    const struct ld_graph_value map = *ld_graph_at(graph, x);
    const int32_t rows = strip_rows(b, &map, map.channels > channels ? map.channels : channels);
    if (rows == 0)
        return ld_graph_linear(graph, name,
                               &(struct ld_linear_args){.x0 = x, .channels = channels});
    const int32_t y = ld_graph_value(graph, 1, map.height, map.width, channels);
    if (y != LD_GRAPH_NONE && channels <= map.channels)
        graph->values[y].shares = x;
    for (int32_t first = 0; first < map.height && graph->failed == LD_OK; first += rows) {
        const int32_t count = first + rows < map.height ? rows : map.height - first;
        const int32_t out =
            ld_graph_linear(graph, name,
                            &(struct ld_linear_args){
                                .x0 = x, .x0_row = first, .x0_rows = count, .channels = channels});
        ld_graph_copy_rows(graph, out, 0, count, y, first);
    }
    return y;
}

/* ---- Blocks ---------------------------------------------------------------------------------- */

/* The shortcut comes first: the input then dies in the first norm, which runs in place. That is
 * what sets the peak of the decoder's last level. In strips the norm leaves its input as it is, and
 * the shortcut takes that input's place after it. */
static int32_t resblock(struct builder *b, const char *name, int32_t x, int32_t channels)
{
    struct ld_graph *graph = b->graph;
    const struct conv_names first = {ld_graph_name(graph, "%s.norm1", name),
                                     ld_graph_name(graph, "%s.conv1", name)};
    const struct conv_names second = {ld_graph_name(graph, "%s.norm2", name),
                                      ld_graph_name(graph, "%s.conv2", name)};
    const char *const skip_name = ld_graph_name(graph, "%s.nin_shortcut", name);
    const struct ld_graph_value map = *ld_graph_at(graph, x);
    const bool strips = strip_rows(b, &map, map.channels > channels ? map.channels : channels) > 0;
    const bool narrows = map.channels != channels;
    int32_t skip = x;
    if (narrows && !strips)
        skip = shortcut(b, skip_name, x, channels);
    const int32_t h = norm_conv(b, &first, x, &(struct ld_conv_args){.channels = channels});
    if (narrows && strips)
        skip = shortcut(b, skip_name, x, channels);
    return norm_conv(b, &second, h, &(struct ld_conv_args){.channels = channels, .residual = skip});
}

/* One head over all channels. */
static int32_t attention(struct builder *b, const char *name, int32_t x)
{
    struct ld_graph *graph = b->graph;
    const int32_t channels = ld_graph_at(graph, x)->channels;
    const char *const names[] = {ld_graph_name(graph, "%s.q", name),
                                 ld_graph_name(graph, "%s.k", name),
                                 ld_graph_name(graph, "%s.v", name)};
    const int32_t h = norm(b, ld_graph_name(graph, "%s.norm", name), x, false);
    const int32_t qkv = ld_graph_linear_stack(
        graph, names, 3, &(struct ld_linear_args){.x0 = h, .channels = channels});
    const int32_t a =
        ld_graph_attention(graph, &(struct ld_attention_args){.q = {qkv, 0, 0},
                                                              .k = {qkv, channels, 0},
                                                              .v = {qkv, 2 * channels, 0},
                                                              .heads = 1,
                                                              .head_dim = channels});
    return ld_graph_linear(graph, ld_graph_name(graph, "%s.proj_out", name),
                           &(struct ld_linear_args){.x0 = a, .channels = channels, .residual = x});
}

/* `half` is "decoder" or "encoder". */
static int32_t middle(struct builder *b, const char *half, int32_t h)
{
    struct ld_graph *graph = b->graph;
    const int32_t channels = ld_graph_at(graph, h)->channels;
    h = resblock(b, ld_graph_name(graph, PREFIX "%s.mid.block_1", half), h, channels);
    h = attention(b, ld_graph_name(graph, PREFIX "%s.mid.attn_1", half), h);
    ld_graph_tap(graph, ld_graph_name(graph, "%s.mid.attn_1", half));
    h = resblock(b, ld_graph_name(graph, PREFIX "%s.mid.block_2", half), h, channels);
    ld_graph_tap(graph, ld_graph_name(graph, "%s.mid.block_2", half));
    return h;
}

static bool arch_ok(struct ld_graph *graph, const struct ld_arch *arch,
                    const struct ld_vae_shape *shape)
{
    bool ok = arch->vae_levels >= 1 && arch->vae_levels <= LD_LEVELS_MAX &&
              arch->vae_channels >= 32 && arch->vae_channels % 32 == 0;
    for (int32_t l = 0; ok && l < arch->vae_levels; l++)
        ok = arch->vae_multipliers[l] >= 1;
    if (!ok)
        ld_graph_fail(graph, LD_E_UNSUPPORTED, "the VAE's widths are not supported");
    if (shape->batch < 1 || shape->batch > BATCH_MAX || shape->height < 1 ||
        shape->height > SIDE_MAX || shape->width < 1 || shape->width > SIDE_MAX)
        ld_graph_fail(graph, LD_E_RANGE, "batch or picture size is out of range");
    return graph->failed == LD_OK;
}

int32_t ld_vae_factor(const struct ld_arch *arch)
{
    return 1 << (arch->vae_levels - 1);
}

/* ---- Decoder --------------------------------------------------------------------------------- */

/* Norm, SiLU and the last convolution, to host planes. */
static void head(struct builder *b, const char *half, int32_t h, int32_t channels)
{
    struct ld_graph *graph = b->graph;
    const struct conv_names names = {ld_graph_name(graph, PREFIX "%s.norm_out", half),
                                     ld_graph_name(graph, PREFIX "%s.conv_out", half)};
    h = norm_conv(b, &names, h, &(struct ld_conv_args){.channels = channels});
    if (channels > PICTURE_CHANNELS) /* moments of the encoder */
        h = ld_graph_linear(graph, PREFIX "quant_conv",
                            &(struct ld_linear_args){.x0 = h, .channels = channels});
    if (b->norms != NORMS_RECORDED)
        ld_graph_planes_out(graph, h, LD_PORT_OUT);
}

static void decoder(struct builder *b, enum ld_port port, int32_t height, int32_t width)
{
    struct ld_graph *graph = b->graph;
    const struct ld_arch *arch = b->arch;
    const int32_t top = arch->vae_levels - 1;
    int32_t h = ld_graph_planes_in(graph, port, LD_PORT_SCALE, b->shape->batch, LATENT_CHANNELS,
                                   height, width);
    h = ld_graph_linear(graph, PREFIX "post_quant_conv",
                        &(struct ld_linear_args){.x0 = h, .channels = LATENT_CHANNELS});
    h = ld_graph_conv(graph, PREFIX "decoder.conv_in",
                      &(struct ld_conv_args){
                          .x0 = h, .channels = arch->vae_channels * arch->vae_multipliers[top]});
    ld_graph_tap(graph, "decoder.conv_in");
    h = middle(b, "decoder", h);
    for (int32_t level = top; level >= 0; level--) {
        const int32_t channels = arch->vae_channels * arch->vae_multipliers[level];
        for (int32_t r = 0; r < DECODER_RES_PER_LEVEL; r++)
            h = resblock(b, ld_graph_name(graph, PREFIX "decoder.up.%d.block.%d", level, r), h,
                         channels);
        if (level > 0)
            h = up_conv(b, ld_graph_name(graph, PREFIX "decoder.up.%d.upsample.conv", level), h);
        ld_graph_tap(graph, ld_graph_name(graph, "decoder.up.%d", level));
    }
    head(b, "decoder", h, PICTURE_CHANNELS);
}

/* ---- Encoder --------------------------------------------------------------------------------- */

static void encoder(struct builder *b, enum ld_port port, int32_t height, int32_t width)
{
    struct ld_graph *graph = b->graph;
    const struct ld_arch *arch = b->arch;
    int32_t h = ld_graph_planes_in(graph, port, LD_PORT_NONE, b->shape->batch, PICTURE_CHANNELS,
                                   height, width);
    h = ld_graph_conv(graph, PREFIX "encoder.conv_in",
                      &(struct ld_conv_args){.x0 = h, .channels = arch->vae_channels});
    ld_graph_tap(graph, "encoder.conv_in");
    for (int32_t level = 0; level < arch->vae_levels; level++) {
        const int32_t channels = arch->vae_channels * arch->vae_multipliers[level];
        for (int32_t r = 0; r < ENCODER_RES_PER_LEVEL; r++)
            h = resblock(b, ld_graph_name(graph, PREFIX "encoder.down.%d.block.%d", level, r), h,
                         channels);
        if (level < arch->vae_levels - 1)
            h = down_conv(b, ld_graph_name(graph, PREFIX "encoder.down.%d.downsample.conv", level),
                          h);
        ld_graph_tap(graph, ld_graph_name(graph, "encoder.down.%d", level));
    }
    h = middle(b, "encoder", h);
    head(b, "encoder", h, 2 * LATENT_CHANNELS);
}

/* ---- Whole networks -------------------------------------------------------------------------- */

static bool halves_ok(struct ld_graph *graph, const struct ld_vae_shape *shape)
{
    if (shape->form == LD_VAE_FORM_ESTIMATED &&
        (shape->sample_height < 1 || shape->sample_height > SIDE_MAX || shape->sample_width < 1 ||
         shape->sample_width > SIDE_MAX))
        ld_graph_fail(graph, LD_E_RANGE, "the half-size picture's size is out of range");
    if (shape->form != LD_VAE_FORM_WHOLE && shape->batch != 1)
        ld_graph_fail(graph, LD_E_RANGE, "a picture in parts is one picture");
    return graph->failed == LD_OK;
}

static void build(struct ld_graph *graph, const struct ld_arch *arch,
                  const struct ld_vae_shape *shape,
                  void (*half)(struct builder *b, enum ld_port port, int32_t height, int32_t width))
{
    struct builder b = {.graph = graph, .arch = arch, .shape = shape, .decodes = half == decoder};
    if (!halves_ok(graph, shape))
        return;
    if (shape->form == LD_VAE_FORM_ESTIMATED) {
        b.norms = NORMS_RECORDED;
        graph->in_prologue = true;
        half(&b, LD_PORT_EXTRA, shape->sample_height, shape->sample_width);
        graph->in_prologue = false;
        b.norms = NORMS_REPLAYED;
    }
    half(&b, LD_PORT_X, shape->height, shape->width);
}

void ld_vae_build_decoder(struct ld_graph *graph, const struct ld_arch *arch,
                          const struct ld_vae_shape *shape)
{
    if (arch_ok(graph, arch, shape))
        build(graph, arch, shape, decoder);
}

void ld_vae_build_encoder(struct ld_graph *graph, const struct ld_arch *arch,
                          const struct ld_vae_shape *shape)
{
    if (!arch_ok(graph, arch, shape))
        return;
    if (shape->height % ld_vae_factor(arch) != 0 || shape->width % ld_vae_factor(arch) != 0) {
        ld_graph_fail(graph, LD_E_SHAPE, "the picture's sides must be multiples of 8");
        return;
    }
    build(graph, arch, shape, encoder);
}
