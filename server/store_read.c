#include "server/store_internal.h"

#include "config/limits.h"
#include "runtime/base/clock.h"

/* ---- One job --------------------------------------------------------------------------------- */

/* Copies the column; NULL without memory. */
static const char *column_text(struct ld_db_query *row, int column, struct ld_arena *arena)
{
    const char *text = ld_db_text(row, column);
    return ld_db_text_lost(ld_db_of(row)) ? NULL : ld_arena_strdup(arena, text);
}

static double milliseconds(int64_t us)
{
    return us < 0 ? -1.0 : (double)us / 1000.0;
}

static enum ld_code load_images(struct ld_db *db, int64_t seq, struct ld_arena *arena,
                                struct ld_job_view *view, struct ld_error *err)
{
    struct ld_image_view images[LD_IMAGES_MAX] = {0};
    struct ld_db_query *query = ld_db_use(db, SQL_IMAGES_OF_JOB, err);
    if (!query)
        return err->code;
    enum ld_code code;
    bool row = false;
    uint32_t count = 0;
    ld_db_bind_int(query, 1, seq);
    while ((code = ld_db_step(query, &row, err)) == LD_OK && row && count < LD_IMAGES_MAX) {
        struct ld_image_view *image = &images[count++];
        image->index = (uint32_t)ld_db_int(query, 0);
        image->sha256 = column_text(query, 1, arena);
        image->bytes = (uint64_t)ld_db_int(query, 2);
        image->width = (int32_t)ld_db_int(query, 3);
        image->height = (int32_t)ld_db_int(query, 4);
        image->seed = (uint64_t)ld_db_int(query, 5);
        image->partial = ld_db_int(query, 6) != 0;
        const char *format = column_text(query, 7, arena);
        if (!image->sha256 || !format) {
            code = LD_FAIL(err, LD_E_NOMEM, "out of memory");
            break;
        }
        (void)ld_picture_kind_find(format, &image->kind);
    }
    ld_db_done(query);
    if (code != LD_OK || count == 0)
        return code;
    struct ld_image_view *copy = ld_arena_calloc(arena, count, sizeof *copy);
    if (!copy)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    memcpy(copy, images, count * sizeof *copy);
    view->images = copy;
    view->image_count = count;
    if (view->status == LD_JOB_SUCCEEDED)
        view->progress.image = view->progress.images = count;
    return LD_OK;
}

/* A sweep's cells, its progress in them, and that it runs once one of them has. */
static enum ld_code load_cells(struct ld_db *db, int64_t seq, struct ld_arena *arena,
                               struct ld_job_view *view, struct ld_error *err)
{
    struct ld_cell_view cells[LD_SWEEP_CELLS_MAX] = {0};
    uint32_t count = 0;
    uint32_t ended = 0;
    bool begun = false;
    bool row = false;
    struct ld_db_query *query = ld_db_use(db, SQL_CELLS_OF_JOB, err);
    if (!query)
        return err->code;
    enum ld_code code;
    ld_db_bind_int(query, 1, seq);
    while ((code = ld_db_step(query, &row, err)) == LD_OK && row && count < LD_SWEEP_CELLS_MAX) {
        struct ld_cell_view *cell = &cells[count++];
        cell->id = column_text(query, 0, arena);
        cell->status = (enum ld_job_status)ld_db_int(query, 1);
        cell->sha256 = column_text(query, 2, arena);
        cell->width = (int32_t)ld_db_int(query, 3);
        cell->height = (int32_t)ld_db_int(query, 4);
        cell->error_code = column_text(query, 5, arena);
        cell->error_detail = column_text(query, 6, arena);
        view->unet_rows += (uint64_t)ld_db_int(query, 7);
        view->unet_rows_saved += (uint64_t)ld_db_int(query, 8);
        if (!cell->id || !cell->sha256 || !cell->error_code || !cell->error_detail) {
            code = LD_FAIL(err, LD_E_NOMEM, "out of memory");
            break;
        }
        const bool open = cell->id[0] && !ld_job_status_is_final(cell->status);
        ended += open ? 0 : 1;
        begun = begun || !open || cell->status != LD_JOB_QUEUED;
    }
    ld_db_done(query);
    if (code != LD_OK || count == 0)
        return code;
    struct ld_cell_view *copy = ld_arena_calloc(arena, count, sizeof *copy);
    if (!copy)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    memcpy(copy, cells, count * sizeof *copy);
    view->cells = copy;
    view->cell_count = count;
    if (view->status == LD_JOB_QUEUED && begun) {
        view->status = LD_JOB_RUNNING;
        view->position = -1;
    }
    if (!ld_job_status_is_final(view->status))
        view->progress = (struct ld_progress_view){.image = ended,
                                                   .images = count,
                                                   .fraction = (double)ended / (count + 1.0),
                                                   .phase = ended < count ? "cells" : "sheet"};
    return LD_OK;
}

