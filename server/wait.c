#include "server/front.h"

#include "runtime/base/clock.h"

#include <stdlib.h>

struct waiting {
    struct ld_wait_options options;
    char job_id[LD_ID_SIZE];
    struct ld_event_stream *stream;
    int64_t until_us;
    struct ld_exchange *ex;
    bool replied, cancelled;
};

/* Nobody is there any more (or cannot be told from nobody): a waiting call takes its job along. */
static void leave(struct waiting *waiting)
{
    enum ld_job_status status;
    struct ld_error err;
    const struct ld_exchange *ex = waiting->ex;
    if (waiting->cancelled || !waiting->options.cancel_on_leave)
        return;
    waiting->cancelled = true;
    if (!ld_event_stream_let_go(waiting->stream))
        return; /* a second try of the same call waits for it */
    if (ld_front_cancel(ex->front, ex->tenant, waiting->job_id, false, &status, &err) != LD_OK)
        return; /* ended or deleted meanwhile: nothing to take along */
}

static void end_waiting(void *state)
{
    struct waiting *waiting = state;
    if (!waiting->replied) /* the library saw the client go before the watcher did */
        leave(waiting);
    ld_event_stream_close(waiting->stream);
    if (waiting->options.ctx_free)
        waiting->options.ctx_free(waiting->options.ctx);
    ld_heap_free(waiting);
}

static void wake(void *ctx)
{
    ld_exchange_wake(ctx);
}

bool ld_front_is_waiting(const struct ld_exchange *ex)
{
    return ex->state && ex->state_free == end_waiting;
}

static bool has_ended(struct waiting *waiting)
{
    struct ld_store_event event;
    enum ld_event_next next;
    bool ended = false;
    while ((next = ld_event_stream_next(waiting->stream, &event)) == LD_EVENT_NEXT_ONE)
        ended = ended || event.kind == LD_EVENT_DONE;
    return ended || next == LD_EVENT_NEXT_FAILED;
}

static enum ld_handled reply(struct ld_exchange *ex, struct waiting *waiting, bool timed_out)
{
    struct ld_store_job job;
    struct ld_error err = {0};
    char phase[32];
    const enum ld_code code =
        ld_store_job_get(ex->front->store, ex->tenant, waiting->job_id, &ex->arena, &job, &err);
    if (code != LD_OK) {
        waiting->replied = true;
        return ld_exchange_fail(ex, &err);
    }
    ld_front_enliven(ex->front, &job.view, phase);
    waiting->replied = ld_job_status_is_final(job.view.status) || timed_out;
    if (ld_job_status_is_final(job.view.status))
        return waiting->options.ended(ex, &job.view, waiting->options.ctx);
    if (timed_out)
        return waiting->options.timed_out(ex, &job.view, waiting->options.ctx);
    ex->park_until_us = waiting->until_us;
    return LD_PARKED;
}

enum ld_handled ld_front_wait_again(struct ld_exchange *ex)
{
    struct waiting *waiting = ex->state;
    if (ex->hung_up)
        leave(waiting);
    const bool over = ex->timed_out || ex->stopping ||
                      ld_clock_monotonic_us() >= waiting->until_us ||
                      (ex->hung_up && waiting->options.cancel_on_leave);
    if (has_ended(waiting) || over)
        return reply(ex, waiting, over);
    ex->park_until_us = waiting->until_us;
    return LD_PARKED;
}

enum ld_handled ld_front_wait(struct ld_exchange *ex, const struct ld_wait_options *options)
{
    struct ld_error err = {0};
    struct waiting *waiting = ld_heap_alloc(sizeof *waiting);
    if (!waiting) {
        if (options->ctx_free)
            options->ctx_free(options->ctx);
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    }
    waiting->options = *options;
    (void)ld_fmt(waiting->job_id, sizeof waiting->job_id, "%s", options->job_id);
    waiting->until_us = ld_clock_monotonic_us() + options->seconds * 1000000;
    waiting->ex = ex;
    ex->state = waiting;
    ex->state_free = end_waiting;
    /* First listen, then look: an end in between is not missed. */
    const struct ld_event_stream_options follow = {
        .store = ex->front->store,
        .tenant = ex->tenant,
        .job_id = waiting->job_id,
        .after = ld_store_event_newest(ex->front->store),
        .holds = true,
        .wake = wake,
        .ctx = ex,
    };
    if (ld_event_stream_open(&waiting->stream, ex->front->hub, &follow, &err) != LD_OK) {
        waiting->replied = true;
        return ld_exchange_fail(ex, &err);
    }
    return reply(ex, waiting, options->seconds == 0);
}

int64_t ld_front_wait_seconds(struct ld_exchange *ex, int64_t by_default)
{
    const char *query = ld_exchange_query(ex, "wait");
    const char *prefer = ld_exchange_header(ex, "Prefer");
    int64_t seconds = by_default;
    if (query) {
        if (!ld_parse_i64(ld_span_text(query), &seconds) || seconds < 0)
            return -1;
    } else if (prefer) {
        /* RFC 7240: unknown or malformed preferences are ignored. */
        const char *at = strstr(prefer, "wait=");
        const size_t digits = at ? strspn(at + 5, "0123456789") : 0;
        if (at && (at == prefer || strchr(" ,;\t", at[-1])) &&
            !ld_parse_i64(ld_span_of(at + 5, digits), &seconds))
            seconds = by_default;
    }
    const int64_t most = ex->front->settings->wait_s;
    return seconds > most ? most : seconds;
}
