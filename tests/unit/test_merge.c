/*
 * Proves the merging formulas on small vectors and that DARE draws depend on name and position
 * alone. Results are compared with values worked out by hand.
 */
#include "runtime/model/merge.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void weighted_sums_end_at_their_inputs(void **state)
{
    (void)state;
    const float a[] = {1, -2, 3};
    const float b[] = {5, 6, -7};
    float dst[3];
    struct ld_merge_recipe recipe = {.op = LD_MERGE_WEIGHTED_SUM, .alpha = 0};
    assert_int_equal(ld_merge_tensor(dst, &recipe, "t", a, b, NULL, 3, NULL), LD_OK);
    assert_memory_equal(dst, a, sizeof a);
    recipe.alpha = 1;
    assert_int_equal(ld_merge_tensor(dst, &recipe, "t", a, b, NULL, 3, NULL), LD_OK);
    assert_memory_equal(dst, b, sizeof b);
    recipe.alpha = 0.25;
    assert_int_equal(ld_merge_tensor(dst, &recipe, "t", a, b, NULL, 3, NULL), LD_OK);
    assert_true(dst[0] == 2 && dst[1] == 0 && dst[2] == 0.5f);
}

static void a_difference_is_added(void **state)
{
    (void)state;
    const float a[] = {1, 1};
    const float b[] = {4, 0};
    const float c[] = {2, 2};
    float dst[2];
    const struct ld_merge_recipe recipe = {.op = LD_MERGE_ADD_DIFFERENCE, .alpha = 0.5};
    assert_int_equal(ld_merge_tensor(dst, &recipe, "t", a, b, c, 2, NULL), LD_OK);
    assert_true(dst[0] == 2 && dst[1] == 0);
}

static void blocks_have_their_own_weight(void **state)
{
    (void)state;
    struct ld_merge_recipe recipe = {.op = LD_MERGE_BLOCK_WEIGHTED, .base = 0.9, .middle = 0.8};
    for (int i = 0; i < LD_MERGE_BLOCKS; i++) {
        recipe.in[i] = i / 100.0;
        recipe.out[i] = -i / 100.0;
    }
    static const struct {
        const char *name;
        double alpha;
    } cases[] = {
        {"model.diffusion_model.input_blocks.0.0.weight", 0.0},
        {"model.diffusion_model.input_blocks.11.0.in_layers.2.weight", 0.11},
        {"model.diffusion_model.output_blocks.1.0.in_layers.2.bias", -0.01},
        {"model.diffusion_model.output_blocks.10.1.norm.bias", -0.10},
        {"model.diffusion_model.middle_block.1.proj_in.weight", 0.8},
        {"model.diffusion_model.time_embed.0.weight", 0.9},
        {"model.diffusion_model.out.2.weight", 0.9},
        {"model.diffusion_model.input_blocks.12.0.weight", 0.9},
        {"first_stage_model.decoder.conv_in.weight", 0.9},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_true(ld_merge_block_alpha(&recipe, cases[i].name) == cases[i].alpha);
}

static void ties_trims_elects_and_averages(void **state)
{
    (void)state;
    /* Half of each delta stays: A keeps 4 and -3, B keeps 2 and 5 (ties at the bound stay too). */
    const float base[] = {10, 10, 10, 10};
    const float a[] = {14, 7, 11, 10};
    const float b[] = {12, 15, 10, 11};
    float dst[4];
    struct ld_merge_recipe recipe = {.op = LD_MERGE_TIES, .density = 0.5, .lambda = 1};
    assert_int_equal(ld_merge_tensor(dst, &recipe, "t", a, b, base, 4, NULL), LD_OK);
    assert_true(dst[0] == 13); /* both agree: the mean of 4 and 2 */
    assert_true(dst[1] == 15); /* -3 against 5: the sum is positive, only 5 counts */
    assert_true(dst[2] == 10 && dst[3] == 10);
    recipe.density = 0;
    assert_int_equal(ld_merge_tensor(dst, &recipe, "t", a, b, base, 4, NULL), LD_OK);
    assert_memory_equal(dst, base, sizeof base);
    recipe.density = 1;
    recipe.lambda = 2;
    assert_int_equal(ld_merge_tensor(dst, &recipe, "t", a, b, base, 4, NULL), LD_OK);
    assert_true(dst[0] == 16 && dst[1] == 20 && dst[2] == 12 && dst[3] == 12);
}

static void dare_drops_a_share_and_rescales_the_rest(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    static float a[COUNT];
    static float b[COUNT];
    static float first[COUNT];
    static float other[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        b[i] = 1;
    const struct ld_merge_recipe recipe = {.op = LD_MERGE_DARE, .drop = 0.75, .lambda = 1};
    assert_int_equal(ld_merge_tensor(first, &recipe, "one", a, b, NULL, COUNT, NULL), LD_OK);
    assert_int_equal(ld_merge_tensor(other, &recipe, "two", a, b, NULL, COUNT, NULL), LD_OK);
    size_t kept = 0;
    size_t same = 0;
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(first[i] == 0 || first[i] == 4);
        kept += first[i] != 0;
        same += first[i] == other[i];
    }
    assert_in_range(kept, COUNT * 24 / 100, COUNT * 26 / 100);
    assert_true(same < COUNT * 65 / 100); /* 0.625 expected of independent draws */
    assert_int_equal(ld_merge_tensor(other, &recipe, "one", a, b, NULL, COUNT, NULL), LD_OK);
    assert_memory_equal(first, other, sizeof first);
}

static void cosine_is_that_of_the_angle(void **state)
{
    (void)state;
    const float a[] = {1, 0};
    const float b[] = {1, 1};
    const float zero[] = {0, 0};
    assert_true(fabs(ld_merge_cosine(a, b, 2) - sqrt(0.5)) < 1e-12);
    assert_true(ld_merge_cosine(a, zero, 2) == 0);
}

static void recipes_are_bounded(void **state)
{
    (void)state;
    const struct ld_merge_recipe good[] = {
        {.op = LD_MERGE_WEIGHTED_SUM, .alpha = 1.5},
        {.op = LD_MERGE_TIES, .density = 1, .lambda = 1},
        {.op = LD_MERGE_DARE, .drop = 0, .lambda = -1},
    };
    const struct ld_merge_recipe bad[] = {
        {.op = LD_MERGE_WEIGHTED_SUM, .alpha = (double)NAN},
        {.op = LD_MERGE_ADD_DIFFERENCE, .alpha = 5},
        {.op = LD_MERGE_BLOCK_WEIGHTED, .out = {[11] = (double)INFINITY}},
        {.op = LD_MERGE_TIES, .density = 1.1},
        {.op = LD_MERGE_DARE, .drop = 1},
        {.op = LD_MERGE_DARE, .lambda = 9},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(ld_merge_check(&good[i], NULL), LD_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(ld_merge_check(&bad[i], NULL), LD_E_RANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weighted_sums_end_at_their_inputs),
        cmocka_unit_test(a_difference_is_added),
        cmocka_unit_test(blocks_have_their_own_weight),
        cmocka_unit_test(ties_trims_elects_and_averages),
        cmocka_unit_test(dare_drops_a_share_and_rescales_the_rest),
        cmocka_unit_test(cosine_is_that_of_the_angle),
        cmocka_unit_test(recipes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
