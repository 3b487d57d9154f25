/*
 * Weights by rule: every value is a function of the tensor's name and the element's index, so a
 * full-size model needs no file. The rule is that of the golden data (tests/golden, "Generated
 * weights"): FNV-1a of the name seeds splitmix64, values are uniform and scaled by the fan-in.
 */
#ifndef LD_TESTS_GENWEIGHTS_H
#define LD_TESTS_GENWEIGHTS_H

#include "runtime/model/keymap.h"

/* FNV-1a, 64 bits, of the name's bytes. */
uint64_t ld_genweights_hash(const char *name);

/* Uniform in [-1, 1), a multiple of 2^-23: element `index` of the stream `hash`. */
double ld_genweights_uniform(uint64_t hash, uint64_t index);

/* A checkpoint_fill; `ctx` is not used. */
void ld_genweights_fill(const void *ctx, const struct ld_key *key, size_t first, size_t count,
                        uint16_t *out);

/* Round to float16, nearest even, from double in one step. */
uint16_t ld_genweights_f16(double value);

#endif
