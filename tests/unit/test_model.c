/* Proves that rows, chunks and variants of a model do not see each other, and that the same inputs
 * give the same bits whatever the batch, the threads or the run before. How: a small model is run
 * in both ways and the results are compared byte for byte. */
#include "tests/tools/checkpoint_write.h"
#include "tests/unit/network_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { H = 9, W = 12, LATENT = 4 * H * W, CHUNK = 77, ROWS = 3 };

static struct network_fixture fixture;
static float inputs[ROWS][LATENT];
static float contexts[ROWS][FIXTURE_TOKENS_MAX * FIXTURE_WIDTH];
static const int32_t lengths[ROWS] = {CHUNK, 2 * CHUNK, CHUNK};
static const float times[ROWS] = {981, 3.5F, 420.25F};
static const float scales[ROWS] = {0.07F, 1, 0.5F};

static int open_all(void **state)
{
    (void)state;
    network_fixture_open(&fixture, 2, LD_PARTS_ALL);
    for (uint32_t r = 0; r < ROWS; r++) {
        network_fill(inputs[r], LATENT, 10 + r);
        network_fill(contexts[r], FIXTURE_TOKENS_MAX * FIXTURE_WIDTH, 20 + r);
    }
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    network_fixture_close(&fixture);
    return 0;
}

static struct ld_unet_row row_of(uint32_t r, float *eps)
{
    return (struct ld_unet_row){.x = inputs[r],
                                .scale = scales[r],
                                .t = times[r],
                                .context = contexts[r],
                                .context_tokens = lengths[r],
                                .eps = eps};
}

static void run_rows(struct network_fixture *on, struct ld_variant *variant,
                     const struct ld_unet_row *rows, uint32_t count,
                     const struct ld_unet_options *options)
{
    struct ld_error err = {0};
    struct ld_unet_request request = {.rows = rows, .row_count = count, .height = H, .width = W};
    if (options)
        request.options = *options;
    if (ld_model_unet(on->model, variant, &request, &err) != LD_OK)
        fail_msg("%s", err.detail);
}

static void run_one(uint32_t r, float *eps, const struct ld_unet_options *options)
{
    const struct ld_unet_row row = row_of(r, eps);
    run_rows(&fixture, NULL, &row, 1, options);
}

/* ---- UNet ------------------------------------------------------------------------------------ */

static void a_mixed_batch_equals_its_rows_alone(void **state)
{
    (void)state;
    static float alone[ROWS][LATENT];
    static float together[ROWS][LATENT];
    struct ld_unet_row rows[ROWS];
    for (uint32_t r = 0; r < ROWS; r++) {
        run_one(r, alone[r], NULL);
        rows[r] = row_of(r, together[r]);
    }
    run_rows(&fixture, NULL, rows, ROWS, NULL);
    assert_memory_equal(alone, together, sizeof alone);
    assert_true(network_distance(alone[0], alone[1], LATENT) > 1e-3); /* the rows do differ */
}

static void the_number_of_threads_changes_no_bit(void **state)
{
    (void)state;
    static float two[ROWS][LATENT];
    static float one[ROWS][LATENT];
    static float picture_two[3 * 64 * H * W];
    static float picture_one[3 * 64 * H * W];
    struct network_fixture single;
    struct ld_unet_row rows[ROWS];
    struct ld_error err = {0};
    network_fixture_open(&single, 1, LD_PARTS_ALL);
    for (uint32_t r = 0; r < ROWS; r++)
        rows[r] = row_of(r, one[r]);
    run_rows(&single, NULL, rows, ROWS, NULL);
    for (uint32_t r = 0; r < ROWS; r++)
        rows[r] = row_of(r, two[r]);
    run_rows(&fixture, NULL, rows, ROWS, NULL);
    assert_memory_equal(one, two, sizeof one);
    assert_int_equal(ld_model_decode(single.model, one[0], H, W, 1, NULL, picture_one, &err),
                     LD_OK);
    assert_int_equal(ld_model_decode(fixture.model, two[0], H, W, 1, NULL, picture_two, &err),
                     LD_OK);
    assert_memory_equal(picture_one, picture_two, sizeof picture_one);
    network_fixture_close(&single);
}

