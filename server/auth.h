/*
 * Who calls, and may they: the credentials of a request become ex->caller, or a refusal. Runs once
 * the route is known and before any of the body is read.
 *
 * A key comes as `Authorization: Bearer`, as `X-API-Key`, and on the routes of A1111's dialect as
 * the password of HTTP Basic (any user name). As long as no key has ever been made, everybody on
 * this machine is the same caller, "anonymous", who may read and generate but not administer;
 * beyond it, which is also behind a proxy, only with server.allow_anonymous.
 *
 * Wrong keys are counted by address; after ten within a minute the answer is 429 instead of 401. A
 * right key is served all the same: with 256 bits nobody guesses one, and nobody shall be able to
 * lock out others who come through the same address.
 */
#ifndef LD_SERVER_AUTH_H
#define LD_SERVER_AUTH_H

#include "server/exchange.h"

/* False: the reply is a refusal (401, 403 or 429). */
bool ld_auth_admit(struct ld_exchange *ex);

/* Whether what this tenant has open may stay: its key is valid, or anonymous callers are served.
 * Any thread; does not look at the file of keys. */
bool ld_auth_may_stay(void *front, const char *tenant);

/* The exchange ends: it no longer counts among its caller's calls in flight. */
void ld_auth_leave(struct ld_exchange *ex);

#endif
