#include "matmul_fixture.h"

#include "kernels/cuda/rt.h"
#include "kernels/idx.h"
#include "runtime/base/arena.h"

#include <math.h>
#include <string.h>

/* ---- A case's data ------------------------------------------------------------------------------ */

struct run {
    const struct matmul_case *c;
    int32_t cin, taps, out_n;
    int32_t in_positions, out_h, out_w, positions;
    struct ldk_pack pack;
    float *w;                                   /* [rows][cin][taps], as rounded */
    float *w_phase;                             /* [4][rows][cin][4], as rounded; NULL: none */
    float *bias, *row_add, *x0, *x1, *residual; /* as rounded */
    struct ldk_conv conv;
    struct ldk_linear linear;
    size_t y_count, y_bytes, moments_count;
    struct ldk_variant variant; /* number AUTO where none was named */
    int32_t tiles;
    unsigned char *out; /* device: y, and behind it the moments */
    float *y, *moments;
    double *want, *limit;
};

static void *zeros(size_t count, size_t size)
{
    void *memory = ld_heap_calloc(count + 1, size);
    LD_ASSERT(memory != NULL);
    return memory;
}

static float *normal(size_t count, float deviation, uint64_t seed)
{
    float *values = zeros(count, sizeof *values);
    hc_normal(values, count, deviation, seed);
    return values;
}

/* The row that is added lies within wider ones: neither its start nor its stride is a vector's. */
enum { ROW_ADD_COLUMN = 1 };

static int32_t row_add_stride(const struct matmul_case *c)
{
    return c->rows + 3;
}

static enum ldk_dtype weight_dtype(const struct matmul_case *c)
{
    return c->dtype == LDK_F32 ? c->w_dtype : c->dtype;
}

static enum ldk_dtype y_dtype(const struct matmul_case *c)
{
    return c->y_f32 ? LDK_F32 : c->dtype;
}

static bool is_conv(const struct matmul_case *c)
{
    return c->kernel > 0;
}

static void shape(struct run *r, const struct matmul_case *c)
{
    *r = (struct run){.c = c, .cin = c->c0 + c->c1, .taps = 1};
    r->out_n = c->activation == LDK_ACT_GEGLU ? c->rows / 2 : c->rows;
    r->in_positions = r->positions = c->tokens;
    if (!is_conv(c))
        return;
    int32_t h = c->up_h > 0 ? c->up_h : c->in_h;
    int32_t w = c->up_w > 0 ? c->up_w : c->in_w;
    int32_t pad = c->pad_before + c->pad_after;
    r->taps = c->kernel * c->kernel;
    r->out_h = ld_idx_conv_out(h, pad, c->kernel, c->stride);
    r->out_w = ld_idx_conv_out(w, pad, c->kernel, c->stride);
    r->in_positions = c->in_h * c->in_w;
    r->positions = r->out_h * r->out_w;
}

/* The phase form as the kernel sees it, for the reference. */
static const void *pack_phases(struct run *r, const struct ld_weight_desc *desc, float *line)
{
    const struct matmul_case *c = r->c;
    unsigned char *packed = zeros(r->pack.phase_bytes, 1);
    ldk_pack_phase_rows(&r->pack, desc, 0, 4 * r->pack.rows_padded, line, packed);
    size_t row = 4 * (size_t)r->pack.k_padded;
    float *decoded = zeros(row, sizeof *decoded);
    r->w_phase = zeros((size_t)(4 * c->rows * r->cin) * 4, sizeof(float));
    for (int32_t p = 0; p < 4; p++)
        for (int32_t n = 0; n < c->rows; n++) {
            size_t at = (size_t)(p * r->pack.rows_padded + n) * r->pack.phase_row_bytes;
            ld_dtype_to_f32(decoded, packed + at,
                            c->dtype == LDK_F16 ? LD_DTYPE_F16 : LD_DTYPE_BF16, row);
            for (int32_t k = 0; k < r->cin; k++)
                for (int32_t t = 0; t < 4; t++)
                    r->w_phase[((p * c->rows + n) * r->cin + k) * 4 + t] =
                        decoded[t * r->pack.k_padded + k];
        }
    ld_heap_free(decoded);
    const void *device = hc_upload(packed, r->pack.phase_bytes);
    ld_heap_free(packed);
    return device;
}

