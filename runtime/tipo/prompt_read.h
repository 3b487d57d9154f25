/*
 * A user's prompt as TIPO sees it: tags by kind and sentences, without weights, escapes, adapters,
 * embeddings and schedules; and the place where something may be added to it.
 *
 *     code = ld_tipo_read(&reading, &arena, tags, LD_SYNTAX_A1111, prompt, &err);
 *     // of "1girl, (red_hair:1.2) <lora:x:1>": special "1girl", general "red hair"; head 32
 *
 * What is a sentence: a piece between commas of more than six words, or of three and more that
 * ends in a full stop, that is no tag of the list. A sentence that has not ended goes on over the
 * commas behind it, at most eight, if one of those pieces ends in a full stop and all before it are
 * of the general kind.
 */
#ifndef LD_TIPO_PROMPT_READ_H
#define LD_TIPO_PROMPT_READ_H

#include "runtime/params.h"
#include "runtime/tipo/tag_set.h"
#include "runtime/tipo/tipo_text.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ld_tipo_reading {
    struct ld_tipo_content given; /* what the model is shown; tags each once */
    /* Every tag of the prompt, at whatever step it holds; also as it is written, for `saber (fate)`
     * is a weight in some syntaxes and still meant as a tag. */
    struct ld_tag_set known;
    struct ld_tag_set told; /* every sentence of `given` */
    uint32_t
        sentences_in_prompt; /* the first ones of `given`; the others come from a text beside */
    /*
     * Bytes [0, head) of the prompt stay in front of what is added, bytes from `tail` on behind it;
     * between lie commas and white space. Where AND joins prompts (a1111), that is the end of the
     * first, before its weight; only the first is read. Else it is the prompt's end, also behind
     * BREAK, and behind a number that without AND would have been a weight for the whole.
     */
    size_t head, tail;
};

/*
 * Of a schedule the model is shown what holds at the first step; `known` has all of it.
 * Owner    borrows `prompt`; everything else lives in `arena`.
 * Errors   as ld_prompt_compile would give for this prompt: LD_E_FORMAT, LD_E_INVALID,
 *          LD_E_TOO_LARGE, LD_E_RANGE; LD_E_NOMEM.
 */
enum ld_code ld_tipo_read(struct ld_tipo_reading *out, struct ld_arena *arena,
                          const struct ld_tags *tags, enum ld_syntax syntax, const char *prompt,
                          struct ld_error *err) LD_MUST_USE;

/*
 * Sentences that do not stand in the prompt, to `given` behind those that do. Those that are not
 * plain (runtime/tipo/plain.h) or too long are left out; *dropped counts them.
 * Errors   LD_E_FORMAT (not UTF-8), LD_E_INVALID (control characters), LD_E_TOO_LARGE, LD_E_NOMEM.
 */
enum ld_code ld_tipo_read_text(struct ld_tipo_reading *reading, struct ld_arena *arena,
                               const char *text, uint32_t *dropped,
                               struct ld_error *err) LD_MUST_USE;

/* Add a copy of `item`; one that is too many is left out. False without memory. */
bool ld_tipo_item_add(struct ld_tipo_items *items, struct ld_arena *arena, const char *item,
                      size_t size);

#ifdef __cplusplus
}
#endif
#endif
