/*
 * The services of rt.h over the CUDA runtime.
 *
 * Source: CUDA Runtime API, device, memory, stream, event and graph management.
 */
#include "kernels/cuda/rt.h"

#include <cuda_runtime_api.h>
#include <string.h>

static cudaStream_t stream_of(ldk_stream stream)
{
    return (cudaStream_t)stream;
}

bool ldk_rt_is_host(void)
{
    return false;
}

/* ---- Devices --------------------------------------------------------------------------------- */

int ldk_rt_device_count(int32_t *count)
{
    int found = 0;
    cudaError_t code = cudaGetDeviceCount(&found);
    *count = code == cudaSuccess ? found : 0;
    if (code == cudaErrorNoDevice)
        code = cudaSuccess;
    cudaGetLastError();
    return (int)code;
}

int ldk_rt_versions(int32_t *driver, int32_t *runtime)
{
    int driver_version = 0, runtime_version = 0;
    cudaError_t code = cudaDriverGetVersion(&driver_version);
    if (code == cudaSuccess)
        code = cudaRuntimeGetVersion(&runtime_version);
    *driver = driver_version;
    *runtime = runtime_version;
    return (int)code;
}

static int attribute(int32_t device, enum cudaDeviceAttr which, int32_t *out)
{
    int value = 0;
    cudaError_t code = cudaDeviceGetAttribute(&value, which, device);
    *out = value;
    return (int)code;
}

int ldk_rt_device_capability(int32_t device, int32_t *major, int32_t *minor)
{
    const int code = attribute(device, cudaDevAttrComputeCapabilityMajor, major);
    return code ? code : attribute(device, cudaDevAttrComputeCapabilityMinor, minor);
}

int ldk_rt_device_info(int32_t device, struct ldk_device_info *out)
{
    *out = (struct ldk_device_info){0};
    struct cudaDeviceProp properties;
    int code = (int)cudaGetDeviceProperties(&properties, device);
    if (code != 0)
        return code;
    size_t length = strnlen(properties.name, sizeof out->name - 1);
    memcpy(out->name, properties.name, length);
    out->major = properties.major;
    out->minor = properties.minor;
    out->sm_count = properties.multiProcessorCount;
    out->shared_max = (int32_t)properties.sharedMemPerBlockOptin;
    memcpy(out->uuid, &properties.uuid, sizeof out->uuid);
    out->l2_bytes = (size_t)properties.l2CacheSize;
    code = attribute(device, cudaDevAttrClockRate, &out->clock_khz);
    if (code == 0)
        code = ldk_rt_versions(&out->driver_version, &out->runtime_version);
    if (code == 0)
        code = (int)cudaSetDevice(device);
    if (code == 0)
        code = (int)cudaMemGetInfo(&out->memory_free, &out->memory_total);
    return code;
}

int ldk_rt_set_device(int32_t device)
{
    return (int)cudaSetDevice(device);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

int ldk_rt_malloc(void **out, size_t bytes)
{
    *out = NULL;
    return (int)cudaMalloc(out, bytes > 0 ? bytes : 1);
}

int ldk_rt_free(void *memory)
{
    return (int)cudaFree(memory);
}

int ldk_rt_malloc_pinned(void **out, size_t bytes)
{
    *out = NULL;
    return (int)cudaHostAlloc(out, bytes > 0 ? bytes : 1, cudaHostAllocDefault);
}

int ldk_rt_free_pinned(void *memory)
{
    return (int)cudaFreeHost(memory);
}

int ldk_rt_upload(void *dst, const void *src, size_t bytes, ldk_stream stream)
{
    return (int)cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, stream_of(stream));
}

int ldk_rt_download(void *dst, const void *src, size_t bytes, ldk_stream stream)
{
    return (int)cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, stream_of(stream));
}

int ldk_rt_copy(void *dst, const void *src, size_t bytes, ldk_stream stream)
{
    return (int)cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, stream_of(stream));
}

