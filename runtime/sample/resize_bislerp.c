#include "runtime/sample/resize_bislerp.h"

#include "runtime/base/arena.h"

#include <math.h>

/* ---- Places along one axis ------------------------------------------------------------------- */

struct place {
    int32_t from, to;
    float share;
};

/*
 * The reference interpolates the lists 0, 1, ..., n-1 and 1, 2, ..., n-1, n-1 bilinearly in single
 * precision and cuts the results to cells, so the rounding of these very products decides.
 */
static struct place place_of(int32_t i, int32_t n, int32_t m)
{
    const float c = (float)n / (float)m;
    const float s = fmaxf(0.0f, ((float)i + 0.5f) * c - 0.5f);
    const int32_t a = (int32_t)s < n - 1 ? (int32_t)s : n - 1;
    const int32_t b = a + 1 < n ? a + 1 : n - 1;
    const float share = s - (float)a;
    const float here = (1.0f - share) * (float)a + share * (float)b;
    const float next_a = (float)(a + 1 < n ? a + 1 : n - 1);
    const float next_b = (float)(b + 1 < n ? b + 1 : n - 1);
    const float next = (1.0f - share) * next_a + share * next_b;
    return (struct place){(int32_t)here, (int32_t)next, here - floorf(here)};
}

/* ---- Vectors --------------------------------------------------------------------------------- */

struct turn {
    double p, q; /* weights of the two vectors */
};

static struct turn turn_between(const float *p, const float *q, size_t stride, int32_t channels,
                                double r)
{
    const double almost = 1e-5; /* the reference's distance from parallel */
    double pp = 0, qq = 0, pq = 0;
    for (int32_t c = 0; c < channels; c++) {
        const double a = (double)p[(size_t)c * stride], b = (double)q[(size_t)c * stride];
        pp += a * a;
        qq += b * b;
        pq += a * b;
    }
    const double np = sqrt(pp), nq = sqrt(qq);
    const double dot = np > 0 && nq > 0 ? pq / (np * nq) : 0.0;
    if (dot > 1.0 - almost)
        return (struct turn){1.0, 0.0};
    if (dot < almost - 1.0)
        return (struct turn){1.0 - r, r};
    const double omega = acos(dot), so = sin(omega);
    const double length = np * (1.0 - r) + nq * r;
    /* A vector without length has no direction and takes no part. */
    return (struct turn){np > 0 ? sin((1.0 - r) * omega) / so * length / np : 0.0,
                         nq > 0 ? sin(r * omega) / so * length / nq : 0.0};
}

/* Interpolate along one axis: `lines` lines of `n` cells each, cells `step` apart, lines
 * `line_step` apart; channels are planes apart. */
struct axis {
    const float *in;
    float *out;
    int32_t n, m, lines, channels;
    size_t in_step, in_line, in_plane;
    size_t out_step, out_line, out_plane;
};

static void walk_axis(const struct axis *axis)
{
    for (int32_t i = 0; i < axis->m; i++) {
        const struct place at = place_of(i, axis->n, axis->m);
        for (int32_t line = 0; line < axis->lines; line++) {
            const float *in = axis->in + (size_t)line * axis->in_line;
            const float *p = in + (size_t)at.from * axis->in_step;
            const float *q = in + (size_t)at.to * axis->in_step;
            float *out = axis->out + (size_t)line * axis->out_line + (size_t)i * axis->out_step;
            const struct turn turn =
                turn_between(p, q, axis->in_plane, axis->channels, (double)at.share);
            for (int32_t c = 0; c < axis->channels; c++) {
                const size_t at_c = (size_t)c * axis->in_plane;
                out[(size_t)c * axis->out_plane] =
                    (float)(turn.p * (double)p[at_c] + turn.q * (double)q[at_c]);
            }
        }
    }
}

enum ld_code ld_resample_bislerp(const struct ld_resample *op, struct ld_error *err)
{
    const size_t in_w = (size_t)op->in_width, out_w = (size_t)op->out_width;
    const size_t in_plane = in_w * (size_t)op->in_height;
    const size_t mid_plane = out_w * (size_t)op->in_height;
    const size_t out_plane = out_w * (size_t)op->out_height;
    const size_t channels = (size_t)op->channels;
    float *mid = ld_heap_calloc(mid_plane * channels, sizeof *mid);
    if (!mid)
        return LD_FAIL(err, LD_E_NOMEM, "no memory to resize");
    for (size_t image = 0; image < (size_t)op->images; image++) {
        const struct axis across = {
            .in = op->in + image * channels * in_plane,
            .out = mid,
            .n = op->in_width,
            .m = op->out_width,
            .lines = op->in_height,
            .channels = op->channels,
            .in_step = 1,
            .in_line = in_w,
            .in_plane = in_plane,
            .out_step = 1,
            .out_line = out_w,
            .out_plane = mid_plane,
        };
        const struct axis down = {
            .in = mid,
            .out = op->out + image * channels * out_plane,
            .n = op->in_height,
            .m = op->out_height,
            .lines = op->out_width,
            .channels = op->channels,
            .in_step = out_w,
            .in_line = 1,
            .in_plane = mid_plane,
            .out_step = out_w,
            .out_line = 1,
            .out_plane = out_plane,
        };
        walk_axis(&across);
        walk_axis(&down);
    }
    ld_heap_free(mid);
    return LD_OK;
}
