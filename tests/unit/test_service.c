/*
 * Proves that sockets of a service manager are taken only when they are meant for this process and
 * fit, and that states reach it. Plays the manager: sets its variables, listens where it would.
 */
#include "server/service.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

enum { FIRST_FD = 3, FDS_MAX = 4 };

/* A socket on loopback at descriptor 3, listening or not. */
static void put_socket(bool listening)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    if (listening)
        assert_int_equal(listen(fd, 1), 0);
    if (fd != FIRST_FD) {
        assert_int_equal(dup2(fd, FIRST_FD), FIRST_FD);
        close(fd);
    }
}

static void announce(long pid, const char *count)
{
    char text[32];
    snprintf(text, sizeof text, "%ld", pid);
    setenv("LISTEN_PID", text, 1);
    setenv("LISTEN_FDS", count, 1);
}

static void a_listening_socket_is_taken_and_hidden_from_children(void **state)
{
    int fds[FDS_MAX] = {-1, -1, -1, -1};
    uint32_t count;
    struct ld_error err = {0};
    (void)state;
    put_socket(true);
    announce((long)getpid(), "1");
    assert_int_equal(ld_service_sockets(fds, FDS_MAX, false, &count, &err), LD_OK);
    assert_int_equal(count, 1);
    assert_int_equal(fds[0], FIRST_FD);
    assert_true(fcntl(FIRST_FD, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(FIRST_FD, F_GETFL) & O_NONBLOCK);
    assert_null(getenv("LISTEN_PID"));
    assert_null(getenv("LISTEN_FDS"));
    close(FIRST_FD);
}

static void variables_of_another_process_mean_nothing(void **state)
{
    int fds[FDS_MAX];
    uint32_t count = 9;
    (void)state;
    put_socket(true);
    announce((long)getpid() + 1, "1");
    assert_int_equal(ld_service_sockets(fds, FDS_MAX, false, &count, NULL), LD_OK);
    assert_int_equal(count, 0);
    assert_int_equal(ld_service_sockets(fds, FDS_MAX, false, &count, NULL), LD_OK);
    assert_int_equal(count, 0);
    close(FIRST_FD);
}

static void what_does_not_listen_is_refused(void **state)
{
    int fds[FDS_MAX];
    uint32_t count;
    struct ld_error err = {0};
    (void)state;
    put_socket(false);
    announce((long)getpid(), "1");
    assert_int_equal(ld_service_sockets(fds, FDS_MAX, false, &count, &err), LD_E_INVALID);
    close(FIRST_FD);
}

static void more_sockets_than_listeners_are_refused(void **state)
{
    int fds[FDS_MAX];
    uint32_t count;
    struct ld_error err = {0};
    (void)state;
    announce((long)getpid(), "5");
    assert_int_equal(ld_service_sockets(fds, FDS_MAX, false, &count, &err), LD_E_RANGE);
}

/* The manager's end of the notify socket, bound to `address`. */
static int manager_socket(const struct sockaddr_un *address, size_t size)
{
    const int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)address, (socklen_t)size), 0);
    return fd;
}

static void assert_told(int fd, const char *state)
{
    char text[64] = "";
    assert_int_equal(recv(fd, text, sizeof text - 1, MSG_DONTWAIT), (int)strlen(state));
    assert_string_equal(text, state);
}

static void states_reach_a_socket_with_a_path(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char folder[] = "/tmp/latentd-service-XXXXXX";
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(address.sun_path, sizeof address.sun_path, "%s/notify", folder);
    const int fd = manager_socket(&address, sizeof address);
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
    ld_service_tell("READY=1");
    assert_told(fd, "READY=1");
    ld_service_tell("STOPPING=1");
    assert_told(fd, "STOPPING=1");
    close(fd);
    unlink(address.sun_path);
    rmdir(folder);
    ld_service_tell("WATCHDOG=1"); /* nobody listens any more: no harm */
    unsetenv("NOTIFY_SOCKET");
}

static void states_reach_a_socket_with_a_name_alone(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[64];
    (void)state;
    snprintf(name, sizeof name, "@latentd-service-%ld", (long)getpid());
    memcpy(address.sun_path + 1, name + 1, strlen(name) - 1);
    const int fd = manager_socket(&address, offsetof(struct sockaddr_un, sun_path) + strlen(name));
    setenv("NOTIFY_SOCKET", name, 1);
    ld_service_tell("READY=1");
    assert_told(fd, "READY=1");
    close(fd);
    unsetenv("NOTIFY_SOCKET");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listening_socket_is_taken_and_hidden_from_children),
        cmocka_unit_test(variables_of_another_process_mean_nothing),
        cmocka_unit_test(what_does_not_listen_is_refused),
        cmocka_unit_test(more_sockets_than_listeners_are_refused),
        cmocka_unit_test(states_reach_a_socket_with_a_path),
        cmocka_unit_test(states_reach_a_socket_with_a_name_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
