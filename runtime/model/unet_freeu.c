#include "runtime/model/unet_freeu.h"

#include <math.h>

static const double TWO_PI = 6.283185307179586;

/* ---- Backbone -------------------------------------------------------------------------------- */

/* The mean over channels at one position, summed in channel order in double. */
static double channel_mean(const float *planes, int32_t channels, size_t positions, size_t at)
{
    double sum = 0;
    for (int32_t c = 0; c < channels; c++)
        sum += (double)planes[(size_t)c * positions + at];
    return sum / channels;
}

static void amplify_v2(const struct ld_freeu *freeu, float *planes, int32_t channels,
                       size_t positions)
{
    double least = (double)INFINITY;
    double most = -(double)INFINITY;
    for (size_t i = 0; i < positions; i++) {
        const double mean = channel_mean(planes, channels, positions, i);
        least = mean < least ? mean : least;
        most = mean > most ? mean : most;
    }
    for (size_t i = 0; i < positions; i++) {
        /* The mean is taken before the channels of this position change. */
        const double mean = channel_mean(planes, channels, positions, i);
        const double q = most > least ? (mean - least) / (most - least) : 0;
        const double factor = ((double)freeu->backbone - 1) * q + 1;
        for (int32_t c = 0; c < channels / 2; c++) {
            float *value = &planes[(size_t)c * positions + i];
            *value = (float)((double)*value * factor);
        }
    }
}

void ld_unet_freeu_backbone(const void *ctx, float *planes, int32_t batch, int32_t channels,
                            int32_t height, int32_t width)
{
    const struct ld_freeu *freeu = ctx;
    const size_t positions = (size_t)height * (size_t)width;
    for (int32_t b = 0; b < batch; b++) {
        float *image = planes + (size_t)b * (size_t)channels * positions;
        if (freeu->version == LD_FREEU_V2) {
            amplify_v2(freeu, image, channels, positions);
            continue;
        }
        for (size_t i = 0; i < (size_t)(channels / 2) * positions; i++)
            image[i] *= freeu->backbone;
    }
}

/* ---- Skip -------------------------------------------------------------------------------------
 */

struct complex_pair {
    double re, im;
};

static struct complex_pair multiply(struct complex_pair a, struct complex_pair b)
{
    return (struct complex_pair){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

static void add_product(struct complex_pair *sum, struct complex_pair a, struct complex_pair b)
{
    const struct complex_pair product = multiply(a, b);
    sum->re += product.re;
    sum->im += product.im;
}

/* The four bins of the plane's transform: bins[u][v] at frequencies -u and -v. Phases advance by a
 * rotation a step; in double that is exact to 1e-13 over any latent side. */
static void transform(const float *plane, int32_t height, int32_t width, struct complex_pair down,
                      struct complex_pair across, struct complex_pair bins[2][2])
{
    const struct complex_pair one = {1, 0};
    struct complex_pair row = one;
    for (int32_t y = 0; y < height; y++, row = multiply(row, down)) {
        struct complex_pair sums[2] = {{0, 0}, {0, 0}};
        struct complex_pair phase = one;
        for (int32_t x = 0; x < width; x++, phase = multiply(phase, across)) {
            const double value = (double)plane[(size_t)y * (size_t)width + (size_t)x];
            sums[0].re += value;
            sums[1].re += value * phase.re;
            sums[1].im += value * phase.im;
        }
        for (int v = 0; v < 2; v++) {
            add_product(&bins[0][v], sums[v], one);
            add_product(&bins[1][v], sums[v], row);
        }
    }
}

/* Add `factor` times the inverse transform of the four bins. A side of one has no frequency -1. */
static void add_inverse(float *plane, int32_t height, int32_t width, struct complex_pair down,
                        struct complex_pair across, struct complex_pair bins[2][2], double factor)
{
    struct complex_pair row = {1, 0};
    down.im = -down.im;
    across.im = -across.im;
    for (int32_t y = 0; y < height; y++, row = multiply(row, down)) {
        struct complex_pair line[2] = {bins[0][0], bins[0][1]};
        for (int v = 0; v < 2; v++)
            if (height > 1)
                add_product(&line[v], bins[1][v], row);
        struct complex_pair phase = {1, 0};
        for (int32_t x = 0; x < width; x++, phase = multiply(phase, across)) {
            double value = line[0].re;
            if (width > 1)
                value += line[1].re * phase.re - line[1].im * phase.im;
            float *target = &plane[(size_t)y * (size_t)width + (size_t)x];
            *target = (float)((double)*target + factor * value);
        }
    }
}

void ld_unet_freeu_skip(const void *ctx, float *planes, int32_t batch, int32_t channels,
                        int32_t height, int32_t width)
{
    const struct ld_freeu *freeu = ctx;
    const size_t positions = (size_t)height * (size_t)width;
    const struct complex_pair down = {cos(TWO_PI / height), sin(TWO_PI / height)};
    const struct complex_pair across = {cos(TWO_PI / width), sin(TWO_PI / width)};
    const double factor = ((double)freeu->skip - 1) / (double)positions;
    for (size_t plane = 0; plane < (size_t)batch * (size_t)channels; plane++) {
        struct complex_pair bins[2][2] = {{{0, 0}, {0, 0}}, {{0, 0}, {0, 0}}};
        transform(planes + plane * positions, height, width, down, across, bins);
        add_inverse(planes + plane * positions, height, width, down, across, bins, factor);
    }
}
