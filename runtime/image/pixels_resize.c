#include "runtime/image/pixels_resize.h"

#include "runtime/base/arena.h"

#include <math.h>
#include <string.h>

enum { SIDE_MAX = 16384, CHANNELS_MAX = 4 };

/* ---- Kernels: half width and value ----------------------------------------------------------- */

static double support_of(enum ld_pixel_filter filter)
{
    static const double support[] = {[LD_PIXEL_NEAREST] = 0.5,
                                     [LD_PIXEL_BOX] = 0.5,
                                     [LD_PIXEL_BILINEAR] = 1,
                                     [LD_PIXEL_BICUBIC] = 2,
                                     [LD_PIXEL_LANCZOS] = 3};
    return support[filter];
}

enum ld_pixel_filter ld_pixel_filter_named(const char *upscaler)
{
    return strcmp(upscaler, "pixel-nearest-exact") == 0 ? LD_PIXEL_NEAREST
           : strcmp(upscaler, "pixel-bilinear") == 0    ? LD_PIXEL_BILINEAR
           : strcmp(upscaler, "pixel-bicubic") == 0     ? LD_PIXEL_BICUBIC
           : strcmp(upscaler, "pixel-area") == 0        ? LD_PIXEL_BOX
                                                        : LD_PIXEL_LANCZOS;
}

static double sinc(double x)
{
    const double pi = 3.14159265358979324;
    return x == 0 ? 1.0 : sin(pi * x) / (pi * x);
}

static double kernel(enum ld_pixel_filter filter, double x)
{
    const double d = fabs(x);
    switch (filter) {
    case LD_PIXEL_NEAREST:
    case LD_PIXEL_BOX:
        return x > -0.5 && x <= 0.5 ? 1 : 0;
    case LD_PIXEL_BILINEAR:
        return d < 1 ? 1 - d : 0;
    case LD_PIXEL_BICUBIC:
        return d < 1 ? (1.5 * d - 2.5) * d * d + 1 : d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
    case LD_PIXEL_LANCZOS:
        return d < 3 ? sinc(x) * sinc(x / 3) : 0;
    }
    return 0;
}

/* ---- Taps ------------------------------------------------------------------------------------ */

struct taps {
    int32_t width; /* weights of each output, padded with zeros */
    int32_t *first;
    float *weight;
};

static void taps_deinit(struct taps *taps)
{
    ld_heap_free(taps->first);
    ld_heap_free(taps->weight);
}

static bool taps_init(struct taps *taps, enum ld_pixel_filter filter, int32_t n, int32_t m)
{
    const double c = (double)n / (double)m;
    /* Nearest never widens, all others average when they shrink. */
    const double widen = filter == LD_PIXEL_NEAREST ? 1.0 : fmax(c, 1.0);
    const double support = support_of(filter) * widen;
    taps->width = 2 * (int32_t)ceil(support) + 1;
    taps->first = ld_heap_calloc((size_t)m, sizeof *taps->first);
    taps->weight = ld_heap_calloc((size_t)m * (size_t)taps->width, sizeof *taps->weight);
    if (!taps->first || !taps->weight)
        return false;
    for (int32_t i = 0; i < m; i++) {
        const double centre = ((double)i + 0.5) * c;
        const int32_t low = (int32_t)fmax(0, floor(centre - support));
        const int32_t high = (int32_t)fmin((double)n, ceil(centre + support));
        float *weight = taps->weight + (size_t)i * (size_t)taps->width;
        double total = 0;
        for (int32_t j = low; j < high; j++)
            total += kernel(filter, ((double)j + 0.5 - centre) / widen);
        for (int32_t j = low; j < high && j - low < taps->width && total != 0; j++)
            weight[j - low] = (float)(kernel(filter, ((double)j + 0.5 - centre) / widen) / total);
        taps->first[i] = low;
        if (total == 0) { /* a nearest whose centre lies on an edge */
            taps->first[i] = (int32_t)centre < n ? (int32_t)centre : n - 1;
            weight[0] = 1;
        }
    }
    return true;
}

/* ---- Passes ---------------------------------------------------------------------------------- */

static void across_row(float *out, const uint8_t *row, const struct ld_pixel_resize *op,
                       const struct taps *taps)
{
    for (int32_t i = 0; i < op->out_width; i++) {
        const float *weight = taps->weight + (size_t)i * (size_t)taps->width;
        const int32_t first = taps->first[i];
        for (int32_t c = 0; c < op->channels; c++) {
            float sum = 0;
            for (int32_t k = 0; k < taps->width && first + k < op->in_width; k++)
                sum += weight[k] * (float)row[(first + k) * op->channels + c];
            *out++ = sum;
        }
    }
}

static void down_row(uint8_t *out, const float *rows, int32_t i, const struct ld_pixel_resize *op,
                     const struct taps *taps, float *sum)
{
    const size_t size = (size_t)op->out_width * (size_t)op->channels;
    const float *weight = taps->weight + (size_t)i * (size_t)taps->width;
    memset(sum, 0, size * sizeof *sum);
    for (int32_t k = 0; k < taps->width && taps->first[i] + k < op->in_height; k++) {
        const float *row = rows + (size_t)(taps->first[i] + k) * size;
        for (size_t x = 0; x < size; x++)
            sum[x] += weight[k] * row[x];
    }
    for (size_t x = 0; x < size; x++)
        out[x] = (uint8_t)fminf(255.0f, fmaxf(0.0f, sum[x] + 0.5f));
}

