#include "runtime/base/json.h"

/*
 * The grammar as a small automaton. `expect` says what may come next; the kinds of the open
 * containers are the bits of `is_object`, so closing one needs no stack of structs.
 */
enum expect {
    EXPECT_VALUE,        /* at the top, after ':' or after ',' in an array */
    EXPECT_VALUE_OR_END, /* just after '[' */
    EXPECT_KEY,          /* after ',' in an object */
    EXPECT_KEY_OR_END,   /* just after '{' */
    EXPECT_COMMA_OR_END, /* after a value inside a container */
    EXPECT_NOTHING       /* the document is complete */
};

void ld_json_init(struct ld_json *json, struct ld_span input, uint32_t depth_max,
                  uint64_t values_max)
{
    LD_ASSERT(depth_max <= LD_JSON_DEPTH_MAX);
    memset(json, 0, sizeof *json);
    json->input = input;
    json->depth_max = depth_max;
    json->values_max = values_max;
    json->expect = EXPECT_VALUE;
}

void ld_json_position(struct ld_span input, size_t offset, uint32_t *line, uint32_t *column)
{
    *line = 1;
    *column = 1;
    for (size_t i = 0; i < offset && i < input.size; i++) {
        if (input.data[i] == '\n') {
            ++*line;
            *column = 1;
        } else if ((input.data[i] & 0xC0) != 0x80) { /* columns are code points */
            ++*column;
        }
    }
}

static enum ld_code fail(const struct ld_json *json, size_t offset, enum ld_code code,
                         const char *what, struct ld_error *err)
{
    uint32_t line;
    uint32_t column;
    ld_json_position(json->input, offset, &line, &column);
    return LD_FAIL(err, code, "line %u, column %u: %s", line, column, what);
}

static void skip_blanks(struct ld_json *json)
{
    while (json->pos < json->input.size) {
        const uint8_t c = json->input.data[json->pos];
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
            return;
        json->pos++;
    }
}

/* ---- Strings --------------------------------------------------------------------------------- */

/* Four hexadecimal digits at `pos`; false if there are not four. */
static bool read_hex4(struct ld_span text, size_t pos, uint32_t *out)
{
    if (text.size < 4 || pos > text.size - 4)
        return false;
    uint32_t value = 0;
    for (size_t i = 0; i < 4; i++) {
        const int digit = ld_hex_digit(text.data[pos + i]);
        if (digit < 0)
            return false;
        value = value << 4 | (uint32_t)digit;
    }
    *out = value;
    return true;
}

/* The code point of the escape \uXXXX at `pos` (of the backslash), a surrogate pair taken as one;
 * 0 characters consumed when it is malformed. */
static size_t read_unicode_escape(struct ld_span text, size_t pos, uint32_t *code_point)
{
    uint32_t first;
    uint32_t second;
    if (!read_hex4(text, pos + 2, &first) || (first >= 0xDC00 && first <= 0xDFFF))
        return 0;
    *code_point = first;
    if (first < 0xD800 || first > 0xDBFF)
        return 6;
    if (text.size - pos < 12 || text.data[pos + 6] != '\\' || text.data[pos + 7] != 'u' ||
        !read_hex4(text, pos + 8, &second) || second < 0xDC00 || second > 0xDFFF)
        return 0;
    *code_point = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
    return 12;
}

/* Bytes of the well-formed UTF-8 sequence at `pos`, 0 if malformed (Unicode 15, table 3-7). */
static size_t utf8_length(struct ld_span text, size_t pos)
{
    const uint8_t lead = text.data[pos];
    const size_t left = text.size - pos;
    if (lead < 0x80)
        return 1;
    const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || left < length)
        return 0;
    const uint8_t second = text.data[pos + 1];
    const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (second < low || second > high)
        return 0;
    for (size_t i = 2; i < length; i++) {
        if ((text.data[pos + i] & 0xC0) != 0x80)
            return 0;
    }
    return length;
}

static bool is_simple_escape(uint8_t c)
{
    return c == '"' || c == '\\' || c == '/' || c == 'b' || c == 'f' || c == 'n' || c == 'r' ||
           c == 't';
}

/* At the opening quote; leaves `pos` behind the closing one. */
static enum ld_code read_string(struct ld_json *json, struct ld_json_token *token,
                                struct ld_error *err)
{
    const struct ld_span input = json->input;
    size_t pos = json->pos + 1;
    token->escaped = false;
    while (pos < input.size && input.data[pos] != '"') {
        const uint8_t c = input.data[pos];
        if (c == '\\') {
            uint32_t code_point;
            size_t used = 0;
            if (input.size - pos >= 2 && input.data[pos + 1] == 'u')
                used = read_unicode_escape(input, pos, &code_point);
            else if (input.size - pos >= 2 && is_simple_escape(input.data[pos + 1]))
                used = 2;
            if (used == 0)
                return fail(json, pos, LD_E_FORMAT, "malformed escape in a string", err);
            token->escaped = true;
            pos += used;
        } else if (c < 0x20) {
            return fail(json, pos, LD_E_FORMAT, "raw control character in a string", err);
        } else {
            const size_t used = utf8_length(input, pos);
            if (used == 0)
                return fail(json, pos, LD_E_FORMAT, "malformed UTF-8 in a string", err);
            pos += used;
        }
    }
    if (pos >= input.size)
        return fail(json, json->pos, LD_E_FORMAT, "string without an end", err);
    token->text = ld_span_of(input.data + json->pos + 1, pos - json->pos - 1);
    json->pos = pos + 1;
    return LD_OK;
}

