/*
 * Threads of a block as fibers: their stacks, the choice of who goes on, launching, faults.
 *
 * A fiber is started once and kept: after a kernel it waits for the next block. Fibers switch
 * directly to each other; the main stack only starts and ends a block.
 */
#include "kernels/host/block.h"
#include "kernels/host/sanitizer.h"
#include "kernels/host/switch.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, INVALID_VALUE = 1, INVALID_CONFIGURATION = 9 };

struct ldk_block ldk_block;
struct ldk_host_counters ldk_host_stats;
struct ldk_host_position ldk_host_now;

static struct ldk_thread threads[LDK_MAX_THREADS];

/* The stack that launched, and what the kernel is called with. */
static struct {
    void *stack_pointer, *fiber, *fake_stack;
    const void *stack; /* as the sanitizer told */
    size_t stack_bytes;
    void (*body)(void *);
    void *context;
    char begin, end; /* addresses for the race detector: block start, block end */
} outside;

static uint64_t seed, random_state;

void ldk_host_seed(uint64_t number)
{
    seed = number;
    random_state = number * UINT64_C(0x9E3779B97F4A7C15) + 1;
}

void ldk_host_stats_reset(void)
{
    ldk_host_stats = (struct ldk_host_counters){0};
}

static uint32_t random_below(uint32_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(((random_state >> 32) * bound) >> 32);
}

/* ---- Faults ---------------------------------------------------------------------------------- */

static void print_position(void)
{
    const struct ldk_host_position *now = &ldk_host_now;
    fprintf(stderr, "latentd host kernels: %s, block (%u,%u,%u)",
            ldk_block.kernel ? ldk_block.kernel : "no kernel", now->block.x, now->block.y,
            now->block.z);
    if (ldk_block.current)
        fprintf(stderr, ", thread (%u,%u,%u) of warp %u", now->thread.x, now->thread.y,
                now->thread.z, ldk_block.current->warp);
}

_Noreturn void ldk_host_fault(struct ldk_place place, const char *format, ...)
{
    print_position();
    if (place.file)
        fprintf(stderr, ", %s:%d", place.file, place.line);
    fputs(": ", stderr);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    fflush(stderr);
    _exit(LDK_HOST_FAULT);
}

#if defined(LDK_HOST_ASAN)
/* Called by AddressSanitizer when it has found something. */
void __asan_on_error(void);
void __asan_on_error(void)
{
    print_position();
    fputc('\n', stderr);
}
#endif

static bool same_place(struct ldk_place a, struct ldk_place b)
{
    return a.line == b.line && a.occurrence == b.occurrence &&
           (a.file == b.file || (a.file && b.file && strcmp(a.file, b.file) == 0));
}

/* Nobody can go on: every group of threads with the line where it waits. */
static _Noreturn void deadlock(void)
{
    static bool told[LDK_MAX_THREADS];
    ldk_block.current = NULL;
    print_position();
    fputs(": deadlock\n", stderr);
    for (uint32_t i = 0; i < ldk_block.threads; i++) {
        const struct ldk_thread *first = &threads[i];
        if (told[i] || first->left)
            continue;
        fputs("   threads", stderr);
        for (uint32_t j = i; j < ldk_block.threads; j++) {
            const struct ldk_thread *t = &threads[j];
            if (t->left || told[j] || !same_place(t->waits_at, first->waits_at))
                continue;
            uint32_t last = j;
            while (last + 1 < ldk_block.threads && !threads[last + 1].left &&
                   same_place(threads[last + 1].waits_at, first->waits_at))
                told[last++] = true;
            told[last] = true;
            fprintf(stderr, j == last ? " %u" : " %u-%u", j, last);
            j = last;
        }
        fprintf(stderr, " wait in %s at %s:%d\n", first->waits_in, first->waits_at.file,
                first->waits_at.line);
    }
    if (ldk_block.left > 0)
        fprintf(stderr, "   %u threads have left the kernel\n", ldk_block.left);
    fflush(stderr);
    _exit(LDK_HOST_FAULT);
}

/* ---- Who goes on ----------------------------------------------------------------------------- */

