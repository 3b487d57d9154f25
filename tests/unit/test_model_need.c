/* Proves that the least memory a picture takes is what the engine comes to hold, and no more than
 * any shape of its size holds. How: the table beside what a small model's runs really took of a
 * fake GPU and of the CPU backend, and beside the plans of shapes drawn by chance. */
#include "kernels/cuda/backend.h"
#include "runtime/model/arch.h"
#include "runtime/model/model_need.h"
#include "runtime/model/model_state.h"
#include "tests/cuda/fake_gpu.h"
#include "tests/tools/checkpoint_write.h"
#include "tests/unit/network_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CHUNK = 77, ALL_CHANNELS = 4, SIDE_MIN = 8, SIDE_MAX = 512, SHAPES = 400 };

static struct ld_backend *fake_backend(void)
{
    struct ld_error err = {0};
    struct ld_backend *backend = NULL;
    const struct ld_cuda_options options = {.dtype = LD_DTYPE_F16, .threads = 1};
    fake_gpu_reset();
    if (ld_cuda_backend_create(&backend, &options, &err) != LD_OK)
        fail_msg("%s", err.detail);
    return backend;
}

static struct ld_need plan_for(const struct ld_arch *arch, struct ld_backend *backend,
                               bool streamed)
{
    struct ld_error err = {0};
    struct ld_need need;
    if (ld_need_plan(&need, arch, backend, streamed, &err) != LD_OK)
        fail_msg("%s", err.detail);
    return need;
}

static struct ld_need plan(const struct ld_arch *arch, struct ld_backend *backend)
{
    return plan_for(arch, backend, false);
}

static void set_sd15(struct ld_arch *arch)
{
    memset(arch, 0, sizeof *arch);
    ld_arch_set_sd15(arch);
    arch->has_unet = arch->has_text = arch->has_vae_decoder = true;
}

static uint64_t looked_up(const struct ld_need *need, int32_t height, int32_t width)
{
    return ld_need_of(need, (uint32_t)(height * width));
}

/* ---- The table ------------------------------------------------------------------------------- */

static void steps_rise_over_all_sizes(void **state)
{
    (void)state;
    struct ld_arch arch;
    struct ld_backend *backend = fake_backend();
    set_sd15(&arch);
    const struct ld_need need = plan(&arch, backend);
    assert_true(need.count > 8 && need.count <= LD_NEED_STEPS_MAX);
    assert_int_equal(need.steps[0].positions, SIDE_MIN * SIDE_MIN);
    assert_int_equal(need.steps[need.count - 1].positions, SIDE_MAX * SIDE_MAX);
    for (uint32_t i = 1; i < need.count; i++) {
        assert_true(need.steps[i].positions > need.steps[i - 1].positions);
        assert_true(need.steps[i].bytes >= need.steps[i - 1].bytes);
    }
    /* SD1.5's weights in 16 bits alone are 1.9 GiB; 4096x4096 takes well over 1 GiB more. */
    assert_true(need.steps[0].bytes > (uint64_t)1900 << 20);
    assert_true(need.steps[need.count - 1].bytes > need.steps[0].bytes + ((uint64_t)1 << 30));
    backend->ops->destroy(backend);
}

/* Whatever the size, and on top of all else. */
static void libraries_take_their_scratch(void **state)
{
    (void)state;
    enum { LIBRARIES = 32 << 20 };
    struct ld_arch arch;
    struct ld_error err = {0};
    const struct ld_cuda_options options = {.dtype = LD_DTYPE_F16, .threads = 1};
    struct ld_backend *backend = fake_backend();
    set_sd15(&arch);
    const struct ld_need without = plan(&arch, backend);
    backend->ops->destroy(backend);
    fake_gpu.library_bytes = LIBRARIES;
    assert_int_equal(ld_cuda_backend_create(&backend, &options, &err), LD_OK);
    const struct ld_need with = plan(&arch, backend);
    assert_int_equal(with.count, without.count);
    for (uint32_t i = 0; i < with.count; i++)
        assert_int_equal(with.steps[i].bytes, without.steps[i].bytes + LIBRARIES);
    backend->ops->destroy(backend);
}

