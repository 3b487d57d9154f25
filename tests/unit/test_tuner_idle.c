/* Proves that idle times find the faster kernel of the same bits for what has run, once, keep it
 * for the next process, and leave alone what they must not change. How: the real backend and tuner
 * over a fake GPU with a clock of its own, whose kernels have variants by order of the test. */
#include "tests/unit/tuner_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { LINEAR_FAST = 2 }; /* of the fake's; it has a faster one of other bits */

/* The variant that a layer runs in this backend; its output in `out`. */
static int32_t variant_of(struct ld_backend *backend, uint16_t *out)
{
    static struct layer layer;
    open_layer(&layer, backend);
    run_layer(&layer, backend, true, out);
    close_layer(&layer, backend);
    return fake_gpu.linear_variant;
}

static void an_idle_time_finds_the_faster_kernel_of_the_same_bits(void **state)
{
    (void)state;
    static uint16_t first[Y_VALUES];
    static uint16_t later[Y_VALUES];
    fake_gpu.linear_ways = true;
    struct ld_backend *backend = open_idle(LD_DTYPE_F16, test_folder);
    assert_int_equal(backend->library_bytes, 0); /* no choice of an idle time is a library's */
    assert_int_equal(backend->ops->idle(backend), LD_IDLE_DONE); /* nothing has run */
    assert_int_equal(variant_of(backend, first), LDK_VARIANT_AUTO);
    assert_int_equal(variant_of(backend, first), LDK_VARIANT_AUTO);
    assert_string_equal(decisions_of("idle-"), "");
    assert_int_equal(backend->ops->idle(backend),
                     LD_IDLE_DONE); /* one shape, whose weight is gone by now */
    assert_non_null(strstr(decisions_of("idle-"), "unit own:fast "));
    assert_null(strstr(decisions_of("idle-"), "own:other"));
    assert_string_equal(decisions(), "");
    assert_int_equal(ldk_tuner_lost(ld_cuda_tuner(backend)), 1); /* recordings are made anew */
    assert_int_equal(variant_of(backend, later), LINEAR_FAST);
    assert_memory_equal(first, later, sizeof first);
    backend->ops->destroy(backend);

    backend = open_idle(LD_DTYPE_F16, test_folder);
    assert_int_equal(variant_of(backend, later), LINEAR_FAST);
    const uint64_t launches = fake_gpu.launches;
    assert_int_equal(backend->ops->idle(backend), LD_IDLE_DONE);
    assert_int_equal(fake_gpu.launches, launches);
    backend->ops->destroy(backend);

    backend = open_backend(LD_DTYPE_F16, false); /* idle times are not used: nor what they found */
    assert_null(ld_cuda_tuner(backend));
    assert_int_equal(variant_of(backend, later), LDK_VARIANT_AUTO);
    backend->ops->destroy(backend);
}

/* Where --precision says so, and in the engine that takes up what fp16 cannot hold. */
static void bf16_is_measured_as_fp16_is(void **state)
{
    (void)state;
    static uint16_t first[Y_VALUES];
    static uint16_t later[Y_VALUES];
    static uint16_t attended[2 * TOKENS * WIDTH];
    static uint16_t again[2 * TOKENS * WIDTH];
    static struct layer layer;
    fake_gpu.linear_ways = true;
    struct ld_backend *backend = open_idle(LD_DTYPE_BF16, test_folder);
    assert_int_equal(variant_of(backend, first), LDK_VARIANT_AUTO);
    attend(backend, attended);
    assert_int_equal(backend->ops->idle(backend), LD_IDLE_MORE);
    assert_int_equal(backend->ops->idle(backend), LD_IDLE_DONE);
    assert_int_equal(ldk_tuner_lost(ld_cuda_tuner(backend)), 2);
    assert_int_equal(variant_of(backend, later), LINEAR_FAST);
    assert_memory_equal(first, later, sizeof first);
    open_layer(&layer, backend);
    run_layer(&layer, backend, true, later);
    assert_true(distance(&layer, backend, true, later) < 6e-3);
    close_layer(&layer, backend);
    const double before_ms = fake_gpu.now_ms;
    attend(backend, again);
    assert_true(fake_gpu.now_ms - before_ms == 2.5); /* as fp16: half a unit less */
    assert_memory_equal(attended, again, sizeof attended);
    backend->ops->destroy(backend);
}

