/*
 * Whether this build's kernels fit the present device. Every file is compiled for the same chips,
 * so one kernel that does nothing speaks for all.
 *
 * Source: CUDA Runtime API, execution control.
 */
#include "kernels/cuda/rt.h"

static __global__ void nothing_kernel()
{
}

extern "C" int ldk_rt_kernels_load(void)
{
    cudaFuncAttributes attributes;
    return static_cast<int>(
        cudaFuncGetAttributes(&attributes, reinterpret_cast<const void *>(nothing_kernel)));
}
