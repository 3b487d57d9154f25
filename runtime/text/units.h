/*
 * From weighted segments to the units that chunks are filled with: token ids, embeddings and
 * BREAKs, each with its weight and the group it belongs to.
 */
#ifndef LD_TEXT_UNITS_H
#define LD_TEXT_UNITS_H

#include "runtime/text/embeddings.h"
#include "runtime/text/notes.h"
#include "runtime/text/segments.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ld_unit_kind { LD_UNIT_TOKEN, LD_UNIT_EMBEDDING, LD_UNIT_BREAK };

struct ld_unit {
    enum ld_unit_kind kind;
    uint32_t value;   /* token id, or index of the embedding */
    uint32_t vectors; /* slots: 1, the embedding's, or 0 */
    uint32_t group;   /* ascending; text between embeddings is one group, so is each embedding */
    double weight;
};

struct ld_units {
    struct ld_unit *items; /* heap; ld_units_deinit */
    uint32_t count, capacity, count_limit;
};

struct ld_unit_options {
    const struct ld_bpe *bpe;
    enum ld_clean profile;
    const struct ld_embeddings *embeddings; /* NULL: none; mentions are text then */
    bool breaks; /* a segment BREAK of weight -1 is a chunk break (syntax a1111) */
    uint32_t token_limit;
};

/*
 * Embeddings: `embedding:name` at the start of a segment or after a space or line end (the name
 * ends at white space; where it is unknown, commas at its end are given back to the text; an
 * unknown name is dropped with a note), and bare names, found by their token ids, longest first.
 * Owner    *units is filled even on failure; ld_units_deinit always.
 * Errors   LD_E_TOO_LARGE (more than token_limit units), LD_E_NOMEM.
 */
enum ld_code ld_units_build(const struct ld_segments *segments,
                            const struct ld_unit_options *options, struct ld_notes *notes,
                            struct ld_units *units, struct ld_error *err) LD_MUST_USE;

void ld_units_deinit(struct ld_units *units);

#ifdef __cplusplus
}
#endif
#endif
