/*
 * `latentd webhook`: started by `latentd serve` with its end of a socket pair as descriptor 3; the
 * only process that opens connections. It is two: a keeper, started before the server gives up the
 * right to connect, and the sender, which the keeper starts again when it dies. For each message it
 * calls one URL: https only, the host must still be a listed one, its name is resolved once, every
 * address is judged, and the connection goes to the judged address; no redirect, no proxy, at most
 * 5 s. What fails is tried again ever more rarely, within a bounded queue.
 */
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "server/cmd.h"
#include "server/cmd_options.h"
#include "server/webhook.h"
#include "server/webhook_url.h"

#include <curl/curl.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    WAITING_MAX = 1000,
    ANSWER_BYTES_MAX = 4096,
    CALL_SECONDS = 5,
    EXIT_CONFIG = 78 /* EX_CONFIG */
};
static const int64_t second_us = 1000000;

/* Seconds before the n-th repetition. */
static const int64_t pauses_s[] = {1, 5, 25, 120, 600};

struct call {
    struct call *next;
    int64_t due_us;
    uint32_t tries;
    size_t body_size;
    char *body; /* in `bytes`, behind the URL */
    char bytes[];
};

struct sender {
    const struct ld_settings *settings;
    struct ld_buffer secret;
    struct call *waiting; /* soonest first */
    uint32_t count;
};

static void report(char what)
{
    (void)(send(LD_WEBHOOK_FD, &what, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1);
}

/* ---- The queue ------------------------------------------------------------------------------- */

static void put(struct sender *sender, struct call *call)
{
    struct call **place = &sender->waiting;
    while (*place && (*place)->due_us <= call->due_us)
        place = &(*place)->next;
    call->next = *place;
    *place = call;
    sender->count++;
}

static struct call *take_due(struct sender *sender, int64_t now_us)
{
    struct call *first = sender->waiting;
    if (!first || first->due_us > now_us)
        return NULL;
    sender->waiting = first->next;
    sender->count--;
    return first;
}

/* ---- One call -------------------------------------------------------------------------------- */

static size_t discard(char *data, size_t size, size_t count, void *ctx)
{
    size_t *taken = ctx;
    (void)data;
    *taken += size * count;
    return *taken > ANSWER_BYTES_MAX ? 0 : size * count;
}

/* "+HOST:PORT:ADDRESS[,...]" for CURLOPT_RESOLVE: only judged addresses. */
static bool resolve(const struct sender *sender, const struct ld_webhook_url *url,
                    struct curl_slist **list)
{
    const bool private_too = ld_webhook_url_is_listed(url, sender->settings->webhook_private_hosts);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    struct ld_buffer line = ld_buffer_make(4096);
    bool good = getaddrinfo(url->host, NULL, &hints, &found) == 0;
    uint32_t count = 0;
    ld_buffer_format(&line, "+%s:%u:", url->host, url->port);
    for (const struct addrinfo *at = found; good && at && count < 8; at = at->ai_next) {
        char text[64];
        if (!private_too && !ld_webhook_address_is_public(at->ai_addr))
            good = false; /* one of them is enough: the next answer might begin with it */
        else if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof text, NULL, 0,
                             NI_NUMERICHOST) == 0 &&
                 !strchr(text, '%'))
            ld_buffer_format(&line, at->ai_family == AF_INET6 ? "%s[%s]" : "%s%s",
                             count++ ? "," : "", text);
    }
    if (found)
        freeaddrinfo(found);
    good = good && count > 0 && !line.failed;
    if (good)
        *list = curl_slist_append(NULL, line.data);
    ld_buffer_deinit(&line);
    return good && *list;
}

static struct curl_slist *headers_of(const struct sender *sender, const struct call *call)
{
    char signature[112];
    char line[160];
    struct curl_slist *list = curl_slist_append(NULL, "Content-Type: application/json");
    ld_webhook_signature(ld_span_of(sender->secret.data, sender->secret.size),
                         ld_clock_wall_us() / second_us, ld_span_of(call->body, call->body_size),
                         signature);
    if (ld_fmt(line, sizeof line, "Latentd-Signature: %s", signature))
        list = curl_slist_append(list, line);
    list = curl_slist_append(list, "Expect:");
    return curl_slist_append(list, "Accept:");
}

/* True if the other side took it; `*again` whether another try may help. */
static bool perform(const struct sender *sender, const struct call *call,
                    struct curl_slist *addresses, bool *again)
{
    const char *target = call->bytes;
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = headers_of(sender, call);
    size_t taken = 0;
    long status = 0;
    bool good = false;
    *again = true;
    if (!curl || !headers)
        goto done;
    (void)curl_easy_setopt(curl, CURLOPT_URL, target);
    (void)curl_easy_setopt(curl, CURLOPT_RESOLVE, addresses);
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    (void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)CALL_SECONDS);
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "latentd/" LATENTD_VERSION);
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)call->body_size);
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, call->body);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, discard);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, &taken);
    if (sender->settings->webhook_ca_file[0])
        (void)curl_easy_setopt(curl, CURLOPT_CAINFO, sender->settings->webhook_ca_file);
    const CURLcode code = curl_easy_perform(curl);
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    /* A long answer to a call that was taken is cut off, not called again. */
    good = (code == CURLE_OK || code == CURLE_WRITE_ERROR) && status >= 200 && status < 300;
    *again = status == 0 || status == 408 || status == 429 || status >= 500;
    if (!good)
        LD_LOG(LD_LOG_WARN, "webhook", "a call failed", ld_log_int("status", (int64_t)status),
               ld_log_text("why", code == CURLE_OK ? "" : curl_easy_strerror(code)),
               ld_log_int("tries", call->tries));
