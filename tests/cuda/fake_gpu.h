/*
 * A GPU made of plain memory, for tests of the backend's logic on any machine: rt.h and kernels.h
 * implemented in plain C (fake_gpu.c, fake_kernels.c). It is as asynchronous as it may be: nothing
 * is computed or copied before somebody waits for it, so a buffer that is filled again too early,
 * or an output that is read before the end of the run, gives a wrong result every time. Graphs are
 * recorded and replayed. Errors can be ordered.
 *
 * Streams run beside each other, held together by events alone: what is called for first runs as
 * late, or what is called for last as early, as the events allow (`last_first`), so that an order
 * which no event keeps shows in one of the two. Captures follow CUDA's rules about events.
 */
#ifndef LD_TESTS_CUDA_FAKE_GPU_H
#define LD_TESTS_CUDA_FAKE_GPU_H

#include "kernels/cuda/rt.h"

struct fake_gpu {
    /* Orders */
    struct ldk_device_info info;
    int32_t count, driver, count_error;
    int32_t old_devices;        /* a bit each: of compute capability 7.5 */
    int32_t full_devices;       /* a bit each: 100 MiB are free */
    uint64_t fail_alloc_after;  /* allocations that still succeed; UINT64_MAX: all */
    uint64_t device_bytes_max;  /* device memory there is; UINT64_MAX: no end of it */
    uint64_t fail_pinned_after; /* the same of pinned memory */
    uint64_t fail_upload_after; /* uploads that are still taken; then `upload_error` */
    int upload_error;
    bool no_streams; /* none can be created */
    bool last_first; /* streams created later run as early as they may, not as late */
    int sync_error;  /* what the next wait reports; then cleared unless sticky */
    bool refuse_capture;
    bool fail_capture;    /* the next capture ends in an error */
    bool no_moments;      /* producers leave none */
    bool no_kernels;      /* built for other chips */
    bool linear_ways;     /* linear layers have a choice: see ldk_linear_variants */
    bool linear_strays;   /* the fast one is a little off, against what its signature says */
    uint32_t signature;   /* another one: kernels that sum in another order */
    bool library_fails;   /* what it said it can do */
    double reading_ms;    /* what a norm takes more that finds no moments */
    bool drop_uploads;    /* weights are not looked at: device memory is not touched at all */
    uint64_t idle_work;   /* pieces that the absent tuner has for idle times */
    size_t library_bytes; /* that the absent tuner's libraries take */
    uint64_t tuner_lost;  /* what the absent tuner says of itself (fake_tuner.c) */
    /* Reports */
    uint64_t launches, uploads, downloads, graph_launches, live_allocations, live_graphs;
    uint64_t norms_with_moments;
    int32_t contexts;              /* a bit each: devices that were asked for more than their age */
    int32_t linear_variant;        /* that was launched last */
    uint64_t uploads_beside;       /* on another stream than the work called for before them */
    uint64_t uploads_ahead;        /* of these, begun before that work had ended */
    uint64_t allocations;          /* of the device and of pinned memory, refused ones too */
    uint64_t device_bytes;         /* in use */
    uint64_t bytes_up, bytes_down; /* that have passed between host and device */
    /* Streams and events are counted among the live allocations. */
    double now_ms; /* what events measure: each piece of work takes one, and may turn it back */
};
extern struct fake_gpu fake_gpu;

/* As at start: one chip of capability 8.0 with 8 GiB, no orders. */
void fake_gpu_reset(void);

/* Put off a piece of work: `run` gets a copy of the arguments when somebody waits. */
int fake_gpu_enqueue(ldk_stream stream, void (*run)(const void *args), const void *args,
                     size_t bytes);

enum { FAKE_ILLEGAL_ADDRESS = 700, FAKE_OUT_OF_MEMORY = 2, FAKE_NO_KERNEL_IMAGE = 209 };

#endif
