/*
 * The plan of the matmul family: what the tuner may choose from, which variant a shape gets where
 * nobody has measured, how many tiles and how much scratch it takes. Pure functions; no CUDA.
 *
 * Everything here depends on the shape of ONE image, never on the batch: the choice decides in
 * which order K is summed, and an image must not change with its company.
 */
#include "kernels/cuda/matmul.h"

#include "kernels/cuda/tile_model.h"
#include "kernels/idx.h"

#include <stddef.h>
#include <string.h>

/* ---- The list -------------------------------------------------------------------------------- */

/* Mirrors matmul_tile.cuh, which a test compares with it. */
const struct ldk_matmul_shape ldk_matmul_shapes[LDK_TILE_COUNT] = {
    [LDK_TILE_GRAND] = {256, 160, 3, 512, 1, 256 * 336 + 160 * 4 + 80 * 128, 128},
    [LDK_TILE_WIDE] = {128, 160, 4, 256, 1, 4 * (128 + 160) * 64, 128},
    [LDK_TILE_TALL] = {256, 128, 4, 256, 1, 4 * (256 + 128) * 64, 128},
    [LDK_TILE_SQUARE] = {128, 128, 3, 128, 2, 3 * (128 + 128) * 64, 128},
    [LDK_TILE_LOW] = {64, 128, 4, 256, 2, 4 * (64 + 128) * 64, 64},
    [LDK_TILE_NARROW] = {64, 64, 4, 128, 3, 4 * (64 + 64) * 64, 64},
};

static const struct ldk_matmul_variant variants[] = {
    {"plain", LDK_MATMUL_PLAIN, LDK_TILE_COUNT, 1},
    {"first", LDK_MATMUL_FIRST, LDK_TILE_COUNT, 1},
    {"last", LDK_MATMUL_LAST, LDK_TILE_COUNT, 1},
    {"rows", LDK_MATMUL_ROWS, LDK_TILE_COUNT, 1},
    {"256x160", LDK_MATMUL_TILES, LDK_TILE_GRAND, 1},
    {"128x160", LDK_MATMUL_TILES, LDK_TILE_WIDE, 1},
    {"256x128", LDK_MATMUL_TILES, LDK_TILE_TALL, 1},
    {"128x128", LDK_MATMUL_TILES, LDK_TILE_SQUARE, 1},
    {"64x128", LDK_MATMUL_TILES, LDK_TILE_LOW, 1},
    {"64x64", LDK_MATMUL_TILES, LDK_TILE_NARROW, 1},
    {"256x160 k/2", LDK_MATMUL_TILES, LDK_TILE_GRAND, 2},
    {"256x160 k/4", LDK_MATMUL_TILES, LDK_TILE_GRAND, 4},
    {"128x160 k/2", LDK_MATMUL_TILES, LDK_TILE_WIDE, 2},
    {"128x160 k/4", LDK_MATMUL_TILES, LDK_TILE_WIDE, 4},
    {"128x160 k/8", LDK_MATMUL_TILES, LDK_TILE_WIDE, 8},
    {"64x128 k/2", LDK_MATMUL_TILES, LDK_TILE_LOW, 2},
    {"64x128 k/4", LDK_MATMUL_TILES, LDK_TILE_LOW, 4},
    {"64x128 k/8", LDK_MATMUL_TILES, LDK_TILE_LOW, 8},
};

enum { VARIANTS = sizeof variants / sizeof variants[0], PLAIN = 0, FIRST = 1, LAST = 2, ROWS = 3 };

/* ---- Which variant can run what -------------------------------------------------------------- */

static bool is_half(enum ldk_dtype dtype)
{
    return dtype == LDK_F16 || dtype == LDK_BF16;
}

static bool one_half_type(const struct ldk_matmul *m)
{
    return is_half(m->x_dtype) && m->w_dtype == m->x_dtype && m->y_dtype == m->x_dtype;
}

static int32_t k_slices(const struct ldk_matmul *m)
{
    return m->kernel * m->kernel * ((m->c0 + m->c1) / LDK_MATMUL_K);
}

/* A kernel of 3 with one zero all around, at full resolution. */
static bool is_same_conv(const struct ldk_matmul *m)
{
    return m->kernel == 3 && m->stride == 1 && m->pad == 1 && m->up_h == 0 && m->c1 == 0 &&
           m->grid_w == m->in_w && m->positions == m->in_h * m->in_w && one_half_type(m);
}

