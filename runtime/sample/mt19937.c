#include "runtime/sample/mt19937.h"

#include "runtime/base/error.h"
#include "runtime/sample/noise_normal.h"

#include <math.h>

enum {
    SHIFT_SIZE = 397, /* m of the recurrence, Matsumoto & Nishimura 1998, table II */
    BLOCK = 16        /* the vector form works on 16 uniforms at a time */
};

/* ---- The engine ------------------------------------------------------------------------------ */

void ld_mt19937_seed(struct ld_mt19937 *generator, uint64_t seed)
{
    uint32_t *state = generator->state;
    state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < LD_MT19937_WORDS; i++)
        state[i] = 1812433253u * (state[i - 1] ^ (state[i - 1] >> 30)) + i;
    generator->next = LD_MT19937_WORDS;
    generator->has_spare = false;
    generator->spare = 0.0;
}

static uint32_t twist(uint32_t upper, uint32_t lower, uint32_t shifted)
{
    const uint32_t joined = (upper & 0x80000000u) | (lower & 0x7FFFFFFFu);
    return shifted ^ (joined >> 1) ^ ((joined & 1u) ? 0x9908B0DFu : 0u);
}

static void refill(struct ld_mt19937 *generator)
{
    uint32_t *s = generator->state;
    const uint32_t rest = LD_MT19937_WORDS - SHIFT_SIZE;
    for (uint32_t i = 0; i < rest; i++)
        s[i] = twist(s[i], s[i + 1], s[i + SHIFT_SIZE]);
    for (uint32_t i = rest; i < LD_MT19937_WORDS - 1; i++)
        s[i] = twist(s[i], s[i + 1], s[i - rest]);
    s[LD_MT19937_WORDS - 1] = twist(s[LD_MT19937_WORDS - 1], s[0], s[SHIFT_SIZE - 1]);
    generator->next = 0;
}

uint32_t ld_mt19937_u32(struct ld_mt19937 *generator)
{
    if (generator->next == LD_MT19937_WORDS)
        refill(generator);
    uint32_t word = generator->state[generator->next++];
    word ^= word >> 11;
    word ^= (word << 7) & 0x9D2C5680u;
    word ^= (word << 15) & 0xEFC60000u;
    return word ^ (word >> 18);
}

uint64_t ld_mt19937_u64(struct ld_mt19937 *generator)
{
    const uint64_t high = ld_mt19937_u32(generator);
    return (high << 32) | ld_mt19937_u32(generator);
}

float ld_mt19937_uniform_f32(struct ld_mt19937 *generator)
{
    return (float)(ld_mt19937_u32(generator) & 0xFFFFFFu) * 0x1p-24f;
}

static double uniform_f64(struct ld_mt19937 *generator)
{
    return (double)(ld_mt19937_u64(generator) & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
}

/* ---- Normal numbers -------------------------------------------------------------------------- */

static const double two_pi = 6.2831853071795865;

static double normal_scalar(struct ld_mt19937 *generator)
{
    if (generator->has_spare) {
        generator->has_spare = false;
        return generator->spare;
    }
    const double angle = two_pi * uniform_f64(generator);
    const double radius = sqrt(-2.0 * log1p(-uniform_f64(generator)));
    generator->spare = radius * sin(angle);
    generator->has_spare = true;
    return radius * cos(angle);
}

static void block_f32(struct ld_mt19937 *generator, float out[BLOCK])
{
    float complement[BLOCK / 2];
    float u[BLOCK / 2];
    double angle[BLOCK / 2];
    for (int j = 0; j < BLOCK / 2; j++)
        complement[j] = ld_mt19937_uniform_f32(generator);
    for (int j = 0; j < BLOCK / 2; j++) {
        u[j] = 1.0f - complement[j];
        /* The reference rounds the angle to single precision before it takes sine and cosine. */
        const float turn = 6.28318531f * ld_mt19937_uniform_f32(generator);
        angle[j] = (double)turn;
    }
    ld_normal_lanes(u, complement, angle, out, out + BLOCK / 2);
}

static void block_f64(struct ld_mt19937 *generator, double out[BLOCK])
{
    double uniform[BLOCK];
    for (int j = 0; j < BLOCK; j++)
        uniform[j] = uniform_f64(generator);
    for (int j = 0; j < BLOCK / 2; j++) {
        const double radius = sqrt(-2.0 * log(1.0 - uniform[j]));
        const double angle = two_pi * uniform[j + BLOCK / 2];
        out[j] = radius * cos(angle);
        out[j + BLOCK / 2] = radius * sin(angle);
    }
}

/* Copy what of block [at, at + BLOCK) lies in the window [first, first + count). */
static void keep_block(const float block[BLOCK], size_t at, float *out, size_t first, size_t count)
{
    for (size_t j = 0; j < BLOCK; j++)
        if (at + j >= first && at + j - first < count)
            out[at + j - first] = block[j];
}

void ld_mt19937_normal_f32(struct ld_mt19937 *generator, float *out, size_t total, size_t first,
                           size_t count)
{
    LD_ASSERT(first <= total && count <= total - first);
    if (total < BLOCK) {
        for (size_t i = 0; i < total; i++) {
            const double value = normal_scalar(generator);
            if (i >= first && i - first < count)
                out[i - first] = (float)value;
        }
        return;
    }
    float block[BLOCK];
    size_t at = 0;
    for (; at + BLOCK <= total; at += BLOCK) {
        if (at >= first && at + BLOCK <= first + count) {
            block_f32(generator, out + (at - first));
        } else {
            block_f32(generator, block);
            keep_block(block, at, out, first, count);
        }
    }
    if (at == total)
        return;
    /* A ragged end: its own uniforms are drawn and lost, then 16 fresh ones fill the last block. */
    for (; at < total; at++)
        (void)ld_mt19937_u32(generator);
    block_f32(generator, block);
    keep_block(block, total - BLOCK, out, first, count);
}

void ld_mt19937_normal_f64(struct ld_mt19937 *generator, double *out, size_t count)
{
    if (count < BLOCK) {
        for (size_t i = 0; i < count; i++)
            out[i] = normal_scalar(generator);
        return;
    }
    size_t at = 0;
    for (; at + BLOCK <= count; at += BLOCK)
        block_f64(generator, out + at);
    if (at == count)
        return;
    for (; at < count; at++)
        (void)ld_mt19937_u64(generator);
    block_f64(generator, out + count - BLOCK);
}
