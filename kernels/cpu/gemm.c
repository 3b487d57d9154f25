/*
 * Convolutions and linear layers as implicit matrix products.
 *
 * For each chunk of the input (gemm_plan.h): all workers pack it into the A layout once, then take
 * tasks of rows by columns. A task walks K in blocks of a few steps; the panels of a block are
 * expanded from their stored type into the second-level cache, and every C tile adds the block's
 * sum. Summing each block from zero and the blocks in order keeps rounding errors far below those
 * of one long chain, and makes a row's bits depend on K alone.
 */
#include "kernels/cpu/gemm.h"

#include "kernels/cpu/gemm_plan.h"

#include <string.h>

enum {
    BLOCK_STEPS = 10,     /* steps of K between two additions to C, at most */
    FLAT_RUN = 4,         /* tiles that one packing task of a flat chunk takes */
    TABLE_BYTES = 8 << 20 /* of the shared scratch; the rest holds the packed input */
};

struct gemm {
    struct ld_cpu_backend *cpu;
    const struct ld_micro *micro;
    const struct ld_weight *weight;
    const float *x0, *x1;
    int32_t c0, c1;
    struct ld_gemm_geometry geometry;
    struct ld_gemm_cut cut;
    struct ld_micro_finish finish; /* all but tile, rows and columns */

    int32_t k_blocks, taps, panels, b_terms;
    size_t tap_offset[LD_TAPS_MAX];
    size_t term_stride, block_stride; /* of packed A */

    /* The chunk in work. */
    int32_t first_strip, strips, tiles;
    unsigned char *a;
    int32_t *tile_start; /* [tiles] pixel within the chunk */
    int32_t *tile_row;   /* [tiles * sub] */
    struct ld_gemm_tasks tasks;
};

/* ---- Packing the input ----------------------------------------------------------------------- */

/* `pixels` consecutive stored pixels from `at` on: k-block `block` of both sources. */
static void pack_run(const struct gemm *g, unsigned char *dst, size_t at, int32_t pixels,
                     int32_t block)
{
    const struct ld_micro *micro = g->micro;
    int32_t first = block * LD_STEP_K;
    int32_t total = g->c0 + g->c1;
    int32_t count = total - first < LD_STEP_K ? total - first : LD_STEP_K;
    if (first + count <= g->c0) {
        micro->pack_a(dst, g->term_stride, g->x0 + at * (size_t)g->c0 + first, (size_t)g->c0,
                      pixels, count);
        return;
    }
    if (first >= g->c0) {
        micro->pack_a(dst, g->term_stride, g->x1 + at * (size_t)g->c1 + (first - g->c0),
                      (size_t)g->c1, pixels, count);
        return;
    }
    /* The block straddles the sources: gather one pixel at a time. */
    int32_t from0 = g->c0 - first;
    for (size_t p = at; p < at + (size_t)pixels; p++, dst += micro->row_bytes) {
        float both[LD_STEP_K];
        memcpy(both, g->x0 + p * (size_t)g->c0 + first, (size_t)from0 * sizeof *both);
        memcpy(both + from0, g->x1 + p * (size_t)g->c1, (size_t)(count - from0) * sizeof *both);
        micro->pack_a(dst, g->term_stride, both, LD_STEP_K, 1, count);
    }
}

static void zero_pixels(const struct gemm *g, unsigned char *dst, int32_t pixels)
{
    for (int32_t t = 0; t < g->micro->a_terms; t++, dst += g->term_stride)
        memset(dst, 0, (size_t)pixels * g->micro->row_bytes);
}

/* One stored row of a plane, columns [0, row_pixels): map columns become runs of the input. */
static void pack_plane_row(const struct gemm *g, unsigned char *dst, int32_t image, int32_t y,
                           int32_t phase_x, int32_t block)
{
    const struct ld_gemm_geometry *geo = &g->geometry;
    size_t row_bytes = g->micro->row_bytes;
    if (y < 0 || y >= geo->src_h) {
        zero_pixels(g, dst, geo->row_pixels);
        return;
    }
    int32_t sy = ld_idx_upsample(y, geo->in_h, geo->up_h);
    size_t row = ((size_t)image * (size_t)geo->in_h + (size_t)sy) * (size_t)geo->in_w;
    bool runs = geo->stride == 1 && geo->up_w == 0;
    for (int32_t col = 0; col < geo->row_pixels;) {
        int32_t x = col * geo->stride + phase_x - geo->pad;
        unsigned char *at = dst + (size_t)col * row_bytes;
        if (x < 0 || x >= geo->src_w) {
            zero_pixels(g, at, 1);
            col++;
            continue;
        }
        int32_t pixels = 1;
        if (runs)
            pixels =
                geo->src_w - x < geo->row_pixels - col ? geo->src_w - x : geo->row_pixels - col;
        int32_t sx = ld_idx_upsample(x, geo->in_w, geo->up_w);
        pack_run(g, at, row + (size_t)sx, pixels, block);
        col += pixels;
    }
}