static void kept_keys_and_values_are_those_of_the_context(void **state)
{
    (void)state;
    static float first[LATENT];
    static float again[LATENT];
    static float other[LATENT];
    struct ld_unet_row row = row_of(0, first);
    run_rows(&fixture, NULL, &row, 1, NULL);
    row.eps = again;
    run_rows(&fixture, NULL, &row, 1, NULL); /* the prologue is skipped here */
    assert_memory_equal(first, again, sizeof first);
    row.context = contexts[2]; /* same length, other text: the plan is the same */
    row.eps = other;
    run_rows(&fixture, NULL, &row, 1, NULL);
    assert_memory_not_equal(first, other, sizeof first);
    row.context = contexts[0];
    row.eps = again;
    run_rows(&fixture, NULL, &row, 1, NULL);
    assert_memory_equal(first, again, sizeof first);
}

static void a_shorter_context_leaves_nothing_of_a_longer_one(void **state)
{
    (void)state;
    static float before[2][LATENT];
    static float after[2][LATENT];
    struct ld_unet_row rows[2] = {row_of(0, before[0]), row_of(1, before[1])};
    run_rows(&fixture, NULL, rows, 2, NULL);
    rows[0].context_tokens = rows[1].context_tokens; /* row 0 now uses more of its text */
    rows[0].eps = after[0];
    rows[1].eps = after[1];
    run_rows(&fixture, NULL, rows, 2, NULL);
    assert_memory_not_equal(before[0], after[0], sizeof before[0]);
    rows[0].context_tokens = lengths[0];
    run_rows(&fixture, NULL, rows, 2, NULL);
    assert_memory_equal(before, after, sizeof before);
}

/* Run row 0 on a graph of its own, with shared or separate places for its values. */
static void run_graph(bool no_sharing, float *eps)
{
    struct ld_error err = {0};
    struct ld_weight_layout layout;
    struct ld_weight_pack pack;
    struct ld_workspace workspace;
    struct ld_graph graph;
    void *persistent;
    const struct ld_unet_shape shape = {1, H, W, CHUNK};
    const struct ld_unet_options options = {.freeu = LD_FREEU_V2,
                                            .freeu_b1 = 1.3F,
                                            .freeu_b2 = 1.4F,
                                            .freeu_s1 = 0.9F,
                                            .freeu_s2 = 0.2F};
    ld_weight_layout_init(&layout);
    ld_weight_pack_init(&pack, fixture.backend);
    ld_workspace_init(&workspace, fixture.backend);
    ld_graph_init(&graph, fixture.backend->act_dtype, &layout);
    graph.no_sharing = no_sharing;
    ld_unet_build(&graph, ld_model_arch(fixture.model), &shape, &options);
    assert_int_equal(ld_graph_finish(&graph, &err), LD_OK);
    assert_int_equal(
        ld_weight_pack_fill(&pack, &layout, ld_model_weights(fixture.model), NULL, &err), LD_OK);
    assert_int_equal(ld_workspace_fit(&workspace, &graph, &err), LD_OK);
    assert_int_equal(fixture.backend->ops->memory_alloc(fixture.backend, graph.persistent_bytes,
                                                        &persistent, &err),
                     LD_OK);
    const int32_t kv_len = CHUNK;
    struct ld_graph_run run = {.backend = fixture.backend,
                               .scratch = workspace.scratch,
                               .persistent = persistent,
                               .staging = workspace.staging,
                               .weights = &pack};
    run.in[LD_PORT_X] = inputs[0];
    run.in[LD_PORT_SCALE] = &scales[0];
    run.in[LD_PORT_T] = &times[0];
    run.in[LD_PORT_CONTEXT] = contexts[0];
    run.in[LD_PORT_KV_LEN] = &kv_len;
    run.out[LD_PORT_OUT] = eps;
    assert_int_equal(ld_graph_run(&graph, &run, &err), LD_OK);
    fixture.backend->ops->memory_free(fixture.backend, persistent, graph.persistent_bytes);
    ld_graph_deinit(&graph);
    ld_workspace_deinit(&workspace);
    ld_weight_pack_deinit(&pack);
    ld_weight_layout_deinit(&layout);
}

