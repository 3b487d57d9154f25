/*
 * Shared memory of the running block, and the copies on their way into it.
 *
 * The dynamic block comes first, static arrays follow as threads reach them, each aligned to its
 * own alignment and not better, with poisoned bytes around. Everything is fresh for each block.
 */
#include "kernels/host/block.h"
#include "kernels/host/sanitizer.h"

enum {
    ARENA_BYTES = 256 * 1024,
    RED_ZONE = 64,
    STATIC_LIMIT = 48 * 1024, /* also the dynamic limit without opting in */
    MAX_ARRAYS = 64,
    MAX_KERNELS = 1024
};

static _Alignas(1024) unsigned char arena[ARENA_BYTES];
static size_t used, ceiling = 99 * 1024;

static struct {
    const void *key;
    unsigned char *at;
    size_t bytes;
} arrays[MAX_ARRAYS];
static uint32_t array_count;
static size_t static_bytes;

static struct {
    const void *kernel;
    size_t bytes;
} opted[MAX_KERNELS];
static uint32_t opted_count;

void ldk_host_shared_ceiling(size_t bytes)
{
    ceiling = bytes;
}

int ldk_fiber_smem_optin(const void *kernel, size_t bytes)
{
    enum { INVALID_VALUE = 1 };
    if (bytes > ceiling)
        return INVALID_VALUE;
    uint32_t i = 0;
    while (i < opted_count && opted[i].kernel != kernel)
        i++;
    if (i == MAX_KERNELS)
        return INVALID_VALUE;
    opted[i].kernel = kernel;
    opted[i].bytes = bytes;
    if (i == opted_count)
        opted_count++;
    return 0;
}

size_t ldk_shared_limit(const void *kernel)
{
    for (uint32_t i = 0; i < opted_count; i++) {
        if (opted[i].kernel == kernel && opted[i].bytes > STATIC_LIMIT)
            return opted[i].bytes < ceiling ? opted[i].bytes : ceiling;
    }
    return STATIC_LIMIT;
}

/* Word by word and volatile: a memset would be seen by the race detector as this thread's write. */
static void fill(unsigned char *memory, size_t bytes)
{
    volatile unsigned char *byte = memory;
    size_t i = 0;
    for (; i < bytes && (uintptr_t)(memory + i) % 8 != 0; i++)
        byte[i] = 0xFF;
    for (; i + 8 <= bytes; i += 8)
        *(volatile uint64_t *)(void *)(memory + i) = UINT64_MAX;
    for (; i < bytes; i++)
        byte[i] = 0xFF;
}

static void make_fresh(unsigned char *memory, size_t bytes)
{
    sanitizer_permit(memory, bytes);
    fill(memory, bytes);
    sanitizer_unset(memory, bytes);
}

void ldk_shared_begin(size_t dynamic_bytes)
{
    size_t before = used;
    array_count = 0;
    static_bytes = 0;
    make_fresh(arena, dynamic_bytes + RED_ZONE);
    used = dynamic_bytes + RED_ZONE;
    size_t end = before > used ? before : used;
    sanitizer_forbid(arena + dynamic_bytes, end - dynamic_bytes);
}

void *ldk_fiber_shared_dynamic(void)
{
    return arena;
}

/* The first offset from `at` on that is aligned to `alignment`, but not to twice that. */
static size_t aligned_no_better(size_t at, size_t alignment)
{
    size_t offset = (at + alignment - 1) / alignment * alignment;
    return offset % (2 * alignment) == 0 ? offset + alignment : offset;
}

void *ldk_fiber_shared(const void *key, size_t bytes, size_t alignment, const char *name)
{
    for (uint32_t i = 0; i < array_count; i++) {
        if (arrays[i].key == key)
            return arrays[i].at;
    }
    struct ldk_place nowhere = {0};
    static_bytes = (static_bytes + alignment - 1) / alignment * alignment + bytes;
    size_t limit = ldk_shared_limit(ldk_block.kernel_key) > STATIC_LIMIT ? ceiling : STATIC_LIMIT;
    if (static_bytes > STATIC_LIMIT || static_bytes + ldk_block.dynamic_bytes > limit)
        ldk_host_fault(nowhere,
                       "%s: %zu bytes of static and %zu of dynamic shared memory are too many",
                       name, static_bytes, ldk_block.dynamic_bytes);
    size_t offset = aligned_no_better(used, alignment);
    if (array_count == MAX_ARRAYS || offset + bytes + RED_ZONE > ARENA_BYTES)
        ldk_host_fault(nowhere, "%s: too many shared arrays", name);
    unsigned char *at = arena + offset;
    used = offset + bytes + RED_ZONE;
    make_fresh(at, bytes + RED_ZONE);
    sanitizer_forbid(at + bytes, RED_ZONE);
    arrays[array_count].key = key;
    arrays[array_count].at = at;
    arrays[array_count].bytes = bytes;
    array_count++;
    return at;
}

