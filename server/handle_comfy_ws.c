/*
 * ComfyUI's event socket. One thread for each open socket: it sleeps in poll() on the socket and on
 * a wake-up descriptor that the event hub writes to, turns events of the caller's jobs into
 * ComfyUI's messages, and answers pings. A client id that comes again replaces its old socket.
 */
#include "api/base64.h"
#include "config/limits.h"
#include "runtime/base/clock.h"
#include "runtime/base/json_find.h"
#include "runtime/base/log.h"
#include "server/handle_comfy.h"
#include "server/handlers.h"
#include "server/ws.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SOCKETS_MAX = 64,
    MESSAGE_BYTES_MAX = 96 << 20,
    WRITE_DEADLINE_S = 15,
    LOOK_MS = 500, /* at the latest the thread looks whether the server stops */
    JOB_ARENA_BYTES = 4 << 20
};
static const int64_t ping_us = (int64_t)25 * 1000000; /* usual proxies give up after 60 s */

struct socket {
    struct ld_front *front;
    struct ld_upgraded *upgraded; /* NULL until the connection is ours */
    struct ld_event_stream *events;
    struct socket *next;
    char tenant[LD_STORE_TENANT_BYTES_MAX];
    char client_id[LD_COMFY_ID_SIZE];
    int fd, wake_fd;
    atomic_bool replaced;
    bool closing;
    int64_t written_us;
    struct ld_ws *ws;
    struct ld_buffer out;
    /* The job that the last event was about. */
    char job_id[LD_ID_SIZE];
    struct ld_comfy_job job;
    bool announced; /* execution_start was sent for it */
};

/* All open sockets, so that one may replace another and their number is bounded. */
static struct {
    pthread_mutex_t lock;
    struct socket *first;
    uint32_t count;
} sockets = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void wake(void *ctx)
{
    const struct socket *s = ctx;
    const uint64_t one = 1;
    /* Full means that it is awake already. */
    if (write(s->wake_fd, &one, sizeof one) < 0 && errno != EAGAIN)
        LD_LOG(LD_LOG_WARN, "ws", "a socket could not be woken", ld_log_int("errno", errno));
}

static bool enlist(struct socket *s)
{
    pthread_mutex_lock(&sockets.lock);
    const bool room = sockets.count < SOCKETS_MAX;
    for (struct socket *other = sockets.first; room && other; other = other->next) {
        if (*s->client_id && strcmp(other->client_id, s->client_id) == 0 &&
            strcmp(other->tenant, s->tenant) == 0) {
            atomic_store(&other->replaced, true);
            wake(other);
        }
    }
    if (room) {
        s->next = sockets.first;
        sockets.first = s;
        sockets.count++;
    }
    pthread_mutex_unlock(&sockets.lock);
    return room;
}

static void delist(struct socket *s)
{
    pthread_mutex_lock(&sockets.lock);
    for (struct socket **place = &sockets.first; *place; place = &(*place)->next) {
        if (*place == s) {
            *place = s->next;
            sockets.count--;
            break;
        }
    }
    pthread_mutex_unlock(&sockets.lock);
}

static void free_socket(void *pointer)
{
    struct socket *s = pointer;
    delist(s);
    ld_event_stream_close(s->events);
    if (s->wake_fd >= 0)
        (void)close(s->wake_fd);
    ld_ws_destroy(s->ws);
    ld_buffer_deinit(&s->out);
    ld_heap_free(s);
}

/* ---- Messages -------------------------------------------------------------------------------- */

static void put_text(struct socket *s, const struct ld_buffer *json)
{
    if (!json->failed)
        ld_ws_put(s->ws, LD_WS_TEXT, ld_span_of(json->data, json->size));
}

/* {"type": NAME, "data": {"prompt_id": ID and what `rest` adds}}. */
static void put_message(struct socket *s, const char *name, const char *rest)
{
    struct ld_buffer json = ld_buffer_make(1 << 20);
    ld_buffer_format(&json, "{\"type\":\"%s\",\"data\":{\"prompt_id\":", name);
    ld_buffer_json_string(&json, s->job.prompt_id);
    ld_buffer_text(&json, rest);
    ld_buffer_text(&json, "}}");
    put_text(s, &json);
    ld_buffer_deinit(&json);
}

