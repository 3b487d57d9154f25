/* Proves the CUDA backend's logic without a GPU: recordings, the stage, moments, slabs, errors.
 * How: a small model runs over a fake GPU that puts all work off until somebody waits, and is
 * compared with itself walked step by step and with the CPU. */
#include "kernels/cuda/backend.h"
#include "tests/cuda/fake_gpu.h"
#include "tests/tools/checkpoint_write.h"
#include "tests/unit/network_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { H = 4, W = 4, LATENT = 4 * H * W, CHUNK = 77, ROWS = 3, ALL_CHANNELS = 4 };

static float inputs[ROWS][LATENT];
static float contexts[ROWS][2 * CHUNK * FIXTURE_WIDTH];
static const int32_t lengths[ROWS] = {CHUNK, 2 * CHUNK, CHUNK};
static const float times[ROWS] = {981, 3.5F, 420.25F};
static const float scales[ROWS] = {0.07F, 1, 0.5F};

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

/* Every test gives everything back. */
static int nothing_is_left(void **state)
{
    (void)state;
    return fake_gpu.live_allocations == 0 && fake_gpu.live_graphs == 0 ? 0 : -1;
}

static void open_with(struct network_fixture *on, const struct ld_cuda_options *given,
                      uint32_t parts)
{
    struct ld_error err = {0};
    struct ld_backend *backend = NULL;
    struct ld_cuda_options options = *given;
    options.dtype = options.dtype ? options.dtype : LD_DTYPE_F16;
    options.threads = 2;
    if (ld_cuda_backend_create(&backend, &options, &err) != LD_OK)
        fail_msg("%s", err.detail);
    network_fixture_open_on(on, backend, parts, ALL_CHANNELS);
}

