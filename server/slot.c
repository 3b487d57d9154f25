#include "server/slot.h"

#include "config/limits.h"
#include "runtime/base/arena.h"
#include "runtime/base/clock.h"
#include "runtime/base/fsx.h"
#include "runtime/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    OUT_BYTES_MAX = 2 * LD_FRAME_BYTES_MAX, /* a job with two large images behind another one */
    REAP_PATIENCE_US = 200 * 1000
};

void ld_slot_init(struct ld_slot *slot, uint32_t index)
{
    memset(slot, 0, sizeof *slot);
    slot->index = index;
    slot->pid = -1;
    slot->fd = -1;
    ld_frame_reader_init(&slot->reader);
    slot->out = ld_buffer_make(OUT_BYTES_MAX);
}

void ld_slot_deinit(struct ld_slot *slot)
{
    while (slot->job_count > 0)
        ld_slot_job_remove(slot, &slot->jobs[0]);
    ld_frame_reader_deinit(&slot->reader);
    ld_buffer_deinit(&slot->out);
    if (slot->fd >= 0)
        (void)close(slot->fd);
    slot->fd = -1;
}

/* ---- The process ----------------------------------------------------------------------------- */

static enum ld_code spawn_with(struct ld_slot *slot, int worker_fd, char *const *argv,
                               struct ld_error *err)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigset_t defaults;
    int failed = posix_spawn_file_actions_init(&actions);
    if (failed)
        return LD_FAIL_OS(err, LD_E_NOMEM, failed, "a worker could not be started");
    if ((failed = posix_spawnattr_init(&attributes)) != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return LD_FAIL_OS(err, LD_E_NOMEM, failed, "a worker could not be started");
    }
    /* The front blocks and ignores signals for its own ends; the worker starts clean. */
    (void)sigemptyset(&none);
    (void)sigfillset(&defaults);
    (void)posix_spawnattr_setsigmask(&attributes, &none);
    (void)posix_spawnattr_setsigdefault(&attributes, &defaults);
    /* Its own group: a Ctrl-C in a terminal is for the front, which drains. */
    (void)posix_spawnattr_setpgroup(&attributes, 0);
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                    POSIX_SPAWN_SETPGROUP);
    failed = posix_spawn_file_actions_adddup2(&actions, worker_fd, 3);
    if (!failed)
        failed = posix_spawn(&slot->pid, "/proc/self/exe", &actions, &attributes, argv, environ);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (failed) {
        slot->pid = -1;
        return LD_FAIL_OS(err, failed == ENOMEM ? LD_E_NOMEM : LD_E_IO, failed,
                          "a worker could not be started");
    }
    return LD_OK;
}

/* Which of its front's workers it is, so that they can share out the GPUs. */
static void add_number(const struct ld_slot *slot, char *const *argv, char number[24],
                       char *out[LD_SLOT_ARGS_MAX])
{
    size_t count = 0;
    for (; argv[count]; count++) {
        LD_ASSERT(count + 2 < LD_SLOT_ARGS_MAX);
        out[count] = argv[count];
    }
    (void)ld_fmt(number, 24, "--slot=%u", slot->index);
    out[count] = number;
    out[count + 1] = NULL;
}

enum ld_code ld_slot_spawn(struct ld_slot *slot, char *const *argv, struct ld_error *err)
{
    int fds[2];
    LD_ASSERT(slot->state == LD_SLOT_DOWN && slot->job_count == 0);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        const int os_code = errno;
        return LD_FAIL_OS(err, LD_E_IO, os_code, "a worker could not be started");
    }
    /* dup2 onto itself would keep close-on-exec: move the worker's end away from 3. */
    if (fds[1] == 3) {
        const int moved = fcntl(fds[1], F_DUPFD_CLOEXEC, 10);
        (void)close(fds[1]);
        fds[1] = moved;
    }
    slot->oom_kills = ld_oom_kills();
    char number[24];
    char *with_number[LD_SLOT_ARGS_MAX];
    add_number(slot, argv, number, with_number);
    const enum ld_code code = spawn_with(slot, fds[1], with_number, err);
    (void)close(fds[1]);
    if (code != LD_OK) {
        (void)close(fds[0]);
        return code;
    }
    slot->fd = fds[0];
    slot->state = LD_SLOT_STARTING;
    slot->killed_by_us = slot->lease_expired = false;
    slot->started_us = slot->heard_us = slot->activity_us = ld_clock_monotonic_us();
    slot->lease_sent_us = slot->started_us;
    slot->activity = 0;
    memset(slot->stats, 0, sizeof slot->stats);
    slot->jobs_max = 0;
    return LD_OK;
}

void ld_slot_kill(struct ld_slot *slot)
{
    if (slot->pid <= 0)
        return;
    slot->killed_by_us = true;
    (void)kill(slot->pid, SIGKILL);
}