static void put_status(struct socket *s, bool greets)
{
    struct ld_store_queue queue = {0};
    struct ld_error err;
    struct ld_buffer json = ld_buffer_make(4096);
    if (ld_store_queue(s->front->store, &queue, &err) != LD_OK)
        queue.queued = queue.running = 0;
    ld_buffer_format(&json,
                     "{\"type\":\"status\",\"data\":{\"status\":{\"exec_info\":"
                     "{\"queue_remaining\":%lld}}",
                     (long long)(queue.queued + queue.running));
    if (greets) {
        ld_buffer_text(&json, ",\"sid\":");
        ld_buffer_json_string(&json, s->client_id);
    }
    ld_buffer_text(&json, "}}");
    put_text(s, &json);
    ld_buffer_deinit(&json);
}

/* The node that works now; "" for none: the prompt is over. */
static void put_executing(struct socket *s, const char *node)
{
    struct ld_buffer rest = ld_buffer_make(1024);
    ld_buffer_text(&rest, ",\"node\":");
    if (*node)
        ld_buffer_json_string(&rest, node);
    else
        ld_buffer_text(&rest, "null");
    if (*node) {
        ld_buffer_text(&rest, ",\"display_node\":");
        ld_buffer_json_string(&rest, node);
    }
    if (!rest.failed)
        put_message(s, "executing", rest.data);
    ld_buffer_deinit(&rest);
}

/* Behind two numbers: a picture follows, and of which kind. There is none for WebP: ComfyUI itself
 * says 1 of whatever is no PNG. Source: ComfyUI server.py, send_image. */
static void put_picture(struct socket *s, struct ld_span file)
{
    enum { JPEG = 1, PNG = 2 };
    const bool is_png = ld_picture_kind_of(file) == LD_PICTURE_PNG;
    const uint8_t head[8] = {0, 0, 0, 1, 0, 0, 0, is_png ? PNG : JPEG};
    struct ld_buffer message = ld_buffer_make(MESSAGE_BYTES_MAX);
    ld_buffer_bytes(&message, head, sizeof head);
    ld_buffer_bytes(&message, file.data, file.size);
    if (!message.failed)
        ld_ws_put(s->ws, LD_WS_BINARY, ld_span_of(message.data, message.size));
    ld_buffer_deinit(&message);
}

/* ---- Events ---------------------------------------------------------------------------------- */

/* Whose job an event is about; false if it is not this client's. */
static bool know_job(struct socket *s, const char *job_id, struct ld_arena *arena,
                     struct ld_store_job *job)
{
    struct ld_error err;
    if (ld_store_job_get(s->front->store, s->tenant, job_id, arena, job, &err) != LD_OK)
        return false;
    if (strcmp(s->job_id, job_id) != 0) {
        s->announced = false;
        (void)ld_fmt(s->job_id, sizeof s->job_id, "%s", job_id);
    }
    ld_comfy_job_read(&s->job, &job->view);
    return s->job.kind[0] && strcmp(s->job.client_id, s->client_id) == 0;
}

static void announce(struct socket *s)
{
    char rest[64];
    if (s->announced)
        return;
    s->announced = true;
    if (ld_fmt(rest, sizeof rest, ",\"timestamp\":%lld", (long long)(ld_clock_wall_us() / 1000)))
        put_message(s, "execution_start", rest);
    put_message(s, "execution_cached", ",\"nodes\":[]");
    put_executing(s, s->job.sampler);
}

