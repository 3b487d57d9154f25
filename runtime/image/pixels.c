#include "runtime/image/pixels.h"

#include "runtime/base/arena.h"
#include "runtime/image/gaussian.h"

#include <math.h>
#include <string.h>

/* ---- Pictures and planes --------------------------------------------------------------------- */

/* Comparisons with NaN are false, so it falls through to 0. */
static uint8_t to_byte(float value)
{
    const float level = 255.0f * ((value + 1.0f) * 0.5f);
    return level >= 255.0f ? 255 : level > 0.0f ? (uint8_t)level : 0;
}

void ld_pixels_from_planes(uint8_t *rgb, const float *planes, int32_t height, int32_t width)
{
    const size_t plane = (size_t)height * (size_t)width;
    for (size_t i = 0; i < plane; i++)
        for (size_t c = 0; c < 3; c++)
            rgb[3 * i + c] = to_byte(planes[c * plane + i]);
}

void ld_pixels_to_planes(float *planes, const uint8_t *pixels, int32_t channels, int32_t height,
                         int32_t width)
{
    const size_t plane = (size_t)height * (size_t)width;
    for (size_t i = 0; i < plane; i++)
        for (size_t c = 0; c < 3; c++)
            planes[c * plane + i] = (float)pixels[i * (size_t)channels + c] / 255.0f * 2.0f - 1.0f;
}

/* ---- Guards ---------------------------------------------------------------------------------- */

bool ld_values_finite(const float *values, size_t count)
{
    /* An exponent of all ones is the mark of both NaN and infinity. Without a branch in the loop it
     * costs one pass over the memory. */
    uint32_t broken = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        broken |= (bits & 0x7F800000u) == 0x7F800000u;
    }
    return broken == 0;
}

bool ld_values_finite_f64(const double *values, size_t count)
{
    uint64_t broken = 0;
    const uint64_t exponent = UINT64_C(0x7FF0000000000000);
    for (size_t i = 0; i < count; i++) {
        uint64_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        broken |= (bits & exponent) == exponent;
    }
    return broken == 0;
}

bool ld_pixels_black(const uint8_t *pixels, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (pixels[i] != 0)
            return false;
    return true;
}

/* ---- Previews -------------------------------------------------------------------------------- */

/* RGB in [-1, 1] for one unit of each latent channel. Values published with ComfyUI's latent
 * formats (SD15); fitted there to decoded pictures of SD1.5. */
static const double preview_factors[4][3] = {
    {0.3512, 0.2297, 0.3227},
    {0.3250, 0.4974, 0.2350},
    {-0.2829, 0.1762, 0.2721},
    {-0.2120, -0.2616, -0.7177},
};

void ld_preview_from_latent(uint8_t *rgb, const double *latent, int32_t height, int32_t width)
{
    const size_t plane = (size_t)height * (size_t)width;
    for (size_t i = 0; i < plane; i++) {
        for (size_t c = 0; c < 3; c++) {
            double value = 0;
            for (size_t k = 0; k < 4; k++)
                value += preview_factors[k][c] * latent[k * plane + i];
            rgb[3 * i + c] = to_byte((float)value);
        }
    }
}

/* ---- Masks ----------------------------------------------------------------------------------- */

void ld_mask_from_pixels(float *mask, const uint8_t *pixels, int32_t channels, int32_t height,
                         int32_t width)
{
    const size_t count = (size_t)height * (size_t)width;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *p = pixels + i * (size_t)channels;
        /* ITU-R BT.601 luma weights. */
        const float luma = 0.299f * (float)p[0] + 0.587f * (float)p[1] + 0.114f * (float)p[2];
        const float alpha = channels == 4 ? (float)p[3] / 255.0f : 1.0f;
        mask[i] = luma / 255.0f * alpha;
    }
}

/* Blur `lines` lines of `size` values, `step` apart, lines `line_step` apart. */
static void blur_lines(float *out, const float *in, int32_t size, size_t step, int32_t lines,
                       size_t line_step, const float *kernel, int32_t half)
{
    for (int32_t line = 0; line < lines; line++) {
        const float *from = in + (size_t)line * line_step;
        float *to = out + (size_t)line * line_step;
        for (int32_t i = 0; i < size; i++) {
            float sum = 0;
            for (int32_t k = -half; k <= half; k++)
                sum += kernel[k + half] * from[(size_t)ld_mirrored(i + k, size) * step];
            to[(size_t)i * step] = sum;
        }
    }
}

enum ld_code ld_mask_blur(float *mask, int32_t height, int32_t width, int32_t radius,
                          struct ld_error *err)
{
    if (radius <= 0)
        return LD_OK;
    const int32_t half = (int32_t)(2.5 * (double)radius + 0.5);
    const size_t count = (size_t)height * (size_t)width;
    enum ld_code code = LD_OK;
    float *kernel = ld_heap_calloc((size_t)(2 * half + 1), sizeof *kernel);
    float *across = ld_heap_calloc(count, sizeof *across);
    if (!kernel || !across) {
        code = LD_FAIL(err, LD_E_NOMEM, "no memory to blur the mask");
        goto done;
    }
    double total = 0;
    for (int32_t k = -half; k <= half; k++)
        total += exp(-0.5 * (double)k * (double)k / ((double)radius * (double)radius));
    for (int32_t k = -half; k <= half; k++)
        kernel[k + half] =
            (float)(exp(-0.5 * (double)k * (double)k / ((double)radius * (double)radius)) / total);
    blur_lines(across, mask, width, 1, height, (size_t)width, kernel, half);
    blur_lines(mask, across, height, (size_t)width, width, 1, kernel, half);
done:
    ld_heap_free(across);
    ld_heap_free(kernel);
    return code;
}

void ld_pixels_paste_back(uint8_t *rgb, const uint8_t *original, const float *mask, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const float m = fminf(1.0f, fmaxf(0.0f, mask[i]));
        for (size_t c = 0; c < 3; c++) {
            const float value = m * (float)rgb[3 * i + c] + (1.0f - m) * (float)original[3 * i + c];
            rgb[3 * i + c] = (uint8_t)(value + 0.5f);
        }
    }
}
