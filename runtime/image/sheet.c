#include "runtime/image/sheet.h"

#include "runtime/base/arena.h"
#include "runtime/image/font.h"
#include "runtime/image/pixels_resize.h"

#include <math.h>
#include <string.h>

enum {
    GAP = 4,     /* between cells */
    ADVANCE = 6, /* of a letter, in font pixels */
    LINE = 11,   /* of a label, in font pixels, with air above and below */
    AIR = 2,     /* in front of and above a label, in font pixels */
    ROW_LABEL_LETTERS = 28,
    CELL_SIDE_MIN = 16,
    CHANNELS = 3
};

/* ---- Layout ---------------------------------------------------------------------------------- */

static uint32_t longest(const char *const *labels, uint32_t count)
{
    uint32_t most = 0;
    for (uint32_t i = 0; labels && i < count; i++) {
        const size_t size = strlen(labels[i]);
        most = size > most ? (uint32_t)(size < ROW_LABEL_LETTERS ? size : ROW_LABEL_LETTERS) : most;
    }
    return most;
}

/* Sizes for cells of this scale. */
static void lay_out(struct ld_sheet *sheet, const struct ld_sheet_plan *plan, double scale)
{
    sheet->plan = *plan;
    sheet->scale = scale;
    sheet->plan.cell_width = (int32_t)fmax(1, floor(plan->cell_width * scale));
    sheet->plan.cell_height = (int32_t)fmax(1, floor(plan->cell_height * scale));
    sheet->zoom = sheet->plan.cell_width >= 512 ? 3 : sheet->plan.cell_width >= 200 ? 2 : 1;
    const int32_t letters = (int32_t)longest(plan->row_labels, plan->rows);
    sheet->left = letters ? sheet->zoom * (letters * ADVANCE + 2 * AIR) : 0;
    sheet->top = plan->column_labels ? sheet->zoom * LINE : 0;
    sheet->head = plan->page_labels ? sheet->zoom * LINE : 0;
    sheet->width = sheet->left + (int32_t)plan->columns * (sheet->plan.cell_width + GAP) + GAP;
    sheet->height = (int32_t)plan->pages * (sheet->head + sheet->top +
                                            (int32_t)plan->rows * (sheet->plan.cell_height + GAP)) +
                    GAP;
}

static bool fits(const struct ld_sheet *sheet)
{
    return sheet->width <= LD_SHEET_SIDE_MAX && sheet->height <= LD_SHEET_SIDE_MAX &&
           (int64_t)sheet->width * sheet->height <= LD_SHEET_PIXELS_MAX;
}

static int32_t page_top(const struct ld_sheet *sheet, uint32_t page)
{
    return (int32_t)page *
           (sheet->head + sheet->top + (int32_t)sheet->plan.rows * (sheet->plan.cell_height + GAP));
}

/* The left upper corner of a cell. */
static void corner(const struct ld_sheet *sheet, uint32_t column, uint32_t row, uint32_t page,
                   int32_t *x, int32_t *y)
{
    *x = sheet->left + GAP + (int32_t)column * (sheet->plan.cell_width + GAP);
    *y = page_top(sheet, page) + sheet->head + sheet->top + GAP +
         (int32_t)row * (sheet->plan.cell_height + GAP);
}

/* ---- Labels ---------------------------------------------------------------------------------- */

static void draw_block(struct ld_sheet *sheet, int32_t x, int32_t y)
{
    for (int32_t dy = 0; dy < sheet->zoom; dy++) {
        for (int32_t dx = 0; dx < sheet->zoom; dx++) {
            if (x + dx < sheet->width && y + dy < sheet->height)
                memset(sheet->pixels +
                           ((size_t)(y + dy) * (size_t)sheet->width + (size_t)(x + dx)) * CHANNELS,
                       0, CHANNELS);
        }
    }
}

static void draw_text(struct ld_sheet *sheet, const char *text, int32_t x, int32_t y, int32_t width)
{
    const int32_t room = width / (ADVANCE * sheet->zoom);
    for (int32_t i = 0; text[i] && i < room; i++) {
        const uint8_t *glyph = ld_font_glyph(text[i]);
        for (int32_t row = 0; row < LD_FONT_HEIGHT; row++) {
            for (int32_t column = 0; column < LD_FONT_WIDTH; column++) {
                if (glyph[row] >> (LD_FONT_WIDTH - 1 - column) & 1)
                    draw_block(sheet, x + (i * ADVANCE + column) * sheet->zoom,
                               y + row * sheet->zoom);
            }
        }
    }
}

