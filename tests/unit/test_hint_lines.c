/*
 * Proves the blur, the scribble and the lines of a drawing: against values that OpenCV 4.6.0 gave,
 * and against sums in double precision that are written as the formulas are.
 */
#include "runtime/base/id.h"
#include "runtime/image/gaussian.h"
#include "runtime/image/hint_lines.h"
#include "tests/unit/hint_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { HEIGHT = 61, WIDTH = 83, COUNT = HEIGHT * WIDTH };

static uint8_t picture[COUNT * 3];
static float planes[3 * COUNT];

/* ---- Blur ------------------------------------------------------------------------------------ */

static void taps_are_four_sigma_to_each_side_and_sum_to_one(void **state)
{
    (void)state;
    static const struct {
        double sigma;
        int32_t radius;
    } known[] = {{0, 0},  {0.01, 0}, {0.5, 2},  {1, 4},    {5, 20},
                 {6, 24}, {9, 36},   {64, 256}, {1e9, 256}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        float weight[LD_GAUSSIAN_RADIUS_MAX + 1];
        const int32_t radius = ld_gaussian_radius(known[i].sigma);
        assert_int_equal(radius, known[i].radius);
        ld_gaussian_weights(weight, radius, known[i].sigma);
        double sum = (double)weight[0];
        for (int32_t k = 1; k <= radius; k++) {
            assert_true(weight[k] <= weight[k - 1] && weight[k] > 0);
            sum += 2 * (double)weight[k];
        }
        assert_true(fabs(sum - 1) < 1e-6);
    }
}

/* cv2.GaussianBlur(picture as float32, (0, 0), sigma)[y, x, c] */
static void blurs_are_those_that_opencv_gave(void **state)
{
    (void)state;
    static const struct {
        double sigma;
        int32_t y, x, c;
        float value;
    } known[] = {
        {0.5, 0, 0, 0, 14.7227F}, {0.5, 30, 41, 1, 74.2840F}, {0.5, 60, 82, 2, 93.0599F},
        {5, 0, 0, 0, 46.5539F},   {5, 30, 41, 1, 107.3163F},  {5, 60, 82, 2, 110.1062F},
        {6, 0, 0, 0, 56.9258F},   {6, 30, 41, 1, 109.0303F},  {6, 60, 82, 2, 111.3522F},
        {9, 0, 0, 0, 79.1637F},   {9, 30, 41, 1, 110.3774F},  {9, 60, 82, 2, 112.2115F},
    };
    hint_paint(picture, HEIGHT, WIDTH);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert_int_equal(ld_gaussian_blur(planes, picture, HEIGHT, WIDTH, known[i].sigma, NULL),
                         LD_OK);
        const float value = planes[known[i].c * COUNT + known[i].y * WIDTH + known[i].x];
        assert_true(fabsf(value - known[i].value) < 2e-4F);
    }
}

/* One value of a blur: both sums at once, with the picture mirrored step by step. */
static double plain_blur(int32_t height, int32_t width, int32_t y, int32_t x, int c, double sigma)
{
    const int32_t radius = (int32_t)floor(4 * sigma + 0.5);
    double sum = 0, total = 0;
    for (int32_t i = -radius; i <= radius; i++)
        for (int32_t j = -radius; j <= radius; j++) {
            const double weight = exp(-(double)(i * i + j * j) / (2 * sigma * sigma));
            int32_t at_y = y + i, at_x = x + j;
            while (height > 1 && (at_y < 0 || at_y >= height))
                at_y = at_y < 0 ? -at_y : 2 * (height - 1) - at_y;
            while (width > 1 && (at_x < 0 || at_x >= width))
                at_x = at_x < 0 ? -at_x : 2 * (width - 1) - at_x;
            at_y = height > 1 ? at_y : 0;
            at_x = width > 1 ? at_x : 0;
            sum += weight * picture[(at_y * width + at_x) * 3 + c];
            total += weight;
        }
    return sum / total;
}

static void a_blur_is_the_weighted_mean_at_every_size(void **state)
{
    (void)state;
    static const double sigmas[] = {0.5, 1.25, 5};
    uint32_t random = 3;
    for (int32_t height = 1; height <= 9; height += 2)
        for (int32_t width = 1; width <= 10; width += 3)
            for (size_t i = 0; i < 3; i++) {
                const int32_t count = height * width;
                hint_scatter(picture, 3 * (size_t)count, 1, &random);
                assert_int_equal(ld_gaussian_blur(planes, picture, height, width, sigmas[i], NULL),
                                 LD_OK);
                for (int32_t p = 0; p < 3 * count; p++) {
                    const double wanted = plain_blur(height, width, p % count / width, p % width,
                                                     p / count, sigmas[i]);
                    assert_true(fabs((double)planes[p] - wanted) < 2e-4);
                }
            }
}

/* ---- Median ---------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void the_median_is_that_of_sorted_values(void **state)
{
    (void)state;
    float values[200] = {0};
    uint32_t random = 11;
    assert_true(ld_median_above(values, 0, 8) == 0);
    for (size_t count = 1; count <= 200; count++)
        for (uint32_t bits = 0; bits <= 28; bits += 7) { /* from distinct values to ties */
            float above[200];
            size_t n = 0;
            for (size_t i = 0; i < count; i++) {
                values[i] = (float)(hint_random(&random) >> bits << bits) * 0x1p-27F;
                if (values[i] > 8)
                    above[n++] = values[i];
            }
            qsort(above, n, sizeof above[0], ascending);
            const float wanted = n == 0 ? 0 : (above[(n - 1) / 2] + above[n / 2]) / 2;
            assert_true(ld_median_above(values, count, 8) == wanted);
        }
}

