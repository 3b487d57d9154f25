/*
 * "Did you mean": the known name nearest to an unknown one, by edit distance.
 *
 *     struct ld_nearest nearest = ld_nearest_to(unknown);
 *     for (...) ld_nearest_offer(&nearest, known[i]);
 *     LD_FAIL(err, LD_E_NOT_FOUND, "unknown field %.64s%s", unknown, ld_nearest_hint(&nearest));
 */
#ifndef LD_CONFIG_NEAREST_H
#define LD_CONFIG_NEAREST_H

#include "runtime/base/bytes.h"

enum { LD_NEAREST_BYTES_MAX = 48 }; /* longer names are never near to anything */

struct ld_nearest {
    struct ld_span wanted;
    const char *best; /* NULL: none is near enough */
    uint32_t distance;
    char hint[LD_NEAREST_BYTES_MAX + 24];
};

/* Borrows `wanted`. A candidate is near when at most a third of its letters differ (and at most 3).
 */
struct ld_nearest ld_nearest_to(struct ld_span wanted);
/* Borrows `known` for as long as `best` is used. Letter case, '-' and '_' do not count. */
void ld_nearest_offer(struct ld_nearest *nearest, const char *known);
/* "; did you mean NAME?", or "" where nothing is near; lives in `nearest`. */
const char *ld_nearest_hint(struct ld_nearest *nearest);

/* Levenshtein distance with swaps of neighbours (optimal string alignment) of two spans, at most
 * LD_NEAREST_BYTES_MAX bytes each (else UINT32_MAX). */
uint32_t ld_edit_distance(struct ld_span a, struct ld_span b);

#endif
