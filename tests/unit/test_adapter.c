/*
 * Proves that each adapter family changes a weight by its formula, under any thread count, and that
 * what does not belong to the model is told or refused. The formulas are written out plainly in
 * double precision and compared with the merged overlay.
 */
#include "runtime/model/adapter.h"

#include "runtime/model/lowrank.h"
#include "tests/unit/model_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define UNET    "model.diffusion_model."
#define LINEAR  UNET "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"    /* [32, 32] */
#define WIDE    UNET "input_blocks.1.1.transformer_blocks.0.ff.net.0.proj.weight" /* [256, 32] */
#define CONV    UNET "input_blocks.1.0.in_layers.2.weight" /* [32, 32, 3, 3] */
#define CONV_IN UNET "input_blocks.0.0.weight"             /* [32, 4, 3, 3] */
#define NORM    UNET "out.0.weight"                        /* [32] */
#define TEXT                                                                                       \
    "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight" /* [64, 32] */

#define M_LINEAR  "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
#define M_WIDE    "unet.down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj"
#define M_CONV    "lora_unet_input_blocks_1_0_in_layers_2"
#define M_CONV_IN "lora_unet_conv_in"
#define M_NORM    "lora_unet_conv_norm_out"
#define M_TEXT    "lora_te_text_model_encoder_layers_0_mlp_fc1"

enum { C = 32, R = 3, K = 9 };

static struct fixture model;
static struct fixture file;
static char folder[256];
static struct ld_weights *base;

static int open_base(void **state)
{
    (void)state;
    fixture_folder(folder);
    fixture_model(&model, LD_DTYPE_F32);
    fixture_write(&model, fixture_path(folder, "base.safetensors"));
    return ld_weights_open(&base, fixture_path(folder, "base.safetensors"), NULL, NULL) != LD_OK;
}

static int close_base(void **state)
{
    (void)state;
    ld_weights_close(base);
    fixture_remove_folder(folder);
    return 0;
}

/* ---- Files and factors ----------------------------------------------------------------------- */

static void start(void)
{
    memset(&file, 0, sizeof file);
}

/* A factor in float32, so that the formulas here start from the same numbers. */
static void factor(const char *name, uint32_t rank, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    const uint64_t shape[4] = {a, b, c, d};
    fixture_add(&file, name, LD_DTYPE_F32, rank, shape);
}

static double value(const char *name, size_t index)
{
    return (double)fixture_value(name, index);
}

static void alpha(const char *name, const float *number)
{
    fixture_add_matrix(&file, name, LD_DTYPE_F32, 0, 0)->values = number;
}

static struct ld_adapter *open_file(void)
{
    struct ld_adapter *adapter;
    struct ld_error err = {0};
    const char *path = fixture_path(folder, "adapter.safetensors");
    fixture_write(&file, path);
    if (ld_adapter_open(&adapter, path, &err) != LD_OK)
        fail_msg("%s", err.detail);
    return adapter;
}

static struct ld_weights *merge_into(const struct ld_weights *below,
                                     const struct ld_adapter_options *options)
{
    struct ld_adapter *adapter = open_file();
    struct ld_adapter_report report;
    struct ld_weights *overlay;
    struct ld_error err = {0};
    assert_int_equal(ld_weights_overlay(&overlay, below, NULL), LD_OK);
    if (ld_adapter_apply(adapter, overlay, options, &report, &err) != LD_OK)
        fail_msg("%s", err.detail);
    assert_int_equal(report.modules_unmatched, 0);
    assert_true(report.tensors_applied > 0);
    for (uint32_t i = 0; i < ld_weights_count(overlay); i++) {
        struct ld_weight_view view;
        ld_weights_at(overlay, i, &view);
        assert_int_equal(ld_weights_make(overlay, view.name, NULL), LD_OK);
    }
    ld_adapter_close(adapter);
    return overlay;
}

static struct ld_weights *merge(double strength)
{
    const struct ld_adapter_options options = {.unet_strength = strength,
                                               .text_strength = strength};
    return merge_into(base, &options);
}

/* W before merging. */
static double before(const char *name, size_t index)
{
    return (double)fixture_value(name, index);
}

static void assert_near(double got, double expected)
{
    if (!(fabs(got - expected) <= 2e-6 * (1 + fabs(expected))))
        fail_msg("%.9g instead of %.9g", got, expected);
}

/* W' against `expected`, a function of output row, input column and kernel tap. */
typedef double (*formula)(size_t o, size_t i, size_t k);

