/*
 * A pool of threads for data-parallel loops, and a cancellation flag. The caller's thread works
 * too, so a pool of 1 starts no thread at all.
 */
#ifndef LD_BASE_THREAD_H
#define LD_BASE_THREAD_H

#include "runtime/base/error.h"

#include <stdbool.h>
#ifndef __cplusplus
#include <stdatomic.h>
#endif

/* One part of a loop: `task` in [0, task_count), `worker` in [0, threads of the pool). */
typedef void (*ld_pool_task)(void *ctx, uint32_t task, uint32_t worker);

struct ld_pool;

/* `threads` >= 1, the caller included; 0 means one per usable core (sched_getaffinity). */
enum ld_code ld_pool_create(struct ld_pool **pool, uint32_t threads,
                            struct ld_error *err) LD_MUST_USE;
void ld_pool_destroy(struct ld_pool *pool);
uint32_t ld_pool_threads(const struct ld_pool *pool);

/*
 * Run all tasks and return when the last has ended. Tasks are handed out in increasing order, so
 * which worker runs one is not defined: a task must not let its result depend on `worker`
 * (scratch memory is the use of it). One run at a time; not reentrant from a task.
 */
void ld_pool_run(struct ld_pool *pool, uint32_t task_count, ld_pool_task run, void *ctx);

/* Set from any thread or a signal handler, read at step boundaries. */
#ifdef __cplusplus
struct ld_cancel; /* a name only: C++ cannot spell C11's atomics */
#else
struct ld_cancel {
    atomic_bool requested;
};
#endif

#endif
