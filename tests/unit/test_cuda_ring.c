/* Proves how pieces follow each other in the ring of streamed weights: places, order, wrap, what
 * has to have been read before a place is written again. How: by hand where the answer is known,
 * and by chance beside a map of bytes that remembers who wrote and who read each of them. */
#include "kernels/cuda/ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { UNIT = LDK_RING_ALIGN };

static struct ldk_ring ring;
static int32_t slot, after;

static bool place(uint64_t key, size_t units)
{
    return ldk_ring_place(&ring, key, units * UNIT, &slot, &after);
}

static bool place_and_read(uint64_t key, size_t units)
{
    const bool placed = place(key, units);
    if (placed)
        ldk_ring_read(&ring, slot);
    return placed;
}

static size_t at(void)
{
    return ring.pieces[slot].at / UNIT;
}

static void pieces_follow_each_other_and_wrap(void **state)
{
    (void)state;
    ldk_ring_init(&ring, (size_t)10 * UNIT);
    assert_true(place_and_read(1, 4) && at() == 0 && after == LDK_RING_NONE);
    assert_true(place_and_read(2, 4) && at() == 4 && after == LDK_RING_NONE);
    const int32_t second = slot;
    assert_true(ldk_ring_find(&ring, 1, &slot));
    /* 3 do not fit behind: at the start, over the first, which has been read. */
    assert_true(place_and_read(3, 3) && at() == 0 && after != LDK_RING_NONE);
    assert_false(ldk_ring_find(&ring, 1, &slot));
    assert_true(ldk_ring_find(&ring, 2, &slot));
    assert_int_equal(slot, second);
    assert_true(place_and_read(4, 2) && at() == 3 && after == second);
    assert_false(ldk_ring_find(&ring, 2, &slot));
}

static void a_place_waits_for_the_latest_reader_of_all_that_lay_there(void **state)
{
    (void)state;
    int32_t first;
    ldk_ring_init(&ring, (size_t)8 * UNIT);
    assert_true(place_and_read(1, 4));
    first = slot;
    assert_true(place_and_read(2, 4));
    assert_true(ldk_ring_find(&ring, 1, &slot)); /* read once more, after the second */
    ldk_ring_read(&ring, slot);
    assert_true(place(3, 8) && at() == 0 && after == first);
    assert_int_equal(ring.count, 1);
}

static void what_nobody_has_read_is_not_waited_for(void **state)
{
    (void)state;
    ldk_ring_init(&ring, (size_t)4 * UNIT);
    assert_true(place(1, 4));
    ring.pieces[slot].held = false; /* its operator was never called for */
    assert_true(place(2, 4) && after == LDK_RING_NONE);
}

static void what_is_held_stays(void **state)
{
    (void)state;
    ldk_ring_init(&ring, (size_t)8 * UNIT);
    assert_true(place(1, 6));
    assert_true(place(2, 2) && at() == 6); /* two at once */
    assert_false(place(3, 4));
    assert_true(ldk_ring_find(&ring, 1, &slot));
    ldk_ring_read(&ring, slot);
    assert_true(place(3, 4) && at() == 0);
}

static void what_is_larger_than_the_ring_has_no_place(void **state)
{
    (void)state;
    ldk_ring_init(&ring, (size_t)8 * UNIT);
    assert_true(place_and_read(1, 2));
    assert_false(place(2, 9));
    assert_true(ldk_ring_find(&ring, 1, &slot));
    assert_int_equal(ldk_ring_bytes((size_t)9 * UNIT - 5), (size_t)18 * UNIT);
    ldk_ring_init(&ring, ldk_ring_bytes((size_t)9 * UNIT - 5));
    assert_true(place_and_read(2, 9) && at() == 0);
    assert_true(place(3, 9) && at() == 9 && after == LDK_RING_NONE); /* beside the one being read */
}

static void there_are_no_more_pieces_than_slots(void **state)
{
    (void)state;
    ldk_ring_init(&ring, (size_t)1000 * UNIT);
    for (uint64_t key = 1; key <= LDK_RING_PIECES; key++)
        assert_true(place_and_read(key, 1) && after == LDK_RING_NONE);
    assert_true(place_and_read(100, 1) && after != LDK_RING_NONE);
    assert_false(ldk_ring_find(&ring, 1, &slot));
    assert_true(ldk_ring_find(&ring, 2, &slot));
    assert_int_equal(ring.count, LDK_RING_PIECES);
}

/* Of every unit: who lies there, and when that was read last. */
enum { UNITS = 97, ROUNDS = 20000, KEYS = 40, HELD = 12 };

static uint32_t drawn(uint32_t *state, uint32_t below)
{
    *state = *state * 1664525U + 1013904223U;
    return (*state >> 8) % below;
}

static void no_piece_is_written_over_before_it_was_read(void **state)
{
    (void)state;
    static uint64_t owner[UNITS], read[UNITS];
    uint64_t turn[LDK_RING_PIECES] = {0};
    uint32_t chance = 11;
    uint32_t hits = 0;
    uint64_t waited =
        0; /* copies follow each other: what one has waited for, all later ones have */
    ldk_ring_init(&ring, (size_t)UNITS * UNIT);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        const uint64_t key = 1 + drawn(&chance, KEYS);
        const size_t units = 1 + (size_t)(key * 7 % HELD);
        if (ldk_ring_find(&ring, key, &slot)) {
            hits++;
        } else {
            assert_true(place(key, units));
            uint64_t latest = 0;
            for (size_t i = at(); i < at() + units; i++) {
                assert_true(i < UNITS);
                latest = read[i] > latest ? read[i] : latest;
                owner[i] = key;
            }
            /* Readers are called for one after the other: one that is later covers it. */
            if (after != LDK_RING_NONE && turn[after] > waited)
                waited = turn[after];
            assert_true(latest <= waited);
        }
        for (size_t i = at(); i < at() + units; i++) {
            assert_int_equal(owner[i], key); /* a piece that is found is whole */
            read[i] = round;
        }
        turn[slot] = round;
        ldk_ring_read(&ring, slot);
    }
    assert_true(hits > ROUNDS / 20 && hits < ROUNDS / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_follow_each_other_and_wrap),
        cmocka_unit_test(a_place_waits_for_the_latest_reader_of_all_that_lay_there),
        cmocka_unit_test(what_nobody_has_read_is_not_waited_for),
        cmocka_unit_test(what_is_held_stays),
        cmocka_unit_test(what_is_larger_than_the_ring_has_no_place),
        cmocka_unit_test(there_are_no_more_pieces_than_slots),
        cmocka_unit_test(no_piece_is_written_over_before_it_was_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
