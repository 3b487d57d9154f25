/*
 * Proves what holds for every resampling mode and ratio: constants stay, sizes are met, identical
 * sizes copy, names of all dialects are known. It sweeps modes and sizes with simple pictures.
 */
#include "runtime/sample/deep_shrink.h"
#include "runtime/sample/resize.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SIDE_MAX = 40, CHANNELS = 4 };

static void resize(enum ld_resize_mode mode, const float *in, int32_t h, int32_t w, float *out,
                   int32_t out_h, int32_t out_w)
{
    const struct ld_resample op = {.in = in,
                                   .images = 1,
                                   .channels = CHANNELS,
                                   .in_height = h,
                                   .in_width = w,
                                   .out_height = out_h,
                                   .out_width = out_w,
                                   .mode = mode,
                                   .out = out};
    assert_int_equal(ld_resample(&op, NULL), LD_OK);
}

static void a_constant_stays_what_it_is_in_every_mode_and_size(void **state)
{
    (void)state;
    static float in[CHANNELS * SIDE_MAX * SIDE_MAX], out[CHANNELS * SIDE_MAX * SIDE_MAX];
    for (int mode = LD_RESIZE_NEAREST; mode <= LD_RESIZE_BICUBIC_ANTIALIAS; mode++) {
        for (int32_t n = 1; n <= SIDE_MAX; n += 3) {
            for (int32_t m = 1; m <= SIDE_MAX; m += 5) {
                const int32_t other = SIDE_MAX + 1 - n;
                for (int32_t i = 0; i < CHANNELS * n * other; i++)
                    in[i] = 1.5f + (float)(i / (n * other));
                resize((enum ld_resize_mode)mode, in, n, other, out, m, SIDE_MAX - m + 1);
                const int32_t plane = m * (SIDE_MAX - m + 1);
                for (int32_t i = 0; i < CHANNELS * plane; i++)
                    assert_true(fabsf(out[i] - (1.5f + (float)(i / plane))) < 1e-4f);
            }
        }
    }
}

static void the_same_size_is_a_copy(void **state)
{
    (void)state;
    float in[CHANNELS * 5 * 7], out[CHANNELS * 5 * 7];
    for (size_t i = 0; i < sizeof in / sizeof in[0]; i++)
        in[i] = (float)i * 0.7f;
    for (int mode = LD_RESIZE_NEAREST; mode <= LD_RESIZE_BICUBIC_ANTIALIAS; mode++) {
        resize((enum ld_resize_mode)mode, in, 5, 7, out, 5, 7);
        assert_memory_equal(in, out, sizeof in);
    }
}

static void area_halves_by_means(void **state)
{
    (void)state;
    float in[CHANNELS * 4 * 4] = {0}, out[CHANNELS * 2 * 2];
    for (int i = 0; i < 16; i++)
        in[i] = (float)i;
    resize(LD_RESIZE_AREA, in, 4, 4, out, 2, 2);
    assert_true(out[0] == 2.5f && out[1] == 4.5f && out[2] == 10.5f && out[3] == 12.5f);
}

static void sizes_out_of_bounds_are_refused(void **state)
{
    (void)state;
    float value = 0;
    struct ld_resample op = {.in = &value,
                             .images = 1,
                             .channels = 1,
                             .in_height = 1,
                             .in_width = 1,
                             .out_height = LD_RESAMPLE_SIDE_MAX + 1,
                             .out_width = 1,
                             .mode = LD_RESIZE_BILINEAR,
                             .out = &value};
    assert_int_equal(ld_resample(&op, NULL), LD_E_RANGE);
    op.out_height = 0;
    assert_int_equal(ld_resample(&op, NULL), LD_E_RANGE);
}

