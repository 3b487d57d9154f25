/*
 * Proves that LoRA and LoCon change a weight by their formula, under any thread count and strength,
 * and that what does not belong to the model is told or refused. The formulas are written out
 * plainly in double precision and compared with the merged overlay.
 */
#include "runtime/model/lowrank.h"
#include "tests/unit/adapter_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Products and sums rounded one by one, in order: the same bits as plain C whatever the machine. */
static void thin_products_are_bitwise_those_of_plain_c(void **state)
{
    (void)state;
    enum { RANK = 5, COLUMNS = 32 + 32 + 7 };
    float up[LD_LOWRANK_ROWS * RANK];
    float down[RANK * COLUMNS];
    float got[LD_LOWRANK_ROWS * COLUMNS];
    for (size_t i = 0; i < sizeof up / sizeof up[0]; i++)
        up[i] = fixture_value("up", i);
    for (size_t i = 0; i < sizeof down / sizeof down[0]; i++)
        down[i] = fixture_value("down", i);
    for (size_t rows = 1; rows <= LD_LOWRANK_ROWS; rows++) {
        ld_lowrank_rows(got, up, down, rows, RANK, COLUMNS);
        for (size_t at = 0; at < rows * COLUMNS; at++) {
            float sum = 0;
            for (size_t r = 0; r < RANK; r++)
                sum += up[at / COLUMNS * RANK + r] * down[r * COLUMNS + at % COLUMNS];
            assert_memory_equal(&got[at], &sum, sizeof sum);
        }
    }
}

/* ---- LoRA and LoCon -------------------------------------------------------------------------- */

static double lora_linear(size_t o, size_t i, size_t k)
{
    (void)k;
    return before(LINEAR, o * C + i) +
           0.5 * (2.0 / R) *
               low_rank(M_LINEAR ".lora_up.weight", M_LINEAR ".lora_down.weight", R, C, o, i);
}

static double lora_wide(size_t o, size_t i, size_t k)
{
    (void)k; /* no alpha: scale 1 */
    return before(WIDE, o * C + i) +
           0.5 * low_rank(M_WIDE ".lora_B.weight", M_WIDE ".lora_A.weight", R, C, o, i);
}

static double locon_conv(size_t o, size_t i, size_t k)
{
    return before(CONV, conv_index(o, i, k)) + 0.5 * (2.0 / R) *
                                                   low_rank(M_CONV ".lora_up.weight",
                                                            M_CONV ".lora_down.weight", R, C * K, o,
                                                            i * K + k);
}

static double locon_text(size_t o, size_t i, size_t k)
{
    (void)k;
    return before(TEXT, o * C + i) +
           0.5 * low_rank(M_TEXT ".lora_up.weight", M_TEXT ".lora_down.weight", 1, C, o, i);
}

static void lora_adds_its_low_rank_product(void **state)
{
    (void)state;
    add_lora();
    struct ld_weights *overlay = merge(0.5);
    assert_weight(overlay, LINEAR, C, 1, lora_linear);
    assert_weight(overlay, WIDE, C, 1, lora_wide);
    assert_weight(overlay, CONV, C, K, locon_conv);
    assert_weight(overlay, TEXT, C, 1, locon_text);
    ld_weights_close(overlay);
}

static double root_scaled(size_t o, size_t i, size_t k)
{
    (void)k;
    return before(LINEAR, o * C + i) + (2.0 / sqrt(R)) * low_rank(M_LINEAR ".lora_up.weight",
                                                                  M_LINEAR ".lora_down.weight", R,
                                                                  C, o, i);
}

static void rank_stabilised_scale_divides_by_the_root(void **state)
{
    (void)state;
    add_lora();
    fixture_note(&adapter_file, "ss_network_args", "{\"algo\": \"lora\", \"rs_lora\": \"True\"}");
    struct ld_weights *overlay = merge(1);
    assert_weight(overlay, LINEAR, C, 1, root_scaled);
    ld_weights_close(overlay);
}

static double tucker_conv(size_t o, size_t i, size_t k)
{
    double sum = 0;
    for (size_t a = 0; a < R; a++) {
        for (size_t b = 0; b < R; b++)
            sum += value(M_CONV ".lora_up.weight", o * R + a) *
                   value(M_CONV ".lora_mid.weight", (a * R + b) * K + k) *
                   value(M_CONV ".lora_down.weight", b * C + i);
    }
    return before(CONV, conv_index(o, i, k)) + sum;
}

static void a_core_tensor_goes_between_the_factors(void **state)
{
    (void)state;
    start();
    factor(M_CONV ".lora_up.weight", 4, C, R, 1, 1);
    factor(M_CONV ".lora_mid.weight", 4, R, R, 3, 3);
    factor(M_CONV ".lora_down.weight", 4, R, C, 1, 1);
    struct ld_weights *overlay = merge(1);
    assert_weight(overlay, CONV, C, K, tucker_conv);
    ld_weights_close(overlay);
}