static void shared_memory_gives_the_bits_of_separate_places(void **state)
{
    (void)state;
    static float shared[LATENT];
    static float separate[LATENT];
    run_graph(false, shared);
    run_graph(true, separate);
    assert_memory_equal(shared, separate, sizeof shared);
}

static void a_cancelled_run_says_so_and_leaves_the_model_usable(void **state)
{
    (void)state;
    static float before[LATENT];
    static float after[LATENT];
    struct ld_cancel cancel = {.requested = true};
    struct ld_error err = {0};
    struct ld_unet_row row = row_of(0, before);
    run_rows(&fixture, NULL, &row, 1, NULL);
    row.eps = after;
    const struct ld_unet_request request = {
        .rows = &row, .row_count = 1, .height = H, .width = W, .cancel = &cancel};
    assert_int_equal(ld_model_unet(fixture.model, NULL, &request, &err), LD_E_CANCELLED);
    run_rows(&fixture, NULL, &row, 1, NULL);
    assert_memory_equal(before, after, sizeof before);
}

static void shapes_out_of_range_are_refused(void **state)
{
    (void)state;
    static float eps[LATENT];
    struct ld_error err = {0};
    struct ld_unet_row row = row_of(0, eps);
    struct ld_unet_request request = {.rows = &row, .row_count = 0, .height = H, .width = W};
    assert_int_equal(ld_model_unet(fixture.model, NULL, &request, &err), LD_E_RANGE);
    request.row_count = 1;
    request.height = 0;
    assert_int_equal(ld_model_unet(fixture.model, NULL, &request, &err), LD_E_RANGE);
    request.height = H;
    row.context_tokens = 0;
    assert_int_equal(ld_model_unet(fixture.model, NULL, &request, &err), LD_E_RANGE);
}

/* ---- Text ------------------------------------------------------------------------------------ */

static void chunks_together_equal_chunks_alone(void **state)
{
    (void)state;
    enum { CHUNKS = 11 }; /* more than one run of eight */
    static float together[CHUNKS * CHUNK * FIXTURE_WIDTH];
    static float alone[CHUNK * FIXTURE_WIDTH];
    int32_t ids[CHUNKS * CHUNK];
    struct ld_error err = {0};
    for (int32_t i = 0; i < CHUNKS * CHUNK; i++)
        ids[i] = i * 37 % 600;
    struct ld_text_request request = {.ids = ids, .chunks = CHUNKS, .skip = 2};
    assert_int_equal(ld_model_encode_text(fixture.model, NULL, &request, together, &err), LD_OK);
    for (int32_t c = 0; c < CHUNKS; c++) {
        request = (struct ld_text_request){.ids = ids + c * CHUNK, .chunks = 1, .skip = 2};
        assert_int_equal(ld_model_encode_text(fixture.model, NULL, &request, alone, &err), LD_OK);
        assert_memory_equal(alone, together + (size_t)c * CHUNK * FIXTURE_WIDTH, sizeof alone);
    }
}

static void ids_and_skips_out_of_range_are_refused(void **state)
{
    (void)state;
    static float out[CHUNK * FIXTURE_WIDTH];
    int32_t ids[CHUNK] = {0};
    struct ld_error err = {0};
    struct ld_text_request request = {.ids = ids, .chunks = 1, .skip = 1};
    ids[5] = 600;
    assert_int_equal(ld_model_encode_text(fixture.model, NULL, &request, out, &err), LD_E_RANGE);
    ids[5] = -1;
    assert_int_equal(ld_model_encode_text(fixture.model, NULL, &request, out, &err), LD_E_RANGE);
    ids[5] = 599;
    request.skip = 5; /* four layers */
    assert_int_equal(ld_model_encode_text(fixture.model, NULL, &request, out, &err), LD_E_RANGE);
    request.skip = 4;
    assert_int_equal(ld_model_encode_text(fixture.model, NULL, &request, out, &err), LD_OK);
}

