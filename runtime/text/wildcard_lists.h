/*
 * The lists of one expansion: read once, comments and blank lines dropped, sorted, without
 * doubles.
 */
#ifndef LD_TEXT_WILDCARD_LISTS_H
#define LD_TEXT_WILDCARD_LISTS_H

#include "runtime/text/wildcards.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ld_wildcard_list {
    struct ld_wildcard_list *next;
    const char *pattern;
    struct ld_span *values;
    uint32_t count; /* 0: unknown */
};

struct ld_wildcard_lists {
    struct ld_arena *arena;
    const struct ld_wildcard_source *source;
    struct ld_wildcard_list *first;
    size_t bytes;
};

/* Errors   LD_E_TOO_LARGE, LD_E_NOMEM, those of the source. */
enum ld_code ld_wildcard_lists_get(struct ld_wildcard_lists *lists, struct ld_span name,
                                   const struct ld_wildcard_list **out,
                                   struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
