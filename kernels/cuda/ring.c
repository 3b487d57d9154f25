#include "kernels/cuda/ring.h"

#include <string.h>

static size_t round_up(size_t bytes)
{
    return (bytes + LDK_RING_ALIGN - 1) & ~(size_t)(LDK_RING_ALIGN - 1);
}

size_t ldk_ring_bytes(size_t largest)
{
    return 2 * round_up(largest);
}

void ldk_ring_init(struct ldk_ring *ring, size_t bytes)
{
    memset(ring, 0, sizeof *ring);
    ring->bytes = bytes;
}

static uint32_t slot_of(const struct ldk_ring *ring, uint32_t index)
{
    return (ring->first + index) % LDK_RING_PIECES;
}

bool ldk_ring_find(const struct ldk_ring *ring, uint64_t key, int32_t *slot)
{
    for (uint32_t i = 0; i < ring->count; i++) {
        *slot = (int32_t)slot_of(ring, i);
        if (ring->pieces[*slot].key == key)
            return true;
    }
    return false;
}

static bool overlaps(const struct ldk_ring_piece *piece, size_t at, size_t bytes)
{
    return piece->at < at + bytes && at < piece->at + piece->bytes;
}

/* How many of the oldest pieces have to go: up to the last that lies there, so that what stays is
 * still in order, and one at least where all slots are taken. */
static uint32_t in_the_way(const struct ldk_ring *ring, size_t at, size_t bytes)
{
    uint32_t victims = ring->count == LDK_RING_PIECES ? 1 : 0;
    for (uint32_t i = victims; i < ring->count; i++)
        if (overlaps(&ring->pieces[slot_of(ring, i)], at, bytes))
            victims = i + 1;
    return victims;
}

bool ldk_ring_place(struct ldk_ring *ring, uint64_t key, size_t bytes, int32_t *slot,
                    int32_t *after)
{
    const size_t wanted = round_up(bytes);
    if (wanted > ring->bytes)
        return false;
    const size_t at = ring->head + wanted <= ring->bytes ? ring->head : 0;
    const uint32_t victims = in_the_way(ring, at, wanted);
    uint64_t latest = 0;
    *after = LDK_RING_NONE;
    for (uint32_t i = 0; i < victims; i++) {
        const struct ldk_ring_piece *piece = &ring->pieces[slot_of(ring, i)];
        if (piece->held)
            return false;
        if (piece->read > latest) {
            latest = piece->read;
            *after = (int32_t)slot_of(ring, i);
        }
    }
    ring->first = slot_of(ring, victims);
    ring->count -= victims;
    *slot = (int32_t)slot_of(ring, ring->count++);
    ring->pieces[*slot] =
        (struct ldk_ring_piece){.key = key, .at = at, .bytes = wanted, .held = true};
    ring->head = at + wanted;
    return true;
}

void ldk_ring_read(struct ldk_ring *ring, int32_t slot)
{
    ring->pieces[slot].read = ++ring->turn;
    ring->pieces[slot].held = false;
}
