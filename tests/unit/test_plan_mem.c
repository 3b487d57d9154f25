/* Proves that the activation plan never lets two live values overlap, shares memory exactly where
 * it is allowed, and stays near the least possible peak. How: hand-made cases and thousands of
 * random op lists, checked by an independent walk over every step. */
#include "runtime/base/arena.h"
#include "runtime/gpu/plan_mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { VALUES_MAX = 64, STEPS = 80 };

/* splitmix64, so that the cases are the same on every machine. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

static uint32_t below(uint64_t *state, uint32_t bound)
{
    return (uint32_t)(next_random(state) % bound);
}

static bool overlap(const struct ld_plan_value *a, const struct ld_plan_value *b)
{
    return a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

/* True if b took over a's memory at the step where a was read for the last time. */
static bool took_over(const struct ld_plan_value *values, uint32_t a, uint32_t b)
{
    return values[b].shares && values[b].in_place == (int32_t)a &&
           values[a].last == values[b].first && values[a].offset == values[b].offset;
}

static void assert_plan_is_sound(const struct ld_plan_value *values, uint32_t count, size_t peak)
{
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(values[i].offset % LD_PLAN_ALIGN, 0);
        assert_true(values[i].offset + values[i].bytes <= peak);
        for (uint32_t k = 0; k < i; k++) {
            const bool together =
                values[i].first <= values[k].last && values[k].first <= values[i].last;
            if (together && overlap(&values[i], &values[k]))
                assert_true(took_over(values, k, i));
        }
    }
}

/* The least any plan can need: the largest sum of live bytes over the steps, where a value that
 * took over another's memory does not count at the step they share. */
static size_t live_bound(const struct ld_plan_value *values, uint32_t count, int32_t steps)
{
    size_t bound = 0;
    for (int32_t step = 0; step < steps; step++) {
        size_t live = 0;
        for (uint32_t i = 0; i < count; i++) {
            const bool counted_by_source = values[i].shares && values[i].first == step;
            if (values[i].first <= step && step <= values[i].last && !counted_by_source)
                live += (values[i].bytes + LD_PLAN_ALIGN - 1) / LD_PLAN_ALIGN * LD_PLAN_ALIGN;
        }
        bound = live > bound ? live : bound;
    }
    return bound;
}

static void an_empty_plan_needs_nothing(void **state)
{
    (void)state;
    size_t peak = 1;
    assert_int_equal(ld_plan_memory(NULL, 0, &peak, NULL), LD_OK);
    assert_int_equal(peak, 0);
}

static void values_that_never_meet_share_one_place(void **state)
{
    (void)state;
    struct ld_plan_value values[3] = {{.bytes = 400, .first = 0, .last = 1, .in_place = -1},
                                      {.bytes = 256, .first = 1, .last = 2, .in_place = -1},
                                      {.bytes = 400, .first = 2, .last = 3, .in_place = -1}};
    size_t peak;
    assert_int_equal(ld_plan_memory(values, 3, &peak, NULL), LD_OK);
    assert_plan_is_sound(values, 3, peak);
    assert_int_equal(values[0].offset, values[2].offset);
    assert_int_equal(peak, 512 + 256);
}

static void an_in_place_pair_aliases_as_declared(void **state)
{
    (void)state;
    struct ld_plan_value values[3] = {{.bytes = 2560, .first = 0, .last = 1, .in_place = -1},
                                      {.bytes = 2560, .first = 1, .last = 2, .in_place = 0},
                                      {.bytes = 2560, .first = 2, .last = 3, .in_place = 1}};
    size_t peak;
    assert_int_equal(ld_plan_memory(values, 3, &peak, NULL), LD_OK);
    assert_true(values[1].shares && values[2].shares);
    assert_int_equal(values[0].offset, values[2].offset);
    assert_int_equal(peak, 2560);
}

static void a_source_that_is_read_later_is_not_overwritten(void **state)
{
    (void)state;
    struct ld_plan_value values[2] = {{.bytes = 2560, .first = 0, .last = 5, .in_place = -1},
                                      {.bytes = 2560, .first = 1, .last = 2, .in_place = 0}};
    size_t peak;
    assert_int_equal(ld_plan_memory(values, 2, &peak, NULL), LD_OK);
    assert_false(values[1].shares);
    assert_plan_is_sound(values, 2, peak);
    assert_int_equal(peak, 5120);
}

static void a_larger_value_does_not_move_into_a_smaller_one(void **state)
{
    (void)state;
    struct ld_plan_value values[2] = {{.bytes = 256, .first = 0, .last = 1, .in_place = -1},
                                      {.bytes = 512, .first = 1, .last = 2, .in_place = 0}};
    size_t peak;
    assert_int_equal(ld_plan_memory(values, 2, &peak, NULL), LD_OK);
    assert_false(values[1].shares);
    assert_plan_is_sound(values, 2, peak);
}

