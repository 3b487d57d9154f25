/* Text chunks of a PNG, the writing side: shared by png_write.c and its tests. */
#ifndef LD_IMAGE_PNG_TEXT_H
#define LD_IMAGE_PNG_TEXT_H

#include "runtime/image/png_write.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Length, type, data, checksum. data.size < 2^31. */
void ld_png_put_chunk(struct ld_buffer *out, const char type[4], struct ld_span data);

/* One text chunk as struct ld_png_text says. Errors as ld_png_write. */
enum ld_code ld_png_put_text(struct ld_buffer *out, const struct ld_png_text *text,
                             struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
