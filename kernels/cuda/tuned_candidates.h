/*
 * Who may compute a shape: our own variants, and what the libraries propose for it. Private to
 * tuned*.c.
 */
#ifndef LDK_TUNED_CANDIDATES_H
#define LDK_TUNED_CANDIDATES_H

#include "kernels/cuda/tuned_work.h"

/* Everyone who stands for election, in out[capacity]; how many. */
uint32_t ldk_work_candidates(const struct ldk_work *work, struct ldk_tune_candidate *out,
                             uint32_t capacity);
/* Our own variants for this shape, under the names that a cache remembers. */
uint32_t ldk_work_own_candidates(const struct ldk_work *work, struct ldk_tune_candidate *out,
                                 uint32_t capacity);
/* What gives the bits of the variant that the launcher takes by itself: the signature of at least
 * two candidates; 0 where there is nothing to choose from. */
uint32_t ldk_work_default_signature(const struct ldk_work *work);
/* That variant's number. */
int32_t ldk_work_default_number(const struct ldk_work *work);

#endif
