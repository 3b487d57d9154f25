#include "runtime/image/hint_lines.h"

#include "runtime/base/arena.h"
#include "runtime/image/gaussian.h"

#include <math.h>
#include <string.h>

/* Pixels; sd-webui-controlnet's. */
static const double sigma_fine = 0.5, sigma_coarse = 5.0, sigma_around = 6.0;

static float least_of(float a, float b, float c)
{
    const float least = a < b ? a : b;
    return least < c ? least : c;
}

static float in_levels(float value)
{
    return value < 0 ? 0 : value > 255 ? 255 : value;
}

/* ---- Scribble -------------------------------------------------------------------------------- */

enum ld_code ld_hint_scribble(float *planes, const uint8_t *rgb, int32_t height, int32_t width,
                              double threshold, struct ld_error *err)
{
    const size_t count = (size_t)height * (size_t)width;
    const size_t bytes = 3 * count * sizeof(float);
    float *fine = ld_block_alloc(bytes);
    if (!fine)
        return LD_FAIL(err, LD_E_NOMEM, "no memory to find the lines of the image");
    enum ld_code code = ld_gaussian_blur(planes, rgb, height, width, sigma_coarse, err);
    if (code == LD_OK)
        code = ld_gaussian_blur(fine, rgb, height, width, sigma_fine, err);
    for (size_t i = 0; i < count && code == LD_OK; i++) {
        const float darker = least_of(planes[i] - fine[i], planes[count + i] - fine[count + i],
                                      planes[2 * count + i] - fine[2 * count + i]);
        const int32_t level = 255 - (int32_t)in_levels(255.0F - darker);
        planes[i] = 2 * level > threshold ? 1.0F : 0.0F;
    }
    ld_block_free(fine, bytes);
    return code;
}

/* ---- Median ---------------------------------------------------------------------------------- */

/* Floats of one sign are in the order of their bits. */
static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/*
 * The value with `rank` lesser or equal ones before it in order, of those above `least`: found
 * eight bits at a time from the top, by counting, with no copy of the values.
 */
static float ranked(const float *values, size_t count, float least, size_t rank)
{
    uint32_t found = 0;
    uint32_t known = 0; /* which bits of `found` are settled */
    for (uint32_t shift = 32; shift > 0;) {
        size_t seen[256] = {0};
        shift -= 8;
        for (size_t i = 0; i < count; i++) {
            const uint32_t bits = bits_of(values[i]);
            if (values[i] > least && (bits & known) == found)
                seen[(bits >> shift) & 0xFF]++;
        }
        uint32_t digit = 0;
        while (digit < 255 && rank >= seen[digit])
            rank -= seen[digit++];
        found |= digit << shift;
        known |= 0xFFU << shift;
    }
    float value;
    memcpy(&value, &found, sizeof value);
    return value;
}

float ld_median_above(const float *values, size_t count, float least)
{
    size_t above = 0;
    for (size_t i = 0; i < count; i++)
        above += values[i] > least;
    if (above == 0)
        return 0;
    const float low = ranked(values, count, least, (above - 1) / 2);
    return above % 2 ? low : (low + ranked(values, count, least, above / 2)) / 2;
}

/* ---- Lines of a drawing ---------------------------------------------------------------------- */

enum ld_code ld_hint_lineart(float *planes, const uint8_t *rgb, int32_t height, int32_t width,
                             struct ld_error *err)
{
    const size_t count = (size_t)height * (size_t)width;
    const enum ld_code code = ld_gaussian_blur(planes, rgb, height, width, sigma_around, err);
    if (code != LD_OK)
        return code;
    for (size_t i = 0; i < count; i++)
        planes[i] = in_levels(least_of(planes[i] - (float)rgb[3 * i],
                                       planes[count + i] - (float)rgb[3 * i + 1],
                                       planes[2 * count + i] - (float)rgb[3 * i + 2]));
    /* Lines of the median's darkness come out half bright; noise below 16 levels stays dim. */
    const float usual = fmaxf(16.0F, ld_median_above(planes, count, 8.0F));
    for (size_t i = 0; i < count; i++)
        planes[i] = truncf(in_levels(planes[i] / usual * 127.0F)) / 255.0F;
    return LD_OK;
}