static void only_one_value_takes_over_a_source(void **state)
{
    (void)state;
    struct ld_plan_value values[3] = {{.bytes = 256, .first = 0, .last = 1, .in_place = -1},
                                      {.bytes = 256, .first = 1, .last = 3, .in_place = 0},
                                      {.bytes = 256, .first = 1, .last = 3, .in_place = 0}};
    size_t peak;
    assert_int_equal(ld_plan_memory(values, 3, &peak, NULL), LD_OK);
    assert_true(values[1].shares);
    assert_false(values[2].shares);
    assert_plan_is_sound(values, 3, peak);
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    size_t peak;
    struct ld_plan_value one[1] = {{.bytes = SIZE_MAX, .first = 0, .last = 1, .in_place = -1}};
    assert_int_equal(ld_plan_memory(one, 1, &peak, NULL), LD_E_TOO_LARGE);
    struct ld_plan_value two[2] = {
        {.bytes = SIZE_MAX / 2 + 1, .first = 0, .last = 1, .in_place = -1},
        {.bytes = SIZE_MAX / 2 + 1, .first = 0, .last = 1, .in_place = -1}};
    assert_int_equal(ld_plan_memory(two, 2, &peak, NULL), LD_E_TOO_LARGE);
}

static void a_lifetime_that_ends_before_it_begins_is_refused(void **state)
{
    (void)state;
    size_t peak;
    struct ld_plan_value values[1] = {{.bytes = 256, .first = 2, .last = 1, .in_place = -1}};
    assert_int_equal(ld_plan_memory(values, 1, &peak, NULL), LD_E_BUG);
}

static uint32_t random_plan(uint64_t *state, struct ld_plan_value *values)
{
    const uint32_t count = 1 + below(state, VALUES_MAX);
    int32_t step = 0;
    for (uint32_t i = 0; i < count; i++) {
        step += (int32_t)below(state, 2);
        values[i] = (struct ld_plan_value){.bytes = 1 + below(state, 5000),
                                           .first = step,
                                           .last = step + (int32_t)below(state, 12),
                                           .in_place = -1};
        if (i > 0 && below(state, 2)) {
            values[i].in_place = (int32_t)below(state, i);
            if (below(state, 2))
                values[i].bytes = values[values[i].in_place].bytes;
        }
    }
    return count;
}

static void random_plans_are_sound_and_tight(void **state)
{
    (void)state;
    uint64_t random = 7;
    double excess = 0;
    for (int round = 0; round < 3000; round++) {
        struct ld_plan_value values[VALUES_MAX];
        const uint32_t count = random_plan(&random, values);
        size_t peak;
        assert_int_equal(ld_plan_memory(values, count, &peak, NULL), LD_OK);
        assert_plan_is_sound(values, count, peak);
        const size_t bound = live_bound(values, count, STEPS);
        assert_true(peak >= bound);
        /* Optimal packing is NP-hard; size-first greedy is known to stay close to the bound. */
        assert_true((double)peak <= 1.5 * (double)bound);
        excess += (double)peak / (double)bound - 1;
    }
    assert_true(excess / 3000 < 0.05);
}

static void the_same_list_gives_the_same_plan(void **state)
{
    (void)state;
    uint64_t random = 99;
    struct ld_plan_value first[VALUES_MAX];
    struct ld_plan_value second[VALUES_MAX];
    const uint32_t count = random_plan(&random, first);
    memcpy(second, first, sizeof first);
    size_t peak_first;
    size_t peak_second;
    assert_int_equal(ld_plan_memory(first, count, &peak_first, NULL), LD_OK);
    assert_int_equal(ld_plan_memory(second, count, &peak_second, NULL), LD_OK);
    assert_int_equal(peak_first, peak_second);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(first[i].offset, second[i].offset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_plan_needs_nothing),
        cmocka_unit_test(values_that_never_meet_share_one_place),
        cmocka_unit_test(an_in_place_pair_aliases_as_declared),
        cmocka_unit_test(a_source_that_is_read_later_is_not_overwritten),
        cmocka_unit_test(a_larger_value_does_not_move_into_a_smaller_one),
        cmocka_unit_test(only_one_value_takes_over_a_source),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(a_lifetime_that_ends_before_it_begins_is_refused),
        cmocka_unit_test(random_plans_are_sound_and_tight),
        cmocka_unit_test(the_same_list_gives_the_same_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
