#include "runtime/base/buffer.h"

#include "runtime/base/arena.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct ld_buffer ld_buffer_make(size_t bytes_limit)
{
    struct ld_buffer buffer = {.bytes_limit = bytes_limit};
    return buffer;
}

void ld_buffer_deinit(struct ld_buffer *buffer)
{
    ld_heap_free(buffer->data);
    memset(buffer, 0, sizeof *buffer);
}

void ld_buffer_clear(struct ld_buffer *buffer)
{
    buffer->size = 0;
    buffer->failed = false;
    if (buffer->data)
        buffer->data[0] = '\0';
}

/* Room for `more` bytes and the closing NUL. */
static bool reserve(struct ld_buffer *buffer, size_t more)
{
    size_t needed;
    if (buffer->failed)
        return false;
    if (!ld_add_ok(buffer->size, more, &needed) || needed > buffer->bytes_limit) {
        buffer->failed = true;
        return false;
    }
    if (needed + 1 <= buffer->capacity)
        return true;
    size_t capacity = buffer->capacity ? buffer->capacity : 256;
    while (capacity < needed + 1)
        capacity *= 2;
    if (capacity > buffer->bytes_limit + 1)
        capacity = buffer->bytes_limit + 1;
    char *data = ld_heap_resize(buffer->data, capacity);
    if (!data) {
        buffer->failed = true;
        return false;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void ld_buffer_bytes(struct ld_buffer *buffer, const void *data, size_t size)
{
    if (!reserve(buffer, size))
        return;
    if (size)
        memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
    buffer->data[buffer->size] = '\0';
}

void ld_buffer_text(struct ld_buffer *buffer, const char *text)
{
    ld_buffer_bytes(buffer, text, strlen(text));
}

void ld_buffer_byte(struct ld_buffer *buffer, char byte)
{
    ld_buffer_bytes(buffer, &byte, 1);
}

void ld_buffer_format(struct ld_buffer *buffer, const char *format, ...)
{
    va_list args;
    va_list again;
    va_start(args, format);
    va_copy(again, args);
    const int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0)
        buffer->failed = true;
    else if (reserve(buffer, (size_t)length)) {
        vsnprintf(buffer->data + buffer->size, (size_t)length + 1, format, again);
        buffer->size += (size_t)length;
    }
    va_end(again);
}

void ld_buffer_json_span(struct ld_buffer *buffer, struct ld_span text)
{
    static const char hex[] = "0123456789abcdef";
    ld_buffer_byte(buffer, '"');
    for (size_t pos = 0; pos < text.size && !buffer->failed;) {
        const size_t start = pos;
        const uint32_t c = ld_utf8_next(text.data, text.size, &pos);
        if (c == '"' || c == '\\') {
            const char pair[2] = {'\\', (char)c};
            ld_buffer_bytes(buffer, pair, 2);
        } else if (c == '\n') {
            ld_buffer_text(buffer, "\\n");
        } else if (c == '\r') {
            ld_buffer_text(buffer, "\\r");
        } else if (c == '\t') {
            ld_buffer_text(buffer, "\\t");
        } else if (c < 0x20 || c == 0x7F) {
            const char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            ld_buffer_bytes(buffer, escape, 6);
        } else if (c == 0xFFFD) {
            ld_buffer_text(buffer, "\xEF\xBF\xBD");
        } else {
            ld_buffer_bytes(buffer, text.data + start, pos - start);
        }
    }
    ld_buffer_byte(buffer, '"');
}

void ld_buffer_json_string(struct ld_buffer *buffer, const char *text)
{
    ld_buffer_json_span(buffer, ld_span_text(text));
}

void ld_buffer_json_double(struct ld_buffer *buffer, double value)
{
    char text[40];
    if (!isfinite(value)) {
        ld_buffer_text(buffer, "null");
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    ld_buffer_text(buffer, text);
}
