/* What the two files of the tokenizer share: the vocabulary. */
#ifndef LD_TIPO_PIECES_PRIVATE_H
#define LD_TIPO_PIECES_PRIVATE_H

#include "runtime/tipo/pieces.h"

/* As the file numbers them. */
enum piece_kind {
    PIECE_NORMAL = 1,
    PIECE_UNKNOWN = 2,
    PIECE_CONTROL = 3,
    PIECE_USER_DEFINED = 4,
    PIECE_UNUSED = 5,
    PIECE_BYTE = 6
};

#define PIECE_NONE       UINT32_MAX
#define PIECE_BLANK      "\xE2\x96\x81" /* U+2581, which stands for a blank */
#define PIECE_BLANK_SIZE (sizeof PIECE_BLANK - 1)

struct ld_pieces {
    uint32_t count;
    uint8_t *texts;   /* one after another */
    uint32_t *starts; /* [count + 1] within `texts` */
    float *scores;    /* [count] */
    uint8_t *kinds;   /* [count] enum piece_kind */

    uint32_t *slots; /* open addressing: ids of normal pieces by text, PIECE_NONE where free */
    uint32_t slot_mask;
    uint32_t longest; /* bytes of a normal piece */

    uint32_t *specials; /* control and user-defined pieces, by text */
    uint32_t special_count;
    uint32_t special_first[257]; /* where those begin whose first byte is at least this */

    uint32_t bytes[256]; /* PIECE_NONE where the vocabulary lacks one */
    uint32_t begin, end, unknown;
    bool add_begin, add_prefix;
};

static inline struct ld_span ld_piece_text(const struct ld_pieces *pieces, uint32_t id)
{
    return ld_span_of(pieces->texts + pieces->starts[id],
                      pieces->starts[id + 1] - pieces->starts[id]);
}

/* The normal piece of that text, or PIECE_NONE. */
uint32_t ld_piece_find(const struct ld_pieces *pieces, struct ld_span text);

#endif