static void put_progress(struct socket *s, const char *event)
{
    uint64_t step, steps;
    struct ld_buffer rest = ld_buffer_make(4096);
    const struct ld_span json = ld_span_text(event);
    if (!ld_json_find_u64(json, "/progress/step", &step) ||
        !ld_json_find_u64(json, "/progress/steps", &steps))
        return;
    announce(s);
    ld_buffer_format(&rest, ",\"value\":%llu,\"max\":%llu,\"node\":", (unsigned long long)step,
                     (unsigned long long)steps);
    ld_buffer_json_string(&rest, s->job.sampler);
    if (!rest.failed)
        put_message(s, "progress", rest.data);
    ld_buffer_clear(&rest);
    ld_buffer_text(&rest, ",\"nodes\":{");
    ld_buffer_json_string(&rest, s->job.sampler);
    ld_buffer_format(&rest, ":{\"value\":%llu,\"max\":%llu,\"state\":\"running\",\"node_id\":",
                     (unsigned long long)step, (unsigned long long)steps);
    ld_buffer_json_string(&rest, s->job.sampler);
    ld_buffer_text(&rest, ",\"prompt_id\":");
    ld_buffer_json_string(&rest, s->job.prompt_id);
    ld_buffer_text(&rest, "}}");
    if (!rest.failed)
        put_message(s, "progress_state", rest.data);
    ld_buffer_deinit(&rest);
}

static void put_preview(struct socket *s, const char *event)
{
    struct ld_span quoted;
    struct ld_error err;
    struct ld_buffer file = ld_buffer_make(MESSAGE_BYTES_MAX);
    if (ld_json_find_span(ld_span_text(event), "/base64", &quoted) && quoted.size > 2 &&
        ld_base64_decode(ld_span_of(quoted.data + 1, quoted.size - 2), &file, &err) == LD_OK) {
        announce(s);
        put_picture(s, ld_span_of(file.data, file.size));
    }
    ld_buffer_deinit(&file);
}

/* SaveImageWebsocket sends its pictures here, while it is the node that works. */
static void put_image(struct socket *s, const struct ld_job_view *view, const char *event)
{
    uint64_t index;
    struct ld_buffer file = {0};
    struct ld_error err;
    if (strcmp(s->job.kind, "websocket") != 0 ||
        !ld_json_find_u64(ld_span_text(event), "/image/index", &index))
        return;
    announce(s);
    put_executing(s, s->job.output);
    for (uint32_t i = 0; i < view->image_count; i++) {
        if (view->images[i].index == index &&
            ld_dialect_picture(s->front, &view->images[i], &file, &err) == LD_OK)
            put_picture(s, ld_span_of(file.data, file.size));
        ld_buffer_deinit(&file);
        file = (struct ld_buffer){0};
    }
}

static void put_executed(struct socket *s, const struct ld_job_view *view)
{
    struct ld_buffer rest = ld_buffer_make(64 * 1024);
    ld_buffer_text(&rest, ",\"node\":");
    ld_buffer_json_string(&rest, s->job.output);
    ld_buffer_text(&rest, ",\"display_node\":");
    ld_buffer_json_string(&rest, s->job.output);
    ld_buffer_text(&rest, ",\"output\":");
    ld_comfy_write_images(&s->job, view, &rest);
    if (!rest.failed)
        put_message(s, "executed", rest.data);
    ld_buffer_deinit(&rest);
}

static void put_failed(struct socket *s, const struct ld_job_view *view)
{
    struct ld_buffer rest = ld_buffer_make(64 * 1024);
    const bool failed = view->status == LD_JOB_FAILED;
    ld_buffer_text(&rest, ",\"node_id\":");
    ld_buffer_json_string(&rest, s->job.sampler);
    ld_buffer_text(&rest, ",\"node_type\":\"KSampler\",\"executed\":[]");
    if (failed) {
        ld_buffer_text(&rest, ",\"exception_message\":");
        ld_buffer_json_string(&rest, view->error_detail ? view->error_detail : "");
        ld_buffer_text(&rest, ",\"exception_type\":");
        ld_buffer_json_string(&rest, view->error_code ? view->error_code : "");
        ld_buffer_text(&rest, ",\"traceback\":[]");
    }
    if (!rest.failed)
        put_message(s, failed ? "execution_error" : "execution_interrupted", rest.data);
    ld_buffer_deinit(&rest);
}

static void put_done(struct socket *s, const struct ld_job_view *view)
{
    char rest[64];
    announce(s);
    if (view->status == LD_JOB_SUCCEEDED) {
        put_executing(s, s->job.output);
        if (strcmp(s->job.kind, "websocket") != 0)
            put_executed(s, view);
        if (ld_fmt(rest, sizeof rest, ",\"timestamp\":%lld", (long long)(view->finished_us / 1000)))
            put_message(s, "execution_success", rest);
    } else {
        put_failed(s, view);
    }
    put_executing(s, "");
}