/* One of the set bits, by the order that the test asked for. */
static uint32_t choose(uint32_t set)
{
    if (seed == 0)
        return (uint32_t)__builtin_ctz(set);
    if (seed == 1)
        return 31u - (uint32_t)__builtin_clz(set);
    uint32_t skip = random_below((uint32_t)__builtin_popcount(set));
    while (skip-- > 0)
        set &= set - 1;
    return (uint32_t)__builtin_ctz(set);
}

static struct ldk_thread *next_thread(uint32_t warp, bool free_choice)
{
    if (ldk_block.ready_warps == 0)
        deadlock();
    bool stay = !free_choice && ldk_block.ready[warp] != 0 && (seed < 2 || random_below(32) != 0);
    if (!stay)
        warp = choose(ldk_block.ready_warps);
    uint32_t lane = choose(ldk_block.ready[warp]);
    ldk_block.ready[warp] &= ~(1u << lane);
    if (ldk_block.ready[warp] == 0)
        ldk_block.ready_warps &= ~(1u << warp);
    return &threads[warp * 32 + lane];
}

void ldk_block_wake(uint32_t warp, uint32_t lanes)
{
    ldk_block.ready[warp] |= lanes;
    if (lanes != 0)
        ldk_block.ready_warps |= 1u << warp;
}

static void enter(struct ldk_thread *t)
{
    const struct ldk_host_index *dim = &ldk_host_now.block_dim;
    ldk_block.current = t;
    ldk_host_now.thread.x = t->number % dim->x;
    ldk_host_now.thread.y = t->number / dim->x % dim->y;
    ldk_host_now.thread.z = t->number / dim->x / dim->y;
}

static void switch_threads(struct ldk_thread *from, struct ldk_thread *to)
{
    if (from == to)
        return;
    ldk_host_stats.switches++;
    enter(to);
    sanitizer_leave(to->sanitizer, &from->fake_stack, to->stack, LDK_STACK_BYTES);
    ldk_stack_switch(&from->stack_pointer, to->stack_pointer);
    const void *old_stack;
    size_t old_bytes;
    sanitizer_arrive(from->fake_stack, &old_stack, &old_bytes);
}

void ldk_block_wait(const char *what, struct ldk_place place, bool free_choice)
{
    struct ldk_thread *self = ldk_block.current;
    self->waits_in = what;
    self->waits_at = place;
    switch_threads(self, next_thread(self->warp, free_choice));
}

/* ---- The life of a thread -------------------------------------------------------------------- */

static void leave_kernel(struct ldk_thread *self)
{
    const struct ldk_barrier *all = &ldk_block.barriers[0];
    struct ldk_place nowhere = {0};
    if (self->copies_begin != self->copies_end)
        ldk_host_fault(nowhere, "leaves the kernel with %u copies in flight",
                       self->copies_end - self->copies_begin);
    self->left = true;
    ldk_block.left++;
    ldk_block.gone[self->warp] |= 1u << self->lane;
    if (all->arrived > 0)
        ldk_host_fault(all->place, "this thread left the kernel, %u others wait in __syncthreads",
                       all->arrived);
    sanitizer_release(&outside.end);
}

static void back_outside(struct ldk_thread *self)
{
    ldk_block.current = NULL;
    sanitizer_leave(outside.fiber, &self->fake_stack, outside.stack, outside.stack_bytes);
    ldk_stack_switch(&self->stack_pointer, outside.stack_pointer);
}

/* Whoever comes here from outside learns where outside is. */
static void arrive_in_block(struct ldk_thread *self)
{
    const void *old_stack = NULL;
    size_t old_bytes = 0;
    sanitizer_arrive(self->fake_stack, &old_stack, &old_bytes);
    if (outside.stack == NULL && old_stack != NULL) {
        outside.stack = old_stack;
        outside.stack_bytes = old_bytes;
    }
}

static void thread_main(void)
{
    struct ldk_thread *self = ldk_block.current;
    arrive_in_block(self);
    for (;;) {
        sanitizer_acquire(&outside.begin);
        outside.body(outside.context);
        leave_kernel(self);
        if (ldk_block.left == ldk_block.threads) {
            back_outside(self);
            arrive_in_block(self);
        } else {
            switch_threads(self, next_thread(self->warp, false));
        }
    }
}

