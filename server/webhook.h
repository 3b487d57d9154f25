/*
 * The front's side of webhooks: it starts the sending process (cmd_webhook.c), hands it what has
 * happened to jobs that asked for a call, and counts what came of it. The front itself opens no
 * connection. Nothing waits: a sender that cannot keep up loses calls, which is counted.
 *
 * What is sent says how a job stands and where its pictures are; never a prompt.
 */
#ifndef LD_SERVER_WEBHOOK_H
#define LD_SERVER_WEBHOOK_H

#include "config/settings.h"
#include "server/metrics.h"
#include "server/store.h"

struct ld_webhooks;

/* Off (and *out NULL) while webhooks.hosts is empty. `argv` is this program's verb `webhook` with
 * the front's own options, borrowed.
 * Errors   LD_E_INVALID (no readable secret), LD_E_NOMEM. */
enum ld_code ld_webhooks_open(struct ld_webhooks **out, const struct ld_settings *settings,
                              char *const *argv, struct ld_metrics *metrics,
                              struct ld_error *err) LD_MUST_USE;
/* What waits is lost. */
void ld_webhooks_close(struct ld_webhooks *webhooks);

/* A committed event; any thread, never waits. `webhooks` may be NULL. */
void ld_webhooks_post(struct ld_webhooks *webhooks, const struct ld_store_event *event);

/* Read what the sender has done and whether its keeper lives. Called every second by one thread. */
void ld_webhooks_attend(struct ld_webhooks *webhooks);

/* ---- For both sides and tests ----------------------------------------------------------------- */

enum {
    LD_WEBHOOK_MESSAGE_BYTES_MAX = 64 * 1024, /* of one call on the way to the sender */
    LD_WEBHOOK_FD = 3,
    LD_WEBHOOK_SECRET_BYTES_MIN = 16,
    LD_WEBHOOK_SECRET_BYTES_MAX = 1024
};

/*
 * The body for an event: what happened, the event's and the job's id, tag and user data; with a
 * change its status, with a picture that picture, with the end status, times, pictures and error
 * code. False if the job asked for no call about this; else `url` is where to.
 */
bool ld_webhook_body(const struct ld_store_event *event, char *url, size_t url_size,
                     struct ld_buffer *body);

/* "t=SECONDS,v1=HEX": HMAC-SHA256 over "SECONDS.BODY". */
void ld_webhook_signature(struct ld_span secret, int64_t seconds, struct ld_span body,
                          char out[112]);

/* The secret in a file, without the line break at its end. Errors   LD_E_INVALID, LD_E_IO. */
enum ld_code ld_webhook_secret(const char *path, struct ld_buffer *secret,
                               struct ld_error *err) LD_MUST_USE;

#endif
