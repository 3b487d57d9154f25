/*
 * Proves that a contact sheet places every picture where its labels say, keeps within its bounds by
 * shrinking, and draws labels that can be told apart. Looks at pixels.
 */
#include "runtime/image/font.h"
#include "runtime/image/sheet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const three[] = {"steps: 10", "steps: 20", "steps: 30"};
static const char *const two[] = {"euler", "heun"};

static void cells_stand_in_order(void **state)
{
    (void)state;
    uint8_t picture[8 * 8 * 4];
    struct ld_sheet sheet;
    const struct ld_sheet_plan plan = {.columns = 3,
                                       .rows = 2,
                                       .pages = 2,
                                       .cell_width = 8,
                                       .cell_height = 8,
                                       .column_labels = three,
                                       .row_labels = two,
                                       .page_labels = two};
    assert_int_equal(ld_sheet_open(&sheet, &plan, NULL), LD_OK);
    assert_true(sheet.scale == 1);
    for (uint32_t i = 0; i < 12; i++) {
        memset(picture, (int)(20 + i), sizeof picture);
        assert_int_equal(ld_sheet_put(&sheet, i, picture, 8, 8, i % 2 ? 4 : 3, NULL), LD_OK);
    }
    for (uint32_t i = 0; i < 12; i++) {
        const uint32_t column = i % 3;
        const uint32_t row = i / 3 % 2;
        const uint32_t page = i / 6;
        const int32_t x = sheet.left + 4 + (int32_t)column * 12;
        const int32_t y = (int32_t)page * (sheet.head + sheet.top + 24) + sheet.head + sheet.top +
                          4 + (int32_t)row * 12;
        for (int32_t corner = 0; corner < 4; corner++) {
            const size_t at =
                (size_t)(y + corner / 2 * 7) * (size_t)sheet.width + (size_t)(x + corner % 2 * 7);
            assert_int_equal(sheet.pixels[at * 3], 20 + i);
        }
        /* the gap before it stays white */
        assert_int_equal(sheet.pixels[((size_t)y * (size_t)sheet.width + (size_t)x - 1) * 3], 255);
    }
    ld_sheet_deinit(&sheet);
}

static size_t black_pixels(const struct ld_sheet *sheet)
{
    size_t count = 0;
    for (size_t i = 0; i < sheet->bytes; i += 3)
        count += sheet->pixels[i] == 0;
    return count;
}

static void labels_are_drawn_and_cut(void **state)
{
    (void)state;
    static const char *const shorter[] = {"I", "I", "I"};
    static const char *const longer[] = {"M M M M M M M M M M M M M M M M M M", "M", "M"};
    struct ld_sheet sheet;
    struct ld_sheet_plan plan = {
        .columns = 3, .rows = 1, .pages = 1, .cell_width = 64, .cell_height = 64};
    assert_int_equal(ld_sheet_open(&sheet, &plan, NULL), LD_OK);
    assert_int_equal(black_pixels(&sheet), 0);
    assert_int_equal(sheet.top, 0);
    ld_sheet_deinit(&sheet);
    plan.column_labels = shorter;
    assert_int_equal(ld_sheet_open(&sheet, &plan, NULL), LD_OK);
    assert_int_equal(black_pixels(&sheet), 3 * 11); /* an I has eleven pixels */
    ld_sheet_deinit(&sheet);
    plan.column_labels = longer;
    assert_int_equal(ld_sheet_open(&sheet, &plan, NULL), LD_OK);
    const size_t m = 18; /* pixels of an M; ten letters fit, half of them blanks */
    assert_int_equal(black_pixels(&sheet), (5 + 2) * m);
    ld_sheet_deinit(&sheet);
}

static void large_sheets_shrink(void **state)
{
    (void)state;
    struct ld_sheet sheet;
    const struct ld_sheet_plan plan = {
        .columns = 8, .rows = 8, .pages = 1, .cell_width = 4096, .cell_height = 4096};
    uint8_t *picture = calloc(4096 * 3, 4096);
    assert_non_null(picture);
    assert_int_equal(ld_sheet_open(&sheet, &plan, NULL), LD_OK);
    assert_true(sheet.scale < 1 && sheet.plan.cell_width >= 400);
    assert_true((int64_t)sheet.width * sheet.height <= LD_SHEET_PIXELS_MAX);
    assert_int_equal(ld_sheet_put(&sheet, 63, picture, 4096, 4096, 3, NULL), LD_OK);
    assert_true(black_pixels(&sheet) ==
                (size_t)sheet.plan.cell_width * (size_t)sheet.plan.cell_height);
    ld_sheet_deinit(&sheet);
    free(picture);
    const struct ld_sheet_plan absurd = {
        .columns = 1, .rows = 1, .pages = 4000, .cell_width = 64, .cell_height = 64};
    assert_int_equal(ld_sheet_open(&sheet, &absurd, NULL), LD_E_RANGE);
}

static void letters_differ(void **state)
{
    (void)state;
    for (char a = '!'; a < '`'; a++)
        for (char b = (char)(a + 1); b < '`'; b++)
            assert_int_not_equal(memcmp(ld_font_glyph(a), ld_font_glyph(b), LD_FONT_HEIGHT), 0);
    assert_ptr_equal(ld_font_glyph('q'), ld_font_glyph('Q'));
    assert_ptr_equal(ld_font_glyph((char)0xC3), ld_font_glyph('?'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cells_stand_in_order),
        cmocka_unit_test(labels_are_drawn_and_cut),
        cmocka_unit_test(large_sheets_shrink),
        cmocka_unit_test(letters_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
