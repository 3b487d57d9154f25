/*
 * Proves that the plan of every convolution and linear layer covers each output exactly once and
 * reads the right input. Walks the plan's tiles over random and real shapes and compares with a
 * naive walk.
 */
#include "cpu_reference.h"

#include "kernels/cpu/gemm_plan.h"

/* The input (row, column) stored at a pixel of a strip, or false for padding. */
static bool stored_at(const struct ld_gemm_geometry *g, const struct ld_gemm_cut *cut,
                      struct ld_gemm_strip strip, int64_t pixel, int32_t *y, int32_t *x)
{
    int64_t plane = (int64_t)cut->plane_rows * g->row_pixels;
    if (pixel >= plane * g->phases) {
        assert_true(pixel < cut->strip_pixels); /* the zero at the end */
        return false;
    }
    int32_t phase = (int32_t)(pixel / plane);
    int32_t row = (int32_t)(pixel % plane) / g->row_pixels;
    int32_t col = (int32_t)(pixel % plane) % g->row_pixels;
    *y = (strip.row + row) * g->stride + (phase >> 1) - g->pad;
    *x = col * g->stride + (phase & 1) - g->pad;
    return *y >= 0 && *y < g->src_h && *x >= 0 && *x < g->src_w;
}

/* Tile row at strip pixel `pixel`, giving output row `out`: all taps read what they should. */
static void check_taps(const struct ld_gemm_geometry *g, const struct ld_gemm_cut *cut,
                       struct ld_gemm_strip strip, int64_t pixel, int32_t out)
{
    int32_t oy = out / g->out_w % g->out_h;
    int32_t ox = out % g->out_w;
    for (int32_t tap = 0; tap < g->kernel * g->kernel; tap++) {
        int32_t iy = oy * g->stride + tap / g->kernel - g->pad;
        int32_t ix = ox * g->stride + tap % g->kernel - g->pad;
        bool inside = iy >= 0 && iy < g->src_h && ix >= 0 && ix < g->src_w;
        int32_t y = -1;
        int32_t x = -1;
        bool stored = stored_at(g, cut, strip, pixel + ld_gemm_tap_pixels(g, cut, tap), &y, &x);
        assert_int_equal(stored, inside);
        assert_true(!inside || (y == iy && x == ix));
    }
}

static void check_plan(const struct ld_gemm_geometry *g, size_t pixel_bytes, size_t budget,
                       int32_t sub)
{
    struct ld_gemm_cut cut;
    if (!ld_gemm_cut_of(&cut, g, pixel_bytes, budget, sub))
        return;
    assert_true((size_t)cut.chunk_pixels * pixel_bytes <= budget);
    int32_t outputs = g->images * g->out_h * g->out_w;
    uint8_t *seen = ld_heap_calloc((size_t)outputs, 1);
    int32_t *start = ld_heap_calloc((size_t)cut.strip_tiles, sizeof *start);
    int32_t *row = ld_heap_calloc((size_t)(cut.strip_tiles * sub), sizeof *row);
    assert_true(seen != NULL && start != NULL && row != NULL);
    for (int32_t s = 0; s < cut.strips_total; s++) {
        struct ld_gemm_strip strip = ld_gemm_strip_of(g, &cut, s);
        assert_true(strip.rows >= 1 && strip.row + strip.rows <= g->out_h);
        int32_t tiles = ld_gemm_strip_tiles(g, &cut, strip, sub, start, row);
        assert_true(tiles <= cut.strip_tiles);
        for (int32_t i = 0; i < tiles * sub; i++) {
            if (row[i] < 0)
                continue;
            assert_true(row[i] < outputs && seen[row[i]] == 0);
            seen[row[i]] = 1;
            check_taps(g, &cut, strip, start[i / sub] + i % sub, row[i]);
        }
    }
    for (int32_t i = 0; i < outputs; i++)
        assert_int_equal(seen[i], 1);
    ld_heap_free(seen);
    ld_heap_free(start);
    ld_heap_free(row);
}