/* The pictures of its ControlNet units. */
static enum ld_code load_controls(struct ld_db *db, int64_t seq, struct ld_arena *arena,
                                  struct ld_store_job *job, struct ld_error *err)
{
    for (uint32_t i = 0; i < LD_CONTROLS_MAX; i++)
        job->control_sha256[i] = "";
    struct ld_db_query *query = ld_db_use(db, SQL_CONTROLS_OF_JOB, err);
    if (!query)
        return err->code;
    enum ld_code code;
    bool row = false;
    ld_db_bind_int(query, 1, seq);
    while ((code = ld_db_step(query, &row, err)) == LD_OK && row) {
        const int64_t number = ld_db_int(query, 0);
        LD_ASSERT(number >= 0 && number < LD_CONTROLS_MAX);
        job->control_sha256[number] = column_text(query, 1, arena);
        if (!job->control_sha256[number]) {
            code = LD_FAIL(err, LD_E_NOMEM, "out of memory");
            break;
        }
    }
    ld_db_done(query);
    return code;
}

/* All texts or an error; the row stays usable. */
static enum ld_code load_columns(struct ld_db_query *row, struct ld_arena *arena,
                                 struct ld_store_job *job, struct ld_error *err)
{
    struct ld_job_view *view = &job->view;
    memset(job, 0, sizeof *job);
    const char *warnings = column_text(row, 13, arena);
    const char *adapters = column_text(row, 14, arena);
    const char *error_code = column_text(row, 17, arena);
    view->id = column_text(row, 0, arena);
    job->tenant = column_text(row, 1, arena);
    view->request_json = column_text(row, 12, arena);
    job->init_sha256 = column_text(row, 15, arena);
    job->mask_sha256 = column_text(row, 16, arena);
    view->error_detail = column_text(row, 18, arena);
    if (!warnings || !adapters || !error_code || !view->id || !job->tenant || !view->request_json ||
        !job->init_sha256 || !job->mask_sha256 || !view->error_detail)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    view->warnings_json = *warnings ? warnings : "[]";
    view->adapters_json = *adapters ? adapters : "[]";
    view->error_code = *error_code ? error_code : NULL;
    view->status = (enum ld_job_status)ld_db_int(row, 2);
    job->priority = (int32_t)ld_db_int(row, 3);
    job->work = ld_db_int(row, 4);
    view->created_us = ld_db_int(row, 5);
    view->started_us = ld_db_int(row, 6);
    view->finished_us = ld_db_int(row, 7);
    job->attempt = (uint32_t)ld_db_int(row, 8);
    job->token = (uint64_t)ld_db_int(row, 9);
    job->suspect = ld_db_int(row, 10) != 0;
    job->keep_partial = ld_db_int(row, 11) != 0;
    view->position = -1;
    view->eta_ms = -1;
    view->progress.phase = "";
    if (view->status == LD_JOB_SUCCEEDED)
        view->progress = (struct ld_progress_view){.fraction = 1, .phase = "done"};
    /* The wall clock may step between the two: a wait is never negative. */
    const int64_t waited = view->started_us - view->created_us;
    view->timings.queue_ms = view->started_us ? milliseconds(waited > 0 ? waited : 0) : -1.0;
    view->timings.text_ms = milliseconds(ld_db_int(row, 19));
    view->timings.sample_ms = milliseconds(ld_db_int(row, 20));
    view->timings.decode_ms = milliseconds(ld_db_int(row, 21));
    view->timings.encode_ms = milliseconds(ld_db_int(row, 22));
    view->timings.gpu_ms = -1.0;
    view->unet_rows = (uint64_t)ld_db_int(row, 23);
    view->unet_rows_saved = (uint64_t)ld_db_int(row, 24);
    return LD_OK;
}

