#include "server/handlers.h"

#include "api/base64.h"
#include "api/respond.h"
#include "server/front.h"

enum { DISK_FLOOR_BYTES = 8 << 20 }; /* a few results; below it, submits are about to fail */

enum ld_handled ld_handle_health(struct ld_exchange *ex)
{
    return ld_exchange_empty(ex, 200);
}

/* Why the server cannot take work, or NULL. `buffer` may hold the reason. */
static const char *not_ready(struct ld_front *front, char *buffer, size_t size)
{
    struct ld_supervisor_status workers;
    struct ld_store_queue queue;
    struct ld_error err = {0};
    if (atomic_load(&front->draining))
        return "the server is shutting down";
    if (ld_store_is_broken(front->store) || ld_store_queue(front->store, &queue, &err) != LD_OK)
        return "the job store cannot be used";
    if (ld_blobs_disk_free(front->blobs) < DISK_FLOOR_BYTES)
        return "the disk is nearly full";
    if (queue.queued >= front->settings->queued_max)
        return "the queue is full";
    ld_supervisor_status_get(front->supervisor, &workers);
    if (workers.ready > 0)
        return NULL;
    if (workers.disabled == workers.workers)
        return "every worker died too often and is disabled for a while";
    if (workers.reason[0] && ld_fmt(buffer, size, "no worker is ready: %s", workers.reason))
        return buffer;
    return "no worker is ready yet";
}

enum ld_handled ld_handle_ready(struct ld_exchange *ex)
{
    char buffer[320];
    const char *reason = not_ready(ex->front, buffer, sizeof buffer);
    if (!reason)
        return ld_exchange_empty(ex, 200);
    struct ld_problem problem;
    ld_problem_init(&problem, &ex->arena);
    (void)ld_problem_add(&problem, LD_E_DRAINING, "", "%s", reason);
    problem.status = 503;
    problem.name = "not_ready";
    problem.retry_after_s = 2;
    return ld_exchange_problem(ex, &problem);
}

enum ld_handled ld_handle_version(struct ld_exchange *ex)
{
    ld_buffer_text(&ex->reply.body, "{\"name\":\"latentd\",\"version\":\"" LATENTD_VERSION
                                    "\",\"api\":\"v1\",\"formats\":[\"png\"");
    for (int kind = LD_PICTURE_PNG + 1; kind < LD_PICTURE_KINDS; kind++)
        if (ld_picture_kind_built((enum ld_picture_kind)kind))
            ld_buffer_format(&ex->reply.body, ",\"%s\"",
                             ld_picture_kind_name((enum ld_picture_kind)kind));
    ld_buffer_format(&ex->reply.body, "],\"tipo\":%s}",
                     ex->front->settings->tipo_model[0] ? "true" : "false");
    return ld_exchange_json(ex, 200);
}

enum ld_handled ld_handle_openapi(struct ld_exchange *ex)
{
    const struct ld_span document = ld_openapi_document();
    ld_buffer_bytes(&ex->reply.body, document.data, document.size);
    return ld_exchange_json(ex, 200);
}

/* The page's one style sheet is named by its digest, everything else is forbidden. */
static const char *docs_policy(struct ld_exchange *ex)
{
    uint8_t digest[LD_SHA256_BYTES];
    struct ld_buffer text = ld_buffer_make(512);
    ld_sha256(ld_span_text(ld_docs_style()), digest);
    ld_buffer_text(&text, "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; "
                          "style-src 'sha256-");
    ld_base64_encode(ld_span_of(digest, sizeof digest), &text);
    ld_buffer_text(&text, "'");
    const char *policy = text.failed ? NULL : ld_arena_strdup(&ex->arena, text.data);
    ld_buffer_deinit(&text);
    return policy ? policy : "default-src 'none'";
}

enum ld_handled ld_handle_docs(struct ld_exchange *ex)
{
    struct ld_error err = {0};
    if (ld_docs_page_write(&ex->reply.body, &err) != LD_OK)
        return ld_exchange_fail(ex, &err);
    (void)ld_exchange_json(ex, 200);
    ex->reply.content_type = "text/html; charset=utf-8";
    ld_exchange_set_header(ex, "Content-Security-Policy", docs_policy(ex));
    return LD_HANDLED;
}
