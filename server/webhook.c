#include "server/webhook.h"

#include "runtime/base/fsx.h"
#include "runtime/base/json_find.h"
#include "runtime/base/log.h"
#include "server/webhook_url.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct ld_webhooks {
    char *const *argv;
    struct ld_metrics *metrics;
    pthread_mutex_t lock; /* guards fd against posts */
    int fd;
    pid_t pid; /* of the sender's keeper */
};

/* ---- What is sent ---------------------------------------------------------------------------- */

/* The value at `pointer` as it stands in the document, as a member called `name`. */
static void copy_member(struct ld_buffer *out, struct ld_span json, const char *pointer,
                        const char *name)
{
    struct ld_span value;
    if (!ld_json_find_span(json, pointer, &value))
        return;
    ld_buffer_format(out, ",\"%s\":", name);
    ld_buffer_bytes(out, value.data, value.size);
}

/* Does the request ask for calls about `word`? Its canonical text has these words nowhere else. */
static bool asks_for(struct ld_span request, const char *word)
{
    struct ld_span events;
    char quoted[32];
    if (!ld_json_find_span(request, "/webhook/events", &events))
        return strcmp(word, "done") == 0;
    LD_ASSERT(ld_fmt(quoted, sizeof quoted, "\"%s\"", word));
    return memmem(events.data, events.size, quoted, strlen(quoted)) != NULL;
}

/* The word for what happened, if the job asked to be told; NULL: it did not. */
static const char *word_of(const struct ld_store_event *event, struct ld_span request,
                           char status[32])
{
    if (event->kind == LD_EVENT_IMAGE)
        return asks_for(request, "image") ? "image" : NULL;
    if ((event->kind != LD_EVENT_STATUS && event->kind != LD_EVENT_DONE) ||
        !ld_json_find_string(ld_span_text(event->json), "/status", status, 32))
        return NULL;
    if (event->kind == LD_EVENT_DONE)
        return asks_for(request, "done") || asks_for(request, status) ? "done" : NULL;
    /* The end has its own event, with the whole document. */
    const bool begins = strcmp(status, "queued") == 0 || strcmp(status, "running") == 0;
    return begins && asks_for(request, status) ? status : NULL;
}

bool ld_webhook_body(const struct ld_store_event *event, char *url, size_t url_size,
                     struct ld_buffer *body)
{
    char status[32];
    if (!event->request || !strstr(event->request, "\"webhook\":{"))
        return false; /* nearly every event, and quickly */
    const struct ld_span request = ld_span_text(event->request);
    const struct ld_span json = ld_span_text(event->json);
    if (!ld_json_find_string(request, "/webhook/url", url, url_size) || !url[0])
        return false;
    const char *word = word_of(event, request, status);
    if (!word)
        return false;
    ld_buffer_format(body, "{\"event\":\"%s\",\"event_id\":%llu,\"id\":\"%s\"", word,
                     (unsigned long long)event->id, event->job_id);
    copy_member(body, json, "/status", "status");
    copy_member(body, json, "/created_at", "created_at");
    copy_member(body, json, "/started_at", "started_at");
    copy_member(body, json, "/finished_at", "finished_at");
    copy_member(body, json, "/image", "image");
    copy_member(body, json, "/images", "images");
    copy_member(body, json, "/error/code", "error_code");
    copy_member(body, request, "/tag", "tag");
    copy_member(body, request, "/user_data", "user_data");
    ld_buffer_text(body, "}");
    return !body->failed;
}

void ld_webhook_signature(struct ld_span secret, int64_t seconds, struct ld_span body,
                          char out[112])
{
    struct ld_buffer text = ld_buffer_make(body.size + 64);
    uint8_t digest[LD_SHA256_BYTES];
    ld_buffer_format(&text, "%lld.", (long long)seconds);
    ld_buffer_bytes(&text, body.data, body.size);
    ld_hmac_sha256(secret, ld_span_of(text.data ? text.data : "", text.size), digest);
    LD_ASSERT(ld_fmt(out, 112, "t=%lld,v1=", (long long)seconds));
    size_t at = strlen(out);
    for (size_t i = 0; i < sizeof digest; i++, at += 2)
        LD_ASSERT(ld_fmt(out + at, 112 - at, "%02x", digest[i]));
    ld_buffer_deinit(&text);
}

enum ld_code ld_webhook_secret(const char *path, struct ld_buffer *secret, struct ld_error *err)
{
    if (!path[0])
        return LD_FAIL(err, LD_E_INVALID,
                       "webhooks.hosts is set, so webhooks.secret_file must name a file with the "
                       "secret that calls are signed with");
    *secret = ld_buffer_make(LD_WEBHOOK_SECRET_BYTES_MAX);
    if (ld_fsx_read_file(path, secret, err) != LD_OK)
        return LD_FAIL(err, LD_E_INVALID, "the file of webhooks.secret_file cannot be read");
    while (secret->size > 0 &&
           (secret->data[secret->size - 1] == '\n' || secret->data[secret->size - 1] == '\r'))
        secret->size--;
    if (secret->size < LD_WEBHOOK_SECRET_BYTES_MIN)
        return LD_FAIL(err, LD_E_INVALID,
                       "the secret of webhooks.secret_file must have %d to %d bytes",
                       LD_WEBHOOK_SECRET_BYTES_MIN, LD_WEBHOOK_SECRET_BYTES_MAX);
    return LD_OK;
}

/* ---- The process ----------------------------------------------------------------------------- */

