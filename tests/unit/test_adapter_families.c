/*
 * Proves that each other family of adapters changes a weight by its formula: LoHa, LoKr, GLoRA,
 * IA3, differences and DoRA. The formulas are written out plainly in double precision and compared
 * with the merged overlay.
 */
#include "tests/unit/adapter_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* ---- LoHa ------------------------------------------------------------------------------------ */

static double loha_linear(size_t o, size_t i, size_t k)
{
    (void)k;
    return before(LINEAR, o * C + i) +
           (2.0 / R) * low_rank(M_LINEAR ".hada_w1_a", M_LINEAR ".hada_w1_b", R, C, o, i) *
               low_rank(M_LINEAR ".hada_w2_a", M_LINEAR ".hada_w2_b", R, C, o, i);
}

static double hada_factor(const char *t, const char *a, const char *b, size_t o, size_t i, size_t k)
{
    double sum = 0;
    for (size_t p = 0; p < R; p++) {
        for (size_t q = 0; q < R; q++)
            sum += value(t, (p * R + q) * K + k) * value(a, p * C + o) * value(b, q * C + i);
    }
    return sum;
}

static double loha_conv(size_t o, size_t i, size_t k)
{
    return before(CONV, conv_index(o, i, k)) +
           hada_factor(M_CONV ".hada_t1", M_CONV ".hada_w1_a", M_CONV ".hada_w1_b", o, i, k) *
               hada_factor(M_CONV ".hada_t2", M_CONV ".hada_w2_a", M_CONV ".hada_w2_b", o, i, k);
}

static void loha_multiplies_two_low_rank_products(void **state)
{
    (void)state;
    start();
    factor(M_LINEAR ".hada_w1_a", 2, C, R, 0, 0);
    factor(M_LINEAR ".hada_w1_b", 2, R, C, 0, 0);
    factor(M_LINEAR ".hada_w2_a", 2, C, R, 0, 0);
    factor(M_LINEAR ".hada_w2_b", 2, R, C, 0, 0);
    alpha(M_LINEAR ".alpha", two);
    factor(M_CONV ".hada_t1", 4, R, R, 3, 3);
    factor(M_CONV ".hada_t2", 4, R, R, 3, 3);
    factor(M_CONV ".hada_w1_a", 2, R, C, 0, 0);
    factor(M_CONV ".hada_w1_b", 2, R, C, 0, 0);
    factor(M_CONV ".hada_w2_a", 2, R, C, 0, 0);
    factor(M_CONV ".hada_w2_b", 2, R, C, 0, 0);
    struct ld_weights *overlay = merge(1);
    assert_weight(overlay, LINEAR, C, 1, loha_linear);
    assert_weight(overlay, CONV, C, K, loha_conv);
    ld_weights_close(overlay);
}

/* ---- LoKr ------------------------------------------------------------------------------------ */

enum { O1 = 4, I1 = 8, O2 = 8, I2 = 4 }; /* 4 x 8 = 32 outputs, 8 x 4 = 32 inputs */

static double lokr_whole(size_t o, size_t i, size_t k)
{
    (void)k; /* both stored whole: alpha does not count */
    return before(LINEAR, o * C + i) + value(M_LINEAR ".lokr_w1", o / O2 * I1 + i / I2) *
                                           value(M_LINEAR ".lokr_w2", o % O2 * I2 + i % I2);
}

static double lokr_factored(size_t o, size_t i, size_t k)
{
    (void)k;
    const double w1 = low_rank(M_WIDE ".lokr_w1_a", M_WIDE ".lokr_w1_b", 2, I1, o / 64, i / I2);
    const double w2 = low_rank(M_WIDE ".lokr_w2_a", M_WIDE ".lokr_w2_b", R, I2, o % 64, i % I2);
    return before(WIDE, o * C + i) + (2.0 / R) * w1 * w2;
}

static double lokr_tucker(size_t o, size_t i, size_t k)
{
    double w2 = 0;
    for (size_t p = 0; p < R; p++) {
        for (size_t q = 0; q < R; q++)
            w2 += value(M_CONV ".lokr_t2", (p * R + q) * K + k) *
                  value(M_CONV ".lokr_w2_a", p * O2 + o % O2) *
                  value(M_CONV ".lokr_w2_b", q * I2 + i % I2);
    }
    return before(CONV, conv_index(o, i, k)) +
           value(M_CONV ".lokr_w1", o / O2 * I1 + i / I2) * w2 / R;
}

