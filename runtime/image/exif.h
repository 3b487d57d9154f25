/*
 * What an Exif block (a TIFF file without pictures) says: its orientation, and the texts that
 * programs which paint put into JPEG and WebP files. Where a PNG has text chunks, such files have
 *
 *     UserComment (0x9286)        A1111's infotext: text `parameters`. A JSON object there is a
 * list of texts by name (NovelAI: Comment, Description, Software, ...) Model, Make (0x0110,
 * 0x010F), ImageDescription (0x010E)   "prompt:{...}", "workflow:{...}": ComfyUI ImageDescription
 * else NovelAI's Description MakerNote (0x927C)          latentd's own texts: name NUL text NUL,
 * the first named latentd...
 *
 * Reading takes bytes of strangers: every entry lies within the block, each kind is looked at once,
 * what makes no sense is passed over. Writing is big endian, always the same bytes for the same
 * texts. Pure.
 *
 * Source: Exif 2.32 4.6; TIFF 6.0, section 2; A1111 modules/images.py (UserComment of piexif's
 * "unicode"), ComfyUI comfy_extras/nodes_images.py (SaveAnimatedWEBP).
 */
#ifndef LD_IMAGE_EXIF_H
#define LD_IMAGE_EXIF_H

#include "runtime/image/png_meta.h"
#include "runtime/image/png_write.h"

#ifdef __cplusplus
extern "C" {
#endif

/* 1..8 of the block's first directory; 1 where there is none or it makes no sense. */
int32_t ld_exif_orientation(struct ld_span tiff);

/*
 * Its texts, behind those that `texts` has. Malformed UTF-8 and UTF-16 are replaced.
 * Owner    texts live in `arena`, at most three times LD_PNG_TEXT_BYTES_MAX.
 * Errors   LD_E_TOO_LARGE (more than LD_PNG_TEXT_BYTES_MAX of text), LD_E_NOMEM.
 */
enum ld_code ld_exif_texts(struct ld_png_texts *texts, struct ld_arena *arena, struct ld_span tiff,
                           struct ld_error *err) LD_MUST_USE;

/*
 * Append a block of at most `bytes_max` bytes that says these texts. What does not fit is left out:
 * first ComfyUI's graph, then all but latentd's own texts, then those. Without a text nothing is
 * written. A text `parameters` alone is written as A1111 writes it; beside others (but those with a
 * place of their own) it is a member of the JSON object in UserComment.
 * Errors   LD_E_NOMEM.
 */
enum ld_code ld_exif_write(struct ld_buffer *out, const struct ld_png_text *texts, size_t count,
                           size_t bytes_max, struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