static bool prepare_thread(uint32_t number)
{
    struct ldk_thread *t = &threads[number];
    t->number = number;
    t->warp = number / 32;
    t->lane = number % 32;
    t->left = false;
    t->copies_begin = t->copies_end = t->groups = 0;
    if (t->stack)
        return true;
    char *memory = mmap(NULL, PAGE + LDK_STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, PAGE, PROT_NONE) != 0)
        return false;
    t->stack = memory + PAGE;
    t->stack_pointer = ldk_stack_prepare(t->stack, LDK_STACK_BYTES, thread_main);
    t->sanitizer = sanitizer_new_fiber();
    return true;
}

/* ---- Launching ------------------------------------------------------------------------------- */

static void clear_block(void)
{
    ldk_block.left = 0;
    memset(ldk_block.gone, 0, sizeof ldk_block.gone);
    for (uint32_t w = 0; w < ldk_block.warps; w++) {
        uint32_t lanes = ldk_block.threads - w * 32;
        ldk_block.exists[w] = lanes >= 32 ? ~0u : (1u << lanes) - 1;
        ldk_block_wake(w, ldk_block.exists[w]);
    }
    for (uint32_t i = 0; i < LDK_MAX_BARRIERS; i++) {
        ldk_block.barriers[i].arrived = 0;
        memset(ldk_block.barriers[i].waiting, 0, sizeof ldk_block.barriers[i].waiting);
    }
}

static void run_block(struct ldk_host_index index)
{
    ldk_host_now.block = index;
    ldk_host_stats.blocks++;
    clear_block();
    ldk_shared_begin(ldk_block.dynamic_bytes);
    sanitizer_release(&outside.begin);
    struct ldk_thread *first = next_thread(0, true);
    enter(first);
    outside.fiber = sanitizer_this_fiber();
    sanitizer_leave(first->sanitizer, &outside.fake_stack, first->stack, LDK_STACK_BYTES);
    ldk_stack_switch(&outside.stack_pointer, first->stack_pointer);
    const void *old_stack;
    size_t old_bytes;
    sanitizer_arrive(outside.fake_stack, &old_stack, &old_bytes);
    sanitizer_acquire(&outside.end);
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Block i of the walk is number (first + step * i) mod count. */
static void run_grid(struct ldk_host_index grid)
{
    uint64_t count = (uint64_t)grid.x * grid.y * grid.z, first = 0, step = 1;
    if (seed == 1) {
        first = count - 1;
        step = count - 1;
    } else if (seed > 1 && count > 1 && count <= UINT32_MAX) {
        first = random_below((uint32_t)count);
        do
            step = 1 + random_below((uint32_t)count - 1);
        while (common_divisor(step, count) != 1);
    }
    uint64_t number = first;
    for (uint64_t i = 0; i < count; i++) {
        run_block((struct ldk_host_index){(uint32_t)(number % grid.x),
                                          (uint32_t)(number / grid.x % grid.y),
                                          (uint32_t)(number / grid.x / grid.y)});
        number = (number + step) % count;
    }
}

int ldk_fiber_launch(const char *name, const void *kernel, struct ldk_host_index grid,
                     struct ldk_host_index block, size_t dynamic_bytes, void (*body)(void *),
                     void *context)
{
    struct ldk_place nowhere = {0};
    uint64_t count = (uint64_t)block.x * block.y * block.z;
    if (ldk_block.current)
        ldk_host_fault(nowhere, "launches %s from within a kernel", name);
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > INT32_MAX || grid.y > 65535 ||
        grid.z > 65535 || count == 0 || count > LDK_MAX_THREADS || block.z > 64)
        return INVALID_CONFIGURATION;
    if (dynamic_bytes > ldk_shared_limit(kernel))
        return INVALID_VALUE;
    ldk_block.kernel = name;
    ldk_block.kernel_key = kernel;
    ldk_block.threads = (uint32_t)count;
    ldk_block.warps = (ldk_block.threads + 31) / 32;
    ldk_block.dynamic_bytes = dynamic_bytes;
    ldk_host_now.block_dim = block;
    ldk_host_now.grid_dim = grid;
    for (uint32_t i = 0; i < ldk_block.threads; i++) {
        if (!prepare_thread(i))
            ldk_host_fault(nowhere, "there is no memory for the stack of thread %u", i);
    }
    outside.body = body;
    outside.context = context;
    ldk_host_stats.launches++;
    run_grid(grid);
    ldk_block.kernel = NULL;
    return 0;
}
