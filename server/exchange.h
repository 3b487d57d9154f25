/*
 * One request and its reply as the handlers see them: no sockets, no HTTP library. A handler fills
 * the reply, or parks the exchange and is called again when it was woken, timed out, or its client
 * left.
 *
 *     static enum ld_handled get_version(struct ld_exchange *ex)
 *     {
 *         ld_buffer_text(&ex->reply.body, "{\"version\":\"" LATENTD_VERSION "\"}");
 *         return ld_exchange_json(ex, 200);
 *     }
 */
#ifndef LD_SERVER_EXCHANGE_H
#define LD_SERVER_EXCHANGE_H

#include "api/problem.h"
#include "runtime/base/arena.h"
#include "runtime/base/buffer.h"
#include "server/caller.h"

#include <sys/types.h>

struct ld_front;
struct ld_route;
struct ld_exchange;

enum { LD_EXCHANGE_PARAMS_MAX = 3, LD_REPLY_HEADERS_MAX = 24 };

enum ld_handled {
    LD_HANDLED, /* the reply is complete */
    LD_PARKED   /* call again later; park_until_us says when at the latest */
};
typedef enum ld_handled (*ld_handler)(struct ld_exchange *ex);

/* Bytes made while they are sent (event streams). */
struct ld_reply_stream {
    void *ctx;
    /* Up to `size` bytes; 0: nothing now, ld_exchange_wake will follow; -1: the end. */
    ssize_t (*read)(void *ctx, char *out, size_t size);
    void (*close)(void *ctx);
};

/* A connection that leaves HTTP behind (WebSocket, status 101). */
struct ld_upgraded;
struct ld_reply_upgrade {
    void *ctx;
    /* The socket is the callee's until ld_upgraded_end; `early` are bytes that came already. Must
     * not block. */
    void (*start)(void *ctx, int fd, struct ld_upgraded *upgraded, struct ld_span early);
    void (*drop)(void *ctx); /* instead of start: it came to nothing */
};
/* The server is going down: end soon. */
bool ld_upgraded_stopping(const struct ld_upgraded *upgraded);
/* Nothing touches the socket any more; it is closed. Any thread. */
void ld_upgraded_end(struct ld_upgraded *upgraded);

struct ld_reply {
    int status;
    const char *content_type; /* static or in the arena; NULL: none */
    const char *header_names[LD_REPLY_HEADERS_MAX];
    const char *header_values[LD_REPLY_HEADERS_MAX];
    uint32_t header_count;
    struct ld_buffer body; /* unless one of the following */
    int file_fd;           /* -1, or a file that is sent and closed */
    uint64_t file_offset, file_size;
    struct ld_reply_stream stream;   /* if `read` is set */
    struct ld_reply_upgrade upgrade; /* if `start` is set */
    bool close;                      /* the connection ends with this reply */
};

struct ld_exchange {
    struct ld_front *front;
    const struct ld_route *route;
    struct ld_arena arena; /* request lifetime */
    const char *method;
    const char *path;                           /* as on the wire, without query */
    const char *query;                          /* as on the wire, "" if absent */
    const char *params[LD_EXCHANGE_PARAMS_MAX]; /* of the route's pattern, decoded */
    struct ld_caller caller;                    /* who asks; anybody on open routes */
    const char *tenant;                         /* the caller's */
    int64_t began_us;                           /* monotonic */
    char address[64];                           /* of the client */
    struct ld_span body;
    struct ld_reply reply;

    /* ---- Parking ---- */
    int64_t park_until_us; /* monotonic */
    bool timed_out, hung_up, stopping;
    void *state;                     /* the handler's own between calls */
    void (*state_free)(void *state); /* runs once, before the exchange ends */

    /* ---- The HTTP glue's side ---- */
    const char *(*header)(const struct ld_exchange *ex, const char *name);
    void *connection;
};

/* A request header's value or NULL. */
static inline const char *ld_exchange_header(const struct ld_exchange *ex, const char *name)
{
    return ex->header(ex, name);
}

/* Call the handler again (or read the stream on). Any thread, also before the handler has parked;
 * the exchange must still live. */
void ld_exchange_wake(struct ld_exchange *ex);

/* A query parameter, decoded, in the arena; NULL if absent. A name that occurs twice counts once,
 * the first time. */
/* A parameter of the path with its escapes resolved; NULL without memory. */
const char *ld_exchange_param(struct ld_exchange *ex, uint32_t index);

const char *ld_exchange_query(struct ld_exchange *ex, const char *name);

/* The client has the right media type in Accept (or no Accept at all). */
bool ld_exchange_accepts(const struct ld_exchange *ex, const char *type, bool by_default);

/* ---- Replies: all return LD_HANDLED ---------------------------------------------------------- */

/* `name` and `value` live as long as the exchange (static or arena). */
void ld_exchange_set_header(struct ld_exchange *ex, const char *name, const char *value);
/* The body was written to reply.body. */
enum ld_handled ld_exchange_json(struct ld_exchange *ex, int status);
enum ld_handled ld_exchange_empty(struct ld_exchange *ex, int status);
/* RFC 9457 from an error value, a problem, or a code and sentence. */
enum ld_handled ld_exchange_fail(struct ld_exchange *ex, const struct ld_error *err);
enum ld_handled ld_exchange_problem(struct ld_exchange *ex, const struct ld_problem *problem);
enum ld_handled ld_exchange_refuse(struct ld_exchange *ex, enum ld_code code, int status,
                                   const char *sentence);

#endif
