#include "runtime/model/vocabulary.h"

#include "runtime/base/fsx.h"

#include <string.h>

enum { PATH_SIZE = 4096, ALPHABET = 256, PRINTABLE = 188 };

static const char version_mark[] = "#version";

/* The next merge of the text; false at the end. Blank lines and the version line are skipped. */
static bool next_merge(const char **text, struct ld_span *line)
{
    while (**text) {
        size_t size = strcspn(*text, "\n");
        *line = ld_span_of(*text, size);
        *text += size + ((*text)[size] == '\n');
        while (line->size > 0 && line->data[line->size - 1] == '\r')
            line->size--;
        const bool version = line->size >= sizeof version_mark - 1 &&
                             memcmp(line->data, version_mark, sizeof version_mark - 1) == 0;
        if (line->size > 0 && !version)
            return true;
    }
    return false;
}

uint32_t ld_vocabulary_count(const char *text)
{
    struct ld_span line;
    uint32_t count = 0;
    while (next_merge(&text, &line))
        count++;
    return count;
}

void ld_vocabulary_merges(struct ld_buffer *out, const char *text)
{
    struct ld_span line;
    while (next_merge(&text, &line)) {
        ld_buffer_bytes(out, line.data, line.size);
        ld_buffer_byte(out, '\n');
    }
}

/* ---- vocab.json ------------------------------------------------------------------------------ */

static bool is_printable(uint32_t byte)
{
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/* The character that stands for the alphabet's place `index`: the printable bytes first, then the
 * others, which are shown as U+0100 and up. */
static uint32_t alphabet_at(uint32_t index)
{
    if (index >= PRINTABLE)
        return 0x100 + index - PRINTABLE;
    uint32_t seen = 0;
    for (uint32_t byte = 0; byte < ALPHABET; byte++) {
        if (is_printable(byte) && seen++ == index)
            return byte;
    }
    return 0;
}

static size_t put_utf8(char out[4], uint32_t point)
{
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    out[0] = (char)(0xC0 | point >> 6);
    out[1] = (char)(0x80 | (point & 0x3F));
    return 2;
}

static void put_token(struct ld_buffer *out, uint32_t id, const struct ld_span *parts,
                      uint32_t count)
{
    char token[1024];
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        const size_t room = sizeof token - size;
        const size_t part = parts[i].size < room ? parts[i].size : room;
        memcpy(token + size, parts[i].data, part);
        size += part;
    }
    if (id > 0)
        ld_buffer_byte(out, ',');
    ld_buffer_json_span(out, ld_span_of(token, size));
    ld_buffer_format(out, ":%u", id);
}

void ld_vocabulary_json(struct ld_buffer *out, const char *text)
{
    struct ld_span line;
    uint32_t id = 0;
    ld_buffer_byte(out, '{');
    for (uint32_t i = 0; i < 2 * ALPHABET; i++) {
        char letter[4];
        const size_t size = put_utf8(letter, alphabet_at(i % ALPHABET));
        const struct ld_span parts[] = {ld_span_of(letter, size), ld_span_text("</w>")};
        put_token(out, id++, parts, i < ALPHABET ? 1 : 2);
    }
    while (next_merge(&text, &line)) {
        const void *blank = memchr(line.data, ' ', line.size);
        const size_t first = blank ? (size_t)((const uint8_t *)blank - line.data) : line.size;
        const size_t second = blank ? first + 1 : line.size;
        const struct ld_span parts[] = {ld_span_of(line.data, first),
                                        ld_span_of(line.data + second, line.size - second)};
        put_token(out, id++, parts, 2);
    }
    const struct ld_span ends[] = {ld_span_text("<|startoftext|>"), ld_span_text("<|endoftext|>")};
    put_token(out, id++, &ends[0], 1);
    put_token(out, id, &ends[1], 1);
    ld_buffer_text(out, "}\n");
}

enum ld_code ld_vocabulary_of_folder(struct ld_buffer *out, const char *folder,
                                     struct ld_error *err)
{
    char path[PATH_SIZE];
    if (!ld_fmt(path, sizeof path, "%s/tokenizer/merges.txt", folder))
        return LD_FAIL(err, LD_E_INVALID, "the path of the model is too long");
    return ld_fsx_read_file(path, out, err);
}
