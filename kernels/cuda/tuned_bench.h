/*
 * One shape on the device as the tuner asks about it: candidates, a check against the plain kernel,
 * a clock, a hash of one image's bits. Private to tuned.c and its tests.
 */
#ifndef LDK_TUNED_BENCH_H
#define LDK_TUNED_BENCH_H

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/tune.h"

struct ldk_libs;

/* `unit` and the operator it came from (conv, linear or attention by unit.op) are set by the
 * caller; weights are used as they are, operands are our own. */
struct ldk_work {
    struct ldk_tune_unit unit;
    struct ldk_conv conv;
    struct ldk_linear linear;
    struct ldk_attention attention;
    struct ldk_libs *libs; /* NULL: none */
    size_t l2_bytes;
    /* Made when first needed, for `places` copies of x and y at `batch`. */
    int32_t batch;
    uint32_t places, turn;
    unsigned char *x0, *x1, *x2 /* q, k, v of an attention */, *residual, *y, *reference;
    float *row_add, *moments;
    unsigned char *norm_gains, *norm_fold, *norm_scratch; /* of the norm that wants the moments */
    void *scratch;
    unsigned char *runway; /* NULL: none */
    size_t runway_bytes;
    size_t x0_bytes, x1_bytes, x2_bytes, y_bytes, scratch_bytes, moments_bytes;
    unsigned char *weight; /* ldk_work_own_weight's; NULL: the caller's are used */
    void *want;            /* host: the judge's output, for the check */
    /* The judge is not the plain kernel, which takes seconds for a large map on a small card, but
     * the default, whose bits are wanted. */
    bool same_bits;
};

struct ldk_tune_bench ldk_work_bench(struct ldk_work *work);
/* Our own variants for this shape, under the names that a cache remembers. */
uint32_t ldk_work_own_candidates(const struct ldk_work *work, struct ldk_tune_candidate *out,
                                 uint32_t capacity);
/* What gives the bits of the variant that the launcher takes by itself: the signature of at least
 * two candidates; 0 where there is nothing to choose from. */
uint32_t ldk_work_default_signature(const struct ldk_work *work);
/* That variant's number. */
int32_t ldk_work_default_number(const struct ldk_work *work);
/* Random weights of the shape that the work came with, in place of the caller's, which may be gone;
 * attention has none. Until ldk_work_deinit. A code of rt.h. */
int ldk_work_own_weight(struct ldk_work *work);
/* Give the device memory back. */
void ldk_work_deinit(struct ldk_work *work);

#endif
