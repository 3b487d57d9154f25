#include "server/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 512 };

union any_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
};

static enum ld_code fail_os(struct ld_error *err, int os_code, const char *what)
{
    if (os_code == EADDRINUSE)
        return LD_FAIL_OS(err, LD_E_CONFLICT, os_code,
                          "%s is taken by another program; choose one with --port", what);
    if (os_code == EACCES || os_code == EPERM)
        return LD_FAIL_OS(err, LD_E_FORBIDDEN, os_code, "no right to listen on %s", what);
    return LD_FAIL_OS(err, LD_E_IO, os_code, "listening on %s failed", what);
}

static bool read_address(const char *text, int64_t port, union any_address *address,
                         socklen_t *size)
{
    const char *numeric = strcmp(text, "localhost") == 0 ? "127.0.0.1" : text;
    memset(address, 0, sizeof *address);
    if (inet_pton(AF_INET, numeric, &address->v4.sin_addr) == 1) {
        address->v4.sin_family = AF_INET;
        address->v4.sin_port = htons((uint16_t)port);
        *size = sizeof address->v4;
        return true;
    }
    if (inet_pton(AF_INET6, numeric, &address->v6.sin6_addr) == 1) {
        address->v6.sin6_family = AF_INET6;
        address->v6.sin6_port = htons((uint16_t)port);
        *size = sizeof address->v6;
        return true;
    }
    return false;
}

static enum ld_code listen_on(const union any_address *address, socklen_t size, const char *what,
                              int *fd, struct ld_error *err)
{
    const int one = 1;
    *fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int os_code = errno;
    if (*fd < 0)
        return fail_os(err, os_code, what);
    (void)setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(*fd, &address->any, size) == 0 && listen(*fd, BACKLOG) == 0)
        return LD_OK;
    os_code = errno;
    (void)close(*fd);
    *fd = -1;
    return fail_os(err, os_code, what);
}

enum ld_code ld_listen_tcp(const char *text, int64_t *port, int *fd, struct ld_error *err)
{
    union any_address address;
    socklen_t size;
    char what[96];
    *fd = -1;
    if (!read_address(text, *port, &address, &size))
        return LD_FAIL(err, LD_E_INVALID, "bind must be an IP address or localhost");
    (void)ld_fmt(what, sizeof what, "port %lld", (long long)*port);
    const enum ld_code code = listen_on(&address, size, what, fd, err);
    if (code != LD_OK)
        return code;
    if (getsockname(*fd, &address.any, &size) == 0)
        *port =
            ntohs(address.any.sa_family == AF_INET ? address.v4.sin_port : address.v6.sin6_port);
    return LD_OK;
}

/* Nobody answers there: the file is left over. */
static bool is_stale(const union any_address *address, socklen_t size)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    const bool stale = connect(fd, &address->any, size) != 0 && errno == ECONNREFUSED;
    (void)close(fd);
    return stale;
}

enum ld_code ld_listen_unix(const char *path, int *fd, struct ld_error *err)
{
    union any_address address;
    memset(&address, 0, sizeof address);
    *fd = -1;
    address.local.sun_family = AF_UNIX;
    if (!ld_fmt(address.local.sun_path, sizeof address.local.sun_path, "%s", path))
        return LD_FAIL(err, LD_E_INVALID, "unix_socket must be shorter than 108 bytes");
    const socklen_t size = sizeof address.local;
    struct stat info;
    if (lstat(path, &info) == 0 && S_ISSOCK(info.st_mode) && is_stale(&address, size))
        (void)unlink(path);
    const mode_t before = umask(0117);
    const enum ld_code code = listen_on(&address, size, "the UNIX socket", fd, err);
    (void)umask(before);
    return code;
}
