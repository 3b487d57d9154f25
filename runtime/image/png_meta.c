/* The bounded chunk walker. */
#include "runtime/image/png_meta.h"
#include "config/limits.h"

#include <libdeflate.h>

#include <string.h>

_Static_assert((int)LD_PNG_TEXTS == (int)LD_PNG_TEXT_CHUNKS_MAX, "one bound, two headers");

enum { SIGNATURE_SIZE = 8, FRAME_SIZE = 12, KEYWORD_MAX = 79 };

struct walk {
    struct ld_png_texts *texts;
    struct ld_arena *arena;
    size_t left; /* bytes of text that may still be taken */
};

/* One text chunk taken apart; spans into the file. */
struct raw_text {
    struct ld_span keyword, body;
    bool compressed, utf8;
};

/* ---- Taking a chunk apart -------------------------------------------------------------------- */

/* Bytes up to a NUL, and past it; false without a NUL. */
static bool take_string(struct ld_span *data, struct ld_span *out)
{
    const uint8_t *end = data->size ? memchr(data->data, 0, data->size) : NULL;
    if (!end)
        return false;
    out->data = data->data;
    out->size = (size_t)(end - data->data);
    data->size -= out->size + 1;
    data->data = end + 1;
    return true;
}

static bool take_bytes(struct ld_span *data, size_t count, uint8_t *out)
{
    if (data->size < count)
        return false;
    memcpy(out, data->data, count);
    data->data += count;
    data->size -= count;
    return true;
}

static bool split(struct raw_text *raw, const uint8_t *type, struct ld_span data)
{
    uint8_t head[2] = {0};
    struct ld_span skipped;
    memset(raw, 0, sizeof *raw);
    if (!take_string(&data, &raw->keyword) || raw->keyword.size == 0 ||
        raw->keyword.size > KEYWORD_MAX)
        return false;
    if (memcmp(type, "zTXt", 4) == 0) {
        if (!take_bytes(&data, 1, head) || head[0] != 0)
            return false;
        raw->compressed = true;
    } else if (memcmp(type, "iTXt", 4) == 0) {
        /* compressed?, method, language, translated keyword */
        if (!take_bytes(&data, 2, head) || head[0] > 1 || head[1] != 0 ||
            !take_string(&data, &skipped) || !take_string(&data, &skipped))
            return false;
        raw->compressed = head[0] == 1;
        raw->utf8 = true;
    }
    raw->body = data;
    return true;
}

/* ---- Text ------------------------------------------------------------------------------------ */

/* Latin-1 or (repaired) UTF-8 into the arena, NUL-terminated; NULL without memory. NUL bytes become
 * U+FFFD, so that the text is one C string. Grows at most threefold. */
static char *to_utf8(struct ld_arena *arena, struct ld_span body, bool utf8, size_t *size)
{
    char *out = ld_arena_alloc(arena, 3 * body.size + 1);
    if (!out)
        return NULL;
    size_t used = 0;
    for (size_t pos = 0; pos < body.size;) {
        uint32_t c = body.data[pos];
        if (utf8)
            c = ld_utf8_next(body.data, body.size, &pos);
        else
            pos++;
        uint8_t bytes[4];
        const size_t length = ld_utf8_put(c ? c : 0xFFFD, bytes);
        memcpy(out + used, bytes, length);
        used += length;
    }
    out[used] = '\0';
    *size = used;
    return out;
}

/* 0 for damaged data; false when it does not fit what is left. */
static bool inflate_body(const struct walk *walk, struct ld_span body, uint8_t *out, size_t *size)
{
    struct libdeflate_decompressor *inflater = libdeflate_alloc_decompressor();
    *size = 0;
    if (!inflater)
        return true;
    const enum libdeflate_result result =
        libdeflate_zlib_decompress(inflater, body.data, body.size, out, walk->left, size);
    libdeflate_free_decompressor(inflater);
    if (result == LIBDEFLATE_INSUFFICIENT_SPACE)
        return false;
    if (result != LIBDEFLATE_SUCCESS)
        *size = 0;
    return true;
}

