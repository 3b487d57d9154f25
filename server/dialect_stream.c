#include "server/dialect_stream.h"

#include "api/base64.h"
#include "config/limits.h"
#include "runtime/base/clock.h"
#include "runtime/base/json_find.h"
#include "server/dialect_call.h"

static const int64_t ping_us = (int64_t)15 * 1000000;

enum { PIECE_BYTES_MAX = 96 << 20, JOB_ARENA_BYTES = 4 << 20 };

struct stream {
    struct ld_exchange *ex;
    const struct ld_dialect_stream_form *form;
    void *ctx;
    void (*ctx_free)(void *ctx);
    char job_id[LD_ID_SIZE];
    struct ld_event_stream *events;
    struct ld_buffer out;
    size_t out_pos;
    uint32_t previewed_image, preview_number;
    bool ended;
    int64_t written_us;
};

static void close_stream(void *pointer)
{
    struct stream *s = pointer;
    if (!s->ended && s->events && ld_event_stream_let_go(s->events)) { /* left in the middle */
        enum ld_job_status status;
        struct ld_error err;
        if (ld_front_cancel(s->ex->front, s->ex->tenant, s->job_id, false, &status, &err) != LD_OK)
            s->ended = true; /* it was over after all */
    }
    ld_event_stream_close(s->events);
    ld_buffer_deinit(&s->out);
    if (s->ctx_free)
        s->ctx_free(s->ctx);
    ld_heap_free(s);
}

static void wake(void *ctx)
{
    ld_exchange_wake(ctx);
}

/* ---- Events to pieces ------------------------------------------------------------------------ */

/* By the first bytes of the file. */
static enum ld_picture_kind kind_of(struct ld_span base64)
{
    enum { CHARS = 16, BYTES = 12 }; /* enough to tell them apart */
    struct ld_buffer head = ld_buffer_make(BYTES + 1);
    struct ld_error err = {0};
    enum ld_picture_kind kind = LD_PICTURE_PNG;
    if (base64.size >= CHARS &&
        ld_base64_decode(ld_span_of(base64.data, CHARS), &head, &err) == LD_OK)
        kind = ld_picture_kind_of(ld_span_of(head.data, head.size));
    ld_buffer_deinit(&head);
    return kind;
}

static void put_preview(struct stream *s, const char *json)
{
    struct ld_dialect_preview preview = {0};
    uint64_t image, step;
    struct ld_span quoted;
    const struct ld_span text = ld_span_text(json);
    if (!ld_json_find_u64(text, "/image", &image) || !ld_json_find_u64(text, "/step", &step) ||
        !ld_json_find_span(text, "/base64", &quoted) || quoted.size < 2)
        return;
    preview.image = (uint32_t)image;
    preview.step = (uint32_t)step;
    s->preview_number = preview.image == s->previewed_image ? s->preview_number : 0;
    s->previewed_image = preview.image;
    preview.number = s->preview_number++;
    preview.base64 = ld_span_of(quoted.data + 1, quoted.size - 2);
    preview.kind = kind_of(preview.base64);
    s->form->preview(s->ctx, &preview, &s->out);
}

static void put_image(struct stream *s, const struct ld_job_view *job, const char *json)
{
    uint64_t index;
    struct ld_error err = {0};
    struct ld_buffer png;
    if (!ld_json_find_u64(ld_span_text(json), "/image/index", &index))
        return;
    for (uint32_t i = 0; i < job->image_count; i++) {
        if (job->images[i].index != index)
            continue;
        if (ld_dialect_picture(s->ex->front, &job->images[i], &png, &err) == LD_OK)
            s->form->image(s->ctx, job, &job->images[i], ld_span_of(png.data, png.size), &s->out);
        ld_buffer_deinit(&png);
    }
}

