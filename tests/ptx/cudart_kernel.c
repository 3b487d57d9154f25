/*
 * The CUDA runtime over the PTX machine: the fat binaries and kernels that nvcc's object files
 * register before main, and their launches.
 *
 * A binary's PTX is read when one of its kernels is first asked for.
 *
 * Source: CUDA Runtime API 13.0, execution control; crt/host_runtime.h for what object files call;
 * CUDA Programming Guide, compute capabilities, for the limits.
 */
#include "tests/ptx/cudart.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WRAPPER_MAGIC = 0x466243b1,
    GRID_X_MOST = 0x7fffffff,
    GRID_YZ_MOST = 65535,
    BLOCK_Z_MOST = 64
};

/* What __cudaRegisterFatBinary is given. */
struct wrapper {
    uint32_t magic, version;
    const void *data;
    void *unused;
};

struct binary {
    const struct wrapper *wrapper;
    struct ptx_module *module;
    cudaError_t code; /* why there is no module */
    bool read;
};

/* A kernel of a binary; cudaKernel_t points to it. */
struct CUkern_st {
    struct CUkern_st *next;
    const void *host; /* the function that stands for it in the host's code */
    const char *name;
    struct binary *binary;
    struct ptx_kernel *kernel; /* NULL: not asked for yet */
    size_t dynamic_most;       /* 0: what is left of RT_SHARED_PLAIN */
};
static struct CUkern_st *kernels;

/* ---- Binaries -------------------------------------------------------------------------------- */

void **__cudaRegisterFatBinary(void *wrapper)
{
    struct binary *binary = calloc(1, sizeof *binary);
    if (binary)
        binary->wrapper = wrapper;
    return (void **)binary;
}

void __cudaRegisterFatBinaryEnd(void **handle)
{
    (void)handle;
}

/* At the program's end, once for every binary. */
void __cudaUnregisterFatBinary(void **handle)
{
    struct binary *binary = (void *)handle;
    if (!binary)
        return;
    rt_enter();
    struct CUkern_st **at = &kernels;
    while (*at) {
        struct CUkern_st *kernel = *at;
        if (kernel->binary == binary) {
            *at = kernel->next;
            free(kernel);
        } else {
            at = &kernel->next;
        }
    }
    ptx_unload(binary->module);
    free(binary);
    rt_leave(cudaSuccess);
}

void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
                            int thread_limit, void *tid, void *bid, dim3 *block, dim3 *grid,
                            int *warp_size)
{
    (void)device, (void)thread_limit, (void)tid, (void)bid, (void)block, (void)grid,
        (void)warp_size;
    struct CUkern_st *kernel = calloc(1, sizeof *kernel);
    if (!kernel || !handle)
        abort(); /* before main: there is nobody to tell */
    rt_enter();
    *kernel = (struct CUkern_st){
        .next = kernels, .host = host, .name = name, .binary = (struct binary *)(void *)handle};
    kernels = kernel;
    rt_leave(cudaSuccess);
}

static cudaError_t read_binary(struct binary *binary)
{
    struct ptx_why why;
    char *text;
    size_t length;
    if (binary->wrapper->magic != WRAPPER_MAGIC)
        return cudaErrorInvalidKernelImage;
    if (!ptx_fatbin(binary->wrapper->data, &text, &length, &why)) {
        fprintf(stderr, "latentd ptx: %s\n", why.text);
        return cudaErrorNoKernelImageForDevice;
    }
    binary->module = ptx_load(text, length, &why);
    free(text);
    if (!binary->module) {
        fprintf(stderr, "latentd ptx: %s\n", why.text);
        return cudaErrorInvalidPtx;
    }
    return cudaSuccess;
}

static cudaError_t find_kernel(struct CUkern_st *kernel)
{
    struct binary *binary = kernel->binary;
    if (!binary->read) {
        binary->read = true;
        binary->code = read_binary(binary);
    }
    if (binary->code == cudaSuccess && !kernel->kernel) {
        kernel->kernel = ptx_find(binary->module, kernel->name);
        if (!kernel->kernel)
            return cudaErrorInvalidDeviceFunction;
    }
    return binary->code;
}

/* By its handle or by the function that stands for it. */
static cudaError_t kernel_of(const void *function, struct CUkern_st **out)
{
    struct CUkern_st *it = kernels;
    while (it && it->host != function && (const void *)it != function)
        it = it->next;
    *out = it;
    return it ? find_kernel(it) : cudaErrorInvalidDeviceFunction;
}

cudaError_t __cudaGetKernel(cudaKernel_t *out, const void *host)
{
    cudaError_t code = rt_enter();
    *out = NULL;
    return rt_leave(code ? code : kernel_of(host, out));
}

/* ---- Attributes ------------------------------------------------------------------------------ */

