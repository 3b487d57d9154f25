/*
 * A grid over the values of up to three fields: `--sweep steps=10,20 --sweep sampler=euler,heun`.
 * The first axis runs across, the second down, the third over pages of the sheet.
 */
#ifndef LD_SERVER_CMD_SWEEP_H
#define LD_SERVER_CMD_SWEEP_H

#include "config/limits.h"
#include "runtime/image/sheet.h"
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
 * Errors   LD_E_INVALID (no field, no value, one field twice), LD_E_RANGE (a fourth axis, more than
 *          64 cells), LD_E_NOMEM.
 */
enum ld_code ld_sweep_add(struct ld_sweep *sweep, const char *text, struct ld_arena *arena,
                          struct ld_error *err) LD_MUST_USE;

/* 1 for none. */
uint32_t ld_sweep_cells(const struct ld_sweep *sweep);

/* The request of one cell: `base` with the cell's values. Errors   those of ld_request_set_text. */
enum ld_code ld_sweep_cell(const struct ld_sweep *sweep, uint32_t index,
                           const struct ld_request *base, struct ld_request *cell,
                           struct ld_arena *arena, struct ld_error *err) LD_MUST_USE;

/* Columns, rows, pages and labels of the sheet; cell sizes stay with the caller. */
void ld_sweep_plan(const struct ld_sweep *sweep, struct ld_sheet_plan *plan);

#endif
