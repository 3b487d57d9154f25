/*
 * Pictures that are only enlarged, as the dialects ask for it: A1111's extras and NovelAI's
 * `/ai/upscale`, both to `upscale` of a native request.
 *
 * Source: api.md 2.1, 2.3; the field names and defaults of AUTOMATIC1111 `modules/api/models.py`.
 */
#ifndef LD_API_DIALECT_UPSCALE_H
#define LD_API_DIALECT_UPSCALE_H

#include "api/dialect_a1111.h"

/* A1111's names of the filters, "None" first (clients count on it); NULL behind the last. */
const char *ld_a1111_upscaler_at(uint32_t index);

/* A body of extra-single-image. "None" leaves the picture as it is; the file is of the format that
 * the caller's options name. */
void ld_a1111_translate_extra(struct ld_translation *t, const struct ld_json_tree *tree,
                              const struct ld_a1111_options *options);

/* A body of /ai/upscale; the size that the client says its picture has, 0 where it says none. */
struct ld_novelai_upscale {
    int64_t width, height;
};
void ld_novelai_translate_upscale(struct ld_translation *t, const struct ld_json_tree *tree,
                                  struct ld_novelai_upscale *said);

#endif
