/*
 * Strict base64 (RFC 4648 section 4): standard alphabet, padding required, no blanks, no line
 * breaks, unused bits zero. So every byte string has exactly one text.
 */
#ifndef LD_API_BASE64_H
#define LD_API_BASE64_H

#include "runtime/base/buffer.h"

/* Decoded size, or SIZE_MAX when `text` cannot be base64 by its length. */
size_t ld_base64_decoded_size(struct ld_span text);

/* Append the decoded bytes. Errors: LD_E_INVALID (names the first bad position), LD_E_TOO_LARGE
 * (beyond the buffer's ceiling), LD_E_NOMEM; `out` then holds a part. */
enum ld_code ld_base64_decode(struct ld_span text, struct ld_buffer *out,
                              struct ld_error *err) LD_MUST_USE;

/* Append the text of `bytes`. */
void ld_base64_encode(struct ld_span bytes, struct ld_buffer *out);

#endif
