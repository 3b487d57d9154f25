/*
 * Applying token weights to the text encoder's output (model.md 4.3).
 */
#ifndef LD_TEXT_EMPHASIS_H
#define LD_TEXT_EMPHASIS_H

#include "runtime/base/error.h"
#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ld_emphasis_rule {
    LD_EMPHASIS_RULE_ORIGINAL, /* scale each token, then restore the mean of the chunk */
    LD_EMPHASIS_RULE_SCALE,    /* scale each token */
    LD_EMPHASIS_RULE_LERP,     /* move each token away from the empty prompt's */
    LD_EMPHASIS_RULE_NONE      /* weights do nothing */
};

/* What a request's syntax and emphasis mode mean: the mode counts for a1111 only; comfy and novelai
 * interpolate, plain has no weights. */
enum ld_emphasis_rule ld_emphasis_rule_of(enum ld_syntax syntax, enum ld_emphasis emphasis);

/*
 * One chunk, in place.
 *   ORIGINAL  z'_t = w_t z_t, then z' *= mean(z) / mean(z') over all elements (left out where
 *             |mean(z')| < 1e-12: the quotient would mean nothing)
 *   SCALE     z'_t = w_t z_t
 *   LERP      z'_t = e_t + w_t (z_t - e_t), only where w_t != 1
 *
 * Shapes   z, empty: [tokens, width] f32; weights: [tokens]. `empty` is the encoding of a chunk
 *          without text; only LERP reads it, and only then must it not be NULL.
 * Numerics sums in double, one rounding per element; deterministic.
 * Source   AUTOMATIC1111 sd_emphasis.py; ComfyUI sd1_clip.py (see model.md 7).
 */
void ld_emphasis_apply(enum ld_emphasis_rule rule, float *z, const float *empty,
                       const double *weights, size_t tokens, size_t width);

#ifdef __cplusplus
}
#endif
#endif
