/* The taps of one axis: which input cells make an output cell, and with what weights. */
#ifndef LD_SAMPLE_RESIZE_TAPS_H
#define LD_SAMPLE_RESIZE_TAPS_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Output i is sum_k weight[i * width + k] * in[cell[i * width + k]]. */
struct ld_resize_taps {
    int32_t out_size, width; /* width: taps of every output, unused ones have weight 0 */
    int32_t *cell;
    float *weight;
};

/* `mode` must not be BISLERP. Errors LD_E_NOMEM. Release with ld_resize_taps_deinit, also after an
 * error. */
enum ld_code ld_resize_taps_init(struct ld_resize_taps *taps, enum ld_resize_mode mode,
                                 int32_t in_size, int32_t out_size,
                                 struct ld_error *err) LD_MUST_USE;
void ld_resize_taps_deinit(struct ld_resize_taps *taps);

#ifdef __cplusplus
}
#endif
#endif
