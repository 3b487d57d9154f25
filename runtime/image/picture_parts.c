#include "runtime/image/picture_parts.h"

enum {
    PNG_SIGNATURE = 8,
    PNG_FRAME = 12, /* length, type, checksum */
    RIFF_HEADER = 12,
    RIFF_FRAME = 8, /* type, length */
    MARKER_SOI = 0xD8,
    MARKER_EOI = 0xD9,
    MARKER_SOS = 0xDA,
    MARKER_APP0 = 0xE0,
    MARKER_APP15 = 0xEF,
    MARKER_COM = 0xFE
};

struct ld_picture_walk ld_picture_walk_begin(struct ld_span file)
{
    const struct ld_picture_walk walk = {.file = file, .kind = ld_picture_kind_of(file)};
    return walk;
}

static bool is_one_of(const uint8_t *type, const char *list)
{
    for (; *list; list += 4)
        if (memcmp(type, list, 4) == 0)
            return true;
    return false;
}

static enum ld_code cut(const struct ld_picture_walk *walk, struct ld_error *err)
{
    static const char *const names[LD_PICTURE_KINDS] = {"PNG", "JPEG", "WebP"};
    return LD_FAIL(err, LD_E_FORMAT, "the image is a cut %s file", names[walk->kind]);
}

/* ---- PNG ------------------------------------------------------------------------------------- */

static enum ld_code next_png(struct ld_picture_walk *walk, struct ld_picture_part *part,
                             struct ld_error *err)
{
    const uint8_t *start = walk->file.data + walk->at;
    const size_t left = walk->file.size - walk->at;
    if (walk->at == 0) {
        static const uint8_t signature[PNG_SIGNATURE] = {0x89, 'P',  'N',  'G',
                                                         '\r', '\n', 0x1A, '\n'};
        if (left < PNG_SIGNATURE || memcmp(start, signature, PNG_SIGNATURE) != 0)
            return LD_FAIL(err, LD_E_FORMAT, "the image is not a PNG, JPEG or WebP file");
        part->bytes = part->body = ld_span_of(start, PNG_SIGNATURE);
        return LD_OK;
    }
    if (left < PNG_FRAME || ld_read_u32be(start) > left - PNG_FRAME)
        return cut(walk, err);
    const size_t size = ld_read_u32be(start);
    part->bytes = ld_span_of(start, size + PNG_FRAME);
    part->body = ld_span_of(start + 8, size);
    memcpy(part->type, start + 4, 4);
    walk->ended = memcmp(start + 4, "IEND", 4) == 0;
    if (memcmp(start + 4, "IDAT", 4) == 0)
        part->use = LD_PART_PIXELS;
    else if (is_one_of(start + 4, "tEXtzTXtiTXttIMEeXIf"))
        part->use = LD_PART_SAYING;
    return LD_OK;
}

/* ---- JPEG ------------------------------------------------------------------------------------ */

/* Application data that decoders need: JFIF's density, Adobe's colour transform, ICC profiles. */
static bool decoders_need(uint8_t marker, struct ld_span body)
{
    static const char icc[] = "ICC_PROFILE";
    return (marker == MARKER_APP0 && body.size >= 5 && memcmp(body.data, "JFIF", 5) == 0) ||
           (marker == MARKER_APP0 + 14 && body.size >= 5 && memcmp(body.data, "Adobe", 5) == 0) ||
           (marker == MARKER_APP0 + 2 && body.size >= sizeof icc &&
            memcmp(body.data, icc, sizeof icc) == 0);
}

