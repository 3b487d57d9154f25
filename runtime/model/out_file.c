#include "runtime/model/out_file.h"

#include "runtime/base/fsx.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PATH_SIZE = 4096, FOLDER_FILES_MAX = 64 };

static enum ld_code fail(struct ld_error *err, int os_code, const char *what)
{
    return LD_FAIL_OS(err, ld_fsx_code(os_code), os_code, "%s: %s", what,
                      os_code == ENOSPC || os_code == EDQUOT ? "the disk is full"
                      : os_code == EACCES || os_code == EPERM || os_code == EROFS
                          ? "it may not be written there"
                      : os_code == ENOENT ? "there is no such folder"
                                          : "the system refused");
}

/* ---- Opening --------------------------------------------------------------------------------- */

/* Open the parent, keep the last part of the path. */
static enum ld_code place(struct ld_out_file *out, const char *path, struct ld_error *err)
{
    char parent[PATH_SIZE];
    size_t size = strlen(path);
    out->dir = out->fd = out->root = -1;
    while (size > 1 && path[size - 1] == '/')
        size--;
    size_t start = size;
    while (start > 0 && path[start - 1] != '/')
        start--;
    const int name_size = (int)(size - start);
    if (!ld_fmt(out->name, sizeof out->name, "%.*s", name_size, path + start) ||
        !ld_fmt(out->hidden, sizeof out->hidden, ".%.*s.%ld.part", name_size, path + start,
                (long)getpid()) ||
        !ld_fmt(parent, sizeof parent, "%.*s", start > 0 ? (int)start : 1, start > 0 ? path : "."))
        return LD_FAIL(err, LD_E_INVALID, "the name of the output is too long");
    if (!out->name[0] || strcmp(out->name, "/") == 0 || strcmp(out->name, ".") == 0 ||
        strcmp(out->name, "..") == 0)
        return LD_FAIL(err, LD_E_INVALID, "the output needs a file name");
    out->dir = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int os_code = errno;
    return out->dir < 0 ? fail(err, os_code, "the output cannot be created") : LD_OK;
}

/* Whether something stands at the place already. */
static enum ld_code vacant(const struct ld_out_file *out, struct ld_error *err)
{
    struct stat info;
    const bool there = fstatat(out->dir, out->name, &info, AT_SYMLINK_NOFOLLOW) == 0;
    if (there && out->replace && S_ISDIR(info.st_mode))
        return LD_FAIL(err, LD_E_CONFLICT, "the output is a folder that is there already");
    if (there && !out->replace)
        return LD_FAIL(err, LD_E_CONFLICT, "the output is there already");
    return LD_OK;
}

