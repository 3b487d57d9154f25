/*
 * The least memory of a device that a picture takes, by its size, so that one that can never fit is
 * told before it is tried. Of weights and plans alone: no device is asked, nothing runs.
 *
 *     ld_need_plan(&need, arch, backend, false, &err);
 *     for (uint32_t i = 0; i < need.count; i++)
 *         use(need.steps[i].positions, need.steps[i].bytes);
 *
 *     need = weights of text encoder and UNet + the larger of
 *            a UNet pass of one row: activations, keys and values of one chunk, scratch
 *            a decoding in the form that takes least: the decoder's weights, activations, scratch
 *          + the scratch of the libraries that the backend runs kernels of
 *
 * Of weights that are streamed, what stays on the device and the ring for the largest of them.
 *
 * Every path of the engine comes to hold at least that at one moment: a pass shrinks to one row, a
 * decoding to tiles, and parts of a model that a job uses are not let go of. What comes on top
 * (more chunks, adapters, another VAE, an encoder, the driver's own) is left out.
 */
#ifndef LD_MODEL_MODEL_NEED_H
#define LD_MODEL_MODEL_NEED_H

#include "kernels/ops.h"
#include "runtime/model/weights.h"

enum { LD_NEED_STEPS_MAX = 20 };

/* A latent of `positions` (height times width) or more takes at least `bytes`. */
struct ld_need_step {
    uint32_t positions;
    uint64_t bytes;
};

/* Both rise from step to step. */
struct ld_need {
    struct ld_need_step steps[LD_NEED_STEPS_MAX];
    uint32_t count;
};

/* What the table says of a latent of so many positions: its last step at or below them. */
uint64_t ld_need_of(const struct ld_need *need, uint32_t positions);

/*
 * For a model with a UNet, on this backend, its weights streamed or not; takes tens of
 * milliseconds.
 * Errors   LD_E_NOT_FOUND (no UNet), those of building a graph.
 */
enum ld_code ld_need_plan(struct ld_need *need, const struct ld_arch *arch,
                          struct ld_backend *backend, bool streamed,
                          struct ld_error *err) LD_MUST_USE;

#endif
