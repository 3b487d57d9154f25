/*
 * Names of textual inversion embeddings, ready to be found in a prompt: by name after
 * `embedding:`, and by token ids where the bare name stands in the text (model.md 4.5).
 */
#ifndef LD_TEXT_EMBEDDINGS_H
#define LD_TEXT_EMBEDDINGS_H

#include "runtime/text/bpe.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_EMBEDDING_NONE = -1 };

struct ld_embedding_entry {
    const char *name;
    uint32_t vectors; /* token slots it takes */
};

/* Immutable after creation; any number of threads may use it. */
struct ld_embeddings;

/*
 * Index `count` entries; an embedding is known by its position in `entries` from here on.
 * Owner    copies everything into `arena`.
 * Errors   LD_E_NOMEM, LD_E_TOO_LARGE (a name of more than LD_NAME_BYTES_MAX bytes).
 */
enum ld_code ld_embeddings_create(struct ld_embeddings **out, struct ld_arena *arena,
                                  const struct ld_bpe *bpe, enum ld_clean profile,
                                  const struct ld_embedding_entry *entries, uint32_t count,
                                  struct ld_error *err) LD_MUST_USE;

/* One that is there by name but cannot be used, and why, in a sentence. */
struct ld_embedding_refusal {
    const char *name, *reason;
};

/* Remember them, so that whoever names one hears why it is left out. Borrowed as long as
 * `embeddings` lives. */
void ld_embeddings_refuse(struct ld_embeddings *embeddings,
                          const struct ld_embedding_refusal *refusals, uint32_t count);
/* Why the embedding of this name cannot be used; NULL if nobody said so. */
const char *ld_embeddings_refusal(const struct ld_embeddings *embeddings, struct ld_span name);

/* Position of the embedding of exactly this name, or LD_EMBEDDING_NONE. NULL knows no names. */
int32_t ld_embeddings_find(const struct ld_embeddings *embeddings, struct ld_span name);

/* The embedding with the longest name whose ids stand at ids[0]; its id count in *length. */
int32_t ld_embeddings_match(const struct ld_embeddings *embeddings, const uint32_t *ids,
                            size_t count, size_t *length);

uint32_t ld_embeddings_vectors(const struct ld_embeddings *embeddings, int32_t index);
const char *ld_embeddings_name(const struct ld_embeddings *embeddings, int32_t index);

#ifdef __cplusplus
}
#endif
#endif
