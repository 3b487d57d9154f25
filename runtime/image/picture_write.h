/*
 * Pixels to the bytes of a file, in the format that a request asks for: PNG (png_write.h), JPEG or
 * WebP. What a PNG says in text chunks the others say in their Exif block (exif.h). Equal pixels,
 * form and texts give equal bytes: one thread, no times, the library's fixed choices.
 *
 *     const struct ld_picture_image image = {
 *         .pixels = rgb, .width = 832, .height = 1216, .channels = 3,
 *         .form = ld_picture_form_of(&request), .texts = texts, .text_count = 3};
 *     ld_picture_write(&file, &image, &err);
 */
#ifndef LD_IMAGE_PICTURE_WRITE_H
#define LD_IMAGE_PICTURE_WRITE_H

#include "runtime/image/picture_kind.h"
#include "runtime/image/png_write.h"
#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LD_PICTURE_QUALITY_DEFAULT = 90,
    LD_PICTURE_QUALITY_PREVIEW = 80,
    LD_PICTURE_QUALITY_MAX = 100
};

/* What `output` says of the file. */
struct ld_picture_form {
    enum ld_picture_kind kind;
    int32_t compression; /* PNG: 0: the default; 1..12 */
    int32_t quality;     /* JPEG, lossy WebP: 0: the default; 1..100 */
    bool lossless;       /* WebP */
};

struct ld_picture_image {
    const uint8_t *pixels; /* [height, width, channels] */
    int32_t width, height;
    int32_t channels; /* 1 grey, 3 RGB, 4 RGBA; JPEG leaves alpha out */
    struct ld_picture_form form;
    const struct ld_png_text *texts;
    size_t text_count; /* at most LD_PNG_TEXTS */
};

/* Of a request that was checked. */
struct ld_picture_form ld_picture_form_of(const struct ld_request *request);
/* The same of its previews, which are looked at for seconds: small before faithful. */
struct ld_picture_form ld_picture_form_of_preview(const struct ld_request *request);

/*
 * Append the file to `out`.
 * Errors   LD_E_RANGE (sizes, also the format's own; channels, quality), LD_E_UNSUPPORTED (the
 * build has no library for it), LD_E_TOO_LARGE (a text, or a file beyond the format), LD_E_NOMEM
 *          (also the buffer's ceiling). `out` may then hold half a file.
 * Thread   any; ~16 bytes of scratch a pixel.
 */
enum ld_code ld_picture_write(struct ld_buffer *out, const struct ld_picture_image *image,
                              struct ld_error *err) LD_MUST_USE;

/* The encoders behind it: no texts, and the image was checked. Without its library one refuses. */
enum ld_code ld_jpeg_write(struct ld_buffer *out, const struct ld_picture_image *image,
                           struct ld_error *err) LD_MUST_USE;
enum ld_code ld_webp_write(struct ld_buffer *out, const struct ld_picture_image *image,
                           struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