enum ld_code ld_store_load_job(struct ld_store *store, struct ld_db *db, struct ld_db_query *row,
                               struct ld_arena *arena, struct ld_store_job *job, int64_t *seq,
                               struct ld_error *err)
{
    enum ld_code code = load_columns(row, arena, job, err);
    if (code != LD_OK)
        return code;
    *seq = ld_db_int(row, 25);
    job->view.parent = column_text(row, 26, arena);
    job->view.cost = ld_db_int(row, 27);
    job->view.numerics_json = column_text(row, 28, arena);
    job->view.repainted = (uint32_t)ld_db_int(row, 29);
    if (!job->view.parent || !job->view.numerics_json)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    if (job->view.status == LD_JOB_QUEUED)
        code = ld_store_load_ahead(store, db, *seq, job, err);
    else
        code = load_images(db, *seq, arena, &job->view, err);
    if (code == LD_OK)
        code = load_controls(db, *seq, arena, job, err);
    return code == LD_OK ? load_cells(db, *seq, arena, &job->view, err) : code;
}

enum ld_code ld_store_load_by_id(struct ld_store *store, struct ld_db *db, const char *tenant,
                                 const char *id, struct ld_arena *arena, struct ld_store_job *job,
                                 int64_t *seq, struct ld_error *err)
{
    bool row;
    struct ld_db_query *query = ld_db_use(db, SQL_JOB_BY_ID, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, id);
    ld_db_bind_text(query, 2, tenant);
    enum ld_code code = ld_db_step(query, &row, err);
    if (code == LD_OK && !row)
        code = LD_FAIL(err, LD_E_NOT_FOUND, "there is no such job");
    if (code == LD_OK)
        code = ld_store_load_job(store, db, query, arena, job, seq, err);
    ld_db_done(query);
    return code;
}

enum ld_code ld_store_job_get(struct ld_store *store, const char *tenant, const char *id,
                              struct ld_arena *arena, struct ld_store_job *job,
                              struct ld_error *err)
{
    int64_t seq;
    struct ld_db *reader = ld_store_reader_take(store);
    const enum ld_code code = ld_store_load_by_id(store, reader, tenant, id, arena, job, &seq, err);
    ld_store_reader_give(store, reader);
    return code;
}

/* ---- Lists ----------------------------------------------------------------------------------- */

