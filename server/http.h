/*
 * The HTTP glue: libmicrohttpd in, exchanges out. It takes care of header hygiene, limits, absolute
 * deadlines, bodies in memory and parked connections; what a request means is the handlers'
 * business.
 */
#ifndef LD_SERVER_HTTP_H
#define LD_SERVER_HTTP_H

#include "server/metrics.h"
#include "server/router.h"

enum { LD_HTTP_LISTENERS_MAX = 4 };

struct ld_http;

struct ld_http_config {
    struct ld_front *front;
    struct ld_metrics *metrics; /* may be NULL */
    const struct ld_route *routes;
    uint32_t route_count;
    int listen_fds[LD_HTTP_LISTENERS_MAX]; /* listening already; taken, also on failure */
    uint32_t listen_count;
    uint32_t threads; /* of the first listener; the others have one */
    uint32_t connections_max, connections_per_address_max; /* 0: any number of one address */
    bool loopback_host_only;  /* anonymous on loopback: Host must be a loopback name */
    const char *cors_origins; /* comma-separated */
    /* Who calls: fills ex->caller, or the reply and answers false. `leave` runs when an exchange
     * ends, also for one that was not admitted. */
    bool (*admit)(struct ld_exchange *ex);
    void (*leave)(struct ld_exchange *ex);
};

/* Errors   LD_E_IO, LD_E_NOMEM. */
enum ld_code ld_http_start(struct ld_http **http, const struct ld_http_config *config,
                           struct ld_error *err) LD_MUST_USE;

/* Accept no more; open connections go on, each closing after its present reply. */
void ld_http_quiesce(struct ld_http *http);

/* Open connections with a request in progress or a reply not yet sent. */
uint32_t ld_http_connections(struct ld_http *http);

/* Wake everything parked with `stopping` set, give replies a moment, close. */
void ld_http_stop(struct ld_http *http);

#endif
