/* Exif blocks of our own pictures: two directories, their values behind them. */
#include "runtime/base/json.h"
#include "runtime/image/exif.h"

#include <string.h>

enum {
    BLOCK_BYTES_MAX = 8 << 20, /* of the longest texts that a picture may have */
    ENTRIES_MAX = 4,
    TYPE_ASCII = 2,
    TYPE_LONG = 4,
    TYPE_UNDEFINED = 7
};

/* What is left out, one after the other, until the block fits. */
enum fit { FIT_ALL, FIT_WITHOUT_GRAPH, FIT_OWN };

struct entry {
    uint16_t tag, type;
    struct ld_buffer value;
};

struct directory {
    struct entry entry[ENTRIES_MAX];
    size_t count;
};

/* ---- Which text goes where ------------------------------------------------------------------- */

static bool is_own(const char *keyword)
{
    return strncmp(keyword, "latentd", 7) == 0;
}

static bool is_graph(const char *keyword)
{
    return strcmp(keyword, "prompt") == 0 || strcmp(keyword, "workflow") == 0;
}

static bool is_comment(const struct ld_png_text *text)
{
    return !is_own(text->keyword) && !is_graph(text->keyword) && text->text[0];
}

static const char *find(const struct ld_png_text *texts, size_t count, const char *keyword)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(texts[i].keyword, keyword) == 0 && texts[i].text[0])
            return texts[i].text;
    return NULL;
}

/* ---- Values ---------------------------------------------------------------------------------- */

static void put16(struct ld_buffer *out, uint32_t value)
{
    ld_buffer_byte(out, (char)(value >> 8 & 0xFF));
    ld_buffer_byte(out, (char)(value & 0xFF));
}

static void put32(struct ld_buffer *out, uint32_t value)
{
    put16(out, value >> 16);
    put16(out, value & 0xFFFF);
}

static void put_utf16(struct ld_buffer *out, const char *text)
{
    const size_t size = strlen(text);
    for (size_t pos = 0; pos < size;) {
        const uint32_t c = ld_utf8_next((const uint8_t *)text, size, &pos);
        if (c >= 0x10000) {
            put16(out, 0xD800 + ((c - 0x10000) >> 10));
            put16(out, 0xDC00 + ((c - 0x10000) & 0x3FF));
        } else {
            put16(out, c);
        }
    }
}

/* JSON in ASCII: beyond it there are characters in strings only, and \u says the same there. */
static void put_ascii_json(struct ld_buffer *out, const char *json)
{
    const size_t size = strlen(json);
    for (size_t pos = 0; pos < size;) {
        const uint32_t c = ld_utf8_next((const uint8_t *)json, size, &pos);
        if (c >= 0x10000)
            ld_buffer_format(out, "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10),
                             0xDC00 + ((c - 0x10000) & 0x3FF));
        else if (c >= 0x7F)
            ld_buffer_format(out, "\\u%04x", c);
        else
            ld_buffer_byte(out, (char)c);
    }
}

static struct ld_buffer *add(struct directory *directory, uint16_t tag, uint16_t type)
{
    LD_ASSERT(directory->count < ENTRIES_MAX);
    struct entry *entry = &directory->entry[directory->count++];
    *entry = (struct entry){tag, type, ld_buffer_make(BLOCK_BYTES_MAX)};
    return &entry->value;
}

static void put_labelled(struct directory *directory, uint16_t tag, const char *label,
                         const char *json)
{
    if (!json)
        return;
    struct ld_buffer *value = add(directory, tag, TYPE_ASCII);
    ld_buffer_format(value, "%s:", label);
    put_ascii_json(value, json);
    ld_buffer_byte(value, '\0');
}

/* The first entry of a second directory that has any. */
static void put_version(struct directory *directory)
{
    if (directory->count == 0)
        ld_buffer_bytes(add(directory, 0x9000, TYPE_UNDEFINED), "0232", 4);
}

static void put_comment(struct directory *directory, const struct ld_png_text *texts, size_t count)
{
    size_t comments = 0;
    for (size_t i = 0; i < count; i++)
        comments += is_comment(&texts[i]);
    if (comments == 0)
        return;
    const char *infotext = find(texts, count, "parameters");
    put_version(directory);
    struct ld_buffer *value = add(directory, 0x9286, TYPE_UNDEFINED);
    if (comments == 1 && infotext) {
        ld_buffer_bytes(value, "UNICODE\0", 8);
        put_utf16(value, infotext);
        return;
    }
    struct ld_buffer json = ld_buffer_make(BLOCK_BYTES_MAX);
    for (size_t i = 0; i < count; i++) {
        if (!is_comment(&texts[i]) || find(texts, i, texts[i].keyword))
            continue; /* an object has a member once */
        ld_buffer_byte(&json, json.size ? ',' : '{');
        ld_buffer_json_string(&json, texts[i].keyword);
        ld_buffer_byte(&json, ':');
        ld_buffer_json_string(&json, texts[i].text);
    }
    ld_buffer_byte(&json, '}');
    ld_buffer_bytes(value, "ASCII\0\0\0", 8);
    put_ascii_json(value, json.data ? json.data : "");
    value->failed = value->failed || json.failed;
    ld_buffer_deinit(&json);
}

