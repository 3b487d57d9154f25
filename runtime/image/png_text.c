#include "runtime/image/png_text.h"

#include "runtime/base/arena.h"

#include <libdeflate.h>

#include <string.h>

enum {
    KEYWORD_MAX = 79,         /* PNG specification, 11.3.2 */
    TEXT_BYTES_MAX = 1 << 20, /* what readers, ours included, inflate at most */
    TEXT_LEVEL = 6
};

void ld_png_put_chunk(struct ld_buffer *out, const char type[4], struct ld_span data)
{
    uint8_t word[4];
    ld_write_u32be(word, (uint32_t)data.size);
    ld_buffer_bytes(out, word, sizeof word);
    ld_buffer_bytes(out, type, 4);
    ld_buffer_bytes(out, data.data, data.size);
    const uint32_t crc = libdeflate_crc32(0, type, 4);
    ld_write_u32be(word, libdeflate_crc32(crc, data.data, data.size));
    ld_buffer_bytes(out, word, sizeof word);
}

static bool keyword_ok(const char *keyword)
{
    const size_t size = strlen(keyword);
    if (size < 1 || size > KEYWORD_MAX || keyword[0] == ' ' || keyword[size - 1] == ' ')
        return false;
    for (size_t i = 0; i < size; i++)
        if (keyword[i] < ' ' || keyword[i] > '~' || (keyword[i] == ' ' && keyword[i + 1] == ' '))
            return false;
    return true;
}

static bool plain_control(uint32_t c)
{
    return c == '\n' || c == '\r' || c == '\t';
}

/* Characters that a tEXt chunk may hold: Latin-1 without the control codes of either half. */
static bool is_latin1(const char *text)
{
    const size_t size = strlen(text);
    for (size_t pos = 0; pos < size;) {
        const uint32_t c = ld_utf8_next((const uint8_t *)text, size, &pos);
        if (c > 0xFF || (c >= 0x7F && c < 0xA0))
            return false;
    }
    return true;
}

/* The text in the chunk's own encoding, control characters spelled out. */
static void encode(struct ld_buffer *out, const char *text, bool latin1)
{
    const size_t size = strlen(text);
    for (size_t pos = 0; pos < size;) {
        uint8_t bytes[4];
        const uint32_t c = ld_utf8_next((const uint8_t *)text, size, &pos);
        if ((c < 0x20 && !plain_control(c)) || (c >= 0x7F && c < 0xA0))
            ld_buffer_format(out, "\\x%02x", (unsigned)c);
        else if (latin1)
            ld_buffer_byte(out, (char)(uint8_t)c);
        else
            ld_buffer_bytes(out, bytes, ld_utf8_put(c, bytes));
    }
}

/* Append the deflated text, at most `room` bytes. */
static enum ld_code deflate_text(struct ld_buffer *out, const struct ld_buffer *plain, size_t room,
                                 struct ld_error *err)
{
    struct libdeflate_compressor *deflater = libdeflate_alloc_compressor(TEXT_LEVEL);
    uint8_t *packed = ld_heap_alloc(room);
    enum ld_code code = LD_OK;
    if (!deflater || !packed) {
        code = LD_FAIL(err, LD_E_NOMEM, "no memory for the text of a PNG");
        goto done;
    }
    const size_t size = libdeflate_zlib_compress(deflater, plain->data, plain->size, packed, room);
    if (size == 0)
        code = LD_FAIL(err, LD_E_TOO_LARGE, "metadata does not fit a text chunk of 64 KiB");
    else
        ld_buffer_bytes(out, packed, size);
done:
    ld_heap_free(packed);
    libdeflate_free_compressor(deflater);
    return code;
}

enum ld_code ld_png_put_text(struct ld_buffer *out, const struct ld_png_text *text,
                             struct ld_error *err)
{
    if (!keyword_ok(text->keyword))
        return LD_FAIL(err, LD_E_RANGE, "a PNG keyword must have 1 to %d printable characters",
                       KEYWORD_MAX);
    const bool latin1 = !text->utf8 && is_latin1(text->text);
    struct ld_buffer plain = ld_buffer_make(TEXT_BYTES_MAX);
    struct ld_buffer data = ld_buffer_make(TEXT_BYTES_MAX + 1024);
    enum ld_code code = LD_OK;
    encode(&plain, text->text, latin1);
    if (plain.failed) {
        code = LD_FAIL(err, LD_E_TOO_LARGE, "metadata must be at most %d bytes", TEXT_BYTES_MAX);
        goto done;
    }
    /* keyword 0 [compressed method] for tEXt and zTXt; keyword 0 compressed method language 0
     * translated-keyword 0 for iTXt. */
    const size_t head = strlen(text->keyword) + 5;
    const size_t room = LD_PNG_TEXT_CHUNK_BYTES_MAX - head;
    const bool packed = plain.size > room;
    ld_buffer_bytes(&data, text->keyword, strlen(text->keyword) + 1);
    if (!latin1)
        ld_buffer_bytes(&data, packed ? "\1\0\0\0" : "\0\0\0\0", 4);
    else if (packed)
        ld_buffer_byte(&data, '\0');
    if (packed)
        code = deflate_text(&data, &plain, room, err);
    else
        ld_buffer_bytes(&data, plain.data, plain.size);
    if (code == LD_OK && data.failed)
        code = LD_FAIL(err, LD_E_NOMEM, "no memory for the text of a PNG");
    if (code == LD_OK)
        ld_png_put_chunk(out,
                         !latin1  ? "iTXt"
                         : packed ? "zTXt"
                                  : "tEXt",
                         ld_span_of(data.data, data.size));
done:
    ld_buffer_deinit(&data);
    ld_buffer_deinit(&plain);
    return code;
}
