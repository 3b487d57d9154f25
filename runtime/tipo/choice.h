/*
 * Choosing the next token from a model's logits. In this order, as most programs for such models
 * do:
 *
 *     repetition penalty   logits of tokens among the last 64: divided by it where positive, else
 *                          multiplied
 *     top-k                the k likeliest stay
 *     top-p                the likeliest stay, until their probabilities add up to p
 *     min-p                those stay that have at least min_p of the likeliest one's probability
 *     temperature          the logits are divided by it; 0 takes the likeliest after the penalty
 *     draw                 one of those left, by their probabilities
 *
 * Everything is computed in double, ties go to the lower id, and the draw is a function of seed and
 * position alone, so the same logits give the same token.
 *
 * Source   the sampler chain of llama.cpp (src/llama-sampling.cpp): its order and its definitions;
 *          Keskar et al. 2019, arXiv:1909.05858 (penalty); Holtzman et al. 2019, arXiv:1904.09751
 *          (top-p); Nguyen et al. 2024, arXiv:2407.01082 (min-p).
 */
#ifndef LD_TIPO_CHOICE_H
#define LD_TIPO_CHOICE_H

#include "runtime/tipo/language.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_CHOICE_RECENT = 64 }; /* tokens that the repetition penalty looks back at */

struct ld_candidate {
    double logit, weight;
    uint32_t id;
};

/* Errors   LD_E_INVALID: a number outside its range: temperature 0..100, top_p and min_p 0..1,
 *          repetition_penalty 0.01..100. */
enum ld_code ld_choice_check(const struct ld_token_choice *choice,
                             struct ld_error *err) LD_MUST_USE;

/*
 * The token after those of `tokens` (prompt and continuation so far; the last 64 matter).
 * `position` tells the draws of one continuation apart. A logit of -infinity is never chosen.
 *
 * Shapes   logits, candidates (scratch): [vocabulary].
 * Errors   LD_E_NUMERICAL: a logit is NaN or +infinity, or none is finite.
 */
enum ld_code ld_choice_next(const struct ld_token_choice *choice, const float *logits,
                            uint32_t vocabulary, const uint32_t *tokens, uint32_t token_count,
                            uint64_t position, struct ld_candidate *candidates, uint32_t *out,
                            struct ld_error *err) LD_MUST_USE;

/* The draw itself: a number in [0, 1) from seed and position, 53 bits of it. */
double ld_choice_uniform(uint64_t seed, uint64_t position);

#ifdef __cplusplus
}
#endif
#endif
