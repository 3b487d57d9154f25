#include "runtime/errands.h"

#include "runtime/base/arena.h"

#include <pthread.h>
#include <time.h>

struct ld_errands {
    pthread_t thread;
    bool has_thread, stop;
    pthread_mutex_t lock;
    pthread_cond_t given, made;
    struct ld_errand *first, *last; /* not begun */
    uint64_t next_serial;
};

/* ---- The thread ------------------------------------------------------------------------------ */

static void *run_all(void *pointer)
{
    struct ld_errands *errands = pointer;
    pthread_mutex_lock(&errands->lock);
    for (;;) {
        while (!errands->first && !errands->stop)
            pthread_cond_wait(&errands->given, &errands->lock);
        struct ld_errand *errand = errands->first;
        if (!errand)
            break;
        errands->first = errand->next;
        pthread_mutex_unlock(&errands->lock);
        errand->run(errand);
        pthread_mutex_lock(&errands->lock);
        errand->done = true;
        if (errand->dropped)
            errand->destroy(errand);
        pthread_cond_broadcast(&errands->made);
    }
    pthread_mutex_unlock(&errands->lock);
    return NULL;
}

enum ld_code ld_errands_create(struct ld_errands **out, struct ld_error *err)
{
    *out = ld_heap_alloc(sizeof **out);
    struct ld_errands *errands = *out;
    pthread_condattr_t steady;
    if (!errands)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    (void)pthread_mutex_init(&errands->lock, NULL);
    (void)pthread_cond_init(&errands->given, NULL);
    (void)pthread_condattr_init(&steady);
    (void)pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&errands->made, &steady);
    (void)pthread_condattr_destroy(&steady);
    errands->has_thread = pthread_create(&errands->thread, NULL, run_all, errands) == 0;
    return LD_OK;
}

void ld_errands_destroy(struct ld_errands *errands)
{
    if (!errands)
        return;
    LD_ASSERT(!errands->first);
    pthread_mutex_lock(&errands->lock);
    errands->stop = true;
    pthread_cond_signal(&errands->given);
    pthread_mutex_unlock(&errands->lock);
    if (errands->has_thread)
        (void)pthread_join(errands->thread, NULL);
    (void)pthread_cond_destroy(&errands->made);
    (void)pthread_cond_destroy(&errands->given);
    (void)pthread_mutex_destroy(&errands->lock);
    ld_heap_free(errands);
}

/* ---- From outside ---------------------------------------------------------------------------- */

void ld_errands_give(struct ld_errands *errands, struct ld_errand *errand)
{
    errand->next = NULL;
    errand->done = errand->dropped = false;
    errand->serial = errands->next_serial++;
    if (!errands->has_thread) {
        errand->run(errand);
        errand->done = true;
        return;
    }
    pthread_mutex_lock(&errands->lock);
    *(errands->first ? &errands->last->next : &errands->first) = errand;
    errands->last = errand;
    pthread_cond_signal(&errands->given);
    pthread_mutex_unlock(&errands->lock);
}

bool ld_errands_done(struct ld_errands *errands, const struct ld_errand *errand)
{
    pthread_mutex_lock(&errands->lock);
    const bool done = errand->done;
    pthread_mutex_unlock(&errands->lock);
    return done;
}

void ld_errands_wait(struct ld_errands *errands, const struct ld_errand *errand)
{
    pthread_mutex_lock(&errands->lock);
    while (!errand->done)
        pthread_cond_wait(&errands->made, &errands->lock);
    pthread_mutex_unlock(&errands->lock);
}

bool ld_errands_wait_for(struct ld_errands *errands, const struct ld_errand *errand, uint32_t ms)
{
    struct timespec end;
    bool late = false;
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    const int64_t ns = end.tv_nsec + (int64_t)ms * 1000000;
    end.tv_sec += (time_t)(ns / 1000000000);
    end.tv_nsec = (long)(ns % 1000000000);
    pthread_mutex_lock(&errands->lock);
    while (!errand->done && !late)
        late = pthread_cond_timedwait(&errands->made, &errands->lock, &end) != 0;
    const bool done = errand->done;
    pthread_mutex_unlock(&errands->lock);
    return done;
}

void ld_errands_drop(struct ld_errands *errands, struct ld_errand *errand)
{
    struct ld_errand *before = NULL;
    pthread_mutex_lock(&errands->lock);
    struct ld_errand *found = errands->first;
    for (; found && found != errand; found = found->next)
        before = found;
    errand->dropped = !found && !errand->done; /* the thread has it in hand */
    const bool ours = !errand->dropped;
    if (found)
        *(before ? &before->next : &errands->first) = errand->next;
    if (found && errands->last == errand)
        errands->last = before;
    pthread_mutex_unlock(&errands->lock);
    if (ours)
        errand->destroy(errand);
}
