/*
 * What a stranger's picture says about itself before anybody decodes it: PNG, JPEG or WebP, its
 * size, and how it has to be turned. Pure: the front looks at uploads with it, the decoders begin
 * with it, and its sentences are the same in both places.
 *
 *     struct ld_picture_header header;
 *     if (ld_picture_check_header(&header, bytes, &err) != LD_OK) ...
 *
 * Source: PNG (Third Edition); ITU-T T.81 annex B; Exif 2.32, 4.6; RFC 9649 (WebP container),
 * RFC 6386, 9.1 (VP8 frame header); robustness.md 2.
 */
#ifndef LD_IMAGE_PICTURE_HEADER_H
#define LD_IMAGE_PICTURE_HEADER_H

#include "runtime/base/bytes.h"
#include "runtime/base/error.h"
#include "runtime/image/picture_kind.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ld_picture_header {
    enum ld_picture_kind kind;
    int32_t width, height;               /* as people see it: turned by `orientation` */
    int32_t stored_width, stored_height; /* as it is stored */
    int32_t orientation;                 /* Exif's 1..8; 1: as stored */
};

/*
 * Errors   LD_E_FORMAT (none of the three, or its header is damaged), LD_E_TOO_LARGE (pixels),
 *          LD_E_UNSUPPORTED (interlaced PNG, CMYK or arithmetic JPEG, animated WebP, a kind that
 *          this build has no library for): what to do stands in the sentence.
 */
enum ld_code ld_picture_check_header(struct ld_picture_header *header, struct ld_span bytes,
                                     struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
