#include "runtime/sample/resize_taps.h"

#include "runtime/base/arena.h"

#include <math.h>

/* ---- Kernels --------------------------------------------------------------------------------- */

static double cubic(double distance, double a)
{
    const double d = fabs(distance);
    if (d < 1)
        return ((a + 2) * d - (a + 3)) * d * d + 1;
    if (d < 2)
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
    return 0;
}

static double triangle(double distance)
{
    return fmax(0.0, 1.0 - fabs(distance));
}

static int32_t clamp(int32_t value, int32_t size)
{
    return value < 0 ? 0 : value >= size ? size - 1 : value;
}

/* ---- One output cell of each mode: fills `cell` and `weight` --------------------------------- */

static void put(struct ld_resize_taps *taps, int32_t i, int32_t k, int32_t cell, double weight)
{
    LD_ASSERT(k < taps->width);
    taps->cell[i * taps->width + k] = cell;
    taps->weight[i * taps->width + k] = (float)weight;
}

static void tap_nearest(struct ld_resize_taps *taps, int32_t i, int32_t n, double offset)
{
    /* Single precision, as the reference: the product decides between two cells. */
    const float scale = (float)n / (float)taps->out_size;
    put(taps, i, 0, clamp((int32_t)floorf(((float)i + (float)offset) * scale), n), 1);
}

static void tap_bilinear(struct ld_resize_taps *taps, int32_t i, int32_t n)
{
    const double c = (double)n / (double)taps->out_size;
    const double s = fmax(0.0, ((double)i + 0.5) * c - 0.5);
    const int32_t a = clamp((int32_t)s, n);
    const double share = s - (double)a;
    put(taps, i, 0, a, 1 - share);
    put(taps, i, 1, clamp(a + 1, n), share);
}

static void tap_bicubic(struct ld_resize_taps *taps, int32_t i, int32_t n)
{
    const double c = (double)n / (double)taps->out_size;
    const double s = ((double)i + 0.5) * c - 0.5;
    const double base = floor(s);
    for (int32_t k = 0; k < 4; k++) {
        const double at = base - 1 + (double)k;
        put(taps, i, k, clamp((int32_t)at, n), cubic(s - at, -0.75));
    }
}

static void tap_area(struct ld_resize_taps *taps, int32_t i, int32_t n)
{
    const int64_t m = taps->out_size;
    const int32_t first = (int32_t)((int64_t)i * n / m);
    const int32_t last = (int32_t)((((int64_t)i + 1) * n + m - 1) / m);
    for (int32_t j = first; j < last; j++)
        put(taps, i, j - first, j, 1.0 / (double)(last - first));
}

static void tap_antialias(struct ld_resize_taps *taps, int32_t i, int32_t n, bool is_cubic)
{
    const double c = (double)n / (double)taps->out_size;
    const double widen = fmax(c, 1.0);
    const double support = (is_cubic ? 2.0 : 1.0) * widen;
    const double centre = ((double)i + 0.5) * c;
    const int32_t first = (int32_t)fmax(0.0, centre - support + 0.5);
    const int32_t last = (int32_t)fmin((double)n, centre + support + 0.5);
    double total = 0;
    for (int32_t j = first; j < last; j++) {
        const double distance = ((double)j - centre + 0.5) / widen;
        total += is_cubic ? cubic(distance, -0.5) : triangle(distance);
    }
    for (int32_t j = first; j < last; j++) {
        const double distance = ((double)j - centre + 0.5) / widen;
        put(taps, i, j - first, j, (is_cubic ? cubic(distance, -0.5) : triangle(distance)) / total);
    }
}

/* ---- Tables ---------------------------------------------------------------------------------- */

static int32_t taps_needed(enum ld_resize_mode mode, int32_t n, int32_t m)
{
    const double widen = fmax((double)n / (double)m, 1.0);
    switch (mode) {
    case LD_RESIZE_BILINEAR:
        return 2;
    case LD_RESIZE_BICUBIC:
        return 4;
    case LD_RESIZE_AREA:
        return (int32_t)ceil(widen) + 1;
    case LD_RESIZE_BILINEAR_ANTIALIAS:
        return 2 * (int32_t)ceil(widen) + 1;
    case LD_RESIZE_BICUBIC_ANTIALIAS:
        return 4 * (int32_t)ceil(widen) + 1;
    case LD_RESIZE_NEAREST:
    case LD_RESIZE_NEAREST_EXACT:
    case LD_RESIZE_BISLERP:
        break;
    }
    return 1;
}

static void tap(struct ld_resize_taps *taps, enum ld_resize_mode mode, int32_t i, int32_t n)
{
    switch (mode) {
    case LD_RESIZE_NEAREST:
        tap_nearest(taps, i, n, 0.0);
        break;
    case LD_RESIZE_NEAREST_EXACT:
        tap_nearest(taps, i, n, 0.5);
        break;
    case LD_RESIZE_BILINEAR:
        tap_bilinear(taps, i, n);
        break;
    case LD_RESIZE_BICUBIC:
        tap_bicubic(taps, i, n);
        break;
    case LD_RESIZE_AREA:
        tap_area(taps, i, n);
        break;
    case LD_RESIZE_BILINEAR_ANTIALIAS:
        tap_antialias(taps, i, n, false);
        break;
    case LD_RESIZE_BICUBIC_ANTIALIAS:
        tap_antialias(taps, i, n, true);
        break;
    case LD_RESIZE_BISLERP: /* has no linear taps */
        LD_ASSERT(false);
        break;
    }
}

enum ld_code ld_resize_taps_init(struct ld_resize_taps *taps, enum ld_resize_mode mode,
                                 int32_t in_size, int32_t out_size, struct ld_error *err)
{
    *taps = (struct ld_resize_taps){.out_size = out_size,
                                    .width = taps_needed(mode, in_size, out_size)};
    const size_t count = (size_t)out_size * (size_t)taps->width;
    taps->cell = ld_heap_calloc(count, sizeof *taps->cell);
    taps->weight = ld_heap_calloc(count, sizeof *taps->weight);
    if (!taps->cell || !taps->weight)
        return LD_FAIL(err, LD_E_NOMEM, "no memory to resize");
    for (int32_t i = 0; i < out_size; i++)
        tap(taps, mode, i, in_size);
    return LD_OK;
}

void ld_resize_taps_deinit(struct ld_resize_taps *taps)
{
    ld_heap_free(taps->cell);
    ld_heap_free(taps->weight);
    *taps = (struct ld_resize_taps){0};
}
