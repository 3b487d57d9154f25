/*
 * What a service manager hands over and wants to hear: sockets that it listens on for us, and how
 * we are. Both are plain protocols over the environment and one datagram, so no library is needed;
 * without a manager nothing happens.
 *
 *     ld_service_sockets(fds, LD_HTTP_LISTENERS_MAX, &count, &err);
 *     ld_service_tell("READY=1");
 *
 * Source: sd_listen_fds(3), sd_notify(3).
 */
#ifndef LD_SERVER_SERVICE_H
#define LD_SERVER_SERVICE_H

#include "runtime/base/error.h"

#include <stdbool.h>

/*
 * Take the listening sockets we were started with, and hide them from our children. `*count` is 0
 * where there are none. `remote_allowed`: addresses beyond loopback are taken too.
 * Errors   LD_E_FORBIDDEN (beyond loopback), LD_E_INVALID (no listening stream socket), LD_E_RANGE
 *          (more than `max`).
 */
enum ld_code ld_service_sockets(int *fds, uint32_t max, bool remote_allowed, uint32_t *count,
                                struct ld_error *err) LD_MUST_USE;

/* "READY=1", "WATCHDOG=1", "STOPPING=1". Never waits; a manager that does not listen is ignored. */
void ld_service_tell(const char *state);
/* "RELOADING=1" with the time that it began; "READY=1" ends it. */
void ld_service_tell_reloading(void);

#endif
