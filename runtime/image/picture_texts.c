#include "runtime/image/picture_texts.h"

#include "runtime/image/exif.h"
#include "runtime/image/png_text.h"

enum {
    TEXTS_ARENA_BYTES = 8 << 20,
    EXIF_BYTES_MAX = 16 << 20,
    SEGMENT_BYTES_MAX = 0xFFFF - 2 - 6, /* of a JPEG's segment, without its length and "Exif" */
    VP8X_SIZE = 10,
    VP8X_EXIF = 0x08,
    VP8X_XMP = 0x04,
    VP8X_ALPHA = 0x10
};

enum ld_code ld_picture_texts_read(struct ld_png_texts *texts, struct ld_arena *arena,
                                   struct ld_span file, bool ignore_checksums, struct ld_error *err)
{
    struct ld_span tiff;
    texts->count = 0;
    if (ld_picture_kind_of(file) == LD_PICTURE_PNG)
        return ld_png_texts_read(texts, arena, file, ignore_checksums, err);
    const enum ld_code code = ld_picture_exif(file, &tiff, err);
    return code == LD_OK ? ld_exif_texts(texts, arena, tiff, err) : code;
}

/* ---- WebP ------------------------------------------------------------------------------------ */

static void put_riff(struct ld_buffer *out, const char *type, struct ld_span body)
{
    uint8_t size[4];
    ld_write_u32le(size, (uint32_t)body.size);
    ld_buffer_bytes(out, type, 4);
    ld_buffer_bytes(out, size, sizeof size);
    ld_buffer_bytes(out, body.data, body.size);
    if (body.size & 1)
        ld_buffer_byte(out, '\0');
}

/* The header that files with more than pixels have; made of the frame where there is none yet. */
static bool webp_header(uint8_t vp8x[VP8X_SIZE], const struct ld_picture_part *part)
{
    const uint8_t *p = part->body.data;
    uint32_t width, height;
    if (memcmp(part->type, "VP8X", 4) == 0 && part->body.size >= VP8X_SIZE) {
        memcpy(vp8x, p, VP8X_SIZE);
        return true;
    }
    memset(vp8x, 0, VP8X_SIZE);
    if (memcmp(part->type, "VP8 ", 4) == 0 && part->body.size >= VP8X_SIZE) {
        width = ld_read_u16le(p + 6) & 0x3FFFU;
        height = ld_read_u16le(p + 8) & 0x3FFFU;
    } else if (memcmp(part->type, "VP8L", 4) == 0 && part->body.size >= 5) {
        const uint32_t bits = ld_read_u32le(p + 1);
        width = (bits & 0x3FFF) + 1;
        height = (bits >> 14 & 0x3FFF) + 1;
        vp8x[0] = bits >> 28 & 1 ? VP8X_ALPHA : 0;
    } else {
        return false;
    }
    for (int i = 0; i < 3; i++) {
        vp8x[4 + i] = (uint8_t)((width - 1) >> (8 * i));
        vp8x[7 + i] = (uint8_t)((height - 1) >> (8 * i));
    }
    return width > 0 && height > 0;
}

/* Whether a file needs its extended header: it says more than a size, or no frame follows it that
 * says that by itself. */
static bool needs_header(const uint8_t vp8x[VP8X_SIZE], const struct ld_picture_part *next)
{
    uint8_t own[VP8X_SIZE];
    return vp8x[0] != 0 || !webp_header(own, next);
}

/* The file anew with `exif` (empty: none) behind it and without what it said before, `keep_others`:
 * but for Exif. */
static enum ld_code rebuild_webp(struct ld_buffer *out, struct ld_span file, struct ld_span exif,
                                 bool keep_others, struct ld_error *err)
{
    struct ld_picture_walk walk = ld_picture_walk_begin(file);
    struct ld_picture_part part;
    uint8_t vp8x[VP8X_SIZE];
    const size_t start = out->size;
    bool known = false, extended = false, placed = false; /* the header */
    enum ld_code code = ld_picture_walk_next(&walk, &part, err);
    ld_buffer_bytes(out, "RIFF\0\0\0\0WEBP", 12);
    while (code == LD_OK && (code = ld_picture_walk_next(&walk, &part, err)) == LD_OK &&
           part.bytes.size > 0) {
        const bool is_header = memcmp(part.type, "VP8X", 4) == 0;
        if (!known && !webp_header(vp8x, &part))
            return LD_FAIL(err, LD_E_FORMAT, "the image's WebP header is damaged");
        if (!known) {
            vp8x[0] = (uint8_t)(vp8x[0] & ~(VP8X_EXIF | (keep_others ? 0 : VP8X_XMP)));
            vp8x[0] = (uint8_t)(vp8x[0] | (exif.size ? VP8X_EXIF : 0));
            extended = is_header;
            known = true;
        }
        if (is_header ||
            (part.use == LD_PART_SAYING && (!keep_others || memcmp(part.type, "EXIF", 4) == 0)))
            continue;
        if (!placed && (extended ? needs_header(vp8x, &part) : exif.size > 0))
            put_riff(out, "VP8X", ld_span_of(vp8x, sizeof vp8x));
        placed = true;
        put_riff(out, part.type, part.body);
    }
    if (code == LD_OK && !placed)
        return LD_FAIL(err, LD_E_FORMAT, "the image is a WebP file without a picture");
    if (code == LD_OK && exif.size > 0)
        put_riff(out, "EXIF", exif);
    if (code == LD_OK && !out->failed)
        ld_write_u32le((uint8_t *)out->data + start + 4, (uint32_t)(out->size - start - 8));
    return code;
}

