/* What the two files of this family share: gc_noise.c (rng, resize, deep shrink) and gc_guidance.c.
 */
#ifndef LD_GOLDEN_CHECK_NOISE_H
#define LD_GOLDEN_CHECK_NOISE_H

#include "tests/golden_check/gc.h"

enum { GC_PATH_SIZE = 4096, GC_NAME_SIZE = 256 };

json_t *gc_json_load(struct gc *gc, const char *path);
double gc_number(const json_t *object, const char *key);
uint64_t gc_integer(const json_t *object, const char *key);
const char *gc_text(const json_t *object, const char *key); /* "" where absent */

/* The array at `relative` below the sampling folder. */
bool gc_array_load(const struct gc *gc, const char *root, const char *relative,
                   struct gc_array *array);

/* Narrow or widen; caller frees. */
float *gc_to_f32(const double *values, size_t count);
double *gc_to_f64(const float *values, size_t count);

void gc_run_guidance(struct gc *gc, const char *root, const char *path);
void gc_run_area(struct gc *gc, const char *root, const char *path);

#endif
