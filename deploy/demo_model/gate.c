/* The gated activation of the denoiser's feed-forward layers, value * gelu(gate), on bfloat16 with
 * fp32 inside, and its gradient; one pass over memory each.
 */

#include "vector.h"

/* e^(-x^2/2) and the normal distribution's integral up to x, to 1.5e-7 (Abramowitz and Stegun,
 * Handbook of Mathematical Functions, 7.1.26). */
static vec normal_integral(vec x, vec *bell)
{
    const vec size = (vec)((ivec)x & 0x7fffffff) * 0.70710678f;
    const vec t = 1.0f / (1.0f + 0.3275911f * size);
    const vec e = exp_neg(-(size * size));
    vec tail = splat(1.061405429f);
    tail = tail * t - 1.453152027f;
    tail = tail * t + 1.421413741f;
    tail = tail * t - 0.284496736f;
    tail = tail * t + 0.254829592f;
    tail = tail * t * e * 0.5f;
    const ivec negative = x < 0.0f;
    *bell = e;
    return (vec)(((ivec)tail & negative) | ((ivec)(1.0f - tail) & ~negative));
}

/* in: rows x 2 width (values, then gates); out: rows x width; width a multiple of 16. */
void gate_forward(const unsigned short *in, unsigned short *out, int rows, int width)
{
#pragma omp parallel for
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < width; c += LANES) {
            const size_t at = (size_t)r * 2 * width + c;
            vec bell;
            const vec gate = load_half(in + at + width);
            const vec active = gate * normal_integral(gate, &bell);
            store_half(out + (size_t)r * width + c, load_half(in + at) * active);
        }
}

void gate_backward(const unsigned short *in, const unsigned short *grad, unsigned short *din,
                   int rows, int width)
{
#pragma omp parallel for
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < width; c += LANES) {
            const size_t at = (size_t)r * 2 * width + c;
            vec bell;
            const vec gate = load_half(in + at + width);
            const vec part = normal_integral(gate, &bell);
            const vec g = load_half(grad + (size_t)r * width + c);
            store_half(din + at, g * gate * part);
            store_half(din + at + width,
                       g * load_half(in + at) * (part + gate * bell * 0.39894228f));
        }
}
