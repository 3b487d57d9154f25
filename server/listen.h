/*
 * Listening sockets from settings.
 */
#ifndef LD_SERVER_LISTEN_H
#define LD_SERVER_LISTEN_H

#include "runtime/base/bytes.h"

/*
 * Bind `address` (numeric, or "localhost") and listen; *port 0 picks a free one and is set to it.
 * Errors   LD_E_INVALID (no address), LD_E_CONFLICT (the port is taken), LD_E_FORBIDDEN (no right
 *          to it), LD_E_IO.
 */
enum ld_code ld_listen_tcp(const char *address, int64_t *port, int *fd,
                           struct ld_error *err) LD_MUST_USE;

/* A UNIX socket with mode 0660; a stale file of a dead server is replaced. Errors as above. */
enum ld_code ld_listen_unix(const char *path, int *fd, struct ld_error *err) LD_MUST_USE;

#endif
