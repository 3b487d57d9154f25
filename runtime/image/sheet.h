/*
 * A contact sheet: pictures in a grid with a label over each column, before each row and over each
 * page. Labels are black on white.
 *
 *     struct ld_sheet_plan plan = {.columns = 3, .rows = 2, .pages = 1, .cell_width = 832, ...};
 *     ld_sheet_open(&sheet, &plan, err);
 *     ld_sheet_put(&sheet, index, rgb, width, height, err);      for each cell
 *     ... sheet.pixels ...
 *     ld_sheet_deinit(&sheet);
 */
#ifndef LD_IMAGE_SHEET_H
#define LD_IMAGE_SHEET_H

#include "config/limits.h"
#include "runtime/base/error.h"

#include <stddef.h>
#include <stdint.h>

enum { LD_SHEET_SIDE_MAX = 16383 };                /* WebP's longest side */
#define LD_SHEET_PIXELS_MAX ((int64_t)LD_AREA_MAX) /* cells shrink until the sheet fits */

struct ld_sheet_plan {
    uint32_t columns, rows, pages;    /* each at least 1; pages lie one under the other */
    int32_t cell_width, cell_height;  /* of the largest picture */
    const char *const *column_labels; /* NULL: none; ASCII, cut where they do not fit */
    const char *const *row_labels;
    const char *const *page_labels;
};

/* Caller's storage. `pixels` is [height, width, 3]. */
struct ld_sheet {
    struct ld_sheet_plan plan; /* cell sizes as they were shrunk to */
    double scale;              /* of every picture */
    int32_t width, height;
    int32_t left, top, head; /* margins of labels: before rows, over a page's columns, its title */
    int32_t zoom;            /* pixels of a font pixel */
    uint8_t *pixels;
    size_t bytes;
};

/* Lays out, draws the labels. Owner  fills `sheet`; ld_sheet_deinit on success. Errors  LD_E_RANGE
 * (so many cells that they would vanish), LD_E_NOMEM. */
enum ld_code ld_sheet_open(struct ld_sheet *sheet, const struct ld_sheet_plan *plan,
                           struct ld_error *err) LD_MUST_USE;

/* Cell `index`: columns vary fastest, then rows, then pages. Shapes  rgb: [height, width,
 * channels], channels 3 or 4 (alpha is not looked at). Errors  LD_E_NOMEM. */
enum ld_code ld_sheet_put(struct ld_sheet *sheet, uint32_t index, const uint8_t *rgb, int32_t width,
                          int32_t height, int32_t channels, struct ld_error *err) LD_MUST_USE;

/* Safe on a zeroed one. */
void ld_sheet_deinit(struct ld_sheet *sheet);

#endif
