/*
 * Pull tokenizer for JSON: no allocation, no recursion, depth and count limits, strict UTF-8.
 * It accepts exactly RFC 8259 and remembers where it stands for error messages. It does not look
 * for duplicate keys; who needs that keeps the keys.
 *
 *     struct ld_json json;
 *     struct ld_json_token token;
 *     ld_json_init(&json, bytes, LD_JSON_DEPTH, LD_JSON_VALUES);
 *     do {
 *         if (ld_json_next(&json, &token, err) != LD_OK)
 *             return err->code;
 *     } while (token.kind != LD_JSON_END);
 */
#ifndef LD_BASE_JSON_H
#define LD_BASE_JSON_H

#include "runtime/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_JSON_DEPTH_MAX = 64 }; /* ceiling of what a caller may ask for */

enum ld_json_kind {
    LD_JSON_OBJECT_BEGIN,
    LD_JSON_OBJECT_END,
    LD_JSON_ARRAY_BEGIN,
    LD_JSON_ARRAY_END,
    LD_JSON_KEY,     /* `text` is the raw content between the quotes */
    LD_JSON_STRING,  /* likewise */
    LD_JSON_INTEGER, /* no fraction, no exponent; `text` is the literal, of any length */
    LD_JSON_REAL,
    LD_JSON_TRUE,
    LD_JSON_FALSE,
    LD_JSON_NULL,
    LD_JSON_END /* only white space was left */
};

struct ld_json_token {
    enum ld_json_kind kind;
    struct ld_span text; /* borrowed from the input; escapes not yet resolved */
    bool escaped;        /* a backslash occurs in `text` */
    size_t offset;       /* of the token's first byte */
    uint32_t depth; /* containers around this token; a container's begin counts those outside */
};

struct ld_json {
    struct ld_span input;
    size_t pos;
    uint32_t depth;
    uint32_t depth_max;
    uint64_t values;
    uint64_t values_max;
    uint8_t expect;     /* what may come next, see json.c */
    uint64_t is_object; /* bit d: the container at depth d is an object */
};

/* Borrows `input`. depth_max <= LD_JSON_DEPTH_MAX; `values_max` counts values and keys. */
void ld_json_init(struct ld_json *json, struct ld_span input, uint32_t depth_max,
                  uint64_t values_max);

/*
 * The next token. After LD_JSON_END it keeps returning LD_JSON_END.
 * Errors   LD_E_FORMAT with "line L, column C: ..." for malformed text, bad UTF-8, raw control
 *          characters, lone surrogate escapes, trailing bytes; LD_E_TOO_LARGE for depth and count.
 */
enum ld_code ld_json_next(struct ld_json *json, struct ld_json_token *token,
                          struct ld_error *err) LD_MUST_USE;

/* Skip the value that starts with `token` (for a container: to its end). Errors as ld_json_next. */
enum ld_code ld_json_skip(struct ld_json *json, const struct ld_json_token *token,
                          struct ld_error *err) LD_MUST_USE;

/* Resolve escapes of a KEY or STRING into `out`; false if it does not fit. No NUL is appended. */
bool ld_json_unescape(const struct ld_json_token *token, char *out, size_t out_capacity,
                      size_t *out_size) LD_MUST_USE;

/* Compare a KEY or STRING with plain text, escapes resolved. */
bool ld_json_is(const struct ld_json_token *token, const char *text);

/* 1-based position of an offset, for messages. */
void ld_json_position(struct ld_span input, size_t offset, uint32_t *line, uint32_t *column);

#ifdef __cplusplus
}
#endif
#endif