/* Slices of K never cross a tap or a source, rows of y are whole vectors, and the walkers count the
 * elements between a tile's rows in 32 bits. */
static bool fits_tiles(const struct ldk_matmul *m)
{
    return one_half_type(m) && m->c0 % LDK_MATMUL_K == 0 && m->c1 % LDK_MATMUL_K == 0 &&
           m->out_n % 8 == 0 && m->c0 <= LDK_MATMUL_STRIDE_MAX && m->c1 <= LDK_MATMUL_STRIDE_MAX &&
           m->w_stride <= LDK_MATMUL_STRIDE_MAX;
}

/* Registers for both sets of sums; mirrors F16_SUMS. */
static bool has_f16_sums(enum ldk_matmul_tile tile)
{
    return tile == LDK_TILE_WIDE || tile == LDK_TILE_LOW || tile == LDK_TILE_NARROW;
}

static bool can_run(const struct ldk_matmul *m, const struct ldk_matmul_variant *variant)
{
    switch (variant->kind) {
    case LDK_MATMUL_PLAIN:
        return true;
    case LDK_MATMUL_FIRST:
        return is_same_conv(m) && (m->c0 == 3 || m->c0 == 4 || m->c0 == 8 || m->c0 == 9);
    case LDK_MATMUL_LAST:
        return is_same_conv(m) && m->c0 % 2 == 0 && m->n <= LDK_MATMUL_LAST_OUTPUTS;
    case LDK_MATMUL_ROWS:
        return m->linear && m->c1 == 0 && m->c0 % 8 == 0 && m->activation != LDK_ACT_GEGLU;
    case LDK_MATMUL_TILES:
        return fits_tiles(m) && variant->splits <= k_slices(m) &&
               (!m->fp16_accumulate || has_f16_sums(variant->tile));
    }
    return false;
}

/* ---- The choice where nothing was measured --------------------------------------------------- */

/* Predicted for a step of one image, two rows of the batch with its negative prompt, on a GPU of
 * 128 multiprocessors. */
static double cost(const struct ldk_matmul *m, const struct ldk_matmul_variant *variant)
{
    enum { SMS = 128, ROWS_OF_BATCH = 2 };
    const struct ldk_matmul_shape *shape = &ldk_matmul_shapes[variant->tile];
    const struct ldk_tile_cut cut = {.m = shape->m, .n = shape->n, .splits = variant->splits};
    int64_t tiles = (int64_t)ROWS_OF_BATCH * m->phases * ld_idx_ceil_div(m->positions, shape->m) *
                    ld_idx_ceil_div(m->n, shape->n);
    return ldk_tile_clocks(tiles, k_slices(m) * LDK_MATMUL_K, cut, SMS);
}

/* Rows of one image up to which a warp an output is the better way to read the weights once. */
enum { FEW_ROWS = 4 };

static int32_t choose(const struct ldk_matmul *m)
{
    if (can_run(m, &variants[ROWS]) && (m->positions <= FEW_ROWS || !one_half_type(m)))
        return ROWS;
    if (can_run(m, &variants[LAST]))
        return LAST;
    if (can_run(m, &variants[FIRST]))
        return FIRST;
    int32_t best = PLAIN;
    double least = 0.0;
    for (int32_t i = 0; i < VARIANTS; i++) {
        if (variants[i].kind != LDK_MATMUL_TILES || !can_run(m, &variants[i]))
            continue;
        double now = cost(m, &variants[i]);
        if (best == PLAIN || now < least) {
            best = i;
            least = now;
        }
    }
    return best;
}

/* ---- From arguments to a launch -------------------------------------------------------------- */

/* Positions of one image are counted in 32 bits, with room for a tile beyond the last. */
static bool countable(int32_t height, int32_t width)
{
    return (int64_t)height * width <= INT32_MAX / 4;
}

static bool sane_weight(const struct ldk_weight *w, int32_t channels)
{
    return w->rows > 0 && w->rows_padded >= w->rows && w->k == channels && w->k_padded >= w->k &&
           w->k_padded % 8 == 0 && (w->taps == 1 || w->taps == 9) &&
           (!w->geglu || w->rows % 2 == 0);
}

