#include "runtime/sample/noise_normal.h"

#include <math.h>
#include <string.h>

/*
 * ln u with u = 2^e m, m in [sqrt(1/2), sqrt(2)), s = (m-1)/(m+1), |s| < 0.172:
 *   ln u = e ln 2 + 2 (s + s^3/3 + s^5/5 + ...); the first term left out is below 1e-9.
 */
static void log_lanes(const float *u, const float *complement, float *out)
{
    /* Adding this to the bits of u carries into the exponent exactly when m would be >= sqrt(2). */
    const uint32_t carry = 0x3F800000u - 0x3F3504F3u; /* bits of 1 minus bits of sqrt(1/2) */
    for (int j = 0; j < LD_NORMAL_LANES; j++) {
        uint32_t bits;
        memcpy(&bits, &u[j], sizeof bits);
        const int32_t e = (int32_t)((bits + carry) >> 23) - 127;
        bits -= (uint32_t)e << 23;
        float m;
        memcpy(&m, &bits, sizeof m);
        const float f = e == 0 ? -complement[j] : m - 1.0f;
        const float s = f / (2.0f + f);
        const float q = s * s;
        const float tail = q * (1.0f / 3 + q * (1.0f / 5 + q * (1.0f / 7 + q * (1.0f / 9))));
        out[j] = (float)e * 0.693147181f + 2.0f * (s + s * tail);
    }
}

/* Quadrant k and remainder y, |y| <= pi/4: Taylor series to y^9 and y^10 leave 3e-9. */
static void turn_lanes(const double *angle, float *cosine, float *sine)
{
    for (int j = 0; j < LD_NORMAL_LANES; j++) {
        const int32_t k = (int32_t)(angle[j] * 0.63661977236758134 + 0.5);  /* 2 / pi */
        const float y = (float)(angle[j] - (double)k * 1.5707963267948966); /* pi / 2 */
        const float q = y * y;
        const float s =
            y + y * q * (-1.0f / 6 + q * (1.0f / 120 + q * (-1.0f / 5040 + q * (1.0f / 362880))));
        const float c =
            1.0f +
            q * (-0.5f + q * (1.0f / 24 + q * (-1.0f / 720 + q * (1.0f / 40320 - q / 3628800.0f))));
        const float swapped_s = (k & 1) ? c : s;
        const float swapped_c = (k & 1) ? s : c;
        sine[j] = (k & 2) ? -swapped_s : swapped_s;
        cosine[j] = ((k + 1) & 2) ? -swapped_c : swapped_c;
    }
}

void ld_normal_lanes(const float *u, const float *complement, const double *angle, float *cosine,
                     float *sine)
{
    float logarithm[LD_NORMAL_LANES];
    float c[LD_NORMAL_LANES];
    float s[LD_NORMAL_LANES];
    log_lanes(u, complement, logarithm);
    turn_lanes(angle, c, s);
    for (int j = 0; j < LD_NORMAL_LANES; j++) {
        /* u = 1 makes the logarithm a zero that may carry either sign. */
        const float r = sqrtf(fabsf(2.0f * logarithm[j]));
        cosine[j] = r * c[j];
        sine[j] = r * s[j];
    }
}
