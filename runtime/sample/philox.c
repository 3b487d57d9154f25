#include "runtime/sample/philox.h"

#include "runtime/sample/noise_normal.h"

enum { ROUNDS = 10, LANES = LD_NORMAL_LANES };

void ld_philox_words(uint64_t seed, uint32_t offset, uint32_t index, uint32_t words[4])
{
    uint32_t c0 = offset, c1 = 0, c2 = index, c3 = 0;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < ROUNDS; round++) {
        const uint64_t p0 = (uint64_t)c0 * 0xD2511F53u;
        const uint64_t p1 = (uint64_t)c2 * 0xCD9E8D57u;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}

/* u = w0 2^-32 + 2^-33, angle = the same of w1 times the single-precision 2 pi of the reference;
 * 1 - u is exact because the complement of the word is. */
static void block(uint64_t seed, uint32_t offset, uint32_t index, float sine[LANES])
{
    float u[LANES];
    float complement[LANES];
    double angle[LANES];
    float cosine[LANES];
    for (uint32_t j = 0; j < LANES; j++) {
        uint32_t words[4];
        ld_philox_words(seed, offset, index + j, words);
        u[j] = (float)((double)words[0] * 0x1p-32 + 0x1p-33);
        complement[j] = (float)((double)~words[0] * 0x1p-32 + 0x1p-33);
        angle[j] = ((double)words[1] * 0x1p-32 + 0x1p-33) * (double)6.28318548f;
    }
    ld_normal_lanes(u, complement, angle, cosine, sine);
}

void ld_philox_normal(struct ld_philox *generator, float *out, size_t first, size_t count)
{
    float lanes[LANES];
    for (size_t i = 0; i < count; i += LANES) {
        const uint32_t index = (uint32_t)(first + i);
        if (count - i >= LANES) {
            block(generator->seed, generator->offset, index, out + i);
            continue;
        }
        block(generator->seed, generator->offset, index, lanes);
        for (size_t j = 0; j < count - i; j++)
            out[i + j] = lanes[j];
    }
    generator->offset++;
}
