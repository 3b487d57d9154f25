/* The services of rt.h over plain memory, all work put off until it is waited for. See fake_gpu.h.
 */
#include "tests/cuda/fake_gpu.h"

#include <stdlib.h>
#include <string.h>

enum { ARGS_MAX = 384, NODES_MAX = 1 << 16, STREAMS_MAX = 16 };
/* cudaError_t's numbers */
enum {
    CAPTURE_FAILED = 901,
    CAPTURE_UNJOINED = 904,
    CAPTURE_ISOLATION = 905,
    CAPTURED_EVENT = 907
};

/* What a stream holds: work, the recording of an event, the wait for one. */
enum node_kind { WORK, UPLOAD, RECORD, WAIT };

struct node {
    enum node_kind kind;
    void (*run)(const void *args);
    size_t bytes;
    ldk_event event;
    uint64_t ticket; /* RECORD and WAIT: which recording of the event */
    uint64_t turn;   /* in the order of all calls */
    ldk_stream stream;
    _Alignas(16) unsigned char args[ARGS_MAX];
};

struct list {
    struct node *nodes;
    size_t count, capacity;
};

struct ldk_graph_opaque {
    struct list list;
};
struct ldk_event_opaque {
    double at_ms;
    uint64_t issued, done; /* recordings asked for, and reached */
    uint64_t capture;      /* that the latest one belongs to; 0: none */
    ldk_stream stream;     /* of the latest one */
    size_t captured;       /* nodes of that stream in the capture at that time */
};
struct ldk_stream_opaque {
    struct list queue;
    size_t next;
    double clock_ms;
    bool taken;
    /* In the capture that goes on: how many nodes it has there, and how many of them the stream
     * that the capture began on has waited for. */
    bool capturing;
    size_t captured, joined;
};

/* When a piece of work ran. */
struct span {
    uint64_t turn;
    ldk_stream stream;
    bool upload;
    double start_ms, end_ms;
};

struct fake_gpu fake_gpu;
static struct ldk_stream_opaque streams[STREAMS_MAX]; /* the first one is the default stream */
static uint64_t turns;
static struct span spans[NODES_MAX];
static size_t span_count;
static struct {
    bool on;
    uint64_t id;
    ldk_stream origin;
    struct list list;
    int error; /* what makes it fail in the end */
} capture;

static ldk_stream stream_of(ldk_stream stream)
{
    return stream ? stream : &streams[0];
}

void fake_gpu_reset(void)
{
    const uint64_t allocations = fake_gpu.live_allocations;
    const uint64_t graphs = fake_gpu.live_graphs;
    const uint64_t bytes = fake_gpu.device_bytes;
    memset(&fake_gpu, 0, sizeof fake_gpu);
    fake_gpu.live_allocations = allocations;
    fake_gpu.live_graphs = graphs;
    fake_gpu.device_bytes = bytes;
    fake_gpu.count = 1;
    fake_gpu.driver = 13000;
    fake_gpu.fail_alloc_after = fake_gpu.device_bytes_max = UINT64_MAX;
    fake_gpu.fail_pinned_after = fake_gpu.fail_upload_after = UINT64_MAX;
    fake_gpu.info = (struct ldk_device_info){.name = "Fake",
                                             .major = 8,
                                             .sm_count = 4,
                                             .driver_version = 13000,
                                             .runtime_version = 13000,
                                             .shared_max = 99 * 1024,
                                             .memory_total = (size_t)8 << 30,
                                             .memory_free = (size_t)7 << 30};
}

/* ---- The queue ------------------------------------------------------------------------------- */

static int append(struct list *list, const struct node *node)
{
    if (list->count == NODES_MAX)
        return FAKE_OUT_OF_MEMORY;
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 64;
        list->nodes = realloc(list->nodes, list->capacity * sizeof *list->nodes);
        if (!list->nodes)
            abort();
    }
    list->nodes[list->count++] = *node;
    return 0;
}