/* Task: one stored row of one phase of one strip, all k-blocks. */
static void pack_map_task(void *pointer, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct gemm *g = pointer;
    const struct ld_gemm_geometry *geo = &g->geometry;
    int32_t rows = g->cut.plane_rows;
    int32_t index = (int32_t)task / (rows * geo->phases);
    int32_t phase = (int32_t)task / rows % geo->phases;
    int32_t plane_row = (int32_t)task % rows;
    struct ld_gemm_strip strip = ld_gemm_strip_of(geo, &g->cut, g->first_strip + index);
    int32_t y = (strip.row + plane_row) * geo->stride + (phase >> 1) - geo->pad;
    int64_t pixel =
        index * g->cut.strip_pixels + ((int64_t)phase * rows + plane_row) * geo->row_pixels;
    unsigned char *dst = g->a + (size_t)pixel * g->micro->row_bytes;
    bool last = phase == geo->phases - 1 && plane_row == rows - 1;
    for (int32_t block = 0; block < g->k_blocks; block++, dst += g->block_stride) {
        pack_plane_row(g, dst, strip.image, y, phase & 1, block);
        if (last) /* the zero that ends the strip: right border of its last row */
            zero_pixels(g, dst + (size_t)geo->row_pixels * g->micro->row_bytes, 1);
    }
}

/*
 * Flat chunks are packed tile by tile, all k-blocks of a tile behind one another, so that a tile's
 * input is one contiguous run. Task: FLAT_RUN tiles.
 */
static void pack_flat_task(void *pointer, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct gemm *g = pointer;
    int32_t sub = g->micro->sub;
    struct ld_gemm_strip strip = ld_gemm_strip_of(&g->geometry, &g->cut, g->first_strip);
    for (int32_t tile = (int32_t)task * FLAT_RUN; tile < ((int32_t)task + 1) * FLAT_RUN; tile++) {
        int32_t pixels = ld_idx_min(strip.rows - tile * sub, sub);
        unsigned char *dst = g->a + (size_t)tile * (size_t)g->k_blocks * g->block_stride;
        for (int32_t block = 0; pixels > 0 && block < g->k_blocks; block++, dst += g->block_stride)
            pack_run(g, dst, (size_t)(strip.row + tile * sub), pixels, block);
    }
}

static void pack_chunk(struct gemm *g)
{
    if (g->geometry.flat) {
        ld_pool_run(g->cpu->pool, (uint32_t)((g->tiles + FLAT_RUN - 1) / FLAT_RUN), pack_flat_task,
                    g);
        return;
    }
    uint32_t rows = (uint32_t)(g->cut.plane_rows * g->geometry.phases);
    ld_pool_run(g->cpu->pool, (uint32_t)g->strips * rows, pack_map_task, g);
}

/* ---- Multiplying ----------------------------------------------------------------------------- */

/* One task: tiles [tile, tile_end) by panels [panel, panel_end), with its scratch. */
struct block_task {
    int32_t tile, tile_end, panel, panel_end;
    float *c;            /* [panel][tile][sub][nr] */
    unsigned char *work; /* expanded panels of one block of K */
};

static float *c_tile(const struct gemm *g, const struct block_task *t, int32_t panel, int32_t tile)
{
    int32_t index = (panel - t->panel) * g->tasks.tiles_per_task + (tile - t->tile);
    return t->c + (size_t)index * (size_t)(g->micro->sub * g->micro->nr);
}

/* Bytes from the chunk's start to a tile's first pixel, first k-block. */
static size_t tile_offset(const struct gemm *g, int32_t tile)
{
    if (g->geometry.flat)
        return (size_t)tile * (size_t)g->k_blocks * g->block_stride;
    return (size_t)g->tile_start[tile] * g->micro->row_bytes;
}

static void multiply_panel(const struct gemm *g, const struct block_task *t, int32_t panel,
                           const unsigned char *b, int32_t block, int32_t blocks)
{
    const struct ld_micro *micro = g->micro;
    int32_t rest = g->weight->facts.k - (block + blocks - 1) * LD_STEP_K;
    int32_t columns = g->weight->facts.rows - panel * micro->nr;
    struct ld_micro_call call = {
        .a_block_stride = g->block_stride,
        .a_term_stride = g->term_stride,
        .tap_offset = g->tap_offset,
        .taps = g->taps,
        .blocks = blocks,
        .last_k = rest < LD_STEP_K ? rest : LD_STEP_K,
        .b = b,
        .a_terms = micro->a_terms,
        .b_terms = g->b_terms,
        .columns = columns < micro->nr ? columns : micro->nr,
        .add = block > 0,
    };
    if (g->weight->facts.kind == LD_WEIGHT_GEGLU)
        call.columns = micro->nr;
    const unsigned char *a = g->a + (size_t)block * g->block_stride;
    for (int32_t tile = t->tile; tile < t->tile_end; tile += micro->tiles) {
        call.tiles = t->tile_end - tile < micro->tiles ? t->tile_end - tile : micro->tiles;
        for (int32_t i = 0; i < call.tiles; i++) {
            call.a[i] = a + tile_offset(g, tile + i);
            call.c[i] = c_tile(g, t, panel, tile + i);
        }
        micro->multiply(&call);
    }
}