static void a_step_is_found_by_its_positions(void **state)
{
    (void)state;
    const struct ld_need need = {.steps = {{64, 100}, {256, 300}}, .count = 2};
    assert_int_equal(ld_need_of(&need, 63), 0);
    assert_int_equal(ld_need_of(&need, 64), 100);
    assert_int_equal(ld_need_of(&need, 255), 100);
    assert_int_equal(ld_need_of(&need, 1 << 20), 300);
}

/* 1.9 GiB of weights go, a ring for the largest of them comes: twice the second upsampling
 * convolution, 1280 channels wide, in both its forms. */
static void streaming_takes_a_ring_instead_of_the_weights(void **state)
{
    (void)state;
    struct ld_arch arch;
    struct ld_backend *backend = fake_backend();
    set_sd15(&arch);
    const struct ld_need resident = plan(&arch, backend);
    const struct ld_need streamed = plan_for(&arch, backend, true);
    const uint64_t upsampler = (uint64_t)1280 * 1280 * (9 + 16) * 2;
    assert_int_equal(streamed.count, resident.count);
    print_message("SD1.5 at 64x64, 512x512 and 1024x1024: %llu, %llu, %llu MiB streamed\n",
                  (unsigned long long)(looked_up(&streamed, 8, 8) >> 20),
                  (unsigned long long)(looked_up(&streamed, 64, 64) >> 20),
                  (unsigned long long)(looked_up(&streamed, 128, 128) >> 20));
    assert_true(streamed.steps[0].bytes > 2 * upsampler);
    assert_true(streamed.steps[0].bytes < 2 * upsampler + ((uint64_t)64 << 20));
    for (uint32_t i = 0; i < streamed.count; i++)
        assert_true(streamed.steps[i].bytes + ((uint64_t)1700 << 20) < resident.steps[i].bytes);
    backend->ops->destroy(backend);
}

static void a_model_without_a_unet_has_none(void **state)
{
    (void)state;
    struct ld_arch arch;
    struct ld_need need;
    struct ld_error err = {0};
    struct ld_backend *backend = fake_backend();
    set_sd15(&arch);
    arch.has_unet = false;
    assert_int_equal(ld_need_plan(&need, &arch, backend, false, &err), LD_E_NOT_FOUND);
    assert_int_equal(need.count, 0);
    backend->ops->destroy(backend);
}

/* ---- Other shapes ---------------------------------------------------------------------------- */

static uint64_t run_bytes(const struct ld_arch *arch, struct ld_backend *backend,
                          const struct ld_plan_key *key)
{
    struct ld_weight_layout layout;
    struct ld_graph graph;
    struct ld_error err = {0};
    ld_weight_layout_init(&layout);
    ld_graph_init(&graph, backend->act_dtype, &layout);
    ld_plan_build(&graph, arch, key);
    if (ld_graph_finish(&graph, &err) != LD_OK)
        fail_msg("%s", err.detail);
    const uint64_t bytes = (uint64_t)graph.scratch_bytes + graph.persistent_bytes +
                           ld_graph_workspace_bytes(&graph, backend->ops);
    ld_graph_deinit(&graph);
    ld_weight_layout_deinit(&layout);
    return bytes;
}

/* The cheapest of the ways that a decoding of this size may go. */
static uint64_t decode_bytes(const struct ld_arch *arch, struct ld_backend *backend, int32_t height,
                             int32_t width)
{
    const int32_t tile_height = height < LD_VAE_TILE_SIDE ? height : LD_VAE_TILE_SIDE;
    const int32_t tile_width = width < LD_VAE_TILE_SIDE ? width : LD_VAE_TILE_SIDE;
    const struct ld_vae_shape ways[] = {
        {.batch = 1, .height = height, .width = width},
        {.batch = 1, .height = height, .width = width, .form = LD_VAE_FORM_STRIPS},
        {.batch = 1, .height = tile_height, .width = tile_width, .form = LD_VAE_FORM_TILE}};
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        const struct ld_plan_key key = {.part = LD_PART_VAE_DECODER, .vae = ways[i]};
        const uint64_t bytes = run_bytes(arch, backend, &key);
        least = bytes < least ? bytes : least;
    }
    return least;
}

