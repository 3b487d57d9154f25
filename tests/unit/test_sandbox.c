/*
 * Proves that a closed process opens no connection any more: not by a new socket, not by one that
 * it had, not by a connection that it accepted, in no thread and in no child; that what a front
 * needs goes on; and that tracing, mounts and io_uring are refused. Each case in a child process.
 */
#include "server/sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NEED(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return __LINE__;                                                                       \
    } while (0)

/* The line that failed in the child, 0 for none; -1: a signal. */
static int in_child(int (*run)(void))
{
    const pid_t pid = fork();
    int status = 0;
    assert_true(pid >= 0);
    if (pid == 0) {
        const int line = run();
        _exit(line == 0 ? 0 : 1 + line % 250);
    }
    assert_true(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int close_it(void)
{
    struct ld_error err = {0};
    return ld_sandbox_close(&err) == LD_OK ? 0 : -1;
}

static struct sockaddr_in somewhere(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return to;
}

static bool connects(int fd)
{
    const struct sockaddr_in to = somewhere();
    return !(connect(fd, (const struct sockaddr *)&to, sizeof to) != 0 && errno == EACCES);
}

static int no_socket_of_the_network(void)
{
    static const int families[] = {AF_INET, AF_INET6, AF_NETLINK, AF_PACKET};
    NEED(close_it() == 0);
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        NEED(socket(families[i], SOCK_STREAM, 0) < 0 && errno == EACCES);
        NEED(socket(families[i], SOCK_DGRAM, 0) < 0 && errno == EACCES);
    }
    return 0;
}

static int no_connection_by_an_old_socket(void)
{
    const int tcp = socket(AF_INET, SOCK_STREAM, 0);
    const int local = socket(AF_UNIX, SOCK_STREAM, 0);
    const struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = "/nonexistent"};
    NEED(tcp >= 0 && local >= 0);
    NEED(close_it() == 0);
    NEED(!connects(tcp));
    NEED(connect(local, (const struct sockaddr *)&to, sizeof to) != 0 && errno == EACCES);
    return 0;
}

/* An accepted connection could be dissolved and made anew with AF_UNSPEC. */
static int accepted_ones_stay_what_they_are(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    struct sockaddr_in nowhere = {.sin_family = AF_UNSPEC};
    socklen_t size = sizeof at;
    char byte = 0;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    const int client = socket(AF_INET, SOCK_STREAM, 0);
    NEED(bind(listener, (const struct sockaddr *)&at, sizeof at) == 0);
    NEED(listen(listener, 1) == 0);
    NEED(getsockname(listener, (struct sockaddr *)&at, &size) == 0);
    NEED(connect(client, (const struct sockaddr *)&at, sizeof at) == 0);
    NEED(close_it() == 0);
    const int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    NEED(accepted >= 0);
    NEED(send(client, "x", 1, MSG_NOSIGNAL) == 1 && recv(accepted, &byte, 1, 0) == 1);
    NEED(connect(accepted, (const struct sockaddr *)&nowhere, sizeof nowhere) != 0 &&
         errno == EACCES);
    NEED(send(accepted, "y", 1, MSG_NOSIGNAL) == 1 && recv(client, &byte, 1, 0) == 1);
    return 0;
}

static atomic_int step;
static void *older_thread(void *unused)
{
    (void)unused;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    atomic_store(&step, 1);
    while (atomic_load(&step) != 2)
        (void)usleep(1000);
    return (void *)(intptr_t)(fd >= 0 && !connects(fd) && socket(AF_INET, SOCK_DGRAM, 0) < 0);
}

static int threads_and_children_are_closed_too(void)
{
    pthread_t thread;
    void *closed = NULL;
    int status = 0;
    NEED(pthread_create(&thread, NULL, older_thread, NULL) == 0);
    while (atomic_load(&step) != 1)
        (void)usleep(1000);
    NEED(close_it() == 0);
    atomic_store(&step, 2);
    NEED(pthread_join(thread, &closed) == 0 && closed);
    const pid_t pid = fork();
    NEED(pid >= 0);
    if (pid == 0)
        _exit(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EACCES ? 0 : 1);
    NEED(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return 0;
}

static int what_an_intruder_wants_is_refused(void)
{
    NEED(close_it() == 0);
    NEED(mount("none", "/", "tmpfs", 0, NULL) != 0 && errno == EPERM);
    NEED(syscall(SYS_io_uring_setup, 1, NULL) != 0 && errno == EPERM);
    NEED(syscall(SYS_bpf, 0, NULL, 0) != 0 && errno == EPERM);
    NEED(syscall(SYS_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0) != 0 && errno == EPERM);
    NEED(syscall(SYS_keyctl, 0, 0) != 0 && errno == EPERM);
    return 0;
}

static int what_a_front_needs_goes_on(void)
{
    int pair[2];
    int status = 1;
    NEED(close_it() == 0);
    NEED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    NEED(socket(AF_UNIX, SOCK_DGRAM, 0) >= 0); /* the service manager's */
    const pid_t pid = fork();
    if (pid == 0) {
        (void)execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    NEED(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    NEED(close_it() == 0); /* a second one changes nothing */
    return 0;
}

static int (*const cases[])(void) = {
    no_socket_of_the_network,          no_connection_by_an_old_socket,
    accepted_ones_stay_what_they_are,  threads_and_children_are_closed_too,
    what_an_intruder_wants_is_refused, what_a_front_needs_goes_on,
};

static void a_closed_process_connects_to_nothing(void **state)
{
    (void)state;
    if (!ld_sandbox_possible()) {
        print_message("this kernel has no seccomp filters\n");
        skip();
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int line = in_child(cases[i]);
        if (line != 0)
            fail_msg("case %zu failed at line %d (modulo 250)", i, line - 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_closed_process_connects_to_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