static void put_event(struct socket *s, const struct ld_store_event *event)
{
    struct ld_arena arena;
    struct ld_store_job job;
    ld_arena_init(&arena, "followed job", JOB_ARENA_BYTES);
    const bool mine = know_job(s, event->job_id, &arena, &job);
    switch (event->kind) {
    case LD_EVENT_STATUS:
        put_status(s, false);
        if (mine && job.view.status == LD_JOB_RUNNING)
            announce(s);
        break;
    case LD_EVENT_PROGRESS:
        if (mine)
            put_progress(s, event->json);
        break;
    case LD_EVENT_PREVIEW:
        if (mine)
            put_preview(s, event->json);
        break;
    case LD_EVENT_IMAGE:
        if (mine)
            put_image(s, &job.view, event->json);
        break;
    case LD_EVENT_DONE:
        if (mine)
            put_done(s, &job.view);
        put_status(s, false);
        break;
    case LD_EVENT_KIND_COUNT:
        break;
    }
    ld_arena_deinit(&arena);
}

/* ---- The wire -------------------------------------------------------------------------------- */

/* Everything in `out`, or the socket is closing: too slow, or gone. */
static void flush(struct socket *s)
{
    size_t at = 0;
    const int64_t until_us = ld_clock_monotonic_us() + (int64_t)WRITE_DEADLINE_S * 1000000;
    while (at < s->out.size && !s->closing) {
        const ssize_t sent =
            send(s->fd, s->out.data + at, s->out.size - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            at += (size_t)sent;
            continue;
        }
        struct pollfd poll_fd = {s->fd, POLLOUT, 0};
        const bool full = sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
        if ((!full && !(sent < 0 && errno == EINTR)) || ld_clock_monotonic_us() > until_us ||
            ld_upgraded_stopping(s->upgraded))
            s->closing = true;
        else
            (void)poll(&poll_fd, 1, LOOK_MS);
    }
    if (s->out.size > 0)
        s->written_us = ld_clock_monotonic_us();
    ld_buffer_deinit(&s->out);
    s->out = ld_buffer_make(MESSAGE_BYTES_MAX);
}

/* Pings and the end; what a client says otherwise (feature flags) changes nothing. */
static void hear(struct socket *s, struct ld_span bytes)
{
    const bool goes_on = ld_ws_take(s->ws, bytes);
    flush(s);
    if (!goes_on)
        s->closing = true;
}

