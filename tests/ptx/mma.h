/*
 * The matrix instructions of mma.c, for collective.c's rules.
 */
#ifndef LD_TESTS_PTX_MMA_H
#define LD_TESTS_PTX_MMA_H

#include "tests/ptx/memory.h"

/* Of 1, 2, 4 matrices; t: transposed. */
ptx_do ptx_ldmatrix_1, ptx_ldmatrix_2, ptx_ldmatrix_4;
ptx_do ptx_ldmatrix_1t, ptx_ldmatrix_2t, ptx_ldmatrix_4t;

/* By depth, type of the factors, and of the sum where it is not f32. */
ptx_do ptx_mma_k16_f16, ptx_mma_k16_bf16, ptx_mma_k16_f16_f16;
ptx_do ptx_mma_k8_f16, ptx_mma_k8_bf16, ptx_mma_k8_f16_f16;

#endif
