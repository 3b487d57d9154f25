/*
 * The services of rt.h over plain memory: device memory is guarded host memory, every call has
 * completed when it returns, time is the machine's clock. Graphs are refused.
 */
#include "kernels/cuda/rt.h"
#include "kernels/host/fiber.h"
#include "runtime/base/arena.h"

#include <string.h>
#include <time.h>

enum { OUT_OF_MEMORY = 2, INVALID_DEVICE = 101 }; /* cudaError_t's numbers */

struct ldk_event_opaque {
    struct timespec at;
};

bool ldk_rt_is_host(void)
{
    return true;
}

/* ---- Devices: one ---------------------------------------------------------------------------- */

int ldk_rt_device_count(int32_t *count)
{
    *count = 1;
    return 0;
}

int ldk_rt_versions(int32_t *driver, int32_t *runtime)
{
    *driver = *runtime = 13000;
    return 0;
}

int ldk_rt_device_capability(int32_t device, int32_t *major, int32_t *minor)
{
    *major = 8;
    *minor = 0;
    return device == 0 ? 0 : INVALID_DEVICE;
}

/* The smallest chip that is supported: what fits here fits everywhere. */
int ldk_rt_device_info(int32_t device, struct ldk_device_info *out)
{
    *out = (struct ldk_device_info){0};
    if (device != 0)
        return INVALID_DEVICE;
    static const char name[] = "host build";
    memcpy(out->name, name, sizeof name);
    out->major = 8;
    out->sm_count = 1;
    out->driver_version = out->runtime_version = 13000;
    out->shared_max = 99 * 1024;
    out->memory_total = out->memory_free = (size_t)8 << 30;
    out->l2_bytes = (size_t)1 << 20;
    out->clock_khz = 1000;
    return 0;
}

int ldk_rt_kernels_load(void)
{
    return LDK_OK;
}

int ldk_rt_set_device(int32_t device)
{
    return device == 0 ? 0 : INVALID_DEVICE;
}

/* ---- Memory ---------------------------------------------------------------------------------- */

int ldk_rt_malloc(void **out, size_t bytes)
{
    *out = ldk_host_tensor(bytes);
    return *out ? 0 : OUT_OF_MEMORY;
}

int ldk_rt_free(void *memory)
{
    ldk_host_tensor_free(memory);
    return 0;
}

int ldk_rt_malloc_pinned(void **out, size_t bytes)
{
    return ldk_rt_malloc(out, bytes);
}

int ldk_rt_free_pinned(void *memory)
{
    return ldk_rt_free(memory);
}

static int copy(void *dst, const void *src, size_t bytes)
{
    if (bytes > 0)
        memmove(dst, src, bytes);
    return 0;
}

int ldk_rt_upload(void *dst, const void *src, size_t bytes, ldk_stream stream)
{
    (void)stream;
    return copy(dst, src, bytes);
}

int ldk_rt_download(void *dst, const void *src, size_t bytes, ldk_stream stream)
{
    (void)stream;
    return copy(dst, src, bytes);
}

int ldk_rt_copy(void *dst, const void *src, size_t bytes, ldk_stream stream)
{
    (void)stream;
    return copy(dst, src, bytes);
}

int ldk_rt_memset(void *dst, int value, size_t bytes, ldk_stream stream)
{
    (void)stream;
    if (bytes > 0)
        memset(dst, value, bytes);
    return 0;
}

/* ---- Streams and events ---------------------------------------------------------------------- */

int ldk_rt_stream_create(ldk_stream *out, int32_t priority)
{
    (void)priority;
    *out = NULL;
    return 0;
}

int ldk_rt_stream_destroy(ldk_stream stream)
{
    (void)stream;
    return 0;
}

int ldk_rt_stream_synchronize(ldk_stream stream)
{
    (void)stream;
    return 0;
}

int ldk_rt_stream_wait(ldk_stream stream, ldk_event event)
{
    (void)stream;
    (void)event;
    return 0;
}

int ldk_rt_event_create(ldk_event *out)
{
    *out = ld_heap_calloc(1, sizeof **out);
    return *out ? 0 : OUT_OF_MEMORY;
}

int ldk_rt_event_destroy(ldk_event event)
{
    ld_heap_free(event);
    return 0;
}

int ldk_rt_event_record(ldk_event event, ldk_stream stream)
{
    (void)stream;
    clock_gettime(CLOCK_MONOTONIC, &event->at);
    return 0;
}

int ldk_rt_event_synchronize(ldk_event event)
{
    (void)event;
    return 0;
}

int ldk_rt_event_elapsed(ldk_event start, ldk_event end, float *milliseconds)
{
    double seconds = (double)(end->at.tv_sec - start->at.tv_sec);
    double rest = (double)(end->at.tv_nsec - start->at.tv_nsec);
    *milliseconds = (float)(seconds * 1e3 + rest * 1e-6);
    return 0;
}

/* ---- Graphs and errors ----------------------------------------------------------------------- */

int ldk_rt_capture_begin(ldk_stream stream)
{
    (void)stream;
    return LDK_E_UNSUPPORTED;
}

int ldk_rt_capture_end(ldk_stream stream, ldk_graph *out)
{
    (void)stream;
    *out = NULL;
    return LDK_E_UNSUPPORTED;
}

int ldk_rt_graph_launch(ldk_graph graph, ldk_stream stream)
{
    (void)graph;
    (void)stream;
    return LDK_E_UNSUPPORTED;
}

int ldk_rt_graph_destroy(ldk_graph graph)
{
    (void)graph;
    return 0;
}

int ldk_rt_last_error(void)
{
    return 0;
}

const char *ldk_rt_error_name(int code)
{
    switch (code) {
    case 0:
        return "no error";
    case LDK_E_UNSUPPORTED:
        return "no kernel for this shape";
    case LDK_E_INVALID:
        return "invalid kernel arguments";
    case 1:
        return "invalid argument";
    case OUT_OF_MEMORY:
        return "out of memory";
    case 9:
        return "invalid launch configuration";
    case INVALID_DEVICE:
        return "there is one host device, number 0";
    default:
        return "unknown error";
    }
}

bool ldk_rt_error_is_sticky(int code)
{
    (void)code;
    return false;
}
