#include "server/spool.h"

#include "config/limits.h"
#include "runtime/base/arena.h"
#include "runtime/base/clock.h"
#include "runtime/base/fsx.h"
#include "runtime/base/log.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    KEPT_BYTES_MAX = 256 << 20,
    FILES_MAX = 1024, /* far above the jobs of all workers */
    READ_BYTES = 1 << 20,
    WAIT_US = 1000 * 1000,
    WAIT_STEP_US = 5 * 1000,
    NAME_LENGTH = LD_ID_LENGTH + 1 + 16 /* id.token */
};

struct kept {
    char job_id[LD_ID_SIZE];
    uint64_t token;
    struct ld_buffer frames;
    bool ended;
    struct kept *next;
};

struct ld_spool {
    int dir_fd;           /* locked for sharing */
    pthread_mutex_t lock; /* guards what follows */
    struct kept *first;
    size_t bytes;
    bool left; /* the folder is let go */
};

/* ---- The worker's side ----------------------------------------------------------------------- */

enum ld_code ld_spool_open(struct ld_spool **out, const char *dir, struct ld_error *err)
{
    int fd = -1;
    *out = NULL;
    enum ld_code code = ld_fsx_make_dirs(dir, 0700, err);
    if (code == LD_OK)
        code = ld_fsx_open_dir(dir, &fd, err);
    if (code != LD_OK)
        return code;
    struct ld_spool *spool = ld_heap_alloc(sizeof *spool);
    if (!spool) {
        (void)close(fd);
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    }
    (void)pthread_mutex_init(&spool->lock, NULL);
    (void)flock(fd, LOCK_SH | LOCK_NB); /* without it the next front only does not wait */
    spool->dir_fd = fd;
    *out = spool;
    return LD_OK;
}

/* With the lock. The place of the job's entry, or of the end of the list. */
static struct kept **find(struct ld_spool *spool, const char *job_id, uint64_t token)
{
    struct kept **place = &spool->first;
    while (*place && ((*place)->token != token || strcmp((*place)->job_id, job_id) != 0))
        place = &(*place)->next;
    return place;
}

static void forget(struct ld_spool *spool, struct kept **place)
{
    struct kept *kept = *place;
    *place = kept->next;
    spool->bytes -= kept->frames.size;
    ld_buffer_deinit(&kept->frames);
    ld_heap_free(kept);
}

static void keep(struct ld_spool *spool, enum ld_frame_type type, const char *job_id,
                 uint64_t token, struct ld_span frame)
{
    struct kept **place = find(spool, job_id, token);
    if (!*place) {
        struct kept *fresh = ld_heap_alloc(sizeof *fresh);
        if (!fresh)
            return;
        (void)ld_fmt(fresh->job_id, sizeof fresh->job_id, "%s", job_id);
        fresh->token = token;
        fresh->frames = ld_buffer_make(KEPT_BYTES_MAX);
        *place = fresh;
    }
    struct kept *kept = *place;
    const size_t before = kept->frames.size;
    if (spool->bytes + frame.size <= KEPT_BYTES_MAX)
        ld_buffer_bytes(&kept->frames, frame.data, frame.size);
    else
        kept->frames.failed = true; /* an entry with a gap is never written */
    spool->bytes += kept->frames.size - before;
    kept->ended = type == LD_FRAME_DONE;
}

void ld_spool_keep(struct ld_spool *spool, enum ld_frame_type type, const char *job_id,
                   uint64_t token, struct ld_span frame)
{
    if (!spool || (type != LD_FRAME_IMAGE && type != LD_FRAME_DONE))
        return;
    pthread_mutex_lock(&spool->lock);
    keep(spool, type, job_id, token, frame);
    pthread_mutex_unlock(&spool->lock);
}

void ld_spool_drop(struct ld_spool *spool, const char *job_id, uint64_t token)
{
    if (!spool)
        return;
    pthread_mutex_lock(&spool->lock);
    struct kept **place = find(spool, job_id, token);
    if (*place && (*place)->ended)
        forget(spool, place);
    pthread_mutex_unlock(&spool->lock);
}

static void write_file(const struct ld_spool *spool, const struct kept *kept)
{
    char name[NAME_LENGTH + 1];
    char tmp_name[NAME_LENGTH + 5];
    struct ld_error err = {0};
    (void)ld_fmt(name, sizeof name, "%s.%016llx", kept->job_id, (unsigned long long)kept->token);
    (void)ld_fmt(tmp_name, sizeof tmp_name, "tmp.%s", name);
    const struct ld_fsx_publish where = {.tmp_fd = spool->dir_fd,
                                         .tmp_name = tmp_name,
                                         .dir_fd = spool->dir_fd,
                                         .name = name,
                                         .mode = 0600};
    if (ld_fsx_publish(&where, ld_span_of(kept->frames.data, kept->frames.size), &err) != LD_OK)
        ld_log_error(LD_LOG_WARN, "worker", "a result could not be left for the next front", &err);
}