/* The packed weights of one panel and block of K, expanded into `work` unless they are ready. */
static const unsigned char *ready_panel(const struct gemm *g, unsigned char *work, int32_t panel,
                                        int32_t block, int32_t blocks)
{
    const struct ld_micro *micro = g->micro;
    size_t step = (size_t)(LD_STEP_K * micro->nr) * ld_dtype_size(g->weight->dtype);
    size_t first = ((size_t)panel * (size_t)g->k_blocks + (size_t)block) * (size_t)g->taps;
    const unsigned char *src = (const unsigned char *)g->weight->data + first * step;
    if (g->weight->dtype == micro->ready)
        return src;
    micro->expand(work, src, g->weight->dtype, (size_t)(blocks * g->taps));
    return work;
}

static void finish_task(const struct gemm *g, const struct block_task *t)
{
    const struct ld_micro *micro = g->micro;
    bool geglu = g->finish.activation == LD_ACT_GEGLU;
    int32_t width = geglu ? micro->nr / 2 : micro->nr;
    struct ld_micro_finish f = g->finish;
    for (int32_t tile = t->tile; tile < t->tile_end; tile++) {
        f.row = g->tile_row + (size_t)tile * (size_t)micro->sub;
        for (int32_t panel = t->panel; panel < t->panel_end; panel++) {
            f.column = panel * width;
            f.columns = f.y_stride - f.column < width ? f.y_stride - f.column : width;
            f.c = c_tile(g, t, panel, tile);
            micro->finish(&f);
        }
    }
}

static void multiply_task(void *pointer, uint32_t task, uint32_t worker)
{
    const struct gemm *g = pointer;
    const struct ld_micro *micro = g->micro;
    unsigned char *scratch = g->cpu->private + worker * g->cpu->private_bytes;
    /* Neighbouring tasks share their rows, so that A is still in a near cache. */
    int32_t tile = (int32_t)task / g->tasks.panel_tasks * g->tasks.tiles_per_task;
    int32_t panel = (int32_t)task % g->tasks.panel_tasks * g->tasks.panels_per_task;
    struct block_task t = {
        .tile = tile,
        .tile_end = ld_idx_min(tile + g->tasks.tiles_per_task, g->tiles),
        .panel = panel,
        .panel_end = ld_idx_min(panel + g->tasks.panels_per_task, g->panels),
        .c = (float *)(void *)scratch,
        .work = scratch + g->cpu->private_bytes / 2,
    };
    micro->begin();
    int32_t most = BLOCK_STEPS / g->taps > 0 ? BLOCK_STEPS / g->taps : 1;
    for (int32_t block = 0; block < g->k_blocks; block += most) {
        int32_t blocks = ld_idx_min(most, g->k_blocks - block);
        for (panel = t.panel; panel < t.panel_end; panel++)
            multiply_panel(g, &t, panel, ready_panel(g, t.work, panel, block, blocks), block,
                           blocks);
    }
    micro->end();
    finish_task(g, &t);
}

/* ---- The whole job --------------------------------------------------------------------------- */

/* List the chunk's tiles behind one another. */
static void list_tiles(struct gemm *g)
{
    g->tiles = 0;
    for (int32_t i = 0; i < g->strips; i++) {
        struct ld_gemm_strip strip = ld_gemm_strip_of(&g->geometry, &g->cut, g->first_strip + i);
        int32_t *start = g->tile_start + g->tiles;
        int32_t *row = g->tile_row + (size_t)g->tiles * (size_t)g->micro->sub;
        int32_t count =
            ld_gemm_strip_tiles(&g->geometry, &g->cut, strip, g->micro->sub, start, row);
        for (int32_t t = 0; t < count; t++)
            start[t] += (int32_t)(i * g->cut.strip_pixels);
        g->tiles += count;
    }
}

/*
 * Bytes of packed input in one chunk: what the near caches of all threads hold, so that packing is
 * not paid in memory traffic, but enough rows to be worth the expansion of every panel, and for a
 * convolution enough that the rows shared with the next strip stay few.
 */