/* The weight's rows as one part, or as a stack of parts of different widths. */
static void cut_parts(const struct run *r, size_t row, struct ld_weight_desc *desc)
{
    const int32_t parts = r->c->parts > 0 ? r->c->parts : 1;
    int32_t first = 0;
    desc->part_count = (uint32_t)parts;
    for (int32_t p = 0; p < parts; p++) {
        const int32_t end = desc->rows * (p + 1) * (p + 1) / (parts * parts);
        desc->parts[p] = (struct ld_weight_part){
            .data = r->w + (size_t)first * row, .dtype = LD_DTYPE_F32, .rows = end - first};
        desc->bias[p] = (struct ld_weight_part){.data = r->bias + first, .dtype = LD_DTYPE_F32};
        first = end;
    }
}

static struct ldk_weight make_weight(struct run *r)
{
    const struct matmul_case *c = r->c;
    size_t row = (size_t)(r->cin * r->taps);
    r->w = normal((size_t)c->rows * row, 1.0f / sqrtf((float)row), 11);
    r->bias = normal((size_t)c->rows, 0.3f, 12);
    struct ld_weight_desc desc = {.kind = is_conv(c)                       ? LD_WEIGHT_CONV
                                          : c->activation == LDK_ACT_GEGLU ? LD_WEIGHT_GEGLU
                                                                           : LD_WEIGHT_LINEAR,
                                  .rows = c->rows,
                                  .k = r->cin,
                                  .kernel = is_conv(c) ? c->kernel : 1};
    cut_parts(r, row, &desc);
    ldk_pack_plan(&r->pack, &desc, weight_dtype(c), c->phase);
    float *line = zeros(r->pack.line, sizeof *line);
    unsigned char *packed = zeros(r->pack.data_bytes, 1);
    float *bias = zeros((size_t)r->pack.rows_padded, sizeof *bias);
    ldk_pack_rows(&r->pack, &desc, 0, r->pack.rows_padded, line, packed);
    ldk_pack_bias(&r->pack, &desc, bias);
    const void *phase = c->phase ? pack_phases(r, &desc, line) : NULL;
    for (int32_t n = 0; n < r->pack.rows_padded; n++) {
        int32_t from = ldk_pack_source_row(&r->pack, n);
        if (from >= 0)
            ldk_unpack_row(&r->pack, packed + (size_t)n * r->pack.row_bytes,
                           r->w + (size_t)from * row);
    }
    struct ldk_weight w = ldk_pack_weight(&r->pack, hc_upload(packed, r->pack.data_bytes), phase,
                                          hc_upload(bias, r->pack.bias_bytes));
    ld_heap_free(line);
    ld_heap_free(packed);
    ld_heap_free(bias);
    return w;
}

