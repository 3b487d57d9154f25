/*
 * Proves the index arithmetic of the matrix tiles against naive loops: the swizzle is a bijection
 * that keeps ldmatrix free of bank conflicts, every tile is visited once, the parts of K cover it
 * once, and the taps of an upsampled kernel fall where the phase form says.
 */
#include "kernels/idx.h"
#include "runtime/base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CHUNKS = 4, BANK_GROUPS = 8 }; /* a row of 64 bytes; 128 bytes of banks */

static void swizzle_is_a_bijection(void **state)
{
    (void)state;
    for (int32_t row = 0; row < 256; row++) {
        uint32_t seen = 0;
        for (int32_t chunk = 0; chunk < CHUNKS; chunk++)
            seen |= 1u << ld_idx_swizzle(row, chunk);
        assert_int_equal(seen, 0xF);
    }
}

static void eight_rows_meet_eight_bank_groups(void **state)
{
    (void)state;
    for (int32_t first = 0; first < 256; first += 8) {
        for (int32_t chunk = 0; chunk < CHUNKS; chunk++) {
            uint32_t seen = 0;
            for (int32_t row = first; row < first + 8; row++)
                seen |= 1u << (row * CHUNKS + ld_idx_swizzle(row, chunk)) % BANK_GROUPS;
            assert_int_equal(seen, 0xFF);
        }
    }
}

/* The main loop finds the second k16 step by flipping one bit of the place of the first. */
static void the_second_step_is_one_bit_away(void **state)
{
    (void)state;
    for (int32_t row = 0; row < 64; row++)
        for (int32_t chunk = 0; chunk < 2; chunk++)
            assert_int_equal(ld_idx_swizzle(row, chunk + 2), ld_idx_swizzle(row, chunk) ^ 2);
}

static void every_tile_is_visited_once(void **state)
{
    (void)state;
    for (int32_t m = 1; m < 40; m++) {
        for (int32_t n = 1; n < 12; n++) {
            uint8_t *seen = ld_heap_calloc((size_t)(m * n), 1);
            assert_non_null(seen);
            for (int32_t block = 0; block < m * n; block++) {
                struct ld_idx_tile at = ld_idx_tile_at(block, m, n, 8);
                assert_true(at.m >= 0 && at.m < m && at.n >= 0 && at.n < n);
                assert_int_equal(seen[at.m * n + at.n]++, 0);
                assert_true(at.m / 8 == block / (8 * n)); /* bands follow one another */
            }
            ld_heap_free(seen);
        }
    }
}

static void parts_cover_k_once_and_evenly(void **state)
{
    (void)state;
    for (int32_t slices = 1; slices < 100; slices++) {
        for (int32_t parts = 1; parts <= 8 && parts <= slices; parts++) {
            assert_int_equal(ld_idx_split(slices, parts, 0), 0);
            assert_int_equal(ld_idx_split(slices, parts, parts), slices);
            for (int32_t part = 0; part < parts; part++) {
                int32_t size =
                    ld_idx_split(slices, parts, part + 1) - ld_idx_split(slices, parts, part);
                assert_true(size == slices / parts || size == slices / parts + 1);
            }
        }
    }
}

static void phase_taps_fall_on_the_pixel_they_read(void **state)
{
    (void)state;
    for (int32_t i = 1; i < 6; i++) {
        for (int32_t parity = 0; parity < 2; parity++) {
            for (int32_t tap = 0; tap < 3; tap++) {
                int32_t upsampled = 2 * i + parity + tap - 1;
                int32_t by_phase = i - 1 + parity + ld_idx_phase_tap(parity, tap);
                assert_int_equal(upsampled / 2, by_phase);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(swizzle_is_a_bijection),
        cmocka_unit_test(eight_rows_meet_eight_bank_groups),
        cmocka_unit_test(the_second_step_is_one_bit_away),
        cmocka_unit_test(every_tile_is_visited_once),
        cmocka_unit_test(parts_cover_k_once_and_evenly),
        cmocka_unit_test(phase_taps_fall_on_the_pixel_they_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