void ld_spool_leave(struct ld_spool *spool)
{
    if (!spool)
        return;
    pthread_mutex_lock(&spool->lock);
    for (const struct kept *kept = spool->first; kept && !spool->left; kept = kept->next)
        if (kept->ended && !kept->frames.failed)
            write_file(spool, kept);
    while (spool->first)
        forget(spool, &spool->first);
    if (!spool->left)
        (void)close(spool->dir_fd);
    spool->left = true;
    pthread_mutex_unlock(&spool->lock);
}

/* ---- The front's side ------------------------------------------------------------------------ */

/* "ID.TOKEN" of a spool's file. */
static bool read_name(const char *name, char job_id[LD_ID_SIZE], uint64_t *token)
{
    *token = 0;
    if (strlen(name) != NAME_LENGTH || name[LD_ID_LENGTH] != '.')
        return false;
    memcpy(job_id, name, LD_ID_LENGTH);
    job_id[LD_ID_LENGTH] = '\0';
    for (const char *digit = name + LD_ID_LENGTH + 1; *digit; digit++) {
        static const char digits[] = "0123456789abcdef";
        const char *found = strchr(digits, *digit);
        if (!found)
            return false;
        *token = *token << 4 | (uint64_t)(found - digits);
    }
    return ld_id_valid(ld_span_text(job_id));
}

struct taking {
    void (*take)(void *ctx, const struct ld_frame *frame);
    void *ctx;
    char job_id[LD_ID_SIZE];
    uint64_t token;
};

/* The frames that are whole by now. */
static enum ld_code take_frames(struct ld_frame_reader *reader, const struct taking *taking,
                                struct ld_error *err)
{
    struct ld_frame frame;
    bool got = true;
    while (got) {
        const enum ld_code code = ld_frame_reader_next(reader, &frame, &got, err);
        if (code != LD_OK)
            return code;
        if (!got)
            break;
        if ((frame.type != LD_FRAME_IMAGE && frame.type != LD_FRAME_DONE) ||
            frame.token != taking->token || strcmp(frame.job_id, taking->job_id) != 0)
            return LD_FAIL(err, LD_E_FORMAT, "a left result holds another job's frame");
        taking->take(taking->ctx, &frame);
    }
    return LD_OK;
}

static enum ld_code take_file(int fd, const struct taking *taking, uint8_t *room,
                              struct ld_error *err)
{
    struct ld_frame_reader reader;
    enum ld_code code = LD_OK;
    ld_frame_reader_init(&reader);
    for (;;) {
        const ssize_t got = read(fd, room, READ_BYTES);
        if (got < 0)
            code = LD_FAIL(err, LD_E_IO, "a left result could not be read");
        if (got <= 0)
            break;
        if ((code = ld_frame_reader_feed(&reader, ld_span_of(room, (size_t)got), err)) != LD_OK ||
            (code = take_frames(&reader, taking, err)) != LD_OK)
            break;
    }
    ld_frame_reader_deinit(&reader);
    return code;
}

static void take_entry(int dir_fd, const char *name, struct taking *taking, uint8_t *room)
{
    struct ld_error err = {0};
    struct stat info;
    if (!read_name(name, taking->job_id, &taking->token))
        return;
    const int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) &&
        take_file(fd, taking, room, &err) != LD_OK)
        ld_log_error(LD_LOG_WARN, "supervisor", "a left result was dropped", &err);
    (void)close(fd);
}

/* Workers of before that are still ending hold the folder. */
static void wait_for_workers(int dir_fd)
{
    const int64_t until_us = ld_clock_monotonic_us() + WAIT_US;
    while (flock(dir_fd, LOCK_EX | LOCK_NB) != 0 && ld_clock_monotonic_us() < until_us)
        ld_clock_sleep_us(WAIT_STEP_US);
}

void ld_spool_take(const char *dir, void (*take)(void *ctx, const struct ld_frame *frame),
                   void *ctx)
{
    struct taking taking = {.take = take, .ctx = ctx};
    const int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return;
    wait_for_workers(dir_fd);
    uint8_t *room = ld_heap_alloc(READ_BYTES);
    DIR *entries = room ? fdopendir(dir_fd) : NULL;
    if (!entries) {
        ld_heap_free(room);
        (void)close(dir_fd);
        return;
    }
    const struct dirent *entry;
    for (int i = 0; i < FILES_MAX && (entry = readdir(entries)); i++) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        take_entry(dir_fd, entry->d_name, &taking, room);
        (void)unlinkat(dir_fd, entry->d_name, 0);
    }
    ld_heap_free(room);
    (void)closedir(entries); /* and with it the lock */
}
