/*
 * Standard normal numbers of the Philox stream: element i of draw o is a function of (seed, o, i)
 * alone, so a latent's noise depends neither on its place in the batch nor on the card.
 *
 * The words are those of runtime/sample/philox.c. The transform works on the words' integers, which
 * are exact, instead of on doubles; against the reference the numbers differ by less than 2e-6.
 *
 * Source: sampling.md 4.2; Salmon et al. 2011, Philox4x32-10; Box & Muller 1958.
 */
#ifndef LDK_NOISE_CUH
#define LDK_NOISE_CUH

#include "kernels/cuda/launch.h"

struct philox_pair {
    uint32_t first, second; /* the two words in use */
};

static __device__ __forceinline__ philox_pair philox(uint64_t seed, uint32_t draw, uint32_t index)
{
    uint32_t c0 = draw;
    uint32_t c1 = 0;
    uint32_t c2 = index;
    uint32_t c3 = 0;
    uint32_t k0 = static_cast<uint32_t>(seed);
    uint32_t k1 = static_cast<uint32_t>(seed >> 32);
    LDK_UNROLL
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = static_cast<uint64_t>(c0) * 0xD2511F53u;
        const uint64_t p1 = static_cast<uint64_t>(c2) * 0xCD9E8D57u;
        c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
        c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
        c1 = static_cast<uint32_t>(p1);
        c3 = static_cast<uint32_t>(p0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    philox_pair words;
    words.first = c0;
    words.second = c1;
    return words;
}

/* (w + 1/2) 2^-32, rounded once. */
static __device__ __forceinline__ float unit_of(uint32_t word)
{
    return static_cast<float>(2 * static_cast<uint64_t>(word) + 1) * 0x1p-33f;
}

/* ln((w + 1/2) 2^-32). Above one half it is taken from the complement, where the argument itself
 * has lost its digits. */
static __device__ __forceinline__ float log_of(uint32_t word)
{
    return word >= 0x80000000u ? log1pf(-unit_of(~word)) : logf(unit_of(word));
}

/*
 * sin(f T) with f = (w + 1/2) 2^-32 and T = 6.28318548, the reference's float32 2 pi. Quarters of T
 * are counted on the integer; the rest is scaled by T / 4, and each counted quarter is longer than
 * a quarter turn by T / 4 - pi / 2 = 4.371e-8. |y| <= pi/4: Taylor series to y^9 and y^10 leave
 * 3e-9.
 */
static __device__ __forceinline__ float sine_of(uint32_t word)
{
    const int64_t twice = 2 * static_cast<int64_t>(word) + 1; /* f 2^33 */
    const int quarter = static_cast<int>((twice + (1 << 30)) >> 31);
    const float rest = static_cast<float>(twice - (static_cast<int64_t>(quarter) << 31));
    const float y = rest * (0x1p-31f * 1.57079637f) + static_cast<float>(quarter) * 4.371139e-8f;
    const float q = y * y;
    const float s =
        y + y * q * (-1.0f / 6 + q * (1.0f / 120 + q * (-1.0f / 5040 + q * (1.0f / 362880))));
    const float c =
        1.0f +
        q * (-0.5f + q * (1.0f / 24 + q * (-1.0f / 720 + q * (1.0f / 40320 - q / 3628800.0f))));
    const float turned = (quarter & 1) != 0 ? c : s;
    return (quarter & 2) != 0 ? -turned : turned;
}

static __device__ __forceinline__ float philox_normal(uint64_t seed, uint32_t draw, uint32_t index)
{
    const philox_pair words = philox(seed, draw, index);
    /* u = 1 makes the logarithm a zero that may carry either sign. */
    return sqrtf(fabsf(2.0f * log_of(words.first))) * sine_of(words.second);
}

#endif
