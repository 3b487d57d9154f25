/*
 * What of TIPO's answers is kept, and the prompt with it.
 *
 *     struct ld_tipo_merge merge = {.arena = &arena, .tags = tags, .avoid = &avoid,
 *                                   .reading = &reading, .length = LD_TIPO_LONG};
 *     ld_tipo_take_tags(&merge, &answer, &err);        // after each pass for tags
 *     ld_tipo_take_text(&merge, &answer, &err);        // after each pass for text
 *     ld_tipo_write(&merge, LD_SYNTAX_A1111, LD_TIPO_BOTH, prompt, &out, &notes);
 *
 * Kept are tags that are new, plain (runtime/tipo/plain.h) and not avoided, in the model's order
 * (the library shuffles them; here equal requests give equal prompts), until special and general
 * ones, with the author's, are as many as the length allows. Characters, copyrights and artists
 * that the model names are kept as TIPO's users expect, up to LD_TIPO_NAMES_MAX new ones of each;
 * `avoid` keeps them out. Quality, meta and rating tags are never kept: a model's presets place
 * those.
 */
#ifndef LD_TIPO_TIPO_MERGE_H
#define LD_TIPO_TIPO_MERGE_H

#include "runtime/text/notes.h"
#include "runtime/tipo/prompt_read.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_TIPO_NAMES_MAX = 8 };

/* How much of each a length class wants (model.md 6.2). */
struct ld_tipo_bounds {
    uint32_t tags_min, tags_max;           /* special and general ones */
    uint32_t sentences_min, sentences_max; /* very_long has no end of its own: LD_TIPO_ITEMS_MAX */
};

struct ld_tipo_bounds ld_tipo_bounds_of(enum ld_tipo_length length);

struct ld_tipo_merge {
    struct ld_arena *arena;
    const struct ld_tags *tags; /* may be NULL */
    const struct ld_tag_avoid *avoid;
    struct ld_tipo_reading *reading;
    enum ld_tipo_length length;
    struct ld_tipo_content found; /* zero at the start */
};

/* Special and general tags, and sentences, of author and model together. */
uint32_t ld_tipo_tag_count(const struct ld_tipo_merge *merge);
uint32_t ld_tipo_sentence_count(const struct ld_tipo_merge *merge);

/* Errors   LD_E_NOMEM. */
enum ld_code ld_tipo_take_tags(struct ld_tipo_merge *merge, const struct ld_tipo_answer *answer,
                               struct ld_error *err) LD_MUST_USE;

/* The answer's long text. A last sentence that was not finished is left out behind others.
 * Errors   LD_E_NOMEM. */
enum ld_code ld_tipo_take_text(struct ld_tipo_merge *merge, const struct ld_tipo_answer *answer,
                               struct ld_error *err) LD_MUST_USE;

/*
 * Append the prompt with what was found: special, characters, copyrights, artist, general, and then
 * the sentences of the text beside the prompt and of the model. Tags and sentences that would make
 * it longer than LD_PROMPT_BYTES_MAX are left out, and a note says so. `prompt` is the one that was
 * read. Memory runs out as `out` says.
 */
void ld_tipo_write(const struct ld_tipo_merge *merge, enum ld_syntax syntax,
                   enum ld_tipo_write write, const char *prompt, struct ld_buffer *out,
                   struct ld_notes *notes);

#ifdef __cplusplus
}
#endif
#endif
