/*
 * SMEA: a stabiliser for pictures beyond the size a model was trained at. While the noise is high,
 * every row of the guidance is evaluated twice, once as it is and once with the UNet's deep blocks
 * on a smaller feature map, where the whole composition fits the field of view that training gave
 * them. The second answer's coarse part replaces that of the first, by a weight that falls from 1
 * to 0 along a cosine, so details are the full picture's from the first step on and nothing jumps.
 *
 *     D = D_full + w(t) L(D_small - D_full),  w = cos^2(pi/2 * progress / END) up to END, else 0
 *     L: area mean over cells of `scale`, bilinear back up
 *
 *     ld_smea_init(&smea, true, 1.5, table);
 *     if (ld_smea_weight(&smea, sigma) > 0) ... evaluate shrunk by smea.scale, then ld_smea_mix
 *
 * Source: our own design (docs/high-resolution.md); the shrunk evaluation is sampling.md 6.
 */
#ifndef LD_SAMPLE_SMEA_H
#define LD_SAMPLE_SMEA_H

#include "runtime/base/error.h"
#include "runtime/sample/tables.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ld_smea {
    bool on;
    double scale; /* how much smaller the second look is, 1..4 */
    const struct ld_sigma_table *table;
};

void ld_smea_init(struct ld_smea *smea, bool on, double scale, const struct ld_sigma_table *table);

/* How much of the coarse part comes from the smaller look at `sigma`; 0: it is not wanted. */
double ld_smea_weight(const struct ld_smea *smea, double sigma);

/*
 * denoised += weight * L(small - denoised).
 * Shapes   both [4, height, width]. Errors LD_E_NOMEM.
 */
enum ld_code ld_smea_mix(const struct ld_smea *smea, double weight, const double *small,
                         int32_t height, int32_t width, double *denoised,
                         struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
