/*
 * Proves the conversions between tensors and bytes, the guards and the resizing of pictures. It
 * uses values whose result is known by hand, and sweeps sizes with pictures that must not change.
 */
#include "runtime/image/pixels.h"
#include "runtime/image/pixels_resize.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void planes_become_bytes_by_truncation_and_clamp(void **state)
{
    (void)state;
    const float planes[3 * 2] = {-1.0f, 1.0f, -7.0f, 9.0f, 0.0f, NAN};
    uint8_t rgb[6];
    ld_pixels_from_planes(rgb, planes, 1, 2);
    const uint8_t want[6] = {0, 0, 127, 255, 255, 0};
    assert_memory_equal(rgb, want, 6);
}

static void bytes_survive_the_way_to_planes_and_back_within_truncation(void **state)
{
    (void)state;
    uint8_t pixels[256 * 4], back[256 * 3];
    float planes[256 * 3];
    for (int i = 0; i < 256; i++)
        memset(pixels + 4 * i, i, 4);
    ld_pixels_to_planes(planes, pixels, 4, 1, 256);
    assert_true(planes[0] == -1.0f && planes[255] == 1.0f);
    ld_pixels_from_planes(back, planes, 1, 256);
    for (int i = 0; i < 256; i++)
        assert_true(abs(back[3 * i] - i) <= 1);
}

