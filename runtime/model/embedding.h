/*
 * Textual inversions: vectors that stand in for token embeddings. All file forms in use are read:
 * safetensors (`emb_params`, `clip_l`, a lone tensor) and, through the restricted pickle reader,
 * webui's .pt and the concept files of diffusers.
 *
 *     struct ld_embedding embedding;
 *     ld_embedding_open(&embedding, path, 768, err);
 *     use(embedding.values, embedding.vectors);
 *     ld_embedding_deinit(&embedding);
 */
#ifndef LD_MODEL_EMBEDDING_H
#define LD_MODEL_EMBEDDING_H

#include "runtime/base/bytes.h"

enum { LD_EMBEDDING_VECTORS_MAX = 1024, LD_EMBEDDING_WIDTH_MAX = 8192 };

/* Caller's storage; zeroed is empty. */
struct ld_embedding {
    int32_t vectors, width;
    float *values;    /* [vectors, width] */
    const char *form; /* "emb_params", "clip_l", "lone tensor", "string_to_param", "concept" */
    char name[160];   /* the name the file gives itself, or "" */
    int64_t step;     /* training steps it tells of, or -1 */
};

/*
 * `width` is that of the text encoder, 0 takes any.
 * Owner    fills `out`; ld_embedding_deinit on success and on failure.
 * Errors   LD_E_SHAPE (another width), LD_E_FORMAT (no embedding, or values that are not finite),
 *          LD_E_UNSUPPORTED, LD_E_TOO_LARGE, LD_E_NOT_FOUND, LD_E_IO, LD_E_NOMEM.
 */
enum ld_code ld_embedding_open(struct ld_embedding *out, const char *path, int32_t width,
                               struct ld_error *err) LD_MUST_USE;
enum ld_code ld_embedding_open_bytes(struct ld_embedding *out, struct ld_span bytes, int32_t width,
                                     struct ld_error *err) LD_MUST_USE;
void ld_embedding_deinit(struct ld_embedding *embedding);

#endif
