#include "server/front.h"

#include "api/respond.h"
#include "runtime/base/clock.h"

void ld_front_enliven(struct ld_front *front, struct ld_job_view *view, char buffer[32])
{
    struct ld_store_queue queue;
    struct ld_error err;
    if (view->status == LD_JOB_RUNNING || view->status == LD_JOB_CANCELLING) {
        (void)ld_supervisor_progress(front->supervisor, view->id, &view->progress, buffer,
                                     &view->eta_ms);
        for (uint32_t i = 0; i < view->cell_count; i++) { /* what its running cells have done */
            struct ld_progress_view cell = {0};
            char phase[32];
            int64_t ignored;
            if (view->cells[i].status == LD_JOB_RUNNING &&
                ld_supervisor_progress(front->supervisor, view->cells[i].id, &cell, phase,
                                       &ignored))
                view->progress.fraction += cell.fraction / (view->cell_count + 1.0);
        }
    } else if (view->status == LD_JOB_QUEUED && view->position >= 0 &&
               ld_store_queue(front->store, &queue, &err) == LD_OK && queue.finished_recent > 0) {
        /* Jobs ended within ten minutes: so long for one, and so many before this one. */
        view->eta_ms = (view->position + 1) * 600000 / queue.finished_recent;
    }
}

uint32_t ld_front_retry_after(struct ld_front *front)
{
    struct ld_store_queue queue;
    struct ld_error err;
    if (ld_store_queue(front->store, &queue, &err) != LD_OK || queue.finished_recent == 0)
        return 30; /* nothing measured */
    const int64_t seconds = 600 / queue.finished_recent + 1;
    return (uint32_t)(seconds > 3600 ? 3600 : seconds);
}

/* A job's worker, or those of a sweep's cells. */
static void cancel_running(struct ld_front *front, const char *tenant, const char *id,
                           bool keep_partial)
{
    struct ld_arena arena;
    struct ld_store_job job;
    struct ld_error err;
    ld_supervisor_cancel(front->supervisor, id, keep_partial);
    ld_arena_init(&arena, "cancel", 4 << 20);
    if (ld_store_job_get(front->store, tenant, id, &arena, &job, &err) == LD_OK)
        for (uint32_t i = 0; i < job.view.cell_count; i++)
            if (job.view.cells[i].status == LD_JOB_CANCELLING)
                ld_supervisor_cancel(front->supervisor, job.view.cells[i].id, keep_partial);
    ld_arena_deinit(&arena);
}

enum ld_code ld_front_cancel(struct ld_front *front, const char *tenant, const char *id,
                             bool keep_partial, enum ld_job_status *status, struct ld_error *err)
{
    const enum ld_code code =
        ld_store_job_cancel(front->store, tenant, id, keep_partial, status, err);
    if (code == LD_OK && *status == LD_JOB_CANCELLING)
        cancel_running(front, tenant, id, keep_partial);
    ld_supervisor_wake(front->supervisor); /* it may have been a sweep's last cell */
    return code;
}

void ld_front_drop_blobs(struct ld_front *front, const struct ld_store_freed *freed)
{
    for (uint32_t i = 0; i < freed->count; i++)
        ld_blob_remove(front->blobs, freed->sha256[i]);
}

enum ld_handled ld_front_reply_job(struct ld_exchange *ex, const char *id, int status)
{
    struct ld_store_job job;
    struct ld_error err = {0};
    char phase[32];
    if (ld_store_job_get(ex->front->store, ex->tenant, id, &ex->arena, &job, &err) != LD_OK)
        return ld_exchange_fail(ex, &err);
    if (job.view.status == LD_JOB_EXPIRED)
        return ld_exchange_refuse(ex, LD_E_NOT_FOUND, 410, "the job has expired");
    ld_front_enliven(ex->front, &job.view, phase);
    ld_respond_job(&job.view, &ex->reply.body);
    ld_exchange_set_header(ex, "Cache-Control", "no-store");
    return ld_exchange_json(ex, status);
}