static int32_t drawn(uint32_t *state, int32_t from, int32_t to)
{
    *state = *state * 1664525U + 1013904223U;
    return from + (int32_t)((*state >> 8) % (uint32_t)(to - from + 1));
}

/* Every third shape is narrow: for them the halving of odd sides counts most, and tiles least. */
static void no_shape_takes_less_than_its_step(void **state)
{
    (void)state;
    struct ld_arch arch;
    struct ld_backend *backend = fake_backend();
    uint32_t chance = 7;
    set_sd15(&arch);
    const struct ld_need need = plan(&arch, backend);
    struct ld_arch bare = arch;
    bare.has_vae_decoder = false;
    const struct ld_need passes = plan(&bare, backend);
    const struct ld_plan_key least = {.part = LD_PART_UNET, .unet = {1, SIDE_MIN, SIDE_MIN, CHUNK}};
    const uint64_t weights = passes.steps[0].bytes - run_bytes(&arch, backend, &least);
    /* The decoder's weights, 112.5 MiB, by what the whole table has beyond the passes. */
    const uint64_t decoder =
        need.steps[0].bytes - weights - decode_bytes(&arch, backend, SIDE_MIN, SIDE_MIN);
    assert_true(decoder >> 20 > 90 && decoder >> 20 < 130);
    for (int i = 0; i < SHAPES; i++) {
        const int32_t height = drawn(&chance, SIDE_MIN, i % 3 == 0 ? 24 : SIDE_MAX);
        const int32_t width = drawn(&chance, SIDE_MIN, SIDE_MAX);
        const struct ld_plan_key key = {.part = LD_PART_UNET, .unet = {1, height, width, CHUNK}};
        const uint64_t pass = weights + run_bytes(&arch, backend, &key);
        const uint64_t decode = weights + decoder + decode_bytes(&arch, backend, height, width);
        const uint64_t taken = pass > decode ? pass : decode;
        if (taken < looked_up(&need, height, width) || pass < looked_up(&passes, height, width))
            fail_msg("a latent of %dx%d takes %llu bytes, its step says %llu", (int)height,
                     (int)width, (unsigned long long)taken,
                     (unsigned long long)looked_up(&need, height, width));
    }
    backend->ops->destroy(backend);
}

/* ---- What is really taken -------------------------------------------------------------------- */

static struct network_fixture open_parts(bool gpu, uint32_t parts)
{
    struct network_fixture on;
    if (gpu)
        network_fixture_open_on(&on, fake_backend(), parts, ALL_CHANNELS);
    else
        network_fixture_open(&on, 1, parts);
    return on;
}

/* What a run of `key` takes beside weights, all of it before it begins: the arena, the backend's
 * scratch, the plan's keys and values. Sizes of one fixture have to rise. */
static uint64_t prepare(struct network_fixture *on, bool gpu, const struct ld_plan_key *key)
{
    struct ld_error err = {0};
    struct ld_plan *plan;
    struct ld_graph_run run;
    struct ld_cuda_stats stats = {0};
    if (ld_model_prepare(on->model, NULL, key, 0, &plan, &run, &err) != LD_OK)
        fail_msg("%s", err.detail);
    if (gpu)
        ld_cuda_stats(on->backend, &stats);
    return on->model->workspace.scratch_bytes + stats.workspace_bytes +
           plan->graph.persistent_bytes;
}

static uint64_t pass_at(struct network_fixture *on, bool gpu, int32_t side)
{
    const struct ld_plan_key key = {.part = LD_PART_UNET, .unet = {1, side, side, CHUNK}};
    return prepare(on, gpu, &key);
}

static uint64_t decode_in(struct network_fixture *on, enum ld_vae_form form)
{
    const struct ld_plan_key key = {
        .part = LD_PART_VAE_DECODER,
        .vae = {.batch = 1, .height = SIDE_MIN, .width = SIDE_MIN, .form = form}};
    return prepare(on, true, &key);
}