static void make_operator(struct run *r)
{
    const struct matmul_case *c = r->c;
    size_t pixels = (size_t)(c->batch * r->in_positions);
    r->y_count = (size_t)(c->batch * r->positions) * (size_t)r->out_n;
    r->y_bytes = (r->y_count * hc_size(y_dtype(c)) + 255) & ~(size_t)255;
    struct ldk_weight w = make_weight(r);
    r->x0 = normal(pixels * (size_t)c->c0, 1.0f, 1);
    r->x1 = normal(pixels * (size_t)c->c1, 1.0f, 2);
    const void *x0 = hc_tensor(r->x0, pixels * (size_t)c->c0, c->dtype);
    const void *x1 = c->c1 > 0 ? hc_tensor(r->x1, pixels * (size_t)c->c1, c->dtype) : NULL;
    const void *residual = NULL;
    if (c->residual) {
        r->residual = normal(r->y_count, 1.0f, 3);
        residual = hc_tensor(r->residual, r->y_count, y_dtype(c));
    }
    int32_t stride = row_add_stride(c);
    const unsigned char *row_add = NULL;
    if (c->row_add != ROW_ADD_NONE) {
        enum ldk_dtype dtype = c->row_add == ROW_ADD_F32 ? LDK_F32 : c->dtype;
        r->row_add = normal((size_t)(c->batch * stride), 0.5f, 4);
        row_add = hc_tensor(r->row_add, (size_t)(c->batch * stride), dtype);
        row_add += ROW_ADD_COLUMN * hc_size(dtype);
    }
    r->conv = (struct ldk_conv){.x0 = x0,
                                .x1 = x1,
                                .c0 = c->c0,
                                .c1 = c->c1,
                                .batch = c->batch,
                                .in_h = c->in_h,
                                .in_w = c->in_w,
                                .up_h = c->up_h,
                                .up_w = c->up_w,
                                .out_h = r->out_h,
                                .out_w = r->out_w,
                                .stride = c->stride,
                                .pad_before = c->pad_before,
                                .w = w,
                                .row_add = row_add,
                                .row_add_stride = stride,
                                .row_add_f32 = c->row_add == ROW_ADD_F32,
                                .residual = residual,
                                .dtype = c->dtype,
                                .fp16_accumulate = c->fp16_accumulate,
                                .variant = LDK_VARIANT_AUTO};
    r->linear = (struct ldk_linear){.x0 = x0,
                                    .x1 = x1,
                                    .c0 = c->c0,
                                    .c1 = c->c1,
                                    .rows = c->batch * c->tokens,
                                    .rows_per_image = c->tokens,
                                    .w = w,
                                    .activation = c->activation,
                                    .residual = residual,
                                    .y_f32 = c->y_f32,
                                    .dtype = c->dtype,
                                    .fp16_accumulate = c->fp16_accumulate,
                                    .variant = LDK_VARIANT_AUTO};
}

enum { VARIANTS_MAX = 32 };

static int32_t list_variants(const struct run *r, struct ldk_variant list[VARIANTS_MAX])
{
    return is_conv(r->c) ? ldk_conv_variants(&r->conv, list, VARIANTS_MAX)
                         : ldk_linear_variants(&r->linear, list, VARIANTS_MAX);
}

/* The named variant must be on offer for the case. */
static void choose_variant(struct run *r)
{
    struct ldk_variant list[VARIANTS_MAX];
    int32_t count = list_variants(r, list);
    r->variant.number = LDK_VARIANT_AUTO;
    for (int32_t i = 0; r->c->variant != NULL && i < count && i < VARIANTS_MAX; i++)
        if (strcmp(list[i].name, r->c->variant) == 0)
            r->variant = list[i];
    hc_expect(r->c->variant == NULL || r->variant.number >= 0, "%s is not offered", r->c->variant);
    r->conv.variant = r->linear.variant = r->variant.number;
}

static void make_outputs(struct run *r)
{
    const struct matmul_case *c = r->c;
    r->tiles = is_conv(c) ? ldk_conv_tiles(&r->conv) : ldk_linear_tiles(&r->linear);
    if (c->moments)
        r->moments_count = (size_t)(c->batch * r->tiles) * (size_t)r->out_n * 4;
    size_t bytes = r->y_bytes + r->moments_count * sizeof(float);
    r->out = hc_device(bytes);
    size_t scratch = is_conv(c) ? ldk_conv_workspace(&r->conv) : ldk_linear_workspace(&r->linear);
    void *workspace = scratch > 0 ? hc_device(scratch) : NULL;
    r->conv.y = r->linear.y = r->out;
    r->conv.workspace = r->linear.workspace = workspace;
    float *moments = r->moments_count > 0 ? (float *)(void *)(r->out + r->y_bytes) : NULL;
    r->conv.moments = r->linear.moments = moments;
    r->y = zeros(r->y_count, sizeof *r->y);
    r->moments = zeros(r->moments_count, sizeof *r->moments);
    r->want = zeros(r->y_count, sizeof *r->want);
    r->limit = zeros(r->y_count, sizeof *r->limit);
}

static void release(struct run *r)
{
    void *const all[] = {r->w,        r->w_phase, r->bias,    r->row_add, r->x0,   r->x1,
                         r->residual, r->y,       r->moments, r->want,    r->limit};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        ld_heap_free(all[i]);
    hc_free_all();
}

/* ---- The reference -------------------------------------------------------------------------------- */

struct sum {
    double value, magnitude;
};

