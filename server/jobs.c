#include "server/front.h"

#include "api/respond.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "server/auth.h"
#include "server/keyring.h"

/* What a waiting job waits for, in one word. */
static const char *reason_to_wait(struct ld_front *front, const struct ld_job_view *view)
{
    struct ld_supervisor_status workers;
    ld_supervisor_status_get(front->supervisor, &workers);
    if (atomic_load(&front->draining))
        return "restart";
    if (workers.ready == 0)
        return "worker";
    if (view->running_max_reached)
        return "own_running";
    return view->position > 0 ? "jobs" : "place";
}

void ld_front_enliven(struct ld_front *front, struct ld_job_view *view, char buffer[32])
{
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
    } else if (view->status == LD_JOB_QUEUED && view->position >= 0) {
        const double rate = ld_store_rate(front->store);
        view->waits_for = reason_to_wait(front, view);
        if (rate > 0)
            view->eta_ms = (int64_t)((double)(view->cost_ahead + view->cost) * 1000 / rate);
    }
}

/* When a new day of the work limit begins (UTC). */
static uint32_t seconds_to_midnight(void)
{
    enum { DAY_S = 24 * 3600 };
    return DAY_S - (uint32_t)(ld_clock_wall_us() / 1000000 % DAY_S);
}

uint32_t ld_front_retry_after(struct ld_exchange *ex, enum ld_code code)
{
    double own;
    double any;
    if (code == LD_E_RATE)
        return seconds_to_midnight();
    if (code != LD_E_QUEUE_FULL)
        return 0;
    ld_store_drain_seconds(ex->front->store, ex->tenant, &own, &any);
    if (any < 0)
        return 30; /* nothing measured */
    const double seconds = own >= 0 ? own : any;
    return seconds > 3600 ? 3600 : (uint32_t)seconds + 1;
}

static void end_jobs_of(struct ld_front *front, const char *tenant, enum ld_job_status which)
{
    struct ld_store_list query = {.tenant = tenant, .status = (int)which, .limit = 100};
    char next[LD_STORE_CURSOR_SIZE] = "";
    char cursor[LD_STORE_CURSOR_SIZE] = "";
    do {
        struct ld_arena arena;
        struct ld_store_job *jobs;
        struct ld_error err;
        uint32_t count = 0;
        ld_arena_init(&arena, "revoked jobs", 32 << 20);
        query.cursor = cursor;
        if (ld_store_job_list(front->store, &query, &arena, &jobs, &count, next, &err) != LD_OK) {
            next[0] = '\0';
            count = 0;
        }
        for (uint32_t i = 0; i < count; i++) {
            enum ld_job_status status;
            if (ld_front_cancel(front, tenant, jobs[i].view.id, false, &status, &err) != LD_OK)
                ld_log_error(LD_LOG_WARN, "keys", "a job of a revoked key goes on", &err);
        }
        memcpy(cursor, next, sizeof cursor);
        ld_arena_deinit(&arena);
    } while (cursor[0]);
}

void ld_front_end_revoked(struct ld_front *front)
{
    struct ld_arena arena;
    struct ld_key *keys;
    struct ld_error err;
    struct ld_store_standing standing;
    uint32_t count = 0;
    ld_event_hub_expel(front->hub, ld_auth_may_stay, front);
    ld_arena_init(&arena, "keys", 64 << 20);
    if (ld_keyring_list(front->keys, &arena, &keys, &count, &err) != LD_OK)
        count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (keys[i].revoked_us == 0 ||
            ld_store_standing(front->store, keys[i].id, &standing, &err) != LD_OK ||
            standing.queued + standing.running == 0)
            continue;
        end_jobs_of(front, keys[i].id, LD_JOB_QUEUED);
        end_jobs_of(front, keys[i].id, LD_JOB_RUNNING);
    }
    ld_arena_deinit(&arena);
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