static void put_event(struct stream *s, const struct ld_store_event *event)
{
    struct ld_arena arena;
    struct ld_store_job job;
    struct ld_error err = {0};
    if (event->kind == LD_EVENT_PREVIEW) {
        put_preview(s, event->json);
        return;
    }
    if (event->kind != LD_EVENT_IMAGE && event->kind != LD_EVENT_DONE)
        return;
    s->ended = event->kind == LD_EVENT_DONE;
    ld_arena_init(&arena, "streamed job", JOB_ARENA_BYTES);
    if (ld_store_job_get(s->ex->front->store, s->ex->tenant, s->job_id, &arena, &job, &err) !=
        LD_OK)
        s->ended = true; /* deleted meanwhile */
    else if (event->kind == LD_EVENT_IMAGE)
        put_image(s, &job.view, event->json);
    else if (job.view.status != LD_JOB_SUCCEEDED)
        s->form->failure(s->ctx, &job.view, &s->out);
    ld_arena_deinit(&arena);
}

/* The next piece; false: nothing now. */
static bool compose(struct stream *s)
{
    struct ld_store_event event;
    enum ld_event_next next = LD_EVENT_NEXT_NONE;
    ld_buffer_deinit(&s->out);
    s->out = ld_buffer_make(PIECE_BYTES_MAX);
    s->out_pos = 0;
    while (s->out.size == 0 && !s->ended &&
           (next = ld_event_stream_next(s->events, &event)) == LD_EVENT_NEXT_ONE)
        put_event(s, &event);
    if (next == LD_EVENT_NEXT_FAILED)
        s->ended = true;
    if (s->out.size == 0 && s->form->pings && ld_clock_monotonic_us() - s->written_us >= ping_us)
        ld_buffer_text(&s->out, ": ping\n\n");
    if (s->out.failed)
        ld_buffer_clear(&s->out);
    return s->out.size > 0;
}

static ssize_t read_stream(void *ctx, char *out, size_t size)
{
    struct stream *s = ctx;
    if (s->ex->hung_up || s->ex->stopping)
        return -1;
    if (s->out_pos == s->out.size) {
        if (s->ended)
            return -1;
        if (!compose(s)) {
            s->ex->park_until_us = ld_clock_monotonic_us() + ping_us;
            return s->ended ? -1 : 0;
        }
    }
    const size_t left = s->out.size - s->out_pos;
    const size_t part = left < size ? left : size;
    memcpy(out, s->out.data + s->out_pos, part);
    s->out_pos += part;
    s->written_us = ld_clock_monotonic_us();
    return (ssize_t)part;
}

enum ld_handled ld_dialect_stream(struct ld_exchange *ex, const char *job_id,
                                  const struct ld_dialect_stream_form *form, void *ctx,
                                  void (*ctx_free)(void *ctx))
{
    struct ld_error err = {0};
    struct stream *s = ld_heap_alloc(sizeof *s);
    if (!s) {
        if (ctx_free)
            ctx_free(ctx);
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    }
    *s = (struct stream){.ex = ex,
                         .form = form,
                         .ctx = ctx,
                         .ctx_free = ctx_free,
                         .written_us = ld_clock_monotonic_us()};
    memcpy(s->job_id, job_id, sizeof s->job_id);
    const struct ld_event_stream_options options = {
        .store = ex->front->store,
        .tenant = ex->tenant,
        .job_id = s->job_id,
        .after = 0, /* whatever came since the job was queued */
        .previews = true,
        .holds = true,
        .wake = wake,
        .ctx = ex,
    };
    if (ld_event_stream_open(&s->events, ex->front->hub, &options, &err) != LD_OK) {
        close_stream(s);
        return ld_exchange_fail(ex, &err);
    }
    ex->reply.stream = (struct ld_reply_stream){s, read_stream, close_stream};
    ex->reply.status = 200;
    ex->reply.content_type = form->content_type;
    ld_exchange_set_header(ex, "Cache-Control", "no-store");
    ld_exchange_set_header(ex, "X-Accel-Buffering", "no");
    return LD_HANDLED;
}
