/*
 * The four ways of writing weights into a prompt (model.md 4.1, 4.4). Each reads a text in one
 * pass with an explicit stack and gives weighted segments; none fails on odd brackets, those are
 * text.
 *
 *     struct ld_segments segments;
 *     ld_grammar_parse(&arena, LD_SYNTAX_A1111, ld_span_text("a (b:1.2)"), &segments, &err);
 *     // "a " 1, "b" 1.2
 */
#ifndef LD_TEXT_GRAMMAR_H
#define LD_TEXT_GRAMMAR_H

#include "config/limits.h"
#include "runtime/params.h"
#include "runtime/text/segments.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * `a1111` always gives at least one segment and merges neighbours of equal weight; a segment
 * "BREAK" of weight -1 ends a chunk. `comfy` may give none. `plain` gives the text itself.
 *
 * Owner    borrows `text`; the segments live in `arena`.
 * Errors   LD_E_TOO_LARGE (more than LD_PROMPT_NESTING_MAX open brackets), LD_E_RANGE (a weight
 * that is not finite), LD_E_NOMEM.
 */
enum ld_code ld_grammar_parse(struct ld_arena *arena, enum ld_syntax syntax, struct ld_span text,
                              struct ld_segments *out, struct ld_error *err) LD_MUST_USE;

enum ld_code ld_grammar_a1111(struct ld_arena *arena, struct ld_span text, struct ld_segments *out,
                              struct ld_error *err) LD_MUST_USE;
enum ld_code ld_grammar_comfy(struct ld_arena *arena, struct ld_span text, struct ld_segments *out,
                              struct ld_error *err) LD_MUST_USE;
enum ld_code ld_grammar_novelai(struct ld_arena *arena, struct ld_span text,
                                struct ld_segments *out, struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
