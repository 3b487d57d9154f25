/*
 * Files made beside the device: a decoded picture goes to a thread of the encoder's own, so that
 * the next pass does not wait for its compression. Pictures are made one after the other, in the
 * order they were given. Where no thread can be had, whoever gives one makes it.
 *
 *     ld_encoder_give(encoder, encoding);          // the encoder's until it is done
 *     while (!ld_encoder_done(encoder, encoding))  // or ld_encoder_wait
 *         work_on_something_else();
 *     use(encoding->code, &encoding->file);
 *
 * Source: kernels.md 10.
 */
#ifndef LD_RUNTIME_ENCODER_H
#define LD_RUNTIME_ENCODER_H

#include "runtime/base/buffer.h"
#include "runtime/image/picture_write.h"

struct ld_encoder;

enum { LD_ENCODING_TEXTS = 3 };

/* A picture on its way to its file. Owns what it holds. */
struct ld_encoding {
    uint8_t *rgb; /* [height, width, 3], a block */
    int32_t width, height;
    struct ld_picture_form form;
    bool texts_on;
    struct ld_buffer texts[LD_ENCODING_TEXTS]; /* parameters, prompt, latentd */

    struct ld_buffer file; /* done, and `code` LD_OK */
    enum ld_code code;
    struct ld_error err;
    int64_t spent_us;

    uint64_t serial; /* in the order of ld_encoder_give, which is that of being made */
    bool done;       /* the encoder's, as what follows */
    bool dropped;    /* while it was being made */
    struct ld_encoding *next;
};

/* Empty; NULL without memory. Destroy one that an encoder has only when it is done. */
struct ld_encoding *ld_encoding_create(void);
void ld_encoding_destroy(struct ld_encoding *encoding);

/* Errors   LD_E_NOMEM. A missing thread is none. */
enum ld_code ld_encoder_create(struct ld_encoder **out, struct ld_error *err) LD_MUST_USE;
/* Nothing may be on its way but what was dropped. */
void ld_encoder_destroy(struct ld_encoder *encoder);

void ld_encoder_give(struct ld_encoder *encoder, struct ld_encoding *encoding);
bool ld_encoder_done(struct ld_encoder *encoder, const struct ld_encoding *encoding);
void ld_encoder_wait(struct ld_encoder *encoder, const struct ld_encoding *encoding);

/* Nobody wants it any more: it is destroyed, by the encoder where that has begun it. Nothing is
 * waited for: a large picture may take seconds. */
void ld_encoder_drop(struct ld_encoder *encoder, struct ld_encoding *encoding);

#endif
