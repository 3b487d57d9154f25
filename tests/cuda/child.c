/* Child processes of a test program. */
#include "tests/cuda/child.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static pid_t start(const char *argument, int out)
{
    char program[] = "/proc/self/exe", copy[64] = {0};
    strncpy(copy, argument, sizeof copy - 1);
    char *arguments[] = {program, copy, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid = -1;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return -1;
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out, STDERR_FILENO);
    if (posix_spawn(&pid, program, &actions, NULL, arguments, environ) != 0)
        pid = -1;
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

/* Reads until the end or until the time is over; true at the end. */
static bool read_all(int from, char *output, size_t bytes, int seconds)
{
    struct timespec now, begin;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    size_t length = 0;
    for (;;) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        long left = (long)seconds * 1000 - (long)(now.tv_sec - begin.tv_sec) * 1000;
        struct pollfd waiting = {.fd = from, .events = POLLIN};
        if (left <= 0 || poll(&waiting, 1, (int)left) <= 0)
            return false;
        char block[4096];
        ssize_t got = read(from, block, sizeof block);
        if (got <= 0)
            return got == 0;
        size_t room = bytes - 1 - length, use = (size_t)got < room ? (size_t)got : room;
        memcpy(output + length, block, use);
        length += use;
        output[length] = '\0';
    }
}

static void set_options(bool lines)
{
    static const char *const names[] = {"ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS",
                                        "MSAN_OPTIONS"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        setenv(names[i],
               lines ? "exitcode=91:halt_on_error=1" : "exitcode=91:halt_on_error=1:symbolize=0",
               1);
}

int hc_child(const char *argument, char *output, size_t bytes, int seconds, int lines)
{
    int ends[2], status = 0;
    output[0] = '\0';
    set_options(lines != 0);
    if (pipe(ends) != 0)
        return -1;
    pid_t pid = start(argument, ends[1]);
    close(ends[1]);
    bool ended = pid > 0 && read_all(ends[0], output, bytes, seconds);
    close(ends[0]);
    if (pid <= 0)
        return -1;
    if (!ended)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0) {
    }
    if (!ended)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