static void add_pixel(const struct run *r, size_t pixel, const float *w, int32_t step,
                      struct sum *sum)
{
    for (int32_t k = 0; k < r->cin; k++) {
        float x = k < r->c->c0 ? r->x0[pixel * (size_t)r->c->c0 + (size_t)k]
                               : r->x1[pixel * (size_t)r->c->c1 + (size_t)(k - r->c->c0)];
        double product = (double)x * (double)w[k * step];
        sum->value += product;
        sum->magnitude += fabs(product);
    }
}

static struct sum window(const struct run *r, int32_t b, int32_t oy, int32_t ox, int32_t n)
{
    const struct matmul_case *c = r->c;
    struct sum sum = {0};
    int32_t h = c->up_h > 0 ? c->up_h : c->in_h;
    int32_t w = c->up_w > 0 ? c->up_w : c->in_w;
    for (int32_t tap = 0; tap < r->taps; tap++) {
        int32_t y = oy * c->stride + tap / c->kernel - c->pad_before;
        int32_t x = ox * c->stride + tap % c->kernel - c->pad_before;
        if (y < 0 || x < 0 || y >= h || x >= w)
            continue;
        y = y * c->in_h / h;
        x = x * c->in_w / w;
        add_pixel(r, (size_t)((b * c->in_h + y) * c->in_w + x),
                  r->w + (size_t)(n * r->cin * r->taps + tap), r->taps, &sum);
    }
    return sum;
}

static struct sum phase_window(const struct run *r, int32_t b, int32_t oy, int32_t ox, int32_t n)
{
    const struct matmul_case *c = r->c;
    struct sum sum = {0};
    int32_t phase = oy % 2 * 2 + ox % 2;
    for (int32_t tap = 0; tap < 4; tap++) {
        int32_t y = oy / 2 - 1 + oy % 2 + tap / 2;
        int32_t x = ox / 2 - 1 + ox % 2 + tap % 2;
        if (y < 0 || x < 0 || y >= c->in_h || x >= c->in_w)
            continue;
        add_pixel(r, (size_t)((b * c->in_h + y) * c->in_w + x),
                  r->w_phase + (size_t)((phase * c->rows + n) * r->cin * 4 + tap), 4, &sum);
    }
    return sum;
}

static struct sum row_sum(const struct run *r, int32_t b, int32_t position, int32_t n)
{
    const struct matmul_case *c = r->c;
    struct sum sum = {0};
    if (!is_conv(c))
        add_pixel(r, (size_t)(b * c->tokens + position), r->w + (size_t)(n * r->cin), 1, &sum);
    else if (r->w_phase != NULL)
        sum = phase_window(r, b, position / r->out_w, position % r->out_w, n);
    else
        sum = window(r, b, position / r->out_w, position % r->out_w, n);
    sum.value += (double)r->bias[n];
    if (r->row_add != NULL)
        sum.value += (double)r->row_add[b * row_add_stride(c) + ROW_ADD_COLUMN + n];
    return sum;
}

static double activated(double v, enum ldk_activation activation)
{
    if (activation == LDK_ACT_SILU)
        return v / (1.0 + exp(-v));
    if (activation == LDK_ACT_QUICK_GELU)
        return v / (1.0 + exp(-1.702 * v));
    return v;
}

static double gelu(double v)
{
    return 0.5 * v * erfc(-v * 0.70710678118654752440);
}

/* Element limits of kernels.md 15. What the sum may be off by, an activation passes on with its
 * slope, at most 1.13 here; a product with its factors. */
static void reference(struct run *r)
{
    const struct matmul_case *c = r->c;
    double root = sqrt((double)(r->cin * r->taps));
    for (size_t i = 0; i < r->y_count; i++) {
        int32_t n = (int32_t)(i % (size_t)r->out_n);
        int32_t position = (int32_t)(i / (size_t)r->out_n) % r->positions;
        int32_t b = (int32_t)(i / (size_t)r->out_n) / r->positions;
        struct sum sum = row_sum(r, b, position, n);
        double v = activated(sum.value, c->activation);
        double slack = 1.2 * 4e-4 * sum.magnitude / root;
        if (c->activation == LDK_ACT_GEGLU) {
            struct sum gate = row_sum(r, b, position, n + r->out_n);
            v = sum.value * gelu(gate.value);
            slack = slack * fabs(gelu(gate.value)) +
                    1.2 * 4e-4 * gate.magnitude / root * fabs(sum.value) + 1e-6;
        } else if (c->activation == LDK_ACT_NONE) {
            slack /= 1.2;
        }
        if (r->residual != NULL)
            v += (double)r->residual[i];
        r->want[i] = v;
        r->limit[i] = 2.0 * hc_ulp(v, y_dtype(c)) + slack;
    }
}

