/* Replies: bodies, files, streams, connections that leave HTTP, and the headers of all. */
#include "server/http_internal.h"

#include "api/dialect.h"
#include "runtime/base/id.h"
#include "runtime/base/log.h"

enum { STREAM_BLOCK = 32 * 1024 };

/* ---- Connections that leave HTTP ------------------------------------------------------------- */

struct ld_upgraded {
    struct ld_http *http;
    struct MHD_UpgradeResponseHandle *library;
};

bool ld_upgraded_stopping(const struct ld_upgraded *upgraded)
{
    return ld_conn_table_stopping(upgraded->http->conns);
}

void ld_upgraded_end(struct ld_upgraded *upgraded)
{
    struct ld_http *http = upgraded->http;
    (void)MHD_upgrade_action(upgraded->library, MHD_UPGRADE_ACTION_CLOSE);
    ld_heap_free(upgraded);
    atomic_fetch_sub(&http->upgraded, 1);
}

static void on_upgrade(void *ctx, struct MHD_Connection *connection, void *request,
                       const char *early, size_t early_size, MHD_socket fd,
                       struct MHD_UpgradeResponseHandle *library)
{
    struct ld_http *http = ctx;
    struct ld_conn *conn = request;
    struct ld_reply_upgrade *upgrade = &conn->exchange.reply.upgrade;
    struct ld_upgraded *upgraded = ld_heap_alloc(sizeof *upgraded);
    const struct ld_reply_upgrade taken = *upgrade;
    (void)connection;
    *upgrade = (struct ld_reply_upgrade){0};
    if (!upgraded) {
        taken.drop(taken.ctx);
        (void)MHD_upgrade_action(library, MHD_UPGRADE_ACTION_CLOSE);
        return;
    }
    *upgraded = (struct ld_upgraded){http, library};
    atomic_fetch_add(&http->upgraded, 1);
    ld_conn_enter(conn, LD_CONN_IDLE, 0); /* no deadline of ours holds for it */
    taken.start(taken.ctx, fd, upgraded, ld_span_of(early, early_size));
}

/* ---- Replies --------------------------------------------------------------------------------- */

static ssize_t read_stream(void *ctx, uint64_t position, char *out, size_t size)
{
    struct ld_conn *conn = ctx;
    struct ld_exchange *ex = &conn->exchange;
    (void)position;
    for (;;) {
        ld_conn_woken(conn, &ex->timed_out, &ex->hung_up);
        ex->stopping = ld_conn_table_stopping(conn->table);
        const ssize_t got = ex->reply.stream.read(ex->reply.stream.ctx, out, size);
        if (got < 0)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (got > 0) { /* what was read before has left: a new deadline for this piece */
            ld_conn_enter(conn, LD_CONN_REPLY, ld_http_in_seconds(LD_EVENT_DEADLINE_S));
            return got;
        }
        if (ex->stopping)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (ld_conn_park(conn, ex->park_until_us, ld_http_suspend))
            return 0;
    }
}

static struct MHD_Response *make_response(struct ld_http *http, struct ld_conn *conn)
{
    struct ld_reply *reply = &conn->exchange.reply;
    struct MHD_Response *response;
    if (reply->upgrade.start)
        return MHD_create_response_for_upgrade(on_upgrade, http);
    if (reply->stream.read)
        return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, conn,
                                                 NULL);
    if (reply->file_fd >= 0) {
        response = MHD_create_response_from_fd_at_offset64(reply->file_size, reply->file_fd,
                                                           reply->file_offset);
        if (response)
            reply->file_fd = -1; /* the library closes it */
        return response;
    }
    response = MHD_create_response_from_buffer_with_free_callback(
        reply->body.size, reply->body.data ? reply->body.data : (char *)NULL, ld_heap_free);
    if (response)
        reply->body = ld_buffer_make(0);
    return response;
}

