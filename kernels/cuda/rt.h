/*
 * The few services of the CUDA runtime that the backend needs, behind names of our own, so that the
 * backend runs unchanged over the driver (rt_cuda.c) and over plain memory on the host
 * (host/rt_host.c), where every call completes before it returns.
 *
 * All functions return 0 or a cudaError_t; ldk_rt_error_name gives its text. One thread at a time.
 */
#ifndef LDK_RT_H
#define LDK_RT_H

#include "kernels/cuda/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ldk_event_opaque *ldk_event;
typedef struct ldk_graph_opaque *ldk_graph; /* an instantiated, launchable graph */

struct ldk_device_info {
    char name[96];
    int32_t major, minor; /* compute capability */
    int32_t sm_count;
    int32_t driver_version, runtime_version; /* 13000 = 13.0 */
    int32_t shared_max;                      /* bytes a block may opt in to */
    size_t memory_total, memory_free;
    size_t l2_bytes;
    int32_t clock_khz;
    uint8_t uuid[16]; /* of this GPU and no other, on any machine */
};

/* True when the kernels run on the host over kernels/host. */
bool ldk_rt_is_host(void);
/* Devices there are; no driver or too old a driver is an error code, never a crash. */
int ldk_rt_device_count(int32_t *count);
/* 13000 = 13.0; *driver 0: no driver. 0 whenever it can tell, whatever the versions are. */
int ldk_rt_versions(int32_t *driver, int32_t *runtime);
/* Compute capability, without a context: looking takes none of the device's memory. */
int ldk_rt_device_capability(int32_t device, int32_t *major, int32_t *minor);
int ldk_rt_device_info(int32_t device, struct ldk_device_info *out);
int ldk_rt_set_device(int32_t device);
/* 0 if the present device has code of the kernels; else what keeps it from being loaded (a build
 * for other chips). */
int ldk_rt_kernels_load(void);

int ldk_rt_malloc(void **out, size_t bytes); /* 256-byte aligned device memory */
int ldk_rt_free(void *memory);
int ldk_rt_malloc_pinned(void **out, size_t bytes); /* host memory for async copies */
int ldk_rt_free_pinned(void *memory);

int ldk_rt_stream_create(ldk_stream *out, int32_t priority); /* 0 normal, -1 high */
int ldk_rt_stream_destroy(ldk_stream stream);
int ldk_rt_stream_synchronize(ldk_stream stream);
int ldk_rt_stream_wait(ldk_stream stream, ldk_event event);

int ldk_rt_upload(void *dst, const void *src, size_t bytes, ldk_stream stream); /* host to device */
int ldk_rt_download(void *dst, const void *src, size_t bytes,
                    ldk_stream stream);                                       /* device to host */
int ldk_rt_copy(void *dst, const void *src, size_t bytes, ldk_stream stream); /* device to device */
int ldk_rt_memset(void *dst, int value, size_t bytes, ldk_stream stream);

int ldk_rt_event_create(ldk_event *out);
int ldk_rt_event_destroy(ldk_event event);
int ldk_rt_event_record(ldk_event event, ldk_stream stream);
int ldk_rt_event_synchronize(ldk_event event);
int ldk_rt_event_elapsed(ldk_event start, ldk_event end, float *milliseconds);

/* Graphs. On the host capture is refused with LDK_E_UNSUPPORTED and the caller runs uncaptured. */
int ldk_rt_capture_begin(ldk_stream stream);
int ldk_rt_capture_end(ldk_stream stream, ldk_graph *out);
int ldk_rt_graph_launch(ldk_graph graph, ldk_stream stream);
int ldk_rt_graph_destroy(ldk_graph graph);

int ldk_rt_last_error(void); /* the pending launch error, cleared */
const char *ldk_rt_error_name(int code);
/* True when the context cannot be used any more (illegal address, assert, ECC ...). */
bool ldk_rt_error_is_sticky(int code);

#ifdef __cplusplus
}
#endif
#endif
