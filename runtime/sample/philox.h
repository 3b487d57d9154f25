/*
 * The GPU generator in the form that does not depend on the card: Philox4x32-10, element i of the
 * o-th draw being a function of (seed, o, i) alone.
 *
 *     struct ld_philox generator = {.seed = 42};
 *     ld_philox_normal(&generator, noise, 0, count);   // draw 0
 *     ld_philox_normal(&generator, noise, 0, count);   // draw 1
 */
#ifndef LD_SAMPLE_PHILOX_H
#define LD_SAMPLE_PHILOX_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ld_philox {
    uint64_t seed;
    uint32_t offset; /* draws made so far */
};

/* The four words of element `index` in draw `offset`. Source: Salmon et al. 2011, Philox4x32-10. */
void ld_philox_words(uint64_t seed, uint32_t offset, uint32_t index, uint32_t words[4]);

/*
 * One draw: elements [first, first + count) of it, as standard normals; then the next draw is up.
 *
 * Numerics within 1e-6 of the reference's float32 values.
 * Source   sampling.md 4.2, the N <= T form.
 */
void ld_philox_normal(struct ld_philox *generator, float *out, size_t first, size_t count);

#ifdef __cplusplus
}
#endif
#endif
