/*
 * Proves that Canny's edges are OpenCV's: against edges that OpenCV 4.6.0 found, against a slow
 * plain second implementation at every small size, and on pictures whose edges are known by hand.
 */
#include "runtime/base/id.h"
#include "runtime/image/hint_canny.h"
#include "tests/unit/hint_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SIDE = 83 };

static uint8_t picture[SIDE * SIDE * 3];
static float edges[SIDE * SIDE];

static size_t find(int32_t height, int32_t width, double low, double high)
{
    memset(edges, 0xFF, sizeof edges);
    assert_int_equal(ld_hint_canny(edges, picture, height, width, low, high, NULL), LD_OK);
    size_t found = 0;
    for (int32_t i = 0; i < height * width; i++) {
        assert_true(edges[i] == 0 || edges[i] == 1);
        found += edges[i] == 1;
    }
    return found;
}

/* ---- OpenCV ---------------------------------------------------------------------------------- */

/* cv2.Canny(picture, low, high): how many edges, and the checksum of the bytes 0 and 1. */
static void edges_are_those_that_opencv_found(void **state)
{
    (void)state;
    static const struct {
        double low, high;
        size_t count;
        uint32_t crc;
    } found[] = {
        {100, 200, 1596, 0x30714525}, {0, 0, 1682, 0x738a39db},     {40.9, 250.2, 1585, 0x84b96485},
        {400, 150, 1428, 0x49025339}, {300, 700, 1145, 0x01a68ba6},
    };
    enum { HEIGHT = 61, WIDTH = 83 };
    hint_paint(picture, HEIGHT, WIDTH);
    for (size_t i = 0; i < sizeof found / sizeof found[0]; i++) {
        uint8_t bytes[HEIGHT * WIDTH];
        assert_int_equal(find(HEIGHT, WIDTH, found[i].low, found[i].high), found[i].count);
        for (size_t p = 0; p < sizeof bytes; p++)
            bytes[p] = (uint8_t)edges[p];
        assert_int_equal(ld_crc32c(0, ld_span_of(bytes, sizeof bytes)), found[i].crc);
    }
}

/* ---- A second implementation ----------------------------------------------------------------- */

static int plain_byte(int32_t height, int32_t width, int32_t y, int32_t x, int c)
{
    y = y < 0 ? 0 : y >= height ? height - 1 : y;
    x = x < 0 ? 0 : x >= width ? width - 1 : x;
    return picture[(y * width + x) * 3 + c];
}

/* |dx| + |dy| at a pixel by Sobel's two matrices, 0 outside the picture. */
static int plain_size(int32_t height, int32_t width, int32_t y, int32_t x, int *dx, int *dy)
{
    static const int across[3][3] = {{-1, 0, 1}, {-2, 0, 2}, {-1, 0, 1}};
    int most = -1;
    if (y < 0 || x < 0 || y >= height || x >= width)
        return 0;
    for (int c = 0; c < 3; c++) {
        int gx = 0, gy = 0;
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++) {
                const int byte = plain_byte(height, width, y + i - 1, x + j - 1, c);
                gx += across[i][j] * byte;
                gy += across[j][i] * byte;
            }
        if (abs(gx) + abs(gy) > most) {
            most = abs(gx) + abs(gy);
            *dx = gx;
            *dy = gy;
        }
    }
    return most;
}

/* Is it a maximum across its edge? The direction by tangents in floating point: none of the slopes
 * that bytes can have lies on a border of two directions, where these and OpenCV's integers could
 * differ. */
static int plain_maximum(int32_t height, int32_t width, int32_t y, int32_t x, int size, int dx,
                         int dy)
{
    int tx, ty;
    const double turn = dx == 0 ? HUGE_VAL : fabs((double)dy / (double)dx);
    const int32_t step_x = turn > 1 + sqrt(2.0) ? 0 : 1;
    const int32_t step_y = turn < sqrt(2.0) - 1                    ? 0
                           : ((dx < 0) == (dy < 0) || step_x == 0) ? 1
                                                                   : -1;
    const int one = plain_size(height, width, y - step_y, x - step_x, &tx, &ty);
    const int two = plain_size(height, width, y + step_y, x + step_x, &tx, &ty);
    return step_x && step_y ? size > one && size > two : size > one && size >= two;
}

/* 2 where it is an edge, 1 where it was not joined to one. */
static void plain_canny(uint8_t *map, int32_t height, int32_t width, int low, int high)
{
    for (int32_t y = 0; y < height; y++)
        for (int32_t x = 0; x < width; x++) {
            int dx = 0, dy = 0;
            const int size = plain_size(height, width, y, x, &dx, &dy);
            map[y * width + x] = 0;
            if (size > low && plain_maximum(height, width, y, x, size, dx, dy))
                map[y * width + x] = size > high ? 2 : 1;
        }
    for (int changed = 1; changed;) {
        changed = 0;
        for (int32_t y = 0; y < height; y++)
            for (int32_t x = 0; x < width; x++)
                for (int32_t n = 0; n < 9 && map[y * width + x] == 1; n++) {
                    const int32_t ny = y + n / 3 - 1, nx = x + n % 3 - 1;
                    if (ny >= 0 && nx >= 0 && ny < height && nx < width &&
                        map[ny * width + nx] == 2)
                        map[y * width + x] = 2, changed = 1;
                }
    }
}