static void draw_labels(struct ld_sheet *sheet)
{
    const struct ld_sheet_plan *plan = &sheet->plan;
    const int32_t air = AIR * sheet->zoom;
    int32_t x;
    int32_t y;
    for (uint32_t page = 0; page < plan->pages; page++) {
        if (plan->page_labels)
            draw_text(sheet, plan->page_labels[page], GAP, page_top(sheet, page) + air,
                      sheet->width - GAP);
        for (uint32_t i = 0; plan->column_labels && i < plan->columns; i++) {
            corner(sheet, i, 0, page, &x, &y);
            draw_text(sheet, plan->column_labels[i], x, y - GAP - sheet->top + air,
                      plan->cell_width);
        }
        for (uint32_t i = 0; plan->row_labels && i < plan->rows; i++) {
            corner(sheet, 0, i, page, &x, &y);
            draw_text(sheet, plan->row_labels[i], air,
                      y + plan->cell_height / 2 - LD_FONT_HEIGHT * sheet->zoom / 2,
                      sheet->left - air);
        }
    }
}

/* ---- The whole ------------------------------------------------------------------------------- */

enum ld_code ld_sheet_open(struct ld_sheet *sheet, const struct ld_sheet_plan *plan,
                           struct ld_error *err)
{
    LD_ASSERT(plan->columns > 0 && plan->rows > 0 && plan->pages > 0);
    memset(sheet, 0, sizeof *sheet);
    double scale = 1;
    for (lay_out(sheet, plan, scale); !fits(sheet); lay_out(sheet, plan, scale)) {
        scale *= 0.9;
        if (plan->cell_width * scale < CELL_SIDE_MIN || plan->cell_height * scale < CELL_SIDE_MIN)
            return LD_FAIL(err, LD_E_RANGE, "a contact sheet of so many pictures is too large");
    }
    sheet->bytes = (size_t)sheet->width * (size_t)sheet->height * CHANNELS;
    sheet->pixels = ld_block_alloc(sheet->bytes);
    if (!sheet->pixels)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for a contact sheet");
    memset(sheet->pixels, 0xFF, sheet->bytes);
    draw_labels(sheet);
    return LD_OK;
}

static int32_t scaled(const struct ld_sheet *sheet, int32_t side, int32_t most)
{
    const int32_t size = (int32_t)fmax(1, floor(side * sheet->scale));
    return size < most ? size : most;
}

enum ld_code ld_sheet_put(struct ld_sheet *sheet, uint32_t index, const uint8_t *rgb, int32_t width,
                          int32_t height, int32_t channels, struct ld_error *err)
{
    const struct ld_sheet_plan *plan = &sheet->plan;
    const uint32_t page = index / (plan->columns * plan->rows);
    int32_t x;
    int32_t y;
    LD_ASSERT(page < plan->pages && (channels == 3 || channels == 4));
    const int32_t out_width = scaled(sheet, width, plan->cell_width);
    const int32_t out_height = scaled(sheet, height, plan->cell_height);
    const size_t size = (size_t)out_width * (size_t)out_height * (size_t)channels;
    uint8_t *small = ld_block_alloc(size);
    if (!small)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for a contact sheet");
    const struct ld_pixel_resize op = {
        .in = rgb,
        .in_height = height,
        .in_width = width,
        .channels = channels,
        .out_height = out_height,
        .out_width = out_width,
        .filter = LD_PIXEL_BOX,
        .out = small,
    };
    const enum ld_code code = ld_pixels_resize(&op, err);
    corner(sheet, index % plan->columns, index / plan->columns % plan->rows, page, &x, &y);
    for (int32_t row = 0; code == LD_OK && row < out_height; row++) {
        for (int32_t column = 0; column < out_width; column++)
            memcpy(sheet->pixels +
                       ((size_t)(y + row) * (size_t)sheet->width + (size_t)(x + column)) * CHANNELS,
                   small + ((size_t)row * (size_t)out_width + (size_t)column) * (size_t)channels,
                   CHANNELS);
    }
    ld_block_free(small, size);
    return code;
}

void ld_sheet_deinit(struct ld_sheet *sheet)
{
    ld_block_free(sheet->pixels, sheet->bytes);
    memset(sheet, 0, sizeof *sheet);
}
