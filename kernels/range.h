/*
 * Named ranges on a profiler's time line: what the host asks of a device, and for how long. A
 * backend whose profiler listens has a table of them (ld_backend.ranges); no other has one, and
 * then a range costs a test of a pointer.
 *
 *     ld_range_push(backend->ranges, "decode %dx%d", width, height);
 *     ...
 *     ld_range_pop(backend->ranges);
 *
 * Names tell kinds, sizes and the numbers of steps. A prompt, a name that a user has given and
 * whose job it is stay out of them: a profile is passed on more lightly than a log.
 *
 * Source   kernels.md 16.
 */
#ifndef LD_KERNELS_RANGE_H
#define LD_KERNELS_RANGE_H

#include "runtime/base/error.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Borrows names for the call. */
struct ld_ranges {
    /* Ranges of one thread, each inside of the one before. */
    void (*push)(const char *name);
    void (*pop)(void);
    /* A range that may overlap others. */
    uint64_t (*start)(const char *name);
    void (*end)(uint64_t range);
};

/* `ranges` NULL: nothing happens. A name is cut after 127 bytes. */
void ld_range_push(const struct ld_ranges *ranges, const char *format, ...) LD_PRINTF(2, 3);
void ld_range_pop(const struct ld_ranges *ranges);

/* What ld_range_end wants, in the same table; 0 without one. */
uint64_t ld_range_start(const struct ld_ranges *ranges, const char *format, ...) LD_PRINTF(2, 3);
void ld_range_end(const struct ld_ranges *ranges, uint64_t range);

#ifdef __cplusplus
}
#endif
#endif
