/*
 * What the sanitizers must be told: which fiber runs, which bytes are out of bounds or unset, which
 * waits order memory. The build defines LDK_HOST_ASAN, LDK_HOST_TSAN or LDK_HOST_MSAN, or nothing.
 *
 * The files of kernels/host are compiled without instrumentation, so that their own bookkeeping is
 * neither slowed nor accused; only MemorySanitizer must see them, for it follows values through
 * them.
 *
 * Source: sanitizer/{asan,common,tsan,msan}_interface.h of compiler-rt.
 */
#ifndef LDK_HOST_SANITIZER_H
#define LDK_HOST_SANITIZER_H

#include "kernels/host/block.h"

#if defined(LDK_HOST_ASAN)
void __asan_poison_memory_region(void const volatile *, size_t);
void __asan_unpoison_memory_region(void const volatile *, size_t);
void __sanitizer_start_switch_fiber(void **, const void *, size_t);
void __sanitizer_finish_switch_fiber(void *, const void **, size_t *);
#elif defined(LDK_HOST_TSAN)
void *__tsan_create_fiber(unsigned);
void *__tsan_get_current_fiber(void);
void __tsan_switch_to_fiber(void *, unsigned);
void __tsan_acquire(void *);
void __tsan_release(void *);
#elif defined(LDK_HOST_MSAN)
void __msan_poison(const volatile void *, size_t);
void __msan_unpoison(const volatile void *, size_t);
void __msan_start_switch_fiber(const void *, size_t);
void __msan_finish_switch_fiber(const void **, size_t *);
#endif

#if defined(LDK_HOST_ASAN) || defined(LDK_HOST_TSAN) || defined(LDK_HOST_MSAN)
enum { LDK_STACK_BYTES = 256 * 1024 };
#else
enum { LDK_STACK_BYTES = 64 * 1024 };
#endif

/* Out of bounds (AddressSanitizer), or unset (MemorySanitizer). */
static inline void sanitizer_forbid(void *memory, size_t bytes)
{
#if defined(LDK_HOST_ASAN)
    __asan_poison_memory_region(memory, bytes);
#elif defined(LDK_HOST_MSAN)
    __msan_poison(memory, bytes);
#else
    (void)memory;
    (void)bytes;
#endif
}

/* Within bounds; for MemorySanitizer this changes nothing, only a store sets memory. */
static inline void sanitizer_permit(void *memory, size_t bytes)
{
#if defined(LDK_HOST_ASAN)
    __asan_unpoison_memory_region(memory, bytes);
#else
    (void)memory;
    (void)bytes;
#endif
}

/* Memory that is within bounds and holds nothing yet. */
static inline void sanitizer_unset(void *memory, size_t bytes)
{
#if defined(LDK_HOST_MSAN)
    __msan_poison(memory, bytes);
#else
    (void)memory;
    (void)bytes;
#endif
}

static inline void sanitizer_release(void *address)
{
#if defined(LDK_HOST_TSAN)
    __tsan_release(address);
#else
    (void)address;
#endif
}

static inline void sanitizer_acquire(void *address)
{
#if defined(LDK_HOST_TSAN)
    __tsan_acquire(address);
#else
    (void)address;
#endif
}

static inline void *sanitizer_new_fiber(void)
{
#if defined(LDK_HOST_TSAN)
    return __tsan_create_fiber(0);
#else
    return NULL;
#endif
}

static inline void *sanitizer_this_fiber(void)
{
#if defined(LDK_HOST_TSAN)
    return __tsan_get_current_fiber();
#else
    return NULL;
#endif
}

/* Just before leaving for the stack [stack, stack + bytes). */
static inline void sanitizer_leave(void *fiber, void **fake_stack, const void *stack, size_t bytes)
{
#if defined(LDK_HOST_ASAN)
    (void)fiber;
    __sanitizer_start_switch_fiber(fake_stack, stack, bytes);
#elif defined(LDK_HOST_TSAN)
    enum { NO_SYNC = 1 };
    (void)fake_stack;
    (void)stack;
    (void)bytes;
    __tsan_switch_to_fiber(fiber, NO_SYNC);
#elif defined(LDK_HOST_MSAN)
    (void)fiber;
    (void)fake_stack;
    __msan_start_switch_fiber(stack, bytes);
#else
    (void)fiber;
    (void)fake_stack;
    (void)stack;
    (void)bytes;
#endif
}

/* Just after arriving; tells the stack that was left, which is how the main stack becomes known. */
static inline void sanitizer_arrive(void *fake_stack, const void **old_stack, size_t *old_bytes)
{
#if defined(LDK_HOST_ASAN)
    __sanitizer_finish_switch_fiber(fake_stack, old_stack, old_bytes);
#elif defined(LDK_HOST_MSAN)
    (void)fake_stack;
    __msan_finish_switch_fiber(old_stack, old_bytes);
#else
    (void)fake_stack;
    (void)old_stack;
    (void)old_bytes;
#endif
}

#endif
