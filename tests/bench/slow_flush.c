/*
 * A slow disk, for LD_PRELOAD: every flush of a file takes SLOW_FLUSH_MS longer (default 5, about
 * what an SSD without protected memory takes).
 */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int flush(int fd, long call)
{
    const char *text = getenv("SLOW_FLUSH_MS");
    const long ms = text ? strtol(text, NULL, 10) : 5;
    const struct timespec lag = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&lag, NULL);
    return (int)syscall(call, fd);
}

int fsync(int fd)
{
    return flush(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return flush(fd, SYS_fdatasync);
}
