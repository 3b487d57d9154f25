/*
 * Metadata of a model that was made from others: what the first parent says about itself, what this
 * program knows, and from what and how it was made.
 */
#ifndef LD_MODEL_MODEL_NOTES_H
#define LD_MODEL_MODEL_NOTES_H

#include "runtime/base/buffer.h"
#include "runtime/model/safetensors_write.h"
#include "runtime/model/weights.h"

enum { LD_MODEL_NOTES_MAX = 64 };

/* Caller's storage. The texts are borrowed from the model or from `own`. */
struct ld_model_notes {
    struct ld_st_note notes[LD_MODEL_NOTES_MAX];
    uint32_t count;
};

/* Set a key, replacing what stood there; ignored where there is no room. Texts are borrowed. */
void ld_model_notes_set(struct ld_model_notes *notes, const char *key, const char *value);
void ld_model_notes_remove(struct ld_model_notes *notes, const char *key);

/*
 * Start from the first file of `parent`: all but digests of the old file and the history of how it
 * was made itself. "format" is "pt" where nothing is said, which other programs insist on.
 */
void ld_model_notes_of(struct ld_model_notes *notes, const struct ld_weights *parent);

/* {"name": ..., "sha256": ...}; the name is the last part of the path. Reads the whole file. */
enum ld_code ld_model_notes_parent(struct ld_buffer *out, struct ld_weights *parent,
                                   const char *path, struct ld_error *err) LD_MUST_USE;

#endif
