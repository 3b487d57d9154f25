/*
 * Hash a seed, with or without a spawn key, into well mixed 32-bit words: the node seeds of the
 * Brownian tree.
 */
#ifndef LD_SAMPLE_SEED_SEQUENCE_H
#define LD_SAMPLE_SEED_SEQUENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_SEED_SEQUENCE_POOL = 24 }; /* words; the pool size that the Brownian tree uses */

/*
 * Words 0 .. count-1 of SeedSequence(entropy[, spawn_key = (key, depth)], pool_size = 24).
 *
 * Shapes   out: [count], count <= LD_SEED_SEQUENCE_POOL.
 * Source   sampling.md 4.5; M. E. O'Neill's seed_seq_fe as used by NumPy's SeedSequence.
 */
void ld_seed_sequence(uint64_t entropy, bool has_key, uint64_t key, uint64_t depth, uint32_t *out,
                      size_t count);

#ifdef __cplusplus
}
#endif
#endif
