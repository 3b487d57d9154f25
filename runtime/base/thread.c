/*
 * One generation counter starts a run: the caller publishes the loop, raises the counter, and works
 * itself. Workers spin for some microseconds before they sleep, because a network launches its
 * operators back to back and a wake-up costs more than a small operator.
 */
#include "runtime/base/thread.h"

#include "runtime/base/arena.h"

#include <pthread.h>
#include <sched.h>

enum {
    POOL_THREADS_MAX = 256,
    SPIN_ROUNDS = 600 /* about 20-40 microseconds of PAUSE */
};

struct worker {
    struct ld_pool *pool;
    pthread_t thread;
    uint32_t index;
};

struct ld_pool {
    uint32_t threads; /* the caller included */
    uint32_t started; /* entries of `workers` in use */
    struct worker *workers;

    /* The loop in flight: written by the caller before it raises `generation`. */
    ld_pool_task run;
    void *ctx;
    uint32_t task_count;
    atomic_uint next_task;
    atomic_uint busy_workers;

    atomic_uint generation;
    atomic_bool stop;

    pthread_mutex_t sleep_lock; /* guards the two conditions and `sleepers` */
    pthread_cond_t wake;
    pthread_cond_t idle;
    uint32_t sleepers;
};

static void spin_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void work(struct ld_pool *pool, uint32_t worker)
{
    for (;;) {
        uint32_t task = atomic_fetch_add_explicit(&pool->next_task, 1, memory_order_relaxed);
        if (task >= pool->task_count)
            return;
        pool->run(pool->ctx, task, worker);
    }
}

/* Wait until the generation differs from `seen`; returns the new one. */
static unsigned await_generation(struct ld_pool *pool, unsigned seen)
{
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        unsigned now = atomic_load_explicit(&pool->generation, memory_order_acquire);
        if (now != seen)
            return now;
        spin_pause();
    }
    pthread_mutex_lock(&pool->sleep_lock);
    pool->sleepers++;
    unsigned now = atomic_load_explicit(&pool->generation, memory_order_acquire);
    while (now == seen) {
        pthread_cond_wait(&pool->wake, &pool->sleep_lock);
        now = atomic_load_explicit(&pool->generation, memory_order_acquire);
    }
    pool->sleepers--;
    pthread_mutex_unlock(&pool->sleep_lock);
    return now;
}

static void *worker_main(void *argument)
{
    struct worker *self = argument;
    struct ld_pool *pool = self->pool;
    unsigned seen = 0;
    for (;;) {
        seen = await_generation(pool, seen);
        if (atomic_load(&pool->stop))
            return NULL;
        work(pool, self->index);
        if (atomic_fetch_sub_explicit(&pool->busy_workers, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&pool->sleep_lock);
            pthread_cond_signal(&pool->idle);
            pthread_mutex_unlock(&pool->sleep_lock);
        }
    }
}

static void raise_generation(struct ld_pool *pool)
{
    pthread_mutex_lock(&pool->sleep_lock);
    atomic_fetch_add_explicit(&pool->generation, 1, memory_order_release);
    if (pool->sleepers > 0)
        pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->sleep_lock);
}

static void await_workers(struct ld_pool *pool)
{
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load_explicit(&pool->busy_workers, memory_order_acquire) == 0)
            return;
        spin_pause();
    }
    pthread_mutex_lock(&pool->sleep_lock);
    while (atomic_load_explicit(&pool->busy_workers, memory_order_acquire) != 0)
        pthread_cond_wait(&pool->idle, &pool->sleep_lock);
    pthread_mutex_unlock(&pool->sleep_lock);
}

void ld_pool_run(struct ld_pool *pool, uint32_t task_count, ld_pool_task run, void *ctx)
{
    LD_ASSERT(pool != NULL && run != NULL);
    if (pool->threads == 1 || task_count <= 1) {
        for (uint32_t task = 0; task < task_count; task++)
            run(ctx, task, 0);
        return;
    }
    /* The counter must not wrap while the last workers overshoot the end. */
    LD_ASSERT(task_count < UINT32_MAX - POOL_THREADS_MAX);
    pool->run = run;
    pool->ctx = ctx;
    pool->task_count = task_count;
    atomic_store_explicit(&pool->next_task, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->busy_workers, pool->threads - 1, memory_order_relaxed);
    raise_generation(pool);
    work(pool, 0);
    await_workers(pool);
}

uint32_t ld_pool_threads(const struct ld_pool *pool)
{
    return pool->threads;
}

static uint32_t usable_cores(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : (uint32_t)count;
}

enum ld_code ld_pool_create(struct ld_pool **out, uint32_t threads, struct ld_error *err)
{
    LD_ASSERT(out != NULL);
    *out = NULL;
    if (threads == 0)
        threads = usable_cores();
    if (threads > POOL_THREADS_MAX)
        threads = POOL_THREADS_MAX;
    struct ld_pool *pool = ld_heap_alloc(sizeof *pool);
    if (pool == NULL)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the thread pool");
    pool->threads = threads;
    pthread_mutex_init(&pool->sleep_lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->idle, NULL);
    pool->workers = ld_heap_calloc(threads, sizeof *pool->workers);
    if (pool->workers == NULL) {
        ld_pool_destroy(pool);
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the thread pool");
    }
    for (uint32_t i = 1; i < threads; i++) {
        struct worker *worker = &pool->workers[i];
        worker->pool = pool;
        worker->index = i;
        int failure = pthread_create(&worker->thread, NULL, worker_main, worker);
        if (failure != 0) {
            ld_pool_destroy(pool);
            return LD_FAIL_OS(err, LD_E_NOMEM, failure, "the system refused a worker thread");
        }
        pool->started++;
    }
    *out = pool;
    return LD_OK;
}

void ld_pool_destroy(struct ld_pool *pool)
{
    if (pool == NULL)
        return;
    atomic_store(&pool->stop, true);
    raise_generation(pool);
    for (uint32_t i = 1; i <= pool->started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    ld_heap_free(pool->workers);
    pthread_cond_destroy(&pool->idle);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->sleep_lock);
    ld_heap_free(pool);
}
