/* A1111's infotext taken apart: prompt lines, negative lines, and a last line of pairs. */
#include "runtime/base/json.h"
#include "runtime/image/png_meta.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { PAIRS_MIN = 3 }; /* fewer and the line is prompt, as A1111 decides */

static bool is_word(uint8_t c)
{
    return isalnum(c) || c == '_' || c >= 0x80;
}

static struct ld_span trim(struct ld_span text)
{
    while (text.size > 0 && isspace(text.data[0])) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && isspace(text.data[text.size - 1]))
        text.size--;
    return text;
}

/* ---- Pairs ----------------------------------------------------------------------------------- */

/* End of a quoted value that starts at `pos`, or `pos` if it does not end. */
static size_t end_of_quotes(struct ld_span line, size_t pos)
{
    for (size_t i = pos + 1; i < line.size; i++) {
        if (line.data[i] == '\\')
            i++;
        else if (line.data[i] == '"')
            return i + 1;
    }
    return pos;
}

/* End of a JSON object or list that starts at `pos`, or `pos` if it does not end. */
static size_t end_of_brackets(struct ld_span line, size_t pos)
{
    size_t depth = 0;
    for (size_t i = pos; i < line.size; i++) {
        const uint8_t c = line.data[i];
        if (c == '"') {
            const size_t end = end_of_quotes(line, i);
            if (end == i)
                return pos;
            i = end - 1;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            if (--depth == 0)
                return i + 1;
        }
    }
    return pos;
}

/* A key is a word character and at least one of [word, blank, '-', '/'], then ':'. */
static bool take_key(struct ld_span line, size_t *pos, struct ld_span *key)
{
    size_t i = *pos;
    while (i < line.size && isspace(line.data[i]))
        i++;
    const size_t start = i;
    if (i == line.size || !is_word(line.data[i]))
        return false;
    while (i < line.size && (is_word(line.data[i]) || line.data[i] == ' ' || line.data[i] == '-' ||
                             line.data[i] == '/' || line.data[i] == '.'))
        i++;
    if (i == line.size || line.data[i] != ':' || i - start < 2)
        return false;
    *key = ld_span_of(line.data + start, i - start);
    *pos = i + 1;
    return true;
}

static void take_value(struct ld_span line, size_t *pos, struct ld_infotext_pair *pair)
{
    size_t i = *pos;
    while (i < line.size && isspace(line.data[i]))
        i++;
    const size_t start = i;
    pair->quoted = false;
    if (i < line.size && line.data[i] == '"' && end_of_quotes(line, i) > i) {
        i = end_of_quotes(line, i);
        pair->value = ld_span_of(line.data + start + 1, i - start - 2);
        pair->quoted = true;
    } else if (i < line.size && (line.data[i] == '{' || line.data[i] == '[') &&
               end_of_brackets(line, i) > i) {
        i = end_of_brackets(line, i);
        pair->value = ld_span_of(line.data + start, i - start);
    } else {
        while (i < line.size && line.data[i] != ',')
            i++;
        pair->value = trim(ld_span_of(line.data + start, i - start));
    }
    while (i < line.size && line.data[i] != ',')
        i++;
    *pos = i < line.size ? i + 1 : i;
}

static void take_pairs(struct ld_infotext *info, struct ld_span line)
{
    info->pair_count = 0;
    for (size_t pos = 0; pos < line.size && info->pair_count < LD_INFOTEXT_PAIRS_MAX;) {
        struct ld_infotext_pair *pair = &info->pair[info->pair_count];
        if (take_key(line, &pos, &pair->key)) {
            take_value(line, &pos, pair);
            info->pair_count++;
            continue;
        }
        while (pos < line.size && line.data[pos] != ',')
            pos++;
        pos++;
    }
}

/* ---- Lines ----------------------------------------------------------------------------------- */

/* Start of the line that holds position `end` - 1. */
static size_t line_start(struct ld_span text, size_t end)
{
    while (end > 0 && text.data[end - 1] != '\n')
        end--;
    return end;
}

/* Where a line "Negative prompt: ..." begins, or the size of the text. */
static size_t find_negative(struct ld_span text, size_t *after)
{
    static const char mark[] = "Negative prompt:";
    const size_t size = sizeof mark - 1;
    for (size_t pos = 0; pos < text.size;) {
        if (text.size - pos >= size && memcmp(text.data + pos, mark, size) == 0) {
            *after = pos + size;
            return pos;
        }
        const uint8_t *end = memchr(text.data + pos, '\n', text.size - pos);
        pos = end ? (size_t)(end - text.data) + 1 : text.size;
    }
    *after = text.size;
    return text.size;
}

void ld_infotext_split(struct ld_infotext *info, struct ld_span text)
{
    memset(info, 0, sizeof *info);
    text = trim(text);
    const size_t last = line_start(text, text.size);
    take_pairs(info, ld_span_of(text.data + last, text.size - last));
    struct ld_span head = ld_span_of(text.data, last);
    if (info->pair_count < PAIRS_MIN) {
        info->pair_count = 0;
        head = text;
    }
    size_t after;
    const size_t negative = find_negative(head, &after);
    info->prompt = trim(ld_span_of(head.data, negative));
    info->negative = trim(ld_span_of(head.data + after, head.size - after));
}

const struct ld_infotext_pair *ld_infotext_find(const struct ld_infotext *info, const char *key)
{
    const size_t size = strlen(key);
    for (size_t i = 0; i < info->pair_count; i++)
        if (info->pair[i].key.size == size &&
            strncasecmp((const char *)info->pair[i].key.data, key, size) == 0)
            return &info->pair[i];
    return NULL;
}

bool ld_infotext_value(const struct ld_infotext_pair *pair, char *out, size_t out_size)
{
    size_t size = 0;
    struct ld_json json;
    struct ld_json_token token;
    /* The quotes stand right before and after the value. */
    if (pair->quoted)
        ld_json_init(&json, ld_span_of(pair->value.data - 1, pair->value.size + 2), 1, 1);
    if (pair->quoted && ld_json_next(&json, &token, NULL) == LD_OK &&
        token.kind == LD_JSON_STRING) {
        if (!ld_json_unescape(&token, out, out_size - 1, &size))
            return false;
    } else {
        if (pair->value.size >= out_size)
            return false;
        size = pair->value.size;
        memcpy(out, pair->value.data, size);
    }
    out[size] = '\0';
    return true;
}
