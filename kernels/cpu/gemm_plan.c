#include "kernels/cpu/gemm_plan.h"

struct ld_gemm_geometry ld_gemm_geometry_conv(const struct ld_conv2d *op)
{
    struct ld_conv_shape shape = ld_conv_shape_of(op);
    struct ld_gemm_geometry g = {
        .images = op->batch,
        .in_h = op->in_h,
        .in_w = op->in_w,
        .up_h = op->up_h,
        .up_w = op->up_w,
        .src_h = shape.src_h,
        .src_w = shape.src_w,
        .out_h = shape.out_h,
        .out_w = shape.out_w,
        .kernel = op->weight->facts.kernel,
        .stride = op->stride,
        .pad = op->pad_before,
        .phases = 1,
    };
    bool padded = op->pad_before > 0 || op->pad_after > 0;
    if (g.kernel == 1 && g.stride == 1 && !padded && op->up_h == 0)
        return ld_gemm_geometry_rows(op->batch * shape.out_h * shape.out_w);
    if (g.stride == 2) {
        g.phases = 4;
        g.row_pixels = g.out_w + 1;
        g.extra_rows = g.kernel == 3 ? 1 : 0;
    } else {
        g.row_pixels = g.src_w + (padded ? 1 : 0);
        g.extra_rows = g.kernel - 1;
    }
    return g;
}

struct ld_gemm_geometry ld_gemm_geometry_rows(int32_t rows)
{
    return (struct ld_gemm_geometry){
        .images = 1,
        .in_h = rows,
        .in_w = 1,
        .src_h = rows,
        .src_w = 1,
        .out_h = rows,
        .out_w = 1,
        .kernel = 1,
        .stride = 1,
        .flat = true,
        .row_pixels = 1,
        .phases = 1,
    };
}

static int64_t strip_pixels(const struct ld_gemm_geometry *g, int32_t rows)
{
    return (int64_t)g->phases * (rows + g->extra_rows) * g->row_pixels + 1;
}

/* Tiles of a strip of `rows` output rows, either way of laying them. */
static int64_t tiles_running_on(const struct ld_gemm_geometry *g, int32_t rows, int32_t sub)
{
    int64_t span = (int64_t)(rows - 1) * g->row_pixels + g->out_w;
    return (span + sub - 1) / sub;
}

static int64_t tiles_each_row(const struct ld_gemm_geometry *g, int32_t rows, int32_t sub)
{
    return (int64_t)rows * ld_idx_ceil_div(g->out_w, sub);
}

bool ld_gemm_cut_of(struct ld_gemm_cut *cut, const struct ld_gemm_geometry *g, size_t pixel_bytes,
                    size_t budget, int32_t sub)
{
    int64_t pixels = (int64_t)(budget / pixel_bytes) - LD_MICRO_SUB_MAX;
    *cut = (struct ld_gemm_cut){.strip_rows = g->out_h};
    if (strip_pixels(g, 1) > pixels)
        return false;
    int64_t row = (int64_t)g->phases * g->row_pixels;
    int64_t most = (pixels - 1) / row - g->extra_rows;
    if (most < g->out_h) {
        /* Strips of equal height rather than full ones and a rest. */
        int32_t strips = ld_idx_ceil_div(g->out_h, (int32_t)most);
        cut->strip_rows = ld_idx_ceil_div(g->out_h, strips);
    }
    cut->strips_per_image = ld_idx_ceil_div(g->out_h, cut->strip_rows);
    cut->strips_total = cut->strips_per_image * g->images;
    cut->plane_rows = cut->strip_rows + g->extra_rows;
    cut->strip_pixels = strip_pixels(g, cut->strip_rows);
    int64_t fit = pixels / cut->strip_pixels;
    cut->strips_per_chunk = fit < cut->strips_total ? (int32_t)fit : cut->strips_total;
    if (g->flat)
        cut->strips_per_chunk = 1;
    cut->chunk_pixels = cut->strips_per_chunk * cut->strip_pixels + LD_MICRO_SUB_MAX;
    int64_t on = tiles_running_on(g, cut->strip_rows, sub);
    int64_t each = tiles_each_row(g, cut->strip_rows, sub);
    cut->tile_each_row = !g->flat && each <= on;
    cut->strip_tiles = (int32_t)(cut->tile_each_row ? each : on);
    return true;
}