static bool spawn(struct ld_webhooks *webhooks, int child_fd)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    bool good = false;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return false;
    if (posix_spawnattr_init(&attributes) == 0) {
        (void)sigemptyset(&none);
        good = posix_spawnattr_setsigmask(&attributes, &none) == 0 &&
               posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK) == 0 &&
               posix_spawn_file_actions_adddup2(&actions, child_fd, LD_WEBHOOK_FD) == 0 &&
               posix_spawn(&webhooks->pid, "/proc/self/exe", &actions, &attributes, webhooks->argv,
                           environ) == 0;
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return good;
}

static bool start(struct ld_webhooks *webhooks)
{
    int fds[2];
    /* One message a packet: no half ones, and a full queue refuses instead of blocking. */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0)
        return false;
    if (fds[1] == LD_WEBHOOK_FD) { /* dup2 onto itself would keep close-on-exec */
        const int moved = fcntl(fds[1], F_DUPFD_CLOEXEC, 10);
        (void)close(fds[1]);
        fds[1] = moved;
    }
    const bool good = fds[1] >= 0 && spawn(webhooks, fds[1]);
    if (fds[1] >= 0)
        (void)close(fds[1]);
    if (good)
        webhooks->fd = fds[0];
    else
        (void)close(fds[0]);
    return good;
}

enum ld_code ld_webhooks_open(struct ld_webhooks **out, const struct ld_settings *settings,
                              char *const *argv, struct ld_metrics *metrics, struct ld_error *err)
{
    struct ld_buffer secret = ld_buffer_make(0);
    *out = NULL;
    if (!settings->webhook_hosts[0])
        return LD_OK;
    const enum ld_code code = ld_webhook_secret(settings->webhook_secret_file, &secret, err);
    ld_buffer_deinit(&secret); /* only the sender keeps it */
    if (code != LD_OK)
        return code;
    struct ld_webhooks *webhooks = ld_heap_alloc(sizeof *webhooks);
    if (!webhooks)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    webhooks->argv = argv;
    webhooks->metrics = metrics;
    webhooks->fd = webhooks->pid = -1;
    (void)pthread_mutex_init(&webhooks->lock, NULL);
    if (!start(webhooks)) {
        ld_webhooks_close(webhooks);
        return LD_FAIL(err, LD_E_NOMEM, "the sender of webhooks could not be started");
    }
    *out = webhooks;
    return LD_OK;
}

static void take_reports(struct ld_webhooks *webhooks)
{
    char report;
    for (int i = 0; webhooks->fd >= 0 && i < 1000; i++) {
        if (recv(webhooks->fd, &report, 1, MSG_DONTWAIT) != 1)
            return;
        ld_metrics_add(webhooks->metrics,
                       report == 'o'   ? LD_COUNT_WEBHOOKS_OK
                       : report == 'f' ? LD_COUNT_WEBHOOKS_FAILED
                                       : LD_COUNT_WEBHOOKS_DROPPED,
                       1);
    }
}

void ld_webhooks_attend(struct ld_webhooks *webhooks)
{
    int status;
    if (!webhooks)
        return;
    take_reports(webhooks);
    if (webhooks->pid > 0 && waitpid(webhooks->pid, &status, WNOHANG) == webhooks->pid) {
        /* It cannot be started again: it would lack the right to connect as this process does. */
        LD_LOG(LD_LOG_ERROR, "webhook", "the keeper of the sender has ended; no calls from now on",
               ld_log_int("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0),
               ld_log_int("exit", WIFEXITED(status) ? WEXITSTATUS(status) : -1));
        pthread_mutex_lock(&webhooks->lock);
        (void)close(webhooks->fd);
        webhooks->fd = webhooks->pid = -1;
        pthread_mutex_unlock(&webhooks->lock);
    }
}

void ld_webhooks_post(struct ld_webhooks *webhooks, const struct ld_store_event *event)
{
    char url[LD_WEBHOOK_URL_BYTES_MAX + 1];
    struct ld_buffer message = ld_buffer_make(LD_WEBHOOK_MESSAGE_BYTES_MAX);
    struct ld_buffer body = ld_buffer_make(LD_WEBHOOK_MESSAGE_BYTES_MAX);
    if (!webhooks || !ld_webhook_body(event, url, sizeof url, &body))
        goto done;
    ld_buffer_bytes(&message, url, strlen(url) + 1);
    ld_buffer_bytes(&message, body.data, body.size);
    pthread_mutex_lock(&webhooks->lock);
    const bool sent = !message.failed && webhooks->fd >= 0 &&
                      send(webhooks->fd, message.data, message.size, MSG_DONTWAIT | MSG_NOSIGNAL) ==
                          (ssize_t)message.size;
    pthread_mutex_unlock(&webhooks->lock);
    if (!sent)
        ld_metrics_add(webhooks->metrics, LD_COUNT_WEBHOOKS_DROPPED, 1);
done:
    ld_buffer_deinit(&body);
    ld_buffer_deinit(&message);
}

void ld_webhooks_close(struct ld_webhooks *webhooks)
{
    if (!webhooks)
        return;
    if (webhooks->fd >= 0)
        (void)close(webhooks->fd); /* its end for the sender too */
    if (webhooks->pid > 0) {
        (void)kill(webhooks->pid, SIGKILL);
        while (waitpid(webhooks->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    (void)pthread_mutex_destroy(&webhooks->lock);
    ld_heap_free(webhooks);
}
