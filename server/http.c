#include "server/http_internal.h"

#include "api/dialect.h"
#include "runtime/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

enum {
    CONNECTION_MEMORY = 40 * 1024, /* headers up to 16 KiB, their index, and the reply's headers */
    HANDLER_TURNS_MAX = 64,        /* wakes that came before the handler could park */
    EXCHANGE_ARENA_BYTES = 4 * LD_ARENA_REQUEST_BYTES,
    REPLY_BYTES_MAX = 64 << 20,
    STOP_PATIENCE_US = 2000 * 1000
};

static void resume_connection(void *library)
{
    MHD_resume_connection(library);
}

void ld_exchange_wake(struct ld_exchange *ex)
{
    ld_conn_wake(ex->connection);
}

/* ---- One exchange ---------------------------------------------------------------------------- */

static void open_exchange(struct ld_http *http, struct ld_conn *conn)
{
    struct ld_exchange *ex = &conn->exchange;
    memset(ex, 0, sizeof *ex);
    ld_arena_init(&ex->arena, "request", EXCHANGE_ARENA_BYTES);
    ex->front = http->config.front;
    ex->tenant = ex->caller.tenant;
    ex->query = "";
    ex->path = "/";
    ex->began_us = ld_clock_monotonic_us();
    memcpy(ex->address, conn->address, sizeof ex->address);
    ex->header = ld_http_find_header;
    ex->connection = conn;
    ex->reply.file_fd = -1;
    ex->reply.body = ld_buffer_make(REPLY_BYTES_MAX);
    conn->body = ld_buffer_make(0);
    conn->body_chunks = 0;
    conn->stage = LD_STAGE_NEW;
    conn->exchange_open = true;
}

static void close_exchange(const struct ld_http *http, struct ld_conn *conn)
{
    struct ld_exchange *ex = &conn->exchange;
    if (!conn->exchange_open)
        return;
    conn->exchange_open = false;
    /* First what may still call ld_exchange_wake. */
    if (ex->reply.stream.close)
        ex->reply.stream.close(ex->reply.stream.ctx);
    if (ex->reply.upgrade.drop)
        ex->reply.upgrade.drop(ex->reply.upgrade.ctx);
    if (ex->state_free)
        ex->state_free(ex->state);
    http->config.leave(ex);
    if (ex->reply.file_fd >= 0)
        (void)close(ex->reply.file_fd);
    ld_buffer_deinit(&ex->reply.body);
    ld_buffer_deinit(&conn->body);
    ld_conn_release_body(conn);
    ld_arena_deinit(&ex->arena);
}

/* ---- The header is there --------------------------------------------------------------------- */

struct header_list {
    struct ld_guard_header items[LD_HEADER_COUNT_MAX + 1];
    uint32_t count;
};

static enum MHD_Result add_header(void *ctx, enum MHD_ValueKind kind, const char *name,
                                  size_t name_size, const char *value, size_t value_size)
{
    struct header_list *list = ctx;
    (void)kind;
    if (list->count > LD_HEADER_COUNT_MAX)
        return MHD_NO;
    list->items[list->count].name = ld_span_of(name, name_size);
    list->items[list->count].value = ld_span_of(value ? value : "", value ? value_size : 0);
    list->count++;
    return MHD_YES;
}

static void check_header(struct ld_conn *conn, const char *method, const char *version)
{
    struct header_list list;
    list.count = 0;
    (void)MHD_get_connection_values_n(conn->library, MHD_HEADER_KIND, add_header, &list);
    const struct ld_guard_request request = {
        .method = ld_span_text(method),
        .target = ld_span_text(conn->target),
        .version = ld_span_text(version),
        .headers = list.items,
        .header_count = list.count,
    };
    ld_guard_check(&request, &conn->verdict);
    if (conn->target_long) {
        conn->verdict.status = 414;
        conn->verdict.sentence = "the request target is longer than 2048 bytes";
    }
}

/* Path and query; from here on a refusal has the shape of the path's dialect. */
static bool split_target(struct ld_conn *conn)
{
    struct ld_exchange *ex = &conn->exchange;
    char *path = ld_arena_strdup(&ex->arena, conn->target);
    if (!path)
        return false;
    char *question = strchr(path, '?');
    if (question) {
        *question = '\0';
        ex->query = question + 1;
    }
    ex->path = path;
    return true;
}

