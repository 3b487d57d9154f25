/*
 * A growing byte buffer with a ceiling given at creation, and a small JSON writer on top of it.
 * A write beyond the ceiling or without memory is remembered (`failed`), later writes do nothing,
 * and the caller checks once at the end.
 *
 *     struct ld_buffer out = ld_buffer_make(64 * 1024);
 *     ld_buffer_text(&out, "{\"name\":");
 *     ld_buffer_json_string(&out, name);
 *     ld_buffer_text(&out, "}");
 *     if (out.failed) ...
 *     ld_buffer_deinit(&out);
 */
#ifndef LD_BASE_BUFFER_H
#define LD_BASE_BUFFER_H

#include "runtime/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Owned by one thread. `data` is always NUL-terminated once something was written. */
struct ld_buffer {
    char *data;
    size_t size;
    size_t capacity;
    size_t bytes_limit;
    bool failed;
};

struct ld_buffer ld_buffer_make(size_t bytes_limit);
void ld_buffer_deinit(struct ld_buffer *buffer);
/* Forget the content, keep the memory and the ceiling. */
void ld_buffer_clear(struct ld_buffer *buffer);

void ld_buffer_bytes(struct ld_buffer *buffer, const void *data, size_t size);
void ld_buffer_text(struct ld_buffer *buffer, const char *text);
void ld_buffer_byte(struct ld_buffer *buffer, char byte);
void ld_buffer_format(struct ld_buffer *buffer, const char *format, ...) LD_PRINTF(2, 3);

/* "text" with JSON escapes; malformed UTF-8 becomes U+FFFD. */
void ld_buffer_json_string(struct ld_buffer *buffer, const char *text);
void ld_buffer_json_span(struct ld_buffer *buffer, struct ld_span text);
/* Shortest decimal that reads back to the same double; inf and nan become null. */
void ld_buffer_json_double(struct ld_buffer *buffer, double value);

#ifdef __cplusplus
}
#endif
#endif
