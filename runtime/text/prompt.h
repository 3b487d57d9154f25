/*
 * A prompt from text to what the engine encodes: chunks of token ids with weights, and which of
 * them holds at which denoiser call. All passes of model.md 4 but wildcards, in their order: extra
 * networks, AND, schedules, weights, embeddings, tokens, chunks.
 *
 *     struct ld_prompt_options options = ld_prompt_defaults(LD_SYNTAX_A1111, bpe);
 *     options.steps = 28;
 *     ld_prompt_compile(&arena, &options, "a [cat:dog:0.5]", &prompt, &err);
 *     const struct ld_prompt_text *text = &prompt.texts[ld_prompt_text_at(&prompt, 0, call)];
 *     // encode text->chunks[0..text->chunk_count)
 */
#ifndef LD_TEXT_PROMPT_H
#define LD_TEXT_PROMPT_H

#include "runtime/params.h"
#include "runtime/text/chunks.h"
#include "runtime/text/parts.h"
#include "runtime/text/schedule.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_PROMPT_TEXTS_MAX = 1024 }; /* different texts over all parts and steps */

struct ld_prompt_options {
    const struct ld_bpe *bpe;
    const struct ld_embeddings *embeddings; /* NULL: `embedding:` is plain text */
    enum ld_syntax syntax;
    enum ld_emphasis emphasis; /* a1111: `none` reads no weights, `ignore` sets them to 1 */
    enum ld_clean profile;
    enum ld_chunking chunking;
    uint32_t steps;       /* denoiser calls of the first pass, 1..LD_PROMPT_SCHEDULE_STEPS_MAX */
    uint32_t hires_steps; /* denoiser calls of the second pass if this is it, else 0 */
    uint32_t backtrack;
    uint32_t chunk_limit;
    size_t bytes_limit;
    bool old_schedule;
    bool networks; /* take <lora:...> out */
    bool composed; /* read AND (a1111; a negative prompt is one text) */
};

/* Defaults of a syntax: profile comfy, 20 tokens of backtracking, the limits of config/limits.h;
 * steps 1; chunking comfy for syntax comfy, else webui; networks for all but plain. */
struct ld_prompt_options ld_prompt_defaults(enum ld_syntax syntax, const struct ld_bpe *bpe);

struct ld_prompt_text {
    struct ld_span text;         /* after extra networks, AND and schedule */
    struct ld_segments segments; /* as the grammar read it */
    struct ld_chunk *chunks;
    uint32_t chunk_count;
    uint32_t token_count; /* 75 for each full chunk, and the ids of the last */
    bool weighted;        /* some token's weight is not 1 */
};

/* One of the prompts joined by AND; most prompts have one. */
struct ld_prompt_part {
    double weight;
    struct ld_prompt_schedule_entry *entries; /* `text` indexes ld_prompt.texts */
    uint32_t entry_count;
};

struct ld_prompt {
    struct ld_prompt_part *parts;
    uint32_t part_count;
    struct ld_prompt_text *texts; /* all different */
    uint32_t text_count;
    struct ld_lora_mention *adapters; /* <lora:...> in the order of the text */
    uint32_t adapter_count;
    uint32_t chunk_count_max; /* over all texts */
    struct ld_notes notes;    /* warnings for the author */
};

/*
 * Owner    borrows `text`; everything in *out lives in `arena`.
 * Errors   LD_E_FORMAT (not UTF-8), LD_E_INVALID (a control character other than LF, CR, TAB; a
 *          bad <lora:...>), LD_E_TOO_LARGE (bytes, nesting, chunks, parts), LD_E_RANGE (a weight
 *          that is not finite; steps), LD_E_NOMEM. The sentences say "the prompt"; the caller
 *          adds the field with ld_error_at.
 * Thread   any; depends on nothing but its arguments.
 */
enum ld_code ld_prompt_compile(struct ld_arena *arena, const struct ld_prompt_options *options,
                               const char *text, struct ld_prompt *out,
                               struct ld_error *err) LD_MUST_USE;

/*
 * Index of the text that part `part` uses at denoiser call `call`, counted from 0: the first
 * entry with call <= end_step, as the reference counts, which gives the first text one call more
 * than the schedule's numbers say (sampling.md 5.9).
 */
uint32_t ld_prompt_text_at(const struct ld_prompt *prompt, uint32_t part, uint32_t call);

/* A chunk without text: start, end, padding. For interpolation and for padding a shorter context.
 */
void ld_chunk_set_empty(struct ld_chunk *chunk, const struct ld_bpe *bpe);

/* The common check of prompt texts, wildcard templates included; `bytes_limit` in bytes. Errors as
 * in ld_prompt_compile. */
enum ld_code ld_prompt_check(struct ld_span text, size_t bytes_limit,
                             struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
