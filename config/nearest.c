#include "config/nearest.h"

static uint8_t folded(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint8_t)(c - 'A' + 'a');
    return c == '-' || c == ' ' ? (uint8_t)'_' : c;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Three rows of the classic table at a time; a swap of neighbours is one edit, as slips go. */
uint32_t ld_edit_distance(struct ld_span a, struct ld_span b)
{
    uint32_t rows[3][LD_NEAREST_BYTES_MAX + 1];
    uint32_t *older = rows[0];
    uint32_t *above = rows[1];
    uint32_t *row = rows[2];
    if (a.size > LD_NEAREST_BYTES_MAX || b.size > LD_NEAREST_BYTES_MAX)
        return UINT32_MAX;
    for (uint32_t j = 0; j <= b.size; j++) {
        older[j] = 0;
        above[j] = j;
    }
    for (uint32_t i = 1; i <= a.size; i++) {
        row[0] = i;
        for (uint32_t j = 1; j <= b.size; j++) {
            const uint8_t x = folded(a.data[i - 1]);
            const uint8_t y = folded(b.data[j - 1]);
            row[j] =
                smaller(smaller(above[j] + 1, row[j - 1] + 1), above[j - 1] + (x == y ? 0 : 1));
            if (i > 1 && j > 1 && x == folded(b.data[j - 2]) && folded(a.data[i - 2]) == y)
                row[j] = smaller(row[j], older[j - 2] + 1);
        }
        uint32_t *const spare = older;
        older = above;
        above = row;
        row = spare;
    }
    return above[b.size];
}

struct ld_nearest ld_nearest_to(struct ld_span wanted)
{
    struct ld_nearest nearest = {.wanted = wanted, .distance = UINT32_MAX};
    return nearest;
}

void ld_nearest_offer(struct ld_nearest *nearest, const char *known)
{
    const struct ld_span candidate = ld_span_text(known);
    const uint32_t distance = ld_edit_distance(nearest->wanted, candidate);
    const uint32_t allowed = candidate.size >= 9 ? 3 : (uint32_t)candidate.size / 3;
    if (distance <= allowed && distance < nearest->distance) {
        nearest->best = known;
        nearest->distance = distance;
    }
}

const char *ld_nearest_hint(struct ld_nearest *nearest)
{
    if (!nearest->best ||
        !ld_fmt(nearest->hint, sizeof nearest->hint, "; did you mean %s?", nearest->best))
        nearest->hint[0] = '\0';
    return nearest->hint;
}
