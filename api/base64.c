#include "api/base64.h"

/* 64 = not in the alphabet. */
static uint8_t value_of(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint8_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint8_t)(c - 'a' + 26);
    if (c >= '0' && c <= '9')
        return (uint8_t)(c - '0' + 52);
    return c == '+' ? 62 : c == '/' ? 63 : 64;
}

static size_t padding_of(struct ld_span text)
{
    if (text.size < 4 || text.data[text.size - 1] != '=')
        return 0;
    return text.data[text.size - 2] == '=' ? 2 : 1;
}

size_t ld_base64_decoded_size(struct ld_span text)
{
    return text.size % 4 ? SIZE_MAX : text.size / 4 * 3 - padding_of(text);
}

static enum ld_code fail_at(size_t position, struct ld_error *err)
{
    return LD_FAIL(err, LD_E_INVALID, "not base64 at character %zu", position + 1);
}

enum ld_code ld_base64_decode(struct ld_span text, struct ld_buffer *out, struct ld_error *err)
{
    enum { BLOCK = 3 * 1024 }; /* decoded bytes handed over at once */
    uint8_t block[BLOCK];
    size_t used = 0;
    const size_t padding = padding_of(text);
    if (text.size % 4)
        return LD_FAIL(err, LD_E_INVALID, "the length of base64 must be a multiple of 4");
    if (ld_base64_decoded_size(text) > out->bytes_limit - out->size)
        return LD_FAIL(err, LD_E_TOO_LARGE, "base64 must decode to at most %zu bytes",
                       out->bytes_limit - out->size);
    for (size_t i = 0; i < text.size; i += 4) {
        const size_t letters = i + 4 == text.size ? 4 - padding : 4;
        uint32_t bits = 0;
        for (size_t j = 0; j < 4; j++) {
            const uint8_t value = j < letters ? value_of(text.data[i + j]) : 0;
            if (value > 63)
                return fail_at(i + j, err);
            bits = bits << 6 | value;
        }
        /* Bits beyond the last byte must be zero, else two texts would mean the same bytes. */
        if ((letters == 3 && (bits & 0xFF)) || (letters == 2 && (bits & 0xFFFF)))
            return fail_at(i + letters - 1, err);
        block[used++] = (uint8_t)(bits >> 16);
        if (letters > 2)
            block[used++] = (uint8_t)(bits >> 8);
        if (letters > 3)
            block[used++] = (uint8_t)bits;
        if (used > BLOCK - 3) {
            ld_buffer_bytes(out, block, used);
            used = 0;
        }
    }
    ld_buffer_bytes(out, block, used);
    return out->failed ? LD_FAIL(err, LD_E_NOMEM, "out of memory") : LD_OK;
}

void ld_base64_encode(struct ld_span bytes, struct ld_buffer *out)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    enum { BLOCK = 4 * 1024 };
    char block[BLOCK];
    size_t used = 0;
    for (size_t i = 0; i < bytes.size; i += 3) {
        const size_t left = bytes.size - i;
        const uint32_t bits = (uint32_t)bytes.data[i] << 16 |
                              (left > 1 ? (uint32_t)bytes.data[i + 1] << 8 : 0) |
                              (left > 2 ? (uint32_t)bytes.data[i + 2] : 0);
        block[used++] = alphabet[bits >> 18];
        block[used++] = alphabet[bits >> 12 & 63];
        block[used++] = left > 1 ? alphabet[bits >> 6 & 63] : '=';
        block[used++] = left > 2 ? alphabet[bits & 63] : '=';
        if (used == BLOCK) {
            ld_buffer_bytes(out, block, used);
            used = 0;
        }
    }
    ld_buffer_bytes(out, block, used);
}
