/*
 * Who follows which jobs. The store hands every committed event to the hub; the hub puts it into
 * the queue of each stream that follows its job and wakes it. A stream starts behind an event id:
 * it first reads what the store still has, then lives on its queue; when its queue overflows it
 * reads from the store again. So nothing is lost or doubled, however slow the client.
 *
 *     ld_event_stream_open(&stream, hub, &options, &err);
 *     while (ld_event_stream_next(stream, &event) == LD_EVENT_NEXT_ONE) ...
 */
#ifndef LD_SERVER_EVENTS_H
#define LD_SERVER_EVENTS_H

#include "server/store.h"

struct ld_event_hub;
struct ld_event_stream;

enum ld_code ld_event_hub_create(struct ld_event_hub **hub, struct ld_error *err) LD_MUST_USE;
/* No stream may be open. */
void ld_event_hub_destroy(struct ld_event_hub *hub);

/* For ld_store_config.on_event; `hub` is the context. Copies. */
void ld_event_hub_publish(void *hub, const struct ld_store_event *event);

/* Streams of the tenant (NULL: of all) that take previews: event streams of clients, not waiting
 * calls. */
uint32_t ld_event_hub_followers(struct ld_event_hub *hub, const char *tenant);

/* End the streams of every tenant for whom `may_stay` is false: their next event is
 * LD_EVENT_NEXT_FAILED, and they are woken. `may_stay` runs under the hub's lock. */
void ld_event_hub_expel(struct ld_event_hub *hub, bool (*may_stay)(void *ctx, const char *tenant),
                        void *ctx);

struct ld_event_stream_options {
    struct ld_store *store;
    const char *tenant;
    const char *job_id; /* "" follows all of the tenant's jobs */
    uint64_t after;     /* the last event id that the client has */
    bool previews;      /* false leaves them out */
    bool holds;         /* the job is wanted by whoever reads this: ld_event_stream_let_go */
    /* Called when the stream may have something; any thread, must be quick, must not call back. */
    void (*wake)(void *ctx);
    void *ctx;
};

enum ld_code ld_event_stream_open(struct ld_event_stream **stream, struct ld_event_hub *hub,
                                  const struct ld_event_stream_options *options,
                                  struct ld_error *err) LD_MUST_USE;
/* Its reader has left: whether no other stream of the same job holds it (then the job may go too).
 * Of several that leave at once the last is told so. */
bool ld_event_stream_let_go(struct ld_event_stream *stream);
/* Whether an open stream of the job holds it. */
bool ld_event_hub_is_held(struct ld_event_hub *hub, const char *tenant, const char *job_id);
void ld_event_stream_close(struct ld_event_stream *stream);

enum ld_event_next {
    LD_EVENT_NEXT_NONE, /* nothing now; wake will be called */
    LD_EVENT_NEXT_ONE,
    LD_EVENT_NEXT_FAILED /* the store could not be read, or the stream was ended */
};

/* The next event in order; its texts are valid until the next call. One thread at a time. */
enum ld_event_next ld_event_stream_next(struct ld_event_stream *stream,
                                        struct ld_store_event *event);

#endif