/* ---- Checks ----------------------------------------------------------------------------------------- */

static int launch(void *context)
{
    struct run *r = context;
    return is_conv(r->c) ? ldk_conv2d(&r->conv, NULL) : ldk_linear(&r->linear, NULL);
}

/* Output position behind row `row` of record `tile` of moments, as the contract counts them: those
 * of one phase after those of the one before; -1 beyond the last. */
static int32_t tile_position(const struct run *r, int32_t tile, int32_t row, int32_t rows)
{
    if (r->w_phase == NULL) {
        int32_t at = tile * rows + row;
        return at < r->positions ? at : -1;
    }
    int32_t of_phase = r->tiles / 4;
    int32_t at = tile % of_phase * rows + row;
    if (at >= r->in_positions)
        return -1;
    int32_t y = 2 * (at / r->c->in_w) + tile / of_phase / 2;
    int32_t x = 2 * (at % r->c->in_w) + tile / of_phase % 2;
    return y * r->out_w + x;
}

/* Recomputes one tile's moments of one channel from the rounded outputs. */
static bool moments_right(const struct run *r, int32_t b, int32_t tile, int32_t n, int32_t rows)
{
    const float *got =
        r->moments + ((size_t)(b * r->tiles + tile) * (size_t)r->out_n + (size_t)n) * 4;
    double shift = (double)got[0];
    double sum = 0.0;
    double square = 0.0;
    int32_t count = 0;
    for (int32_t row = 0; row < rows; row++) {
        int32_t at = tile_position(r, tile, row, rows);
        if (at < 0)
            continue;
        double v = (double)r->y[(size_t)(b * r->positions + at) * (size_t)r->out_n + (size_t)n];
        if (count == 0 && v != shift)
            return false;
        sum += v - shift;
        square += (v - shift) * (v - shift);
        count++;
    }
    return (double)got[3] == (double)count &&
           fabs((double)got[1] - sum) <= 1e-5 * (sqrt(square * count) + 1e-6) &&
           fabs((double)got[2] - square) <= 1e-5 * square + 1e-9;
}

/* The tiles of an image hold each of its positions once. */
static bool tiles_cover(const struct run *r, int32_t b)
{
    double positions = 0.0;
    for (int32_t tile = 0; tile < r->tiles; tile++)
        positions += (double)r->moments[(size_t)(b * r->tiles + tile) * (size_t)r->out_n * 4 + 3];
    return positions == (double)r->positions;
}

static void check_moments(struct run *r)
{
    const struct ldk_variant *variant = &r->variant;
    if (!hc_expect(variant->moment_rows > 0 && r->tiles > 0, "moments come by tiles"))
        return;
    hc_download(r->moments, r->out + r->y_bytes, r->moments_count * sizeof(float));
    int32_t wrong = 0;
    for (int32_t b = 0; b < r->c->batch; b++) {
        hc_expect(tiles_cover(r, b), "tiles do not cover image %d", b);
        for (int32_t tile = 0; tile < r->tiles; tile++)
            for (int32_t n = 0; n < r->out_n; n++)
                wrong += !moments_right(r, b, tile, n, variant->moment_rows);
    }
    hc_expect(wrong == 0, "%d of the moments are wrong", wrong);
}

