/*
 * The CUDA runtime over the PTX machine: streams, events, captures and graphs.
 *
 * A stream does its work at once, so only captures need to know about order. A capture begins on
 * one stream and spreads to those that wait for its events; a node follows the stream's node before
 * it and those of the events waited for. A graph's launch runs its nodes one by one in an order
 * that these edges allow: that of the capture, or with PTX_ORDER (ptx.h) the last node first that
 * may run, or any.
 *
 * Source: CUDA Runtime API 13.0, stream, event and graph management; CUDA Programming Guide, stream
 * capture.
 */
#include "tests/ptx/cudart.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NO_NODE = -1 };

struct node {
    struct rt_work work; /* with params of its own */
    int32_t after[2];    /* nodes that come before, or NO_NODE */
};

struct CUgraph_st {
    struct node *nodes;
    int32_t count, room;
};

struct CUgraphExec_st {
    struct CUgraph_st graph;
};

struct capture {
    struct capture *next;
    cudaStream_t origin;
    enum cudaStreamCaptureMode mode;
    pthread_t thread;
    uint64_t id;
    cudaError_t fault; /* what made it void */
    struct CUgraph_st *graph;
};

struct CUstream_st {
    struct CUstream_st *next;
    bool waits_for_default; /* not created with cudaStreamNonBlocking */
    struct capture *capture;
    int32_t tail; /* its last node in the capture */
};

struct CUevent_st {
    struct CUevent_st *next;
    bool recorded;
    uint64_t capture; /* id of the capture it was last recorded in; 0: none */
    int32_t tail;
    double milliseconds;
};

static struct CUstream_st default_stream = {.waits_for_default = true};
static struct CUstream_st *streams;
static struct CUevent_st *events;
static struct capture *captures;
static uint64_t capture_ids;

/* ---- Graphs ---------------------------------------------------------------------------------- */

static void clear_graph(struct CUgraph_st *graph)
{
    for (int32_t i = 0; i < graph->count; i++)
        free((void *)(uintptr_t)graph->nodes[i].work.launch.params);
    free(graph->nodes);
    *graph = (struct CUgraph_st){0};
}

static cudaError_t add_node(struct CUgraph_st *graph, const struct rt_work *work, int32_t first,
                            int32_t second)
{
    if (graph->count == graph->room) {
        int32_t room = graph->room ? graph->room * 2 : 64;
        struct node *larger = realloc(graph->nodes, (size_t)room * sizeof *larger);
        if (!larger)
            return cudaErrorMemoryAllocation;
        graph->nodes = larger;
        graph->room = room;
    }
    struct node node = {.work = *work, .after = {first, second}};
    if (work->kind == RT_KERNEL) {
        uint32_t bytes = work->launch.kernel->param_bytes;
        unsigned char *params = malloc(bytes + 1u);
        if (!params)
            return cudaErrorMemoryAllocation;
        memcpy(params, work->launch.params, bytes);
        node.work.launch.params = params;
    }
    graph->nodes[graph->count++] = node;
    return cudaSuccess;
}

/* All nodes lie before `last` or are it. */
static bool all_before(const struct CUgraph_st *graph, int32_t last)
{
    bool *before = calloc((size_t)graph->count + 1, sizeof *before);
    if (!before)
        return false;
    bool all = true;
    if (last != NO_NODE)
        before[last] = true;
    for (int32_t i = graph->count; i-- > 0;) {
        const struct node *node = &graph->nodes[i];
        all = all && (before[i] || node->work.kind == RT_NOTHING);
        for (int k = 0; before[i] && k < 2; k++)
            if (node->after[k] != NO_NODE)
                before[node->after[k]] = true;
    }
    free(before);
    return all;
}

static bool may_run(const struct CUgraph_st *graph, const bool *done, int32_t at)
{
    const int32_t *after = graph->nodes[at].after;
    return !done[at] && (after[0] == NO_NODE || done[after[0]]) &&
           (after[1] == NO_NODE || done[after[1]]);
}

/* Of the nodes that may run the last, or with a seed any. */
static int32_t choose(const struct CUgraph_st *graph, const bool *done, uint64_t *seed)
{
    int32_t chosen = NO_NODE;
    uint64_t seen = 0;
    for (int32_t i = graph->count; i-- > 0;) {
        if (!may_run(graph, done, i))
            continue;
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        if (chosen == NO_NODE || (ptx_options()->order > 1 && (*seed >> 33) % (seen + 1) == 0))
            chosen = i;
        seen++;
    }
    return chosen;
}