/* Two types in one process write one file, each beside the other. */
static void what_two_tuners_find_is_kept_by_both(void **state)
{
    (void)state;
    static const enum ld_dtype dtypes[] = {LD_DTYPE_F16, LD_DTYPE_BF16};
    static uint16_t out[Y_VALUES];
    struct ld_backend *backends[2];
    fake_gpu.linear_ways = true;
    for (int i = 0; i < 2; i++)
        backends[i] = open_idle(dtypes[i], test_folder);
    for (int i = 0; i < 2; i++) {
        (void)variant_of(backends[i], out);
        assert_int_equal(backends[i]->ops->idle(backends[i]), LD_IDLE_DONE);
    }
    for (int i = 0; i < 2; i++)
        backends[i]->ops->destroy(backends[i]);
    for (int i = 0; i < 2; i++) {
        struct ld_backend *next = open_idle(dtypes[i], test_folder);
        assert_int_equal(variant_of(next, out), LINEAR_FAST);
        next->ops->destroy(next);
    }
}

static void a_kernel_of_other_bits_than_it_says_is_not_chosen_in_idle_times(void **state)
{
    (void)state;
    static uint16_t out[Y_VALUES];
    fake_gpu.linear_ways = fake_gpu.linear_strays = true;
    struct ld_backend *backend = open_idle(LD_DTYPE_F16, test_folder);
    (void)variant_of(backend, out);
    assert_int_equal(backend->ops->idle(backend), LD_IDLE_DONE);
    assert_null(strstr(decisions_of("idle-"), "unit own:fast "));
    assert_int_equal(ldk_tuner_lost(ld_cuda_tuner(backend)), 0);
    backend->ops->destroy(backend);
}

static void nothing_is_measured_while_another_process_computes(void **state)
{
    (void)state;
    static uint16_t out[Y_VALUES];
    fake_gpu.linear_ways = true;
    struct ld_backend *backend = open_idle(LD_DTYPE_F16, test_folder);
    (void)variant_of(backend, out);
    struct ld_backend *other = open_backend(LD_DTYPE_F16, false);
    fake_gpu.info.uuid[0]++;
    struct ld_backend *elsewhere = open_backend(LD_DTYPE_F16, false);
    other->ops->occupy(other, true);
    const uint64_t launches = fake_gpu.launches;
    assert_int_equal(backend->ops->idle(backend), LD_IDLE_LATER);
    assert_int_equal(fake_gpu.launches, launches);
    assert_string_equal(decisions_of("idle-"), "");
    other->ops->occupy(other, false);
    elsewhere->ops->occupy(elsewhere, true); /* on another GPU of this machine */
    assert_int_equal(backend->ops->idle(backend), LD_IDLE_DONE);
    assert_non_null(strstr(decisions_of("idle-"), "unit own:fast "));
    other->ops->occupy(other, true);
    assert_int_equal(backend->ops->idle(backend), LD_IDLE_DONE); /* nothing waits any more */
    other->ops->destroy(other);
    elsewhere->ops->destroy(elsewhere);
    backend->ops->destroy(backend);
}

static void an_idle_time_measures_attention_too(void **state)
{
    (void)state;
    static uint16_t first[2 * TOKENS * WIDTH];
    static uint16_t later[2 * TOKENS * WIDTH];
    struct ld_backend *backend = open_idle(LD_DTYPE_F16, test_folder);
    attend(backend, first);
    assert_int_equal(backend->ops->idle(backend), LD_IDLE_DONE);
    assert_non_null(strstr(decisions_of("idle-"), "unit own:fast "));
    assert_int_equal(ldk_tuner_lost(ld_cuda_tuner(backend)), 1);
    const double before_ms = fake_gpu.now_ms;
    attend(backend, later);
    assert_true(fake_gpu.now_ms - before_ms == 2.5); /* half a unit less than the default's */
    assert_memory_equal(first, later, sizeof first);
    backend->ops->destroy(backend);
}

