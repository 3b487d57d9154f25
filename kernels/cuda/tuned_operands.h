/*
 * What a shape runs on while its candidates are timed and judged: memory of its own on the device,
 * random values in it, and as many copies that a timed run does not find in the L2 what the run
 * before has left there. Private to tuned*.c.
 *
 * Errors   codes of rt.h; what was there before a failure is given back or still whole.
 */
#ifndef LDK_TUNED_OPERANDS_H
#define LDK_TUNED_OPERANDS_H

#include "kernels/cuda/tuned_work.h"

/* Memory and random operands for `batch` images; what was there for fewer is dropped. Image 0 of
 * every batch gets equal bytes. */
int ldk_work_prepare(struct ldk_work *work, int32_t batch);
/* Random weights of the shape that the work came with, in place of the caller's, which may be gone;
 * attention has none. Until ldk_work_deinit. */
int ldk_work_own_weight(struct ldk_work *work);
/* Room for what a launch asks for: `bytes` of scratch, moments of batch x tiles x channels. What
 * was in it is lost. */
int ldk_work_need_scratch(struct ldk_work *work, size_t bytes);
int ldk_work_need_moments(struct ldk_work *work, int32_t batch, int32_t tiles, int32_t channels);

/* The norm that reads y next, up to where it knows means and deviations; what y and its moments
 * are is the caller's to say. */
struct ldk_group_norm ldk_work_norm(const struct ldk_work *work, int32_t batch);

/*
 * Something to do for the device while the host prepares the launch that is timed: a library's call
 * takes the host longer than a small layer takes the device, and a recorded plan launches without
 * it. Four times the L2 take some 60 microseconds and leave nothing in it. Without memory for it
 * times are less good, not wrong.
 */
int ldk_work_lay_runway(struct ldk_work *work);

/* Give the device memory back. */
void ldk_work_deinit(struct ldk_work *work);

#endif
