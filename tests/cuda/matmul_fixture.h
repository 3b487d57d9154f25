/*
 * One convolution or linear layer of the CUDA kernels against float64: random data of the network's
 * scale, the packed weight, the launch under three thread orders, and everything that can be said
 * about the result (values, moments, counters, an image alone against the same image in a batch).
 */
#ifndef LD_TESTS_MATMUL_FIXTURE_H
#define LD_TESTS_MATMUL_FIXTURE_H

#include "hostcuda.h"
#include "kernels/cuda/pack.h"

enum matmul_row_add { ROW_ADD_NONE, ROW_ADD_F32, ROW_ADD_ACT };

struct matmul_case {
    const char *name;
    enum ldk_dtype dtype;
    const char *variant; /* by name; NULL: the default for the shape */
    bool fp16_accumulate;
    int32_t batch;
    int32_t c0, c1, rows; /* rows: of the weight (twice the outputs for GEGLU) */
    int32_t parts; /* of a stack, part p ends at row rows * (p + 1)^2 / parts^2; 0: no stack */
    bool residual, moments;
    bool kin; /* every variant of an equal signature must give equal bits */

    /* Convolution. */
    int32_t in_h, in_w, up_h, up_w;
    int32_t kernel, stride, pad_before, pad_after;
    bool phase;
    enum matmul_row_add row_add;

    /* Linear: kernel 0. */
    int32_t tokens;
    enum ldk_activation activation;
    enum ldk_dtype w_dtype; /* with dtype LDK_F32 only; else the weight is of `dtype` */
    bool y_f32;
};

/* Runs one case; every finding is an expectation of hostcuda.h. */
void matmul_check(const struct matmul_case *c);

#endif
