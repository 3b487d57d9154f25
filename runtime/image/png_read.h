/*
 * PNG bytes of strangers to pixels. Only what a picture needs reaches libpng: IHDR, PLTE, tRNS,
 * IDAT and IEND; every other chunk is stepped over before. Grey, palette and 16-bit pictures become
 * 8-bit RGB or RGBA. Bounds: declared pixels, the declared size of the output, a second of CPU
 * time.
 *
 *     struct ld_picture picture;
 *     if (ld_png_read(&picture, bytes, 0, &err) != LD_OK) ...
 *     ld_picture_deinit(&picture);
 *
 * Source: robustness.md 2, 3; PNG specification (Third Edition).
 */
#ifndef LD_IMAGE_PNG_READ_H
#define LD_IMAGE_PNG_READ_H

#include "runtime/image/png_meta.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ld_picture {
    uint8_t *pixels; /* [height, width, channels], a block */
    int32_t width, height;
    int32_t channels; /* 3 RGB, 4 RGBA */
};

enum ld_png_flag {
    LD_PNG_IGNORE_CHECKSUMS = 1 << 0 /* for fuzzing: reach the code behind the checksums */
};

/*
 * Owner    on success the caller deinits `picture`; on failure there is nothing to free.
 * Errors   those of ld_png_check_header; LD_E_FORMAT (damaged or cut), LD_E_TIMEOUT, LD_E_NOMEM.
 * Thread   any; uses setjmp inside.
 */
enum ld_code ld_png_read(struct ld_picture *picture, struct ld_span png, uint32_t flags,
                         struct ld_error *err) LD_MUST_USE;

/* Safe on a zeroed one. */
void ld_picture_deinit(struct ld_picture *picture);

#ifdef __cplusplus
}
#endif
#endif
