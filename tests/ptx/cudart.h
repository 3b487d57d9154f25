/*
 * Between the files of the stand-in for the CUDA runtime: cudart.c has errors, the device and its
 * memory, cudart_kernel.c what nvcc's object files register and launch, cudart_graph.c streams,
 * events and graphs.
 *
 * Work is done when it is called for, except on a stream that is being captured: there it is
 * recorded. One lock around every call, so threads may call at the same time.
 */
#ifndef LD_TESTS_PTX_CUDART_H
#define LD_TESTS_PTX_CUDART_H

#include "tests/ptx/ptx.h"

#include <cuda_runtime_api.h>

enum {
    RT_SHARED_PLAIN = 48 << 10,  /* a block's without cudaFuncSetAttribute */
    RT_SHARED_OPTIN = 163 << 10, /* and with it, capability 8.0 */
    RT_THREADS = 1024,
};

/* A piece of work for a stream. */
enum rt_kind { RT_NOTHING, RT_KERNEL, RT_COPY, RT_SET };
struct rt_work {
    enum rt_kind kind;
    struct ptx_launch launch; /* RT_KERNEL; params are lent */
    void *dst;                /* RT_COPY, RT_SET: checked when it is done */
    const void *src;
    size_t bytes;
    enum cudaMemcpyKind copy;
    int value;
};

/* Every function of the runtime begins and ends with these: takes the lock, gives the error that
 * stays. */
cudaError_t rt_enter(void);
cudaError_t rt_leave(cudaError_t code);
/* The device cannot be used from now on: prints the sentence, once. */
cudaError_t rt_break(cudaError_t code, const char *sentence);

/* All below: with the lock held. */

/* Does it now. A copy to or from where no memory is: cudaErrorInvalidValue. */
cudaError_t rt_run(const struct rt_work *work);
/* Does it, or records a copy of it if the stream is being captured. */
cudaError_t rt_submit(cudaStream_t stream, const struct rt_work *work);
/* What a thread may not do during its capture; if it does, the capture is void. */
cudaError_t rt_not_captured(void);

/* CUDA 13's runtime headers declare these in C++ only. */
void **__cudaRegisterFatBinary(void *wrapper);
void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaUnregisterFatBinary(void **handle);
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
                            int thread_limit, void *tid, void *bid, dim3 *block, dim3 *grid,
                            int *warp_size);
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream);
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream);
cudaError_t __cudaGetKernel(cudaKernel_t *out, const void *host);
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **args,
                               size_t shared, cudaStream_t stream);

#endif
