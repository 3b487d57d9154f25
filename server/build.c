#include "server/build.h"

#include "api/respond.h"
#include "config/limits.h"
#include "runtime/base/arena.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    ARENA_BYTES = 4 << 20,
    WORDS_BYTES_MAX = 64 * 1024, /* of what the child prints, each way */
    PRIORITY = 10,               /* pictures come first */
    LOOK_MS = 100,
    PATIENCE_US = 5 * 1000 * 1000, /* it looks for the signal between two tensors */
    PATH_SIZE = 4096
};

enum status { IDLE, RUNNING, DONE, FAILED, CANCELLED };
static const char *const status_names[] = {"idle", "running", "done", "failed", "cancelled"};

struct ld_build {
    pthread_mutex_t lock; /* guards all but what only the thread uses */
    pthread_cond_t answered;
    pthread_t thread;
    bool has_thread;
    bool ending;   /* cancelled, or the server stops */
    bool stopping; /* the latter */
    bool found;    /* the workers have answered */
    enum status status;
    char name[LD_NAME_BYTES_MAX + 1];
    char sentence[LD_ERROR_DETAIL_SIZE];
    struct ld_buffer report; /* the child's JSON object */
    uint64_t bytes;
    int64_t started_us, finished_us; /* wall */

    /* ---- The thread's ---- */
    struct ld_supervisor *supervisor;
    struct ld_arena arena; /* of the order's texts */
    const char *folder;
    char **argv;
    enum ld_code find_code; /* with the lock */
    char find_detail[LD_ERROR_DETAIL_SIZE];
};

enum ld_code ld_build_create(struct ld_build **out, struct ld_error *err)
{
    struct ld_build *build = ld_heap_alloc(sizeof *build);
    *out = NULL;
    if (!build)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    (void)pthread_mutex_init(&build->lock, NULL);
    (void)pthread_cond_init(&build->answered, NULL);
    build->report = ld_buffer_make(WORDS_BYTES_MAX);
    ld_arena_init(&build->arena, "build", ARENA_BYTES);
    *out = build;
    return LD_OK;
}

void ld_build_destroy(struct ld_build *build)
{
    if (!build)
        return;
    pthread_mutex_lock(&build->lock);
    build->ending = build->stopping = true;
    pthread_cond_broadcast(&build->answered);
    pthread_mutex_unlock(&build->lock);
    if (build->has_thread)
        (void)pthread_join(build->thread, NULL);
    ld_buffer_deinit(&build->report);
    ld_arena_deinit(&build->arena);
    (void)pthread_cond_destroy(&build->answered);
    (void)pthread_mutex_destroy(&build->lock);
    ld_heap_free(build);
}

/* ---- The child ------------------------------------------------------------------------------- */

struct child {
    pid_t pid;
    int out, err; /* -1: closed */
    struct ld_buffer said, complained;
    int64_t told_us; /* when it was asked to end; 0: it was not */
};

/* Between fork and exec of a process with threads: system calls alone. */
static _Noreturn void become_child(char *const *argv, int out, int err, pid_t parent)
{
    sigset_t none;
    const struct sigaction plain = {.sa_handler = SIG_DFL};
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)sigaction(SIGPIPE, &plain, NULL);
    (void)setpgid(0, 0); /* a Ctrl-C in a terminal is for the front, which ends it */
    (void)setpriority(PRIO_PROCESS, 0, PRIORITY);
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    /* Never without the server, however that ends. */
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() == parent && null >= 0 &&
        dup2(null, 0) == 0 && dup2(out, 1) == 1 && dup2(err, 2) == 2)
        (void)execv("/proc/self/exe", argv);
    _exit(127);
}

static bool start_child(struct child *child, char *const *argv)
{
    int out[2];
    int err[2];
    if (pipe2(out, O_CLOEXEC) != 0)
        return false;
    if (pipe2(err, O_CLOEXEC) != 0) {
        (void)close(out[0]);
        (void)close(out[1]);
        return false;
    }
    const pid_t parent = getpid();
    child->pid = fork();
    if (child->pid == 0)
        become_child(argv, out[1], err[1], parent);
    (void)close(out[1]);
    (void)close(err[1]);
    child->out = out[0];
    child->err = err[0];
    child->said = ld_buffer_make(WORDS_BYTES_MAX);
    child->complained = ld_buffer_make(WORDS_BYTES_MAX);
    return child->pid > 0;
}

/* What has come; closes the pipe at its end. Beyond the bound the rest is thrown away. */
static void listen_to(int *fd, struct ld_buffer *words)
{
    char bytes[4096];
    const ssize_t got = read(*fd, bytes, sizeof bytes);
    if (got > 0 && words->size + (size_t)got < WORDS_BYTES_MAX)
        ld_buffer_bytes(words, bytes, (size_t)got);
    if (got == 0 || (got < 0 && errno != EINTR)) {
        (void)close(*fd);
        *fd = -1;
    }
}

