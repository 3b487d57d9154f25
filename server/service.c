#include "server/service.h"

#include "config/settings.h"
#include "runtime/base/clock.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST_FD = 3 /* SD_LISTEN_FDS_START */ };

/* ---- Sockets --------------------------------------------------------------------------------- */

static bool read_number(const char *name, uint64_t *value)
{
    const char *text = getenv(name);
    return text && ld_parse_u64(ld_span_text(text), value);
}

/* A UNIX socket is local by nature. */
static bool is_local(const struct sockaddr_storage *address)
{
    char text[INET6_ADDRSTRLEN] = "";
    const void *number = NULL;
    if (address->ss_family == AF_UNIX)
        return true;
    if (address->ss_family == AF_INET)
        number = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    else if (address->ss_family == AF_INET6)
        number = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    return number && inet_ntop(address->ss_family, number, text, sizeof text) &&
           ld_address_is_loopback(text);
}

static enum ld_code take_socket(int fd, bool remote_allowed, struct ld_error *err)
{
    int listening = 0;
    socklen_t size = sizeof listening;
    struct sockaddr_storage address;
    socklen_t address_size = sizeof address;
    memset(&address, 0, sizeof address);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || !listening ||
        getsockname(fd, (struct sockaddr *)&address, &address_size) != 0)
        return LD_FAIL(err, LD_E_INVALID,
                       "the service manager handed over something that is no listening socket");
    if (!remote_allowed && !is_local(&address))
        return LD_FAIL(err, LD_E_FORBIDDEN,
                       "the service manager listens beyond loopback; that needs "
                       "server.allow_anonymous and server.behind_proxy");
    const int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return LD_FAIL(err, LD_E_IO, "a socket of the service manager cannot be used");
    return LD_OK;
}

enum ld_code ld_service_sockets(int *fds, uint32_t max, bool remote_allowed, uint32_t *count,
                                struct ld_error *err)
{
    uint64_t pid;
    uint64_t given;
    *count = 0;
    /* The variables are inherited by accident too: only the process they name may believe them. */
    const bool ours = read_number("LISTEN_PID", &pid) && pid == (uint64_t)getpid() &&
                      read_number("LISTEN_FDS", &given) && given > 0;
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_FDNAMES");
    if (!ours)
        return LD_OK;
    if (given > max)
        return LD_FAIL(err, LD_E_RANGE, "the service manager may hand over at most %u sockets",
                       max);
    for (uint32_t i = 0; i < (uint32_t)given; i++) {
        const enum ld_code code = take_socket(FIRST_FD + (int)i, remote_allowed, err);
        if (code != LD_OK)
            return code;
        fds[i] = FIRST_FD + (int)i;
        *count = i + 1;
    }
    return LD_OK;
}

/* ---- States ---------------------------------------------------------------------------------- */

void ld_service_tell(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const size_t length = path ? strlen(path) : 0;
    if (length < 2 || length >= sizeof address.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@') /* a name without a file */
        address.sun_path[0] = '\0';
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    const socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    (void)(sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
                  (const struct sockaddr *)&address, size) > 0);
    (void)close(fd);
}

void ld_service_tell_reloading(void)
{
    char state[64];
    if (ld_fmt(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%lld",
               (long long)ld_clock_monotonic_us()))
        ld_service_tell(state);
}
