/*
 * A PNG without what it says about itself: tEXt, zTXt, iTXt, tIME and eXIf chunks are left out, all
 * others are copied with their checksums.
 */
#ifndef LD_SERVER_PNG_STRIP_H
#define LD_SERVER_PNG_STRIP_H

#include "runtime/base/buffer.h"

/* Errors   LD_E_FORMAT (no PNG, a chunk that reaches beyond the end), LD_E_NOMEM. */
enum ld_code ld_png_strip(struct ld_span png, struct ld_buffer *out,
                          struct ld_error *err) LD_MUST_USE;

#endif
