/*
 * A ring of bytes in which pieces of different sizes follow each other: where the next one goes,
 * and which older ones it takes the place of. Numbers only; the backend's stream of weights
 * (backend_stream.c) has the memory and the events.
 *
 *     ldk_ring_init(&ring, bytes);
 *     if (!ldk_ring_find(&ring, key, &slot) && ldk_ring_place(&ring, key, bytes, &slot, &after))
 * ... ring.pieces[slot].at ...                    // once the reader `after` has done
 *     ldk_ring_read(&ring, slot);                 // a reader of the piece has been called for
 *
 * Pieces lie in the order of their coming. One that does not fit before the end lies at the start;
 * the rest up to the end stays unused until the next round.
 */
#ifndef LDK_RING_H
#define LDK_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A UNet's 64 smallest matrices in a row take 40 MiB: fewer would keep the copies from running
 * ahead. */
enum { LDK_RING_PIECES = 64, LDK_RING_ALIGN = 256, LDK_RING_NONE = -1 };

struct ldk_ring_piece {
    uint64_t key;
    size_t at, bytes;
    uint64_t read; /* the turn of its latest reader; 0: not read so far */
    bool held;     /* its reader is being called for: nothing may take its place */
};

/* pieces[first], pieces[first + 1] ... (around the array's end) are `count` pieces, oldest first.
 * Owned by one thread. */
struct ldk_ring {
    size_t bytes, head;
    struct ldk_ring_piece pieces[LDK_RING_PIECES];
    uint32_t first, count;
    uint64_t turn;
};

/* Empty, of `bytes`. */
void ldk_ring_init(struct ldk_ring *ring, size_t bytes);

/* Whether the piece `key` is there still, and in which slot. */
bool ldk_ring_find(const struct ldk_ring *ring, uint64_t key, int32_t *slot);

/*
 * A place for the piece `key`, held from now on. What lay there is forgotten; *after: the slot that
 * was read last of all that was, whose reader has to have ended before the place is written, or
 * LDK_RING_NONE.
 * False: it is larger than the ring, or would lie on a piece that is held; nothing has changed.
 */
bool ldk_ring_place(struct ldk_ring *ring, uint64_t key, size_t bytes, int32_t *slot,
                    int32_t *after);

/* Its reader has been called for: later than all others, and the piece is held no more. */
void ldk_ring_read(struct ldk_ring *ring, int32_t slot);

/* Bytes of a ring in which pieces of up to `largest` bytes can follow each other, one being written
 * while another is read. */
size_t ldk_ring_bytes(size_t largest);

#endif
