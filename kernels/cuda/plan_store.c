#include "kernels/cuda/plan_store.h"

#include "runtime/base/fsx.h"
#include "runtime/base/id.h"
#include "runtime/base/log.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FIRST_LINE "latentd-plan 1\n"

static const char prefix[] = "plan-";
static const char temporary_prefix[] = ".plan-";

enum {
    FILE_MODE = 0600,
    FOLDER_MODE = 0755,
    HEAD_SIZE = sizeof FIRST_LINE - 1 + 27, /* three numbers of eight digits */
    TEMPORARY_SIZE = LDK_PLAN_FILE_NAME_SIZE + 32,
    LOOKED_AT_MAX = 4 * LDK_PLAN_FILES_MAX, /* entries of a folder; with more it is not ours */
    REMOVED_MAX = 64,                       /* by one write */
    ABANDONED_S = 3600 /* a temporary file so old belongs to a process that died */
};

void ldk_plan_store_init(struct ldk_plan_store *store, const char *folder)
{
    memset(store, 0, sizeof *store);
    if (!ld_fmt(store->folder, sizeof store->folder, "%s/plans", folder))
        store->folder[0] = '\0';
}

void ldk_plan_store_file_name(const char *key, char out[LDK_PLAN_FILE_NAME_SIZE])
{
    char hex[LD_SHA256_HEX_SIZE];
    ld_sha256_hex(ld_span_text(key), hex);
    LD_ASSERT(ld_fmt(out, LDK_PLAN_FILE_NAME_SIZE, "%s%.32s.bin", prefix, hex));
}

/* What stands before the key; the same bytes for the same key and plan. */
static void print_head(const char *key, struct ld_span plan, char out[HEAD_SIZE + 1])
{
    const struct ld_span name = ld_span_text(key);
    const uint32_t crc = ld_crc32c(ld_crc32c(0, name), plan);
    LD_ASSERT(ld_fmt(out, HEAD_SIZE + 1, FIRST_LINE "%08x %08x %08x\n", crc, (unsigned)name.size,
                     (unsigned)plan.size));
}

/* ---- Reading --------------------------------------------------------------------------------- */

