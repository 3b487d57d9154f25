/*
 * The activation plan: a pure function from value lifetimes to offsets in one arena. It knows no
 * operator and no device; the graph builder says how large each value is, which step writes it
 * first and which step reads it last.
 *
 *     struct ld_plan_value values[2] = {{.bytes = 4096, .first = 0, .last = 1},
 *                                       {.bytes = 4096, .first = 1, .last = 2, .in_place = 0}};
 *     ld_plan_memory(values, 2, &peak, &err);      // values[1] may stand where values[0] stood
 */
#ifndef LD_GPU_PLAN_MEM_H
#define LD_GPU_PLAN_MEM_H

#include "runtime/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 256 bytes: what CUDA's allocator gives and the kernels count on; a cache line is 64. */
enum { LD_PLAN_ALIGN = 256, LD_PLAN_NO_VALUE = -1 };

struct ld_plan_value {
    size_t bytes;
    int32_t first, last; /* steps, inclusive; first <= last */
    /* Index of an earlier value whose memory this one may take over: allowed by the operator of
     * step `first`, done only if that value is read for the last time there and is large enough.
     * LD_PLAN_NO_VALUE: never. */
    int32_t in_place;
    bool shares;   /* out: in_place was done */
    size_t offset; /* out: multiple of LD_PLAN_ALIGN */
};

/*
 * Assign offsets: values that share memory form groups, groups are placed largest first, each at
 * the lowest place free over its whole lifetime. The result depends on the arguments alone.
 *
 * Owner    borrows `values`, writes the out fields; `peak` receives the arena's bytes.
 * Errors   LD_E_TOO_LARGE when a sum overflows, LD_E_NOMEM for the planner's own notes,
 *          LD_E_BUG for a lifetime or reference that makes no sense.
 */
enum ld_code ld_plan_memory(struct ld_plan_value *values, uint32_t count, size_t *peak,
                            struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
