#include "server/events.h"

#include "config/limits.h"

#include <pthread.h>

enum {
    QUEUE_MAX = LD_EVENTS_KEPT_PER_JOB, /* of one stream; beyond, the store is read again */
    PAGE_EVENTS = 32,
    PAGE_ARENA_BYTES = 64 << 20 /* 32 job documents; a request may carry 3 * 16 KiB of text */
};

/* One copy for all streams that hold it. */
struct shared_event {
    struct ld_store_event event;
    uint32_t holders; /* with the hub's lock */
    char texts[];     /* tenant, then json */
};

struct ld_event_stream {
    struct ld_event_hub *hub;
    struct ld_event_stream_options options;
    char tenant[LD_STORE_TENANT_BYTES_MAX + 1];
    char job_id[LD_ID_SIZE];
    struct ld_event_stream *next;

    /* Guarded by the hub's lock. */
    struct shared_event *queue[QUEUE_MAX];
    uint32_t queue_first, queue_count;
    bool overflowed;
    bool expelled;

    /* The reading thread's own. */
    bool live; /* the store has nothing more; the queue is next */
    uint64_t cursor;
    struct ld_arena page_arena;
    struct ld_store_event *page;
    uint32_t page_pos, page_count;
    struct shared_event *held;
};

struct ld_event_hub {
    pthread_mutex_t lock; /* guards the list and all queues; wake runs under it */
    struct ld_event_stream *streams;
};

enum ld_code ld_event_hub_create(struct ld_event_hub **out, struct ld_error *err)
{
    struct ld_event_hub *hub = ld_heap_alloc(sizeof *hub);
    *out = hub;
    if (!hub)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    (void)pthread_mutex_init(&hub->lock, NULL);
    return LD_OK;
}

void ld_event_hub_destroy(struct ld_event_hub *hub)
{
    if (!hub)
        return;
    LD_ASSERT(hub->streams == NULL);
    (void)pthread_mutex_destroy(&hub->lock);
    ld_heap_free(hub);
}

/* ---- Publishing ------------------------------------------------------------------------------ */

static struct shared_event *copy_event(const struct ld_store_event *event)
{
    const size_t tenant_size = strlen(event->tenant) + 1;
    const size_t json_size = strlen(event->json) + 1;
    struct shared_event *copy = ld_heap_alloc(sizeof *copy + tenant_size + json_size);
    if (!copy)
        return NULL;
    copy->event = *event;
    memcpy(copy->texts, event->tenant, tenant_size);
    memcpy(copy->texts + tenant_size, event->json, json_size);
    copy->event.tenant = copy->texts;
    copy->event.json = copy->texts + tenant_size;
    return copy;
}

static bool follows(const struct ld_event_stream *stream, const struct ld_store_event *event)
{
    if (event->kind == LD_EVENT_PREVIEW && !stream->options.previews)
        return false;
    if (stream->job_id[0] && strcmp(stream->job_id, event->job_id) != 0)
        return false;
    return strcmp(stream->tenant, event->tenant) == 0;
}

/* With the lock. */
static void let_go(struct shared_event *event)
{
    if (event && --event->holders == 0)
        ld_heap_free(event);
}

static void empty_queue(struct ld_event_stream *stream)
{
    for (; stream->queue_count > 0; stream->queue_count--) {
        let_go(stream->queue[stream->queue_first]);
        stream->queue_first = (stream->queue_first + 1) % QUEUE_MAX;
    }
}

void ld_event_hub_publish(void *ctx, const struct ld_store_event *event)
{
    struct ld_event_hub *hub = ctx;
    struct shared_event *copy = NULL;
    pthread_mutex_lock(&hub->lock);
    for (struct ld_event_stream *stream = hub->streams; stream; stream = stream->next) {
        if (!follows(stream, event))
            continue;
        if (!copy)
            copy = copy_event(event);
        if (!copy || stream->queue_count == QUEUE_MAX) {
            empty_queue(stream); /* the store has it all but previews */
            stream->overflowed = true;
        } else if (!stream->overflowed) {
            copy->holders++;
            stream->queue[(stream->queue_first + stream->queue_count) % QUEUE_MAX] = copy;
            stream->queue_count++;
        }
        stream->options.wake(stream->options.ctx);
    }
    if (copy && copy->holders == 0)
        ld_heap_free(copy);
    pthread_mutex_unlock(&hub->lock);
}

