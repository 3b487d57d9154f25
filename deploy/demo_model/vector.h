/* Sixteen floats at a time, in the compiler's own vector types; for attention.c and norm.c. */
#ifndef DEMO_MODEL_VECTOR_H
#define DEMO_MODEL_VECTOR_H

#include <stddef.h>

enum { LANES = 16 };

typedef float vec __attribute__((vector_size(LANES * sizeof(float)), aligned(4)));
typedef int ivec __attribute__((vector_size(LANES * sizeof(int)), aligned(4)));

static inline vec load(const float *p)
{
    return *(const vec *)p;
}

static inline vec splat(float x)
{
    return x - (vec){0};
}

/* e^x for x <= 0 to about 2e-7 relative: 2^n times a degree-6 polynomial on +-ln2/2. */
static inline vec exp_neg(vec x)
{
    const vec low = splat(-87.0f);
    const ivec under = x < low;
    x = (vec)(((ivec)x & ~under) | ((ivec)low & under));
    const vec magic = splat(12582912.0f); /* 1.5 * 2^23 rounds to the nearest integer */
    const vec n = (x * 1.44269504f + magic) - magic;
    const vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = splat(1.3888889e-3f);
    p = p * r + 8.3333333e-3f;
    p = p * r + 4.1666667e-2f;
    p = p * r + 1.6666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const ivec power = (__builtin_convertvector(n, ivec) + 127) << 23;
    return p * (vec)power;
}

static inline float sum_lanes(vec x)
{
    float s = 0;
    for (int i = 0; i < LANES; i++)
        s += x[i];
    return s;
}

/* bfloat16 is the upper half of a float; stores round to nearest, ties to even. */
typedef unsigned uvec __attribute__((vector_size(LANES * sizeof(unsigned)), aligned(4)));
typedef unsigned short hvec __attribute__((vector_size(LANES * sizeof(short)), aligned(2)));

static inline vec load_half(const unsigned short *p)
{
    return (vec)(__builtin_convertvector(*(const hvec *)p, uvec) << 16);
}

static inline void store_half(unsigned short *p, vec x)
{
    const uvec bits = (uvec)x;
    const uvec rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    *(hvec *)p = __builtin_convertvector(rounded, hvec);
}

static inline vec sigmoid(vec x)
{
    const ivec negative = x < 0.0f;
    const vec e = exp_neg((vec)((ivec)x | (int)0x80000000));
    const vec upper = 1.0f / (1.0f + e);
    return (vec)(((ivec)(e * upper) & negative) | ((ivec)upper & ~negative));
}

#endif