static void end_if_asked(struct ld_build *build, struct child *child)
{
    pthread_mutex_lock(&build->lock);
    const bool ending = build->ending;
    pthread_mutex_unlock(&build->lock);
    const int64_t now_us = ld_clock_monotonic_us();
    if (ending && child->told_us == 0) {
        (void)kill(child->pid, SIGTERM);
        child->told_us = now_us;
    } else if (ending && now_us - child->told_us > PATIENCE_US) {
        (void)kill(child->pid, SIGKILL);
    }
}

/* Its wait status, when it has closed both pipes. */
static int attend_child(struct ld_build *build, struct child *child)
{
    int status = 0;
    while (child->out >= 0 || child->err >= 0) {
        struct pollfd look[2] = {{.fd = child->out, .events = POLLIN},
                                 {.fd = child->err, .events = POLLIN}};
        end_if_asked(build, child);
        if (poll(look, 2, LOOK_MS) <= 0)
            continue;
        if (look[0].revents)
            listen_to(&child->out, &child->said);
        if (look[1].revents)
            listen_to(&child->err, &child->complained);
    }
    while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

/* What a child that was killed could not tidy up. */
static void remove_rest(const struct ld_build *build, pid_t pid)
{
    char path[PATH_SIZE];
    if (ld_fmt(path, sizeof path, "%s/.%s.safetensors.%ld.part", build->folder, build->name,
               (long)pid))
        (void)unlink(path);
}

/* ---- What it said ---------------------------------------------------------------------------- */

/* Where files lie is nobody's business: of every quoted path the last part is left. */
static void hide_folders(char *text)
{
    char *to = text;
    for (const char *from = text; *from;) {
        const char *quote = from[0] == '\'' && from[1] == '/' ? strchr(from + 1, '\'') : NULL;
        *to++ = *from++;
        if (!quote)
            continue;
        for (const char *at = from; at < quote; at++)
            if (*at == '/')
                from = at + 1;
    }
    *to = '\0';
}

/* The last line "latentd: SENTENCE". */
static void take_sentence(const struct child *child, int status, char *out, size_t out_size)
{
    static const char start[] = "latentd: ";
    const char *line = child->complained.data;
    const char *found = NULL;
    while (line && *line) {
        if (strncmp(line, start, sizeof start - 1) == 0)
            found = line + sizeof start - 1;
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    if (found)
        (void)ld_fmt(out, out_size, "%.*s", (int)strcspn(found, "\n"), found);
    else if (WIFSIGNALED(status))
        (void)ld_fmt(out, out_size, "the build was ended by signal %d", WTERMSIG(status));
    else
        (void)ld_fmt(out, out_size, "the build ended with status %d",
                     WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    hide_folders(out);
}

/* ---- The workers ----------------------------------------------------------------------------- */

static void take_answer(void *ctx, enum ld_code code, const char *detail, const char *json)
{
    struct ld_build *build = ctx;
    (void)json;
    pthread_mutex_lock(&build->lock);
    build->find_code = code;
    (void)ld_fmt(build->find_detail, sizeof build->find_detail, "%s", detail);
    build->found = true;
    pthread_cond_broadcast(&build->answered);
    pthread_mutex_unlock(&build->lock);
}

/* All workers that are ready take the file up; one that starts meanwhile sees it by itself. */
static void tell_workers(struct ld_build *build)
{
    build->found = false;
    build->find_code = LD_OK;
    ld_supervisor_model(build->supervisor, build->name, LD_MODEL_FIND, take_answer, build);
    pthread_mutex_lock(&build->lock);
    while (!build->found && !build->stopping)
        (void)pthread_cond_wait(&build->answered, &build->lock);
    pthread_mutex_unlock(&build->lock);
    ld_supervisor_plan_drop(build->supervisor, build);
}

/* ---- The thread ------------------------------------------------------------------------------ */

static void finish(struct ld_build *build, const struct child *child, int status)
{
    struct stat info = {0};
    char path[PATH_SIZE];
    char sentence[LD_ERROR_DETAIL_SIZE] = "";
    bool good = child->pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (child->pid <= 0)
        (void)ld_fmt(sentence, sizeof sentence, "the build could not be started");
    else if (!good)
        take_sentence(child, status, sentence, sizeof sentence);
    if (good)
        tell_workers(build);
    if (good && ld_fmt(path, sizeof path, "%s/%s.safetensors", build->folder, build->name))
        (void)lstat(path, &info);
    pthread_mutex_lock(&build->lock);
    if (good && build->found && build->find_code != LD_OK && build->find_code != LD_E_UNSUPPORTED) {
        good = false;
        (void)ld_fmt(sentence, sizeof sentence, "the file was made, but a worker said: %.300s",
                     build->find_detail);
    }
    if (!good && build->ending)
        (void)ld_fmt(sentence, sizeof sentence, "the build was cancelled");
    if (good && child->said.data) {
        const size_t size = strcspn(child->said.data, "\n");
        ld_buffer_bytes(&build->report, child->said.data, size);
    }
    build->bytes = info.st_size > 0 ? (uint64_t)info.st_size : 0;
    build->finished_us = ld_clock_wall_us();
    build->status = good ? DONE : build->ending ? CANCELLED : FAILED;
    (void)ld_fmt(build->sentence, sizeof build->sentence, "%s", sentence);
    LD_LOG(LD_LOG_INFO, "build", "a model's build has ended", ld_log_text("model", build->name),
           ld_log_text("status", status_names[build->status]));
    pthread_mutex_unlock(&build->lock);
}

static void *build_main(void *arg)
{
    struct ld_build *build = arg;
    struct child child = {.out = -1, .err = -1};
    int status = 0;
    if (start_child(&child, build->argv))
        status = attend_child(build, &child);
    if (child.pid > 0)
        remove_rest(build, child.pid);
    finish(build, &child, status);
    if (child.out >= 0)
        (void)close(child.out);
    if (child.err >= 0)
        (void)close(child.err);
    ld_buffer_deinit(&child.said);
    ld_buffer_deinit(&child.complained);
    return NULL;
}

/* ---- The interface --------------------------------------------------------------------------- */

/* With the lock, when no thread runs. */
static bool keep_order(struct ld_build *build, const struct ld_build_order *order)
{
    uint32_t count = 0;
    while (order->argv[count])
        count++;
    ld_arena_deinit(&build->arena);
    ld_arena_init(&build->arena, "build", ARENA_BYTES);
    build->supervisor = order->supervisor;
    build->folder = ld_arena_strdup(&build->arena, order->folder);
    build->argv = ld_arena_calloc(&build->arena, count + 1, sizeof *build->argv);
    for (uint32_t i = 0; build->argv && i < count; i++) {
        build->argv[i] = ld_arena_strdup(&build->arena, order->argv[i]);
        if (!build->argv[i])
            return false;
    }
    return build->folder && build->argv &&
           ld_fmt(build->name, sizeof build->name, "%s", order->name);
}

enum ld_code ld_build_start(struct ld_build *build, const struct ld_build_order *order,
                            struct ld_error *err)
{
    enum ld_code code = LD_OK;
    pthread_mutex_lock(&build->lock);
    if (build->status == RUNNING || build->stopping) {
        code = LD_FAIL(err, LD_E_CONFLICT, "model '%.100s' is being built; one at a time",
                       build->name);
        goto done;
    }
    if (build->has_thread)
        (void)pthread_join(build->thread, NULL); /* it has done all that needs the lock */
    build->has_thread = build->ending = false;
    build->status = IDLE;
    build->sentence[0] = '\0';
    build->bytes = 0;
    ld_buffer_clear(&build->report);
    build->started_us = ld_clock_wall_us();
    build->finished_us = 0;
    if (!keep_order(build, order)) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory");
        goto done;
    }
    build->status = RUNNING;
    if (pthread_create(&build->thread, NULL, build_main, build) != 0) {
        build->status = IDLE;
        code = LD_FAIL(err, LD_E_NOMEM, "no thread for the build");
        goto done;
    }
    build->has_thread = true;
done:
    pthread_mutex_unlock(&build->lock);
    return code;
}

/* With the lock. */
static bool is_of(const struct ld_build *build, const char *name)
{
    return build->status != IDLE && strcmp(build->name, name) == 0;
}

enum ld_code ld_build_cancel(struct ld_build *build, const char *name, bool *running,
                             struct ld_error *err)
{
    pthread_mutex_lock(&build->lock);
    const bool known = is_of(build, name);
    *running = known && build->status == RUNNING;
    build->ending = build->ending || *running;
    pthread_mutex_unlock(&build->lock);
    return known ? LD_OK : LD_FAIL(err, LD_E_NOT_FOUND, "no such model was built here last");
}

static void write_time(struct ld_buffer *out, const char *member, int64_t us)
{
    char text[32];
    if (us == 0)
        return;
    ld_time_text(us, text, sizeof text);
    ld_buffer_format(out, ",\"%s\":\"%s\"", member, text);
}

bool ld_build_write(struct ld_build *build, const char *name, struct ld_buffer *out)
{
    pthread_mutex_lock(&build->lock);
    const bool known = is_of(build, name);
    if (known) {
        ld_buffer_text(out, "{\"name\":");
        ld_buffer_json_string(out, build->name);
        ld_buffer_format(out, ",\"status\":\"%s\"", status_names[build->status]);
        write_time(out, "started_at", build->started_us);
        write_time(out, "finished_at", build->finished_us);
        if (build->status == DONE) {
            ld_buffer_format(out, ",\"bytes\":%llu,\"report\":", (unsigned long long)build->bytes);
            ld_buffer_text(out, build->report.size > 0 ? build->report.data : "{}");
        } else if (build->status != RUNNING) {
            ld_buffer_text(out, ",\"error\":");
            ld_buffer_json_string(out, build->sentence);
        }
        ld_buffer_byte(out, '}');
    }
    pthread_mutex_unlock(&build->lock);
    return known;
}