static size_t chunk_budget(const struct gemm *g, size_t pixel_bytes)
{
    enum { NEAR_BYTES = 2 << 20, FLAT_ROWS = 256, MAP_PIXELS = 1024, MAP_ROWS = 10 };
    size_t threads = g->cpu->threads;
    size_t most = g->cpu->shared_bytes - TABLE_BYTES;
    size_t budget = threads * NEAR_BYTES;
    size_t least = threads * FLAT_ROWS * pixel_bytes;
    if (!g->geometry.flat) {
        size_t row = (size_t)(g->geometry.phases * g->geometry.row_pixels);
        size_t pixels = row * MAP_ROWS > MAP_PIXELS ? row * MAP_ROWS : MAP_PIXELS;
        least = pixels * pixel_bytes;
    }
    budget = budget > least ? budget : least;
    return budget < most ? budget : most;
}

static void run_chunks(struct gemm *g)
{
    struct ld_cpu_backend *cpu = g->cpu;
    const struct ld_micro *micro = g->micro;
    g->k_blocks = ld_gemm_blocks(g->weight);
    g->panels = ld_gemm_panels(micro, g->weight);
    g->taps = g->weight->facts.kernel * g->weight->facts.kernel;
    g->b_terms = micro->b_terms(g->weight->dtype);
    size_t pixel_bytes = (size_t)g->k_blocks * (size_t)micro->a_terms * micro->row_bytes;
    /* The checks bound a row's bytes, so that one row of output fits at least. */
    LD_ASSERT(ld_gemm_cut_of(&g->cut, &g->geometry, pixel_bytes, chunk_budget(g, pixel_bytes),
                             micro->sub));
    int32_t most_tiles = (TABLE_BYTES / (int32_t)sizeof(int32_t)) / (micro->sub + 1);
    LD_ASSERT(g->cut.strip_tiles <= most_tiles);
    g->cut.strips_per_chunk = ld_idx_min(g->cut.strips_per_chunk, most_tiles / g->cut.strip_tiles);
    g->term_stride =
        (size_t)(g->geometry.flat ? micro->sub : g->cut.chunk_pixels) * micro->row_bytes;
    g->block_stride = g->term_stride * (size_t)micro->a_terms;
    for (int32_t t = 0; t < g->taps; t++)
        g->tap_offset[t] = (size_t)ld_gemm_tap_pixels(&g->geometry, &g->cut, t) * micro->row_bytes;
    g->tile_start = (int32_t *)(void *)cpu->shared;
    g->tile_row = g->tile_start + most_tiles;
    g->a = cpu->shared + TABLE_BYTES;
    for (g->first_strip = 0; g->first_strip < g->cut.strips_total;
         g->first_strip += g->cut.strips_per_chunk) {
        g->strips = ld_idx_min(g->cut.strips_per_chunk, g->cut.strips_total - g->first_strip);
        list_tiles(g);
        g->tasks = ld_gemm_tasks_of(g->tiles, g->panels, micro->sub, micro->nr, cpu->threads);
        pack_chunk(g);
        ld_pool_run(cpu->pool, (uint32_t)(g->tasks.tile_tasks * g->tasks.panel_tasks),
                    multiply_task, g);
    }
}

void ld_gemm_conv2d(struct ld_cpu_backend *cpu, const struct ld_micro *micro,
                    const struct ld_conv2d *op)
{
    struct gemm g = {
        .cpu = cpu,
        .micro = micro,
        .weight = op->weight,
        .x0 = op->x0,
        .x1 = op->x1,
        .c0 = op->c0,
        .c1 = op->c1,
        .geometry = ld_gemm_geometry_conv(op),
    };
    struct ld_conv_shape shape = ld_conv_shape_of(op);
    g.finish = (struct ld_micro_finish){
        .weight = op->weight,
        .row_add = op->row_add,
        .row_add_stride = op->row_add_stride,
        .rows_per_image = shape.out_h * shape.out_w,
        .residual = op->residual,
        .y = op->y,
        .y_stride = op->weight->facts.rows,
    };
    run_chunks(&g);
}

void ld_gemm_linear(struct ld_cpu_backend *cpu, const struct ld_micro *micro,
                    const struct ld_linear *op)
{
    struct gemm g = {
        .cpu = cpu,
        .micro = micro,
        .weight = op->weight,
        .x0 = op->x0,
        .x1 = op->x1,
        .c0 = op->c0,
        .c1 = op->c1,
        .geometry = ld_gemm_geometry_rows(op->rows),
    };
    g.finish = (struct ld_micro_finish){
        .weight = op->weight,
        .rows_per_image = op->rows_per_image,
        .activation = op->activation,
        .residual = op->residual,
        .y = op->y,
        .y_stride =
            op->activation == LD_ACT_GEGLU ? op->weight->facts.rows / 2 : op->weight->facts.rows,
    };
    run_chunks(&g);
}
