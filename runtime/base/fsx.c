#include "runtime/base/fsx.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum ld_code ld_fsx_code(int os_code)
{
    switch (os_code) {
    case ENOENT:
        return LD_E_NOT_FOUND;
    case ENOSPC:
    case EDQUOT:
        return LD_E_NOSPACE;
    case ENOMEM:
        return LD_E_NOMEM;
    case EACCES:
    case EPERM:
        return LD_E_FORBIDDEN;
    default:
        return LD_E_IO;
    }
}

static enum ld_code fail_os(struct ld_error *err, int os_code, const char *what)
{
    return LD_FAIL_OS(err, ld_fsx_code(os_code), os_code, "%s failed", what);
}

enum ld_code ld_fsx_open_dir(const char *path, int *fd, struct ld_error *err)
{
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int os_code = errno;
    return *fd < 0 ? fail_os(err, os_code, "opening a folder") : LD_OK;
}

/* ---- Opening beneath a folder ---------------------------------------------------------------- */

static enum ld_code require_regular(int *fd, struct ld_error *err)
{
    struct stat info;
    const int failed = fstat(*fd, &info);
    const int os_code = errno;
    if (failed == 0 && S_ISREG(info.st_mode))
        return LD_OK;
    (void)close(*fd);
    *fd = -1;
    if (failed)
        return fail_os(err, os_code, "reading a file's attributes");
    return LD_FAIL(err, LD_E_FORBIDDEN, "not a regular file");
}

static bool part_ok(struct ld_span part)
{
    return part.size > 0 && part.size < 256 && !ld_span_is(part, ".") && !ld_span_is(part, "..");
}

enum ld_code ld_fsx_open_by_parts(int dir_fd, const char *path, int *fd, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    int at = dir_fd;
    int next = -1;
    *fd = -1;
    for (const char *rest = path;;) {
        const char *slash = strchr(rest, '/');
        const size_t size = slash ? (size_t)(slash - rest) : strlen(rest);
        char part[256];
        if (!part_ok(ld_span_of(rest, size))) {
            code = LD_FAIL(err, LD_E_FORBIDDEN, "the name leaves its folder");
            goto done;
        }
        memcpy(part, rest, size);
        part[size] = '\0';
        const int kind = slash ? O_DIRECTORY : O_NONBLOCK;
        next = openat(at, part, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | kind);
        const int os_code = errno;
        if (next < 0) {
            code = os_code == ELOOP || os_code == ENOTDIR
                       ? LD_FAIL_OS(err, LD_E_FORBIDDEN, os_code, "the name leaves its folder")
                       : fail_os(err, os_code, "opening a file");
            goto done;
        }
        if (at != dir_fd)
            (void)close(at);
        at = next;
        if (!slash)
            break;
        rest = slash + 1;
    }
    *fd = at;
    at = dir_fd;
    code = require_regular(fd, err);
done:
    if (at != dir_fd)
        (void)close(at);
    return code;
}

enum ld_code ld_fsx_open_beneath(int dir_fd, const char *path, int *fd, struct ld_error *err)
{
    const struct open_how how = {
        .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK, /* a FIFO must not hang the open */
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    const long opened = syscall(SYS_openat2, dir_fd, path, &how, sizeof how);
    const int os_code = errno;
    *fd = (int)opened;
    if (opened >= 0)
        return require_regular(fd, err);
    /* Old kernels lack the call and some container filters answer EPERM for it. */
    if (os_code == ENOSYS || os_code == EPERM || os_code == EAGAIN)
        return ld_fsx_open_by_parts(dir_fd, path, fd, err);
    if (os_code == EXDEV || os_code == ELOOP || os_code == ENOTDIR)
        return LD_FAIL_OS(err, LD_E_FORBIDDEN, os_code, "the name leaves its folder");
    return fail_os(err, os_code, "opening a file");
}

/* ---- Folders and whole files ----------------------------------------------------------------- */

bool ld_fsx_exists(const char *path)
{
    struct stat info;
    return path[0] != '\0' && stat(path, &info) == 0;
}

void ld_fsx_give_to_owner(int fd, int dir_fd)
{
    struct stat dir;
    if (geteuid() == 0 && fstat(dir_fd, &dir) == 0 && dir.st_uid != 0)
        (void)!fchown(fd, dir.st_uid, dir.st_gid);
}

/* A new folder: flush the one that holds `path`, so that its name there lasts. */
static enum ld_code settle(const char *path, bool to_owner, struct ld_error *err)
{
    char parent[4096];
    int fd;
    const char *slash = strrchr(path, '/');
    const size_t size = slash ? (size_t)(slash - path) : 0;
    if (!slash)
        (void)ld_fmt(parent, sizeof parent, ".");
    else
        (void)ld_fmt(parent, sizeof parent, "%.*s", size > 0 ? (int)size : 1, path);
    if (ld_fsx_open_dir(parent, &fd, err) != LD_OK)
        return err->code;
    const int made = to_owner ? openat(fd, slash ? slash + 1 : path,
                                       O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
                              : -1;
    if (made >= 0) {
        ld_fsx_give_to_owner(made, fd);
        (void)close(made);
    }
    const enum ld_code code = ld_fsx_sync_dir(fd, err);
    (void)close(fd);
    return code;
}

static enum ld_code make_dirs(const char *path, mode_t mode, bool to_owner, struct ld_error *err)
{
    char part[4096];
    const size_t size = strlen(path);
    if (size == 0 || size >= sizeof part)
        return LD_FAIL(err, LD_E_INVALID, "a folder's path must have 1 to 4095 bytes");
    for (size_t i = 1; i <= size; i++) {
        if (i < size && path[i] != '/')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, mode) == 0) {
            const enum ld_code code = settle(part, to_owner, err);
            if (code != LD_OK)
                return code;
            continue;
        }
        const int os_code = errno;
        if (os_code != EEXIST)
            return fail_os(err, os_code, "creating a folder");
    }
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return LD_FAIL(err, LD_E_IO, "a folder's place is taken by something else");
    return LD_OK;
}