static void assert_weight(const struct ld_weights *overlay, const char *name, size_t in,
                          size_t kernel, formula expected)
{
    struct ld_weight_view view;
    assert_true(ld_weights_get(overlay, name, &view));
    assert_int_equal(view.dtype, LD_DTYPE_F32);
    for (size_t at = 0; at < view.count; at++) {
        const size_t o = at / (in * kernel);
        const size_t i = at / kernel % in;
        assert_near((double)((const float *)view.data)[at], expected(o, i, at % kernel));
    }
}

static size_t conv_index(size_t o, size_t i, size_t k)
{
    return (o * C + i) * K + k;
}

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

static double low_rank(const char *up, const char *down, size_t rank, size_t columns, size_t o,
                       size_t j)
{
    double sum = 0;
    for (size_t r = 0; r < rank; r++)
        sum += value(up, o * rank + r) * value(down, r * columns + j);
    return sum;
}

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

static const float two[] = {2};

static void add_lora(void)
{
    start();
    factor(M_LINEAR ".lora_up.weight", 2, C, R, 0, 0);
    factor(M_LINEAR ".lora_down.weight", 2, R, C, 0, 0);
    alpha(M_LINEAR ".alpha", two);
    factor(M_WIDE ".lora_B.weight", 2, 256, R, 0, 0);
    factor(M_WIDE ".lora_A.weight", 2, R, C, 0, 0);
    factor(M_CONV ".lora_up.weight", 4, C, R, 1, 1);
    factor(M_CONV ".lora_down.weight", 4, R, C, 3, 3);
    alpha(M_CONV ".alpha", two);
    factor(M_TEXT ".lora_up.weight", 2, 64, 1, 0, 0);
    factor(M_TEXT ".lora_down.weight", 2, 1, C, 0, 0);
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
    fixture_note(&file, "ss_network_args", "{\"algo\": \"lora\", \"rs_lora\": \"True\"}");
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
    fixture_add_matrix(&file, M_LINEAR ".on_input", LD_DTYPE_BOOL, 0, 0)->values = no;
    factor(M_CONV ".weight", 1, C, 0, 0, 0);
    fixture_add_matrix(&file, M_CONV ".on_input", LD_DTYPE_BOOL, 0, 0)->values = yes;
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

static void add_dora(uint32_t rank, uint64_t a, uint64_t b)
{
    start();
    factor(M_WIDE ".lora_up.weight", 2, WIDE_OUT, R, 0, 0);
    factor(M_WIDE ".lora_down.weight", 2, R, C, 0, 0);
    factor(M_WIDE ".dora_scale", rank, a, b, 0, 0);
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
            struct ld_weights *overlay = merge_into(base, &options);
            assert_weight(overlay, WIDE, C, 1, forms[i].per_input ? dora_input : dora_output);
            ld_weights_close(overlay);
        }
    }
}

/* ---- Channels, order, threads ---------------------------------------------------------------- */

static void a_narrow_delta_leaves_the_other_input_channels(void **state)
{
    (void)state;
    static struct fixture inpaint;
    struct ld_weights *wide_base;
    const char *path = fixture_path(folder, "inpaint.safetensors");
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
    struct ld_weights *a = merge_into(base, &alone);
    struct ld_weights *b = merge_into(base, &together);
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
    struct ld_weights *overlay = merge_into(base, &text_only);
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
    assert_int_equal(ld_weights_overlay(&overlay, base, NULL), LD_OK);
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
    fixture_write(&file, fixture_path(folder, "adapter.safetensors"));
    assert_int_equal(ld_adapter_open(&adapter, fixture_path(folder, "adapter.safetensors"), NULL),
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
        cmocka_unit_test(loha_multiplies_two_low_rank_products),
        cmocka_unit_test(lokr_is_a_kronecker_product),
        cmocka_unit_test(glora_depends_on_the_weight_in_both_stored_forms),
        cmocka_unit_test(ia3_scales_rows_or_columns),
        cmocka_unit_test(differences_add_and_replacements_ignore_strength),
        cmocka_unit_test(dora_norms_follow_the_shape_of_the_magnitude),
        cmocka_unit_test(a_narrow_delta_leaves_the_other_input_channels),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(strengths_are_separate_and_zero_leaves_a_part_alone),
        cmocka_unit_test(unmatched_modules_are_told_and_a_majority_refused),
        cmocka_unit_test(contradicting_factors_never_match),
        cmocka_unit_test(oft_and_huge_ranks_are_refused),
        cmocka_unit_test(facts_and_bundled_embeddings_are_told),
    };
    return cmocka_run_group_tests(tests, open_base, close_base);
}
