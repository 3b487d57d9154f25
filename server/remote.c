#include "server/remote.h"

#include "runtime/base/clock.h"
#include "runtime/base/json_find.h"

#include <curl/curl.h>

/* The largest answer taken: one picture of 4096 x 4096. */
enum { ANSWER_MAX = 256 << 20, URL_SIZE = 2048, EVENT_MAX = 1 << 20 };

/* A server that restarts is back within half a minute; waits between 1/4 s and 4 s. */
enum { RECONNECTS_MAX = 12, RECONNECT_US_MIN = 250 * 1000, RECONNECT_US_MAX = 4000 * 1000 };

struct session {
    const struct ld_remote *remote;
    CURL *curl;
    struct curl_slist *headers;
    struct ld_buffer body;
    char base[URL_SIZE];
    char job[64];
    /* event stream */
    struct ld_buffer line;
    char event_name[32];
    char event_id[64];
    bool ended;
    bool cancel_sent;
};

/* ---- One call -------------------------------------------------------------------------------- */

static size_t take_body(char *data, size_t size, size_t count, void *ctx)
{
    struct session *session = ctx;
    ld_buffer_bytes(&session->body, data, size * count);
    return session->body.failed ? 0 : size * count;
}

static int watch_cancel(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    const struct session *session = ctx;
    return session->remote->cancel && !session->cancel_sent &&
           atomic_load(&session->remote->cancel->requested);
}

/* What the server says about a refusal; its sentences are made to be shown. */
static enum ld_code refused(const struct session *session, long status, struct ld_error *err)
{
    const struct ld_span body = ld_span_of(session->body.data, session->body.size);
    char detail[LD_ERROR_DETAIL_SIZE - 64];
    char first[256];
    const enum ld_code code = status == 404                    ? LD_E_NOT_FOUND
                              : status == 401 || status == 403 ? LD_E_AUTH
                              : status == 429                  ? LD_E_QUEUE_FULL
                              : status >= 500                  ? LD_E_IO
                                                               : LD_E_INVALID;
    if (ld_json_find_string(body, "/errors/0/message", first, sizeof first))
        return LD_FAIL(err, code, "%s", first);
    if (ld_json_find_string(body, "/detail", detail, sizeof detail))
        return LD_FAIL(err, code, "%s", detail);
    return LD_FAIL(err, code, "the server answered with status %ld", status);
}