static void without_a_folder_an_idle_time_serves_its_process(void **state)
{
    (void)state;
    static uint16_t out[Y_VALUES];
    fake_gpu.linear_ways = true;
    for (int i = 0; i < 2; i++) {
        struct ld_backend *backend = open_idle(LD_DTYPE_F16, NULL);
        assert_int_equal(variant_of(backend, out), LDK_VARIANT_AUTO);
        assert_int_equal(backend->ops->idle(backend), LD_IDLE_DONE);
        assert_int_equal(variant_of(backend, out), LINEAR_FAST);
        backend->ops->destroy(backend);
    }
}

static void nothing_is_measured_where_nothing_can_be_chosen(void **state)
{
    (void)state;
    static uint16_t out[Y_VALUES];
    struct ld_backend *backend = open_idle(LD_DTYPE_F16, test_folder);
    (void)variant_of(backend, out);
    const uint64_t launches = fake_gpu.launches;
    assert_int_equal(backend->ops->idle(backend), LD_IDLE_DONE);
    assert_int_equal(fake_gpu.launches, launches);
    backend->ops->destroy(backend);
}

static void what_was_decided_by_order_wins_over_idle_times(void **state)
{
    (void)state;
    static uint16_t out[Y_VALUES];
    fake_gpu.linear_ways = true;
    struct ld_backend *backend = open_idle(LD_DTYPE_F16, test_folder);
    (void)variant_of(backend, out);
    assert_int_equal(backend->ops->idle(backend), LD_IDLE_DONE);
    assert_int_equal(variant_of(backend, out), LINEAR_FAST);
    backend->ops->destroy(backend);

    backend = open_backend(LD_DTYPE_F16, true);
    (void)variant_of(backend, out);
    backend->ops->destroy(backend);
    const char *text = decisions();
    assert_true(strstr(text, "unit own:other ") || strstr(text, "unit cublaslt:"));

    backend = open_idle(LD_DTYPE_F16, test_folder);
    (void)variant_of(backend, out);
    const struct ldk_tune_choice *latest = ldk_tuner_latest(ld_cuda_tuner(backend));
    assert_non_null(latest);
    assert_string_not_equal(latest->candidate, "own:fast");
    assert_int_equal(backend->ops->idle(backend), LD_IDLE_DONE);
    backend->ops->destroy(backend);
}

static void a_measurement_that_loses_the_device_is_not_made_again(void **state)
{
    (void)state;
    static uint16_t out[Y_VALUES];
    fake_gpu.linear_ways = true;
    struct ld_backend *backend = open_idle(LD_DTYPE_F16, test_folder);
    (void)variant_of(backend, out);
    fake_gpu.sync_error = FAKE_ILLEGAL_ADDRESS;
    assert_int_equal(backend->ops->idle(backend), LD_IDLE_DONE);
    assert_true(backend->lost);
    assert_non_null(strstr(decisions_of("idle-"), "unit own:default "));
    backend->ops->destroy(backend);

    fake_gpu.sync_error = 0;
    backend = open_idle(LD_DTYPE_F16, test_folder);
    assert_int_equal(variant_of(backend, out), LDK_VARIANT_AUTO);
    const uint64_t launches = fake_gpu.launches;
    assert_int_equal(backend->ops->idle(backend), LD_IDLE_DONE);
    assert_int_equal(fake_gpu.launches, launches);
    backend->ops->destroy(backend);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_tuning, close_tuning)
    const struct CMUnitTest tests[] = {
        TEST(an_idle_time_finds_the_faster_kernel_of_the_same_bits),
        TEST(bf16_is_measured_as_fp16_is),
        TEST(what_two_tuners_find_is_kept_by_both),
        TEST(a_kernel_of_other_bits_than_it_says_is_not_chosen_in_idle_times),
        TEST(nothing_is_measured_while_another_process_computes),
        TEST(an_idle_time_measures_attention_too),
        TEST(without_a_folder_an_idle_time_serves_its_process),
        TEST(nothing_is_measured_where_nothing_can_be_chosen),
        TEST(what_was_decided_by_order_wins_over_idle_times),
        TEST(a_measurement_that_loses_the_device_is_not_made_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