/* ---- Numbers and words ----------------------------------------------------------------------- */

static size_t skip_digits(struct ld_span input, size_t pos)
{
    while (pos < input.size && input.data[pos] >= '0' && input.data[pos] <= '9')
        pos++;
    return pos;
}

static enum ld_code read_number(struct ld_json *json, struct ld_json_token *token,
                                struct ld_error *err)
{
    const struct ld_span input = json->input;
    size_t pos = json->pos;
    token->kind = LD_JSON_INTEGER;
    if (input.data[pos] == '-')
        pos++;
    const size_t whole = pos;
    pos = skip_digits(input, pos);
    if (pos == whole || (input.data[whole] == '0' && pos > whole + 1))
        return fail(json, json->pos, LD_E_FORMAT, "malformed number", err);
    if (pos < input.size && input.data[pos] == '.') {
        const size_t fraction = ++pos;
        pos = skip_digits(input, pos);
        if (pos == fraction)
            return fail(json, json->pos, LD_E_FORMAT, "malformed number", err);
        token->kind = LD_JSON_REAL;
    }
    if (pos < input.size && (input.data[pos] == 'e' || input.data[pos] == 'E')) {
        pos++;
        if (pos < input.size && (input.data[pos] == '+' || input.data[pos] == '-'))
            pos++;
        const size_t exponent = pos;
        pos = skip_digits(input, pos);
        if (pos == exponent)
            return fail(json, json->pos, LD_E_FORMAT, "malformed number", err);
        token->kind = LD_JSON_REAL;
    }
    token->text = ld_span_of(input.data + json->pos, pos - json->pos);
    json->pos = pos;
    return LD_OK;
}

static enum ld_code read_word(struct ld_json *json, struct ld_json_token *token,
                              struct ld_error *err)
{
    static const struct {
        const char *word;
        enum ld_json_kind kind;
    } words[] = {{"true", LD_JSON_TRUE}, {"false", LD_JSON_FALSE}, {"null", LD_JSON_NULL}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        const size_t length = strlen(words[i].word);
        if (json->input.size - json->pos >= length &&
            memcmp(json->input.data + json->pos, words[i].word, length) == 0) {
            token->kind = words[i].kind;
            token->text = ld_span_of(json->input.data + json->pos, length);
            json->pos += length;
            return LD_OK;
        }
    }
    return fail(json, json->pos, LD_E_FORMAT, "expected a value", err);
}

/* ---- Containers ------------------------------------------------------------------------------ */

static void after_value(struct ld_json *json)
{
    json->expect = json->depth == 0 ? EXPECT_NOTHING : EXPECT_COMMA_OR_END;
}

static enum ld_code open_container(struct ld_json *json, struct ld_json_token *token,
                                   bool is_object, struct ld_error *err)
{
    if (json->depth >= json->depth_max)
        return fail(json, json->pos, LD_E_TOO_LARGE, "nesting is too deep", err);
    const uint64_t bit = (uint64_t)1 << json->depth;
    json->is_object = is_object ? json->is_object | bit : json->is_object & ~bit;
    json->depth++;
    json->pos++;
    json->expect = is_object ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
    token->kind = is_object ? LD_JSON_OBJECT_BEGIN : LD_JSON_ARRAY_BEGIN;
    return LD_OK;
}

static bool inside_object(const struct ld_json *json)
{
    return json->depth > 0 && (json->is_object >> (json->depth - 1) & 1) != 0;
}

static enum ld_code close_container(struct ld_json *json, struct ld_json_token *token)
{
    token->kind = inside_object(json) ? LD_JSON_OBJECT_END : LD_JSON_ARRAY_END;
    json->depth--;
    token->depth = json->depth;
    json->pos++;
    after_value(json);
    return LD_OK;
}

static enum ld_code read_value(struct ld_json *json, struct ld_json_token *token,
                               struct ld_error *err)
{
    const uint8_t c = json->input.data[json->pos];
    if (json->values >= json->values_max)
        return fail(json, json->pos, LD_E_TOO_LARGE, "too many values", err);
    json->values++;
    if (c == '{' || c == '[')
        return open_container(json, token, c == '{', err);
    enum ld_code code;
    if (c == '"') {
        token->kind = LD_JSON_STRING;
        code = read_string(json, token, err);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        code = read_number(json, token, err);
    } else {
        code = read_word(json, token, err);
    }
    if (code == LD_OK)
        after_value(json);
    return code;
}