done:
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return good;
}

static void make(struct sender *sender, struct call *call)
{
    struct ld_webhook_url url;
    struct ld_error err = {0};
    struct curl_slist *addresses = NULL;
    bool again = false;
    bool good = false;
    call->tries++;
    if (ld_webhook_url_parse(&url, ld_span_text(call->bytes), &err) != LD_OK ||
        !ld_webhook_url_is_listed(&url, sender->settings->webhook_hosts)) {
        LD_LOG(LD_LOG_WARN, "webhook", "a call to a host that is not listed was dropped");
    } else if (!resolve(sender, &url, &addresses)) {
        LD_LOG(LD_LOG_WARN, "webhook", "a host has no address that may be called");
        again = true;
    } else {
        good = perform(sender, call, addresses, &again);
    }
    curl_slist_free_all(addresses);
    if (good || !again || call->tries > sizeof pauses_s / sizeof pauses_s[0]) {
        report(good ? 'o' : 'f');
        ld_heap_free(call);
        return;
    }
    call->due_us = ld_clock_monotonic_us() + pauses_s[call->tries - 1] * second_us;
    put(sender, call);
}

/* ---- The loop -------------------------------------------------------------------------------- */

/* One message "URL\0BODY"; false when the front is gone. */
static bool receive(struct sender *sender)
{
    static char message[LD_WEBHOOK_MESSAGE_BYTES_MAX];
    const ssize_t got = recv(LD_WEBHOOK_FD, message, sizeof message, MSG_DONTWAIT);
    if (got == 0)
        return false;
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    const char *end = memchr(message, '\0', (size_t)got);
    struct call *call =
        end && sender->count < WAITING_MAX ? ld_heap_alloc(sizeof *call + (size_t)got + 1) : NULL;
    if (!call) {
        report('d');
        return true;
    }
    memcpy(call->bytes, message, (size_t)got);
    call->body = call->bytes + (end - message) + 1;
    call->body_size = (size_t)got - (size_t)(end - message) - 1;
    call->due_us = ld_clock_monotonic_us();
    put(sender, call);
    return true;
}

static int run(struct sender *sender)
{
    for (;;) {
        struct pollfd look = {.fd = LD_WEBHOOK_FD, .events = POLLIN};
        int64_t wait_us = 60 * second_us;
        const int64_t now_us = ld_clock_monotonic_us();
        if (sender->waiting)
            wait_us = sender->waiting->due_us > now_us ? sender->waiting->due_us - now_us : 0;
        if (poll(&look, 1, (int)(wait_us / 1000) + (wait_us > 0 ? 1 : 0)) > 0 && !receive(sender))
            return LD_EXIT_OK;
        struct call *call = take_due(sender, ld_clock_monotonic_us());
        if (call)
            make(sender, call);
    }
}

static bool has_front(void)
{
    int type = 0;
    socklen_t size = sizeof type;
    return getsockopt(LD_WEBHOOK_FD, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
           type == SOCK_SEQPACKET;
}

/* ---- The keeper ------------------------------------------------------------------------------ */

/* Returns in the sender; the keeper ends with the front. It holds neither secret nor settings. */
static void keep_sender(void)
{
    const pid_t keeper = getpid();
    for (unsigned deaths = 0;;) {
        int status = 0;
        const pid_t sender = fork();
        if (sender == 0) {
            /* Never without its keeper, whom the front ends in the last resort. */
            if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != keeper)
                _exit(LD_EXIT_FAILED);
            return;
        }
        while (sender > 0 && waitpid(sender, &status, 0) < 0 && errno == EINTR)
            ;
        if (sender > 0 && WIFEXITED(status) && WEXITSTATUS(status) == LD_EXIT_OK)
            _exit(LD_EXIT_OK);
        LD_LOG(LD_LOG_WARN, "webhook", "the sender has ended; what waited is lost",
               ld_log_int("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0),
               ld_log_int("exit", WIFEXITED(status) ? WEXITSTATUS(status) : -1));
        deaths = deaths < 6 ? deaths + 1 : 6;
        ld_clock_sleep_us(second_us << (deaths - 1));
    }
}

int ld_cmd_webhook(int argc, char **argv)
{
    static const struct rlimit no_core = {0, 0};
    struct ld_cmd_options options;
    struct sender sender = {0};
    struct ld_error err = {0};
    if (!has_front()) {
        (void)fputs("latentd webhook is started by latentd serve\n", stderr);
        return LD_EXIT_USAGE;
    }
    (void)setrlimit(RLIMIT_CORE, &no_core); /* it holds a secret */
    keep_sender();
    sender.settings = &options.settings;
    if (ld_cmd_options_read(&options, argc, argv, &err) != LD_OK ||
        ld_webhook_secret(options.settings.webhook_secret_file, &sender.secret, &err) != LD_OK) {
        (void)fprintf(stderr, "latentd webhook: %s\n", err.detail);
        return EXIT_CONFIG;
    }
    ld_cmd_options_log(&options.settings);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        return LD_EXIT_FAILED;
    return run(&sender);
}
