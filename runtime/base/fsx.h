/*
 * Files without races: opening that cannot leave a folder, publishing that is all or nothing even
 * across power loss, and bounded reading. Paths come from the operator's configuration or from our
 * own names, never from a request.
 *
 *     int root = -1, fd = -1;
 *     ld_fsx_open_dir(models_path, &root, &err);
 *     ld_fsx_open_beneath(root, "styles/ink.safetensors", &fd, &err);
 */
#ifndef LD_BASE_FSX_H
#define LD_BASE_FSX_H

#include "runtime/base/buffer.h"

#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What an errno of a file call means: ENOENT -> LD_E_NOT_FOUND, ENOSPC and EDQUOT -> LD_E_NOSPACE,
 * ENOMEM -> LD_E_NOMEM, EACCES and EPERM -> LD_E_FORBIDDEN, all others LD_E_IO. */
enum ld_code ld_fsx_code(int os_code);

/* A directory, read-only, close-on-exec. Errors as ld_fsx_code. */
enum ld_code ld_fsx_open_dir(const char *path, int *fd, struct ld_error *err) LD_MUST_USE;

/*
 * A regular file below `dir_fd` for reading, close-on-exec. `path` is relative; no part of it may
 * be "..", empty or a symbolic link. Uses openat2 where the kernel has it and nobody forbids it,
 * otherwise opens part by part.
 * Errors   LD_E_FORBIDDEN (would leave the folder, a link, not a regular file), else ld_fsx_code.
 */
enum ld_code ld_fsx_open_beneath(int dir_fd, const char *path, int *fd,
                                 struct ld_error *err) LD_MUST_USE;
/* The part-by-part way alone, so that tests reach it on any kernel. */
enum ld_code ld_fsx_open_by_parts(int dir_fd, const char *path, int *fd,
                                  struct ld_error *err) LD_MUST_USE;

/* Is there anything at `path`? For choosing between names; opening it may still fail. */
bool ld_fsx_exists(const char *path);

/* Create `path` and its parents where missing, with `mode`; the names of new ones are flushed. */
enum ld_code ld_fsx_make_dirs(const char *path, mode_t mode, struct ld_error *err) LD_MUST_USE;
/* The same; and what root makes in a folder of another user is that user's. */
enum ld_code ld_fsx_make_dirs_to_owner(const char *path, mode_t mode,
                                       struct ld_error *err) LD_MUST_USE;

/* All bytes or an error. */
enum ld_code ld_fsx_write_all(int fd, struct ld_span bytes, struct ld_error *err) LD_MUST_USE;

/* Append the whole file to `out`, whose ceiling is the limit.
 * Errors   LD_E_TOO_LARGE beyond the ceiling, else ld_fsx_code. */
enum ld_code ld_fsx_read_fd(int fd, struct ld_buffer *out, struct ld_error *err) LD_MUST_USE;
enum ld_code ld_fsx_read_file(const char *path, struct ld_buffer *out,
                              struct ld_error *err) LD_MUST_USE;

enum ld_code ld_fsx_sync_dir(int dir_fd, struct ld_error *err) LD_MUST_USE;

/*
 * Publish bytes under `name` in `dir_fd`: write `tmp_name` in `tmp_fd` (same file system), fsync
 * it, rename, fsync both folders' entries. After LD_OK the file survives power loss; after an
 * error the temporary is removed and `name` is untouched (it may exist if only the last fsync
 * failed). An existing `name` is replaced.
 */
struct ld_fsx_publish {
    int tmp_fd;
    const char *tmp_name;
    int dir_fd;
    const char *name;
    mode_t mode;
};
enum ld_code ld_fsx_publish(const struct ld_fsx_publish *where, struct ld_span bytes,
                            struct ld_error *err) LD_MUST_USE;
/*
 * The same; and what root publishes in a folder of another user is that user's, whom it may be for:
 * a command run by root for a service that has a user of its own. Where the owner cannot be changed
 * (a container that forbids it) the file stays root's.
 */
enum ld_code ld_fsx_publish_to_owner(const struct ld_fsx_publish *where, struct ld_span bytes,
                                     struct ld_error *err) LD_MUST_USE;

/* What they do for an open file or folder that this process has just made in `dir_fd`. */
void ld_fsx_give_to_owner(int fd, int dir_fd);

/* Did a call above fail because this user has no right to what is there? */
bool ld_fsx_is_no_right(const struct ld_error *err);

#ifdef __cplusplus
}
#endif
#endif