static enum ld_code too_much(struct ld_error *err)
{
    return LD_FAIL(err, LD_E_TOO_LARGE, "the image's text must be at most %d bytes",
                   LD_PNG_TEXT_BYTES_MAX);
}

static enum ld_code keep(struct walk *walk, const struct raw_text *raw, struct ld_span body,
                         struct ld_error *err)
{
    struct ld_png_text_entry *entry = &walk->texts->entry[walk->texts->count];
    size_t keyword_size;
    if (body.size > walk->left)
        return too_much(err);
    walk->left -= body.size;
    entry->keyword = to_utf8(walk->arena, raw->keyword, false, &keyword_size);
    entry->text = to_utf8(walk->arena, body, raw->utf8, &entry->text_size);
    if (!entry->keyword || !entry->text)
        return LD_FAIL(err, LD_E_NOMEM, "no memory for the image's text");
    walk->texts->count++;
    return LD_OK;
}

static enum ld_code take_text(struct walk *walk, const uint8_t *type, struct ld_span data,
                              struct ld_error *err)
{
    struct raw_text raw;
    if (!split(&raw, type, data))
        return LD_OK; /* damaged text is as good as none */
    if (walk->texts->count == LD_PNG_TEXTS)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the image must have at most %d text chunks",
                       LD_PNG_TEXTS);
    if (!raw.compressed)
        return keep(walk, &raw, raw.body, err);
    const size_t room = walk->left; /* > 0 is not needed: libdeflate then reports no space */
    uint8_t *plain = ld_block_alloc(room + 1);
    if (!plain)
        return LD_FAIL(err, LD_E_NOMEM, "no memory for the image's text");
    size_t size;
    enum ld_code code = LD_OK;
    if (!inflate_body(walk, raw.body, plain, &size))
        code = too_much(err);
    else
        code = keep(walk, &raw, ld_span_of(plain, size), err);
    ld_block_free(plain, room + 1);
    return code;
}

/* ---- The walk -------------------------------------------------------------------------------- */

static bool is_text(const uint8_t *type)
{
    return memcmp(type, "tEXt", 4) == 0 || memcmp(type, "zTXt", 4) == 0 ||
           memcmp(type, "iTXt", 4) == 0;
}

enum ld_code ld_png_texts_read(struct ld_png_texts *texts, struct ld_arena *arena,
                               struct ld_span png, bool ignore_checksums, struct ld_error *err)
{
    static const uint8_t signature[SIGNATURE_SIZE] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    struct walk walk = {texts, arena, LD_PNG_TEXT_BYTES_MAX};
    texts->count = 0;
    if (png.size < SIGNATURE_SIZE || memcmp(png.data, signature, SIGNATURE_SIZE) != 0)
        return LD_FAIL(err, LD_E_FORMAT, "the image is not a PNG file");
    /* Every chunk takes at least 12 bytes, so the file's size bounds the loop. */
    for (size_t pos = SIGNATURE_SIZE; pos < png.size;) {
        const uint8_t *chunk = png.data + pos;
        const size_t left = png.size - pos;
        if (left < FRAME_SIZE || ld_read_u32be(chunk) > left - FRAME_SIZE)
            return LD_FAIL(err, LD_E_FORMAT, "the image is a cut PNG file");
        const size_t size = ld_read_u32be(chunk);
        const uint8_t *type = chunk + 4;
        if (memcmp(type, "IEND", 4) == 0)
            break; /* what follows is no part of the picture */
        if (is_text(type)) {
            if (!ignore_checksums &&
                libdeflate_crc32(0, type, 4 + size) != ld_read_u32be(type + 4 + size))
                return LD_FAIL(err, LD_E_FORMAT, "a text chunk of the image is damaged");
            const enum ld_code code = take_text(&walk, type, ld_span_of(type + 4, size), err);
            if (code != LD_OK)
                return code;
        }
        pos += FRAME_SIZE + size;
    }
    return LD_OK;
}

const char *ld_png_text_find(const struct ld_png_texts *texts, const char *keyword)
{
    for (size_t i = 0; i < texts->count; i++)
        if (strcmp(texts->entry[i].keyword, keyword) == 0)
            return texts->entry[i].text;
    return NULL;
}
