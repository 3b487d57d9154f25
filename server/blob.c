#include "server/blob.h"

#include "runtime/base/arena.h"
#include "runtime/base/fsx.h"
#include "runtime/image/picture_kind.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    NAME_SIZE = 2 + 1 + 64 + 5 + 1, /* "aa/<sha256>.webp" */
    SWEEP_FILES_MAX = 1000000
};

/* A published file that may not be in the store yet. */
struct hold {
    char sha256[LD_SHA256_HEX_SIZE];
    uint32_t count;
    struct hold *next;
};

struct ld_blobs {
    int dir_fd;
    int tmp_fd;
    ld_blob_referenced referenced;
    void *ctx;
    pthread_mutex_t lock; /* guards `holds` and makes look-then-remove one step */
    struct hold *holds;
};

static bool hash_valid(const char *sha256)
{
    if (strlen(sha256) != LD_SHA256_HEX_SIZE - 1)
        return false;
    for (const char *c = sha256; *c; c++) {
        if (!((*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'f')))
            return false;
    }
    return true;
}

static void name_of(const char *sha256, enum ld_picture_kind kind, char name[NAME_SIZE])
{
    (void)ld_fmt(name, NAME_SIZE, "%.2s/%s%s", sha256, sha256, ld_picture_kind_ending(kind));
}

/* "00" to "ff": made and flushed once, so that publishing never has to. */
static enum ld_code make_shelves(struct ld_blobs *blobs, struct ld_error *err)
{
    bool made = false;
    for (unsigned i = 0; i < 256; i++) {
        char shelf[3];
        (void)ld_fmt(shelf, sizeof shelf, "%02x", i);
        const int failed = mkdirat(blobs->dir_fd, shelf, 0700);
        const int os_code = errno;
        if (failed && os_code != EEXIST)
            return LD_FAIL_OS(err, ld_fsx_code(os_code), os_code,
                              "the folder of pictures cannot be written");
        made = made || !failed;
    }
    return made ? ld_fsx_sync_dir(blobs->dir_fd, err) : LD_OK;
}

/* ---- Opening --------------------------------------------------------------------------------- */

enum ld_code ld_blobs_open(struct ld_blobs **out, const char *dir, ld_blob_referenced referenced,
                           void *ctx, struct ld_error *err)
{
    char path[4096];
    enum ld_code code;
    struct ld_blobs *blobs = ld_heap_alloc(sizeof *blobs);
    *out = NULL;
    if (!blobs)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    blobs->dir_fd = blobs->tmp_fd = -1;
    blobs->referenced = referenced;
    blobs->ctx = ctx;
    (void)pthread_mutex_init(&blobs->lock, NULL);
    if (!ld_fmt(path, sizeof path, "%s/tmp", dir))
        code = LD_FAIL(err, LD_E_INVALID, "the path of the picture folder is too long");
    else if ((code = ld_fsx_make_dirs(path, 0700, err)) == LD_OK &&
             (code = ld_fsx_open_dir(path, &blobs->tmp_fd, err)) == LD_OK)
        code = ld_fsx_open_dir(dir, &blobs->dir_fd, err);
    if (code == LD_OK)
        code = make_shelves(blobs, err);
    if (code != LD_OK)
        ld_blobs_close(blobs);
    else
        *out = blobs;
    return code;
}

void ld_blobs_close(struct ld_blobs *blobs)
{
    if (!blobs)
        return;
    while (blobs->holds) {
        struct hold *next = blobs->holds->next;
        ld_heap_free(blobs->holds);
        blobs->holds = next;
    }
    if (blobs->tmp_fd >= 0)
        (void)close(blobs->tmp_fd);
    if (blobs->dir_fd >= 0)
        (void)close(blobs->dir_fd);
    (void)pthread_mutex_destroy(&blobs->lock);
    ld_heap_free(blobs);
}

/* ---- Holding --------------------------------------------------------------------------------- */

/* With the lock. */
static struct hold **find_hold(struct ld_blobs *blobs, const char *sha256)
{
    struct hold **place = &blobs->holds;
    while (*place && strcmp((*place)->sha256, sha256) != 0)
        place = &(*place)->next;
    return place;
}