static void take_weight(struct ldk_matmul *m, const struct ldk_weight *w)
{
    m->w = w->data;
    m->w_rows = w->rows_padded;
    m->w_stride = w->taps * w->k_padded;
    m->k_padded = w->k_padded;
    m->n = w->rows;
    m->out_n = w->geglu ? w->rows / 2 : w->rows;
    m->bias = w->bias;
    m->w_dtype = w->dtype;
}

static int describe_conv(const struct ldk_conv *c, struct ldk_matmul *m)
{
    bool sane = c->batch > 0 && c->in_h > 0 && c->in_w > 0 && c->c0 > 0 && c->c1 >= 0 &&
                c->out_h > 0 && c->out_w > 0 && c->stride > 0 && c->pad_before >= 0 &&
                (c->up_h > 0) == (c->up_w > 0) && sane_weight(&c->w, c->c0 + c->c1) && !c->w.geglu;
    if (!sane || !countable(c->in_h, c->in_w) || !countable(c->out_h, c->out_w) ||
        !countable(c->up_h, c->up_w))
        return LDK_E_INVALID;
    *m = (struct ldk_matmul){.x0 = c->x0,
                             .x1 = c->x1,
                             .c0 = c->c0,
                             .c1 = c->c1,
                             .in_h = c->in_h,
                             .in_w = c->in_w,
                             .up_h = c->up_h,
                             .up_w = c->up_w,
                             .kernel = c->w.taps == 9 ? 3 : 1,
                             .stride = c->stride,
                             .pad = c->pad_before,
                             .grid_w = c->out_w,
                             .images = c->batch,
                             .phases = 1,
                             .positions = c->out_h * c->out_w,
                             .row_add = c->row_add,
                             .row_add_stride = c->row_add_stride,
                             .row_add_f32 = c->row_add_f32,
                             .residual = c->residual,
                             .y = c->y,
                             .moments = c->moments,
                             .partial = c->workspace,
                             .x_dtype = c->dtype,
                             .y_dtype = c->dtype};
    take_weight(m, &c->w);
    m->fp16_accumulate = c->fp16_accumulate && c->dtype == LDK_F16;
    return LDK_OK;
}

static int describe_linear(const struct ldk_linear *l, struct ldk_matmul *m)
{
    bool sane = l->rows > 0 && l->rows_per_image > 0 && l->rows % l->rows_per_image == 0 &&
                l->c0 > 0 && l->c1 >= 0 && sane_weight(&l->w, l->c0 + l->c1) && l->w.taps == 1 &&
                l->w.geglu == (l->activation == LDK_ACT_GEGLU);
    if (!sane || !countable(1, l->rows_per_image))
        return LDK_E_INVALID;
    *m = (struct ldk_matmul){.x0 = l->x0,
                             .x1 = l->x1,
                             .c0 = l->c0,
                             .c1 = l->c1,
                             .linear = true,
                             .in_h = 1,
                             .in_w = l->rows_per_image,
                             .kernel = 1,
                             .stride = 1,
                             .grid_w = l->rows_per_image,
                             .images = l->rows / l->rows_per_image,
                             .phases = 1,
                             .positions = l->rows_per_image,
                             .activation = l->activation,
                             .residual = l->residual,
                             .y = l->y,
                             .moments = l->moments,
                             .partial = l->workspace,
                             .x_dtype = l->dtype,
                             .y_dtype = l->y_f32 ? LDK_F32 : l->dtype};
    take_weight(m, &l->w);
    m->fp16_accumulate = l->fp16_accumulate && l->dtype == LDK_F16;
    return LDK_OK;
}

/* An upsampling by exactly two, in phase form where the weight has one and the tiles run it. */
static void take_phases(const struct ldk_conv *c, struct ldk_matmul *m)
{
    bool twice = c->w.phase != NULL && m->kernel == 3 && m->stride == 1 && m->pad == 1 &&
                 c->up_h == 2 * c->in_h && c->up_w == 2 * c->in_w && c->out_h == c->up_h &&
                 c->out_w == c->up_w;
    if (!twice || !fits_tiles(m))
        return;
    m->w = c->w.phase;
    m->w_stride = 4 * m->k_padded;
    m->up_h = m->up_w = 0;
    m->kernel = 2;
    m->grid_w = m->in_w;
    m->phases = 4;
    m->positions = m->in_h * m->in_w;
}

