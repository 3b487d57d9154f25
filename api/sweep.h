/*
 * A grid over the values of up to three fields: `--sweep steps=10,20 --sweep sampler=euler,heun`,
 * or
 * `"sweep": {"x": {"field": "steps", "values": [10, 20]}, "y": ...}` in a request. The first axis
 * runs across, the second down, the third over pages of the sheet.
 */
#ifndef LD_API_SWEEP_H
#define LD_API_SWEEP_H

#include "config/limits.h"
#include "runtime/params.h"

enum { LD_SWEEP_AXES_MAX = 3 };

struct ld_sweep_axis {
    const char *field; /* as given: "steps", "guidance.rescale", "lora" */
    const char *values[LD_SWEEP_CELLS_MAX];
    const char *labels[LD_SWEEP_CELLS_MAX]; /* "steps: 10" */
    uint32_t count;
};

/* Zeroed is none. Texts live in the arena that they were added with. */
struct ld_sweep {
    struct ld_sweep_axis axes[LD_SWEEP_AXES_MAX];
    uint32_t axis_count;
};

/*
 * Add an axis from "field=value,value"; a backslash keeps a comma, as in `prompt=a\, b,c`.
 * Errors   LD_E_INVALID (no field, no value, one field twice, a field that every cell shares),
 *          LD_E_RANGE (a fourth axis, more than 64 cells), LD_E_NOMEM. Whether the field exists is
 *          told by ld_sweep_cell.
 */
enum ld_code ld_sweep_add(struct ld_sweep *sweep, const char *text, struct ld_arena *arena,
                          struct ld_error *err) LD_MUST_USE;

/* All axes from the request's JSON object. Errors   those of ld_sweep_add, LD_E_INVALID (another
 * shape than the one above); err->pointer begins with "/sweep". */
enum ld_code ld_sweep_read(struct ld_sweep *sweep, struct ld_span json, struct ld_arena *arena,
                           struct ld_error *err) LD_MUST_USE;

/* The object that ld_sweep_read takes; every value is a string. */
void ld_sweep_write(const struct ld_sweep *sweep, struct ld_buffer *out);

/* 1 for none. */
uint32_t ld_sweep_cells(const struct ld_sweep *sweep);

/* The request of one cell: `base` with the cell's values. Errors   those of ld_request_set_text;
 * err->pointer names the value ("/sweep/x/values/2"). */
enum ld_code ld_sweep_cell(const struct ld_sweep *sweep, uint32_t index,
                           const struct ld_request *base, struct ld_request *cell,
                           struct ld_arena *arena, struct ld_error *err) LD_MUST_USE;

#endif
