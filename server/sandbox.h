/*
 * What this process and all that it starts from here on can no longer ask of the kernel: opening
 * connections (`connect`, and sockets of any kind but AF_UNIX), and calls that a server never makes
 * but an intruder would (tracing and reading other processes, loading code into the kernel, mounts,
 * the io_uring that goes around such filters). A seccomp filter, seccomp(2); it cannot be taken
 * back. What listens and what was accepted goes on.
 *
 *     code = ld_sandbox_close(&err);     // after the last listening socket is open
 */
#ifndef LD_SERVER_SANDBOX_H
#define LD_SERVER_SANDBOX_H

#include "runtime/base/error.h"

#include <stdbool.h>

/* Whether the kernel has it (and this build knows the machine). Changes nothing. */
bool ld_sandbox_possible(void);

/*
 * For all threads of the process at once; sets no_new_privs too.
 * Errors   LD_E_UNSUPPORTED (ld_sandbox_possible is false), LD_E_FORBIDDEN (the kernel refused).
 */
enum ld_code ld_sandbox_close(struct ld_error *err) LD_MUST_USE;

#endif