/* Into the capture where the stream is part of it, else behind what waits on the stream. */
static int enqueue(struct node *node)
{
    struct ldk_stream_opaque *stream = stream_of(node->stream);
    node->stream = stream;
    node->turn = ++turns;
    if (!stream->capturing)
        return append(&stream->queue, node);
    stream->captured++;
    return append(&capture.list, node);
}

static int enqueue_work(ldk_stream stream, enum node_kind kind, void (*run)(const void *args),
                        const void *args, size_t bytes)
{
    struct node node = {.kind = kind, .run = run, .bytes = bytes, .stream = stream};
    if (bytes > ARGS_MAX)
        abort();
    memcpy(node.args, args, bytes);
    return enqueue(&node);
}

int fake_gpu_enqueue(ldk_stream stream, void (*run)(const void *args), const void *args,
                     size_t bytes)
{
    return enqueue_work(stream, WORK, run, args, bytes);
}

/* Each stream has a clock of its own: waiting for an event sets it to that event's time. */
static void run_node(struct ldk_stream_opaque *stream, const struct node *node)
{
    if (node->kind == RECORD) {
        node->event->done = node->ticket;
        node->event->at_ms = stream->clock_ms;
        return;
    }
    if (node->kind == WAIT) {
        if (stream->clock_ms < node->event->at_ms)
            stream->clock_ms = node->event->at_ms;
        return;
    }
    fake_gpu.now_ms = stream->clock_ms;
    node->run(node->args);
    fake_gpu.now_ms += 1;
    if (span_count < NODES_MAX)
        spans[span_count++] = (struct span){node->turn, stream, node->kind == UPLOAD,
                                            stream->clock_ms, fake_gpu.now_ms};
    stream->clock_ms = fake_gpu.now_ms;
}

/* The head of a queue that need not wait; NULL: nothing can go on. */
static struct ldk_stream_opaque *runnable(void)
{
    for (int i = 0; i < STREAMS_MAX; i++) {
        struct ldk_stream_opaque *stream = &streams[fake_gpu.last_first ? STREAMS_MAX - 1 - i : i];
        if (stream->next == stream->queue.count)
            continue;
        const struct node *node = &stream->queue.nodes[stream->next];
        if (node->kind != WAIT || node->event->done >= node->ticket)
            return stream;
    }
    return NULL;
}

static int by_turn(const void *a, const void *b)
{
    const struct span *x = a;
    const struct span *y = b;
    return (x->turn > y->turn) - (x->turn < y->turn);
}

/* Uploads beside other streams' work, and those of them that began before the work called for
 * last on another stream had ended. */
static void count_overlaps(void)
{
    qsort(spans, span_count, sizeof spans[0], by_turn);
    const struct span *latest = NULL;
    for (size_t i = 0; i < span_count; i++) {
        if (!spans[i].upload) {
            latest = &spans[i];
        } else if (latest && latest->stream != spans[i].stream) {
            fake_gpu.uploads_beside++;
            fake_gpu.uploads_ahead += spans[i].start_ms < latest->end_ms;
        }
    }
    span_count = 0;
}

static void clear_queues(void)
{
    for (int i = 0; i < STREAMS_MAX; i++) {
        for (size_t n = streams[i].next; n < streams[i].queue.count; n++)
            if (streams[i].queue.nodes[n].kind == RECORD)
                streams[i].queue.nodes[n].event->done = streams[i].queue.nodes[n].ticket;
        streams[i].queue.count = streams[i].next = 0;
    }
}

static void drain(void)
{
    double now_ms = fake_gpu.now_ms;
    for (int i = 0; i < STREAMS_MAX; i++)
        streams[i].clock_ms = now_ms;
    for (struct ldk_stream_opaque *stream; (stream = runnable()) != NULL;)
        run_node(stream, &stream->queue.nodes[stream->next++]);
    for (int i = 0; i < STREAMS_MAX; i++) {
        if (streams[i].next < streams[i].queue.count)
            abort(); /* streams wait for each other */
        now_ms = streams[i].clock_ms > now_ms ? streams[i].clock_ms : now_ms;
    }
    fake_gpu.now_ms = now_ms;
    clear_queues();
    count_overlaps();
}