static cudaError_t run_graph(const struct CUgraph_st *graph)
{
    bool *done = calloc((size_t)graph->count + 1, sizeof *done);
    if (!done)
        return cudaErrorMemoryAllocation;
    cudaError_t code = cudaSuccess;
    uint64_t order = ptx_options()->order, seed = order;
    for (int32_t i = 0; i < graph->count && code == cudaSuccess; i++) {
        int32_t at = order == 0 ? i : choose(graph, done, &seed);
        done[at] = true;
        code = rt_run(&graph->nodes[at].work);
    }
    free(done);
    /* The graph was taken long ago: a copy to or from memory that has gone is found by the device.
     */
    return code == cudaErrorInvalidValue
               ? rt_break(cudaErrorIllegalAddress, "a graph copies where no memory is any more")
               : code;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags)
{
    cudaError_t code = rt_enter();
    *out = NULL;
    if (code == cudaSuccess && (!graph || flags != 0))
        code = cudaErrorInvalidValue;
    struct CUgraphExec_st *exec = code ? NULL : calloc(1, sizeof *exec);
    if (code == cudaSuccess && !exec)
        code = cudaErrorMemoryAllocation;
    for (int32_t i = 0; exec && code == cudaSuccess && i < graph->count; i++) {
        const struct node *node = &graph->nodes[i];
        code = add_node(&exec->graph, &node->work, node->after[0], node->after[1]);
    }
    if (exec && code != cudaSuccess) {
        clear_graph(&exec->graph);
        free(exec);
        exec = NULL;
    }
    *out = exec;
    return rt_leave(code);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    cudaError_t code = rt_enter();
    if (!graph)
        return rt_leave(cudaErrorInvalidValue);
    clear_graph(graph);
    free(graph);
    return rt_leave(code);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    cudaError_t code = rt_enter();
    if (!exec)
        return rt_leave(cudaErrorInvalidValue);
    clear_graph(&exec->graph);
    free(exec);
    return rt_leave(code);
}

/* ---- Captures -------------------------------------------------------------------------------- */

/* The stream of a handle; NULL: it is none. */
static struct CUstream_st *stream_of(cudaStream_t handle)
{
    if (!handle)
        return &default_stream;
    struct CUstream_st *it = streams;
    while (it && it != handle)
        it = it->next;
    return it;
}

static struct CUevent_st *event_of(cudaEvent_t handle)
{
    struct CUevent_st *it = events;
    while (it && it != handle)
        it = it->next;
    return it;
}

static cudaError_t spoil(struct capture *capture, cudaError_t code)
{
    if (capture->fault == cudaSuccess)
        capture->fault = code;
    return code;
}

cudaError_t rt_not_captured(void)
{
    cudaError_t code = cudaSuccess;
    for (struct capture *it = captures; it; it = it->next) {
        bool mine = pthread_equal(it->thread, pthread_self()) != 0;
        if (it->mode == cudaStreamCaptureModeGlobal ||
            (it->mode == cudaStreamCaptureModeThreadLocal && mine))
            code = spoil(it, cudaErrorStreamCaptureUnsupported);
    }
    return code;
}

/* The default stream waits for all streams that wait for it: not while one of them is captured. */
static cudaError_t check_default(const struct CUstream_st *stream)
{
    if (stream != &default_stream)
        return cudaSuccess;
    for (struct capture *it = captures; it; it = it->next)
        if (it->origin->waits_for_default)
            return spoil(it, cudaErrorStreamCaptureImplicit);
    return cudaSuccess;
}

/* Appends to the stream's nodes; `second`: what the node waits for beside the stream's last. */
static cudaError_t record(struct CUstream_st *stream, const struct rt_work *work, int32_t second)
{
    struct capture *capture = stream->capture;
    if (capture->fault != cudaSuccess)
        return cudaErrorStreamCaptureInvalidated;
    cudaError_t code = add_node(capture->graph, work, stream->tail, second);
    if (code != cudaSuccess)
        return spoil(capture, code);
    stream->tail = capture->graph->count - 1;
    return cudaSuccess;
}