uint32_t ld_event_hub_followers(struct ld_event_hub *hub, const char *tenant)
{
    uint32_t count = 0;
    pthread_mutex_lock(&hub->lock);
    for (const struct ld_event_stream *stream = hub->streams; stream; stream = stream->next)
        count +=
            stream->options.previews && (!tenant || strcmp(stream->tenant, tenant) == 0) ? 1 : 0;
    pthread_mutex_unlock(&hub->lock);
    return count;
}

void ld_event_hub_expel(struct ld_event_hub *hub, bool (*may_stay)(void *ctx, const char *tenant),
                        void *ctx)
{
    pthread_mutex_lock(&hub->lock);
    for (struct ld_event_stream *stream = hub->streams; stream; stream = stream->next) {
        if (stream->expelled || may_stay(ctx, stream->tenant))
            continue;
        stream->expelled = true;
        empty_queue(stream);
        stream->options.wake(stream->options.ctx);
    }
    pthread_mutex_unlock(&hub->lock);
}

/* ---- Streams --------------------------------------------------------------------------------- */

enum ld_code ld_event_stream_open(struct ld_event_stream **out, struct ld_event_hub *hub,
                                  const struct ld_event_stream_options *options,
                                  struct ld_error *err)
{
    struct ld_event_stream *stream = ld_heap_alloc(sizeof *stream);
    *out = stream;
    if (!stream)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    stream->hub = hub;
    stream->options = *options;
    LD_ASSERT(ld_fmt(stream->tenant, sizeof stream->tenant, "%s", options->tenant));
    LD_ASSERT(ld_fmt(stream->job_id, sizeof stream->job_id, "%s", options->job_id));
    stream->cursor = options->after;
    ld_arena_init(&stream->page_arena, "event page", PAGE_ARENA_BYTES);
    /* Listen first, read the store afterwards: what happens in between is in the queue. */
    pthread_mutex_lock(&hub->lock);
    stream->next = hub->streams;
    hub->streams = stream;
    pthread_mutex_unlock(&hub->lock);
    return LD_OK;
}

/* With the lock. */
static bool is_held(const struct ld_event_hub *hub, const char *tenant, const char *job_id)
{
    for (const struct ld_event_stream *stream = hub->streams; stream; stream = stream->next)
        if (stream->options.holds && strcmp(stream->job_id, job_id) == 0 &&
            strcmp(stream->tenant, tenant) == 0)
            return true;
    return false;
}

bool ld_event_hub_is_held(struct ld_event_hub *hub, const char *tenant, const char *job_id)
{
    pthread_mutex_lock(&hub->lock);
    const bool held = is_held(hub, tenant, job_id);
    pthread_mutex_unlock(&hub->lock);
    return held;
}

bool ld_event_stream_let_go(struct ld_event_stream *stream)
{
    pthread_mutex_lock(&stream->hub->lock);
    stream->options.holds = false;
    const bool last = !is_held(stream->hub, stream->tenant, stream->job_id);
    pthread_mutex_unlock(&stream->hub->lock);
    return last;
}

void ld_event_stream_close(struct ld_event_stream *stream)
{
    if (!stream)
        return;
    struct ld_event_hub *hub = stream->hub;
    pthread_mutex_lock(&hub->lock);
    struct ld_event_stream **place = &hub->streams;
    while (*place != stream)
        place = &(*place)->next;
    *place = stream->next;
    empty_queue(stream);
    let_go(stream->held);
    pthread_mutex_unlock(&hub->lock);
    ld_arena_deinit(&stream->page_arena);
    ld_heap_free(stream);
}

