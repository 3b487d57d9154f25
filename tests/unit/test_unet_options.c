/* Proves that deep shrink, FreeU, PAG, SAG and extra input channels do what their formulas say.
 * How: neutral parameters must leave the result as it is, and the arithmetic on planes is compared
 * with naive sums. */
#include "runtime/model/unet_freeu.h"
#include "runtime/model/unet_sag.h"
#include "tests/tools/checkpoint_write.h"
#include "tests/unit/network_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { H = 16, W = 24, LATENT = 4 * H * W, CHUNK = 77 };
static const double PI = 3.141592653589793;

static struct network_fixture fixture;
static float input[LATENT];
static float context[CHUNK * FIXTURE_WIDTH];

static int open_all(void **state)
{
    (void)state;
    network_fixture_open(&fixture, 2, LD_PART_BIT(LD_PART_UNET));
    network_fill(input, LATENT, 1);
    network_fill(context, CHUNK * FIXTURE_WIDTH, 2);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    network_fixture_close(&fixture);
    return 0;
}

static void run(const struct ld_unet_options *options, float *eps, float *qkv)
{
    struct ld_error err = {0};
    const struct ld_unet_row row = {.x = input,
                                    .scale = 1,
                                    .t = 500,
                                    .context = context,
                                    .context_tokens = CHUNK,
                                    .eps = eps,
                                    .qkv = qkv};
    const struct ld_unet_request request = {
        .rows = &row, .row_count = 1, .height = H, .width = W, .options = *options};
    if (ld_model_unet(fixture.model, NULL, &request, &err) != LD_OK)
        fail_msg("%s", err.detail);
}

static const struct ld_unet_options PLAIN;

/* ---- Deep shrink ----------------------------------------------------------------------------- */

static void deep_shrink_by_one_changes_nothing(void **state)
{
    (void)state;
    static float plain[LATENT];
    static float shrunk[LATENT];
    struct ld_unet_options options = {.shrink = true,
                                      .shrink_after_skip = true,
                                      .shrink_block = 3,
                                      .shrink_factor = 1,
                                      .shrink_down = LD_RESIZE_BICUBIC,
                                      .shrink_up = LD_RESIZE_BICUBIC};
    run(&PLAIN, plain, NULL);
    run(&options, shrunk, NULL);
    assert_true(network_distance(shrunk, plain, LATENT) < 1e-6);
    options.shrink_factor = 2;
    run(&options, shrunk, NULL);
    assert_true(network_distance(shrunk, plain, LATENT) > 1e-3);
}

static void every_block_and_method_can_shrink(void **state)
{
    (void)state;
    static const enum ld_resize_mode modes[] = {LD_RESIZE_NEAREST_EXACT, LD_RESIZE_BILINEAR,
                                                LD_RESIZE_BICUBIC, LD_RESIZE_AREA,
                                                LD_RESIZE_BISLERP};
    static float eps[LATENT];
    for (int32_t block = 0; block < 12; block++) {
        const struct ld_unet_options options = {.shrink = true,
                                                .shrink_after_skip = block % 2 == 0,
                                                .shrink_block = block,
                                                .shrink_factor = 1.7,
                                                .shrink_down = modes[block % 5],
                                                .shrink_up = modes[(block + 1) % 5]};
        run(&options, eps, NULL);
        for (size_t i = 0; i < LATENT; i++)
            assert_true(isfinite(eps[i]));
    }
}

/* ---- FreeU ----------------------------------------------------------------------------------- */

static void neutral_freeu_changes_nothing(void **state)
{
    (void)state;
    static float plain[LATENT];
    static float with[LATENT];
    for (int version = LD_FREEU_V1; version <= LD_FREEU_V2; version++) {
        struct ld_unet_options options = {.freeu = (enum ld_freeu_version)version,
                                          .freeu_b1 = 1,
                                          .freeu_b2 = 1,
                                          .freeu_s1 = 1,
                                          .freeu_s2 = 1};
        run(&PLAIN, plain, NULL);
        run(&options, with, NULL);
        assert_true(network_distance(with, plain, LATENT) < 1e-6);
    }
}