struct copy {
    void *dst;
    const void *src;
    size_t bytes;
    uint64_t *counter; /* of bytes; NULL: not counted */
};

static void run_copy(const void *args)
{
    const struct copy *copy = args;
    memcpy(copy->dst, copy->src, copy->bytes);
    if (copy->counter)
        *copy->counter += copy->bytes;
}

static int enqueue_copy(ldk_stream stream, enum node_kind kind, void *dst, const void *src,
                        size_t bytes, uint64_t *counter)
{
    const struct copy copy = {dst, src, bytes, counter};
    return enqueue_work(stream, kind, run_copy, &copy, sizeof copy);
}

struct fill {
    void *dst;
    int value;
    size_t bytes;
};

static void run_fill(const void *args)
{
    const struct fill *fill = args;
    memset(fill->dst, fill->value, fill->bytes);
}

/* ---- Devices --------------------------------------------------------------------------------- */

bool ldk_rt_is_host(void)
{
    return true;
}

int ldk_rt_device_count(int32_t *count)
{
    *count = fake_gpu.count;
    return fake_gpu.count_error;
}

int ldk_rt_versions(int32_t *driver, int32_t *runtime)
{
    *driver = fake_gpu.driver;
    *runtime = 13000;
    return 0;
}

static bool has_bit(int32_t bits, int32_t device)
{
    return (bits >> device & 1) != 0;
}

int ldk_rt_device_capability(int32_t device, int32_t *major, int32_t *minor)
{
    const bool old = has_bit(fake_gpu.old_devices, device);
    *major = old ? 7 : fake_gpu.info.major;
    *minor = old ? 5 : fake_gpu.info.minor;
    return device < fake_gpu.count ? 0 : 101;
}

int ldk_rt_device_info(int32_t device, struct ldk_device_info *out)
{
    *out = fake_gpu.info;
    fake_gpu.contexts |= 1 << device;
    (void)ldk_rt_device_capability(device, &out->major, &out->minor);
    if (has_bit(fake_gpu.full_devices, device))
        out->memory_free = (size_t)100 << 20;
    if (fake_gpu.device_bytes_max != UINT64_MAX) {
        out->memory_total = fake_gpu.device_bytes_max;
        out->memory_free = fake_gpu.device_bytes_max - fake_gpu.device_bytes;
    }
    return device < fake_gpu.count ? 0 : 101;
}

int ldk_rt_kernels_load(void)
{
    return fake_gpu.no_kernels ? FAKE_NO_KERNEL_IMAGE : LDK_OK;
}

int ldk_rt_set_device(int32_t device)
{
    return device < fake_gpu.count ? 0 : 101;
}

/* ---- Memory ---------------------------------------------------------------------------------- */

/* A block begins with its size, out of sight. */
enum { HEAD = 256 };

static int take_block(void **out, size_t bytes, size_t on_device)
{
    size_t *head = aligned_alloc(HEAD, HEAD + (bytes + HEAD - 1) / HEAD * HEAD);
    if (!head)
        return FAKE_OUT_OF_MEMORY;
    *head = on_device;
    *out = (unsigned char *)head + HEAD;
    if (!fake_gpu.drop_uploads || on_device == 0)
        memset(*out, 0xFF, bytes);
    fake_gpu.live_allocations++;
    fake_gpu.device_bytes += on_device;
    return 0;
}

int ldk_rt_malloc(void **out, size_t bytes)
{
    fake_gpu.allocations++;
    if (fake_gpu.fail_alloc_after == 0 || bytes > fake_gpu.device_bytes_max ||
        fake_gpu.device_bytes > fake_gpu.device_bytes_max - bytes)
        return FAKE_OUT_OF_MEMORY;
    fake_gpu.fail_alloc_after -= fake_gpu.fail_alloc_after != UINT64_MAX ? 1 : 0;
    return take_block(out, bytes, bytes);
}

