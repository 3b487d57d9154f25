/*
 * What computed a picture, as far as it decides its last bits: backend, device, precision, and the
 * reduction signatures of its networks (kernels.md 13). It stands in the picture's metadata and in
 * the job's report, so that a replay can say why bytes differ. Nothing in it changes from run to
 * run.
 */
#ifndef LD_RUNTIME_NUMERICS_H
#define LD_RUNTIME_NUMERICS_H

#include "runtime/base/buffer.h"
#include "runtime/model/model.h"

/* Latent sizes of the passes of a picture; `second_height` 0: there was one. */
struct ld_numerics_sizes {
    int32_t height, width;
    int32_t second_height, second_width;
};

/*
 * Append a JSON object: {"backend", "device", "precision"}, "vae_precision" where that is another,
 * and "unet" and "vae" where the backend has more than one order of summing. `unet` and `vae` are
 * the models that sampled and decoded.
 */
enum ld_code ld_numerics_write(struct ld_buffer *out, struct ld_model *unet, struct ld_model *vae,
                               const struct ld_numerics_sizes *sizes,
                               struct ld_error *err) LD_MUST_USE;

#endif
