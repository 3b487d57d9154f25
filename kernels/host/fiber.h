/*
 * Runs CUDA kernels on the host: one fiber per CUDA thread, blocks one after the other, everything
 * on the calling OS thread. A thread runs until it meets a barrier or a warp operation, so races
 * show between those points, and the order in which ready threads go on is the test's choice.
 *
 * Tests use the functions with names in ldk_host_; launch_host.h turns the words of device code
 * into the ldk_fiber_ ones. Every misuse is described on stderr with kernel, block, thread and
 * source line, and ends the process with status LDK_HOST_FAULT. One OS thread at a time.
 *
 * Source: hostbuild.md sections 1-3.
 */
#ifndef LDK_HOST_FIBER_H
#define LDK_HOST_FIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LDK_HOST_FAULT = 90 };

/* ---- For tests ------------------------------------------------------------------------------- */

/* 0: threads, warps and blocks ascending; 1: descending; others: random by this seed. */
void ldk_host_seed(uint64_t seed);

/* What a block may opt in to at most, in bytes; 99 KB unless set. */
void ldk_host_shared_ceiling(size_t bytes);

/* Exact counts since the last reset. */
struct ldk_host_counters {
    uint64_t launches, blocks, switches;
    uint64_t barriers; /* __syncthreads and named ones, completed */
    uint64_t syncwarps, shuffles;
    uint64_t mma_16816, mma_1688, mma_16816_h, mma_1688_h; /* by warp */
    uint64_t ldmatrix;                                     /* by warp, any count */
    uint64_t ldmatrix_conflicts; /* shared-memory passes beyond one for each 8x8 matrix */
    uint64_t cp_async;           /* by thread */
    uint64_t cp_async_bytes;     /* read from the source */
    uint64_t cp_async_zeros;     /* zero-filled */
};
extern struct ldk_host_counters ldk_host_stats;
void ldk_host_stats_reset(void);

/*
 * Memory that kernels work on: 256-byte aligned, its end pressed against a guard area of 1 MiB
 * (what alignment leaves over is poisoned under AddressSanitizer), another guard before it, filled
 * with 0xFF (NaN in every float type; uninitialised for MemorySanitizer). NULL if there is no
 * memory.
 */
void *ldk_host_tensor(size_t bytes);
/* NULL is ignored; any other pointer must come from ldk_host_tensor. */
void ldk_host_tensor_free(void *tensor);

/* ---- For launch_host.h ----------------------------------------------------------------------- */

struct ldk_host_index {
    uint32_t x, y, z;
};

/* threadIdx and its company; set at every switch. */
struct ldk_host_position {
    struct ldk_host_index thread, block, block_dim, grid_dim;
};
extern struct ldk_host_position ldk_host_now;

/* Where in the source a thread is. Two barriers on one line differ in `occurrence`. */
struct ldk_place {
    const char *file;
    int32_t line, occurrence;
};

/* Runs body(context) once per thread. 0, or the cudaError_t that a device would give for bad
 * dimensions (9) or for more dynamic shared memory than opted in to (1). */
int ldk_fiber_launch(const char *name, const void *kernel, struct ldk_host_index grid,
                     struct ldk_host_index block, size_t dynamic_bytes, void (*body)(void *),
                     void *context);
int ldk_fiber_smem_optin(const void *kernel, size_t bytes);

/* The block's copy of the static array known by `key`. */
void *ldk_fiber_shared(const void *key, size_t bytes, size_t alignment, const char *name);
void *ldk_fiber_shared_dynamic(void);

void ldk_fiber_syncthreads(struct ldk_place place);
void ldk_fiber_named_barrier(int32_t id, int32_t threads, bool wait, struct ldk_place place);

enum ldk_warp_kind {
    LDK_WARP_SYNC,
    LDK_WARP_SHUFFLE,
    LDK_WARP_BALLOT,
    LDK_WARP_ADD,
    LDK_WARP_MIN,
    LDK_WARP_MAX,
    LDK_WARP_MIN_SIGNED,
    LDK_WARP_MAX_SIGNED,
    LDK_WARP_AND,
    LDK_WARP_OR,
    LDK_WARP_XOR,
    LDK_WARP_LDMATRIX_1,
    LDK_WARP_LDMATRIX_2,
    LDK_WARP_LDMATRIX_4,
    LDK_WARP_LDMATRIX_1_TRANS,
    LDK_WARP_LDMATRIX_2_TRANS,
    LDK_WARP_LDMATRIX_4_TRANS,
    LDK_WARP_MMA_F16,
    LDK_WARP_MMA_BF16,
    LDK_WARP_MMA_F16_K8,
    LDK_WARP_MMA_BF16_K8,
    LDK_WARP_MMA_HALF,
    LDK_WARP_MMA_HALF_K8
};

/* What a lane brings to a warp operation and takes from it; fields by kind. */
struct ldk_warp_operand {
    uint64_t value;   /* shuffle: in and out; ballot, reductions: in and out (32 bits) */
    int32_t source;   /* shuffle: the lane whose value is wanted */
    uint32_t row[4];  /* ldmatrix: the 16 bytes of this lane's row */
    const void *from; /* ldmatrix: where they were */
    uint32_t *out;    /* ldmatrix */
    float *d;         /* mma */
    uint32_t *d_half; /* mma with half accumulators */
    const uint32_t *a, *b;
};

/* Waits for all lanes of `mask` at the same place; the last one to come computes for all. */
void ldk_fiber_warp(enum ldk_warp_kind kind, uint32_t mask, struct ldk_warp_operand *operand,
                    struct ldk_place place);
uint32_t ldk_fiber_lane(void);

/* One copy in flight. */
struct ldk_host_copy {
    void *dst;
    uint64_t data[2];
    int32_t bytes;
    uint32_t group;
};
/* Checks the copy and returns its place in the thread's queue; the caller fills `data`. */
struct ldk_host_copy *ldk_fiber_copy_issue(void *dst, const void *src, int32_t bytes,
                                           int32_t src_bytes, struct ldk_place place);
void ldk_fiber_copy_commit(void);
/* The next copy that a wait for all but `newest` groups lands; NULL when there is none left. */
struct ldk_host_copy *ldk_fiber_copy_land(uint32_t newest);

/* Shared memory that must not be touched until ldk_fiber_unpoison. */
void ldk_fiber_poison(void *memory, size_t bytes);
void ldk_fiber_unpoison(void *memory, size_t bytes);

/* Faults, unless p is a multiple of `alignment`; unless all of p[0..bytes) is shared memory. */
void ldk_fiber_check_aligned(const void *p, size_t alignment, struct ldk_place place);
void ldk_fiber_check_shared(const void *p, size_t bytes, struct ldk_place place);

#ifdef __cplusplus
}
#endif
#endif
