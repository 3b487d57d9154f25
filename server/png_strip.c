#include "server/png_strip.h"

enum { SIGNATURE_SIZE = 8, CHUNK_FRAME = 12 /* length, type, checksum */ };

static bool is_text(const uint8_t *type)
{
    static const char *const types[] = {"tEXt", "zTXt", "iTXt", "tIME", "eXIf"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (memcmp(type, types[i], 4) == 0)
            return true;
    }
    return false;
}

enum ld_code ld_png_strip(struct ld_span png, struct ld_buffer *out, struct ld_error *err)
{
    static const uint8_t signature[SIGNATURE_SIZE] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    if (png.size < SIGNATURE_SIZE || memcmp(png.data, signature, SIGNATURE_SIZE) != 0)
        return LD_FAIL(err, LD_E_FORMAT, "not a PNG");
    ld_buffer_bytes(out, signature, SIGNATURE_SIZE);
    for (size_t at = SIGNATURE_SIZE; at < png.size;) {
        const size_t left = png.size - at;
        const size_t length = left >= CHUNK_FRAME ? ld_read_u32be(png.data + at) : 0;
        if (left < CHUNK_FRAME || length > left - CHUNK_FRAME)
            return LD_FAIL(err, LD_E_FORMAT, "the PNG is cut short");
        if (!is_text(png.data + at + 4))
            ld_buffer_bytes(out, png.data + at, length + CHUNK_FRAME);
        at += length + CHUNK_FRAME;
    }
    return out->failed ? LD_FAIL(err, LD_E_NOMEM, "out of memory") : LD_OK;
}
