/*
 * A virtual Brownian tree: Brownian motion over sigma as a pure function of (seed, sigma). Samplers
 * that ask for noise between two sigmas get the same noise however the steps in between are laid.
 *
 *     ld_brownian_create(&tree, &arena, &config, &err);
 *     ld_brownian_draw(tree, sigma, sigma_next, zeta, &err);
 *
 * A point costs up to 40 node tensors. The top levels of the last path are kept, and so are the
 * last points themselves, because every step begins where the one before it ended; memory is about
 * LD_BROWNIAN_LEVELS_KEPT + 7 tensors.
 *
 * Source: sampling.md 4.5 (torchsde's BrownianTree as k-diffusion uses it).
 */
#ifndef LD_SAMPLE_BROWNIAN_H
#define LD_SAMPLE_BROWNIAN_H

#include "runtime/base/arena.h"
#include "runtime/params.h"

/* Two neighbouring sigmas of a schedule seldom share more levels than this; deeper nodes are made
 * afresh. */
enum { LD_BROWNIAN_LEVELS_KEPT = 12 };

struct ld_brownian_config {
    uint64_t seed;
    double sigma_low, sigma_high; /* the tree's range, 0 <= low < high, finite */
    enum ld_noise_kind generator; /* of the node tensors */
    size_t total;                 /* elements of the tensor that the tree lives on */
    size_t first, count;          /* the part of it that is wanted */
};

struct ld_brownian;

/* Everything comes from `arena`, partly at the first draws. Errors LD_E_RANGE, LD_E_NOMEM. */
enum ld_code ld_brownian_create(struct ld_brownian **out, struct ld_arena *arena,
                                const struct ld_brownian_config *config,
                                struct ld_error *err) LD_MUST_USE;

/*
 * zeta = +-(W(max) - W(min)) / sqrt|to - from|, plus if from < to; sampling goes down and gets
 * minus.
 *
 * Shapes   zeta: [count].
 * Errors   LD_E_NOMEM.
 */
enum ld_code ld_brownian_draw(struct ld_brownian *tree, double from, double to, float *zeta,
                              struct ld_error *err) LD_MUST_USE;

/* Work out W at `sigma` now, for a draw to come; that gives the same bytes. Without memory nothing
 * happens, and the draw tells. */
void ld_brownian_ahead(struct ld_brownian *tree, double sigma);

/* W(b) - W(a), not normalised. Errors LD_E_NOMEM. */
enum ld_code ld_brownian_increment(struct ld_brownian *tree, double a, double b, float *out,
                                   struct ld_error *err) LD_MUST_USE;

#endif