/* ---- Channels, order, threads ---------------------------------------------------------------- */

static void a_narrow_delta_leaves_the_other_input_channels(void **state)
{
    (void)state;
    static struct fixture inpaint;
    struct ld_weights *wide_base;
    const char *path = fixture_path(adapter_folder, "inpaint.safetensors");
    fixture_model(&inpaint, LD_DTYPE_F32);
    fixture_find(&inpaint, CONV_IN)->shape[1] = 9;
    fixture_write(&inpaint, path);
    assert_int_equal(ld_weights_open(&wide_base, path, NULL, NULL), LD_OK);
    start();
    factor(M_CONV_IN ".lora_up.weight", 4, C, 2, 1, 1);
    factor(M_CONV_IN ".lora_down.weight", 4, 2, 4, 3, 3);
    const struct ld_adapter_options options = {.unet_strength = 1};
    struct ld_weights *overlay = merge_into(wide_base, &options);
    struct ld_weight_view view;
    assert_true(ld_weights_get(overlay, CONV_IN, &view));
    for (size_t at = 0; at < view.count; at++) {
        const size_t column = at % (9 * K);
        double expected = before(CONV_IN, at);
        if (column < 4 * K)
            expected += low_rank(M_CONV_IN ".lora_up.weight", M_CONV_IN ".lora_down.weight", 2,
                                 4 * K, at / (9 * K), column);
        assert_near((double)((const float *)view.data)[at], expected);
    }
    ld_weights_close(overlay);
    ld_weights_close(wide_base);
}

static void assert_same(const struct ld_weights *a, const struct ld_weights *b)
{
    for (uint32_t i = 0; i < ld_weights_count(a); i++) {
        struct ld_weight_view left;
        struct ld_weight_view right;
        ld_weights_at(a, i, &left);
        ld_weights_at(b, i, &right);
        assert_int_equal(left.dtype, right.dtype);
        assert_memory_equal(left.data, right.data, left.count * ld_dtype_size(left.dtype));
    }
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    struct ld_pool *pool;
    assert_int_equal(ld_pool_create(&pool, 3, NULL), LD_OK);
    add_lora();
    const struct ld_adapter_options alone = {.unet_strength = 0.7, .text_strength = 0.3};
    struct ld_adapter_options together = alone;
    together.pool = pool;
    struct ld_weights *a = merge_into(adapter_base, &alone);
    struct ld_weights *b = merge_into(adapter_base, &together);
    assert_same(a, b);
    ld_weights_close(a);
    ld_weights_close(b);
    ld_pool_destroy(pool);
}

static void strengths_are_separate_and_zero_leaves_a_part_alone(void **state)
{
    (void)state;
    add_lora();
    const struct ld_adapter_options text_only = {.unet_strength = 0, .text_strength = 0.5};
    struct ld_weights *overlay = merge_into(adapter_base, &text_only);
    assert_weight(overlay, TEXT, C, 1, locon_text);
    assert_false(ld_weights_is_edited(overlay, LINEAR));
    ld_weights_close(overlay);
}

/* ---- What does not fit ----------------------------------------------------------------------- */

static enum ld_code apply_code(struct ld_adapter_report *report, struct ld_error *err)
{
    struct ld_adapter *adapter = open_file();
    struct ld_weights *overlay;
    const struct ld_adapter_options options = {.unet_strength = 1, .text_strength = 1};
    memset(err, 0, sizeof *err);
    assert_int_equal(ld_weights_overlay(&overlay, adapter_base, NULL), LD_OK);
    const enum ld_code code = ld_adapter_apply(adapter, overlay, &options, report, err);
    ld_weights_close(overlay);
    ld_adapter_close(adapter);
    return code;
}

static void unmatched_modules_are_told_and_a_majority_refused(void **state)
{
    (void)state;
    struct ld_adapter_report report;
    struct ld_error err;
    add_lora();
    factor("lora_unet_input_blocks_77_1_proj_in.lora_up.weight", 2, 4, 1, 0, 0);
    factor("lora_unet_input_blocks_77_1_proj_in.lora_down.weight", 2, 1, 4, 0, 0);
    factor("lora_unet_mid_block_attentions_0_proj_in.lora_up.weight", 2, 31, 1, 0, 0);
    factor("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", 2, 1, 32, 0, 0);
    assert_int_equal(apply_code(&report, &err), LD_OK);
    assert_int_equal(report.modules_unmatched, 2);
    assert_string_equal(report.first_unmatched, "lora_unet_input_blocks_77_1_proj_in");
    assert_int_equal(report.modules_applied, 4);
    for (int i = 0; i < 4; i++) {
        char name[128];
        assert_true(ld_fmt(name, sizeof name, "lora_unet_other_%d.lora_up.weight", i));
        factor(name, 2, 4, 1, 0, 0);
        assert_true(ld_fmt(name, sizeof name, "lora_unet_other_%d.lora_down.weight", i));
        factor(name, 2, 1, 4, 0, 0);
    }
    assert_int_equal(apply_code(&report, &err), LD_E_UNSUPPORTED);
    assert_non_null(strstr(err.detail, "not for SD1.5"));
}