int ld_slot_reap(struct ld_slot *slot)
{
    int status = 0;
    const int64_t until_us = ld_clock_monotonic_us() + REAP_PATIENCE_US;
    pid_t got = 0;
    /* A dying process closes its socket a moment before it can be collected. */
    while (slot->pid > 0 && (got = waitpid(slot->pid, &status, WNOHANG)) == 0 &&
           ld_clock_monotonic_us() < until_us)
        ld_clock_sleep_us(2000);
    if (slot->pid > 0 && got == 0) { /* alive behind a closed socket */
        ld_slot_kill(slot);
        do
            got = waitpid(slot->pid, &status, 0);
        while (got < 0 && errno == EINTR);
    }
    if (slot->fd >= 0)
        (void)close(slot->fd);
    slot->fd = -1;
    slot->pid = -1;
    slot->state = LD_SLOT_DOWN;
    ld_frame_reader_deinit(&slot->reader);
    ld_frame_reader_init(&slot->reader);
    ld_buffer_deinit(&slot->out);
    slot->out = ld_buffer_make(OUT_BYTES_MAX);
    slot->out_pos = 0;
    return status;
}

uint64_t ld_oom_kills(void)
{
    static const char key[] = "oom_kill ";
    struct ld_error err;
    uint64_t count = 0;
    struct ld_buffer text = ld_buffer_make(4096);
    /* cgroup v2, as a container or a systemd unit sees itself. */
    if (ld_fsx_read_file("/sys/fs/cgroup/memory.events", &text, &err) == LD_OK && text.data) {
        const char *line = strstr(text.data, key);
        if (line) {
            const char *digits = line + sizeof key - 1;
            (void)ld_parse_u64(ld_span_of(digits, strspn(digits, "0123456789")), &count);
        }
    }
    ld_buffer_deinit(&text);
    return count;
}

/* ---- Messages out ---------------------------------------------------------------------------- */

enum ld_code ld_slot_send(struct ld_slot *slot, enum ld_frame_type type, const char *job_id,
                          uint64_t token, struct ld_span payload, struct ld_error *err)
{
    struct ld_frame frame = {.type = type, .token = token, .payload = payload};
    if (slot->out_pos == slot->out.size) {
        ld_buffer_clear(&slot->out);
        slot->out_pos = 0;
    }
    (void)ld_fmt(frame.job_id, sizeof frame.job_id, "%s", job_id);
    const size_t before = slot->out.size;
    const enum ld_code code = ld_frame_encode(&slot->out, &frame, err);
    if (code != LD_OK) { /* nothing of a half-written frame may go out */
        slot->out.size = before;
        slot->out.failed = false;
    }
    return code;
}

bool ld_slot_wants_write(const struct ld_slot *slot)
{
    return slot->fd >= 0 && slot->out_pos < slot->out.size;
}

bool ld_slot_write(struct ld_slot *slot)
{
    while (slot->out_pos < slot->out.size) {
        const ssize_t sent = send(slot->fd, slot->out.data + slot->out_pos,
                                  slot->out.size - slot->out_pos, MSG_DONTWAIT | MSG_NOSIGNAL);
        const int os_code = errno;
        if (sent > 0)
            slot->out_pos += (size_t)sent;
        else if (sent < 0 && (os_code == EAGAIN || os_code == EWOULDBLOCK))
            return true;
        else if (sent == 0 || os_code != EINTR)
            return false;
    }
    if (slot->out.capacity > (size_t)1 << 20) { /* after large images, give the memory back */
        ld_buffer_deinit(&slot->out);
        slot->out = ld_buffer_make(OUT_BYTES_MAX);
    } else {
        ld_buffer_clear(&slot->out);
    }
    slot->out_pos = 0;
    return true;
}

/* ---- Jobs ------------------------------------------------------------------------------------ */

struct ld_slot_job *ld_slot_job_find(struct ld_slot *slot, const char *id, uint64_t token)
{
    for (uint32_t i = 0; i < slot->job_count; i++) {
        if (slot->jobs[i].token == token && strcmp(slot->jobs[i].id, id) == 0)
            return &slot->jobs[i];
    }
    return NULL;
}

struct ld_slot_job *ld_slot_job_add(struct ld_slot *slot, const struct ld_store_job *job)
{
    LD_ASSERT(slot->job_count < LD_SLOT_JOBS_MAX);
    struct ld_slot_job *added = &slot->jobs[slot->job_count++];
    memset(added, 0, sizeof *added);
    (void)ld_fmt(added->id, sizeof added->id, "%s", job->view.id);
    added->token = job->token;
    added->suspect = job->suspect;
    added->claimed_us = ld_clock_monotonic_us();
    if (slot->job_count == 1) /* an idle worker may have been silent for long */
        slot->activity_us = added->claimed_us;
    return added;
}

void ld_slot_job_remove(struct ld_slot *slot, struct ld_slot_job *job)
{
    while (job->results_first) {
        struct ld_slot_result *next = job->results_first->next;
        ld_buffer_deinit(&job->results_first->payload);
        ld_heap_free(job->results_first);
        job->results_first = next;
    }
    ld_heap_free(job->cells);
    ld_buffer_deinit(&job->preview);
    const uint32_t index = (uint32_t)(job - slot->jobs);
    slot->job_count--;
    if (index != slot->job_count)
        slot->jobs[index] = slot->jobs[slot->job_count];
}
