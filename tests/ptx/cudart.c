/*
 * The CUDA runtime over the PTX machine: errors, the one device, its memory.
 *
 * It is as strict as CUDA is, and where CUDA leaves it open, stricter: device memory is filled with
 * NaN, is as long as it was asked for and no longer, and copies that leave it are refused.
 *
 * Source: CUDA Runtime API 13.0, error handling, device management, memory management, unified
 * addressing.
 */
#include "tests/ptx/cudart.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD_BYTES = 256, FILL = 0xFF, GUARD_FILL = 0x5A, MEMORY_GIB = 8 };

/* ---- Errors ---------------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cudaError_t broken;
static _Thread_local cudaError_t last;

cudaError_t rt_enter(void)
{
    pthread_mutex_lock(&lock);
    return broken;
}

cudaError_t rt_leave(cudaError_t code)
{
    pthread_mutex_unlock(&lock);
    if (code != cudaSuccess)
        last = code;
    return code;
}

cudaError_t rt_break(cudaError_t code, const char *sentence)
{
    if (broken == cudaSuccess) {
        fprintf(stderr, "latentd ptx: %s\n", sentence);
        broken = code;
    }
    return broken;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t stays = rt_enter();
    pthread_mutex_unlock(&lock);
    cudaError_t code = stays ? stays : last;
    last = cudaSuccess;
    return code;
}

const char *cudaGetErrorString(cudaError_t error)
{
    static const struct {
        cudaError_t code;
        const char *text;
    } texts[] = {
        {cudaSuccess, "no error"},
        {cudaErrorInvalidValue, "invalid argument"},
        {cudaErrorMemoryAllocation, "out of memory"},
        {cudaErrorInvalidConfiguration, "no such grid or block can be launched"},
        {cudaErrorInvalidDevice, "no such device"},
        {cudaErrorInvalidDeviceFunction, "no such kernel"},
        {cudaErrorInvalidKernelImage, "the kernels are in a form that is not known"},
        {cudaErrorNoKernelImageForDevice, "no PTX in the program"},
        {cudaErrorInvalidPtx, "the PTX cannot be read"},
        {cudaErrorInvalidResourceHandle, "no such stream, event or graph"},
        {cudaErrorIllegalState, "the stream is in no state for this"},
        {cudaErrorIllegalAddress, "illegal memory access"},
        {cudaErrorLaunchOutOfResources, "more threads than the kernel is made for"},
        {cudaErrorNotSupported, "not supported"},
        {cudaErrorStreamCaptureUnsupported, "not allowed while a stream is captured"},
        {cudaErrorStreamCaptureInvalidated, "an earlier error made the capture void"},
        {cudaErrorStreamCaptureMerge, "two captures would become one"},
        {cudaErrorStreamCaptureUnmatched, "the capture began on another stream"},
        {cudaErrorStreamCaptureUnjoined, "a captured stream was not joined"},
        {cudaErrorStreamCaptureWrongThread, "the capture began in another thread"},
        {cudaErrorStreamCaptureImplicit, "the default stream would wait for a captured one"},
        {cudaErrorStreamCaptureIsolation, "a captured stream would wait for what is not captured"},
        {cudaErrorCapturedEvent, "the event was recorded in a capture"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].code == error)
            return texts[i].text;
    return "another error of CUDA";
}

/* ---- The device ------------------------------------------------------------------------------ */

/* Of the device: PTX_MEMORY_GIB of the environment. */
static size_t memory_bytes(void)
{
    const uint64_t gib = ptx_environment("PTX_MEMORY_GIB");
    return (size_t)(gib > 0 ? gib : MEMORY_GIB) << 30;
}

static cudaError_t check_device(int device)
{
    return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    cudaError_t code = rt_enter();
    *count = 1;
    return rt_leave(code);
}

cudaError_t cudaSetDevice(int device)
{
    cudaError_t code = rt_enter();
    return rt_leave(code ? code : check_device(device));
}

cudaError_t cudaDriverGetVersion(int *version)
{
    cudaError_t code = rt_enter();
    *version = 13000;
    return rt_leave(code);
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    cudaError_t code = rt_enter();
    *version = CUDART_VERSION;
    return rt_leave(code);
}