/* Bytes that the walk over A must read for one column of tiles. */
static uint64_t a_bytes(const struct run *r)
{
    const struct matmul_case *c = r->c;
    uint64_t taps = 0;
    if (!is_conv(c))
        taps = (uint64_t)r->positions;
    int32_t h = c->up_h > 0 ? c->up_h : c->in_h;
    int32_t w = c->up_w > 0 ? c->up_w : c->in_w;
    for (int32_t at = 0; is_conv(c) && at < r->positions; at++) {
        int32_t oy = at / r->out_w;
        int32_t ox = at % r->out_w;
        for (int32_t tap = 0; tap < (r->w_phase != NULL ? 4 : r->taps); tap++) {
            int32_t y = oy * c->stride + tap / c->kernel - c->pad_before;
            int32_t x = ox * c->stride + tap % c->kernel - c->pad_before;
            if (r->w_phase != NULL) {
                y = oy / 2 - 1 + oy % 2 + tap / 2;
                x = ox / 2 - 1 + ox % 2 + tap % 2;
            }
            taps += y >= 0 && x >= 0 && y < (r->w_phase != NULL ? c->in_h : h) &&
                    x < (r->w_phase != NULL ? c->in_w : w);
        }
    }
    return taps * (uint64_t)r->cin * 2 * (uint64_t)c->batch;
}

static void check_counters(const struct run *r)
{
    const struct matmul_case *c = r->c;
    const struct ldk_variant *variant = &r->variant;
    struct ldk_host_counters got;
    if (!hc_counters(&got))
        return;
    hc_expect(got.ldmatrix_conflicts == 0, "%llu bank conflicts",
              (unsigned long long)got.ldmatrix_conflicts);
    if (variant->number < 0)
        return;
    uint64_t mma = c->fp16_accumulate ? got.mma_16816_h : got.mma_16816;
    if (variant->tile_m == 0) {
        hc_expect(mma == 0 && got.cp_async == 0, "a direct kernel uses no tiles");
        return;
    }
    int32_t phases = r->w_phase != NULL ? 4 : 1;
    int32_t rows = r->positions / phases;
    uint64_t m_tiles = (uint64_t)(phases * c->batch * ld_idx_ceil_div(rows, variant->tile_m));
    uint64_t n_tiles = (uint64_t)ld_idx_ceil_div(c->rows, variant->tile_n);
    uint64_t k = (uint64_t)r->cin * (uint64_t)(phases > 1 ? 4 : r->taps);
    uint64_t want = m_tiles * n_tiles * (k / 16) * (uint64_t)(variant->tile_m / 16) *
                    (uint64_t)(variant->tile_n / 8);
    hc_expect(mma == want, "%llu mma, not %llu", (unsigned long long)mma, (unsigned long long)want);
    uint64_t bytes = a_bytes(r) * n_tiles + m_tiles * (uint64_t)r->pack.rows_padded * k * 2;
    if (c->residual)
        bytes += r->y_count * 2;
    hc_expect(got.cp_async_bytes == bytes, "%llu bytes copied, not %llu",
              (unsigned long long)got.cp_async_bytes, (unsigned long long)bytes);
}

/* The same bits where y lies over the residual. */
static void check_in_place(struct run *r)
{
    if (!r->c->residual)
        return;
    size_t bytes = r->y_count * hc_size(y_dtype(r->c));
    unsigned char *apart = zeros(3, bytes);
    unsigned char *residual = apart + bytes;
    unsigned char *over = residual + bytes;
    hc_download(apart, r->out, bytes);
    hc_download(residual, r->conv.residual, bytes);
    LD_ASSERT(ldk_rt_upload(r->out, residual, bytes, NULL) == 0);
    LD_ASSERT(ldk_rt_stream_synchronize(NULL) == 0);
    struct run same = *r;
    same.conv.residual = same.linear.residual = r->out;
    hc_seed(5);
    hc_expect(launch(&same) == LDK_OK, "y over the residual runs");
    hc_download(over, r->out, bytes);
    hc_equal_bits("y over the residual", apart, over, bytes);
    ld_heap_free(apart);
}