static enum ld_code check(const struct ld_pixel_resize *op, struct ld_error *err)
{
    const int32_t sides[] = {op->in_height, op->in_width, op->out_height, op->out_width};
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++)
        if (sides[i] < 1 || sides[i] > SIDE_MAX)
            return LD_FAIL(err, LD_E_RANGE, "sides of an image to resize must be between 1 and %d",
                           SIDE_MAX);
    if (op->channels < 1 || op->channels > CHANNELS_MAX)
        return LD_FAIL(err, LD_E_RANGE, "an image must have 1 to %d channels", CHANNELS_MAX);
    return LD_OK;
}

enum ld_code ld_pixels_resize(const struct ld_pixel_resize *op, struct ld_error *err)
{
    enum ld_code code = check(op, err);
    if (code != LD_OK)
        return code;
    const size_t row = (size_t)op->out_width * (size_t)op->channels;
    const size_t rows_size = row * ((size_t)op->in_height + 1) * sizeof(float);
    if (op->in_height == op->out_height && op->in_width == op->out_width) {
        memcpy(op->out, op->in, row * (size_t)op->out_height);
        return LD_OK;
    }
    struct taps wide = {0}, high = {0};
    float *rows = ld_block_alloc(rows_size); /* and one row of sums behind them */
    if (!rows || !taps_init(&wide, op->filter, op->in_width, op->out_width) ||
        !taps_init(&high, op->filter, op->in_height, op->out_height)) {
        code = LD_FAIL(err, LD_E_NOMEM, "no memory to resize the image");
        goto done;
    }
    const size_t in_row = (size_t)op->in_width * (size_t)op->channels;
    for (int32_t y = 0; y < op->in_height; y++)
        across_row(rows + (size_t)y * row, op->in + (size_t)y * in_row, op, &wide);
    for (int32_t i = 0; i < op->out_height; i++)
        down_row(op->out + (size_t)i * row, rows, i, op, &high, rows + row * (size_t)op->in_height);
done:
    taps_deinit(&wide);
    taps_deinit(&high);
    ld_block_free(rows, rows_size);
    return code;
}

/* ---- Fitting --------------------------------------------------------------------------------- */

/* Round to whole pixels, at least one and at most `most`. */
static int32_t side(double value, int32_t most)
{
    const double rounded = rint(value);
    return rounded < 1 ? 1 : rounded > (double)most ? most : (int32_t)rounded;
}

/* Cut the middle part of the input that has the output's aspect, then resize. */
static enum ld_code fit_crop(const struct ld_pixel_resize *op, struct ld_error *err)
{
    const double scale = fmin((double)op->in_width / (double)op->out_width,
                              (double)op->in_height / (double)op->out_height);
    const int32_t w = side((double)op->out_width * scale, op->in_width);
    const int32_t h = side((double)op->out_height * scale, op->in_height);
    const int32_t x = (op->in_width - w) / 2, y = (op->in_height - h) / 2;
    const size_t row = (size_t)w * (size_t)op->channels;
    const size_t size = row * (size_t)h;
    uint8_t *part = ld_block_alloc(size);
    if (!part)
        return LD_FAIL(err, LD_E_NOMEM, "no memory to resize the image");
    for (int32_t i = 0; i < h; i++)
        memcpy(part + (size_t)i * row,
               op->in + ((size_t)(y + i) * (size_t)op->in_width + (size_t)x) * (size_t)op->channels,
               row);
    struct ld_pixel_resize inner = *op;
    inner.in = part;
    inner.in_width = w;
    inner.in_height = h;
    const enum ld_code code = ld_pixels_resize(&inner, err);
    ld_block_free(part, size);
    return code;
}

/* Resize to fit inside, then lay it on black around the middle. */
static enum ld_code fit_pad(const struct ld_pixel_resize *op, struct ld_error *err)
{
    const double scale = fmin((double)op->out_width / (double)op->in_width,
                              (double)op->out_height / (double)op->in_height);
    struct ld_pixel_resize inner = *op;
    inner.out_width = side((double)op->in_width * scale, op->out_width);
    inner.out_height = side((double)op->in_height * scale, op->out_height);
    const int32_t x = (op->out_width - inner.out_width) / 2;
    const int32_t y = (op->out_height - inner.out_height) / 2;
    const size_t row = (size_t)inner.out_width * (size_t)op->channels;
    const size_t size = row * (size_t)inner.out_height;
    uint8_t *part = ld_block_alloc(size);
    if (!part)
        return LD_FAIL(err, LD_E_NOMEM, "no memory to resize the image");
    inner.out = part;
    const enum ld_code code = ld_pixels_resize(&inner, err);
    memset(op->out, 0, (size_t)op->out_width * (size_t)op->out_height * (size_t)op->channels);
    for (int32_t i = 0; i < inner.out_height && code == LD_OK; i++)
        memcpy(op->out +
                   ((size_t)(y + i) * (size_t)op->out_width + (size_t)x) * (size_t)op->channels,
               part + (size_t)i * row, row);
    ld_block_free(part, size);
    return code;
}

enum ld_code ld_pixels_fit(const struct ld_pixel_resize *op, enum ld_fit fit, struct ld_error *err)
{
    const enum ld_code code = check(op, err);
    if (code != LD_OK)
        return code;
    switch (fit) {
    case LD_FIT_CROP:
        return fit_crop(op, err);
    case LD_FIT_PAD:
        return fit_pad(op, err);
    case LD_FIT_STRETCH:
    case LD_FIT_COVER: /* the size has been made the picture's shape */
        break;
    }
    return ld_pixels_resize(op, err);
}
