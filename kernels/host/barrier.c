/*
 * Barriers of the block: __syncthreads and the 15 named ones.
 *
 * The race detector gets two addresses for each barrier, used in turn: with one, a fast thread's
 * next arrival would already be behind the address when a slow thread leaves this one, and hide its
 * races.
 */
#include "kernels/host/block.h"
#include "kernels/host/sanitizer.h"

#include <string.h>

static void join(struct ldk_barrier *barrier, struct ldk_thread *self)
{
    barrier->arrived++;
    barrier->waiting[self->warp] |= 1u << self->lane;
}

/* The last to arrive goes back among the ready: it must not always be the first to leave. */
static void open_barrier(struct ldk_barrier *barrier)
{
    for (uint32_t w = 0; w < ldk_block.warps; w++) {
        ldk_block_wake(w, barrier->waiting[w]);
        barrier->waiting[w] = 0;
    }
    barrier->arrived = 0;
    barrier->turn++;
    ldk_host_stats.barriers++;
}

static bool same_place(struct ldk_place a, struct ldk_place b)
{
    return a.line == b.line && a.occurrence == b.occurrence && strcmp(a.file, b.file) == 0;
}

void ldk_fiber_syncthreads(struct ldk_place place)
{
    struct ldk_thread *self = ldk_block.current;
    struct ldk_barrier *barrier = &ldk_block.barriers[0];
    if (ldk_block.left > 0)
        ldk_host_fault(place, "__syncthreads, but %u threads have left the kernel", ldk_block.left);
    if (barrier->arrived == 0)
        barrier->place = place;
    else if (!same_place(barrier->place, place))
        ldk_host_fault(
            place, "divergent barrier: %u threads wait at %s:%d (barrier %d of the file)",
            barrier->arrived, barrier->place.file, barrier->place.line, barrier->place.occurrence);
    char *order = &barrier->order[barrier->turn & 1];
    sanitizer_release(order);
    join(barrier, self);
    if (barrier->arrived == ldk_block.threads)
        open_barrier(barrier);
    ldk_block_wait("__syncthreads", place, true);
    sanitizer_acquire(order);
}

void ldk_fiber_named_barrier(int32_t id, int32_t threads, bool wait, struct ldk_place place)
{
    struct ldk_thread *self = ldk_block.current;
    if (id < 1 || id >= LDK_MAX_BARRIERS)
        ldk_host_fault(place, "named barrier %d: there are 1 to 15", id);
    if (threads < 32 || threads % 32 != 0 || (uint32_t)threads > ldk_block.warps * 32)
        ldk_host_fault(place,
                       "named barrier %d of %d threads: a multiple of 32 up to the block's %u", id,
                       threads, ldk_block.threads);
    struct ldk_barrier *barrier = &ldk_block.barriers[id];
    if (barrier->arrived == 0) {
        barrier->expected = (uint32_t)threads;
        barrier->place = place;
    } else if (barrier->expected != (uint32_t)threads) {
        ldk_host_fault(place, "named barrier %d of %d threads, but %s:%d said %u", id, threads,
                       barrier->place.file, barrier->place.line, barrier->expected);
    }
    char *order = &barrier->order[barrier->turn & 1];
    sanitizer_release(order);
    if (wait)
        join(barrier, self);
    else
        barrier->arrived++;
    if (barrier->arrived == barrier->expected)
        open_barrier(barrier);
    if (!wait)
        return;
    ldk_block_wait("ldk_bar_sync", place, true);
    sanitizer_acquire(order);
}