/* Chooses or checks the variant and cuts the work. */
static int settle(struct ldk_matmul *m, int32_t asked, const struct ldk_matmul_variant **variant)
{
    int32_t number = asked == LDK_VARIANT_AUTO ? choose(m) : asked;
    if (number < 0 || number >= VARIANTS)
        return LDK_E_INVALID;
    *variant = &variants[number];
    if (!can_run(m, *variant))
        return LDK_E_UNSUPPORTED;
    m->splits = (*variant)->splits;
    if ((*variant)->kind == LDK_MATMUL_TILES) {
        m->m_tiles = ld_idx_ceil_div(m->positions, ldk_matmul_shapes[(*variant)->tile].m);
        m->n_tiles = ld_idx_ceil_div(m->n, ldk_matmul_shapes[(*variant)->tile].n);
        m->moment_tiles =
            ld_idx_ceil_div(m->positions, ldk_matmul_shapes[(*variant)->tile].moment_rows);
    } else {
        m->fp16_accumulate = false;
    }
    int64_t blocks = (int64_t)m->images * m->phases * m->m_tiles * m->n_tiles;
    return blocks <= INT32_MAX ? LDK_OK : LDK_E_INVALID;
}

static int shape_conv(const struct ldk_conv *c, struct ldk_matmul *m,
                      const struct ldk_matmul_variant **variant)
{
    int code = describe_conv(c, m);
    if (code != LDK_OK)
        return code;
    if (c->variant != LDK_VARIANT_PLAIN)
        take_phases(c, m);
    return settle(m, c->variant, variant);
}

static int shape_linear(const struct ldk_linear *l, struct ldk_matmul *m,
                        const struct ldk_matmul_variant **variant)
{
    int code = describe_linear(l, m);
    return code == LDK_OK ? settle(m, l->variant, variant) : code;
}

/* ---- Sizes ----------------------------------------------------------------------------------- */

static int32_t moment_tiles(const struct ldk_matmul *m, const struct ldk_matmul_variant *variant)
{
    return variant->kind == LDK_MATMUL_TILES ? m->phases * m->moment_tiles : 0;
}

static size_t workspace(const struct ldk_matmul *m, const struct ldk_matmul_variant *variant)
{
    if (variant->kind != LDK_MATMUL_TILES || variant->splits == 1)
        return 0;
    const struct ldk_matmul_shape *shape = &ldk_matmul_shapes[variant->tile];
    size_t tiles = (size_t)m->images * (size_t)m->phases * (size_t)m->m_tiles * (size_t)m->n_tiles;
    return tiles * (size_t)m->splits * (size_t)shape->m * (size_t)shape->n * sizeof(float);
}

int32_t ldk_conv_tiles(const struct ldk_conv *c)
{
    struct ldk_matmul m;
    const struct ldk_matmul_variant *variant;
    return shape_conv(c, &m, &variant) == LDK_OK ? moment_tiles(&m, variant) : 0;
}

int32_t ldk_linear_tiles(const struct ldk_linear *l)
{
    struct ldk_matmul m;
    const struct ldk_matmul_variant *variant;
    return shape_linear(l, &m, &variant) == LDK_OK ? moment_tiles(&m, variant) : 0;
}

size_t ldk_conv_workspace(const struct ldk_conv *c)
{
    struct ldk_matmul m;
    const struct ldk_matmul_variant *variant;
    return shape_conv(c, &m, &variant) == LDK_OK ? workspace(&m, variant) : 0;
}

size_t ldk_linear_workspace(const struct ldk_linear *l)
{
    struct ldk_matmul m;
    const struct ldk_matmul_variant *variant;
    return shape_linear(l, &m, &variant) == LDK_OK ? workspace(&m, variant) : 0;
}

/* ---- Launches -------------------------------------------------------------------------------- */

static bool aligned(const void *pointer)
{
    return ((uintptr_t)pointer & 15u) == 0;
}

/* The pointers are there, and where vectors are used they are aligned. */
static int check_pointers(const struct ldk_matmul *m, const struct ldk_matmul_variant *variant)
{
    bool there = m->x0 != NULL && (m->c1 > 0) == (m->x1 != NULL) && m->w != NULL &&
                 m->bias != NULL && m->y != NULL;
    bool moments = m->moments == NULL || moment_tiles(m, variant) > 0;
    bool scratch = workspace(m, variant) == 0 || m->partial != NULL;
    bool vectors = aligned(m->x0) && aligned(m->x1) && aligned(m->w) && aligned(m->y) &&
                   aligned(m->residual) && aligned(m->moments) && aligned(m->partial);
    if (!there || !scratch || (m->row_add != NULL && m->row_add_stride < m->n))
        return LDK_E_INVALID;
    if (variant->kind != LDK_MATMUL_PLAIN && !vectors)
        return LDK_E_INVALID;
    return moments ? LDK_OK : LDK_E_UNSUPPORTED;
}

