/*
 * The CPU generator of the reference implementations: Mersenne Twister 19937 and its three ways to
 * make normal numbers. Same seed, same sequence of calls, same numbers.
 *
 *     struct ld_mt19937 generator;
 *     ld_mt19937_seed(&generator, 42);
 *     ld_mt19937_normal_f32(&generator, noise, count, 0, count);
 */
#ifndef LD_SAMPLE_MT19937_H
#define LD_SAMPLE_MT19937_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_MT19937_WORDS = 624 };

/* Owned by one thread; 2.5 KiB, no pointers, so a copy is a saved position. */
struct ld_mt19937 {
    uint32_t state[LD_MT19937_WORDS];
    uint32_t next;  /* words of `state` already handed out */
    bool has_spare; /* the scalar path's second value is waiting */
    double spare;
};

/* Seeds with the low 32 bits: seeds equal modulo 2^32 give equal streams (sampling.md 4.1). */
void ld_mt19937_seed(struct ld_mt19937 *generator, uint64_t seed);

uint32_t ld_mt19937_u32(struct ld_mt19937 *generator);

/* The first word drawn is the high half. */
uint64_t ld_mt19937_u64(struct ld_mt19937 *generator);

/* Uniform in [0, 1) with 24 bits, as `rand` of a float32 tensor. */
float ld_mt19937_uniform_f32(struct ld_mt19937 *generator);

/*
 * Draw a float32 tensor of `total` standard normals and keep elements [first, first + count): the
 * generator moves on as for the whole tensor, so one image of a batch can be had without the rest.
 *
 * Shapes   out: [count]; first + count <= total.
 * Numerics total >= 16: vector form, within 1e-6 of the reference. Below: scalar form in double.
 * Source   sampling.md 4.1; Matsumoto & Nishimura 1998.
 */
void ld_mt19937_normal_f32(struct ld_mt19937 *generator, float *out, size_t total, size_t first,
                           size_t count);

/* The same for a float64 tensor (53-bit uniforms), whole tensors only. */
void ld_mt19937_normal_f64(struct ld_mt19937 *generator, double *out, size_t count);

#ifdef __cplusplus
}
#endif
#endif