static enum ld_code next_jpeg(struct ld_picture_walk *walk, struct ld_picture_part *part,
                              struct ld_error *err)
{
    const uint8_t *start = walk->file.data + walk->at;
    const size_t left = walk->file.size - walk->at;
    size_t fill = 0; /* a marker may have more than one 0xFF in front */
    while (fill + 1 < left && start[fill] == 0xFF && start[fill + 1] == 0xFF)
        fill++;
    if (left - fill < 2 || start[fill] != 0xFF)
        return cut(walk, err);
    const uint8_t marker = start[fill + 1];
    part->type[0] = (char)marker;
    if (marker == MARKER_SOS || marker == MARKER_EOI) { /* its coded data have no length */
        part->use = LD_PART_PIXELS;
        part->bytes = part->body = ld_span_of(start, left);
        walk->ended = true;
        return LD_OK;
    }
    if (marker == MARKER_SOI) {
        part->bytes = part->body = ld_span_of(start, fill + 2);
        return LD_OK;
    }
    if (left - fill < 4)
        return cut(walk, err);
    const size_t length = (size_t)start[fill + 2] << 8 | start[fill + 3];
    if (length < 2 || left - fill - 2 < length)
        return cut(walk, err);
    part->bytes = ld_span_of(start, fill + 2 + length);
    part->body = ld_span_of(start + fill + 4, length - 2);
    if (marker == MARKER_COM ||
        (marker >= MARKER_APP0 && marker <= MARKER_APP15 && !decoders_need(marker, part->body)))
        part->use = LD_PART_SAYING;
    return LD_OK;
}

/* ---- WebP ------------------------------------------------------------------------------------ */

static enum ld_code next_webp(struct ld_picture_walk *walk, struct ld_picture_part *part,
                              struct ld_error *err)
{
    const uint8_t *start = walk->file.data + walk->at;
    const size_t left = walk->file.size - walk->at;
    if (walk->at == 0) {
        part->bytes = part->body = ld_span_of(start, RIFF_HEADER);
        return LD_OK;
    }
    if (left < RIFF_FRAME || ld_read_u32le(start + 4) > left - RIFF_FRAME)
        return cut(walk, err);
    const size_t size = ld_read_u32le(start + 4);
    const size_t padded = size + (size & 1); /* the last chunk's padding may lack */
    part->bytes = ld_span_of(start, RIFF_FRAME + (padded > left - RIFF_FRAME ? size : padded));
    part->body = ld_span_of(start + RIFF_FRAME, size);
    memcpy(part->type, start, 4);
    if (is_one_of(start, "VP8 VP8LALPH"))
        part->use = LD_PART_PIXELS;
    else if (!is_one_of(start, "VP8XICCPANIMANMF"))
        part->use = LD_PART_SAYING;
    return LD_OK;
}

/* ---- All ------------------------------------------------------------------------------------- */

enum ld_code ld_picture_walk_next(struct ld_picture_walk *walk, struct ld_picture_part *part,
                                  struct ld_error *err)
{
    *part = (struct ld_picture_part){.use = LD_PART_FRAME};
    const bool is_jpeg = walk->kind == LD_PICTURE_JPEG; /* which ends with its pixels */
    if (walk->ended || (walk->at > 0 && walk->at == walk->file.size && !is_jpeg))
        return LD_OK;
    const enum ld_code code = is_jpeg                         ? next_jpeg(walk, part, err)
                              : walk->kind == LD_PICTURE_WEBP ? next_webp(walk, part, err)
                                                              : next_png(walk, part, err);
    walk->at += part->bytes.size;
    return code;
}

enum ld_code ld_picture_exif(struct ld_span file, struct ld_span *tiff, struct ld_error *err)
{
    static const uint8_t head[6] = {'E', 'x', 'i', 'f', 0, 0};
    struct ld_picture_walk walk = ld_picture_walk_begin(file);
    struct ld_picture_part part;
    enum ld_code code = LD_OK;
    *tiff = ld_span_of(NULL, 0);
    while (walk.kind != LD_PICTURE_PNG &&
           (code = ld_picture_walk_next(&walk, &part, err)) == LD_OK && part.bytes.size > 0) {
        /* JPEG's six bytes in front of the block; some writers of WebP put them there too. */
        const bool headed =
            part.body.size >= sizeof head && memcmp(part.body.data, head, sizeof head) == 0;
        const bool is_exif = walk.kind == LD_PICTURE_JPEG
                                 ? (uint8_t)part.type[0] == MARKER_APP0 + 1 && headed
                                 : memcmp(part.type, "EXIF", 4) == 0;
        if (!is_exif)
            continue;
        const size_t skipped = headed ? sizeof head : 0;
        *tiff = ld_span_of(part.body.data + skipped, part.body.size - skipped);
        break;
    }
    return code;
}
