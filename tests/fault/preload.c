/*
 * What a disk, a memory and a clock may do, between a program and the C library: loaded with
 * LD_PRELOAD and steered by a control page that the test maps too (shim.py has the same layout).
 *
 *   - The n-th call of the chosen kinds on a file below FAULT_DIR, or the n-th allocation, or the
 *     n-th thread, process, pipe or the like that is made, fails, once or from then on, in the one
 *     process that `pid` names or, where it is -1, in all.
 *   - CLOCK_REALTIME is turned by `clock_us`, in all processes; the monotonic clock never is.
 *   - With FAULT_LOG every change below FAULT_DIR is written there, in order, for power.py.
 */
#define _GNU_SOURCE
#define _LARGEFILE64_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { OPEN = 1, WRITE = 2, SYNC = 4, NAME = 8, READ = 16, ALLOC = 32, MAKE = 64 };

struct control {
    _Atomic int32_t pid, kinds;
    _Atomic int64_t count, fail_at; /* fail_at 0: only count */
    _Atomic int32_t forever, error, short_count, unused;
    _Atomic int64_t injected, clock_us;
};

static struct control nothing;
static struct control *control = &nothing;
static char folder[512];
static size_t folder_size;
static int log_fd = -1;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void start(void)
{
    const char *page = getenv("FAULT_CONTROL");
    const char *dir = getenv("FAULT_DIR");
    const char *log = getenv("FAULT_LOG");
    const int fd = page ? (int)syscall(SYS_openat, AT_FDCWD, page, O_RDWR | O_CLOEXEC) : -1;
    void *mapped =
        fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        (void)syscall(SYS_close, fd);
    if (dir && strlen(dir) < sizeof folder) {
        folder_size = strlen(dir);
        memcpy(folder, dir, folder_size + 1);
    }
    if (log && strstr(log, "/")) /* above 100: the descriptors that a program expects stay free */
        log_fd = fcntl((int)syscall(SYS_openat, AT_FDCWD, log,
                                    O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600),
                       F_DUPFD_CLOEXEC, 200);
    if (mapped != MAP_FAILED)
        control = mapped;
}

/* ---- Which call ------------------------------------------------------------------------------ */

static bool is_ours(const char *path)
{
    return folder_size > 0 && path && strncmp(path, folder, folder_size) == 0;
}

static bool fd_path(int fd, char out[1024])
{
    char link[64];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t size = readlink(link, out, 1023);
    out[size > 0 ? size : 0] = '\0';
    return is_ours(out);
}

/* The absolute form of a path below a descriptor. */
static bool at_path(int dir, const char *path, char out[1024])
{
    char base[1024] = "";
    if (path[0] == '/' || dir == AT_FDCWD)
        return snprintf(out, 1024, "%s", path) < 1024 && is_ours(out);
    (void)fd_path(dir, base);
    return snprintf(out, 1024, "%s/%s", base, path) < 1024 && is_ours(out);
}

static bool armed(int kind)
{
    const int32_t pid = atomic_load(&control->pid);
    return (atomic_load(&control->kinds) & kind) && (pid == -1 || pid == getpid());
}

/* True when this call is the one (or one of those) to fail; errno is set. */
static bool fails(int kind)
{
    if (!armed(kind))
        return false;
    const int64_t n = atomic_fetch_add(&control->count, 1) + 1;
    const int64_t at = atomic_load(&control->fail_at);
    if (at == 0 || (atomic_load(&control->forever) ? n < at : n != at))
        return false;
    atomic_fetch_add(&control->injected, 1);
    errno = atomic_load(&control->error);
    return true;
}

/* ---- The journal of changes: "TIME_US OP SIZE OFFSET PATH\0[PATH\0]" and SIZE bytes ---------- */