/* False after a refusal was queued in *result. */
static bool find_route(struct ld_http *http, struct ld_conn *conn, const char *method,
                       enum MHD_Result *result)
{
    struct ld_exchange *ex = &conn->exchange;
    struct ld_route_match match;
    ld_route_find(http->config.routes, http->config.route_count, method, ex->path, &match);
    if (!match.route && match.path_known) {
        ld_exchange_set_header(ex, "Allow", ld_arena_strdup(&ex->arena, match.allow));
        if (strcmp(method, "OPTIONS") == 0) {
            ld_exchange_set_header(ex, "Access-Control-Allow-Methods",
                                   ld_arena_strdup(&ex->arena, match.allow));
            /* Only an allowed origin comes so far; SDKs in browsers name a dozen of their own. */
            const char *wanted = ld_http_find_header(ex, "Access-Control-Request-Headers");
            ld_exchange_set_header(ex, "Access-Control-Allow-Headers",
                                   wanted ? wanted
                                          : "Authorization, Content-Type, Idempotency-Key, "
                                            "Last-Event-ID, Prefer, X-API-Key");
            (void)ld_exchange_empty(ex, 204);
            *result = ld_http_send_reply(http, conn);
        } else {
            *result = ld_http_refuse(http, conn, LD_E_INVALID, 405,
                                     "this path does not take that method");
        }
        return false;
    }
    if (!match.route) {
        *result = ld_http_refuse(http, conn, LD_E_NOT_FOUND, 404, "there is nothing at this path");
        return false;
    }
    ex->route = match.route;
    for (uint32_t i = 0; i < match.param_count; i++)
        ex->params[i] = ld_arena_strdup(&ex->arena, match.params[i]);
    return true;
}

static bool type_is(const char *type, const char *wanted)
{
    const size_t size = strcspn(type, "; \t");
    return size == strlen(wanted) && strncasecmp(type, wanted, size) == 0;
}

/* Clients of the dialects send JSON as text/plain or without a type. From a page of another origin
 * that would be a request without a preflight, so there the type must say what it is. */
static bool may_sniff(const struct ld_exchange *ex)
{
    return ld_dialect_of_path(ex->path) != LD_DIALECT_NATIVE &&
           (ex->route->body == LD_BODY_JSON || ex->route->body == LD_BODY_JSON_BIG) &&
           !ld_http_find_header(ex, "Origin");
}

static bool type_fits(const struct ld_route *route, const char *type)
{
    if (!type)
        return false;
    if (route->body == LD_BODY_FORM)
        return type_is(type, "multipart/form-data");
    if (route->body == LD_BODY_IMAGE)
        return type_is(type, "image/png") || type_is(type, "image/jpeg") ||
               type_is(type, "image/webp") || type_is(type, "application/octet-stream") ||
               type_is(type, "multipart/form-data");
    return type_is(type, "application/json");
}

static uint64_t body_limit(const struct ld_route *route)
{
    switch (route->body) {
    case LD_BODY_JSON:
        return LD_JSON_BODY_BYTES_MAX;
    case LD_BODY_JSON_BIG:
        return LD_JSON_IMAGE_BODY_BYTES_MAX;
    case LD_BODY_FORM:
        return (uint64_t)LD_UPLOAD_BYTES_MAX +
               LD_MULTIPART_FORM_PARTS_MAX * LD_MULTIPART_HEADER_BYTES_MAX;
    case LD_BODY_IMAGE:
        /* A multipart wrapping does not make a legal image too large. */
        return (uint64_t)LD_UPLOAD_BYTES_MAX +
               LD_MULTIPART_PARTS_MAX * LD_MULTIPART_HEADER_BYTES_MAX;
    case LD_BODY_NONE:
        break;
    }
    return 0;
}

