/* The description of a file for people: the JSON object as indented lines. */
#include "runtime/base/arena.h"
#include "runtime/base/json.h"
#include "runtime/model/inspect.h"

enum { DEPTH_MAX = 16, VALUES_MAX = 100000 };

/* Unescaped text, with what could drive a terminal replaced; line breaks become blanks. */
static void write_text(struct ld_buffer *out, const struct ld_json_token *token)
{
    size_t size = 0;
    char *text = ld_heap_alloc(token->text.size + 1);
    if (text && ld_json_unescape(token, text, token->text.size, &size)) {
        for (size_t pos = 0; pos < size;) {
            const size_t start = pos;
            const uint32_t c = ld_utf8_next((const uint8_t *)text, size, &pos);
            if (c == '\n' || c == '\t' || c == '\r')
                ld_buffer_byte(out, ' ');
            else if (c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x2028 || c == 0x2029 ||
                     (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069))
                ld_buffer_byte(out, '?');
            else
                ld_buffer_bytes(out, text + start, pos - start);
        }
    }
    ld_heap_free(text);
}

static void write_value(struct ld_buffer *out, const struct ld_json_token *token)
{
    if (token->kind == LD_JSON_STRING)
        write_text(out, token);
    else if (token->kind == LD_JSON_TRUE || token->kind == LD_JSON_FALSE)
        ld_buffer_text(out, token->kind == LD_JSON_TRUE ? "yes" : "no");
    else
        ld_buffer_bytes(out, token->text.data, token->text.size);
}

/* A line starts at a key, and at each member of an array. */
static void start_line(struct ld_buffer *out, uint32_t depth)
{
    if (out->size > 0)
        ld_buffer_byte(out, '\n');
    for (uint32_t i = 1; i < depth; i++)
        ld_buffer_text(out, "  ");
}

void ld_inspect_text(struct ld_buffer *text, struct ld_span json)
{
    struct ld_json reader;
    struct ld_json_token token;
    bool in_array[DEPTH_MAX + 1] = {false};
    bool after_key = false;
    ld_json_init(&reader, json, DEPTH_MAX, VALUES_MAX);
    while (ld_json_next(&reader, &token, NULL) == LD_OK && token.kind != LD_JSON_END) {
        const bool opens = token.kind == LD_JSON_OBJECT_BEGIN || token.kind == LD_JSON_ARRAY_BEGIN;
        if (opens)
            in_array[token.depth + 1 <= DEPTH_MAX ? token.depth + 1 : DEPTH_MAX] =
                token.kind == LD_JSON_ARRAY_BEGIN;
        if (token.kind == LD_JSON_KEY) {
            start_line(text, token.depth);
            write_text(text, &token);
            ld_buffer_byte(text, ':');
        } else if (!opens && token.kind != LD_JSON_OBJECT_END && token.kind != LD_JSON_ARRAY_END) {
            if (after_key)
                ld_buffer_byte(text, ' ');
            else if (in_array[token.depth])
                start_line(text, token.depth);
            write_value(text, &token);
        }
        after_key = token.kind == LD_JSON_KEY;
    }
    if (text->size > 0)
        ld_buffer_byte(text, '\n');
}