/* On a GPU to the byte, weights and all; the CPU's weights are not told in advance. */
static void a_pass_takes_what_its_step_says(void **state)
{
    (void)state;
    for (int gpu = 0; gpu < 2; gpu++) {
        struct ld_error err = {0};
        struct network_fixture on =
            open_parts(gpu, LD_PART_BIT(LD_PART_UNET) | LD_PART_BIT(LD_PART_TEXT));
        const struct ld_need need = plan(ld_model_arch(on.model), on.backend);
        const uint64_t told = looked_up(&need, SIDE_MIN, SIDE_MIN);
        assert_int_equal(ld_model_load(on.model, LD_PART_TEXT, &err), LD_OK);
        const uint64_t small = pass_at(&on, gpu, SIDE_MIN);
        const uint64_t large = pass_at(&on, gpu, 8 * SIDE_MIN);
        const uint64_t weights = ld_model_weight_bytes(on.model);
        assert_true(large > small);
        assert_int_equal(looked_up(&need, 8 * SIDE_MIN, 8 * SIDE_MIN) - told, large - small);
        assert_true(told <= weights + small);
        if (gpu)
            assert_int_equal(told, weights + small);
        network_fixture_close(&on);
    }
}

static void a_streamed_pass_takes_what_its_step_says(void **state)
{
    (void)state;
    struct ld_error err = {0};
    struct network_fixture on =
        open_parts(true, LD_PART_BIT(LD_PART_UNET) | LD_PART_BIT(LD_PART_TEXT));
    ld_model_stream(on.model);
    const struct ld_need need = plan_for(ld_model_arch(on.model), on.backend, true);
    const uint64_t told = looked_up(&need, SIDE_MIN, SIDE_MIN);
    assert_int_equal(ld_model_load(on.model, LD_PART_TEXT, &err), LD_OK);
    const uint64_t pass = pass_at(&on, true, SIDE_MIN);
    struct ld_cuda_stats stats;
    ld_cuda_stats(on.backend, &stats);
    /* Vectors alone are in slabs, which are larger than what lies in them. */
    assert_true(told > stats.ring_bytes + pass &&
                told <= stats.ring_bytes + pass + stats.slab_bytes);
    network_fixture_close(&on);
}

static void a_decoding_takes_what_its_step_says(void **state)
{
    (void)state;
    struct ld_error err = {0};
    struct network_fixture on =
        open_parts(true, LD_PART_BIT(LD_PART_UNET) | LD_PART_BIT(LD_PART_TEXT) |
                             LD_PART_BIT(LD_PART_VAE_DECODER));
    const struct ld_need need = plan(ld_model_arch(on.model), on.backend);
    for (int part = 0; part < LD_PART_COUNT; part++)
        assert_int_equal(part == LD_PART_VAE_ENCODER || part == LD_PART_CONTROL
                             ? LD_OK
                             : ld_model_load(on.model, (enum ld_part)part, &err),
                         LD_OK);
    const uint64_t strips = decode_in(&on, LD_VAE_FORM_STRIPS);
    const uint64_t whole = decode_in(&on, LD_VAE_FORM_WHOLE);
    assert_true(strips < whole); /* so that each was the largest of its fixture so far */
    assert_int_equal(looked_up(&need, SIDE_MIN, SIDE_MIN),
                     ld_model_weight_bytes(on.model) + strips);
    network_fixture_close(&on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_rise_over_all_sizes),
        cmocka_unit_test(libraries_take_their_scratch),
        cmocka_unit_test(a_step_is_found_by_its_positions),
        cmocka_unit_test(streaming_takes_a_ring_instead_of_the_weights),
        cmocka_unit_test(a_model_without_a_unet_has_none),
        cmocka_unit_test(no_shape_takes_less_than_its_step),
        cmocka_unit_test(a_pass_takes_what_its_step_says),
        cmocka_unit_test(a_streamed_pass_takes_what_its_step_says),
        cmocka_unit_test(a_decoding_takes_what_its_step_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