enum ld_code ld_store_job_list(struct ld_store *store, const struct ld_store_list *list,
                               struct ld_arena *arena, struct ld_store_job **jobs, uint32_t *count,
                               char next[LD_STORE_CURSOR_SIZE], struct ld_error *err)
{
    int64_t before = INT64_MAX;
    *count = 0;
    next[0] = '\0';
    if (*list->cursor && (!ld_parse_i64(ld_span_text(list->cursor), &before) || before <= 0))
        return LD_FAIL(err, LD_E_INVALID, "cursor is not one that a list gave");
    *jobs = ld_arena_calloc(arena, list->limit + 1U, sizeof **jobs);
    if (!*jobs)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    struct ld_db *reader = ld_store_reader_take(store);
    struct ld_db_query *query = ld_db_use(reader, SQL_JOB_LIST, err);
    enum ld_code code = query ? LD_OK : err->code;
    bool row = true;
    int64_t seq = 0;
    if (query) {
        ld_db_bind_text(query, 1, list->tenant);
        ld_db_bind_int(query, 2, before);
        ld_db_bind_int(query, 3, list->status);
        ld_db_bind_int(query, 4, (int64_t)list->limit + 1); /* one more tells whether it goes on */
    }
    while (code == LD_OK && (code = ld_db_step(query, &row, err)) == LD_OK && row) {
        if (*count == list->limit) {
            (void)ld_fmt(next, LD_STORE_CURSOR_SIZE, "%lld", (long long)seq);
            break;
        }
        code = ld_store_load_job(store, reader, query, arena, &(*jobs)[*count], &seq, err);
        *count += 1;
    }
    if (query)
        ld_db_done(query);
    ld_store_reader_give(store, reader);
    return code;
}

enum ld_code ld_store_queue(struct ld_store *store, struct ld_store_queue *queue,
                            struct ld_error *err)
{
    bool row = false;
    memset(queue, 0, sizeof *queue);
    struct ld_db *reader = ld_store_reader_take(store);
    struct ld_db_query *query = ld_db_use(reader, SQL_QUEUE_COUNTS, err);
    enum ld_code code = query ? LD_OK : err->code;
    if (query) {
        code = ld_db_step(query, &row, err);
        if (code == LD_OK && row) {
            queue->running = ld_db_int(query, 0);
            queue->oldest_queued_us = ld_db_int(query, 1);
        }
        ld_db_done(query);
    }
    if (code == LD_OK)
        code = ld_store_queued(store, reader, &queue->queued, err);
    ld_store_reader_give(store, reader);
    return code;
}

/* ---- Events ---------------------------------------------------------------------------------- */

static enum ld_code load_event(struct ld_db_query *row, const char *tenant, struct ld_arena *arena,
                               struct ld_store_event *event, struct ld_error *err)
{
    event->id = (uint64_t)ld_db_int(row, 0);
    event->kind = (enum ld_event_kind)ld_db_int(row, 1);
    event->json = column_text(row, 2, arena);
    event->tenant = tenant;
    (void)ld_fmt(event->job_id, sizeof event->job_id, "%s", ld_db_text(row, 3));
    return event->json ? LD_OK : LD_FAIL(err, LD_E_NOMEM, "out of memory");
}

enum ld_code ld_store_event_list(struct ld_store *store, const char *tenant, const char *job_id,
                                 uint64_t after, uint32_t limit, struct ld_arena *arena,
                                 struct ld_store_event **events, uint32_t *count,
                                 struct ld_error *err)
{
    *count = 0;
    *events = ld_arena_calloc(arena, limit ? limit : 1, sizeof **events);
    if (!*events)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    struct ld_db *reader = ld_store_reader_take(store);
    struct ld_db_query *query =
        ld_db_use(reader, *job_id ? SQL_EVENTS_OF_JOB : SQL_EVENTS_OF_TENANT, err);
    enum ld_code code = query ? LD_OK : err->code;
    bool row = true;
    if (query) {
        ld_db_bind_text(query, 1, job_id);
        ld_db_bind_text(query, 2, tenant);
        ld_db_bind_int(query, 3, (int64_t)(after > INT64_MAX ? INT64_MAX : after));
        ld_db_bind_int(query, 4, limit);
    }
    while (code == LD_OK && *count < limit && (code = ld_db_step(query, &row, err)) == LD_OK &&
           row) {
        code = load_event(query, tenant, arena, &(*events)[*count], err);
        *count += 1;
    }
    if (query)
        ld_db_done(query);
    ld_store_reader_give(store, reader);
    return code;
}

/* ---- Uploads, blobs, notes ------------------------------------------------------------------- */

