/*
 * The three kinds of picture file that are read and written here, and what each is called: the word
 * of `output.format`, the media type, the ending of a file's name. Pure.
 *
 *     enum ld_picture_kind kind;
 *     if (ld_picture_kind_find("webp", &kind)) ... ld_picture_kind_type(kind) ...
 *
 * Source: RFC 2045, RFC 9649 6 (media types); ITU-T T.81 B.2.2 and libjpeg's JPEG_MAX_DIMENSION;
 * RFC 9649 3.3 and RFC 6386 9.1 (sides of 14 bits).
 */
#ifndef LD_IMAGE_PICTURE_KIND_H
#define LD_IMAGE_PICTURE_KIND_H

#include "runtime/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ld_picture_kind { LD_PICTURE_PNG, LD_PICTURE_JPEG, LD_PICTURE_WEBP, LD_PICTURE_KINDS };

/* Whether this build has the library that reads and writes `kind`. */
bool ld_picture_kind_built(enum ld_picture_kind kind);

/* "png", "jpeg", "webp". */
const char *ld_picture_kind_name(enum ld_picture_kind kind);
/* "image/png", "image/jpeg", "image/webp". */
const char *ld_picture_kind_type(enum ld_picture_kind kind);
/* ".png", ".jpg", ".webp". */
const char *ld_picture_kind_ending(enum ld_picture_kind kind);
/* "libpng", "libjpeg", "libwebp". */
const char *ld_picture_kind_library(enum ld_picture_kind kind);
/* The longest side in pixels that is written. */
int32_t ld_picture_kind_side_max(enum ld_picture_kind kind);

/* By its name; false: none of them, and `kind` stays. */
bool ld_picture_kind_find(const char *name, enum ld_picture_kind *kind);
/* By the ending of a file's name in any case, ".jpeg" too; false as above. */
bool ld_picture_kind_of_path(const char *path, enum ld_picture_kind *kind);
/* By the first bytes of a file; PNG where they are of none of them. */
enum ld_picture_kind ld_picture_kind_of(struct ld_span file);

#ifdef __cplusplus
}
#endif
#endif