static void names_of_every_dialect_are_known(void **state)
{
    (void)state;
    const struct {
        const char *name;
        enum ld_resize_mode mode;
    } known[] = {
        {"latent-bislerp", LD_RESIZE_BISLERP},
        {"Nearest_Exact", LD_RESIZE_NEAREST_EXACT},
        {"Latent", LD_RESIZE_BILINEAR},
        {"Latent (antialiased)", LD_RESIZE_BILINEAR_ANTIALIAS},
        {"Latent (bicubic)", LD_RESIZE_BICUBIC},
        {"Latent (bicubic antialiased)", LD_RESIZE_BICUBIC_ANTIALIAS},
        {"Latent (nearest)", LD_RESIZE_NEAREST},
        {"Latent (nearest-exact)", LD_RESIZE_NEAREST_EXACT},
    };
    enum ld_resize_mode mode;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert_true(ld_resize_mode_named(known[i].name, &mode));
        assert_int_equal(mode, known[i].mode);
    }
    for (int m = LD_RESIZE_NEAREST; m <= LD_RESIZE_BICUBIC_ANTIALIAS; m++) {
        assert_true(ld_resize_mode_named(ld_resize_mode_name((enum ld_resize_mode)m), &mode));
        assert_int_equal(mode, m);
    }
    assert_false(ld_resize_mode_named("", &mode));
    assert_false(ld_resize_mode_named("lanczos", &mode));
}

static void the_centre_crop_has_the_new_aspect_and_never_vanishes(void **state)
{
    (void)state;
    struct ld_crop crop = ld_crop_centre(64, 96, 64, 64);
    assert_true(crop.y == 0 && crop.x == 16 && crop.height == 64 && crop.width == 64);
    crop = ld_crop_centre(96, 64, 64, 64);
    assert_true(crop.y == 16 && crop.x == 0 && crop.height == 64 && crop.width == 64);
    for (int32_t h = 1; h < 40; h += 3)
        for (int32_t w = 1; w < 4000; w = w * 3 + 1) {
            crop = ld_crop_centre(h, w, w, h);
            assert_true(crop.width >= 1 && crop.height >= 1 && crop.x >= 0 && crop.y >= 0);
            assert_true(crop.x + crop.width <= w && crop.y + crop.height <= h);
        }
}

static void deep_shrink_rounds_half_to_even_and_is_off_when_absent(void **state)
{
    (void)state;
    struct ld_request_deep_shrink request = {.present = true,
                                             .block = 3,
                                             .factor = 2,
                                             .end = 0.35,
                                             .downscale = "",
                                             .upscale = "bislerp"};
    struct ld_deep_shrink shrink;
    struct ld_error err = {0};
    assert_int_equal(ld_deep_shrink_init(&shrink, &request, ld_sigma_table_default(), &err), LD_OK);
    assert_int_equal(ld_deep_shrink_size(&shrink, 13), 6);
    assert_int_equal(ld_deep_shrink_size(&shrink, 15), 8);
    assert_int_equal(ld_deep_shrink_size(&shrink, 1), 1);
    assert_int_equal(shrink.down, LD_RESIZE_BICUBIC);
    assert_true(ld_deep_shrink_active(&shrink, 14.6) && ld_deep_shrink_active(&shrink, 2.74));
    assert_false(ld_deep_shrink_active(&shrink, 2.73));
    request.upscale = "magic";
    assert_int_equal(ld_deep_shrink_init(&shrink, &request, ld_sigma_table_default(), &err),
                     LD_E_INVALID);
    assert_non_null(strstr(err.detail, "upscale"));
    request.present = false;
    assert_int_equal(ld_deep_shrink_init(&shrink, &request, ld_sigma_table_default(), &err), LD_OK);
    assert_false(ld_deep_shrink_active(&shrink, 14.6));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_constant_stays_what_it_is_in_every_mode_and_size),
        cmocka_unit_test(the_same_size_is_a_copy),
        cmocka_unit_test(area_halves_by_means),
        cmocka_unit_test(sizes_out_of_bounds_are_refused),
        cmocka_unit_test(names_of_every_dialect_are_known),
        cmocka_unit_test(the_centre_crop_has_the_new_aspect_and_never_vanishes),
        cmocka_unit_test(deep_shrink_rounds_half_to_even_and_is_off_when_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
