/* Proves that a model whose weights are streamed computes what it computes with its weights on the
 * device, bit by bit, in a fraction of the memory, with copies that run ahead of the operators; and
 * that every failure on the way is one sentence and leaves the backend usable. How: a small model
 * over a fake GPU whose streams run as late, then as early, as the events between them allow. */
#include "kernels/cuda/backend.h"
#include "tests/cuda/fake_gpu.h"
#include "tests/tools/checkpoint_write.h"
#include "tests/unit/network_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    H = 4,
    W = 4,
    LATENT = 4 * H * W,
    PICTURE = 3 * 64 * H * W,
    CHUNK = 77,
    ROWS = 3,
    ALL_CHANNELS = 4,
    RUNS = 4, /* walked, walked without the prologue, recorded, replayed */
    TEXT = 2 * CHUNK * FIXTURE_WIDTH
};

/* Orders in which the fake's streams run. A sanitizer looks for faults that do not depend on it,
 * and takes six times as long. */
#ifndef __has_feature
#define __has_feature(name) 0 /* of clang */
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
enum { ORDERS = 1 };
#else
enum { ORDERS = 2 };
#endif

static float inputs[ROWS][LATENT];
static float contexts[ROWS][2 * CHUNK * FIXTURE_WIDTH];
static const int32_t lengths[ROWS] = {CHUNK, 2 * CHUNK, CHUNK};
static const float times[ROWS] = {981, 3.5F, 420.25F};

static int fill_inputs(void **state)
{
    (void)state;
    fake_gpu_reset();
    for (uint32_t r = 0; r < ROWS; r++) {
        network_fill(inputs[r], LATENT, 10 + r);
        network_fill(contexts[r], 2 * CHUNK * FIXTURE_WIDTH, 20 + r);
    }
    return 0;
}

static int nothing_is_left(void **state)
{
    (void)state;
    return fake_gpu.live_allocations == 0 && fake_gpu.live_graphs == 0 ? 0 : -1;
}

/* ---- Networks -------------------------------------------------------------------------------- */

static struct ld_backend *open_backend(bool recording)
{
    struct ld_error err = {0};
    struct ld_backend *backend = NULL;
    const struct ld_cuda_options options = {
        .dtype = LD_DTYPE_F16, .threads = 2, .no_recording = !recording};
    if (ld_cuda_backend_create(&backend, &options, &err) != LD_OK)
        fail_msg("%s", err.detail);
    return backend;
}

static void open_on(struct network_fixture *on, bool streamed, bool recording, uint32_t parts)
{
    network_fixture_open_on(on, open_backend(recording), parts, ALL_CHANNELS);
    if (streamed)
        ld_model_stream(on->model);
    assert_int_equal(ld_model_is_streamed(on->model), streamed);
}

static void open_unet(struct network_fixture *on, bool streamed)
{
    open_on(on, streamed, true, LD_PART_BIT(LD_PART_UNET));
}

static struct ld_cuda_stats stats_of(const struct network_fixture *on)
{
    struct ld_cuda_stats stats;
    ld_cuda_stats(on->backend, &stats);
    return stats;
}

static enum ld_code try_rows(struct network_fixture *on, struct ld_variant *variant, uint32_t count,
                             const struct ld_unet_options *options, const struct ld_cancel *cancel,
                             float eps[ROWS][LATENT], struct ld_error *err)
{
    struct ld_unet_row rows[ROWS];
    for (uint32_t r = 0; r < count; r++)
        rows[r] = (struct ld_unet_row){.x = inputs[r],
                                       .scale = 0.5F,
                                       .t = times[r],
                                       .context = contexts[r],
                                       .context_tokens = lengths[r],
                                       .eps = eps[r]};
    const struct ld_unet_request request = {.rows = rows,
                                            .row_count = count,
                                            .height = H,
                                            .width = W,
                                            .options =
                                                options ? *options : (struct ld_unet_options){0},
                                            .cancel = cancel};
    return ld_model_unet(on->model, variant, &request, err);
}