static void receive(struct socket *s)
{
    char bytes[4096];
    const ssize_t got = recv(s->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
        s->closing = true;
    if (got <= 0)
        return;
    hear(s, ld_span_of(bytes, (size_t)got));
}

static void follow_events(struct socket *s)
{
    struct ld_store_event event;
    enum ld_event_next next = LD_EVENT_NEXT_NONE;
    while (!s->closing && (next = ld_event_stream_next(s->events, &event)) == LD_EVENT_NEXT_ONE) {
        put_event(s, &event);
        flush(s);
    }
    if (next == LD_EVENT_NEXT_FAILED) {
        ld_ws_close(s->ws, LD_WS_GOING_AWAY);
        flush(s);
        s->closing = true;
    }
}

static void sleep_until_something(struct socket *s)
{
    struct pollfd fds[2] = {{s->fd, POLLIN, 0}, {s->wake_fd, POLLIN, 0}};
    uint64_t wakes;
    (void)poll(fds, 2, LOOK_MS);
    if ((fds[1].revents & POLLIN) && read(s->wake_fd, &wakes, sizeof wakes) < 0 && errno != EAGAIN)
        s->closing = true;
    if (fds[0].revents)
        receive(s);
    if (atomic_load(&s->replaced) || ld_upgraded_stopping(s->upgraded)) {
        ld_ws_close(s->ws, LD_WS_GOING_AWAY);
        flush(s);
        s->closing = true;
    }
    if (!s->closing && ld_clock_monotonic_us() - s->written_us >= ping_us)
        ld_ws_put(s->ws, LD_WS_PING, ld_span_of("", 0));
}

static void *run(void *pointer)
{
    struct socket *s = pointer;
    put_status(s, true);
    flush(s);
    while (!s->closing) {
        follow_events(s);
        if (!s->closing)
            sleep_until_something(s);
        flush(s);
    }
    struct ld_upgraded *upgraded = s->upgraded;
    free_socket(s);
    ld_upgraded_end(upgraded);
    return NULL;
}

/* The connection is ours from here on. */
static void start(void *pointer, int fd, struct ld_upgraded *upgraded, struct ld_span early)
{
    struct socket *s = pointer;
    pthread_t thread;
    s->fd = fd;
    s->upgraded = upgraded;
    hear(s, early);
    if (pthread_create(&thread, NULL, run, s) == 0) {
        (void)pthread_detach(thread);
        return;
    }
    free_socket(s);
    ld_upgraded_end(upgraded);
}

/* ---- The handshake --------------------------------------------------------------------------- */

static bool names_upgrade(const struct ld_exchange *ex)
{
    const char *upgrade = ld_exchange_header(ex, "Upgrade");
    const char *connection = ld_exchange_header(ex, "Connection");
    const char *version = ld_exchange_header(ex, "Sec-WebSocket-Version");
    return upgrade && strcasecmp(upgrade, "websocket") == 0 && connection &&
           strcasestr(connection, "upgrade") && version && strcmp(version, "13") == 0;
}

static bool open_socket(struct ld_exchange *ex, struct socket *s, struct ld_error *err)
{
    const struct ld_event_stream_options options = {
        .store = ex->front->store,
        .tenant = s->tenant,
        .job_id = "",
        .after = ld_store_event_newest(ex->front->store),
        .previews = true,
        .wake = wake,
        .ctx = s,
    };
    s->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (s->wake_fd < 0)
        return LD_FAIL(err, LD_E_IO, "no descriptor is left for a socket") == LD_OK;
    return ld_ws_open(&s->ws, &s->out, err) == LD_OK &&
           ld_event_stream_open(&s->events, ex->front->hub, &options, err) == LD_OK;
}

enum ld_handled ld_handle_comfy_ws(struct ld_exchange *ex)
{
    char accept[LD_WS_ACCEPT_SIZE];
    struct ld_error err = {0};
    const char *key = ld_exchange_header(ex, "Sec-WebSocket-Key");
    const char *client_id = ld_exchange_query(ex, "clientId");
    if (!names_upgrade(ex) || !key || !ld_ws_accept(key, accept)) {
        ld_exchange_set_header(ex, "Upgrade", "websocket");
        return ld_exchange_refuse(ex, LD_E_INVALID, 426, "this path speaks WebSocket, version 13");
    }
    struct socket *s = ld_heap_alloc(sizeof *s);
    if (!s)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    *s = (struct socket){.front = ex->front, .fd = -1, .wake_fd = -1};
    s->out = ld_buffer_make(MESSAGE_BYTES_MAX);
    s->written_us = ld_clock_monotonic_us();
    char made[LD_ID_SIZE];
    ld_id_make(made);
    if (!ld_fmt(s->tenant, sizeof s->tenant, "%s", ex->tenant) ||
        !ld_fmt(s->client_id, sizeof s->client_id, "%s",
                client_id && *client_id ? client_id : made)) {
        free_socket(s);
        return ld_exchange_refuse(ex, LD_E_INVALID, 400, "clientId must have at most 63 bytes");
    }
    if (!enlist(s)) {
        free_socket(s);
        return ld_exchange_refuse(ex, LD_E_RATE, 0, "too many sockets are open");
    }
    if (!open_socket(ex, s, &err)) {
        free_socket(s);
        return ld_exchange_fail(ex, &err);
    }
    ld_exchange_set_header(ex, "Upgrade", "websocket");
    ld_exchange_set_header(ex, "Sec-WebSocket-Accept", ld_arena_strdup(&ex->arena, accept));
    ex->reply.status = 101;
    ex->reply.upgrade = (struct ld_reply_upgrade){s, start, free_socket};
    return LD_HANDLED;
}
