/*
 * What the tokenizer and the prompt grammars need to know about Unicode: character classes, lower
 * case, normal form C. The tables are utf8proc's; no other file includes that library.
 */
#ifndef LD_TEXT_UNICODE_H
#define LD_TEXT_UNICODE_H

#include "runtime/text/list.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Classes --------------------------------------------------------------------------------- */

/* General category L*, N*, Zs, C* (unassigned counts as C*). */
bool ld_char_is_letter(uint32_t c);
bool ld_char_is_number(uint32_t c);
bool ld_char_is_blank(uint32_t c);
bool ld_char_is_other(uint32_t c);

/* White space as the reference programs split on it: the Unicode property White_Space plus the
 * four separators U+001C..U+001F. */
bool ld_char_is_space(uint32_t c);

/* Letter, number or underscore: the `\w` of the reference grammars. */
bool ld_char_is_word(uint32_t c);

/* CJK ideographs, the eight blocks of model.md 3.2. */
bool ld_char_is_ideograph(uint32_t c);

/* Value 0..9 of a decimal digit of any script, -1 for everything else. */
int32_t ld_char_digit(uint32_t c);

/* ---- Mappings -------------------------------------------------------------------------------- */

enum ld_sigma {
    LD_SIGMA_FINAL, /* capital sigma at the end of a word becomes U+03C2 */
    LD_SIGMA_PLAIN  /* one character at a time, always U+03C3 */
};

/*
 * Append the lower case of `count` code points to `out` (U+0130 gives two).
 * Source   Unicode 14, section 3.13, rule R2 and Final_Sigma.
 */
void ld_chars_lower(const uint32_t *text, size_t count, enum ld_sigma sigma, struct ld_list *out);

/* Bring `text` to normal form C, in linear time whatever marks it holds (UAX #15). */
void ld_chars_compose(struct ld_list *text);

/* Append the NFKC form of one code point to `out`. */
void ld_char_compatible(uint32_t c, struct ld_list *out);

/* ---- Spans of UTF-8 -------------------------------------------------------------------------- */

#define LD_CHAR_NONE UINT32_C(0xFFFFFFFF) /* no character: beyond the end of a text */

/* The code point that starts at or ends before `pos`; LD_CHAR_NONE at the ends of the text. */
uint32_t ld_text_char_at(struct ld_span text, size_t pos);
uint32_t ld_text_char_before(struct ld_span text, size_t pos);

/* Without white space at both ends. */
struct ld_span ld_text_trim(struct ld_span text);

/*
 * Decimal with optional sign, as the reference programs read weights: white space around it is
 * allowed and so are decimal digits of every script. False for anything else (also inf, nan, `_`).
 */
bool ld_text_parse_double(struct ld_span text, double *out);

#ifdef __cplusplus
}
#endif
#endif
