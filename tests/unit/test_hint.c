/*
 * Proves what every kind of hint gives of a picture, at every small size, and that it depends on
 * the arguments alone. Values are known by hand; edges and lines have tests of their own
 * (test_hint_canny.c, test_hint_lines.c).
 */
#include "runtime/image/hint.h"
#include "runtime/image/pixels_resize.h"
#include "tests/unit/hint_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { HEIGHT = 40, WIDTH = 56, COUNT = HEIGHT * WIDTH };

static uint8_t picture[COUNT * 3];
static float planes[3 * COUNT];

static void make(enum ld_hint_kind kind, double low, double high)
{
    const struct ld_hint_args args = {.kind = kind, .low = low, .high = high};
    memset(planes, 0xFF, sizeof planes);
    assert_int_equal(ld_hint_make(planes, picture, HEIGHT, WIDTH, &args, NULL), LD_OK);
}

static void make_usual(enum ld_hint_kind kind)
{
    make(kind, (double)NAN, (double)NAN);
}

static int same_planes(void)
{
    return memcmp(planes, planes + COUNT, COUNT * sizeof planes[0]) == 0 &&
           memcmp(planes, planes + 2 * COUNT, COUNT * sizeof planes[0]) == 0;
}

/* ---- Kinds ----------------------------------------------------------------------------------- */

static void a_picture_stays_itself_and_an_inverted_one_is_its_rest(void **state)
{
    (void)state;
    hint_paint(picture, HEIGHT, WIDTH);
    static const enum ld_hint_kind itself[] = {LD_HINT_NONE, LD_HINT_TILE, LD_HINT_INPAINT};
    for (size_t k = 0; k < 3; k++) {
        make_usual(itself[k]);
        for (int32_t i = 0; i < 3 * COUNT; i++)
            assert_true(planes[i] == (float)picture[3 * (i % COUNT) + i / COUNT] / 255);
    }
    make_usual(LD_HINT_INVERT);
    for (int32_t i = 0; i < 3 * COUNT; i++)
        assert_true(planes[i] == (float)(255 - picture[3 * (i % COUNT) + i / COUNT]) / 255);
}

