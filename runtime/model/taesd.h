/*
 * A TAESD decoder: the small network that shows what a latent will become, for previews. It takes
 * the sampler's own latent (no scale factor) and needs a hundredth of the VAE's arithmetic.
 *
 *     ld_taesd_open(&taesd, backend, path, &err);
 *     ld_taesd_decode(taesd, latent, height, width, NULL, picture, &err);
 *
 * The network: 3 tanh(x / 3), a convolution to `width` channels and ReLU; three times three blocks,
 * nearest upsampling by 2 and a convolution without bias; one block more; a convolution to RGB in
 * 0..1. A block is relu(conv(relu(conv(relu(conv(x))))) + x); every kernel is 3x3. `width` is 64 in
 * the published files; here the file's shapes say it.
 *
 * Source   madebyollin/taesd, taesd.py (layers and their numbers in the file's names); diffusers'
 *          AutoencoderTiny stores the same layers as "decoder.layers.N", one number lower, as its
 *          clamp is no layer.
 *
 * Owned by the thread of its backend.
 */
#ifndef LD_MODEL_TAESD_H
#define LD_MODEL_TAESD_H

#include "kernels/ops.h"
#include "runtime/base/thread.h"

enum { LD_TAESD_FACTOR = 8, LD_TAESD_WIDTH_MAX = 512 };

struct ld_taesd;

/*
 * Reads a safetensors file and packs its decoder; other tensors in it are not looked at.
 * Owner    returns owned; ld_taesd_destroy. The backend is borrowed and outlives it.
 * Errors   LD_E_UNSUPPORTED (no TAESD decoder), LD_E_SHAPE (a tensor has another shape), those of
 *          ld_safetensors_open, LD_E_NOMEM, a backend's own.
 */
enum ld_code ld_taesd_open(struct ld_taesd **out, struct ld_backend *backend, const char *path,
                           struct ld_error *err) LD_MUST_USE;
void ld_taesd_destroy(struct ld_taesd *taesd);

/*
 * latent [4, height, width] -> picture [3, 8 height, 8 width], about 0..1, not clamped.
 * Errors   LD_E_CANCELLED, LD_E_NOMEM, a backend's own.
 */
enum ld_code ld_taesd_decode(struct ld_taesd *taesd, const double *latent, int32_t height,
                             int32_t width, const struct ld_cancel *cancel, float *picture,
                             struct ld_error *err) LD_MUST_USE;

/* Give the activations' memory back until the next decoding. False: there was none to give, or it
 * is decoding. */
bool ld_taesd_trim(struct ld_taesd *taesd);

#endif
