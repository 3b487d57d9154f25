/*
 * Monotonic and wall time in microseconds behind one seam, so that tests can turn the clock. All
 * deadlines, leases and back-offs use the monotonic clock; the wall clock is for showing and for
 * retention only.
 */
#ifndef LD_BASE_CLOCK_H
#define LD_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_CLOCK_TEXT_SIZE = 28 }; /* "2026-11-25T13:34:44.123456Z" and the NUL */

/* Never goes back, unaffected by clock steps; comparable between processes of one host. */
int64_t ld_clock_monotonic_us(void);

/* Since 1970-01-01 UTC; may step. */
int64_t ld_clock_wall_us(void);

/* Sleep that tests do not fake; returns early only on a signal. */
void ld_clock_sleep_us(int64_t duration_us);

/* RFC 3339 in UTC with microseconds. `wall_us` in years 1970..9999, else the nearest bound. */
void ld_clock_format(int64_t wall_us, char out[LD_CLOCK_TEXT_SIZE]);

typedef int64_t (*ld_clock_read)(void);

/* Replace either source for a test; NULL restores the system's. Not while other threads run. */
void ld_clock_override(ld_clock_read monotonic, ld_clock_read wall);

#ifdef __cplusplus
}
#endif
#endif
