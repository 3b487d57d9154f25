#include "kernels/cuda/device_lock.h"

#include "runtime/base/bytes.h"
#include "runtime/base/fsx.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { FILE_MODE = 0600, FOLDER_MODE = 0755, WAIT_MS = 1000, STEP_MS = 2 };

void ldk_device_lock_init(struct ldk_device_lock *lock, const char *folder,
                          const uint8_t uuid[LDK_UUID_BYTES], bool makes)
{
    char hex[2 * LDK_UUID_BYTES + 1];
    *lock = (struct ldk_device_lock){.fd = -1, .makes = makes};
    for (int i = 0; i < LDK_UUID_BYTES; i++)
        (void)ld_fmt(hex + 2 * i, 3, "%02x", (unsigned)uuid[i]);
    if (!folder || !folder[0] ||
        !ld_fmt(lock->path, sizeof lock->path, "%s/gpu-%s.lock", folder, hex))
        lock->path[0] = '\0';
}

void ldk_device_lock_deinit(struct ldk_device_lock *lock)
{
    if (lock->fd >= 0)
        (void)close(lock->fd);
    lock->fd = -1;
}

/* The folder may be made by another process later, so this is tried again. */
static bool open_file(struct ldk_device_lock *lock)
{
    enum { FLAGS = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK };
    struct ld_error ignored = {0};
    int dir = -1;
    if (lock->fd >= 0 || !lock->path[0])
        return lock->fd >= 0;
    char *name = strrchr(lock->path, '/');
    *name = '\0';
    if (!lock->makes || ld_fsx_make_dirs_to_owner(lock->path, FOLDER_MODE, &ignored) == LD_OK)
        (void)!ld_fsx_open_dir(lock->path, &dir, &ignored);
    *name++ = '/';
    if (dir < 0)
        return false;
    lock->fd = openat(dir, name, FLAGS | O_CREAT | O_EXCL, FILE_MODE);
    if (lock->fd >= 0)
        ld_fsx_give_to_owner(lock->fd, dir);
    else
        lock->fd = openat(dir, name, FLAGS);
    (void)close(dir);
    return lock->fd >= 0;
}

void ldk_device_lock_share(struct ldk_device_lock *lock)
{
    const struct timespec step = {.tv_nsec = STEP_MS * 1000000L};
    if (!open_file(lock))
        return;
    bool shared = flock(lock->fd, LOCK_SH | LOCK_NB) == 0;
    for (int ms = 0; !shared && !lock->impatient && ms < WAIT_MS; ms += STEP_MS) {
        (void)nanosleep(&step, NULL);
        shared = flock(lock->fd, LOCK_SH | LOCK_NB) == 0;
    }
    /* No measurement takes so long: who has it hangs, or is no measurement. */
    lock->impatient = !shared;
}

bool ldk_device_lock_take(struct ldk_device_lock *lock)
{
    return !open_file(lock) || flock(lock->fd, LOCK_EX | LOCK_NB) == 0;
}

void ldk_device_lock_release(struct ldk_device_lock *lock)
{
    if (lock->fd >= 0)
        (void)flock(lock->fd, LOCK_UN);
}
