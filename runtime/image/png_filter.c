#include "runtime/image/png_filter.h"

#include <string.h>

/* Differences are small either way round, so bytes count as signed. */
static uint32_t cost_of(const uint8_t *bytes, size_t size)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < size; i++) {
        const int32_t value = (int8_t)bytes[i];
        sum += (uint32_t)(value < 0 ? -value : value);
    }
    return sum;
}

static uint8_t paeth(uint8_t left, uint8_t up, uint8_t corner)
{
    const int16_t to_left = (int16_t)(up - corner);
    const int16_t to_up = (int16_t)(left - corner);
    const int16_t to_corner = (int16_t)(to_left + to_up);
    const int16_t a = to_left < 0 ? (int16_t)-to_left : to_left;
    const int16_t b = to_up < 0 ? (int16_t)-to_up : to_up;
    const int16_t c = to_corner < 0 ? (int16_t)-to_corner : to_corner;
    const uint8_t up_or_corner = b <= c ? up : corner;
    return a <= b && a <= c ? left : up_or_corner;
}

static void filter_sub(uint8_t *restrict out, const uint8_t *row, size_t size, size_t step)
{
    for (size_t i = 0; i < step; i++)
        out[i] = row[i];
    for (size_t i = step; i < size; i++)
        out[i] = (uint8_t)(row[i] - row[i - step]);
}

static void filter_up(uint8_t *restrict out, const uint8_t *row, const uint8_t *above, size_t size)
{
    for (size_t i = 0; i < size; i++)
        out[i] = (uint8_t)(row[i] - above[i]);
}

static void filter_average(uint8_t *restrict out, const uint8_t *row, const uint8_t *above,
                           size_t size, size_t step)
{
    for (size_t i = 0; i < step; i++)
        out[i] = (uint8_t)(row[i] - above[i] / 2);
    for (size_t i = step; i < size; i++)
        out[i] = (uint8_t)(row[i] - (row[i - step] + above[i]) / 2);
}

static void filter_paeth(uint8_t *restrict out, const uint8_t *row, const uint8_t *above,
                         size_t size, size_t step)
{
    for (size_t i = 0; i < step; i++)
        out[i] = (uint8_t)(row[i] - above[i]);
    for (size_t i = step; i < size; i++)
        out[i] = (uint8_t)(row[i] - paeth(row[i - step], above[i], above[i - step]));
}

void ld_png_filter_row(uint8_t *out, const uint8_t *row, const uint8_t *above, size_t size,
                       size_t step, uint8_t *scratch)
{
    uint8_t *candidate[LD_PNG_FILTERS];
    for (size_t f = 0; f < LD_PNG_FILTERS; f++)
        candidate[f] = scratch + f * size;
    memcpy(candidate[0], row, size);
    filter_sub(candidate[1], row, size, step);
    filter_up(candidate[2], row, above, size);
    filter_average(candidate[3], row, above, size, step);
    filter_paeth(candidate[4], row, above, size, step);

    size_t best = 0;
    uint32_t best_cost = UINT32_MAX;
    for (size_t f = 0; f < LD_PNG_FILTERS; f++) {
        const uint32_t cost = cost_of(candidate[f], size);
        if (cost < best_cost) {
            best = f;
            best_cost = cost;
        }
    }
    out[0] = (uint8_t)best;
    memcpy(out + 1, candidate[best], size);
}
