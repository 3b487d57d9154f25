/* Exif blocks of strangers: one walk a directory, every offset checked against the block. */
#include "config/limits.h"
#include "runtime/base/json.h"
#include "runtime/image/exif.h"

#include <string.h>
#include <strings.h>

enum {
    ENTRIES_MAX = 256,
    ENTRY_SIZE = 12,
    HEADER_SIZE = 8,
    CHARSET_SIZE = 8, /* in front of a UserComment */
    TAG_DESCRIPTION = 0x010E,
    TAG_MAKE = 0x010F,
    TAG_MODEL = 0x0110,
    TAG_ORIENTATION = 0x0112,
    TAG_EXIF = 0x8769,
    TAG_MAKER_NOTE = 0x927C,
    TAG_USER_COMMENT = 0x9286,
    TYPE_SHORT = 3
};

struct block {
    struct ld_span tiff;
    bool little;
};

struct entry {
    uint16_t type;
    struct ld_span value;
};

/* ---- Directories ----------------------------------------------------------------------------- */

static uint32_t u16(const struct block *block, size_t at)
{
    const uint8_t *p = block->tiff.data + at;
    return block->little ? ld_read_u16le(p) : (uint32_t)p[0] << 8 | p[1];
}

static uint32_t u32(const struct block *block, size_t at)
{
    const uint8_t *p = block->tiff.data + at;
    return block->little ? ld_read_u32le(p) : ld_read_u32be(p);
}

static bool open_block(struct block *block, struct ld_span tiff)
{
    *block = (struct block){.tiff = tiff};
    if (tiff.size < HEADER_SIZE)
        return false;
    block->little = memcmp(tiff.data, "II", 2) == 0;
    return (block->little || memcmp(tiff.data, "MM", 2) == 0) && u16(block, 2) == 42;
}

/* Bytes of one value of a TIFF type, 0 for a type that there is not; 129 is Exif 3.0's UTF-8. */
static size_t type_size(uint32_t type)
{
    static const uint8_t sizes[13] = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8};
    return type < sizeof sizes ? sizes[type] : type == 129 ? 1 : 0;
}

/* The first entry of a tag in the directory at `at`; false where it is not there or damaged. */
static bool find(const struct block *block, size_t at, uint16_t tag, struct entry *entry)
{
    const size_t size = block->tiff.size;
    if (at > size || size - at < 2)
        return false;
    uint32_t count = u16(block, at);
    count = count < ENTRIES_MAX ? count : ENTRIES_MAX;
    for (uint32_t i = 0; i < count && size - at - 2 >= (size_t)(i + 1) * ENTRY_SIZE; i++) {
        const size_t here = at + 2 + (size_t)i * ENTRY_SIZE;
        if (u16(block, here) != tag)
            continue;
        entry->type = (uint16_t)u16(block, here + 2);
        const uint64_t bytes = (uint64_t)u32(block, here + 4) * type_size(entry->type);
        const size_t place = bytes <= 4 ? here + 8 : u32(block, here + 8);
        if (bytes == 0 || place > size || bytes > size - place)
            return false;
        entry->value = ld_span_of(block->tiff.data + place, (size_t)bytes);
        return true;
    }
    return false;
}

int32_t ld_exif_orientation(struct ld_span tiff)
{
    struct block block;
    struct entry entry;
    if (!open_block(&block, tiff) || !find(&block, u32(&block, 4), TAG_ORIENTATION, &entry) ||
        entry.type != TYPE_SHORT)
        return 1;
    const uint32_t value = u16(&block, (size_t)(entry.value.data - tiff.data));
    return value >= 1 && value <= 8 ? (int32_t)value : 1;
}

/* ---- Texts ----------------------------------------------------------------------------------- */

struct reader {
    struct ld_png_texts *texts;
    struct ld_arena *arena;
    size_t left; /* bytes of text that may still be taken */
    struct ld_error *err;
    enum ld_code code;
};

/* Characters of either encoding, one after the other. */
struct characters {
    struct ld_span bytes;
    size_t at;
    bool wide, little;
};

static uint32_t unit_at(const struct characters *c, size_t at)
{
    const uint8_t *p = c->bytes.data + at;
    return c->little ? ld_read_u16le(p) : (uint32_t)p[0] << 8 | p[1];
}

static bool next_character(struct characters *c, uint32_t *out)
{
    if (!c->wide) {
        if (c->at >= c->bytes.size)
            return false;
        *out = ld_utf8_next(c->bytes.data, c->bytes.size, &c->at);
        return true;
    }
    if (c->bytes.size - c->at < 2)
        return false;
    *out = unit_at(c, c->at);
    c->at += 2;
    if (*out >= 0xD800 && *out < 0xDC00 && c->bytes.size - c->at >= 2) {
        const uint32_t low = unit_at(c, c->at);
        if (low >= 0xDC00 && low < 0xE000) {
            *out = 0x10000 + ((*out - 0xD800) << 10) + (low - 0xDC00);
            c->at += 2;
            return true;
        }
    }
    if (*out >= 0xD800 && *out < 0xE000)
        *out = 0xFFFD;
    return true;
}

