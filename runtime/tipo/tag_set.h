/*
 * Which tags are there already, and which are never to be added. Both compare as tags are
 * compared: letter case does not count, and an underscore is a blank.
 *
 *     struct ld_tag_set known = {.arena = &arena};
 *     code = ld_tag_set_add(&known, ld_span_text("Blue_eyes"), &err);
 *     ld_tag_set_has(&known, ld_span_text("blue eyes"));  // true
 */
#ifndef LD_TIPO_TAG_SET_H
#define LD_TIPO_TAG_SET_H

#include "runtime/base/arena.h"
#include "runtime/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Known tags ------------------------------------------------------------------------------ */

/* Holds 64-bit hashes only: two tags of one hash would count as equal, at the price of one tag that
 * is not added. Zero-initialised but for the arena it is an empty set. */
struct ld_tag_set {
    struct ld_arena *arena;
    uint64_t *slots; /* open addressing; 0 is free */
    uint32_t count, capacity;
};

/* Errors   LD_E_NOMEM. */
enum ld_code ld_tag_set_add(struct ld_tag_set *set, struct ld_span tag,
                            struct ld_error *err) LD_MUST_USE;
bool ld_tag_set_has(const struct ld_tag_set *set, struct ld_span tag);

/* ---- Tags to avoid --------------------------------------------------------------------------- */

enum {
    LD_TAG_AVOID_MAX = 256,    /* patterns */
    LD_TAG_AVOID_WORDS_MAX = 5 /* of a sentence, that are held against a pattern together */
};

struct ld_tag_avoid {
    const char *patterns[LD_TAG_AVOID_MAX]; /* lower case, single blanks */
    uint32_t count;
};

/*
 * Patterns between commas or line ends; `*` in one stands for any characters.
 * Owner    the patterns live in `arena`.
 * Errors   LD_E_TOO_LARGE (patterns, or one of more than 128 bytes), LD_E_NOMEM.
 */
enum ld_code ld_tag_avoid_read(struct ld_tag_avoid *avoid, struct ld_arena *arena,
                               struct ld_span text, struct ld_error *err) LD_MUST_USE;

/* A pattern is this whole tag. A tag of more than 128 bytes is never avoided. */
bool ld_tag_avoid_tag(const struct ld_tag_avoid *avoid, struct ld_span tag);

/* A pattern is one to LD_TAG_AVOID_WORDS_MAX words of this sentence that follow one another. */
bool ld_tag_avoid_sentence(const struct ld_tag_avoid *avoid, struct ld_span sentence);

#ifdef __cplusplus
}
#endif
#endif