static enum ld_code take_hold(struct ld_blobs *blobs, const char *sha256, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    pthread_mutex_lock(&blobs->lock);
    struct hold **place = find_hold(blobs, sha256);
    if (!*place && (*place = ld_heap_alloc(sizeof **place)) != NULL)
        (void)ld_fmt((*place)->sha256, sizeof(*place)->sha256, "%s", sha256);
    if (*place)
        (*place)->count++;
    else
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory");
    pthread_mutex_unlock(&blobs->lock);
    return code;
}

void ld_blob_let_go(struct ld_blobs *blobs, const char *sha256)
{
    pthread_mutex_lock(&blobs->lock);
    struct hold **place = find_hold(blobs, sha256);
    LD_ASSERT(*place != NULL);
    if (--(*place)->count == 0) {
        struct hold *gone = *place;
        *place = gone->next;
        ld_heap_free(gone);
    }
    pthread_mutex_unlock(&blobs->lock);
}

/* ---- Publishing and reading ------------------------------------------------------------------ */

static enum ld_code open_shelf(struct ld_blobs *blobs, const char *sha256, int *fd,
                               struct ld_error *err)
{
    const char shelf[3] = {sha256[0], sha256[1], '\0'};
    *fd = openat(blobs->dir_fd, shelf, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    const int os_code = errno;
    return *fd >= 0
               ? LD_OK
               : LD_FAIL_OS(err, ld_fsx_code(os_code), os_code, "a picture could not be stored");
}

/* Under any ending. */
static bool exists_with_size(const struct ld_blobs *blobs, const char *sha256, size_t size)
{
    for (int kind = 0; kind < LD_PICTURE_KINDS; kind++) {
        char name[NAME_SIZE];
        struct stat info;
        name_of(sha256, (enum ld_picture_kind)kind, name);
        if (fstatat(blobs->dir_fd, name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(info.st_mode) && info.st_size >= 0 && (size_t)info.st_size == size)
            return true;
    }
    return false;
}

enum ld_code ld_blob_publish(struct ld_blobs *blobs, struct ld_span bytes,
                             char sha256[LD_SHA256_HEX_SIZE], struct ld_error *err)
{
    char name[NAME_SIZE];
    char tmp_name[LD_ID_SIZE];
    int shelf_fd = -1;
    ld_sha256_hex(bytes, sha256);
    name_of(sha256, ld_picture_kind_of(bytes), name);
    enum ld_code code = take_hold(blobs, sha256, err);
    if (code != LD_OK)
        return code;
    /* A final name was renamed into place after its flush: what is there is whole. */
    if (exists_with_size(blobs, sha256, bytes.size))
        return LD_OK;
    code = open_shelf(blobs, sha256, &shelf_fd, err);
    if (code == LD_OK) {
        ld_id_make(tmp_name);
        const struct ld_fsx_publish where = {blobs->tmp_fd, tmp_name, shelf_fd, name + 3, 0600};
        code = ld_fsx_publish(&where, bytes, err);
        (void)close(shelf_fd);
    }
    if (code != LD_OK)
        ld_blob_let_go(blobs, sha256);
    return code;
}

enum ld_code ld_blob_open(struct ld_blobs *blobs, const char *sha256, int *fd, uint64_t *bytes,
                          struct ld_error *err)
{
    char name[NAME_SIZE];
    struct stat info;
    *fd = -1;
    if (!hash_valid(sha256))
        return LD_FAIL(err, LD_E_INVALID, "not the hash of a picture");
    enum ld_code code = LD_E_NOT_FOUND;
    for (int kind = 0; kind < LD_PICTURE_KINDS && code == LD_E_NOT_FOUND; kind++) {
        name_of(sha256, (enum ld_picture_kind)kind, name);
        code = ld_fsx_open_beneath(blobs->dir_fd, name, fd, err);
    }
    if (code != LD_OK)
        return code;
    if (fstat(*fd, &info) != 0 || info.st_size < 0) {
        (void)close(*fd);
        *fd = -1;
        return LD_FAIL(err, LD_E_IO, "a picture could not be read");
    }
    *bytes = (uint64_t)info.st_size;
    return LD_OK;
}

enum ld_code ld_blob_read(struct ld_blobs *blobs, const char *sha256, struct ld_buffer *out,
                          struct ld_error *err)
{
    int fd;
    uint64_t bytes;
    enum ld_code code = ld_blob_open(blobs, sha256, &fd, &bytes, err);
    if (code != LD_OK)
        return code;
    code = ld_fsx_read_fd(fd, out, err);
    (void)close(fd);
    return code;
}

void ld_blob_remove(struct ld_blobs *blobs, const char *sha256)
{
    if (!hash_valid(sha256))
        return;
    pthread_mutex_lock(&blobs->lock);
    if (!*find_hold(blobs, sha256) && !blobs->referenced(blobs->ctx, sha256)) {
        for (int kind = 0; kind < LD_PICTURE_KINDS; kind++) {
            char name[NAME_SIZE];
            name_of(sha256, (enum ld_picture_kind)kind, name);
            (void)unlinkat(blobs->dir_fd, name, 0);
        }
    }
    pthread_mutex_unlock(&blobs->lock);
}

/* ---- Sweeping -------------------------------------------------------------------------------- */

static bool older_than(int dir_fd, const char *name, int64_t before_us)
{
    struct stat info;
    if (fstatat(dir_fd, name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(info.st_mode))
        return false;
    return (int64_t)info.st_mtim.tv_sec * 1000000 + info.st_mtim.tv_nsec / 1000 < before_us;
}

/* Calls `visit` for each old regular file of a folder; returns how many it removed. */
static uint32_t sweep_folder(struct ld_blobs *blobs, int folder_fd, int64_t before_us,
                             bool (*visit)(struct ld_blobs *, int, const char *))
{
    uint32_t removed = 0;
    const int copy = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = copy >= 0 ? fdopendir(copy) : NULL;
    if (!folder) {
        if (copy >= 0)
            (void)close(copy);
        return 0;
    }
    const struct dirent *entry;
    for (uint32_t seen = 0; seen < SWEEP_FILES_MAX && (entry = readdir(folder)); seen++) {
        if (entry->d_name[0] != '.' && older_than(folder_fd, entry->d_name, before_us) &&
            visit(blobs, folder_fd, entry->d_name))
            removed++;
    }
    (void)closedir(folder);
    return removed;
}

static bool sweep_temporary(struct ld_blobs *blobs, int folder_fd, const char *name)
{
    (void)blobs;
    return unlinkat(folder_fd, name, 0) == 0;
}

static bool sweep_blob(struct ld_blobs *blobs, int folder_fd, const char *name)
{
    char sha256[LD_SHA256_HEX_SIZE];
    bool ours = false;
    for (int kind = 0; kind < LD_PICTURE_KINDS && strlen(name) > 64; kind++)
        ours = ours || strcmp(name + 64, ld_picture_kind_ending((enum ld_picture_kind)kind)) == 0;
    if (!ours)
        return false;
    (void)ld_fmt(sha256, sizeof sha256, "%.64s", name);
    if (!hash_valid(sha256))
        return false;
    ld_blob_remove(blobs, sha256);
    return faccessat(folder_fd, name, F_OK, 0) != 0;
}

uint32_t ld_blobs_sweep(struct ld_blobs *blobs, int64_t before_us)
{
    static const char digits[] = "0123456789abcdef";
    uint32_t removed = sweep_folder(blobs, blobs->tmp_fd, before_us, sweep_temporary);
    for (unsigned i = 0; i < 256; i++) {
        const char shelf[3] = {digits[i >> 4], digits[i & 15], '\0'};
        const int fd =
            openat(blobs->dir_fd, shelf, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
            continue;
        removed += sweep_folder(blobs, fd, before_us, sweep_blob);
        (void)close(fd);
    }
    return removed;
}

uint64_t ld_blobs_disk_free(const struct ld_blobs *blobs)
{
    struct statvfs info;
    if (fstatvfs(blobs->dir_fd, &info) != 0)
        return 0;
    return (uint64_t)info.f_bavail * (uint64_t)info.f_frsize;
}
