/*
 * Kohya deep shrink: at high noise the UNet's deep blocks run on a smaller feature map, which keeps
 * a picture's composition whole above the size the model was trained at, and saves work.
 *
 *     struct ld_deep_shrink shrink;
 *     ld_deep_shrink_init(&shrink, &request->deep_shrink, table, &err);
 *     if (ld_deep_shrink_active(&shrink, sigma))
 *         h = resize(h, ld_deep_shrink_size(&shrink, height), ..., shrink.down);
 *
 * Source: sampling.md 6.
 */
#ifndef LD_SAMPLE_DEEP_SHRINK_H
#define LD_SAMPLE_DEEP_SHRINK_H

#include "kernels/ops.h"
#include "runtime/params.h"
#include "runtime/sample/tables.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ld_deep_shrink {
    bool on;
    int32_t block; /* encoder block 0..11 after which the map shrinks */
    double factor;
    double sigma_high, sigma_low; /* active between them, both included */
    bool after_skip;              /* the skip keeps the unshrunk map */
    enum ld_resize_mode down, up;
};

/* Errors LD_E_INVALID (an unknown method). An absent request gives an inactive one. */
enum ld_code ld_deep_shrink_init(struct ld_deep_shrink *shrink,
                                 const struct ld_request_deep_shrink *request,
                                 const struct ld_sigma_table *table,
                                 struct ld_error *err) LD_MUST_USE;

/* Tested for every denoiser call with the call's own sigma. */
bool ld_deep_shrink_active(const struct ld_deep_shrink *shrink, double sigma);

/* A side of the shrunk map: round(side / factor), half to even, at least 1. */
int32_t ld_deep_shrink_size(const struct ld_deep_shrink *shrink, int32_t side);

#ifdef __cplusplus
}
#endif
#endif