static void lokr_is_a_kronecker_product(void **state)
{
    (void)state;
    static const float one[] = {1};
    start();
    factor(M_LINEAR ".lokr_w1", 2, O1, I1, 0, 0);
    factor(M_LINEAR ".lokr_w2", 2, O2, I2, 0, 0);
    alpha(M_LINEAR ".alpha", two);
    factor(M_WIDE ".lokr_w1_a", 2, 4, 2, 0, 0);
    factor(M_WIDE ".lokr_w1_b", 2, 2, I1, 0, 0);
    factor(M_WIDE ".lokr_w2_a", 2, 64, R, 0, 0);
    factor(M_WIDE ".lokr_w2_b", 2, R, I2, 0, 0);
    alpha(M_WIDE ".alpha", two);
    factor(M_CONV ".lokr_w1", 2, O1, I1, 0, 0);
    factor(M_CONV ".lokr_t2", 4, R, R, 3, 3);
    factor(M_CONV ".lokr_w2_a", 2, R, O2, 0, 0);
    factor(M_CONV ".lokr_w2_b", 2, R, I2, 0, 0);
    alpha(M_CONV ".alpha", one);
    struct ld_weights *overlay = merge(1);
    assert_weight(overlay, LINEAR, C, 1, lokr_whole);
    assert_weight(overlay, WIDE, C, 1, lokr_factored);
    assert_weight(overlay, CONV, C, K, lokr_tucker);
    ld_weights_close(overlay);
}

/* ---- GLoRA, IA3, differences ----------------------------------------------------------------- */

/* b b + (W a) a, with the names of the stored form. */
static double glora_sum(const char *weight, const char *b_up, const char *b_down, const char *a_up,
                        const char *a_down, size_t o, size_t i)
{
    double sum = low_rank(b_up, b_down, R, C, o, i);
    for (size_t r = 0; r < R; r++) {
        double projected = 0;
        for (size_t j = 0; j < C; j++)
            projected += before(weight, o * C + j) * value(a_up, j * R + r);
        sum += projected * value(a_down, r * C + i);
    }
    return before(weight, o * C + i) + sum;
}

static double glora_now(size_t o, size_t i, size_t k)
{
    (void)k;
    return glora_sum(WIDE, M_WIDE ".b1.weight", M_WIDE ".b2.weight", M_WIDE ".a1.weight",
                     M_WIDE ".a2.weight", o, i);
}

static double glora_old(size_t o, size_t i, size_t k)
{
    (void)k;
    return glora_sum(TEXT, M_TEXT ".b2.weight", M_TEXT ".b1.weight", M_TEXT ".a2.weight",
                     M_TEXT ".a1.weight", o, i);
}

static void glora_depends_on_the_weight_in_both_stored_forms(void **state)
{
    (void)state;
    start();
    factor(M_WIDE ".a1.weight", 2, C, R, 0, 0);
    factor(M_WIDE ".a2.weight", 2, R, C, 0, 0);
    factor(M_WIDE ".b1.weight", 2, 256, R, 0, 0);
    factor(M_WIDE ".b2.weight", 2, R, C, 0, 0);
    factor(M_TEXT ".a1.weight", 2, R, C, 0, 0);
    factor(M_TEXT ".a2.weight", 2, C, R, 0, 0);
    factor(M_TEXT ".b1.weight", 2, R, C, 0, 0);
    factor(M_TEXT ".b2.weight", 2, 64, R, 0, 0);
    struct ld_weights *overlay = merge(1);
    assert_weight(overlay, WIDE, C, 1, glora_now);
    assert_weight(overlay, TEXT, C, 1, glora_old);
    ld_weights_close(overlay);
}

static double ia3_output(size_t o, size_t i, size_t k)
{
    (void)k;
    return before(LINEAR, o * C + i) * (1 + 0.5 * value(M_LINEAR ".weight", o));
}

static double ia3_input(size_t o, size_t i, size_t k)
{
    const double w = before(CONV, conv_index(o, i, k));
    return w * (1 + 0.5 * value(M_CONV ".weight", i));
}

static void ia3_scales_rows_or_columns(void **state)
{
    (void)state;
    static const float no[] = {0};
    static const float yes[] = {1};
    start();
    factor(M_LINEAR ".weight", 1, C, 0, 0, 0);
    fixture_add_matrix(&adapter_file, M_LINEAR ".on_input", LD_DTYPE_BOOL, 0, 0)->values = no;
    factor(M_CONV ".weight", 1, C, 0, 0, 0);
    fixture_add_matrix(&adapter_file, M_CONV ".on_input", LD_DTYPE_BOOL, 0, 0)->values = yes;
    struct ld_weights *overlay = merge(0.5);
    assert_weight(overlay, LINEAR, C, 1, ia3_output);
    assert_weight(overlay, CONV, C, K, ia3_input);
    ld_weights_close(overlay);
}