cudaError_t rt_submit(cudaStream_t handle, const struct rt_work *work)
{
    struct CUstream_st *stream = stream_of(handle);
    if (!stream)
        return cudaErrorInvalidResourceHandle;
    cudaError_t code = check_default(stream);
    if (code != cudaSuccess)
        return code;
    return stream->capture ? record(stream, work, NO_NODE) : rt_run(work);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t handle)
{
    cudaError_t code = rt_enter();
    const struct CUstream_st *stream = stream_of(handle);
    if (code != cudaSuccess)
        return rt_leave(code);
    if (!exec || !stream)
        return rt_leave(cudaErrorInvalidResourceHandle);
    code = check_default(stream);
    if (code == cudaSuccess && stream->capture)
        code = spoil(stream->capture, cudaErrorNotSupported);
    return rt_leave(code ? code : run_graph(&exec->graph));
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, enum cudaStreamCaptureMode mode)
{
    cudaError_t code = rt_enter();
    struct CUstream_st *stream = stream_of(handle);
    if (code == cudaSuccess && !stream)
        code = cudaErrorInvalidResourceHandle;
    else if (code == cudaSuccess && stream == &default_stream)
        code = cudaErrorStreamCaptureUnsupported;
    else if (code == cudaSuccess && stream->capture)
        code = cudaErrorIllegalState;
    if (code != cudaSuccess)
        return rt_leave(code);
    struct capture *capture = malloc(sizeof *capture);
    struct CUgraph_st *graph = calloc(1, sizeof *graph);
    if (!capture || !graph) {
        free(capture);
        free(graph);
        return rt_leave(cudaErrorMemoryAllocation);
    }
    *capture = (struct capture){.next = captures,
                                .origin = stream,
                                .mode = mode,
                                .thread = pthread_self(),
                                .id = ++capture_ids,
                                .graph = graph};
    captures = capture;
    stream->capture = capture;
    stream->tail = NO_NODE;
    return rt_leave(cudaSuccess);
}

/* Ends it for all its streams. The graph, NULL with *code if it is void. */
static struct CUgraph_st *finish(struct capture *capture, int32_t last, cudaError_t *code)
{
    struct CUgraph_st *graph = capture->graph;
    *code = capture->fault ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
    if (*code == cudaSuccess && !all_before(graph, last))
        *code = cudaErrorStreamCaptureUnjoined;
    for (struct CUstream_st *it = streams; it; it = it->next)
        if (it->capture == capture)
            it->capture = NULL;
    struct capture **at = &captures;
    while (*at != capture)
        at = &(*at)->next;
    *at = capture->next;
    free(capture);
    if (*code == cudaSuccess)
        return graph;
    clear_graph(graph);
    free(graph);
    return NULL;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *out)
{
    cudaError_t code = rt_enter();
    struct CUstream_st *stream = stream_of(handle);
    *out = NULL;
    if (!stream)
        return rt_leave(code ? code : cudaErrorInvalidResourceHandle);
    struct capture *capture = stream->capture;
    if (!capture)
        return rt_leave(code ? code : cudaErrorIllegalState);
    if (capture->origin != stream)
        return rt_leave(code ? code : spoil(capture, cudaErrorStreamCaptureUnmatched));
    if (capture->mode != cudaStreamCaptureModeRelaxed &&
        !pthread_equal(capture->thread, pthread_self()))
        return rt_leave(code ? code : spoil(capture, cudaErrorStreamCaptureWrongThread));
    cudaError_t end;
    *out = finish(capture, stream->tail, &end);
    return rt_leave(code ? code : end);
}

/* ---- Streams --------------------------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int priority)
{
    (void)priority;
    cudaError_t code = rt_enter();
    *out = NULL;
    if (code != cudaSuccess)
        return rt_leave(code);
    struct CUstream_st *stream = calloc(1, sizeof *stream);
    if (!stream)
        return rt_leave(cudaErrorMemoryAllocation);
    stream->waits_for_default = (flags & cudaStreamNonBlocking) == 0;
    stream->next = streams;
    streams = stream;
    *out = stream;
    return rt_leave(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t handle)
{
    cudaError_t code = rt_enter();
    struct CUstream_st **at = &streams;
    while (*at && *at != handle)
        at = &(*at)->next;
    struct CUstream_st *stream = *at;
    if (!stream)
        return rt_leave(cudaErrorInvalidResourceHandle);
    if (stream->capture)
        return rt_leave(spoil(stream->capture, cudaErrorStreamCaptureUnsupported));
    *at = stream->next;
    free(stream);
    return rt_leave(code);
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle)
{
    cudaError_t code = rt_enter();
    struct CUstream_st *stream = stream_of(handle);
    if (!stream)
        return rt_leave(cudaErrorInvalidResourceHandle);
    if (code == cudaSuccess)
        code = check_default(stream);
    if (code == cudaSuccess && stream->capture)
        code = spoil(stream->capture, cudaErrorStreamCaptureUnsupported);
    return rt_leave(code);
}

/* ---- Events ---------------------------------------------------------------------------------- */

