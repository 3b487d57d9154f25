/*
 * Wildcards and variants (model.md 4.6): `{a|b}`, `{2$$ and $$a|b|c}`, `__name__`, `${x=...}`. A
 * template gives one text for each image (random), or all its combinations in order.
 *
 *     struct ld_wildcard_options options = {.mode = LD_WILDCARDS_RANDOM, .seed = 7,
 *                                           .syntax = LD_SYNTAX_A1111, .source = &source};
 *     ld_wildcards_expand(&arena, ld_span_text("a {red|blue} __animal__"), &options, 4,
 *                         &results, &notes, &err);
 *     // results.items[0] .. [3]
 */
#ifndef LD_TEXT_WILDCARDS_H
#define LD_TEXT_WILDCARDS_H

#include "runtime/base/buffer.h"
#include "runtime/params.h"
#include "runtime/text/notes.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LD_WILDCARD_DEPTH = 16,         /* groups, lists and variables inside one another */
    LD_WILDCARD_RESULTS_MAX = 1024, /* of one call */
    LD_WILDCARD_CHOICES_MAX = 4096, /* choice points of one combination */
    LD_WILDCARD_VARIABLES_MAX = 64,
    LD_WILDCARD_LIST_BYTES = 1 << 20,  /* one list, or all that a `*` matches */
    LD_WILDCARD_LISTS_BYTES = 8 << 20, /* all lists of one call */
    LD_WILDCARD_WORK_BYTES = 8 << 20   /* template text read for one result */
};

/*
 * Where lists come from. `read` appends the text of every list whose name matches `pattern`
 * (ld_wildcard_matches), each ended by LF, and nothing if none does. Names have no ".txt"; `/`
 * separates folders. The pattern comes from a request: look it up in a listing, never in a path.
 */
struct ld_wildcard_source {
    void *ctx;
    enum ld_code (*read)(void *ctx, const char *pattern, struct ld_buffer *out,
                         struct ld_error *err);
};

/* `*` stands for any characters, `/` included. Linear in pattern times name at worst. */
bool ld_wildcard_matches(const char *pattern, const char *name);

enum ld_wildcard_mode { LD_WILDCARDS_RANDOM, LD_WILDCARDS_COMBINATORIAL };

struct ld_wildcard_options {
    enum ld_wildcard_mode mode;
    uint64_t seed;         /* a generator of its own: image noise does not depend on a template */
    uint32_t first_index;  /* of the first result: result i is the same in any call that makes it */
    enum ld_syntax syntax; /* novelai: braces without `|` or `$$` are emphasis and stay */
    const struct ld_wildcard_source *source; /* NULL: every list is unknown */
};

struct ld_wildcard_results {
    const char **items;
    uint32_t count;
};

/*
 * At most `count_max` results; random mode makes exactly that many. An unknown list stays as
 * written; in combinatorial mode it counts as a list without end, as in the reference.
 * Owner    borrows `text`; results live in `arena`.
 * Errors   LD_E_TOO_LARGE (depth, a result of more than LD_PROMPT_EXPANSION_BYTES_MAX, lists,
 *          work), LD_E_NOMEM, and what `read` returns.
 */
enum ld_code ld_wildcards_expand(struct ld_arena *arena, struct ld_span text,
                                 const struct ld_wildcard_options *options, uint32_t count_max,
                                 struct ld_wildcard_results *out, struct ld_notes *notes,
                                 struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
