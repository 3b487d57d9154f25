#include "server/cmd_probe.h"

#include "runtime/base/clock.h"
#include "runtime/gpu/device.h"
#include "server/supervisor.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A driver that wakes up a machine full of GPUs takes some seconds. */
static const int64_t PATIENCE_US = INT64_C(60) * 1000000;

struct answer {
    enum ld_code code;
    int32_t capable; /* devices */
    char detail[LD_ERROR_DETAIL_SIZE];
};

/* The child: what it has to say fits in one write to a pipe. */
static _Noreturn void answer(int fd, bool resident)
{
    struct ld_device_facts facts;
    struct ld_error why = {0};
    struct answer answer = {0};
    ld_device_look(&facts, resident, 0);
    answer.code = ld_device_judge(&facts, &why);
    answer.capable = facts.capable;
    (void)snprintf(answer.detail, sizeof answer.detail, "%s", why.detail);
    _exit(write(fd, &answer, sizeof answer) == (ssize_t)sizeof answer ? 0 : 1);
}

/* False if the child ends or the time is up before the whole answer is there. */
static bool listen_to(int fd, struct answer *out)
{
    const int64_t until_us = ld_clock_monotonic_us() + PATIENCE_US;
    size_t have = 0;
    while (have < sizeof *out) {
        const int64_t left_ms = (until_us - ld_clock_monotonic_us()) / 1000;
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        const int found = left_ms > 0 ? poll(&ready, 1, (int)left_ms) : 0;
        if (found < 0 && errno == EINTR)
            continue;
        if (found <= 0)
            return false;
        const ssize_t got = read(fd, (unsigned char *)out + have, sizeof *out - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        have += (size_t)got;
    }
    return true;
}

/* Device files of the driver, /dev/nvidia0 and on; a look at them costs nothing. */
static uint32_t count_nodes(void)
{
    DIR *folder = opendir("/dev");
    const struct dirent *entry;
    uint32_t count = 0;
    while (folder && (entry = readdir(folder)) != NULL) {
        const char *number = entry->d_name + strlen("nvidia");
        if (strncmp(entry->d_name, "nvidia", strlen("nvidia")) == 0 && *number &&
            strspn(number, "0123456789") == strlen(number))
            count++;
    }
    if (folder)
        (void)closedir(folder);
    return count;
}

static enum ld_code ask(bool resident, struct answer *said, struct ld_error *err)
{
    int ends[2];
    if (pipe(ends) != 0)
        return LD_FAIL_OS(err, LD_E_IO, errno, "the GPU cannot be asked for: no pipe");
    const pid_t child = fork();
    if (child == 0) {
        (void)close(ends[0]);
        answer(ends[1], resident);
    }
    const int failed = child < 0 ? errno : 0;
    (void)close(ends[1]);
    const bool heard = child > 0 && listen_to(ends[0], said);
    (void)close(ends[0]);
    if (child < 0)
        return LD_FAIL_OS(err, LD_E_IO, failed, "the GPU cannot be asked for: no process");
    if (!heard)
        (void)kill(child, SIGKILL);
    /* A process that hangs in a driver may outlive its kill: nobody waits for that one. */
    while (waitpid(child, NULL, heard ? 0 : WNOHANG) < 0 && errno == EINTR)
        continue;
    if (!heard)
        return LD_FAIL(err, LD_E_DEVICE,
                       "the GPU does not answer; it may need a reset or a new driver");
    return said->code == LD_OK ? LD_OK : LD_FAIL(err, said->code, "%s", said->detail);
}

enum ld_code ld_probe_backend(const char *backend, bool resident, uint32_t *gpus,
                              struct ld_error *err)
{
    struct answer said = {0};
    const bool insists = strcmp(backend, "cuda") == 0;
    *gpus = 1;
    if (!insists && (strcmp(backend, "auto") != 0 || count_nodes() < 2))
        return LD_OK;
    const enum ld_code code = ask(resident, &said, err);
    if (code == LD_OK && said.capable > 1)
        *gpus = said.capable < LD_WORKERS_MAX ? (uint32_t)said.capable : LD_WORKERS_MAX;
    return insists ? code : LD_OK;
}