static void luminance_weighs_colours_and_keeps_white_at_one(void **state)
{
    (void)state;
    static const uint8_t colours[][3] = {
        {255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {255, 255, 255}, {0, 0, 0}};
    static const float grey[] = {0.299F, 0.587F, 0.114F, 1, 0};
    memset(picture, 255, sizeof picture);
    memcpy(picture, colours, sizeof colours);
    make_usual(LD_HINT_LUMINANCE);
    assert_true(same_planes());
    for (int i = 0; i < 5; i++)
        assert_true(fabsf(planes[i] - grey[i]) < 1e-6F);
    assert_true(planes[3] == 1 && planes[4] == 0 && planes[COUNT - 1] == 1);
}

static void a_threshold_asks_every_colour(void **state)
{
    (void)state;
    static const uint8_t colours[][3] = {
        {128, 128, 128}, {127, 255, 255}, {255, 127, 255}, {255, 255, 127}, {200, 201, 202}};
    memset(picture, 0, sizeof picture);
    memcpy(picture, colours, sizeof colours);
    make_usual(LD_HINT_THRESHOLD);
    assert_true(same_planes());
    static const float usual[] = {1, 0, 0, 0, 1, 0};
    assert_memory_equal(planes, usual, sizeof usual);
    make(LD_HINT_THRESHOLD, 255, 199.5); /* the low one is not looked at */
    static const float high[] = {0, 0, 0, 0, 1, 0};
    assert_memory_equal(planes, high, sizeof high);
}

static void thresholds_reach_canny_and_scribble(void **state)
{
    (void)state;
    size_t before = 0;
    static const double pairs[][2] = {{1000, 2000}, {100, 900}, {100, 200}, {0, 0}};
    hint_paint(picture, HEIGHT, WIDTH);
    for (size_t k = 0; k < 4; k++) {
        size_t found = 0;
        make(LD_HINT_CANNY, pairs[k][0], pairs[k][1]);
        assert_true(same_planes());
        for (int32_t i = 0; i < COUNT; i++)
            found += planes[i] == 1;
        assert_true(k == 0 ? found == 0 : found > before);
        before = found;
    }
    before = 0;
    for (int high = 255; high >= 0; high -= 51) {
        size_t found = 0;
        make(LD_HINT_SCRIBBLE, (double)NAN, high);
        assert_true(same_planes());
        for (int32_t i = 0; i < COUNT; i++)
            found += planes[i] == 1;
        assert_true(high == 255 || found > before || before == 0);
        before = found;
    }
    assert_true(before > 0);
}

static void a_blur_of_nothing_is_the_picture_and_of_much_its_mean(void **state)
{
    (void)state;
    double mean = 0;
    hint_paint(picture, HEIGHT, WIDTH);
    make(LD_HINT_BLUR, 0, 0);
    for (int32_t i = 0; i < 3 * COUNT; i++)
        assert_true(planes[i] == (float)picture[3 * (i % COUNT) + i / COUNT] / 255);
    for (int32_t i = 0; i < COUNT; i++)
        mean += (double)planes[i] / COUNT;
    make(LD_HINT_BLUR, 0, 64);
    for (int32_t i = 0; i < COUNT; i++)
        assert_true(fabs((double)planes[i] - mean) < 0.02);
    memset(picture, 255, sizeof picture);
    make_usual(LD_HINT_BLUR);
    for (int32_t i = 0; i < 3 * COUNT; i++)
        assert_true(planes[i] <= 1 && planes[i] > 0.99999F);
}

static void a_tile_is_the_picture_made_small_and_large_again(void **state)
{
    (void)state;
    static uint8_t small[COUNT * 3 / 16], large[COUNT * 3];
    hint_paint(picture, HEIGHT, WIDTH);
    make(LD_HINT_TILE, (double)NAN, 4);
    for (int32_t y = 0; y < HEIGHT / 4; y++) /* means of 4 x 4 pixels */
        for (int32_t x = 0; x < WIDTH / 4; x++)
            for (int32_t c = 0; c < 3; c++) {
                int32_t sum = 8;
                for (int32_t i = 0; i < 16; i++)
                    sum += picture[((4 * y + i / 4) * WIDTH + 4 * x + i % 4) * 3 + c];
                small[(y * (WIDTH / 4) + x) * 3 + c] = (uint8_t)(sum / 16);
            }
    const struct ld_pixel_resize back = {.in = small,
                                         .in_height = HEIGHT / 4,
                                         .in_width = WIDTH / 4,
                                         .channels = 3,
                                         .out_height = HEIGHT,
                                         .out_width = WIDTH,
                                         .filter = LD_PIXEL_BICUBIC,
                                         .out = large};
    assert_int_equal(ld_pixels_resize(&back, NULL), LD_OK);
    for (int32_t i = 0; i < 3 * COUNT; i++)
        assert_true(planes[i] == (float)large[3 * (i % COUNT) + i / COUNT] / 255);
}

static void only_inpaint_looks_at_the_mask(void **state)
{
    (void)state;
    static uint8_t mask[COUNT];
    static float without[3 * COUNT];
    hint_paint(picture, HEIGHT, WIDTH);
    for (int32_t i = 0; i < COUNT; i++)
        mask[i] = (uint8_t)(i % 256);
    for (int kind = LD_HINT_NONE; kind <= LD_HINT_INPAINT; kind++) {
        const struct ld_hint_args args = {
            .kind = (enum ld_hint_kind)kind, .low = (double)NAN, .high = (double)NAN, .mask = mask};
        make_usual(args.kind);
        memcpy(without, planes, sizeof without);
        assert_int_equal(ld_hint_make(planes, picture, HEIGHT, WIDTH, &args, NULL), LD_OK);
        for (int32_t i = 0; i < 3 * COUNT; i++) {
            const int white = kind == LD_HINT_INPAINT && mask[i % COUNT] >= 128;
            assert_true(planes[i] == (white ? -1 : without[i]));
        }
    }
}

/* ---- All kinds ------------------------------------------------------------------------------- */

static void every_size_works_and_depends_on_the_arguments_alone(void **state)
{
    (void)state;
    enum { MOST = 14, GUARD = 8 };
    static uint8_t rgb[MOST * MOST * 3];
    static float one[MOST * MOST * 3 + GUARD], two[MOST * MOST * 3 + GUARD];
    uint32_t random = 9;
    for (int32_t height = 1; height <= MOST; height++)
        for (int32_t width = 1; width <= MOST; width++)
            for (int kind = LD_HINT_NONE; kind <= LD_HINT_INPAINT; kind++) {
                const size_t count = 3 * (size_t)(height * width);
                const struct ld_hint_args args = {.kind = (enum ld_hint_kind)kind,
                                                  .low = (double)NAN,
                                                  .high = kind == LD_HINT_TILE ? 8 : (double)NAN};
                hint_scatter(rgb, count, 1, &random);
                memset(one, 0xFF, sizeof one);
                memset(two, 0x3C, sizeof two);
                assert_int_equal(ld_hint_make(one, rgb, height, width, &args, NULL), LD_OK);
                assert_int_equal(ld_hint_make(two, rgb, height, width, &args, NULL), LD_OK);
                assert_memory_equal(one, two, count * sizeof one[0]);
                for (size_t i = 0; i < count; i++)
                    assert_true(one[i] >= 0 && one[i] <= 1);
                for (size_t i = count * sizeof two[0]; i < sizeof two; i++)
                    assert_int_equal(((const uint8_t *)two)[i], 0x3C);
            }
}

static void sides_out_of_bounds_are_refused(void **state)
{
    (void)state;
    static const int32_t sides[][2] = {{0, 5}, {5, 0}, {-1, 5}, {5, -1}, {16385, 1}, {1, 16385}};
    const struct ld_hint_args args = {.kind = LD_HINT_NONE};
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++) {
        struct ld_error err = {0};
        assert_int_equal(ld_hint_make(planes, picture, sides[i][0], sides[i][1], &args, &err),
                         LD_E_RANGE);
        assert_non_null(strstr(err.detail, "16384"));
    }
}