static void load_upload(struct ld_db_query *row, struct ld_store_upload *upload)
{
    (void)ld_fmt(upload->id, sizeof upload->id, "%s", ld_db_text(row, 0));
    (void)ld_fmt(upload->sha256, sizeof upload->sha256, "%s", ld_db_text(row, 1));
    upload->bytes = (uint64_t)ld_db_int(row, 2);
    upload->width = (int32_t)ld_db_int(row, 3);
    upload->height = (int32_t)ld_db_int(row, 4);
}

enum ld_code ld_store_upload_get(struct ld_store *store, const char *tenant, const char *id,
                                 struct ld_store_upload *upload, struct ld_error *err)
{
    bool row = false;
    struct ld_db *reader = ld_store_reader_take(store);
    struct ld_db_query *query = ld_db_use(reader, SQL_UPLOAD_BY_ID, err);
    enum ld_code code = query ? LD_OK : err->code;
    if (query) {
        ld_db_bind_text(query, 1, tenant);
        ld_db_bind_text(query, 2, id);
        code = ld_db_step(query, &row, err);
        if (code == LD_OK && row)
            load_upload(query, upload);
        else if (code == LD_OK)
            code = LD_FAIL(err, LD_E_NOT_FOUND, "there is no such uploaded image");
        ld_db_done(query);
    }
    ld_store_reader_give(store, reader);
    return code;
}

enum ld_code ld_store_upload_list(struct ld_store *store, const char *tenant,
                                  struct ld_arena *arena, struct ld_store_upload **uploads,
                                  uint32_t *count, struct ld_error *err)
{
    enum { UPLOADS_MAX = 1000 };
    *count = 0;
    *uploads = ld_arena_calloc(arena, UPLOADS_MAX, sizeof **uploads);
    if (!*uploads)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    bool row = true;
    struct ld_db *reader = ld_store_reader_take(store);
    struct ld_db_query *query = ld_db_use(reader, SQL_UPLOADS_OF_TENANT, err);
    enum ld_code code = query ? LD_OK : err->code;
    if (query) {
        ld_db_bind_text(query, 1, tenant);
        ld_db_bind_int(query, 2, UPLOADS_MAX);
    }
    while (code == LD_OK && *count < UPLOADS_MAX &&
           (code = ld_db_step(query, &row, err)) == LD_OK && row)
        load_upload(query, &(*uploads)[(*count)++]);
    if (query)
        ld_db_done(query);
    ld_store_reader_give(store, reader);
    return code;
}

enum ld_code ld_store_blob_referenced(struct ld_store *store, const char *sha256, bool *referenced,
                                      struct ld_error *err)
{
    bool row = false;
    *referenced = true; /* when in doubt, keep */
    struct ld_db *reader = ld_store_reader_take(store);
    struct ld_db_query *query = ld_db_use(reader, SQL_BLOB_REFERENCED, err);
    enum ld_code code = query ? LD_OK : err->code;
    if (query) {
        ld_db_bind_text(query, 1, sha256);
        code = ld_db_step(query, &row, err);
        if (code == LD_OK && row)
            *referenced = ld_db_int(query, 0) != 0;
        ld_db_done(query);
    }
    ld_store_reader_give(store, reader);
    return code;
}

enum ld_code ld_store_note_get(struct ld_store *store, const char *name, struct ld_arena *arena,
                               const char **text, struct ld_error *err)
{
    bool row = false;
    *text = "";
    struct ld_db *reader = ld_store_reader_take(store);
    struct ld_db_query *query = ld_db_use(reader, SQL_NOTE_GET, err);
    enum ld_code code = query ? LD_OK : err->code;
    if (query) {
        ld_db_bind_text(query, 1, name);
        code = ld_db_step(query, &row, err);
        if (code == LD_OK && row && !(*text = column_text(query, 0, arena)))
            code = LD_FAIL(err, LD_E_NOMEM, "out of memory");
        ld_db_done(query);
    }
    ld_store_reader_give(store, reader);
    return code;
}
