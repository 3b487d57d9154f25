#include "runtime/sample/guidance_threshold.h"

#include "runtime/base/error.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHANNELS_MAX = 64 };

/* ---- Scale over the run ---------------------------------------------------------------------- */

static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        const char x = (*a == ' ' || *a == '-') ? '_' : (char)tolower((unsigned char)*a);
        if (x != *b)
            return false;
    }
    return *a == *b;
}

bool ld_scale_mode_named(const char *name, enum ld_scale_mode *mode)
{
    static const char *const names[] = {
        [LD_SCALE_CONSTANT] = "constant",
        [LD_SCALE_LINEAR_DOWN] = "linear_down",
        [LD_SCALE_COSINE_DOWN] = "cosine_down",
        [LD_SCALE_HALF_COSINE_DOWN] = "half_cosine_down",
        [LD_SCALE_LINEAR_UP] = "linear_up",
        [LD_SCALE_COSINE_UP] = "cosine_up",
        [LD_SCALE_HALF_COSINE_UP] = "half_cosine_up",
        [LD_SCALE_POWER_UP] = "power_up",
        [LD_SCALE_POWER_DOWN] = "power_down",
        [LD_SCALE_LINEAR_REPEATING] = "linear_repeating",
        [LD_SCALE_COSINE_REPEATING] = "cosine_repeating",
        [LD_SCALE_SAWTOOTH] = "sawtooth",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (same_name(name, names[i])) {
            *mode = (enum ld_scale_mode)i;
            return true;
        }
    }
    return false;
}

static double fraction(double value)
{
    return value - floor(value);
}

double ld_scale_at(double scale, double smallest, enum ld_scale_mode mode, double f, double p)
{
    const double half_pi = 1.5707; /* as the reference writes it */
    double w = 1.0;
    switch (mode) {
    case LD_SCALE_CONSTANT:
        return scale;
    case LD_SCALE_LINEAR_DOWN:
        w = 1.0 - f;
        break;
    case LD_SCALE_COSINE_DOWN:
        w = cos(half_pi * f);
        break;
    case LD_SCALE_HALF_COSINE_DOWN:
        w = cos(f);
        break;
    case LD_SCALE_LINEAR_UP:
        w = f;
        break;
    case LD_SCALE_COSINE_UP:
        w = 1.0 - cos(half_pi * f);
        break;
    case LD_SCALE_HALF_COSINE_UP:
        w = 1.0 - cos(f);
        break;
    case LD_SCALE_POWER_UP:
        w = pow(f, p);
        break;
    case LD_SCALE_POWER_DOWN:
        w = 1.0 - pow(f, p);
        break;
    case LD_SCALE_LINEAR_REPEATING: {
        const double q = fraction(f * p);
        w = q < 0.5 ? 2.0 * (0.5 - q) : 2.0 * (q - 0.5);
        break;
    }
    case LD_SCALE_COSINE_REPEATING:
        w = 0.5 + 0.5 * cos(6.28318 * f * p);
        break;
    case LD_SCALE_SAWTOOTH:
        w = fraction(f * p);
        break;
    }
    return smallest + (scale - smallest) * w;
}

/* ---- Measures -------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    double x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static double largest_size(const double *values, size_t count)
{
    double largest = 0;
    for (size_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(values[i]));
    return largest;
}

/* Quantile of |values| with linear interpolation; `sorted` is scratch. */
static double quantile_size(const double *values, size_t count, double p, double *sorted)
{
    if (p >= 1.0)
        return largest_size(values, count);
    for (size_t i = 0; i < count; i++)
        sorted[i] = fabs(values[i]);
    qsort(sorted, count, sizeof *sorted, ascending);
    const double place = p * (double)(count - 1);
    const size_t low = (size_t)place;
    const size_t high = low + 1 < count ? low + 1 : low;
    return sorted[low] + (place - (double)low) * (sorted[high] - sorted[low]);
}

/* Guide, and take each channel's mean away. */
static void guide_centred(double *out, double *means, const double *cond, const double *uncond,
                          double scale, struct ld_latent_shape shape)
{
    const size_t plane = ld_latent_plane(shape);
    ld_cfg(out, cond, uncond, scale, ld_latent_count(shape));
    for (int32_t c = 0; c < shape.channels; c++) {
        double *channel = out + (size_t)c * plane;
        double mean = 0;
        for (size_t i = 0; i < plane; i++)
            mean += channel[i];
        mean /= (double)plane;
        for (size_t i = 0; i < plane; i++)
            channel[i] -= mean;
        means[c] = mean;
    }
}

/* ---- The formula ----------------------------------------------------------------------------- */

struct measured {
    double mimic, guided; /* R_M and R_G */
};

/* One value brought to the mimic's range; `centred` and `mean` are of the strong guidance. */
static double bring_back(const struct ld_threshold *o, struct measured r, double centred,
                         double mean)
{
    if (r.guided == 0 && r.mimic == 0)
        return centred + mean;
    if (o->from_zero)
        return r.guided != 0 ? (centred + mean) * r.mimic / r.guided : centred + mean;
    if (o->deviation)
        return r.guided != 0 ? centred / r.guided * r.mimic + mean : centred + mean;
    const double bound = fmax(r.mimic, r.guided);
    return fmax(-bound, fmin(bound, centred)) / bound * r.mimic + mean;
}

void ld_dynamic_threshold(double *out, const double *cond, const double *uncond,
                          const struct ld_threshold *options, struct ld_latent_shape shape,
                          double *scratch)
{
    const size_t count = ld_latent_count(shape);
    if (options->scale == options->mimic) {
        ld_cfg(out, cond, uncond, options->scale, count);
        return;
    }
    LD_ASSERT(shape.channels <= CHANNELS_MAX);
    double means[CHANNELS_MAX];
    double *mimic = scratch;
    double *guided = scratch + count;
    guide_centred(mimic, means, cond, uncond, options->mimic, shape);
    guide_centred(guided, means, cond, uncond, options->scale, shape);

    const size_t part = options->per_channel ? ld_latent_plane(shape) : count;
    const size_t plane = ld_latent_plane(shape);
    for (size_t at = 0; at < count; at += part) {
        struct measured r;
        if (options->deviation) {
            r.mimic = ld_deviation(mimic + at, part);
            r.guided = ld_deviation(guided + at, part);
        } else {
            r.mimic = largest_size(mimic + at, part);
            /* The mimic is measured, so its part of the scratch is free to sort in. */
            r.guided = quantile_size(guided + at, part, options->percentile, mimic + at);
        }
        for (size_t i = at; i < at + part; i++) {
            const double mean = means[i / plane];
            const double kept = bring_back(options, r, guided[i], mean);
            out[i] = options->phi * kept + (1.0 - options->phi) * (guided[i] + mean);
        }
    }
}
