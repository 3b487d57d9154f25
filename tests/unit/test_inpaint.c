/*
 * Proves the geometry of painting into a picture: rectangles around a mask stay inside, hold it and
 * have the asked shape; edges are repeated around a laid picture; colours are matched.
 */
#include "runtime/image/inpaint.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { WIDTH = 40, HEIGHT = 24 };

static void bounds_hold_every_half_and_nothing_else(void **state)
{
    (void)state;
    static float mask[WIDTH * HEIGHT];
    struct ld_rect rect;
    memset(mask, 0, sizeof mask);
    mask[3] = 0.49F;
    assert_false(ld_mask_bounds(mask, HEIGHT, WIDTH, &rect));
    mask[5 * WIDTH + 7] = 0.5F;
    mask[9 * WIDTH + 30] = 1;
    assert_true(ld_mask_bounds(mask, HEIGHT, WIDTH, &rect));
    assert_true(rect.x == 7 && rect.y == 5 && rect.width == 24 && rect.height == 5);
}

static void a_rectangle_grows_inside_the_picture(void **state)
{
    (void)state;
    for (int32_t x = 0; x < WIDTH; x += 3) {
        for (int32_t y = 0; y < HEIGHT; y += 2) {
            for (int32_t padding = 0; padding < 16; padding += 5) {
                const struct ld_rect inner = {x, y, WIDTH - x < 6 ? WIDTH - x : 6,
                                              HEIGHT - y < 3 ? HEIGHT - y : 3};
                const struct ld_rect r = ld_rect_around(inner, padding, 2, 3, HEIGHT, WIDTH);
                assert_true(r.x >= 0 && r.y >= 0 && r.x + r.width <= WIDTH &&
                            r.y + r.height <= HEIGHT);
                assert_true(r.x <= inner.x && r.y <= inner.y &&
                            r.x + r.width >= inner.x + inner.width &&
                            r.y + r.height >= inner.y + inner.height);
                if (r.width < WIDTH && r.height < HEIGHT)
                    assert_true(fabs((double)r.width - (double)r.height * 2.0 / 3.0) <= 1);
            }
        }
    }
}

static void edges_are_repeated_around_a_laid_picture(void **state)
{
    (void)state;
    const uint8_t picture[2 * 2] = {1, 2, 3, 4};
    uint8_t out[4 * 5];
    ld_pixels_lay(out, 4, 5, picture, (struct ld_rect){2, 1, 2, 2}, 1);
    const uint8_t wanted[4 * 5] = {1, 1, 1, 2, 2, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 3, 3, 3, 4, 4};
    assert_memory_equal(out, wanted, sizeof wanted);
}

static void colours_get_the_mean_and_spread_of_the_reference(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    static uint8_t rgb[3 * COUNT];
    static uint8_t reference[3 * COUNT];
    double sum[3] = {0};
    double wanted[3] = {0};
    for (int i = 0; i < COUNT; i++) {
        for (int c = 0; c < 3; c++) {
            rgb[3 * i + c] = (uint8_t)(60 + 10 * c + (i * 7 + c * 13) % 40);
            reference[3 * i + c] = (uint8_t)(150 - 20 * c + (i * 11 + c * 5) % 60);
            wanted[c] += reference[3 * i + c];
        }
    }
    ld_pixels_match_colors(rgb, COUNT, reference, COUNT);
    for (int i = 0; i < 3 * COUNT; i++)
        sum[i % 3] += rgb[i];
    for (int c = 0; c < 3; c++)
        assert_true(fabs(sum[c] - wanted[c]) / COUNT < 1);
    memset(rgb, 40, sizeof rgb); /* flat: only the mean moves */
    ld_pixels_match_colors(rgb, COUNT, reference, COUNT);
    assert_memory_equal(rgb, rgb + 3, 3 * (COUNT - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_hold_every_half_and_nothing_else),
        cmocka_unit_test(a_rectangle_grows_inside_the_picture),
        cmocka_unit_test(edges_are_repeated_around_a_laid_picture),
        cmocka_unit_test(colours_get_the_mean_and_spread_of_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