/* With the lock, of a queue that is not empty. */
static struct shared_event *pop(struct ld_event_stream *stream)
{
    struct shared_event *first = stream->queue[stream->queue_first];
    stream->queue_first = (stream->queue_first + 1) % QUEUE_MAX;
    stream->queue_count--;
    return first;
}

/* With the lock: the reader is told of it, and holds it until it asks again. */
static void hold(struct ld_event_stream *stream, struct shared_event *first,
                 struct ld_store_event *event)
{
    stream->held = first;
    *event = first->event;
    stream->cursor = event->id;
}

/* Previews are in the queue alone. One that came before the stored event `id` is told before it:
 * a client that reads slowly would see none of a quick job. */
static bool take_preview(struct ld_event_stream *stream, uint64_t id, struct ld_store_event *event)
{
    bool found = false;
    pthread_mutex_lock(&stream->hub->lock);
    let_go(stream->held);
    stream->held = NULL;
    while (!found && stream->queue_count > 0 && stream->queue[stream->queue_first]->event.id < id) {
        struct shared_event *first = pop(stream);
        found = first->event.kind == LD_EVENT_PREVIEW && first->event.id > stream->cursor;
        if (found)
            hold(stream, first, event);
        else
            let_go(first); /* the store tells it */
    }
    pthread_mutex_unlock(&stream->hub->lock);
    return found;
}

static enum ld_event_next next_from_store(struct ld_event_stream *stream,
                                          struct ld_store_event *event)
{
    if (stream->page_pos == stream->page_count) {
        struct ld_error err;
        ld_arena_reset(&stream->page_arena);
        stream->page_pos = stream->page_count = 0;
        if (ld_store_event_list(stream->options.store, stream->tenant, stream->job_id,
                                stream->cursor, PAGE_EVENTS, &stream->page_arena, &stream->page,
                                &stream->page_count, &err) != LD_OK)
            return LD_EVENT_NEXT_FAILED;
        if (stream->page_count == 0) {
            stream->live = true;
            return LD_EVENT_NEXT_NONE;
        }
    }
    if (take_preview(stream, stream->page[stream->page_pos].id, event))
        return LD_EVENT_NEXT_ONE;
    *event = stream->page[stream->page_pos++];
    stream->cursor = event->id;
    return LD_EVENT_NEXT_ONE;
}

static enum ld_event_next next_from_queue(struct ld_event_stream *stream,
                                          struct ld_store_event *event)
{
    enum ld_event_next result = LD_EVENT_NEXT_NONE;
    pthread_mutex_lock(&stream->hub->lock);
    let_go(stream->held);
    stream->held = NULL;
    if (stream->overflowed) {
        stream->overflowed = false;
        stream->live = false;
    }
    while (stream->queue_count > 0 && result == LD_EVENT_NEXT_NONE) {
        struct shared_event *first = pop(stream);
        if (first->event.id <= stream->cursor) { /* read from the store already */
            let_go(first);
            continue;
        }
        hold(stream, first, event);
        result = LD_EVENT_NEXT_ONE;
    }
    pthread_mutex_unlock(&stream->hub->lock);
    return result;
}

static bool is_expelled(struct ld_event_stream *stream)
{
    pthread_mutex_lock(&stream->hub->lock);
    const bool expelled = stream->expelled;
    pthread_mutex_unlock(&stream->hub->lock);
    return expelled;
}

enum ld_event_next ld_event_stream_next(struct ld_event_stream *stream,
                                        struct ld_store_event *event)
{
    if (is_expelled(stream))
        return LD_EVENT_NEXT_FAILED;
    /* At most three turns: queue found overflowed, store page empty, queue again. */
    for (int turn = 0; turn < 4; turn++) {
        enum ld_event_next result;
        if (!stream->live) {
            result = next_from_store(stream, event);
            if (result == LD_EVENT_NEXT_NONE && stream->live)
                continue;
        } else {
            result = next_from_queue(stream, event);
            if (result == LD_EVENT_NEXT_NONE && !stream->live)
                continue;
        }
        return result;
    }
    return LD_EVENT_NEXT_NONE;
}
