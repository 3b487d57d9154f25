/*
 * Filling the text encoder's windows of 77 tokens: start, 75 ids, end (model.md 3.3). Two rules,
 * after the two programs; both give padded chunks of the same form.
 */
#ifndef LD_TEXT_CHUNKS_H
#define LD_TEXT_CHUNKS_H

#include "runtime/text/units.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LD_CHUNK_TOKENS = 77,
    LD_CHUNK_ROOM = 75,
    LD_CHUNK_BACKTRACK = 20,     /* webui's default for moving a tag to the next chunk */
    LD_CHUNK_WHOLE_GROUP_MAX = 7 /* comfy: longer groups are cut at a boundary */
};

enum ld_chunking {
    LD_CHUNKING_WEBUI, /* BREAK, and back to the last comma where a chunk is full */
    LD_CHUNKING_COMFY  /* short groups stay together */
};

struct ld_chunk {
    int32_t ids[LD_CHUNK_TOKENS];        /* -1 where an embedding's vector stands */
    int32_t embeddings[LD_CHUNK_TOKENS]; /* index of the embedding, LD_EMBEDDING_NONE else */
    uint32_t vectors[LD_CHUNK_TOKENS];   /* which vector of it */
    double weights[LD_CHUNK_TOKENS];     /* 1 at start, end and padding */
    uint32_t used;                       /* ids between start and end token before the padding */
};

struct ld_chunks {
    struct ld_chunk *items;
    uint32_t count;       /* at least 1 */
    uint32_t token_count; /* 75 for each closed chunk, and the ids of the last */
};

struct ld_chunk_options {
    enum ld_chunking rule;
    uint32_t start_id, end_id;
    uint32_t backtrack; /* webui: tokens after the last comma that may move on; 0: off */
    uint32_t count_limit;
};

/*
 * Owner    borrows `units`; the chunks live in `arena`.
 * Errors   LD_E_TOO_LARGE (chunks; webui: an embedding of more than 75 vectors), LD_E_NOMEM.
 */
enum ld_code ld_chunks_build(struct ld_arena *arena, const struct ld_units *units,
                             const struct ld_chunk_options *options, struct ld_chunks *out,
                             struct ld_error *err) LD_MUST_USE;

/* True when some weight of the chunk is not 1. */
bool ld_chunk_is_weighted(const struct ld_chunk *chunk);

#ifdef __cplusplus
}
#endif
#endif
