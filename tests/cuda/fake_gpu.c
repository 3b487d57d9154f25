/* The services of rt.h over plain memory, all work put off until it is waited for. See fake_gpu.h.
 */
#include "tests/cuda/fake_gpu.h"

#include <stdlib.h>
#include <string.h>

enum { ARGS_MAX = 384, NODES_MAX = 1 << 16, CAPTURE_FAILED = 901 };

struct node {
    void (*run)(const void *args);
    size_t bytes;
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
};

struct fake_gpu fake_gpu;
static struct list queue;
static struct list capture;
static bool capturing;

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

int fake_gpu_enqueue(void (*run)(const void *args), const void *args, size_t bytes)
{
    struct node node = {.run = run, .bytes = bytes};
    if (bytes > ARGS_MAX)
        abort();
    memcpy(node.args, args, bytes);
    return append(capturing ? &capture : &queue, &node);
}

static void drain(void)
{
    for (size_t i = 0; i < queue.count; i++) {
        queue.nodes[i].run(queue.nodes[i].args);
        fake_gpu.now_ms += 1;
    }
    queue.count = 0;
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

static int enqueue_copy(void *dst, const void *src, size_t bytes, uint64_t *counter)
{
    const struct copy copy = {dst, src, bytes, counter};
    return fake_gpu_enqueue(run_copy, &copy, sizeof copy);
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

int ldk_rt_device_info(int32_t device, struct ldk_device_info *out)
{
    *out = fake_gpu.info;
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
    return take_block(out, bytes, 0);
}

int ldk_rt_free_pinned(void *memory)
{
    return ldk_rt_free(memory);
}

int ldk_rt_upload(void *dst, const void *src, size_t bytes, ldk_stream stream)
{
    (void)stream;
    fake_gpu.uploads++;
    return enqueue_copy(dst, src, bytes, &fake_gpu.bytes_up);
}

int ldk_rt_download(void *dst, const void *src, size_t bytes, ldk_stream stream)
{
    (void)stream;
    fake_gpu.downloads++;
    return enqueue_copy(dst, src, bytes, &fake_gpu.bytes_down);
}

int ldk_rt_copy(void *dst, const void *src, size_t bytes, ldk_stream stream)
{
    (void)stream;
    return enqueue_copy(dst, src, bytes, NULL);
}

int ldk_rt_memset(void *dst, int value, size_t bytes, ldk_stream stream)
{
    (void)stream;
    const struct fill fill = {dst, value, bytes};
    return fake_gpu_enqueue(run_fill, &fill, sizeof fill);
}

/* ---- Streams and events ---------------------------------------------------------------------- */

static int wait(void)
{
    const int error = fake_gpu.sync_error;
    if (error == 0) {
        drain();
        return 0;
    }
    queue.count = 0;
    if (!ldk_rt_error_is_sticky(error))
        fake_gpu.sync_error = 0;
    return error;
}

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
    return capturing ? CAPTURE_FAILED : wait();
}

int ldk_rt_stream_wait(ldk_stream stream, ldk_event event)
{
    (void)stream;
    (void)event;
    return 0;
}

int ldk_rt_event_create(ldk_event *out)
{
    *out = calloc(1, sizeof **out);
    return *out ? 0 : FAKE_OUT_OF_MEMORY;
}

int ldk_rt_event_destroy(ldk_event event)
{
    drain(); /* its record may still wait */
    free(event);
    return 0;
}

static void run_record(const void *args)
{
    ldk_event event;
    memcpy(&event, args, sizeof event);
    event->at_ms = fake_gpu.now_ms;
    fake_gpu.now_ms -= 1; /* takes no time */
}

int ldk_rt_event_record(ldk_event event, ldk_stream stream)
{
    (void)stream;
    return fake_gpu_enqueue(run_record, &event, sizeof event);
}

int ldk_rt_event_synchronize(ldk_event event)
{
    (void)event;
    return capturing ? CAPTURE_FAILED : wait();
}

int ldk_rt_event_elapsed(ldk_event start, ldk_event end, float *milliseconds)
{
    *milliseconds = (float)(end->at_ms - start->at_ms);
    return 0;
}

/* ---- Graphs ---------------------------------------------------------------------------------- */

int ldk_rt_capture_begin(ldk_stream stream)
{
    (void)stream;
    if (fake_gpu.refuse_capture)
        return LDK_E_UNSUPPORTED;
    capturing = true;
    capture = (struct list){0};
    return 0;
}

int ldk_rt_capture_end(ldk_stream stream, ldk_graph *out)
{
    (void)stream;
    capturing = false;
    if (fake_gpu.fail_capture) {
        fake_gpu.fail_capture = false;
        free(capture.nodes);
        return CAPTURE_FAILED;
    }
    *out = calloc(1, sizeof **out);
    if (!*out)
        abort();
    (*out)->list = capture;
    fake_gpu.live_graphs++;
    return 0;
}

int ldk_rt_graph_launch(ldk_graph graph, ldk_stream stream)
{
    (void)stream;
    fake_gpu.graph_launches++;
    int code = 0;
    for (size_t i = 0; code == 0 && i < graph->list.count; i++)
        code = append(&queue, &graph->list.nodes[i]);
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
