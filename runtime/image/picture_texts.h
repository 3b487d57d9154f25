/*
 * What any picture's file says about itself: text chunks of a PNG, the Exif block of a JPEG or WebP
 * (exif.h), under the same keywords. Reading, adding, taking away; no pixels are decoded, so the
 * front process does it.
 *
 *     struct ld_png_texts texts;
 *     ld_picture_texts_read(&texts, &arena, file, true, &err);
 *     ld_recipe_read(&recipe, &texts, &err);
 */
#ifndef LD_IMAGE_PICTURE_TEXTS_H
#define LD_IMAGE_PICTURE_TEXTS_H

#include "runtime/image/picture_parts.h"
#include "runtime/image/png_meta.h"
#include "runtime/image/png_write.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Owner    texts live in `arena`: at most three times LD_PNG_TEXT_BYTES_MAX.
 * Errors   LD_E_FORMAT (none of the three kinds, or a part reaches beyond the end), LD_E_TOO_LARGE,
 *          LD_E_NOMEM. `ignore_checksums` is about PNG's.
 */
enum ld_code ld_picture_texts_read(struct ld_png_texts *texts, struct ld_arena *arena,
                                   struct ld_span file, bool ignore_checksums,
                                   struct ld_error *err) LD_MUST_USE;

/*
 * Append the file with these texts before its own. A JPEG has room for 64 KiB of them (exif.h says
 * what goes first). Nothing to say: the file as it is.
 * Errors   LD_E_FORMAT, LD_E_TOO_LARGE (a text that does not fit its PNG chunk), LD_E_NOMEM (also
 *          the buffer's ceiling).
 */
enum ld_code ld_picture_texts_add(struct ld_buffer *out, struct ld_span file,
                                  const struct ld_png_text *texts, size_t count,
                                  struct ld_error *err) LD_MUST_USE;

/*
 * Append the file without what it says about itself: texts, Exif, XMP, comments, times. What it
 * shows stays bit for bit, so that files of equal pixels and other texts become equal.
 * Errors   LD_E_FORMAT, LD_E_NOMEM.
 */
enum ld_code ld_picture_strip(struct ld_buffer *out, struct ld_span file,
                              struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
