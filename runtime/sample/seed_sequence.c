#include "runtime/sample/seed_sequence.h"

#include "runtime/base/error.h"

enum { POOL = LD_SEED_SEQUENCE_POOL, WORDS_MAX = POOL + 4 };

/* The little-endian 32-bit words of a number; zero is one word. */
static size_t put_words(uint64_t value, uint32_t *out)
{
    out[0] = (uint32_t)value;
    if (value >> 32 == 0)
        return 1;
    out[1] = (uint32_t)(value >> 32);
    return 2;
}

/* The multiplier changes with every call, and is applied after its change. */
static uint32_t hash(uint32_t value, uint32_t *multiplier)
{
    value ^= *multiplier;
    *multiplier *= 0x931E8875u;
    value *= *multiplier;
    return value ^ (value >> 16);
}

static uint32_t mix(uint32_t x, uint32_t y)
{
    const uint32_t r = 0xCA01F9DDu * x - 0x4973F715u * y;
    return r ^ (r >> 16);
}

void ld_seed_sequence(uint64_t entropy, bool has_key, uint64_t key, uint64_t depth, uint32_t *out,
                      size_t count)
{
    LD_ASSERT(count <= POOL);
    uint32_t words[WORDS_MAX] = {0};
    size_t size = put_words(entropy, words);
    if (has_key) {
        size = POOL; /* padded, so that (seed) and (seed, key) can never collide */
        size += put_words(key, words + size);
        size += put_words(depth, words + size);
    }

    uint32_t pool[POOL];
    uint32_t multiplier = 0x43B0D7E5u;
    for (size_t i = 0; i < POOL; i++)
        pool[i] = hash(words[i], &multiplier);
    for (size_t s = 0; s < POOL; s++)
        for (size_t d = 0; d < POOL; d++)
            if (d != s)
                pool[d] = mix(pool[d], hash(pool[s], &multiplier));
    for (size_t s = POOL; s < size; s++)
        for (size_t d = 0; d < POOL; d++)
            pool[d] = mix(pool[d], hash(words[s], &multiplier));

    uint32_t finish = 0x8B51F9DDu;
    for (size_t i = 0; i < count; i++) {
        uint32_t value = pool[i] ^ finish;
        finish *= 0x58F38DEDu;
        value *= finish;
        out[i] = value ^ (value >> 16);
    }
}