/* Nobody but its owner has written it, who could as well have replaced this program. */
static bool is_trusted(int fd)
{
    struct stat info;
    return fstat(fd, &info) == 0 && (info.st_uid == geteuid() || info.st_uid == 0) &&
           (info.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* The plan in a file's bytes, which are compared with what would be written for it. */
static bool take_plan(struct ld_span file, const char *key, struct ld_span *plan)
{
    char head[HEAD_SIZE + 1];
    const size_t before = HEAD_SIZE + strlen(key);
    if (file.size <= before || file.size - before > LDK_PLAN_BYTES_MAX ||
        memcmp(file.data + HEAD_SIZE, key, strlen(key)) != 0)
        return false;
    *plan = ld_span_of(file.data + before, file.size - before);
    print_head(key, *plan, head);
    return memcmp(file.data, head, HEAD_SIZE) == 0;
}

bool ldk_plan_store_read(struct ldk_plan_store *store, const char *key, struct ld_buffer *file,
                         struct ld_span *plan)
{
    char name[LDK_PLAN_FILE_NAME_SIZE];
    struct ld_error why = {0};
    int dir = -1;
    int fd = -1;
    LD_ASSERT(strlen(key) < LDK_PLAN_KEY_SIZE);
    if (!store->folder[0])
        return false;
    ldk_plan_store_file_name(key, name);
    enum ld_code code = ld_fsx_open_dir(store->folder, &dir, &why);
    if (code == LD_OK)
        code = ld_fsx_open_beneath(dir, name, &fd, &why);
    if (code == LD_OK && !is_trusted(fd))
        code = LD_FAIL(&why, LD_E_FORBIDDEN, "others may have written it");
    if (code == LD_OK)
        code = ld_fsx_read_fd(fd, file, &why);
    if (code == LD_OK && !take_plan(ld_span_of(file->data, file->size), key, plan))
        code = LD_FAIL(&why, LD_E_FORMAT, "it is damaged or of another plan");
    if (code == LD_OK) {
        (void)futimens(fd, NULL); /* a read-only folder keeps its order */
    } else if (code != LD_E_NOT_FOUND && !store->told) {
        store->told = true;
        if (ld_fsx_is_no_right(&why))
            LD_LOG(LD_LOG_INFO, "tune",
                   "kept plans that this user may not read are compiled again; "
                   "they are its own after `latentd bench step --tune` as this user",
                   ld_log_text("file", name));
        else
            LD_LOG(LD_LOG_WARN, "tune", "a kept plan is not used", ld_log_text("file", name),
                   ld_log_text("why", why.detail));
    }
    if (fd >= 0)
        (void)close(fd);
    if (dir >= 0)
        (void)close(dir);
    return code == LD_OK;
}

/* ---- Making room ----------------------------------------------------------------------------- */

struct contents {
    uint32_t files;
    uint64_t bytes;
    struct timespec oldest_time;
    char oldest[LDK_PLAN_FILE_NAME_SIZE]; /* "": there is none */
};

static bool starts_with(const char *name, const char *start)
{
    return strncmp(name, start, strlen(start)) == 0;
}

static bool before(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

static void count_file(struct contents *in, const char *name, const struct stat *info)
{
    in->files++;
    in->bytes += (uint64_t)info->st_size;
    if (strlen(name) < sizeof in->oldest &&
        (!in->oldest[0] || before(&info->st_mtim, &in->oldest_time))) {
        (void)ld_fmt(in->oldest, sizeof in->oldest, "%s", name);
        in->oldest_time = info->st_mtim;
    }
}

/* All plans but `except`, by names and attributes alone. False for a folder that cannot be seen
 * as a whole. */
static bool look(const char *folder, const char *except, struct contents *out)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry = NULL;
    const time_t now = time(NULL);
    memset(out, 0, sizeof *out);
    for (int i = 0; dir && i < LOOKED_AT_MAX && (entry = readdir(dir)) != NULL; i++) {
        const bool temporary = starts_with(entry->d_name, temporary_prefix);
        struct stat info;
        if ((!temporary && !starts_with(entry->d_name, prefix)) ||
            strcmp(entry->d_name, except) == 0 ||
            fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (!temporary)
            count_file(out, entry->d_name, &info);
        else if (info.st_mtim.tv_sec < now - ABANDONED_S)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    const bool whole = dir && !entry;
    if (dir)
        (void)closedir(dir);
    return whole;
}

/* Is there room for a file `name` of `bytes`? The oldest others go until there is. */
static bool make_room(int dir, const char *folder, const char *name, size_t bytes)
{
    struct contents in;
    for (int i = 0; i <= REMOVED_MAX && look(folder, name, &in); i++) {
        if (in.files < LDK_PLAN_FILES_MAX && in.bytes + bytes <= LDK_PLAN_FOLDER_BYTES_MAX)
            return true;
        if (!in.oldest[0] || unlinkat(dir, in.oldest, 0) != 0)
            return false;
    }
    return false;
}

/* ---- Writing --------------------------------------------------------------------------------- */

static enum ld_code publish(const struct ldk_plan_store *store, int dir, const char *key,
                            struct ld_span bytes, struct ld_error *err)
{
    char name[LDK_PLAN_FILE_NAME_SIZE];
    char temporary[TEMPORARY_SIZE];
    char unique[LD_ID_SIZE];
    ldk_plan_store_file_name(key, name);
    if (!make_room(dir, store->folder, name, bytes.size))
        return LD_FAIL(err, LD_E_NOSPACE, "the folder of plans has no room");
    /* Two may write one plan at once; each has a name of its own, the later one stays. */
    ld_id_make(unique);
    LD_ASSERT(ld_fmt(temporary, sizeof temporary, ".%s.%s", name, unique));
    const struct ld_fsx_publish where = {
        .tmp_fd = dir, .tmp_name = temporary, .dir_fd = dir, .name = name, .mode = FILE_MODE};
    return ld_fsx_publish_to_owner(&where, bytes, err);
}

void ldk_plan_store_write(struct ldk_plan_store *store, const char *key, struct ld_span plan)
{
    char head[HEAD_SIZE + 1];
    struct ld_error err = {0};
    struct ld_buffer file = ld_buffer_make(LDK_PLAN_FILE_BYTES_MAX);
    int dir = -1;
    LD_ASSERT(strlen(key) < LDK_PLAN_KEY_SIZE);
    if (!store->folder[0] || store->closed || plan.size == 0 || plan.size > LDK_PLAN_BYTES_MAX)
        return;
    print_head(key, plan, head);
    ld_buffer_bytes(&file, head, HEAD_SIZE);
    ld_buffer_text(&file, key);
    ld_buffer_bytes(&file, plan.data, plan.size);
    enum ld_code code = ld_fsx_make_dirs_to_owner(store->folder, FOLDER_MODE, &err);
    if (code == LD_OK)
        code = ld_fsx_open_dir(store->folder, &dir, &err);
    if (code == LD_OK && file.failed)
        code = LD_FAIL(&err, LD_E_NOMEM, "not enough memory for a plan's file");
    if (code == LD_OK)
        code = publish(store, dir, key, ld_span_of(file.data, file.size), &err);
    store->closed = code != LD_OK;
    if (code != LD_OK)
        ld_log_error(LD_LOG_WARN, "tune", "compiled plans are not kept", &err);
    if (dir >= 0)
        (void)close(dir);
    ld_buffer_deinit(&file);
}
