/*
 * The one piece of tensor arithmetic samplers use: a weighted sum of tensors. A device backend that
 * implements it runs every sampler.
 */
#ifndef LD_SAMPLE_LINCOMB_H
#define LD_SAMPLE_LINCOMB_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ld_term {
    double weight;
    const double *x;
};

/*
 * dst[i] = terms[0].weight * terms[0].x[i] + terms[1].weight * terms[1].x[i] + ...
 *
 * Numerics each element is summed in the order of the terms, without fused operations, so the
 *          result does not depend on `count` or on how a tensor is cut into calls.
 * Owner    borrows everything; `dst` may be one of the terms' tensors (but not overlap one partly).
 */
void ld_lincomb(double *dst, const struct ld_term *terms, uint32_t n, size_t count);

#ifdef __cplusplus
}
#endif
#endif