/* What kind of body is announced; false after a refusal. Nothing of it has been read yet. */
static bool admit_body(struct ld_http *http, struct ld_conn *conn, enum MHD_Result *result)
{
    const struct ld_route *route = conn->exchange.route;
    const struct ld_guard_verdict *verdict = &conn->verdict;
    const bool has_body = verdict->chunked || verdict->length > 0;
    conn->body_limit = body_limit(route);
    if (has_body && route->body == LD_BODY_NONE)
        *result = ld_http_refuse(http, conn, LD_E_INVALID, 400, "this call takes no body");
    else if (!has_body && route->body != LD_BODY_NONE && !route->body_optional)
        *result = ld_http_refuse(http, conn, LD_E_INVALID, 400, "this call needs a body");
    else if (has_body && !may_sniff(&conn->exchange) &&
             !type_fits(route, ld_http_find_header(&conn->exchange, "Content-Type")))
        *result = ld_http_refuse(
            http, conn, LD_E_UNSUPPORTED, 415,
            route->body == LD_BODY_IMAGE
                ? "the content type must be image/png, image/jpeg, image/webp or "
                  "multipart/form-data"
            : route->body == LD_BODY_FORM ? "the content type must be multipart/form-data"
                                          : "the content type must be application/json");
    else if (verdict->length > conn->body_limit)
        *result =
            ld_http_refuse(http, conn, LD_E_TOO_LARGE, 413, "the body is too large for this call");
    else if (verdict->length > 0 && !ld_conn_reserve_body(conn, verdict->length))
        *result = ld_http_refuse(http, conn, LD_E_NOMEM, 503, "too many large requests at once");
    else
        return true;
    return false;
}

static enum MHD_Result begin(struct ld_http *http, struct ld_conn *conn, const char *method,
                             const char *version)
{
    struct ld_exchange *ex = &conn->exchange;
    enum MHD_Result result = MHD_YES;
    conn->requests++;
    ex->method = ld_arena_strdup(&ex->arena, method);
    check_header(conn, method, version);
    if (conn->verdict.status != 0)
        return ld_http_refuse(http, conn, LD_E_INVALID, conn->verdict.status,
                              conn->verdict.sentence);
    if (!split_target(conn))
        return ld_http_refuse(http, conn, LD_E_NOMEM, 0, "out of memory");
    if (http->config.loopback_host_only && !ld_guard_host_is_loopback(conn->verdict.host))
        return ld_http_refuse(http, conn, LD_E_FORBIDDEN, 403, "Host must name this machine");
    if (ld_http_find_header(ex, "Origin") && !ld_http_origin_is_allowed(http, conn) &&
        !ld_http_is_novelai_client(conn, method))
        return ld_http_refuse(http, conn, LD_E_FORBIDDEN, 403, "this Origin may not call");
    if (!find_route(http, conn, method, &result))
        return result;
    if (!http->config.admit(ex)) {
        ex->reply.close = conn->verdict.chunked || conn->verdict.length > 0; /* it is not read */
        return ld_http_send_reply(http, conn);
    }
    if (!admit_body(http, conn, &result))
        return result;
    conn->body = ld_buffer_make((size_t)conn->body_limit);
    conn->stage = LD_STAGE_BODY;
    ld_conn_enter(conn, LD_CONN_BODY,
                  ld_http_in_seconds(ex->route->body == LD_BODY_JSON ? LD_BODY_DEADLINE_S
                                                                     : LD_UPLOAD_DEADLINE_S));
    return MHD_YES;
}

/* ---- Body and handler ------------------------------------------------------------------------ */

/* The library takes no reply in the middle of a body: this goes straight to the socket, and the
 * connection ends. */
static enum MHD_Result cut_off(struct ld_conn *conn)
{
    struct ld_exchange *ex = &conn->exchange;
    struct ld_buffer reply = ld_buffer_make(4096);
    (void)ld_exchange_refuse(ex, LD_E_TOO_LARGE, 413, "the body is too large for this call");
    ld_buffer_format(&reply,
                     "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n"
                     "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n",
                     ex->reply.content_type, ex->reply.body.size);
    ld_buffer_bytes(&reply, ex->reply.body.data, ex->reply.body.size);
    pthread_mutex_lock(&conn->lock);
    if (conn->fd >= 0 && !reply.failed)
        (void)(send(conn->fd, reply.data, reply.size, MSG_DONTWAIT | MSG_NOSIGNAL) > 0);
    pthread_mutex_unlock(&conn->lock);
    ld_buffer_deinit(&reply);
    return MHD_NO;
}