/* ---- Lines ----------------------------------------------------------------------------------- */

/* The least over colours of the blur of `coarse` less that of `fine` (0: the picture). */
static double plain_darker(int32_t i, double coarse, double fine)
{
    double least = 1e9;
    for (int c = 0; c < 3; c++) {
        const double near = fine > 0 ? plain_blur(HEIGHT, WIDTH, i / WIDTH, i % WIDTH, c, fine)
                                     : (double)picture[3 * i + c];
        least = fmin(least, plain_blur(HEIGHT, WIDTH, i / WIDTH, i % WIDTH, c, coarse) - near);
    }
    return least;
}

static void a_scribble_is_that_of_the_reference(void **state)
{
    (void)state;
    uint8_t bytes[COUNT];
    size_t found = 0;
    hint_paint(picture, HEIGHT, WIDTH);
    assert_int_equal(ld_hint_scribble(planes, picture, HEIGHT, WIDTH, 32, NULL), LD_OK);
    for (int32_t i = 0; i < COUNT; i++) {
        bytes[i] = (uint8_t)planes[i];
        found += bytes[i];
    }
    /* What NumPy and OpenCV gave for the reference's lines, doubled in more than eight bits. */
    assert_int_equal(found, 703);
    assert_int_equal(ld_crc32c(0, ld_span_of(bytes, sizeof bytes)), 0x9f738a8f);
    for (int32_t i = 0; i < COUNT; i += 7) {
        const double darker = fmin(255, fmax(0, plain_darker(i, 5, 0.5)));
        assert_true(fabs(darker - ceil(darker)) < 1e-3 || /* where rounding decides */
                    bytes[i] == (2 * ceil(darker) > 32));
    }
}

static void the_darkest_lines_have_no_holes(void **state)
{
    (void)state;
    for (int32_t level = 0; level <= 255; level++) { /* a line on white, of every darkness */
        memset(picture, 255, sizeof picture);
        for (int32_t x = 0; x < WIDTH; x++)
            memset(picture + (30 * WIDTH + x) * 3, level, 3);
        assert_int_equal(ld_hint_scribble(planes, picture, HEIGHT, WIDTH, 32, NULL), LD_OK);
        for (int32_t x = 1; x < WIDTH; x++)
            assert_true(planes[30 * WIDTH + x] == planes[30 * WIDTH]);
        assert_true(planes[30 * WIDTH] == (level < 233 ? 1 : 0));
    }
}

static void a_drawing_is_that_of_the_reference(void **state)
{
    (void)state;
    uint8_t bytes[COUNT];
    hint_paint(picture, HEIGHT, WIDTH);
    assert_int_equal(ld_hint_lineart(planes, picture, HEIGHT, WIDTH, NULL), LD_OK);
    size_t sum = 0;
    for (int32_t i = 0; i < COUNT; i++) {
        bytes[i] = (uint8_t)lrintf(planes[i] * 255);
        assert_true(planes[i] == (float)bytes[i] / 255);
        sum += bytes[i];
    }
    /* What NumPy and OpenCV gave for the reference's lines. */
    assert_int_equal(sum, 147848);
    assert_int_equal(ld_crc32c(0, ld_span_of(bytes, sizeof bytes)), 0xf9b94f99);
    for (int32_t i = 0; i < COUNT; i += 7) {
        const double level = fmax(0, plain_darker(i, 6, 0)) / 24.55877 * 127; /* NumPy's median */
        assert_true(fabs(fmin(255, level) - (double)bytes[i]) < 1.001);
    }
}

static void paper_is_black_and_faint_lines_stay_faint(void **state)
{
    (void)state;
    memset(picture, 200, sizeof picture);
    assert_int_equal(ld_hint_lineart(planes, picture, HEIGHT, WIDTH, NULL), LD_OK);
    for (int32_t i = 0; i < COUNT; i++)
        assert_true(planes[i] == 0);
    /* Four levels darker than 200 where nothing is above 8: over 16, times 127. */
    memset(picture + (30 * WIDTH + 40) * 3, 196, 3);
    assert_int_equal(ld_hint_lineart(planes, picture, HEIGHT, WIDTH, NULL), LD_OK);
    assert_int_equal(lrintf(planes[30 * WIDTH + 40] * 255),
                     31); /* 4 * 127 / 16 = 31.75 less a bit */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(taps_are_four_sigma_to_each_side_and_sum_to_one),
        cmocka_unit_test(blurs_are_those_that_opencv_gave),
        cmocka_unit_test(a_blur_is_the_weighted_mean_at_every_size),
        cmocka_unit_test(the_median_is_that_of_sorted_values),
        cmocka_unit_test(a_scribble_is_that_of_the_reference),
        cmocka_unit_test(the_darkest_lines_have_no_holes),
        cmocka_unit_test(a_drawing_is_that_of_the_reference),
        cmocka_unit_test(paper_is_black_and_faint_lines_stay_faint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
