/* What the harnesses of pictures share: a stranger's bytes end in pixels or in an error. */
#ifndef LD_TESTS_FUZZ_PICTURE_H
#define LD_TESTS_FUZZ_PICTURE_H

#include "runtime/image/picture_read.h"

#include <stdlib.h>

enum { FUZZ_AREA_MAX = 1 << 16 }; /* larger ones only cost time */

static inline void fuzz_must(bool condition)
{
    if (!condition)
        abort();
}

/* Every byte, so that the sanitizer sees a block that is too short. */
static inline void fuzz_touch(const struct ld_picture *picture)
{
    fuzz_must(picture->channels == 3 || picture->channels == 4);
    const size_t count =
        (size_t)picture->width * (size_t)picture->height * (size_t)picture->channels;
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += picture->pixels[i];
    fuzz_must(sum <= 255 * count);
}

/* Decode bytes that say they are of `kind`; others are another harness's affair. */
static inline void fuzz_picture(struct ld_span bytes, enum ld_picture_kind kind)
{
    struct ld_picture_header header;
    struct ld_picture picture;
    if (ld_picture_check_header(&header, bytes, NULL) != LD_OK || header.kind != kind)
        return;
    fuzz_must(header.width > 0 && header.height > 0 && header.orientation >= 1 &&
              header.orientation <= 8);
    if ((int64_t)header.width * header.height > FUZZ_AREA_MAX)
        return;
    if (ld_picture_read(&picture, bytes, NULL) != LD_OK) {
        fuzz_must(!picture.pixels);
        return;
    }
    fuzz_must(picture.width == header.width && picture.height == header.height);
    fuzz_touch(&picture);
    ld_picture_deinit(&picture);
}

#endif
