/*
 * What of the golden data was looked at: a file, or a tensor of a file, that no check asked for is a
 * failure of its own, so that nothing of a folder can be left out in silence.
 */
#ifndef LD_GOLDEN_COVERAGE_H
#define LD_GOLDEN_COVERAGE_H

#include "tests/golden_check/gc.h"

/* A check was given this file; or this tensor of it. */
void gc_coverage_file(const char *path);
void gc_coverage_tensor(const char *path, const char *name);

/* Fail every file below `top`, and every tensor of the files whose tensors were asked for one by
 * one, that nobody was given. READMEs aside. */
void gc_coverage_check(struct gc *gc, const char *top);

#endif
