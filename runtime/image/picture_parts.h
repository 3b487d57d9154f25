/*
 * A picture's file as a row of parts: chunks of a PNG, segments of a JPEG, chunks of a WebP. What a
 * part is for is told, nothing is decoded. Bytes of strangers: every part lies within the file.
 *
 *     struct ld_picture_walk walk = ld_picture_walk_begin(file);
 *     struct ld_picture_part part;
 *     while (ld_picture_walk_next(&walk, &part, &err) == LD_OK && part.bytes.size > 0) ...
 *
 * Source: PNG (Third Edition) 5; ITU-T T.81 annex B; Exif 2.32 4.7.2; RFC 9649 2.
 */
#ifndef LD_IMAGE_PICTURE_PARTS_H
#define LD_IMAGE_PICTURE_PARTS_H

#include "runtime/base/error.h"
#include "runtime/image/picture_kind.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ld_picture_part_use {
    LD_PART_FRAME,  /* signatures, sizes, tables, the end */
    LD_PART_PIXELS, /* of a JPEG all from the first scan on */
    LD_PART_SAYING  /* what the file says about the picture: texts, Exif, XMP, comments, times */
};

struct ld_picture_part {
    enum ld_picture_part_use use;
    struct ld_span bytes; /* as they stand in the file, with length, padding and checksum */
    struct ld_span body;  /* without those; of a signature all of it */
    char type[4];         /* of a chunk; of a JPEG's segment its marker in the first place */
};

struct ld_picture_walk {
    struct ld_span file;
    enum ld_picture_kind kind;
    size_t at;
    bool ended; /* behind a PNG's last chunk (what follows is no part of it), a JPEG's pixels */
};

struct ld_picture_walk ld_picture_walk_begin(struct ld_span file);

/* The next part; behind the last one `part->bytes` is empty.
 * Errors   LD_E_FORMAT: not a picture of these kinds, or a part reaches beyond the end. */
enum ld_code ld_picture_walk_next(struct ld_picture_walk *walk, struct ld_picture_part *part,
                                  struct ld_error *err) LD_MUST_USE;

/* The Exif block of a JPEG or WebP, from its TIFF header on; empty where the file has none. Errors
 * as above. */
enum ld_code ld_picture_exif(struct ld_span file, struct ld_span *tiff,
                             struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