/* The filter by its definition: transform, scale the centred 2x2 bins, transform back, real part.
 */
static void naive_filter(const float *in, double *out, int height, int width, double factor)
{
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            double sum = 0;
            for (int u = 0; u < height; u++)
                for (int v = 0; v < width; v++) {
                    /* fftshift puts frequency f at (f + n / 2) mod n. */
                    const int row = (u + height / 2) % height;
                    const int column = (v + width / 2) % width;
                    const bool low = row >= height / 2 - 1 && row <= height / 2 &&
                                     column >= width / 2 - 1 && column <= width / 2;
                    double real = 0;
                    double imaginary = 0;
                    for (int j = 0; j < height; j++)
                        for (int i = 0; i < width; i++) {
                            const double phase =
                                2 * PI * ((double)u * j / height + (double)v * i / width);
                            real += (double)in[j * width + i] * cos(phase);
                            imaginary -= (double)in[j * width + i] * sin(phase);
                        }
                    const double phase = 2 * PI * ((double)u * y / height + (double)v * x / width);
                    sum += (low ? factor : 1) * (real * cos(phase) - imaginary * sin(phase));
                }
            out[y * width + x] = sum / (height * width);
        }
}

static void the_skip_filter_is_the_transform_it_stands_for(void **state)
{
    (void)state;
    static const int sizes[][2] = {{1, 1}, {1, 5}, {2, 2}, {3, 1}, {4, 6}, {7, 5}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        const int height = sizes[s][0];
        const int width = sizes[s][1];
        float plane[2 * 35];
        float filtered[2 * 35];
        double expected[35];
        double lines[2 * (7 + 7)];
        const struct ld_unet_freeu freeu = {
            .version = LD_FREEU_V1, .backbone = 1, .skip = 0.25F, .lines = lines};
        network_fill(plane, 2 * 35, 40 + s);
        memcpy(filtered, plane, sizeof plane);
        ld_unet_freeu_skip(&freeu, filtered, 1, 2, height, width);
        for (int c = 0; c < 2; c++) {
            naive_filter(plane + c * height * width, expected, height, width, 0.25);
            for (int i = 0; i < height * width; i++)
                assert_true(fabs((double)filtered[c * height * width + i] - expected[i]) < 1e-6);
        }
    }
}

static void the_backbone_is_amplified_in_its_first_half(void **state)
{
    (void)state;
    /* Two positions, four channels; channel means 1 and 3, so q is 0 and 1. */
    const float planes[8] = {0, 2, 1, 3, 1, 3, 2, 4};
    float v1[8];
    float v2[8];
    float plane[2];
    const struct ld_unet_freeu first = {
        .version = LD_FREEU_V1, .backbone = 1.5F, .skip = 1, .plane = plane};
    const struct ld_unet_freeu second = {
        .version = LD_FREEU_V2, .backbone = 1.5F, .skip = 1, .plane = plane};
    memcpy(v1, planes, sizeof planes);
    memcpy(v2, planes, sizeof planes);
    ld_unet_freeu_backbone(&first, v1, 1, 4, 1, 2);
    ld_unet_freeu_backbone(&second, v2, 1, 4, 1, 2);
    const float expected_v1[8] = {0, 3, 1.5F, 4.5F, 1, 3, 2, 4};
    const float expected_v2[8] = {0, 3, 1, 4.5F, 1, 3, 2, 4};
    assert_memory_equal(v1, expected_v1, sizeof v1);
    assert_memory_equal(v2, expected_v2, sizeof v2);
}

/* ---- PAG and SAG ----------------------------------------------------------------------------- */

static void perturbed_attention_changes_the_result(void **state)
{
    (void)state;
    static float plain[LATENT];
    static float perturbed[LATENT];
    run(&PLAIN, plain, NULL);
    run(&(struct ld_unet_options){.middle_identity = true}, perturbed, NULL);
    assert_true(network_distance(perturbed, plain, LATENT) > 1e-6);
    for (size_t i = 0; i < LATENT; i++)
        assert_true(isfinite(perturbed[i]));
}

