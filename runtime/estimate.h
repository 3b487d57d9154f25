/*
 * What a request would cost here, for /v1/plan: tokens, memory and seconds, without running it.
 * Seconds come from rates this worker has measured, scaled by the operations of the shape; before
 * the first pass there are none, and none are made up.
 */
#ifndef LD_RUNTIME_ESTIMATE_H
#define LD_RUNTIME_ESTIMATE_H

#include "runtime/library.h"

/* Exponentially forgotten speed of UNet passes. Zeroed: nothing measured yet. */
struct ld_rates {
    double unet_us_per_position; /* one row, one latent position */
    uint64_t passes;
};

/* A pass of `rows` rows took `spent_us`. */
void ld_rates_note(struct ld_rates *rates, int32_t height, int32_t width, uint32_t rows,
                   int64_t spent_us);

/* JSON object {"tokens": {...}, "memory_bytes", "seconds", "unet_rows", "warnings": [...]} into
 * `out`. Errors: an unknown model or prompt error, as a job would give it. */
enum ld_code ld_estimate(struct ld_library *library, const struct ld_backend *backend,
                         const struct ld_rates *rates, const struct ld_request *request,
                         struct ld_buffer *out, struct ld_error *err) LD_MUST_USE;

#endif
