#include "runtime/sample/guidance_freeu.h"

#include <math.h>
#include <string.h>

static float *pixel(const struct ld_feature_map *map, int32_t c, size_t at)
{
    return map->data + (size_t)c * map->channel_stride + at * map->pixel_stride;
}

struct ld_freeu ld_freeu_of(const struct ld_request_guidance *guidance, int32_t model_channels)
{
    struct ld_freeu freeu = {.wide = 4 * model_channels, .middle = 2 * model_channels};
    freeu.on = guidance->freeu && guidance->freeu[0];
    freeu.v2 = freeu.on && strcmp(guidance->freeu, "v1") != 0;
    freeu.b1 = isnan(guidance->freeu_b1) ? (freeu.v2 ? 1.3 : 1.1) : guidance->freeu_b1;
    freeu.b2 = isnan(guidance->freeu_b2) ? (freeu.v2 ? 1.4 : 1.2) : guidance->freeu_b2;
    freeu.s1 = isnan(guidance->freeu_s1) ? 0.9 : guidance->freeu_s1;
    freeu.s2 = isnan(guidance->freeu_s2) ? 0.2 : guidance->freeu_s2;
    return freeu;
}

bool ld_freeu_factors(const struct ld_freeu *freeu, int32_t channels, float *b, float *s)
{
    if (!freeu->on || (channels != freeu->wide && channels != freeu->middle))
        return false;
    const bool wide = channels == freeu->wide;
    *b = (float)(wide ? freeu->b1 : freeu->b2);
    *s = (float)(wide ? freeu->s1 : freeu->s2);
    return true;
}

/* Per pixel the mean over channels, stretched so that the image spans 0..1. */
static void attention_of(const struct ld_feature_map *map, float *out)
{
    const size_t plane = (size_t)map->height * (size_t)map->width;
    float low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < plane; i++) {
        double sum = 0;
        for (int32_t c = 0; c < map->channels; c++)
            sum += (double)*pixel(map, c, i);
        out[i] = (float)(sum / (double)map->channels);
        low = fminf(low, out[i]);
        high = fmaxf(high, out[i]);
    }
    const float span = high - low;
    for (size_t i = 0; i < plane; i++)
        out[i] = span > 0 ? (out[i] - low) / span : 0.0f;
}

void ld_freeu_backbone(const struct ld_feature_map *map, float b, bool v2, float *scratch)
{
    const size_t plane = (size_t)map->height * (size_t)map->width;
    if (v2)
        attention_of(map, scratch);
    for (int32_t c = 0; c < map->channels / 2; c++)
        for (size_t i = 0; i < plane; i++)
            *pixel(map, c, i) *= v2 ? (b - 1.0f) * scratch[i] + 1.0f : b;
}

/* ---- The skip's low frequencies -----------------------------------------------------------------
 *
 * With theta = 2 pi y / H and phi = 2 pi x / W the coefficients of frequencies (-1 or 0, -1 or 0)
 * are F_uv = sum x e^{i (u theta + v phi)}, and their part of the picture is
 * Re(F_uv e^{-i (u theta + v phi)}) / (H W). Rows are summed first, so a pixel costs three products
 * each way.
 */

struct low_frequencies {
    double f00;
    double f10[2], f01[2], f11[2]; /* real and imaginary part; first index along y */
};

static void circle(double *cosine, double *sine, int32_t size)
{
    const double turn = 6.2831853071795865 / (double)size;
    for (int32_t i = 0; i < size; i++) {
        cosine[i] = cos(turn * (double)i);
        sine[i] = sin(turn * (double)i);
    }
}

static struct low_frequencies analyse(const struct ld_feature_map *map, int32_t c, const double *cy,
                                      const double *sy, const double *cx, const double *sx)
{
    struct low_frequencies f = {0};
    for (int32_t y = 0; y < map->height; y++) {
        const float *at = pixel(map, c, (size_t)y * (size_t)map->width);
        double row = 0, row_cos = 0, row_sin = 0;
        for (int32_t x = 0; x < map->width; x++, at += map->pixel_stride) {
            row += (double)*at;
            row_cos += (double)*at * cx[x];
            row_sin += (double)*at * sx[x];
        }
        f.f00 += row;
        f.f10[0] += row * cy[y];
        f.f10[1] += row * sy[y];
        f.f01[0] += row_cos;
        f.f01[1] += row_sin;
        f.f11[0] += row_cos * cy[y] - row_sin * sy[y];
        f.f11[1] += row_cos * sy[y] + row_sin * cy[y];
    }
    return f;
}

static void add_back(const struct ld_feature_map *map, int32_t c, const struct low_frequencies *f,
                     double share, const double *cy, const double *sy, const double *cx,
                     const double *sx)
{
    for (int32_t y = 0; y < map->height; y++) {
        float *at = pixel(map, c, (size_t)y * (size_t)map->width);
        const double flat = f->f00 + f->f10[0] * cy[y] + f->f10[1] * sy[y];
        const double of_cos = f->f01[0] + f->f11[0] * cy[y] + f->f11[1] * sy[y];
        const double of_sin = f->f01[1] - f->f11[0] * sy[y] + f->f11[1] * cy[y];
        for (int32_t x = 0; x < map->width; x++, at += map->pixel_stride)
            *at = (float)((double)*at + share * (flat + of_cos * cx[x] + of_sin * sx[x]));
    }
}

void ld_freeu_skip(const struct ld_feature_map *map, float s, double *scratch)
{
    double *cy = scratch, *sy = cy + map->height;
    double *cx = sy + map->height, *sx = cx + map->width;
    circle(cy, sy, map->height);
    circle(cx, sx, map->width);
    /* Scaling four coefficients by s adds (s - 1) times their part of the picture. */
    const double share = ((double)s - 1.0) / ((double)map->height * (double)map->width);
    for (int32_t c = 0; c < map->channels; c++) {
        struct low_frequencies f = analyse(map, c, cy, sy, cx, sx);
        /* A side of one cell has frequency 0 alone. */
        if (map->height == 1)
            f.f10[0] = f.f10[1] = f.f11[0] = f.f11[1] = 0;
        if (map->width == 1)
            f.f01[0] = f.f01[1] = f.f11[0] = f.f11[1] = 0;
        add_back(map, c, &f, share, cy, sy, cx, sx);
    }
}