bool ldk_shared_contains(const void *p, size_t bytes)
{
    uintptr_t from = (uintptr_t)p, low = (uintptr_t)arena;
    if (from >= low && from + bytes <= low + ldk_block.dynamic_bytes)
        return true;
    for (uint32_t i = 0; i < array_count; i++) {
        uintptr_t first = (uintptr_t)arrays[i].at;
        if (from >= first && from + bytes <= first + arrays[i].bytes)
            return true;
    }
    return false;
}

void ldk_fiber_check_aligned(const void *p, size_t alignment, struct ldk_place place)
{
    if ((uintptr_t)p % alignment != 0)
        ldk_host_fault(place, "misaligned: %p is no multiple of %zu", p, alignment);
}

void ldk_fiber_check_shared(const void *p, size_t bytes, struct ldk_place place)
{
    if (!ldk_shared_contains(p, bytes))
        ldk_host_fault(place, "%p is not %zu bytes of shared memory", p, bytes);
}

/* ---- Copies in flight ------------------------------------------------------------------------ */

struct ldk_host_copy *ldk_fiber_copy_issue(void *dst, const void *src, int32_t bytes,
                                           int32_t src_bytes, struct ldk_place place)
{
    struct ldk_thread *self = ldk_block.current;
    if (src_bytes < 0 || src_bytes > bytes)
        ldk_host_fault(place, "cp.async of %d bytes out of %d", src_bytes, bytes);
    ldk_fiber_check_aligned(dst, (size_t)bytes, place);
    ldk_fiber_check_aligned(src, (size_t)bytes, place);
    ldk_fiber_check_shared(dst, (size_t)bytes, place);
    uintptr_t from = (uintptr_t)src;
    if (from >= (uintptr_t)arena && from < (uintptr_t)arena + ARENA_BYTES)
        ldk_host_fault(place, "cp.async from shared memory");
    if (from >= (uintptr_t)self->stack && from < (uintptr_t)self->stack + LDK_STACK_BYTES)
        ldk_host_fault(place, "cp.async from a local variable");
    if (self->copies_end - self->copies_begin == LDK_MAX_COPIES)
        ldk_host_fault(place, "more than %d copies in flight in one thread", LDK_MAX_COPIES);
    struct ldk_host_copy *copy = &self->copies[self->copies_end++ % LDK_MAX_COPIES];
    copy->dst = dst;
    copy->bytes = bytes;
    copy->group = self->groups;
    copy->data[0] = copy->data[1] = 0;
    ldk_host_stats.cp_async++;
    ldk_host_stats.cp_async_bytes += (uint64_t)src_bytes;
    ldk_host_stats.cp_async_zeros += (uint64_t)(bytes - src_bytes);
    return copy;
}

void ldk_fiber_copy_commit(void)
{
    ldk_block.current->groups++;
}

struct ldk_host_copy *ldk_fiber_copy_land(uint32_t newest)
{
    struct ldk_thread *self = ldk_block.current;
    if (self->copies_begin == self->copies_end)
        return NULL;
    struct ldk_host_copy *oldest = &self->copies[self->copies_begin % LDK_MAX_COPIES];
    if (oldest->group + newest >= self->groups)
        return NULL;
    self->copies_begin++;
    return oldest;
}

void ldk_fiber_poison(void *memory, size_t bytes)
{
    if (bytes >= 8) /* the sanitizers' grain */
        sanitizer_forbid(memory, bytes);
}

void ldk_fiber_unpoison(void *memory, size_t bytes)
{
    sanitizer_permit(memory, bytes);
}
