/*
 * Pictures that hints are made of in tests: no file, the same on every machine.
 */
#ifndef LD_TESTS_UNIT_HINT_FIXTURE_H
#define LD_TESTS_UNIT_HINT_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

static inline uint32_t hint_random(uint32_t *state)
{
    return *state = *state * 1664525U + 1013904223U;
}

/* Ramps that wrap, a chequered board on them and a little noise: edges of every direction. */
static inline void hint_paint(uint8_t *rgb, int32_t height, int32_t width)
{
    uint32_t state = 7;
    for (int32_t y = 0; y < height; y++)
        for (int32_t x = 0; x < width; x++)
            for (int32_t c = 0; c < 3; c++) {
                const uint32_t noise = hint_random(&state) >> 27;
                const uint32_t ramp = (uint32_t)(x * (3 + c) + y * y / (5 + c)) & 127U;
                const uint32_t board = ((x / 9 + y / 7) & 1) ? 64 : 0;
                *rgb++ = (uint8_t)(ramp + board + noise);
            }
}

/* Bytes of no pattern, in steps of `step` levels: large ones make many ties. */
static inline void hint_scatter(uint8_t *rgb, size_t count, uint32_t step, uint32_t *state)
{
    for (size_t i = 0; i < count; i++)
        rgb[i] = (uint8_t)((hint_random(state) >> 24) / step * step);
}

#endif
