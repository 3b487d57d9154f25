/* Case files of the model family that have a source file of their own. */
#ifndef LD_GOLDEN_CHECK_MODEL_KINDS_H
#define LD_GOLDEN_CHECK_MODEL_KINDS_H

#include "tests/golden_check/gc.h"

void gc_run_ops(struct gc *gc, const char *root, const char *path);
void gc_run_generator(struct gc *gc, const char *root, const char *path);

#endif