static void every_output_is_computed_once_from_its_own_inputs(void **state)
{
    (void)state;
    static const int32_t subs[] = {6, 12, 16};
    struct rng rng = {41};
    for (int i = 0; i < 300; i++) {
        struct ld_weight weight = {.facts = {.kind = LD_WEIGHT_CONV, .rows = 8, .kernel = 3}};
        struct ld_conv2d op = {.batch = rng_range(&rng, 1, 3),
                               .in_h = rng_range(&rng, 3, 40),
                               .in_w = rng_range(&rng, 3, 70),
                               .c0 = 8,
                               .weight = &weight,
                               .stride = rng_range(&rng, 1, 2),
                               .pad_before = rng_range(&rng, 0, 1),
                               .pad_after = rng_range(&rng, 0, 1)};
        if (rng_bits(&rng) % 4 == 0) {
            weight.facts.kernel = 1;
            op.stride = 1;
            op.pad_before = op.pad_after = 0;
        }
        if (rng_bits(&rng) % 3 == 0) {
            op.up_h = 2 * op.in_h;
            op.up_w = 2 * op.in_w - 1;
        }
        struct ld_gemm_geometry g = ld_gemm_geometry_conv(&op);
        size_t pixel_bytes = 192;
        size_t budget = pixel_bytes * (size_t)rng_range(&rng, 100, 20000);
        check_plan(&g, pixel_bytes, budget, subs[rng_bits(&rng) % 3]);
    }
}

static void rows_of_linear_layers_are_computed_once(void **state)
{
    (void)state;
    struct rng rng = {42};
    for (int i = 0; i < 100; i++) {
        struct ld_gemm_geometry g = ld_gemm_geometry_rows(rng_range(&rng, 1, 5000));
        check_plan(&g, 64, 64 * (size_t)rng_range(&rng, 40, 3000), 16);
    }
}

static void maps_of_the_network_waste_few_tile_rows(void **state)
{
    (void)state;
    /* side, and the largest share of tile rows that fall on padding */
    static const struct {
        int32_t side;
        double waste;
    } maps[] = {{64, 0.0}, {32, 0.0}, {16, 0.0}, {8, 0.21}, {104, 0.02}, {152, 0.02}};
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++) {
        struct ld_weight weight = {.facts = {.kind = LD_WEIGHT_CONV, .rows = 320, .kernel = 3}};
        struct ld_conv2d op = {.batch = 1,
                               .in_h = maps[i].side,
                               .in_w = maps[i].side,
                               .c0 = 320,
                               .weight = &weight,
                               .stride = 1,
                               .pad_before = 1,
                               .pad_after = 1};
        struct ld_gemm_geometry g = ld_gemm_geometry_conv(&op);
        struct ld_gemm_cut cut;
        assert_true(ld_gemm_cut_of(&cut, &g, 1920, 64 << 20, 16));
        double rows = (double)cut.strips_total * cut.strip_tiles * 16;
        double outputs = (double)maps[i].side * maps[i].side;
        assert_true(1.0 - outputs / rows <= maps[i].waste);
    }
}

static void tasks_cover_all_tiles_and_panels(void **state)
{
    (void)state;
    struct rng rng = {43};
    for (int i = 0; i < 2000; i++) {
        int32_t tiles = rng_range(&rng, 1, 700);
        int32_t panels = rng_range(&rng, 1, 400);
        uint32_t threads = (uint32_t)rng_range(&rng, 1, 64);
        struct ld_gemm_tasks t = ld_gemm_tasks_of(tiles, panels, 16, 32, threads);
        assert_true(t.tiles_per_task * t.tile_tasks >= tiles);
        assert_true(t.tiles_per_task * (t.tile_tasks - 1) < tiles);
        assert_true(t.panels_per_task * t.panel_tasks >= panels);
        assert_true(t.panels_per_task * (t.panel_tasks - 1) < panels);
        assert_true(t.tiles_per_task * 16 <= 512 && t.panels_per_task * 32 <= 320);
    }
}

static void geglu_panels_hold_each_row_once(void **state)
{
    (void)state;
    for (int32_t outputs = 1; outputs <= 70; outputs++) {
        int32_t count[140] = {0};
        for (int32_t panel = 0; panel < ld_idx_ceil_div(2 * outputs, 32); panel++)
            for (int32_t n = 0; n < 32; n++) {
                int32_t row = ld_idx_geglu_row(panel, n, 32, outputs);
                assert_true(row >= -1 && row < 2 * outputs);
                if (row >= 0)
                    count[row]++;
                if (row >= 0 && n >= 16) /* the gate of the value 16 columns before */
                    assert_int_equal(row - outputs, ld_idx_geglu_row(panel, n - 16, 32, outputs));
            }
        for (int32_t r = 0; r < 2 * outputs; r++)
            assert_int_equal(count[r], 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_output_is_computed_once_from_its_own_inputs),
        cmocka_unit_test(rows_of_linear_layers_are_computed_once),
        cmocka_unit_test(maps_of_the_network_waste_few_tile_rows),
        cmocka_unit_test(tasks_cover_all_tiles_and_panels),
        cmocka_unit_test(geglu_panels_hold_each_row_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