/* Into the arena as one NUL-terminated string without NULs at its end; those within become U+FFFD.
 * At most three bytes come of each one. NULL: `code` says why. */
static char *decode(struct reader *r, struct characters c, size_t *size)
{
    if (c.bytes.size > r->left) {
        r->code = LD_FAIL(r->err, LD_E_TOO_LARGE, "the image's text must be at most %d bytes",
                          LD_PNG_TEXT_BYTES_MAX);
        return NULL;
    }
    char *out = ld_arena_alloc(r->arena, 3 * c.bytes.size + 1);
    if (!out) {
        r->code = LD_FAIL(r->err, LD_E_NOMEM, "no memory for the image's text");
        return NULL;
    }
    r->left -= c.bytes.size;
    size_t used = 0, kept = 0;
    uint32_t character;
    while (next_character(&c, &character)) {
        uint8_t bytes[4];
        const size_t length = ld_utf8_put(character ? character : 0xFFFD, bytes);
        memcpy(out + used, bytes, length);
        used += length;
        kept = character ? used : kept;
    }
    out[kept] = '\0';
    *size = kept;
    return out;
}

static struct characters utf8(struct ld_span bytes)
{
    const struct characters c = {.bytes = bytes};
    return c;
}

/* Both already in the arena. A picture has few texts; what is too many is passed over. */
static void add(struct reader *r, const char *keyword, const char *text, size_t size)
{
    if (r->code != LD_OK || !text || size == 0 || r->texts->count == LD_PNG_TEXTS)
        return;
    r->texts->entry[r->texts->count++] =
        (struct ld_png_text_entry){.keyword = keyword, .text = text, .text_size = size};
}

/* ---- The first directory's words ------------------------------------------------------------- */

/* "prompt:{...}" and "Workflow: {...}", as ComfyUI and its savers label them; else `unlabelled`. */
static void take_labelled(struct reader *r, struct ld_span value, const char *unlabelled)
{
    static const char *const labels[] = {"prompt", "workflow"};
    while (value.size > 0 && value.data[0] == 0) { /* NovelAI begins with four of them */
        value.data++;
        value.size--;
    }
    for (size_t i = 0; i < sizeof labels / sizeof labels[0]; i++) {
        const size_t size = strlen(labels[i]);
        if (value.size <= size || value.data[size] != ':' ||
            strncasecmp((const char *)value.data, labels[i], size) != 0)
            continue;
        size_t at = size + 1;
        while (at < value.size && value.data[at] == ' ')
            at++;
        size_t length = 0;
        const char *text = decode(r, utf8(ld_span_of(value.data + at, value.size - at)), &length);
        add(r, labels[i], text, length);
        return;
    }
    if (unlabelled) {
        size_t length = 0;
        const char *text = decode(r, utf8(value), &length);
        add(r, unlabelled, text, length);
    }
}

/* ---- UserComment ----------------------------------------------------------------------------- */

/* Which end of a UTF-16 unit comes first is said by a mark; without one by where the zeros of ASCII
 * are, and last by the block itself, whose order not every writer keeps to. */
static bool is_little(struct ld_span text, bool by_default)
{
    size_t high = 0, low = 0;
    if (text.size >= 2 && text.data[0] == 0xFF && text.data[1] == 0xFE)
        return true;
    if (text.size >= 2 && text.data[0] == 0xFE && text.data[1] == 0xFF)
        return false;
    for (size_t i = 0; i + 1 < text.size; i += 2) {
        high += text.data[i] == 0;
        low += text.data[i + 1] == 0;
    }
    return high == low ? by_default : low > high;
}

static struct characters comment_characters(struct ld_span value, bool little)
{
    const bool coded =
        value.size >= CHARSET_SIZE &&
        (memcmp(value.data, "UNICODE\0", 8) == 0 || memcmp(value.data, "ASCII\0\0\0", 8) == 0 ||
         memcmp(value.data, "\0\0\0\0\0\0\0\0", 8) == 0);
    if (!coded)
        return utf8(value);
    struct ld_span text = ld_span_of(value.data + CHARSET_SIZE, value.size - CHARSET_SIZE);
    if (value.data[0] != 'U')
        return utf8(text);
    struct characters c = {.bytes = text, .wide = true, .little = is_little(text, little)};
    if (text.size >= 2 && unit_at(&c, 0) == 0xFEFF)
        c.at = 2;
    return c;
}

