/*
 * INI text line by line through libinih, with what that library does not tell: the line of an
 * error, lines that are too long for it, and zero bytes.
 */
#ifndef LD_CONFIG_INI_TEXT_H
#define LD_CONFIG_INI_TEXT_H

#include "runtime/base/bytes.h"

enum {
    LD_INI_LINE_BYTES_MAX = 197, /* libinih's own bound of 200 less CR, LF and NUL */
    LD_INI_FILE_BYTES_MAX = 256 * 1024
};

/* Called for each `key = value`; `continued` for a further, indented line of the same key. */
typedef enum ld_code (*ld_ini_entry)(void *ctx, const char *section, const char *key,
                                     const char *value, bool continued, struct ld_error *err);

/*
 * Stops at the first error and puts "line N: " in front of its sentence.
 * Errors   LD_E_FORMAT (malformed, too long, zero bytes), LD_E_TOO_LARGE, those of `entry`.
 */
enum ld_code ld_ini_parse(struct ld_span text, ld_ini_entry entry, void *ctx,
                          struct ld_error *err) LD_MUST_USE;

#endif
