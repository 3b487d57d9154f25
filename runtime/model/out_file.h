/*
 * A new file or folder that appears complete or not at all: it grows under a hidden name beside its
 * place and is renamed when it is flushed. An existing one is left alone unless replacing was asked
 * for.
 *
 *     struct ld_out_file out;
 *     ld_out_file_open(&out, path, false, err);
 *     write(out.fd, ...);
 *     code = ld_out_file_commit(&out, err);     or ld_out_file_discard(&out);
 *
 * A folder grows file by file through ld_out_folder_add, which leaves `fd` at the new file.
 */
#ifndef LD_MODEL_OUT_FILE_H
#define LD_MODEL_OUT_FILE_H

#include "runtime/base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum { LD_OUT_NAME_SIZE = 256 };

/* Caller's storage. After a failed open there is nothing to discard. */
struct ld_out_file {
    int dir;  /* the folder of the place */
    int fd;   /* the file to write; -1 between the files of a folder */
    int root; /* the growing folder; -1 for a file */
    bool replace;
    char name[LD_OUT_NAME_SIZE], hidden[LD_OUT_NAME_SIZE];
};

/*
 * Errors   LD_E_CONFLICT (something is there already and `replace` is false, or for a folder
 *          always), LD_E_INVALID (no file name), LD_E_NOT_FOUND (no such parent), LD_E_FORBIDDEN,
 *          LD_E_NOSPACE, LD_E_IO.
 */
enum ld_code ld_out_file_open(struct ld_out_file *out, const char *path, bool replace,
                              struct ld_error *err) LD_MUST_USE;
enum ld_code ld_out_folder_open(struct ld_out_file *out, const char *path,
                                struct ld_error *err) LD_MUST_USE;

/* Create `folder`/`name` (`folder` may be "") inside a growing folder; the file before is flushed
 * and closed. Errors as above. */
enum ld_code ld_out_folder_add(struct ld_out_file *out, const char *folder, const char *name,
                               struct ld_error *err) LD_MUST_USE;

/* Fail now rather than after an hour where the disk cannot hold `bytes` more. Errors LD_E_NOSPACE.
 */
enum ld_code ld_out_file_require(const struct ld_out_file *out, uint64_t bytes,
                                 struct ld_error *err) LD_MUST_USE;

/* Flush and put in place, or clean up and say why not. */
enum ld_code ld_out_file_commit(struct ld_out_file *out, struct ld_error *err) LD_MUST_USE;
void ld_out_file_discard(struct ld_out_file *out);

#endif