static void edges_are_those_of_a_plain_search_at_every_size(void **state)
{
    (void)state;
    static const int thresholds[][2] = {{100, 200}, {0, 0}, {30, 600}, {500, 500}};
    static const uint32_t steps[] = {1, 64, 128};
    uint32_t random = 1;
    size_t all = 0;
    for (int32_t height = 1; height <= 12; height++)
        for (int32_t width = 1; width <= 12; width++)
            for (size_t i = 0; i < 12; i++) {
                uint8_t map[12 * 12];
                const int *t = thresholds[i % 4];
                hint_scatter(picture, 3 * (size_t)(height * width), steps[i / 4], &random);
                plain_canny(map, height, width, t[0], t[1]);
                all += find(height, width, t[0], t[1]);
                for (int32_t p = 0; p < height * width; p++)
                    assert_int_equal((int)edges[p], map[p] == 2);
            }
    assert_true(all > 10000);
}

static void a_long_picture_of_noise_agrees_with_the_plain_search(void **state)
{
    (void)state;
    static uint8_t map[SIDE * SIDE];
    static const int32_t sizes[][2] = {{SIDE, SIDE}, {1, SIDE}, {SIDE, 1}, {2, SIDE}};
    uint32_t random = 5;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        hint_scatter(picture, sizeof picture, 32, &random);
        plain_canny(map, sizes[i][0], sizes[i][1], 200, 900);
        find(sizes[i][0], sizes[i][1], 200, 900);
        for (int32_t p = 0; p < sizes[i][0] * sizes[i][1]; p++)
            assert_int_equal((int)edges[p], map[p] == 2);
    }
}

/* ---- By hand --------------------------------------------------------------------------------- */

enum { SMALL = 16 };

static void paint(int32_t y, int32_t x, int c, int byte)
{
    picture[(y * SMALL + x) * 3 + c] = (uint8_t)byte;
}

/* A step of so many levels between columns 7 and 8, in one colour. */
static void paint_step(int c, int levels)
{
    for (int32_t y = 0; y < SMALL; y++)
        for (int32_t x = 8; x < SMALL; x++)
            paint(y, x, c, levels);
}

static void a_step_is_one_line_on_its_near_side_in_any_colour(void **state)
{
    (void)state;
    for (int c = 0; c < 3; c++) {
        memset(picture, 0, sizeof picture);
        paint_step(c, 60); /* slope 240 */
        assert_int_equal(find(SMALL, SMALL, 100, 200), SMALL);
        for (int32_t y = 0; y < SMALL; y++)
            assert_true(edges[y * SMALL + 7] == 1);
    }
}

static void a_slope_must_be_above_a_threshold_and_not_at_it(void **state)
{
    (void)state;
    memset(picture, 0, sizeof picture);
    paint_step(1, 50); /* slope 200 */
    assert_int_equal(find(SMALL, SMALL, 100, 200), 0);
    assert_int_equal(find(SMALL, SMALL, 100, 199.9), SMALL); /* rounded down */
    assert_int_equal(find(SMALL, SMALL, 199, 100), SMALL);   /* swapped */
    assert_int_equal(find(SMALL, SMALL, 200, 100), 0);
    memset(picture, 77, sizeof picture);
    assert_int_equal(find(SMALL, SMALL, 0, 0), 0);
}

static void a_weak_edge_lives_by_a_strong_one_at_its_end(void **state)
{
    (void)state;
    memset(picture, 0, sizeof picture);
    paint_step(0, 40); /* slope 160 everywhere: weak */
    assert_int_equal(find(SMALL, SMALL, 100, 200), 0);
    for (int32_t x = 8; x < SMALL; x++)
        paint(SMALL - 1, x, 0, 80); /* twice as steep in the lowest row */
    find(SMALL, SMALL, 100, 200);
    for (int32_t y = 0; y < SMALL - 2; y++)
        assert_true(edges[y * SMALL + 7] == 1);
    /* Where it is steep both ways the maximum lies a column further: joined aslant. */
    assert_true(edges[(SMALL - 2) * SMALL + 7] == 0 && edges[(SMALL - 2) * SMALL + 8] == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edges_are_those_that_opencv_found),
        cmocka_unit_test(edges_are_those_of_a_plain_search_at_every_size),
        cmocka_unit_test(a_long_picture_of_noise_agrees_with_the_plain_search),
        cmocka_unit_test(a_step_is_one_line_on_its_near_side_in_any_colour),
        cmocka_unit_test(a_slope_must_be_above_a_threshold_and_not_at_it),
        cmocka_unit_test(a_weak_edge_lives_by_a_strong_one_at_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