enum { CAPABILITY_MAJOR = 8, CAPABILITY_MINOR = 0 };

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int device)
{
    cudaError_t code = rt_enter();
    *out = (struct cudaDeviceProp){
        .name = "PTX on the host",
        .major = CAPABILITY_MAJOR,
        .minor = CAPABILITY_MINOR,
        .multiProcessorCount = 8,
        .totalGlobalMem = memory_bytes(),
        .sharedMemPerBlock = RT_SHARED_PLAIN,
        .sharedMemPerBlockOptin = RT_SHARED_OPTIN,
        .sharedMemPerMultiprocessor = RT_SHARED_OPTIN + 1024,
        .l2CacheSize = 256 << 10, /* what is written to leave it behind is soon written */
        .warpSize = 32,
        .maxThreadsPerBlock = RT_THREADS,
        .maxThreadsPerMultiProcessor = 2048,
        .regsPerBlock = 65536,
        .unifiedAddressing = 1,
    };
    return rt_leave(code ? code : check_device(device));
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr which, int device)
{
    cudaError_t code = rt_enter();
    if (code == cudaSuccess)
        code = check_device(device);
    *value = 0;
    if (code == cudaSuccess && which == cudaDevAttrClockRate)
        *value = 1000000;
    else if (code == cudaSuccess && which == cudaDevAttrComputeCapabilityMajor)
        *value = CAPABILITY_MAJOR;
    else if (code == cudaSuccess && which == cudaDevAttrComputeCapabilityMinor)
        *value = CAPABILITY_MINOR;
    else if (code == cudaSuccess)
        code = cudaErrorNotSupported;
    return rt_leave(code);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    cudaError_t code = rt_enter();
    *least = 0;
    *greatest = -5;
    return rt_leave(code);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

struct allocation {
    struct allocation *next;
    unsigned char *base;
    size_t bytes;
    bool pinned; /* the host's */
};
static struct allocation *allocations;
static size_t device_used;

static size_t room_of(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

/* Guards on both sides keep neighbours apart: one step over the edge hits nobody else's memory. */
static cudaError_t allocate(void **out, size_t bytes, bool pinned)
{
    if (bytes == 0)
        return cudaSuccess;
    if (bytes > memory_bytes() || (!pinned && room_of(bytes) > memory_bytes() - device_used))
        return cudaErrorMemoryAllocation;
    struct allocation *new = malloc(sizeof *new);
    size_t whole = GUARD_BYTES + room_of(bytes) + GUARD_BYTES;
    unsigned char *memory = aligned_alloc(256, whole);
    if (!new || !memory) {
        free(new);
        free(memory);
        return cudaErrorMemoryAllocation;
    }
    unsigned char *base = memory + GUARD_BYTES;
    memset(memory, GUARD_FILL, GUARD_BYTES);
    memset(base, FILL, bytes);
    memset(base + bytes, GUARD_FILL, whole - GUARD_BYTES - bytes);
    *new = (struct allocation){.next = allocations, .base = base, .bytes = bytes, .pinned = pinned};
    allocations = new;
    if (!pinned)
        device_used += room_of(bytes);
    ptx_memory_add(base, bytes);
    *out = base;
    return cudaSuccess;
}

static bool all_guard(const unsigned char *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (at[i] != GUARD_FILL)
            return false;
    return true;
}

static cudaError_t release(void *base, bool pinned)
{
    struct allocation **at = &allocations;
    while (*at && ((*at)->base != base || (*at)->pinned != pinned))
        at = &(*at)->next;
    struct allocation *old = *at;
    if (!old)
        return cudaErrorInvalidValue;
    *at = old->next;
    if (!pinned)
        device_used -= room_of(old->bytes);
    ptx_memory_remove(base);
    bool whole = all_guard(old->base - GUARD_BYTES, GUARD_BYTES) &&
                 all_guard(old->base + old->bytes, room_of(old->bytes) - old->bytes + GUARD_BYTES);
    free(old->base - GUARD_BYTES);
    free(old);
    return whole ? cudaSuccess
                 : rt_break(cudaErrorIllegalAddress, "memory beside an allocation was written");
}

static cudaError_t allocate_checked(void **out, size_t bytes, bool pinned)
{
    cudaError_t code = rt_enter();
    *out = NULL;
    if (code == cudaSuccess)
        code = rt_not_captured();
    return rt_leave(code ? code : allocate(out, bytes, pinned));
}

static cudaError_t release_checked(void *memory, bool pinned)
{
    cudaError_t code = rt_enter();
    if (code == cudaSuccess)
        code = rt_not_captured();
    return rt_leave(code || !memory ? code : release(memory, pinned));
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    return allocate_checked(out, bytes, false);
}

cudaError_t cudaFree(void *memory)
{
    return release_checked(memory, false);
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags)
{
    return flags == cudaHostAllocDefault ? allocate_checked(out, bytes, true)
                                         : cudaErrorNotSupported;
}

cudaError_t cudaFreeHost(void *memory)
{
    return release_checked(memory, true);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    cudaError_t code = rt_enter();
    *total = memory_bytes();
    *free_bytes = memory_bytes() - device_used;
    return rt_leave(code);
}

/* ---- Copies ---------------------------------------------------------------------------------- */

/* The allocation in which the address is, NULL if in none. */
static const struct allocation *allocation_of(const void *at)
{
    for (const struct allocation *it = allocations; it; it = it->next)
        if ((uintptr_t)at - (uintptr_t)it->base < it->bytes)
            return it;
    return NULL;
}

/* [at, at + bytes) is all in one allocation of the device. */
static bool on_device(const void *at, size_t bytes)
{
    const struct allocation *it = allocation_of(at);
    return it && !it->pinned && bytes <= it->bytes - ((uintptr_t)at - (uintptr_t)it->base);
}

/* All the host's: pinned, or no allocation of ours, of which nothing is known. */
static bool on_host(const void *at, size_t bytes)
{
    const struct allocation *it = allocation_of(at);
    return at &&
           (!it || (it->pinned && bytes <= it->bytes - ((uintptr_t)at - (uintptr_t)it->base)));
}

static cudaError_t copy(const struct rt_work *work)
{
    if (work->bytes == 0)
        return cudaSuccess;
    bool to_device = work->copy != cudaMemcpyDeviceToHost;
    bool from_device = work->copy != cudaMemcpyHostToDevice;
    if (to_device ? !on_device(work->dst, work->bytes) : !on_host(work->dst, work->bytes))
        return cudaErrorInvalidValue;
    if (from_device ? !on_device(work->src, work->bytes) : !on_host(work->src, work->bytes))
        return cudaErrorInvalidValue;
    memmove(work->dst, work->src, work->bytes);
    return cudaSuccess;
}

static cudaError_t set(const struct rt_work *work)
{
    if (work->bytes == 0)
        return cudaSuccess;
    if (!on_device(work->dst, work->bytes))
        return cudaErrorInvalidValue;
    memset(work->dst, work->value, work->bytes);
    return cudaSuccess;
}

cudaError_t rt_run(const struct rt_work *work)
{
    struct ptx_why why;
    switch (work->kind) {
    case RT_KERNEL:
        if (!ptx_run(&work->launch, &why))
            return rt_break(cudaErrorIllegalAddress, why.text);
        break;
    case RT_COPY:
        return copy(work);
    case RT_SET:
        return set(work);
    case RT_NOTHING:
        break;
    }
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    if (kind != cudaMemcpyHostToDevice && kind != cudaMemcpyDeviceToHost &&
        kind != cudaMemcpyDeviceToDevice)
        return cudaErrorNotSupported;
    cudaError_t code = rt_enter();
    struct rt_work work = {.kind = RT_COPY, .dst = dst, .src = src, .bytes = bytes, .copy = kind};
    return rt_leave(code ? code : rt_submit(stream, &work));
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream)
{
    cudaError_t code = rt_enter();
    struct rt_work work = {.kind = RT_SET, .dst = dst, .value = value, .bytes = bytes};
    return rt_leave(code ? code : rt_submit(stream, &work));
}
