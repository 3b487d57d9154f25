/* A sweep's sheet on its way to a worker: the front only passes on the bytes of the cells. */
#include "server/supervisor_internal.h"

#include "config/limits.h"
#include "runtime/base/log.h"

enum ld_code ld_supervisor_send_sheet(struct ld_slot *slot, const struct ld_store_job *job,
                                      struct ld_error *err)
{
    struct ld_message_sheet message = {
        .request = ld_span_text(job->view.request_json),
        .cells = job->view.cell_count,
        .width = 1, /* of a sweep without any picture, which is never claimed */
        .height = 1,
    };
    for (uint32_t i = 0; i < job->view.cell_count; i++) {
        const struct ld_cell_view *cell = &job->view.cells[i];
        if (cell->width > 0 && (uint32_t)cell->width > message.width)
            message.width = (uint32_t)cell->width;
        if (cell->height > 0 && (uint32_t)cell->height > message.height)
            message.height = (uint32_t)cell->height;
    }
    struct ld_buffer payload = ld_buffer_make(1 << 20);
    ld_message_sheet_encode(&payload, &message);
    const enum ld_code code = payload.failed
                                  ? LD_FAIL(err, LD_E_TOO_LARGE, "the sweep's request is too large")
                                  : ld_slot_send(slot, LD_FRAME_SHEET, job->view.id, job->token,
                                                 ld_span_of(payload.data, payload.size), err);
    ld_buffer_deinit(&payload);
    return code;
}

bool ld_supervisor_note_cells(struct ld_slot_job *added, const struct ld_store_job *job)
{
    if (job->view.cell_count == 0)
        return true;
    added->cells = ld_heap_calloc(job->view.cell_count, sizeof *added->cells);
    if (!added->cells)
        return false;
    added->cell_count = job->view.cell_count;
    for (uint32_t i = 0; i < added->cell_count; i++)
        (void)ld_fmt(added->cells[i], sizeof added->cells[i], "%s", job->view.cells[i].sha256);
    return true;
}

/* A picture that is gone leaves its place on the sheet empty. */
static bool send_cell(struct ld_supervisor *supervisor, struct ld_slot *slot,
                      const struct ld_slot_job *job)
{
    struct ld_error err = {0};
    const char *sha256 = job->cells[job->cell_next];
    struct ld_buffer png = ld_buffer_make(LD_FRAME_BYTES_MAX - 4096);
    struct ld_buffer payload = ld_buffer_make(LD_FRAME_BYTES_MAX);
    if (sha256[0] && ld_blob_read(supervisor->config.blobs, sha256, &png, &err) != LD_OK) {
        ld_log_error(LD_LOG_WARN, "supervisor", "a cell of a sweep cannot be read", &err);
        ld_buffer_clear(&png);
    }
    const struct ld_message_cell message = {job->cell_next, ld_span_of(png.data, png.size)};
    ld_message_cell_encode(&payload, &message);
    const bool sent =
        !payload.failed && ld_slot_send(slot, LD_FRAME_CELL, job->id, job->token,
                                        ld_span_of(payload.data, payload.size), &err) == LD_OK;
    ld_buffer_deinit(&payload);
    ld_buffer_deinit(&png);
    return sent;
}

void ld_supervisor_feed_sheets(struct ld_supervisor *supervisor, struct ld_slot *slot)
{
    for (uint32_t i = 0; i < slot->job_count; i++) {
        struct ld_slot_job *job = &slot->jobs[i];
        while (job->cell_next < job->cell_count && !ld_slot_wants_write(slot)) {
            if (!send_cell(supervisor, slot, job)) {
                ld_slot_kill(slot); /* out of memory: the job is leased again */
                return;
            }
            job->cell_next++;
        }
    }
}
