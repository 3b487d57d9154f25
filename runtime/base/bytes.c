#include "runtime/base/bytes.h"

#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

struct ld_span ld_span_trimmed(struct ld_span text)
{
    while (text.size > 0 && is_blank(text.data[0]))
        text = ld_span_of(text.data + 1, text.size - 1);
    while (text.size > 0 && is_blank(text.data[text.size - 1]))
        text.size--;
    return text;
}

bool ld_parse_u64(struct ld_span text, uint64_t *out)
{
    uint64_t value = 0;
    if (text.size == 0 || text.size > 20)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        if (c < '0' || c > '9' || !ld_mul_u64_ok(value, 10, &value) ||
            !ld_add_u64_ok(value, (uint64_t)(c - '0'), &value))
            return false;
    }
    *out = value;
    return true;
}

bool ld_parse_i64(struct ld_span text, int64_t *out)
{
    const bool negative = text.size > 0 && text.data[0] == '-';
    uint64_t magnitude;
    if (negative)
        text = ld_span_of(text.data + 1, text.size - 1);
    if (!ld_parse_u64(text, &magnitude))
        return false;
    if (magnitude > (uint64_t)INT64_MAX + (negative ? 1U : 0U))
        return false;
    *out = negative ? (int64_t)(0U - magnitude) : (int64_t)magnitude;
    return true;
}

/* strtod accepts more than we do (inf, nan, hex, leading blanks), so the shape is checked first. */
static bool is_decimal(struct ld_span text)
{
    size_t i = 0;
    size_t digits = 0;
    if (i < text.size && (text.data[i] == '-' || text.data[i] == '+'))
        i++;
    for (; i < text.size && text.data[i] >= '0' && text.data[i] <= '9'; i++)
        digits++;
    if (i < text.size && text.data[i] == '.')
        for (i++; i < text.size && text.data[i] >= '0' && text.data[i] <= '9'; i++)
            digits++;
    if (digits == 0)
        return false;
    if (i < text.size && (text.data[i] == 'e' || text.data[i] == 'E')) {
        i++;
        if (i < text.size && (text.data[i] == '-' || text.data[i] == '+'))
            i++;
        const size_t exponent_start = i;
        while (i < text.size && text.data[i] >= '0' && text.data[i] <= '9')
            i++;
        if (i == exponent_start)
            return false;
    }
    return i == text.size;
}

bool ld_parse_double(struct ld_span text, double *out)
{
    char copy[352]; /* longest useful decimal; a longer one is refused */
    if (text.size >= sizeof copy || !is_decimal(text))
        return false;
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    char *end = NULL;
    const double value = strtod(copy, &end);
    if (end != copy + text.size || !isfinite(value))
        return false;
    *out = value;
    return true;
}

int ld_hex_digit(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool ld_fmt(char *out, size_t out_size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(out, out_size, format, args);
    va_end(args);
    return length >= 0 && (size_t)length < out_size;
}

/* Returns the length of the well-formed sequence at data[pos], 0 if malformed. */
static size_t utf8_sequence(const uint8_t *data, size_t size, size_t pos, uint32_t *code_point)
{
    const uint8_t lead = data[pos];
    size_t length;
    uint32_t value;
    uint32_t smallest;
    if (lead < 0x80) {
        *code_point = lead;
        return 1;
    }
    if (lead >= 0xC2 && lead <= 0xDF) {
        length = 2;
        value = lead & 0x1FU;
        smallest = 0x80;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        length = 3;
        value = lead & 0x0FU;
        smallest = 0x800;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        length = 4;
        value = lead & 0x07U;
        smallest = 0x10000;
    } else {
        return 0;
    }
    if (size - pos < length)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if ((data[pos + i] & 0xC0U) != 0x80U)
            return 0;
        value = (value << 6) | (data[pos + i] & 0x3FU);
    }
    if (value < smallest || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
        return 0;
    *code_point = value;
    return length;
}

bool ld_utf8_valid(struct ld_span text)
{
    uint32_t code_point;
    for (size_t pos = 0; pos < text.size;) {
        const size_t length = utf8_sequence(text.data, text.size, pos, &code_point);
        if (length == 0)
            return false;
        pos += length;
    }
    return true;
}

uint32_t ld_utf8_next(const uint8_t *data, size_t size, size_t *pos)
{
    uint32_t code_point = 0xFFFD;
    const size_t length = utf8_sequence(data, size, *pos, &code_point);
    if (length == 0) {
        *pos += 1;
        return 0xFFFD;
    }
    *pos += length;
    return code_point;
}

size_t ld_utf8_put(uint32_t code_point, uint8_t *out)
{
    if (code_point < 0x80) {
        out[0] = (uint8_t)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        out[0] = (uint8_t)(0xC0U | (code_point >> 6));
        out[1] = (uint8_t)(0x80U | (code_point & 0x3FU));
        return 2;
    }
    if (code_point >= 0xD800 && code_point <= 0xDFFF)
        return 0;
    if (code_point < 0x10000) {
        out[0] = (uint8_t)(0xE0U | (code_point >> 12));
        out[1] = (uint8_t)(0x80U | ((code_point >> 6) & 0x3FU));
        out[2] = (uint8_t)(0x80U | (code_point & 0x3FU));
        return 3;
    }
    if (code_point > 0x10FFFF)
        return 0;
    out[0] = (uint8_t)(0xF0U | (code_point >> 18));
    out[1] = (uint8_t)(0x80U | ((code_point >> 12) & 0x3FU));
    out[2] = (uint8_t)(0x80U | ((code_point >> 6) & 0x3FU));
    out[3] = (uint8_t)(0x80U | (code_point & 0x3FU));
    return 4;
}
