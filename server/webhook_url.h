/*
 * Where a webhook may go: one parser for the check at submit and for the call itself, and the
 * verdict over an address that a name was resolved to (robustness.md 3, H10).
 */
#ifndef LD_SERVER_WEBHOOK_URL_H
#define LD_SERVER_WEBHOOK_URL_H

#include "config/limits.h"
#include "runtime/base/bytes.h"
#include "runtime/base/error.h"

#include <stdbool.h>
#include <sys/socket.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_WEBHOOK_HOST_SIZE = 254, LD_WEBHOOK_URL_BYTES_MAX = LD_WEBHOOK_URL_BYTES };

struct ld_webhook_url {
    char host[LD_WEBHOOK_HOST_SIZE]; /* lower case, a name, never an address */
    uint16_t port;
};

/*
 * "https://NAME[:PORT][/PATH][?QUERY]", in visible ASCII. No user, no fragment, no backslash, no
 * address in any spelling: a name whose last label is a number is one.
 * Errors   LD_E_INVALID with what is wrong.
 */
enum ld_code ld_webhook_url_parse(struct ld_webhook_url *url, struct ld_span text,
                                  struct ld_error *err) LD_MUST_USE;

/* Is it one of `hosts` (comma-separated "name" for port 443, "name:port" for another)? */
bool ld_webhook_url_is_listed(const struct ld_webhook_url *url, const char *hosts);

/* An address of the open internet: not loopback, private, link-local, shared, multicast, reserved,
 * for documentation, nor a v6 form that hides a v4 one (RFC 6890 and the registries it made). */
bool ld_webhook_address_is_public(const struct sockaddr *address);

#ifdef __cplusplus
}
#endif
#endif
