/*
 * The words of a PTX text. Private to parse.c.
 *
 * A token is a piece of the text itself; nothing is copied. The text needs no zero at its end.
 */
#ifndef LD_TESTS_PTX_LEX_H
#define LD_TESTS_PTX_LEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Any other kind is the punctuation character itself. */
enum ptx_token {
    PTX_TOKEN_END = 256,
    PTX_TOKEN_WORD, /* names, opcodes and directives with their dots: "%r1", "mad.lo.s32", ".reg" */
    PTX_TOKEN_NUMBER, /* starts with a digit: "12", "0xFF", "0f3F800000", "9.0" */
    PTX_TOKEN_STRING, /* without its quotes */
    PTX_TOKEN_BAD,    /* no token begins or ends like this */
};

struct ptx_lex {
    const char *at, *end;
    int32_t at_line;
    /* The present token. */
    int kind;
    const char *text;
    size_t length;
    int32_t line;
};

/* Stands on the first token. */
void ptx_lex_start(struct ptx_lex *lex, const char *text, size_t length);
void ptx_lex_next(struct ptx_lex *lex);
/* The first character after the present token, blanks and comments: 0 at the end. */
char ptx_lex_peek(struct ptx_lex *lex);
bool ptx_lex_is(const struct ptx_lex *lex, const char *word);
/*
 * The value of a number without sign: decimal, 0x.., or the bits of 0f (8 digits) and 0d (16
 * digits). False if it is none of these or larger than 64 bits. *real: 0f or 0d.
 */
bool ptx_lex_number(const struct ptx_lex *lex, uint64_t *value, bool *real);

#endif
