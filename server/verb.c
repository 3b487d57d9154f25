#include "server/verb.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static enum ld_code run_help(const char *verb, int out_fd, pid_t *pid, struct ld_error *err)
{
    static char program[] = "latentd";
    static char flag[] = "--help";
    char name[32];
    char *argv[] = {program, name, flag, NULL};
    posix_spawn_file_actions_t actions;
    LD_ASSERT(ld_fmt(name, sizeof name, "%s", verb));
    int failed = posix_spawn_file_actions_init(&actions);
    if (failed)
        return LD_FAIL_OS(err, LD_E_NOMEM, failed, "out of memory");
    failed = posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
    if (!failed)
        failed = posix_spawn(pid, "/proc/self/exe", &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    return failed ? LD_FAIL_OS(err, LD_E_IO, failed, "the program could not be run") : LD_OK;
}

enum ld_code ld_verb_help(const char *verb, struct ld_buffer *out, struct ld_error *err)
{
    int fds[2];
    pid_t pid = -1;
    int status = 0;
    char piece[4096];
    ssize_t got;
    if (pipe2(fds, O_CLOEXEC) != 0) {
        const int os_code = errno;
        return LD_FAIL_OS(err, LD_E_IO, os_code, "the program could not be run");
    }
    enum ld_code code = run_help(verb, fds[1], &pid, err);
    (void)close(fds[1]);
    while (code == LD_OK && (got = read(fds[0], piece, sizeof piece)) != 0) {
        if (got > 0)
            ld_buffer_bytes(out, piece, (size_t)got);
        else if (errno != EINTR)
            code = LD_FAIL(err, LD_E_IO, "the help of %s could not be read", verb);
    }
    (void)close(fds[0]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (code == LD_OK && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        code = LD_FAIL(err, LD_E_IO, "`latentd %s --help` failed", verb);
    return code == LD_OK && out->failed ? LD_FAIL(err, LD_E_NOMEM, "out of memory") : code;
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
}

static size_t name_size(struct ld_span text)
{
    size_t size = 0;
    while (size < text.size && is_name((char)text.data[size]))
        size++;
    return size;
}

static struct ld_span after(struct ld_span text, size_t count)
{
    return ld_span_of(text.data + count, text.size - count);
}

/* The doc stands behind two blanks at least, what is before it is the value's name. */
static struct ld_span doc_of(struct ld_span rest)
{
    for (size_t i = 0; i + 1 < rest.size; i++)
        if (rest.data[i] == ' ' && rest.data[i + 1] == ' ')
            return ld_span_trimmed(after(rest, i));
    return ld_span_trimmed(rest);
}

bool ld_verb_option_next(struct ld_span help, size_t *pos, struct ld_verb_option *option)
{
    while (*pos < help.size) {
        struct ld_span line = after(help, *pos);
        const uint8_t *end = memchr(line.data, '\n', line.size);
        line.size = end ? (size_t)(end - line.data) : line.size;
        *pos += line.size + (end ? 1 : 0);
        if (line.size < 4 || line.data[0] != ' ')
            continue;
        line = ld_span_trimmed(line);
        if (line.size < 2 || line.data[0] != '-')
            continue;
        size_t size = name_size(line);
        const struct ld_span rest = ld_span_trimmed(after(line, size));
        if (size == 2 && rest.size > 3 && memcmp(rest.data, ", --", 4) == 0) {
            line = ld_span_trimmed(after(rest, 1));
            size = name_size(line);
        }
        if (size < 2)
            continue;
        option->name = ld_span_of(line.data, size);
        option->doc = doc_of(after(line, size));
        return true;
    }
    return false;
}
