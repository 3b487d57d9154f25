/*
 * The client side of `latentd generate --server URL`: sends one request to another latentd, follows
 * its event stream and fetches the pictures. This is the command line's own code; the server never
 * opens a connection.
 */
#ifndef LD_SERVER_REMOTE_H
#define LD_SERVER_REMOTE_H

#include "runtime/base/id.h"
#include "runtime/base/thread.h"
#include "runtime/engine.h"

struct ld_remote {
    const char *url;          /* "http://host:7860", with or without a closing slash */
    const char *key;          /* sent as a bearer token; "" for none */
    const char *request_json; /* body of POST /v1/jobs */
    const struct ld_cancel *cancel;
    void *ctx;
    /* Called with the server's words, on the calling thread. Any may be NULL. */
    void (*on_progress)(void *ctx, const struct ld_engine_progress *progress);
    void (*on_image)(void *ctx, const struct ld_engine_image *image);
    void (*on_end)(void *ctx, struct ld_span job); /* its document, before the first image */
};

/*
 * Store an image on the server (POST /v1/images); `id` is what a request names it by. Only url and
 * key of `remote` are looked at. Errors as ld_remote_run.
 */
enum ld_code ld_remote_upload(const struct ld_remote *remote, struct ld_span png,
                              char id[LD_ID_SIZE], struct ld_error *err) LD_MUST_USE;

/*
 * Runs to the end of the job. A cancel is passed on to the server.
 * Errors   LD_E_IO (no connection, lost), LD_E_CANCELLED, or what the server answered, with its
 *          own sentence.
 */
enum ld_code ld_remote_run(const struct ld_remote *remote, struct ld_error *err) LD_MUST_USE;

#endif
