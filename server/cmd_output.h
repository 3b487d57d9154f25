/* What a verb writes for a person: the whole file or nothing. */
#ifndef LD_SERVER_CMD_OUTPUT_H
#define LD_SERVER_CMD_OUTPUT_H

#include "runtime/base/bytes.h"
#include "runtime/base/error.h"

/* Put the bytes at `path`, replacing what is there. Errors LD_E_INVALID (too long a name), LD_E_IO
 * and its kin with a sentence that names the path. */
enum ld_code ld_cmd_write_file(const char *path, struct ld_span bytes,
                               struct ld_error *err) LD_MUST_USE;

#endif