static void contradicting_factors_never_match(void **state)
{
    (void)state;
    struct ld_adapter_report report;
    struct ld_error err;
    static const struct {
        const char *name;
        uint32_t rank;
        uint64_t a, b;
    } bad[] = {
        {M_LINEAR ".lora_down.weight", 2, R, C + 1}, {M_LINEAR ".lora_down.weight", 2, R + 1, C},
        {M_LINEAR ".lora_down.weight", 1, R, 0},     {M_LINEAR ".lora_down.weight", 2, 0, C},
        {M_LINEAR ".lora_down.weight", 2, C, R},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        start();
        factor(M_LINEAR ".lora_up.weight", 2, C, R, 0, 0);
        factor(bad[i].name, bad[i].rank, bad[i].a, bad[i].b, 0, 0);
        assert_int_equal(apply_code(&report, &err), LD_E_UNSUPPORTED);
        assert_int_equal(report.modules_unmatched, 1);
    }
    add_dora(2, 3, 5); /* a magnitude for neither axis */
    assert_int_equal(apply_code(&report, &err), LD_E_UNSUPPORTED);
}

static void oft_and_huge_ranks_are_refused(void **state)
{
    (void)state;
    struct ld_adapter_report report;
    struct ld_adapter *adapter;
    struct ld_error err;
    start();
    factor(M_LINEAR ".oft_blocks", 3, 4, 8, 8, 0);
    assert_int_equal(apply_code(&report, &err), LD_E_UNSUPPORTED);
    assert_non_null(strstr(err.detail, "OFT"));
    start();
    factor(M_LINEAR ".lora_up.weight", 2, C, 1025, 0, 0);
    factor(M_LINEAR ".lora_down.weight", 2, 1025, C, 0, 0);
    fixture_write(&adapter_file, fixture_path(adapter_folder, "adapter.safetensors"));
    assert_int_equal(
        ld_adapter_open(&adapter, fixture_path(adapter_folder, "adapter.safetensors"), NULL),
        LD_E_TOO_LARGE);
}

static void facts_and_bundled_embeddings_are_told(void **state)
{
    (void)state;
    add_lora();
    factor("bundle_emb.my.word.string_to_param.*", 2, 3, C, 0, 0);
    factor("bundle_emb.other.clip_l", 2, 1, C, 0, 0);
    factor("bundle_emb.other.clip_g", 2, 1, 1280, 0, 0);
    factor("unheard.of", 1, 1, 0, 0, 0);
    struct ld_adapter *adapter = open_file();
    const struct ld_adapter_info *info = ld_adapter_info(adapter);
    assert_int_equal(info->modules, 4);
    assert_int_equal(info->text_modules, 1);
    assert_int_equal(info->families, LD_ADAPTER_LORA);
    assert_int_equal(info->rank_min, 1);
    assert_int_equal(info->rank_max, R);
    assert_true(info->alpha_min == 2 && info->alpha_max == 2);
    assert_int_equal(info->unknown_tensors, 1);
    assert_int_equal(info->embeddings, 2);
    struct ld_adapter_embedding embedding;
    float values[3 * C];
    assert_true(ld_adapter_embedding_at(adapter, 0, &embedding, values));
    assert_string_equal(embedding.name, "my.word");
    assert_int_equal(embedding.vectors, 3);
    assert_true(values[4] == fixture_value("bundle_emb.my.word.string_to_param.*", 4));
    assert_true(ld_adapter_embedding_at(adapter, 1, &embedding, NULL));
    assert_string_equal(embedding.name, "other");
    assert_false(ld_adapter_embedding_at(adapter, 2, &embedding, NULL));
    ld_adapter_close(adapter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thin_products_are_bitwise_those_of_plain_c),
        cmocka_unit_test(lora_adds_its_low_rank_product),
        cmocka_unit_test(rank_stabilised_scale_divides_by_the_root),
        cmocka_unit_test(a_core_tensor_goes_between_the_factors),
        cmocka_unit_test(a_narrow_delta_leaves_the_other_input_channels),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(strengths_are_separate_and_zero_leaves_a_part_alone),
        cmocka_unit_test(unmatched_modules_are_told_and_a_majority_refused),
        cmocka_unit_test(contradicting_factors_never_match),
        cmocka_unit_test(oft_and_huge_ranks_are_refused),
        cmocka_unit_test(facts_and_bundled_embeddings_are_told),
    };
    return cmocka_run_group_tests(tests, open_adapter_base, close_adapter_base);
}
