/*
 * Proves the three ways weights act on an encoder's output. Numbers small enough to reckon with
 * by hand.
 */
#include "runtime/text/emphasis.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void assert_row(const float *got, float a, float b, float c, float d)
{
    const float want[4] = {a, b, c, d};
    for (int i = 0; i < 4; i++)
        assert_true(fabsf(got[i] - want[i]) < 1e-6F);
}

static void original_restores_the_mean_of_the_chunk(void **state)
{
    float z[4] = {1, 3, 2, 2}; /* two tokens of two: mean 2 */
    const double weights[2] = {3, 1};
    (void)state;
    ld_emphasis_apply(LD_EMPHASIS_RULE_ORIGINAL, z, NULL, weights, 2, 2);
    assert_row(z, 1.5F, 4.5F, 1, 1); /* {3, 9, 2, 2} has mean 4 */
}

static void scaling_leaves_the_mean_alone(void **state)
{
    float z[4] = {1, 3, 2, 2};
    const double weights[2] = {-2, 1};
    (void)state;
    ld_emphasis_apply(LD_EMPHASIS_RULE_SCALE, z, NULL, weights, 2, 2);
    assert_row(z, -2, -6, 2, 2);
}

static void a_vanishing_mean_is_not_restored(void **state)
{
    float z[4] = {1, 1, -2, -2};
    const double weights[2] = {2, 1};
    (void)state;
    ld_emphasis_apply(LD_EMPHASIS_RULE_ORIGINAL, z, NULL, weights, 2, 2);
    assert_row(z, 2, 2, -2, -2); /* the new mean is 0: no factor could restore it */
}

static void interpolation_moves_weighted_tokens_from_the_empty_prompt(void **state)
{
    float z[4] = {1, 3, 2, 2};
    const float empty[4] = {0, 1, 9, 9};
    const double weights[2] = {1.5, 1};
    (void)state;
    ld_emphasis_apply(LD_EMPHASIS_RULE_LERP, z, empty, weights, 2, 2);
    assert_row(z, 1.5F, 4, 2, 2);
}

static void unweighted_chunks_keep_their_bits(void **state)
{
    float z[4] = {0.1F, 0.7F, -3e-20F, 1e20F};
    float before[4];
    const double weights[2] = {1, 1};
    (void)state;
    memcpy(before, z, sizeof z);
    for (int rule = 0; rule <= LD_EMPHASIS_RULE_NONE; rule++)
        ld_emphasis_apply((enum ld_emphasis_rule)rule, z, NULL, weights, 2, 2);
    assert_memory_equal(z, before, sizeof z);
}

static void the_mode_counts_for_a1111_only(void **state)
{
    (void)state;
    assert_int_equal(ld_emphasis_rule_of(LD_SYNTAX_A1111, LD_EMPHASIS_ORIGINAL),
                     LD_EMPHASIS_RULE_ORIGINAL);
    assert_int_equal(ld_emphasis_rule_of(LD_SYNTAX_A1111, LD_EMPHASIS_NO_NORM),
                     LD_EMPHASIS_RULE_SCALE);
    assert_int_equal(ld_emphasis_rule_of(LD_SYNTAX_A1111, LD_EMPHASIS_IGNORE),
                     LD_EMPHASIS_RULE_NONE);
    assert_int_equal(ld_emphasis_rule_of(LD_SYNTAX_COMFY, LD_EMPHASIS_NONE), LD_EMPHASIS_RULE_LERP);
    assert_int_equal(ld_emphasis_rule_of(LD_SYNTAX_NOVELAI, LD_EMPHASIS_ORIGINAL),
                     LD_EMPHASIS_RULE_LERP);
    assert_int_equal(ld_emphasis_rule_of(LD_SYNTAX_PLAIN, LD_EMPHASIS_ORIGINAL),
                     LD_EMPHASIS_RULE_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(original_restores_the_mean_of_the_chunk),
        cmocka_unit_test(scaling_leaves_the_mean_alone),
        cmocka_unit_test(a_vanishing_mean_is_not_restored),
        cmocka_unit_test(interpolation_moves_weighted_tokens_from_the_empty_prompt),
        cmocka_unit_test(unweighted_chunks_keep_their_bits),
        cmocka_unit_test(the_mode_counts_for_a1111_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