static void note(char op, int64_t offset, const char *path, const char *second, const void *data,
                 size_t size)
{
    char head[2400];
    struct timespec now;
    if (log_fd < 0)
        return;
    (void)syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    const int length = snprintf(head, sizeof head, "%lld %c %zu %lld %s%c%s",
                                (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000, op, size,
                                (long long)offset, path, '\0', second ? second : "");
    if (length < 0 || (size_t)length >= sizeof head)
        abort();
    pthread_mutex_lock(&log_lock);
    (void)syscall(SYS_write, log_fd, head, (size_t)length + 1);
    for (size_t done = 0; done < size;) {
        const long got = syscall(SYS_write, log_fd, (const char *)data + done, size - done);
        if (got <= 0)
            abort();
        done += (size_t)got;
    }
    pthread_mutex_unlock(&log_lock);
}

/* ---- Files ----------------------------------------------------------------------------------- */

static int do_open(int dir, const char *path, int flags, mode_t mode)
{
    char whole[1024];
    struct stat before;
    const bool ours = at_path(dir, path, whole);
    if (ours && fails(OPEN))
        return -1;
    const bool made = ours && log_fd >= 0 && (flags & O_CREAT) && !(flags & __O_TMPFILE) &&
                      stat(whole, &before) != 0;
    const int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
    if (fd >= 0 && ours && made)
        note('c', 0, whole, NULL, NULL, 0);
    if (fd >= 0 && ours && (flags & O_TRUNC))
        note('t', 0, whole, NULL, NULL, 0);
    return fd;
}

#define OPEN_FORM(name, first, dir)                                                                \
    int name(first const char *path, int flags, ...)                                               \
    {                                                                                              \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        const mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;            \
        va_end(more);                                                                              \
        return do_open(dir, path, flags, mode);                                                    \
    }
#define NO_DIR
#define WITH_DIR int dir,
OPEN_FORM(open, NO_DIR, AT_FDCWD)
OPEN_FORM(open64, NO_DIR, AT_FDCWD)
OPEN_FORM(openat, WITH_DIR, dir)
OPEN_FORM(openat64, WITH_DIR, dir)

static ssize_t do_write(int fd, const void *data, size_t size, off64_t offset)
{
    char path[1024];
    const bool ours = (armed(WRITE) || log_fd >= 0) && fd_path(fd, path);
    if (ours && fails(WRITE)) {
        if (!atomic_load(&control->short_count) || size < 2)
            return -1;
        size /= 2;
    }
    const off64_t at = offset >= 0 || !ours ? offset : syscall(SYS_lseek, fd, 0, SEEK_CUR);
    const ssize_t done = offset >= 0 ? syscall(SYS_pwrite64, fd, data, size, offset)
                                     : syscall(SYS_write, fd, data, size);
    if (ours && done > 0)
        note('w', at, path, NULL, data, (size_t)done);
    return done;
}

ssize_t write(int fd, const void *data, size_t size)
{
    return do_write(fd, data, size, -1);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return do_write(fd, data, size, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    return do_write(fd, data, size, offset);
}

static ssize_t do_read(int fd, void *data, size_t size, off64_t offset)
{
    char path[1024];
    if (armed(READ) && fd_path(fd, path) && fails(READ)) {
        if (!atomic_load(&control->short_count) || size < 2)
            return -1;
        size /= 2;
    }
    return offset >= 0 ? syscall(SYS_pread64, fd, data, size, offset)
                       : syscall(SYS_read, fd, data, size);
}
ssize_t read(int fd, void *data, size_t size)
{
    return do_read(fd, data, size, -1);
}
ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
    return do_read(fd, data, size, offset);
}
ssize_t pread64(int fd, void *data, size_t size, off64_t offset)
{
    return do_read(fd, data, size, offset);
}

static int do_sync(int fd, long number)
{
    char path[1024];
    const bool ours = (armed(SYNC) || log_fd >= 0) && fd_path(fd, path);
    if (ours && fails(SYNC))
        return -1;
    const int failed = (int)syscall(number, fd);
    if (ours && failed == 0)
        note('s', 0, path, NULL, NULL, 0);
    return failed;
}
int fsync(int fd)
{
    return do_sync(fd, SYS_fsync);
}
int fdatasync(int fd)
{
    return do_sync(fd, SYS_fdatasync);
}

int ftruncate64(int fd, off64_t size)
{
    char path[1024];
    const bool ours = (armed(NAME) || log_fd >= 0) && fd_path(fd, path);
    if (ours && fails(NAME))
        return -1;
    const int failed = (int)syscall(SYS_ftruncate, fd, size);
    if (ours && failed == 0)
        note('t', size, path, NULL, NULL, 0);
    return failed;
}
int ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    char whole[1024];
    char target[1024];
    const bool ours = at_path(from_dir, from, whole);
    if (ours && fails(NAME))
        return -1;
    const int failed = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, 0);
    if (ours && failed == 0) {
        (void)at_path(to_dir, to, target);
        note('r', 0, whole, target, NULL, 0);
    }
    return failed;
}
int rename(const char *from, const char *to)
{
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int unlinkat(int dir, const char *path, int flags)
{
    char whole[1024];
    const bool ours = at_path(dir, path, whole);
    if (ours && fails(NAME))
        return -1;
    const int failed = (int)syscall(SYS_unlinkat, dir, path, flags);
    if (ours && failed == 0)
        note('u', 0, whole, NULL, NULL, 0);
    return failed;
}
int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
    char whole[1024];
    const bool ours = at_path(dir, path, whole);
    if (ours && fails(NAME))
        return -1;
    const int failed = (int)syscall(SYS_mkdirat, dir, path, mode);
    if (ours && failed == 0)
        note('m', 0, whole, NULL, NULL, 0);
    return failed;
}
int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *object, size_t size);

