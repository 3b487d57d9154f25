/*
 * A job's pictures as they come, in the form of a dialect: previews and finished pictures become
 * pieces of one endless reply. The client's leaving cancels the job.
 *
 *     static const struct ld_dialect_stream_form form = {"text/event-stream", put_preview,
 *                                                        put_image, put_failure, true};
 *     return ld_dialect_stream(ex, job_id, &form, ctx, ld_heap_free);
 */
#ifndef LD_SERVER_DIALECT_STREAM_H
#define LD_SERVER_DIALECT_STREAM_H

#include "runtime/image/picture_kind.h"
#include "server/front.h"

struct ld_dialect_preview {
    uint32_t image, step;
    uint32_t number; /* of this picture's previews, from 0 */
    struct ld_span base64;
    enum ld_picture_kind kind; /* what its bytes are */
};

struct ld_dialect_stream_form {
    const char *content_type;
    /* Each appends one piece or nothing. */
    void (*preview)(void *ctx, const struct ld_dialect_preview *preview, struct ld_buffer *out);
    void (*image)(void *ctx, const struct ld_job_view *job, const struct ld_image_view *image,
                  struct ld_span png, struct ld_buffer *out);
    /* The job ended without success. */
    void (*failure)(void *ctx, const struct ld_job_view *job, struct ld_buffer *out);
    bool pings; /* comments of server-sent events keep proxies from giving up */
};

/* `ctx` is released with ctx_free when the stream ends, or at once after a refusal. */
enum ld_handled ld_dialect_stream(struct ld_exchange *ex, const char *job_id,
                                  const struct ld_dialect_stream_form *form, void *ctx,
                                  void (*ctx_free)(void *ctx));

#endif
