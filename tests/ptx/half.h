/*
 * float, f16 and bf16 as their bits, and from one to the other, for float.c and mma.c. A NaN is
 * PTX's: 0x7fffffff, 0x7fff.
 */
#ifndef LD_TESTS_PTX_HALF_H
#define LD_TESTS_PTX_HALF_H

#include <stdint.h>
#include <string.h>

#define NAN_32 0x7fffffffu
#define NAN_16 0x7fffu /* f16 and bf16 */

static inline uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float one_nan(float x)
{
    return x == x ? x : float_of(NAN_32);
}

/* Exact; the product brings the exponent's bias to that of 32 bits and makes subnormals normal. */
static inline float from_half(uint16_t half)
{
    uint32_t size = (half & 0x7fffu) << 13, sign = (half & 0x8000u) << 16;
    float finite = float_of(size) * 0x1p112f;
    float value = size < 0x7c00u << 13 ? finite : float_of(0x7f800000u);
    return float_of(size > 0x7c00u << 13 ? NAN_32 : bits_of(value) | sign);
}

static inline float from_bf16(uint16_t half)
{
    return one_nan(float_of((uint32_t)half << 16));
}

/*
 * To nearest, ties to even. Subnormals: 1/2 has the unit 2^-24 of a half's subnormals, so the sum
 * is rounded as they are. Others: the bias is changed and the bits that go are rounded into those
 * that stay; a carry past the largest number is infinity.
 */
static inline uint16_t to_half(float x)
{
    uint32_t size = bits_of(x) & 0x7fffffffu, sign = bits_of(x) >> 16 & 0x8000u;
    uint32_t small = bits_of(float_of(size) + 0.5f) - bits_of(0.5f);
    uint32_t rounded = (size - (112u << 23) + 0xfffu + (size >> 13 & 1)) >> 13;
    uint32_t normal = size < 0x47800000u ? rounded : 0x7c00u;
    uint32_t bits = size < 0x38800000u ? small : normal;
    return (uint16_t)(size > 0x7f800000u ? NAN_16 : bits | sign);
}

static inline uint16_t to_bf16(float x)
{
    uint32_t bits = bits_of(x), rounded = bits + 0x7fffu + (bits >> 16 & 1);
    return (uint16_t)(x == x ? rounded >> 16 : NAN_16);
}

#endif