static enum ld_code perform(struct session *session, const char *path, const char *post,
                            struct ld_error *err)
{
    char url[URL_SIZE + 256];
    long status = 0;
    ld_buffer_clear(&session->body);
    if (!ld_fmt(url, sizeof url, "%s%s", session->base, path))
        return LD_FAIL(err, LD_E_INVALID, "the server's URL is too long");
    curl_easy_setopt(session->curl, CURLOPT_URL, url);
    if (post)
        curl_easy_setopt(session->curl, CURLOPT_POSTFIELDS, post);
    else
        curl_easy_setopt(session->curl, CURLOPT_HTTPGET, 1L);
    curl_easy_setopt(session->curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(session->curl, CURLOPT_WRITEDATA, session);
    const CURLcode result = curl_easy_perform(session->curl);
    if (result == CURLE_ABORTED_BY_CALLBACK)
        return LD_FAIL(err, LD_E_CANCELLED, "cancelled");
    if (result != CURLE_OK)
        return LD_FAIL(err, LD_E_IO, "no answer from the server: %s", curl_easy_strerror(result));
    curl_easy_getinfo(session->curl, CURLINFO_RESPONSE_CODE, &status);
    return status >= 200 && status < 300 ? LD_OK : refused(session, status, err);
}

/* ---- The event stream ------------------------------------------------------------------------ */

static void tell_progress(struct session *session, struct ld_span data)
{
    struct ld_engine_progress progress = {.phase = LD_PHASE_SAMPLE};
    char phase[16] = "";
    uint64_t value;
    if (!session->remote->on_progress)
        return;
    if (ld_json_find_string(data, "/progress/phase", phase, sizeof phase))
        for (int p = LD_PHASE_LOAD; p <= LD_PHASE_DONE; p++)
            if (strcmp(phase, ld_engine_phase_name((enum ld_engine_phase)p)) == 0)
                progress.phase = (enum ld_engine_phase)p;
    if (ld_json_find_u64(data, "/progress/image", &value))
        progress.image = (uint32_t)value;
    if (ld_json_find_u64(data, "/progress/images", &value))
        progress.images = (uint32_t)value;
    if (ld_json_find_u64(data, "/progress/step", &value))
        progress.step = (uint32_t)value;
    if (ld_json_find_u64(data, "/progress/steps", &value))
        progress.steps = (uint32_t)value;
    if (!ld_json_find_double(data, "/progress/fraction", &progress.fraction))
        progress.fraction = 0;
    session->remote->on_progress(session->remote->ctx, &progress);
}

static void take_line(struct session *session, const char *line, size_t size)
{
    const struct ld_span text = ld_span_of(line, size);
    if (size > 7 && memcmp(line, "event: ", 7) == 0)
        (void)ld_fmt(session->event_name, sizeof session->event_name, "%.*s", (int)(size - 7),
                     line + 7);
    else if (size > 4 && memcmp(line, "id: ", 4) == 0)
        (void)ld_fmt(session->event_id, sizeof session->event_id, "%.*s", (int)(size - 4),
                     line + 4);
    else if (size > 6 && memcmp(line, "data: ", 6) == 0) {
        if (strcmp(session->event_name, "progress") == 0)
            tell_progress(session, ld_span_of(text.data + 6, text.size - 6));
        if (strcmp(session->event_name, "done") == 0)
            session->ended = true;
    } else if (size == 0) {
        session->event_name[0] = '\0';
    }
}

static size_t take_events(char *data, size_t size, size_t count, void *ctx)
{
    struct session *session = ctx;
    for (size_t i = 0; i < size * count; i++) {
        if (data[i] != '\n') {
            ld_buffer_byte(&session->line, data[i]);
            continue;
        }
        take_line(session, session->line.failed || !session->line.data ? "" : session->line.data,
                  session->line.failed ? 0 : session->line.size);
        ld_buffer_clear(&session->line);
        if (session->ended)
            return 0; /* nothing more to learn: close the stream */
    }
    return size * count;
}

/* One connection to the stream, after the last event seen. */
static CURLcode read_stream(struct session *session)
{
    char url[URL_SIZE + 256];
    char resume[96];
    struct curl_slist *headers = NULL;
    if (session->remote->key[0])
        headers = curl_slist_append(headers, session->headers->data);
    if (session->event_id[0] &&
        ld_fmt(resume, sizeof resume, "Last-Event-ID: %s", session->event_id))
        headers = curl_slist_append(headers, resume);
    (void)ld_fmt(url, sizeof url, "%s/v1/jobs/%s/events", session->base, session->job);
    curl_easy_setopt(session->curl, CURLOPT_URL, url);
    curl_easy_setopt(session->curl, CURLOPT_HTTPGET, 1L);
    curl_easy_setopt(session->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(session->curl, CURLOPT_WRITEFUNCTION, take_events);
    curl_easy_setopt(session->curl, CURLOPT_WRITEDATA, session);
    ld_buffer_clear(&session->line);
    const CURLcode result = curl_easy_perform(session->curl);
    curl_slist_free_all(headers);
    curl_easy_setopt(session->curl, CURLOPT_HTTPHEADER, session->headers);
    return result;
}

/* Follow the stream to its end, taking it up again where it broke. A connection that brought
 * something counts as none lost: proxies cut long streams for ever. */
static enum ld_code follow(struct session *session, struct ld_error *err)
{
    int64_t wait_us = RECONNECT_US_MIN;
    for (int attempt = 0; attempt < RECONNECTS_MAX && !session->ended;) {
        char seen[sizeof session->event_id];
        long status = 0;
        memcpy(seen, session->event_id, sizeof seen);
        const CURLcode result = read_stream(session);
        if (result == CURLE_ABORTED_BY_CALLBACK || watch_cancel(session, 0, 0, 0, 0))
            return LD_FAIL(err, LD_E_CANCELLED, "cancelled");
        curl_easy_getinfo(session->curl, CURLINFO_RESPONSE_CODE, &status);
        if (result == CURLE_OK && status == 404)
            return LD_FAIL(err, LD_E_NOT_FOUND, "the server no longer has the job");
        if (session->ended)
            break;
        if (strcmp(seen, session->event_id) != 0) {
            attempt = 0;
            wait_us = RECONNECT_US_MIN;
        } else {
            attempt++;
        }
        ld_clock_sleep_us(wait_us);
        wait_us = 2 * wait_us < RECONNECT_US_MAX ? 2 * wait_us : RECONNECT_US_MAX;
    }
    return session->ended ? LD_OK : LD_FAIL(err, LD_E_IO, "the connection to the server was lost");
}

/* ---- The whole job --------------------------------------------------------------------------- */

static enum ld_code fetch_image(struct session *session, struct ld_span job, uint32_t index,
                                struct ld_error *err)
{
    char pointer[48];
    char url[256];
    uint64_t number;
    struct ld_engine_image image = {.index = index};
    (void)ld_fmt(pointer, sizeof pointer, "/images/%u/url", index);
    if (!ld_json_find_string(job, pointer, url, sizeof url) || url[0] != '/')
        return LD_FAIL(err, LD_E_FORMAT, "the server's answer names no picture");
    (void)ld_fmt(pointer, sizeof pointer, "/images/%u/seed", index);
    if (ld_json_find_u64(job, pointer, &number))
        image.seed = number;
    (void)ld_fmt(pointer, sizeof pointer, "/images/%u/width", index);
    if (ld_json_find_u64(job, pointer, &number))
        image.width = (int32_t)number;
    (void)ld_fmt(pointer, sizeof pointer, "/images/%u/height", index);
    if (ld_json_find_u64(job, pointer, &number))
        image.height = (int32_t)number;
    if (perform(session, url, NULL, err) != LD_OK)
        return err->code;
    image.file = ld_span_of(session->body.data, session->body.size);
    if (session->remote->on_image)
        session->remote->on_image(session->remote->ctx, &image);
    return LD_OK;
}

static enum ld_code fetch_images(struct session *session, struct ld_error *err)
{
    char path[128];
    char status[24] = "";
    char detail[LD_ERROR_DETAIL_SIZE - 64];
    struct ld_buffer job = ld_buffer_make(1 << 20);
    (void)ld_fmt(path, sizeof path, "/v1/jobs/%s", session->job);
    enum ld_code code = perform(session, path, NULL, err);
    if (code != LD_OK)
        goto done;
    ld_buffer_bytes(&job, session->body.data, session->body.size);
    const struct ld_span text = ld_span_of(job.data, job.size);
    if (session->remote->on_end)
        session->remote->on_end(session->remote->ctx, text);
    if (!ld_json_find_string(text, "/status", status, sizeof status) ||
        strcmp(status, "succeeded") != 0) {
        const bool told = ld_json_find_string(text, "/error/detail", detail, sizeof detail);
        code = LD_FAIL(err, strcmp(status, "cancelled") == 0 ? LD_E_CANCELLED : LD_E_BUG, "%s",
                       told ? detail : "the job did not succeed");
        goto done;
    }
    for (uint32_t i = 0; code == LD_OK; i++) {
        struct ld_json_token token;
        char pointer[32];
        (void)ld_fmt(pointer, sizeof pointer, "/images/%u", i);
        if (!ld_json_find(text, pointer, &token))
            break;
        code = fetch_image(session, text, i, err);
    }
done:
    ld_buffer_deinit(&job);
    return code;
}

static enum ld_code run_job(struct session *session, struct ld_error *err)
{
    if (perform(session, "/v1/jobs", session->remote->request_json, err) != LD_OK)
        return err->code;
    if (!ld_json_find_string(ld_span_of(session->body.data, session->body.size), "/id",
                             session->job, sizeof session->job))
        return LD_FAIL(err, LD_E_FORMAT, "the answer is not latentd's; is the URL right?");
    enum ld_code code = follow(session, err);
    if (code == LD_E_CANCELLED) {
        char path[128];
        struct ld_error ignored = {0};
        session->cancel_sent = true;
        (void)ld_fmt(path, sizeof path, "/v1/jobs/%s/cancel", session->job);
        if (perform(session, path, "{}", &ignored) != LD_OK)
            ld_error_note(err, "the cancel did not reach the server");
        return code;
    }
    return code == LD_OK ? fetch_images(session, err) : code;
}

/* A curl handle with this server's base URL and headers; close_session in any case. */
static enum ld_code open_session(struct session *session, const struct ld_remote *remote,
                                 const char *content_type, struct ld_error *err)
{
    struct ld_buffer line = ld_buffer_make(4096);
    size_t length = strlen(remote->url);
    session->remote = remote;
    session->body = ld_buffer_make(ANSWER_MAX);
    session->line = ld_buffer_make(EVENT_MAX);
    while (length > 0 && remote->url[length - 1] == '/')
        length--;
    if (!ld_fmt(session->base, sizeof session->base, "%.*s", (int)length, remote->url) ||
        (strncmp(session->base, "http://", 7) != 0 && strncmp(session->base, "https://", 8) != 0))
        return LD_FAIL(err, LD_E_INVALID, "--server must be an http:// or https:// URL");
    session->curl = curl_easy_init();
    if (!session->curl)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    ld_buffer_format(&line, "Authorization: Bearer %s", remote->key);
    if (remote->key[0] && !line.failed)
        session->headers = curl_slist_append(session->headers, line.data);
    ld_buffer_clear(&line);
    ld_buffer_format(&line, "Content-Type: %s", content_type);
    if (!line.failed)
        session->headers = curl_slist_append(session->headers, line.data);
    ld_buffer_deinit(&line);
    session->headers = curl_slist_append(session->headers, "Expect:");
    curl_easy_setopt(session->curl, CURLOPT_HTTPHEADER, session->headers);
    curl_easy_setopt(session->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(session->curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(session->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(session->curl, CURLOPT_XFERINFOFUNCTION, watch_cancel);
    curl_easy_setopt(session->curl, CURLOPT_XFERINFODATA, session);
    return LD_OK;
}

static void close_session(struct session *session)
{
    curl_slist_free_all(session->headers);
    if (session->curl)
        curl_easy_cleanup(session->curl);
    ld_buffer_deinit(&session->line);
    ld_buffer_deinit(&session->body);
}

enum ld_code ld_remote_run(const struct ld_remote *remote, struct ld_error *err)
{
    struct session session = {.remote = NULL};
    enum ld_code code = open_session(&session, remote, "application/json", err);
    if (code == LD_OK)
        code = run_job(&session, err);
    close_session(&session);
    return code;
}

enum ld_code ld_remote_upload(const struct ld_remote *remote, struct ld_span png,
                              char id[LD_ID_SIZE], struct ld_error *err)
{
    struct session session = {.remote = NULL};
    enum ld_code code = open_session(&session, remote, "image/png", err);
    if (code == LD_OK) {
        curl_easy_setopt(session.curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)png.size);
        code = perform(&session, "/v1/images", (const char *)png.data, err);
    }
    if (code == LD_OK && !ld_json_find_string(ld_span_of(session.body.data, session.body.size),
                                              "/id", id, LD_ID_SIZE))
        code = LD_FAIL(err, LD_E_FORMAT, "the answer is not latentd's; is the URL right?");
    close_session(&session);
    return code;
}