static void numbers_settle_at_the_usual_or_the_nearest_in_bounds(void **state)
{
    (void)state;
    static const struct {
        enum ld_hint_kind kind;
        double low, high, low_made, high_made;
    } known[] = {
        {LD_HINT_CANNY, (double)NAN, (double)NAN, 100, 200},
        {LD_HINT_CANNY, 5, (double)NAN, 5, 200},
        {LD_HINT_CANNY, -5, 9999, 0, 2040},
        {LD_HINT_SCRIBBLE, 1, (double)NAN, (double)NAN, 32},
        {LD_HINT_THRESHOLD, 1, (double)NAN, (double)NAN, 127},
        {LD_HINT_THRESHOLD, 1, 300, (double)NAN, 255},
        {LD_HINT_BLUR, 1, (double)NAN, (double)NAN, 9},
        {LD_HINT_BLUR, 1, 255, (double)NAN, 64},
        {LD_HINT_TILE, 1, (double)NAN, (double)NAN, 1},
        {LD_HINT_TILE, 1, 0, (double)NAN, 1},
        {LD_HINT_TILE, 1, 255, (double)NAN, 8},
        {LD_HINT_NONE, 1, 2, (double)NAN, (double)NAN},
        {LD_HINT_LINEART, 1, 2, (double)NAN, (double)NAN},
        {LD_HINT_INVERT, 1, 2, (double)NAN, (double)NAN},
        {LD_HINT_LUMINANCE, 1, 2, (double)NAN, (double)NAN},
        {LD_HINT_INPAINT, 1, 2, (double)NAN, (double)NAN},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const struct ld_hint_args args = {
            .kind = known[i].kind, .low = known[i].low, .high = known[i].high};
        const struct ld_hint_args made = ld_hint_settled(&args);
        assert_true(made.kind == args.kind);
        assert_true(isnan(known[i].low_made) ? isnan(made.low) : made.low == known[i].low_made);
        assert_true(isnan(known[i].high_made) ? isnan(made.high) : made.high == known[i].high_made);
    }
}

static void a_hint_can_be_looked_at(void **state)
{
    (void)state;
    const float hint[3 * 3] = {0, 1, -1, 0.5F, 0.25F, -1, 2, (float)NAN, -1};
    static const uint8_t wanted[3 * 3] = {0, 128, 255, 255, 64, 0, 0, 0, 0};
    uint8_t rgb[3 * 3];
    ld_hint_picture(rgb, hint, 1, 3);
    assert_memory_equal(rgb, wanted, sizeof wanted);
    hint_paint(picture, HEIGHT, WIDTH);
    make_usual(LD_HINT_NONE);
    static uint8_t back[COUNT * 3];
    ld_hint_picture(back, planes, HEIGHT, WIDTH);
    assert_memory_equal(back, picture, sizeof back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_picture_stays_itself_and_an_inverted_one_is_its_rest),
        cmocka_unit_test(luminance_weighs_colours_and_keeps_white_at_one),
        cmocka_unit_test(a_threshold_asks_every_colour),
        cmocka_unit_test(thresholds_reach_canny_and_scribble),
        cmocka_unit_test(a_blur_of_nothing_is_the_picture_and_of_much_its_mean),
        cmocka_unit_test(a_tile_is_the_picture_made_small_and_large_again),
        cmocka_unit_test(only_inpaint_looks_at_the_mask),
        cmocka_unit_test(every_size_works_and_depends_on_the_arguments_alone),
        cmocka_unit_test(sides_out_of_bounds_are_refused),
        cmocka_unit_test(numbers_settle_at_the_usual_or_the_nearest_in_bounds),
        cmocka_unit_test(a_hint_can_be_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
