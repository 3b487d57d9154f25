/*
 * Proves that the pool runs every task of every loop exactly once and returns only then. Works on
 * thousands of loops of all lengths, back to back and after pauses in which workers fall asleep.
 */
#include "runtime/base/thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { TASKS_MAX = 300 };

struct tally {
    atomic_uint runs[TASKS_MAX];
    uint32_t threads;
    atomic_bool bad_worker;
};

static void count_task(void *pointer, uint32_t task, uint32_t worker)
{
    struct tally *tally = pointer;
    if (worker >= tally->threads)
        atomic_store(&tally->bad_worker, true);
    atomic_fetch_add(&tally->runs[task], 1);
}

static void one_loop(struct ld_pool *pool, uint32_t tasks)
{
    struct tally tally = {.threads = ld_pool_threads(pool)};
    ld_pool_run(pool, tasks, count_task, &tally);
    for (uint32_t i = 0; i < TASKS_MAX; i++)
        assert_int_equal(atomic_load(&tally.runs[i]), i < tasks ? 1 : 0);
    assert_false(atomic_load(&tally.bad_worker));
}

static void every_task_runs_once(void **state)
{
    (void)state;
    for (uint32_t threads = 1; threads <= 5; threads++) {
        struct ld_pool *pool;
        struct ld_error err = {0};
        assert_int_equal(ld_pool_create(&pool, threads, &err), LD_OK);
        assert_int_equal(ld_pool_threads(pool), threads);
        for (uint32_t n = 0; n < 600; n++)
            one_loop(pool, n % TASKS_MAX);
        ld_pool_destroy(pool);
    }
}

static void sleeping_workers_wake_up(void **state)
{
    (void)state;
    struct ld_pool *pool;
    struct ld_error err = {0};
    assert_int_equal(ld_pool_create(&pool, 3, &err), LD_OK);
    for (int n = 0; n < 20; n++) {
        nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
        one_loop(pool, 50);
    }
    ld_pool_destroy(pool);
}

struct chain {
    uint32_t *values;
    uint32_t step;
};

static void chain_task(void *pointer, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct chain *chain = pointer;
    /* Reads what another task wrote in the loop before. */
    uint32_t from = (task + chain->step) % TASKS_MAX;
    chain->values[TASKS_MAX + task] = chain->values[from] + 1;
}

static void a_loop_sees_what_the_loop_before_wrote(void **state)
{
    (void)state;
    struct ld_pool *pool;
    struct ld_error err = {0};
    assert_int_equal(ld_pool_create(&pool, 4, &err), LD_OK);
    static uint32_t values[2 * TASKS_MAX];
    memset(values, 0, sizeof values);
    for (uint32_t n = 0; n < 500; n++) {
        struct chain chain = {.values = values, .step = n};
        ld_pool_run(pool, TASKS_MAX, chain_task, &chain);
        memcpy(values, values + TASKS_MAX, sizeof values / 2);
    }
    for (uint32_t i = 0; i < TASKS_MAX; i++)
        assert_int_equal(values[i], 500);
    ld_pool_destroy(pool);
}

static void zero_threads_means_the_usable_cores(void **state)
{
    (void)state;
    struct ld_pool *pool;
    struct ld_error err = {0};
    assert_int_equal(ld_pool_create(&pool, 0, &err), LD_OK);
    assert_true(ld_pool_threads(pool) >= 1);
    one_loop(pool, 10);
    ld_pool_destroy(pool);
    ld_pool_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once),
        cmocka_unit_test(sleeping_workers_wake_up),
        cmocka_unit_test(a_loop_sees_what_the_loop_before_wrote),
        cmocka_unit_test(zero_threads_means_the_usable_cores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
