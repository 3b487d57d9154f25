/*
 * Inside of the vocabulary, shared by the loader (bpe.c) and the encoder (bpe_encode.c) only.
 */
#ifndef LD_TEXT_BPE_TABLE_H
#define LD_TEXT_BPE_TABLE_H

#include "runtime/text/bpe.h"

/* One merge in an open-addressing table; `pair` 0 is an empty slot. */
struct ld_bpe_slot {
    uint64_t pair; /* (left id << 32 | right id) + 1 */
    uint32_t id;   /* of the merged token; smaller = merged earlier */
};

struct ld_bpe {
    struct ld_bpe_slot *slots;
    uint32_t slot_mask; /* slot count - 1, a power of two minus one */
    uint32_t merge_count;
    uint8_t byte_ids[256]; /* byte -> id 0..255 */
};

static inline uint32_t ld_bpe_hash(uint64_t value)
{
    value *= UINT64_C(0x9E3779B97F4A7C15); /* 2^64 / golden ratio: spreads neighbours */
    return (uint32_t)(value >> 32);
}

/* Id of the merge of two tokens, 0 when they do not merge (no merge has id 0). */
static inline uint32_t ld_bpe_merged(const struct ld_bpe *bpe, uint32_t left, uint32_t right)
{
    const uint64_t pair = ((uint64_t)left << 32 | right) + 1;
    for (uint32_t i = ld_bpe_hash(pair) & bpe->slot_mask;; i = (i + 1) & bpe->slot_mask) {
        if (bpe->slots[i].pair == pair)
            return bpe->slots[i].id;
        if (bpe->slots[i].pair == 0)
            return 0;
    }
}

#endif