static struct capture *capture_by_id(uint64_t id)
{
    struct capture *it = captures;
    while (it && it->id != id)
        it = it->next;
    return it;
}

/* Only a stream of the same capture, or one that joins it so, may wait for a captured event. */
static cudaError_t wait_captured(struct CUstream_st *stream, const struct CUevent_st *event)
{
    struct capture *capture = capture_by_id(event->capture);
    if (!capture)
        return cudaErrorCapturedEvent;
    if (stream == &default_stream)
        return spoil(capture, cudaErrorStreamCaptureImplicit);
    if (stream->capture && stream->capture != capture) {
        spoil(stream->capture, cudaErrorStreamCaptureMerge);
        return spoil(capture, cudaErrorStreamCaptureMerge);
    }
    if (!stream->capture) {
        stream->capture = capture;
        stream->tail = event->tail;
        return cudaSuccess;
    }
    if (event->tail == NO_NODE || event->tail == stream->tail)
        return cudaSuccess;
    return record(stream, &(struct rt_work){.kind = RT_NOTHING}, event->tail);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned flags)
{
    cudaError_t code = rt_enter();
    struct CUstream_st *stream = stream_of(handle);
    const struct CUevent_st *event = event_of(event_handle);
    if (code != cudaSuccess)
        return rt_leave(code);
    if (!stream || !event || flags != 0)
        return rt_leave(cudaErrorInvalidResourceHandle);
    if (event->capture != 0)
        return rt_leave(wait_captured(stream, event));
    /* What lies before the capture is not in its graph. */
    if (stream->capture && event->recorded)
        return rt_leave(spoil(stream->capture, cudaErrorStreamCaptureIsolation));
    return rt_leave(check_default(stream));
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    cudaError_t code = rt_enter();
    *out = NULL;
    if (code != cudaSuccess)
        return rt_leave(code);
    struct CUevent_st *event = calloc(1, sizeof *event);
    if (!event)
        return rt_leave(cudaErrorMemoryAllocation);
    event->next = events;
    events = event;
    *out = event;
    return rt_leave(cudaSuccess);
}

cudaError_t cudaEventDestroy(cudaEvent_t handle)
{
    cudaError_t code = rt_enter();
    struct CUevent_st **at = &events;
    while (*at && *at != handle)
        at = &(*at)->next;
    struct CUevent_st *event = *at;
    if (!event)
        return rt_leave(cudaErrorInvalidResourceHandle);
    *at = event->next;
    free(event);
    return rt_leave(code);
}

cudaError_t cudaEventRecord(cudaEvent_t event_handle, cudaStream_t handle)
{
    cudaError_t code = rt_enter();
    struct CUstream_st *stream = stream_of(handle);
    struct CUevent_st *event = event_of(event_handle);
    if (code != cudaSuccess)
        return rt_leave(code);
    if (!stream || !event)
        return rt_leave(cudaErrorInvalidResourceHandle);
    code = check_default(stream);
    if (code != cudaSuccess)
        return rt_leave(code);
    if (stream->capture && stream->capture->fault != cudaSuccess)
        return rt_leave(cudaErrorStreamCaptureInvalidated);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    event->recorded = true;
    event->milliseconds = (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
    event->capture = stream->capture ? stream->capture->id : 0;
    event->tail = stream->tail;
    return rt_leave(cudaSuccess);
}

/* A captured event never happens: waiting for it is a mistake, and the end of its capture. */
static cudaError_t check_happens(const struct CUevent_st *event)
{
    if (!event)
        return cudaErrorInvalidResourceHandle;
    if (event->capture == 0)
        return cudaSuccess;
    struct capture *capture = capture_by_id(event->capture);
    return capture ? spoil(capture, cudaErrorCapturedEvent) : cudaErrorCapturedEvent;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    cudaError_t code = rt_enter();
    return rt_leave(code ? code : check_happens(event_of(event)));
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start_handle,
                                 cudaEvent_t end_handle)
{
    cudaError_t code = rt_enter();
    const struct CUevent_st *start = event_of(start_handle), *end = event_of(end_handle);
    *milliseconds = 0.0f;
    if (code == cudaSuccess)
        code = check_happens(start);
    if (code == cudaSuccess)
        code = check_happens(end);
    if (code == cudaSuccess && (!start->recorded || !end->recorded))
        code = cudaErrorInvalidResourceHandle;
    if (code == cudaSuccess)
        *milliseconds = (float)(end->milliseconds - start->milliseconds);
    return rt_leave(code);
}
