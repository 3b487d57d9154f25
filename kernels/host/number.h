/*
 * The two-byte floats in integer steps: no branch on the value (garbage that a kernel computes and
 * throws away is no error), no arithmetic on float32 denormals (slow), round to nearest even.
 *
 * Source: IEEE 754 binary16; bfloat16 is the upper half of binary32. NaN becomes 0x7fff, as cvt.rn
 * of PTX gives it.
 */
#ifndef LDK_HOST_NUMBER_H
#define LDK_HOST_NUMBER_H

#include <stdint.h>
#include <string.h>

static inline float ldk_number_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t ldk_bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* All ones if `condition` is 1. */
static inline uint32_t ldk_mask_if(int condition)
{
    return 0u - (uint32_t)condition;
}

static inline float ldk_f16_to_f32(uint16_t half)
{
    uint32_t body = ((uint32_t)half & 0x7fffu) << 13; /* exponent and fraction, exponent bias 15 */
    uint32_t exponent = body & (0x1fu << 23);
    uint32_t normal = body + (112u << 23);
    uint32_t special = ldk_mask_if(exponent == 0x1fu << 23); /* infinity, NaN: 112 once more */
    uint32_t tiny = ldk_mask_if(exponent == 0);
    normal += special & (112u << 23);
    /* A denormal is fraction * 2^-24: as the tail of 2^-14, which is then taken away. */
    uint32_t lifted = ldk_bits_of(ldk_number_bits(body + (113u << 23)) - 0x1p-14f);
    uint32_t magnitude = (lifted & tiny) | (normal & ~tiny);
    return ldk_number_bits(magnitude | ((uint32_t)half & 0x8000u) << 16);
}

static inline uint16_t ldk_f32_to_f16(float value)
{
    uint32_t bits = ldk_bits_of(value);
    uint32_t sign = bits >> 16 & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    uint32_t nan = ldk_mask_if(magnitude > 0x7f800000u);
    uint32_t large = ldk_mask_if(magnitude >= 0x477ff000u); /* 65520 and more round to infinity */
    uint32_t tiny = ldk_mask_if(magnitude < 0x38800000u);   /* below 2^-14 */
    uint32_t normal = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
    /* Beside 0.5 the last place of float32 is 2^-24, that of a binary16 denormal. */
    uint32_t denormal = ldk_bits_of(ldk_number_bits(magnitude & tiny) + 0.5f) - 0x3f000000u;
    uint32_t out = (denormal & tiny) | (normal & ~tiny);
    out = (0x7c00u & large) | (out & ~large);
    out |= sign;
    return (uint16_t)((0x7fffu & nan) | (out & ~nan));
}

static inline float ldk_bf16_to_f32(uint16_t half)
{
    return ldk_number_bits((uint32_t)half << 16);
}

static inline uint16_t ldk_f32_to_bf16(float value)
{
    uint32_t bits = ldk_bits_of(value);
    uint32_t nan = ldk_mask_if((bits & 0x7fffffffu) > 0x7f800000u);
    uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    return (uint16_t)((0x7fffu & nan) | (rounded & ~nan));
}

#endif
