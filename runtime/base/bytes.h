/*
 * Spans, checked arithmetic, little-endian readers and narrowing. External numbers are parsed into
 * 64 bits, range-checked, then narrowed here, never by a bare cast.
 */
#ifndef LD_BASE_BYTES_H
#define LD_BASE_BYTES_H

#include "runtime/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Borrowed bytes. */
struct ld_span {
    const uint8_t *data;
    size_t size;
};

static inline struct ld_span ld_span_of(const void *data, size_t size)
{
    struct ld_span span = {(const uint8_t *)data, size};
    return span;
}

static inline struct ld_span ld_span_text(const char *text)
{
    return ld_span_of(text, strlen(text));
}

static inline bool ld_span_equal(struct ld_span a, struct ld_span b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool ld_span_is(struct ld_span span, const char *text)
{
    return ld_span_equal(span, ld_span_text(text));
}

/* Without the blanks and tabs at both ends. */
struct ld_span ld_span_trimmed(struct ld_span text);

/* ---- Checked arithmetic: false on overflow, `out` then undefined ----------------------------- */

static inline bool ld_add_ok(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool ld_mul_ok(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool ld_add_u64_ok(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool ld_mul_u64_ok(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* ---- Little-endian readers; the caller has checked the bounds -------------------------------- */

static inline uint16_t ld_read_u16le(const uint8_t *p)
{
    return (uint16_t)(p[0] | (p[1] << 8));
}

static inline uint32_t ld_read_u32le(const uint8_t *p)
{
    return (uint32_t)p[0] | ((uint32_t)p[1] << 8) | ((uint32_t)p[2] << 16) | ((uint32_t)p[3] << 24);
}

static inline uint64_t ld_read_u64le(const uint8_t *p)
{
    return (uint64_t)ld_read_u32le(p) | ((uint64_t)ld_read_u32le(p + 4) << 32);
}

static inline uint32_t ld_read_u32be(const uint8_t *p)
{
    return ((uint32_t)p[0] << 24) | ((uint32_t)p[1] << 16) | ((uint32_t)p[2] << 8) | (uint32_t)p[3];
}

static inline void ld_write_u32le(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
    p[2] = (uint8_t)(value >> 16);
    p[3] = (uint8_t)(value >> 24);
}

static inline void ld_write_u64le(uint8_t *p, uint64_t value)
{
    ld_write_u32le(p, (uint32_t)value);
    ld_write_u32le(p + 4, (uint32_t)(value >> 32));
}

static inline void ld_write_u32be(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)(value >> 24);
    p[1] = (uint8_t)(value >> 16);
    p[2] = (uint8_t)(value >> 8);
    p[3] = (uint8_t)value;
}

/* ---- Narrowing: false when the value does not fit -------------------------------------------- */

static inline bool ld_narrow_i32(int64_t value, int32_t *out)
{
    if (value < INT32_MIN || value > INT32_MAX)
        return false;
    *out = (int32_t)value;
    return true;
}

static inline bool ld_narrow_u32(int64_t value, uint32_t *out)
{
    if (value < 0 || value > (int64_t)UINT32_MAX)
        return false;
    *out = (uint32_t)value;
    return true;
}

static inline bool ld_narrow_size(uint64_t value, size_t *out)
{
    *out = (size_t)value;
    return (uint64_t)*out == value;
}

/* ---- Numbers in text (bytes.c): the whole span must be the number ---------------------------- */

/* Optional '-', digits; no '+', no blanks. False on anything else or overflow. */
bool ld_parse_i64(struct ld_span text, int64_t *out);
bool ld_parse_u64(struct ld_span text, uint64_t *out);

/* Decimal with optional sign, fraction and exponent, C locale whatever the process has; false for
 * inf, nan, hexadecimal, blanks or an overflow to infinity. */
bool ld_parse_double(struct ld_span text, double *out);

/* The value of a hexadecimal digit of either case, -1 for any other byte. */
int ld_hex_digit(int c);

/* snprintf that reports truncation: false when the text did not fit (it is cut, NUL-terminated). */
bool ld_fmt(char *out, size_t out_size, const char *format, ...) LD_PRINTF(3, 4);

/* Strict UTF-8 (no overlong forms, surrogates or values above U+10FFFF). */
bool ld_utf8_valid(struct ld_span text);

/* Decode one code point at data[*pos], advance *pos; 0xFFFD and one byte on malformed input. */
uint32_t ld_utf8_next(const uint8_t *data, size_t size, size_t *pos);

/* Encode; returns 1..4, the bytes written to out[4]; 0 for surrogates and values out of range. */
size_t ld_utf8_put(uint32_t code_point, uint8_t *out);

#ifdef __cplusplus
}
#endif
#endif