/* A key and the colon behind it. */
static enum ld_code read_key(struct ld_json *json, struct ld_json_token *token,
                             struct ld_error *err)
{
    if (json->input.data[json->pos] != '"')
        return fail(json, json->pos, LD_E_FORMAT, "expected a key", err);
    if (json->values >= json->values_max)
        return fail(json, json->pos, LD_E_TOO_LARGE, "too many values", err);
    json->values++;
    token->kind = LD_JSON_KEY;
    if (read_string(json, token, err) != LD_OK)
        return LD_E_FORMAT;
    skip_blanks(json);
    if (json->pos >= json->input.size || json->input.data[json->pos] != ':')
        return fail(json, json->pos, LD_E_FORMAT, "expected ':'", err);
    json->pos++;
    json->expect = EXPECT_VALUE;
    return LD_OK;
}

/* ---- Reading --------------------------------------------------------------------------------- */

static bool is_closer(const struct ld_json *json, uint8_t c)
{
    return json->depth > 0 && c == (inside_object(json) ? '}' : ']');
}

enum ld_code ld_json_next(struct ld_json *json, struct ld_json_token *token, struct ld_error *err)
{
    memset(token, 0, sizeof *token);
    skip_blanks(json);
    if (json->expect == EXPECT_COMMA_OR_END && json->pos < json->input.size &&
        json->input.data[json->pos] == ',') {
        json->pos++;
        json->expect = inside_object(json) ? EXPECT_KEY : EXPECT_VALUE;
        skip_blanks(json);
    }
    token->offset = json->pos;
    token->depth = json->depth;
    if (json->pos >= json->input.size) {
        if (json->expect != EXPECT_NOTHING)
            return fail(json, json->pos, LD_E_FORMAT, "the document ends too early", err);
        token->kind = LD_JSON_END;
        return LD_OK;
    }
    const uint8_t c = json->input.data[json->pos];
    switch ((enum expect)json->expect) {
    case EXPECT_VALUE:
        return read_value(json, token, err);
    case EXPECT_VALUE_OR_END:
        return is_closer(json, c) ? close_container(json, token) : read_value(json, token, err);
    case EXPECT_KEY:
        return read_key(json, token, err);
    case EXPECT_KEY_OR_END:
        return is_closer(json, c) ? close_container(json, token) : read_key(json, token, err);
    case EXPECT_COMMA_OR_END:
        if (is_closer(json, c))
            return close_container(json, token);
        return fail(json, json->pos, LD_E_FORMAT, "expected ',' or the end of the container", err);
    case EXPECT_NOTHING:
        break;
    }
    return fail(json, json->pos, LD_E_FORMAT, "bytes after the document", err);
}

enum ld_code ld_json_skip(struct ld_json *json, const struct ld_json_token *token,
                          struct ld_error *err)
{
    if (token->kind != LD_JSON_OBJECT_BEGIN && token->kind != LD_JSON_ARRAY_BEGIN)
        return LD_OK;
    struct ld_json_token next;
    enum ld_code code;
    do {
        code = ld_json_next(json, &next, err);
    } while (code == LD_OK && json->depth > token->depth);
    return code;
}

/* ---- Text of a token ------------------------------------------------------------------------- */

/* One character of the raw text at *pos, escapes resolved, as UTF-8 in `out`; returns its bytes. */
static size_t next_character(struct ld_span text, size_t *pos, uint8_t out[4])
{
    const uint8_t c = text.data[*pos];
    if (c != '\\') {
        out[0] = c;
        ++*pos;
        return 1;
    }
    const uint8_t kind = text.data[*pos + 1];
    if (kind == 'u') {
        uint32_t code_point = 0;
        const size_t used = read_unicode_escape(text, *pos, &code_point);
        LD_ASSERT(used > 0); /* the tokenizer has checked every escape */
        *pos += used;
        return ld_utf8_put(code_point, out);
    }
    static const char from[] = "bfnrt";
    static const char to[] = "\b\f\n\r\t";
    const char *at = memchr(from, kind, sizeof from - 1);
    out[0] = at ? (uint8_t)to[at - from] : kind;
    *pos += 2;
    return 1;
}

bool ld_json_unescape(const struct ld_json_token *token, char *out, size_t out_capacity,
                      size_t *out_size)
{
    const struct ld_span text = token->text;
    if (!token->escaped) {
        if (text.size > out_capacity)
            return false;
        if (text.size)
            memcpy(out, text.data, text.size);
        *out_size = text.size;
        return true;
    }
    size_t size = 0;
    for (size_t pos = 0; pos < text.size;) {
        uint8_t bytes[4];
        const size_t length = next_character(text, &pos, bytes);
        if (length > out_capacity - size)
            return false;
        memcpy(out + size, bytes, length);
        size += length;
    }
    *out_size = size;
    return true;
}

bool ld_json_is(const struct ld_json_token *token, const char *text)
{
    if (token->kind != LD_JSON_KEY && token->kind != LD_JSON_STRING)
        return false;
    if (!token->escaped)
        return ld_span_is(token->text, text);
    const size_t length = strlen(text);
    size_t matched = 0;
    for (size_t pos = 0; pos < token->text.size;) {
        uint8_t bytes[4];
        const size_t size = next_character(token->text, &pos, bytes);
        if (size > length - matched || memcmp(text + matched, bytes, size) != 0)
            return false;
        matched += size;
    }
    return matched == length;
}
