#include "runtime/text/pair_heap.h"

#include <stdbool.h>

static bool is_before(const struct ld_pair *a, const struct ld_pair *b)
{
    return a->order < b->order || (!(a->order > b->order) && a->left < b->left);
}

void ld_pair_push(struct ld_pair_heap *heap, struct ld_pair pair)
{
    size_t i = heap->count++;
    while (i > 0 && is_before(&pair, &heap->pairs[(i - 1) / 2])) {
        heap->pairs[i] = heap->pairs[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap->pairs[i] = pair;
}

struct ld_pair ld_pair_pop(struct ld_pair_heap *heap)
{
    const struct ld_pair top = heap->pairs[0];
    const struct ld_pair last = heap->pairs[--heap->count];
    size_t i = 0;
    for (size_t child = 1; child < heap->count; child = 2 * i + 1) {
        if (child + 1 < heap->count && is_before(&heap->pairs[child + 1], &heap->pairs[child]))
            child++;
        if (!is_before(&heap->pairs[child], &last))
            break;
        heap->pairs[i] = heap->pairs[child];
        i = child;
    }
    heap->pairs[i] = last;
    return top;
}