enum ld_code ld_fsx_make_dirs(const char *path, mode_t mode, struct ld_error *err)
{
    return make_dirs(path, mode, false, err);
}

enum ld_code ld_fsx_make_dirs_to_owner(const char *path, mode_t mode, struct ld_error *err)
{
    return make_dirs(path, mode, true, err);
}

enum ld_code ld_fsx_write_all(int fd, struct ld_span bytes, struct ld_error *err)
{
    size_t done = 0;
    while (done < bytes.size) {
        const ssize_t written = write(fd, bytes.data + done, bytes.size - done);
        const int os_code = errno;
        if (written > 0)
            done += (size_t)written;
        else if (written == 0 || os_code != EINTR)
            return fail_os(err, written == 0 ? EIO : os_code, "writing a file");
    }
    return LD_OK;
}

enum ld_code ld_fsx_read_fd(int fd, struct ld_buffer *out, struct ld_error *err)
{
    char chunk[64 * 1024];
    for (;;) {
        const ssize_t got = read(fd, chunk, sizeof chunk);
        const int os_code = errno;
        if (got == 0)
            return LD_OK;
        if (got < 0 && os_code == EINTR)
            continue;
        if (got < 0)
            return fail_os(err, os_code, "reading a file");
        if ((size_t)got > out->bytes_limit - out->size)
            return LD_FAIL(err, LD_E_TOO_LARGE, "the file is larger than %zu bytes",
                           out->bytes_limit);
        ld_buffer_bytes(out, chunk, (size_t)got);
        if (out->failed)
            return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    }
}

enum ld_code ld_fsx_read_file(const char *path, struct ld_buffer *out, struct ld_error *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const int os_code = errno;
    if (fd < 0)
        return fail_os(err, os_code, "opening a file");
    const enum ld_code code = ld_fsx_read_fd(fd, out, err);
    (void)close(fd);
    return code;
}

enum ld_code ld_fsx_sync_dir(int dir_fd, struct ld_error *err)
{
    int failed;
    int os_code;
    do {
        failed = fsync(dir_fd);
        os_code = errno;
    } while (failed && os_code == EINTR);
    return failed ? fail_os(err, os_code, "flushing a folder") : LD_OK;
}

/* The owner of the folder is given what is made here, so it must be new: a name of his may lead to
 * what is not his. */
static int open_new(const struct ld_fsx_publish *where)
{
    enum { FLAGS = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW };
    int fd = openat(where->tmp_fd, where->tmp_name, FLAGS, where->mode);
    if (fd < 0 && errno == EEXIST && unlinkat(where->tmp_fd, where->tmp_name, 0) == 0)
        fd = openat(where->tmp_fd, where->tmp_name, FLAGS, where->mode);
    return fd;
}

static enum ld_code publish(const struct ld_fsx_publish *where, struct ld_span bytes, bool to_owner,
                            struct ld_error *err)
{
    int fd = to_owner ? open_new(where)
                      : openat(where->tmp_fd, where->tmp_name,
                               O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, where->mode);
    int os_code = errno;
    if (fd < 0)
        return fail_os(err, os_code, "creating a file");
    if (to_owner)
        ld_fsx_give_to_owner(fd, where->dir_fd);
    enum ld_code code = ld_fsx_write_all(fd, bytes, err);
    if (code != LD_OK)
        goto done;
    if (fsync(fd) != 0) {
        os_code = errno;
        code = fail_os(err, os_code, "flushing a file");
        goto done;
    }
    /* Some file systems report a failed write only here. */
    const int closed = close(fd);
    os_code = errno;
    fd = -1;
    if (closed != 0) {
        code = fail_os(err, os_code, "closing a file");
        goto done;
    }
    if (renameat(where->tmp_fd, where->tmp_name, where->dir_fd, where->name) != 0) {
        os_code = errno;
        code = fail_os(err, os_code, "renaming a file");
        goto done;
    }
    code = ld_fsx_sync_dir(where->dir_fd, err);
done:
    if (fd >= 0)
        (void)close(fd);
    if (code != LD_OK)
        (void)unlinkat(where->tmp_fd, where->tmp_name, 0);
    return code;
}

enum ld_code ld_fsx_publish(const struct ld_fsx_publish *where, struct ld_span bytes,
                            struct ld_error *err)
{
    return publish(where, bytes, false, err);
}

enum ld_code ld_fsx_publish_to_owner(const struct ld_fsx_publish *where, struct ld_span bytes,
                                     struct ld_error *err)
{
    return publish(where, bytes, true, err);
}

bool ld_fsx_is_no_right(const struct ld_error *err)
{
    return err->code == LD_E_FORBIDDEN && err->frame_count > 0 && err->frames[0].os_code == EACCES;
}
