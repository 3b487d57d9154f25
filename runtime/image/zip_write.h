/*
 * A ZIP archive of files that are stored as they are (method 0), which is all that pictures need:
 * they are compressed already.
 *
 *     struct ld_zip_writer zip = {.out = &buffer};
 *     ld_zip_add(&zip, "image_0.png", png);
 *     ld_zip_finish(&zip);
 *
 * Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12, 4.3.16.
 */
#ifndef LD_IMAGE_ZIP_WRITE_H
#define LD_IMAGE_ZIP_WRITE_H

#include "runtime/base/buffer.h"

enum { LD_ZIP_FILES_MAX = 16, LD_ZIP_NAME_SIZE = 32 };

struct ld_zip_written {
    char name[LD_ZIP_NAME_SIZE];
    uint32_t crc, size, offset;
};

/* The archive begins where `out` ends at the first add; below 4 GiB. */
struct ld_zip_writer {
    struct ld_buffer *out;
    size_t start;
    struct ld_zip_written entry[LD_ZIP_FILES_MAX];
    uint32_t count;
};

void ld_zip_add(struct ld_zip_writer *zip, const char *name, struct ld_span data);
void ld_zip_finish(struct ld_zip_writer *zip);

#endif
