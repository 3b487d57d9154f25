/*
 * One attention of the CUDA kernels against float64: random data, the launch under three thread
 * orders, and everything that can be said about the result (values, counters, what lies between the
 * rows, an image alone against the same image in a batch).
 */
#ifndef LD_TESTS_ATTENTION_FIXTURE_H
#define LD_TESTS_ATTENTION_FIXTURE_H

#include "tests/cuda/hostcuda.h"

/* Numbers of variants, as attention.cu lists them. */
enum { AUTO = LDK_VARIANT_AUTO, PLAIN = LDK_VARIANT_PLAIN, NARROW, TALL, HIGH, WIDE };

struct attention_case {
    const char *name;
    int32_t variant, dtype;
    int32_t batch, q_rows, kv_rows, heads, head_dim;
    int32_t kv_len[3]; /* [0] 0: none given */
    bool causal, fused;
    float spread; /* deviation of q */
    float ramp;   /* what the first component of k grows by from key to key */
    int32_t gap;  /* elements between the rows' ends and the strides */
    bool fp16_accumulate;
};

struct attention_data {
    struct ldk_attention op;
    float *q, *k, *v; /* what the device holds, as float: same strides */
    size_t o_count;
};

/* Operands of a case; keys that no image may look at are NaN. The op's memory goes with
 * attention_discard. */
struct attention_data attention_make(const struct attention_case *c, uint64_t seed);
void attention_discard(struct attention_data *a, bool fused);

/* o[batch, q_rows, heads, head_dim] in float64 from the rounded operands. */
void attention_reference(const struct attention_case *c, const struct attention_data *a, double *o);

/* Runs one case; every finding is an expectation of hostcuda.h. */
void attention_check(const struct attention_case *c, uint64_t seed);

/* Blocks of all heights say that they give equal bits, and do. */
void attention_check_heights(int32_t head_dim, bool fp16_accumulate);

#endif