int ldk_matmul_plan_conv(const struct ldk_conv *c, struct ldk_matmul *m,
                         const struct ldk_matmul_variant **variant)
{
    int code = shape_conv(c, m, variant);
    return code == LDK_OK ? check_pointers(m, *variant) : code;
}

int ldk_matmul_plan_linear(const struct ldk_linear *l, struct ldk_matmul *m,
                           const struct ldk_matmul_variant **variant)
{
    int code = shape_linear(l, m, variant);
    return code == LDK_OK ? check_pointers(m, *variant) : code;
}

/* ---- The tuner's list ------------------------------------------------------------------------ */

/*
 * What decides the bits: the kernel, the parts of K, the form of an upsampling, the accumulators,
 * and the rows that a record of moments covers, which does not change y but the moments that go
 * with it. All tiles add K in the same order.
 */
static uint32_t signature(const struct ldk_matmul *m, const struct ldk_matmul_variant *variant)
{
    uint32_t s = (uint32_t)variant->kind << 24;
    if (variant->kind == LDK_MATMUL_TILES)
        s |= (uint32_t)ldk_matmul_shapes[variant->tile].moment_rows << 12 |
             (uint32_t)variant->splits << 4 | (m->phases > 1 ? 2u : 0u) |
             (m->fp16_accumulate ? 1u : 0u);
    return s;
}

static int32_t list(const struct ldk_matmul *m, struct ldk_variant *out, int32_t capacity)
{
    int32_t count = 0;
    for (int32_t i = 0; i < VARIANTS; i++) {
        const struct ldk_matmul_variant *variant = &variants[i];
        if (!can_run(m, variant))
            continue;
        if (count < capacity) {
            out[count] = (struct ldk_variant){
                .number = i, .signature = signature(m, variant), .name = variant->name};
            if (variant->kind == LDK_MATMUL_TILES) {
                const struct ldk_matmul_shape *shape = &ldk_matmul_shapes[variant->tile];
                out[count].tile_m = shape->m;
                out[count].tile_n = shape->n;
                out[count].tile_k = LDK_MATMUL_K;
                out[count].stages = shape->stages;
                out[count].threads = shape->threads;
                out[count].shared_bytes = shape->shared_bytes;
                out[count].moment_rows = shape->moment_rows;
                out[count].splits = variant->splits;
            }
        }
        count++;
    }
    return count;
}

int32_t ldk_conv_variants(const struct ldk_conv *c, struct ldk_variant *out, int32_t capacity)
{
    struct ldk_matmul m;
    if (describe_conv(c, &m) != LDK_OK)
        return 0;
    take_phases(c, &m);
    return list(&m, out, capacity);
}

int32_t ldk_linear_variants(const struct ldk_linear *l, struct ldk_variant *out, int32_t capacity)
{
    struct ldk_matmul m;
    return describe_linear(l, &m) == LDK_OK ? list(&m, out, capacity) : 0;
}

/* ---- What a launch would be ------------------------------------------------------------------ */

uint32_t ldk_conv_signature(const struct ldk_conv *c)
{
    struct ldk_matmul m;
    const struct ldk_matmul_variant *variant;
    return shape_conv(c, &m, &variant) == LDK_OK ? signature(&m, variant) : 0;
}

uint32_t ldk_linear_signature(const struct ldk_linear *l)
{
    struct ldk_matmul m;
    const struct ldk_matmul_variant *variant;
    return shape_linear(l, &m, &variant) == LDK_OK ? signature(&m, variant) : 0;
}

int32_t ldk_conv_number(const struct ldk_conv *c)
{
    struct ldk_matmul m;
    const struct ldk_matmul_variant *variant;
    return shape_conv(c, &m, &variant) == LDK_OK ? (int32_t)(variant - variants) : LDK_VARIANT_AUTO;
}

int32_t ldk_linear_number(const struct ldk_linear *l)
{
    struct ldk_matmul m;
    const struct ldk_matmul_variant *variant;
    return shape_linear(l, &m, &variant) == LDK_OK ? (int32_t)(variant - variants)
                                                   : LDK_VARIANT_AUTO;
}