int ldk_rt_free(void *memory)
{
    size_t *head = (void *)((unsigned char *)memory - HEAD);
    drain();
    fake_gpu.device_bytes -= *head;
    fake_gpu.live_allocations--;
    free(head);
    return 0;
}

int ldk_rt_malloc_pinned(void **out, size_t bytes)
{
    fake_gpu.allocations++;
    if (fake_gpu.fail_pinned_after == 0)
        return FAKE_OUT_OF_MEMORY;
    fake_gpu.fail_pinned_after -= fake_gpu.fail_pinned_after != UINT64_MAX ? 1 : 0;
    return take_block(out, bytes, 0);
}

int ldk_rt_free_pinned(void *memory)
{
    return ldk_rt_free(memory);
}

int ldk_rt_upload(void *dst, const void *src, size_t bytes, ldk_stream stream)
{
    fake_gpu.uploads++;
    if (fake_gpu.fail_upload_after == 0)
        return fake_gpu.upload_error;
    fake_gpu.fail_upload_after -= fake_gpu.fail_upload_after != UINT64_MAX ? 1 : 0;
    if (fake_gpu.drop_uploads)
        return 0;
    return enqueue_copy(stream, UPLOAD, dst, src, bytes, &fake_gpu.bytes_up);
}

int ldk_rt_download(void *dst, const void *src, size_t bytes, ldk_stream stream)
{
    fake_gpu.downloads++;
    return enqueue_copy(stream, WORK, dst, src, bytes, &fake_gpu.bytes_down);
}

int ldk_rt_copy(void *dst, const void *src, size_t bytes, ldk_stream stream)
{
    return enqueue_copy(stream, WORK, dst, src, bytes, NULL);
}

int ldk_rt_memset(void *dst, int value, size_t bytes, ldk_stream stream)
{
    const struct fill fill = {dst, value, bytes};
    return fake_gpu_enqueue(stream, run_fill, &fill, sizeof fill);
}

/* ---- Streams and events ---------------------------------------------------------------------- */

static int wait(void)
{
    const int error = fake_gpu.sync_error;
    if (error == 0) {
        drain();
        return 0;
    }
    clear_queues();
    if (!ldk_rt_error_is_sticky(error))
        fake_gpu.sync_error = 0;
    return error;
}

int ldk_rt_stream_create(ldk_stream *out, int32_t priority)
{
    (void)priority;
    *out = NULL;
    for (int i = 1; !*out && i < STREAMS_MAX && !fake_gpu.no_streams; i++)
        *out = streams[i].taken ? NULL : &streams[i];
    if (!*out)
        return FAKE_OUT_OF_MEMORY;
    (*out)->taken = true;
    fake_gpu.live_allocations++;
    return 0;
}

int ldk_rt_stream_destroy(ldk_stream stream)
{
    drain();
    free(stream->queue.nodes);
    memset(stream, 0, sizeof *stream);
    fake_gpu.live_allocations--;
    return 0;
}

int ldk_rt_stream_synchronize(ldk_stream stream)
{
    (void)stream;
    return capture.on ? CAPTURE_FAILED : wait();
}

/* As CUDA's captures go: a stream joins one by waiting for an event of it, one that is in it waits
 * for nothing outside, and nobody outside waits for what has been captured. */
int ldk_rt_stream_wait(ldk_stream stream, ldk_event event)
{
    struct ldk_stream_opaque *waiting = stream_of(stream);
    struct node node = {.kind = WAIT, .event = event, .stream = stream, .ticket = event->issued};
    const bool captured = capture.on && event->capture == capture.id;
    if (waiting->capturing && !captured)
        return capture.error = CAPTURE_ISOLATION;
    if (!captured && event->capture != 0)
        return CAPTURED_EVENT;
    waiting->capturing = captured;
    if (captured && waiting == capture.origin)
        event->stream->joined = event->captured;
    return enqueue(&node);
}

