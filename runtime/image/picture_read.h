/*
 * Pictures of strangers to pixels, whatever their format: what a picture needs of png_read.h,
 * jpeg_read.h and webp_read.h, turned upright as its Exif block says.
 *
 *     struct ld_picture picture;
 *     if (ld_picture_read(&picture, bytes, &err) != LD_OK) ...
 *     ld_picture_deinit(&picture);
 */
#ifndef LD_IMAGE_PICTURE_READ_H
#define LD_IMAGE_PICTURE_READ_H

#include "runtime/image/picture_header.h"
#include "runtime/image/png_read.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Owner    on success the caller deinits `picture`; on failure there is nothing to free.
 * Errors   those of ld_picture_check_header; LD_E_FORMAT (damaged or cut), LD_E_TIMEOUT,
 *          LD_E_NOMEM.
 */
enum ld_code ld_picture_read(struct ld_picture *picture, struct ld_span bytes,
                             struct ld_error *err) LD_MUST_USE;

/* The decoders behind it; `header` has been checked. Without its library a decoder refuses. */
enum ld_code ld_jpeg_read(struct ld_picture *picture, const struct ld_picture_header *header,
                          struct ld_span jpeg, struct ld_error *err) LD_MUST_USE;
enum ld_code ld_webp_read(struct ld_picture *picture, const struct ld_picture_header *header,
                          struct ld_span webp, struct ld_error *err) LD_MUST_USE;

/* Turn and mirror as Exif's orientation 1..8 asks. Errors LD_E_NOMEM; the picture stays. */
enum ld_code ld_picture_turn(struct ld_picture *picture, int32_t orientation,
                             struct ld_error *err) LD_MUST_USE;

/* CPU time of this thread in microseconds: decoders have a second of it (robustness.md 3). */
int64_t ld_decode_cpu_us(void);
enum { LD_DECODE_CPU_US_MAX = 1000000 };

#ifdef __cplusplus
}
#endif
#endif