static void a_vector_stands_in_for_a_table_row(void **state)
{
    (void)state;
    static float by_id[CHUNK * FIXTURE_WIDTH];
    static float by_vector[CHUNK * FIXTURE_WIDTH];
    struct ld_weight_view table;
    float row[FIXTURE_WIDTH];
    int32_t ids[CHUNK] = {0};
    const float *vectors[CHUNK] = {NULL};
    struct ld_error err = {0};
    assert_true(ld_weights_get(
        ld_model_weights(fixture.model),
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight", &table));
    ld_dtype_to_f32(row, (const char *)table.data + 17 * FIXTURE_WIDTH * 2, table.dtype,
                    FIXTURE_WIDTH);
    ids[3] = 17;
    struct ld_text_request request = {.ids = ids, .chunks = 1, .skip = 1};
    assert_int_equal(ld_model_encode_text(fixture.model, NULL, &request, by_id, &err), LD_OK);
    ids[3] = -1;
    vectors[3] = row;
    request.vectors = vectors;
    assert_int_equal(ld_model_encode_text(fixture.model, NULL, &request, by_vector, &err), LD_OK);
    assert_memory_equal(by_id, by_vector, sizeof by_id);
}

/* ---- Variants -------------------------------------------------------------------------------- */

static void a_variant_changes_itself_and_shares_the_rest(void **state)
{
    (void)state;
    static float base[LATENT];
    static float varied[LATENT];
    static float after[LATENT];
    static const char name[] =
        "model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_k.weight";
    struct ld_error err = {0};
    struct ld_weights *overlay;
    struct ld_variant *variant;
    run_one(0, base, NULL);
    assert_int_equal(ld_weights_overlay(&overlay, ld_model_weights(fixture.model), &err), LD_OK);
    float *values = ld_weights_edit(overlay, name);
    assert_non_null(values);
    for (size_t i = 0; i < 64 * 64; i++)
        values[i] *= -3;
    assert_int_equal(ld_variant_create(&variant, fixture.model, overlay, &err), LD_OK);
    assert_int_equal(ld_variant_load(variant, &err), LD_OK);
    ld_weights_close(overlay);
    const struct ld_unet_row row = row_of(0, varied);
    run_rows(&fixture, variant, &row, 1, NULL);
    assert_memory_not_equal(base, varied, sizeof base);
    /* One stacked q, k, v of 64 x 64 values each; no other slot is the variant's own. */
    assert_true(ld_variant_bytes(variant) > 0);
    assert_true(ld_variant_bytes(variant) * 100 < ld_model_weight_bytes(fixture.model));
    run_one(0, after, NULL);
    assert_memory_equal(base, after, sizeof base);
    ld_variant_destroy(variant);
}

static void a_variant_has_keys_and_values_of_its_own(void **state)
{
    (void)state;
    static float base[LATENT];
    static float varied[LATENT];
    static float after[LATENT];
    struct ld_error err = {0};
    struct ld_weights *overlay;
    struct ld_variant *variant;
    run_one(0, base, NULL);
    assert_int_equal(ld_weights_overlay(&overlay, ld_model_weights(fixture.model), &err), LD_OK);
    float *values = ld_weights_edit(
        overlay, "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_v.weight");
    assert_non_null(values);
    for (size_t i = 0; i < 64 * 64; i++)
        values[i] = -values[i];
    assert_int_equal(ld_variant_create(&variant, fixture.model, overlay, &err), LD_OK);
    const struct ld_unet_row row = row_of(0, varied);
    run_rows(&fixture, variant, &row, 1, NULL); /* same plan, same context, other weights */
    assert_memory_not_equal(base, varied, sizeof base);
    run_one(0, after, NULL);
    assert_memory_equal(base, after, sizeof base);
    ld_variant_destroy(variant);
    ld_weights_close(overlay);
}

/* A hash of every block's result, in the order of the network. */
struct blocks {
    char names[32][32];
    uint64_t hashes[32];
    uint32_t count;
};

static void take_block(void *ctx, const char *name, const float *planes, int32_t batch,
                       int32_t channels, int32_t height, int32_t width)
{
    struct blocks *blocks = ctx;
    const size_t bytes =
        (size_t)batch * (size_t)channels * (size_t)height * (size_t)width * sizeof *planes;
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ ((const unsigned char *)planes)[i]) * UINT64_C(0x100000001B3);
    assert_true(blocks->count < 32);
    (void)ld_fmt(blocks->names[blocks->count], sizeof blocks->names[0], "%s", name);
    blocks->hashes[blocks->count++] = hash;
}

static void run_blocks(struct ld_variant *variant, struct blocks *blocks)
{
    static float eps[LATENT];
    const struct ld_unet_row row = row_of(0, eps);
    blocks->count = 0;
    const struct ld_graph_tap_sink tap = {.ctx = blocks, .take = take_block};
    ld_model_set_tap(fixture.model, &tap);
    run_rows(&fixture, variant, &row, 1, NULL);
    ld_model_set_tap(fixture.model, NULL);
}

/* The projections are one stack: a change of one reaches its own block, none before it. */
static void a_variant_of_one_timestep_projection_begins_at_its_block(void **state)
{
    (void)state;
    static struct blocks base;
    static struct blocks varied;
    struct ld_error err = {0};
    struct ld_weights *overlay;
    struct ld_variant *variant;
    run_blocks(NULL, &base);
    assert_int_equal(ld_weights_overlay(&overlay, ld_model_weights(fixture.model), &err), LD_OK);
    float *values =
        ld_weights_edit(overlay, "model.diffusion_model.output_blocks.2.0.emb_layers.1.bias");
    assert_non_null(values);
    values[0] += 1;
    assert_int_equal(ld_variant_create(&variant, fixture.model, overlay, &err), LD_OK);
    run_blocks(variant, &varied);
    bool reached = false;
    assert_int_equal(base.count, varied.count);
    for (uint32_t b = 0; b < base.count; b++) {
        reached = reached || strcmp(base.names[b], "output_blocks.2") == 0;
        assert_int_equal(base.hashes[b] != varied.hashes[b], reached);
    }
    assert_true(reached);
    ld_variant_destroy(variant);
    ld_weights_close(overlay);
}

static void a_missing_part_is_named(void **state)
{
    (void)state;
    static float out[3 * 64 * H * W];
    struct network_fixture partial;
    struct ld_error err = {0};
    network_fixture_open(&partial, 1, LD_PART_BIT(LD_PART_UNET));
    assert_int_equal(ld_model_decode(partial.model, inputs[0], H, W, 1, NULL, out, &err),
                     LD_E_NOT_FOUND);
    assert_non_null(strstr(err.detail, "VAE decoder"));
    network_fixture_close(&partial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mixed_batch_equals_its_rows_alone),
        cmocka_unit_test(the_number_of_threads_changes_no_bit),
        cmocka_unit_test(kept_keys_and_values_are_those_of_the_context),
        cmocka_unit_test(a_shorter_context_leaves_nothing_of_a_longer_one),
        cmocka_unit_test(shared_memory_gives_the_bits_of_separate_places),
        cmocka_unit_test(a_cancelled_run_says_so_and_leaves_the_model_usable),
        cmocka_unit_test(shapes_out_of_range_are_refused),
        cmocka_unit_test(chunks_together_equal_chunks_alone),
        cmocka_unit_test(ids_and_skips_out_of_range_are_refused),
        cmocka_unit_test(a_vector_stands_in_for_a_table_row),
        cmocka_unit_test(a_variant_changes_itself_and_shares_the_rest),
        cmocka_unit_test(a_variant_has_keys_and_values_of_its_own),
        cmocka_unit_test(a_variant_of_one_timestep_projection_begins_at_its_block),
        cmocka_unit_test(a_missing_part_is_named),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