struct ld_gemm_strip ld_gemm_strip_of(const struct ld_gemm_geometry *g,
                                      const struct ld_gemm_cut *cut, int32_t strip)
{
    struct ld_gemm_strip s = {.image = strip / cut->strips_per_image};
    s.row = strip % cut->strips_per_image * cut->strip_rows;
    s.rows = g->out_h - s.row < cut->strip_rows ? g->out_h - s.row : cut->strip_rows;
    return s;
}

int32_t ld_gemm_strip_tiles(const struct ld_gemm_geometry *g, const struct ld_gemm_cut *cut,
                            struct ld_gemm_strip strip, int32_t sub, int32_t *start, int32_t *row)
{
    int32_t count;
    int32_t across = ld_idx_ceil_div(g->out_w, sub);
    if (cut->tile_each_row)
        count = strip.rows * across;
    else
        count = (int32_t)tiles_running_on(g, strip.rows, sub);
    int32_t first_row = (strip.image * g->out_h + strip.row) * g->out_w;
    for (int32_t i = 0; i < count; i++) {
        int32_t at = i * sub;
        if (cut->tile_each_row)
            at = i / across * g->row_pixels + i % across * sub;
        start[i] = at;
        int32_t tile_y = at / g->row_pixels;
        for (int32_t r = 0; r < sub; r++, at++) {
            int32_t y = at / g->row_pixels;
            int32_t x = at % g->row_pixels;
            bool inside = y < strip.rows && x < g->out_w && (!cut->tile_each_row || y == tile_y);
            row[i * sub + r] = inside ? first_row + y * g->out_w + x : -1;
        }
    }
    return count;
}

int64_t ld_gemm_tap_pixels(const struct ld_gemm_geometry *g, const struct ld_gemm_cut *cut,
                           int32_t tap)
{
    int32_t ky = tap / g->kernel;
    int32_t kx = tap % g->kernel;
    if (g->phases == 1)
        return (int64_t)ky * g->row_pixels + kx;
    int64_t phase = (ky & 1) * 2 + (kx & 1);
    int64_t plane = (int64_t)cut->plane_rows * g->row_pixels;
    return phase * plane + (int64_t)(ky >> 1) * g->row_pixels + (kx >> 1);
}

struct ld_gemm_tasks ld_gemm_tasks_of(int32_t tiles, int32_t panels, int32_t sub, int32_t nr,
                                      uint32_t threads)
{
    /* 512 rows by 320 columns keep C and the expanded panels within a 2 MB second-level cache and
     * read A from memory once for 320 columns. */
    int32_t most_tiles = 512 / sub & ~1;
    int32_t most_panels = 320 / nr;
    struct ld_gemm_tasks t = {.tile_tasks = ld_idx_ceil_div(tiles, most_tiles),
                              .panel_tasks = ld_idx_ceil_div(panels, most_panels)};
    /* Fewer tasks than threads leave cores idle: narrower tasks then, down to two panels. */
    while ((uint32_t)(t.tile_tasks * t.panel_tasks) < 2 * threads && t.panel_tasks < panels / 2)
        t.panel_tasks++;
    t.panels_per_task = ld_idx_ceil_div(panels, t.panel_tasks);
    t.panel_tasks = ld_idx_ceil_div(panels, t.panels_per_task);
    t.tiles_per_task = ld_idx_ceil_div(tiles, t.tile_tasks);
    t.tiles_per_task += t.tiles_per_task & 1;
    t.tile_tasks = ld_idx_ceil_div(tiles, t.tiles_per_task);
    return t;
}