static void the_attention_map_comes_beside_the_same_result(void **state)
{
    (void)state;
    static float plain[LATENT];
    static float with[LATENT];
    const struct ld_unet_options options = {.middle_qkv = true};
    const struct ld_unet_shape shape = {1, H, W, CHUNK};
    const struct ld_unet_middle middle =
        ld_unet_middle(ld_model_arch(fixture.model), &shape, &options);
    float qkv[3 * 64 * 6];
    float scores[6];
    struct ld_error err = {0};
    assert_int_equal(middle.height, 2);
    assert_int_equal(middle.width, 3);
    assert_int_equal(middle.channels, 64);
    run(&PLAIN, plain, NULL);
    run(&options, with, qkv);
    assert_memory_equal(plain, with, sizeof plain);
    assert_int_equal(ld_sag_scores(qkv, middle.channels, middle.heads, 6, scores, &err), LD_OK);
    double sum = 0;
    for (int i = 0; i < 6; i++) {
        assert_true(scores[i] > 0);
        sum += (double)scores[i];
    }
    assert_true(fabs(sum - 6) < 1e-5);
}

static void attention_scores_follow_their_formula(void **state)
{
    (void)state;
    /* One head of one channel, two positions: q = {0, 1}, k = {0, ln 3}. */
    const float log3 = 1.0986123F;
    const float qkv[6] = {0, 1, 0, log3, 5, 5};
    float scores[2];
    struct ld_error err = {0};
    assert_int_equal(ld_sag_scores(qkv, 1, 1, 2, scores, &err), LD_OK);
    /* Rows of the softmax: {1/2, 1/2} and {1/4, 3/4}. */
    assert_true(fabsf(scores[0] - 0.75F) < 1e-6F);
    assert_true(fabsf(scores[1] - 1.25F) < 1e-6F);
    assert_int_equal(ld_sag_scores(qkv, 3, 2, 2, scores, &err), LD_E_SHAPE);
}

/* ---- Extra input channels -------------------------------------------------------------------- */

static void inpainting_channels_reach_every_row(void **state)
{
    (void)state;
    static float extra[3][5 * H * W];
    static float together[3][LATENT];
    static float alone[LATENT];
    struct network_fixture inpaint;
    struct ld_unet_row rows[3];
    struct ld_error err = {0};
    network_fixture_open_extra(&inpaint, 2, LD_PART_BIT(LD_PART_UNET), 9);
    assert_int_equal(ld_model_arch(inpaint.model)->unet_in_channels, 9);
    for (uint32_t r = 0; r < 3; r++) {
        if (r > 0) /* row 0 keeps zeros */
            network_fill(extra[r], 5 * H * W, 70 + r);
        rows[r] = (struct ld_unet_row){.x = input,
                                       .scale = 1,
                                       .t = 500,
                                       .extra = extra[r],
                                       .context = context,
                                       .context_tokens = CHUNK,
                                       .eps = together[r]};
    }
    struct ld_unet_request request = {.rows = rows, .row_count = 3, .height = H, .width = W};
    assert_int_equal(ld_model_unet(inpaint.model, NULL, &request, &err), LD_OK);
    assert_true(network_distance(together[1], together[0], LATENT) > 1e-3);
    assert_true(network_distance(together[2], together[1], LATENT) > 1e-3);
    rows[0] = rows[2];
    rows[0].eps = alone;
    request.row_count = 1;
    assert_int_equal(ld_model_unet(inpaint.model, NULL, &request, &err), LD_OK);
    assert_memory_equal(together[2], alone, sizeof alone);
    network_fixture_close(&inpaint);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deep_shrink_by_one_changes_nothing),
        cmocka_unit_test(every_block_and_method_can_shrink),
        cmocka_unit_test(neutral_freeu_changes_nothing),
        cmocka_unit_test(the_skip_filter_is_the_transform_it_stands_for),
        cmocka_unit_test(the_backbone_is_amplified_in_its_first_half),
        cmocka_unit_test(perturbed_attention_changes_the_result),
        cmocka_unit_test(the_attention_map_comes_beside_the_same_result),
        cmocka_unit_test(attention_scores_follow_their_formula),
        cmocka_unit_test(inpainting_channels_reach_every_row),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
