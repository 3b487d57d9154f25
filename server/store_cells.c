/* Sweeps in the job store: how a sweep's job follows those of its cells. */
#include "server/store_internal.h"

#include "api/respond.h"
#include "runtime/base/clock.h"

enum ld_code ld_store_cells_bind(struct ld_store *store, const char *id,
                                 char (*cell_ids)[LD_ID_SIZE], uint32_t count, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    for (uint32_t i = 0; code == LD_OK && i < count; i++) {
        struct ld_db_query *query = ld_store_use(store, SQL_CELL_INSERT, err);
        if (!query)
            return err->code;
        ld_db_bind_text(query, 1, id);
        ld_db_bind_int(query, 2, i);
        ld_db_bind_text(query, 3, cell_ids[i]);
        code = ld_store_step_once(query, err);
    }
    return code;
}

/* ---- What becomes of a sweep ----------------------------------------------------------------- */

enum ld_code ld_store_cells_judge(struct ld_store *store, const struct ld_job_view *view,
                                  struct ld_store_verdict *verdict, struct ld_error *err)
{
    *verdict = (struct ld_store_verdict){LD_JOB_SUCCEEDED, "", ""};
    for (uint32_t i = 0; i < view->cell_count; i++) {
        const struct ld_cell_view *cell = &view->cells[i];
        if (cell->id[0] && cell->status == LD_JOB_FAILED) {
            const size_t size = strlen(cell->error_detail) + 64;
            char *detail = ld_arena_alloc(&store->batch_arena, size);
            if (!detail ||
                !ld_fmt(detail, size, "cell %u of %u: %s", i, view->cell_count, cell->error_detail))
                return LD_FAIL(err, LD_E_NOMEM, "out of memory");
            *verdict = (struct ld_store_verdict){LD_JOB_FAILED, cell->error_code, detail};
            return LD_OK;
        }
        if (!cell->id[0] || cell->status != LD_JOB_SUCCEEDED)
            verdict->status = LD_JOB_CANCELLED;
    }
    return LD_OK;
}

static enum ld_code end_sweep(struct ld_store *store, const char *id,
                              const struct ld_store_verdict *verdict, struct ld_error *err)
{
    struct ld_db_query *query = ld_store_use(store, SQL_JOB_FINISH, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, id);
    ld_db_bind_int(query, 2, (int64_t)verdict->status);
    ld_db_bind_int(query, 3, ld_clock_wall_us());
    ld_db_bind_text(query, 4, verdict->error_code);
    ld_db_bind_text(query, 5, verdict->error_detail);
    for (int i = 6; i <= 9; i++)
        ld_db_bind_int(query, i, -1); /* no time of its own */
    ld_db_bind_int(query, 10, 0);
    ld_db_bind_int(query, 11, 0);
    for (int i = 12; i <= 15; i++)
        ld_db_bind_text(query, i, "");
    ld_db_bind_int(query, 16, 0); /* nothing repainted */
    const enum ld_code code = ld_store_step_once(query, err);
    return code == LD_OK ? ld_store_emit_status(store, id, err) : code;
}

static enum ld_code tell_progress(struct ld_store *store, int64_t seq,
                                  const struct ld_store_job *job, struct ld_error *err)
{
    struct ld_buffer out = ld_buffer_make(4096);
    ld_respond_event_progress(job->view.id, &job->view.progress, -1, &out);
    const char *json =
        out.failed ? NULL : ld_arena_strndup(&store->batch_arena, out.data, out.size);
    ld_buffer_deinit(&out);
    if (!json)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    return ld_store_emit(store, seq, job->view.id, job->tenant, LD_EVENT_PROGRESS, json, NULL, err);
}

struct census {
    uint32_t open, begun, succeeded;
};

static struct census count_cells(const struct ld_job_view *view)
{
    struct census census = {0};
    for (uint32_t i = 0; i < view->cell_count; i++) {
        const struct ld_cell_view *cell = &view->cells[i];
        const bool open = cell->id[0] && !ld_job_status_is_final(cell->status);
        census.open += open ? 1 : 0;
        census.begun += !open || cell->status != LD_JOB_QUEUED ? 1 : 0;
        census.succeeded += cell->id[0] && cell->status == LD_JOB_SUCCEEDED ? 1 : 0;
    }
    return census;
}

/* Its id in the batch arena; "" when the job is no cell. */
static enum ld_code sweep_of(struct ld_store *store, int64_t child_seq, const char **id,
                             struct ld_error *err)
{
    bool row;
    *id = "";
    struct ld_db_query *query = ld_store_use(store, SQL_CELL_PARENT, err);
    if (!query)
        return err->code;
    ld_db_bind_int(query, 1, child_seq);
    enum ld_code code = ld_db_step(query, &row, err);
    if (code == LD_OK && row) {
        *id = ld_arena_strdup(&store->batch_arena, ld_db_text(query, 0));
        if (!*id)
            code = LD_FAIL(err, LD_E_NOMEM, "out of memory");
    }
    ld_db_done(query);
    return code;
}

enum ld_code ld_store_cell_changed(struct ld_store *store, int64_t child_seq, struct ld_error *err)
{
    const char *id;
    int64_t seq;
    struct ld_store_row row;
    struct ld_store_job job;
    enum ld_code code = sweep_of(store, child_seq, &id, err);
    if (code != LD_OK || !*id)
        return code;
    if ((code = ld_store_row_get(store, NULL, id, &row, err)) != LD_OK ||
        (code = ld_store_load_by_id(store, store->writer, NULL, id, &store->batch_arena, &job, &seq,
                                    err)) != LD_OK)
        return code;
    /* Its sheet is being made, or it has ended: cells change nothing any more. */
    if (row.token != 0 || ld_job_status_is_final(row.status))
        return LD_OK;
    const struct census cells = count_cells(&job.view);
    if (row.status == LD_JOB_CANCELLING) {
        const struct ld_store_verdict cancelled = {LD_JOB_CANCELLED, "", ""};
        return cells.open > 0 ? LD_OK : end_sweep(store, id, &cancelled, err);
    }
    if (cells.open == 0 && cells.succeeded == 0) { /* nothing to show */
        struct ld_store_verdict verdict;
        code = ld_store_cells_judge(store, &job.view, &verdict, err);
        if (code == LD_OK)
            code = end_sweep(store, id, &verdict, err);
        return code == LD_OK ? ld_store_share_unqueue(store, &row, err) : code;
    }
    if (cells.begun <= 1 && (code = ld_store_emit_status(store, id, err)) != LD_OK)
        return code;
    return tell_progress(store, seq, &job, err);
}
