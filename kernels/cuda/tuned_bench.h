/*
 * One shape on the device as the tuner asks about it: candidates, a check against the plain kernel,
 * a clock, a hash of one image's bits. Private to tuned.c and its tests.
 */
#ifndef LDK_TUNED_BENCH_H
#define LDK_TUNED_BENCH_H

#include "kernels/cuda/tuned_work.h"

/* Borrows `work`, whose operands are made when first needed: ldk_work_deinit. */
struct ldk_tune_bench ldk_work_bench(struct ldk_work *work);

#endif
