#include "runtime/sample/smea.h"

#include "runtime/base/arena.h"
#include "runtime/sample/resize.h"

#include <math.h>

/* Composition is settled by the middle of the timesteps; beyond it a second look costs and changes
 * nothing that is seen. */
static const double END = 0.5;
enum { CHANNELS = 4, TIMESTEP_LAST = 999 };

void ld_smea_init(struct ld_smea *smea, bool on, double scale, const struct ld_sigma_table *table)
{
    smea->on = on && scale > 1.0;
    smea->scale = scale;
    smea->table = table;
}

double ld_smea_weight(const struct ld_smea *smea, double sigma)
{
    if (!smea->on)
        return 0.0;
    const double progress = 1.0 - ld_sigma_to_timestep(smea->table, sigma) / TIMESTEP_LAST;
    if (progress >= END)
        return 0.0;
    const double c = cos(acos(0.0) * progress / END);
    return c * c;
}

static int32_t coarse_side(const struct ld_smea *smea, int32_t side)
{
    const double coarse = rint((double)side / smea->scale);
    return coarse < 1 ? 1 : (int32_t)coarse;
}

enum ld_code ld_smea_mix(const struct ld_smea *smea, double weight, const double *small,
                         int32_t height, int32_t width, double *denoised, struct ld_error *err)
{
    const int32_t low_height = coarse_side(smea, height);
    const int32_t low_width = coarse_side(smea, width);
    const size_t count = CHANNELS * (size_t)height * (size_t)width;
    const size_t low_count = CHANNELS * (size_t)low_height * (size_t)low_width;
    float *apart = ld_heap_calloc(2 * count + low_count, sizeof *apart);
    if (!apart)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for this picture size");
    float *back = apart + count;
    float *low = back + count;
    for (size_t i = 0; i < count; i++)
        apart[i] = (float)(small[i] - denoised[i]);
    const struct ld_resample down = {.in = apart,
                                     .images = 1,
                                     .channels = CHANNELS,
                                     .in_height = height,
                                     .in_width = width,
                                     .out_height = low_height,
                                     .out_width = low_width,
                                     .mode = LD_RESIZE_AREA,
                                     .out = low};
    const struct ld_resample up = {.in = low,
                                   .images = 1,
                                   .channels = CHANNELS,
                                   .in_height = low_height,
                                   .in_width = low_width,
                                   .out_height = height,
                                   .out_width = width,
                                   .mode = LD_RESIZE_BILINEAR,
                                   .out = back};
    enum ld_code code = ld_resample(&down, err);
    if (code == LD_OK)
        code = ld_resample(&up, err);
    for (size_t i = 0; code == LD_OK && i < count; i++)
        denoised[i] += weight * (double)back[i];
    ld_heap_free(apart);
    return code;
}