static size_t dynamic_most(const struct CUkern_st *kernel)
{
    size_t fixed = kernel->kernel->shared_bytes;
    if (kernel->dynamic_most > 0)
        return kernel->dynamic_most;
    return fixed < RT_SHARED_PLAIN ? RT_SHARED_PLAIN - fixed : 0;
}

static uint32_t threads_most(const struct CUkern_st *kernel)
{
    return kernel->kernel->threads_max ? kernel->kernel->threads_max : (uint32_t)RT_THREADS;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *out, const void *function)
{
    struct CUkern_st *kernel;
    cudaError_t code = rt_enter();
    *out = (struct cudaFuncAttributes){0};
    if (code == cudaSuccess)
        code = kernel_of(function, &kernel);
    if (code == cudaSuccess) {
        out->sharedSizeBytes = kernel->kernel->shared_bytes;
        out->maxThreadsPerBlock = (int)threads_most(kernel);
        out->maxDynamicSharedSizeBytes = (int)dynamic_most(kernel);
        out->ptxVersion = out->binaryVersion = 80;
    }
    return rt_leave(code);
}

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute which, int value)
{
    struct CUkern_st *kernel;
    cudaError_t code = rt_enter();
    if (code == cudaSuccess)
        code = kernel_of(function, &kernel);
    if (code == cudaSuccess && which != cudaFuncAttributeMaxDynamicSharedMemorySize)
        code = cudaErrorNotSupported;
    if (code == cudaSuccess) {
        if (value < 0 || (size_t)value + kernel->kernel->shared_bytes > RT_SHARED_OPTIN)
            code = cudaErrorInvalidValue;
        else
            kernel->dynamic_most = (size_t)value;
    }
    return rt_leave(code);
}

/* ---- Launches -------------------------------------------------------------------------------- */

static cudaError_t check_launch(const struct CUkern_st *kernel, dim3 grid, dim3 block,
                                size_t shared)
{
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > GRID_X_MOST ||
        grid.y > GRID_YZ_MOST || grid.z > GRID_YZ_MOST)
        return cudaErrorInvalidConfiguration;
    if (block.x == 0 || block.y == 0 || block.z == 0 || block.x > RT_THREADS ||
        block.y > RT_THREADS || block.z > BLOCK_Z_MOST ||
        (uint64_t)block.x * block.y * block.z > RT_THREADS)
        return cudaErrorInvalidConfiguration;
    if (block.x * block.y * block.z > threads_most(kernel))
        return cudaErrorLaunchOutOfResources;
    return shared > dynamic_most(kernel) ? cudaErrorInvalidValue : cudaSuccess;
}

/* Each parameter from where its pointer says; what lies between them is nobody's. */
static unsigned char *gather_params(const struct ptx_kernel *kernel, void **args)
{
    unsigned char *params = malloc(kernel->param_bytes + 1u);
    if (!params)
        return NULL;
    memset(params, 0xA5, kernel->param_bytes + 1u);
    for (int32_t i = 0; i < kernel->param_count; i++)
        memcpy(params + kernel->params[i].offset, args[i], kernel->params[i].bytes);
    return params;
}

static cudaError_t launch(const void *function, dim3 grid, dim3 block, void **args, size_t shared,
                          cudaStream_t stream)
{
    struct CUkern_st *kernel;
    cudaError_t code = kernel_of(function, &kernel);
    if (code == cudaSuccess)
        code = check_launch(kernel, grid, block, shared);
    if (code != cudaSuccess)
        return code;
    unsigned char *params = gather_params(kernel->kernel, args);
    if (!params)
        return cudaErrorMemoryAllocation;
    struct rt_work work = {
        .kind = RT_KERNEL,
        .launch = {.kernel = kernel->kernel,
                   .grid = {grid.x, grid.y, grid.z},
                   .block = {block.x, block.y, block.z},
                   .dynamic_bytes = (uint32_t)shared,
                   .params = params},
    };
    code = rt_submit(stream, &work);
    free(params);
    return code;
}

cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **args,
                             size_t shared, cudaStream_t stream)
{
    cudaError_t code = rt_enter();
    return rt_leave(code ? code : launch(function, grid, block, args, shared, stream));
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **args,
                               size_t shared, cudaStream_t stream)
{
    return cudaLaunchKernel(kernel, grid, block, args, shared, stream);
}

/* f<<<grid, block, shared, stream>>>(...) becomes a push and a call of f's stand-in, which pops. */
static _Thread_local struct {
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
    bool full;
} pushed;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream)
{
    if (pushed.full)
        return cudaErrorLaunchFailure;
    pushed.grid = grid;
    pushed.block = block;
    pushed.shared = shared;
    pushed.stream = stream;
    pushed.full = true;
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream)
{
    if (!pushed.full)
        return cudaErrorMissingConfiguration;
    *grid = pushed.grid;
    *block = pushed.block;
    *shared = pushed.shared;
    memcpy(stream, &pushed.stream, sizeof pushed.stream);
    pushed.full = false;
    return cudaSuccess;
}