static enum MHD_Result take_body(struct ld_conn *conn, const char *data, size_t *size)
{
    const size_t got = *size;
    *size = 0;
    ld_conn_count_bytes(conn, got);
    if (got > conn->body_limit - conn->body.size)
        return cut_off(conn);
    if (conn->verdict.chunked &&
        (++conn->body_chunks > LD_BODY_CHUNKS_MAX || !ld_conn_reserve_body(conn, got)))
        return cut_off(conn);
    ld_buffer_bytes(&conn->body, data, got);
    return conn->body.failed ? MHD_NO : MHD_YES;
}

static enum MHD_Result handle(struct ld_http *http, struct ld_conn *conn)
{
    struct ld_exchange *ex = &conn->exchange;
    ex->body = ld_span_of(conn->body.data ? conn->body.data : "", conn->body.size);
    conn->stage = LD_STAGE_HANDLE;
    for (int turn = 0; turn < HANDLER_TURNS_MAX; turn++) {
        ld_conn_woken(conn, &ex->timed_out, &ex->hung_up);
        ex->stopping = ld_conn_table_stopping(conn->table);
        if (ex->route->handler(ex) == LD_HANDLED) {
            /* Only a stream is read on after this; it parks by its own rules. */
            return ld_http_send_reply(http, conn);
        }
        if (ld_conn_park(conn, ex->park_until_us, ld_http_suspend))
            return MHD_YES;
        ld_clock_sleep_us(turn * 100); /* woken again and again before it could park */
    }
    return ld_http_refuse(http, conn, LD_E_BUG, 500, "the request did not come to rest");
}

static enum MHD_Result access_handler(void *ctx, struct MHD_Connection *connection, const char *url,
                                      const char *method, const char *version,
                                      const char *upload_data, size_t *upload_size, void **request)
{
    struct ld_conn *conn = *request;
    (void)url;
    (void)connection;
    if (!conn || !conn->exchange_open)
        return MHD_NO;
    if (conn->stage == LD_STAGE_NEW)
        return begin(ctx, conn, method, version);
    if (conn->stage == LD_STAGE_REPLIED) {
        *upload_size = 0;
        return MHD_YES;
    }
    if (*upload_size > 0)
        return take_body(conn, upload_data, upload_size);
    return handle(ctx, conn);
}

/* ---- What the library tells ------------------------------------------------------------------ */

static struct ld_conn *conn_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

/* The request line is read: a new exchange begins. What this returns becomes *request. */
static void *on_target(void *ctx, const char *target, struct MHD_Connection *connection)
{
    struct ld_conn *conn = conn_of(connection);
    if (!conn)
        return NULL;
    close_exchange(ctx, conn);
    open_exchange(ctx, conn);
    conn->target_long = !ld_fmt(conn->target, sizeof conn->target, "%s", target);
    ld_conn_enter(conn, LD_CONN_HEADER, ld_http_in_seconds(LD_HEADER_DEADLINE_S));
    return conn;
}

static void on_completed(void *ctx, struct MHD_Connection *connection, void **request,
                         enum MHD_RequestTerminationCode code)
{
    struct ld_conn *conn = *request;
    (void)connection;
    (void)code;
    if (!conn)
        return;
    close_exchange(ctx, conn);
    ld_conn_enter(conn, LD_CONN_IDLE, ld_http_in_seconds(LD_KEEP_ALIVE_S_MAX));
    *request = NULL;
}

static void on_connection(void *ctx, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct ld_http *http = ctx;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        struct ld_conn *conn = *socket_context;
        if (conn) {
            close_exchange(http, conn);
            ld_conn_close(conn);
        }
        *socket_context = NULL;
        return;
    }
    const union MHD_ConnectionInfo *fd =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    const union MHD_ConnectionInfo *address =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    *socket_context = fd ? ld_conn_open(http->conns, fd->connect_fd,
                                        address ? address->client_addr : NULL, connection)
                         : NULL;
}

static enum MHD_Result admit(void *ctx, const struct sockaddr *address, socklen_t size)
{
    struct ld_http *http = ctx;
    (void)size;
    return ld_conn_table_admits(http->conns, address) ? MHD_YES : MHD_NO;
}

