/*
 * One shape on the device while it is measured: the operator that it came from, and what it runs on
 * (tuned_operands.h). Private to tuned*.c and their tests.
 */
#ifndef LDK_TUNED_WORK_H
#define LDK_TUNED_WORK_H

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/tune.h"

struct ldk_libs;

/* Zero-initialised: nothing is there yet. */
struct ldk_operands {
    int32_t batch; /* images that there is memory for */
    /* Copies of x0 and y that together leave the L2 behind; each run takes the next. */
    uint32_t places, turn;
    unsigned char *x0, *x1, *x2 /* q, k, v of an attention */, *residual, *y, *reference;
    size_t x0_bytes, x1_bytes, x2_bytes, y_bytes; /* of one copy */
    float *row_add, *moments;
    unsigned char *norm_gains, *norm_fold, *norm_scratch; /* of the norm that wants the moments */
    void *scratch;
    unsigned char *runway; /* NULL: none */
    size_t scratch_bytes, moments_bytes, runway_bytes;
    void *want; /* host: the judge's output, for the check */
};

/* `unit` and the operator it came from (conv, linear or attention by unit.op) are set by the
 * caller; weights are used as they are, operands are our own. */
struct ldk_work {
    struct ldk_tune_unit unit;
    struct ldk_conv conv;
    struct ldk_linear linear;
    struct ldk_attention attention;
    struct ldk_libs *libs; /* NULL: none */
    size_t l2_bytes;
    struct ldk_operands operands;
    unsigned char *weight; /* ldk_work_own_weight's; NULL: the caller's are used */
    /* The judge is not the plain kernel, which takes seconds for a large map on a small card, but
     * the default, whose bits are wanted. */
    bool same_bits;
};

static inline bool ldk_work_is_conv(const struct ldk_work *work)
{
    return work->unit.op == LDK_TUNE_CONV;
}

static inline bool ldk_work_is_attention(const struct ldk_work *work)
{
    return work->unit.op == LDK_TUNE_ATTENTION;
}

/* A norm reads y next, and wants its moments. */
static inline bool ldk_work_has_norm(const struct ldk_work *work)
{
    return (work->unit.epilogue & LDK_TUNE_MOMENTS) != 0;
}

/* The operator at another batch, without operands. */
static inline struct ldk_conv ldk_work_conv_at(const struct ldk_work *work, int32_t batch)
{
    struct ldk_conv c = work->conv;
    c.batch = batch;
    c.moments = NULL;
    return c;
}

static inline struct ldk_linear ldk_work_linear_at(const struct ldk_work *work, int32_t batch)
{
    struct ldk_linear l = work->linear;
    l.rows = batch * l.rows_per_image;
    l.moments = NULL;
    return l;
}

#endif