int ldk_rt_event_create(ldk_event *out)
{
    *out = calloc(1, sizeof **out);
    fake_gpu.live_allocations += *out != NULL;
    return *out ? 0 : FAKE_OUT_OF_MEMORY;
}

int ldk_rt_event_destroy(ldk_event event)
{
    drain(); /* its record may still wait */
    fake_gpu.live_allocations--;
    free(event);
    return 0;
}

int ldk_rt_event_record(ldk_event event, ldk_stream stream)
{
    struct node node = {.kind = RECORD, .event = event, .stream = stream};
    event->stream = stream_of(stream);
    event->capture = event->stream->capturing ? capture.id : 0;
    node.ticket = event->capture ? 0 : ++event->issued; /* a graph's are given at its launch */
    const int code = enqueue(&node);
    event->captured = event->stream->captured;
    return code;
}

int ldk_rt_event_synchronize(ldk_event event)
{
    (void)event;
    return capture.on ? CAPTURE_FAILED : wait();
}

int ldk_rt_event_elapsed(ldk_event start, ldk_event end, float *milliseconds)
{
    *milliseconds = (float)(end->at_ms - start->at_ms);
    return 0;
}

/* ---- Graphs ---------------------------------------------------------------------------------- */

int ldk_rt_capture_begin(ldk_stream stream)
{
    if (fake_gpu.refuse_capture)
        return LDK_E_UNSUPPORTED;
    const uint64_t id = capture.id + 1;
    memset(&capture, 0, sizeof capture);
    capture.on = true;
    capture.id = id;
    capture.origin = stream_of(stream);
    capture.origin->capturing = true;
    return 0;
}

/* Streams that joined have to have come back. */
static void leave_capture(void)
{
    for (int i = 0; i < STREAMS_MAX; i++) {
        if (streams[i].capturing && &streams[i] != capture.origin &&
            streams[i].joined < streams[i].captured && capture.error == 0)
            capture.error = CAPTURE_UNJOINED;
        streams[i].capturing = false;
        streams[i].captured = streams[i].joined = 0;
    }
    capture.on = false;
}

int ldk_rt_capture_end(ldk_stream stream, ldk_graph *out)
{
    (void)stream;
    leave_capture();
    if (fake_gpu.fail_capture)
        capture.error = CAPTURE_FAILED;
    fake_gpu.fail_capture = false;
    if (capture.error != 0) {
        free(capture.list.nodes);
        return capture.error;
    }
    *out = calloc(1, sizeof **out);
    if (!*out)
        abort();
    (*out)->list = capture.list;
    fake_gpu.live_graphs++;
    return 0;
}

/* Its branches go to the streams that they were captured on. */
int ldk_rt_graph_launch(ldk_graph graph, ldk_stream stream)
{
    (void)stream;
    fake_gpu.graph_launches++;
    int code = 0;
    for (size_t i = 0; code == 0 && i < graph->list.count; i++) {
        struct node node = graph->list.nodes[i];
        if (node.kind == RECORD)
            node.ticket = ++node.event->issued;
        if (node.kind == WAIT)
            node.ticket = node.event->issued;
        code = enqueue(&node);
    }
    return code;
}

int ldk_rt_graph_destroy(ldk_graph graph)
{
    drain();
    free(graph->list.nodes);
    free(graph);
    fake_gpu.live_graphs--;
    return 0;
}

/* ---- Errors ---------------------------------------------------------------------------------- */

int ldk_rt_last_error(void)
{
    return 0;
}

const char *ldk_rt_error_name(int code)
{
    return code == FAKE_ILLEGAL_ADDRESS ? "illegal address" : "some error";
}

bool ldk_rt_error_is_sticky(int code)
{
    return code == FAKE_ILLEGAL_ADDRESS;
}