static void the_guard_sees_every_value_that_is_no_number(void **state)
{
    (void)state;
    float values[64] = {0};
    double wide[64] = {0};
    values[5] = 3e38f;
    values[6] = 1e-45f;
    assert_true(ld_values_finite(values, 64) && ld_values_finite_f64(wide, 64));
    const float broken[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (size_t b = 0; b < 4; b++) {
        for (size_t i = 0; i < 64; i++) {
            const float kept = values[i];
            values[i] = broken[b];
            wide[i] = (double)broken[b];
            assert_false(ld_values_finite(values, 64));
            assert_false(ld_values_finite_f64(wide, 64));
            values[i] = kept;
            wide[i] = 0;
        }
    }
    uint8_t pixels[10] = {0};
    assert_true(ld_pixels_black(pixels, 10));
    pixels[9] = 1;
    assert_false(ld_pixels_black(pixels, 10));
}

static void a_preview_of_nothing_is_grey_and_of_the_first_channel_bright(void **state)
{
    (void)state;
    double latent[4] = {0};
    uint8_t rgb[3];
    ld_preview_from_latent(rgb, latent, 1, 1);
    assert_true(rgb[0] == 127 && rgb[1] == 127 && rgb[2] == 127);
    latent[0] = 2;
    ld_preview_from_latent(rgb, latent, 1, 1);
    assert_true(rgb[0] > 200 && rgb[1] > 180 && rgb[2] > 200);
}

static void a_constant_picture_stays_in_every_filter_and_size(void **state)
{
    (void)state;
    enum { MAX = 40 };
    static uint8_t in[MAX * MAX * 3], out[MAX * MAX * 3];
    memset(in, 173, sizeof in);
    for (int filter = LD_PIXEL_NEAREST; filter <= LD_PIXEL_LANCZOS; filter++) {
        for (int32_t n = 1; n <= MAX; n += 3) {
            for (int32_t m = 1; m <= MAX; m += 4) {
                const struct ld_pixel_resize op = {.in = in,
                                                   .in_height = n,
                                                   .in_width = MAX + 1 - n,
                                                   .channels = 3,
                                                   .out_height = m,
                                                   .out_width = MAX + 1 - m,
                                                   .filter = (enum ld_pixel_filter)filter,
                                                   .out = out};
                memset(out, 0, sizeof out);
                assert_int_equal(ld_pixels_resize(&op, NULL), LD_OK);
                for (int32_t i = 0; i < m * (MAX + 1 - m) * 3; i++)
                    assert_int_equal(out[i], 173);
            }
        }
    }
}

static void box_halves_by_means_and_nearest_doubles_by_copies(void **state)
{
    (void)state;
    const uint8_t in[4] = {10, 20, 30, 40};
    uint8_t out[16];
    struct ld_pixel_resize op = {.in = in,
                                 .in_height = 2,
                                 .in_width = 2,
                                 .channels = 1,
                                 .out_height = 1,
                                 .out_width = 1,
                                 .filter = LD_PIXEL_BOX,
                                 .out = out};
    assert_int_equal(ld_pixels_resize(&op, NULL), LD_OK);
    assert_int_equal(out[0], 25);
    op.out_height = op.out_width = 4;
    op.filter = LD_PIXEL_NEAREST;
    assert_int_equal(ld_pixels_resize(&op, NULL), LD_OK);
    const uint8_t want[16] = {10, 10, 20, 20, 10, 10, 20, 20, 30, 30, 40, 40, 30, 30, 40, 40};
    assert_memory_equal(out, want, 16);
    op.channels = 5;
    assert_int_equal(ld_pixels_resize(&op, NULL), LD_E_RANGE);
}

static void fitting_crops_and_pads_around_the_middle(void **state)
{
    (void)state;
    const uint8_t in[4] = {9, 50, 60, 9};
    uint8_t out[16];
    struct ld_pixel_resize op = {.in = in,
                                 .in_height = 1,
                                 .in_width = 4,
                                 .channels = 1,
                                 .out_height = 1,
                                 .out_width = 1,
                                 .filter = LD_PIXEL_BOX,
                                 .out = out};
    assert_int_equal(ld_pixels_fit(&op, LD_FIT_CROP, NULL), LD_OK);
    assert_true(out[0] == 50 || out[0] == 60);
    op.out_height = op.out_width = 4;
    assert_int_equal(ld_pixels_fit(&op, LD_FIT_PAD, NULL), LD_OK);
    const uint8_t want[16] = {0, 0, 0, 0, 9, 50, 60, 9};
    assert_memory_equal(out, want, 16);
    assert_int_equal(ld_pixels_fit(&op, LD_FIT_STRETCH, NULL), LD_OK);
    assert_memory_equal(out + 12, in, 4);
}

static void a_blurred_mask_keeps_its_weight_and_its_flat_parts(void **state)
{
    (void)state;
    enum { SIDE = 64 };
    static float mask[SIDE * SIDE];
    mask[32 * SIDE + 32] = 1;
    assert_int_equal(ld_mask_blur(mask, SIDE, SIDE, 4, NULL), LD_OK);
    float sum = 0;
    for (int i = 0; i < SIDE * SIDE; i++)
        sum += mask[i];
    assert_true(fabsf(sum - 1) < 1e-4f);
    assert_true(mask[32 * SIDE + 32] < 0.02f && mask[32 * SIDE + 36] > 0.003f);
    for (int i = 0; i < SIDE * SIDE; i++)
        mask[i] = 0.5f;
    assert_int_equal(ld_mask_blur(mask, 2, 3, 64, NULL), LD_OK); /* wider than the picture */
    for (int i = 0; i < 6; i++)
        assert_true(fabsf(mask[i] - 0.5f) < 1e-5f);
}

static void paste_back_keeps_the_original_where_the_mask_is_dark(void **state)
{
    (void)state;
    const uint8_t pixels[] = {255, 255, 255, 128, 0, 0, 0, 255};
    const uint8_t original[6] = {1, 2, 3, 4, 5, 6};
    uint8_t rgb[6] = {101, 102, 103, 104, 105, 106};
    float mask[2];
    ld_mask_from_pixels(mask, pixels, 4, 1, 2);
    assert_true(fabsf(mask[0] - 128.0f / 255.0f) < 1e-5f && mask[1] == 0);
    mask[0] = 1;
    ld_pixels_paste_back(rgb, original, mask, 2);
    const uint8_t want[6] = {101, 102, 103, 4, 5, 6};
    assert_memory_equal(rgb, want, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planes_become_bytes_by_truncation_and_clamp),
        cmocka_unit_test(bytes_survive_the_way_to_planes_and_back_within_truncation),
        cmocka_unit_test(the_guard_sees_every_value_that_is_no_number),
        cmocka_unit_test(a_preview_of_nothing_is_grey_and_of_the_first_channel_bright),
        cmocka_unit_test(a_constant_picture_stays_in_every_filter_and_size),
        cmocka_unit_test(box_halves_by_means_and_nearest_doubles_by_copies),
        cmocka_unit_test(fitting_crops_and_pads_around_the_middle),
        cmocka_unit_test(a_blurred_mask_keeps_its_weight_and_its_flat_parts),
        cmocka_unit_test(paste_back_keeps_the_original_where_the_mask_is_dark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
