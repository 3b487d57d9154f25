/*
 * What the files of the HTTP glue share: http.c reads requests and calls handlers, http_reply.c
 * answers. Nobody else includes this.
 */
#ifndef LD_SERVER_HTTP_INTERNAL_H
#define LD_SERVER_HTTP_INTERNAL_H

#include "config/limits.h"
#include "runtime/base/clock.h"
#include "server/http.h"
#include "server/http_conn.h"

#include <microhttpd.h>

struct ld_http {
    struct ld_http_config config;
    struct ld_conn_table *conns;
    struct MHD_Daemon *daemons[LD_HTTP_LISTENERS_MAX];
    uint32_t daemon_count;
    atomic_bool quiesced;
    atomic_uint upgraded; /* connections that left HTTP */
};

/* Monotonic, in microseconds. */
static inline int64_t ld_http_in_seconds(int64_t seconds)
{
    return ld_clock_monotonic_us() + seconds * 1000000;
}

/* For ld_conn_park. */
static inline void ld_http_suspend(void *library)
{
    MHD_suspend_connection(library);
}

/* A header of the request; NULL when it has none of that name. Lives as long as the request. */
static inline const char *ld_http_find_header(const struct ld_exchange *ex, const char *name)
{
    const struct ld_conn *conn = ex->connection;
    return MHD_lookup_connection_value(conn->library, MHD_HEADER_KIND, name);
}

/* The request has an Origin, and it is this server's own or one of the configured ones. */
bool ld_http_origin_is_allowed(const struct ld_http *http, const struct ld_conn *conn);

/*
 * Programs that speak NovelAI's interface name its site as their Origin. A page of that site is not
 * meant by this: browsers say that it is another site than this one (Sec-Fetch-Site, which scripts
 * cannot set; those programs pretend to be of the same one), ask beforehand (JSON needs a
 * preflight, which is refused), and are not allowed to read the answer.
 */
bool ld_http_is_novelai_client(const struct ld_conn *conn, const char *method);

/* Hand exchange.reply to the library, which takes its body or file. MHD_NO: close the connection.
 */
enum MHD_Result ld_http_send_reply(struct ld_http *http, struct ld_conn *conn);

/* The same with an error in the caller's shape; the connection ends with it. status 0: of `code`.
 */
enum MHD_Result ld_http_refuse(struct ld_http *http, struct ld_conn *conn, enum ld_code code,
                               int status, const char *sentence);

#endif
