#include "runtime/sample/guidance_range.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double reference_scale = 8.0; /* the guidance whose range is measured */
static const double quarter = 0.25;        /* share of the height that is looked at, per row */

bool ld_range_mode_named(const char *name, enum ld_range_mode *mode)
{
    static const struct {
        const char *name;
        enum ld_range_mode mode;
    } names[] = {{"hard", LD_RANGE_HARD},
                 {"soft", LD_RANGE_SOFT},
                 {"hard_squared", LD_RANGE_HARD_SQUARED},
                 {"range", LD_RANGE_CENTRED}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i].name, name) == 0) {
            *mode = names[i].mode;
            return true;
        }
    }
    return false;
}

/* ---- The range of a channel ------------------------------------------------------------------ */

static int ascending(const void *a, const void *b)
{
    double x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

double ld_channel_range(const double *channel, int32_t height, int32_t width,
                        enum ld_range_mode mode, double *row)
{
    const size_t w = (size_t)width;
    const int32_t wanted = (int32_t)(quarter * (double)height);
    const size_t k = (size_t)(wanted < 1 ? 1 : wanted > width ? width : wanted);
    double mean = 0;
    if (mode == LD_RANGE_CENTRED) {
        for (size_t i = 0; i < (size_t)height * w; i++)
            mean += channel[i];
        mean /= (double)height * (double)width;
    }
    double top = 0, bottom = 0, bottom_size = 0;
    for (int32_t y = 0; y < height; y++) {
        for (size_t x = 0; x < w; x++)
            row[x] = channel[(size_t)y * w + x] - mean;
        qsort(row, w, sizeof *row, ascending);
        for (size_t i = 0; i < k; i++) {
            top += row[w - 1 - i];
            bottom += row[i];
            bottom_size += fabs(row[i]);
        }
    }
    const double n = (double)k * (double)height;
    if (mode == LD_RANGE_SOFT)
        bottom_size = fabs(bottom);
    const double range = 0.5 * (top / n + bottom_size / n);
    return mode == LD_RANGE_HARD_SQUARED ? range * range : range;
}

void ld_auto_cfg(double *out, const double *cond, const double *uncond, double scale,
                 enum ld_range_mode mode, struct ld_latent_shape shape, double *scratch)
{
    const size_t plane = ld_latent_plane(shape);
    double *strong = scratch;
    double *row = scratch + plane;
    for (int32_t c = 0; c < shape.channels; c++) {
        const double *cc = cond + (size_t)c * plane;
        const double *uc = uncond + (size_t)c * plane;
        ld_cfg(strong, cc, uc, reference_scale, plane);
        const double range = ld_channel_range(strong, shape.height, shape.width, mode, row);
        /* A channel without range has nothing to scale; C and U agree there. */
        const double push = range != 0 ? reference_scale * (scale / 10.0) / range : 1.0;
        ld_cfg(out + (size_t)c * plane, cc, uc, push, plane);
    }
}

/* ---- Uncond-Zero ----------------------------------------------------------------------------- */

static bool any_nonzero(const double *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (values[i] != 0)
            return true;
    return false;
}

/*
 * Turn C away from the previous output's direction, keeping its length:
 *   a = C / |C|, b = previous / |previous|, rest = b - a <a, b>,  C <- |C| (a - pre_scale rest)
 */
static void turn_away(double *cond, const double *previous, double pre_scale, size_t count)
{
    const double length = ld_norm(cond, count);
    const double other = ld_norm(previous, count);
    if (length == 0 || other == 0)
        return; /* no direction: the reference's NaN becomes zero */
    const double along = ld_dot(cond, previous, count) / (length * other);
    for (size_t i = 0; i < count; i++) {
        const double a = cond[i] / length;
        const double rest = previous[i] / other - a * along;
        cond[i] = length * (a - pre_scale * rest);
    }
}

static void without_negative(struct ld_uncond_zero *state, double *out, double *cond, bool first,
                             struct ld_latent_shape shape, double *row)
{
    const size_t plane = ld_latent_plane(shape);
    for (int32_t c = 0; c < shape.channels; c++) {
        const size_t at = (size_t)c * plane;
        if (!first && state->pre_fix)
            turn_away(cond + at, state->previous + at, state->pre_scale, plane);
        memcpy(state->previous + at, cond + at, plane * sizeof *cond);
        const double range =
            ld_channel_range(cond + at, shape.height, shape.width, LD_RANGE_HARD, row);
        const double gain = range > 0 ? state->scale / sqrt(range) : 1.0;
        for (size_t i = 0; i < plane; i++)
            out[at + i] = gain * cond[at + i];
    }
    state->has_previous = true;
}

void ld_uncond_zero(struct ld_uncond_zero *state, double *out, double *cond, const double *uncond,
                    double sigma, double guidance, struct ld_latent_shape shape, double *scratch)
{
    const size_t count = ld_latent_count(shape);
    const bool first = sigma >= state->sigma_max - 1.0 || !state->has_previous;
    if (uncond && any_nonzero(uncond, count)) {
        memcpy(state->previous, cond, count * sizeof *cond);
        state->has_previous = true;
        ld_auto_cfg(out, cond, uncond, guidance, LD_RANGE_HARD, shape, scratch);
    } else if (sigma <= 1.0) {
        memmove(out, cond, count * sizeof *cond);
    } else {
        without_negative(state, out, cond, first, shape, scratch + ld_latent_plane(shape));
    }
}
