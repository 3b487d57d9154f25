/*
 * Prompt editing of AUTOMATIC1111 (model.md 4.2, sampling.md 5.9): `[from:to:when]`, `[to:when]`,
 * `[from::when]` and `[a|b|c]` become a list of texts, each with the last step it is used for.
 *
 *     struct ld_prompt_schedule_options options = {.steps = 10};
 *     ld_prompt_schedule_expand(&arena, ld_span_text("a [b:3]"), &options, &schedule, &err);
 *     // 3 "a ", 10 "a b"
 *
 * A step is one denoiser call, counted from 1.
 */
#ifndef LD_TEXT_SCHEDULE_H
#define LD_TEXT_SCHEDULE_H

#include "config/limits.h"
#include "runtime/base/arena.h"
#include "runtime/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LD_PROMPT_SCHEDULE_STEPS_MAX = 1024, /* 150 steps of the costliest sampler stay below */
    LD_PROMPT_SCHEDULE_BYTES = 4 << 20   /* all different texts together */
};

struct ld_prompt_schedule_options {
    uint32_t steps;       /* denoiser calls of the first pass */
    uint32_t hires_steps; /* denoiser calls of the second pass; 0: this is the first pass */
    bool old;             /* a number below 1 is a fraction, any other a step, dot or not */
};

struct ld_prompt_schedule_entry {
    uint32_t end_step; /* the text holds while step <= end_step */
    uint32_t text;     /* index into texts */
};

struct ld_prompt_schedule {
    struct ld_prompt_schedule_entry
        *entries; /* ascending; the last one ends at the pass's last step */
    uint32_t entry_count;
    struct ld_span *texts; /* all different */
    uint32_t text_count;
};

/*
 * A text that the grammar cannot read (a `|` outside of `[...]`, a backslash at the end) is used
 * unchanged for all steps; a bracket group that is no schedule stays as written.
 * Time     steps * text; memory at most LD_PROMPT_SCHEDULE_BYTES.
 * Owner    borrows `text`; the schedule lives in `arena`.
 * Errors   LD_E_TOO_LARGE (depth, bytes), LD_E_RANGE (steps), LD_E_NOMEM.
 */
enum ld_code ld_prompt_schedule_expand(struct ld_arena *arena, struct ld_span text,
                                       const struct ld_prompt_schedule_options *options,
                                       struct ld_prompt_schedule *out,
                                       struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
