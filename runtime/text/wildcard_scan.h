/*
 * The lexical side of templates: where a group ends, what its options are, what a list mention or
 * a variable looks like. Nothing here chooses or writes.
 */
#ifndef LD_TEXT_WILDCARD_SCAN_H
#define LD_TEXT_WILDCARD_SCAN_H

#include "runtime/base/arena.h"
#include "runtime/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ld_wildcard_sampler {
    LD_SAMPLER_DEFAULT,
    LD_SAMPLER_RANDOM,        /* `~` */
    LD_SAMPLER_COMBINATORIAL, /* `!` */
    LD_SAMPLER_CYCLICAL       /* `@` */
};

/* ---- Groups ---------------------------------------------------------------------------------- */

/* Length of the group that starts with `{` at `pos`, its `}` included; 0 if it does not end. */
size_t ld_wildcard_group(struct ld_span text, size_t pos);

struct ld_wildcard_option {
    struct ld_span text; /* without leading blanks and weight */
    double weight;
};

struct ld_wildcard_head {
    enum ld_wildcard_sampler sampler;
    bool bounded;       /* a count with `$$` was written */
    uint32_t low, high; /* how many options; UINT32_MAX: all there are */
    struct ld_span separator;
    struct ld_span options; /* what follows the head */
};

/* Read the inside of a group up to its first option. */
struct ld_wildcard_head ld_wildcard_head(struct ld_span inside);

/* The next option of `*rest`, which shrinks; `*more` tells whether another one follows. */
struct ld_wildcard_option ld_wildcard_next_option(struct ld_span *rest, bool *more);

/* A `|` or `$$` outside of inner groups: what makes a brace group a variant for certain. */
bool ld_wildcard_is_variant(struct ld_span inside);

/* ---- Lists and variables --------------------------------------------------------------------- */

struct ld_wildcard_mention {
    enum ld_wildcard_sampler sampler;
    struct ld_span name;
    size_t size; /* with the underscores */
};

/* `__name__` at `pos`. */
bool ld_wildcard_mention(struct ld_span text, size_t pos, struct ld_wildcard_mention *out);

struct ld_wildcard_variable {
    struct ld_span name;
    char kind; /* '=' assignment, ':' use with a default, '}' use */
    struct ld_span value;
    size_t size; /* with `${` and `}` */
};

/* `${...}` at `pos`. */
bool ld_wildcard_variable(struct ld_span text, size_t pos, struct ld_wildcard_variable *out);

/* Copy `text` without its comments (`#` to the end of the line). NULL without memory. */
char *ld_wildcard_strip(struct ld_arena *arena, struct ld_span text, size_t *size);

#ifdef __cplusplus
}
#endif
#endif