static void put_own(struct directory *directory, const struct ld_png_text *texts, size_t count)
{
    struct ld_buffer *value = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!is_own(texts[i].keyword) || !texts[i].text[0])
            continue;
        put_version(directory);
        value = value ? value : add(directory, 0x927C, TYPE_UNDEFINED);
        ld_buffer_bytes(value, texts[i].keyword, strlen(texts[i].keyword) + 1);
        ld_buffer_bytes(value, texts[i].text, strlen(texts[i].text) + 1);
    }
}

/* ---- The block ------------------------------------------------------------------------------- */

/* In the order of their tags, which directories must have. */
static void fill(struct directory *first, struct directory *second, const struct ld_png_text *texts,
                 size_t count, enum fit fit)
{
    const char *description = find(texts, count, "Description");
    if (description && fit < FIT_OWN) {
        struct ld_buffer *value = add(first, 0x010E, TYPE_ASCII);
        ld_buffer_bytes(value, description, strlen(description) + 1);
    }
    if (fit < FIT_WITHOUT_GRAPH) {
        put_labelled(first, 0x010F, "workflow", find(texts, count, "workflow"));
        put_labelled(first, 0x0110, "prompt", find(texts, count, "prompt"));
    }
    put_own(second, texts, count);
    if (fit < FIT_OWN)
        put_comment(second, texts, count);
}

/* Entries from here on, then the values that do not fit into them. */
static void put_directory(struct ld_buffer *out, size_t start, const struct directory *directory)
{
    size_t place = out->size - start + 2 + 12 * directory->count + 4;
    put16(out, (uint32_t)directory->count);
    for (size_t i = 0; i < directory->count; i++) {
        const struct entry *entry = &directory->entry[i];
        const size_t size = entry->value.size;
        const bool within = size <= 4;
        put16(out, entry->tag);
        put16(out, entry->type);
        put32(out, (uint32_t)(entry->type == TYPE_LONG ? size / 4 : size));
        if (within)
            ld_buffer_bytes(out, entry->value.data, size);
        else
            put32(out, (uint32_t)place);
        for (size_t pad = size; within && pad < 4; pad++)
            ld_buffer_byte(out, '\0');
        place += within ? 0 : size + (size & 1);
    }
    put32(out, 0); /* no further directory */
    for (size_t i = 0; i < directory->count; i++) {
        const struct ld_buffer *value = &directory->entry[i].value;
        if (value->size <= 4)
            continue;
        ld_buffer_bytes(out, value->data, value->size);
        if (value->size & 1)
            ld_buffer_byte(out, '\0');
    }
}

static size_t size_of(const struct directory *directory)
{
    size_t size = 2 + 12 * directory->count + 4;
    for (size_t i = 0; i < directory->count; i++) {
        const size_t value = directory->entry[i].value.size;
        size += value <= 4 ? 0 : value + (value & 1);
    }
    return size;
}

static bool release(struct directory *directory)
{
    bool failed = false;
    for (size_t i = 0; i < directory->count; i++) {
        failed = failed || directory->entry[i].value.failed;
        ld_buffer_deinit(&directory->entry[i].value);
    }
    return failed;
}

/* False where the block would be larger than it may be. */
static bool try_fit(struct ld_buffer *out, const struct ld_png_text *texts, size_t count,
                    enum fit fit, size_t bytes_max)
{
    enum { HEADER_SIZE = 8 };
    struct directory first = {.count = 0}, second = {.count = 0};
    fill(&first, &second, texts, count, fit);
    const size_t start = out->size;
    const bool any = first.count + second.count > 0;
    if (second.count > 0) { /* its place is behind the first, whose last entry says so */
        struct ld_buffer *pointer = add(&first, 0x8769, TYPE_LONG);
        put32(pointer, 0);
        const size_t place = HEADER_SIZE + size_of(&first);
        ld_buffer_clear(pointer);
        put32(pointer, (uint32_t)place);
    }
    const size_t size = HEADER_SIZE + size_of(&first) + (second.count ? size_of(&second) : 0);
    const bool fits = !any || size <= bytes_max;
    if (any && fits) {
        ld_buffer_bytes(out, "MM\0*\0\0\0\b", HEADER_SIZE);
        put_directory(out, start, &first);
        if (second.count > 0)
            put_directory(out, start, &second);
    }
    const bool first_failed = release(&first);
    const bool failed = release(&second) || first_failed;
    out->failed = out->failed || failed;
    return fits || failed;
}

enum ld_code ld_exif_write(struct ld_buffer *out, const struct ld_png_text *texts, size_t count,
                           size_t bytes_max, struct ld_error *err)
{
    for (int fit = FIT_ALL; fit <= FIT_OWN; fit++)
        if (try_fit(out, texts, count, (enum fit)fit, bytes_max))
            break;
    return out->failed ? LD_FAIL(err, LD_E_NOMEM, "no memory for the text of a picture") : LD_OK;
}
