/*
 * A decoded picture on its way to its file: an errand, so that the next pass does not wait for its
 * compression.
 *
 *     struct ld_encoding *encoding = ld_encoding_create();
 *     encoding->rgb = pixels;                           // and the rest
 *     ld_errands_give(encoder, &encoding->errand);
 */
#ifndef LD_RUNTIME_ENCODING_H
#define LD_RUNTIME_ENCODING_H

#include "runtime/base/buffer.h"
#include "runtime/errands.h"
#include "runtime/image/picture_write.h"

enum { LD_ENCODING_TEXTS = 3 };

/* Owns what it holds. */
struct ld_encoding {
    struct ld_errand errand;
    uint8_t *rgb; /* [height, width, 3], a block */
    int32_t width, height;
    struct ld_picture_form form;
    bool texts_on;
    struct ld_buffer texts[LD_ENCODING_TEXTS]; /* parameters, prompt, latentd */

    struct ld_buffer file; /* done, and `code` LD_OK */
    enum ld_code code;
    struct ld_error err;
    int64_t spent_us;
};

/* Empty; NULL without memory. Destroy one that was given only when it is done. */
struct ld_encoding *ld_encoding_create(void);
void ld_encoding_destroy(struct ld_encoding *encoding);

#endif