static void open_unet(struct network_fixture *on)
{
    open_with(on, &(struct ld_cuda_options){0}, LD_PART_BIT(LD_PART_UNET));
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

static enum ld_code try_rows(struct network_fixture *on, struct ld_variant *variant,
                             const struct ld_unet_row *rows, uint32_t count,
                             const struct ld_cancel *cancel, struct ld_error *err)
{
    const struct ld_unet_request request = {
        .rows = rows, .row_count = count, .height = H, .width = W, .cancel = cancel};
    return ld_model_unet(on->model, variant, &request, err);
}

static void run_rows(struct network_fixture *on, struct ld_variant *variant,
                     const struct ld_unet_row *rows, uint32_t count)
{
    struct ld_error err = {0};
    if (try_rows(on, variant, rows, count, NULL, &err) != LD_OK)
        fail_msg("%s", err.detail);
}

static void run_one(struct network_fixture *on, uint32_t r, float *eps)
{
    const struct ld_unet_row row = row_of(r, eps);
    run_rows(on, NULL, &row, 1);
}

static struct ld_cuda_stats stats_of(const struct network_fixture *on)
{
    struct ld_cuda_stats stats;
    ld_cuda_stats(on->backend, &stats);
    return stats;
}

/* ---- Recordings ------------------------------------------------------------------------------ */

static void a_plan_is_walked_recorded_and_replayed_with_equal_bits(void **state)
{
    (void)state;
    static float first[LATENT];
    static float again[LATENT];
    struct network_fixture on;
    open_unet(&on);
    run_one(&on, 0, first);
    for (int i = 0; i < 5; i++) {
        memset(again, 0, sizeof again);
        run_one(&on, 0, again);
        assert_memory_equal(first, again, sizeof first);
    }
    /* Once with the context's keys and values, once without them, then recorded, then replayed. */
    const struct ld_cuda_stats stats = stats_of(&on);
    assert_int_equal(stats.walks, 2);
    assert_int_equal(stats.recordings, 1);
    assert_int_equal(stats.replays, 3);
    network_fixture_close(&on);
}

struct meanwhile {
    const float *eps;
    uint32_t calls, early; /* before the result was there */
};

static void count_call(void *ctx)
{
    struct meanwhile *seen = ctx;
    seen->calls++;
    seen->early += seen->eps[0] == 0 && memcmp(seen->eps, seen->eps + 1, (LATENT - 1) * 4) == 0;
}

static void the_caller_works_once_a_run_while_the_device_computes(void **state)
{
    (void)state;
    static float eps[LATENT];
    static float quiet[LATENT];
    struct ld_error err = {0};
    struct network_fixture on;
    struct meanwhile seen = {.eps = eps};
    const struct ld_unet_row row = row_of(0, eps);
    const struct ld_unet_request request = {.rows = &row,
                                            .row_count = 1,
                                            .height = H,
                                            .width = W,
                                            .meanwhile = {.act = count_call, .ctx = &seen}};
    open_unet(&on);
    run_one(&on, 0, quiet);
    for (uint32_t i = 1; i <= 4; i++) { /* walked, recorded, replayed */
        memset(eps, 0, sizeof eps);
        assert_int_equal(ld_model_unet(on.model, NULL, &request, &err), LD_OK);
        assert_int_equal(seen.calls, i);
        assert_int_equal(seen.early, i);
        assert_memory_equal(eps, quiet, sizeof eps);
    }
    network_fixture_close(&on);
}

static void keys_and_values_are_computed_once_a_prompt(void **state)
{
    (void)state;
    static float eps[2][LATENT];
    struct ld_unet_row rows[2];
    struct network_fixture on;
    open_unet(&on);
    for (uint32_t r = 0; r < 2; r++)
        rows[r] = row_of(r, eps[r]);
    for (int step = 0; step < 6; step++) { /* the latent and the time change, the prompts do not */
        rows[0].x = inputs[step % ROWS];
        rows[0].t = times[0] - (float)step;
        run_rows(&on, NULL, rows, 2);
    }
    assert_int_equal(stats_of(&on).prologues, 1);
    assert_int_equal(stats_of(&on).prologues_skipped, 5);
    rows[0].context = contexts[2];
    for (int step = 0; step < 3; step++)
        run_rows(&on, NULL, rows, 2);
    assert_int_equal(stats_of(&on).prologues, 2);
    network_fixture_close(&on);
}

static void a_replay_takes_its_own_inputs(void **state)
{
    (void)state;
    static float walked[LATENT];
    static float replayed[LATENT];
    struct network_fixture on;
    struct network_fixture plain;
    open_unet(&on);
    open_with(&plain, &(struct ld_cuda_options){.no_recording = true}, LD_PART_BIT(LD_PART_UNET));
    for (int i = 0; i < 4; i++)
        run_one(&on, 0, replayed);
    struct ld_unet_row row = row_of(0, replayed);
    row.x = inputs[2];
    row.t = 12;
    row.scale = 0.3F;
    run_rows(&on, NULL, &row, 1);
    assert_int_equal(stats_of(&on).replays, 2);
    row.eps = walked;
    run_rows(&plain, NULL, &row, 1);
    assert_int_equal(stats_of(&plain).recordings, 0);
    assert_memory_equal(walked, replayed, sizeof walked);
    network_fixture_close(&plain);
    network_fixture_close(&on);
}

enum { ADD_BATCH = 3, ADD_COUNT = 5, ADD_ALL = ADD_BATCH * ADD_COUNT };

/* x, z and their sum on the device; what the host says of them is gone before anybody waits. */
static void run_add_scaled(struct ld_backend *backend, const struct ld_run_id *id,
                           void *const maps[3], const float *const planes[2],
                           const float scale[ADD_BATCH], float out[ADD_ALL])
{
    struct ld_error err = {0};
    bool again = true;
    float passing[ADD_BATCH];
    memcpy(passing, scale, sizeof passing);
    assert_int_equal(backend->ops->run_begin(backend, id, &err), LD_OK);
    for (int i = 0; i < 2; i++) {
        const struct ld_planes_in in = {.planes = planes[i],
                                        .batch = ADD_BATCH,
                                        .channels = 1,
                                        .height = 1,
                                        .width = ADD_COUNT,
                                        .y = maps[i]};
        assert_int_equal(backend->ops->planes_in(backend, &in, &err), LD_OK);
    }
    const struct ld_add_scaled add = {.x = maps[0],
                                      .z = maps[1],
                                      .scale = passing,
                                      .batch = ADD_BATCH,
                                      .count = ADD_COUNT,
                                      .y = maps[2]};
    assert_int_equal(backend->ops->add_scaled(backend, &add, &err), LD_OK);
    memset(passing, 0x55, sizeof passing);
    const struct ld_planes_out back = {.x = maps[2],
                                       .batch = ADD_BATCH,
                                       .channels = 1,
                                       .height = 1,
                                       .width = ADD_COUNT,
                                       .planes = out};
    assert_int_equal(backend->ops->planes_out(backend, &back, &err), LD_OK);
    assert_int_equal(backend->ops->run_end(backend, true, &again, &err), LD_OK);
    assert_false(again);
    assert_int_equal(backend->ops->synchronize(backend, &err), LD_OK);
}

static float f16_of(float value)
{
    return ld_f16_to_f32(ld_f16_from_f32(value));
}

static void expect_sums(const float *x, const float *z, const float *scale, const float *y)
{
    for (size_t i = 0; i < ADD_ALL; i++) {
        const float factor = scale[i / ADD_COUNT];
        const float product = factor * f16_of(z[i]);
        const float want = factor == 0 ? f16_of(x[i]) : f16_of(f16_of(x[i]) + product);
        assert_memory_equal(&y[i], &want, sizeof want);
    }
}

static void a_replay_adds_with_its_own_scales(void **state)
{
    (void)state;
    enum { RUNS = 6 };
    static const float scale[RUNS][ADD_BATCH] = {{1, 0.5F, -2},    {0.3F, 0, 1},  {0, 0, 0},
                                                 {0, 0.25F, 1.5F}, {1, 0, -0.7F}, {0.1F, 0.2F, 0}};
    const struct ld_cuda_options options = {.dtype = LD_DTYPE_F16, .threads = 1};
    const struct ld_run_id id = {.plan = 7, .recordable = true, .operators = 4};
    struct ld_error err = {0};
    struct ld_cuda_stats stats;
    struct ld_backend *backend = NULL;
    void *maps[3];
    float x[ADD_ALL];
    float z[ADD_ALL];
    float y[ADD_ALL];
    assert_int_equal(ld_cuda_backend_create(&backend, &options, &err), LD_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(backend->ops->memory_alloc(backend, ADD_ALL * 2, &maps[i], &err), LD_OK);
    network_fill(x, ADD_ALL, 30);
    network_fill(z, ADD_ALL, 31);
    x[ADD_COUNT] = -0.0F;
    for (int run = 0; run < RUNS; run++) {
        for (size_t i = 0; i < ADD_BATCH; i++)
            z[i * ADD_COUNT] = scale[run][i] == 0 ? NAN : 0.0F;
        memset(y, 0x55, sizeof y);
        run_add_scaled(backend, &id, maps, (const float *const[2]){x, z}, scale[run], y);
        expect_sums(x, z, scale[run], y);
    }
    /* The first one finds the stage's size, the third is recorded. */
    ld_cuda_stats(backend, &stats);
    assert_int_equal(stats.walks, 2);
    assert_int_equal(stats.recordings, 1);
    assert_int_equal(stats.replays, RUNS - 3);
    const struct ld_add_scaled bare = {
        .x = maps[0], .z = maps[1], .batch = 1, .count = 1, .y = maps[2]};
    assert_int_equal(backend->ops->add_scaled(backend, &bare, &err), LD_E_SHAPE);
    for (int i = 0; i < 3; i++)
        backend->ops->memory_free(backend, maps[i], ADD_ALL * 2);
    backend->ops->destroy(backend);
}

static void no_run_allocates_once_a_plan_has_been_walked(void **state)
{
    (void)state;
    static float eps[LATENT];
    struct network_fixture on;
    open_unet(&on);
    run_one(&on, 0, eps);
    const uint64_t allocations = stats_of(&on).device_allocations;
    for (int i = 0; i < 4; i++)
        run_one(&on, 0, eps);
    assert_int_equal(stats_of(&on).device_allocations, allocations);
    network_fixture_close(&on);
}

static void a_cancelled_recording_leaves_everything_usable(void **state)
{
    (void)state;
    static float before[LATENT];
    static float after[LATENT];
    struct ld_cancel cancel = {.requested = true};
    struct ld_error err = {0};
    struct network_fixture on;
    open_unet(&on);
    run_one(&on, 0, before);
    const struct ld_unet_row row = row_of(0, after);
    for (int i = 0; i < 4; i++) {
        run_one(&on, 0, after);
        assert_memory_equal(before, after, sizeof before);
        assert_int_equal(try_rows(&on, NULL, &row, 1, &cancel, &err), LD_E_CANCELLED);
    }
    network_fixture_close(&on);
}

static void a_failed_recording_is_made_good_by_a_walk(void **state)
{
    (void)state;
    static float before[LATENT];
    static float after[LATENT];
    struct network_fixture on;
    open_unet(&on);
    run_one(&on, 0, before);
    run_one(&on, 0, after);
    fake_gpu.fail_capture = true;
    for (int i = 0; i < 3; i++) {
        memset(after, 0, sizeof after);
        run_one(&on, 0, after);
        assert_memory_equal(before, after, sizeof before);
    }
    const struct ld_cuda_stats stats = stats_of(&on);
    assert_int_equal(stats.recordings_failed, 1);
    assert_int_equal(stats.recordings, 0);
    assert_int_equal(stats.walks, 5);
    network_fixture_close(&on);
}

static void where_nothing_can_be_recorded_plans_are_walked(void **state)
{
    (void)state;
    static float before[LATENT];
    static float after[LATENT];
    struct network_fixture on;
    open_unet(&on);
    fake_gpu.refuse_capture = true;
    run_one(&on, 0, before);
    for (int i = 0; i < 4; i++)
        run_one(&on, 0, after);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(stats_of(&on).walks, 5);
    network_fixture_close(&on);
}

static void recordings_stay_within_their_budget(void **state)
{
    (void)state;
    static float eps[ROWS][LATENT];
    struct ld_unet_row rows[ROWS];
    struct network_fixture on;
    open_with(&on, &(struct ld_cuda_options){.recording_bytes_max = 1}, LD_PART_BIT(LD_PART_UNET));
    for (uint32_t r = 0; r < ROWS; r++)
        rows[r] = row_of(r, eps[r]);
    for (int round = 0; round < 3; round++)
        for (uint32_t count = 1; count <= ROWS; count++)
            for (int i = 0; i < 3; i++)
                run_rows(&on, NULL, rows, count);
    const struct ld_cuda_stats stats = stats_of(&on);
    assert_true(stats.recordings > 3);
    assert_int_equal(stats.recordings - stats.recordings_dropped, 1);
    assert_int_equal(fake_gpu.live_graphs, 1);
    network_fixture_close(&on);
}

/* ---- Results --------------------------------------------------------------------------------- */

static void a_mixed_batch_equals_its_rows_alone(void **state)
{
    (void)state;
    static float alone[ROWS][LATENT];
    static float together[ROWS][LATENT];
    struct ld_unet_row rows[ROWS];
    struct network_fixture on;
    open_unet(&on);
    for (uint32_t r = 0; r < ROWS; r++) {
        run_one(&on, r, alone[r]);
        rows[r] = row_of(r, together[r]);
    }
    for (int i = 0; i < 4; i++) {
        memset(together, 0, sizeof together);
        run_rows(&on, NULL, rows, ROWS);
        assert_memory_equal(alone, together, sizeof alone);
    }
    network_fixture_close(&on);
}

/* kernels.md 15: one evaluation within 1e-2 (fp16), 4e-2 (bf16) of float32. */
static void networks_are_as_close_to_the_cpu_as_rounding_allows(void **state)
{
    (void)state;
    static const struct {
        enum ld_dtype dtype;
        double limit;
    } types[] = {{LD_DTYPE_F16, 1e-2}, {LD_DTYPE_BF16, 4e-2}};
    static float expected[LATENT];
    static float got[LATENT];
    static float picture_expected[3 * 64 * H * W];
    static float picture_got[3 * 64 * H * W];
    static float moments_expected[2 * LATENT];
    static float moments_got[2 * LATENT];
    static float text_expected[CHUNK * FIXTURE_WIDTH];
    static float text_got[CHUNK * FIXTURE_WIDTH];
    int32_t ids[CHUNK];
    struct ld_error err = {0};
    struct network_fixture cpu;
    for (int32_t i = 0; i < CHUNK; i++)
        ids[i] = i * 37 % 600;
    const struct ld_text_request text = {.ids = ids, .chunks = 1, .skip = 2};
    network_fixture_open(&cpu, 2, LD_PARTS_ALL);
    run_one(&cpu, 0, expected);
    assert_int_equal(ld_model_decode(cpu.model, inputs[0], H, W, 1, NULL, picture_expected, &err),
                     LD_OK);
    assert_int_equal(ld_model_encode_image(cpu.model, picture_expected, 8 * H, 8 * W, NULL,
                                           moments_expected, &err),
                     LD_OK);
    assert_int_equal(ld_model_encode_text(cpu.model, NULL, &text, text_expected, &err), LD_OK);
    for (size_t t = 0; t < 2; t++) {
        struct network_fixture on;
        open_with(&on, &(struct ld_cuda_options){.dtype = types[t].dtype}, LD_PARTS_ALL);
        run_one(&on, 0, got);
        assert_int_equal(ld_model_decode(on.model, inputs[0], H, W, 1, NULL, picture_got, &err),
                         LD_OK);
        assert_int_equal(ld_model_encode_image(on.model, picture_expected, 8 * H, 8 * W, NULL,
                                               moments_got, &err),
                         LD_OK);
        assert_int_equal(ld_model_encode_text(on.model, NULL, &text, text_got, &err), LD_OK);
        const double errors[] = {
            network_distance(got, expected, LATENT),
            network_distance(picture_got, picture_expected, 3 * 64 * H * W),
            network_distance(moments_got, moments_expected, (size_t)2 * LATENT),
            network_distance(text_got, text_expected, (size_t)CHUNK * FIXTURE_WIDTH),
        };
        print_message("%s: UNet %.2g, decoder %.2g, encoder %.2g, text %.2g\n",
                      ld_dtype_name(types[t].dtype), errors[0], errors[1], errors[2], errors[3]);
        for (size_t i = 0; i < 4; i++)
            assert_true(errors[i] < types[t].limit);
        network_fixture_close(&on);
    }
    network_fixture_close(&cpu);
}

static void norms_use_what_their_writers_left(void **state)
{
    (void)state;
    static float with[LATENT];
    static float without[LATENT];
    struct network_fixture on;
    open_unet(&on);
    run_one(&on, 0, with);
    const struct ld_cuda_stats stats = stats_of(&on);
    /* Every group norm of this UNet reads what a convolution or a projection wrote. */
    assert_true(stats.norms > 40);
    assert_int_equal(stats.norms_with_moments, stats.norms);
    assert_int_equal(fake_gpu.norms_with_moments, stats.norms);
    fake_gpu.no_moments = true;
    run_one(&on, 0, without);
    assert_int_equal(fake_gpu.norms_with_moments, stats.norms);
    assert_true(network_distance(with, without, LATENT) < 1e-3);
    network_fixture_close(&on);
}

static void count_block(void *ctx, const char *name, const float *planes, int32_t batch,
                        int32_t channels, int32_t height, int32_t width)
{
    const size_t count = (size_t)batch * (size_t)channels * (size_t)height * (size_t)width;
    (void)name;
    for (size_t i = 0; i < count; i++)
        assert_true(isfinite(planes[i]));
    ++*(int *)ctx;
}

/* Blocks are fetched between operators: such runs are walked, and say the same. */
static void a_run_that_is_looked_at_is_walked(void **state)
{
    (void)state;
    static float first[LATENT];
    static float again[LATENT];
    int blocks = 0;
    struct network_fixture on;
    const struct ld_graph_tap_sink sink = {.ctx = &blocks, .take = count_block};
    open_unet(&on);
    for (int i = 0; i < 4; i++)
        run_one(&on, 0, first);
    const struct ld_cuda_stats before = stats_of(&on);
    ld_model_set_tap(on.model, &sink);
    run_one(&on, 0, again);
    ld_model_set_tap(on.model, NULL);
    assert_memory_equal(first, again, sizeof first);
    assert_true(blocks > 20); /* the timestep vector and every block */
    assert_int_equal(stats_of(&on).walks, before.walks + 1);
    run_one(&on, 0, again);
    assert_memory_equal(first, again, sizeof first);
    network_fixture_close(&on);
}

static void vectors_of_a_prompt_reach_a_replay(void **state)
{
    (void)state;
    static float walked[CHUNK * FIXTURE_WIDTH];
    static float replayed[CHUNK * FIXTURE_WIDTH];
    static float values[2][FIXTURE_WIDTH];
    const float *vectors[CHUNK] = {NULL};
    int32_t ids[CHUNK] = {0};
    struct ld_error err = {0};
    struct network_fixture on;
    struct network_fixture plain;
    network_fill(values[0], FIXTURE_WIDTH, 5);
    network_fill(values[1], FIXTURE_WIDTH, 6);
    open_with(&on, &(struct ld_cuda_options){0}, LD_PART_BIT(LD_PART_TEXT));
    open_with(&plain, &(struct ld_cuda_options){.no_recording = true}, LD_PART_BIT(LD_PART_TEXT));
    const struct ld_text_request request = {.ids = ids, .chunks = 1, .skip = 1, .vectors = vectors};
    vectors[4] = values[0];
    for (int i = 0; i < 4; i++)
        assert_int_equal(ld_model_encode_text(on.model, NULL, &request, replayed, &err), LD_OK);
    assert_int_equal(stats_of(&on).recordings, 1);
    const uint64_t replays = stats_of(&on).replays;
    vectors[2] = values[1]; /* one more, and before the other */
    ids[7] = 11;
    assert_int_equal(ld_model_encode_text(on.model, NULL, &request, replayed, &err), LD_OK);
    assert_int_equal(ld_model_encode_text(plain.model, NULL, &request, walked, &err), LD_OK);
    assert_int_equal(stats_of(&on).replays, replays + 1);
    assert_memory_equal(walked, replayed, sizeof walked);
    network_fixture_close(&plain);
    network_fixture_close(&on);
}

/* A library has given up what a recording holds: it is not launched, the plan is walked again. */
static void a_library_that_gives_plans_up_takes_recordings_along(void **state)
{
    (void)state;
    static float before[LATENT];
    static float after[LATENT];
    struct network_fixture on;
    open_unet(&on);
    for (int i = 0; i < 4; i++)
        run_one(&on, 0, before);
    const struct ld_cuda_stats recorded = stats_of(&on);
    assert_true(recorded.replays > 0 && recorded.recordings_dropped == 0);
    fake_gpu.tuner_lost++;
    run_one(&on, 0, after);
    assert_int_equal(stats_of(&on).replays, recorded.replays);
    assert_int_equal(stats_of(&on).walks, recorded.walks + 1);
    assert_int_equal(stats_of(&on).recordings_dropped, 1);
    assert_memory_equal(before, after, sizeof before);
    for (int i = 0; i < 2; i++)
        run_one(&on, 0, after); /* recorded once more, then launched from that */
    assert_int_equal(stats_of(&on).replays, recorded.replays + 1);
    assert_memory_equal(before, after, sizeof before);
    network_fixture_close(&on);
}

/* ---- Weights --------------------------------------------------------------------------------- */

static void a_variant_has_recordings_and_memory_of_its_own(void **state)
{
    (void)state;
    static float base[LATENT];
    static float varied[LATENT];
    static float after[LATENT];
    static const char name[] =
        "model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_v.weight";
    struct ld_error err = {0};
    struct ld_weights *overlay;
    struct ld_variant *variant;
    struct network_fixture on;
    open_unet(&on);
    for (int i = 0; i < 4; i++)
        run_one(&on, 0, base);
    const size_t slabs = stats_of(&on).slab_bytes;
    assert_true(slabs >= ld_model_weight_bytes(on.model));
    assert_int_equal(ld_weights_overlay(&overlay, ld_model_weights(on.model), &err), LD_OK);
    float *values = ld_weights_edit(overlay, name);
    assert_non_null(values);
    for (size_t i = 0; i < (size_t)64 * 64; i++)
        values[i] *= -3;
    assert_int_equal(ld_variant_create(&variant, on.model, overlay, &err), LD_OK);
    assert_int_equal(ld_variant_load(variant, &err), LD_OK);
    ld_weights_close(overlay);
    const struct ld_unet_row row = row_of(0, varied);
    for (int i = 0; i < 4; i++) {
        run_rows(&on, variant, &row, 1);
        assert_memory_not_equal(base, varied, sizeof base);
    }
    run_one(&on, 0, after);
    assert_memory_equal(base, after, sizeof base);
    ld_variant_destroy(variant);
    run_one(&on, 0, after);
    assert_memory_equal(base, after, sizeof base);
    network_fixture_close(&on);
}

/* ---- Errors ---------------------------------------------------------------------------------- */

static void a_lost_device_is_told_and_stays_lost(void **state)
{
    (void)state;
    static float eps[LATENT];
    struct ld_error err = {0};
    struct network_fixture on;
    open_unet(&on);
    run_one(&on, 0, eps);
    const struct ld_unet_row row = row_of(0, eps);
    fake_gpu.sync_error = FAKE_ILLEGAL_ADDRESS;
    assert_int_equal(try_rows(&on, NULL, &row, 1, NULL, &err), LD_E_DEVICE);
    assert_true(on.backend->lost);
    assert_int_equal(try_rows(&on, NULL, &row, 1, NULL, &err), LD_E_DEVICE);
    fake_gpu.sync_error = 0;
    assert_int_equal(try_rows(&on, NULL, &row, 1, NULL, &err), LD_E_DEVICE);
    network_fixture_close(&on);
}

static void a_passing_error_ends_one_run_only(void **state)
{
    (void)state;
    static float before[LATENT];
    static float after[LATENT];
    struct ld_error err = {0};
    struct network_fixture on;
    open_unet(&on);
    run_one(&on, 0, before);
    const struct ld_unet_row row = row_of(0, after);
    for (int i = 0; i < 5; i++) {
        fake_gpu.sync_error = 46; /* cudaErrorDevicesUnavailable: no sticky one */
        assert_int_equal(try_rows(&on, NULL, &row, 1, NULL, &err), LD_E_DEVICE);
        assert_false(on.backend->lost);
        run_one(&on, 0, after);
        assert_memory_equal(before, after, sizeof before);
    }
    network_fixture_close(&on);
}

static void too_little_memory_is_one_sentence_and_no_end(void **state)
{
    (void)state;
    static float eps[LATENT];
    struct network_fixture on;
    open_unet(&on);
    const struct ld_unet_row row = row_of(0, eps);
    enum ld_code code = LD_E_GPU_NOMEM;
    int failures = 0;
    /* Whichever allocation fails: weights, workspace, stage, activations. */
    for (uint64_t allowed = 0; code != LD_OK && allowed < 64; allowed++) {
        struct ld_error err = {0};
        fake_gpu.fail_alloc_after = allowed;
        code = try_rows(&on, NULL, &row, 1, NULL, &err);
        if (code != LD_OK) {
            assert_int_equal(code, LD_E_GPU_NOMEM);
            assert_non_null(strstr(err.detail, "MiB more are needed, 7168 of 8192 MiB are free"));
            failures++;
        }
    }
    assert_int_equal(code, LD_OK);
    assert_true(failures > 2);
    fake_gpu.fail_alloc_after = UINT64_MAX;
    run_one(&on, 0, eps);
    network_fixture_close(&on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fill_inputs, nothing_is_left)
        TEST(a_plan_is_walked_recorded_and_replayed_with_equal_bits),
        TEST(the_caller_works_once_a_run_while_the_device_computes),
        TEST(keys_and_values_are_computed_once_a_prompt),
        TEST(a_replay_takes_its_own_inputs),
        TEST(a_replay_adds_with_its_own_scales),
        TEST(no_run_allocates_once_a_plan_has_been_walked),
        TEST(a_cancelled_recording_leaves_everything_usable),
        TEST(a_failed_recording_is_made_good_by_a_walk),
        TEST(where_nothing_can_be_recorded_plans_are_walked),
        TEST(recordings_stay_within_their_budget),
        TEST(a_mixed_batch_equals_its_rows_alone),
        TEST(networks_are_as_close_to_the_cpu_as_rounding_allows),
        TEST(norms_use_what_their_writers_left),
        TEST(a_run_that_is_looked_at_is_walked),
        TEST(vectors_of_a_prompt_reach_a_replay),
        TEST(a_library_that_gives_plans_up_takes_recordings_along),
        TEST(a_variant_has_recordings_and_memory_of_its_own),
        TEST(a_lost_device_is_told_and_stays_lost),
        TEST(a_passing_error_ends_one_run_only),
        TEST(too_little_memory_is_one_sentence_and_no_end),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