/* The router decodes what needs it, once. */
static size_t leave_escapes(void *ctx, struct MHD_Connection *connection, char *text)
{
    (void)ctx;
    (void)connection;
    return strlen(text);
}

static void on_library_log(void *ctx, const char *format, va_list args)
{
    char text[512];
    (void)ctx;
    if (!ld_log_enabled(LD_LOG_DEBUG))
        return;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    const int size = vsnprintf(text, sizeof text, format, args);
#pragma GCC diagnostic pop
    if (size > 0)
        LD_LOG(LD_LOG_DEBUG, "http", "library", ld_log_text("text", text));
}

/* ---- Starting and stopping ------------------------------------------------------------------- */

static struct MHD_Daemon *start_daemon(struct ld_http *http, int listen_fd, uint32_t threads)
{
    /* Our own counting refuses at accept; the library's limit is per thread and must not be met
     * first, since it would leave connections waiting instead. */
    const unsigned library_limit = threads * (http->config.connections_max + 16);
    const struct MHD_OptionItem options[] = {
        {MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_library_log, NULL},
        {MHD_OPTION_LISTEN_SOCKET, listen_fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)library_limit, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY, NULL},
        {MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)leave_escapes, NULL},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)on_target, http},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, http},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, http},
        {threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, (intptr_t)threads, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    return MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_INTERNAL_POLLING_THREAD |
                                MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG,
                            0, admit, http, access_handler, http, MHD_OPTION_ARRAY, options,
                            MHD_OPTION_END);
}

enum ld_code ld_http_start(struct ld_http **out, const struct ld_http_config *config,
                           struct ld_error *err)
{
    enum ld_code code = LD_OK;
    const struct ld_conn_limits limits = {config->connections_max,
                                          config->connections_per_address_max};
    struct ld_http *http = ld_heap_alloc(sizeof *http);
    *out = NULL;
    if (!http)
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory");
    if (http)
        http->config = *config;
    if (code == LD_OK)
        code = ld_conn_table_create(&http->conns, &limits, resume_connection, err);
    for (uint32_t i = 0; i < config->listen_count && code == LD_OK; i++) {
        errno = 0;
        http->daemons[i] = start_daemon(http, config->listen_fds[i], i == 0 ? config->threads : 1);
        if (!http->daemons[i])
            code = errno == EMFILE ? LD_FAIL(err, LD_E_IO,
                                             "the HTTP server found no free descriptor: raise the "
                                             "limit of open files (ulimit -n 1024 or more)")
                                   : LD_FAIL(err, LD_E_IO, "the HTTP server could not be started");
        else
            http->daemon_count++;
    }
    if (code == LD_OK) {
        *out = http;
        return LD_OK;
    }
    for (uint32_t i = http ? http->daemon_count : 0; i < config->listen_count; i++)
        (void)close(config->listen_fds[i]);
    ld_http_stop(http);
    return code;
}

void ld_http_quiesce(struct ld_http *http)
{
    if (atomic_exchange(&http->quiesced, true))
        return;
    for (uint32_t i = 0; i < http->daemon_count; i++) {
        const MHD_socket fd = MHD_quiesce_daemon(http->daemons[i]);
        if (fd != MHD_INVALID_SOCKET)
            (void)close(fd);
    }
}

uint32_t ld_http_connections(struct ld_http *http)
{
    return ld_conn_table_count(http->conns);
}

void ld_http_stop(struct ld_http *http)
{
    if (!http)
        return;
    if (http->daemon_count > 0)
        ld_http_quiesce(http);
    if (http->conns)
        ld_conn_table_stop(http->conns);
    /* Replies that were just made possible are still to be written. */
    const int64_t until_us = ld_clock_monotonic_us() + STOP_PATIENCE_US;
    while (http->conns && ld_conn_table_busy(http->conns) && ld_clock_monotonic_us() < until_us)
        ld_clock_sleep_us(5000);
    /* Those that left HTTP look at the table that is about to go: they end within half a second. */
    while (atomic_load(&http->upgraded) > 0)
        ld_clock_sleep_us(5000);
    for (uint32_t i = 0; i < http->daemon_count; i++)
        MHD_stop_daemon(http->daemons[i]);
    ld_conn_table_destroy(http->conns);
    ld_heap_free(http);
}
