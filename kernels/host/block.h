/*
 * What the files of kernels/host share: the running block and its threads. Not for others.
 */
#ifndef LDK_HOST_BLOCK_H
#define LDK_HOST_BLOCK_H

#include "kernels/host/fiber.h"

enum {
    LDK_MAX_THREADS = 1024,
    LDK_MAX_WARPS = 32,
    LDK_MAX_RENDEZVOUS = 8, /* in one warp at once */
    LDK_MAX_COPIES = 128,   /* one thread's copies in flight */
    LDK_MAX_BARRIERS = 16
};

/* One CUDA thread. Its fiber lives on from block to block. */
struct ldk_thread {
    void *stack_pointer; /* where it was left */
    char *stack;         /* lowest byte; NULL until first used */
    void *sanitizer;     /* the fiber as the sanitizer knows it */
    void *fake_stack;    /* AddressSanitizer's */
    uint32_t number, warp, lane;
    bool left; /* the kernel */
    const char *waits_in;
    struct ldk_place waits_at;
    struct ldk_host_copy copies[LDK_MAX_COPIES];
    uint32_t copies_begin, copies_end; /* running numbers; their place is modulo LDK_MAX_COPIES */
    uint32_t groups;                   /* committed */
};

/* Lanes on their way into one warp operation. A slot stays with its mask, so that what the race
 * detector learns in it concerns the same lanes every time. */
struct ldk_rendezvous {
    uint32_t mask, arrived;
    enum ldk_warp_kind kind;
    struct ldk_place place;
    struct ldk_warp_operand *operands[32];
    uint32_t turn;
    char order[2]; /* addresses for the race detector, used in turn */
};

struct ldk_barrier {
    uint32_t arrived, expected;
    uint32_t waiting[LDK_MAX_WARPS];
    struct ldk_place place;
    uint32_t turn;
    char order[2];
};

struct ldk_block {
    const char *kernel;
    const void *kernel_key;
    struct ldk_thread *current; /* NULL between blocks */
    uint32_t threads, warps, left;
    uint32_t exists[LDK_MAX_WARPS], ready[LDK_MAX_WARPS], gone[LDK_MAX_WARPS]; /* lane masks */
    uint32_t ready_warps;
    struct ldk_rendezvous rendezvous[LDK_MAX_WARPS][LDK_MAX_RENDEZVOUS];
    struct ldk_barrier barriers[LDK_MAX_BARRIERS]; /* 0 is __syncthreads */
    size_t dynamic_bytes;
};
extern struct ldk_block ldk_block;

/* Prints the sentence with kernel, block, thread and place, and ends the process. */
_Noreturn void ldk_host_fault(struct ldk_place place, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Marks lanes of a warp as ready to go on. */
void ldk_block_wake(uint32_t warp, uint32_t lanes);
/* The current thread waits until woken (it may have woken itself); `free_choice`: any ready warp
 * may go on next, not preferably this one. */
void ldk_block_wait(const char *what, struct ldk_place place, bool free_choice);

/* shared.c: a fresh arena for the next block; largest dynamic size the kernel may ask for. */
void ldk_shared_begin(size_t dynamic_bytes);
size_t ldk_shared_limit(const void *kernel);
bool ldk_shared_contains(const void *p, size_t bytes);

/* warp.c: what the operation means, once all lanes are there. */
void ldk_warp_compute(struct ldk_rendezvous *r, uint32_t warp);

#endif
