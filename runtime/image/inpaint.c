#include "runtime/image/inpaint.h"

#include <math.h>
#include <string.h>

/* ---- Rectangles ------------------------------------------------------------------------------ */

void ld_rect_cut(const uint8_t *rgb, int32_t width, struct ld_rect part, uint8_t *out)
{
    const size_t row = 3 * (size_t)part.width;
    for (int32_t y = 0; y < part.height; y++)
        memcpy(out + (size_t)y * row,
               rgb + 3 * ((size_t)(part.y + y) * (size_t)width + (size_t)part.x), row);
}

bool ld_mask_bounds(const float *mask, int32_t height, int32_t width, struct ld_rect *bounds)
{
    int32_t left = width;
    int32_t right = -1;
    int32_t top = height;
    int32_t bottom = -1;
    for (int32_t y = 0; y < height; y++) {
        for (int32_t x = 0; x < width; x++) {
            if (mask[(size_t)y * (size_t)width + (size_t)x] < 0.5F)
                continue;
            left = x < left ? x : left;
            right = x > right ? x : right;
            top = y < top ? y : top;
            bottom = y;
        }
    }
    *bounds = (struct ld_rect){left, top, right - left + 1, bottom - top + 1};
    return right >= 0;
}

/* A span of at least `wanted` that holds [begin, begin + size), inside [0, most). */
static void stretch(int32_t *begin, int32_t *size, int32_t wanted, int32_t most)
{
    wanted = wanted < *size ? *size : wanted;
    wanted = wanted > most ? most : wanted;
    int32_t at = *begin - (wanted - *size) / 2;
    at = at < 0 ? 0 : at;
    at = at > most - wanted ? most - wanted : at;
    *begin = at;
    *size = wanted;
}

struct ld_rect ld_rect_around(struct ld_rect inner, int32_t padding, int32_t aspect_width,
                              int32_t aspect_height, int32_t height, int32_t width)
{
    struct ld_rect rect = inner;
    const int32_t right = inner.x + inner.width + padding;
    const int32_t bottom = inner.y + inner.height + padding;
    rect.x = inner.x > padding ? inner.x - padding : 0;
    rect.y = inner.y > padding ? inner.y - padding : 0;
    rect.width = (right < width ? right : width) - rect.x;
    rect.height = (bottom < height ? bottom : height) - rect.y;
    const double aspect = (double)aspect_width / (double)aspect_height;
    stretch(&rect.x, &rect.width, (int32_t)rint((double)rect.height * aspect), width);
    stretch(&rect.y, &rect.height, (int32_t)rint((double)rect.width / aspect), height);
    return rect;
}

/* ---- Laying ---------------------------------------------------------------------------------- */

static int32_t clamped(int32_t value, int32_t most)
{
    return value < 0 ? 0 : value > most ? most : value;
}

void ld_pixels_lay(uint8_t *out, int32_t height, int32_t width, const uint8_t *picture,
                   struct ld_rect at, int32_t channels)
{
    const size_t pixel = (size_t)channels;
    for (int32_t y = 0; y < height; y++) {
        const uint8_t *row =
            picture + (size_t)clamped(y - at.y, at.height - 1) * (size_t)at.width * pixel;
        for (int32_t x = 0; x < width; x++)
            memcpy(out + ((size_t)y * (size_t)width + (size_t)x) * pixel,
                   row + (size_t)clamped(x - at.x, at.width - 1) * pixel, pixel);
    }
}

/* ---- Colours --------------------------------------------------------------------------------- */

/* Luma, blue and red difference; the differences unscaled, which a match of spreads undoes. */
static void to_opponent(const uint8_t *rgb, double out[3])
{
    const double r = (double)rgb[0];
    const double g = (double)rgb[1];
    const double b = (double)rgb[2];
    out[0] = 0.299 * r + 0.587 * g + 0.114 * b;
    out[1] = b - out[0];
    out[2] = r - out[0];
}

static uint8_t to_byte(double value)
{
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value + 0.5);
}

static void measure(const uint8_t *rgb, size_t count, double mean[3], double spread[3])
{
    double sum[3] = {0};
    double squares[3] = {0};
    for (size_t i = 0; i < count; i++) {
        double v[3];
        to_opponent(rgb + 3 * i, v);
        for (int c = 0; c < 3; c++) {
            sum[c] += v[c];
            squares[c] += v[c] * v[c];
        }
    }
    for (int c = 0; c < 3; c++) {
        mean[c] = sum[c] / (double)count;
        spread[c] = sqrt(fmax(0, squares[c] / (double)count - mean[c] * mean[c]));
    }
}

void ld_pixels_match_colors(uint8_t *rgb, size_t count, const uint8_t *reference,
                            size_t reference_count)
{
    double mean[3];
    double spread[3];
    double wanted_mean[3];
    double wanted_spread[3];
    measure(rgb, count, mean, spread);
    measure(reference, reference_count, wanted_mean, wanted_spread);
    double gain[3];
    for (int c = 0; c < 3; c++)
        gain[c] = spread[c] > 0.5 ? wanted_spread[c] / spread[c] : 1.0;
    for (size_t i = 0; i < count; i++) {
        double v[3];
        to_opponent(rgb + 3 * i, v);
        for (int c = 0; c < 3; c++)
            v[c] = (v[c] - mean[c]) * gain[c] + wanted_mean[c];
        const double r = v[2] + v[0];
        const double b = v[1] + v[0];
        rgb[3 * i] = to_byte(r);
        rgb[3 * i + 1] = to_byte((v[0] - 0.299 * r - 0.114 * b) / 0.587);
        rgb[3 * i + 2] = to_byte(b);
    }
}
