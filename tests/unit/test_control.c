/* Proves that rows with ControlNets take what their own hints and strengths say and nothing else.
 * How: a small model and ControlNets of random weights, on the CPU and on the CUDA backend over a
 * fake GPU; what must make no difference (company, a strength of zero, a hint computed before, a
 * recording) is compared bit for bit, and what must make one is shown to. That the numbers are
 * right is shown by tests/pipeline/test_control.py. */
#include "kernels/cuda/backend.h"
#include "runtime/model/control.h"
#include "tests/cuda/fake_gpu.h"
#include "tests/tools/checkpoint_write.h"
#include "tests/unit/network_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { H = 5, W = 6, LATENT = 4 * H * W, HINT = 3 * 64 * H * W, CHUNK = 77, ROWS = 4, NETS = 2 };

static struct network_fixture on;
static struct ld_model *nets[NETS];
static float inputs[ROWS][LATENT];
static float contexts[ROWS][CHUNK * FIXTURE_WIDTH];
static float hints[ROWS][HINT];
static const float times[ROWS] = {981, 3.5F, 420.25F, 700};

static void fill_inputs(void)
{
    for (uint32_t r = 0; r < ROWS; r++) {
        network_fill(inputs[r], LATENT, 10 + r);
        network_fill(contexts[r], CHUNK * FIXTURE_WIDTH, 20 + r);
        network_fill(hints[r], HINT, 30 + r);
    }
}

static int open_on(struct ld_backend *backend)
{
    network_fixture_open_on(&on, backend, LD_PART_BIT(LD_PART_UNET), LD_LATENT_CHANNELS);
    for (uint64_t i = 0; i < NETS; i++)
        nets[i] = network_fixture_control(&on, 1 + i);
    fill_inputs();
    return 0;
}

static int open_cpu(void **state)
{
    (void)state;
    struct ld_error err = {0};
    struct ld_backend *backend = NULL;
    return ld_cpu_backend_create(&backend, 2, LD_CPU_AUTO, &err) == LD_OK ? open_on(backend) : -1;
}

static int open_cuda(void **state)
{
    (void)state;
    const struct ld_cuda_options options = {.dtype = LD_DTYPE_F16, .threads = 2};
    struct ld_error err = {0};
    struct ld_backend *backend = NULL;
    fake_gpu_reset();
    return ld_cuda_backend_create(&backend, &options, &err) == LD_OK ? open_on(backend) : -1;
}

static int close_all(void **state)
{
    (void)state;
    for (int i = 0; i < NETS; i++)
        ld_model_destroy(nets[i]);
    network_fixture_close(&on);
    return fake_gpu.live_allocations == 0 && fake_gpu.live_graphs == 0 ? 0 : -1;
}

/* ---- Rows ------------------------------------------------------------------------------------ */

/* A row, its hints (one a ControlNet) and where its result goes. */
struct row {
    uint32_t input, hint[NETS];
    float strength[NETS][LD_CONTROL_OUTPUTS_MAX];
    float eps[LATENT];
};

static struct row row_of(uint32_t input, uint32_t hint, float strength)
{
    struct row row = {.input = input};
    for (uint32_t net = 0; net < NETS; net++) {
        row.hint[net] = (hint + net) % ROWS;
        for (int i = 0; i < LD_CONTROL_OUTPUTS_MAX; i++)
            row.strength[net][i] = strength;
    }
    return row;
}

static enum ld_code try_with(struct row *rows, uint32_t count, struct ld_model *const *controls,
                             struct ld_unet_options options, struct ld_error *err)
{
    struct ld_unet_row given[ROWS];
    struct ld_unet_hint of[ROWS][NETS];
    for (uint32_t r = 0; r < count; r++) {
        for (uint32_t net = 0; net < NETS; net++)
            of[r][net] = (struct ld_unet_hint){.planes = hints[rows[r].hint[net]],
                                               .serial = 1 + rows[r].hint[net],
                                               .strength = rows[r].strength[net]};
        given[r] = (struct ld_unet_row){.x = inputs[rows[r].input],
                                        .scale = 0.5F,
                                        .t = times[rows[r].input],
                                        .context = contexts[rows[r].input],
                                        .context_tokens = CHUNK,
                                        .hints = of[r],
                                        .eps = rows[r].eps};
    }
    const struct ld_unet_request request = {.rows = given,
                                            .row_count = count,
                                            .height = H,
                                            .width = W,
                                            .options = options,
                                            .controls = controls};
    return ld_model_unet(on.model, NULL, &request, err);
}