static double full_difference(size_t o, size_t i, size_t k)
{
    (void)k;
    return before(WIDE, o * C + i) + 0.5 * value(M_WIDE ".diff", o * C + i);
}

static double norm_difference(size_t o, size_t i, size_t k)
{
    (void)i, (void)k;
    return before(NORM, o) + 0.5 * value(M_NORM ".w_norm", o);
}

static double norm_bias(size_t o, size_t i, size_t k)
{
    (void)i, (void)k;
    return before(UNET "out.0.bias", o) + 0.5 * value(M_NORM ".b_norm", o);
}

static double replaced(size_t o, size_t i, size_t k)
{
    return value(M_CONV ".set_weight", conv_index(o, i, k));
}

static void differences_add_and_replacements_ignore_strength(void **state)
{
    (void)state;
    start();
    factor(M_WIDE ".diff", 2, 256, C, 0, 0);
    factor(M_WIDE ".diff_b", 1, 256, 0, 0, 0);
    factor(M_NORM ".w_norm", 1, C, 0, 0, 0);
    factor(M_NORM ".b_norm", 1, C, 0, 0, 0);
    factor(M_CONV ".set_weight", 4, C, C, 3, 3);
    struct ld_weights *overlay = merge(0.5);
    assert_weight(overlay, WIDE, C, 1, full_difference);
    assert_weight(overlay, NORM, 1, 1, norm_difference);
    assert_weight(overlay, UNET "out.0.bias", 1, 1, norm_bias);
    assert_weight(overlay, CONV, C, K, replaced);
    assert_true(ld_weights_is_edited(overlay, UNET
                                     "input_blocks.1.1.transformer_blocks.0.ff.net.0.proj.bias"));
    ld_weights_close(overlay);
}

/* ---- DoRA ------------------------------------------------------------------------------------ */

enum { WIDE_OUT = 256 };
static double merged[WIDE_OUT * C]; /* V = W + D of the wide layer */
static bool original_norm;

static void compute_merged(void)
{
    for (size_t o = 0; o < WIDE_OUT; o++) {
        for (size_t i = 0; i < C; i++)
            merged[o * C + i] =
                before(WIDE, o * C + i) +
                low_rank(M_WIDE ".lora_up.weight", M_WIDE ".lora_down.weight", R, C, o, i);
    }
}

static double blend(size_t o, size_t i, double magnitude, double squares)
{
    const double w = before(WIDE, o * C + i);
    const double full = merged[o * C + i] * magnitude / (sqrt(squares) + 1.1920929e-07);
    return w + 0.5 * (full - w);
}

static double dora_output(size_t o, size_t i, size_t k)
{
    (void)k;
    double squares = 0;
    for (size_t j = 0; j < C; j++) {
        const double v = original_norm ? before(WIDE, o * C + j) : merged[o * C + j];
        squares += v * v;
    }
    return blend(o, i, value(M_WIDE ".dora_scale", o), squares);
}

static double dora_input(size_t o, size_t i, size_t k)
{
    (void)k;
    double squares = 0;
    for (size_t j = 0; j < WIDE_OUT; j++)
        squares += merged[j * C + i] * merged[j * C + i];
    return blend(o, i, value(M_WIDE ".dora_scale", i), squares);
}

static void dora_norms_follow_the_shape_of_the_magnitude(void **state)
{
    (void)state;
    compute_merged();
    static const struct {
        uint32_t rank;
        uint64_t a, b;
        bool per_input;
    } forms[] = {
        {2, WIDE_OUT, 1, false}, {1, WIDE_OUT, 0, false}, {2, 1, C, true}, {1, C, 0, true}};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        for (int norm = 0; norm < 2; norm++) {
            const struct ld_adapter_options options = {
                .unet_strength = 0.5, .dora_norm = norm ? LD_DORA_COMFY : LD_DORA_MERGED};
            original_norm = norm == 1;
            add_dora(forms[i].rank, forms[i].a, forms[i].b);
            struct ld_weights *overlay = merge_into(adapter_base, &options);
            assert_weight(overlay, WIDE, C, 1, forms[i].per_input ? dora_input : dora_output);
            ld_weights_close(overlay);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loha_multiplies_two_low_rank_products),
        cmocka_unit_test(lokr_is_a_kronecker_product),
        cmocka_unit_test(glora_depends_on_the_weight_in_both_stored_forms),
        cmocka_unit_test(ia3_scales_rows_or_columns),
        cmocka_unit_test(differences_add_and_replacements_ignore_strength),
        cmocka_unit_test(dora_norms_follow_the_shape_of_the_magnitude),
    };
    return cmocka_run_group_tests(tests, open_adapter_base, close_adapter_base);
}