static enum ld_code try_one(struct network_fixture *on, float eps[ROWS][LATENT],
                            struct ld_error *err)
{
    return try_rows(on, NULL, 1, NULL, NULL, eps, err);
}

static void run_one(struct network_fixture *on, float eps[ROWS][LATENT])
{
    struct ld_error err = {0};
    memset(eps, 0, sizeof(float[ROWS][LATENT]));
    if (try_one(on, eps, &err) != LD_OK)
        fail_msg("%s", err.detail);
}

/* ---- Equal bits ------------------------------------------------------------------------------ */

/* What all networks make of the inputs. */
struct results {
    float alone[RUNS][ROWS][LATENT], together[RUNS][ROWS][LATENT], options[2][ROWS][LATENT];
    float text[RUNS][TEXT];
    float whole[RUNS][PICTURE], strips[RUNS][PICTURE], tiles[PICTURE], moments[RUNS][2 * LATENT];
};

static void compute(struct network_fixture *on, struct results *out)
{
    static const struct ld_unet_options other[2] = {{.freeu = LD_FREEU_V2,
                                                     .freeu_b1 = 1.3F,
                                                     .freeu_b2 = 1.4F,
                                                     .freeu_s1 = 0.9F, /* host ops */
                                                     .freeu_s2 = 0.2F},
                                                    {.shrink = true,
                                                     .shrink_block = 3,
                                                     .shrink_factor = 2,
                                                     .shrink_down = LD_RESIZE_BICUBIC,
                                                     .shrink_up = LD_RESIZE_BICUBIC}};
    static float vector[FIXTURE_WIDTH];
    const float *vectors[2 * CHUNK] = {[3] = vector, [90] = vector};
    int32_t ids[2 * CHUNK];
    struct ld_error err = {0};
    network_fill(vector, FIXTURE_WIDTH, 5);
    for (int32_t i = 0; i < 2 * CHUNK; i++)
        ids[i] = i * 37 % FIXTURE_VOCABULARY;
    const struct ld_text_request text = {.ids = ids, .chunks = 2, .skip = 2, .vectors = vectors};
    memset(out, 0, sizeof *out);
    for (int i = 0; i < RUNS; i++) {
        enum ld_code code = try_rows(on, NULL, 1, NULL, NULL, out->alone[i], &err);
        if (code == LD_OK)
            code = try_rows(on, NULL, ROWS, NULL, NULL, out->together[i], &err);
        if (code == LD_OK)
            code = ld_model_encode_text(on->model, NULL, &text, out->text[i], &err);
        if (code == LD_OK)
            code = ld_model_decode(on->model, inputs[0], H, W, 1, NULL, out->whole[i], &err);
        if (code == LD_OK)
            code = ld_model_decode_form(on->model, inputs[0], H, W, 1, LD_VAE_FORM_STRIPS, NULL,
                                        out->strips[i], &err);
        if (code == LD_OK)
            code = ld_model_encode_image(on->model, out->whole[0], 8 * H, 8 * W, NULL,
                                         out->moments[i], &err);
        if (code != LD_OK)
            fail_msg("%s", err.detail);
    }
    enum ld_code code = ld_model_decode_form(on->model, inputs[1], H, W, 1, LD_VAE_FORM_TILE, NULL,
                                             out->tiles, &err);
    for (int i = 0; code == LD_OK && i < 2; i++)
        code = try_rows(on, NULL, 2, &other[i], NULL, out->options[i], &err);
    if (code != LD_OK)
        fail_msg("%s", err.detail);
}

