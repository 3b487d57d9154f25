/*
 * The noise of one image: its initial tensor and the three streams that samplers draw from, in the
 * order and from the generators that the two front ends use, so that a known seed gives the known
 * picture.
 *
 *     struct ld_noise_config config = ld_noise_config_of(request, image_index, 4, h, w);
 *     config.sigma_low = ..., config.sigma_high = ...;       // Brownian samplers
 *     ld_noise_create(&noise, &arena, &config, &err);
 *     ld_noise_initial(noise, z, count, &err);
 *     struct ld_noise_source source = ld_noise_source_of(noise);
 *
 * stream          profile comfy                          profile a1111
 * initial         MT19937(seed) or Philox(seed)          draw 0 of the image's generator
 * A ancestral     Philox(seed) from draw 0, or            draws 1, 2, ... of it; with ENSD a
 *                 MT19937(seed + 1)                       generator seeded seed + ENSD, from draw 0
 * B Brownian      tree seeded with the seed              the same, one tree an image
 * G churn         its own Philox(seed) from draw 0       the same generator as A
 *
 * Where the initial noise of profile comfy comes from Philox too (which no front end does), stream
 * A starts at draw 1: draw 0 is the initial noise, and adding it twice spoils the picture.
 *
 * Source: sampling.md 4.3, 4.4.
 */
#ifndef LD_SAMPLE_NOISE_H
#define LD_SAMPLE_NOISE_H

#include "runtime/params.h"
#include "runtime/sample/sampler.h"

struct ld_noise_config {
    enum ld_profile profile;
    enum ld_noise_kind initial, ancestral, brownian;
    uint64_t seed; /* this image's */
    uint64_t variation_seed;
    double variation_strength;                     /* 0: none */
    int64_t ensd;                                  /* 0: none */
    int32_t channels, height, width;               /* of the latent */
    int32_t resize_from_height, resize_from_width; /* A1111's seed resize, latent units; 0: none */
    double sigma_low, sigma_high; /* range of the Brownian tree: the smallest positive and the
                                     largest sigma of the run (a1111: of the uncut schedule) */
    /* ComfyUI's whole-batch streams: this image is element `batch_index` of tensors that hold
     * `batch_count` images. 1 and 0 for everything else. */
    uint32_t batch_count, batch_index;
};

/*
 * The config of image `index` of a job: seed + index, so that it equals the single image of that
 * seed; or with `batch` row batch.index + index of one draw. Profile a1111 with a variation steps
 * the variation seed instead, as that front end does. Unset options follow the profile: a1111 uses
 * `request->noise` for everything; comfy draws ancestral noise from Philox and Brownian noise on
 * the CPU.
 */
struct ld_noise_config ld_noise_config_of(const struct ld_request *request, uint32_t index,
                                          int32_t channels, int32_t height, int32_t width);

/* The main seed of image `index` by the same rule: what the answer and the metadata tell. */
uint64_t ld_noise_seed_of(const struct ld_request *request, uint32_t index);

/* And its variation seed: profile a1111 steps that one. */
uint64_t ld_noise_variation_seed_of(const struct ld_request *request, uint32_t index);

struct ld_noise;

/* Everything comes from `arena`. Errors LD_E_NOMEM, LD_E_RANGE (batch_index). */
enum ld_code ld_noise_create(struct ld_noise **out, struct ld_arena *arena,
                             const struct ld_noise_config *config,
                             struct ld_error *err) LD_MUST_USE;

/*
 * The initial noise, standard normal, [channels, height, width]. It may be asked for again and
 * moves no stream. `count` is checked. Errors LD_E_SHAPE, LD_E_NOMEM.
 */
enum ld_code ld_noise_initial(struct ld_noise *noise, double *out, size_t count,
                              struct ld_error *err) LD_MUST_USE;

/* For ld_sampler_create; borrows `noise`. A Brownian draw without a sigma range is LD_E_RANGE. */
struct ld_noise_source ld_noise_source_of(struct ld_noise *noise);

/*
 * Draw now what the sampler is likely to ask for next, while something else computes: a tensor of
 * each stream that it has drawn from, and the tree's point at `to` (0: none is wanted). The bytes
 * of no draw change. Where memory is missing, the draw itself will tell.
 */
void ld_noise_ahead(struct ld_noise *noise, double to);

/*
 * ComfyUI's noise for a latent batch: one CPU generator over the whole batch, or, with a list of
 * batch indices, image after image from draw 0 and the listed ones picked.
 *
 * Shapes   out: [images, channels, height, width]; indices: [images] or NULL.
 * Errors   LD_E_RANGE (an index above 4096), LD_E_NOMEM never.
 */
enum ld_code ld_noise_batch(uint64_t seed, uint32_t images, const uint32_t *indices,
                            size_t image_count, float *out, struct ld_error *err) LD_MUST_USE;

#endif
