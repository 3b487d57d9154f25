/*
 * The words of a PTX text.
 *
 * Source: PTX ISA 9.0, sections 4.1 to 4.5.
 */
#include "tests/ptx/lex.h"

#include <string.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool in_word(char c)
{
    return is_letter(c) || is_digit(c) || c == '_' || c == '$' || c == '%' || c == '.';
}

static size_t left(const struct ptx_lex *lex)
{
    return (size_t)(lex->end - lex->at);
}

static bool starts(const struct ptx_lex *lex, char first, char second)
{
    return left(lex) >= 2 && lex->at[0] == first && lex->at[1] == second;
}

/* False: a comment that does not end; stands on it. */
static bool skip_blanks(struct ptx_lex *lex)
{
    while (lex->at < lex->end) {
        char c = *lex->at;
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            lex->at_line += c == '\n';
            lex->at++;
        } else if (starts(lex, '/', '/')) {
            while (lex->at < lex->end && *lex->at != '\n')
                lex->at++;
        } else if (starts(lex, '/', '*')) {
            const char *start = lex->at;
            int32_t start_line = lex->at_line;
            lex->at += 2;
            while (lex->at < lex->end && !starts(lex, '*', '/')) {
                lex->at_line += *lex->at == '\n';
                lex->at++;
            }
            if (lex->at == lex->end) {
                lex->at = start;
                lex->at_line = start_line;
                return false;
            }
            lex->at += 2;
        } else {
            break;
        }
    }
    return true;
}

static void read_string(struct ptx_lex *lex)
{
    lex->text = ++lex->at;
    while (lex->at < lex->end && *lex->at != '"' && *lex->at != '\n')
        lex->at++;
    lex->length = (size_t)(lex->at - lex->text);
    if (lex->at < lex->end && *lex->at == '"') {
        lex->kind = PTX_TOKEN_STRING;
        lex->at++;
    }
}

void ptx_lex_next(struct ptx_lex *lex)
{
    bool whole = skip_blanks(lex);
    lex->kind = PTX_TOKEN_BAD;
    lex->text = lex->at;
    lex->length = whole ? 0 : 2;
    lex->line = lex->at_line;
    if (lex->at == lex->end)
        lex->kind = PTX_TOKEN_END;
    if (lex->at == lex->end || !whole)
        return;
    char first = *lex->at;
    if (first == '"') {
        read_string(lex);
        return;
    }
    if (in_word(first)) {
        /* "shared::cta" is one word, "label:" is two. */
        while (lex->at < lex->end && (in_word(*lex->at) || starts(lex, ':', ':')))
            lex->at += *lex->at == ':' ? 2 : 1;
        lex->kind = is_digit(first) ? PTX_TOKEN_NUMBER : PTX_TOKEN_WORD;
    } else {
        if (strchr("()[]{}<>,;:+-|@!=", first) && first != 0)
            lex->kind = first;
        lex->at++;
    }
    lex->length = (size_t)(lex->at - lex->text);
}

void ptx_lex_start(struct ptx_lex *lex, const char *text, size_t length)
{
    *lex = (struct ptx_lex){.at = text, .end = text + length, .at_line = 1};
    ptx_lex_next(lex);
}

char ptx_lex_peek(struct ptx_lex *lex)
{
    return skip_blanks(lex) && lex->at < lex->end ? *lex->at : (char)0;
}

bool ptx_lex_is(const struct ptx_lex *lex, const char *word)
{
    return lex->kind == PTX_TOKEN_WORD && lex->length == strlen(word) &&
           memcmp(lex->text, word, lex->length) == 0;
}

/* ---- Numbers --------------------------------------------------------------------------------- */

static bool read_hex(const char *text, size_t length, uint64_t *value)
{
    if (length == 0 || length > 16)
        return false;
    *value = 0;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        int digit;
        if (is_digit(c))
            digit = c - '0';
        else if (c >= 'a' && c <= 'f')
            digit = c - 'a' + 10;
        else if (c >= 'A' && c <= 'F')
            digit = c - 'A' + 10;
        else
            return false;
        *value = *value << 4 | (uint64_t)digit;
    }
    return true;
}

static bool read_decimal(const char *text, size_t length, uint64_t *value)
{
    /* A leading zero makes it octal, which nvcc does not write. */
    if (length == 0 || (length > 1 && text[0] == '0'))
        return false;
    *value = 0;
    for (size_t i = 0; i < length; i++) {
        uint64_t digit = (uint64_t)(text[i] - '0');
        if (!is_digit(text[i]) || *value > (UINT64_MAX - digit) / 10)
            return false;
        *value = *value * 10 + digit;
    }
    return true;
}

bool ptx_lex_number(const struct ptx_lex *lex, uint64_t *value, bool *real)
{
    *real = false;
    if (lex->kind != PTX_TOKEN_NUMBER)
        return false;
    const char *text = lex->text;
    size_t length = lex->length;
    char mark = length > 2 && text[0] == '0' ? text[1] : (char)0;
    if (mark == 'x' || mark == 'X')
        return read_hex(text + 2, length - 2, value);
    if (mark == 'f' || mark == 'F' || mark == 'd' || mark == 'D') {
        *real = true;
        return length == (mark == 'f' || mark == 'F' ? 10 : 18) &&
               read_hex(text + 2, length - 2, value);
    }
    return read_decimal(text, length, value);
}