/* The last image alone has the bits it had in the batch, moments too. */
static void check_alone(struct run *r)
{
    const struct matmul_case *c = r->c;
    if (c->batch == 1)
        return;
    size_t last = (size_t)c->batch - 1;
    size_t item = hc_size(c->dtype);
    size_t image_y = r->y_count / (size_t)c->batch * hc_size(y_dtype(c));
    size_t image_moments = r->moments_count / (size_t)c->batch * sizeof(float);
    unsigned char *both = zeros(2, image_y + image_moments);
    hc_download(both, r->out + last * image_y, image_y);
    hc_download(both + image_y, r->out + r->y_bytes + last * image_moments, image_moments);
    struct run one = *r;
    one.conv.batch = 1;
    one.linear.rows = c->tokens;
    size_t pixels = last * (size_t)r->in_positions * item;
    const unsigned char *x0 = one.conv.x0;
    const unsigned char *x1 = one.conv.x1;
    one.conv.x0 = one.linear.x0 = x0 + pixels * (size_t)c->c0;
    if (x1 != NULL)
        one.conv.x1 = one.linear.x1 = x1 + pixels * (size_t)c->c1;
    const unsigned char *residual = one.conv.residual;
    const unsigned char *row_add = one.conv.row_add;
    if (residual != NULL)
        one.conv.residual = one.linear.residual = residual + last * image_y;
    if (row_add != NULL)
        one.conv.row_add =
            row_add + last * (size_t)one.conv.row_add_stride * (one.conv.row_add_f32 ? 4 : item);
    /* Vectors want 16 bytes; an image whose data does not end there starts off them. */
    if (image_y % 16 == 0 && pixels * (size_t)c->c0 % 16 == 0 && pixels * (size_t)c->c1 % 16 == 0) {
        hc_seed(7);
        hc_expect(launch(&one) == LDK_OK, "one image alone runs");
        unsigned char *alone = both + image_y + image_moments;
        hc_download(alone, r->out, image_y);
        hc_download(alone + image_y, r->out + r->y_bytes, image_moments);
        hc_equal_bits("an image alone", both, alone, image_y + image_moments);
    }
    ld_heap_free(both);
}

/* What a signature promises: the tiles that share it give the same outputs and the same moments. */
static void check_kin(const struct run *r)
{
    if (!r->c->kin)
        return;
    struct ldk_variant list[VARIANTS_MAX];
    int32_t count = list_variants(r, list);
    size_t bytes = r->y_bytes + r->moments_count * sizeof(float);
    unsigned char *first = zeros(3, bytes);
    unsigned char *other = first + bytes;
    unsigned char *poison = other + bytes;
    int32_t kin = 0;
    memset(poison, 0x5a, bytes);
    hc_download(first, r->out, bytes);
    for (int32_t i = 0; i < count && i < VARIANTS_MAX; i++) {
        if (list[i].signature != r->variant.signature || list[i].number == r->variant.number)
            continue;
        struct run same = *r;
        same.conv.variant = same.linear.variant = list[i].number;
        LD_ASSERT(ldk_rt_upload(r->out, poison, bytes, NULL) == 0);
        hc_expect(launch(&same) == LDK_OK, "%s runs", list[i].name);
        hc_download(other, r->out, bytes);
        hc_equal_bits(list[i].name, first, other, r->y_count * hc_size(y_dtype(r->c)));
        hc_equal_bits("moments", first + r->y_bytes, other + r->y_bytes, bytes - r->y_bytes);
        kin++;
    }
    hc_expect(kin > 0, "no other variant has this signature");
    ld_heap_free(first);
}

void matmul_check(const struct matmul_case *c)
{
    struct run r;
    shape(&r, c);
    hc_case("%s, %s, %s", c->name,
            c->dtype == LDK_F16    ? "f16"
            : c->dtype == LDK_BF16 ? "bf16"
                                   : "f32",
            c->variant != NULL ? c->variant : "default");
    make_operator(&r);
    choose_variant(&r);
    make_outputs(&r);
    reference(&r);
    double close = c->fp16_accumulate ? 4e-3 : c->dtype == LDK_BF16 ? 6e-3 : 1e-3;
    if (y_dtype(c) == LDK_F32)
        close = 2e-6; /* nothing is rounded but the sums */
    size_t bytes = r.y_bytes + r.moments_count * sizeof(float);
    if (hc_run(launch, &r, r.out, bytes)) {
        hc_values(r.y, r.out, r.y_count, y_dtype(c));
        hc_close("y", r.y, r.want, r.y_count, close);
        if (!c->fp16_accumulate)
            hc_within("y", r.y, r.want, r.limit, r.y_count);
        if (c->moments)
            check_moments(&r);
        check_counters(&r);
        check_in_place(&r);
        check_kin(&r);
        check_alone(&r);
    }
    release(&r);
}