enum ld_code ld_out_file_open(struct ld_out_file *out, const char *path, bool replace,
                              struct ld_error *err)
{
    memset(out, 0, sizeof *out);
    out->replace = replace;
    enum ld_code code = place(out, path, err);
    if (code == LD_OK)
        code = vacant(out, err);
    if (code == LD_OK) {
        out->fd = openat(out->dir, out->hidden,
                         O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
        const int os_code = errno;
        if (out->fd < 0)
            code = fail(err, os_code, "the output cannot be created");
    }
    if (code != LD_OK && out->dir >= 0)
        (void)close(out->dir);
    return code;
}

enum ld_code ld_out_folder_open(struct ld_out_file *out, const char *path, struct ld_error *err)
{
    memset(out, 0, sizeof *out);
    enum ld_code code = place(out, path, err);
    if (code == LD_OK)
        code = vacant(out, err);
    if (code == LD_OK) {
        const bool made = mkdirat(out->dir, out->hidden, 0755) == 0;
        int os_code = errno;
        if (made) {
            out->root = openat(out->dir, out->hidden, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            os_code = errno;
        }
        if (out->root < 0)
            code = fail(err, os_code, "the output cannot be created");
    }
    if (code != LD_OK && out->dir >= 0)
        (void)close(out->dir);
    return code;
}

/* ---- Growing --------------------------------------------------------------------------------- */

/* Flush and close the file at `fd`. */
static enum ld_code finish(struct ld_out_file *out, struct ld_error *err)
{
    if (out->fd < 0)
        return LD_OK;
    int failed = fsync(out->fd);
    int os_code = errno;
    const int closed = close(out->fd); /* some file systems report a failed write only here */
    if (!failed && closed) {
        os_code = errno;
        failed = closed;
    }
    out->fd = -1;
    return failed ? fail(err, os_code, "the output cannot be written") : LD_OK;
}

enum ld_code ld_out_folder_add(struct ld_out_file *out, const char *folder, const char *name,
                               struct ld_error *err)
{
    char path[LD_OUT_NAME_SIZE];
    LD_ASSERT(out->root >= 0);
    enum ld_code code = finish(out, err);
    if (code != LD_OK)
        return code;
    if (folder[0] && mkdirat(out->root, folder, 0755) != 0) {
        const int os_code = errno;
        if (os_code != EEXIST)
            return fail(err, os_code, "the output cannot be created");
    }
    if (!ld_fmt(path, sizeof path, "%s%s%s", folder, folder[0] ? "/" : "", name))
        return LD_FAIL(err, LD_E_INVALID, "the name of the output is too long");
    out->fd = openat(out->root, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    const int os_code = errno;
    return out->fd < 0 ? fail(err, os_code, "the output cannot be created") : LD_OK;
}

enum ld_code ld_out_file_require(const struct ld_out_file *out, uint64_t bytes,
                                 struct ld_error *err)
{
    struct statvfs info;
    if (fstatvfs(out->dir, &info) != 0)
        return LD_OK; /* unknown is not full: writing will tell */
    const uint64_t left = (uint64_t)info.f_bavail * (uint64_t)info.f_frsize;
    return bytes <= left ? LD_OK
                         : LD_FAIL(err, LD_E_NOSPACE,
                                   "the output needs %llu MB and the disk has %llu MB left",
                                   (unsigned long long)((bytes + 999999) / 1000000),
                                   (unsigned long long)(left / 1000000));
}

/* ---- The end --------------------------------------------------------------------------------- */

/* What stands in one folder below `dir_fd`; folders are left for the caller. */
static void remove_entries(int dir_fd, bool folders)
{
    const int copy = dup(dir_fd);
    DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
    if (!dir && copy >= 0)
        (void)close(copy);
    if (dir)
        rewinddir(dir);
    for (int i = 0; dir && i < FOLDER_FILES_MAX; i++) {
        const struct dirent *entry = readdir(dir);
        if (!entry)
            break;
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)unlinkat(dir_fd, entry->d_name, folders ? AT_REMOVEDIR : 0);
    }
    if (dir)
        (void)closedir(dir);
}

static void remove_folder(const struct ld_out_file *out)
{
    static const char *const parts[] = {"unet", "vae", "text_encoder", "scheduler", "tokenizer"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const int fd = openat(out->root, parts[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            continue;
        remove_entries(fd, false);
        (void)close(fd);
    }
    remove_entries(out->root, false);
    remove_entries(out->root, true);
    (void)unlinkat(out->dir, out->hidden, AT_REMOVEDIR);
}

static void close_all(struct ld_out_file *out)
{
    if (out->fd >= 0)
        (void)close(out->fd);
    if (out->root >= 0)
        (void)close(out->root);
    if (out->dir >= 0)
        (void)close(out->dir);
    out->fd = out->root = out->dir = -1;
}

void ld_out_file_discard(struct ld_out_file *out)
{
    if (out->root >= 0)
        remove_folder(out);
    else if (out->dir >= 0)
        (void)unlinkat(out->dir, out->hidden, 0);
    close_all(out);
}

/* Rename without replacing, where the file system can; the place was vacant at the start. */
static int rename_in_place(const struct ld_out_file *out)
{
    if (out->replace)
        return renameat(out->dir, out->hidden, out->dir, out->name);
    const long done =
        syscall(SYS_renameat2, out->dir, out->hidden, out->dir, out->name, RENAME_NOREPLACE);
    if (done == 0 || (errno != EINVAL && errno != ENOSYS))
        return (int)done;
    return renameat(out->dir, out->hidden, out->dir, out->name);
}

enum ld_code ld_out_file_commit(struct ld_out_file *out, struct ld_error *err)
{
    enum ld_code code = finish(out, err);
    if (code == LD_OK && out->root >= 0)
        code = ld_fsx_sync_dir(out->root, err);
    if (code == LD_OK && rename_in_place(out) != 0) {
        const int os_code = errno;
        code = os_code == EEXIST ? LD_FAIL(err, LD_E_CONFLICT, "the output is there already")
                                 : fail(err, os_code, "the output cannot be put in place");
    }
    if (code != LD_OK) {
        ld_out_file_discard(out);
        return code;
    }
    code = ld_fsx_sync_dir(out->dir, err);
    close_all(out);
    return code;
}
