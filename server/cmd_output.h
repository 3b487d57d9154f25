/* What a verb writes for a person: the whole file or nothing. */
#ifndef LD_SERVER_CMD_OUTPUT_H
#define LD_SERVER_CMD_OUTPUT_H

#include "runtime/base/bytes.h"
#include "runtime/base/error.h"
#include "runtime/params.h"

/* Put the bytes at `path`, replacing what is there. Errors LD_E_INVALID (too long a name), LD_E_IO
 * and its kin with a sentence that names the path. */
enum ld_code ld_cmd_write_file(const char *path, struct ld_span bytes,
                               struct ld_error *err) LD_MUST_USE;

/* A request that names no format takes the one that the ending of `path` means, if it means one.
 * Errors   LD_E_INVALID (it means one that is not written here), those of ld_request_set_text. */
enum ld_code ld_cmd_take_format(struct ld_request *request, struct ld_arena *arena,
                                const char *path, struct ld_error *err) LD_MUST_USE;

/* Where the picture goes where nobody says it: "out.png", "out.webp", "out.jpg". */
const char *ld_cmd_default_output(const struct ld_request *request);

#endif
