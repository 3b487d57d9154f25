#include "runtime/sample/deep_shrink.h"

#include "runtime/sample/resize.h"

#include <math.h>

static bool method(const char *name, enum ld_resize_mode *mode)
{
    *mode = LD_RESIZE_BICUBIC;
    return !name || !name[0] || ld_resize_mode_named(name, mode);
}

enum ld_code ld_deep_shrink_init(struct ld_deep_shrink *shrink,
                                 const struct ld_request_deep_shrink *request,
                                 const struct ld_sigma_table *table, struct ld_error *err)
{
    *shrink = (struct ld_deep_shrink){0};
    if (!request->present)
        return LD_OK;
    shrink->block = request->block;
    shrink->factor = request->factor;
    shrink->after_skip = request->after_skip;
    shrink->sigma_high = ld_percent_to_sigma(table, request->start);
    shrink->sigma_low = ld_percent_to_sigma(table, request->end);
    if (!method(request->downscale, &shrink->down))
        return LD_FAIL(err, LD_E_INVALID, "deep_shrink.downscale: \"%.32s\" is not known",
                       request->downscale);
    if (!method(request->upscale, &shrink->up))
        return LD_FAIL(err, LD_E_INVALID, "deep_shrink.upscale: \"%.32s\" is not known",
                       request->upscale);
    shrink->on = true;
    return LD_OK;
}

bool ld_deep_shrink_active(const struct ld_deep_shrink *shrink, double sigma)
{
    return shrink->on && sigma <= shrink->sigma_high && sigma >= shrink->sigma_low;
}

int32_t ld_deep_shrink_size(const struct ld_deep_shrink *shrink, int32_t side)
{
    /* The reference multiplies by the reciprocal, which decides some halves. */
    const double size = rint((double)side * (1.0 / shrink->factor));
    return size < 1 ? 1 : (int32_t)size;
}
