#include "tests/tools/genweights.h"

#include <math.h>
#include <string.h>

/* FNV-1a (Fowler, Noll, Vo) and splitmix64 (Steele, Lea, Flood 2014) constants. */
static const uint64_t FNV_OFFSET = 0xCBF29CE484222325U;
static const uint64_t FNV_PRIME = 0x100000001B3U;
static const uint64_t SPLITMIX_STEP = 0x9E3779B97F4A7C15U;

uint64_t ld_genweights_hash(const char *name)
{
    uint64_t hash = FNV_OFFSET;
    for (const char *p = name; *p; p++)
        hash = (hash ^ (uint8_t)*p) * FNV_PRIME;
    return hash;
}

double ld_genweights_uniform(uint64_t hash, uint64_t index)
{
    uint64_t z = hash + (index + 1) * SPLITMIX_STEP;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    z = z ^ (z >> 31);
    return (double)(z >> 40) / 8388608.0 - 1.0;
}

/*
 * To float by truncation with the lost bits gathered in the last one ("round to odd"), then to
 * float16 to nearest even: the pair rounds like one step. Rounding twice to nearest would be wrong
 * for one value in ten thousand.
 */
uint16_t ld_genweights_f16(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint64_t magnitude = bits & 0x7FFFFFFFFFFFFFFFU;
    if (magnitude == 0)
        return (uint16_t)(bits >> 48);
    const uint64_t exponent = (magnitude >> 52) - 1023 + 127;
    const uint64_t fraction = magnitude & 0xFFFFFFFFFFFFFU;
    const uint64_t odd = (fraction & 0x1FFFFFFFU) != 0;
    const uint32_t single = (uint32_t)((bits >> 63) << 31 | exponent << 23 | fraction >> 29 | odd);
    float rounded;
    memcpy(&rounded, &single, sizeof rounded);
    return ld_f16_from_f32(rounded);
}

static bool ends_with(const char *text, const char *tail)
{
    const size_t length = strlen(text);
    const size_t size = strlen(tail);
    return length >= size && strcmp(text + length - size, tail) == 0;
}

/* value = offset + scale * u */
static void rule_of(const struct ld_key *key, double *offset, double *scale)
{
    *offset = 0;
    *scale = 0.125;
    if (ends_with(key->name, "token_embedding.weight")) {
        *scale = 0.25;
    } else if (ends_with(key->name, "position_embedding.weight")) {
        *scale = 0.125;
    } else if (key->rank >= 2) {
        double fan_in = 1;
        for (int32_t d = 1; d < key->rank; d++)
            fan_in *= (double)key->shape[d];
        *scale = sqrt(3.0 / fan_in);
    } else if (ends_with(key->name, ".weight")) {
        *offset = 1;
        *scale = 0.25;
    }
}

void ld_genweights_fill(const void *ctx, const struct ld_key *key, size_t first, size_t count,
                        uint16_t *out)
{
    double offset;
    double scale;
    (void)ctx;
    rule_of(key, &offset, &scale);
    const uint64_t hash = ld_genweights_hash(key->name);
    for (size_t i = 0; i < count; i++)
        out[i] = ld_genweights_f16(offset + scale * ld_genweights_uniform(hash, first + i));
}
