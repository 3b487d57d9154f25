/*
 * The pictures of a sweep as they come, and the sheet made of them at the end.
 */
#ifndef LD_SERVER_CMD_SWEEP_SHEET_H
#define LD_SERVER_CMD_SWEEP_SHEET_H

#include "api/sweep.h"
#include "runtime/base/buffer.h"

/* Caller's storage; zeroed is empty. */
struct ld_sweep_pictures {
    struct ld_buffer file[LD_SWEEP_CELLS_MAX];
};

/* Keep a cell's file. Errors   LD_E_NOMEM. */
enum ld_code ld_sweep_keep(struct ld_sweep_pictures *pictures, uint32_t cell, struct ld_span file,
                           struct ld_error *err) LD_MUST_USE;

/* The labelled sheet of all cells as a file in the format of `request`, appended to `out`. Errors
 * LD_E_RANGE, LD_E_NOMEM, those of reading and writing pictures. */
enum ld_code ld_sweep_sheet(const struct ld_sweep *sweep, const struct ld_request *request,
                            const struct ld_sweep_pictures *pictures, struct ld_buffer *out,
                            struct ld_error *err) LD_MUST_USE;

void ld_sweep_pictures_deinit(struct ld_sweep_pictures *pictures);

#endif