/* What clients of a dialect read beside the body. */
static void add_dialect_headers(const struct ld_exchange *ex, struct MHD_Response *response)
{
    char text[64];
    const enum ld_dialect dialect = ld_dialect_of_path(ex->path);
    if (dialect == LD_DIALECT_A1111 &&
        ld_fmt(text, sizeof text, "%.4f", (double)(ld_clock_monotonic_us() - ex->began_us) / 1e6))
        (void)MHD_add_response_header(response, "X-Process-Time", text);
    if (dialect == LD_DIALECT_OPENAI || dialect == LD_DIALECT_NOVELAI) {
        char id[LD_ID_SIZE];
        ld_id_make(id);
        if (ld_fmt(text, sizeof text, "req_%s", id))
            (void)MHD_add_response_header(response, "X-Request-Id", text);
    }
}

bool ld_http_origin_is_allowed(const struct ld_http *http, const struct ld_conn *conn)
{
    const char *origin = ld_http_find_header(&conn->exchange, "Origin");
    return origin && ld_guard_origin_allowed(ld_span_text(origin), conn->verdict.host,
                                             http->config.cors_origins);
}

bool ld_http_is_novelai_client(const struct ld_conn *conn, const char *method)
{
    const char *origin = ld_http_find_header(&conn->exchange, "Origin");
    const char *site = ld_http_find_header(&conn->exchange, "Sec-Fetch-Site");
    return ld_dialect_of_path(conn->target) == LD_DIALECT_NOVELAI &&
           strcmp(origin, "https://novelai.net") == 0 && strcmp(method, "OPTIONS") != 0 &&
           (!site || strcmp(site, "same-site") == 0);
}

static void add_headers(struct ld_http *http, struct ld_conn *conn, struct MHD_Response *response)
{
    struct ld_exchange *ex = &conn->exchange;
    const struct ld_reply *reply = &ex->reply;
    const char *origin = ld_http_find_header(ex, "Origin");
    (void)MHD_add_response_header(response, "Server", "latentd/" LATENTD_VERSION);
    (void)MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (reply->content_type)
        (void)MHD_add_response_header(response, "Content-Type", reply->content_type);
    for (uint32_t i = 0; i < reply->header_count; i++)
        (void)MHD_add_response_header(response, reply->header_names[i], reply->header_values[i]);
    add_dialect_headers(ex, response);
    if (origin && reply->status != 403 && ld_http_origin_is_allowed(http, conn)) {
        (void)MHD_add_response_header(response, "Access-Control-Allow-Origin", origin);
        (void)MHD_add_response_header(response, "Vary", "Origin");
    }
    if (reply->close || conn->requests >= LD_REQUESTS_PER_CONNECTION_MAX ||
        atomic_load(&http->quiesced))
        (void)MHD_add_response_header(response, "Connection", "close");
}

enum MHD_Result ld_http_send_reply(struct ld_http *http, struct ld_conn *conn)
{
    struct ld_exchange *ex = &conn->exchange;
    struct MHD_Response *response = make_response(http, conn);
    if (!response)
        return MHD_NO;
    add_headers(http, conn, response);
    conn->stage = LD_STAGE_REPLIED;
    ld_conn_enter(conn, LD_CONN_REPLY, ld_http_in_seconds(LD_REPLY_DEADLINE_S));
    const enum MHD_Result result =
        MHD_queue_response(conn->library, (unsigned)ex->reply.status, response);
    MHD_destroy_response(response);
    ld_metrics_request(http->config.metrics, ex->route, ex->reply.status,
                       ld_clock_monotonic_us() - ex->began_us);
    if (ld_log_enabled(LD_LOG_DEBUG))
        LD_LOG(LD_LOG_DEBUG, "http", "reply", ld_log_text("method", ex->method ? ex->method : ""),
               ld_log_text("route", ex->route ? ex->route->pattern : "none"),
               ld_log_int("status", ex->reply.status));
    return result;
}

enum MHD_Result ld_http_refuse(struct ld_http *http, struct ld_conn *conn, enum ld_code code,
                               int status, const char *sentence)
{
    (void)ld_exchange_refuse(&conn->exchange, code, status, sentence);
    conn->exchange.reply.close = true;
    return ld_http_send_reply(http, conn);
}
