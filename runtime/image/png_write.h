/*
 * Pixels to PNG bytes: 8 bits a channel, rows filtered adaptively, one deflate stream made by
 * libdeflate, text chunks before the pixels. Equal input gives equal bytes.
 *
 *     const struct ld_png_text texts[] = {{"parameters", infotext, false}};
 *     const struct ld_png_image image = {.pixels = rgb, .width = 832, .height = 1216, .channels =
 * 3, .texts = texts, .text_count = 1}; struct ld_buffer png = ld_buffer_make(LD_PNG_BYTES_MAX);
 *     ld_png_write(&png, &image, &err);
 *
 * Source: PNG specification (Third Edition), W3C.
 */
#ifndef LD_IMAGE_PNG_WRITE_H
#define LD_IMAGE_PNG_WRITE_H

#include "runtime/base/buffer.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LD_PNG_TEXT_CHUNK_BYTES_MAX = 64 * 1024, /* api.md 6 */
    LD_PNG_COMPRESSION_DEFAULT = 1,          /* level of libdeflate; figures: png_write.c */
    LD_PNG_COMPRESSION_MAX = 12
};

/* Room for any picture within the limits: four bytes a pixel and the text. */
#define LD_PNG_BYTES_MAX ((size_t)80 * 1024 * 1024)

/* One text chunk: tEXt where the text is Latin-1 (unless `utf8` asks for iTXt), else iTXt; deflated
 * where it would pass 64 KiB. Control characters other than LF, CR and TAB are written as \xNN. */
struct ld_png_text {
    const char *keyword; /* 1..79 printable ASCII characters */
    const char *text;    /* UTF-8 */
    bool utf8;
};

struct ld_png_image {
    const uint8_t *pixels; /* [height, width, channels] */
    int32_t width, height;
    int32_t channels;    /* 1 grey, 3 RGB, 4 RGBA */
    int32_t compression; /* 0: the default; 1..12 */
    const struct ld_png_text *texts;
    size_t text_count;
};

/*
 * Append the file to `out`.
 * Errors   LD_E_RANGE (sizes, channels, compression, keyword), LD_E_TOO_LARGE (a text that does not
 *          fit its chunk even deflated), LD_E_NOMEM (also the buffer's ceiling). `out` may then
 * hold half a file. Thread   any; ~8 bytes of scratch a pixel.
 */
enum ld_code ld_png_write(struct ld_buffer *out, const struct ld_png_image *image,
                          struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
