/*
 * What the checks of schedules and of trajectories share: JSON readers that take a fallback, and
 * the two entries of gc_traj.c.
 */
#ifndef LD_GOLDEN_CHECK_SCHEDULE_H
#define LD_GOLDEN_CHECK_SCHEDULE_H

#include "runtime/sample/schedule.h"
#include "tests/golden_check/gc.h"

enum { NAME_SIZE = 256, PATH_SIZE = 4096, ARENA_SIZE = 64 << 20 };

/* A number, or `fallback` where the key is absent or something else; likewise a text, or "". */
double gc_number_or(const json_t *object, const char *key, double fallback);
const char *gc_text_or_empty(const json_t *object, const char *key);

/* Numbers of a JSON array, null as NaN; the caller frees. */
double *gc_numbers(const json_t *array, size_t *count);

/* The whole file; NULL after reporting a failure. */
json_t *gc_load(struct gc *gc, const char *path);

void gc_run_traj(struct gc *gc, const char *root, const char *path);
void gc_run_traj_vp(struct gc *gc, const char *root, const char *path);

#endif
