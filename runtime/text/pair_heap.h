/*
 * Neighbours that a tokenizer may join, in the order in which it joins them: the smallest `order`
 * first, of equal ones the leftmost.
 *
 *     ld_pair_push(&heap, (struct ld_pair){.order = rank, .left = index});
 *     while (heap.count > 0)
 *         join(ld_pair_pop(&heap));   // if they are still neighbours
 */
#ifndef LD_TEXT_PAIR_HEAP_H
#define LD_TEXT_PAIR_HEAP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ld_pair {
    double order;    /* a number, not NaN */
    int32_t left;    /* which symbol; the other is the next one */
    uint32_t was[2]; /* the tokenizer's own: what tells later that they are the same two */
};

/* `pairs` is the owner's, with room for whatever it pushes: 3 a symbol, one at the start and two
 * for each joining. */
struct ld_pair_heap {
    struct ld_pair *pairs;
    size_t count;
};

void ld_pair_push(struct ld_pair_heap *heap, struct ld_pair pair);
/* The first; there must be one. */
struct ld_pair ld_pair_pop(struct ld_pair_heap *heap);

#ifdef __cplusplus
}
#endif
#endif
