/*
 * The sheet of a sweep in a worker: cells come as files, one after the other, and are drawn as
 * they come, so that no more than one is held besides the sheet.
 */
#ifndef LD_SERVER_WORKER_SHEET_H
#define LD_SERVER_WORKER_SHEET_H

#include "api/sweep.h"
#include "runtime/image/sheet.h"
#include "runtime/ipc/messages.h"

struct ld_worker_sheet {
    struct ld_sweep sweep;
    struct ld_sheet sheet;
    uint32_t cells, next;
};

/* Columns, rows, pages and labels of a sweep's sheet; cell sizes stay with the caller. */
void ld_sweep_plan(const struct ld_sweep *sweep, struct ld_sheet_plan *plan);

/* `request` is the sweep's, decoded; its texts and `arena` outlive the sheet. Errors   LD_E_BUG
 * (the message is not of this request), those of ld_sweep_read and ld_sheet_open. */
enum ld_code ld_worker_sheet_open(struct ld_worker_sheet *sheet, const struct ld_request *request,
                                  const struct ld_message_sheet *message, struct ld_arena *arena,
                                  struct ld_error *err) LD_MUST_USE;

/* Draw the next cell. Errors   LD_E_BUG (out of order), those of reading pictures. */
enum ld_code ld_worker_sheet_put(struct ld_worker_sheet *sheet, const struct ld_message_cell *cell,
                                 struct ld_error *err) LD_MUST_USE;

/* The sheet as a file in the request's format that says how it was made where the request wants
 * that. Errors   those of ld_picture_write. */
enum ld_code ld_worker_sheet_write(const struct ld_worker_sheet *sheet,
                                   const struct ld_request *request, struct ld_buffer *out,
                                   struct ld_error *err) LD_MUST_USE;

/* Safe on a zeroed one. */
void ld_worker_sheet_deinit(struct ld_worker_sheet *sheet);

#endif
