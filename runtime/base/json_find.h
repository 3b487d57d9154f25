/*
 * One value out of a JSON text by its pointer, for callers that need two or three facts of a
 * document and no tree. Each call scans from the start; meant for small documents.
 *
 *     struct ld_json_token token;
 *     if (ld_json_find(text, "/images/0/url", &token)) ...
 */
#ifndef LD_BASE_JSON_FIND_H
#define LD_BASE_JSON_FIND_H

#include "runtime/base/json.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The first token of the value at `pointer` (RFC 6901 without ~ escapes; "" is the whole text).
 * False if the text is malformed before that point or has no such value. The first of equal keys
 * wins.
 */
bool ld_json_find(struct ld_span text, const char *pointer,
                  struct ld_json_token *token) LD_MUST_USE;

/* The string at `pointer`, unescaped into out[size] with a NUL; false if absent, not a string, too
 * long, or holding U+0000. */
bool ld_json_find_string(struct ld_span text, const char *pointer, char *out,
                         size_t size) LD_MUST_USE;

/* The integer at `pointer`, 0 or more. */
bool ld_json_find_u64(struct ld_span text, const char *pointer, uint64_t *out) LD_MUST_USE;

/* The number at `pointer`, integer or real. */
bool ld_json_find_double(struct ld_span text, const char *pointer, double *out) LD_MUST_USE;

/* The whole value at `pointer` as text (a container with its brackets, a string with its quotes).
 */
bool ld_json_find_span(struct ld_span text, const char *pointer, struct ld_span *out) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