int ldk_rt_memset(void *dst, int value, size_t bytes, ldk_stream stream)
{
    return (int)cudaMemsetAsync(dst, value, bytes, stream_of(stream));
}

/* ---- Streams and events ---------------------------------------------------------------------- */

int ldk_rt_stream_create(ldk_stream *out, int32_t priority)
{
    int least = 0, greatest = 0;
    cudaStream_t stream = NULL;
    *out = NULL;
    cudaError_t code = cudaDeviceGetStreamPriorityRange(&least, &greatest);
    if (code == cudaSuccess)
        code = cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking,
                                            priority < 0 ? greatest : least);
    *out = (ldk_stream)stream;
    return (int)code;
}

int ldk_rt_stream_destroy(ldk_stream stream)
{
    return stream ? (int)cudaStreamDestroy(stream_of(stream)) : 0;
}

int ldk_rt_stream_synchronize(ldk_stream stream)
{
    return (int)cudaStreamSynchronize(stream_of(stream));
}

int ldk_rt_stream_wait(ldk_stream stream, ldk_event event)
{
    return (int)cudaStreamWaitEvent(stream_of(stream), (cudaEvent_t)event, 0);
}

int ldk_rt_event_create(ldk_event *out)
{
    cudaEvent_t event = NULL;
    cudaError_t code = cudaEventCreate(&event);
    *out = (ldk_event)event;
    return (int)code;
}

int ldk_rt_event_destroy(ldk_event event)
{
    return event ? (int)cudaEventDestroy((cudaEvent_t)event) : 0;
}

int ldk_rt_event_record(ldk_event event, ldk_stream stream)
{
    return (int)cudaEventRecord((cudaEvent_t)event, stream_of(stream));
}

int ldk_rt_event_synchronize(ldk_event event)
{
    return (int)cudaEventSynchronize((cudaEvent_t)event);
}

int ldk_rt_event_elapsed(ldk_event start, ldk_event end, float *milliseconds)
{
    *milliseconds = 0.0f;
    return (int)cudaEventElapsedTime(milliseconds, (cudaEvent_t)start, (cudaEvent_t)end);
}

/* ---- Graphs ---------------------------------------------------------------------------------- */

/* Thread-local: other threads may allocate while this one records. */
int ldk_rt_capture_begin(ldk_stream stream)
{
    return (int)cudaStreamBeginCapture(stream_of(stream), cudaStreamCaptureModeThreadLocal);
}

int ldk_rt_capture_end(ldk_stream stream, ldk_graph *out)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t executable = NULL;
    *out = NULL;
    cudaError_t code = cudaStreamEndCapture(stream_of(stream), &graph);
    if (code == cudaSuccess)
        code = cudaGraphInstantiate(&executable, graph, 0);
    if (graph)
        cudaGraphDestroy(graph);
    *out = (ldk_graph)executable;
    return (int)code;
}

int ldk_rt_graph_launch(ldk_graph graph, ldk_stream stream)
{
    return (int)cudaGraphLaunch((cudaGraphExec_t)graph, stream_of(stream));
}

int ldk_rt_graph_destroy(ldk_graph graph)
{
    return graph ? (int)cudaGraphExecDestroy((cudaGraphExec_t)graph) : 0;
}

/* ---- Errors ---------------------------------------------------------------------------------- */

int ldk_rt_last_error(void)
{
    return (int)cudaGetLastError();
}

const char *ldk_rt_error_name(int code)
{
    if (code == LDK_E_UNSUPPORTED)
        return "no kernel for this shape";
    if (code == LDK_E_INVALID)
        return "invalid kernel arguments";
    return cudaGetErrorString((cudaError_t)code);
}

bool ldk_rt_error_is_sticky(int code)
{
    switch (code) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
    case cudaErrorMpsClientTerminated:
#if CUDART_VERSION >= 13000
    case cudaErrorContained:
    case cudaErrorTensorMemoryLeak:
#endif
    case cudaErrorUnknown:
    case cudaErrorDevicesUnavailable:
    case cudaErrorCudartUnloading:
        return true;
    default:
        return false;
    }
}