/* ---- JPEG ------------------------------------------------------------------------------------ */

/* Directly behind what the file begins with: its marker and JFIF's segment. */
static enum ld_code rebuild_jpeg(struct ld_buffer *out, struct ld_span file, struct ld_span exif,
                                 struct ld_error *err)
{
    struct ld_picture_walk walk = ld_picture_walk_begin(file);
    struct ld_picture_part part;
    bool put = exif.size == 0;
    enum ld_code code;
    while ((code = ld_picture_walk_next(&walk, &part, err)) == LD_OK && part.bytes.size > 0) {
        const uint8_t marker = (uint8_t)part.type[0];
        if (!put && marker != 0xD8 && marker != 0xE0) {
            const size_t size = exif.size + 8;
            const uint8_t head[4] = {0xFF, 0xE1, (uint8_t)(size >> 8), (uint8_t)size};
            ld_buffer_bytes(out, head, sizeof head);
            ld_buffer_bytes(out, "Exif\0\0", 6);
            ld_buffer_bytes(out, exif.data, exif.size);
            put = true;
        }
        const bool is_exif =
            marker == 0xE1 && part.body.size >= 6 && memcmp(part.body.data, "Exif\0\0", 6) == 0;
        if (!is_exif)
            ld_buffer_bytes(out, part.bytes.data, part.bytes.size);
    }
    return code;
}

/* ---- Adding ---------------------------------------------------------------------------------- */

/* PNG's chunks stand behind its header, the new ones first. */
static enum ld_code add_to_png(struct ld_buffer *out, struct ld_span file,
                               const struct ld_png_text *texts, size_t count, struct ld_error *err)
{
    struct ld_png_header header;
    enum ld_code code = ld_png_check_header(&header, file, true, err);
    if (code != LD_OK)
        return code;
    ld_buffer_bytes(out, file.data, LD_PNG_HEADER_SIZE);
    for (size_t i = 0; i < count && code == LD_OK; i++)
        if (texts[i].text[0])
            code = ld_png_put_text(out, &texts[i], err);
    ld_buffer_bytes(out, file.data + LD_PNG_HEADER_SIZE, file.size - LD_PNG_HEADER_SIZE);
    return code;
}

/* All texts in one block: the new ones, then those that the file has. */
static enum ld_code add_to_exif(struct ld_buffer *out, struct ld_span file,
                                const struct ld_png_text *texts, size_t count, struct ld_error *err)
{
    struct ld_arena arena;
    struct ld_png_texts own = {.count = 0};
    struct ld_png_text all[2 * LD_PNG_TEXTS];
    struct ld_buffer exif = ld_buffer_make(EXIF_BYTES_MAX);
    const bool is_jpeg = ld_picture_kind_of(file) == LD_PICTURE_JPEG;
    size_t total = count;
    LD_ASSERT(count <= LD_PNG_TEXTS);
    ld_arena_init(&arena, "picture texts", TEXTS_ARENA_BYTES);
    enum ld_code code = ld_picture_texts_read(&own, &arena, file, true, err);
    for (size_t i = 0; i < count; i++)
        all[i] = texts[i];
    for (size_t i = 0; i < own.count; i++)
        all[total++] = (struct ld_png_text){own.entry[i].keyword, own.entry[i].text, true};
    if (code == LD_OK)
        code = ld_exif_write(&exif, all, total, is_jpeg ? SEGMENT_BYTES_MAX : EXIF_BYTES_MAX, err);
    const struct ld_span block = ld_span_of(exif.data, exif.size);
    if (code == LD_OK)
        code = is_jpeg ? rebuild_jpeg(out, file, block, err)
                       : rebuild_webp(out, file, block, true, err);
    ld_arena_deinit(&arena);
    ld_buffer_deinit(&exif);
    return code;
}

enum ld_code ld_picture_texts_add(struct ld_buffer *out, struct ld_span file,
                                  const struct ld_png_text *texts, size_t count,
                                  struct ld_error *err)
{
    const enum ld_code code = ld_picture_kind_of(file) == LD_PICTURE_PNG
                                  ? add_to_png(out, file, texts, count, err)
                                  : add_to_exif(out, file, texts, count, err);
    return code == LD_OK && out->failed
               ? LD_FAIL(err, LD_E_NOMEM, "no memory for a picture with its texts")
               : code;
}

/* ---- Taking away ----------------------------------------------------------------------------- */

enum ld_code ld_picture_strip(struct ld_buffer *out, struct ld_span file, struct ld_error *err)
{
    struct ld_picture_walk walk = ld_picture_walk_begin(file);
    struct ld_picture_part part;
    enum ld_code code;
    if (walk.kind == LD_PICTURE_WEBP) {
        code = rebuild_webp(out, file, ld_span_of(NULL, 0), false, err);
    } else {
        while ((code = ld_picture_walk_next(&walk, &part, err)) == LD_OK && part.bytes.size > 0)
            if (part.use != LD_PART_SAYING)
                ld_buffer_bytes(out, part.bytes.data, part.bytes.size);
    }
    return code == LD_OK && out->failed ? LD_FAIL(err, LD_E_NOMEM, "out of memory") : code;
}
