/*
 * Proves the merging formulas on small vectors, that DARE draws depend on name and position alone,
 * and that whole models merge tensor by tensor. Results are compared with values worked out by
 * hand.
 */
#include "runtime/model/merge_model.h"

#include "runtime/model/detect.h"
#include "tests/unit/model_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

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

static void block_weights_are_found_by_their_names(void **state)
{
    (void)state;
    struct ld_merge_recipe recipe = {.op = LD_MERGE_BLOCK_WEIGHTED};
    uint32_t place;
    assert_true(ld_merge_alpha_find(ld_span_text("OUT11"), &place));
    assert_int_equal(place, LD_MERGE_ALPHAS - 1);
    assert_ptr_equal(ld_merge_alpha_at(&recipe, place), &recipe.out[11]);
    assert_true(ld_merge_alpha_find(ld_span_text("IN00"), &place));
    assert_ptr_equal(ld_merge_alpha_at(&recipe, place), &recipe.in[0]);
    assert_true(ld_merge_alpha_find(ld_span_text("M00"), &place));
    assert_ptr_equal(ld_merge_alpha_at(&recipe, place), &recipe.middle);
    assert_true(ld_merge_alpha_find(ld_span_text("BASE"), &place));
    assert_ptr_equal(ld_merge_alpha_at(&recipe, place), &recipe.base);
    const char *const unknown[] = {"IN12", "OUT12", "M01", "in00", "IN0", "IN000", ""};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        assert_false(ld_merge_alpha_find(ld_span_text(unknown[i]), &place));
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

static void a_sum_can_be_taken_twice(void **state)
{
    (void)state;
    const float a[] = {1, 2};
    const float b[] = {3, 6};
    const float c[] = {10, -4};
    float dst[2];
    const struct ld_merge_recipe recipe = {.op = LD_MERGE_SUM_TWICE, .alpha = 0.5, .beta = 0.25};
    assert_int_equal(ld_merge_tensor(dst, &recipe, "t", a, b, c, 2, NULL), LD_OK);
    assert_true(dst[0] == 4 && dst[1] == 2);
}

static void similar_tensors_follow_the_other_side(void **state)
{
    (void)state;
    const float a[] = {0};
    const float b[] = {1};
    static const struct {
        enum ld_merge_op op;
        double similarity, alpha;
        float share;
    } cases[] = {
        {LD_MERGE_COSINE_A, 1, 0, 1},          {LD_MERGE_COSINE_A, 0, 0, 0},
        {LD_MERGE_COSINE_B, 1, 0, 0},          {LD_MERGE_COSINE_A, 0.75, 0.25, 0.5f},
        {LD_MERGE_COSINE_B, 0.75, 0.25, 0.5f}, {LD_MERGE_COSINE_A, 0.25, 0.5, 0},
        {LD_MERGE_COSINE_A, 0.75, -0.5, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct ld_merge_recipe recipe = {
            .op = cases[i].op, .alpha = cases[i].alpha, .similarity = cases[i].similarity};
        float dst[1];
        assert_int_equal(ld_merge_tensor(dst, &recipe, "t", a, b, NULL, 1, NULL), LD_OK);
        assert_true(dst[0] == cases[i].share);
    }
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
        {.op = LD_MERGE_SUM_TWICE, .alpha = 0.5, .beta = 4.5},
        {.op = LD_MERGE_COSINE_A, .alpha = 1.5},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(ld_merge_check(&good[i], NULL), LD_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(ld_merge_check(&bad[i], NULL), LD_E_RANGE);
}

/* ---- Whole models ---------------------------------------------------------------------------- */

#define CONV_IN   "model.diffusion_model.input_blocks.0.0.weight"
#define OUT_BIAS  "model.diffusion_model.out.2.bias"
#define VAE_BIAS  "first_stage_model.decoder.conv_in.bias"
#define TEXT_BIAS "cond_stage_model.transformer.text_model.final_layer_norm.bias"

static struct fixture fixture;
static char folder[256];

/* A model whose biases named above are filled with `value`. */
static struct ld_weights *make_model(const char *name, float value, uint64_t channels,
                                     const char *without)
{
    static float values[4][4096];
    static unsigned next;
    static const char *const filled[] = {CONV_IN, OUT_BIAS, VAE_BIAS, TEXT_BIAS};
    float *numbers = values[next++ % 4];
    struct ld_weights *weights;
    for (size_t i = 0; i < 4096; i++)
        numbers[i] = value;
    fixture_model(&fixture, LD_DTYPE_F16);
    fixture_find(&fixture, CONV_IN)->shape[1] = channels;
    for (size_t i = 0; i < sizeof filled / sizeof filled[0]; i++)
        fixture_find(&fixture, filled[i])->values = numbers;
    if (without)
        fixture_remove(&fixture, without);
    fixture_write(&fixture, fixture_path(folder, name));
    assert_int_equal(ld_weights_open(&weights, fixture_path(folder, name), NULL, NULL), LD_OK);
    return weights;
}

static enum ld_code write_merged(const struct ld_merge_request *request, struct ld_weights **out)
{
    const char *path = fixture_path(folder, "merged.safetensors");
    struct ld_merge_report report;
    const enum ld_code code = ld_merge_write(path, request, &report, NULL);
    *out = NULL;
    if (code == LD_OK)
        assert_int_equal(ld_weights_open(out, path, NULL, NULL), LD_OK);
    return code;
}

static float element(const struct ld_weights *weights, const char *name, size_t index)
{
    static float values[4096];
    struct ld_weight_view view;
    assert_true(ld_weights_get(weights, name, &view) && view.count <= 4096 && index < view.count);
    ld_weight_view_decode(&view, values);
    return values[index];
}

static void models_merge_and_parts_are_exchanged(void **state)
{
    (void)state;
    fixture_folder(folder);
    const struct ld_merge_recipe recipe = {.op = LD_MERGE_WEIGHTED_SUM, .alpha = 0.25};
    struct ld_merge_request request = {
        .recipe = &recipe,
        .a = {make_model("a", 1, 4, "cond_stage_model."), "dir/a"},
        .b = {make_model("b", 5, 4, NULL), "b"},
        .storage = LD_STORE_F32,
    };
    request.vae = request.b;
    struct ld_weights *merged;
    assert_int_equal(write_merged(&request, &merged), LD_OK);
    assert_true(element(merged, OUT_BIAS, 0) == 2);
    assert_true(element(merged, VAE_BIAS, 0) == 5);
    assert_true(element(merged, TEXT_BIAS, 0) == 5); /* only B has it */
    assert_int_equal(ld_weights_storage_dtype(merged, OUT_BIAS), LD_DTYPE_F32);
    const char *history = ld_weights_metadata(merged, "latentd.merge");
    char digest[65];
    assert_int_equal(ld_weights_sha256(request.b.weights, digest, NULL), LD_OK);
    assert_non_null(history);
    assert_non_null(strstr(history, digest));
    assert_non_null(
        strstr(history, "\"op\":\"weighted_sum\",\"alpha\":0.25,\"a\":{\"name\":\"a\","));
    ld_weights_close(merged);
    ld_weights_close(request.a.weights);
    ld_weights_close(request.b.weights);
    fixture_remove_folder(folder);
}

static void an_inpainting_model_takes_over_a_difference(void **state)
{
    (void)state;
    fixture_folder(folder);
    const struct ld_merge_recipe recipe = {.op = LD_MERGE_ADD_DIFFERENCE, .alpha = 1};
    struct ld_merge_request request = {
        .recipe = &recipe,
        .a = {make_model("a", 1, 9, NULL), "a"},
        .b = {make_model("b", 5, 4, NULL), "b"},
        .c = {make_model("c", 2, 4, NULL), "c"},
        .replace = true,
    };
    struct ld_weights *merged;
    assert_int_equal(write_merged(&request, &merged), LD_OK);
    assert_int_equal(ld_weights_arch(merged)->unet_in_channels, 9);
    assert_int_equal(ld_weights_storage_dtype(merged, CONV_IN), LD_DTYPE_F16);
    for (size_t i = 0; i < 2 * 9 * 9; i++) /* two output channels */
        assert_true(element(merged, CONV_IN, i) == (i % 81 < 36 ? 4.0f : 1.0f));
    ld_weights_close(merged);
    struct ld_weights *c = request.c.weights;
    request.c.weights = NULL;
    assert_int_equal(write_merged(&request, &merged), LD_E_INVALID);
    ld_weights_close(c);
    ld_weights_close(request.a.weights);
    ld_weights_close(request.b.weights);
    fixture_remove_folder(folder);
}

/* An adapter on a linear layer with its bias, a convolution and the text encoder. */
static struct ld_adapter *make_adapter(const char *module)
{
    static struct fixture file;
    struct ld_adapter *adapter;
    char name[FIXTURE_NAME_SIZE];
    memset(&file, 0, sizeof file);
    const struct {
        const char *suffix;
        uint64_t rows, columns;
    } tensors[] = {
        {"lora_up.weight", 32, 3},
        {"lora_down.weight", 3, 32},
        {"diff_b", 32, 0},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        assert_true(ld_fmt(name, sizeof name, "%s.%s", module, tensors[i].suffix));
        fixture_add_matrix(&file, name, LD_DTYPE_F32, tensors[i].rows, tensors[i].columns);
    }
    fixture_add_matrix(&file, "lora_unet_conv_norm_out.w_norm", LD_DTYPE_F32, 32, 0);
    fixture_write(&file, fixture_path(folder, "adapter.safetensors"));
    assert_int_equal(ld_adapter_open(&adapter, fixture_path(folder, "adapter.safetensors"), NULL),
                     LD_OK);
    return adapter;
}

#define TO_OUT "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0"

/* Baking two adapters writes what applying them to an overlay computes, bit for bit. */
static void baked_adapters_equal_applied_ones(void **state)
{
    (void)state;
    fixture_folder(folder);
    const struct ld_merge_recipe recipe = {.op = LD_MERGE_NONE};
    struct ld_weights *model = make_model("a", 1, 4, NULL);
    struct ld_adapter *adapter = make_adapter("lora_unet_" TO_OUT);
    const struct ld_merge_adapter adapters[] = {
        {adapter, "x/ink.safetensors", "00", 0.5, 0.5, LD_DORA_MERGED},
        {adapter, "x/ink.safetensors", "00", -0.25, 0, LD_DORA_MERGED},
    };
    const struct ld_merge_request request = {
        .recipe = &recipe,
        .a = {model, "a"},
        .adapters = adapters,
        .adapter_count = 2,
        .storage = LD_STORE_F32,
    };
    struct ld_merge_report report;
    struct ld_weights *baked;
    struct ld_weights *overlay;
    const char *path = fixture_path(folder, "baked.safetensors");
    assert_int_equal(ld_merge_write(path, &request, &report, NULL), LD_OK);
    assert_int_equal(report.adapter_tensors[0], 3);
    assert_int_equal(report.adapter_unmatched[0], 0);
    assert_int_equal(ld_weights_open(&baked, path, NULL, NULL), LD_OK);
    assert_int_equal(ld_weights_overlay(&overlay, model, NULL), LD_OK);
    for (size_t i = 0; i < 2; i++) {
        const struct ld_adapter_options options = {.unet_strength = adapters[i].weight,
                                                   .text_strength = adapters[i].text_weight};
        assert_int_equal(ld_adapter_apply(adapter, overlay, &options, NULL, NULL), LD_OK);
    }
    uint32_t edited = 0;
    for (uint32_t i = 0; i < ld_weights_count(overlay); i++) {
        struct ld_weight_view want;
        struct ld_weight_view have;
        ld_weights_at(overlay, i, &want);
        assert_true(ld_weights_get(baked, want.name, &have));
        if (!ld_weights_is_edited(overlay, want.name))
            continue;
        assert_int_equal(ld_weights_make(overlay, want.name, NULL), LD_OK);
        ld_weights_at(overlay, i, &want);
        assert_memory_equal(have.data, want.data, want.count * sizeof(float));
        edited++;
    }
    assert_int_equal(edited, 3);
    assert_non_null(strstr(ld_weights_metadata(baked, "latentd.merge"), "ink.safetensors"));
    ld_weights_close(overlay);
    ld_weights_close(baked);
    ld_weights_close(model);
    ld_adapter_close(adapter);
    fixture_remove_folder(folder);
}

static void an_adapter_that_fits_nothing_is_an_error(void **state)
{
    (void)state;
    fixture_folder(folder);
    const struct ld_merge_recipe recipe = {.op = LD_MERGE_NONE};
    struct ld_weights *model = make_model("a", 1, 4, "model.diffusion_model.");
    struct ld_adapter *adapter = make_adapter("lora_unet_" TO_OUT);
    const struct ld_merge_adapter adapters[] = {
        {adapter, "x/ink.safetensors", "00", 1, 1, LD_DORA_MERGED}};
    const struct ld_merge_request request = {
        .recipe = &recipe, .a = {model, "a"}, .adapters = adapters, .adapter_count = 1};
    struct ld_merge_report report;
    struct ld_error err = {0};
    const char *path = fixture_path(folder, "baked.safetensors");
    assert_int_equal(ld_merge_write(path, &request, &report, &err), LD_E_UNSUPPORTED);
    assert_string_equal(err.detail, "adapter 'ink.safetensors': it fits no tensor of this model");
    assert_int_not_equal(access(path, F_OK), 0);
    ld_weights_close(model);
    ld_adapter_close(adapter);
    fixture_remove_folder(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weighted_sums_end_at_their_inputs),
        cmocka_unit_test(a_difference_is_added),
        cmocka_unit_test(blocks_have_their_own_weight),
        cmocka_unit_test(block_weights_are_found_by_their_names),
        cmocka_unit_test(ties_trims_elects_and_averages),
        cmocka_unit_test(dare_drops_a_share_and_rescales_the_rest),
        cmocka_unit_test(cosine_is_that_of_the_angle),
        cmocka_unit_test(a_sum_can_be_taken_twice),
        cmocka_unit_test(similar_tensors_follow_the_other_side),
        cmocka_unit_test(recipes_are_bounded),
        cmocka_unit_test(models_merge_and_parts_are_exchanged),
        cmocka_unit_test(an_inpainting_model_takes_over_a_difference),
        cmocka_unit_test(baked_adapters_equal_applied_ones),
        cmocka_unit_test(an_adapter_that_fits_nothing_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