static void streamed_weights_change_no_bit(void **state)
{
    (void)state;
    static struct results resident, streamed;
    struct network_fixture on;
    open_on(&on, false, true, LD_PARTS_ALL);
    compute(&on, &resident);
    assert_int_equal(stats_of(&on).weights_sent, 0);
    assert_int_equal(stats_of(&on).ring_bytes, 0);
    network_fixture_close(&on);
    for (int order = 0; order < ORDERS; order++) { /* the first runs of each plan are walked */
        fake_gpu.last_first = order;
        open_on(&on, true, true, LD_PARTS_ALL);
        compute(&on, &streamed);
        assert_memory_equal(&resident, &streamed, sizeof resident);
        assert_true(stats_of(&on).weights_sent > 0);
        assert_true(stats_of(&on).recordings > 0 && stats_of(&on).replays > 0);
        assert_int_equal(stats_of(&on).recordings_failed, 0);
        network_fixture_close(&on);
    }
}

static void a_variants_weights_are_streamed_too(void **state)
{
    (void)state;
    static const char name[] =
        "model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_v.weight";
    static float eps[2][2][ROWS][LATENT]; /* streamed or not, of the model and of the variant */
    struct ld_error err = {0};
    for (int streamed = 0; streamed < 2; streamed++) {
        struct ld_weights *overlay;
        struct ld_variant *variant;
        struct network_fixture on;
        open_unet(&on, streamed);
        run_one(&on, eps[streamed][0]);
        const struct ld_cuda_stats before = stats_of(&on);
        assert_int_equal(ld_weights_overlay(&overlay, ld_model_weights(on.model), &err), LD_OK);
        float *values = ld_weights_edit(overlay, name);
        assert_non_null(values);
        for (size_t i = 0; i < (size_t)64 * 64; i++)
            values[i] *= -3;
        assert_int_equal(ld_variant_create(&variant, on.model, overlay, &err), LD_OK);
        assert_int_equal(ld_variant_load(variant, &err), LD_OK);
        ld_weights_close(overlay);
        assert_true(ld_variant_bytes(variant) > 0);
        if (streamed)
            assert_int_equal(stats_of(&on).slab_bytes, before.slab_bytes);
        for (int i = 0; i < RUNS; i++)
            assert_int_equal(try_rows(&on, variant, 2, NULL, NULL, eps[streamed][1], &err), LD_OK);
        ld_variant_destroy(variant);
        run_one(&on, eps[streamed][0]);
        network_fixture_close(&on);
    }
    assert_memory_equal(eps[0], eps[1], sizeof eps[0]);
    assert_memory_not_equal(eps[0][0][0], eps[0][1][0], sizeof eps[0][0][0]);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static void the_device_holds_a_ring_instead_of_the_weights(void **state)
{
    (void)state;
    static float eps[ROWS][LATENT];
    uint64_t bytes[2];
    struct ld_cuda_stats stats = {0};
    size_t weights = 0;
    for (int streamed = 0; streamed < 2; streamed++) {
        struct network_fixture on;
        open_unet(&on, streamed);
        run_one(&on, eps);
        bytes[streamed] = fake_gpu.device_bytes;
        stats = stats_of(&on);
        assert_true(weights == 0 || weights == ld_model_weight_bytes(on.model));
        weights = ld_model_weight_bytes(on.model);
        network_fixture_close(&on);
    }
    assert_true(stats.host_slab_bytes > weights / 2);
    assert_true(stats.ring_bytes > 0 && stats.ring_bytes < weights / 4);
    assert_true(bytes[1] + weights / 2 < bytes[0]);
}

/* The first model's ring is too small for the second one's weights. */
static void a_larger_weight_makes_the_ring_grow(void **state)
{
    (void)state;
    static float before[ROWS][LATENT], after[ROWS][LATENT];
    struct ld_error err = {0};
    struct ld_weight *large = NULL;
    float *values = calloc((size_t)1024 * 1024, sizeof *values);
    const struct ld_weight_desc desc = {.kind = LD_WEIGHT_LINEAR,
                                        .rows = 1024,
                                        .k = 1024,
                                        .kernel = 1,
                                        .streamed = true,
                                        .part_count = 1,
                                        .parts = {{.data = values, .dtype = LD_DTYPE_F32}}};
    struct network_fixture on;
    open_unet(&on, true);
    for (int i = 0; i < RUNS; i++)
        run_one(&on, before);
    const struct ld_cuda_stats small = stats_of(&on);
    assert_true(small.replays > 0);
    const size_t planned = on.backend->ops->ring_plan_bytes(on.backend, &desc);
    /* Without memory for it, the others go on with the ring they had. */
    fake_gpu.fail_alloc_after = 0;
    assert_int_equal(on.backend->ops->weight_create(on.backend, &desc, &large, &err),
                     LD_E_GPU_NOMEM);
    assert_null(large);
    fake_gpu.fail_alloc_after = UINT64_MAX;
    run_one(&on, after);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(stats_of(&on).ring_bytes, small.ring_bytes);
    assert_int_equal(on.backend->ops->weight_plan_bytes(on.backend, &desc), 0);
    assert_int_equal(on.backend->ops->weight_create(on.backend, &desc, &large, &err), LD_OK);
    assert_true(planned > small.ring_bytes);
    assert_int_equal(stats_of(&on).ring_bytes, planned);
    for (int i = 0; i < RUNS; i++) { /* recordings know another ring */
        run_one(&on, after);
        assert_memory_equal(before, after, sizeof before);
    }
    assert_int_equal(stats_of(&on).walks, small.walks + 2); /* each ring's first run */
    assert_true(stats_of(&on).recordings_dropped > 0);
    on.backend->ops->weight_destroy(on.backend, large);
    network_fixture_close(&on);
    free(values);
}

static void the_ring_goes_with_the_last_streamed_weight(void **state)
{
    (void)state;
    static float eps[ROWS][LATENT];
    struct network_fixture on;
    struct ld_backend *backend = open_backend(true);
    for (int round = 0; round < 2; round++) {
        network_fixture_open_on(&on, backend, LD_PART_BIT(LD_PART_UNET), ALL_CHANNELS);
        ld_model_stream(on.model);
        for (int i = 0; i < RUNS; i++)
            run_one(&on, eps);
        assert_true(stats_of(&on).ring_bytes > 0);
        ld_model_destroy(on.model);
        assert_int_equal(stats_of(&on).ring_bytes, 0);
        assert_int_equal(stats_of(&on).host_slab_bytes, 0);
        assert_int_equal(stats_of(&on).slab_bytes, 0);
    }
    backend->ops->destroy(backend);
}

/* The model may be streamed if it must: first it fits, then half of it would. */
static void what_has_no_room_is_streamed_where_it_may_be(void **state)
{
    (void)state;
    static float expected[ROWS][LATENT], eps[ROWS][LATENT];
    struct network_fixture on;
    open_unet(&on, false);
    ld_model_stream_if_short(on.model);
    run_one(&on, expected);
    assert_false(ld_model_is_streamed(on.model));
    const uint64_t others = fake_gpu.device_bytes - stats_of(&on).slab_bytes;
    const size_t weights = ld_model_weight_bytes(on.model);
    network_fixture_close(&on);

    struct ld_error err = {0};
    fake_gpu.device_bytes_max = others + weights / 2;
    open_unet(&on, false);
    assert_int_equal(try_one(&on, eps, &err), LD_E_GPU_NOMEM); /* it may not */
    ld_model_stream_if_short(on.model);
    for (int i = 0; i < RUNS; i++) {
        run_one(&on, eps);
        assert_memory_equal(expected, eps, sizeof eps);
    }
    assert_true(ld_model_is_streamed(on.model));
    assert_int_equal(ld_model_weight_bytes(on.model), weights);
    network_fixture_close(&on);
    fake_gpu.device_bytes_max = UINT64_MAX;
}

/* Every large tensor changed: the model has its place, a second set of it has none. */
static struct ld_variant *other_variant(struct network_fixture *on, struct ld_weights **overlay)
{
    struct ld_error err = {0};
    struct ld_variant *variant = NULL;
    const struct ld_weights *weights = ld_model_weights(on->model);
    assert_int_equal(ld_weights_overlay(overlay, weights, &err), LD_OK);
    for (uint32_t i = 0; i < ld_weights_count(weights); i++) {
        struct ld_weight_view view;
        ld_weights_at(weights, i, &view);
        float *values = view.count > 1000 ? ld_weights_edit(*overlay, view.name) : NULL;
        for (size_t v = 0; values && v < view.count; v++)
            values[v] *= 1.25F;
    }
    assert_int_equal(ld_variant_create(&variant, on->model, *overlay, &err), LD_OK);
    return variant;
}

static void a_variant_that_has_no_room_is_streamed_beside_its_model(void **state)
{
    (void)state;
    static float expected[2][ROWS][LATENT], eps[2][ROWS][LATENT];
    struct ld_error err = {0};
    struct ld_weights *overlay;
    struct network_fixture on;
    for (int tight = 0; tight < 2; tight++) {
        float(*to)[ROWS][LATENT] = tight ? eps : expected;
        open_unet(&on, false);
        ld_model_stream_if_short(on.model);
        assert_int_equal(try_rows(&on, NULL, 2, NULL, NULL, to[0], &err), LD_OK);
        const size_t weights = ld_model_weight_bytes(on.model);
        if (tight)
            fake_gpu.device_bytes_max = fake_gpu.device_bytes + weights / 4;
        struct ld_variant *variant = other_variant(&on, &overlay);
        assert_int_equal(ld_variant_load(variant, &err), LD_OK);
        ld_weights_close(overlay);
        assert_true(ld_variant_bytes(variant) > weights / 2);
        assert_int_equal(stats_of(&on).ring_bytes > 0, tight);
        for (int i = 0; i < RUNS; i++)
            assert_int_equal(try_rows(&on, variant, 2, NULL, NULL, to[1], &err), LD_OK);
        ld_variant_destroy(variant);
        assert_int_equal(stats_of(&on).ring_bytes, 0);
        assert_false(ld_model_is_streamed(on.model));
        network_fixture_close(&on);
        fake_gpu.device_bytes_max = UINT64_MAX;
    }
    assert_memory_equal(expected, eps, sizeof eps);
    assert_memory_not_equal(eps[0], eps[1], sizeof eps[0][0]);
}

/* ---- Order ----------------------------------------------------------------------------------- */

/* Every piece of work takes one unit of time, so nearly every copy can be done while the operator
 * before it runs; those that wait for room cannot. */
static void copies_run_ahead_of_the_operators(void **state)
{
    (void)state;
    static float eps[ROWS][LATENT];
    struct network_fixture on;
    open_unet(&on, true);
    run_one(&on, eps);
    for (int i = 1; i < RUNS; i++) {
        fake_gpu.uploads_beside = fake_gpu.uploads_ahead = 0;
        run_one(&on, eps);
        print_message("run %d: %llu of %llu copies began before the operator called for before "
                      "them had ended\n",
                      i, (unsigned long long)fake_gpu.uploads_ahead,
                      (unsigned long long)fake_gpu.uploads_beside);
        assert_true(fake_gpu.uploads_beside > 50);
        assert_true(fake_gpu.uploads_ahead * 10 > fake_gpu.uploads_beside * 9);
    }
    network_fixture_close(&on);
}

static void a_replay_sends_the_weights_anew(void **state)
{
    (void)state;
    static float eps[ROWS][LATENT];
    struct network_fixture on;
    open_unet(&on, true);
    run_one(&on, eps);
    run_one(&on, eps);
    const uint64_t bytes = fake_gpu.bytes_up;
    const uint64_t sent = stats_of(&on).weights_sent;
    run_one(&on, eps); /* recorded and launched */
    const uint64_t once = fake_gpu.bytes_up - bytes;
    assert_int_equal(stats_of(&on).recordings, 1);
    assert_true(stats_of(&on).weights_sent > sent);
    const uint64_t recorded = stats_of(&on).weights_sent;
    run_one(&on, eps);
    assert_int_equal(stats_of(&on).replays, 1);
    assert_int_equal(stats_of(&on).weights_sent, recorded); /* nobody called for them again */
    assert_int_equal(fake_gpu.bytes_up - bytes, 2 * once);
    assert_true(once > stats_of(&on).host_slab_bytes / 2);
    network_fixture_close(&on);
}

/* ---- Errors ---------------------------------------------------------------------------------- */

static void a_cancelled_run_leaves_everything_usable(void **state)
{
    (void)state;
    static float before[ROWS][LATENT], after[ROWS][LATENT];
    struct ld_cancel cancel = {.requested = true};
    struct ld_error err = {0};
    struct network_fixture on;
    open_unet(&on, true);
    run_one(&on, before);
    for (int i = 0; i < 2 * RUNS; i++) {
        run_one(&on, after);
        assert_memory_equal(before, after, sizeof before);
        assert_int_equal(try_rows(&on, NULL, 1, NULL, &cancel, after, &err), LD_E_CANCELLED);
    }
    assert_true(stats_of(&on).replays > 0);
    network_fixture_close(&on);
}

/* Whichever allocation fails, of the device or of pinned memory. */
static void too_little_memory_is_one_sentence_and_no_end(void **state)
{
    (void)state;
    static float expected[ROWS][LATENT], eps[ROWS][LATENT];
    struct network_fixture on;
    open_unet(&on, false);
    run_one(&on, expected);
    network_fixture_close(&on);
    for (int pinned = 0; pinned < 2; pinned++) {
        uint64_t *left = pinned ? &fake_gpu.fail_pinned_after : &fake_gpu.fail_alloc_after;
        enum ld_code code = LD_E_NOMEM;
        int failures = 0;
        open_unet(&on, true);
        for (uint64_t allowed = 0; code != LD_OK && allowed < 64; allowed++) {
            struct ld_error err = {0};
            *left = allowed;
            code = try_one(&on, eps, &err);
            if (code == LD_OK)
                break;
            assert_int_equal(code, pinned ? LD_E_NOMEM : LD_E_GPU_NOMEM);
            assert_non_null(strstr(err.detail, pinned ? "not enough memory that a GPU can read"
                                                      : "MiB more are needed, 7168 of 8192"));
            assert_false(on.backend->lost);
            failures++;
        }
        assert_int_equal(code, LD_OK);
        assert_true(failures > 2);
        assert_memory_equal(eps, expected, sizeof eps[0]);
        *left = UINT64_MAX;
        for (int i = 0; i < RUNS; i++) {
            run_one(&on, eps);
            assert_memory_equal(eps, expected, sizeof eps);
        }
        network_fixture_close(&on);
    }
}

/* An error for each copy of a run in turn, first while it is walked, then while it is recorded. */
static void a_copy_that_fails_ends_one_run_only(void **state)
{
    (void)state;
    static float expected[ROWS][LATENT], eps[ROWS][LATENT];
    enum { INVALID_VALUE = 1 };
    for (int recording = 0; recording < 2; recording++) {
        struct network_fixture on;
        int failures = 0;
        open_on(&on, true, recording, LD_PART_BIT(LD_PART_UNET));
        run_one(&on, expected);
        fake_gpu.upload_error = INVALID_VALUE;
        for (uint64_t allowed = 0; allowed < 40; allowed += 3) {
            struct ld_error err = {0};
            fake_gpu.fail_upload_after = allowed;
            const enum ld_code code = try_one(&on, eps, &err);
            fake_gpu.fail_upload_after = UINT64_MAX;
            if (code != LD_OK) {
                assert_int_equal(code, LD_E_DEVICE);
                assert_string_equal(err.detail, "the GPU reports an error");
                assert_false(on.backend->lost);
                failures++;
            }
            run_one(&on, eps);
            assert_memory_equal(eps, expected, sizeof eps);
        }
        assert_true(failures > 0);
        assert_true(recording || failures > 10);
        network_fixture_close(&on);
    }
}

static void a_device_lost_in_a_copy_stays_lost(void **state)
{
    (void)state;
    static float eps[ROWS][LATENT];
    struct ld_error err = {0};
    struct network_fixture on;
    open_unet(&on, true);
    run_one(&on, eps);
    fake_gpu.upload_error = FAKE_ILLEGAL_ADDRESS;
    fake_gpu.fail_upload_after = 6;
    assert_int_equal(try_one(&on, eps, &err), LD_E_DEVICE);
    assert_true(on.backend->lost);
    fake_gpu.fail_upload_after = UINT64_MAX;
    assert_int_equal(try_one(&on, eps, &err), LD_E_DEVICE);
    assert_string_equal(err.detail, "the GPU cannot be used any more");
    network_fixture_close(&on);
}

static void a_device_lost_while_it_computes_stays_lost(void **state)
{
    (void)state;
    static float eps[ROWS][LATENT];
    struct ld_error err = {0};
    struct network_fixture on;
    open_unet(&on, true);
    run_one(&on, eps);
    fake_gpu.sync_error = FAKE_ILLEGAL_ADDRESS;
    assert_int_equal(try_one(&on, eps, &err), LD_E_DEVICE);
    assert_true(on.backend->lost);
    fake_gpu.sync_error = 0;
    network_fixture_close(&on);
}

static void without_a_second_stream_loading_says_so(void **state)
{
    (void)state;
    static float eps[ROWS][LATENT];
    struct ld_error err = {0};
    struct network_fixture on;
    open_unet(&on, true);
    fake_gpu.no_streams = true;
    assert_int_equal(ld_model_load(on.model, LD_PART_UNET, &err), LD_E_GPU_NOMEM);
    assert_non_null(strstr(err.detail, "no room on the GPU to be streamed through"));
    fake_gpu.no_streams = false;
    run_one(&on, eps);
    network_fixture_close(&on);
}

/* Copies are part of the graph or there is none. */
static void a_failed_recording_is_made_good_by_a_walk(void **state)
{
    (void)state;
    static float before[ROWS][LATENT], after[ROWS][LATENT];
    struct network_fixture on;
    open_unet(&on, true);
    run_one(&on, before);
    run_one(&on, after);
    fake_gpu.fail_capture = true;
    for (int i = 0; i < 3; i++) {
        run_one(&on, after);
        assert_memory_equal(before, after, sizeof before);
    }
    assert_int_equal(stats_of(&on).recordings_failed, 1);
    assert_int_equal(stats_of(&on).recordings, 0);
    network_fixture_close(&on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fill_inputs, nothing_is_left)
        TEST(streamed_weights_change_no_bit),
        TEST(a_variants_weights_are_streamed_too),
        TEST(the_device_holds_a_ring_instead_of_the_weights),
        TEST(a_larger_weight_makes_the_ring_grow),
        TEST(the_ring_goes_with_the_last_streamed_weight),
        TEST(what_has_no_room_is_streamed_where_it_may_be),
        TEST(a_variant_that_has_no_room_is_streamed_beside_its_model),
        TEST(copies_run_ahead_of_the_operators),
        TEST(a_replay_sends_the_weights_anew),
        TEST(a_cancelled_run_leaves_everything_usable),
        TEST(too_little_memory_is_one_sentence_and_no_end),
        TEST(a_copy_that_fails_ends_one_run_only),
        TEST(a_device_lost_in_a_copy_stays_lost),
        TEST(a_device_lost_while_it_computes_stays_lost),
        TEST(without_a_second_stream_loading_says_so),
        TEST(a_failed_recording_is_made_good_by_a_walk),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
