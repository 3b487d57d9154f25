/*
 * The map that self-attention guidance thresholds: how much attention each position of the middle
 * block receives.
 * Source   Hong et al. 2022, arXiv:2210.00939; sampling.md 5.8.
 */
#ifndef LD_MODEL_UNET_SAG_H
#define LD_MODEL_UNET_SAG_H

#include "runtime/base/error.h"

#include <stdint.h>

/*
 * scores[j] = mean over heads of the sum over queries i of softmax_j(q_i . k_j / sqrt(d)).
 * `qkv`: planes [3C, positions] as ld_model_unet hands them out (options.middle_qkv): q, k, v.
 * The sum of all scores is `positions`.
 *
 * Numerics sums in double, in a fixed order.
 * Owner    borrows; writes scores[positions].
 * Errors   LD_E_NOMEM, LD_E_SHAPE (heads do not divide the channels, nothing to score).
 */
enum ld_code ld_sag_scores(const float *qkv, int32_t channels, int32_t heads, int32_t positions,
                           float *scores, struct ld_error *err) LD_MUST_USE;

#endif
