#include "runtime/control_row.h"

#include <math.h>

/* model.md 5.6: each map's factor beside the next deeper one's. */
static const double SOFT = 0.825;

static bool in_pass(const struct ld_request_control *control, bool hires)
{
    return control->passes == LD_CONTROL_BOTH || (control->passes == LD_CONTROL_SECOND) == hires;
}

/* ComfyUI compares sigmas, A1111's extension shares of the steps, both ends included. */
static bool in_range(const struct ld_request *request, const struct ld_request_control *control,
                     const struct ld_sigma_table *table, const struct ld_control_moment *moment)
{
    if (request->profile == LD_PROFILE_A1111)
        return moment->share >= control->start && moment->share <= control->end;
    return moment->sigma <= ld_percent_to_sigma(table, control->start) &&
           moment->sigma >= ld_percent_to_sigma(table, control->end);
}

uint32_t ld_row_controls(const struct ld_request *request, const struct ld_sigma_table *table,
                         const struct ld_control_moment *moment,
                         struct ld_row_control out[LD_REQUEST_CONTROLS_MAX])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < request->control_count; i++) {
        const struct ld_request_control *control = &request->controls[i];
        if (!(control->weight > 0) || !in_pass(control, moment->hires) ||
            !in_range(request, control, table, moment) ||
            (control->mode == LD_CONTROL_HINT && !moment->positive))
            continue;
        out[count++] = (struct ld_row_control){
            .unit = i,
            .weight = control->weight,
            .soft = control->mode != LD_CONTROL_BALANCED ||
                    (request->profile == LD_PROFILE_A1111 && moment->hires)};
    }
    return count;
}

void ld_row_control_strength(const struct ld_row_control *control, int32_t outputs, float *strength)
{
    for (int32_t i = 0; i < outputs; i++)
        strength[i] =
            (float)(control->weight * (control->soft ? pow(SOFT, (double)(outputs - 1 - i)) : 1));
}