static bool no_memory(void)
{
    if (!fails(ALLOC))
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return no_memory() ? NULL : __libc_malloc(size);
}
void *calloc(size_t count, size_t size)
{
    return no_memory() ? NULL : __libc_calloc(count, size);
}
void *realloc(void *object, size_t size)
{
    return no_memory() ? NULL : __libc_realloc(object, size);
}

/* ---- Threads, processes and what joins them -------------------------------------------------- */

/* The C library's own function of that name. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attributes,
                   void *(*run)(void *), void *restrict arg)
{
    return fails(MAKE) ? EAGAIN : NEXT(pthread_create)(thread, attributes, run, arg);
}
pid_t fork(void)
{
    return fails(MAKE) ? -1 : NEXT(fork)();
}
int posix_spawn(pid_t *restrict pid, const char *restrict path,
                const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *restrict attributes, char *const argv[], char *const env[])
{
    return fails(MAKE) ? EAGAIN : NEXT(posix_spawn)(pid, path, actions, attributes, argv, env);
}
int pipe(int ends[2])
{
    return fails(MAKE) ? -1 : NEXT(pipe)(ends);
}
int pipe2(int ends[2], int flags)
{
    return fails(MAKE) ? -1 : NEXT(pipe2)(ends, flags);
}
int socketpair(int domain, int type, int protocol, int ends[2])
{
    return fails(MAKE) ? -1 : NEXT(socketpair)(domain, type, protocol, ends);
}
int eventfd(unsigned int value, int flags)
{
    return fails(MAKE) ? -1 : NEXT(eventfd)(value, flags);
}
int epoll_create1(int flags)
{
    return fails(MAKE) ? -1 : NEXT(epoll_create1)(flags);
}

/* ---- The clock ------------------------------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *out)
{
    const int failed = (int)syscall(SYS_clock_gettime, clock, out);
    if (failed == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        const int64_t turned = (int64_t)out->tv_sec * 1000000000 + out->tv_nsec +
                               atomic_load(&control->clock_us) * 1000;
        out->tv_sec = (time_t)(turned / 1000000000);
        out->tv_nsec = (long)(turned % 1000000000);
    }
    return failed;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return (time_t)-1;
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}
