#include "server/handlers.h"

#include "api/respond.h"
#include "config/limits.h"
#include "runtime/base/clock.h"
#include "server/front.h"

static const int64_t ping_us = (int64_t)15 * 1000000; /* below the idle limits of usual proxies */

/* A stream of server-sent events (WHATWG HTML 9.2). */
struct sse {
    struct ld_exchange *ex;
    struct ld_event_stream *events;
    struct ld_buffer out; /* composed, not yet taken */
    size_t out_pos;
    bool one_job; /* ends with the job */
    bool ended;
    int64_t written_us;
};

static void close_sse(void *ctx)
{
    struct sse *sse = ctx;
    ld_event_stream_close(sse->events);
    ld_buffer_deinit(&sse->out);
    ld_heap_free(sse);
}

static void wake(void *ctx)
{
    ld_exchange_wake(ctx);
}

/* Compose the next event, or a ping when it was silent for long; false: nothing now. */
static bool compose(struct sse *sse)
{
    struct ld_store_event event;
    const int64_t now_us = ld_clock_monotonic_us();
    if (sse->out.capacity > (size_t)1 << 20) { /* a large preview was here */
        const size_t limit = sse->out.bytes_limit;
        ld_buffer_deinit(&sse->out);
        sse->out = ld_buffer_make(limit);
    }
    ld_buffer_clear(&sse->out);
    sse->out_pos = 0;
    const enum ld_event_next next = ld_event_stream_next(sse->events, &event);
    if (next == LD_EVENT_NEXT_ONE) {
        ld_respond_event(event.id, ld_event_kind_name(event.kind), event.json, &sse->out);
        sse->ended = sse->one_job && event.kind == LD_EVENT_DONE;
    } else if (next == LD_EVENT_NEXT_FAILED) {
        sse->ended = true; /* the client comes again with its last id */
        return false;
    } else if (now_us - sse->written_us >= ping_us) {
        ld_buffer_text(&sse->out, ": ping\n\n");
    }
    if (sse->out.failed)
        ld_buffer_clear(&sse->out);
    return sse->out.size > 0;
}

static ssize_t read_sse(void *ctx, char *out, size_t size)
{
    struct sse *sse = ctx;
    if (sse->ex->hung_up || sse->ex->stopping)
        return -1;
    if (sse->out_pos == sse->out.size) {
        if (sse->ended)
            return -1;
        if (!compose(sse)) {
            sse->ex->park_until_us = sse->written_us + ping_us;
            return sse->ended ? -1 : 0;
        }
    }
    const size_t left = sse->out.size - sse->out_pos;
    const size_t part = left < size ? left : size;
    memcpy(out, sse->out.data + sse->out_pos, part);
    sse->out_pos += part;
    sse->written_us = ld_clock_monotonic_us();
    return (ssize_t)part;
}

/* The last event id the client has: header, else query (EventSource cannot set a header at its
 * first call); `by_default` if it has none. False if it is no number. */
static bool last_id(struct ld_exchange *ex, uint64_t by_default, uint64_t *id)
{
    const char *text = ld_exchange_header(ex, "Last-Event-ID");
    if (!text)
        text = ld_exchange_query(ex, "last_event_id");
    *id = by_default;
    return !text || !*text || ld_parse_u64(ld_span_text(text), id);
}

static enum ld_handled start(struct ld_exchange *ex, const char *job_id, uint64_t after,
                             struct ld_buffer *preface)
{
    struct ld_error err = {0};
    struct sse *sse = ld_heap_alloc(sizeof *sse);
    if (!sse) {
        ld_buffer_deinit(preface);
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    }
    sse->ex = ex;
    sse->out = *preface;
    sse->one_job = *job_id != '\0';
    sse->written_us = ld_clock_monotonic_us();
    const struct ld_event_stream_options options = {
        .store = ex->front->store,
        .tenant = ex->tenant,
        .job_id = job_id,
        .after = after,
        .previews = true,
        .wake = wake,
        .ctx = ex,
    };
    if (ld_event_stream_open(&sse->events, ex->front->hub, &options, &err) != LD_OK) {
        close_sse(sse);
        return ld_exchange_fail(ex, &err);
    }
    ex->reply.stream = (struct ld_reply_stream){sse, read_sse, close_sse};
    ex->reply.status = 200;
    ex->reply.content_type = "text/event-stream; charset=utf-8";
    ld_exchange_set_header(ex, "Cache-Control", "no-store");
    ld_exchange_set_header(ex, "X-Accel-Buffering", "no"); /* proxies must not hold events back */
    return LD_HANDLED;
}

static bool too_many_streams(struct ld_exchange *ex)
{
    /* Waiting calls follow their jobs through the hub too, but are bounded by connections. */
    return ld_event_hub_followers(ex->front->hub, ex->tenant) >=
           (uint32_t)ex->front->settings->event_streams;
}

static struct ld_buffer make_preface(void)
{
    struct ld_buffer out = ld_buffer_make(32 << 20);
    ld_buffer_text(&out, "retry: 2000\n\n");
    return out;
}

enum ld_handled ld_handle_all_events(struct ld_exchange *ex)
{
    uint64_t after;
    if (!last_id(ex, ld_store_event_newest(ex->front->store), &after))
        return ld_exchange_refuse(ex, LD_E_INVALID, 400, "Last-Event-ID must be a number");
    if (too_many_streams(ex))
        return ld_exchange_refuse(ex, LD_E_RATE, 0, "too many event streams are open");
    struct ld_buffer preface = make_preface();
    return start(ex, "", after, &preface);
}

/* What was forgotten cannot be told again: the present state stands in for it. */
static enum ld_code tell_present(struct ld_exchange *ex, uint64_t after, struct ld_buffer *out,
                                 const struct ld_job_view *job, struct ld_error *err)
{
    struct ld_store_event *events;
    uint32_t count;
    const enum ld_code code = ld_store_event_list(ex->front->store, ex->tenant, job->id, 0, 1,
                                                  &ex->arena, &events, &count, err);
    if (code != LD_OK)
        return code;
    const bool whole = count == 1 && events[0].kind == LD_EVENT_STATUS;
    if (whole || (count == 1 && after >= events[0].id))
        return LD_OK;
    struct ld_buffer json = ld_buffer_make(1 << 20);
    ld_respond_event_status(job->id, job->status, job->position, &json);
    if (!json.failed) /* its id is the client's own: nothing is skipped by it */
        ld_respond_event(after, ld_event_kind_name(LD_EVENT_STATUS), json.data, out);
    ld_buffer_deinit(&json);
    return LD_OK;
}

enum ld_handled ld_handle_job_events(struct ld_exchange *ex)
{
    struct ld_store_job job;
    struct ld_error err = {0};
    uint64_t after;
    if (ld_store_job_get(ex->front->store, ex->tenant, ex->params[0], &ex->arena, &job, &err) !=
        LD_OK)
        return ld_exchange_fail(ex, &err);
    if (job.view.status == LD_JOB_EXPIRED)
        return ld_exchange_refuse(ex, LD_E_NOT_FOUND, 410, "the job has expired");
    if (!last_id(ex, 0, &after))
        return ld_exchange_refuse(ex, LD_E_INVALID, 400, "Last-Event-ID must be a number");
    if (too_many_streams(ex))
        return ld_exchange_refuse(ex, LD_E_RATE, 0, "too many event streams are open");
    struct ld_buffer preface = make_preface();
    if (tell_present(ex, after, &preface, &job.view, &err) != LD_OK) {
        ld_buffer_deinit(&preface);
        return ld_exchange_fail(ex, &err);
    }
    return start(ex, job.view.id, after, &preface);
}