/* A member of an object: a string as it reads, anything else as its JSON. */
static void take_member(struct reader *r, const struct ld_json_token *key,
                        const struct ld_json_token *value, struct ld_span raw)
{
    size_t key_size = 0, size = 0;
    char *name = ld_arena_alloc(r->arena, key->text.size + 1);
    char *text = ld_arena_alloc(r->arena, raw.size + 1);
    if (!name || !text) {
        r->code = LD_FAIL(r->err, LD_E_NOMEM, "no memory for the image's text");
        return;
    }
    if (!ld_json_unescape(key, name, key->text.size, &key_size) || key_size == 0 ||
        memchr(name, 0, key_size))
        return;
    name[key_size] = '\0';
    if (value->kind != LD_JSON_STRING) {
        memcpy(text, raw.data, raw.size);
        size = raw.size;
    } else if (!ld_json_unescape(value, text, raw.size, &size) || memchr(text, 0, size)) {
        return;
    }
    text[size] = '\0';
    add(r, name, text, size);
}

/* False where the text is no whole JSON object; nothing was taken then. */
static bool take_object(struct reader *r, struct ld_span text)
{
    struct ld_json_token token, value;
    struct ld_json json;
    const size_t before = r->texts->count;
    ld_json_init(&json, text, 16, 8192);
    if (ld_json_next(&json, &token, NULL) != LD_OK || token.kind != LD_JSON_OBJECT_BEGIN)
        return false;
    while (ld_json_next(&json, &token, NULL) == LD_OK) {
        if (token.kind == LD_JSON_END)
            return true;
        if (token.kind != LD_JSON_KEY)
            continue;
        if (ld_json_next(&json, &value, NULL) != LD_OK ||
            ld_json_skip(&json, &value, NULL) != LD_OK)
            break;
        take_member(r, &token, &value,
                    ld_span_of(text.data + value.offset, json.pos - value.offset));
    }
    r->texts->count = before;
    return false;
}

static void take_comment(struct reader *r, const struct block *block, struct ld_span value)
{
    size_t size = 0;
    const char *text = decode(r, comment_characters(value, block->little), &size);
    if (!text)
        return;
    if (text[0] != '{' || !take_object(r, ld_span_of(text, size)))
        add(r, "parameters", text, size);
}

/* ---- MakerNote ------------------------------------------------------------------------------- */

/* name NUL text NUL ..., every name of them ours. */
static void take_own(struct reader *r, struct ld_span note)
{
    static const char own[] = "latentd";
    while (note.size > sizeof own && memcmp(note.data, own, sizeof own - 1) == 0) {
        const uint8_t *name_end = memchr(note.data, 0, note.size);
        if (!name_end)
            return;
        const size_t name_size = (size_t)(name_end - note.data);
        const size_t rest = note.size - name_size - 1;
        const uint8_t *end = rest ? memchr(name_end + 1, 0, rest) : NULL;
        const size_t size = end ? (size_t)(end - name_end - 1) : rest;
        size_t kept = 0, length = 0;
        const char *name = decode(r, utf8(ld_span_of(note.data, name_size)), &kept);
        const char *text = decode(r, utf8(ld_span_of(name_end + 1, size)), &length);
        if (!name || !text)
            return;
        add(r, name, text, length);
        const size_t used = name_size + 1 + size + (end ? 1 : 0);
        note = ld_span_of(note.data + used, note.size - used);
    }
}

enum ld_code ld_exif_texts(struct ld_png_texts *texts, struct ld_arena *arena, struct ld_span tiff,
                           struct ld_error *err)
{
    struct reader r = {texts, arena, LD_PNG_TEXT_BYTES_MAX, err, LD_OK};
    struct block block;
    struct entry entry;
    if (!open_block(&block, tiff))
        return LD_OK;
    const size_t first = u32(&block, 4);
    size_t second = 0;
    if (find(&block, first, TAG_EXIF, &entry) && entry.value.size == 4)
        second = u32(&block, (size_t)(entry.value.data - tiff.data));
    if (second && find(&block, second, TAG_USER_COMMENT, &entry))
        take_comment(&r, &block, entry.value);
    if (find(&block, first, TAG_MODEL, &entry))
        take_labelled(&r, entry.value, NULL); /* else a camera's */
    if (find(&block, first, TAG_MAKE, &entry))
        take_labelled(&r, entry.value, NULL);
    if (find(&block, first, TAG_DESCRIPTION, &entry))
        take_labelled(&r, entry.value,
                      ld_png_text_find(texts, "Description") ? NULL : "Description");
    if (second && find(&block, second, TAG_MAKER_NOTE, &entry))
        take_own(&r, entry.value);
    return r.code;
}