static void run_with(struct row *rows, uint32_t count, struct ld_unet_options options)
{
    struct ld_error err = {0};
    if (try_with(rows, count, nets, options, &err) != LD_OK)
        fail_msg("%s", err.detail);
}

static void run(struct row *rows, uint32_t count, int32_t controls)
{
    run_with(rows, count, (struct ld_unet_options){.controls = controls});
}

static void equal(const struct row *a, const struct row *b)
{
    assert_memory_equal(a->eps, b->eps, sizeof a->eps);
}

/* Far enough to be no rounding, even of half precision. */
static void apart(const struct row *a, const struct row *b)
{
    assert_true(network_distance(a->eps, b->eps, LATENT) > 1e-3);
}

/* ---- Proofs ---------------------------------------------------------------------------------- */

static void no_strength_is_no_controlnet(void **state)
{
    (void)state;
    struct row plain = row_of(0, 0, 0);
    struct row silent = row_of(0, 1, 0);
    struct row loud = row_of(0, 1, 1);
    run(&plain, 1, 0);
    run(&silent, 1, 2);
    equal(&silent, &plain);
    run(&loud, 1, 2);
    apart(&loud, &plain);
}

static void company_changes_no_bit(void **state)
{
    (void)state;
    struct row alone[ROWS];
    struct row together[ROWS];
    for (uint32_t r = 0; r < ROWS; r++) {
        alone[r] = together[r] = row_of(r, (3 * r) % ROWS, 0.25F * (float)(r + 1));
        run(&alone[r], 1, 2);
    }
    run(together, ROWS, 2);
    for (uint32_t r = 0; r < ROWS; r++)
        equal(&together[r], &alone[r]);
}

/* A plan keeps what it has made of hints and contexts: of these, and until another comes. */
static void what_is_kept_of_a_hint_is_that_hints(void **state)
{
    (void)state;
    struct row first = row_of(1, 0, 1);
    struct row again = first;
    struct row other = row_of(1, 2, 1);
    struct row back = first;
    struct row weaker = row_of(1, 0, 0.5F);
    run(&first, 1, 1);
    for (int i = 0; i < 4; i++) { /* walked, recorded, replayed */
        memset(again.eps, 0, sizeof again.eps);
        run(&again, 1, 1);
        equal(&again, &first);
    }
    run(&other, 1, 1);
    apart(&other, &first);
    run(&back, 1, 1);
    equal(&back, &first);
    run(&weaker, 1, 1);
    apart(&weaker, &first);
}

/* One plan serves all ControlNets; nothing of one must stay for the next. */
static void another_controlnet_is_another(void **state)
{
    (void)state;
    struct ld_error err = {0};
    struct row first = row_of(2, 1, 1);
    struct row second = first;
    struct row back = first;
    const struct ld_unet_options options = {.controls = 1};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(try_with(&first, 1, &nets[0], options, &err), LD_OK);
        assert_int_equal(try_with(&second, 1, &nets[1], options, &err), LD_OK);
        apart(&second, &first);
        assert_int_equal(try_with(&back, 1, &nets[0], options, &err), LD_OK);
        equal(&back, &first);
    }
}

static void deep_shrink_acts_in_both(void **state)
{
    (void)state;
    for (int32_t block = 0; block < 12; block++) {
        struct row with = row_of(3, 1, 1);
        struct row without = with;
        struct ld_unet_options options = {.controls = 1,
                                          .shrink = true,
                                          .shrink_after_skip = block % 2 == 0,
                                          .shrink_block = block,
                                          .shrink_factor = 1.6,
                                          .shrink_down = LD_RESIZE_BICUBIC,
                                          .shrink_up = LD_RESIZE_BICUBIC};
        run_with(&with, 1, options);
        options.controls = 0;
        run_with(&without, 1, options);
        apart(&with, &without);
    }
}

static void a_model_is_no_controlnet(void **state)
{
    (void)state;
    struct ld_error err = {0};
    struct row row = row_of(0, 0, 1);
    struct ld_model *const wrong[] = {on.model};
    assert_int_equal(try_with(&row, 1, wrong, (struct ld_unet_options){.controls = 1}, &err),
                     LD_E_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_strength_is_no_controlnet),
        cmocka_unit_test(company_changes_no_bit),
        cmocka_unit_test(what_is_kept_of_a_hint_is_that_hints),
        cmocka_unit_test(another_controlnet_is_another),
        cmocka_unit_test(deep_shrink_acts_in_both),
        cmocka_unit_test(a_model_is_no_controlnet),
    };
    return cmocka_run_group_tests_name("control on the CPU", tests, open_cpu, close_all) +
           cmocka_run_group_tests_name("control on CUDA", tests, open_cuda, close_all);
}
