#include "runtime/image/picture_header.h"

#include "config/limits.h"
#include "runtime/image/exif.h"
#include "runtime/image/png_meta.h"

#include <string.h>

enum { SEGMENTS_MAX = 1024, EXIF_HEAD = 6 /* "Exif" and two zeros */ };

/* ---- What all have in common ----------------------------------------------------------------- */

static enum ld_code settle(struct ld_picture_header *header, const char *name, struct ld_error *err)
{
    const int64_t pixels = (int64_t)header->stored_width * header->stored_height;
    if (header->stored_width < 1 || header->stored_height < 1)
        return LD_FAIL(err, LD_E_FORMAT, "the image's %s header describes no picture", name);
    if (pixels > LD_AREA_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the image must have at most %d pixels", LD_AREA_MAX);
    if (!ld_picture_kind_built(header->kind))
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "this program was built without the library that reads %s pictures; send a "
                       "PNG",
                       name);
    const bool turned = header->orientation >= 5; /* a quarter turn swaps the sides */
    header->width = turned ? header->stored_height : header->stored_width;
    header->height = turned ? header->stored_width : header->stored_height;
    return LD_OK;
}

/* ---- JPEG ------------------------------------------------------------------------------------ */

static uint32_t u16be(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

/* SOF0, SOF1 and SOF2: baseline, extended and progressive, all in Huffman coding. */
static enum ld_code read_frame(struct ld_picture_header *header, uint8_t marker,
                               struct ld_span body, struct ld_error *err)
{
    if (body.size < 6)
        return LD_FAIL(err, LD_E_FORMAT, "the image's JPEG header is damaged");
    if (marker > 0xC2 || body.data[0] != 8)
        return LD_FAIL(
            err, LD_E_UNSUPPORTED,
            "the image is a JPEG in a rare coding (arithmetic, lossless or 12 bit); save "
            "it as a usual one or as PNG");
    if (body.data[5] != 1 && body.data[5] != 3)
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "the image is a JPEG that is neither grey nor RGB; convert it from CMYK to "
                       "RGB first");
    header->stored_height = (int32_t)u16be(body.data + 1);
    header->stored_width = (int32_t)u16be(body.data + 3);
    return settle(header, "JPEG", err);
}

/* Walk the segments up to the frame header; the Exif block comes before it. */
static enum ld_code check_jpeg(struct ld_picture_header *header, struct ld_span bytes,
                               struct ld_error *err)
{
    size_t at = 2;
    bool seen_exif = false;
    for (int i = 0; i < SEGMENTS_MAX; i++) {
        while (at < bytes.size && bytes.data[at] == 0xFF && at + 1 < bytes.size &&
               bytes.data[at + 1] == 0xFF)
            at++; /* fill bytes */
        if (bytes.size - at < 4 || bytes.data[at] != 0xFF)
            break;
        const uint8_t marker = bytes.data[at + 1];
        const size_t length = u16be(bytes.data + at + 2);
        if (length < 2 || bytes.size - at - 2 < length)
            break;
        const struct ld_span body = ld_span_of(bytes.data + at + 4, length - 2);
        if (marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC)
            return read_frame(header, marker, body, err);
        if (marker == 0xDA || marker == 0xD9)
            break; /* pixels before a frame header */
        if (marker == 0xE1 && !seen_exif && body.size >= EXIF_HEAD &&
            memcmp(body.data, "Exif\0\0", EXIF_HEAD) == 0) {
            header->orientation =
                ld_exif_orientation(ld_span_of(body.data + EXIF_HEAD, body.size - EXIF_HEAD));
            seen_exif = true;
        }
        at += 2 + length;
    }
    return LD_FAIL(err, LD_E_FORMAT, "the image's JPEG header is damaged");
}

/* ---- WebP ------------------------------------------------------------------------------------ */

static uint32_t u24le(const uint8_t *p)
{
    return (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

/* The first chunk tells: one lossy or lossless frame, or the extended form. */
static enum ld_code check_webp(struct ld_picture_header *header, struct ld_span bytes,
                               struct ld_error *err)
{
    const uint8_t *chunk = bytes.data + 12;
    const uint8_t *p = chunk + 8;
    if (bytes.size < 30)
        return LD_FAIL(err, LD_E_FORMAT, "the image's WebP header is damaged");
    if (memcmp(chunk, "VP8 ", 4) == 0 && p[3] == 0x9D && p[4] == 0x01 && p[5] == 0x2A) {
        header->stored_width = (int32_t)(ld_read_u16le(p + 6) & 0x3FFF);
        header->stored_height = (int32_t)(ld_read_u16le(p + 8) & 0x3FFF);
    } else if (memcmp(chunk, "VP8L", 4) == 0 && p[0] == 0x2F) {
        const uint32_t bits = ld_read_u32le(p + 1);
        header->stored_width = (int32_t)(bits & 0x3FFF) + 1;
        header->stored_height = (int32_t)(bits >> 14 & 0x3FFF) + 1;
    } else if (memcmp(chunk, "VP8X", 4) == 0) {
        if (p[0] & 0x02)
            return LD_FAIL(err, LD_E_UNSUPPORTED,
                           "the image is an animated WebP; save one of its frames by itself");
        header->stored_width = (int32_t)u24le(p + 4) + 1;
        header->stored_height = (int32_t)u24le(p + 7) + 1;
    } else {
        return LD_FAIL(err, LD_E_FORMAT, "the image's WebP header is damaged");
    }
    return settle(header, "WebP", err);
}

/* ---- Which one ------------------------------------------------------------------------------- */

enum ld_code ld_picture_check_header(struct ld_picture_header *header, struct ld_span bytes,
                                     struct ld_error *err)
{
    *header = (struct ld_picture_header){.kind = LD_PICTURE_PNG, .orientation = 1};
    if (bytes.size >= 4 && bytes.data[0] == 0xFF && bytes.data[1] == 0xD8 &&
        bytes.data[2] == 0xFF) {
        header->kind = LD_PICTURE_JPEG;
        return check_jpeg(header, bytes, err);
    }
    if (bytes.size >= 12 && memcmp(bytes.data, "RIFF", 4) == 0 &&
        memcmp(bytes.data + 8, "WEBP", 4) == 0) {
        header->kind = LD_PICTURE_WEBP;
        return check_webp(header, bytes, err);
    }
    if (bytes.size < 8 || memcmp(bytes.data, "\x89PNG", 4) != 0)
        return LD_FAIL(err, LD_E_FORMAT, "the image is not a PNG, JPEG or WebP file");
    struct ld_png_header png;
    const enum ld_code code = ld_png_check_header(&png, bytes, false, err);
    if (code != LD_OK)
        return code;
    header->stored_width = png.width;
    header->stored_height = png.height;
    return settle(header, "PNG", err);
}
