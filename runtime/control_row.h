/*
 * Which ControlNets take part in one UNet row, and how much each says: ranges of steps, passes, and
 * who has more of a say, the prompt or the hint.
 *
 * Source   ComfyUI (controlnet.py: ranges in sigma); Mikubill/sd-webui-controlnet (hook.py: ranges
 * in steps, the two other modes, soft weights in the second pass).
 */
#ifndef LD_RUNTIME_CONTROL_ROW_H
#define LD_RUNTIME_CONTROL_ROW_H

#include "runtime/params.h"
#include "runtime/sample/tables.h"

/* Where in its pass a row stands. */
struct ld_control_moment {
    bool hires;    /* in the second pass */
    bool positive; /* the row of a positive prompt */
    double sigma;
    double share; /* of the pass's steps that are done, 0..1 */
};

struct ld_row_control {
    uint32_t unit; /* of request.controls */
    double weight;
    bool soft; /* the finer the map, the less is added */
};

/* The units of a row in their order; returns how many. */
uint32_t ld_row_controls(const struct ld_request *request, const struct ld_sigma_table *table,
                         const struct ld_control_moment *moment,
                         struct ld_row_control out[LD_REQUEST_CONTROLS_MAX]);

/* The factors of a ControlNet's `outputs` maps, first block first, the middle's last. */
void ld_row_control_strength(const struct ld_row_control *control, int32_t outputs,
                             float *strength);

#endif
