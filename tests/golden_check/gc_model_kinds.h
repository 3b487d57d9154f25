/* Case files of the model family that have a source file of their own. */
#ifndef LD_GOLDEN_CHECK_MODEL_KINDS_H
#define LD_GOLDEN_CHECK_MODEL_KINDS_H

#include "tests/golden_check/gc.h"

/* gc_ops.c */
void gc_run_ops(struct gc *gc, const char *root, const char *path);
void gc_run_generator(struct gc *gc, const char *root, const char *path);

/* gc_model_text.c */
void gc_run_adapter_outputs(struct gc *gc, const char *root, const char *path);
void gc_run_inversion(struct gc *gc, const char *root, const char *path);
void gc_run_emphasis_encodings(struct gc *gc, const char *root, const char *path);

#endif
