/*
 * TIPO: a short prompt made longer by a small language model that knows tags (arXiv:2411.08127,
 * model.md 6). Everything of it that is text; the model is a function.
 *
 *     const struct ld_tipo_writer writer = {complete, language, tags};
 *     struct ld_tipo_wish wish = {.prompt = "1girl, (red hair:1.2)", .text = "", .avoid = "*hat"};
 *     wish.write = LD_TIPO_BOTH;
 *     wish.length = LD_TIPO_LONG;
 *     wish.choice = ld_tipo_choice(seed);
 *     code = ld_tipo_extend(&writer, &wish, &interrupt, &out, &notes, &err);
 *     // "1girl, (red hair:1.2), solo, smile, ..., A girl stands in ..."
 *
 * Two passes at most, each repeated until the length class is reached: tags, then text.
 *
 *     given           tags are asked as                  text is asked as
 *     tags or nothing expand, without a task             tag_to_long, `long:` left open
 *     text            long_to_tag                        tag_to_long, the text left open
 *     both            short_to_tag                       tag_to_long, the text left open
 *
 * Sentences in the prompt itself count as text, names and quality tags alone not as tags.
 * The text pass continues the author's own sentences rather than write new ones from them
 * (tag_to_short_to_long), because those sentences stand in the prompt and would be said twice. It
 * always sees tags: with write = text and none given, the tags pass runs all the same and its tags
 * are not written.
 */
#ifndef LD_TIPO_TIPO_H
#define LD_TIPO_TIPO_H

#include "runtime/tipo/language.h"
#include "runtime/tipo/tipo_merge.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LD_TIPO_RETRIES_MAX = 10,     /* of each pass, */
    LD_TIPO_EQUAL_ANSWERS_MAX = 5 /* and after so many that were there before in a row it ends, as
                                     it does when the answers are 8 KiB together */
};

/* "Complete this text": ld_language_complete behind a name, so that the text side can be tested
 * with a script. */
struct ld_tipo_writer {
    enum ld_code (*complete)(void *ctx, struct ld_span prompt, const struct ld_token_choice *choice,
                             const struct ld_cancel *interrupt, struct ld_buffer *out,
                             struct ld_error *err);
    void *ctx;
    const struct ld_tags *tags; /* who is an artist, a character, a copyright; NULL: nobody */
};

struct ld_tipo_wish {
    const char *prompt; /* the user's, in `syntax`; wildcards already expanded */
    enum ld_syntax syntax;
    const char *text; /* natural language about the picture; "" none; written unless write = tags */
    const char *avoid; /* tags never to add, between commas, `*` for any characters; "" none */
    enum ld_tipo_write write;
    enum ld_tipo_length length;
    struct ld_token_choice choice; /* call i of one extension, from 0, uses its seed + i */
};

/* What TIPO's users have: temperature 0.5, top-p 0.95, min-p 0.05, top-k 80, repetition penalty
 * 1.17, 512 tokens.
 * Source   the defaults of z-tipo-extension, the penalty of KGen (model.md 6.2). */
struct ld_token_choice ld_tipo_choice(uint64_t seed);

/*
 * The prompt with what the model adds: appends to `out`. The prompt stays as it is, but for commas
 * and white space where something is added: at its end or, where AND joins prompts, at the end of
 * the first. What is kept of an answer, and in which order: runtime/tipo/tipo_merge.h. A prompt
 * that has no room for more, and a length that could not be reached, give a note and no error. The
 * same wish and the same answers give the same bytes.
 *
 * Owner    borrows everything; `notes` may be NULL, `interrupt` too.
 * Errors   those of ld_prompt_compile for the prompt; LD_E_FORMAT, LD_E_INVALID and LD_E_TOO_LARGE
 *          for text and avoid; LD_E_CANCELLED; what `complete` returns, but for LD_E_TOO_LARGE,
 * which ends the passes (the model's context is full); LD_E_NOMEM. Nothing is appended then.
 */
enum ld_code ld_tipo_extend(const struct ld_tipo_writer *writer, const struct ld_tipo_wish *wish,
                            const struct ld_cancel *interrupt, struct ld_buffer *out,
                            struct ld_notes *notes, struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
