/*
 * Header hygiene: what a request line and its headers must look like before anything acts on them.
 * A pure function, so that a fuzzer can own it. Whatever it refuses is answered and the connection
 * closed, which leaves a smuggled second request unread.
 *
 * Source: RFC 9112 (3.2 request target, 5 field syntax, 6.3 body length), robustness.md 2 and 3.
 */
#ifndef LD_SERVER_HTTP_GUARD_H
#define LD_SERVER_HTTP_GUARD_H

#include "runtime/base/bytes.h"

struct ld_guard_header {
    struct ld_span name, value;
};

struct ld_guard_request {
    struct ld_span method, target, version;
    const struct ld_guard_header *headers;
    uint32_t header_count;
};

struct ld_guard_verdict {
    int status; /* 0: pass; else 400, 414, 431, 501 or 505 */
    const char *sentence;
    bool has_length, chunked;
    uint64_t length; /* declared */
    struct ld_span host;
};

void ld_guard_check(const struct ld_guard_request *request, struct ld_guard_verdict *verdict);

/* "localhost", 127.0.0.0/8 or [::1], with or without a port: what a browser that was not tricked
 * by DNS sends to a server on its own machine. */
bool ld_guard_host_is_loopback(struct ld_span host);

/* An Origin is the server itself (same host and port) or stands in the comma-separated list. */
bool ld_guard_origin_allowed(struct ld_span origin, struct ld_span host, const char *allowed);

#endif
