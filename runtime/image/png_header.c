#include "config/limits.h"
#include "runtime/image/png_meta.h"

#include <libdeflate.h>

#include <string.h>

static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

/* Colour type and depth as the specification pairs them (11.2.1). */
static bool kind_ok(uint8_t colour_type, uint8_t depth)
{
    switch (colour_type) {
    case 0: /* grey */
        return depth == 1 || depth == 2 || depth == 4 || depth == 8 || depth == 16;
    case 3: /* palette */
        return depth == 1 || depth == 2 || depth == 4 || depth == 8;
    case 2: /* RGB */
    case 4: /* grey and alpha */
    case 6: /* RGBA */
        return depth == 8 || depth == 16;
    default:
        return false;
    }
}

enum ld_code ld_png_check_header(struct ld_png_header *header, struct ld_span png,
                                 bool ignore_checksum, struct ld_error *err)
{
    const uint8_t *p = png.data;
    if (png.size < LD_PNG_HEADER_SIZE || memcmp(p, signature, sizeof signature) != 0 ||
        ld_read_u32be(p + 8) != 13 || memcmp(p + 12, "IHDR", 4) != 0)
        return LD_FAIL(err, LD_E_FORMAT, "the image is not a PNG file");
    if (!ignore_checksum && libdeflate_crc32(0, p + 12, 17) != ld_read_u32be(p + 29))
        return LD_FAIL(err, LD_E_FORMAT, "the image's PNG header is damaged");
    const uint64_t width = ld_read_u32be(p + 16), height = ld_read_u32be(p + 20);
    if (width == 0 || height == 0 || p[26] != 0 || p[27] != 0 || !kind_ok(p[25], p[24]))
        return LD_FAIL(err, LD_E_FORMAT, "the image's PNG header describes no picture");
    if (width > LD_AREA_MAX || height > LD_AREA_MAX || width * height > LD_AREA_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the image must have at most %d pixels", LD_AREA_MAX);
    if (p[28] != 0)
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "the image is an interlaced PNG; save it again without interlacing (Adam7)");
    header->width = (int32_t)width;
    header->height = (int32_t)height;
    header->bit_depth = p[24];
    header->colour_type = p[25];
    return LD_OK;
}
